# SPDX-License-Identifier: MIT
"""Invites are seen and taken back; the first one ends with the first account."""
import json
import os
import re
import subprocess

import pytest

from ferry import BUILD, PASSWORD, PATIENCE, Server, environment


class House:
    def __init__(self, server):
        self.server = server

    def run(self, *args, status=0, stdin=""):
        done = subprocess.run(
            [str(BUILD / "ferryd"), *map(str, args), "--data",
             str(self.server.data)], env=environment(), text=True, input=stdin,
            capture_output=True, timeout=PATIENCE)
        assert done.returncode == status, done
        return done.stdout if status == 0 else done.stderr

    def invites(self):
        return [json.loads(line) for line in
                self.run("invite", "list", "--json").splitlines()]

    def join(self, link, name, **options):
        return self.server.stranger().run("join", link, name,
                                          password=PASSWORD, **options)


@pytest.fixture(params=["running", "stopped"])
def house(request, tmp_path):
    with Server(tmp_path) as server:
        address = server.address
        if request.param == "stopped":
            server.stop()
            server.args += ["--listen", address]
        yield House(server)


def first_link(house):
    return (house.server.data / "first-invite").read_text().strip()


def test_invites_are_listed_and_revoked(house):
    (first,) = house.invites()
    assert first["first"] and first["admin"] and first["uses"] == 1
    links = [house.run("invite", "--uses", n).strip() for n in (1, 2)]
    links.append(house.run("invite", "--admin", "--expires", "1h").strip())
    rows = house.invites()
    assert len(rows) == 4 and len({r["id"] for r in rows}) == 4
    assert sorted((r["uses"], r["admin"]) for r in rows) == \
        [(1, False), (1, True), (1, True), (2, False)]
    for r in rows:
        assert r["expires"] > r["created"] > 0 and r["by"] is None
    table = house.run("invite", "list").splitlines()
    assert re.match(r"ID +ACCOUNT +USES +CREATED +EXPIRES +BY", table[0])
    assert len(table) == 5 and sum("first-invite" in x for x in table) == 1
    (two,) = [r["id"] for r in rows if r["uses"] == 2]
    assert house.run("invite", "revoke", two) == f"{two}: revoked\n"
    assert two not in [r["id"] for r in house.invites()]
    for wrong in (two, "nonsense", two[:-1], "0" * 13):
        said = house.run("invite", "revoke", wrong, status=1)
        assert f"There is no invite {wrong}." in said and "invite list" in said
    if house.server.process.returncode is not None:
        house.server.start()
    assert "invite" in house.join(links[1], "bo", status=1).err
    house.join(links[0], "ada")
    house.join(links[2], "root")


def test_the_first_invite_ends_with_the_first_account(house):
    link = first_link(house)
    house.run("user", "add", "ada", stdin=PASSWORD + "\n")
    assert house.invites() == []
    if house.server.process.returncode is not None:
        house.server.start()
    house.join(link, "eve", status=1)
    assert [json.loads(x)["name"] for x in
            house.run("user", "list", "--json").splitlines()] == ["ada"]


def test_the_first_invite_makes_the_first_account(tmp_path):
    with Server(tmp_path) as server:
        house = House(server)
        house.join(first_link(house), "ada")
        assert house.invites() == []
        (ada,) = [json.loads(x) for x in
                  house.run("user", "list", "--json").splitlines()]
        assert ada["admin"]


def test_a_first_invite_whose_file_is_gone_is_good_no_more(tmp_path):
    with Server(tmp_path) as server:
        house = House(server)
        link = first_link(house)
        (server.data / "first-invite").unlink()
        server.stop()
        server.args += ["--listen", server.address]
        server.start()
        assert len(house.invites()) == 1
        house.join(link, "eve", status=1)
        house.join(first_link(house), "ada")
