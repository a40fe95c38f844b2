# SPDX-License-Identifier: MIT
"""gevent_peer.py FIGURE, or gevent_peer.py echo PORT LOOPS: what the same
pieces cost in gevent.  switch_ns is greenlet's, which gevent stands on."""

import sys
import time

import gevent
import gevent.event
import gevent.queue
import gevent.socket
import greenlet

SWITCHES = 1000000
YIELDS = 200000
SPAWNS = 50000
PARKED = 100000
ITEMS = 200000
SLOTS = 1024


def say(begun, count):
    print(f"{(time.process_time() - begun) * 1e9 / count:.3f}")


def switches():
    def bounce():
        back = main.switch
        while True:
            back()

    main = greenlet.getcurrent()
    there = greenlet.greenlet(bounce).switch
    begun = time.process_time()
    for _ in range(SWITCHES // 2):
        there()
    say(begun, SWITCHES)


def yields():
    def turns():
        for _ in range(YIELDS // 2):
            gevent.sleep(0)

    begun = time.process_time()
    gevent.joinall([gevent.spawn(turns), gevent.spawn(turns)])
    say(begun, YIELDS)


def spawns():
    begun = time.process_time()
    for _ in range(SPAWNS):
        gevent.spawn(int).join()
    say(begun, SPAWNS)


def memory():
    """Resident pages and page tables, in bytes."""
    with open("/proc/self/status", encoding="ascii") as f:
        return 1024 * sum(int(line.split()[1]) for line in f
                          if line.startswith(("VmRSS:", "VmPTE:")))


def parks():
    release = gevent.event.Event()
    before = memory()
    all_of_them = [gevent.spawn(release.wait) for _ in range(PARKED)]
    gevent.sleep(0)
    print(f"{(memory() - before) / PARKED:.1f}")
    release.set()
    gevent.joinall(all_of_them)


def items():
    q = gevent.queue.Queue(SLOTS)

    def put():
        for _ in range(ITEMS):
            q.put(q)

    def get():
        for _ in range(ITEMS):
            q.get()

    begun = time.process_time()
    gevent.joinall([gevent.spawn(put), gevent.spawn(get)])
    say(begun, ITEMS)


def echo(port):
    def serve(c):
        while True:
            data = c.recv(4096)
            if not data:
                return
            c.sendall(data)

    with gevent.socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen(4096)
        port = listener.getsockname()[1]
        print(f"listening on 127.0.0.1:{port} (gevent)", flush=True)
        while True:
            gevent.spawn(serve, listener.accept()[0])


FIGURES = {
    "switch_ns": switches,
    "yield_ns": yields,
    "spawn_join_ns": spawns,
    "parked_rss_bytes": parks,
    "queue_local_ns": items,
}

if sys.argv[1] == "echo":
    echo(int(sys.argv[2]))
else:
    FIGURES[sys.argv[1]]()
