# SPDX-License-Identifier: MIT
"""Interruptions: a cut line, a killed client, a killed server, a damaged part.
The repeated command goes on where it stopped."""
import os
import random
import signal
import time

import pytest

from ferry import PATIENCE, SANITIZED
from proxy import Proxy

MIB = 1 << 20
SIZE = 48 * MIB + 12345


@pytest.fixture
def line(server):
    with Proxy(server.address) as proxy:
        yield proxy


def member(server, line, name="ada"):
    """Somebody who reaches the server through the line."""
    return server.member(name, server.invite().replace(server.address,
                                                       line.address))


def content(path, size=SIZE, seed=7):
    data = random.Random(seed).randbytes(size)
    path.write_bytes(data)
    return data


def parts(directory):
    return [n for n in os.listdir(directory) if ".ferry-" in n]


# Before the request, within the first chunk, at a chunk's end, in the middle,
# in the last chunk.
CUTS = [500, 100_000, 5 * MIB, 23 * MIB + 4567, SIZE - 1000]


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_put_goes_on(server, line, tmp_path, cut):
    ada = member(server, line)
    data = content(tmp_path / "f")
    line.cut(up=cut)
    broken = ada.run("put", tmp_path / "f", status=3)
    assert "Repeat the command" in broken.err or cut < 100_000
    line.mend()
    assert ada.names() == []
    line.mend()
    again = ada.run("put", "--json", tmp_path / "f").objects()[0]
    # What the server had is not sent again, but for the chunk it was in.
    assert again["sent"] <= SIZE - cut * 0.98 + MIB
    # TLS and frames cost less than 2 % of what moves.
    assert line.moved["up"] <= again["sent"] * 1.02 + 65536
    ada.run("get", ":/f", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_get_goes_on(server, line, tmp_path, cut):
    ada = member(server, line)
    data = content(tmp_path / "f")
    ada.run("put", tmp_path / "f")
    line.cut(down=cut + 4096)
    ada.run("get", ":/f", tmp_path / "back", status=3)
    assert not (tmp_path / "back").exists()
    line.mend()
    ada.run("get", ":/f", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert line.moved["down"] <= (SIZE - cut * 0.98) * 1.02 + MIB + 65536
    assert not parts(tmp_path)


def test_a_killed_client_goes_on(server, line, tmp_path):
    ada = member(server, line)
    data = content(tmp_path / "f")
    line.cut(up=None)
    put = ada.start("put", tmp_path / "f")
    while line.moved["up"] < 10 * MIB:
        assert put.poll() is None, put.communicate()
    put.kill()
    put.communicate(timeout=PATIENCE)
    again = ada.run("put", "--json", tmp_path / "f").objects()[0]
    assert again["sent"] < SIZE
    ada.run("get", ":/f", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_a_killed_server_shows_nothing_partial_and_goes_on(server, line,
                                                           tmp_path):
    ada = member(server, line)
    data = content(tmp_path / "f")
    put = ada.start("put", tmp_path / "f")
    while line.moved["up"] < 10 * MIB:
        assert put.poll() is None, put.communicate()
    server.kill()
    put.communicate(timeout=PATIENCE)
    assert put.returncode == 3
    assert not [p for p in (server.data / "spaces").rglob("*") if p.is_file()]
    server.args += ["--listen", server.address]
    server.start()
    assert ada.names() == []
    again = ada.run("put", "--json", tmp_path / "f").objects()[0]
    assert again["sent"] < SIZE
    ada.run("get", ":/f", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def flip(path, at):
    """Another hand writes: later than the journal by the file system's clock,
    which moves in ticks."""
    written = max(p.stat().st_ctime_ns for p in path.parent.glob(path.name + "*"))
    while time.clock_gettime_ns(5) <= written:  # CLOCK_REALTIME_COARSE
        pass
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))


def test_a_damaged_chunk_of_a_draft_is_found_and_moves_alone(server, line,
                                                             tmp_path):
    ada = member(server, line)
    data = content(tmp_path / "f")
    line.cut(up=40 * MIB)
    ada.run("put", tmp_path / "f", status=3)
    server.wait_log("kept for a resume")  # and nobody writes to it any more
    (draft,) = [p for p in (server.data / "drafts").rglob("*")
                if p.is_file() and p.suffix != ".log"]
    flip(draft, 3 * MIB + 5)
    line.mend()
    again = ada.run("put", "--json", tmp_path / "f").objects()[0]
    assert again["sent"] <= SIZE - 40 * MIB * 0.98 + 2 * MIB
    ada.run("get", ":/f", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_a_damaged_chunk_of_a_download_is_found_and_moves_alone(server, line,
                                                                tmp_path):
    ada = member(server, line)
    data = content(tmp_path / "f")
    ada.run("put", tmp_path / "f")
    down = tmp_path / "down"
    down.mkdir()
    line.cut(down=40 * MIB)
    ada.run("get", ":/f", down / "f", status=3)
    (part,) = [n for n in parts(down) if n.endswith(".part")]
    flip(down / part, 3 * MIB + 5)
    line.mend()
    ada.run("get", ":/f", down / "f")
    assert (down / "f").read_bytes() == data
    assert line.moved["down"] <= (SIZE - 40 * MIB * 0.98 + 2 * MIB) * 1.02
    assert os.listdir(down) == ["f"]


def test_a_source_that_changed_starts_afresh(server, line, tmp_path):
    ada = member(server, line)
    content(tmp_path / "f")
    line.cut(up=20 * MIB)
    ada.run("put", tmp_path / "f", status=3)
    line.mend()
    data = content(tmp_path / "f", seed=8)
    ada.run("put", tmp_path / "f")
    ada.run("get", ":/f", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_a_large_sparse_file_resumes_at_once(server, line, tmp_path):
    """Re-reads nothing that counts: the second put of 4 GiB, of which all but
    the end has crossed, takes no longer than what is left."""
    if SANITIZED:
        pytest.skip("a sanitizer's time says nothing")
    ada = member(server, line)
    with open(tmp_path / "f", "wb") as f:
        f.truncate(1024 * MIB)
    line.cut(up=1000 * MIB)
    ada.run("put", "--hash", "xxh128", tmp_path / "f", status=3)
    line.mend()
    again = ada.run("put", "--json", "--hash", "xxh128",
                    tmp_path / "f").objects()[0]
    assert again["sent"] <= 40 * MIB


def test_the_loser_of_a_take_over_is_told(server, line, tmp_path):
    """The same command twice at once: the second goes on with the upload."""
    ada = member(server, line)
    data = content(tmp_path / "f")
    first = ada.start("put", tmp_path / "f")
    while line.moved["up"] < 5 * MIB:
        assert first.poll() is None, first.communicate()
    ada.run("put", tmp_path / "f")
    _, err = first.communicate(timeout=PATIENCE)
    # Unless it was through before the second one came.
    assert first.returncode == 0 or b"transfer.taken" in err, err
    ada.run("get", ":/f", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_an_interrupt_says_how_to_go_on(server, line, tmp_path):
    ada = member(server, line)
    content(tmp_path / "f")
    put = ada.start("put", tmp_path / "f")
    while line.moved["up"] < 5 * MIB:
        assert put.poll() is None, put.communicate()
    put.send_signal(signal.SIGINT)
    _, err = put.communicate(timeout=PATIENCE)
    assert put.returncode in (0, -signal.SIGINT)
    assert put.returncode == 0 or b"Repeat the command" in err


def test_a_refused_get_leaves_nothing_behind(server, tmp_path):
    ada, bob = server.member("ada"), server.member("bob")
    server.admin("space", "add", "team", "--owner", "ada")
    server.admin("space", "grant", "team", "bob", "list")
    (tmp_path / "f").write_bytes(os.urandom(3 << 20))
    ada.run("put", tmp_path / "f", ":@team/")
    here = tmp_path / "here"
    here.mkdir()
    refused = bob.run("get", ":@team/f", here, status=1)
    assert "You may not read" in refused.err
    assert list(here.iterdir()) == []
