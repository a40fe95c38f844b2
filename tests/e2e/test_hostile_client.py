# SPDX-License-Identifier: MIT
"""Clients that break the rules: each gets a code, the log a line, and nobody
else notices.  After every test here (`aftermath`) a member is still served,
no connection is left, and what the strangers did is in the log once."""
import base64
import concurrent.futures
import itertools
import json
import os
import pathlib
import random
import re
import socket
import ssl
import struct
import time

import pytest

import wire
from ferry import PATIENCE, SANITIZED, Server
from wire import (CANCEL, CREDIT, DATA, GOODBYE, HELLO, MIB, NOTE, REPLY,
                  REQUEST, Refused, Wire, b64, cancel_frame, credit_frame,
                  data_frame, frame, json_frame, root_of, text)

FILE = random.Random(5).randbytes(3 * MIB + 77)
names = (f"p{n}" for n in itertools.count())


class House(Server):
    """A server for many tests, with one member who never does wrong."""

    def begin(self):
        self.good = Wire(self.address).hello().register("good")
        self.store(self.good, "/file", FILE)
        self.quiet = self.sockets()
        self.wires = []
        return self

    @staticmethod
    def store(w, path, data):
        put = w.put(path, len(data))
        for at in range(0, len(data), 1 << 18):
            piece = data[at:at + (1 << 18)]
            w.granted(put, at + len(piece))
            w.raw(data_frame(put, at, piece))
        w.ask("put.commit", put=put, root=root_of(data), level="committed")
        assert w.reply(put) == {}

    def sockets(self):
        fds = pathlib.Path(f"/proc/{self.process.pid}/fd")
        return sum(self.is_socket(fd) for fd in fds.iterdir())

    @staticmethod
    def is_socket(fd):
        try:
            return os.readlink(fd).startswith("socket:")
        except OSError:
            return False

    def memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def newcomer(self):
        """A connection that has said nothing yet."""
        w = Wire(self.address)
        w.port = w.stream.getsockname()[1]
        self.wires.append(w)
        return w

    def stranger_wire(self):
        return self.newcomer().hello()

    def somebody(self, name=None):
        return self.stranger_wire().register(name or next(names))

    def until(self, what, condition):
        with self.said:
            assert self.said.wait_for(condition, PATIENCE), \
                f"never: {what}\n{self.log()}"

    def lines_of(self, w):
        """What the log says of a connection, when it is over."""
        self.until("open", lambda: f"peer=127.0.0.1:{w.port} open" in self.log())
        conn = re.findall(rf"conn=(\w+) peer=127.0.0.1:{w.port} open",
                          self.log())[-1]
        self.until("closed", lambda: re.search(f"conn={conn}.* closed", self.log()))
        return [line for line in list(self.lines) if conn in line]

    def logged(self, w, code):
        """The connection is over, and its log has this code once."""
        assert len(self.said_of(w, code)) == 1, (code, self.lines_of(w))

    def said_of(self, w, code):
        """The lines with that code: of the connection's end, and of requests."""
        return [x for x in self.lines_of(w)
                if f" result={code} " in x]

    def check(self):
        for w in self.wires:
            w.close()
            self.lines_of(w)
        self.wires.clear()
        deadline = time.monotonic() + PATIENCE
        while self.sockets() > self.quiet:
            assert time.monotonic() < deadline, "connections are left"
            time.sleep(0.002)
        get = self.good.request("get", path="/file", hash="sha256")
        self.good.raw(credit_frame(get, len(FILE)))
        assert self.good.reply(get)["root"] == root_of(FILE)
        assert b"".join(d for _, d in self.good.data.pop(get)) == FILE
        assert self.process.poll() is None
        assert "internal" not in self.log(), self.log()


@pytest.fixture(scope="module", params=["uring", "epoll"])
def house(request, tmp_path_factory):
    with House(tmp_path_factory.mktemp("house"), "-v", "--registration", "open",
               env={"KEEL_POLLER": request.param}) as h:
        yield h.begin()
        h.good.close()


@pytest.fixture(autouse=True)
def aftermath(request):
    yield
    if "house" in request.fixturenames:
        request.getfixturevalue("house").check()


# ---- frames ------------------------------------------------------------------------


def whoami(**more):
    return json_frame(REQUEST, {"id": 1, "do": "whoami", **more})


def padded(size, id=1):
    """A REQUEST of exactly so many bytes of JSON."""
    bare = len(json.dumps({"id": id, "do": "whoami", "pad": ""}))
    return frame(REQUEST, json.dumps({"id": id, "do": "whoami",
                                      "pad": "x" * (size - bare)}).encode())


def request(body):
    return frame(REQUEST, body)


def length(kind, size):
    """Only the head: the length must be looked at before the body comes."""
    return struct.pack(">IB", size, kind)


def nested(depth):
    # The object of the request is the first level.
    return request(b'{"id":1,"do":"whoami","x":' + b"[" * (depth - 1) +
                   b"]" * (depth - 1) + b"}")


BROKEN, LONG = "protocol.broken", "protocol.too_long"
AT_HELLO = {
    "a request first": (whoami(), BROKEN),
    "data first": (data_frame(1, 0, b"x"), BROKEN),
    "credit first": (credit_frame(1, 1), BROKEN),
    "cancel first": (cancel_frame(1), BROKEN),
    "a reply first": (json_frame(REPLY, {"id": 1, "ok": {}}), BROKEN),
    "a long hello": (length(HELLO, 8194), LONG),
    "a hello that is no object": (frame(HELLO, b"[]"), BROKEN),
    "a hello without version": (json_frame(HELLO, {}), BROKEN),
    "a hello with a text for version":
        (json_frame(HELLO, {"version": "1"}), BROKEN),
    "a hello of version 0":
        (json_frame(HELLO, {"version": 0}), "protocol.version"),
    "a hello of the future":
        (json_frame(HELLO, {"version": 9, "least": 2}), "protocol.version"),
    "33 features":
        (json_frame(HELLO, {"version": 1, "features": ["x"] * 33}), BROKEN),
    "an agent that is a number":
        (json_frame(HELLO, {"version": 1, "agent": 1}), BROKEN),
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", BROKEN),
    "length 0": (struct.pack(">IB", 0, HELLO), BROKEN),
    "length 4 GiB": (length(HELLO, 2**32 - 1), LONG),
}
EARLY = {
    "a second hello": (json_frame(HELLO, {"version": 1}), BROKEN),
    "8 KiB and 1": (length(REQUEST, 8194), LONG),
    "a goodbye of 8 KiB and 1": (length(GOODBYE, 8194), LONG),
    "65 values": (request(b'{"id":1,"do":"x","l":[' + b",".join([b"1"] * 64) +
                          b"]}"), BROKEN),
    "9 requests": (b"".join(json_frame(REQUEST, {
        "id": n, "do": "login.start", "name": "nobody", "first": "x"})
        for n in range(1, 10)), "request.too_many"),
    "data": (data_frame(1, 0, b"x"), "transfer.credit"),
}
LATE = {
    "length 0": (struct.pack(">IB", 0, REQUEST), BROKEN),
    "length 1": (struct.pack(">IB", 1, REQUEST), BROKEN),
    "64 KiB and 1": (padded(65537), LONG),
    "length 4 GiB": (length(REQUEST, 2**32 - 1), LONG),
    "a goodbye of 64 KiB and 1": (length(GOODBYE, 65538), LONG),
    "long data": (length(DATA, 12 + 2**18 + 2), LONG),
    "empty data": (data_frame(1, 0, b""), BROKEN),
    "long credit": (length(CREDIT, 10), LONG),
    "short credit": (length(CREDIT, 8), BROKEN),
    "long cancel": (length(CANCEL, 6), LONG),
    "short cancel": (length(CANCEL, 4), BROKEN),
    "kind 0": (frame(0, b"{}"), BROKEN),
    "kind 9": (frame(9, b"{}"), BROKEN),
    "kind 255": (frame(255, b"{}"), BROKEN),
    "a reply": (json_frame(REPLY, {"id": 1, "ok": {}}), BROKEN),
    "a note": (json_frame(NOTE, {"id": 1}), BROKEN),
    "a second hello": (json_frame(HELLO, {"version": 1}), BROKEN),
    "no json": (request(b"hello"), BROKEN),
    "broken json": (request(b'{"id": 1, "do": "whoami"'), BROKEN),
    "two objects": (request(b'{"id":1,"do":"ping"}{}'), BROKEN),
    "an array": (request(b'[1]'), BROKEN),
    "17 deep": (nested(17), BROKEN),
    "60,000 deep": (request(b"[" * 60000), BROKEN),
    "16,385 values": (request(b'{"id":1,"do":"ping","l":[' +
                              b",".join([b"1"] * 16384) + b"]}"), BROKEN),
    "a key twice": (request(b'{"id":1,"do":"ping","id":1}'), BROKEN),
    "not utf-8": (request(b'{"id":1,"do":"p\xffng"}'), BROKEN),
    "overlong utf-8": (request(b'{"id":1,"do":"p\xc0\xafng"}'), BROKEN),
    "a surrogate": (request(b'{"id":1,"do":"p\\ud800ng"}'), BROKEN),
    "a NUL": (request(b'{"id":1,"do":"p\0ng"}'), BROKEN),
    "an escaped NUL": (request(b'{"id":1,"do":"p\\u0000ng"}'), BROKEN),
    "a number of 64 bits": (request(b'{"id":1,"do":"ping","n":%d}' % 2**63),
                            BROKEN),
    "a huge exponent": (request(b'{"id":1,"do":"ping","n":1e999999}'), BROKEN),
    "no id": (request(b'{"do":"ping"}'), BROKEN),
    "id 0": (request(b'{"id":0,"do":"ping"}'), BROKEN),
    "id -1": (request(b'{"id":-1,"do":"ping"}'), BROKEN),
    "id 2^31": (request(b'{"id":2147483648,"do":"ping"}'), BROKEN),
    "id 1.5": (request(b'{"id":1.5,"do":"ping"}'), BROKEN),
    "id 'x'": (request(b'{"id":"x","do":"ping"}'), BROKEN),
    "data for id 0": (data_frame(0, 0, b"x"), BROKEN),
    "data beyond 2^63": (data_frame(77, 2**63 - 1, b"x"), BROKEN),
    "data for nobody": (data_frame(77, 0, b"x"), "transfer.credit"),
    "credit of 0": (credit_frame(1, 0), BROKEN),
    "credit of 2^30+1": (credit_frame(1, 2**30 + 1), BROKEN),
    "credit for id 2^31": (credit_frame(2**31, 1), BROKEN),
    "1,200 cancels for nobody": (cancel_frame(7) * 1200, BROKEN),
    "1,200 credits for nobody": (credit_frame(7, 1) * 1200, BROKEN),
}


@pytest.mark.parametrize("name", AT_HELLO)
def test_a_wrong_beginning_is_told_and_ended(house, name):
    data, code = AT_HELLO[name]
    w = house.newcomer()
    assert w.raw(data).ended() == code
    house.logged(w, code)


@pytest.mark.parametrize("name", EARLY)
def test_breaking_the_rules_before_login_ends_it(house, name):
    data, code = EARLY[name]
    w = house.stranger_wire()
    assert w.raw(data).ended() == code
    house.logged(w, code)


@pytest.mark.parametrize("name", LATE)
def test_breaking_the_rules_after_login_ends_it(house, name):
    data, code = LATE[name]
    w = house.somebody()
    assert w.raw(data).ended() == code
    house.logged(w, code)


def test_what_is_just_allowed_is_allowed(house):
    w = house.somebody()
    w.raw(padded(65536, id=1000))
    assert "name" in w.reply(1000)
    w.raw(nested(16))
    assert "name" in w.reply(1)
    w.raw(request(b'{"id":2147483647,"do":"ping"}'))
    assert w.reply(2147483647) == {}
    w.raw(cancel_frame(9) * 900 + credit_frame(9, 1) * 100)
    assert w.ask("ping") == {}
    w.send_json(GOODBYE, {"problem": None})
    assert w.ended() is None or w.goodbye == "in order"


def test_an_unknown_verb_costs_nothing(house):
    w = house.somebody()
    for verb in ("fly", "", "x" * 60000, "\x1b[31m", "login"):
        assert w.refused(verb) == "request.unknown"
    w.send_json(REQUEST, {"id": 900})
    with pytest.raises(Refused, match="request.invalid"):
        w.reply(900)
    assert w.refused("login.start", name="good", first="x") == "request.invalid"
    assert w.ask("ping") == {}
    w.close()
    assert "\x1b" not in "".join(house.lines_of(w))


VERBS = ["device.add", "device.remove", "device.list", "whoami", "ping", "list",
         "stat", "hash", "leaves", "get", "put", "put.commit", "put.leaves"]


def test_before_login_everything_needs_one(house):
    w = house.stranger_wire()
    for verb in VERBS:
        assert w.refused(verb, path="/file", hash="sha256") == "login.needed"
    w.close()
    lines = [x for x in house.lines_of(w) if "login.needed" in x]
    assert len(lines) == len(VERBS)


@pytest.mark.parametrize("first", ["", "n,,n=good,r=x", "p=tls-exporter,,n=good",
                                   "p=tls-exporter,,n=eve,r=abcdef", "x" * 2049,
                                   "p=tls-exporter,a=eve,n=good,r=abc",
                                   "p=tls-unique,,n=good,r=abcdef", 5, None])
def test_a_login_text_that_is_none_is_refused(house, first):
    w = house.stranger_wire()
    code = "protocol.broken" if isinstance(first, str) and len(first) < 2049 \
        else INVALID
    assert w.refused("login.start", name="good", first=first) == code
    assert w.refused("login.finish", final="x") == "request.invalid"
    for fields in ({}, {"name": "good"}, {"name": "good", "device": 1},
                   {"name": "good", "device": -1, "signature": b64(bytes(64))},
                   {"name": "good", "device": 1, "signature": b64(bytes(63))}):
        assert w.refused("login.device", **fields) == "request.invalid"
    # A name of its own: who fails waits before the next try.
    assert w.refused("login.device", name=next(names), device=2**62,
                     signature=b64(bytes(64))) == "device.unknown"


# ---- requests ----------------------------------------------------------------------


def busy_get(w, path="/file"):
    """A request that stays open: it waits for credit."""
    id = w.request("get", path=path, hash="sha256")
    w.note(id)
    return id


def with_file(house, data=FILE):
    w = house.somebody()
    house.store(w, "/file", data)
    return w


def test_an_id_that_is_open_cannot_be_taken(house):
    w = with_file(house)
    id = busy_get(w)
    w.send_json(REQUEST, {"id": id, "do": "ping"})
    assert w.ended() == BROKEN
    house.logged(w, BROKEN)


def test_257_open_requests_are_too_many(house):
    w = with_file(house)
    # 64 of them have an answer to wait for; the others wait for their turn.
    for n in range(256):
        if n < 64:
            busy_get(w)
        else:
            w.request("get", path="/file", hash="sha256")
    w.raw(whoami(id=1000))
    assert w.ended() == "request.too_many"
    house.logged(w, "request.too_many")


def test_a_mebibyte_of_open_text_is_too_much(house):
    w = with_file(house)
    for n in range(1, 18):
        w.request("get", path="/file", hash="sha256", pad="x" * 65000)
    assert w.ended() == BROKEN
    house.logged(w, BROKEN)


def test_cancels_in_a_storm_harm_nobody(house):
    w = with_file(house)
    ids = []
    for _ in range(200):
        ids.append(w.request("get", path="/file", hash="sha256"))
        w.raw(cancel_frame(ids[-1]))
    for id in ids:
        with pytest.raises(Refused, match="cancelled"):
            w.reply(id)
    # And as many as the request that is open does not pay for.
    w.raw(cancel_frame(busy_get(w)) * 1200)
    assert w.ended() == BROKEN
    house.logged(w, BROKEN)


def test_more_credit_than_there_is_room_for_ends_it(house):
    w = with_file(house)
    id = w.next_id + 1
    w.raw(json_frame(REQUEST, {"id": id, "do": "get", "path": "/file",
                               "hash": "sha256"}) +
          credit_frame(id, 2**30) * 5)
    assert w.ended() == BROKEN
    house.logged(w, BROKEN)


DATA_ABUSE = {
    # size of the file, [(offset, bytes)], code
    "beyond the credit": (1, [(0, 2)], "transfer.credit"),
    "behind the end": (100, [(100, 1)], "transfer.range"),
    "over the end": (100, [(60, 50)], "transfer.range"),
    "not from the beginning": (100, [(1, 10)], "transfer.range"),
    "with a gap": (100, [(0, 10), (11, 10)], "transfer.range"),
    "twice": (100, [(0, 10), (0, 10)], "transfer.range"),
    "far away": (100, [(2**62, 10)], "transfer.range"),
    "across a chunk": (2 * MIB, [(n << 18, 1 << 18) for n in range(3)] +
                       [(3 << 18, (1 << 18) - 10), (MIB - 10, 20)],
                       "transfer.range"),
    "of two chunks at once": (2 * MIB, [(0, 10), (MIB, 10)], "transfer.range"),
}


@pytest.mark.parametrize("name", DATA_ABUSE)
def test_data_that_was_not_asked_for_ends_it(house, name):
    size, pieces, code = DATA_ABUSE[name]
    w = house.somebody()
    put = w.put("/f", size)
    w.granted(put, min(size, MIB))
    for at, count in pieces:
        w.raw(data_frame(put, at, bytes(count)))
    assert w.ended() == code
    house.logged(w, code)


def test_a_chunk_twice_ends_it(house):
    w = house.somebody()
    put = w.put("/f", 4 * MIB)
    w.granted(put, 2 * MIB)
    for at in [*range(0, MIB, 1 << 18), 0]:
        w.raw(data_frame(put, at, bytes(1 << 18)))
    assert w.ended() == "transfer.range"
    house.logged(w, "transfer.range")


def test_data_to_a_get_ends_it(house):
    w = with_file(house)
    w.raw(data_frame(busy_get(w), 0, b"x"))
    assert w.ended() == "transfer.credit"


# ---- names and fields ------------------------------------------------------------------


def deep(count):
    return "/" + "/".join("d" * count)


PATHS = {
    "dot": ("/.", "name.invalid"),
    "dots": ("/..", "name.invalid"),
    "up": ("/../../etc/passwd", "name.invalid"),
    "up later": ("/d/../../x", "name.invalid"),
    "NUL": ({"b64": b64(b"/a\0b")}, "name.invalid"),
    "256 bytes": ("/" + "x" * 256, "name.invalid"),
    "256 bytes of utf-8": ("/" + "é" * 128, "name.invalid"),
    "4097 bytes": ("/" + ("x" * 200 + "/") * 20 + "y" * 76, "path.too_long"),
    "60,000 bytes": ("/x" * 30000, "path.too_long"),
    "129 deep": (deep(129), "path.too_deep"),
    "a number": (5, "request.invalid"),
    "null": (None, "request.invalid"),
    "a list": (["/", "x"], "request.invalid"),
    "no base64": ({"b64": "!!"}, "request.invalid"),
    "base64 of a number": ({"b64": 5}, "request.invalid"),
    "base64 with blanks": ({"b64": "L3 g="}, "request.invalid"),
    "base64 with stray bits": ({"b64": "L3h="}, "request.invalid"),
    "absent": (..., "request.invalid"),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_that_is_none_is_refused_everywhere(house, name):
    path, code = PATHS[name]
    w = house.somebody()
    fields = {**w.put_fields(path, 1), "from": 0, "count": 1}
    if path is ...:
        del fields["path"]
    for verb in ("put", "get", "list", "stat", "hash", "leaves"):
        assert w.refused(verb, **fields) == code, verb
    w.close()
    assert len(house.said_of(w, code)) == 6
    spaces = pathlib.Path(house.data / "spaces")
    assert not [p for p in spaces.rglob("*") if p.name in ("passwd", "x", "b")]


INVALID = "request.invalid"
PUTS = {
    "no size": ({"size": ...}, INVALID),
    "size -1": ({"size": -1}, INVALID),
    "size -2^63": ({"size": -2**63}, INVALID),
    "size 1.5": ({"size": 1.5}, INVALID),
    "size '1'": ({"size": "1"}, INVALID),
    "size 8 EiB": ({"size": 2**63 - 1}, "file.too_large"),
    "size 4 EiB": ({"size": 2**62}, "file.too_large"),
    "size 8 TiB": ({"size": 2**43}, "disk.full"),
    "hash md5": ({"hash": "md5"}, INVALID),
    "hash 1": ({"hash": 1}, INVALID),
    "mtime 'x'": ({"mtime_ns": "x"}, INVALID),
    "mode 010000": ({"mode": 0o10000}, INVALID),
    "mode -1": ({"mode": -1}, INVALID),
    "source of 15": ({"source": b64(bytes(15))}, INVALID),
    "source of 17": ({"source": b64(bytes(17))}, INVALID),
    "no_replace 1": ({"no_replace": 1}, INVALID),
    "match x": ({"match": "x"}, INVALID),
    "match of another hash": ({"match": "xxh128:" + "0" * 32}, INVALID),
    "match of nothing": ({"match": "sha256:" + "0" * 64}, "file.match"),
    "over a directory": ({"path": "/"}, "file.is_directory"),
    "into nothing": ({"path": "/no/file"}, "file.missing"),
    "into a file": ({"path": "/file/x"}, "file.not_directory"),
}


@pytest.mark.parametrize("name", PUTS)
def test_a_put_that_cannot_be_is_refused_at_once(house, name):
    change, code = PUTS[name]
    w = with_file(house, b"x")
    fields = {**w.put_fields("/f", 1), **change}
    fields = {k: v for k, v in fields.items() if v is not ...}
    assert w.refused("put", **fields) == code
    w.close()
    house.logged(w, code)
    assert w.credit == {} or max(w.credit) < w.next_id


def test_the_largest_number_of_json_is_a_limit(house):
    w = house.somebody()
    w.request("put", **w.put_fields("/f", 2**63))
    assert w.ended() == BROKEN


def test_wrong_commits_are_refused_and_the_put_goes_on(house):
    data = FILE[:2 * MIB + 5]
    w, other = house.somebody(), house.somebody()
    put = w.put("/f", len(data))
    right, wrong = root_of(data), root_of(b"other")
    for at in range(0, len(data), 1 << 18):
        w.granted(put, min(at + (1 << 18), len(data)))
        w.raw(data_frame(put, at, data[at:at + (1 << 18)]))
    commit = {"put": put, "root": right, "level": "committed"}
    for change, code in [
            ({"put": put + 100}, "transfer.unknown"), ({"put": 0},
                                                       "transfer.unknown"),
            ({"put": -1}, INVALID), ({"put": 2**31}, INVALID),
            ({"put": "1"}, INVALID), ({"root": wrong}, "transfer.damaged"),
            ({"root": "xxh128:" + "0" * 32}, INVALID),
            ({"root": right.upper()}, INVALID), ({"root": right[:-1]}, INVALID),
            ({"root": 5}, INVALID), ({"level": "durable"}, INVALID),
            ({"level": 3}, INVALID)]:
        assert w.refused("put.commit", **{**commit, **change}) == code, change
    assert other.refused("put.commit", **commit) == "transfer.unknown"
    leaf = b64(bytes(32))
    for fields, code in [
            ({"from": 4, "leaves": leaf}, INVALID),
            ({"from": 3, "leaves": leaf}, INVALID),
            ({"from": 2**62, "leaves": leaf}, INVALID),
            ({"from": -1, "leaves": leaf}, INVALID),
            ({"from": 0, "leaves": ""}, INVALID),
            ({"from": 0, "leaves": b64(bytes(31))}, INVALID),
            ({"from": 0, "leaves": b64(bytes(33))}, INVALID),
            ({"from": 0, "leaves": b64(bytes(32 * 4))}, INVALID),
            ({"from": 0, "leaves": b64(bytes(32 * 1025))}, INVALID),
            ({"from": 0, "leaves": leaf, "put": put + 1}, "transfer.unknown")]:
        assert w.refused("put.leaves", **{"put": put, **fields}) == code, fields
    assert w.ask("put.commit", **commit)["root"] == right
    assert w.reply(put) == {}
    assert w.refused("put.commit", **commit) == "transfer.unknown"
    assert w.ask("hash", path="/f", hash="sha256") == {"root": right,
                                                       "size": len(data)}


GETS = {
    "empty range": ([[0, 0]], INVALID),
    "backwards": ([[2, 1]], INVALID),
    "touching": ([[0, 1], [1, 2]], INVALID),
    "out of order": ([[2, 3], [0, 1]], INVALID),
    "overlapping": ([[0, 2], [1, 3]], INVALID),
    "beyond the end": ([[0, 5]], INVALID),
    "far beyond": ([[2**62, 2**62 + 1]], INVALID),
    "negative": ([[-1, 1]], INVALID),
    "three numbers": ([[0, 1, 2]], INVALID),
    "no numbers": ([["a", "b"]], INVALID),
    "a number": (5, INVALID),
    "an object": ({}, INVALID),
    "1,001 ranges": ([[2 * n, 2 * n + 1] for n in range(1001)], INVALID),
}


@pytest.mark.parametrize("name", GETS)
def test_a_get_of_strange_chunks_is_refused(house, name):
    chunks, code = GETS[name]
    w = with_file(house)
    assert w.refused("get", path="/file", hash="sha256", chunks=chunks) == code
    w.close()
    house.logged(w, code)


@pytest.mark.parametrize("verb, fields, code", [
    ("list", {"path": "/", "max": 0}, INVALID),
    ("list", {"path": "/", "max": 1001}, INVALID),
    ("list", {"path": "/", "max": -1}, INVALID),
    ("list", {"path": "/", "max": "1"}, INVALID),
    ("list", {"path": "/", "after": 5}, INVALID),
    ("list", {"path": "/", "after": "x" * 256}, INVALID),
    ("list", {"path": "/file/x"}, "file.not_directory"),
    ("get", {"path": "/", "hash": "sha256"}, "file.is_directory"),
    ("get", {"path": "/file", "hash": "sha256",
             "match": "sha256:" + "0" * 64}, "file.match"),
    ("get", {"path": "/file"}, INVALID),
    ("hash", {"path": "/file", "hash": "crc"}, INVALID),
    ("hash", {"path": "/", "hash": "sha256"}, "file.is_directory"),
    ("leaves", {"path": "/file", "hash": "sha256", "from": 5, "count": 1},
     INVALID),
    ("leaves", {"path": "/file", "hash": "sha256", "from": 0, "count": 16385},
     INVALID),
    ("leaves", {"path": "/file", "hash": "sha256", "from": -1, "count": 1},
     INVALID),
    ("device.add", {"name": "x" * 65, "key": b64(bytes(32))}, INVALID),
    ("device.add", {"name": "x", "key": b64(bytes(31))}, INVALID),
    ("device.remove", {"device": -1}, INVALID),
    ("device.remove", {"device": 2**62}, "device.none"),
])
def test_strange_fields_are_refused(house, verb, fields, code):
    w = with_file(house, b"x")
    assert w.refused(verb, **fields) == code
    w.close()
    house.logged(w, code)


@pytest.mark.parametrize("change", [
    {"iterations": 1}, {"iterations": 2**31}, {"salt": b64(bytes(15))},
    {"salt": b64(bytes(500))}, {"stored": b64(bytes(31))}, {"server": 5},
    None])
def test_a_registration_without_proper_keys_is_refused(house, change):
    w = house.stranger_wire()
    scram = {**wire.scram_keys(), **change} if change else "x"
    assert w.refused("register", name="keys", scram=scram) == INVALID
    assert w.refused("register", name="Good", scram=wire.scram_keys()) == \
        "account.name"
    assert w.refused("register", name="good", scram=wire.scram_keys()) == \
        "account.exists"


# ---- who vanishes, and who is slow -----------------------------------------------------


def conversation(name):
    """Register, store, list, fetch, look: steps of what is sent and what is
    waited for then."""
    data = b"hello, world"
    put = {"id": 2, "do": "put", "path": "/f", "size": len(data),
           "hash": "sha256", "mtime_ns": 0, "mode": 420,
           "source": b64(bytes(16))}
    return [
        (json_frame(HELLO, {"version": 1}), lambda w: w.step()),
        (json_frame(REQUEST, {"id": 1, "do": "register", "name": name,
                              "scram": wire.scram_keys()}),
         lambda w: w.reply(1)),
        (json_frame(REQUEST, put), lambda w: w.granted(2, len(data))),
        (data_frame(2, 0, data) +
         json_frame(REQUEST, {"id": 3, "do": "put.commit", "put": 2,
                              "root": root_of(data), "level": "committed"}),
         lambda w: (w.reply(3), w.reply(2))),
        (json_frame(REQUEST, {"id": 4, "do": "get", "path": "/f",
                              "hash": "sha256"}), lambda w: w.note(4)),
        (credit_frame(4, 100) + cancel_frame(5) +
         json_frame(REQUEST, {"id": 6, "do": "list", "path": "/"}),
         lambda w: (w.reply(4), w.reply(6))),
    ]


def vanish(w, how):
    if how == 0:
        w.close(abruptly=True)
    elif how == 1:
        w.close()
    else:  # as a client that ends in order, but for the protocol
        try:
            w.stream.unwrap()
        except (OSError, ssl.SSLError):
            pass
        w.close()


def cut_after(house, size, number):
    """Says the first `size` bytes of the conversation, and vanishes."""
    w = Wire(house.address)
    try:
        for said, wait in conversation(f"v{number:05d}"):
            w.raw(said[:size])
            size -= len(said)
            if size < 0:
                break
            wait(w)
    finally:
        vanish(w, number % 3)


def test_a_client_may_vanish_at_any_byte(house):
    size = sum(len(said) for said, _ in conversation("v00000"))
    first = getattr(house, "vanished", 0)
    house.vanished = first + size + 1
    before = house.memory()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: cut_after(house, n, first + n),
                      range(size + 1)))
    opened = len(re.findall("open$", house.log(), re.M))
    house.until("closed", lambda: len(re.findall(
        r"conn=\w+ peer=\S+ (?:account=\S+ )?closed", house.log()))
        >= opened - 1)  # `good` stays
    # A sanitizer keeps what was freed.
    assert SANITIZED or house.memory() < before + 32 * 1024


def drafts(house):
    return [p for p in (house.data / "drafts").rglob("*") if p.is_file()]


def test_a_put_may_stop_anywhere_and_be_resumed(house):
    data = random.Random(3).randbytes(2 * MIB + 3000)
    source = b64(os.urandom(16))
    places = [0, 1, 100, (1 << 18) + 1, MIB - 1, MIB, MIB + 1, 2 * MIB,
              2 * MIB + 2999, len(data)]
    w = house.somebody()
    gone = []
    for n, place in enumerate(places):
        put = w.put("/f", len(data), source=source)
        have = w.ask("whoami")["reserved_bytes"]
        assert have == len(data)
        # A path of its own for each place: one connection, many uploads.
        one = w.put(f"/g{n}", len(data), source=source)
        for at in range(0, place, 4096 * 16):
            piece = data[at:min(at + 4096 * 16, place, (at // MIB + 1) * MIB)]
            w.granted(one, at + len(piece))
            w.raw(data_frame(one, at, piece))
        w.raw(cancel_frame(one) + cancel_frame(put))
        for id in (one, put):
            with pytest.raises(Refused, match="cancelled"):
                w.reply(id)
        again = w.request("put", **w.put_fields(f"/g{n}", len(data),
                                                source=source))
        note = w.note(again)
        have = note["have"]
        gone.append(base64.b64decode(note["draft"]).hex())
        assert sum(b - a for a, b in have) == place // MIB + \
            (place == len(data))
        sent = 0
        for chunk in range(3):
            if any(a <= chunk < b for a, b in have):
                continue
            for at in range(chunk * MIB, min((chunk + 1) * MIB, len(data)),
                            1 << 18):
                piece = data[at:at + (1 << 18)]
                sent += len(piece)
                w.granted(again, sent)
                w.raw(data_frame(again, at, piece))
        w.ask("put.commit", put=again, root=root_of(data), level="committed")
        assert w.reply(again) == {}
    who = w.ask("whoami")
    assert who["reserved_bytes"] == len(data), "the one of /f"
    assert who["used_files"] == len(places)
    # The published ones leave nothing, soon; the one of /f waits for its resume.
    last = time.monotonic() + PATIENCE
    while left := [p for p in drafts(house) if p.stem in gone]:
        assert time.monotonic() < last, left
        time.sleep(0.01)


def test_who_reads_nothing_makes_nothing_grow(house):
    w = house.somebody()
    house.store(w, "/mark", FILE[:4711])
    (space,) = {p.parent for p in (house.data / "spaces").glob("*/mark")}
    (space / "big").mkdir()
    for n in range(1000):
        (space / "big" / f"{n:0200}").touch()
    with open(space / "file", "wb") as f:
        f.truncate(8 * MIB)
    before = house.memory()
    for _ in range(100):
        id = w.request("get", path="/file", hash="sha256")
        w.raw(credit_frame(id, 2**30))
    for _ in range(75):
        w.request("list", path="/big")
    for _ in range(75):
        w.request("leaves", path="/file", hash="sha256", count=8, **{"from": 0})
    # The server takes all of it, and goes on with the others' work.
    for _ in range(200):
        assert house.good.ask("ping") == {}
        assert house.good.ask("hash", path="/file", hash="sha256")
    # 16 buffers of 1 MiB, coroutines' stacks, one page of names; a page for
    # each who asked would be 100 MiB.
    assert SANITIZED or house.memory() < before + 48 * 1024
    (space / "mark").unlink()
    w.close(abruptly=True)


# ---- time ------------------------------------------------------------------------------


@pytest.fixture
def hasty(tmp_path, poller):
    conf = tmp_path / "ferryd.conf"
    conf.write_text("[server]\nhandshake_timeout = 1s\nlogin_timeout = 1s\n")
    with House(tmp_path, "-v", "--registration", "open", "--config",
               conf) as h:
        h.wires = []
        yield h


def test_the_slow_are_sent_away(hasty):
    """All at once, as each takes its second."""
    host, port = hasty.address.rsplit(":", 1)
    silent = socket.create_connection((host, int(port)), timeout=PATIENCE)
    begun = socket.create_connection((host, int(port)), timeout=PATIENCE)
    begun.sendall(b"\x16\x03\x01\x02\x00\x01")  # half a ClientHello
    noise = socket.create_connection((host, int(port)), timeout=PATIENCE)
    noise.sendall(os.urandom(300))
    mute = hasty.newcomer()  # TLS, and nothing more
    half = hasty.newcomer().raw(b"\0\0\0\x20\x01{")
    idle = hasty.stranger_wire()
    busy = hasty.stranger_wire()  # keeps asking without ever logging in
    busy.stream.settimeout(PATIENCE)
    member = hasty.somebody("ada")
    began = time.monotonic()
    for n in range(10000):
        try:
            assert busy.refused("whoami") == "login.needed"
        except (wire.Ended, OSError):
            break
        time.sleep(0.02)
    assert busy.goodbye == "login.slow"
    assert idle.ended() == "login.slow"
    assert mute.ended() is None and half.ended() is None
    for s in (silent, begun, noise):
        try:
            while s.recv(1000):
                pass
        except ConnectionError:
            pass
        s.close()
    assert time.monotonic() - began < 30
    hasty.logged(idle, "login.slow")
    hasty.logged(mute, "connect.lost")
    hasty.logged(half, "connect.lost")
    hasty.until("3", lambda: hasty.log().count("connect.tls") == 3)
    assert member.ask("ping") == {}, "who is logged in may take its time"
    member.close()
