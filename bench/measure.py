# SPDX-License-Identifier: MIT
"""What the benches of transfers share: the same conditions for all, and the
seconds, processor seconds and memory that a command takes."""

import contextlib
import mmap
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

CONTROL = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")


@contextlib.contextmanager
def congestion_control(wanted):
    """Sets it for everybody, as peers cannot be told; yields what holds."""
    before = CONTROL.read_text().strip()
    try:
        CONTROL.write_text(wanted)
    except OSError as e:
        print(f"bench: congestion control stays {before}: {e.strerror}",
              file=sys.stderr)
    try:
        yield CONTROL.read_text().strip()
    finally:
        if CONTROL.read_text().strip() != before:
            CONTROL.write_text(before)


def touch_memory(size):
    """A virtual machine's host takes free pages back: have them again."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, size, flags=flags).close()


def end_with_servers():
    """Whatever ends us, the servers end too."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: sys.exit(128 + n))


def start(peer, command):
    return subprocess.Popen(command, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            env=getattr(peer, "env", None))


def finish(process, command):
    """Its output and what it used, once it is done."""
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode != 0:
        raise SystemExit(f"bench: {' '.join(command)[:500]} ended with "
                         f"{process.returncode}:\n"
                         f"{said.decode(errors='replace')[-2000:]}")
    return said, used


def run(peer, command):
    """Seconds and processor seconds of client and server."""
    server = peer.cpu()
    begun = time.monotonic()
    _, used = finish(start(peer, command), command)
    took = time.monotonic() - begun
    return took, used.ru_utime + used.ru_stime, peer.cpu() - server


class Peak:
    """The most memory a program had, in bytes.  wait4 cannot tell: a child
    begins with its parent's peak.  So it is looked at all the time; what came
    in the last millisecond may be missed."""

    def __init__(self, pid):
        self.status, self.bytes = f"/proc/{pid}/status", 0
        self.over = threading.Event()
        self.watch = threading.Thread(target=self._look, daemon=True)
        self.watch.start()

    def _look(self):
        while not self.over.wait(0.001):
            self.bytes = max(self.bytes, most_memory(self.status) or 0)

    def stop(self):
        self.over.set()
        self.watch.join()
        return self.bytes


def most_memory(status):
    """VmHWM, or None where it is not said."""
    try:
        with open(status, encoding="ascii") as f:
            for line in f:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


def forget_peak(pid):
    """A running program's VmHWM begins anew."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
