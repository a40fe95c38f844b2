# SPDX-License-Identifier: MIT
"""Where a space ends: links that lead out of it, quotas, full disks."""
import contextlib
import ctypes
import os
import pathlib
import random
import subprocess
import threading

import pytest

import wire
from ferry import PATIENCE, Server
from wire import MIB, NOTE, Impostor, Refused, Wire, data_frame, root_of

DATA = random.Random(4).randbytes(2 * MIB + 10)


def content(path, size):
    path.write_bytes(random.Random(size).randbytes(size))
    return path


def home_of(server):
    (space,) = (server.data / "spaces").iterdir()
    return space


# ---- links -------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path):
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret").write_bytes(b"secret")
    yield directory
    assert os.listdir(directory) == ["secret"]
    assert (directory / "secret").read_bytes() == b"secret"


def test_links_are_shown_and_never_followed(server, tmp_path, outside):
    ada = server.member()
    source = content(tmp_path / "f", 1000)
    big = content(tmp_path / "big", 3 * MIB)
    ada.run("put", source)
    home = home_of(server)
    (home / "out").symlink_to(outside)
    (home / "up").symlink_to("../" + "../" * 3 + str(outside)[1:])
    (home / "here").symlink_to(".")
    (home / "file").symlink_to(outside / "secret")
    (home / "none").symlink_to(outside / "new")
    (home / "d").mkdir()
    (home / "d/out").symlink_to(outside)
    links = ["out", "up", "here", "d/out"]
    listed = ada.run("ls", "--json").objects()
    assert {o["name"]: o["type"] for o in listed} == {
        "out": "l", "up": "l", "here": "l", "file": "l", "none": "l",
        "d": "d", "f": "f"}
    for command in (
            *(["put", s, f":/{d}/x"] for d in links for s in (source, big)),
            *(["put", s, f":/{d}/secret"] for d in links for s in (source, big)),
            *(["get", f":/{d}/secret", tmp_path / "back"] for d in links),
            *(["get", f":/{d}/f", tmp_path / "back"] for d in links),
            *(["hash", f":/{d}/secret"] for d in links),
            *(["ls", f":/{d}/d"] for d in links),
            *(["hash", f":/{f}"] for f in ("file", "none", "out")),
            *(["put", s, f":/{f}"] for f in ("file", "none")
              for s in (source, big))):
        refused = ada.run(*command, status=1)
        assert "file.escapes" in refused.err, refused
        assert "secret" not in refused.out
    for d in links:
        assert ada.run("ls", f":/{d}/").out.strip().endswith("@")
    for f in ("file", "none", "out"):
        refused = ada.run("get", f":/{f}", tmp_path / "back", status=1)
        assert "file.not_regular" in refused.err
    assert not (tmp_path / "back").exists()
    assert not [p for p in (server.data / "drafts").rglob("*") if p.is_file()]


RENAME_EXCHANGE = 2
libc = ctypes.CDLL(None, use_errno=True)


def exchange(a, b):
    rc = libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b),
                        RENAME_EXCHANGE)
    assert rc == 0, os.strerror(ctypes.get_errno())


@pytest.fixture
def open_server(tmp_path, poller):
    with Server(tmp_path, "--registration", "open") as s:
        yield s


def send(w, put, data):
    for at in range(0, len(data), 1 << 18):
        piece = data[at:min(at + (1 << 18), (at // MIB + 1) * MIB)]
        w.granted(put, at + len(piece))
        w.raw(data_frame(put, at, piece))


@pytest.mark.parametrize("size", [5000, len(DATA)])
def test_a_directory_swapped_for_a_link_during_a_put(open_server, outside,
                                                     size):
    with Wire(open_server.address).hello() as w:
        w.register("ada")
        w.put("/x", 0)
        home = home_of(open_server)
        (home / "d").mkdir()
        (home / "s").symlink_to(outside)
        data = DATA[:size]
        put = w.put("/d/x", size)
        send(w, put, data)
        exchange(home / "d", home / "s")
        commit = {"put": put, "root": root_of(data), "level": "committed"}
        try:
            w.ask("put.commit", **commit)
        except Refused as e:
            assert e.code == "file.escapes"
            exchange(home / "d", home / "s")
            w.ask("put.commit", **commit)
        assert w.reply(put) == {}
        # Inside, wherever the directory is now.
        assert any((home / d / "x").read_bytes() == data for d in "ds"
                   if not (home / d).is_symlink())


def test_swapping_all_the_time_gets_nobody_out(open_server, outside):
    with Wire(open_server.address).hello() as w:
        w.register("ada")
        w.put("/x", 0)
        home = home_of(open_server)
        (home / "d").mkdir()
        (home / "d/secret").write_bytes(b"inside")
        (home / "s").symlink_to(outside)
        stop = threading.Event()

        def swap():
            while not stop.is_set():
                exchange(home / "d", home / "s")

        thread = threading.Thread(target=swap)
        thread.start()
        seen = set()
        try:
            for n in range(150):
                size = 2 * MIB if n % 50 == 0 else 10
                try:
                    put = w.put(f"/d/n{n}", size)
                    send(w, put, DATA[:size])
                    w.ask("put.commit", put=put, root=root_of(DATA[:size]),
                          level="received")
                    seen.add("put")
                except Refused as e:
                    seen.add(e.code)
                try:
                    get = w.request("get", path="/d/secret", hash="sha256")
                    w.raw(wire.credit_frame(get, 6))
                    w.reply(get)
                    assert w.data.pop(get) == [(0, b"inside")]
                    seen.add("get")
                except Refused as e:
                    seen.add(e.code)
        finally:
            stop.set()
            thread.join()
        assert seen <= {"put", "get", "file.escapes"}, seen
        assert len(seen) == 3, "both were met"


# ---- quota -------------------------------------------------------------------------


@pytest.fixture
def tight(tmp_path, poller):
    conf = tmp_path / "ferryd.conf"
    conf.write_text("[vault]\nquota = 10MiB\nquota_files = 20\n")
    with Server(tmp_path, "--registration", "open", "--config", conf) as s:
        yield s


def test_a_full_quota_refuses_at_the_start_with_figures(tight, tmp_path):
    ada = tight.member()
    ada.run("put", content(tmp_path / "six", 6 * MIB))
    refused = ada.run("put", content(tmp_path / "five", 5 * MIB), status=1)
    assert "holds 10 MiB; 6 MiB are used and this needs 5 MiB." in refused.err
    assert "quota.bytes" in refused.err
    ada.run("put", content(tmp_path / "four", 4 * MIB))
    refused = ada.run("put", content(tmp_path / "one", 1), status=1)
    assert "holds 10 MiB; 10 MiB are used and this needs 1 byte." in refused.err
    assert "Remove something, or ask for more." in refused.err
    ada.run("put", content(tmp_path / "none", 0))
    who = ada.run("whoami", "--json").objects()[0]
    assert (who["used_bytes"], who["used_files"]) == (10 * MIB, 3)
    assert who["reserved_bytes"] == 0


def test_uploads_at_once_share_what_is_left(tight):
    """Small ones are counted when they are published, large ones when they
    begin: neither way is more than the quota stored."""
    with Wire(tight.address).hello() as w:
        w.register("ada")
        large = w.put("/large", 5 * MIB)
        assert w.refused("put", **w.put_fields("/more", 6 * MIB)) == \
            "quota.bytes"
        size = MIB - 10
        puts = [w.put(f"/s{n}", size) for n in range(5)]
        puts += [w.put("/s5", size)]  # fits as long as nothing is published
        for put in puts:
            send(w, put, DATA[:size])
        codes = []
        for put in puts:
            try:
                w.ask("put.commit", put=put, root=root_of(DATA[:size]),
                      level="committed")
                codes.append("ok")
            except Refused as e:
                codes.append(e.code)
                assert e.problem["limit"] == 10 * MIB
                assert e.problem["used"] + e.problem["bytes"] == \
                    5 * MIB + 5 * size
                assert e.problem["size"] == size
        assert codes == ["ok"] * 5 + ["quota.bytes"]
        data = random.Random(1).randbytes(5 * MIB)
        send(w, large, data)
        w.ask("put.commit", put=large, root=root_of(data), level="committed")
        who = w.ask("whoami")
        assert who["used_bytes"] == 5 * MIB + 5 * size
        assert who["reserved_bytes"] == 0


def test_files_are_counted(tight):
    with Wire(tight.address).hello() as w:
        w.register("ada")
        for n in range(20):
            put = w.put(f"/{n}", 0)
            w.ask("put.commit", put=put, root=root_of(b""), level="committed")
        try:  # refused at once, or when it would be published
            put = w.put("/more", 0)
            w.ask("put.commit", put=put, root=root_of(b""), level="committed")
            raise AssertionError("a file too many")
        except Refused as e:
            assert e.code == "quota.files" and e.problem["limit"] == 20
        assert w.ask("whoami")["used_files"] == 20


# ---- full disks --------------------------------------------------------------------


@contextlib.contextmanager
def disk(where, size):
    """A disk of its own, that small."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    where.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}",
                           "tmpfs", str(where)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs here: {done.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


def fill(where, leave):
    """Another program's file takes the rest."""
    filler = where / "filler"
    with open(filler, "wb", buffering=0) as f:
        with contextlib.suppress(OSError):
            while f.write(bytes(4096)):
                pass
        f.truncate(max(0, f.tell() - leave))
    return filler


def test_a_full_disk_refuses_at_the_start_and_the_server_lives_on(tmp_path,
                                                                  poller):
    with disk(tmp_path / "disk", 48 * MIB) as where, \
            Server(tmp_path, data=where / "data") as server:
        ada = server.member()
        ada.run("put", content(tmp_path / "small", 5 * MIB))
        refused = ada.run("put", content(tmp_path / "large", 60 * MIB), status=1)
        assert "disk.full" in refused.err and "needs 60 MiB" in refused.err
        assert "The disk has" in refused.err and "has 0 b" not in refused.err
        filler = fill(where, 64 * 1024)
        for name, size in (("one", MIB), ("two", 2 * MIB), ("less", 300_000)):
            refused = ada.run("put", content(tmp_path / name, size), status=1)
            assert "disk.full" in refused.err, refused
        # What is there can be had, and said.
        ada.run("get", ":/small", tmp_path / "back")
        assert ada.names() == ["small"]
        filler.unlink()
        ada.run("put", tmp_path / "one")
        ada.run("put", tmp_path / "two")
        assert ada.names() == ["one", "small", "two"]
        assert ada.run("whoami", "--json").objects()[0]["reserved_bytes"] == 0


def test_a_disk_that_fills_in_the_middle_of_a_put(tmp_path, poller):
    data = random.Random(6).randbytes(20 * MIB)
    with disk(tmp_path / "disk", 48 * MIB) as where, \
            Server(tmp_path, "--registration", "open",
                   data=where / "data") as server, \
            Wire(server.address).hello() as w, \
            Wire(server.address).hello() as other:
        w.register("ada")
        other.register("bob")
        put = w.put("/f", len(data), source=wire.b64(bytes(16)))
        send(w, put, data[:4 * MIB])
        filler = fill(where, 0)
        try:
            sent = 4 * MIB
            for at in range(sent, len(data), 1 << 18):
                w.granted(put, at + (1 << 18))
                w.raw(data_frame(put, at, data[at:at + (1 << 18)]))
            w.ask("put.commit", put=put, root=root_of(data), level="committed")
            raise AssertionError("there was no room")
        except Refused as e:
            assert e.code == "disk.full", e
            assert e.problem["size"] > 0
        assert other.ask("list", path="/") == {"entries": [], "more": False}
        assert other.ask("ping") == {}
        filler.unlink()
        # The same connection, the same upload: it goes on.
        again = w.request("put", **w.put_fields("/f", len(data),
                                                source=wire.b64(bytes(16))))
        have = w.note(again)["have"]
        sent = 0
        for chunk in range(20):
            if any(a <= chunk < b for a, b in have):
                continue
            for at in range(chunk * MIB, (chunk + 1) * MIB, 1 << 18):
                sent += 1 << 18
                w.granted(again, sent)
                w.raw(data_frame(again, at, data[at:at + (1 << 18)]))
        w.ask("put.commit", put=again, root=root_of(data), level="committed")
        assert w.ask("stat", path="/f")["size"] == len(data)


def test_the_clients_own_disk_may_be_full(server, tmp_path):
    ada = server.member()
    ada.run("put", content(tmp_path / "f", 20 * MIB))
    with disk(tmp_path / "disk", 12 * MIB) as where:
        refused = ada.run("get", ":/f", where / "f", status=1)
        assert "disk.full" in refused.err and "needs 20 MiB" in refused.err
        assert os.listdir(where) == []


def test_the_clients_disk_may_fill_in_the_middle(tmp_path):
    data = random.Random(8).randbytes(20 * MIB)
    with disk(tmp_path / "disk", 48 * MIB) as where:
        fillers = []

        def get(c, q):
            c.send_json(NOTE, {"id": q["id"], "size": len(data), "mtime_ns": 0,
                               "mode": 0o644})
            sent = 0
            for first, last in q["chunks"]:
                for at in range(first * MIB, last * MIB, 1 << 18):
                    sent += 1 << 18
                    c.granted(q["id"], sent)
                    c.raw(data_frame(q["id"], at, data[at:at + (1 << 18)]))
                    if at == 3 * MIB and not fillers:
                        fillers.append(fill(where, 0))
            return {"root": root_of(data)}

        with Impostor(tmp_path / "bad", {
                "get": get, "stat": lambda c, q: {
                    "name": "f", "type": "f", "size": len(data), "mtime_ns": 0,
                    "mode": 0o644}}) as bad:
            ada = bad.client(tmp_path / "home")
            result = ada.run("get", ":/f", where / "f", status=None)
            if result.status != 0:  # not reserved by this file system
                assert result.status == 1 and "disk.full" in result.err, result
                assert not (where / "f").exists()
                fillers[0].unlink()
                ada.run("get", ":/f", where / "f")
        assert (where / "f").read_bytes() == data
