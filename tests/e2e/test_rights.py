# SPDX-License-Identifier: MIT
"""What people with few rights in a shared space see, may do, and are told."""
import pytest


class Space:
    """The space @team of ada's, and eve, who gets what a test grants."""

    def __init__(self, server):
        self.server = server
        self.ada, self.eve = server.member("ada"), server.member("eve")
        server.admin("space", "add", "team", "--owner", "ada")

    def grant(self, *words):
        self.server.admin("space", "grant", "team", *words)

    def put(self, path, text="x"):
        local = self.server.tmp / "local"
        local.write_text(text)
        self.ada.run("put", local, f":@team/{path}")


@pytest.fixture
def team(server):
    return Space(server)


# ---- what is seen ---------------------------------------------------------------


def filled(team):
    for name in ("project", "project/sub", "other"):
        team.ada.run("mkdir", f":@team/{name}")
    for name in ("q1", "q2", "project/p1", "project/sub/s1", "other/o1"):
        team.put(name)


@pytest.mark.parametrize("above", ["drop", "read", "read,write,delete"])
def test_a_deeper_grant_shows_nothing_beside_its_path(team, above):
    filled(team)
    team.grant("--everybody", above)
    assert "list" in team.eve.run("ls", ":@team/", status=1).err
    team.grant("eve", "read,list", "--path", "/project")
    assert team.eve.names(":@team/") == ["project"]
    assert team.eve.names(":@team/project") == ["p1", "sub"]
    for words in (["-l"], ["--json"]):
        said = team.eve.run("ls", *words, ":@team/")
        assert "q1" not in said.out and "other" not in said.out, said
    assert "list" in team.eve.run("ls", ":@team/other", status=1).err


def test_a_second_drop_box_shows_nothing_of_the_first(team):
    filled(team)
    team.grant("--everybody", "drop")
    team.grant("eve", "drop", "--path", "/project/sub")
    assert team.eve.names(":@team/") == ["project"]
    assert team.eve.names(":@team/project") == ["sub"]
    assert "list" in team.eve.run("ls", ":@team/project/sub", status=1).err
