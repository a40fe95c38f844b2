# SPDX-License-Identifier: MIT
"""What a deleted account or space leaves on the disk: nothing."""
import os
import shutil
import signal
import subprocess

import pytest

from ferry import BUILD, PATIENCE, Server, environment


class House:
    def __init__(self, server, running):
        self.server, self.running = server, running
        self.data = server.data

    def run(self, *args, status=0):
        done = subprocess.run(
            [str(BUILD / "ferryd"), *args, "--data", str(self.data)],
            env=environment(), text=True, capture_output=True,
            stdin=subprocess.DEVNULL, timeout=PATIENCE)
        assert done.returncode == status, done
        return done.stdout + done.stderr

    def settle(self):
        """From here on as the test wants it."""
        if not self.running:
            self.server.stop()

    def spaces(self):
        return sorted((self.data / "spaces").iterdir())


@pytest.fixture(params=["running", "stopped"])
def house(request, tmp_path):
    with Server(tmp_path) as server:
        yield House(server, request.param == "running")


def trash(house):
    return list((house.data / "trash").iterdir())


def test_empty_directories_go_with_their_account(house, tmp_path):
    ada = house.server.member("ada")
    for i in range(40):
        ada.run("mkdir", "-p", f":/a{i % 4}/b/c{i}")
    house.settle()
    assert len(house.spaces()) == 1
    house.run("user", "delete", "ada")
    assert house.spaces() == [] and trash(house) == []
    assert "as it should be" in house.run("check")


def test_links_and_files_from_outside_keep_their_space(house, tmp_path):
    ada = house.server.member("ada")
    house.run("space", "add", "team", "--owner", "ada")
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    for i in range(3):
        (tree / "d" / f"l{i}").symlink_to("x")
    ada.run("put", "-r", tree, ":@team/tree")
    (team,) = house.spaces()
    ada.run("mkdir", ":/mine")
    (home,) = set(house.spaces()) - {team}
    (home / "mine" / "foreign").write_text("12345")
    house.settle()
    assert "@team has 3 files" in house.run("space", "delete", "team",
                                            status=1)
    # Either stops the account, and nothing of it went.
    said = house.run("user", "delete", "ada", status=1)
    assert "ada has 1 file, 5 bytes" in said or "@team has 3" in said, said
    shutil.rmtree(team / "tree")
    house.run("space", "delete", "team")
    assert house.spaces() == [home]
    assert "ada has 1 file, 5 bytes" in house.run("user", "delete", "ada",
                                                  status=1)
    assert (home / "mine" / "foreign").read_text() == "12345"
    (home / "mine" / "foreign").unlink()
    house.run("user", "delete", "ada")
    assert house.spaces() == [] and trash(house) == []
    assert "as it should be" in house.run("check")


def test_unfinished_uploads_go_with_their_account(house, tmp_path):
    ada, bob = house.server.member("ada"), house.server.member("bob")
    house.run("space", "add", "team", "--owner", "ada")
    house.run("space", "grant", "team", "bob", "read,write")
    big = tmp_path / "big"
    with open(big, "wb") as f:
        f.truncate(2 << 30)

    def cut(who, to):
        before = len(list((house.data / "drafts").rglob("*.log")))
        put = who.start("put", big, to)
        while len(list((house.data / "drafts").rglob("*.log"))) == before:
            assert put.poll() is None, put.communicate()
        put.send_signal(signal.SIGKILL)
        put.communicate()

    cut(bob, ":@team/big")
    cut(bob, ":/big")
    house.settle()
    assert len(list((house.data / "drafts").rglob("*.log"))) == 2
    house.run("space", "delete", "team")
    assert len(list((house.data / "drafts").rglob("*.log"))) == 1
    house.run("user", "delete", "bob")
    assert not [p for p in (house.data / "drafts").rglob("*") if p.is_file()]
    assert "as it should be" in house.run("check")


def test_check_says_what_is_in_a_directory_of_no_space(house, tmp_path):
    house.settle()
    stray = house.data / "spaces" / ("ab" * 16)
    (stray / "d" / "e").mkdir(parents=True)
    # Nothing is lost with empty directories.
    assert "as it should be" in house.run("check")
    assert "as it should be" in house.run("check", "--repair")
    assert not stray.exists()
    (stray / "d" / "e").mkdir(parents=True)
    os.symlink("x", stray / "d" / "l")
    said = house.run("check", status=1)
    assert "files: 0 (0 bytes); links: 1; others: 0; directories: 2" in said
    assert "check --repair" in said
    (stray / "f").write_text("abc")
    said = house.run("check", "--repair", status=1)
    assert "files: 1 (3 bytes); links: 1" in said and "repaired)" not in said
    assert "--repair" not in said, said
    (stray / "f").unlink()
    said = house.run("check", "--repair")
    assert "(repaired)" in said and not stray.exists()
    assert trash(house) == []
    assert "as it should be" in house.run("check")
