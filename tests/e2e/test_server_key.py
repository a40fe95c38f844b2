# SPDX-License-Identifier: MIT
"""The key that clients know the server by is never another one by accident."""
import os
import shutil
import subprocess

import pytest

from ferry import BUILD, PATIENCE, Server, environment

ROOT = ["--allow-root"] if os.geteuid() == 0 else []


def ferryd(data, *args):
    return subprocess.run(
        [str(BUILD / "ferryd"), *map(str, args), "--data", str(data)],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE,
        stdin=subprocess.DEVNULL)


@pytest.fixture
def tls(tmp_path):
    with Server(tmp_path) as server:
        server.member("ada")
    return server.data / "tls"


def another_key(tls):
    tmp = tls.parent.parent / "other"
    tmp.mkdir()
    with Server(tmp, data=tmp / "data"):
        pass
    shutil.copy(tmp / "data/tls/key.pem", tls)


def another_kind(tls):
    subprocess.run(["openssl", "genrsa", "-out", tls / "key.pem", "2048"],
                   check=True, capture_output=True)


def no_key(tls):
    (tls / "key.pem").unlink()


def no_chain(tls):
    (tls / "chain.pem").unlink()


def garbage_key(tls):
    (tls / "key.pem").write_bytes(b"garbage")


def empty_chain(tls):
    (tls / "chain.pem").write_bytes(b"")


def endless_key(tls):
    (tls / "key.pem").write_bytes(b"x" * 100_000)


@pytest.mark.parametrize("damage, words", [
    (another_key, "the key is not that of the chain's first certificate"),
    (another_kind, "the key is not that of the chain's first certificate"),
    (no_key, "key.pem is gone"), (no_chain, "chain.pem is gone"),
    (garbage_key, "the key is no private key in PEM"),
    (empty_chain, "the chain does not begin with a certificate in PEM"),
    (endless_key, "it is too long")])
def test_a_key_that_is_not_the_servers_is_refused(tls, damage, words):
    damage(tls)
    before = {p.name: p.read_bytes() for p in tls.iterdir()}
    for command in (["--listen", "127.0.0.1:0", *ROOT], ["invite"]):
        done = ferryd(tls.parent, *command)
        assert done.returncode == 1 and words in done.stderr, done
        assert "restore tls/key.pem" in done.stderr
    assert {p.name: p.read_bytes() for p in tls.iterdir()} == before


def test_a_first_start_that_was_cut_off_makes_the_key(tmp_path):
    """It wrote the chain, and not yet the key."""
    (tmp_path / "data/tls").mkdir(parents=True)
    (tmp_path / "data/format").write_text("ferry data 1\n")
    (tmp_path / "data/tls/chain.pem").write_text("half of one")
    with Server(tmp_path) as server:
        assert server.member("ada").names() == []


def test_without_both_files_a_new_key_is_made(tls, tmp_path):
    """As the operator asks for who removes them."""
    shutil.rmtree(tls)
    with Server(tmp_path, data=tls.parent) as server:
        server.wait_log("made a new server key")
