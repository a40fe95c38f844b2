# SPDX-License-Identifier: MIT
"""The verbs, one by one, as the protocol has them: used as they are meant, and
with what no client of ours would send."""
import os

import pytest

from ferry import SANITIZED, Server
from wire import (DATA, MIB, REQUEST, Refused, Wire, cancel_frame, credit_frame,
                  data_frame, json_frame, root_of)

INVALID = "request.invalid"
B64 = {"b64": "/w=="}  # a byte that is no UTF-8
SMALL = 1 << 18


@pytest.fixture(scope="module", params=["uring", "epoll"])
def house(request, tmp_path_factory):
    with Server(tmp_path_factory.mktemp("house"), "-v", "--registration",
                "open", env={"KEEL_POLLER": request.param}) as s:
        s.people = 0
        yield s
        assert "internal" not in s.log(), s.log()


@pytest.fixture
def w(house):
    """Somebody who has just joined."""
    house.people += 1
    with Wire(house.address).hello() as wire:
        wire.name = f"p{house.people}"
        yield wire.register(wire.name)
        if wire.goodbye is None:
            assert wire.ask("ping") == {}, "the connection is not well"


def fetch(w, path, size, **more):
    """A get whose credit goes with it."""
    id = w.request("get", path=path, hash="sha256", **more)
    if size:
        w.raw(credit_frame(id, size))
    root = w.reply(id).get("root")
    data = b"".join(d for _, d in w.data.pop(id, []))
    assert root is None or root == root_of(data)
    return data


# ---- small files at once --------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4096, 65537, SMALL - 1, SMALL])
@pytest.mark.parametrize("level", ["received", "synced", "committed"])
def test_a_small_file_at_once(w, size, level):
    data = os.urandom(size)
    id = w.put_now("/f", data, level=level)
    assert w.reply(id) == {"level": level, "root": root_of(data)}
    assert id not in w.notes and id not in w.credit
    if level == "committed":
        assert w.ask("stat", path="/f")["size"] == size
        assert fetch(w, "/f", size) == data


def test_an_entry_has_what_the_protocol_says(w, house):
    one = 1_500_000_000_000_000_001
    w.ask("mkdir", path="/d", mode=0o750)
    w.ask("link", path="/d/l", target="a b", mtime_ns=one)
    roots = {"sha256": root_of(b"abc")}
    for name in ("sha256", "xxh128"):
        root = w.reply(w.put_now(f"/d/{name}", b"abc", hash=name,
                                 root=roots[name], mtime_ns=one,
                                 mode=0o640))["root"]
        assert root == roots[name] and root.startswith(name + ":")
        assert w.ask("stat", path=f"/d/{name}") == {
            "name": name, "type": "f", "size": 3, "mtime_ns": one,
            "mode": 0o640, "hash": root}
        # What is computed besides takes the place of nothing that is known.
        for kind in ("sha256", "xxh128"):
            root = w.ask("hash", path=f"/d/{name}", hash=kind)["root"]
            assert roots.setdefault(kind, root) == root
        assert w.ask("stat", path=f"/d/{name}")["hash"] == roots[name]
    link, = [e for e in w.ask("list", path="/d")["entries"]
             if e["name"] == "l"]
    mode = link.pop("mode")
    assert link == {"name": "l", "type": "l", "size": 3, "mtime_ns": one,
                    "target": "a b"} and isinstance(mode, int)
    directory = w.ask("stat", path="/d")
    assert directory["mtime_ns"] > one
    del directory["mtime_ns"]
    assert directory == {"name": "d", "type": "d", "size": 0, "mode": 0o750}
    assert w.ask("stat", path="/")["name"] == ""
    w.ask("link", path=B64, target=B64)
    named, = [e for e in w.ask("list", path="/")["entries"]
              if e["type"] == "l"]
    assert named["name"] == named["target"] == {"b64": "/w=="}
    # Somebody else's hand: a pipe is '?', what was changed has no hash.
    spaces = [s for s in (house.data / "spaces").iterdir()
              if (s / "d" / "xxh128").exists()]
    os.mkfifo(spaces[-1] / "d" / "pipe")
    (spaces[-1] / "d" / "xxh128").write_bytes(b"abcd")
    (spaces[-1] / "d" / "xxh128").chmod(0o4755)
    seen = {e["name"]: e for e in w.ask("list", path="/d")["entries"]}
    assert seen["pipe"]["type"] == "?"
    assert "hash" not in seen["xxh128"] and seen["xxh128"]["size"] == 4
    assert seen["xxh128"]["mode"] == 0o4755


def test_many_at_once_in_any_order(w):
    files = {f"/f{n}": os.urandom(n * 37) for n in range(255)}
    ids = {w.put_now(path, data): data for path, data in files.items()}
    for id, data in reversed(ids.items()):
        assert w.reply(id)["root"] == root_of(data)
    entries = w.ask("list", path="/")["entries"]
    assert {"/" + e["name"]: e["size"] for e in entries} == \
        {path: len(data) for path, data in files.items()}
    gets = {w.request("get", path=path, hash="sha256"): data
            for path, data in list(files.items())[:250] if data}
    for id, data in gets.items():
        w.raw(credit_frame(id, len(data)))
    for id, data in gets.items():
        assert w.reply(id)["root"] == root_of(data)
        assert b"".join(d for _, d in w.data[id]) == data


def test_one_frame_more_than_a_small_file_is_no_small_file(w):
    fields = {**w.put_fields("/f", SMALL + 1), "root": root_of(b""),
              "level": "committed"}
    assert w.refused("put", **fields) == INVALID
    id = w.request("put", **fields)
    w.raw(data_frame(id, 0, bytes(SMALL)))
    assert w.ended() == "transfer.credit"


REFUSED = {
    "another root": ({"root": root_of(b"other")}, "transfer.damaged"),
    "no root at all": ({"root": "sha256:12"}, INVALID),
    "another hash": ({"root": "xxh128:" + "0" * 32}, INVALID),
    "a root that is no text": ({"root": 7}, INVALID),
    "an unknown level": ({"level": "durable"}, INVALID),
    "a level that is no text": ({"level": []}, INVALID),
    "a path that is none": ({"path": 7}, INVALID),
    "a missing parent": ({"path": "/no/f"}, "file.missing"),
    "the root of all": ({"path": "/"}, "file.is_directory"),
    "a mode that is none": ({"mode": 0o10000}, INVALID),
    "an unknown hash": ({"hash": "md5"}, INVALID),
    "a wrong match": ({"match": root_of(b"other")}, "file.match"),
    "no replacing": ({"path": "/there", "no_replace": True}, "file.exists"),
}


@pytest.mark.parametrize("size", [1, SMALL])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing(w, house, name, size):
    change, code = REFUSED[name]
    w.reply(w.put_now("/there", b"x"))
    before = w.ask("whoami")
    first = w.put_now(**{"path": "/f", "data": bytes(size), **change})
    second = w.put_now("/g", b"after it")
    with pytest.raises(Refused) as e:
        w.reply(first)
    assert e.value.code == code, e.value
    assert w.reply(second)["level"] == "committed"
    after = w.ask("whoami")
    assert after["used_files"] == before["used_files"] + 1
    assert after["reserved_bytes"] == 0
    names = [e["name"] for e in w.ask("list", path="/")["entries"]]
    assert names == ["g", "there"]
    assert not [p for p in (house.data / "drafts").rglob("*") if p.is_file()]


def test_half_of_root_and_level_is_named(w):
    for there, missing in (("root", "level"), ("level", "root")):
        value = root_of(b"x") if there == "root" else "committed"
        with pytest.raises(Refused) as e:
            w.ask("put", **w.put_fields("/f", 1), **{there: value})
        assert e.value.code == INVALID
        assert missing in e.value.problem["detail"]


def test_the_data_is_the_next_frame(w):
    fields = {"id": 77, "do": "put", **w.put_fields("/f", 3),
              "root": root_of(b"abc"), "level": "committed"}
    w.raw(json_frame(REQUEST, fields) + cancel_frame(77) +
          data_frame(77, 0, b"abc"))
    assert w.ended() == "protocol.broken"


ODD_DATA = {
    "of another request": (lambda id: data_frame(id + 1, 0, b"abc"),
                           "protocol.broken"),
    "too little": (lambda id: data_frame(id, 0, b"ab"), "transfer.credit"),
    "too much": (lambda id: data_frame(id, 0, b"abcd"), "transfer.credit"),
    "elsewhere": (lambda id: data_frame(id, 1, b"abc"), "protocol.broken"),
    "twice": (lambda id: 2 * data_frame(id, 0, b"abc"), "transfer.credit"),
    "in two frames": (lambda id: data_frame(id, 0, b"a") +
                      data_frame(id, 1, b"bc"), "transfer.credit"),
}


@pytest.mark.parametrize("name", ODD_DATA)
def test_odd_data_ends_it(w, name):
    make, code = ODD_DATA[name]
    fields = {"id": 77, "do": "put", **w.put_fields("/f", 3),
              "root": root_of(b"abc"), "level": "committed"}
    w.raw(json_frame(REQUEST, fields) + make(77))
    assert w.ended() == code


def test_before_login_the_data_is_dropped(house):
    with Wire(house.address).hello() as w:
        ids = [w.put_now("/f", bytes(SMALL)) for _ in range(8)]
        for id in ids:
            with pytest.raises(Refused, match="login.needed"):
                w.reply(id)
        w.name = f"late{house.people}"
        house.people += 1
        w.register(w.name)
        assert w.reply(w.put_now("/f", b"in"))["level"] == "committed"


def test_a_line_that_breaks_in_the_middle_leaves_nothing(w, house):
    data = os.urandom(SMALL)
    with Wire(house.address).hello() as other:
        other.register(w.name + "x")
        fields = {"id": 5, "do": "put", **other.put_fields("/f", SMALL),
                  "root": root_of(data), "level": "committed"}
        other.raw(json_frame(REQUEST, fields) +
                  data_frame(5, 0, data)[:SMALL // 2])
        assert w.ask("ping") == {}
        other.close(abruptly=True)
    house.wait_log(f"account={w.name}x closed result=connect.lost")
    assert not [p for p in (house.data / "drafts").rglob("*") if p.is_file()]


def test_cancelled_or_done_each_has_its_reply(w):
    ids = {n: w.put_now(f"/f{n}", os.urandom(1000)) for n in range(50)}
    w.raw(b"".join(cancel_frame(id) for id in ids.values()))
    done = set()
    for n, id in ids.items():
        try:
            w.reply(id)
            done.add(f"f{n}")
        except Refused as e:
            assert e.code == "cancelled"
    entries = w.ask("list", path="/")["entries"]
    assert {e["name"] for e in entries} == done


def test_more_than_8_mib_unanswered_ends_it(w):
    """The limit is the client's to keep: it is broken only when the server has
    not answered, which one who takes no replies brings about."""
    data = bytes(SMALL)
    sent = b"".join(
        json_frame(REQUEST, {"id": 1000 + n, "do": "put",
                             **w.put_fields("/same", SMALL),
                             "root": root_of(data), "level": "committed"}) +
        data_frame(1000 + n, 0, data) for n in range(200))
    w.raw(sent)
    # One name: each waits for the one before it to be settled.
    assert w.ended() == "transfer.credit"


def test_over_the_quota_it_is_refused_and_the_rest_goes_on(tmp_path, poller):
    conf = tmp_path / "conf"
    conf.write_text("[vault]\nquota = 100000\n")
    with Server(tmp_path, "--registration", "open", "--config", conf) as s, \
            Wire(s.address).hello() as w:
        w.register("ada")
        ids = [w.put_now(f"/f{n}", bytes(1000)) for n in range(150)]
        done = 0
        for id in ids:
            try:
                w.reply(id)
                done += 1
            except Refused as e:
                assert e.code == "quota.bytes"
        assert done == 100
        who = w.ask("whoami")
        assert who["used_bytes"] == 100000 and who["used_files"] == 100
        assert len(w.ask("list", path="/")["entries"]) == 100
