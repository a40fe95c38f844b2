# SPDX-License-Identifier: MIT
"""What is used and by what is said where somebody looks, and can be changed."""
import json
import re
import signal
import sqlite3
import subprocess
import time

import pytest

from ferry import PATIENCE, Server

MIB = 1 << 20


@pytest.fixture
def tight(tmp_path, poller):
    conf = tmp_path / "ferryd.conf"
    conf.write_text("[vault]\nquota = 3GiB\nquota_files = 20\n")
    with Server(tmp_path, "--registration", "open", "--config", conf) as s:
        yield s


def ferryd(server, *words):
    return subprocess.run([str(server.program), *words, "--data",
                           str(server.data)], env=server.env, check=True,
                          stdout=subprocess.PIPE, text=True, timeout=60).stdout


def cut(server, client, path, target=":/"):
    """A put that ended in the middle: its room stays taken."""
    with open(path, "wb") as f:
        f.truncate(2048 * MIB)
        f.seek(5)
        f.write(path.name.encode())
    before = set((server.data / "drafts").rglob("*.log"))
    put = client.start("put", path, target)
    while not set((server.data / "drafts").rglob("*.log")) - before:
        assert put.poll() is None, put.communicate()
    put.send_signal(signal.SIGKILL)
    put.communicate()
    server.wait_log("kept for a resume")


def test_bytes_and_files_each_have_their_limit(tight, tmp_path):
    ada = tight.member()
    assert "\n0 bytes of 3 GiB, 0 names of 20\n" in ada.run("whoami").out
    (tmp_path / "f").write_bytes(b"x" * 2048)
    ada.run("put", tmp_path / "f")
    assert "\n2 KiB of 3 GiB, 1 name of 20\n" in ada.run("whoami").out
    assert "2 KiB of 3 GiB, 1 name of 20  " in ada.run("spaces").out
    ferryd(tight, "user", "quota", "ada", "--bytes", "0", "--files", "0")
    assert "\n2 KiB, 1 name\n" in ada.run("whoami").out


def test_what_unfinished_uploads_hold_is_said(tight, tmp_path):
    ada = tight.member()
    cut(tight, ada, tmp_path / "big")
    assert ", 2 GiB in unfinished uploads" in ada.run("whoami").out
    assert ", 2 GiB in unfinished uploads" in ada.run("spaces").out
    assert re.search(r"ada +- +0 bytes +2 GiB +3 GiB",
                     ferryd(tight, "user", "list"))
    with open(tmp_path / "other", "wb") as f:
        f.truncate(1536 * MIB)
    said = ada.run("put", tmp_path / "other", status=1).err
    assert "holds 3 GiB; 0 bytes are used, 2 GiB are held by unfinished " \
        "uploads, and this needs 1.5 GiB" in said


def reload_until(server, text):
    """Each reload looks for what is past its time."""
    end = time.monotonic() + PATIENCE
    while text not in server.log():
        assert time.monotonic() < end, server.log()
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.1)


def test_what_cannot_be_removed_is_logged(tmp_path, poller):
    conf = tmp_path / "ferryd.conf"
    conf.write_text("[vault]\ndraft_ttl = 7d\n")
    server = Server(tmp_path, "--config", conf)
    with server:
        cut(server, server.member(), tmp_path / "big")
    with sqlite3.connect(server.data / "ledger.db") as db:
        db.execute("UPDATE draft SET expires = ?", [int(time.time()) + 3])
    db.close()
    with server:
        (log,) = (server.data / "drafts").rglob("*.log")
        file = log.with_suffix("")
        file.rename(tmp_path / "aside")
        file.mkdir()
        reload_until(server, "unfinished uploads past their time could not be "
                             "removed: ")
        file.rmdir()
        reload_until(server, "removed 1 unfinished upload past due")
        assert json.loads(ferryd(server, "stats", "--json"))["drafts"] == 0
