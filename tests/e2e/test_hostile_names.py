# SPDX-License-Identifier: MIT
"""Clients that lie about trees: the verbs that make, move, link, set and remove
take no name and no field that is none, and hold in storms of them at once."""
import os
import pathlib

import pytest

from ferry import Server
from wire import Refused, Wire, b64, json_frame, root_of, REQUEST

INVALID = "request.invalid"
NAME = "name.invalid"


@pytest.fixture(scope="module", params=["uring", "epoll"])
def house(request, tmp_path_factory):
    tmp = tmp_path_factory.mktemp("house")
    (tmp / "outside").mkdir()
    (tmp / "outside/mine").write_bytes(b"mine")
    with Server(tmp, "--registration", "open",
                env={"KEEL_POLLER": request.param}) as s:
        s.people = 0
        yield s
        assert "internal" not in s.log(), s.log()
        assert sorted(p.name for p in (tmp / "outside").iterdir()) == ["mine"]
        assert (tmp / "outside/mine").read_bytes() == b"mine"


@pytest.fixture
def w(house):
    """Somebody with a file, a directory and a link that leads out."""
    house.people += 1
    with Wire(house.address).hello() as wire:
        wire.name = f"p{house.people}"
        wire.register(wire.name)
        wire.reply(wire.put_now("/f", b"file"))
        wire.ask("mkdir", path="/d")
        wire.ask("link", path="/out", target=str(house.tmp / "outside"))
        yield wire
        assert wire.ask("ping") == {}, "the connection is not well"


def names(w, path="/"):
    return sorted(e["name"] for e in w.ask("list", path=path)["entries"])


PATHS = {
    "dot": ("/.", NAME), "dots": ("/..", NAME),
    "up": ("/../../etc/x", NAME), "up later": ("/d/../../x", NAME),
    "NUL": ({"b64": b64(b"/a\0b")}, NAME), "256 bytes": ("/" + "x" * 256, NAME),
    "4097 bytes": ("/" + ("x" * 200 + "/") * 20 + "y" * 76, "path.too_long"),
    "129 deep": ("/" + "/".join("d" * 129), "path.too_deep"),
    "a number": (5, INVALID), "null": (None, INVALID), "a list": (["x"], INVALID),
    "no base64": ({"b64": "!!"}, INVALID), "empty b64": ({"b64": 1}, INVALID),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_that_is_none_is_refused_by_every_change(w, name):
    path, code = PATHS[name]
    for verb, fields in (
            ("mkdir", {"path": path}), ("mkdir", {"path": path,
                                                  "parents": True}),
            ("link", {"path": path, "target": "f"}),
            ("set", {"path": path, "mtime_ns": 1}),
            ("remove", {"path": path}), ("remove", {"path": path,
                                                    "recursive": True}),
            ("move", {"path": path, "to": "/g"}),
            ("move", {"path": "/f", "to": path})):
        assert w.refused(verb, **fields) == code, (verb, fields)
    for fields in ({}, {"data": b""}):
        with pytest.raises(Refused) as e:
            w.reply(w.put_now(path, fields.get("data", b"x")))
        assert e.value.code == code
    assert names(w) == ["d", "f", "out"]


ODD = "x" * 4096
FIELDS = [
    ("mkdir", {}, INVALID), ("mkdir", {"path": "/n", "mode": 0o10000}, INVALID),
    ("mkdir", {"path": "/n", "mode": -1}, INVALID),
    ("mkdir", {"path": "/n", "parents": 1}, INVALID),
    ("mkdir", {"path": "/no/n"}, "file.missing"),
    ("mkdir", {"path": "/d"}, "file.exists"),
    ("mkdir", {"path": "/f/n"}, "file.not_directory"),
    ("mkdir", {"path": "/out/n"}, "file.escapes"),
    ("mkdir", {"path": "/out/n/n", "parents": True}, "file.escapes"),
    ("link", {"path": "/n"}, INVALID), ("link", {"path": "/n", "target": ""},
                                        INVALID),
    ("link", {"path": "/n", "target": ODD}, INVALID),
    ("link", {"path": "/n", "target": 5}, INVALID),
    ("link", {"path": "/n", "target": {"b64": b64(b"a\0b")}}, INVALID),
    ("link", {"path": "/n", "target": "f", "mtime_ns": "x"}, INVALID),
    ("link", {"path": "/out/n", "target": "f"}, "file.escapes"),
    ("link", {"path": "/d", "target": "f"}, "file.is_directory"),
    ("set", {"path": "/f", "mode": 0o10000}, INVALID),
    ("set", {"path": "/f", "mtime_ns": 1.5}, INVALID),
    ("set", {"path": "/no", "mtime_ns": 1}, "file.missing"),
    ("set", {"path": "/out/mine", "mode": 0o777}, "file.escapes"),
    ("move", {"path": "/f"}, INVALID), ("move", {"path": "/", "to": "/n"}, None),
    ("move", {"path": "/d", "to": "/d/n"}, None),
    ("move", {"path": "/no", "to": "/n"}, "file.missing"),
    ("move", {"path": "/f", "to": "/d"}, "file.is_directory"),
    ("move", {"path": "/d", "to": "/f"}, "file.exists"),
    ("move", {"path": "/f", "to": "/out/f"}, "file.escapes"),
    ("move", {"path": "/out/mine", "to": "/n"}, "file.escapes"),
    ("remove", {"path": "/"}, None), ("remove", {"path": "/", "recursive": True},
                                      None),
    ("remove", {"path": "/out/mine"}, "file.escapes"),
    ("remove", {"path": "/f", "recursive": 5}, INVALID),
    ("remove", {"path": "/no"}, "file.missing"),
]


@pytest.mark.parametrize("verb, fields, code", FIELDS,
                         ids=[f"{v} {str(f)[:60]}" for v, f, _ in FIELDS])
def test_strange_changes_are_refused(w, verb, fields, code):
    got = w.refused(verb, **fields)
    if code:
        assert got == code
    assert got != "internal"
    assert names(w) == ["d", "f", "out"]


@pytest.mark.parametrize("space", ["", "no such", "../x", "home", "x" * 65, 5,
                                   None, ["a"]], ids=repr)
def test_spaces_that_are_none_are_refused(w, space):
    for verb, fields in (("mkdir", {}), ("link", {"target": "f"}),
                         ("set", {"mtime_ns": 1}), ("remove", {}),
                         ("move", {"to": "/g"}), ("list", {}), ("stat", {})):
        got = w.refused(verb, path="/f", space=space, **fields)
        assert got in (INVALID, "space.unknown", "space.name", NAME), got


def test_another_persons_space_is_not_there(w, house):
    with Wire(house.address).hello() as other:
        other.register(w.name + "x")
        other.reply(other.put_now("/secret", b"secret"))
        for space in (w.name + "x", w.name):
            assert w.refused("list", path="/", space=space) == "space.unknown"
    assert names(w) == ["d", "f", "out"]


def storm(w, requests):
    """All of them at once: the answers by number, a code for a refusal."""
    ids = []
    frames = b""
    for verb, fields in requests:
        w.next_id += 1
        ids.append(w.next_id)
        frames += json_frame(REQUEST, {"id": w.next_id, "do": verb, **fields})
    w.raw(frames)
    said = []
    for id in ids:
        try:
            w.reply(id)
            said.append("ok")
        except Refused as e:
            said.append(e.code)
    return said


def test_one_name_made_and_removed_by_hundreds(w):
    for _ in range(3):
        said = storm(w, [("mkdir", {"path": "/same"})] * 200)
        assert said.count("ok") == 1
        assert set(said) == {"ok", "file.exists"}
        said = storm(w, [("remove", {"path": "/same"})] * 200)
        assert said.count("ok") == 1
        assert set(said) <= {"ok", "file.missing", "file.busy"}
    assert names(w) == ["d", "f", "out"]


def test_one_file_moved_in_circles_by_hundreds(w):
    requests = [("move", {"path": f"/{'fgh'[n % 3]}",
                          "to": f"/{'fgh'[(n + 1) % 3]}"}) for n in range(240)]
    said = storm(w, requests)
    assert "ok" in said and set(said) <= {"ok", "file.missing"}
    left = [n for n in names(w) if n in "fgh"]
    assert len(left) == 1
    who = w.ask("whoami")
    assert (who["used_files"], who["used_bytes"]) == (3, 4)  # and d, out
    w.ask("move", path="/" + left[0], to="/f") if left[0] != "f" else None


def test_a_tree_removed_while_it_is_filled(w, house):
    """Whatever wins, the ledger is of what is there."""
    for _ in range(3):
        w.ask("mkdir", path="/t")
        ids = [w.put_now(f"/t/{n}", os.urandom(500)) for n in range(60)]
        ids.append(w.request("remove", path="/t", recursive=True))
        ids += [w.put_now(f"/t/x{n}", os.urandom(500)) for n in range(60)]
        for id in ids:
            try:
                w.reply(id)
            except Refused as e:
                assert e.code in ("file.missing", "file.not_empty",
                                  "file.busy", "file.changed"), e
        if "t" in names(w):
            w.ask("remove", path="/t", recursive=True)
    who = w.ask("whoami")
    assert (who["used_files"], who["reserved_bytes"]) == (3, 0)
    drafts = pathlib.Path(house.data / "drafts")
    assert not [p for p in drafts.rglob("*") if p.is_file()]


def test_puts_at_once_with_every_third_a_lie(w):
    """The refused harm none beside them, in whatever order they come."""
    files, ids = {}, {}
    for n in range(200):
        data = os.urandom(n * 11)
        lie = n % 3 == 0
        id = w.put_now(f"/d/{n}", data, **(
            {"root": root_of(data + b"x")} if lie else {}))
        ids[id] = (n, lie)
        if not lie:
            files[str(n)] = len(data)
    for id, (n, lie) in reversed(ids.items()):
        if lie:
            with pytest.raises(Refused) as e:
                w.reply(id)
            assert e.value.code == "transfer.damaged"
        else:
            assert w.reply(id)["level"] == "committed"
    assert {e["name"]: e["size"] for e in
            w.ask("list", path="/d")["entries"]} == files
