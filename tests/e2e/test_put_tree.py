# SPDX-License-Identifier: MIT
"""Trees and several files go up: whole, one failure or not, cut or not."""
import fcntl
import os
import pty
import random
import re
import socket
import stat
import struct
import subprocess
import termios
import threading
import time

import pytest

from ferry import PATIENCE, Server
from proxy import Proxy

MIB = 1 << 20
SECOND = 10**9


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


def space(server):
    """The directory of the one account's files on the server."""
    spaces = [d for d in (server.data / "spaces").iterdir() if d.is_dir()]
    assert len(spaces) == 1
    return os.fsencode(spaces[0])


def picture(root):
    """What makes a tree: names, types, bytes, times, and the owner's rights."""
    seen = {}
    for directory, names, files in os.walk(root):
        for name in [b""] + names + files:
            path = os.path.join(directory, name) if name else directory
            st = os.lstat(path)
            key = os.path.relpath(path, root)
            if stat.S_ISLNK(st.st_mode):
                seen[key] = ("l", os.readlink(path), st.st_mtime_ns)
            elif stat.S_ISDIR(st.st_mode):
                seen[key] = ("d", st.st_mtime_ns)
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    seen[key] = ("f", f.read(), st.st_mtime_ns,
                                 st.st_mode & 0o300)
    return seen


HOSTILE = [b"plain", b"with space", b"-dash", b"--", b"new\nline",
           b"\x1b[31mred\x1b]0;t\x07", b"\xff\xfe not utf-8", b"back\\slash",
           b"a:b", "grün 文件".encode(), b"x" * 255, b"Case", b"case", b"~",
           b"...", b"%41", b"\x01"]
SIZES = [0, 1, 4096, 256 * 1024, 256 * 1024 + 1, MIB, MIB + 1, 5 * MIB + 3]


def hostile_tree(root):
    """Everything that is legal."""
    os.mkdir(root)
    for i, name in enumerate(HOSTILE):
        directory = os.path.join(root, b"dir " + name[:240])
        os.makedirs(os.path.join(directory, name, b"empty"))
        for where in (root, directory):
            with open(os.path.join(where, b"f" + name[:254]), "wb") as f:
                f.write(content(i * 100, i))
    for size in SIZES:
        with open(os.path.join(root, b"size%d" % size), "wb") as f:
            f.write(content(size, size))
    with open(os.path.join(root, b"sparse"), "wb") as f:
        f.truncate(40 * MIB)
        f.seek(17 * MIB)
        f.write(b"data")
    os.symlink(b"/etc/passwd", os.path.join(root, b"out"))
    os.symlink(b"..", os.path.join(root, b"dir plain", b"loop"))
    os.symlink(b"nowhere \xff\n", os.path.join(root, b"dangling"))
    os.utime(os.path.join(root, b"out"), ns=(5, 1500000000123456789),
             follow_symlinks=False)
    os.chmod(os.path.join(root, b"fplain"), 0o700)
    os.chmod(os.path.join(root, b"fCase"), 0o400)
    times = [1, -SECOND + 1, 2**31 * SECOND + 5, 10**18 + 123456789]
    paths = [os.path.join(d, n) for d, names, files in os.walk(root)
             for n in names + files]
    for i, path in enumerate(sorted(paths, key=len, reverse=True)):
        if not os.path.islink(path):
            os.utime(path, ns=(0, times[i % len(times)]))
    os.utime(root, ns=(0, 10**18 + 1))


def small_tree(root, directories=20, files=30, size=1000):
    for d in range(directories):
        (root / f"d{d}").mkdir(parents=True)
        for i in range(files):
            (root / f"d{d}" / f"{i}").write_bytes(content(size, d * 1000 + i))
    return directories * files


@pytest.fixture
def line(server):
    with Proxy(server.address) as proxy:
        yield proxy


def member(server, line, name="ada"):
    """Somebody who reaches the server through the line."""
    return server.member(name, server.invite().replace(server.address,
                                                       line.address))


def summary(result):
    return [o["sum"] for o in result.objects() if "sum" in o][0]


# ---- whole ----------------------------------------------------------------------


@pytest.mark.parametrize("connections", ["1", "4"])
def test_a_hostile_tree_arrives_as_it_is(server, tmp_path, connections):
    ada = server.member()
    tree = os.fsencode(tmp_path) + b"/tree"
    hostile_tree(tree)
    put = ada.run("put", "-r", "-j", connections, tree, ":/")
    assert "\x1b" not in put.out + put.err
    assert picture(space(server) + b"/tree") == picture(tree)
    # Once more: nothing to do, and the same in the end.
    again = summary(ada.run("put", "-r", "--json", tree, ":/"))
    assert again["unchanged"] >= len(HOSTILE) * 2 + len(SIZES)
    assert again["files"] == 0 and again["directories"] == 0
    assert picture(space(server) + b"/tree") == picture(tree)


def test_where_a_tree_goes(server, tmp_path):
    ada = server.member()
    tree = tmp_path / "src"
    small_tree(tree, 2, 2)
    for args, top in ([["src", ":/new"], "new"], [["src", ":/new"], "new/src"],
                      [["src/", ":/"], "src"], [["src/.", ":/new"], "new"],
                      [["src", ":/to/"], "to"]):
        ada.run("put", "-r", *args, cwd=tmp_path)
        assert sorted(ada.names(f":/{top}"))[:2] == ["d0", "d1"], args
        assert ada.names(f":/{top}/d1") == ["0", "1"]
    # Several need a directory; a file does not become one.
    refused = ada.run("put", "-r", "src/d0", "src/d1", ":/none", status=1,
                      cwd=tmp_path)
    assert "There is no /none" in refused.err
    refused = ada.run("put", "-r", "src", ":/new/d0/0", status=1, cwd=tmp_path)
    assert "is not a directory" in refused.err
    refused = ada.run("put", "src", ":/", status=1, cwd=tmp_path)
    assert "is a directory" in refused.err
    twice = ada.run("put", "src/d0/0", "src/d1/0", ":/", status=2, cwd=tmp_path)
    assert "two sources have the name '0'" in twice.err
    (tmp_path / "-r").mkdir()
    ada.run("put", "-r", "--", "-r", ":/dash", cwd=tmp_path)
    assert ada.names(":/dash") == []


def test_several_files_and_trees_go_together(server, tmp_path):
    ada = server.member()
    small_tree(tmp_path / "a", 3, 3)
    (tmp_path / "f").write_bytes(content(3 * MIB))
    os.symlink("f", tmp_path / "l")
    done = ada.run("put", "-r", "--json", "a", "f", "l", ":/",
                   cwd=tmp_path).objects()
    assert {o["path"] for o in done if o.get("do") == "put"} == \
        {f"/a/d{d}/{i}" for d in range(3) for i in range(3)} | {"/f"}
    assert [o["target"] for o in done if o.get("do") == "link"] == ["f"]
    # Without -r a link is what it leads to.
    os.symlink("f", tmp_path / "l2")
    ada.run("put", "l2", "a/d0/0", ":/", cwd=tmp_path)
    ada.run("get", ":/l2", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content(3 * MIB)


def test_a_tree_goes_to_a_shared_space_and_a_drop_box(server, tmp_path):
    ada, bob = server.member("ada"), server.member("bob")
    server.admin("space", "add", "team", "--owner", "ada")
    server.admin("space", "grant", "team", "bob", "drop")
    small_tree(tmp_path / "t", 2, 3)
    ada.run("put", "-r", tmp_path / "t", ":@team/")
    again = summary(ada.run("put", "-r", "--json", tmp_path / "t", ":@team/"))
    assert again["unchanged"] == 6 and again["files"] == 0
    # Who may only drop neither sees nor dates what is there.
    bob.run("put", "-r", tmp_path / "t", ":@team/bobs")
    assert sorted(ada.names(":@team/")) == ["bobs", "t"]
    assert ada.names(":@team/bobs/d1") == ["0", "1", "2"]
    refused = bob.run("put", "-r", tmp_path / "t", ":@none/", status=1)
    assert "no space @none" in refused.err


# ---- in part --------------------------------------------------------------------


def test_one_that_fails_does_not_stop_the_rest(server, tmp_path):
    ada = server.member()
    tree = tmp_path / "t"
    count = small_tree(tree)
    # What is a directory on the other side, and the reverse.
    (tmp_path / "there" / "d1" / "1").mkdir(parents=True)
    (tmp_path / "there" / "d2").write_bytes(b"a file")
    ada.run("put", "-r", tmp_path / "there", ":/t")
    os.mkfifo(tree / "d3" / "fifo")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tree / "sock"))
    put = ada.run("put", "-r", f"{tree}/.", ":/t", status=5)
    lines = [n for n in put.err.splitlines() if "(file." in n]
    assert len(lines) == 4, put
    for words in ("d3/fifo is not a regular file", "sock is not a regular file",
                  "d2", "d1/1"):
        assert any(words in n for n in lines), words
    assert "4 failed" in put.out
    # All but what lies in the directory that could not be, and the four.
    got = sum(len(ada.names(f":/t/d{d}")) for d in range(20) if d != 2)
    assert got == count - 30
    objects = ada.run("put", "-r", "--json", f"{tree}/.", ":/t",
                      status=5).objects()
    failed = {os.path.relpath(o["local"], tree): o["problem"]["code"]
              for o in objects if "problem" in o}
    assert failed == {"d3/fifo": "file.not_regular",
                      "sock": "file.not_regular",
                      "d2": "file.not_directory",
                      "d1/1": "file.is_directory"}
    assert objects[-1]["sum"]["failed"] == 4


@pytest.mark.parametrize("change", ["grown", "shrunk", "replaced", "gone"])
def test_a_source_that_changes_is_noticed(server, line, tmp_path, change):
    ada = member(server, line)
    tree = tmp_path / "t"
    small_tree(tree, 1, 3)
    large = tree / "large"
    large.write_bytes(content(20 * MIB))
    line.hold(up=8 * MIB)
    process = ada.start("put", "-r", "--json", tree, ":/")
    assert line.held.wait(PATIENCE)
    if change == "grown":
        with open(large, "ab") as f:
            f.write(b"more")
    elif change == "shrunk":
        os.truncate(large, MIB)
    elif change == "replaced":
        with open(large, "r+b") as f:
            f.write(b"other")
    else:
        os.unlink(large)
    line.mend()
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5, err
    assert b'"file.changed"' in out
    assert ada.names(":/t") == ["d0"]
    assert ada.names(":/t/d0") == ["0", "1", "2"]


def test_a_tree_too_deep_is_said_once(server, tmp_path):
    ada = server.member()
    deep = tmp_path / "t"
    for _ in range(140):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (tmp_path / "t" / "f").write_bytes(b"f")
    put = ada.run("put", "-r", tmp_path / "t", ":/", status=5)
    assert put.err.count("path.too_deep") == 1
    assert "limit of 128" in put.err
    assert sorted(ada.names(":/t")) == ["d", "f"]


def test_patterns_choose(server, tmp_path):
    ada = server.member()
    tree = tmp_path / "t"
    for name in ("a.c", "a.o", "keep.o", "sub/b.c", "sub/b.o", "build/x",
                 "sub/build/x"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"x")
    ada.run("put", "-r", "--include", "keep.o", "--exclude", "*.o",
            "--exclude", "/build", tree, ":/t")
    assert sorted(ada.names(":/t")) == ["a.c", "keep.o", "sub"]
    assert sorted(ada.names(":/t/sub")) == ["b.c", "build"]


def test_a_dry_run_touches_nothing(server, tmp_path):
    ada = server.member()
    tree = tmp_path / "t"
    small_tree(tree, 2, 2)
    os.symlink("x", tree / "l")
    dry = ada.run("put", "-r", "--dry-run", tree, ":/")
    assert ada.names() == []
    for words in (":/t/  would be made", ":/t/d1/  would be made",
                  ":/t/d1/1  1000 bytes, would be sent",
                  ":/t/l  would be a link", "4 files would be sent"):
        assert words in dry.out, words
    ada.run("put", "-r", tree, ":/")
    (tree / "d0" / "0").write_bytes(b"new")
    dry = ada.run("put", "-r", "--dry-run", tree, ":/")
    assert "d0/0  3 bytes, would be replaced" in dry.out
    assert "1 file would be sent" in dry.out and "4 unchanged" in dry.out
    ada.run("get", ":/t/d0/0", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content(1000, 0)


def test_no_replace_and_if_match(server, tmp_path):
    ada = server.member()
    tree = tmp_path / "t"
    small_tree(tree, 1, 3)
    ada.run("put", "-r", tree, ":/")
    (tree / "d0" / "1").write_bytes(b"changed")
    (tree / "d0" / "new").write_bytes(b"new")
    put = ada.run("put", "-r", "--no-replace", tree, ":/", status=5)
    assert "file.exists" in put.err and "2 unchanged" in put.out
    assert "new" in ada.names(":/t/d0")
    root = ada.run("hash", "--json", ":/t/d0/1").objects()[0]["root"]
    (tmp_path / "f").write_bytes(b"next")
    other = root[:-4] + ("0000" if not root.endswith("0000") else "1111")
    stale = ada.run("put", "--if-match", other, tmp_path / "f", ":/t/d0/1",
                    status=1)
    assert "file.match" in stale.err
    ada.run("put", "--if-match", root, tmp_path / "f", ":/t/d0/1")


# ---- cut --------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [3_000, 150_000, 4 * MIB])
def test_a_cut_tree_goes_on(server, line, tmp_path, cut):
    ada = member(server, line)
    tree = tmp_path / "t"
    count = small_tree(tree, 10, 40, 2000)
    (tree / "large").write_bytes(content(16 * MIB))
    line.cut(up=cut)
    broken = ada.run("put", "-r", tree, ":/", status=3)
    assert broken.err.count("connect.lost") <= 1, broken
    line.mend()
    again = summary(ada.run("put", "-r", "--json", tree, ":/"))
    assert again["files"] + again["unchanged"] == count + 1
    assert again["failed"] == 0
    assert picture(space(server) + b"/t") == picture(os.fsencode(tree))


def said(process, words):
    """Reads standard error until it says so."""
    text = b""
    while words not in text:
        data = os.read(process.stderr.fileno(), 4096)
        assert data, text
        text += data
    return text


@pytest.mark.parametrize("what", ["tree", "large"])
def test_retry_goes_on_when_the_server_is_back(tmp_path, poller, what):
    with Server(tmp_path) as server, Proxy(server.address) as line:
        ada = member(server, line)
        tree = tmp_path / "t"
        tree.mkdir()
        if what == "tree":
            small_tree(tree, 20, 40, 3000)
        else:
            (tree / "large").write_bytes(content(24 * MIB))
        line.hold(up=MIB)
        source = tree if what == "tree" else tree / "large"
        process = ada.start("put", "-r", "--retry", source, ":/")
        assert line.held.wait(PATIENCE)
        server.kill()
        line.cut(up=0)  # nobody there
        words = said(process, b"Trying again")
        assert b"connection" in words or b"Cannot reach" in words
        server.start()
        line.target = tuple_of(server.address)
        line.mend()
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert picture(space(server) + (b"/t" if what == "tree" else b"")) \
            .items() >= {k: v for k, v in picture(os.fsencode(tree)).items()
                         if k != b"."}.items()


def tuple_of(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def test_refusals_are_not_retried(server, tmp_path):
    ada = server.member()
    (tmp_path / "f").write_bytes(b"f")
    began = time.monotonic()
    ada.run("put", "--retry", tmp_path / "f", ":/none/f", status=1)
    ada.run("put", "--retry", tmp_path / "none", ":/", status=1)
    ada.run("logout")
    refused = ada.run("put", "--retry", tmp_path / "f", ":/", status=1)
    assert "Trying again" not in refused.err
    assert time.monotonic() - began < PATIENCE / 2


def test_old_journals_are_removed(server, tmp_path):
    ada = server.member()
    old, young, other = (ada.home / "journals" / n
                         for n in ("old.log", "young.log", "other"))
    for path in (old, young, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (1, time.time() - 31 * 86400))
    os.utime(young, (1, time.time() - 29 * 86400))
    (tmp_path / "f").write_bytes(b"f")
    ada.run("put", tmp_path / "f")
    assert not old.exists() and young.exists() and other.exists()


# ---- on a terminal -------------------------------------------------------------------


class Terminal:
    """Standard error of a program, `columns` wide."""

    def __init__(self, columns):
        self.master, self.slave = pty.openpty()
        self.resize(columns)
        self.text = b""
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def resize(self, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ,
                    struct.pack("HHHH", 24, columns, 0, 0))

    def _read(self):
        try:
            while data := os.read(self.master, 4096):
                with self.changed:
                    self.text += data
                    self.changed.notify_all()
        except OSError:
            pass

    def wait(self, test):
        with self.changed:
            assert self.changed.wait_for(lambda: test(self.text), PATIENCE), \
                self.text

    def lines(self):
        """What was drawn, one after the other."""
        text = self.text.replace(b"\x1b[K", b"").decode(errors="replace")
        return [n for n in text.split("\r") if n.strip()]


def start_on(terminal, ada, *args):
    return subprocess.Popen(
        [str(ada.program), *map(os.fspath, args)],
        env={**ada.env, "TERM": "xterm"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=terminal.slave,
        start_new_session=True)


@pytest.mark.parametrize("columns", [20, 80])
def test_the_progress_fits_the_terminal(server, line, tmp_path, columns):
    ada = member(server, line)
    tree = tmp_path / "t"
    small_tree(tree, 2, 5)
    (tree / "文件文件文件文件文件文件文件文件文件文件文件").write_bytes(
        content(64 * MIB))
    terminal = Terminal(columns)
    line.hold(up=8 * MIB)
    process = start_on(terminal, ada, "put", "-r", tree, ":/")
    assert line.held.wait(PATIENCE)
    terminal.wait(lambda text: b"%" in text and b"0 MB/s" in text)
    if columns == 80:
        # More than lies in buffers on the way: the large one is there in part,
        # and its own share stands beside its name.
        terminal.wait(lambda text: any(
            re.search(r"MB/s .* 文\S* [1-9]\d%$", n)
            for n in terminal.lines()))
    terminal.resize(10)
    before = len(terminal.text)
    terminal.wait(lambda text: len(text) > before + 60)
    line.mend()
    assert process.wait(PATIENCE) == 0
    for drawn in terminal.lines():
        wide = sum(2 if c > "\u2e80" else 1 for c in drawn.rstrip("\n"))
        assert wide < columns, drawn
    assert any("%" in n for n in terminal.lines())
    if columns == 80:
        assert any("/11 files" in n for n in terminal.lines())
    # The line is gone in the end.
    assert terminal.text.endswith(b"\r\x1b[K")


def test_a_terminal_that_goes_away_stops_nothing(server, line, tmp_path):
    ada = member(server, line)
    tree = tmp_path / "t"
    small_tree(tree, 2, 5)
    (tree / "large").write_bytes(content(8 * MIB))
    terminal = Terminal(80)
    line.hold(up=4 * MIB)
    process = start_on(terminal, ada, "put", "-r", tree, ":/")
    os.close(terminal.slave)
    assert line.held.wait(PATIENCE)
    terminal.wait(lambda text: b"%" in text)
    os.close(terminal.master)
    line.mend()
    assert process.wait(PATIENCE) == 0
    assert picture(space(server) + b"/t") == picture(os.fsencode(tree))


def test_without_a_terminal_nothing_is_drawn(server, tmp_path):
    ada = server.member()
    small_tree(tmp_path / "t", 2, 2)
    put = ada.run("put", "-r", tmp_path / "t", ":/")
    assert put.err == ""
    assert put.out.startswith("4 files, ") and "3 directories made" in put.out
    assert ada.run("put", "-q", "-r", tmp_path / "t", ":/").out == ""
