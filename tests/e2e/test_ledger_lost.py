# SPDX-License-Identifier: MIT
"""A ledger that was there is never replaced by a new one in silence."""
import os
import subprocess

import pytest

from ferry import BUILD, PATIENCE, Server, environment

ROOT = ["--allow-root"] if os.geteuid() == 0 else []


def ferryd(data, *args):
    """A ferryd, or one of its commands, that should end by itself."""
    return subprocess.run(
        [str(BUILD / "ferryd"), *map(str, args), "--data", str(data)],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE,
        stdin=subprocess.DEVNULL)


def kept(data):
    """Everything in DATA but the lock and what is made anew."""
    return {str(p.relative_to(data)): p.read_bytes()
            for p in sorted(data.rglob("*")) if p.is_file()
            and p.name not in ("lock", "address")}


@pytest.fixture
def data(tmp_path):
    with Server(tmp_path) as server:
        server.member("ada")
    return server.data


def absent(ledger):
    ledger.unlink()


def empty(ledger):
    os.truncate(ledger, 0)


def absent_with_log(ledger):
    ledger.unlink()
    ledger.with_name("ledger.db-wal").write_bytes(b"a log" * 1000)


def empty_with_log(ledger):
    os.truncate(ledger, 0)
    ledger.with_name("ledger.db-wal").write_bytes(b"a log" * 1000)


@pytest.mark.parametrize("lose", [absent, empty, absent_with_log,
                                  empty_with_log])
def test_a_lost_ledger_is_not_replaced(data, lose):
    lose(data / "ledger.db")
    before = kept(data)
    for command in (["--listen", "127.0.0.1:0", *ROOT], ["user", "list"],
                    ["check"], ["invite"]):
        done = ferryd(data, *command)
        assert done.returncode == 1, (command, done)
        assert "is damaged" in done.stderr, done
        assert "backup" in done.stderr
    assert kept(data) == before


def test_a_log_alone_is_not_thrown_away(tmp_path):
    """Also where spaces/ was lost with the ledger."""
    (tmp_path / "format").write_text("ferry data 1\n")
    (tmp_path / "ledger.db-wal").write_bytes(b"a log" * 1000)
    done = ferryd(tmp_path, "user", "list")
    assert done.returncode == 1 and "is damaged" in done.stderr, done
    assert (tmp_path / "ledger.db-wal").stat().st_size == 5000
    assert not (tmp_path / "ledger.db").exists()


def test_a_first_start_that_was_cut_off_goes_on(tmp_path):
    """The directory is ours, and nothing was kept in it yet."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "format").write_text("ferry data 1\n")
    (data / "ledger.db").touch()
    with Server(tmp_path) as server:
        assert server.member("ada").names() == []


@pytest.mark.parametrize("running", [True, False])
def test_check_lists_directories_of_nobody(tmp_path, running):
    with Server(tmp_path) as server:
        ada = server.member("ada")
        (tmp_path / "f").write_text("x")
        ada.run("put", tmp_path / "f")
        stray = server.data / "spaces" / "0123456789abcdef0123456789abcdef"
        (stray / "a/b").mkdir(parents=True)
        if not running:
            server.stop()
        # Of a space that was deleted nothing but directories may be left.
        assert ferryd(server.data, "check").returncode == 0
        (stray / "a/b/thesis").write_text("precious")
        done = ferryd(server.data, "check", "--repair")
        assert done.returncode == 1, done
        assert f"spaces/: {stray.name}: the ledger has no space there; in " \
            "it: files: 1 (8 bytes)" in done.stdout
        assert (stray / "a/b/thesis").read_text() == "precious"
