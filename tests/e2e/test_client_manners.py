# SPDX-License-Identifier: MIT
"""What people meet: words, terminals, signals, and what is left behind."""
import json
import os
import threading

import pytest

from ferry import PATIENCE, SANITIZED, Server

MIB = 1 << 20


def space(server):
    """The directory of the one account's files on the server."""
    spaces = [d for d in (server.data / "spaces").iterdir() if d.is_dir()]
    assert len(spaces) == 1
    return spaces[0]


# ---- hash ---------------------------------------------------------------------


def test_hash_tells_the_size_of_what_it_hashed(server, tmp_path):
    """Two versions take turns under the name: no answer mixes them."""
    ada = server.member()
    ada.run("mkdir", ":/made")
    versions = {}
    for size in (100_000, 200_000):
        (tmp_path / f"v{size}").write_bytes(b"x" * size)
        told = ada.run("hash", "--json", tmp_path / f"v{size}").objects()[0]
        versions[told["root"]] = size
    place, stop = space(server), threading.Event()

    def turn():
        at = 0
        while not stop.is_set():
            at ^= 1
            (place / "next").write_bytes(b"x" * (100_000, 200_000)[at])
            os.rename(place / "next", place / "f")

    (place / "f").write_bytes(b"x" * 100_000)
    turner = threading.Thread(target=turn)
    turner.start()
    try:
        told = ada.run("hash", "--json", *[":/f"] * 200, status=None)
    finally:
        stop.set()
        turner.join()
    mixed = [o for o in told.objects() if "root" in o
             and versions[o["root"]] != o["size"]]
    assert not mixed
    assert any("root" in o for o in told.objects())
