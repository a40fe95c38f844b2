# SPDX-License-Identifier: MIT
"""A problem is found in the server's log by the name that the client shows."""
import re


def test_verbose_says_where_the_log_has_a_refusal(server):
    ada = server.member()
    err = ada.run("get", "-v", ":/none", status=1).err
    trace = re.search(r"log has it as trace=([0-9a-z]+-\d+)\n", err).group(1)
    line = [x for x in server.log().splitlines() if f"trace={trace} " in x]
    assert len(line) == 1 and "file.missing" in line[0], (trace, server.log())
    connection = re.search(r"log has this connection as ([0-9a-z]+)\n", err)
    assert trace.startswith(connection.group(1) + "-")
    assert "trace" not in ada.run("get", ":/none", status=1).err


def test_json_always_carries_the_trace(server, tmp_path):
    ada = server.member()
    one = ada.run("get", "--json", ":/none", status=1).objects()[-1]
    assert f"trace={one['problem']['trace']} " in server.log()
    # What the client found out by itself has none.
    own = ada.run("put", "--json", tmp_path / "none", ":/", status=1)
    assert "trace" not in own.objects()[-1]["problem"]


def test_each_failure_in_a_tree_has_its_own(server, tmp_path):
    ada = server.member()
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "c").write_bytes(b"x")
    for name in ("a", "b"):
        (tmp_path / "t" / name).write_bytes(b"x")
        (tmp_path / name).mkdir()
        ada.run("mkdir", "-p", f":/t/{name}/below")
    put = ada.run("put", "-r", "--json", tmp_path / "t", ":/", status=5)
    traces = {o["problem"]["trace"] for o in put.objects() if "problem" in o}
    assert len(traces) == 2
    for trace in traces:
        assert f"trace={trace} " in server.log()
