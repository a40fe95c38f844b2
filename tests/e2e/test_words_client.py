# SPDX-License-Identifier: MIT
"""What ferry says of odd names, odd orders, and much of the same."""
import os
import re
import subprocess

import pexpect
import pytest

from ferry import BUILD, PATIENCE, Server

MIB = 1 << 20


@pytest.fixture
def running(tmp_path):
    with Server(tmp_path) as server:
        yield server


@pytest.fixture
def ada(running):
    return running.member()


def tree(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def terminal(client, *args, columns=100):
    """What a command writes to a terminal, and its exit status."""
    child = pexpect.spawn(
        str(BUILD / "ferry"), [str(a) for a in args], timeout=PATIENCE,
        env={**client.env, "TERM": "xterm"}, dimensions=(24, columns))
    child.expect(pexpect.EOF)
    child.close()
    return child.before.decode(errors="replace"), child.exitstatus


# ---- progress


def test_a_tree_that_is_fetched_shows_its_share(ada, tmp_path):
    t = tree(tmp_path / "t", [f"d{d}/f{f}" for d in range(3) for f in range(5)])
    with open(t / "d1/big", "wb") as big:
        big.write(os.urandom(96 * MIB))
    ada.run("put", "-r", t)
    said, status = terminal(ada, "get", "-r", "--exclude", "d2", ":/t",
                            tmp_path / "out")
    assert status == 0
    lines = re.findall(r"(\d+)% [^\r]*?(\d+)/(\d+) files", said)
    assert lines, said
    # Ten files and the large one; what is left out is not counted.
    assert {total for _, _, total in lines} == {"11"}
    assert "out" in os.listdir(tmp_path)
    assert not (tmp_path / "out/d2").exists()
    assert re.search(r"MB/s \d+:\d\d", said)


def test_what_was_asked_for_by_name_is_counted_too(ada, tmp_path):
    t = tree(tmp_path / "t", ["a", "b"])
    with open(tmp_path / "big", "wb") as big:
        big.write(os.urandom(64 * MIB))
    ada.run("put", "-r", t, tmp_path / "big")
    (tmp_path / "out").mkdir()
    said, status = terminal(ada, "get", "-r", ":/big", ":/t", tmp_path / "out")
    assert status == 0
    totals = {total for total in re.findall(r"% [^\r]*?\d+/(\d+) files", said)}
    assert totals == {"3"}, said


# ---- many failures


@pytest.mark.parametrize("way", ["put", "get"])
def test_a_terminal_shows_the_first_of_many_equal_failures(ada, tmp_path, way):
    t = tree(tmp_path / "t", [f"f{n:03}" for n in range(150)])
    ada.run("put", "-r", t)
    args = (["put", "-r", "--no-replace", t, ":/"] if way == "put" else
            ["get", "-r", "--no-replace", ":/t", tmp_path])
    for n in range(150):
        (t / f"f{n:03}").write_text(f"changed {n}")
    said, status = terminal(ada, *args)
    assert status in (1, 5)
    # Where nothing was done the last one is the command's own.
    assert said.count("exists already") in (20, 21), said
    more = re.search(r"ferry: \.\.\. and (\d+) more \(file\.exists\)", said)
    assert more and 129 <= int(more[1]) <= 130
    # Whoever reads it by a program gets all of them.
    told = ada.run(*args, status=None)
    assert told.err.count("exists already") == 150
    assert "... and" not in told.err


# ---- patterns


@pytest.mark.parametrize("options,left", [
    (["--exclude", "src/**/*.o"], ["a.c", "src/a.c", "src/x/y/b.c", "t.o"]),
    (["--exclude", "**/y"], ["a.c", "src/a.c", "src/a.o", "src/x/b.o", "t.o"]),
    (["--exclude", "src/x/**"], ["a.c", "src/a.c", "src/a.o", "t.o"]),
    (["--exclude", "/a.c"], ["src/a.c", "src/a.o", "src/x/b.o", "src/x/y/b.c",
                             "src/x/y/b.o", "t.o"]),
    (["--exclude", "src/*.o"], ["a.c", "src/a.c", "src/x/b.o", "src/x/y/b.c",
                                "src/x/y/b.o", "t.o"]),
    (["--include", "*/", "--include", "*.c", "--exclude", "*"],
     ["a.c", "src/a.c", "src/x/y/b.c"]),
    (["--exclude", "[!a].?"], ["a.c", "src/a.c", "src/a.o"]),
    (["--exclude", "x/"], ["a.c", "src/a.c", "src/a.o", "t.o"]),
    (["--exclude", "**/**/nothing"], ["a.c", "src/a.c", "src/a.o", "src/x/b.o",
                                      "src/x/y/b.c", "src/x/y/b.o", "t.o"]),
])
def test_patterns_mean_what_the_manual_says(ada, tmp_path, options, left):
    t = tree(tmp_path / "t", ["a.c", "t.o", "src/a.c", "src/a.o", "src/x/b.o",
                              "src/x/y/b.c", "src/x/y/b.o"])
    ada.run("put", "-r", *options, t)
    ada.run("get", "-r", ":/t", tmp_path / "back")
    there = sorted(str(p.relative_to(tmp_path / "back"))
                   for p in (tmp_path / "back").rglob("*") if p.is_file())
    assert there == left


# ---- words


def test_a_dry_run_would_make(ada, tmp_path):
    t = tree(tmp_path / "t", ["d/a"])
    said = ada.run("put", "-r", "--dry-run", t).out
    assert "2 directories would be made" in said and "s made" not in said
    ada.run("put", "-r", t)
    said = ada.run("get", "-r", "--dry-run", ":/t/d", tmp_path / "out").out
    assert "1 directory would be made" in said
    said = ada.run("get", "--dry-run", ":/t/d/a", tmp_path / "out").out
    assert said == f":/t/d/a -> {tmp_path}/out  3 bytes, would be fetched\n"


def test_paths_are_shown_with_single_slashes(running, tmp_path):
    ada = running.member("ada")
    running.admin("space", "add", "team", "--owner", "ada")
    t = tree(tmp_path / "t", ["d/a"])
    for args in ((f"{t}//d//", ":@team//ro//"), (f"{t}//", ":@team//")):
        said = ada.run("put", "-r", "-v", *args).out
        assert "//" not in said and ":@team/" in said
    said = ada.run("get", "-r", "-v", ":@team//t", f"{tmp_path}//out//").out
    assert "//" not in said and ":@team/t/d/a -> " in said
    said = ada.run("get", ":@team//t//d/a", f"{tmp_path}//out//").out
    assert said.startswith(f":@team/t/d/a -> {tmp_path}/out/a  ")


def test_a_local_name_with_a_colon_is_hinted_at(ada, tmp_path):
    (tmp_path / "we:ird").write_text("x")
    said = ada.run("put", "we:ird", cwd=tmp_path, status=2).err
    assert "the file here is './we:ird'" in said
    assert "needs a file" in ada.run("put", "no:thing", cwd=tmp_path,
                                     status=2).err
    ada.run("put", "./we:ird", cwd=tmp_path)
    assert ada.names() == ["we:ird"]


def test_a_device_that_is_not_there_is_not_this_one(ada):
    said = ada.run("devices", "remove", "99", status=1)
    assert "You have no device 99." in said.err
    assert "device.none" in said.err and "'ferry devices'" in said.err
    ada.run("whoami")


def test_a_profile_of_the_environment_is_named(ada):
    said = ada.run("ls", status=2, env={"FERRY_PROFILE": "nix"}).err
    assert "FERRY_PROFILE" in said and "'nix'" in said
    assert "'ferry profiles' lists yours" in said
    assert "there is no profile 'nix'" in ada.run("ls", "--as", "nix",
                                                  status=2).err


# ---- a quota of files that filled up meanwhile


def test_what_was_sent_goes_on_when_there_is_room_for_a_file(running, tmp_path):
    ada = running.member()
    running.admin("user", "quota", "ada", "--files", "2")
    for name in "abc":
        (tmp_path / name).write_bytes(os.urandom(3 * MIB))
    ada.run("put", tmp_path / "a")
    # Both are let in for the one place, and one is too many at its end.
    first = ada.run("put", "--json", tmp_path / "b", tmp_path / "c", status=None)
    refused = [o for o in first.objects() if "problem" in o]
    if not refused:  # one was published before the other began
        pytest.skip("they did not meet")
    assert refused[0]["problem"]["code"] == "quota.files"
    late = os.path.basename(refused[0]["local"])
    held = ada.run("whoami", "--json").objects()[0]
    assert held.get("reserved_bytes", 0) in (0, 3 * MIB)
    said = ada.run("put", tmp_path / late, status=1)
    assert "the same command again goes on" in said.err
    ada.run("rm", ":/a")
    again = ada.run("put", "--json", tmp_path / late).objects()[-1]
    assert again["sent"] == (0 if held.get("reserved_bytes") else 3 * MIB)
    assert ada.run("whoami", "--json").objects()[0].get("reserved_bytes", 0) == 0
    ada.run("get", f":/{late}", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / late).read_bytes()


def test_an_ended_session_has_its_exit_status(running, tmp_path):
    ada = running.member()
    with open(tmp_path / "big", "wb") as big:
        big.truncate(2 << 30)
    put = ada.start("put", "--retry", tmp_path / "big")
    while not any((running.data / "drafts").rglob("*.log")):
        assert put.poll() is None, put.communicate()
    sessions = [line.split()[0] for line in
                running.admin("sessions").splitlines()[1:] if "ada" in line]
    for one in sessions:
        subprocess.run([str(BUILD / "ferryd"), "sessions", "kick", one,
                        "--data", str(running.data)], check=False,
                       env=running.env, timeout=PATIENCE)
    _, err = put.communicate(timeout=PATIENCE)
    # It does not come back by itself: somebody wanted it out.
    assert put.returncode == 3, err
    assert b"session.kicked" in err or b"operator" in err


# ---- what is no file here


def test_a_device_or_pipe_is_not_replaced(ada, tmp_path):
    (tmp_path / "f").write_text("content")
    ada.run("put", tmp_path / "f")
    os.mkfifo(tmp_path / "pipe")
    # As /dev/stdout is one.
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    (tmp_path / "link").symlink_to("f")
    for name in ("pipe", "stdout"):
        said = ada.run("get", ":/f", tmp_path / name, status=1).err
        assert "is not a regular file" in said
    assert (tmp_path / "pipe").is_fifo()
    assert os.readlink(tmp_path / "stdout") == "/proc/self/fd/1"
    ada.run("get", ":/f", tmp_path / "link")  # a name like others
    assert not (tmp_path / "link").is_symlink()


def test_a_dash_is_no_stream(ada, tmp_path):
    (tmp_path / "-").write_text("x")
    said = ada.run("put", "-", cwd=tmp_path, status=2).err
    assert "not standard input" in said and "'./-'" in said
    ada.run("put", "./-", cwd=tmp_path)
    said = ada.run("get", ":/-", "-", cwd=tmp_path, status=2).err
    assert "not standard output" in said
    ada.run("get", ":/-", "./-", cwd=tmp_path)


def test_a_missing_goal_is_told_once(ada, tmp_path):
    tree(tmp_path, ["a", "b"])
    ada.run("put", tmp_path / "a", tmp_path / "b")
    said = ada.run("mv", ":/a", ":/b", ":/nodir", status=1).err
    assert said.count("There is no /nodir.") == 1
    assert sorted(ada.names()) == ["a", "b"]
    said = ada.run("mv", "we:ird", ":/a", status=2).err
    assert "with a colon is ':/a:b'" in said


def test_a_few_bytes_have_no_rate(ada, tmp_path):
    t = tree(tmp_path / "t", ["a", "b"])
    said = ada.run("put", "-r", t).out
    # Nor has what took its time on a busy machine, unless that is a second.
    assert re.match(r"2 files, 2 bytes in (0\.\d s, committed|[1-9])", said)


def test_quiet_does_not_keep_an_answer_back(ada, tmp_path):
    (tmp_path / "f").write_text("x")
    assert ada.run("put", "-q", tmp_path / "f").out == ""
    for command in (["ls", ":/"], ["hash", ":/f"], ["stat", ":/f"], ["whoami"],
                    ["spaces"], ["devices"], ["profiles"],
                    ["explain", "quota.files"]):
        assert ada.run("-q", *command).out == ada.run(*command).out != ""
