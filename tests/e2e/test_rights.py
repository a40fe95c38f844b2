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


# ---- one file ---------------------------------------------------------------------


def test_who_may_read_fetches_a_file_by_its_name(team, tmp_path):
    filled(team)
    team.grant("eve", "read")
    team.eve.run("get", ":@team/q1", tmp_path / "got")
    assert (tmp_path / "got").read_text() == "x"
    (entry,) = team.eve.run("stat", "--json", ":@team/project/p1").objects()
    assert entry["size"] == 1
    assert "There is no :@team/none" in team.eve.run(
        "get", ":@team/none", tmp_path / "none", status=1).err
    assert "You may not list" in team.eve.run("ls", ":@team/", status=1).err


def test_who_may_only_drop_learns_nothing_of_a_name(team, tmp_path):
    filled(team)
    team.grant("eve", "drop")
    for name in ("q1", "none", "project/p1", "project/none"):
        said = team.eve.run("get", f":@team/{name}", tmp_path / "got", status=1)
        assert f"You may not read :@team/{name}." in said.err
        assert team.eve.run("stat", f":@team/{name}", status=1).err == said.err


def test_who_may_move_and_not_look_moves(team, tmp_path):
    filled(team)
    team.grant("eve", "write,delete")
    team.eve.run("mv", ":@team/q1", ":@team/moved")
    team.eve.run("mv", ":@team/q2", ":@team/moved", ":@team/other/")
    team.eve.run("rm", ":@team/other/q2")
    assert team.ada.names(":@team/other") == ["moved", "o1"]
    # A name is what they say it is: a directory is not replaced.
    team.eve.run("mv", ":@team/other/o1", ":@team/project", status=1)


# ---- what is said -------------------------------------------------------------------


def test_a_path_is_named_in_one_way(team, tmp_path):
    """From the top of the space, with its slash and the space, whoever
    refuses."""
    filled(team)
    team.grant("eve", "read,list,drop")
    (tmp_path / "f").write_text("new")
    for words in (["rm", ":@team/project/p1"], ["rm", ":@team/project/none"],
                  ["mv", ":@team/project/p1", ":@team/z"],
                  ["mkdir", ":@team/project/p1"], ["stat", ":@team/none/x"],
                  ["ls", ":@team/none/x"], ["get", ":@team/none/x"],
                  ["put", tmp_path / "f", ":@team/project/p1"],
                  ["put", "--no-replace", tmp_path / "f", ":@team/other/o1"],
                  ["put", tmp_path / "f", ":@team/none/x"],
                  ["hash", ":@team/project"], ["hash", ":@team/none/x"]):
        said = team.eve.run(*words, status=1).err
        assert any(f":@team/{name}" in said
                   for name in ("project", "none", "other")), said
        for name in ("project", "none", "other"):
            at = said.find(name)
            assert at <= 0 or said[at - 1] == "/", (words, said)
