# SPDX-License-Identifier: MIT
"""Who is let in, and what they are told who are not."""
import contextlib
import os
import pathlib
import resource
import signal
import socket
import struct
import time

import pytest

from ferry import PASSWORD, Server
from wire import Wire


@pytest.fixture
def three(tmp_path, poller):
    """Room for three connections."""
    conf = tmp_path / "ferryd.conf"
    conf.write_text("[server]\nconnections = 3\n")
    with Server(tmp_path, "--config", conf) as server:
        yield server


def refused(server):
    """What somebody who comes now is told."""
    with Wire(server.address) as w:
        w.hello()
        code = w.ended()
        return code, w.problem


def test_a_newcomer_beyond_the_cap_is_told_so(three):
    link = three.invite()
    with contextlib.ExitStack() as held:
        for _ in range(3):
            held.enter_context(Wire(three.address).hello())
        code, problem = refused(three)
        assert code == "server.full" and problem["limit"] == 3
        said = three.stranger().run("join", link, "ada", password=PASSWORD,
                                    status=1).err
        assert "The server has 3 connections, its limit." in said, said
        assert "Try again later." in said and "address" not in said
        assert three.log().count("full: 3 connections") == 1
        # It is no way in: a login beyond the cap is not looked at.
        with Wire(three.address) as w:
            w.hello()
            w.request("login.start", name="ada", first="n,,n=ada,r=x")
            assert w.ended() == "server.full"


def test_who_does_not_speak_takes_no_place_for_long(three):
    """The places of those that are turned away are few, and given back."""
    host, port = three.address.rsplit(":", 1)
    with contextlib.ExitStack() as held:
        for _ in range(3):
            held.enter_context(Wire(three.address).hello())
        silent = [held.enter_context(
            socket.create_connection((host, int(port)))) for _ in range(16)]
        # All places are taken: closed at once.
        more = held.enter_context(socket.create_connection((host, int(port))))
        more.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert more.recv(1) == b""
        for s in silent:  # each is ended, whatever it does
            s.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                while s.recv(100):
                    pass
        assert refused(three)[0] == "server.full"


def test_who_comes_while_it_stops_is_told_so(tmp_path):
    """One upload in progress keeps it from ending."""
    conf = tmp_path / "ferryd.conf"
    conf.write_text("[server]\ngrace = 60s\n")
    with Server(tmp_path, "--config", conf, "--registration", "open") as server:
        ada = server.member("bo")
        with Wire(server.address).hello() as w:
            w.register("ada")
            w.put("/f", 5 << 20)
            server.process.send_signal(signal.SIGTERM)
            server.wait_log("draining")
            assert refused(server)[0] == "server.stopping"
            said = ada.run("ls", status=3).err
            assert "The server is stopping." in said, said
        assert server.wait() == 0


def test_descriptors_run_out_once_in_the_log(tmp_path, poller):
    most = 80
    with Server(tmp_path, wrap=["prlimit", f"--nofile=40:{most}"]) as server:
        host, port = server.address.rsplit(":", 1)
        soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        assert soft == hard == most
        many = [socket.create_connection((host, int(port)))
                for _ in range(most)]
        server.wait_log("accept: Too many open files; waiting")
        time.sleep(1)  # the span in which it would say so again
        assert server.log().count("Too many open files") == 1
        for s in many:
            s.close()
        server.wait_log("accept: it works again")
        assert server.member("ada").names() == []


@pytest.mark.parametrize("when", ["before HELLO", "before login", "after login"])
def test_a_frame_of_nothing_is_broken_at_once(tmp_path, when):
    """Not after a fifth byte that never comes."""
    with Server(tmp_path, "--registration", "open") as server, \
            Wire(server.address, timeout=5) as w:
        if when != "before HELLO":
            w.hello()
        if when == "after login":
            w.register("ada")
        w.raw(struct.pack(">I", 0))
        assert w.ended() == "protocol.broken"
