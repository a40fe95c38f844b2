# SPDX-License-Identifier: MIT
"""A hundred clients at once in one shared space: what each put is what the
others get, whatever went on meanwhile.

Quick: they are of a few accounts, since joining derives a key from a password,
and move little; KEEL_TEST_LONG: of an account each, with ten times the bytes.
"""
import filecmp
import hashlib
import os
import subprocess

import pytest

from ferry import PASSWORD, PATIENCE, Client, Server

LONG = bool(os.environ.get("KEEL_TEST_LONG"))
CLIENTS = 100
ACCOUNTS = CLIENTS if LONG else 10
FILES = 60 if LONG else 8
LARGE = (20 << 20) + 7 if LONG else (1 << 20) + 7


def content(seed, size):
    return hashlib.shake_256(str(seed).encode()).digest(size)


def make_tree(root, seed):
    """Small files in two directories, an empty one, and one of several chunks
    (in the quick run each tenth client's)."""
    for d in ("a", "b"):
        (root / d).mkdir(parents=True)
        for i in range(FILES // 2):
            (root / d / f"f{i}").write_bytes(content((seed, d, i), i * 997))
    if LONG or seed[0] % 10 == 0:
        (root / "large").write_bytes(content(seed, LARGE))
    (root / "empty").mkdir()


def differences(one, other):
    """Of two trees, by every byte."""
    found = []
    compared = filecmp.dircmp(one, other)
    stack = [compared]
    while stack:
        c = stack.pop()
        found += c.left_only + c.right_only + c.common_funny
        _, wrong, failed = filecmp.cmpfiles(c.left, c.right, c.common_files,
                                            shallow=False)
        found += wrong + failed
        stack += c.subdirs.values()
    return found


def at_once(clients, commands):
    """Each its command, all started before any is waited for."""
    running = [c.start(*command) for c, command in zip(clients, commands)]
    for process, command in zip(running, commands):
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            for other in running:
                other.kill()
            raise AssertionError(f"{command} hangs") from None
        assert process.returncode == 0, (command, out, err)


def operator(server, *words):
    subprocess.run([str(server.program), *words, "--data", str(server.data)],
                   env=server.env, check=True, stdout=subprocess.DEVNULL,
                   timeout=PATIENCE)


@pytest.fixture
def team(tmp_path, poller):
    """The server, and CLIENTS clients who share its space "team"."""
    with Server(tmp_path, "--registration", "open") as server:
        link = server.address
        people = [server.stranger() for _ in range(ACCOUNTS)]
        joining = [p.start("register", f"u{i}@{link}", "--accept-key",
                           password=PASSWORD)
                   for i, p in enumerate(people)]
        for process in joining:
            out, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, (out, err)
        operator(server, "space", "add", "team", "--owner", "u0")
        operator(server, "space", "grant", "team", "--everybody",
                 "read,write,list,delete")
        yield server, [Client(people[i % ACCOUNTS].home)
                       for i in range(CLIENTS)]


def test_a_hundred_put_and_get_in_one_space(team, tmp_path):
    server, clients = team
    first = [tmp_path / "first" / str(i) for i in range(CLIENTS)]
    second = [tmp_path / "second" / str(i) for i in range(CLIENTS)]
    for i in range(CLIENTS):
        make_tree(first[i], (i, 1))
        make_tree(second[i], (i, 2))
    at_once(clients, [("put", "-q", "-r", f"{first[i]}/.", f":@team/{i}")
                      for i in range(CLIENTS)])
    # The neighbour's tree, while everybody puts a second one and replaces a
    # name that all have in common.
    (tmp_path / "got").mkdir()
    at_once(clients * 3,
            [("get", "-q", "-r", f":@team/{(i + 1) % CLIENTS}",
              tmp_path / "got" / str(i)) for i in range(CLIENTS)] +
            [("put", "-q", "-r", f"{second[i]}/.", f":@team/again-{i}")
             for i in range(CLIENTS)] +
            [("put", "-q", first[i] / "a" / "f3", ":@team/common")
             for i in range(CLIENTS)])
    for i in range(CLIENTS):
        assert not differences(first[(i + 1) % CLIENTS],
                               tmp_path / "got" / str(i))
    # All of it once more, by one of them.
    clients[0].run("get", "-q", "-r", ":@team/", tmp_path / "all")
    for i in range(CLIENTS):
        assert not differences(first[i], tmp_path / "all" / str(i))
        assert not differences(second[i], tmp_path / "all" / f"again-{i}")
    assert (tmp_path / "all" / "common").read_bytes() in \
        [(f / "a" / "f3").read_bytes() for f in first]
    operator(server, "check")
