#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""ferryd under eight busy clients must stay as it is: ferryd.py [SECONDS]

Each client puts, gets back, compares and lists in turn.  After the first
quarter the server's memory, descriptors and drafts may not grow; when the
clients are gone, descriptors and drafts are as before they came.
"""
import os
import pathlib
import random
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from ferry import PATIENCE, Server  # noqa: E402

CLIENTS = 8
SIZES = [0, 700, 40_000, 1 << 20, (3 << 20) + 17]
RSS_SLACK = 8 << 20  # stacks and buffers of a peak that came later


def look(server):
    """Bytes in memory, descriptors, drafts."""
    proc = pathlib.Path("/proc") / str(server.process.pid)
    rss = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    drafts = [p for p in (server.data / "drafts").rglob("*") if p.suffix == ""
              and len(p.name) == 32]
    return rss, len(os.listdir(proc / "fd")), len(drafts)


class Busy(threading.Thread):
    def __init__(self, client, number, tmp, until):
        super().__init__()
        self.client, self.until = client, until
        self.random = random.Random(number)
        self.source, self.back = tmp / f"put{number}", tmp / f"got{number}"
        self.rounds, self.error = 0, None

    def run(self):
        try:
            while time.monotonic() < self.until:
                self.round(f"file{self.random.randrange(5)}")
                self.rounds += 1
        except (AssertionError, OSError) as error:
            self.error = error

    def round(self, name):
        data = self.random.randbytes(self.random.choice(SIZES))
        self.source.write_bytes(data)
        self.client.run("put", self.source, f":/{name}")
        self.back.unlink(missing_ok=True)
        self.client.run("get", f":/{name}", self.back)
        assert self.back.read_bytes() == data, f"{name}: other bytes came back"
        assert name in self.client.names()


def soak(tmp, seconds):
    with Server(tmp) as server:
        clients = [server.member(f"user{i}") for i in range(CLIENTS)]
        _, at_rest, _ = look(server)
        start = time.monotonic()
        busy = [Busy(c, i, tmp, start + seconds) for i, c in enumerate(clients)]
        for b in busy:
            b.start()
        seen = []
        while any(b.is_alive() for b in busy):
            seen.append((time.monotonic() - start, *look(server)))
            time.sleep(seconds / 400)
        for b in busy:
            b.join()
            if b.error:
                raise b.error
        early = [s for s in seen if seconds / 4 <= s[0] < seconds / 2]
        late = [s for s in seen if seconds / 2 <= s[0]]
        for what, i, slack in (("memory", 1, RSS_SLACK), ("descriptors", 2, 16),
                               ("drafts", 3, CLIENTS)):
            before, after = (max(s[i] for s in part) for part in (early, late))
            print(f"soak: {what}: {before} then {after}")
            assert after <= before + slack, f"{what} grew"
        give_up = time.monotonic() + PATIENCE
        while (left := look(server))[1] > at_rest or left[2] > 0:
            assert time.monotonic() < give_up, \
                f"left: {left[1]} descriptors (first {at_rest}), {left[2]} drafts"
            time.sleep(0.05)
        print(f"soak: {sum(b.rounds for b in busy)} rounds in {seconds:g} s")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ferry-soak-") as directory:
        try:
            soak(pathlib.Path(directory),
                 float(sys.argv[1]) if len(sys.argv) > 1 else 120)
        except AssertionError as error:
            sys.exit(f"soak: {error}")
