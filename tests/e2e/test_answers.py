# SPDX-License-Identifier: MIT
"""Refusals: in JSON for who administers, with the space they are in, and as the
README shows them."""
import json
import subprocess

import pytest

from ferry import BUILD, PATIENCE, ROOT, Server, environment


def ferryd(*args, status):
    done = subprocess.run([BUILD / "ferryd", *map(str, args)], text=True,
                          env=environment(), capture_output=True, input="",
                          timeout=PATIENCE)
    assert done.returncode == status, done
    return done


@pytest.fixture(params=["running", "stopped"])
def data(request, tmp_path):
    with Server(tmp_path) as server:
        if request.param == "stopped":
            server.stop()
        yield server.data


@pytest.mark.parametrize("words, status, code", [
    (["user", "quota", "nobody", "--bytes", "1GiB"], 1, "account.unknown"),
    (["user", "delete", "nobody", "--yes"], 1, "account.unknown"),
    (["space", "delete", "none"], 1, "space.none"),
    (["invite", "revoke", "none"], 1, "invite.unknown"),
    (["user", "lost"], 2, "usage"),
    (["user", "--wrong"], 2, "usage"),
    (["invite", "--uses", "many"], 2, "usage"),
    (["stats", "--prometheus"], 2, "usage"),
])
def test_a_refusal_is_an_object_for_who_asked_for_objects(data, words, status,
                                                          code):
    plain = ["--prometheus"] if "--prometheus" not in words else []
    for asked in ([*words, "--json", "--data", data],
                  ["--json", "--data", data, *words]):
        done = ferryd(*asked, status=status)
        (said,) = map(json.loads, done.stdout.splitlines())
        assert done.stderr == "" and list(said) == ["problem"], done
        assert said["problem"]["code"] == code
        assert said["problem"]["message"].endswith(".")
    if plain:  # the same words as text
        done = ferryd(*words, "--data", data, status=status)
        assert done.stdout == ""
        assert f"ferryd: {said['problem']['message']}\n" in done.stderr


def test_a_directory_that_is_none_is_refused_as_an_object(tmp_path):
    done = ferryd("user", "list", "--json", "--data", tmp_path / "no", status=1)
    problem = json.loads(done.stdout)["problem"]
    assert done.stderr == "" and problem["name"] == str(tmp_path / "no")


def test_what_check_leaves_ends_in_an_object(tmp_path):
    with Server(tmp_path) as server:
        (tmp_path / "f").write_text("f")
        server.member("ada").run("put", tmp_path / "f")
        (stored,) = (server.data / "spaces").rglob("f")
        stored.unlink()
        done = ferryd("check", "--json", "--data", server.data, status=1)
    *found, last = map(json.loads, done.stdout.splitlines())
    assert [row["path"] for row in found if not row.get("information")] == ["f"]
    assert last["problem"]["code"] == "check.found" and done.stderr == ""


def test_a_refusal_names_the_space_and_the_home_has_none(tmp_path):
    with Server(tmp_path, "--registration", "open") as server:
        ada, eve = server.member("ada"), server.member("eve")
        server.admin("space", "add", "team", "--owner", "ada")
        server.admin("space", "grant", "team", "eve", "list")
        (tmp_path / "f").write_text("f")
        (tmp_path / "tree" / "in").mkdir(parents=True)
        (tmp_path / "tree" / "in" / "g").write_text("g")
        with open(tmp_path / "big", "wb") as f:
            f.truncate(9 << 20)
        ada.run("put", tmp_path / "f", ":@team/f")
        for words, said in (
                (["put", tmp_path / "f", ":@team/c1"], "put into :@team/c1."),
                (["put", tmp_path / "big", ":@team/c1"], "put into :@team/c1."),
                (["put", "-r", tmp_path / "tree", ":@team/"], ":@team/tree"),
                (["get", ":@team/f", tmp_path / "got"], "read :@team/f."),
                (["rm", ":@team/f"], "remove :@team/f."),
                (["mkdir", ":@team/d"], "put into :@team/d."),
                (["ls", ":@team/none"], "There is no :@team/none."),
                (["ls", ":/none"], "There is no /none.")):
            refused = eve.run(*words, status=None)
            assert refused.status in (1, 5) and said in refused.err, refused
        *_, last = eve.run("rm", ":@team/f", "--json", status=1).objects()
        assert last["problem"]["name"] == "/f"
        assert last["problem"]["space"] == "team"
        assert ":@team/f" in last["problem"]["message"]


@pytest.mark.parametrize("page, language", [("README.md", "C.UTF-8"),
                                            ("README.zh-CN.md", "zh_CN.UTF-8")])
def test_the_refusal_that_the_readme_shows_is_what_is_said(page, language,
                                                           tmp_path):
    lines = (ROOT / page).read_text().splitlines()
    at = lines.index("      $ ferry put film.mov") + 1
    shown = [line.strip() for line in lines[at:at + 3]]
    with Server(tmp_path, "--registration", "open") as server:
        ada = server.member("ada")
        server.admin("user", "quota", "ada", "--bytes", "100 MiB")
        for name, mib in (("used", 97.2), ("film.mov", 8)):
            with open(tmp_path / name, "wb") as f:
                f.truncate(int(mib * (1 << 20)))
        ada.run("put", tmp_path / "used")
        refused = ada.run("put", tmp_path / "film.mov", status=1,
                          env={"LC_ALL": language, "LANG": language})
    assert refused.err.splitlines() == shown
