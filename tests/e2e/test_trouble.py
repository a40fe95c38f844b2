# SPDX-License-Identifier: MIT
"""What goes wrong with trees, and around them: one of thousands that cannot be,
links in circles, names that differ by their case, rights and room that go in the
middle, outputs and terminals that are none."""
import os
import random
import re
import shutil
import signal
import subprocess
import time
import threading

import pexpect
import pytest

from ferry import BUILD, PATIENCE, SANITIZED, Server
from proxy import Proxy

MIB = 1 << 20
MANY = 300 if SANITIZED else 3000
ODD = b"\x1b]0;owned\x07\x1b[31mred\x9b\r\xe2\x80\xae"


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


def ferryd(server, *words):
    done = subprocess.run(
        [str(BUILD / "ferryd"), *words, "--data", str(server.data)],
        env=server.env, text=True, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture
def line(server):
    with Proxy(server.address) as proxy:
        yield proxy


@pytest.fixture
def ada(server, line):
    """Somebody who reaches the server through the line."""
    return server.member("ada", server.invite().replace(server.address,
                                                        line.address))


def small_tree(root, directories=20, files=30, size=1000):
    for d in range(directories):
        (root / f"d{d:02}").mkdir(parents=True)
        for i in range(files):
            (root / f"d{d:02}" / f"{i:03}").write_bytes(
                content(size, d * 1000 + i))
    return directories * files


def files_below(root):
    return {os.path.relpath(os.path.join(at, n), root)
            for at, _, files in os.walk(root) for n in files}


def held(line, process):
    """Until the line holds what the process moves.  Its outputs are pipes that
    nobody reads meanwhile."""
    last = time.monotonic() + PATIENCE
    while not line.held.wait(0.1):
        if process.poll() is not None or time.monotonic() > last:
            process.kill()
            raise AssertionError(process.communicate())


def summary(result):
    return [o["sum"] for o in result.objects() if "sum" in o][0]


def problems(result):
    return {o["local"]: o["problem"]["code"] for o in result.objects()
            if "problem" in o and "local" in o}


# ---- one among thousands -----------------------------------------------------------

# Root reads everything, but for this.
MORTAL = ["setpriv", "--bounding-set=-dac_override,-dac_read_search",
          "--inh-caps=-dac_override,-dac_read_search"] \
    if os.geteuid() == 0 else []


def needs_setpriv():
    if MORTAL and (not shutil.which("setpriv") or
                   subprocess.run([*MORTAL, "true"], check=False,
                                  capture_output=True).returncode):
        pytest.skip("root cannot give its rights away here")


def mortal(client, tmp):
    """The client, as one whom rights bind."""
    script = tmp / "mortal"
    words = " ".join(MORTAL)
    script.write_text(f"#!/bin/sh\nexec {words} {client.program} \"$@\"\n")
    script.chmod(0o755)
    client.program = script
    return client


def test_what_cannot_be_read_among_thousands(ada, line, tmp_path):
    needs_setpriv()
    tree = tmp_path / "t"
    count = small_tree(tree, 10, MANY // 10)
    (tree / "d03/007").chmod(0)
    (tree / "d05").chmod(0)
    (tree / "growing").write_bytes(content(32 * MIB))
    mortal(ada, tmp_path)
    line.hold(up=8 * MIB)
    put = ada.start("put", "-r", tree, ":/")
    held(line, put)
    with open(tree / "growing", "ab") as f:
        f.write(b"more")
    line.mend()
    out, err = (s.decode() for s in put.communicate(timeout=PATIENCE))
    (tree / "d05").chmod(0o700)
    assert put.returncode == 5, err
    # At the end, in one place, each once, and nothing else.
    last = err.splitlines()[-4:]
    for name, words in (("d03/007", "Permission denied"),
                        ("d05", "Permission denied"),
                        ("growing", "changed")):
        assert len([n for n in last if name in n and words in n]) == 1, err
        assert err.count(f"{name}: ") + err.count(f"{name} ") == 1, err
    assert "3 failed" in out
    missing = {"d03/007", "growing"} | {f"d05/{i:03}"
                                        for i in range(MANY // 10)}
    (home,) = (tmp_path / "data/spaces").iterdir()
    assert files_below(home / "t") == files_below(tree) - missing
    assert len(files_below(tree)) == count + 1
    # What was in the way is gone: the same command does the rest.
    (tree / "d03/007").chmod(0o600)
    again = summary(ada.run("put", "-r", "--json", tree, ":/"))
    assert again["failed"] == 0
    assert files_below(home / "t") == files_below(tree)


def test_what_the_server_cannot_read_among_thousands(tmp_path, poller):
    needs_setpriv()
    with Server(tmp_path, wrap=MORTAL) as server:
        ada = server.member()
        tree = tmp_path / "t"
        small_tree(tree, 10, MANY // 10)
        ada.run("put", "-r", tree, ":/")
        (home,) = (server.data / "spaces").iterdir()
        (home / "t/d03/007").chmod(0)
        (home / "t/d05").chmod(0)
        got = ada.run("get", "-r", ":/t", tmp_path / "back", status=5)
        for name in ("d03/007", "d05"):
            assert len([n for n in got.err.splitlines() if name in n]) == 1, got
        assert "2 failed" in got.out
        (home / "t/d05").chmod(0o700)
        assert files_below(tmp_path / "back") == {
            n for n in files_below(tree)
            if n != "d03/007" and not n.startswith("d05/")}


# ---- sources that change ------------------------------------------------------------


@pytest.mark.parametrize("change", ["grown", "shrunk", "written", "replaced",
                                    "gone"])
@pytest.mark.parametrize("how", ["put", "put -r"])
def test_a_source_that_changes_is_whole_or_refused(ada, line, server, tmp_path,
                                                   how, change):
    old, new = content(20 * MIB, 1), content(20 * MIB, 2)
    source = tmp_path / "t/f"
    source.parent.mkdir()
    source.write_bytes(old)
    line.hold(up=8 * MIB)
    words = ["put", source, ":/f"] if how == "put" else \
        ["put", "-r", source.parent, ":/"]
    put = ada.start(*words, "--json")
    assert line.held.wait(PATIENCE)
    if change == "grown":
        with open(source, "ab") as f:
            f.write(b"more")
    elif change == "shrunk":
        os.truncate(source, MIB)
    elif change == "written":
        with open(source, "r+b") as f:
            f.seek(15 * MIB)
            f.write(b"other")
    elif change == "replaced":
        (tmp_path / "new").write_bytes(new)
        (tmp_path / "new").rename(source)
    else:
        source.unlink()
    line.mend()
    out, err = put.communicate(timeout=PATIENCE)
    there = ":/f" if how == "put" else ":/t/f"
    if put.returncode == 0:
        # What is read through the old descriptor is the old file, whole.
        assert change in ("replaced", "gone")
        ada.run("get", there, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == old
    else:
        assert put.returncode == (1 if how == "put" else 5), err
        assert b'"file.changed"' in out
        assert "f" not in ada.names(":/" if how == "put" else ":/t")
    if change != "gone":
        ada.run(*words)
        (tmp_path / "back").unlink(missing_ok=True)
        ada.run("get", there, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == source.read_bytes()
    ferryd(server, "check")


# ---- links in circles -----------------------------------------------------------------


def circles(tree):
    tree.mkdir()
    (tree / "d").mkdir()
    (tree / "d/f").write_bytes(b"f")
    for name, text in (("a", "b"), ("b", "a"), ("self", "self"),
                       ("here", "."), ("d/up", ".."), ("d/t", "../../t"),
                       ("far", "d/up/d/up/d/up/d/f")):
        (tree / name).symlink_to(text)
    return {n: os.readlink(tree / n) for n in
            ("a", "b", "self", "here", "d/up", "d/t", "far")}


def test_links_in_circles_are_kept_and_not_followed(ada, tmp_path):
    tree = tmp_path / "t"
    links = circles(tree)
    put = summary(ada.run("put", "-r", "--json", tree, ":/"))
    assert (put["links"], put["files"], put["directories"]) == (7, 1, 2)
    got = summary(ada.run("get", "-r", "--json", ":/t", tmp_path / "back"))
    assert (got["links"], got["files"], got["directories"]) == (7, 1, 2)
    assert {n: os.readlink(tmp_path / "back" / n) for n in links} == links
    # Named themselves, they are followed here, and nowhere there.
    for name in ("a", "self"):
        refused = ada.run("put", tree / name, ":/x", status=1)
        assert "Too many levels of symbolic links" in refused.err
    for command in (["ls", ":/t/d/up/d"], ["stat", ":/t/here/d/f"],
                    ["get", ":/t/a/x", tmp_path / "no"],
                    ["put", tree / "d/f", ":/t/d/up/g"],
                    ["mkdir", "-p", ":/t/here/new/new"],
                    ["mv", ":/t/d/f", ":/t/d/up/f"],
                    ["rm", "-r", ":/t/here/d"]):
        refused = ada.run(*command, status=1)
        assert "file.escapes" in refused.err or "file.link" in refused.err, \
            refused
    refused = ada.run("get", ":/t/d/f", tmp_path / "t/self/f", status=1)
    assert "self" in refused.err
    removed = ada.run("rm", "-r", "--json", ":/t").objects()[-1]
    assert ada.names() == [], removed
    assert (tree / "d/f").read_bytes() == b"f"


# ---- case ------------------------------------------------------------------------------


def test_names_that_differ_by_case_are_different(ada, tmp_path):
    tree = tmp_path / "t"
    (tree / "A/x").mkdir(parents=True)
    (tree / "a/X").mkdir(parents=True)
    for at, name in enumerate(("README", "Readme", "readme", "A/f", "a/F",
                               "a/f", "stra\u00dfe", "STRASSE", "\u00e4", "a\u0308")):
        (tree / name).write_bytes(b"%d" % at)
    (tree / "ReadMe").symlink_to("README")
    ada.run("put", "-r", tree, ":/")
    ada.run("get", "-r", ":/t", tmp_path / "back")
    assert files_below(tmp_path / "back") == files_below(tree)
    for name in files_below(tree):
        assert (tmp_path / "back" / name).read_bytes() == \
            (tree / name).read_bytes()
    # None stands for another.
    ada.run("rm", ":/t/Readme")
    ada.run("mv", ":/t/readme", ":/t/READme")
    ada.run("mkdir", ":/t/readme")
    assert {n for n in ada.names(":/t") if n.lower() == "readme"} == {
        "README", "READme", "ReadMe", "readme"}
    refused = ada.run("put", "--no-replace", tree / "a/f", ":/t/READme",
                      status=1)
    assert "file.exists" in refused.err
    assert "There is no" in ada.run("stat", ":/T", status=1).err


# ---- rights and room that go in the middle -------------------------------------------------


def in_the_middle(server, line, tmp_path, way, act):
    """bo moves a tree in @team; in its middle `act` happens.  His client and the
    result."""
    ada = server.member("ada")
    bo = server.member("bo", server.invite().replace(server.address,
                                                     line.address))
    ferryd(server, "space", "add", "team", "--owner", "ada", "--bytes",
           "100 MiB")
    ferryd(server, "space", "grant", "team", "bo", "read,write,list")
    tree = tmp_path / "t"
    small_tree(tree, 3, 20)
    (tree / "large").write_bytes(content(48 * MIB))
    small_tree(tree / "z", 3, 20)
    if way == "get":
        ada.run("put", "-r", tree, ":@team/")
        line.hold(down=12 * MIB)
        moving = bo.start("get", "-r", "--json", ":@team/t", tmp_path / "back")
    else:
        line.hold(up=12 * MIB)
        moving = bo.start("put", "-r", "--json", tree, ":@team/")
    assert line.held.wait(PATIENCE)
    act()
    line.mend()
    out, err = moving.communicate(timeout=PATIENCE)
    codes = set(re.findall(r'"code":"([a-z._]+)"', out.decode()))
    return ada, bo, moving.returncode, codes, err.decode()


def nothing_half(server, ada, tmp_path, way):
    """Whole files, those of the tree, and a ledger that agrees."""
    ferryd(server, "check")
    tree = tmp_path / "t"
    if way == "put":
        names = ada.names(":@team/")
        assert names in ([], ["t"])
        (tmp_path / "seen").mkdir()
        if names:
            ada.run("get", "-r", ":@team/t", tmp_path / "seen/t")
        got = tmp_path / "seen/t"
    else:
        got = tmp_path / "back"
    for name in files_below(got):
        if os.path.basename(name).startswith(".ferry-"):
            continue  # what the same command goes on with
        assert (got / name).read_bytes() == (tree / name).read_bytes(), name
    assert "large" not in files_below(got)


@pytest.mark.parametrize("way", ["put", "get"])
def test_a_grant_withdrawn_in_the_middle_of_a_tree(server, line, tmp_path, way):
    def revoke():
        ferryd(server, "space", "revoke", "team", "bo")
        # It is looked at every second; the rest takes some.
        line.rate = 8 * MIB

    ada, bo, status, codes, err = in_the_middle(server, line, tmp_path, way,
                                                revoke)
    line.rate = None
    assert status in (1, 5), err
    assert codes and codes <= {"right.missing", "space.unknown"}
    nothing_half(server, ada, tmp_path, way)
    refused = bo.run("ls", ":@team/", status=1)
    assert "space.unknown" in refused.err
    # Given back, the same command does the rest.
    ferryd(server, "space", "grant", "team", "bo", "read,write,list")
    if way == "put":
        bo.run("put", "-r", tmp_path / "t", ":@team/")
        ada.run("get", "-r", ":@team/t", tmp_path / "all")
    else:
        shutil.rmtree(tmp_path / "back")
        bo.run("get", "-r", ":@team/t", tmp_path / "all")
    assert files_below(tmp_path / "all") == files_below(tmp_path / "t")


@pytest.mark.parametrize("way", ["put", "get"])
def test_an_account_disabled_in_the_middle_of_a_tree(server, line, tmp_path,
                                                     way):
    ada, bo, status, codes, err = in_the_middle(
        server, line, tmp_path, way,
        lambda: ferryd(server, "user", "disable", "bo"))
    assert status in (1, 3), err
    assert codes & {"login.disabled", "session.kicked", "connect.lost",
                    "connect.closed", "server.kicked"}, (codes, err)
    nothing_half(server, ada, tmp_path, way)
    assert "login.disabled" in bo.run("ls", status=1).err


def test_a_quota_lowered_in_the_middle_of_a_tree(server, line, tmp_path):
    """What was promised room keeps it; what comes later has none."""
    ada, bo, status, codes, err = in_the_middle(
        server, line, tmp_path, "put",
        lambda: ferryd(server, "space", "quota", "team", "--bytes", "1 MiB"))
    assert status in (0, 5), err
    ferryd(server, "check")
    mine = {o["name"]: o for o in ada.run("spaces", "--json").objects()}
    assert mine["team"]["quota_bytes"] == MIB
    assert mine["team"]["reserved_bytes"] == 0
    if status == 5:
        assert codes == {"quota.bytes"}
    (tmp_path / "one").write_bytes(content(MIB))
    refused = bo.run("put", tmp_path / "one", ":@team/one", status=1)
    assert "quota.bytes" in refused.err and "holds 1 MiB" in refused.err
    ferryd(server, "space", "quota", "team", "--bytes", "100 MiB")
    bo.run("put", "-r", tmp_path / "t", ":@team/")
    ada.run("get", "-r", ":@team/t", tmp_path / "all")
    assert files_below(tmp_path / "all") == files_below(tmp_path / "t")


# ---- room that ends in a tree ------------------------------------------------------------


def room_tree(tree):
    """20 MB: small files that travel many together, and some larger ones."""
    for d in range(10):
        (tree / f"d{d}").mkdir(parents=True)
        for i in range(30):
            (tree / f"d{d}/{i:02}").write_bytes(content(30_000, d * 100 + i))
        (tree / f"d{d}/large").write_bytes(content(MIB + 70_000, d))


def all_there(ada, tree, tmp_path):
    ada.run("get", "-r", ":/t", tmp_path / "all")
    names = files_below(tree)
    assert files_below(tmp_path / "all") == names
    for name in names:
        assert (tmp_path / "all" / name).read_bytes() == \
            (tree / name).read_bytes()


@pytest.mark.parametrize("rule, code, words", [
    ("quota = 9MiB", "quota.bytes", "holds 9 MiB"),
    ("quota_files = 100", "quota.files", "100 names")])
def test_a_quota_that_is_full_in_the_middle_of_a_tree(tmp_path, poller, rule,
                                                      code, words):
    conf = tmp_path / "ferryd.conf"
    conf.write_text(f"[vault]\n{rule}\n")
    tree = tmp_path / "t"
    room_tree(tree)
    with Server(tmp_path, "--config", conf) as server:
        ada = server.member()
        put = ada.run("put", "-r", "--json", tree, ":/", status=5)
        assert set(problems(put).values()) == {code}, put
        total = summary(put)
        assert total["files"] + total["failed"] == len(files_below(tree))
        assert total["files"] > 5
        said = ada.run("put", "-r", tree, ":/", status=5).err
        assert words in said and "failed" not in said.splitlines()[0]
        who = ada.run("whoami", "--json").objects()[0]
        assert who["used_bytes"] <= 9 * MIB or "files" in rule
        assert who["used_files"] <= 100 or "files" not in rule
        # One that was refused when it was published is kept for a while.
        assert who["reserved_bytes"] == 0 or code == "quota.files"
        # Full from the start.
        (tmp_path / "u").mkdir()
        (tmp_path / "u/f").write_bytes(content(300_000))
        (tmp_path / "u/g").write_bytes(content(9 * MIB))
        if "files" in rule:  # not even its directory
            put = ada.run("put", "-r", "--json", tmp_path / "u", ":/", status=1)
            assert problems(put)[str(tmp_path / "u")] == code
        else:
            put = ada.run("put", "-r", "--json", tmp_path / "u", ":/", status=5)
            assert str(tmp_path / "u/g") in problems(put)
            ada.run("rm", "-r", ":/u")
        ferryd(server, "user", "quota", "ada", "--bytes", "100 MiB", "--files",
               "10000")
        ada.run("put", "-r", tree, ":/")
        all_there(ada, tree, tmp_path)
        ferryd(server, "check")


@pytest.fixture
def disk(tmp_path):
    """A disk of 48 MiB."""
    where = tmp_path / "disk"
    where.mkdir()
    if os.geteuid() or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", where],
            capture_output=True, check=False).returncode:
        pytest.skip("no right to mount")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def fill(where, leave):
    """Another program's file takes the rest."""
    filler = where / "filler"
    with open(filler, "wb", buffering=0) as f:
        try:
            while f.write(bytes(4096)):
                pass
        except OSError:
            pass
        f.truncate(max(0, f.tell() - leave))
    return filler


def test_a_disk_that_is_full_in_the_middle_of_a_tree(tmp_path, poller, disk):
    tree = tmp_path / "t"
    room_tree(tree)
    with Server(tmp_path, data=disk / "data") as server:
        ada = server.member()
        filler = fill(disk, 7 * MIB)
        put = ada.run("put", "-r", "--json", tree, ":/", status=5)
        assert set(problems(put).values()) == {"disk.full"}, put
        assert summary(put)["files"] > 5
        said = ada.run("put", "-r", tree, ":/", status=5).err
        assert "The disk has" in said
        # What is there can be had.
        ada.run("get", "-r", ":/t", tmp_path / "some")
        for name in files_below(tmp_path / "some"):
            assert (tmp_path / "some" / name).read_bytes() == \
                (tree / name).read_bytes()
        # Full from the start: not a byte more, and still it answers.
        fill(disk, 0)
        put = ada.run("put", "-r", "--json", tree, ":/v", status=None)
        assert put.status in (1, 5), put
        assert "disk.full" in put.out
        assert "t" in ada.names()
        filler.unlink()
        ada.run("put", "-r", tree, ":/")
        all_there(ada, tree, tmp_path)
        assert ada.run("whoami", "--json").objects()[0]["reserved_bytes"] == 0
        ferryd(server, "check")


# ---- lines that break ----------------------------------------------------------------------


@pytest.mark.parametrize("cut", [3_000, 150_000, 4 * MIB])
def test_a_cut_get_of_a_tree_goes_on(ada, line, tmp_path, cut):
    tree = tmp_path / "t"
    count = small_tree(tree, 10, 40, 2000)
    (tree / "large").write_bytes(content(12 * MIB))
    ada.run("put", "-r", tree, ":/")
    (tmp_path / "work").mkdir()
    line.cut(down=cut)
    broken = ada.run("get", "-r", ":/t", cwd=tmp_path / "work", status=3)
    assert broken.err.count("connect.lost") <= 1, broken
    line.mend()
    again = summary(ada.run("get", "-r", "--json", ":/t",
                            cwd=tmp_path / "work"))
    assert again["files"] + again["unchanged"] == count + 1
    assert again["failed"] == 0
    assert line.moved["down"] < 13 * MIB + count * 3000
    for name in files_below(tree):
        assert (tmp_path / "work/t" / name).read_bytes() == \
            (tree / name).read_bytes()
    assert files_below(tmp_path / "work/t") == files_below(tree)


def test_a_hang_up_ends_it_and_it_goes_on(ada, line, server, tmp_path):
    """SIGHUP is an interrupt: what was done stays, and the same command does the
    rest."""
    tree = tmp_path / "t"
    count = small_tree(tree, 5, 20)
    (tree / "large").write_bytes(content(24 * MIB))
    for verb, way in (("put", "up"), ("get", "down")):
        where = [tree, ":/"] if verb == "put" else [":/t"]
        cwd = tmp_path / verb
        cwd.mkdir()
        line.hold(**{way: 12 * MIB})
        moving = ada.start(verb, "-r", *where, cwd=cwd)
        assert line.held.wait(PATIENCE)
        moving.send_signal(signal.SIGHUP)
        out, err = moving.communicate(timeout=PATIENCE)
        assert moving.returncode in (1, 3, 5, 128 + signal.SIGHUP,
                                     -signal.SIGHUP), err
        assert b"same command" in err or b"repeat" in err.lower(), err
        line.mend(anew=True)  # not what the line holds of the dead
        again = summary(ada.run(verb, "-r", "--json", *where, cwd=cwd))
        assert again["files"] + again["unchanged"] == count + 1
        assert line.moved[way] < 23 * MIB  # some of the large one was there: what
        # buffers held on the way was not
    assert files_below(tmp_path / "get/t") == files_below(tree)


# ---- terminals and outputs ---------------------------------------------------------------------


def on_terminal(client, *args, columns=80):
    return pexpect.spawn(os.fspath(client.program),
                         [os.fsdecode(a) for a in args],
                         env={**client.env, "TERM": "xterm"}, timeout=PATIENCE,
                         dimensions=(24, columns))


# What ferry itself says to a terminal: carriage returns, "clear to the end of
# the line", and colours around "ferry: ...".
OWN = re.compile(r"\x1b\[K|\x1b\[(0|31|1|2)m(?=ferry: |\r|\n|$)|\x1b\[0m|\r|\n")


def nothing_foreign(text):
    text = OWN.sub("", text.decode())
    for c in text:
        assert c.isprintable(), (c, text)


def test_terminal_codes_in_names_never_reach_the_terminal(ada, line, tmp_path):
    tree = os.fsencode(tmp_path) + b"/" + ODD
    os.mkdir(tree)
    for n in range(3):
        with open(tree + b"/%d" % n + ODD, "wb") as f:
            f.write(content(4 * MIB, n))
    os.symlink(ODD, tree + b"/link")
    os.mkfifo(tree + b"/fifo" + ODD)
    back = os.fsencode(tmp_path) + b"/back" + ODD
    remote = b":/" + ODD
    for command in (["put", "-r", "-v", tree, ":/"], ["ls", ":/"],
                    ["ls", "-l", remote], ["ls", "-l", "-r", ":/"],
                    ["stat", remote], ["stat", remote + b"/link"],
                    ["hash", remote + b"/0" + ODD],
                    ["get", "-r", "-v", remote, back],
                    ["get", remote + b"/no" + ODD, back],
                    ["put", b"no" + ODD, ":/"], ["mkdir", remote],
                    ["mkdir", b":/m" + ODD],
                    ["mv", "-v", b":/m" + ODD, b":/n" + ODD],
                    ["rm", "-v", b":/n" + ODD], ["rm", b":/n" + ODD],
                    ["ls", b":@" + ODD], ["login", b"ada@" + ODD],
                    ["explain", ODD], [b"no" + ODD], [b"--no" + ODD]):
        process = on_terminal(ada, *command)
        process.expect(pexpect.EOF)
        process.close()
        nothing_foreign(process.before)
        assert process.signalstatus is None, process.before
    # While it draws, and when it asks.
    line.hold(down=6 * MIB)
    process = on_terminal(ada, "get", "-r", remote, back + b"2")
    assert line.held.wait(PATIENCE)
    process.expect("MB/s")
    line.mend()
    process.expect(pexpect.EOF)
    nothing_foreign(process.before)
    process.close()
    process = on_terminal(ada, "rm", "-r", remote)
    process.expect(r"\?")
    nothing_foreign(process.before)
    process.sendline("n")
    process.expect(pexpect.EOF)
    process.close()
    assert len(ada.run("ls", "--json").objects()) == 1


def drawn(text):
    """The lines of the progress display, one after the other."""
    text = text.replace(b"\x1b[K", b"").decode()
    return [n for n in re.split("[\r\n]", text) if n.strip()]


@pytest.mark.parametrize("columns", [20, 1])
def test_a_narrow_terminal_is_never_written_past(ada, line, tmp_path, columns):
    tree = tmp_path / "t"
    small_tree(tree, 2, 5)
    (tree / ("\u6587\u4ef6" * 20)).write_bytes(content(8 * MIB))
    ada.run("put", "-r", tree, ":/")
    line.hold(down=4 * MIB)
    process = on_terminal(ada, "get", "-r", "-q", ":/t", tmp_path / "quiet",
                          columns=columns)
    assert line.held.wait(PATIENCE)
    line.mend()
    process.expect(pexpect.EOF)
    assert not process.before.strip()
    process.close()
    line.hold(down=4 * MIB)
    process = on_terminal(ada, "get", "-r", ":/t", tmp_path / "back",
                          columns=columns)
    assert line.held.wait(PATIENCE)
    if columns > 1:
        process.expect("MB/s")
    line.mend()
    text = process.before or b""
    process.expect(pexpect.EOF)
    text += process.before
    process.close()
    assert process.exitstatus == 0
    for shown in drawn(text)[:-1]:  # the last is the sum, which may wrap
        wide = sum(2 if c > "\u2e80" else 1 for c in shown)
        assert wide < max(columns, 2), shown
    assert files_below(tmp_path / "back") == files_below(tree)
    process = on_terminal(ada, "ls", ":/t", columns=columns)
    process.expect(pexpect.EOF)
    process.close()
    assert process.exitstatus == 0
    names = process.before.decode().split()
    assert sorted(n.rstrip("/") for n in names) == sorted(
        os.listdir(tree))


def shell(client, script, cwd, status=0):
    done = subprocess.run(
        ["bash", "-c", script, str(client.program)], env=client.env, cwd=cwd,
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False)
    assert done.returncode == status, done
    return done


def test_an_output_that_goes_away_or_is_closed_stops_nothing(ada, server,
                                                             tmp_path):
    small_tree(tmp_path / "t", 10, 30, 10)
    lines = shell(ada, "$0 put -v -r t :/ | true; echo ${PIPESTATUS[0]}",
                  tmp_path).stdout
    assert lines == "0\n"
    assert len(ada.names(":/t")) == 10 and len(ada.names(":/t/d09")) == 30
    lines = shell(ada, "$0 put --json -r t :/j | true; echo ${PIPESTATUS[0]}",
                  tmp_path).stdout
    assert lines == "0\n"
    assert len(ada.names(":/j")) == 10
    (home,) = (server.data / "spaces").iterdir()
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        # Nothing else gets these numbers, to be printed into.
        shell(ada, f"$0 put -v -r t :/u {closed}", tmp_path)
        shell(ada, f"$0 get -v -r :/u back {closed}", tmp_path)
        for there in (tmp_path / "back", home / "u"):
            assert files_below(there) == files_below(tmp_path / "t")
            for name in files_below(there):
                assert (there / name).read_bytes() == \
                    (tmp_path / "t" / name).read_bytes()
            shutil.rmtree(there)


@pytest.mark.parametrize("words", ["ls :/t", "ls -l :/t", "ls --json :/t",
                                   "whoami", "stat :/t", "spaces", "help",
                                   "put -r t :/v", "put --json -r t :/w",
                                   "devices", "profiles", "hash t/d00/000"])
def test_an_output_that_is_full_is_no_success(ada, tmp_path, words):
    small_tree(tmp_path / "t", 2, 300, 10)
    ada.run("put", "-r", tmp_path / "t", ":/")
    said = shell(ada, f"$0 {words} >/dev/full", tmp_path, status=1).stderr
    assert "standard output: " in said
    # What was to be done is done all the same.
    for name in re.findall(r":/([vw])$", words):
        assert len(ada.names(f":/{name}/d01")) == 300


def test_a_server_without_standard_streams(tmp_path):
    server = Server(tmp_path)
    said = tmp_path / "said"
    fifo = subprocess.Popen(
        ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "-", *server.command()],
        env=server.env)
    sock = server.data / "control"
    try:
        ready = threading.Event()
        for _ in range(int(PATIENCE * 20)):
            if subprocess.run([str(BUILD / "ferryd"), "sessions", "--data",
                               str(server.data)], env=server.env,
                              capture_output=True, check=False
                              ).returncode == 0:
                ready.set()
                break
            assert fifo.poll() is None
            ready.wait(0.05)
        assert ready.is_set()
        for fd in range(3):
            assert os.readlink(f"/proc/{fifo.pid}/fd/{fd}") == "/dev/null"
        assert (server.data / "lock").read_bytes() == b""
    finally:
        fifo.terminate()
        assert fifo.wait(PATIENCE) == 0
    assert not said.exists() and sock != said


# ---- broken settings of the client --------------------------------------------------------------


@pytest.mark.parametrize("name", ["profiles/ada.json", "pins.json", "default"])
@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"user": 5}',
                                  b"\0\xff\xfe", b"[" * 100_000,
                                  b'"' + b"x" * (2 << 20), None], ids=range(9))
def test_broken_settings_are_said_and_can_be_mended(server, tmp_path, name,
                                                    text):
    ada = server.member("ada")
    file = ada.home / name
    whole = file.read_bytes()
    if text is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(text)
    result = ada.run("ls", status=None)
    assert result.status in (0, 1, 2, 4), result
    if result.status:
        assert "internal" not in result.err, result
        assert re.search(r"ferry explain [a-z._]+|See --help", result.err)
        nothing_foreign(result.err.encode())
        # It is the file that is named.
        assert name != "default" or "default" in result.err, result
    else:  # nothing of it is needed, or it is made again
        assert name != "profiles/ada.json"
    if text is None:
        file.rmdir()
    file.write_bytes(whole)
    assert ada.names() == []


@pytest.mark.parametrize("value", ["", "abc", "0", "-1", "1.5", "99999999999",
                                   "\x1b[31m"])
def test_a_timeout_that_is_none_is_said(ada, value):
    said = ada.run("ls", env={"FERRY_TIMEOUT": value}, status=2).err
    assert "FERRY_TIMEOUT" in said and "\x1b" not in said
