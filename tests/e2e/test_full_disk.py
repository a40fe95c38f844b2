# SPDX-License-Identifier: MIT
"""A disk that somebody else has filled: what makes room goes on."""
import os

import pytest

from ferry import PASSWORD, Server
from test_limits import MIB, content, disk, fill


@pytest.fixture
def small(tmp_path):
    with disk(tmp_path / "disk", 48 * MIB) as where:
        yield where


def used(client):
    who = client.run("whoami", "--json").objects()[0]
    return who["used_files"], who["reserved_bytes"]


def test_a_full_disk_lets_people_remove_things(small, tmp_path, poller):
    with Server(tmp_path, data=small / "data") as server:
        ada = server.member("ada")
        ada.run("put", content(tmp_path / "first", 1000))
        ada.run("put", content(tmp_path / "large", 5 * MIB))
        ada.run("put", content(tmp_path / "last", 1000))
        fill(small, 0)  # its intent has not settled
        ada.run("rm", ":/last")
        for n in range(20):
            refused = ada.run("put", content(tmp_path / f"n{n}", MIB), status=1)
            assert "disk.full" in refused.err
        assert ada.names() == ["first", "large"]
        ada.run("rm", ":/large")
        ada.run("put", content(tmp_path / "again", 2 * MIB))
        assert used(ada) == (2, 0)
    # Nothing of it is lost.
    server.args += ["--listen", server.address]
    with server:
        assert ada.names() == ["again", "first"]


def test_a_full_disk_lets_people_in(small, tmp_path, poller):
    with Server(tmp_path, data=small / "data") as server:
        ada = server.member("ada")
        ada.run("put", content(tmp_path / "f", 1000))
        fill(small, 0)
        for n in range(10):
            home = server.stranger()
            home.run("login", f"ada@{server.address}", "--accept-key",
                     password=PASSWORD)
            assert home.names() == ["f"]
        home.run("rm", ":/f")
        assert ada.names() == []


@pytest.mark.parametrize("ended", ["stop", "kill"])
def test_a_full_disk_lets_ferryd_start(small, tmp_path, ended):
    with Server(tmp_path, data=small / "data") as server:
        ada = server.member("ada")
        ada.run("put", content(tmp_path / "f", 1000))
        ada.run("put", content(tmp_path / "g", 3 * MIB))
        if ended == "kill":
            server.kill()
            fill(small, 0)
        else:  # when it has written its log back
            server.stop()
            fill(small, 0)
    server.args += ["--listen", server.address]
    with server:
        assert ada.names() == ["f", "g"]
        ada.run("rm", ":/g")
        assert ada.names() == ["f"]
    # A new address cannot be kept: that is told, and no reason not to start.
    fill(small, 0)
    server.args[-1] = "127.0.0.1:0"
    address = (server.data / "address").read_text()
    with server:
        server.wait_log("Invites made while no ferryd runs")
    assert (server.data / "address").read_text() == address
    assert not os.path.exists(server.data / "address.new")
