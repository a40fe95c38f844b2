# SPDX-License-Identifier: MIT
"""A put and what names it - put.commit, put.leaves, CANCEL, the end of the
connection - in any order and all at once.  Whatever happens, each request has
one REPLY, the name is there just when a commit was answered so, nothing stays
reserved or charged, and the next put of the same file succeeds.

KEEL_TEST_LONG: more orders.  FERRY_SEED: others.
"""
import base64
import hashlib
import os
import random

import pytest

from ferry import Server
from wire import (MIB, REQUEST, Refused, Wire, b64, cancel_frame, data_frame,
                  json_frame, root_of)

SIZE = 2 * MIB + 4321
DATA = random.Random(8).randbytes(SIZE)
OTHER = "sha256:" + hashlib.sha256(b"other").hexdigest()
LEAVES = b64(b"".join(hashlib.sha256(b"\0" + DATA[i:i + MIB]).digest()
                      for i in range(0, SIZE, MIB)))
WRONG = b64(base64.b64decode(LEAVES)[:32] + bytes(64))
ORDERS = 300 if os.environ.get("KEEL_TEST_LONG") else 40
SEED = int(os.environ.get("FERRY_SEED", "1"))
# What a request beside a put that ends may be told.
REFUSALS = {"cancelled", "transfer.unknown", "transfer.busy",
            "transfer.damaged", "transfer.incomplete", "transfer.range",
            "file.busy"}


@pytest.fixture(scope="module", params=["uring", "epoll"])
def house(request, tmp_path_factory):
    with Server(tmp_path_factory.mktemp("house"), "-v", "--registration",
                "open", env={"KEEL_POLLER": request.param}) as s:
        yield s
        assert "internal" not in s.log()


class Upload:
    """A put, opened, with so many of its bytes sent; then what races."""

    def __init__(self, w, path, source, sent):
        self.w, self.path = w, path
        self.put = w.request("put", **w.put_fields(path, SIZE, source=source))
        have = w.note(self.put)["have"]
        todo = [c for c in range(3)
                if not any(a <= c < b for a, b in have)][:sent]
        moved = 0
        for c in todo:
            end = min((c + 1) * MIB, SIZE)
            for at in range(c * MIB, end, 1 << 18):
                piece = DATA[at:min(at + (1 << 18), end)]
                moved += len(piece)
                w.granted(self.put, moved)
                w.raw(data_frame(self.put, at, piece))
        self.commits, self.asked = [], []

    def request(self, verb, **fields):
        self.w.next_id += 1
        id = self.w.next_id
        self.asked.append(id)
        return id, json_frame(REQUEST, {"id": id, "do": verb, "put": self.put,
                                        **fields})

    def commit(self, root=root_of(DATA), level="committed"):
        id, frame = self.request("put.commit", root=root, level=level)
        if root != OTHER:
            self.commits.append(id)
        return frame

    def leaves(self, leaves=LEAVES):
        return self.request("put.leaves", **{"from": 0, "leaves": leaves})[1]

    def cancel(self):
        return cancel_frame(self.put)

    def cancel_last(self):
        return cancel_frame(self.asked[-1] if self.asked else self.put)

    def wrong_commit(self):
        return self.commit(root=OTHER)

    def wrong_leaves(self):
        return self.leaves(WRONG)

    def settle(self):
        """The put is cancelled at the end, so that all is answered: the ids of
        what was answered well."""
        self.w.raw(cancel_frame(self.put))
        good = set()
        for id in self.asked + [self.put]:
            try:
                self.w.reply(id)
                good.add(id)
            except Refused as e:
                assert e.code in REFUSALS, e
        return good


ACTIONS = ([Upload.commit] * 3 + [Upload.cancel, Upload.cancel_last] +
           [Upload.leaves, Upload.wrong_commit, Upload.wrong_leaves])


def there(w, path):
    try:
        return w.ask("stat", path=path)["size"] == SIZE
    except Refused as e:
        assert e.code == "file.missing"
        return False


def finish(w, path, source):
    """The same file once more, as a client that comes back does."""
    again = Upload(w, path, source, 3)
    w.raw(again.commit())
    assert w.reply(again.asked[0])["root"] == root_of(DATA)
    assert w.reply(again.put) == {}
    assert w.ask("hash", path=path, hash="sha256")["root"] == root_of(DATA)


def test_any_order_on_one_connection(house):
    w = Wire(house.address).hello().register("orders")
    for n in range(ORDERS):
        chance = random.Random(SEED * 1000 + n)
        source, path = b64(chance.randbytes(16)), f"/f{n}"
        # Mostly whole; now and then a chunk is still to come.
        up = Upload(w, path, source, chance.choice([3, 3, 3, 2]))
        frames = [chance.choice(ACTIONS)(up)
                  for _ in range(chance.randint(1, 6))]
        if chance.random() < 0.5:
            w.raw(b"".join(frames))
        else:
            for frame in frames:
                w.raw(frame)
                if chance.random() < 0.3:
                    w.ask("ping")
        good = up.settle()
        committed = good & set(up.commits)
        assert len(committed) <= 1, (n, frames)
        assert there(w, path) == bool(committed), (n, frames, good)
        assert (up.put in good) == bool(committed), (n, frames, good)
        finish(w, path, source)
        who = w.ask("whoami")
        assert (who["used_files"], who["used_bytes"], who["reserved_bytes"]) \
            == (n + 1, (n + 1) * SIZE, 0), (n, frames)
    w.close()


def test_a_connection_that_ends_in_the_middle(house):
    names = f"ends{SEED}"
    for n in range(ORDERS // 4):
        chance = random.Random(SEED * 2000 + n)
        w = Wire(house.address).hello().register(f"{names}-{n}")
        source = b64(chance.randbytes(16))
        up = Upload(w, "/f", source, 3)
        frames = [chance.choice(ACTIONS)(up)
                  for _ in range(chance.randint(1, 5))]
        w.raw(b"".join(frames))
        w.close(abruptly=chance.random() < 0.5)
    # They are all gone, and the server serves.
    w = Wire(house.address).hello().register(f"{names}-last")
    finish(w, "/f", b64(bytes(16)))
    w.close()
