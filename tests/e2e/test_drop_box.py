# SPDX-License-Identifier: MIT
"""A drop box takes what is new, and shows nothing.  What was cut on its way into
one goes on when it is repeated, and still nobody learns of what another has put
there."""
import os
import random
import time

import pytest

from ferry import PATIENCE
from proxy import Proxy

MIB = 1 << 20
LARGE = 6 * MIB + 321


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


class Box:
    """@team of ada's, into which bob and eve may only drop."""

    def __init__(self, server):
        self.server = server
        self.ada = server.member("ada")
        server.admin("space", "add", "team", "--owner", "ada")
        self.ada.run("mkdir", ":@team/in")
        server.admin("space", "grant", "team", "--everybody", "drop",
                     "--path", "/in")

    def member(self, name, line=None):
        invite = self.server.invite()
        if line:
            invite = invite.replace(self.server.address, line.address)
        return self.server.member(name, invite)

    def has(self, path):
        try:
            return os.path.basename(path) in self.ada.names(
                f":@team/{os.path.dirname(path)}")
        except AssertionError:  # no such directory yet
            return False

    def wait(self, path):
        end = time.monotonic() + PATIENCE
        while not self.has(path):
            assert time.monotonic() < end, f"{path} never came"

    def fetch(self, path, to):
        self.ada.run("get", f":@team/{path}", to)
        return to.read_bytes()


@pytest.fixture
def box(server):
    return Box(server)


@pytest.fixture
def line(server):
    with Proxy(server.address) as proxy:
        yield proxy


def tree(top):
    """Files of both kinds, directories in directories, an empty one, links."""
    for d in range(4):
        for f in range(12):
            path = top / f"d{d}" / "sub" / f"f{f}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(f * 997, seed=d * 100 + f))
    (top / "empty").mkdir()
    (top / "d0" / "link").symlink_to("sub/f1")
    (top / "away").symlink_to("../\u6587 nowhere")
    for i in range(3):
        (top / f"large{i}").write_bytes(content(LARGE, seed=i))
    return top


def files(top):
    return {os.path.relpath(os.path.join(d, n), top):
            open(os.path.join(d, n), "rb").read()
            for d, _, names in os.walk(top) for n in names
            if not os.path.islink(os.path.join(d, n))}


def links(top):
    return {os.path.relpath(os.path.join(d, n), top):
            os.readlink(os.path.join(d, n))
            for d, _, names in os.walk(top) for n in names
            if os.path.islink(os.path.join(d, n))}


def refused(result):
    assert "right.missing" in result.err and "replace" in result.err, result
    return result.err


# ---- what was cut ---------------------------------------------------------------


@pytest.mark.parametrize("after", [40_000, 5 * MIB, 14 * MIB])
def test_a_tree_whose_client_was_killed_goes_on(box, line, tmp_path, after):
    bob = box.member("bob", line)
    top = tree(tmp_path / "t")
    line.hold(up=after)
    process = bob.start("put", "-r", top, ":@team/in/")
    assert line.held.wait(PATIENCE)
    process.kill()
    process.communicate()
    line.drop()
    bob.run("put", "-r", top, ":@team/in/")
    # And as often as one likes.
    bob.run("put", "-r", top, ":@team/in/")
    box.ada.run("get", "-r", ":@team/in/t", tmp_path / "back")
    assert files(tmp_path / "back") == files(top)
    assert links(tmp_path / "back") == links(top)
    assert (tmp_path / "back" / "empty").is_dir()
    # Each is there once, and paid for once.
    team, = [o for o in box.ada.run("spaces", "--json").objects()
             if o["name"] == "team"]
    assert team["used_bytes"] == sum(map(len, files(top).values()))
    box.server.admin("check")


def test_what_is_there_is_not_sent_again(box, line, tmp_path):
    bob = box.member("bob", line)
    (tmp_path / "f").write_bytes(content(LARGE))
    bob.run("put", tmp_path / "f", ":@team/in/f")
    os.utime(tmp_path / "f", (1, 1))  # the same content, from another day
    line.mend(anew=True)
    again, = bob.run("put", "--json", tmp_path / "f", ":@team/in/f").objects()
    assert again["sent"] == 0 and again["level"] == "committed"
    assert line.moved["up"] < MIB


def test_many_sources_go_into_a_drop_box(box, tmp_path):
    """So many that the client would rather list the directory they go to."""
    bob = box.member("bob")
    names = [tmp_path / f"s{i}" for i in range(20)]
    for n in names:
        n.write_bytes(os.fsencode(n.name))
    bob.run("put", *names, ":@team/in/")
    bob.run("put", *names, ":@team/in/")
    assert len(box.ada.names(":@team/in")) == 20


def test_a_lost_answer_is_asked_for_again(box, line, tmp_path):
    """The server has published, its reply is lost, --retry comes again."""
    bob = box.member("bob", line)
    (tmp_path / "f").write_bytes(content(LARGE))
    line.hold(up=LARGE - MIB)
    process = bob.start("put", "--retry", tmp_path / "f", ":@team/in/")
    assert line.held.wait(PATIENCE)
    line.hold(down=0)
    box.wait("in/f")
    line.drop()
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert b"Trying again" in err
    assert box.fetch("in/f", tmp_path / "back") == content(LARGE)


def test_many_lost_answers_are_asked_for_again(box, line, tmp_path):
    bob = box.member("bob", line)
    top = tmp_path / "t"
    top.mkdir()
    for i in range(400):
        (top / f"f{i}").write_bytes(content(i))
    # An answer takes a hundred bytes: fewer than 200 come through.
    line.hold(down=20_000)
    process = bob.start("put", "-r", "--retry", top, ":@team/in/")
    assert line.held.wait(PATIENCE)
    box.wait("in/t")
    end = time.monotonic() + PATIENCE
    while len(box.ada.names(":@team/in/t")) < 200:
        assert time.monotonic() < end
    line.drop()
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert b"Trying again" in err
    box.ada.run("get", "-r", ":@team/in/t", tmp_path / "back")
    assert files(tmp_path / "back") == files(top)


def test_a_restarted_server_knows_whose_a_file_is(box, tmp_path):
    bob, eve = box.member("bob"), box.member("eve")
    top = tree(tmp_path / "t")
    bob.run("put", "-r", top, ":@team/in/")
    box.server.args += ["--listen", box.server.address]
    box.server.kill()
    box.server.start()
    bob.run("put", "-r", top, ":@team/in/")
    refused(eve.run("put", "-r", top, ":@team/in/", status=1))


# ---- what is another's, or other ----------------------------------------------------


@pytest.mark.parametrize("size", [0, 100, LARGE])
@pytest.mark.parametrize("way", [[], ["-r"]])
def test_nobody_learns_what_another_put_there(box, tmp_path, way, size):
    """Equal, other, larger: one answer, before a byte is asked for."""
    bob, eve = box.member("bob"), box.member("eve")
    for n in ("same", "other", "larger"):
        (tmp_path / n).mkdir()
    (tmp_path / "same" / "f").write_bytes(content(size))
    (tmp_path / "other" / "f").write_bytes(content(size, seed=2))
    (tmp_path / "larger" / "f").write_bytes(content(size + 1))
    bob.run("put", tmp_path / "same" / "f", ":@team/in/f")
    told = {refused(eve.run("put", *way, tmp_path / n / "f", ":@team/in/",
                            status=1)).replace(str(tmp_path / n), "")
            for n in ("same", "other", "larger")}
    assert len(told) == 1, told
    bob.run("put", *way, tmp_path / "same" / "f", ":@team/in/")
    assert box.fetch("in/f", tmp_path / "back") == content(size)


@pytest.mark.parametrize("size", [100, LARGE])
def test_what_one_put_there_is_not_replaced(box, tmp_path, size):
    bob = box.member("bob")
    local = tmp_path / "f"
    local.write_bytes(content(size))
    bob.run("put", local, ":@team/in/")
    for data in (content(size, seed=2), content(size + 1), b""):
        local.write_bytes(data)
        refused(bob.run("put", local, ":@team/in/", status=1))
        refused(bob.run("put", "-r", local, ":@team/in/", status=1))
    local.write_bytes(content(size))
    # Who asks for a new name is not told that an old one will do.
    refused(bob.run("put", "--no-replace", local, ":@team/in/", status=1))
    assert box.fetch("in/f", tmp_path / "back") == content(size)


def test_what_another_has_since_replaced_is_not_told(box, tmp_path):
    bob = box.member("bob")
    (tmp_path / "f").write_bytes(b"bob's")
    bob.run("put", tmp_path / "f", ":@team/in/")
    box.ada.run("put", tmp_path / "f", ":@team/in/f")
    refused(bob.run("put", tmp_path / "f", ":@team/in/", status=1))
    box.ada.run("rm", ":@team/in/f")
    bob.run("put", tmp_path / "f", ":@team/in/")
    # What another hand has changed on the server's disk counts as another's.
    path, = (box.server.data / "spaces").rglob("f")
    path.write_bytes(b"bob.s")
    refused(bob.run("put", tmp_path / "f", ":@team/in/", status=1))


def test_a_file_in_the_place_of_a_directory_is_told(box, tmp_path):
    bob = box.member("bob")
    (tmp_path / "t" / "d").mkdir(parents=True)
    (tmp_path / "t" / "d" / "f").write_bytes(b"f")
    (tmp_path / "u" / "d").mkdir(parents=True)
    (tmp_path / "u" / "d" / "g").write_bytes(b"g")
    box.ada.run("put", tmp_path / "t" / "d" / "f", ":@team/in/d")
    said = bob.run("put", "-r", tmp_path / "t" / "d", ":@team/in/", status=1)
    assert "file.exists" in said.err and "/in/d" in said.err
    # Directories are everybody's: what is new in them is taken.
    box.ada.run("rm", ":@team/in/d")
    box.ada.run("put", "-r", tmp_path / "t" / "d", ":@team/in/")
    bob.run("put", "-r", tmp_path / "u" / "d", ":@team/in/")
    assert box.ada.names(":@team/in/d") == ["f", "g"]


def test_a_link_is_its_makers(box, tmp_path):
    """Equal or not, of another's nobody hears."""
    bob, eve = box.member("bob"), box.member("eve")
    for n, to in (("same", "a"), ("other", "b")):
        (tmp_path / n).mkdir()
        os.symlink(to, tmp_path / n / "l")
        os.utime(tmp_path / n / "l", (1, 1), follow_symlinks=False)

    def put(who, n, status=0):
        return who.run("put", "-r", tmp_path / n / "l", ":@team/in/",
                       status=status)

    put(bob, "same")
    put(bob, "same")
    told = {refused(put(who, n, 1)).replace(str(tmp_path / n), "")
            for who, n in ((eve, "same"), (eve, "other"), (bob, "other"))}
    assert len(told) == 1, told
    # It is another's once another has put it there, and goes with its name.
    box.ada.run("mv", ":@team/in/l", ":@team/in/m")
    put(eve, "same")
    refused(put(bob, "same", 1))
    box.ada.run("rm", ":@team/in/l")
    put(bob, "same")
    put(box.ada, "other")
    put(box.ada, "same")
    refused(put(bob, "same", 1))
