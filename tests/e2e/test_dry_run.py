# SPDX-License-Identifier: MIT
"""A dry run says what the real one would; what is refused, and how that is told."""
import contextlib
import os
import re

import pexpect
import pytest

from ferry import BUILD, PASSWORD, PATIENCE, ROOT, Server
from wire import Wire

MIB = 1 << 20
CHINESE = {"LANG": "zh_CN.UTF-8", "LC_ALL": "", "LANGUAGE": ""}


@pytest.fixture
def running(tmp_path):
    with Server(tmp_path) as server:
        yield server


@pytest.fixture
def ada(running):
    return running.member()


@pytest.fixture
def local(tmp_path, monkeypatch):
    place = tmp_path / "local"
    (place / "c1/sub").mkdir(parents=True)
    (place / "c1/a").write_text("a")
    (place / "c1/sub/b").write_text("b")
    (place / "cx").write_text("cx")
    (place / "F").write_text("file")
    monkeypatch.chdir(place)
    return place


def both(client, *args):
    """A dry run, then the real one."""
    return (client.run(*args, "--dry-run", status=None),
            client.run(*args, status=None))


# ---- a dry run


@pytest.mark.parametrize("args, words", [
    (["put", "F", ":/no/such/x"], "There is no /no/such."),
    (["put", "-r", "c1", ":/no/such/"], "There is no /no."),
    (["put", "-r", "F", ":/no/x"], "There is no /no."),
    (["put", "F", ":/file/x"], "/file/x is not a directory."),
    (["put", "cx", ":/"], "/cx is a directory."),
    (["put", "-r", "cx", ":/"], "/cx is a directory."),
    (["put", "-r", "c1", ":/file/x"], "/file/x is not a directory."),
    (["put", "--no-replace", "F", ":/file"], "/file exists already."),
    (["put", "--if-match", "sha256:" + "0" * 64, "F", ":/file"],
     "/file is not the version that was expected."),
    (["put", "--if-match", "sha256:" + "0" * 64, "F", ":/none"],
     "/none is not the version that was expected."),
])
def test_a_refusal_is_told_by_the_dry_run_too(ada, local, args, words):
    (local / "other").write_text("other")
    ada.run("put", "other", ":/file")
    ada.run("mkdir", ":/cx")
    dry, real = both(ada, *args)
    assert "ferry: " + words in real.err, real
    assert (dry.status, dry.err, dry.out) == (real.status, real.err, real.out)
    assert real.status == 1


def test_a_directory_in_the_way_within_a_tree_fails_alone(ada, local):
    ada.run("mkdir", "-p", ":/c1/sub/b")
    dry, real = both(ada, "put", "-r", "c1", ":/")
    assert "/c1/sub/b is a directory." in real.err
    assert (dry.status, dry.err) == (real.status, real.err)
    assert real.status == 5
    assert "c1/a -> :/c1/a  1 byte, would be sent" in dry.out
    assert "sub/b ->" not in dry.out


@pytest.fixture
def tight(tmp_path):
    conf = tmp_path / "ferryd.conf"
    conf.write_text("[vault]\nquota = 1MiB\nquota_files = 3\n")
    with Server(tmp_path, "--config", conf) as server:
        yield server.member()


def test_a_space_that_is_too_small_is_told_by_the_dry_run(tight, local):
    with open(local / "big", "wb") as big:
        big.truncate(100 * MIB)
    dry, real = both(tight, "put", "big", ":/big")
    assert "quota.bytes" in real.err
    assert (dry.status, dry.err) == (real.status, real.err)
    # Each fits, both do not.
    for name in ("one", "two"):
        with open(local / name, "wb") as f:
            f.truncate(600 << 10)
    dry = tight.run("put", "one", "two", "--dry-run", status=5)
    assert "quota.bytes" in dry.err and "1 file would be sent; 1 failed" in dry.out
    tight.run("put", "one", "two", status=5)
    # One that is no larger than what it replaces fits.
    there = tight.names()[0]
    with open(local / there, "wb") as f:
        f.truncate(500 << 10)
    dry, real = both(tight, "put", there, ":/")
    assert dry.status == real.status == 0


def test_a_space_with_all_its_files_is_told_by_the_dry_run(tight, local):
    for name in "abcd":
        (local / name).write_text(name)
    dry = tight.run("put", "-r", "a", "b", "c", "d", ":/", "--dry-run", status=5)
    assert "quota.files" in dry.err and "3 files would be sent" in dry.out
    tight.run("put", "a", "b", "c")
    dry, real = both(tight, "put", "d")
    assert "quota.files" in real.err
    assert (dry.status, dry.err) == (real.status, real.err)


def test_what_is_there_unchanged_passes_no_replace_everywhere(ada, local):
    ada.run("put", "F", "c1/a")
    said = ada.run("put", "--no-replace", "F", ":/F").out
    assert said == "F -> :/F  unchanged\n"
    told = ada.run("put", "--no-replace", "--json", "F").objects()
    assert told == [{"do": "put", "local": "F", "path": "/F", "size": 4,
                     "sent": 0, "unchanged": True}]
    for args in (["F", "--dry-run"], ["-r", "F"], ["-r", "F", "--dry-run"],
                 ["F", "c1/a"]):
        assert "unchanged" in ada.run("put", "--no-replace", *args).out
    # The same content at another time is another file.
    os.utime(local / "F", (1, 1))
    assert "file.exists" in ada.run("put", "--no-replace", "F", status=1).err


# ---- what is advised


def test_minus_r_is_not_advised_to_who_gave_it(ada, local):
    ada.run("mkdir", ":/cx")
    ada.run("put", "F", ":/q")
    (local / "c6/q").mkdir(parents=True)
    for args, words in ((["put", "-r", "cx", ":/"], "/cx is a directory."),
                        (["get", "-r", ":/q", "c6"], "c6/q is a directory.")):
        said = ada.run(*args, status=1).err
        assert "ferry: " + words in said and "With -r" not in said, said
    said = ada.run("get", ":/q", "c6", status=1).err
    assert "ferry: c6/q is a directory." in said
    assert "With -r" in ada.run("put", "c1", status=1).err


def test_who_logged_out_is_told_of_the_profiles_that_are_left(running, ada):
    login = f"ada@{running.address}"
    for name in ("work", "home"):
        ada.run("login", login, "--as", name, password=PASSWORD)
    ada.run("logout", "--as", "home")
    said = ada.run("ls", status=1).err
    assert "Profiles that are here: ada, work." in said, said
    assert "ferry profiles" in said and "(login.which)" not in said
    assert ada.run("ls", "--as", "work").out == ""
    for name in ("ada", "work"):
        ada.run("logout", "--as", name)
    said = ada.run("ls", status=1).err
    assert "Not logged in.\n" in said and "ferry login USER@HOST" in said


def test_who_says_no_is_told_that_nothing_was_removed(ada):
    ada.run("mkdir", "-p", ":/d/e")
    child = pexpect.spawn(str(BUILD / "ferry"), ["rm", "-r", ":/d"],
                          env={**ada.env, "TERM": "xterm"}, timeout=PATIENCE,
                          encoding="utf-8")
    child.expect(r"\[y/N\] ")
    child.sendline("n")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    assert "ferry: Nothing was removed: :/d stays." in child.before
    assert "\x1b[31m" not in child.before and "explain" not in child.before
    assert ada.names(":/d") == ["e"]


@pytest.mark.parametrize("args", [
    ["rm", ":/F/"], ["rm", "-r", ":/F/"], ["rm", "--dry-run", ":/F/"],
    ["stat", ":/F/"], ["ls", ":/F/"], ["mv", ":/F/", ":/G"], ["hash", ":/F/"],
    ["get", ":/F/", "back"], ["get", "-r", ":/F/", "back"],
    ["get", ":/F/", ":/F", "."]])
def test_a_slash_asks_for_a_directory(ada, local, args):
    ada.run("put", "F")
    said = ada.run(*args, status=None)
    assert said.status in (1, 5) and ":/F is not a directory." in said.err, said
    assert ada.names() == ["F"] and not (local / "back").exists()


def test_a_slash_after_a_directory_is_as_good_as_none(ada, local):
    ada.run("put", "-r", "c1")
    for args in (["stat", ":/c1/"], ["ls", ":/c1/"], ["get", "-r", ":/c1/", "x"],
                 ["mv", ":/c1/", ":/c2"], ["rm", "-r", ":/c2/"]):
        ada.run(*args)
    assert ada.names() == []


def test_retry_waits_for_a_full_server(tmp_path, local):
    conf = tmp_path / "ferryd.conf"
    conf.write_text("[server]\nconnections = 3\n")
    with Server(tmp_path, "--config", conf) as server:
        ada = server.member()
        with contextlib.ExitStack() as held:
            for _ in range(3):
                held.enter_context(Wire(server.address).hello())
            assert "server.full" in ada.run("put", "F", status=1).err
            put = ada.start("put", "--retry", "F", text=True)
            line = put.stderr.readline()
            assert "The server has 3 connections, its limit." in line, line
            assert "Trying again in" in line
        said, trouble = put.communicate(timeout=PATIENCE)
        assert put.returncode == 0, trouble
        assert ada.names() == ["F"]


# ---- help


def test_help_fits_a_terminal_and_names_completion(ada):
    said = ada.run("--help").out
    assert not [x for x in said.splitlines() if len(x) > 80]
    assert re.search(r"^  completion +Prints what a shell needs", said, re.M)
    said = ada.run("completion", "--help").out
    for shell in ("bash)\"' >>", "zsh >", "fish >"):
        assert f"ferry completion {shell} ~/" in said
    listed = ada.run("--help", "--json").objects()
    assert "completion" in [o["command"] for o in listed]


def test_the_manual_lists_what_is_kept(ada):
    page = (ROOT / "docs/man/ferry.1").read_text()
    files = page[page.index(".SH FILES"):page.index(".SH EXAMPLES")]
    for name in os.listdir(ada.home):
        assert re.search(rf"\b{re.escape(name)}\b", files), name
    assert "ferry completion zsh > " in page


@pytest.mark.parametrize("command, usage", [
    ("put", "来源... [远程路径]"), ("get", "远程路径... [目标]"),
    ("login", "用户@主机[:端口]"), ("whoami", "")])
def test_the_usage_is_in_the_language_of_the_rest(ada, command, usage):
    said = ada.run(command, "--help", env=CHINESE).out
    line = f"用法：ferry {command} [选项]... {usage}".rstrip()
    assert said.startswith(line + "\n"), said
    told = ada.run(command, "--help", "--json", env=CHINESE).objects()[0]
    assert told["usage"].isascii()
