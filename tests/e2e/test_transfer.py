# SPDX-License-Identifier: MIT
"""Files cross, whole, whatever their size and name."""
import os
import random

import pytest

from ferry import PASSWORD, PATIENCE, SANITIZED, Server

MIB = 1 << 20
# Around a chunk, a DATA frame, and the direct writer's threshold.
SIZES = [0, 1, 4095, 256 * 1024 + 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 17,
         16 * MIB, 16 * MIB + 4097]


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


def test_files_of_every_size_come_back_the_same(server, tmp_path):
    ada = server.member()
    for size in SIZES:
        source, back = tmp_path / f"f{size}", tmp_path / f"b{size}"
        source.write_bytes(content(size, size))
        ada.run("put", source)
        ada.run("get", f":/f{size}", back)
        assert back.read_bytes() == source.read_bytes(), size
    assert sorted(ada.names()) == sorted(f"f{size}" for size in SIZES)


def test_both_ends_name_the_same_hash(server, tmp_path):
    ada = server.member()
    source = tmp_path / "file"
    source.write_bytes(content(5 * MIB + 3))
    for name in ("sha256", "xxh128"):
        put = ada.run("put", "--json", "--hash", name, source).objects()[0]
        here = ada.run("hash", "--json", "--hash", name, source).objects()[0]
        there = ada.run("hash", "--json", "--hash", name, ":/file").objects()[0]
        assert put["root"] == here["root"] == there["root"]
        assert put["root"].startswith(name + ":")
        assert put["level"] == "committed"


@pytest.mark.parametrize(
    "name",
    [b"plain", b"with space", b"-dash", b"new\nline", b"\x1b[31mred",
     b"\xff\xfe not utf-8", b"back\\slash", b"a:b", "grün 文件".encode(),
     b"x" * 255],
    ids=repr)
def test_a_legal_name_round_trips(server, tmp_path, name):
    ada = server.member()
    directory = tmp_path / "src"
    directory.mkdir()
    source = os.fsencode(directory) + b"/" + name
    with open(source, "wb") as f:
        f.write(b"hello")
    ada.run("put", source)
    assert "\x1b" not in ada.run("ls", ":/").out
    back = tmp_path / "back"
    back.mkdir()
    ada.run("get", b":/" + name, os.fspath(back) + "/")
    assert os.listdir(os.fsencode(back)) == [name]


def test_a_second_put_replaces_and_no_replace_refuses(server, tmp_path):
    ada = server.member()
    source = tmp_path / "file"
    source.write_bytes(b"one")
    ada.run("put", source)
    source.write_bytes(b"two")
    refused = ada.run("put", "--no-replace", source, status=1)
    assert "exists already" in refused.err
    ada.run("put", source)
    ada.run("get", ":/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"two"


def test_mode_and_time_come_back(server, tmp_path):
    ada = server.member()
    source, back = tmp_path / "tool", tmp_path / "back"
    source.write_bytes(b"#!/bin/sh\n")
    source.chmod(0o700)
    os.utime(source, ns=(10**18, 10**18 + 123456789))
    ada.run("put", source)
    ada.run("get", ":/tool", back)
    assert back.stat().st_mtime_ns == 10**18 + 123456789
    assert back.stat().st_mode & 0o777 == 0o700


def test_what_is_not_there_is_said(server, tmp_path):
    ada = server.member()
    missing = ada.run("get", ":/nothing", tmp_path, status=1)
    assert "There is no /nothing" in missing.err
    assert "file.missing" in missing.err
    assert "nothing" in ada.run("put", tmp_path / "nothing", status=1).err
    for directory in (tmp_path, f"{tmp_path}/", "."):
        assert "is a directory" in ada.run("put", directory, status=1).err
    (tmp_path / "file").write_bytes(b"here")
    ada.run("put", tmp_path / "file")
    (tmp_path / "to" / "file").mkdir(parents=True)
    taken = ada.run("get", ":/file", tmp_path / "to", status=1)
    assert "file is a directory" in taken.err
    if os.path.isdir("/proc"):  # where nobody may make a file
        assert "/proc: " in ada.run("get", ":/file", "/proc", status=1).err
    assert not [n for _, _, files in os.walk(tmp_path) for n in files
                if n.startswith(".ferry")
                and not str(_).startswith(str(server.data))]


def test_a_directory_of_the_longest_names_is_listed(tmp_path):
    with Server(tmp_path) as server:
        ada = server.member()
        (tmp_path / "here").write_bytes(b"")
        ada.run("put", tmp_path / "here")
        home = next(server.data.glob("spaces/**/here")).parent
        # A byte of these is six in JSON: a page of 1,000 would be 1.6 MB.
        names = [b"\x01" * 251 + b"%04d" % i for i in range(1100)]
        for name in names:
            os.close(os.open(os.fsencode(home) + b"/" + name,
                             os.O_CREAT | os.O_WRONLY, 0o600))
        assert ada.names() == [n.decode() for n in names] + ["here"]


def test_several_files_go_in_one_command(server, tmp_path):
    ada = server.member()
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 1000)
    ada.run("put", *(tmp_path / n for n in "abc"))
    assert ada.names() == ["a", "b", "c"]
    (tmp_path / "to").mkdir()
    # Whichever it is that fails, the others are done and it is named once.
    for order in ("zab", "azb", "abz"):
        for command in (["put", *(tmp_path / n for n in order)],
                        ["get", *(f":/{n}" for n in order), tmp_path / "to"]):
            partly = ada.run(*command, "--json", status=5).objects()
            done = [o for o in partly if "do" in o]
            failed = [o["problem"]["code"] for o in partly if "problem" in o]
            assert sorted(o["path"] for o in done) == ["/a", "/b"]
            assert len(failed) == 1 and failed[0] != "internal", partly
    assert [o["local"] for o in done] == [str(tmp_path / "to" / n)
                                          for n in "ab"]
    elsewhere = ada.run("get", ":/a", "work:/b", tmp_path / "to", status=2)
    assert "one server" in elsewhere.err


def together(processes):
    for p in processes:
        _, err = p.communicate(timeout=PATIENCE)
        assert p.returncode == 0, err.decode()


def test_fifty_at_once_compare_every_byte(tmp_path, poller):
    count = 8 if SANITIZED else 50  # a sanitized client takes 400 MB
    with Server(tmp_path) as server:
        invite = server.invite("--uses", str(count))
        people = [server.stranger() for _ in range(count)]
        together([p.start("join", invite, f"p{i}", password=PASSWORD)
                  for i, p in enumerate(people)])
        sizes = [random.Random(i).choice([0, 100, 5000, MIB, 3 * MIB + i])
                 for i in range(count)]
        for i, size in enumerate(sizes):
            (tmp_path / f"s{i}").write_bytes(content(size, i))
        together([p.start("put", tmp_path / f"s{i}", ":/f")
                  for i, p in enumerate(people)])
        together([p.start("get", ":/f", tmp_path / f"b{i}")
                  for i, p in enumerate(people)])
        for i, size in enumerate(sizes):
            assert (tmp_path / f"b{i}").read_bytes() == content(size, i)
