# SPDX-License-Identifier: MIT
"""Servers that lie about trees: nothing is made but beneath the destination, no
link is followed, nothing runs for ever, and what is honest beside it comes."""
import os
import struct

import pytest

import wire
from wire import (CREDIT, DATA, HELLO, NOTE, REPLY, REQUEST, Impostor, b64,
                  data_frame, json_frame, root_of)

BROKEN = "protocol.broken"
ODD = "\x1b[31mred\x07\x9b\u202e"


def f(name, data=b"honest", **more):
    return {"name": name, "type": "f", "size": len(data), "mtime_ns": 10**18,
            "mode": 0o644, **more}


def d(name, **more):
    return {"name": name, "type": "d", "size": 0, "mtime_ns": 10**18,
            "mode": 0o755, **more}


def link(name, target, **more):
    return {"name": name, "type": "l", "size": 0, "mtime_ns": 10**18,
            "mode": 0o777, "target": target, **more}


class Tree:
    """What the server says: `lists` of a path (a list, or a function of the
    request), `stats`, and what a get says about itself and brings."""

    def __init__(self, lists=None, stats=None, data=b"honest", note=None,
                 ok=None, pieces=None, silent=()):
        self.lists = lists or {}
        self.stats = {"/t": d("t"), **(stats or {})}
        self.data, self.note, self.ok = data, note or {}, ok
        self.pieces = pieces
        self.silent = silent
        self.asked = []

    def content(self, path):
        return self.data.get(path, b"honest") if isinstance(self.data, dict) \
            else self.data

    def answer(self, c, q):
        verb, path = q["do"], q.get("path")
        path = path if isinstance(path, str) else str(path)
        self.asked.append((verb, path))
        if verb in self.silent:
            return
        if verb == "get":
            self.get(c, q, path)
            return
        ok = None
        if verb == "login.device":
            ok = {"name": q["name"]}
        elif verb == "ping":
            ok = {}
        elif verb == "stat":
            ok = self.stats.get(path)
        elif verb == "list":
            ok = self.lists.get(path, self.lists.get("*"))
            if callable(ok):
                ok = ok(q)
            elif isinstance(ok, list):
                ok = {"entries": ok, "more": False}
        elif verb == "hash":
            ok = {"root": root_of(self.content(path)), "size": 0}
        self.reply(c, q, ok)

    @staticmethod
    def reply(c, q, ok):
        if ok is None:
            c.send_json(REPLY, {"id": q["id"], "problem": {
                "code": "file.missing", "name": q.get("path", "x")}})
        else:
            c.send_json(REPLY, {"id": q["id"], "ok": ok})

    def get(self, c, q, path):
        data = self.content(path)
        c.send_json(NOTE, {"id": q["id"], "size": len(data),
                           "mtime_ns": 10**18, "mode": 0o644, **self.note})
        c.waiting[q["id"]] = [data, 0, q]
        self.send(c, q["id"])

    def send(self, c, id):
        """All of it, as soon as there is credit for all of it."""
        if id not in c.waiting:
            return
        data, credit, q = c.waiting[id]
        if credit < min(len(data), 1):
            return
        del c.waiting[id]
        pieces = self.pieces(id) if self.pieces else \
            [data_frame(id, 0, data)] if data else []
        for piece in pieces:
            c.raw(piece)
        self.reply(c, q, self.ok or {"root": root_of(data)})

    def talk(self, c):
        c.waiting = {}
        c.send_json(HELLO, {"version": 1, "agent": "impostor", "features": [],
                            "registration": "open"})
        while True:
            kind, body = c.frame() or (None, b"")
            if kind is None:
                return
            if kind == REQUEST:
                self.answer(c, wire.json.loads(body))
            elif kind == CREDIT:
                id, size = struct.unpack(">II", body)
                if id in c.waiting:
                    c.waiting[id][1] += size
                    self.send(c, id)


@pytest.fixture
def place(tmp_path, poller):
    """Where the client works, and what it must never touch."""
    for name in ("work", "bad", "trap"):
        (tmp_path / name).mkdir()
    (tmp_path / "trap/mine").write_bytes(b"mine")
    return tmp_path


def run(place, tree, *args, status, code=None, env=None):
    with Impostor(place / "bad", talk=tree.talk) as bad:
        if not (place / "home").exists():
            bad.client(place / "home")
        else:  # another port, the same key
            import shutil
            shutil.rmtree(place / "home")
            bad.client(place / "home")
        client = wire.Client(place / "home", env=env)
        result = client.run("get", *(args or ("-r", ":/t")), status=None,
                            cwd=place / "work")
    allowed = status if isinstance(status, tuple) else (status,)
    assert result.status in allowed, result
    for stream in (result.out, result.err):
        for c in stream:
            assert c == "\n" or c.isprintable(), (c, result)
    if code:
        assert f"ferry explain {code}" in result.err, result
    assert "internal" not in result.err
    assert os.listdir(place / "trap") == ["mine"]
    assert (place / "trap/mine").read_bytes() == b"mine"
    here = {p.relative_to(place).parts[0] for p in place.rglob("*")}
    assert here <= {"work", "bad", "home", "trap"}, here
    assert not list((place / "work").rglob(".ferry-*"))
    return result


def made(place):
    return {str(p.relative_to(place / "work"))
            for p in (place / "work").rglob("*")}


def test_an_honest_tree_is_believed(place):
    tree = Tree({"/t": [f("a"), d("b"), link("c", "/etc/passwd")],
                 "/t/b": [f("x")]})
    run(place, tree, status=0)
    assert made(place) == {"t", "t/a", "t/b", "t/b/x", "t/c"}
    assert os.readlink(place / "work/t/c") == "/etc/passwd"
    assert (place / "work/t/a").stat().st_mtime_ns == 10**18
    assert (place / "work/t/b").stat().st_mtime_ns == 10**18


# ---- names and lists ---------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "../x", "..", ".", "a/b", "/etc/passwd", "", "x" * 256,
    {"b64": b64(b"a\0b")}, {"b64": b64(b"../../x")}, {"b64": "!"}, 5, None],
    ids=repr)
@pytest.mark.parametrize("make", [f, d, lambda n: link(n, "x")],
                         ids=["file", "directory", "link"])
def test_a_name_that_cannot_be_one_ends_it(place, name, make):
    run(place, Tree({"*": [f("a"), make(name)]}), status=1)
    assert made(place) <= {"t", "t/a"}


@pytest.mark.parametrize("names", [("a", "a"), ("b", "a"), ("a", "b", "a"), ()],
                         ids=repr)
def test_pages_that_repeat_end(place, names):
    tree = Tree({"/t": lambda q: {"entries": [f(n) for n in names],
                                  "more": True}})
    run(place, tree, status=1, code=BROKEN)


def test_directories_without_end_come_to_one(place):
    """Each is in itself: that ends where paths do."""
    result = run(place, Tree({"*": [d("d"), f("e")]}), status=5)
    assert "deeper than the limit" in result.err
    assert "1 failed" in result.out


def test_long_directories_without_end_come_to_one(place):
    result = run(place, Tree({"*": [d("d" * 255)]}), status=5)
    assert "longer than the limit" in result.err


@pytest.mark.parametrize("change", [
    {"type": "x"}, {"size": -1}, {"size": 1.5}, {"mtime_ns": "x"},
    {"mode": 0o10000}, {"hash": "sha256:xx"}], ids=repr)
def test_an_entry_with_a_strange_field_ends_it(place, change):
    run(place, Tree({"/t": [f("a", **change)]}), status=1, code=BROKEN)


@pytest.mark.parametrize("target", ["", 5, {"b64": b64(b"a\0b")}, "y" * 4096,
                                    {"b64": "!"}], ids=lambda t: repr(t)[:20])
def test_a_link_with_a_strange_text_ends_it(place, target):
    run(place, Tree({"/t": [link("a", target)]}), status=1, code=BROKEN)


def test_a_list_of_what_is_no_list_ends_it(place):
    for ok in ({}, {"entries": {}, "more": False}, {"entries": []}):
        run(place, Tree({"/t": lambda q, ok=ok: ok}), status=1, code=BROKEN)


def test_a_directory_that_cannot_be_listed_is_one_of_many(place):
    tree = Tree({"/t": [d("a"), d("b"), f("c")], "/t/b": [f("x")]})
    result = run(place, tree, status=5)
    assert "t/a" in result.err and "There is no" in result.err
    assert made(place) >= {"t/b/x", "t/c"}


# ---- links in the way ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_nothing_goes_through_a_link_that_was_sent_before(place, kind):
    """The server sends a link, and then what is to go through it."""
    trap = str(place / "trap")
    second = d("x") if kind == "directory" else f("x")
    tree = Tree({"/q/x": [f("mine"), f("new")]},
                stats={"/p/x": link("x", trap), "/q/x": second})
    result = run(place, tree, "-r", ":/p/x", ":/q/x", ".",
                 status=(0, 5))
    if kind == "directory":
        assert result.status == 5 and "symbolic link" in result.err
        assert os.readlink(place / "work/x") == trap
    else:
        assert (place / "work/x").read_bytes() == b"honest"


def test_a_link_and_a_directory_of_one_name_are_disorder(place):
    tree = Tree({"/t": [link("x", str(place / "trap")), d("x")],
                 "/t/x": [f("mine")]})
    run(place, tree, status=1, code=BROKEN)


def test_a_directory_swapped_for_a_link_is_not_followed(place):
    """It is a link by the time the second run comes."""
    tree = Tree({"/t": [d("x")], "/t/x": [f("mine")]})
    run(place, tree, status=0)
    (place / "work/t/x/mine").unlink()
    (place / "work/t/x").rmdir()
    (place / "work/t/x").symlink_to(place / "trap")
    result = run(place, tree, status=1, code="file.link_in_way")
    assert "t/x is a symbolic link" in result.err


# ---- files ----------------------------------------------------------------------------


def test_modes_give_nobody_more_than_the_umask_does(place):
    tree = Tree({"/t": [f("a", mode=0o6777), d("b", mode=0o7777)], "/t/b": []},
                note={"mode": 0o6777})
    before = os.umask(0o027)
    try:
        run(place, tree, status=0)
    finally:
        os.umask(before)
    assert (place / "work/t/a").stat().st_mode & 0o7777 == 0o750
    assert (place / "work/t/b").stat().st_mode & 0o7777 == 0o750


def test_a_file_that_became_shorter_comes_as_it_is(place):
    tree = Tree({"/t": [f("a", b"x" * 1000)]}, data=b"short")
    run(place, tree, status=0)
    assert (place / "work/t/a").read_bytes() == b"short"


def test_a_file_that_became_longer_is_looked_at_again(place):
    data = b"y" * 300_000
    tree = Tree({"/t": [f("a", b"x"), f("b", b"honest")]},
                stats={"/t/a": f("a", data)},
                data={"/t/a": data})
    tree.pieces = None
    run(place, tree, status=(0, 5))


@pytest.mark.parametrize("note", [{"size": 2**62}, {"size": 7}, {"size": 1000}],
                         ids=repr)
def test_a_file_that_always_is_another_is_given_up(place, note):
    tree = Tree({"/t": [f("a"), f("b")]}, stats={"/t/a": f("a"), "/t/b": f("b")},
                note=note)
    result = run(place, tree, status=5)
    assert "2 failed" in result.out
    assert made(place) == {"t"}
    assert tree.asked.count(("get", "/t/a")) <= 4


def test_sums_that_do_not_agree_are_no_success(place):
    wrong = "sha256:" + "0" * 64
    tree = Tree({"/t": [f("a")]}, stats={"/t/a": f("a")}, ok={"root": wrong})
    result = run(place, tree, status=(1, 5))
    assert "damaged" in result.err
    tree = Tree({"/t": [f("a", hash=wrong)]}, stats={"/t/a": f("a", hash=wrong)})
    result = run(place, tree, status=(1, 5))
    assert "changed" in result.err
    assert made(place) == {"t"}


@pytest.mark.parametrize("size", [2**62, 2**43], ids=str)
def test_a_size_beyond_the_disk_is_one_of_many(place, size):
    tree = Tree({"/t": [f("a", size=size), f("b")]})
    result = run(place, tree, status=5)
    assert made(place) == {"t", "t/b"}, result


@pytest.mark.parametrize("mtime", [-2**63, 2**63 - 1, -1])
def test_times_at_the_ends_are_survived(place, mtime):
    tree = Tree({"/t": [f("a", mtime_ns=mtime), d("b", mtime_ns=mtime),
                        link("c", "x", mtime_ns=mtime)], "/t/b": []},
                note={"mtime_ns": mtime})
    run(place, tree, status=(0, 5))
    assert made(place) == {"t", "t/a", "t/b", "t/c"}


@pytest.mark.parametrize("pieces, code", [
    (lambda id: [data_frame(id, 1, b"onest")], "transfer.range"),
    (lambda id: [data_frame(id, 0, b"hon"), data_frame(id, 0, b"est")],
     "transfer.range"),
    (lambda id: [data_frame(id, 0, b"honest, and more")], "transfer.credit"),
    (lambda id: [data_frame(id + 1000, 0, b"honest")], "transfer.credit"),
    (lambda id: [json_frame(REPLY, {"id": id + 1000, "ok": {}})], BROKEN),
    (lambda id: [data_frame(id, 0, b"hon")], BROKEN)], ids=range(6))
def test_data_that_breaks_the_rules_ends_it(place, pieces, code):
    run(place, Tree({"/t": [f("a")]}, pieces=pieces), status=(1, 5), code=None)
    assert made(place) <= {"t"}


def test_names_with_terminal_codes_are_said_escaped(place):
    tree = Tree({"/t": [f(ODD + "1", type="?"), d(ODD + "2")]})
    result = run(place, tree, "-r", "-v", ":/t", status=5)
    assert "\\x1b[31mred" in result.err


def test_thousands_of_failures_are_a_list_with_an_end(place):
    entries = [f(f"{i:04}", type="?") for i in range(900)]

    def page(q):
        at = int(q["path"].rsplit("/", 1)[1][1:])
        return {"entries": entries, "more": False}

    tree = Tree({"/t": [d(f"d{i}") for i in range(3)], "*": page})
    result = run(place, tree, status=5)
    assert "2700 failed" in result.out
    assert "and 1700 more" in result.err
    assert len(result.err.splitlines()) == 1001


# ---- silence ------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["stat", "list", "get"])
def test_a_server_that_falls_silent_is_given_up(place, verb):
    tree = Tree({"/t": [f("a")]}, silent=(verb, "ping"))
    run(place, tree, status=3, code="connect.timeout",
        env={"FERRY_TIMEOUT": "1"})


def test_a_goodbye_in_the_middle_is_a_lost_connection(place):
    def bye(q):
        raise wire.Ended("enough")

    tree = Tree({"/t": [f("a"), d("b")], "/t/b": bye})
    run(place, tree, status=3, code="connect.lost")
