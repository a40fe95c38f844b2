# SPDX-License-Identifier: MIT
"""ferryd is killed at the entry of one system call of a put, and started again.

strace is attached when the server is at rest and counts from there; the put's
every Nth call of a kind is the last thing the server does.  The quick run
takes a growing choice of N, KEEL_TEST_LONG every one until the put runs clean.
Restarts are killed in the same way.  Many small files at once are published as
a group, made durable by syncfs before the ledger's commit and once more after
the names changed: killed there too.  strace does not see io_uring: epoll only.
"""
import os
import random
import shutil
import signal
import subprocess

import pytest

from ferry import PATIENCE, SANITIZED, Server

LONG = bool(os.environ.get("KEEL_TEST_LONG"))
MIB = 1 << 20
OLD = b"the old words\n" * 100
SMALL = b"the new words\n" * 200
LARGE = random.Random(11).randbytes(2 * MIB + 4321)
# One thread for what blocks, so that the Nth call of a thread is the put's.
ENV = {"KEEL_POLLER": "epoll", "KEEL_BLOCKING_THREADS": "1"}
MORE_THAN_ANY = 400
# A server that starts again listens where it did, or the put would be another.
# Nobody else takes a port of this address meanwhile.
HOST = f"127.{1 + os.getpid() % 250}.{os.getpid() // 250 % 250}.1"

# What each put does, so that no run is spent on a call that never comes.
UNNAMED = ["openat2", "pwrite64", "fdatasync", "fsync", "linkat"]
LINKED = UNNAMED + ["renameat,renameat2"]
NAMED = ["openat2", "pwrite64", "fdatasync", "fsync", "fallocate", "unlinkat",
         "renameat,renameat2"]
PUTS = {
    "small": (None, SMALL, UNNAMED),
    "small over a file": (OLD, SMALL, LINKED),
    "large": (None, LARGE, NAMED),
    "large over a file": (OLD, LARGE, NAMED),
}
RUNS = [(put, call) for put, (_, _, calls) in PUTS.items() for call in calls]
START = ["openat2", "pwrite64", "fdatasync", "fsync", "linkat", "unlinkat",
         "renameat,renameat2"]


def permitted():
    """Why there can be no kill, or None."""
    if SANITIZED:
        return "a sanitizer's threads and times are others"
    if not shutil.which("strace"):
        return "strace is missing"
    tried = subprocess.run(
        ["strace", "-qq", "-f", "-o", "/dev/null", "-e", "trace=exit_group",
         "-e", "inject=exit_group:signal=KILL:when=1", "true"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if tried.returncode != -signal.SIGKILL:
        return f"tracing is not permitted here: {tried.stderr.decode()[:200]}"
    return None


WHY = permitted()
pytestmark = pytest.mark.skipif(WHY is not None, reason=str(WHY))


def choice():
    nth = 1
    while nth < MORE_THAN_ANY:
        yield nth
        nth += 1 if LONG else max(1, nth)


def injection(call, nth):
    return ["-e", f"trace={call}", "-e",
            f"inject={call}:signal=KILL:when={nth}"]


class Tracer:
    """Attached to every thread of a server at rest."""

    def __init__(self, server, call, nth, log="/dev/null"):
        self.process = subprocess.Popen(
            ["strace", "-f", "-o", str(log), *injection(call, nth),
             "-p", str(server.process.pid)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        assert "attached" in line, line

    def detach(self):
        # What it traces goes on.  SIGTERM would let strace detach by itself,
        # which can take for ever when the traced are just being killed.
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)


class World:
    """A server's directory and a member's home, as they were at first."""

    def __init__(self, tmp, old, new):
        self.tmp, self.old, self.new = tmp, old, new
        self.source, self.back = tmp / "source", tmp / "back"
        with Server(tmp, "--listen", f"{HOST}:0", data=tmp / "first",
                    env=ENV) as server:
            self.ada, self.address = server.member(), server.address
            if old is not None:
                self.source.write_bytes(old)
                self.ada.run("put", self.source, ":/name")
        self.source.write_bytes(new)

    def again(self):
        shutil.rmtree(self.tmp / "data", ignore_errors=True)
        shutil.copytree(self.tmp / "first", self.tmp / "data", symlinks=True)
        # What the last put's client knew of a resume.
        shutil.rmtree(self.ada.home / "journals", ignore_errors=True)

    def server(self, **options):
        return Server(self.tmp, "--listen", self.address, env=ENV, **options)

    def put(self, status=None):
        """True: acknowledged."""
        put = self.ada.run("put", self.source, ":/name", status=status)
        return put.status == 0

    def content(self):
        names = self.ada.names()
        assert names in ([], ["name"]), names
        if not names:
            return None
        self.back.unlink(missing_ok=True)
        self.ada.run("get", ":/name", self.back)
        return self.back.read_bytes()

    def check(self, acknowledged):
        """Old or new, whole; the quota is the sum; the put succeeds."""
        found = self.content()
        assert found in ((self.new,) if acknowledged else (self.old, self.new))
        self.check_quota(found)
        assert self.put(0)
        assert self.content() == self.new
        self.check_quota(self.new)
        drafts = self.tmp / "data" / "drafts"
        assert [p for p in drafts.rglob("*") if p.is_file()] == []

    def check_quota(self, content):
        me = self.ada.run("whoami", "--json").objects()[0]
        whole = (0, 0) if content is None else (1, len(content))
        assert (me["used_files"], me["used_bytes"]) == whole


@pytest.mark.parametrize("put,call", RUNS)
def test_a_put_killed_at_a_call_leaves_old_or_new(tmp_path, put, call):
    old, new, _ = PUTS[put]
    world = World(tmp_path, old, new)
    for nth in choice():
        world.again()
        server = world.server().start()
        tracer = Tracer(server, call, nth)
        acknowledged = world.put()
        tracer.detach()
        status = server.stop()
        assert status in (0, -signal.SIGKILL), server.log()
        with world.server():
            world.check(acknowledged)
        if status == 0:
            assert acknowledged and nth > 1, "the call never came"
            return
    raise AssertionError("never ran clean")


@pytest.mark.parametrize("put", ["small over a file", "large"])
@pytest.mark.parametrize("call", START)
def test_a_start_killed_at_a_call_can_be_repeated(tmp_path, put, call):
    """Killed before the name changed; killed again while that is recovered."""
    old, new, _ = PUTS[put]
    world = World(tmp_path, old, new)
    for nth in choice():
        world.again()
        server = world.server().start()
        tracer = Tracer(server, "renameat,renameat2", 1)
        assert not world.put()
        tracer.detach()
        assert server.stop() == -signal.SIGKILL
        # -D: the server stays our child, and strace ends with it.
        second = world.server(wrap=["strace", "-D", "-f", "-qq", "-o",
                                    "/dev/null", *injection(call, nth)])
        try:
            status = second.start().stop()
        except RuntimeError:
            status = second.process.returncode
        assert status in (0, -signal.SIGKILL), second.log()
        with world.server():
            world.check(False)
        if status == 0:
            return
    raise AssertionError("never ran clean")


# ---- a group of small files --------------------------------------------------------


class Many(World):
    """A tree of small files; every second one is there with old words."""

    def __init__(self, tmp, count):
        super().__init__(tmp, None, b"")
        self.source, self.files = tmp / "t", count
        for name in self.all():
            if self.was(name) is not None:
                self.write(name, self.was(name))
        # Not a copy, whose files would be others to `ferryd check`.
        (tmp / "first").rename(tmp / "data")
        with self.server():
            self.ada.run("put", "-r", self.source, ":/")
        for name in self.all():
            self.write(name, self.new_of(name))

    def all(self):
        return [f"d{i % 4}/{i}" for i in range(self.files)]

    def write(self, name, content):
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    @staticmethod
    def was(name):
        return f"old {name}".encode() if int(name[3:]) % 2 else None

    @staticmethod
    def new_of(name):
        return f"new {name} ".encode() * 50

    def put(self, status=None):
        """The names that were acknowledged."""
        put = self.ada.run("put", "-r", "--json", self.source, ":/",
                           status=status)
        return {o["path"].removeprefix("/t/") for o in put.objects()
                if o.get("level") == "committed"}

    def content(self):
        shutil.rmtree(self.back, ignore_errors=True)
        self.ada.run("get", "-r", ":/t", self.back)
        return {str(p.relative_to(self.back)): p.read_bytes()
                for p in self.back.rglob("*") if p.is_file()}

    def check_whole(self, server, found):
        me = self.ada.run("whoami", "--json").objects()[0]
        directories = [p for p in self.back.rglob("*") if p.is_dir()]
        assert (me["used_files"], me["used_bytes"]) == \
            (len(found) + len(directories) + 1, sum(map(len, found.values())))
        drafts = server.data / "drafts"
        assert [p for p in drafts.rglob("*") if p.is_file()] == []
        server.admin("check")

    def check(self, acknowledged, server):
        found = self.content()
        assert found.keys() <= set(self.all())
        for name in self.all():
            may = [self.new_of(name)]
            if name not in acknowledged:
                may.append(self.was(name))
            assert found.get(name) in may, name
        self.check_whole(server, found)
        self.put(0)
        found = self.content()
        assert found == {name: self.new_of(name) for name in self.all()}
        self.check_whole(server, found)


def killed_at(log, nth):
    """Whether a thread's nth syncfs was the last thing the server did."""
    lines = log.read_text().splitlines()
    calls = [line.split()[0] for line in lines if " syncfs(" in line]
    ends = [line for line in lines if " syncfs(" in line
            and not line.endswith("= 0")]
    if not any("killed by SIGKILL" in line for line in lines):
        return False
    assert ends and nth in [calls.count(line.split()[0]) for line in ends], \
        lines
    return True


# A group's first syncfs is of the data, its second of the names.
@pytest.mark.parametrize("nth", [1, 2] + ([3, 4, 5, 6] if LONG else []))
def test_a_group_killed_at_syncfs_leaves_each_old_or_new(tmp_path, nth):
    count = 64
    # A disk that others keep busy splits the groups, or has no syncfs for a
    # while: then more files.
    while count <= 2048:
        place = tmp_path / f"{count}"
        place.mkdir()
        world = Many(place, count)
        server = world.server().start()
        tracer = Tracer(server, "syncfs", nth, place / "calls")
        acknowledged = world.put()
        if len(acknowledged) < count:
            # strace ends after what it traces, its log written.
            tracer.process.wait(PATIENCE)
        tracer.detach()
        status = server.stop()
        died = killed_at(place / "calls", nth)
        assert status == (-signal.SIGKILL if died else 0), server.log()
        with world.server() as server:
            world.check(acknowledged, server)
        if died:
            assert len(acknowledged) < count
            return
        assert len(acknowledged) == count
        count *= 2
    raise AssertionError("syncfs never came")
