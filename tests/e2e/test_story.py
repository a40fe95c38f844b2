# SPDX-License-Identifier: MIT
"""A week of a small team, from the first invite to the day one of them leaves:
two people share a space, strangers drop files into a box they cannot look into,
a line breaks, a quota fills, and an admin takes access away."""
import json
import os
import random

import pytest

from ferry import PASSWORD, PATIENCE
from proxy import Proxy

MIB = 1 << 20
FILM = random.Random(3).randbytes(24 * MIB + 321)


class Admin:
    """Who runs the server: ferryd's own commands, on the same DATA."""

    def __init__(self, server):
        self.server = server

    def __call__(self, *words, status=0):
        return self.server.admin(*words, status=status)

    def add(self, name, tmp):
        """An account with a password, made by the admin."""
        secret = tmp / f"password-{name}"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o600)
        self("user", "add", name, "--password-file", str(secret))


@pytest.fixture
def line(server):
    with Proxy(server.address) as proxy:
        yield proxy


@pytest.fixture
def team(server, line, tmp_path):
    """Ada and Bo share "team", of 40 MiB; everybody may drop into "inbox"."""
    admin = Admin(server)
    link = server.invite("--uses", "2").replace(server.address, line.address)
    ada, bo = server.member("ada", link), server.member("bo", link)
    admin("space", "add", "team", "--owner", "ada", "--bytes", "40 MiB")
    admin("space", "grant", "team", "bo", "read,write,list,delete")
    admin("space", "add", "inbox", "--owner", "ada")
    admin("space", "grant", "inbox", "--everybody", "drop")
    return admin, ada, bo


def tree(root):
    """A project as people have them."""
    contents = {"README": b"read me\n", "src/main.c": b"int main;\n" * 100,
                "src/empty": b"", "img/logo.bin": os.urandom(MIB + 5),
                "img/-rf": b"a name with a dash\n"}
    for name, data in contents.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return contents


def files_below(root):
    return {str(p.relative_to(root)): p.read_bytes()
            for p in root.rglob("*") if p.is_file()}


def refused(result, code):
    """The code of what went wrong, as programs get it."""
    codes = [o.get("problem", {}).get("code") for o in result.objects()]
    assert code in codes, (code, result)


def test_two_people_work_in_one_space(team, tmp_path):
    admin, ada, bo = team
    contents = tree(tmp_path / "project")
    ada.run("put", "-r", tmp_path / "project", ":@team/")
    assert sorted(bo.names(":@team/project")) == ["README", "img", "src"]
    bo.run("get", "-r", ":@team/project", tmp_path / "bo")
    assert files_below(tmp_path / "bo") == contents
    bo.run("mkdir", ":@team/done")
    bo.run("mv", ":@team/project/README", ":@team/done/README")
    bo.run("rm", ":@team/project/src/empty")
    ada.run("get", ":@team/done/README", tmp_path / "readme")
    assert (tmp_path / "readme").read_bytes() == contents["README"]
    assert "empty" not in ada.names(":@team/project/src")
    mine = {o["name"]: o for o in bo.run("spaces", "--json").objects()}
    assert sorted(mine["team"]["rights"]) == ["delete", "list", "read", "write"]
    sizes = sum(map(len, contents.values()))
    assert mine["team"]["used_bytes"] == sizes
    assert ada.names() == []  # homes are other places
    admin("check")


def test_a_drop_box_takes_and_shows_nothing(team, server, tmp_path):
    admin, ada, bo = team
    admin.add("stranger", tmp_path)
    eve = server.stranger()
    eve.run("login", f"stranger@{server.address}", "--accept-key",
            password=PASSWORD)
    (tmp_path / "offer.txt").write_bytes(b"an offer\n")
    (tmp_path / "other.txt").write_bytes(b"another one\n")
    contents = tree(tmp_path / "project")
    eve.run("put", tmp_path / "offer.txt", ":@inbox/offer.txt")
    eve.run("put", tmp_path / "other.txt", ":@inbox/")
    eve.run("put", "-r", tmp_path / "project", ":@inbox/")
    # What lies there is neither seen nor taken nor overwritten.
    for words in (("ls", ":@inbox/"), ("rm", ":@inbox/offer.txt"),
                  ("get", ":@inbox/offer.txt", tmp_path / "stolen"),
                  ("put", tmp_path / "other.txt", ":@inbox/offer.txt")):
        result = eve.run(*words, "--json", status=1)
        refused(result, "right.missing")
    assert not (tmp_path / "stolen").exists()
    # A space that one may not enter is not there.
    refused(eve.run("ls", "--json", ":@team/", status=1), "space.unknown")
    ada.run("get", ":@inbox/offer.txt", tmp_path / "offer")
    assert (tmp_path / "offer").read_bytes() == b"an offer\n"
    ada.run("get", "-r", ":@inbox/project", tmp_path / "dropped")
    assert files_below(tmp_path / "dropped") == contents
    assert sorted(ada.names(":@inbox/")) == ["offer.txt", "other.txt",
                                             "project"]


def test_a_broken_line_costs_a_chunk(team, line, tmp_path):
    _, ada, bo = team
    (tmp_path / "film").write_bytes(FILM)
    line.cut(up=15 * MIB)
    ada.run("put", tmp_path / "film", ":@team/film", status=3)
    line.mend()
    assert bo.names(":@team/") == []
    put = ada.run("put", "--json", tmp_path / "film",
                  ":@team/film").objects()[0]
    assert put["level"] == "committed" and put["sent"] < 12 * MIB
    line.cut(down=15 * MIB)
    bo.run("get", ":@team/film", tmp_path / "back", status=3)
    line.mend()
    bo.run("get", ":@team/film", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == FILM
    assert line.moved["down"] < 12 * MIB


def test_a_full_space_says_by_how_much(team, tmp_path):
    admin, ada, bo = team
    (tmp_path / "film").write_bytes(FILM)
    bo.run("put", tmp_path / "film", ":@team/film")
    result = bo.run("put", "--json", tmp_path / "film", ":@team/copy", status=1)
    refused(result, "quota.bytes")
    said = bo.run("put", tmp_path / "film", ":@team/copy", status=1).err
    assert "40 MiB" in said and "24" in said, said
    # The home is another purse, and replacing needs no second one.
    bo.run("put", tmp_path / "film", ":/film")
    admin("space", "quota", "team", "--bytes", "80 MiB")
    bo.run("put", tmp_path / "film", ":@team/copy")
    assert sorted(ada.names(":@team/")) == ["copy", "film"]
    admin("check")


def test_who_loses_access_loses_it_in_the_middle(team, line, tmp_path):
    admin, ada, bo = team
    (tmp_path / "film").write_bytes(FILM)
    line.hold(up=10 * MIB)
    put = bo.start("put", "--json", tmp_path / "film", ":@team/film")
    assert line.held.wait(PATIENCE)
    admin("space", "revoke", "team", "bo")
    line.mend()
    out, err = put.communicate(timeout=PATIENCE)
    assert put.returncode == 1, (out, err)
    code = json.loads(out.splitlines()[-1])["problem"]["code"]
    assert code in ("right.missing", "space.unknown"), out
    assert ada.names(":@team/") == []
    refused(bo.run("ls", "--json", ":@team/", status=1), "space.unknown")
    assert bo.names() == []  # still at home
    # Nothing was charged for what was not kept.
    mine = {o["name"]: o for o in ada.run("spaces", "--json").objects()}
    assert (mine["team"]["used_bytes"], mine["team"]["used_files"]) == (0, 0)


def test_who_is_disabled_is_out_in_the_middle(team, line, tmp_path):
    admin, ada, bo = team
    (tmp_path / "film").write_bytes(FILM)
    ada.run("put", tmp_path / "film", ":@team/film")
    line.hold(down=10 * MIB)
    get = bo.start("get", "--json", ":@team/film", tmp_path / "back")
    assert line.held.wait(PATIENCE)
    admin("user", "disable", "bo")
    line.mend()
    out, err = get.communicate(timeout=PATIENCE)
    assert get.returncode in (1, 3), (out, err)
    assert not (tmp_path / "back").exists()
    refused(bo.run("whoami", "--json", status=1), "login.disabled")
    admin("user", "enable", "bo")
    bo.run("get", ":@team/film", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == FILM
