# SPDX-License-Identifier: MIT
"""What ferryd says: its log on a disk that does not answer, its answers to a
reader who goes away."""
import signal
import socket
import subprocess

import pytest

from ferry import BUILD, PATIENCE, SANITIZED, Server

SHIM = BUILD / "obj/tests/fault/hanging-disk.so"


@pytest.fixture
def slow(tmp_path):
    """A ferryd whose log hangs while the second file is there."""
    if SANITIZED:
        pytest.skip("a sanitizer wants to be loaded first")
    log, hang = tmp_path / "ferryd.log", tmp_path / "hang"
    settings = tmp_path / "ferryd.conf"
    settings.write_text(f"[server]\nlog = {log}\n")
    server = Server(tmp_path, "--config", settings,
                    env={"LD_PRELOAD": SHIM, "LOG": log, "HANG": hang})
    with server:
        yield server, log, hang
        if hang.exists():
            hang.unlink()


def test_a_log_disk_that_hangs_holds_nobody_and_nothing_is_lost(slow):
    server, log, hang = slow
    ada = server.member("ada")
    hang.touch()
    before = log.read_text()
    # Each of these logs a line or more, on the serving loops and the main one.
    bob = server.member("bob")
    for name in "one", "two", "three":
        bob.run("mkdir", f":/{name}")
    assert sorted(bob.names()) == ["one", "three", "two"]
    assert ada.names() == []
    server.admin("user", "disable", "bob")
    assert log.read_text() == before
    hang.unlink()
    assert server.stop() == 0
    said = log.read_text()
    assert said.startswith(before) and "bob" in said[len(before):]
    assert "dropped" not in said


def test_what_was_logged_before_an_orderly_end_is_written(slow):
    server, log, hang = slow
    server.member("ada")
    hang.touch()
    server.process.send_signal(signal.SIGTERM)
    # Nobody is heard any more: only the log is left.
    host, port = server.address.rsplit(":", 1)
    heard = True
    while heard:
        try:
            socket.create_connection((host, int(port)), PATIENCE).close()
        except ConnectionResetError:
            pass
        except ConnectionRefusedError:
            heard = False
    assert server.process.poll() is None
    hang.unlink()
    assert server.wait() == 0
    last = log.read_text().splitlines()[-1]
    assert "stopped" in last


@pytest.mark.parametrize("words", [
    "stats", "stats --json", "stats --prometheus", "user list", "sessions"])
def test_a_reader_who_goes_away_has_read_what_he_wanted(tmp_path, words):
    with Server(tmp_path) as server:
        command = [str(server.program), *words.split(),
                   "--data", str(server.data)]
        asked = subprocess.Popen(command, env=server.env, text=True,
                                 stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
        asked.stdout.close()
        assert asked.stderr.read() == ""
        assert asked.wait(PATIENCE) == 0
        asked.stderr.close()
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, env=server.env, stdout=full,
                                  stderr=subprocess.PIPE, text=True,
                                  check=False)
        assert done.returncode == 1 and "No space left" in done.stderr
