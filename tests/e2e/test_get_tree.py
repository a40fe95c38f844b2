# SPDX-License-Identifier: MIT
"""Trees from the server: what was there is here, byte for byte, and what cannot
be is said."""
import os
import pathlib
import signal
import stat
import subprocess
import threading

import pytest

from ferry import SANITIZED, Server
from proxy import Proxy

MIB = 1 << 20
NAMES = [b"plain", b"with space", b"new\nline", b"esc\x1b[31mred\x1b[0m",
         b"-rf", b"--help", b"x" * 255, b"\xff\xfe\x80", b"back\\slash",
         b"quote'\"", b"*?[a]", b"tab\there", b"\xe2\x80\xaeright", b".hidden",
         b"~", b"$HOME", b"a:b", b"@team", "\u00fc\u4e2d\U0001f600".encode(),
         b" lead", b"trail ", b"...", b"\x01\x7f\xc2\x9b"]
SIZES = [0, 1, 4095, 4096, 4097, (1 << 18) - 1, 1 << 18, (1 << 18) + 1,
         MIB - 1, MIB, MIB + 1, 3 * MIB + 5]


@pytest.fixture
def ada(server):
    return server.member("ada")


@pytest.fixture
def space(server, ada, tmp_path):
    """The directory of her space: what is put there is a foreign file, which is
    listed and served."""
    (tmp_path / "seed").write_bytes(b"seed")
    ada.run("put", tmp_path / "seed", ":/.seed")
    return next((server.data / "spaces").iterdir())


def age(path, ns):
    os.utime(path, ns=(ns, ns), follow_symlinks=False)


def content(size, salt=0):
    """Never a block of zeros."""
    return (bytes((i + salt) % 251 + 1 for i in range(4096)) *
            (size // 4096 + 1))[:size]


def facts(path):
    """What must be the same on both sides."""
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    mode = None if kind == stat.S_IFLNK else st.st_mode & 0o7777
    return kind, mode, st.st_mtime_ns


def tree(root):
    """Every name beneath `root` with its facts and content, as bytes."""
    found = {}
    root = os.fsencode(root)
    for at, dirs, files in os.walk(root):
        for name in [*dirs, *files]:
            path = os.path.join(at, name)
            kind, mode, mtime = facts(path)
            what = b""
            if kind == stat.S_IFLNK:
                what = os.readlink(path)
            elif kind == stat.S_IFREG:
                with open(path, "rb") as f:
                    what = f.read()
            found[os.path.relpath(path, root)] = kind, mode, mtime, what
    return found


def parts(root):
    """Temporary names that were left."""
    return [n for _, dirs, files in os.walk(root) for n in [*dirs, *files]
            if n.startswith(".ferry-")]


def same(a, b):
    one, two = tree(a), tree(b)
    assert one.keys() == two.keys()
    for name in one:
        assert one[name] == two[name], name
    assert facts(a) == facts(b)


def hostile(root):
    """All that is legal."""
    root = os.fsencode(root)
    os.mkdir(root)
    os.mkdir(root + b"/names")
    for at, name in enumerate(NAMES):
        path = root + b"/names/" + name
        with open(path, "wb") as f:
            f.write(b"in " + name)
        age(path, 1_500_000_000_123_456_789 + at)
    os.mkdir(root + b"/dirs")
    for name in NAMES:
        os.mkdir(root + b"/dirs/" + name)
        with open(root + b"/dirs/" + name + b"/" + name, "wb") as f:
            f.write(name)
    os.mkdir(root + b"/sizes")
    for size in SIZES:
        with open(root + b"/sizes/%d" % size, "wb") as f:
            f.write(content(size, size))
    os.mkdir(root + b"/links")
    for name, text in [(b"dangling", b"no/such"), (b"absolute", b"/etc/passwd"),
                       (b"up", b"../../../.."), (b"dir", b"../names"),
                       (b"self", b"self"), (b"odd", b"\xff\n\x1b[31m"),
                       (b"long", b"y" * 4000)]:
        os.symlink(text, root + b"/links/" + name)
        age(root + b"/links/" + name, 1_400_000_000_000_000_001)
    os.mkdir(root + b"/modes")
    for mode in [0o600, 0o644, 0o755, 0o700, 0o444, 0o400, 0o640]:
        path = root + b"/modes/%o" % mode
        with open(path, "wb") as f:
            f.write(b"m")
        os.chmod(path, mode)
    os.makedirs(root + b"/empty/in/empty")
    deep = root + b"/deep" + b"/d" * 60
    os.makedirs(deep)
    with open(deep + b"/bottom", "wb") as f:
        f.write(b"bottom")
    os.chmod(root + b"/empty/in", 0o500)
    # Last, since all that was made in them moved them.
    for at, dirs, files in os.walk(root, topdown=False):
        age(at, 1_300_000_000_987_654_321 + len(at))
        for name in files:
            if not os.path.islink(os.path.join(at, name)) and at != root + b"/names":
                age(os.path.join(at, name), -5_000_000_001)


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def printable(*texts):
    for text in texts:
        for c in text:
            assert c == "\n" or c.isprintable(), (c, text)


# ---- round trips -------------------------------------------------------------------


def test_a_tree_of_all_that_is_legal_comes_as_it_is(ada, space, tmp_path, umask):
    hostile(space / "all")
    result = ada.run("get", "-r", "-v", ":/all", tmp_path / "out")
    printable(result.out, result.err)
    same(space / "all", tmp_path / "out")
    assert not parts(tmp_path)


def test_the_same_command_again_moves_nothing(ada, space, tmp_path, umask):
    hostile(space / "all")
    ada.run("get", "-r", ":/all", tmp_path / "out")
    (space / "all/modes/640").chmod(0o600)
    (space / "all/sizes/4096").write_bytes(content(4096, 7))
    inodes = {p: p.lstat().st_ino
              for at, _, files in os.walk(tmp_path / "out")
              for p in (pathlib.Path(at, f) for f in files)
              if stat.S_ISREG(p.lstat().st_mode)}
    # Onto the tree itself: its parent is the destination.
    (tmp_path / "out").rename(tmp_path / "all")
    result = ada.run("get", "-r", "--json", ":/all", tmp_path).objects()
    assert [o["local"] for o in result if "root" in o] == \
        [f"{tmp_path}/all/sizes/4096"]
    assert result[-1]["sum"]["files"] == 1
    assert result[-1]["sum"]["unchanged"] == len(inodes) - 1
    same(space / "all", tmp_path / "all")
    for p, inode in inodes.items():
        now = tmp_path / "all" / p.relative_to(tmp_path / "out")
        assert (now.lstat().st_ino == inode) == (p.name != "4096" or
                                                 p.parent.name != "sizes"), p


def test_json_tells_each_file_and_the_sum(ada, space, tmp_path):
    (space / "t/d").mkdir(parents=True)
    (space / "t/d/f").write_bytes(b"hello")
    (space / "t/l").symlink_to("d/f")
    said = ada.run("get", "-r", "--json", ":/t", tmp_path / "out").objects()
    by_name = {pathlib.Path(o["local"]).name: o for o in said[:-1]}
    assert by_name["d"]["do"] == "mkdir" and by_name["d"]["path"] == "/t/d"
    assert by_name["f"]["path"] == "/t/d/f"
    assert by_name["f"]["size"] == 5
    assert by_name["f"]["root"] == ada.run(
        "hash", "--json", ":/t/d/f").objects()[0]["root"]
    assert by_name["l"]["target"] == "d/f"
    assert said[-1]["sum"] == {
        "files": 1, "directories": 2, "links": 1, "failed": 0, "bytes": 5,
        "unchanged": 0, "dry_run": False}


@pytest.mark.parametrize("size", [
    64 * MIB, pytest.param(10 << 30, marks=pytest.mark.skipif(
        SANITIZED or not os.environ.get("KEEL_TEST_LONG"),
        reason="ten GiB of zeros: with KEEL_TEST_LONG=1"))])
def test_holes_come_back_as_holes(ada, space, tmp_path, size):
    (space / "t").mkdir()
    with open(space / "t/sparse", "wb") as f:
        f.write(b"head")
        f.seek(size // 2 + 12345)
        f.write(b"middle")
        f.truncate(size)
    with open(space / "t/zeros", "wb") as f:
        f.truncate(200_000)
    with open(space / "t/mixed", "wb") as f:
        f.seek(600_000)
        f.write(b"x")
        f.truncate(900_000)
    ada.run("get", "-r", ":/t", tmp_path / "out")
    ada.run("get", ":/t/sparse", tmp_path / "alone")
    for name, here in [("sparse", "out/sparse"), ("sparse", "alone"),
                       ("zeros", "out/zeros"), ("mixed", "out/mixed")]:
        st = (tmp_path / here).stat()
        assert st.st_size == (space / "t" / name).stat().st_size
        assert st.st_blocks * 512 <= 64 * 1024, here
        assert subprocess.run(["cmp", space / "t" / name, tmp_path / here]
                              ).returncode == 0


# ---- where it goes -------------------------------------------------------------------


@pytest.fixture
def small(space):
    (space / "x/sub").mkdir(parents=True)
    (space / "x/a").write_bytes(b"a")
    (space / "x/sub/b").write_bytes(b"b")
    (space / "f").write_bytes(b"f")
    return space


def names(root):
    return {str(p.relative_to(root)) for p in pathlib.Path(root).rglob("*")}


X = {"a", "sub", "sub/b"}


def test_a_tree_takes_a_new_name_or_goes_inside(ada, small, tmp_path):
    out = tmp_path / "out"
    ada.run("get", "-r", ":/x", out)
    assert names(out) == X
    ada.run("get", "-r", ":/x", out)
    assert names(out) == X | {"x"} | {f"x/{n}" for n in X}
    (tmp_path / "work").mkdir()
    ada.run("get", "-r", ":/x", cwd=tmp_path / "work")
    assert names(tmp_path / "work") == {"x"} | {f"x/{n}" for n in X}
    ada.run("get", "-r", ":/x", f"{tmp_path}/slash/")
    assert names(tmp_path / "slash") == X


def test_a_whole_space_comes_under_its_name(ada, small, tmp_path):
    ada.run("get", "-r", ":/", tmp_path / "new")
    assert names(tmp_path / "new") == {"x", "f", ".seed"} | {f"x/{n}" for n in X}
    (tmp_path / "dir").mkdir()
    ada.run("get", "-r", ":/", tmp_path / "dir")
    assert names(tmp_path / "dir/ada") == names(tmp_path / "new")


def test_several_go_into_a_directory(ada, small, tmp_path):
    result = ada.run("get", "-r", ":/x", ":/f", tmp_path / "no", status=1)
    assert "file.local" in result.err
    assert not (tmp_path / "no").exists()
    (tmp_path / "out").mkdir()
    ada.run("get", "-r", ":/x", ":/f", tmp_path / "out")
    assert names(tmp_path / "out") == {"f", "x"} | {f"x/{n}" for n in X}
    ada.run("get", ":/x/a", ":/f", tmp_path / "out")
    assert (tmp_path / "out/a").read_bytes() == b"a"


def test_a_directory_needs_r(ada, small, tmp_path):
    result = ada.run("get", ":/x", tmp_path / "out", status=1)
    assert "file.is_directory" in result.err
    result = ada.run("get", ":/x", ":/f", tmp_path, status=5)
    assert "is a directory" in result.err
    assert (tmp_path / "f").read_bytes() == b"f"
    assert not (tmp_path / "x").exists()


def test_what_is_not_there_is_said_and_the_rest_is_done(ada, small, tmp_path):
    result = ada.run("get", "-r", ":/no", ":/x", ":/f", tmp_path, status=5)
    assert "There is no" in result.err
    assert (tmp_path / "x/a").exists() and (tmp_path / "f").exists()
    ada.run("get", "-r", ":/no", tmp_path, status=1)


def test_a_dry_run_does_nothing(ada, small, tmp_path):
    before = names(tmp_path)
    said = ada.run("get", "-r", "--dry-run", ":/x", tmp_path / "out").out
    assert f"{tmp_path}/out/sub/b" in said
    ada.run("get", "--dry-run", ":/f", tmp_path / "g")
    assert names(tmp_path) == before
    ada.run("get", "-r", ":/x", tmp_path / "out")
    said = ada.run("get", "-r", "--dry-run", "--json", ":/x",
                   tmp_path / "out").objects()
    assert said[-1]["sum"]["dry_run"]


def test_filters_choose(ada, small, tmp_path):
    ada.run("get", "-r", "--exclude", "sub/", ":/x", tmp_path / "one")
    assert names(tmp_path / "one") == {"a"}
    ada.run("get", "-r", "--include", "b", "--include", "sub/", "--exclude",
            "*", ":/x", tmp_path / "two")
    assert names(tmp_path / "two") == {"sub", "sub/b"}


def test_no_replace_keeps_what_is_there(ada, small, tmp_path):
    out = tmp_path / "out"
    ada.run("get", "-r", ":/x", out)
    (out / "a").write_bytes(b"mine")
    result = ada.run("get", "-r", "--no-replace", ":/x", ":/f", tmp_path,
                     status=0)
    out.rename(tmp_path / "y")
    (tmp_path / "x/a").write_bytes(b"mine")
    result = ada.run("get", "-r", "--no-replace", ":/x", tmp_path, status=5)
    assert "exists already" in result.err
    assert (tmp_path / "x/a").read_bytes() == b"mine"


def test_if_match_is_for_one_version(ada, small, tmp_path):
    root = ada.run("hash", ":/f").out.split()[0]
    ada.run("put", tmp_path / "seed", ":/other")
    mine = ada.run("hash", ":/other").out.split()[0]
    ada.run("get", "--if-match", mine, ":/other", tmp_path / "o")
    assert (tmp_path / "o").read_bytes() == b"seed"
    result = ada.run("get", "--if-match", root, ":/other", tmp_path / "p",
                     status=1)
    assert "file.match" in result.err
    ada.run("get", "--if-match", "x", ":/f", tmp_path / "p", status=2)
    ada.run("get", "--if-match", root, ":/f", ":/other", tmp_path, status=2)
    assert not (tmp_path / "p").exists()


# ---- in the way -----------------------------------------------------------------------


def test_what_is_in_the_way_is_said_and_the_rest_is_done(ada, small, tmp_path):
    out = tmp_path / "out/x"
    (out / "a").mkdir(parents=True)  # there a file
    (out / "sub").write_bytes(b"file")  # there a directory
    (small / "x/c").write_bytes(b"c")
    result = ada.run("get", "-r", ":/x", tmp_path / "out", status=5)
    assert "out/x/a is a directory" in result.err
    assert "out/x/sub is not a directory" in result.err
    assert (out / "c").read_bytes() == b"c"
    assert (out / "sub").read_bytes() == b"file"


def test_a_link_is_never_followed(ada, small, tmp_path):
    out, trap = tmp_path / "out/x", tmp_path / "trap"
    out.mkdir(parents=True)
    trap.mkdir()
    (trap / "mine").write_bytes(b"mine")
    (out / "sub").symlink_to(trap)  # there a directory
    (out / "a").symlink_to(trap / "mine")  # there a file
    result = ada.run("get", "-r", ":/x", tmp_path / "out", status=5)
    assert "symbolic link" in result.err
    assert names(trap) == {"mine"}
    assert (trap / "mine").read_bytes() == b"mine"
    assert (out / "a").read_bytes() == b"a" and not (out / "a").is_symlink()


def test_links_replace_files_and_links_but_no_directory(ada, space, tmp_path):
    (space / "t").mkdir()
    for name in "fld":
        (space / "t" / name).symlink_to("new")
    out = tmp_path / "t"
    (out / "d").mkdir(parents=True)
    (out / "f").write_bytes(b"file")
    (out / "l").symlink_to("old")
    result = ada.run("get", "-r", ":/t", tmp_path, status=5)
    assert "t/d is a directory" in result.err
    assert os.readlink(out / "f") == os.readlink(out / "l") == "new"


def test_a_destination_that_is_a_file_is_refused(ada, small, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    result = ada.run("get", "-r", ":/x", tmp_path / "file", status=1)
    assert "file.not_directory" in result.err
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_directory_that_may_not_be_written_is_one_of_many(
        ada, small, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    out = tmp_path / "out/x"
    (out / "sub").mkdir(parents=True)
    (out / "sub").chmod(0o555)  # ours: it is opened for the work
    ada.run("get", "-r", ":/x", tmp_path / "out")
    assert (out / "sub/b").exists()
    (tmp_path / "out").chmod(0o555)
    result = ada.run("get", "-r", ":/x", tmp_path / "out/y", status=1)
    assert "Permission denied" in result.err


# ---- what fails ---------------------------------------------------------------------------


def test_one_file_of_many_that_cannot_be_read(ada, space, tmp_path):
    (space / "t/d").mkdir(parents=True)
    for i in range(300):
        (space / f"t/d/{i:03}").write_bytes(b"%d" % i)
    os.mkfifo(space / "t/fifo")
    result = ada.run("get", "-r", ":/t", tmp_path / "out", status=5)
    assert "out/fifo is not a regular file" in result.err
    assert "1 failed" in result.out
    assert len(names(tmp_path / "out")) == 301
    said = ada.run("get", "-r", "--json", ":/t", tmp_path / "two",
                   status=5).objects()
    failed = [o for o in said if "problem" in o]
    assert len(failed) == 1 and failed[0]["local"].endswith("two/fifo")
    assert failed[0]["problem"]["code"] == "file.not_regular"
    assert said[-1]["sum"]["failed"] == 1
    assert said[-1]["sum"]["files"] == 300


@pytest.fixture
def little(tmp_path):
    """A file system of 4 MiB."""
    here = tmp_path / "little"
    here.mkdir()
    if os.geteuid() or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", here],
            stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no right to mount")
    yield here
    subprocess.run(["umount", here], check=True)


@pytest.mark.parametrize("many", [True, False])
def test_a_disk_without_room_is_said_with_numbers(ada, space, tmp_path, little,
                                                  many):
    """In one directory it is seen before anything moves; in many, when it is
    full."""
    for i in range(60):
        at = space / "t" / (f"d{i:02}" if many else "d")
        at.mkdir(parents=True, exist_ok=True)
        (at / f"{i}").write_bytes(content(100_000))
    result = ada.run("get", "-r", ":/t", little / "out",
                     status=5 if many else 1)
    assert "The disk has" in result.err and "this needs" in result.err
    assert not parts(little)
    done = [p for p in little.glob("**/*") if p.is_file()]
    assert bool(done) == many
    assert all(p.read_bytes() == content(100_000) for p in done)


def test_a_large_file_without_room_does_not_stop_the_small_ones(
        ada, space, tmp_path, little):
    (space / "t").mkdir()
    (space / "t/large").write_bytes(content(6 * MIB))
    (space / "t/small").write_bytes(b"small")
    result = ada.run("get", "-r", ":/t", little / "out", status=5)
    assert "6 MiB" in result.err
    assert names(little / "out") == {"small"}


# ---- interruptions ---------------------------------------------------------------------------


def test_a_kill_in_the_middle_leaves_whole_files_only(ada, space, tmp_path):
    for i in range(40):
        (space / f"t/d{i}").mkdir(parents=True)
        for k in range(50):
            (space / f"t/d{i}/f{k}").write_bytes(content(9000, i + k))
    (space / "t/large").write_bytes(content(40 * MIB))
    for n in range(4):
        process = ada.start("get", "-r", "--json", ":/t", tmp_path / "out")
        for _ in range(n * 150):  # so many files are there
            process.stdout.readline()
        process.kill()
        process.communicate()
        for p in (tmp_path / "out").rglob("f*"):
            if p.is_file():
                assert p.read_bytes() == content(
                    9000, int(p.parent.name[1:]) + int(p.name[1:])), p
        if (tmp_path / "out").exists():
            (tmp_path / "out").rename(tmp_path / "t")
            ada.run("get", "-r", ":/t", tmp_path)
            same(space / "t", tmp_path / "t")
            (tmp_path / "t").rename(tmp_path / f"done{n}")
    assert not parts(tmp_path)


def relay(server):
    return Proxy(server.address)


def test_several_connections_and_a_lost_one(server, ada, space, tmp_path):
    for i in range(400):
        (space / f"t/d{i % 7}").mkdir(parents=True, exist_ok=True)
        (space / f"t/d{i % 7}/f{i}").write_bytes(content(20_000, i))
    ada.run("get", "-r", "-j", "4", ":/t", tmp_path / "out")
    same(space / "t", tmp_path / "out")


def test_a_file_that_changes_meanwhile_is_whole(ada, space, tmp_path):
    """Whatever version comes, it is one."""
    (space / "t").mkdir()
    for i in range(50):
        (space / f"t/f{i}").write_bytes(b"a" * 1000)
    stop = threading.Event()

    def change():
        n = 0
        while not stop.is_set():
            n += 1
            size = 1000 + n * 37 % 5000
            new = space / ".new"
            new.write_bytes(b"%c" % (97 + n % 26) * size)
            new.replace(space / f"t/f{n % 50}")

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for n in range(5):
            result = ada.run("get", "-r", ":/t", tmp_path / f"out{n}",
                             status=None)
            assert result.status in (0, 5), result
            for p in (tmp_path / f"out{n}").iterdir():
                data = p.read_bytes()
                assert len(set(data)) == 1, p
    finally:
        stop.set()
        changer.join()
