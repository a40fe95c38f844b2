# SPDX-License-Identifier: MIT
"""What is said when a word, an option, a setting or a variable is not right."""
import os
import re
import shutil
import subprocess

import pytest

from ferry import BUILD, PASSWORD, PATIENCE, Server, environment

ROOT = ["--allow-root"] if os.geteuid() == 0 else []


def ferryd(*args, status=0, env=None, stdin=None, **options):
    """(standard output, standard error)"""
    done = subprocess.run(
        [str(BUILD / "ferryd"), *map(str, args)], text=True,
        env=environment(**(env or {})), capture_output=True,
        input=stdin if stdin is not None else "", timeout=PATIENCE, **options)
    assert done.returncode == status, done
    return done.stdout, done.stderr


@pytest.fixture
def running(tmp_path):
    with Server(tmp_path) as server:
        yield server


@pytest.fixture
def stopped(tmp_path):
    """A directory that a ferryd has served once."""
    with Server(tmp_path) as server:
        pass
    return server


# ---- the environment


@pytest.mark.parametrize("command", [["ls"], ["whoami"]])
def test_a_poller_that_is_none_is_a_usage_error_of_ferry(running, command):
    said = running.member().run(*command, status=2,
                                env={"KEEL_POLLER": "kqueue"})
    assert "KEEL_POLLER is neither uring nor epoll" in said.err
    assert "internal" not in said.err


def test_a_poller_that_is_none_is_a_usage_error_of_ferryd(tmp_path):
    for args in (["--data", tmp_path / "d", *ROOT],
                 ["user", "list", "--data", tmp_path / "d"]):
        _, err = ferryd(*args, status=2, env={"KEEL_POLLER": "kqueue"})
        assert "KEEL_POLLER is neither uring nor epoll" in err
    assert not (tmp_path / "d").exists()


# ---- where to listen


@pytest.mark.parametrize("address,said", [
    ("256.1.1.1:0", "no IPv4 address"),
    ("tls://127.0.0.1:0", "a scheme other than ferry://"),
    ("127.0.0.1", "not HOST:PORT"),
    (":9001", "not HOST:PORT"),
    ("127.0.0.1:99999", "no port of 0 to 65535"),
    ("127.0.0.1:", "no port of 0 to 65535"),
    ("127.0.0.1:-1", "no port of 0 to 65535"),
    ("::1:9001", "without brackets"),
    ("[::1:9001", "a [ without its ]"),
    ("[::g]:9001", "no IPv6 address"),
    ("h" * 300 + ":1", "long"),
])
def test_an_address_that_is_none_is_refused_before_data_is_made(
        tmp_path, address, said):
    data = tmp_path / "data"
    _, err = ferryd("--data", data, "--listen", address, *ROOT, status=2)
    assert said in err and "--listen" in err
    conf = tmp_path / "conf"
    conf.write_text(f"[server]\nlisten = 127.0.0.1:0 {address}\n")
    _, err = ferryd("--data", data, "--config", conf, *ROOT, status=2)
    assert said in err and "line 2" in err
    assert not data.exists()


def test_an_address_that_cannot_be_had_is_said_with_its_reason(running,
                                                              tmp_path):
    _, err = ferryd("--data", tmp_path / "other", "--listen", running.address,
                    *ROOT, status=1)
    assert f"Cannot listen on {running.address}: Address already in use" in err
    _, err = ferryd("--data", tmp_path / "other", "--listen",
                    "no-such-host.invalid:0", *ROOT, status=1)
    assert "no-such-host.invalid:0: the host has no address" in err


# ---- settings


def test_a_mistyped_section_is_named_as_that(tmp_path):
    conf = tmp_path / "conf"
    for text, said in (("[sever]\nx = 1\n",
                        "line 2: there is no section [sever]; the nearest one "
                        "is [server]"),
                       ("[valt]\nbuffers = 4\n", "is [vault]"),
                       ("buffers = 4\n", "no section above it"),
                       ("[server]\nlistn = 1\n", "nearest one is 'server.listen'")):
        conf.write_text(text)
        _, err = ferryd("--data", tmp_path / "d", "--config", conf, *ROOT,
                        status=2)
        assert said in err
    assert not (tmp_path / "d").exists()


# ---- a damaged ledger


def test_a_damaged_ledger_is_said_in_plain_words(stopped):
    copy = stopped.tmp / "copy"
    shutil.copytree(stopped.data, copy)
    with open(copy / "ledger.db", "r+b") as f:
        f.seek(4096)
        f.write(b"x" * 4904)
    _, err = ferryd("--data", copy, "--listen", "127.0.0.1:0", *ROOT, status=1)
    words = [line for line in err.splitlines() if line.startswith("ferryd: ")]
    assert words[0] == ("ferryd: The ledger in ledger.db is damaged: parts of "
                        "the file are not what was written.")
    assert "Restore it from a backup" in words[1]
    # What SQLite found is in the log's line, in one piece.
    assert re.search(r"level=error .*sqlite='[^\n]*btree[^\n]*'$", err, re.M)


# ---- the order of words


def test_a_command_may_stand_behind_options_that_all_take(stopped):
    plain, _ = ferryd("user", "list", "--data", stopped.data)
    assert "nobody yet" in plain
    for args in (["--data", stopped.data, "user", "list"],
                 [f"--data={stopped.data}", "user", "list"],
                 ["--json", "--data", stopped.data, "space", "list"],
                 ["--data", stopped.data, "user", "--json", "list"]):
        out, _ = ferryd(*args)
        assert out in (plain, "")
    _, err = ferryd("--listen", "127.0.0.1:0", "user", "list", status=2)
    assert "a command comes first: 'ferryd user ... --data DIR'" in err
    _, err = ferryd("usr", "list", status=2)
    assert "did you mean 'user'?" in err and "'?." not in err
    _, err = ferryd("user", "list", status=2)
    assert "--data DIR is needed" in err


# ---- passwords


def test_a_password_file_may_be_a_pipe(running, tmp_path):
    def bash(line):
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, env={
                **environment(), "B": str(BUILD), "D": str(running.data),
                "FERRY_HOME": str(tmp_path / "h"), "A": running.address},
            start_new_session=True, timeout=PATIENCE)
        assert done.returncode == 0, done
        return done.stdout

    assert "bo: added" in bash('"$B/ferryd" user add bo --data "$D" '
                               f"--password-file <(echo '{PASSWORD}')")
    assert "Logged in" in bash('"$B/ferry" login "bo@$A" --accept-key '
                               f"--password-file <(echo '{PASSWORD}')")
    # Both lines of it, and standard input as "-".
    assert "is changed" in bash('"$B/ferry" passwd --password-file '
                                f"<(printf '%s\\nanother one, long\\n' "
                                f"'{PASSWORD}')")
    assert "Logged in" in bash('echo "another one, long" | "$B/ferry" login '
                               '"bo@$A" --password-file -')
