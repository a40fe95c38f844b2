# SPDX-License-Identifier: MIT
"""What people meet: words, terminals, signals, and what is left behind."""
import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from ferry import BUILD, PASSWORD, PATIENCE, ROOT, Server
from proxy import Proxy

MIB = 1 << 20


def space(server):
    """The directory of the one account's files on the server."""
    spaces = [d for d in (server.data / "spaces").iterdir() if d.is_dir()]
    assert len(spaces) == 1
    return spaces[0]


# ---- hash ---------------------------------------------------------------------


def test_hash_tells_the_size_of_what_it_hashed(server, tmp_path):
    """Two versions take turns under the name: no answer mixes them."""
    ada = server.member()
    ada.run("mkdir", ":/made")
    versions = {}
    for size in (100_000, 200_000):
        (tmp_path / f"v{size}").write_bytes(b"x" * size)
        told = ada.run("hash", "--json", tmp_path / f"v{size}").objects()[0]
        versions[told["root"]] = size
    place, stop = space(server), threading.Event()

    def turn():
        at = 0
        while not stop.is_set():
            at ^= 1
            (place / "next").write_bytes(b"x" * (100_000, 200_000)[at])
            os.rename(place / "next", place / "f")

    (place / "f").write_bytes(b"x" * 100_000)
    turner = threading.Thread(target=turn)
    turner.start()
    try:
        told = ada.run("hash", "--json", *[":/f"] * 200, status=None)
    finally:
        stop.set()
        turner.join()
    mixed = [o for o in told.objects() if "root" in o
             and versions[o["root"]] != o["size"]]
    assert not mixed
    assert any("root" in o for o in told.objects())


# ---- jobs ----------------------------------------------------------------------


class Shell:
    """A shell with job control, as a person has it."""

    def __init__(self, client, columns=100):
        import pexpect

        self.child = pexpect.spawn(
            "/bin/bash", ["--norc", "--noprofile", "-i"], timeout=PATIENCE,
            env={**client.env, "PS1": "sh> ", "TERM": "dumb"},
            encoding="utf-8", dimensions=(24, columns))
        self.child.expect("sh> ")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.child.close(force=True)

    def does(self, line):
        """One line, and what it prints."""
        self.child.sendline(line + "; echo do''ne")
        self.child.expect(r"done\r\n")
        said = self.child.before
        self.child.expect("sh> ")
        return said.split("\r\n", 1)[1]

    def sane(self):
        flags = self.does("stty -a").split()
        return "echo" in flags and "icanon" in flags and "isig" in flags

    def job(self):
        return int(self.does("jobs -p").split()[-1])


@pytest.fixture
def ada(server):
    return server.member()


def asks(shell, server):
    shell.child.sendline(f"{BUILD}/ferry login ada@{server.address}")
    shell.child.expect("Password of ada: ")


def pid_of(shell):
    return int(subprocess.run(
        ["pgrep", "-s", str(shell.child.pid), "-f", "^[^ ]*/ferry "],
        text=True, capture_output=True, check=True).stdout.split()[0])


def stop(shell, how):
    if how == "key":
        shell.child.send("half\x1a")
    else:
        os.kill(pid_of(shell), signal.SIGTSTP)
    shell.child.expect("Stopped")
    shell.child.expect("sh> ")
    assert shell.sane()


@pytest.mark.parametrize("how", ["key", "signal"])
def test_a_stopped_question_is_asked_again(server, ada, how):
    with Shell(ada) as shell:
        asks(shell, server)
        stop(shell, how)
        shell.child.sendline("fg")
        shell.child.expect("Password of ada: ")
        shell.child.sendline(PASSWORD)
        shell.child.expect("Logged in as ada")
        assert PASSWORD not in shell.child.before
        shell.child.expect("sh> ")
        assert shell.sane()


def test_a_question_in_the_background_waits_for_the_terminal(server, ada):
    """Nothing typed is shown, neither before nor after."""
    with Shell(ada) as shell:
        asks(shell, server)
        stop(shell, "key")
        shell.child.sendline("bg")
        shell.child.expect("ferry login")
        while "Stopped" not in shell.does("sleep 0.1; jobs"):
            pass
        assert shell.sane()
        shell.child.sendline("fg")
        shell.child.expect("Password of ada: ")
        shell.child.sendline(PASSWORD)
        shell.child.expect("Logged in as ada")
        assert PASSWORD not in shell.child.before
        shell.child.expect("sh> ")


def test_a_stopped_question_dies_when_it_is_killed(server, ada):
    with Shell(ada) as shell:
        asks(shell, server)
        stop(shell, "key")
        shell.does("kill %1; wait")
        assert "ferry" not in shell.does("jobs -r; jobs -s")
        assert shell.sane()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM,
                                    signal.SIGHUP, signal.SIGQUIT])
def test_a_question_that_is_killed_gives_the_terminal_back(server, ada, number):
    with Shell(ada) as shell:
        asks(shell, server)
        os.kill(pid_of(shell), number)
        shell.child.expect("sh> ")
        assert shell.sane()


def test_a_key_that_interrupts_the_question_gives_the_terminal_back(server, ada):
    with Shell(ada) as shell:
        asks(shell, server)
        shell.child.send("half\x03")
        shell.child.expect("cancelled")
        shell.child.expect("sh> ")
        assert shell.sane()


@pytest.mark.parametrize("how", ["key", "signal"])
def test_progress_stops_and_goes_on(server, tmp_path, how):
    with Proxy(server.address) as line:
        ada = server.member(invite=server.invite().replace(server.address,
                                                           line.address))
        (tmp_path / "big").write_bytes(os.urandom(24 * MIB))
        with Shell(ada) as shell:
            line.hold(up=8 * MIB)
            shell.child.sendline(f"{BUILD}/ferry put {tmp_path}/big")
            assert line.held.wait(PATIENCE)
            shell.child.expect("MB/s")
            stop(shell, how)
            # In the background it is silent: the screen is the shell's.
            shell.child.sendline("bg")
            shell.child.expect("sh> ")
            assert shell.does("sleep 0.5").strip("\r\x1b[K\n") == ""
            shell.child.sendline("fg")
            shell.child.expect("MB/s")
            line.mend()
            shell.child.expect("24 MiB in .*, committed")
            shell.child.expect("sh> ")
            assert shell.sane()


# ---- sums ----------------------------------------------------------------------


@pytest.fixture
def far(server):
    """A line that can be cut, and somebody behind it."""
    with Proxy(server.address) as line:
        line.who = server.member(invite=server.invite().replace(
            server.address, line.address))
        yield line


def retried(line, way, after, *args):
    """Runs a command whose line breaks once, and comes back."""
    line.cut(**{way: after})
    process = line.who.start(*args, "--retry")
    text = b""
    while b"Trying again" not in text:
        data = os.read(process.stderr.fileno(), 4096)
        assert data, text
        text += data
    line.mend()
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    return out.decode()


def megabytes(text):
    """(size, seconds, MB a second) of a summary."""
    found = re.search(r"([\d.]+) MiB in ([\d.]+) s, ([\d.]+) MB/s", text)
    assert found, text
    return tuple(float(n) for n in found.groups())


@pytest.mark.parametrize("tree", [False, True])
def test_the_sum_after_a_retry_is_that_of_the_whole(far, tmp_path, tree):
    source, back = tmp_path / "t" / "big", tmp_path / "back"
    source.parent.mkdir()
    source.write_bytes(os.urandom(48 * MIB))
    option = ["-r"] if tree else []
    what = source.parent if tree else source
    began = time.monotonic()
    said = retried(far, "up", 24 * MIB, "put", *option, what, ":/")
    size, seconds, rate = megabytes(said)
    assert size == 48 and 0.45 <= seconds <= time.monotonic() - began + 0.1
    assert rate == pytest.approx(48 * 1.048576 / seconds, rel=0.15)
    assert "already" not in said
    began = time.monotonic()
    said = retried(far, "down", 24 * MIB, "get", *option,
                   ":/t" if tree else ":/big", back)
    size, seconds, rate = megabytes(said)
    assert size == 48 and 0.45 <= seconds <= time.monotonic() - began + 0.1
    assert "already" not in said


def test_the_sum_of_a_file_that_was_cut_before_tells_the_files_size(
        far, tmp_path):
    (tmp_path / "big").write_bytes(os.urandom(48 * MIB))
    far.cut(up=30 * MIB)
    far.who.run("put", tmp_path / "big", status=3)
    far.mend()
    said = far.who.run("put", tmp_path / "big").out
    assert re.search(r"  48 MiB in [\d.]+ s, \d+ MB/s; [\d.]+ MiB were there "
                     r"already, committed", said), said
    far.cut(down=30 * MIB)
    far.who.run("get", ":/big", tmp_path / "back", status=3)
    far.mend()
    said = far.who.run("get", ":/big", tmp_path / "back").out
    assert re.search(r"  48 MiB in [\d.]+ s, \d+ MB/s; [\d.]+ MiB were there "
                     r"already, verified", said), said


# ---- an operator ends it ---------------------------------------------------------


def operator(server, *args):
    subprocess.run([str(server.program), *args, "--data", str(server.data)],
                   env=server.env, check=True, stdout=subprocess.DEVNULL,
                   timeout=PATIENCE)


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("how", ["disable", "kick"])
def test_who_ended_a_transfer_is_told_and_what_was_done(
        server, far, tmp_path, way, how):
    tree = tmp_path / "t"
    tree.mkdir()
    for i in range(50):
        (tree / f"f{i}").write_bytes(b"x" * 1000)
    (tree / "zzz").write_bytes(os.urandom(32 * MIB))
    if way == "down":
        far.who.run("put", "-r", tree, ":/")
    far.hold(**{way: 8 * MIB})
    process = far.who.start(*(["put", "-r", tree, ":/"] if way == "up" else
                              ["get", "-r", ":/t", tmp_path / "back"]))
    assert far.held.wait(PATIENCE)
    if how == "disable":
        operator(server, "user", "disable", "ada")
    else:
        rows = subprocess.run(
            [str(server.program), "sessions", "--json", "--data",
             str(server.data)], env=server.env, capture_output=True, text=True,
            check=True).stdout.splitlines()
        for row in rows:
            operator(server, "sessions", "kick", json.loads(row)["id"])
    far.mend()
    out, err = (text.decode() for text in process.communicate(timeout=PATIENCE))
    done = int(re.match(r"(\d+) files?, .*; the rest was not done\n", out)[1])
    assert 1 <= done <= 50, out
    if how == "disable":
        assert process.returncode == 1, err
        assert "The account ada is disabled." in err
        assert "Ask the operator." in err
        operator(server, "user", "enable", "ada")
    else:
        assert process.returncode == 3, err
        assert "The operator of the server has ended this connection" in err
    assert "continue where they stopped" in err
    # What was told is not done again; one may have been done and not told.
    again = int(far.who.run(*process.args[1:]).out.split()[0])
    assert 1 <= again <= 51 - done


# ---- the same command again -------------------------------------------------------


def test_a_tree_under_a_new_name_goes_on_under_it(far, tmp_path):
    """As cp it would go inside of what the first run has made."""
    tree, back = tmp_path / "t", tmp_path / "back"
    tree.mkdir()
    for i in range(50):
        (tree / f"f{i}").write_bytes(b"x" * 1000)
    (tree / "zzz").write_bytes(os.urandom(16 * MIB))
    for way, args in (("up", ["put", "-r", tree, ":/new"]),
                      ("down", ["get", "-r", ":/new", back])):
        far.cut(**{way: 8 * MIB})
        far.who.run(*args, status=3)
        far.mend()
        # What only looks does not change what that means.
        far.who.run(*args, "--dry-run")
        far.who.run(*args)
    assert len(far.who.names(":/new")) == 51
    assert sorted(p.name for p in back.iterdir()) == \
        sorted(p.name for p in tree.iterdir())
    assert not list((far.who.home / "journals").iterdir())
    # It is done: once more is as cp does.
    far.who.run("put", "-r", tree, ":/new")
    assert "t" in far.who.names(":/new")
    far.who.run("get", "-r", ":/new", back)
    assert (back / "new" / "t" / "zzz").exists()


# ---- words -------------------------------------------------------------------------


def keys_of(o):
    found = set()
    for key, value in o.items():
        found.add(key)
        if isinstance(value, dict):
            found |= keys_of(value)
    return found


def test_the_manual_knows_each_field_of_json(server, ada, tmp_path):
    page = (ROOT / "docs/man/ferry.1").read_text()
    page = page[page.index(".SH JSON"):page.index(".SH ENVIRONMENT")]
    told = set(re.findall(r'"([a-z_0-9]+)"', page))
    tree = tmp_path / "t"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "f").write_bytes(b"f")
    (tree / "l").symlink_to("d")
    for command in (
            "whoami", "spaces", "devices", "profiles", "help", "help put",
            "explain", "--version", "--help", "put --help", "frob", "ls --frob",
            "put -r --dry-run t", "put -r t", "put -r t", "put t/d/f :/one",
            "put t/d/f none", "put none", "ls -r", "stat :/t :/t/l :/t/d/f",
            "hash :/one t/d/f", "get -r --dry-run :/t back", "get -r :/t back",
            "get -r :/t back", "get :/one", "get :/one --dry-run",
            "get :/one :/none .", "mkdir :/m", "mv :/m :/n", "rm -r --dry-run :/t",
            "rm -r :/t", "rm :/n :/none", f"login ada@{server.address}",
            "profiles default ada", "devices remove 99", "logout", "ls"):
        done = ada.run(*command.split(), "--json", status=None, cwd=tmp_path,
                       password=PASSWORD)
        assert done.err == "", done
        assert done.out, command
        for o in done.objects():
            assert keys_of(o) <= told, (command, o)


@pytest.mark.parametrize("args, status, words", [
    (["put", "f"], 1, ["Not logged in", "ferry login USER@HOST"]),
    (["helpp"], 2, ["did you mean 'help'?"]),
    (["help", "putt"], 2, ["did you mean 'put'?"]),
    (["put", "--recursve", "f"], 2, ["did you mean --recursive?", "usage: "]),
    (["explain", "quota.byts"], 2, ["did you mean 'quota.bytes'?"]),
    (["explain", "nonsense"], 2, ["'ferry explain' lists them"]),
    (["put", "f", "host:path"], 2, ["no profile 'host'", "ferry://USER@HOST"]),
    (["put", "f", "d"], 2, ["'d' is a directory here", "':/name'"]),
    (["put", "--if-match", "x", "f"], 2, ["a hash as 'ferry hash' prints it"]),
])
def test_a_stranger_is_told_what_to_do(server, tmp_path, args, status, words):
    (tmp_path / "f").write_bytes(b"f")
    (tmp_path / "d").mkdir()
    said = server.stranger().run(*args, status=status, cwd=tmp_path)
    assert said.out == ""
    assert all(w in said.err for w in words), said


@pytest.mark.parametrize("args, words", [
    (["put", "d"], ["d is a directory.", "-r"]),
    (["put", "f", ":/no/where/f"], ["There is no /no/where", "mkdir -p"]),
    (["put", "/proc/cpuinfo"], ["/proc/cpuinfo is not a regular file"]),
    (["put", "none"], ["none: No such file or directory."]),
    (["get", ":/f", "no/where/f"], ["no/where: No such file or directory"]),
    (["get", ":/d"], [":/d is a directory.", "-r"]),
    (["get", ":/f", "d/."], ["d/./f: Permission denied"]),
])
def test_a_member_is_told_what_to_do(server, ada, tmp_path, args, words):
    (tmp_path / "f").write_bytes(b"f")
    (tmp_path / "d").mkdir()
    ada.run("put", "f", cwd=tmp_path)
    ada.run("mkdir", ":/d")
    if "d/." in args and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    os.chmod(tmp_path / "d", 0o500)
    said = ada.run(*args, status=1, cwd=tmp_path)
    assert all(w in said.err for w in words), said


def test_a_match_of_another_kind_of_hash_is_compared(server, ada, tmp_path):
    (tmp_path / "f").write_bytes(b"f")
    ada.run("put", tmp_path / "f", ":/f")
    root = ada.run("hash", "--hash", "xxh128", "--json",
                   ":/f").objects()[0]["root"]
    (tmp_path / "f").write_bytes(b"g")
    ada.run("put", "--if-match", root, tmp_path / "f", ":/f")
    said = ada.run("put", "--if-match", root, tmp_path / "f", ":/f", status=1)
    assert "file.match" in said.err


def test_a_reader_that_leaves_ends_it_quietly(server, ada, tmp_path):
    """ferry ls | head -1"""
    for d in range(3):
        (tmp_path / "t" / f"{d}").mkdir(parents=True)
        for i in range(2000):
            (tmp_path / "t" / f"{d}" / f"{'x' * 100}{i}").write_bytes(b"")
    ada.run("put", "-r", tmp_path / "t", ":/")
    process = ada.start("ls", "-r", ":/t")
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(PATIENCE) == -signal.SIGPIPE


def test_color_is_for_terminals_that_want_it(server, ada):
    with Shell(ada) as shell:
        assert "\x1b[31m" in shell.does(f"{BUILD}/ferry get :/none")
        assert "\x1b" not in shell.does(f"NO_COLOR=1 {BUILD}/ferry get :/none")
    assert "\x1b" not in ada.run("get", ":/none", status=1).err


def test_an_interrupt_in_the_middle_goes_on_when_repeated(far, tmp_path):
    (tmp_path / "big").write_bytes(os.urandom(32 * MIB))
    far.hold(up=20 * MIB)
    with Shell(far.who) as shell:
        shell.child.sendline(f"{BUILD}/ferry put {tmp_path}/big")
        assert far.held.wait(PATIENCE)
        shell.child.expect("MB/s")
        shell.child.send("\x03")
        shell.child.expect("Interrupted. Repeat the command to continue.")
        shell.child.expect(r"kept by the server.*\.ferry-HEX\.part")
        shell.child.expect("sh> ")
        assert shell.sane()
        far.mend()
        again = shell.does(f"{BUILD}/ferry put {tmp_path}/big")
        assert "were there already, committed" in again


@pytest.mark.parametrize("how", ["key", "signal"])
def test_the_prompt_stops_and_comes_back(server, ada, how):
    with Shell(ada) as shell:
        shell.child.sendline(f"{BUILD}/ferry shell")
        shell.child.expect(r"ferry :/> ")
        if how == "key":
            shell.child.send("\x1a")
        else:
            os.kill(pid_of(shell), signal.SIGTSTP)
        shell.child.expect("Stopped")
        shell.child.expect("sh> ")
        assert shell.sane()
        # It cannot have the terminal in the background.
        shell.child.sendline("bg")
        shell.child.expect("sh> ")
        while "Stopped" not in shell.does("sleep 0.1; jobs"):
            pass
        assert shell.sane()
        shell.child.sendline("fg")
        shell.child.expect(r"ferry :/> ")
        shell.child.sendline("mkdir made")
        shell.child.expect(r"ferry :/> ")
        os.kill(pid_of(shell), signal.SIGTERM)
        shell.child.expect("sh> ")
        assert shell.sane()
    assert ada.names() == ["made"]


# ---- a person is slow, and errs -----------------------------------------------------


@pytest.fixture
def hasty(tmp_path):
    """A server that waits a few seconds for people."""
    (tmp_path / "conf").write_text(
        "[server]\nhandshake_timeout = 2s\nlogin_timeout = 4s\n")
    with Server(tmp_path, "--config", tmp_path / "conf") as server:
        server.member("ada")
        yield server


def test_who_looks_up_key_and_password_may_take_their_time(hasty):
    stranger = hasty.stranger()
    with Shell(stranger) as shell:
        shell.child.sendline(f"{BUILD}/ferry login ada@{hasty.address}")
        shell.child.expect(r"\[y/N\] ")
        time.sleep(2.2)  # longer than that server waits
        shell.child.sendline("y")
        shell.child.expect("Password of ada: ")
        time.sleep(4.2)
        shell.child.sendline(PASSWORD)
        shell.child.expect("Logged in as ada")
        shell.child.expect("sh> ")


def test_a_wrong_password_is_asked_for_again(server, ada):
    with Shell(ada) as shell:
        asks(shell, server)
        for _ in range(2):
            shell.child.sendline("not that one")
            shell.child.expect("wrong; once more")
            shell.child.expect("Password of ada: ")
        shell.child.sendline(PASSWORD)
        shell.child.expect("Logged in as ada")
        shell.child.expect("sh> ")
        # Three times, and no more.
        shell.child.sendline(f"{BUILD}/ferry login ada@{server.address}")
        for _ in range(3):
            shell.child.expect("Password of ada: ")
            shell.child.sendline("not that one")
        shell.child.expect("The name or the password is wrong.")
        shell.child.expect("login.refused")
        shell.child.expect("sh> ")
        assert "1" == shell.does("echo $?").strip()
