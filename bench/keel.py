# SPDX-License-Identifier: MIT
"""keel.py BUILD: what keel's pieces cost, in interleaved rounds.

Each figure of each round is a process of its own (keel_bench); the echo
servers have one processor, the load has the others.
"""

import contextlib
import json
import os
import re
import resource
import socket
import subprocess
import sys

from figures import Figures, conditions

ROUNDS = 7
ECHO_SECONDS = "0.7"
IDLE = 10000  # connections

# name: unit, the plain form beside it, floor
FIGURES = {
    "switch_ns": ("ns", "swapcontext", ("<=", 8)),
    "yield_ns": ("ns", None, ("<=", 20)),
    "spawn_join_ns": ("ns", "pthread", ("<=", 60)),
    "parked_rss_bytes": ("bytes", None, ("<=", 4500)),
    "queue_local_ns": ("ns", None, None),
    "queue_1p1c_ns": ("ns", "mutex+cond", None),
    "queue_4p4c_ns": ("ns", "mutex+cond", None),
    "pool_bulk_per_s": ("jobs/s", "mutex+cond", (">=", 4e6)),
    "pool_roundtrip_ns": ("ns", None, ("<=", 600)),
    "pool_roundtrip_asleep_ns": ("ns", None, ("<=", 5000)),
    "procpool_bulk_per_s": ("tasks/s", None, (">=", 6e6)),
    "procpool_roundtrip_us": ("us", None, ("<=", 1)),
    "procpool_roundtrip_asleep_us": ("us", None, ("<=", 7)),
}
# On one processor, where both sides sleep while the other runs.
ON_ONE = {"pool_roundtrip_asleep_ns", "procpool_roundtrip_asleep_us"}


def pinned(cpus):
    return lambda: os.sched_setaffinity(0, cpus)


@contextlib.contextmanager
def server(path, cpus):
    """An echo server, a loop for each processor; yields its port."""
    p = subprocess.Popen([path, "0", str(len(cpus))], stdout=subprocess.PIPE,
                         text=True, preexec_fn=pinned(cpus))
    try:
        line = p.stdout.readline()
        port = re.search(r":(\d+) \((\w+)\)", line)
        if not port:
            raise SystemExit(f"{path} did not start")
        yield port[1], port[2], p.pid
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


def echoes(build, name, connections, cpus, loops=1):
    """Echoes a second."""
    # As many processors as the server has: a load of more sleeps between two
    # answers, and what is measured is how soon it wakes.
    load = cpus[loops:2 * loops] or cpus
    with server(f"{build}/obj/{name}", cpus[:loops]) as (port, poller, _):
        out = subprocess.run(
            [f"{build}/obj/bench/echo_load", port, str(connections),
             ECHO_SECONDS, str(len(load))],
            stdout=subprocess.PIPE, check=True, text=True, timeout=60,
            preexec_fn=pinned(set(load))).stdout
    return json.loads(out)["requests_per_second"], poller


def memory(pid):
    """Resident pages and page tables, in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return 1024 * sum(int(line.split()[1]) for line in f
                          if line.startswith(("VmRSS:", "VmPTE:")))


def idle_bytes(build, cpus):
    """What a connection costs the server that was served and then waits."""
    path = f"{build}/obj/keel/examples/echo_server"
    with server(path, cpus[:1]) as (port, _, pid), contextlib.ExitStack() as s:
        before = memory(pid)
        for _ in range(IDLE):
            c = s.enter_context(socket.create_connection(("127.0.0.1", port)))
            c.sendall(b"?" * 64)
            c.recv(64)
        return (memory(pid) - before) / IDLE


def measure(build, figures, cpus):
    for name, (unit, peer, reach) in FIGURES.items():
        out = subprocess.run([f"{build}/obj/bench/keel_bench", name],
                             stdout=subprocess.PIPE, check=True, text=True,
                             timeout=60, preexec_fn=pinned(
                                 set(cpus[-1:] if name in ON_ONE else cpus)),
                             ).stdout.split()
        figures.add(name, float(out[0]), unit, peer,
                    float(out[1]) if len(out) > 1 else None, reach)
    for connections in (50, 1000):
        raw, _ = echoes(build, "bench/echo_raw", connections, cpus)
        keel, poller = echoes(build, "keel/examples/echo_server",
                              connections, cpus)
        figures.add(f"echo_{connections}_ratio", keel / raw, "of raw",
                    "raw epoll, echoes/s", raw, (">=", 0.9))
    if len(cpus) > 2:
        raw, _ = echoes(build, "bench/echo_raw", 1000, cpus, 2)
        keel, _ = echoes(build, "keel/examples/echo_server", 1000, cpus, 2)
        figures.add("echo_2core_ratio", keel / raw, "of raw",
                    "raw epoll, two loops, echoes/s", raw, (">=", 0.95))
    figures.add("idle_conn_bytes", idle_bytes(build, cpus), "bytes",
                reach=("<=", 4300))
    return poller


def main():
    build = sys.argv[1]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    figures = Figures()
    cpus = sorted(os.sched_getaffinity(0))
    poller = ""
    said = conditions(rounds=ROUNDS)
    for n in range(ROUNDS):
        print(f"round {n + 1} of {ROUNDS}", file=sys.stderr)
        poller = measure(build, figures, cpus)
    said.update(poller=poller, echo="64 bytes, server on one processor")
    figures.publish(said, f"{build}/bench-keel.jsonl")


main()
