# SPDX-License-Identifier: MIT
"""What keel's pieces cost, in interleaved rounds, beside those of peers.

Each figure of each round is a process of its own: keel_bench, or a peer's
program in bench/peers/, which is built into BUILD/bench-peers when its
libraries are there.  An echo server has a processor or two, the load the
others.
"""

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys

from contest import Contest, markdown
from figures import conditions

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"
ROUNDS = 7
MEMORY_ROUNDS = 2  # what hardly differs from round to round
ECHO_SECONDS = "0.8"
IDLE = 10000  # connections

# name: unit, floor, moonshot
FIGURES = {
    "switch_ns": ("ns", 6, None),
    "yield_ns": ("ns", 12, None),
    "spawn_join_ns": ("ns", 40, None),
    "parked_rss_bytes": ("bytes", 4301, None),
    "million_co_bytes": ("bytes", None, None),
    "million_co_s": ("s", None, None),
    "line_trip_ns": ("ns", None, None),
    "two_lines_trip_ns": ("ns", None, None),
    "queue_local_ns": ("ns", 20, 12),
    "queue_1p1c_ns": ("ns", 35, 20),
    "queue_4p4c_ns": ("ns", 100, 60),
    "pool_bulk_per_s": ("jobs/s", 4e6, 8e6),
    "pool_roundtrip_ns": ("ns", 600, 400),
    "pool_roundtrip_asleep_ns": ("ns", 5000, None),
    "procpool_bulk_per_s": ("tasks/s", 6e6, 9e6),
    "procpool_roundtrip_us": ("us", 1, 0.3),
    "procpool_roundtrip_asleep_us": ("us", 7, 5),
    "echo_50_ratio": ("of raw", 1.0, 1.1),
    "echo_50_per_s": ("echoes/s", None, None),
    "echo_1000_ratio": ("of raw", 1.1, 1.3),
    "echo_1000_per_s": ("echoes/s", None, None),
    "echo_2core_ratio": ("of raw", 0.95, None),
    "echo_2core_per_s": ("echoes/s", None, None),
    "conn_10000_ratio": ("of raw", None, None),
    "conn_10000_echo_per_s": ("echoes/s", None, None),
    "idle_conn_bytes": ("bytes", 4403, None),
}
# What one thread does, which has the second processor: the first has the
# machine's interrupts.
ONE_THREAD = {"switch_ns", "yield_ns", "spawn_join_ns", "parked_rss_bytes",
              "queue_local_ns", "million_co_bytes"}
# On one processor, where both sides sleep while the other runs.
ASLEEP = {"pool_roundtrip_asleep_ns", "procpool_roundtrip_asleep_us"}
FEW_ROUNDS = {"parked_rss_bytes", "million_co_bytes", "idle_conn_bytes"}

QUEUES = ["queue_local_ns", "queue_1p1c_ns", "queue_4p4c_ns"]
POOLS = ["pool_bulk_per_s", "pool_roundtrip_ns", "pool_roundtrip_asleep_ns"]

# The second number that keel_bench prints: whose it is, or which figure's.
SECOND = {
    "switch_ns": "swapcontext",
    "spawn_join_ns": "pthread",
    "queue_1p1c_ns": "mutex+cond",
    "queue_4p4c_ns": "mutex+cond",
    "pool_bulk_per_s": "mutex+cond",
}

# A program: how it is built, or run by Python; the
# figures it knows, and by whose name.
PEERS = {
    "go_peer.go": {
        "build": "GOCACHE={out}.cache GO111MODULE=off "
                 "go build -o {out} {source}",
        "figures": {"go": ["yield_ns", "spawn_join_ns", "parked_rss_bytes",
                           "million_co_bytes", *QUEUES, *POOLS]},
        "echo": ("go", ["echo_50", "echo_1000", "echo_2core", "conn_10000",
                        "idle_conn_bytes"]),
    },
    "boost_peer.cc": {
        "build": "g++ -std=gnu++17 -O2 {source} -o {out} -pthread "
                 "-lboost_fiber -lboost_context",
        "figures": {
            "boost.context": ["switch_ns"],
            "boost.fiber": ["yield_ns", "spawn_join_ns", "parked_rss_bytes",
                            *QUEUES],
        },
    },
    "uv_peer.c": {
        "build": "cc -std=gnu17 -O2 -D_GNU_SOURCE {source} -o {out} -pthread "
                 "$(pkg-config --cflags --libs libuv)",
        "figures": {"libuv": POOLS},
        "echo": ("libuv", ["echo_50", "echo_1000", "echo_2core", "conn_10000",
                           "idle_conn_bytes"]),
    },
    "glib_peer.c": {
        "build": "cc -std=gnu17 -O2 -D_GNU_SOURCE {source} -o {out} "
                 "$(pkg-config --cflags --libs gio-2.0)",
        "figures": {"glib": [*QUEUES, *POOLS]},
        "echo": ("glib", ["echo_50", "echo_1000"]),
    },
    "gevent_peer.py": {
        "needs": "import gevent",
        "figures": {
            "greenlet": ["switch_ns"],
            "gevent": ["yield_ns", "spawn_join_ns", "parked_rss_bytes",
                       "queue_local_ns"],
        },
        "echo": ("gevent", ["echo_50", "echo_1000", "idle_conn_bytes"]),
    },
    "python_peer.py": {
        "figures": {"python": ["spawn_join_ns", *QUEUES, *POOLS,
                               "procpool_bulk_per_s", "procpool_roundtrip_us",
                               "procpool_roundtrip_asleep_us"]},
        "echo": ("asyncio", ["echo_50", "echo_1000"]),
    },
}
# Whose versions are told with the figures.
PACKAGES = ["golang-go", "libboost-fiber-dev", "libuv1-dev", "libglib2.0-dev",
            "python3-gevent", "python3"]

# name: connections, loops, whose ratio and whose number it is
ECHOES = {
    "echo_50": (50, 1, "echo_50_ratio", "echo_50_per_s"),
    "echo_1000": (1000, 1, "echo_1000_ratio", "echo_1000_per_s"),
    "echo_2core": (1000, 2, "echo_2core_ratio", "echo_2core_per_s"),
    "conn_10000": (10000, 1, "conn_10000_ratio", "conn_10000_echo_per_s"),
}


class Failed(Exception):
    """A peer's program did not do what it should: said, and left out."""


def pinned(cpus):
    return lambda: os.sched_setaffinity(0, cpus)


# ---- who is there


def built(source, build, out):
    """Builds a peer's program unless it is newer than its source; why not."""
    if os.path.exists(out) and os.path.getmtime(out) > os.path.getmtime(source):
        return None
    command = build.format(source=source, out=out)
    tool = next(w for w in command.split() if "=" not in w)
    if not shutil.which(tool):
        return f"{tool} is not installed"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True,
                          check=False)
    if done.returncode == 0:
        return None
    words = done.stderr.strip().splitlines()
    return next((w for w in words if "rror" in w or "not found" in w),
                words[0] if words else "does not build")


def peers_there(build, wanted, contest):
    """{figure or echo: {who: command}}"""
    there = {}
    os.makedirs(f"{build}/bench-peers", exist_ok=True)
    for file, peer in PEERS.items():
        source = f"{HERE}/peers/{file}"
        echo = peer.get("echo", (None, []))
        figures = {who: [f for f in knows if f in wanted]
                   for who, knows in peer["figures"].items()}
        echoes = [e for e in echo[1] if e in wanted]
        whose = [who for who, knows in figures.items() if knows]
        if echoes and echo[0] not in whose:
            whose.append(echo[0])
        if not whose:
            continue
        why = None
        if "build" in peer:
            out = os.path.abspath(
                f"{build}/bench-peers/{file.rsplit('.', 1)[0]}")
            command = [out]
            why = built(source, peer["build"], out)
        else:
            command = [PYTHON, "-B", source]
            if "needs" in peer and subprocess.run(
                    [PYTHON, "-c", peer["needs"]], capture_output=True,
                    check=False).returncode:
                why = f"python cannot {peer['needs']}"
        if why:
            for who in whose:
                contest.lacks(who, why)
            continue
        for who, knows in figures.items():
            for figure in knows:
                there.setdefault(figure, {})[who] = [*command, figure]
        for name in echoes:
            there.setdefault(name, {})[echo[0]] = [*command, "echo", "0"]
    return there


def versions():
    found = {}
    for package in PACKAGES:
        said = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package],
                              capture_output=True, text=True, check=False)
        if said.returncode == 0 and said.stdout:
            found[package] = said.stdout
    return found


# ---- what is measured


def numbers(command, figure, cpus):
    """What a program prints about a figure."""
    if figure in ASLEEP:
        cpus = cpus[-1:]
    elif figure in ONE_THREAD and len(cpus) > 1:
        cpus = cpus[1:2]
    try:
        out = subprocess.run(command, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, check=True, text=True,
                             timeout=60, preexec_fn=pinned(set(cpus))).stdout
        return [float(word) for word in out.split()]
    except subprocess.TimeoutExpired as e:
        raise Failed(f"{figure}: not done in 60 s") from e
    except subprocess.CalledProcessError as e:
        words = e.stderr.strip().splitlines()
        raise Failed(f"{figure}: {words[-1] if words else e}") from e


@contextlib.contextmanager
def server(command, loops, cpus):
    """An echo server with a loop on each of so many processors; its port."""
    p = subprocess.Popen([*command, str(loops)], stdout=subprocess.PIPE,
                         text=True, preexec_fn=pinned(set(cpus[:loops])))
    try:
        line = p.stdout.readline()
        port = re.search(r":(\d+) \((\w+)\)", line)
        if not port:
            raise Failed("the echo server did not start")
        yield port[1], port[2], p.pid
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


def echoes_per_s(load, command, connections, loops, cpus):
    # All that the server leaves.  The load never sleeps, so that the server is
    # what an echo waits for.
    own = cpus[loops:] or cpus
    with server(command, loops, cpus) as (port, poller, _):
        try:
            out = subprocess.run(
                [load, port, str(connections), ECHO_SECONDS, str(len(own))],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True,
                text=True, timeout=60, preexec_fn=pinned(set(own))).stdout
        except (subprocess.CalledProcessError,
                subprocess.TimeoutExpired) as e:
            raise Failed(f"{connections} connections: {e}") from e
    return json.loads(out)["requests_per_second"], poller


def memory(pid):
    """Resident pages and page tables, in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return 1024 * sum(int(line.split()[1]) for line in f
                          if line.startswith(("VmRSS:", "VmPTE:")))


def idle_bytes(command, cpus):
    """What a connection costs the server that was served and then waits."""
    with server(command, 1, cpus) as (port, _, pid), \
            contextlib.ExitStack() as s:
        before = memory(pid)
        for _ in range(IDLE):
            c = s.enter_context(socket.create_connection(("127.0.0.1", port)))
            c.sendall(b"?" * 64)
            c.recv(64)
        return (memory(pid) - before) / IDLE


def in_turn(competitors, n):
    """Ours and what it is compared with first, one after the other, since their
    ratio is what is judged; the peers in an order that changes."""
    first = [w for w in ("", "raw") if w in competitors]
    rest = sorted(w for w in competitors if w not in first)
    n_rest = n % len(rest) if rest else 0
    if n % 2:
        first.reverse()
    return first + rest[n_rest:] + rest[:n_rest]


class Bench:
    def __init__(self, build, wanted, rounds, only_ours):
        self.cpus = sorted(os.sched_getaffinity(0))
        self.build = build
        self.poller = ""
        self.contest = Contest({f: FIGURES[f][0] for f in FIGURES},
                               {f: FIGURES[f][1] for f in FIGURES},
                               {f: FIGURES[f][2] for f in FIGURES})
        self.rounds = rounds
        # Figures that come together with others.
        self.wanted = []
        for figure in wanted:
            name = next((e for e, about in ECHOES.items() if figure in about),
                        figure.replace("million_co_s", "million_co_bytes"))
            if name not in self.wanted:
                self.wanted.append(name)
        self.there = {} if only_ours else peers_there(build, self.wanted,
                                                      self.contest)
        self.only_ours = only_ours

    def attempt(self, who, figure, n, fn):
        """A peer that fails is left out from now on; ours may not fail."""
        try:
            return fn()
        except Failed as e:
            if who in ("", "raw"):
                raise SystemExit(f"keel: {e}") from e
            self.contest.lacks(f"{who} in {figure}", f"round {n + 1}: {e}")
            del self.there[figure][who]
            return None

    def piece(self, figure, n):
        own = [f"{self.build}/obj/bench/keel_bench", figure]
        who_does = {**self.there.get(figure, {}), "": own}
        for who in in_turn(who_does, n):
            got = self.attempt(who, figure, n, lambda w=who: numbers(
                who_does[w], figure, self.cpus))
            if not got:
                continue
            self.contest.add(figure, who, got[0], n)
            if figure == "million_co_bytes":
                self.contest.add("million_co_s", who, got[1], n)
            elif len(got) > 1 and not self.only_ours:
                self.contest.add(figure, SECOND[figure], got[1], n)

    def servers(self, name):
        return {**self.there.get(name, {}),
                "": [f"{self.build}/obj/keel/examples/echo_server", "0"],
                "raw": [f"{self.build}/obj/bench/echo_raw", "0"]}

    def echo(self, name, n):
        connections, loops, ratio, per_s = ECHOES[name]
        got = {}
        commands = self.servers(name)
        if len(self.cpus) < 2 * loops and loops > 1:
            return
        for who in in_turn(commands, n):
            said = self.attempt(who, name, n, lambda w=who: echoes_per_s(
                f"{self.build}/obj/bench/echo_load", commands[w], connections,
                loops, self.cpus))
            if said:
                got[who] = said[0]
                if not who:
                    self.poller = said[1]
        for who, value in got.items():
            self.contest.add(per_s, who, value, n)
            if who != "raw":
                self.contest.add(ratio, who, value / got["raw"], n)

    def idle(self, name, n):
        commands = self.servers(name)
        del commands["raw"]  # it keeps nothing for a connection
        for who in in_turn(commands, n):
            got = self.attempt(who, name, n,
                               lambda w=who: idle_bytes(commands[w], self.cpus))
            if got is not None:
                self.contest.add(name, who, got, n)

    def run(self):
        for n in range(self.rounds):
            print(f"round {n + 1} of {self.rounds}", file=sys.stderr)
            for name in self.wanted:
                if name in FEW_ROUNDS and n >= MEMORY_ROUNDS:
                    continue
                if name in ECHOES:
                    self.echo(name, n)
                elif name == "idle_conn_bytes":
                    self.idle(name, n)
                else:
                    self.piece(name, n)


def options():
    p = argparse.ArgumentParser(
        prog="bench/keel.sh", description="Measures keel beside its peers.")
    p.add_argument("build", nargs="?", metavar="BUILD",
                   help="the build directory")
    p.add_argument("--only", action="append", default=[], metavar="FIGURE",
                   help="only this figure, or these: A,B")
    p.add_argument("--rounds", type=int, default=ROUNDS, metavar="N",
                   help=f"so many rounds ({ROUNDS})")
    p.add_argument("--no-peers", action="store_true",
                   help="keel alone, and the plain echo server")
    p.add_argument("--markdown", metavar="FILE",
                   help="measure nothing: print the table of these JSON lines")
    o = p.parse_args()
    o.only = [f for words in o.only for f in words.split(",")]
    unknown = [f for f in o.only if f not in FIGURES]
    if unknown:
        p.error(f"no figure {unknown[0]}; there are {', '.join(FIGURES)}")
    if not o.markdown and not o.build:
        p.error("BUILD is missing")
    if o.rounds < 1:
        p.error("at least a round")
    return o


def main():
    o = options()
    if o.markdown:
        try:
            with open(o.markdown, encoding="utf-8") as f:
                print("\n".join(markdown([json.loads(line) for line in f])))
        except OSError as e:
            raise SystemExit(f"keel.sh: {e}") from e
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    said = conditions(rounds=o.rounds)
    bench = Bench(o.build, o.only or list(FIGURES), o.rounds, o.no_peers)
    bench.run()
    if bench.poller:
        said.update(poller=bench.poller,
                    echo="64 bytes, the load has the other processors and "
                         "never sleeps")
    if not o.no_peers:
        said.update(versions=versions())
    part = "-part" if o.only or o.no_peers else ""
    bench.contest.publish(said, f"{o.build}/bench-keel{part}.jsonl")


main()
