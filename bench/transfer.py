# SPDX-License-Identifier: MIT
"""transfer.py BUILD: one large file up and down, by ferry and by its peers.

Client and server share this machine's processors, over loopback, with one
congestion control for all.  First from tmpfs to tmpfs, then onto a disk.
"""

import argparse
import contextlib
import filecmp
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import peers
from figures import Figures, conditions
from measure import congestion_control, end_with_servers, run, touch_memory

MIB = 1 << 20


def make_payload(path, size):
    """Bytes that no compression can shorten."""
    command = ["openssl", "enc", "-aes-128-ctr", "-nosalt", "-pass",
               "pass:bench", "-in", "/dev/zero"]
    with subprocess.Popen(command, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as p:
        with open(path, "wb") as f:
            left = size
            while left > 0:
                left -= f.write(p.stdout.read(min(left, MIB)))
        p.kill()


class Transfers:
    """All peers on one medium."""

    def __init__(self, medium, base, stack, payload):
        self.medium, self.payload = medium, payload
        self.size = payload.stat().st_size
        self.down = None
        tmp = pathlib.Path(tempfile.mkdtemp(prefix="ferry-bench.", dir=base))
        stack.callback(shutil.rmtree, tmp, ignore_errors=True)
        self.down = tmp / "down"
        self.peers = []
        for kind in (peers.Ferry, peers.Scp, peers.Nginx):
            own = tmp / kind.name
            files = own / "files"
            files.mkdir(parents=True)
            peer = kind(own, files)
            stack.callback(peer.stop)
            self.peers.append(peer)

    def one(self, peer, direction, n):
        name = f"{n}.bin"
        touch_memory(self.size + self.size // 4)
        if direction == "up":
            figures = run(peer, peer.put(self.payload, name))
            there = peer.path(name)
        else:
            figures = run(peer, peer.get(name, self.down))
            there = self.down
        if n == 0 and not filecmp.cmp(self.payload, there, shallow=False):
            raise SystemExit(f"bench: {peer.name} {direction}: the file that "
                             "arrived is another")
        return figures

    def round(self, n, figures):
        for direction in ("up", "down"):
            rates = {}
            turn = self.peers[n % 3:] + self.peers[:n % 3]
            for peer in turn:
                took, client, server = self.one(peer, direction, n)
                rates[peer.name] = self.size / 1e6 / took
                name = f"{self.medium}_{direction}_{peer.name}"
                figures.add(name, rates[peer.name], "MB/s")
                figures.add(name + "_cpu", client + server, "s",
                            "server alone", server)
                if direction == "down":
                    self.clear(peer, n)
            self.ratios(direction, rates, figures)

    def ratios(self, direction, rates, figures):
        for peer, floor in (("scp", 1.0), ("nginx", 1.15)):
            figures.add(f"{self.medium}_{direction}_of_{peer}",
                        rates["ferry"] / rates[peer], "ratio",
                        f"{peer}, MB/s", rates[peer], (">=", floor))

    def clear(self, peer, n):
        """Nobody replaces a file, which would be more work."""
        self.down.unlink()
        peer.path(f"{n}.bin").unlink()
        if self.medium != "tmpfs":
            os.sync()


def ferryd_figures(figures, ferryd):
    figures.add("ferryd_peak_rss_mib", ferryd.peak_rss() / MIB, "MiB",
                reach=("<=", 48))
    figures.add("ferryd_idle_ticks_in_3_s", ferryd.idle_ticks(3), "ticks",
                reach=("<=", 0))


def options():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("build")
    p.add_argument("--mib", type=int, default=1024, help="size of the file")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--disk-rounds", type=int, default=3)
    p.add_argument("--tmpfs", default="/dev/shm")
    p.add_argument("--disk", default="/var/tmp", help="'' for none")
    return p.parse_args()


def enough_room(o):
    for place, files in ((o.tmpfs, 5), (o.disk, 4)):
        if not place:
            continue
        free, needed = shutil.disk_usage(place).free // MIB, files * o.mib + 256
        if free < needed:
            raise SystemExit(f"bench: {place} has {free} MiB free; {needed} "
                             "are needed (--mib N for a smaller file)")


def measure(o, figures):
    with contextlib.ExitStack() as stack:
        source = pathlib.Path(tempfile.mkdtemp(prefix="ferry-bench.",
                                               dir=o.tmpfs))
        stack.callback(shutil.rmtree, source, ignore_errors=True)
        payload = source / "payload"
        make_payload(payload, o.mib * MIB)
        said = conditions(file=f"{o.mib} MiB")
        said["control"] = stack.enter_context(congestion_control("cubic"))
        for medium, base, rounds in (("tmpfs", o.tmpfs, o.rounds),
                                     ("disk", o.disk, o.disk_rounds)):
            if not base or rounds == 0:
                continue
            with contextlib.ExitStack() as inner:
                t = Transfers(medium, base, inner, payload)
                for n in range(rounds):
                    print(f"{medium}: round {n + 1} of {rounds}",
                          file=sys.stderr)
                    t.round(n, figures)
                if medium == "tmpfs":
                    ferryd_figures(figures, t.peers[0])
            said[medium] = f"{base}, {rounds} rounds"
    return said


def main():
    end_with_servers()
    o = options()
    enough_room(o)
    figures = Figures()
    said = measure(o, figures)
    figures.publish(said, f"{o.build}/bench-transfer.jsonl")


main()
