# SPDX-License-Identifier: MIT
"""Servers that lie: the client ends with a code, writes nothing but what was
asked for, and nothing that a terminal would obey."""
import hashlib
import json
import os
import random
import socket
import struct

import pytest

import wire
from ferry import PASSWORD
from wire import (CREDIT, DATA, GOODBYE, HELLO, MIB, NOTE, REPLY, REQUEST, Ended,
                  Impostor, Refused, b64, data_frame, frame, json_frame,
                  root_of)

DATA1 = random.Random(9).randbytes(MIB + 1000)
BROKEN = "protocol.broken"
ODD = "\x1b[31mred\x07\x9b\u202e"


@pytest.fixture
def place(tmp_path, poller):
    """Where the client works: nothing else may appear around it."""
    (tmp_path / "work").mkdir()
    (tmp_path / "bad").mkdir()
    return tmp_path


def entry(name="f", **more):
    return {"name": name, "type": "f", "size": len(DATA1), "mtime_ns": 0,
            "mode": 0o644, **more}


def run(place, bad, *args, status, code=None, home="home", env=None):
    """One command against the impostor; what it may never do, whatever it is
    told."""
    bad.client(place / home) if not (place / home).exists() else None
    client = wire.Client(place / home, env=env)
    result = client.run(*args, status=status, cwd=place / "work")
    for stream in (result.out, result.err):
        for c in stream:
            assert c == "\n" or c.isprintable(), (c, result)
    if code:
        assert f"ferry explain {code}" in result.err, result
    here = {p.relative_to(place).parts[0] for p in place.rglob("*")}
    assert here <= {"work", "bad", "home", "home2"}, here
    return result


def only_parts(place):
    left = {p.name for p in (place / "work").rglob("*")}
    assert all(n.startswith(".ferry-") for n in left), left


# ---- names and entries -------------------------------------------------------------


def page(*names, more=False):
    return lambda c, q: {"entries": [entry(n) for n in names], "more": more}


def pages_for_ever(*names):
    return {"list": page(*names, more=True)}


BAD_NAMES = ["../x", "..", ".", "a/b", "/etc/passwd", "", "x" * 256,
             {"b64": b64(b"a\0b")}, {"b64": b64(b"a/b")}, {"b64": "!"}, 5, None,
             ["x"]]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_a_name_that_cannot_be_one_is_not_listed(place, name):
    with Impostor(place / "bad", {"list": page(name)}) as bad:
        result = run(place, bad, "ls", status=1)
        assert "name.invalid" in result.err or BROKEN in result.err
        assert result.out == ""


@pytest.mark.parametrize("name", [ODD, {"b64": b64(b"\x1b]0;x\x07\xff")}])
def test_a_name_with_terminal_codes_is_shown_escaped(place, name):
    with Impostor(place / "bad", {"list": page(name)}) as bad:
        assert "\\x1b" in run(place, bad, "ls", status=0).out
        run(place, bad, "ls", "--json", status=0)


@pytest.mark.parametrize("names", [(), ("a", "b", "a"), ("b", "a"), ("a", "a"),
                                   ("a", "b"), ("",)], ids=repr)
def test_pages_that_never_end_do(place, names):
    with Impostor(place / "bad", pages_for_ever(*names)) as bad:
        run(place, bad, "ls", status=1)


@pytest.mark.parametrize("ok", [
    {}, {"entries": 5, "more": False}, {"entries": {}, "more": False},
    {"entries": [5], "more": False}, {"entries": [{}], "more": False},
    {"entries": [], "more": "yes"}, {"entries": [[]], "more": False}], ids=repr)
def test_a_listing_of_another_kind_is_refused(place, ok):
    with Impostor(place / "bad", {"list": lambda c, q: ok}) as bad:
        run(place, bad, "ls", status=1, code=BROKEN)


@pytest.mark.parametrize("change", [
    {"type": "x"}, {"type": ""}, {"type": "ff"}, {"type": 5}, {"size": -1},
    {"size": "1"}, {"size": 1.5}, {"size": None}, {"mtime_ns": "x"},
    {"mtime_ns": 1.0}, {"mode": -1}, {"mode": 0o10000}, {"mode": []},
    {"hash": 5}, {"hash": "sha256:xx"}, {"hash": "md5:" + "0" * 32},
    {"hash": ODD}], ids=repr)
def test_an_entry_with_a_strange_field_is_refused(place, change):
    answers = {"list": lambda c, q: {"entries": [entry(**change)],
                                     "more": False},
               "stat": lambda c, q: entry(**change)}
    with Impostor(place / "bad", answers) as bad:
        run(place, bad, "ls", status=1, code=BROKEN)
        run(place, bad, "get", ":/f", status=1, code=BROKEN)
        only_parts(place)


@pytest.mark.parametrize("verb, args", [
    ("whoami", ["whoami"]), ("stat", ["get", ":/f"]), ("list", ["ls"]),
    ("hash", ["hash", ":/f"]), ("put", ["put", "/dev/null"]),
    ("get", ["get", ":/f"])])
@pytest.mark.parametrize("ok", [5, "x", [], None, {"size": []}], ids=repr)
def test_a_reply_of_another_kind_is_refused(place, verb, args, ok):
    def say(c, q):
        c.send_json(REPLY, {"id": q["id"], "ok": ok})

    answers = {"stat": lambda c, q: entry(), verb: say}
    (place / "work/src").write_bytes(b"hello")
    with Impostor(place / "bad", answers) as bad:
        args = ["src" if a == "/dev/null" else a for a in args]
        run(place, bad, *args, status=1, code=BROKEN)


# ---- downloads ---------------------------------------------------------------------


def send_as_granted(c, id, pieces):
    """Sends pieces as credit comes; the reply is the caller's."""
    sent = 0
    for at, piece in pieces:
        sent += len(piece)
        c.granted(id, sent)
        c.raw(data_frame(id, at, piece))


def pieces_of(data):
    return [(at, data[at:min(at + (1 << 18), (at // MIB + 1) * MIB)])
            for at in range(0, len(data), 1 << 18)]


def honest(data=DATA1, **change):
    """A get that is right but for what `change` says."""
    def get(c, q):
        c.send_json(NOTE, {"id": q["id"], "size": len(data), "mtime_ns": 0,
                           "mode": 0o644, **change.get("note", {})})
        send_as_granted(c, q["id"], pieces_of(data))
        return change.get("ok", {"root": root_of(data)})

    return {"stat": lambda c, q: entry(**change.get("stat", {})), "get": get,
            "leaves": lambda c, q: {"leaves": b64(b"".join(
                hashlib.sha256(b"\0" + data[at:at + MIB]).digest()
                for at in range(0, len(data), MIB)))},
            "hash": lambda c, q: {"root": root_of(data), "size": len(data)}}


def test_an_honest_server_is_believed(place):
    """What is told apart below differs from this in one thing each."""
    with Impostor(place / "bad", honest()) as bad:
        run(place, bad, "get", ":/f", status=0)
    assert (place / "work/f").read_bytes() == DATA1


WRONG_HASH = {"root": "sha256:" + "0" * 64}


def test_a_wrong_hash_leaves_no_file(place):
    answers = honest(ok=WRONG_HASH)
    answers["hash"] = lambda c, q: WRONG_HASH
    with Impostor(place / "bad", answers) as bad:
        run(place, bad, "get", ":/f", status=1, code="transfer.damaged")
    only_parts(place)


@pytest.mark.parametrize("change, code", [
    ({"note": {"size": len(DATA1) + 1}}, "file.changed"),
    ({"note": {"size": 0}}, "file.changed"),
    ({"note": {"size": 2**62}}, "file.changed"),
    ({"note": {"size": -1}}, BROKEN), ({"note": {"size": "x"}}, BROKEN),
    ({"note": {"mtime_ns": 5}}, "file.changed"),
    ({"note": {"mtime_ns": []}}, BROKEN),
    ({"ok": {"root": "xxh128:" + "0" * 32}}, BROKEN),
    ({"ok": {"root": 7}}, BROKEN), ({"ok": {"root": ODD}}, BROKEN),
    ({"stat": {"size": 2**62}}, None), ({"stat": {"size": 2**43}}, "disk.full"),
    ({"stat": {"type": "d"}}, "file.is_directory"),
    ({"stat": {"type": "l"}}, "file.not_regular")], ids=repr)
def test_a_lie_about_a_file_is_found(place, change, code):
    with Impostor(place / "bad", honest(**change)) as bad:
        result = run(place, bad, "get", ":/f", status=1, code=code)
        assert "internal" not in result.err
    only_parts(place)


def lies(*said):
    """A get that sends these once the first credit is there."""
    def get(c, q):
        c.send_json(NOTE, {"id": q["id"], "size": len(DATA1), "mtime_ns": 0,
                           "mode": 0o644})
        c.granted(q["id"], 1)
        for piece in said:
            c.raw(piece(q["id"]) if callable(piece) else piece)
        while True:  # until the client ends it
            c.step()

    return {**honest(), "get": get}


def at(offset, size):
    return lambda id: data_frame(id, offset, bytes(size))


@pytest.mark.parametrize("said, code", [
    ([at(0, 1 << 18)] * 20, "transfer.range"),
    ([at(n << 18, 1 << 18) for n in range(4)] +
     [at(MIB, 1000), at(MIB + 1000, 1)], None),
    ([at(5, 10)], "transfer.range"), ([at(2 * MIB, 10)], "transfer.range"),
    ([at(2**62, 10)], "transfer.range"), ([at(0, 10), at(MIB, 10)],
                                          "transfer.range"),
    ([at(MIB, 1001)], "transfer.range"),
    ([at(0, (1 << 18) + 1)], "protocol.too_long"),
    ([data_frame(1000, 0, b"x")], "transfer.credit"),
    ([data_frame(0, 0, b"x")], BROKEN),
    ([frame(9, b"x")], BROKEN), ([json_frame(REQUEST, {"id": 1, "do": "x"})],
                                 BROKEN),
    ([frame(6, struct.pack(">I", 1))], BROKEN),
    ([json_frame(HELLO, {"version": 1})], BROKEN),
    ([struct.pack(">IB", 2**32 - 1, REPLY)], "protocol.too_long"),
    ([struct.pack(">IB", MIB + 2, REPLY)], "protocol.too_long"),
    ([struct.pack(">IB", MIB + 2, NOTE)], "protocol.too_long"),
    ([json_frame(REPLY, {"id": 1000, "ok": {}})], BROKEN),
    ([json_frame(NOTE, {"id": 1000})], BROKEN),
    ([lambda id: json_frame(REPLY, {"id": id})], BROKEN),
    ([lambda id: json_frame(REPLY, {"id": id, "ok": {}, "problem": {}})],
     BROKEN),
    ([lambda id: json_frame(REPLY, {"id": id, "ok": {}})], BROKEN),
    ([lambda id: json_frame(NOTE, {"id": id})] * 70, None),
    ([frame(REPLY, b'{"id":1,"ok":{' + b'"a":{' * 20 + b"}" * 21)], BROKEN),
    ([frame(CREDIT, struct.pack(">II", 1000, 5))] * 2000, BROKEN),
], ids=range(25))
def test_a_stream_that_breaks_the_rules_is_ended(place, said, code):
    with Impostor(place / "bad", lies(*said)) as bad:
        if code is None:  # data beyond the file's credit, or harmless: not kept
            def bounded(c, q, get=bad.answers["get"]):
                bad_said = list(said)
                c.send_json(NOTE, {"id": q["id"], "size": len(DATA1),
                                   "mtime_ns": 0, "mode": 0o644})
                c.granted(q["id"], 1)
                for piece in bad_said:
                    c.raw(piece(q["id"]))
                c.raw(json_frame(REPLY, {"id": q["id"], "ok": {}}))

            bad.answers["get"] = bounded
        result = run(place, bad, "get", ":/f", status=1, code=code)
        assert "internal" not in result.err
    only_parts(place)


# ---- uploads -----------------------------------------------------------------------


@pytest.mark.parametrize("note", [
    {}, {"have": 5}, {"have": [[0, 9]]}, {"have": [[1, 0]]},
    {"have": [[-1, 1]]}, {"have": [[0, 1], [0, 1]]},
    {"have": [[2**62, 2**63 - 1]]}, {"have": [["a", "b"]]}], ids=repr)
def test_a_put_that_is_told_nonsense_ends(place, note):
    def put(c, q):
        c.send_json(NOTE, {"id": q["id"], **note})

    (place / "work/src").write_bytes(DATA1)
    with Impostor(place / "bad", {"put": put, "stat": lambda c, q: entry()}) as bad:
        run(place, bad, "put", "src", status=1, code=BROKEN)


def take_all(c, q):
    """The honest side of a put, whatever comes."""
    id = q["id"]
    c.send_json(NOTE, {"id": id, "draft": b64(bytes(16)), "have": [],
                       "missing": 2})
    c.raw(wire.credit_frame(id, q["size"]))
    c.put = id


@pytest.mark.parametrize("commit, code", [
    ({"ok": {}}, BROKEN), ({"ok": {"level": 5}}, BROKEN),
    ({"ok": {"level": ODD, "root": "x"}}, BROKEN),
    ({"ok": {"level": "received"}}, BROKEN),
    ({"problem": {"code": "transfer.damaged"}}, None),
    ({"problem": {"code": "file.busy", "name": ODD}}, "file.busy"),
    ({"problem": {}}, BROKEN)], ids=repr)
def test_a_commit_that_is_answered_strangely_is_no_success(place, commit, code):
    def say(c, q):
        c.send_json(REPLY, {"id": q["id"], **commit})

    (place / "work/src").write_bytes(DATA1)
    with Impostor(place / "bad", {
            "put": take_all, "put.commit": say,
            "put.leaves": lambda c, q: {"missing": []}}) as bad:
        result = run(place, bad, "put", "src", status=1, code=code)
        assert "committed" not in result.out


# ---- problems and goodbyes ---------------------------------------------------------


PROBLEMS = [
    ({"code": "quota.bytes", "limit": 2**62, "used": 1, "size": 2}, 1,
     "quota.bytes"),
    ({"code": "new.kind", "name": ODD, "detail": ODD}, 1, "new.kind"),
    ({"code": "file.missing", "name": ODD}, 1, "file.missing"),
    ({"code": ODD}, 1, BROKEN), ({"code": ""}, 1, BROKEN),
    ({"code": 5}, 1, BROKEN), ({}, 1, BROKEN), (5, 1, BROKEN), ("x", 1, BROKEN),
    ({"code": "file.missing", "limit": -1}, 1, BROKEN),
    ({"code": "file.missing", "name": {"b64": b64(b"\x1b\xff")}}, 1,
     "file.missing"),
    ({"code": "file.missing", "name": "x" * 60000}, 1, BROKEN),
    ({"code": "internal", "error": ODD, "detail": "x"}, 1, "internal"),
    ({"code": "connect.timeout", "when": -2**63}, 3, "connect.timeout"),
    ({"code": "server.stopping"}, 3, "server.stopping"),
    ({"code": "none"}, 1, None),
]


@pytest.mark.parametrize("problem, status, code", PROBLEMS, ids=repr)
def test_an_odd_problem_is_said_plainly(place, problem, status, code):
    def refuse(c, q):
        c.send_json(REPLY, {"id": q["id"], "problem": problem})

    def goodbye(c, q):
        c.send_json(GOODBYE, {"problem": problem})
        c.ended()

    with Impostor(place / "bad", {"list": refuse}) as bad:
        run(place, bad, "ls", status=status, code=code)
        if isinstance(problem, dict):
            run(place, bad, "ls", "--json", status=status)
        bad.answers["list"] = goodbye
        run(place, bad, "ls", status=status, code=code)


def test_texts_of_a_mebibyte_are_not_taken(place):
    long = {"code": "file.missing", "name": "x" * (MIB + 100)}
    answers = {"list": lambda c, q: c.send_json(REPLY, {"id": q["id"],
                                                        "problem": long})}
    with Impostor(place / "bad", answers) as bad:
        bad.answers["list"] = lambda c, q: (c.send_json(
            REPLY, {"id": q["id"], "problem": long}), None)[1]
        run(place, bad, "ls", status=1, code="protocol.too_long")
        bad.answers["list"] = lambda c, q: (c.send_json(
            GOODBYE, {"problem": long}), None)[1]
        run(place, bad, "ls", status=1, code="protocol.too_long")


def test_a_goodbye_in_order_in_the_middle_is_a_lost_connection(place):
    def goodbye(c, q):
        c.send_json(GOODBYE, {"problem": None})
        c.ended()

    with Impostor(place / "bad", {"list": goodbye}) as bad:
        run(place, bad, "ls", status=3, code="connect.lost")


@pytest.mark.parametrize("hello, status, code", [
    (json_frame(HELLO, {}), 1, BROKEN),
    (json_frame(HELLO, {"version": 9, "least": 5}), 1, "protocol.version"),
    (json_frame(REPLY, {"id": 1, "ok": {}}), 1, BROKEN),
    (struct.pack(">IB", 8194, HELLO), 1, "protocol.too_long"),
    (json_frame(GOODBYE, {"problem": {"code": "server.full", "limit": 3}}), 1,
     "server.full"),
    (b"SSH-2.0-x\r\n", 1, BROKEN), (b"", 3, "connect.lost")], ids=repr)
def test_a_wrong_hello_ends_it(place, hello, status, code):
    def talk(c):
        c.raw(hello)
        if hello:
            c.ended()

    with Impostor(place / "bad", talk=talk) as bad:
        run(place, bad, "ls", status=status, code=code)


# ---- below the protocol ------------------------------------------------------------


def read_some(raw):
    raw.recv(1)


def in_the_middle(raw):
    raw.recv(4096)
    raw.sendall(b"\x16\x03\x03\x00\x7a\x02\x00")  # a ServerHello, begun


def no_tls(raw):
    raw.recv(4096)
    raw.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n\x1b[31m")


def alert(raw):
    raw.recv(4096)
    raw.sendall(b"\x15\x03\x03\x00\x02\x02\x28")


def reset(raw):
    raw.recv(1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("raw, code", [
    (lambda r: None, "connect.failed"), (read_some, "connect.failed"),
    (in_the_middle, "connect.failed"), (reset, "connect.failed"),
    (no_tls, "connect.tls"), (alert, "connect.tls"),
], ids=["closed", "read", "middle", "reset", "http", "alert"])
def test_a_handshake_that_fails_is_said(place, raw, code):
    with Impostor(place / "bad", raw=raw) as bad:
        run(place, bad, "ls", status=3, code=code)


def test_a_changed_key_is_warned_about_and_nothing_is_sent(place):
    with Impostor(place / "bad") as bad:
        bad.client(place / "home")
        (place / "home/pins.json").write_text(json.dumps(
            {bad.address: b64(bytes(32))}))
        result = run(place, bad, "ls", status=4, code="server.changed")
        assert "WARNING" in result.err


@pytest.mark.parametrize("first, status, code", [
    ("i=1", 4, "login.parameters"), ("i=99999", 4, "login.parameters"),
    ("i=4000000000", 4, "login.parameters"), ("i=0", 1, BROKEN),
    ("i=-5", 1, BROKEN), ("i=99999999999999999999", 1, BROKEN),
    ("i=x", 1, BROKEN), ("", 1, BROKEN)])
def test_login_parameters_that_endanger_the_password_are_refused(
        place, first, status, code):
    def start(c, q):
        nonce = q["first"].split("r=")[1]
        return {"first": f"r={nonce}abcdef,s={b64(bytes(16))},{first}"}

    finals = []
    with Impostor(place / "bad", {"login.start": start,
                                  "login.finish": lambda c, q:
                                  finals.append(q)}) as bad:
        bad.client(place / "home", device=False)
        run(place, bad, "ls", status=status, code=code,
            env={"FERRY_PASSWORD": PASSWORD})
        assert not finals, "a proof was sent"


def test_a_server_that_does_not_know_the_password_is_found_out(place):
    def start(c, q):
        nonce = q["first"].split("r=")[1]
        return {"first": f"r={nonce}abcdef,s={b64(bytes(16))},i=100000"}

    with Impostor(place / "bad", {
            "login.start": start,
            "login.finish": lambda c, q: {"final": f"v={b64(bytes(32))}",
                                          "name": "ada"}}) as bad:
        bad.client(place / "home", device=False)
        run(place, bad, "ls", status=4, code="server.changed",
            env={"FERRY_PASSWORD": PASSWORD})


# ---- silence -----------------------------------------------------------------------


def silence(c, q):
    """Takes everything, and says nothing more: not even to a ping."""
    c.answered = True
    while True:
        c.step()


@pytest.mark.parametrize("verb, args", [
    ("list", ["ls"]), ("hash", ["hash", ":/f"]), ("get", ["get", ":/f"]),
    ("put", ["put", "src"]), ("put.commit", ["put", "src"]),
    ("leaves", ["get", ":/f"]), ("login.device", ["ls"])])
def test_a_server_that_falls_silent_is_given_up(place, verb, args):
    (place / "work/src").write_bytes(DATA1)
    answers = {**honest(ok=WRONG_HASH), "put": take_all}
    answers[verb] = silence
    with Impostor(place / "bad", answers) as bad:
        run(place, bad, *args, status=3, code="connect.timeout",
            env={"FERRY_TIMEOUT": "1"})


def test_a_server_that_never_says_hello_is_given_up(place):
    with Impostor(place / "bad", talk=lambda c: c.ended()) as bad:
        result = run(place, bad, "ls", status=3, env={"FERRY_TIMEOUT": "1"})
        assert "connect." in result.err
    with Impostor(place / "bad", raw=lambda r: r.recv(1 << 20) and
                  r.recv(1 << 20)) as bad:
        run(place, bad, "ls", status=3, code="connect.timeout", home="home2",
            env={"FERRY_TIMEOUT": "1"})


def test_who_works_for_long_but_answers_a_ping_is_waited_for(place):
    """A hash takes longer than the patience with silence; pings are answered
    meanwhile."""
    def slowly(c, q):
        pings = 0
        while pings < 3:
            if c.step() == REQUEST and c.asked["do"] == "ping":
                c.send_json(REPLY, {"id": c.asked["id"], "ok": {}})
                pings += 1
        return {"root": root_of(b""), "size": 0}

    with Impostor(place / "bad", {"hash": slowly}) as bad:
        run(place, bad, "hash", ":/f", status=0, env={"FERRY_TIMEOUT": "1"})
