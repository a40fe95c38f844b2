# SPDX-License-Identifier: MIT
"""python_peer.py FIGURE, or python_peer.py echo PORT LOOPS: what the same
pieces cost in Python's own library: threading, queue, concurrent.futures, and
for the echo asyncio."""

import asyncio
import collections
import concurrent.futures
import os
import queue
import sys
import threading
import time

SPAWNS = 3000
LOCAL_ITEMS = 100000
ITEMS = 40000
SLOTS = 1024
WINDOW = 1024
THREAD_JOBS = 20000
PROCESS_JOBS = 4000
TRIPS = 2000


def say(begun, count, scale=1e9):
    print(f"{(time.perf_counter() - begun) * scale / count:.3f}")


def job():
    return 1


def workers():
    return max(1, len(os.sched_getaffinity(0)) - 1)


def spawns():
    begun = time.perf_counter()
    for _ in range(SPAWNS):
        t = threading.Thread(target=job)
        t.start()
        t.join()
    say(begun, SPAWNS)


def items(pairs, count):
    q = queue.Queue(SLOTS)

    def put():
        for _ in range(count // pairs):
            q.put(q)

    def get():
        for _ in range(count // pairs):
            q.get()

    threads = [threading.Thread(target=f)
               for _ in range(pairs) for f in (put, get)]
    begun = time.perf_counter()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    say(begun, count)


def bulk(executor, count):
    """Every result is asked for; so many are under way."""
    waiting = collections.deque()
    total = 0
    executor.submit(job).result()
    begun = time.perf_counter()
    for _ in range(count):
        if len(waiting) == WINDOW:
            total += waiting.popleft().result()
        waiting.append(executor.submit(job))
    total += sum(f.result() for f in waiting)
    assert total == count
    print(f"{count / (time.perf_counter() - begun):.1f}")


def trips(executor, scale):
    executor.submit(job).result()
    begun = time.perf_counter()
    for _ in range(TRIPS):
        executor.submit(job).result()
    say(begun, TRIPS, scale)


def threads(count):
    return concurrent.futures.ThreadPoolExecutor(count)


def processes(count):
    return concurrent.futures.ProcessPoolExecutor(count)


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def echo(port):
    server = await asyncio.get_running_loop().create_server(
        Echo, "127.0.0.1", port, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    print(f"listening on 127.0.0.1:{port} (asyncio)", flush=True)
    await server.serve_forever()


FIGURES = {
    "spawn_join_ns": spawns,
    "queue_local_ns": lambda: items(1, LOCAL_ITEMS),
    "queue_1p1c_ns": lambda: items(1, ITEMS),
    "queue_4p4c_ns": lambda: items(4, ITEMS),
    "pool_bulk_per_s": lambda: bulk(threads(workers()), THREAD_JOBS),
    "pool_roundtrip_ns": lambda: trips(threads(1), 1e9),
    "pool_roundtrip_asleep_ns": lambda: trips(threads(1), 1e9),
    "procpool_bulk_per_s": lambda: bulk(processes(workers()), PROCESS_JOBS),
    "procpool_roundtrip_us": lambda: trips(processes(1), 1e6),
    "procpool_roundtrip_asleep_us": lambda: trips(processes(1), 1e6),
}

if __name__ == "__main__":
    if sys.argv[1] == "echo":
        asyncio.run(echo(int(sys.argv[2])))
    else:
        FIGURES[sys.argv[1]]()
