# SPDX-License-Identifier: MIT
"""trees.py BUILD: a tree of small files up and down, by ferry and its peers.

Client and server share this machine's processors, over loopback, with one
congestion control for all.  First from tmpfs to tmpfs, then onto a disk; the
peers do not sync, ferry does ("committed").  At the end, on tmpfs, what ferry
alone is asked: the listing of a directory of many names, and how much memory
either side takes for it and for a large tree.
"""

import argparse
import contextlib
import filecmp
import os
import pathlib
import shlex
import shutil
import sys
import tempfile
import time

import peers
from figures import Figures, conditions
from measure import (Peak, congestion_control, end_with_servers, finish,
                     forget_peak, most_memory, run, start, touch_memory)

MIB = 1 << 20
FILE_BYTES = 4096


def make_tree(root, files, directories, size):
    """Directories d0.., each with as many files of bytes nobody can shorten."""
    each = files // directories
    for d in range(directories):
        (root / f"d{d:03}").mkdir(parents=True)
        data = os.urandom(size * each)
        for f in range(each):
            with open(root / f"d{d:03}" / f"f{f:05}", "wb") as out:
                out.write(data[f * size:(f + 1) * size])
    return each * directories


def same_tree(one, other):
    """The first difference, or None."""
    names = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    found = sorted(p.relative_to(other) for p in other.rglob("*")
                   if p.is_file())
    if names != found:
        return f"{len(names)} files became {len(found)}"
    for name in names:
        if not filecmp.cmp(one / name, other / name, shallow=False):
            return str(name)
    return None


# ---- how each moves a tree: put(tree, name), get(name, into) are commands ---------


class Ferry(peers.Ferry):
    def put(self, tree, name):
        return self.command + ["put", "-q", "-r", str(tree), f":/{name}"]

    def get(self, name, into):
        return self.command + ["get", "-q", "-r", f":/{name}", str(into)]


class Ssh:
    """One sshd for all that go through it."""

    def __init__(self, name, server):
        self.name, self.server = name, server
        self.files = server.files / name
        self.files.mkdir()
        c = server.command  # scp's own: its options are ssh's, but for -P
        self.ssh = [peers.program("ssh"), *c[1:4], "-p", *c[5:]]
        self.user = server.host.rstrip(":")

    def path(self, name):
        return self.files / name

    def cpu(self):
        return self.server.cpu()

    def stop(self):
        pass


class Rsync(Ssh):
    def rsync(self, source, target):
        return [peers.program("rsync"), "-a", "-e", shlex.join(self.ssh),
                f"{source}/", f"{target}/"]

    def put(self, tree, name):
        return self.rsync(tree, f"{self.user}:{self.path(name)}")

    def get(self, name, into):
        return self.rsync(f"{self.user}:{self.path(name)}", into)


class Tar(Ssh):
    @staticmethod
    def piped(one, other):
        return ["bash", "-o", "pipefail", "-c", f"{one} | {other}"]

    def put(self, tree, name):
        to = shlex.quote(str(self.path(name)))
        far = shlex.quote(f"mkdir {to} && tar -C {to} -xf -")
        return self.piped(f"tar -C {shlex.quote(str(tree))} -cf - .",
                          f"{shlex.join(self.ssh)} {self.user} {far}")

    def get(self, name, into):
        at, to = (shlex.quote(str(p)) for p in (self.path(name), into))
        far = shlex.quote(f"tar -C {at} -cf - .")
        return self.piped(f"{shlex.join(self.ssh)} {self.user} {far}",
                          f"(mkdir {to} && tar -C {to} -xf -)")


class Scp(Ssh):
    def put(self, tree, name):
        return self.server.command + ["-r", str(tree),
                                      f"{self.user}:{self.path(name)}"]

    def get(self, name, into):
        return self.server.command + ["-r", f"{self.user}:{self.path(name)}",
                                      str(into)]


class Curl(peers.Nginx):
    """Sixteen at a time.  It is told each name, which it reads from a file."""

    name = "curl"

    def __init__(self, tmp, files):
        super().__init__(tmp, files)
        self.list = tmp / "list"

    def many(self, lines):
        self.list.write_text("\n".join(lines) + "\n")
        return self.curl + ["--parallel", "--parallel-max", "16",
                            "-K", str(self.list)]

    def put(self, tree, name):
        names = [p.relative_to(tree) for p in sorted(tree.rglob("*"))
                 if p.is_file()]
        return self.many(f'upload-file = "{tree}/{n}"\n'
                         f'url = "{self.url}{name}/{n}"' for n in names)

    def get(self, name, into):
        at = self.path(name)
        names = [p.relative_to(at) for p in sorted(at.rglob("*"))
                 if p.is_file()]
        return self.many(["create-dirs"] + [
            f'url = "{self.url}{name}/{n}"\noutput = "{into}/{n}"'
            for n in names])


# ---- rounds -------------------------------------------------------------------------


class Trees:
    """All on one medium."""

    def __init__(self, medium, base, stack, tree, count):
        self.medium, self.tree, self.count = medium, tree, count
        # Nothing is deleted before the end: ext4 steps over inodes that were
        # deleted in the last half minute.
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="ferry-bench.",
                                                 dir=base))
        stack.callback(shutil.rmtree, self.tmp, ignore_errors=True)
        sshd = peers.Scp(*self.room("sshd"))
        stack.callback(sshd.stop)
        self.peers = [kind(*self.room(kind.name)) for kind in (Ferry, Curl)]
        for peer in self.peers:
            stack.callback(peer.stop)
        self.ferry = self.peers[0]
        self.peers += [Rsync("rsync", sshd), Tar("tar", sshd),
                       Scp("scp", sshd)]

    def room(self, name):
        own = self.tmp / name
        (own / "files").mkdir(parents=True)
        return own, own / "files"

    def one(self, peer, direction, n):
        into = self.tmp / f"{peer.name}-down{n}"
        command = peer.put(self.tree, f"tree{n}") if direction == "up" \
            else peer.get(f"tree{n}", into)
        touch_memory(4 * self.count * FILE_BYTES)
        if self.medium != "tmpfs":
            os.sync()  # nobody pays for what another left to be written
        figures = run(peer, command)
        if n == 0:
            there = peer.path(f"tree{n}") if direction == "up" else into
            wrong = same_tree(self.tree, there)
            if wrong:
                raise SystemExit(f"bench: {peer.name} {direction}: {wrong}")
        return figures

    def round(self, n, figures):
        for direction in ("up", "down"):
            rates = {}
            turn = n % len(self.peers)
            for peer in self.peers[turn:] + self.peers[:turn]:
                took, client, server = self.one(peer, direction, n)
                rates[peer.name] = self.count / took
                name = f"trees_{self.medium}_{direction}_{peer.name}"
                figures.add(name, rates[peer.name], "files/s")
                figures.add(name + "_cpu", client + server, "s",
                            "server alone", server)
            self.ratios(direction, rates, figures)

    def ratios(self, direction, rates, figures):
        floors = {"rsync": 1.0 if self.medium == "tmpfs" else 0.5}
        for peer, rate in rates.items():
            if peer == "ferry":
                continue
            reach = (">=", floors[peer]) if peer in floors else None
            figures.add(f"trees_{self.medium}_{direction}_of_{peer}",
                        rates["ferry"] / rate, "ratio", f"{peer}, files/s",
                        rate, reach)


# ---- what ferry alone is asked ---------------------------------------------------------


def listing(ferry, names, rounds, figures):
    """`ls` of one directory, as a pipe gets it."""
    command = ferry.command + ["ls", ":/many/d000"]
    for _ in range(rounds):
        forget_peak(ferry.pid)
        begun = time.monotonic()
        process = start(ferry, command)
        peak = Peak(process.pid)
        process.stdout.readline()
        first = time.monotonic() - begun
        lines = 1 + len(finish(process, command)[0].splitlines())
        took = time.monotonic() - begun
        if lines < names:
            raise SystemExit(f"bench: ls: {lines} lines of {names}")
        figures.add("ls_first_line_ms", first * 1e3, "ms", reach=("<=", 50))
        figures.add("ls_whole_ms", took * 1e3, "ms")
        figures.add("ls_client_peak_mib", peak.stop() / MIB, "MiB",
                    reach=("<=", 64))
        figures.add("ls_ferryd_peak_mib",
                    most_memory(f"/proc/{ferry.pid}/status") / MIB, "MiB",
                    reach=("<=", 64))


def large_tree(ferry, base, files, figures):
    """Memory of both sides while a large tree goes up and down."""
    source = base / "large"
    count = make_tree(source, files, max(1, files // 1000), 100)
    for direction, command in (
            ("up", ferry.put(source, "large")),
            ("down", ferry.get("large", base / "large-down"))):
        forget_peak(ferry.pid)
        begun = time.monotonic()
        process = start(ferry, command)
        peak = Peak(process.pid)
        finish(process, command)
        figures.add(f"large_tree_{direction}",
                    count / (time.monotonic() - begun), "files/s")
        figures.add(f"large_tree_{direction}_client_peak_mib",
                    peak.stop() / MIB, "MiB", reach=("<=", 64))
        figures.add(f"large_tree_{direction}_ferryd_peak_mib",
                    most_memory(f"/proc/{ferry.pid}/status") / MIB, "MiB",
                    reach=("<=", 64))


def alone(o, figures):
    with contextlib.ExitStack() as stack:
        tmp = pathlib.Path(tempfile.mkdtemp(prefix="ferry-bench.",
                                            dir=o.tmpfs))
        stack.callback(shutil.rmtree, tmp, ignore_errors=True)
        (tmp / "ferry" / "files").mkdir(parents=True)
        ferry = Ferry(tmp / "ferry", tmp / "ferry" / "files")
        stack.callback(ferry.stop)
        if o.names:
            print(f"ls of {o.names} names", file=sys.stderr)
            make_tree(tmp / "many", o.names, 1, 0)
            run(ferry, ferry.put(tmp / "many", "many"))
            listing(ferry, o.names, o.rounds, figures)
        if o.large:
            print(f"a tree of {o.large} files", file=sys.stderr)
            large_tree(ferry, tmp, o.large, figures)


def options():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("build")
    p.add_argument("--files", type=int, default=10_000)
    p.add_argument("--directories", type=int, default=100)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--disk-rounds", type=int, default=3)
    p.add_argument("--names", type=int, default=100_000,
                   help="in one directory; 0: no listing")
    p.add_argument("--large", type=int, default=200_000,
                   help="files of the large tree; 0: none")
    p.add_argument("--tmpfs", default="/dev/shm")
    p.add_argument("--disk", default="/var/tmp", help="'' for none")
    return p.parse_args()


def enough_room(o):
    tree, all_ = o.files * 8192, 10  # five up, five down
    for place, rounds, more in ((o.tmpfs, o.rounds, o.large * 3 * 8192),
                                (o.disk, o.disk_rounds, 0)):
        if not place or rounds == 0:
            continue
        needed = (tree * (all_ * rounds + 1) + more) // MIB + 256
        free = shutil.disk_usage(place).free // MIB
        if free < needed:
            raise SystemExit(f"bench: {place} has {free} MiB free; {needed} "
                             "are needed (--files N, --large N)")


def measure(o, figures):
    with contextlib.ExitStack() as stack:
        source = pathlib.Path(tempfile.mkdtemp(prefix="ferry-bench.",
                                               dir=o.tmpfs))
        stack.callback(shutil.rmtree, source, ignore_errors=True)
        count = make_tree(source / "tree", o.files, o.directories, FILE_BYTES)
        said = conditions(tree=f"{count} files of {FILE_BYTES} bytes in "
                               f"{o.directories} directories")
        said["control"] = stack.enter_context(congestion_control("cubic"))
        for medium, base, rounds in (("tmpfs", o.tmpfs, o.rounds),
                                     ("disk", o.disk, o.disk_rounds)):
            if not base or rounds == 0:
                continue
            with contextlib.ExitStack() as inner:
                t = Trees(medium, base, inner, source / "tree", count)
                for n in range(rounds):
                    print(f"{medium}: round {n + 1} of {rounds}",
                          file=sys.stderr)
                    t.round(n, figures)
            said[medium] = f"{base}, {rounds} rounds"
        alone(o, figures)
    return said


def main():
    end_with_servers()
    o = options()
    enough_room(o)
    figures = Figures()
    said = measure(o, figures)
    figures.publish(said, f"{o.build}/bench-trees.jsonl")


main()
