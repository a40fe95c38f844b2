# SPDX-License-Identifier: MIT
"""A tree that went up and came down again is the tree that it was."""
import os
import stat
import subprocess

import pytest

from ferry import SANITIZED, Server

MIB = 1 << 20
SECOND = 10**9
NAMES = [b"plain", b"with space", b"-dash", b"--help", b"new\nline", b".hidden",
         b"\x1b[31mred\x1b]0;title\x07", b"\xff\xfe not utf-8", b"back\\slash",
         b"a:b", b"@team", "gr\u00fcn \u6587\u4ef6".encode(), b"x" * 255, b"Case",
         b"case", b"~", b"...", b"%41", b"\x01\x7f", b"trail ", b"*?[a]"]
SIZES = [0, 1, 4095, 4096, 4097, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1,
         MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 5]
FILE_MODES = [0o400, 0o404, 0o444, 0o500, 0o600, 0o604, 0o640, 0o644, 0o660,
              0o664, 0o666, 0o700, 0o711, 0o750, 0o755, 0o775, 0o777]
DIRECTORY_MODES = [0o700, 0o701, 0o711, 0o750, 0o755, 0o770, 0o775, 0o777]


@pytest.fixture(params=[0o022, 0, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def write(path, data, mode=None):
    with open(path, "wb") as f:
        f.write(data)
    if mode is not None:
        os.chmod(path, mode)


def hostile(root):
    """All that is legal, of every mode that its owner can send."""
    os.makedirs(root)
    for i, name in enumerate(NAMES):
        os.makedirs(os.path.join(root, b"dirs", name, b"empty", name))
        write(os.path.join(root, b"dirs", name, name), name * (i + 1))
        write(os.path.join(root, b"f" + name[:254]), name)
    for size in SIZES:
        write(os.path.join(root, b"size%d" % size),
              bytes((i * 7 + size) % 255 + 1 for i in range(997)) *
              (size // 997) + b"e" * (size % 997))
    with open(os.path.join(root, b"sparse"), "wb") as f:
        f.truncate(40 * MIB)
        f.seek(17 * MIB + 12345)
        f.write(b"middle")
    os.mkdir(os.path.join(root, b"modes"))
    for mode in FILE_MODES:
        write(os.path.join(root, b"modes", b"f%o" % mode), b"m", mode)
        write(os.path.join(root, b"modes", b"large%o" % mode),
              b"m" * (MIB + mode), mode)
    for mode in DIRECTORY_MODES:
        path = os.path.join(root, b"modes", b"d%o" % mode)
        os.mkdir(path)
        write(os.path.join(path, b"inside"), b"x")
        os.chmod(path, mode)
    os.mkdir(os.path.join(root, b"links"))
    for i, target in enumerate([b"/etc/passwd", b"..", b"nowhere \xff\n",
                                b"../size0", b"4", b"y" * 4000]):
        os.symlink(target, os.path.join(root, b"links", b"%d" % i))
    times = [1, 0, -SECOND + 1, 2**31 * SECOND + 5, 10**18 + 123456789,
             1700000000 * SECOND + 999999999]
    paths = [os.path.join(d, n) for d, names, files in os.walk(root)
             for n in names + files]
    for i, path in enumerate(sorted(paths, key=len, reverse=True)):
        os.utime(path, ns=(0, times[i % len(times)]), follow_symlinks=False)
    os.utime(root, ns=(0, 10**18 + 1))


def same_bytes(one, two):
    return subprocess.run(["cmp", "-s", one, two], check=False).returncode == 0


def picture(root):
    """Name -> (type, mode, time in ns, size or target)."""
    seen = {}
    for directory, names, files in os.walk(root):
        for name in [b"."] + names + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            link = stat.S_ISLNK(st.st_mode)
            what = os.readlink(path) if link else \
                st.st_size if stat.S_ISREG(st.st_mode) else None
            seen[os.path.relpath(path, root)] = (
                stat.S_IFMT(st.st_mode), None if link else st.st_mode & 0o7777,
                st.st_mtime_ns, what)
    return seen


def expected(root, umask):
    return {name: (kind, mode if mode is None else mode & ~umask, *rest)
            for name, (kind, mode, *rest) in picture(root).items()}


def check(there, here, umask):
    want, got = expected(there, umask), picture(here)
    assert want.keys() == got.keys()
    for name in want:
        assert want[name] == got[name], name
        if want[name][0] == stat.S_IFREG:
            assert same_bytes(os.path.join(there, name),
                              os.path.join(here, name)), name


def test_a_hostile_tree_comes_back_as_it_was(server, tmp_path, umask):
    ada = server.member()
    tree, back = (os.path.join(os.fsencode(tmp_path), n) for n in (b"t", b"b"))
    hostile(tree)
    ada.run("put", "-r", tree, ":/")
    ada.run("get", "-r", ":/t", back)
    check(tree, back, umask)
    sparse = os.stat(os.path.join(back, b"sparse"))
    assert sparse.st_blocks * 512 <= 4 * MIB
    # Again: all is known.
    again = ada.run("put", "-r", "--json", tree, ":/").objects()[-1]["sum"]
    assert (again["files"], again["directories"], again["links"]) == (0, 0, 0)
    ada.run("get", "-r", ":/t", back + b"/../b2")
    check(tree, back + b"/../b2", umask)


@pytest.mark.skipif(SANITIZED or not os.environ.get("KEEL_TEST_LONG"),
                    reason="ten GiB of zeros: with KEEL_TEST_LONG=1")
def test_ten_gib_of_zeros_come_back_as_they_were(tmp_path):
    with Server(tmp_path) as server:
        ada = server.member()
        (tmp_path / "t").mkdir()
        with open(tmp_path / "t/sparse", "wb") as f:
            f.truncate(10 << 30)
            f.seek((5 << 30) + 12345)
            f.write(b"middle")
        os.utime(tmp_path / "t/sparse", ns=(0, 1234567890123456789))
        ada.run("put", "-r", tmp_path / "t", ":/")
        ada.run("get", "-r", ":/t", tmp_path / "b")
        st = (tmp_path / "b/sparse").stat()
        assert st.st_blocks * 512 <= 4 * MIB
        assert st.st_mtime_ns == 1234567890123456789
        assert same_bytes(tmp_path / "t/sparse", tmp_path / "b/sparse")


def test_single_files_come_back_as_they_were(server, tmp_path, umask):
    ada = server.member()
    for size in (0, 10, 2 * MIB):
        for mode in (0o400, 0o640, 0o755, 0o666):
            path, back = tmp_path / "f", tmp_path / "back"
            write(path, b"s" * size, mode)
            os.utime(path, ns=(0, 1234567890123456789))
            ada.run("put", path, ":/f")
            ada.run("get", ":/f", back)
            st = back.stat()
            assert st.st_mode & 0o7777 == mode & ~umask
            assert st.st_mtime_ns == 1234567890123456789
            assert back.read_bytes() == path.read_bytes()
            path.unlink()
            back.unlink()


def test_a_mode_that_changed_goes_along(server, tmp_path):
    ada = server.member()
    before = os.umask(0o022)
    try:
        (tmp_path / "t/d").mkdir(parents=True)
        write(tmp_path / "t/d/f", b"x", 0o600)
        ada.run("put", "-r", tmp_path / "t", ":/")
        ada.run("get", "-r", ":/t", tmp_path / "b")
        times = [p.stat().st_mtime_ns for p in
                 (tmp_path / "t/d", tmp_path / "t/d/f")]
        os.chmod(tmp_path / "t/d", 0o700)
        os.chmod(tmp_path / "t/d/f", 0o755)
        assert times == [p.stat().st_mtime_ns for p in
                         (tmp_path / "t/d", tmp_path / "t/d/f")]
        ada.run("put", "-r", tmp_path / "t", ":/")
        ada.run("get", "-r", ":/t", tmp_path / "c")
        assert picture(os.fsencode(tmp_path) + b"/c") == \
            picture(os.fsencode(tmp_path) + b"/t")
    finally:
        os.umask(before)


def test_special_bits_do_not_travel_and_the_server_can_read(server, tmp_path):
    ada = server.member()
    before = os.umask(0)
    try:
        (tmp_path / "t/d").mkdir(parents=True)
        write(tmp_path / "t/f", b"x", 0o6755)
        os.chmod(tmp_path / "t/d", 0o3777)
        ada.run("put", "-r", tmp_path / "t", ":/")
        ada.run("get", "-r", ":/t", tmp_path / "b")
    finally:
        os.umask(before)
    assert (tmp_path / "b/f").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "b/d").stat().st_mode & 0o7777 == 0o777


def test_a_directory_is_made_under_the_umask(server, umask):
    ada = server.member()
    ada.run("mkdir", "-p", ":/a/b")
    for name in ("a", "a/b"):
        (entry,) = ada.run("stat", "--json", f":/{name}").objects()
        assert entry["mode"] == 0o777 & ~umask | 0o700


def test_nobody_else_gets_in(server, tmp_path):
    """Modes are those of the senders; the directory above them is shut."""
    ada = server.member()
    write(tmp_path / "f", b"x", 0o666)
    ada.run("put", tmp_path / "f", ":/f")
    assert server.data.stat().st_mode & 0o777 == 0o700
    assert (server.data / "spaces").stat().st_mode & 0o777 == 0o700
    for space in (server.data / "spaces").iterdir():
        assert space.stat().st_mode & 0o777 == 0o700
        assert (space / "f").stat().st_mode & 0o777 == 0o666
