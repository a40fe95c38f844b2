# SPDX-License-Identifier: MIT
"""What is said when a word, an option, a setting or a variable is not right."""
import json
import os
import re
import shutil
import subprocess

import pexpect
import pytest

from ferry import BUILD, PASSWORD, PATIENCE, Server, environment
from ferry import ROOT as TREE

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
    _, err = ferryd("--data", tmp_path / "new", "--listen", "127.0.0.1:0",
                    "--listen", "no-such-host.invalid:0", *ROOT, status=1)
    assert "no-such-host.invalid:0: the host has no address" in err
    assert not (tmp_path / "new").exists()


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


# ---- the manual


@pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc")
@pytest.mark.parametrize("name", ["ferry.1", "ferryd.8", "ferryd.conf.5"])
def test_the_pages_keep_to_the_style_of_manuals(name):
    said = subprocess.run(
        ["mandoc", "-Tlint", "-Wstyle", str(TREE / "docs/man" / name)],
        capture_output=True, text=True, check=False, timeout=PATIENCE)
    # What is installed here is not the page's fault.
    assert not [line for line in (said.stdout + said.stderr).splitlines()
                if "not found" not in line and "mandoc.db" not in line]


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


def test_help_is_a_word_too():
    assert ferryd("help")[0] == ferryd("--help")[0]
    assert ferryd("help", "space")[0] == ferryd("space", "--help")[0]
    assert ferryd("help", "nonsense")[0] == ferryd("--help")[0]


def test_an_option_of_a_wrong_value_is_named_once(stopped):
    for args, said in ((["--bytes", "1x"], "--bytes needs a value such as"),
                       (["--files", "-1"], "--files must be between 0 and"),
                       (["--files", "x"], "--files is not a number")):
        _, err = ferryd("user", "quota", "bo", *args, "--data", stopped.data,
                        status=2)
        assert f"ferryd: {said}" in err


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


# ---- one and many, and what a code stands for


def test_codes_are_explained_without_braces(tmp_path):
    out = subprocess.run([str(BUILD / "ferry"), "explain"], text=True,
                         env=environment(FERRY_HOME=tmp_path),
                         capture_output=True, check=True).stdout
    assert "{" not in out and "}" not in out
    assert "The space holds <limit>; <used> are used, <bytes> are held" in out
    assert "The space holds <limit> names, each a file, a directory or a link, " \
        "and has them." in out
    assert "{" not in (TREE / "docs/errors.md").read_text()
    out = subprocess.run([str(BUILD / "ferry"), "explain", "quota.files"],
                         text=True, capture_output=True, check=True,
                         env=environment(FERRY_HOME=tmp_path, LC_ALL="",
                                         LANG="zh_CN.UTF-8",
                                         LANGUAGE="zh_CN")).stdout
    assert "{" not in out and "<上限> 个名称" in out


def test_one_file_is_not_files(running, tmp_path):
    ada = running.member("ada")
    bo = running.member("bo")
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    running.admin("user", "quota", "ada", "--files", "1")
    ada.run("put", tmp_path / "a")
    said = ada.run("put", tmp_path / "b", status=1).err
    assert "The space holds 1 name, each a file, a directory or a link, and has " \
        "them" in said
    bo.run("put", tmp_path / "a", tmp_path / "b")
    data = ["--data", running.data]
    assert "has 1 file, 1 byte." in ferryd("user", "delete", "ada", *data,
                                           status=1)[1]
    assert "has 2 files, 2 bytes." in ferryd("user", "delete", "bo", *data,
                                             status=1)[1]
    assert "has 1 character;" in ferryd("user", "passwd", "bo", *data,
                                        stdin="x\n", status=1)[1]


# ---- what the operator is answered


def people(server, *names):
    for name in names:
        ferryd("user", "add", name, "--data", server.data,
               stdin=PASSWORD + "\n")


def test_who_is_not_there_is_named(stopped):
    people(stopped, "ada")
    stopped.admin("space", "add", "team", "--owner", "ada")
    data = ["--data", stopped.data]
    for args in (["grant", "nope", "ada", "read"], ["revoke", "nope", "ada"],
                 ["quota", "nope", "--files", "1"], ["delete", "nope"],
                 ["grants", "nope"]):
        _, err = ferryd("space", *args, *data, status=1)
        assert "There is no space @nope." in err
        assert "'ferryd space list' lists them" in err and "ferry spaces" not in err
    for args in (["space", "grant", "team", "zed", "read"],
                 ["space", "add", "more", "--owner", "zed"],
                 ["user", "disable", "zed"], ["user", "delete", "zed"],
                 ["user", "quota", "zed", "--files", "1"]):
        _, err = ferryd(*args, *data, status=1)
        assert "There is no account zed." in err and "user list" in err
    _, err = ferryd("space", "grant", "team", "@team", "read", *data, status=2)
    assert "begins with @ is a space" in err
    _, err = ferryd("space", "grant", "team", "ada", "dance", *data, status=1)
    assert "'dance' is not a list of rights: read, write" in err
    # As people see its name.
    out, _ = ferryd("space", "quota", "@team", "--files", "1", *data)
    assert out == "@team: quota: 1 name, no limit of bytes\n"


def test_answers_say_what_was_given_to_whom(stopped):
    people(stopped, "ada", "bo")
    admin = stopped.admin
    admin("space", "add", "team", "--owner", "ada")
    assert admin("space", "grant", "team", "bo", "read,list", "--path",
                 "inbox//") == "@team: granted to bo: read,list at /inbox\n"
    assert admin("space", "grant", "team", "--everybody", "drop") == \
        "@team: granted to everybody: drop at /\n"
    assert admin("user", "quota", "bo", "--bytes", "1 GiB") == \
        "bo: quota: 1 GiB, no limit of names\n"
    assert admin("user", "quota", "bo", "--files", "7") == \
        "bo: quota: 1 GiB, 7 names\n"
    assert admin("user", "quota", "bo", "--files", "0", "--bytes", "0") == \
        "bo: quota: none\n"


def test_a_revoked_account_is_told_by_what_it_is_in_still(stopped):
    people(stopped, "ada", "bo")
    admin = stopped.admin
    admin("space", "add", "team", "--owner", "ada")
    admin("space", "grant", "team", "bo", "read,write")
    admin("space", "grant", "team", "bo", "write", "--path", "/x")
    admin("space", "grant", "team", "ada", "list")
    admin("space", "grant", "team", "--everybody", "list")
    assert admin("space", "revoke", "team", "bo") == (
        "@team: revoked from bo: read,write at /\n"
        "@team: bo still has list at /, as everybody has\n"
        "@team: bo still has write at /x\n")
    assert admin("space", "revoke", "team", "--everybody") == (
        "@team: revoked from everybody: list at /\n"
        "@team: everybody has no other grant in it\n")
    assert admin("space", "revoke", "team", "bo", "--path", "/x") == (
        "@team: revoked from bo: write at /x\n"
        "@team: bo has no other grant in it\n")
    assert "ada owns it, and has every right" in admin("space", "revoke",
                                                       "team", "ada")
    _, err = ferryd("space", "revoke", "team", "ada", "--data", stopped.data,
                    status=1)
    assert "ada, who owns the space, has no grant at /" in err
    admin("space", "grant", "team", "bo", "read")
    admin("space", "grant", "team", "bo", "read", "--path", "y")
    told = json.loads(admin("space", "revoke", "team", "bo", "--json"))
    assert told["rights"] == "read" and told["left"] == [
        {"path": "/y", "rights": "read", "everybody": False}]


def test_a_quota_of_files_is_listed(stopped):
    people(stopped, "ada")
    admin = stopped.admin
    admin("space", "add", "team", "--owner", "ada", "--files", "31")
    admin("user", "quota", "ada", "--files", "17")
    for what, quota in (("user", "17"), ("space", "31")):
        head, row = admin(what, "list").splitlines()
        assert re.search(r"NAMES +QUOTA", head)
        assert re.search(rf" 0 +{quota} ", row)


def test_the_last_administrator_is_missed(stopped):
    people(stopped, "bo")
    data = ["--data", stopped.data]
    for name in ("ada", "eve"):
        ferryd("user", "add", name, "--admin", *data, stdin=PASSWORD + "\n")
    for args, last in ((["disable", "eve"], False), (["disable", "bo"], False),
                       (["disable", "ada"], True), (["enable", "ada"], False),
                       (["delete", "eve"], False), (["delete", "ada"], True)):
        out, err = ferryd("user", *args, *data)
        assert ("was the last administrator who can log in" in err) == last
        assert args[1] in out


def test_deleting_asks_at_a_terminal(stopped):
    people(stopped, "ada", "bo")

    def delete(*more):
        return pexpect.spawn(
            str(BUILD / "ferryd"), ["user", "delete", *more, "--data",
                                    str(stopped.data)],
            env=environment(), timeout=PATIENCE, encoding="utf-8")

    child = delete("ada")
    child.expect(r"Delete ada for good, with 0 devices, and every grant and "
                 r"invite of theirs\? \[y/N\] ")
    child.sendline("")
    child.expect("cancelled")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    child = delete("ada")
    child.expect("y/N")
    child.sendline("y")
    child.expect("ada: deleted")
    child.expect(pexpect.EOF)
    child = delete("bo", "--yes")
    child.expect("bo: deleted")
    child.expect(pexpect.EOF)
    assert "nobody yet" in stopped.admin("user", "list")
