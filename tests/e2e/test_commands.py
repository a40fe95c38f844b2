# SPDX-License-Identifier: MIT
"""The commands that look at names on the server and change them, the people's
ones, and what is said about the command line."""
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from ferry import BUILD, PASSWORD, PATIENCE, ROOT, SANITIZED, Server
from wire import Impostor


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path) as s:
        yield s


@pytest.fixture
def ada(server, tmp_path):
    client = server.member("ada")
    for name, size in (("b.txt", 3000), ("a.txt", 5), ("c.txt", 100)):
        (tmp_path / name).write_bytes(b"x" * size)
        client.run("put", tmp_path / name)
        os.utime(tmp_path / name, (1_600_000_000, 1_600_000_000))
    return client


def terminal(client, *args, columns=80, env=None, **options):
    import pexpect

    # ferry and its prompt, at a real terminal
    return pexpect.spawn(str(BUILD / "ferry"), [os.fspath(a) for a in args],
                         env={**client.env, "TERM": "xterm", **(env or {})},
                         timeout=PATIENCE, encoding="utf-8",
                         dimensions=(24, columns), **options)


def whole(child):
    """All it still says, and its exit status."""
    import pexpect

    child.expect(pexpect.EOF)
    said = child.before.replace("\r\n", "\n")
    child.close()
    return child.exitstatus, said


# ---- ls

def test_names_are_listed_in_order_one_a_line(ada):
    assert ada.run("ls").out == "a.txt\nb.txt\nc.txt\n"
    ada.run("mkdir", ":/b")
    assert ada.run("ls").out == "a.txt\nb/\nb.txt\nc.txt\n"


@pytest.mark.parametrize("options, order", [
    (["--sort", "size"], "bca"), (["--sort", "size", "--reverse"], "acb"),
    (["--reverse"], "cba"), (["--sort=name"], "abc"),
    (["--sort", "time"], "cab"), (["--sort", "time", "--reverse"], "bac")])
def test_a_listing_is_sorted(server, ada, options, order):
    out = ada.run("ls", *options).out.split()
    assert "".join(name[0] for name in out) == order


def test_a_long_listing_has_mode_size_and_date(ada):
    lines = ada.run("ls", "-l", "--sort", "size").out.splitlines()
    assert re.fullmatch(r"-rw-[-r]--[-r]--    2\.9 KiB  "
                        r"\d{4}-\d\d-\d\d \d\d:\d\d  b\.txt", lines[0]), lines
    assert "5 bytes" in lines[2]


def test_a_tree_is_listed_by_paths(ada, tmp_path):
    ada.run("mkdir", "-p", ":/d/e")
    ada.run("put", tmp_path / "a.txt", ":/d/e/x")
    ada.run("put", tmp_path / "a.txt", ":/d/z")
    assert ada.run("ls", "-r", ":/d").out == "e/\ne/x\nz\n"
    paths = [o["path"] for o in ada.run("ls", "-r", "--json").objects()]
    assert paths == ["/a.txt", "/b.txt", "/c.txt", "/d", "/d/e", "/d/e/x",
                     "/d/z"]
    down = ada.run("ls", "-r", "--reverse").out.split()
    assert down == ["d/", "d/z", "d/e/", "d/e/x", "c.txt", "b.txt", "a.txt"]


def test_a_file_is_a_list_of_itself_and_several_have_headings(ada):
    assert ada.run("ls", ":/a.txt").out == "a.txt\n"
    ada.run("mkdir", ":/d")
    assert ada.run("ls", ":/d", ":/a.txt").out == ":/a.txt\n\n:/d:\n"
    missing = ada.run("ls", ":/nix", status=1)
    assert "There is no /nix" in missing.err


def test_a_terminal_has_columns_as_wide_as_it_is(ada):
    status, said = whole(terminal(ada, "ls", columns=80))
    assert (status, said) == (0, "a.txt  b.txt  c.txt\n")
    status, said = whole(terminal(ada, "ls", columns=15))
    assert (status, said) == (0, "a.txt  c.txt\nb.txt\n")
    status, said = whole(terminal(ada, "ls", columns=5))
    assert (status, said) == (0, "a.txt\nb.txt\nc.txt\n")


def test_wide_characters_take_two_columns(server, tmp_path):
    ada = server.member("ada")
    for name in ("字字", "aaaa", "bb", "é"):
        (tmp_path / name).write_bytes(b"")
        ada.run("put", tmp_path / name)
    status, said = whole(terminal(ada, "ls", columns=12))
    # four columns each, "é" one
    assert (status, said) == (0, "aaaa  é\nbb    字字\n")


def test_escapes_in_names_never_reach_the_terminal(server, tmp_path):
    ada = server.member("ada")
    evil = tmp_path / "a\x1b]0;x\x07\nb"
    evil.write_bytes(b"")
    ada.run("put", evil)
    for args in (["ls"], ["ls", "-l"], ["ls", "-r"],
                 ["stat", ":/" + evil.name], ["rm", "--dry-run",
                                              ":/" + evil.name]):
        status, said = whole(terminal(ada, *args))
        assert status == 0 and "\x1b]" not in said and "\x07" not in said
        assert r"a\x1b]0;x\x07\x0ab" in said


def pages(count, make):
    """A list of `count` names in pages, made as they are asked for."""
    def answer(c, q):
        first = int(q["after"][1:8]) + 1 if q.get("after") else 0
        last = min(first + q.get("max", 1000), count)
        return {"entries": [make(i) for i in range(first, last)],
                "more": last < count}
    return answer


def small(i):
    return {"name": f"n{i:07}", "type": "f", "size": i, "mtime_ns": 0,
            "mode": 0o600}


def test_the_first_line_comes_before_the_last_page_is_asked(tmp_path):
    asked, seen = [], threading.Event()

    def answer(c, q):
        asked.append(q)
        # Nobody answers again until the first page has been seen.
        if len(asked) == 2:
            assert seen.wait(PATIENCE)
        return pages(5000, small)(c, q)

    with Impostor(tmp_path / "bad", {"list": answer}) as bad:
        ada = bad.client(tmp_path / "home")
        process = ada.start("ls")
        assert process.stdout.readline() == b"n0000000\n"
        seen.set()
        assert sum(1 for _ in process.stdout) == 4999
        assert process.wait(PATIENCE) == 0


@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what was freed")
def test_a_large_directory_takes_no_memory(tmp_path):
    def most(count):
        with Impostor(tmp_path / f"bad{count}",
                      {"list": pages(count, small)}) as bad:
            ada = bad.client(tmp_path / f"home{count}")
            process = ada.start("ls")
            lines = sum(1 for _ in process.stdout)
            # its own figure; a child's is with the one who waits for it
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = 0
            assert status == 0 and lines == count
            return usage.ru_maxrss
    assert most(60_000) < most(2_000) + 4096


def test_what_is_too_long_to_sort_is_said(tmp_path):
    def fat(i):
        return {**small(i), "type": "l", "target": "t" * 4000}

    def answer(c, q):
        return pages(40_000, fat)(c, {**q, "max": 200})

    with Impostor(tmp_path / "bad", {"list": answer}) as bad:
        ada = bad.client(tmp_path / "home")
        refused = ada.run("ls", "--sort", "size", status=1)
        assert "list.too_long" in refused.err and "64 MiB" in refused.err
        assert refused.out == ""


# ---- stat, mkdir, mv, rm

def test_stat_says_all_that_is_known(ada):
    said = ada.run("stat", ":/a.txt", ":/").out
    assert "size      5 (5 bytes)" in said and "type      directory" in said
    o = ada.run("stat", "--json", ":/a.txt").objects()[0]
    assert o["name"] == "a.txt" and o["path"] == "/a.txt" and o["size"] == 5
    some = ada.run("stat", ":/nix", ":/a.txt", status=5)
    assert "file.missing" in some.err and "size      5" in some.out


def test_directories_are_made(ada):
    ada.run("mkdir", ":/d")
    assert "file.exists" in ada.run("mkdir", ":/d", status=1).err
    assert "file.missing" in ada.run("mkdir", ":/x/y", status=1).err
    ada.run("mkdir", "-p", ":/x/y", ":/d")
    assert ada.names(":/x") == ["y"]


def test_names_are_moved(ada):
    ada.run("mkdir", ":/d")
    ada.run("mv", ":/a.txt", ":/A")
    ada.run("mv", ":/A", ":/b.txt", ":/d")
    assert ada.names() == ["c.txt", "d"]
    assert ada.names(":/d") == ["A", "b.txt"]
    ada.run("mv", ":/c.txt", ":/d/A")  # replaces
    assert "file.exists" in ada.run("mv", "--no-replace", ":/d/A",
                                    ":/d/b.txt", status=1).err
    assert "file.not_directory" in ada.run("mv", ":/d/A", ":/d/b.txt",
                                           ":/d/A", status=1).err
    assert "file.missing" in ada.run("mv", ":/d/A", ":/nix/", status=1).err
    assert "space.unknown" in ada.run("mv", ":/d/A", ":@team/x",
                                      status=1).err


def test_files_and_trees_are_removed(ada, tmp_path):
    ada.run("mkdir", "-p", ":/d/e")
    ada.run("put", tmp_path / "a.txt", ":/d/e/x")
    ada.run("rm", ":/a.txt")
    assert "file.not_empty" in ada.run("rm", ":/d", status=1).err
    would = ada.run("rm", "-r", "--dry-run", ":/d").out
    assert would == ("would remove :/d/e/\nwould remove :/d/e/x\n"
                     "would remove :/d/\n")
    removed = ada.run("rm", "-r", ":/d").out
    assert removed == "Removed :/d: 1 file, 2 directories\n"
    assert ada.names() == ["b.txt", "c.txt"]
    assert "file.missing" in ada.run("rm", ":/nix", status=1).err
    ada.run("rm", "-f", ":/nix")
    ada.run("rm", ":/", status=2)


def test_a_tree_is_removed_after_a_question_at_a_terminal(ada):
    ada.run("mkdir", "-p", ":/d/e")
    child = terminal(ada, "rm", "-r", ":/d")
    child.expect(r"Remove :/d and all that is in it\? \[y/N\] ")
    child.sendline("n")
    status, said = whole(child)
    assert status == 1 and "Nothing was removed: :/d stays." in said
    assert ada.names(":/d") == ["e"]
    child = terminal(ada, "rm", "-r", ":/d")
    child.expect(r"\[y/N\] ")
    child.sendline("y")
    assert whole(child)[0] == 0
    ada.run("mkdir", ":/d")
    status, said = whole(terminal(ada, "rm", "-rf", ":/d"))
    assert status == 0 and "[y/N]" not in said


# ---- people

def test_the_password_is_changed_at_the_terminal(server, ada):
    child = terminal(ada, "passwd")
    child.expect("Password of ada now: ")
    child.sendline(PASSWORD)
    child.expect("New password: ")
    child.sendline("a new password")
    child.expect("Again: ")
    child.sendline("another password")
    child.expect("not the same")
    child.expect("New password: ")
    child.sendline("a new password")
    child.expect("Again: ")
    child.sendline("a new password")
    status, said = whole(child)
    assert status == 0 and "changed" in said
    login = ["login", f"ada@{server.address}", "--accept-key"]
    server.stranger().run(*login, password="a new password")
    server.stranger().run(*login, password=PASSWORD, status=1)
    ada.run("whoami")  # the device is still good


def test_the_password_is_changed_by_a_file(server, ada, tmp_path):
    lines = tmp_path / "passwords"
    lines.write_text(PASSWORD + "\n")
    short = ada.run("passwd", "--password-file", lines, status=2)
    assert "second" in short.err
    lines.write_text(PASSWORD + "\nfor everybody to see\n")
    ada.run("passwd", "--password-file", lines)
    ada.run("passwd", password="for everybody to see",
            env={"FERRY_NEW_PASSWORD": "short"}, status=1)
    server.stranger().run("login", f"ada@{server.address}", "--accept-key",
                          password="for everybody to see")


def test_devices_are_listed_and_removed(server, ada):
    laptop = server.stranger()
    laptop.run("login", f"ada@{server.address}", "--accept-key",
               password=PASSWORD)
    first, second = ada.run("devices", "--json").objects()
    assert first["current"] and not second["current"]
    assert "(this one)" in ada.run("devices").out
    ada.run("devices", "remove", str(second["device"]))
    assert "device.unknown" in laptop.run("ls", status=1).err
    ada.run("devices", "remove", "two", status=2)
    ada.run("devices", "forget", status=2)


def test_profiles_are_listed_chosen_and_forgotten(server, ada):
    ada.run("login", f"ada@{server.address}", "--as", "work",
            password=PASSWORD)
    assert [line.split()[:2] for line in ada.run("profiles").out.splitlines()
            ] == [["ada", f"ada@{server.address}"], ["*", "work"]]
    ada.run("profiles", "default", "ada")
    chosen = {o["profile"]: o["default"]
              for o in ada.run("profiles", "--json").objects()}
    assert chosen == {"ada": True, "work": False}
    ada.run("profiles", "remove", "work")
    ada.run("ls", "--as", "work", status=2)
    ada.run("profiles", "remove", "work", status=2)


def test_spaces_begin_with_the_home(ada):
    home = ada.run("spaces", "--json").objects()[0]
    assert home["name"] == "" and home["owner"] and home["used_files"] == 3
    assert ada.run("spaces").out.startswith(":/ ")


# ---- hash

def test_hash_says_root_and_size_of_one_look(ada, tmp_path):
    there, here = ada.run("hash", "--json", ":/b.txt",
                          tmp_path / "b.txt").objects()
    assert there["root"] == here["root"]
    assert there["size"] == here["size"] == 3000


# ---- the command line

@pytest.mark.parametrize("args, words", [
    (["lss"], "'lss' is not a command; did you mean 'ls'?"),
    (["ls", "--lng"], "there is no option --lng; did you mean --long?"),
    (["put", "-l", "x"], "'put' takes no option -l, --long."),
    (["ls", "--sort"], "--sort needs a value: KEY."),
    (["mv", ":/a"], "mv: an argument is missing."),
    (["whoami", "x"], "whoami: 'x' is one argument too many."),
    (["explain", "quota.byts"], "there is no code 'quota.byts'; did you mean "
                                "'quota.bytes'?")])
def test_what_is_wrong_is_said_once(server, args, words):
    refused = server.stranger().run(*args, status=2)
    assert refused.err.startswith(f"ferry: {words}\n")
    assert refused.err.count(words) == 1 and "?." not in refused.err
    asked = server.stranger().run("--json", *args, status=2).objects()
    assert [o["problem"]["code"] for o in asked] == ["usage"]


def test_options_may_come_before_the_command(ada):
    names = [o["name"] for o in ada.run("--json", "ls").objects()]
    assert names == ["a.txt", "b.txt", "c.txt"]


def commands():
    out = subprocess.run([BUILD / "ferry", "help"], check=True, text=True,
                         capture_output=True).stdout
    listed = out.split("\n\n")[2]
    return [line.split()[0] for line in listed.splitlines()]


def help_of(command):
    return subprocess.run([BUILD / "ferry", *command], check=True, text=True,
                          capture_output=True).stdout


@pytest.mark.parametrize("command", commands())
def test_each_command_has_a_help(command):
    said = help_of([command, "--help"])
    assert said == help_of(["help", command])
    assert said.startswith(f"usage: ferry {command} [option]...")
    assert "\nExamples:\n    " in said
    assert all(len(line) < 80 for line in said.splitlines())


def test_the_manual_page_has_every_command_and_option():
    page = (ROOT / "docs/man/ferry.1").read_text().replace(r"\-", "-")
    listed = page[page.index(".SH COMMANDS"):page.index(".SH OPTIONS")]
    there = re.findall(r"^\.TP\n\.(?:B|BI|BR) ([a-z]+)", listed, re.M)
    assert sorted(there) == sorted(commands())
    options = set()
    for command in commands():
        said = help_of([command, "--help"])
        options |= set(re.findall(r"^  .{4}(--[a-z-]+)", said, re.M))
        own = said.split("Options of every command")[0]
        own = {letter.rstrip(",") or name for letter, name in re.findall(
            r"^  (-\w,|    ) ?(--[a-z-]+)", own, re.M)
            for letter in [letter.strip()]}
        entry = re.search(rf"^\.TP\n\.(?:B|BI|BR) {command}\b(.*?)(?=^\.TP|\Z)",
                          listed, re.M | re.S).group(1)
        told = entry.partition("Options:\n")[2]
        assert set(re.findall(r"(?<![-\w])--?[a-z][a-z-]*", told)) == own, \
            command
    assert {o for o in re.findall(r"\\fB(--[a-z-]+)\\fR", page)} == options


@pytest.mark.parametrize("shell, name", [
    ("bash", "ferry.bash"), ("zsh", "_ferry"), ("fish", "ferry.fish")])
def test_completions_are_those_of_this_program(shell, name):
    assert help_of(["completion", shell]) == \
        (ROOT / "dist/completions" / name).read_text(), "make docs"


# ---- the password prompt

@pytest.mark.parametrize("stop", ["key", "signal"])
def test_a_stopped_prompt_leaves_the_terminal_as_it_was(server, stop):
    """Through a shell with job control, as a person would."""
    import pexpect

    ada = server.member("ada")
    child = pexpect.spawn("/bin/bash", ["--norc", "--noprofile", "-i"],
                          env={**ada.env, "PS1": "sh> ", "TERM": "dumb"},
                          timeout=PATIENCE, encoding="utf-8")
    child.expect("sh> ")
    child.sendline(f"{BUILD}/ferry login ada@{server.address}")
    child.expect("Password of ada: ")
    if stop == "key":
        child.send("half\x1a")
    else:
        pid = subprocess.run(
            ["pgrep", "-s", str(child.pid), "-f", "ferry login"], text=True,
            capture_output=True, check=True).stdout.split()[0]
        os.kill(int(pid), signal.SIGTSTP)
    child.expect("Stopped")
    child.expect("sh> ")
    child.sendline("stty -a | grep -o '[-]*echo '; echo was''there")
    child.expect("wasthere\r\n")
    assert "\r\necho" in child.before and "-echo " not in child.before
    child.sendline("fg")
    child.expect("ferry login")
    if stop == "key":
        child.expect("Password of ada: ")
    else:
        assert child.waitnoecho(PATIENCE)  # it goes on where it was
    child.sendline(PASSWORD)
    child.expect("Logged in as ada")
    assert PASSWORD not in child.before
    child.expect("sh> ")
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()


def test_an_interrupt_at_the_prompt_leaves_the_terminal_as_it_was(server):
    import termios

    ada = server.member("ada")
    child = terminal(ada, "login", f"ada@{server.address}")
    child.expect("Password of ada: ")
    assert not termios.tcgetattr(child.child_fd)[3] & termios.ECHO
    os.kill(child.pid, signal.SIGINT)
    import pexpect
    child.expect(pexpect.EOF)
    assert termios.tcgetattr(child.child_fd)[3] & termios.ECHO
    child.close()
    assert child.signalstatus == signal.SIGINT
