# SPDX-License-Identifier: MIT
"""Uploads that are not finished: seen, given up, and what they hold; and what
else a quota of files counts: directories and links."""
import json
import os
import subprocess
import time

import pytest

from ferry import PASSWORD, PATIENCE, Server
from wire import Refused, Wire, b64, root_of

MIB = 1 << 20


@pytest.fixture
def house(tmp_path):
    with Server(tmp_path, "--registration", "open") as server:
        yield server


def wire(house, name):
    w = Wire(house.address).hello()
    w.register(name)
    return w


def begin(w, path, size, source=b"s" * 16):
    """A put whose data does not come; its id."""
    return w.put(path, size, source=b64(source))


def rest(house):
    """Until the server has seen that nobody sends any more."""
    end = time.monotonic() + PATIENCE
    while '"active": true' in house.admin("uploads", "--json"):
        assert time.monotonic() < end
        time.sleep(0.02)


def left(house, name, path="/big", size=8 * MIB):
    """Somebody whose upload was cut."""
    with wire(house, name) as w:
        begin(w, path, size)
    rest(house)


def refusal(house, *words):
    """What ferryd says to a command that it refuses."""
    done = subprocess.run(
        [str(house.program), *words, "--data", str(house.data)], env=house.env,
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False)
    assert done.returncode in (1, 2), done
    return done.stderr


def held(who):
    return who.run("whoami", "--json").objects()[0]["reserved_bytes"]


def drafts(house):
    return [p for p in (house.data / "drafts").rglob("*") if p.is_file()]


def test_what_was_cut_is_listed_and_given_up(house):
    left(house, "ada")
    ada = house.stranger()
    ada.run("login", f"ada@{house.address}", "--accept-key", password=PASSWORD)
    assert held(ada) == 8 * MIB and drafts(house)
    (one,) = ada.run("uploads", "--json").objects()
    assert (one["path"], one["space"], one["size"], one["held"],
            one["active"]) == ("big", "", 8 * MIB, 8 * MIB, False)
    said = ada.run("uploads").out
    assert said.startswith(one["upload"][:8] + "  holds 8 MiB until ")
    assert said.endswith("  :/big\n")
    said = ada.run("uploads", "drop", one["upload"][:8]).out
    assert said == "Gave up :/big, which held 8 MiB\n"
    assert held(ada) == 0 and not drafts(house)
    assert ada.run("uploads").out == "No upload is unfinished.\n"
    refused = ada.run("uploads", "drop", one["upload"], status=1)
    assert "upload.none" in refused.err
    assert "as it should be" in house.admin("check")


def test_all_are_given_up_page_by_page(house):
    with wire(house, "ada") as w:
        for n in range(130):
            begin(w, f"/{n}", 2 * MIB)
        page = w.ask("uploads")
        assert len(page["uploads"]) == 100 and page["more"]
        more = w.ask("uploads", after=page["uploads"][-1]["upload"])
        assert len(more["uploads"]) == 30 and not more["more"]
    rest(house)
    ada = house.stranger()
    ada.run("login", f"ada@{house.address}", "--accept-key", password=PASSWORD)
    assert len(ada.run("uploads", "--json").objects()) == 130
    given = ada.run("uploads", "drop", "all", "--json").objects()
    assert sum(o["held"] for o in given) == 130 * 2 * MIB
    assert held(ada) == 0 and not drafts(house)


def test_what_is_being_sent_is_not_given_up(house):
    with wire(house, "ada") as w:
        id = begin(w, "/big", 2 * MIB)
        (one,) = w.ask("uploads")["uploads"]
        assert one["active"]
        assert w.refused("upload.drop", upload=one["upload"]) == "transfer.busy"
        said = house.admin("uploads")
        assert "being sent" in said and "/big" in said
        house.admin("uploads", "drop", one["upload"], status=1)
        # and it goes on to its end
        data = os.urandom(2 * MIB)
        w.feed(id, 0, data)
        ok = w.ask("put.commit", put=id, root=root_of(data), level="committed")
        assert ok["level"] == "committed"
        assert w.ask("uploads")["uploads"] == []
        assert w.refused("upload.drop", upload=one["upload"]) == \
            "transfer.unknown"


def test_nobody_gives_up_anothers(house):
    left(house, "ada")
    with wire(house, "eve") as eve:
        (one,) = [json.loads(line) for line in
                  house.admin("uploads", "--json").splitlines()]
        assert eve.ask("uploads")["uploads"] == []
        assert eve.refused("upload.drop", upload=one["id"]) == \
            "transfer.unknown"
        for bad in ("", "x" * 32, one["id"].upper() + "0", 7, one["id"][:31]):
            assert eve.refused("upload.drop", upload=bad) == "request.invalid"
            assert eve.refused("uploads", after=bad) == "request.invalid"
    assert drafts(house)


@pytest.mark.parametrize("running", [True, False])
def test_an_operator_sees_and_gives_up(house, running):
    left(house, "ada")
    left(house, "bo", "/a\nb")
    if not running:
        house.stop()
    said = house.admin("uploads")
    assert "ada" in said and "/big" in said and "/a\\x0ab" in said
    rows = {r["account"]: r for r in map(
        json.loads, house.admin("uploads", "list", "--json").splitlines())}
    assert rows["ada"]["held"] == 8 * MIB
    assert "8 digits" in refusal(house, "uploads", "drop", "5e0c")
    assert "No unfinished upload is" in refusal(house, "uploads", "drop",
                                               "0" * 32)
    said = house.admin("uploads", "drop", rows["ada"]["id"][:8])
    assert said == f"{rows['ada']['id'][:8]}: given up, held 8 MiB\n"
    users = {r["name"]: r for r in map(
        json.loads, house.admin("user", "list", "--json").splitlines())}
    assert (users["ada"]["reserved_bytes"], users["bo"]["reserved_bytes"]) == \
        (0, 8 * MIB)
    house.admin("uploads", "drop", rows["bo"]["id"])
    assert house.admin("uploads") == "no unfinished uploads\n"
    assert not drafts(house)
    house.admin("check")
    if not running:
        house.start()


def test_a_refusal_says_the_way_out(house, tmp_path):
    left(house, "ada")
    house.admin("user", "quota", "ada", "--bytes", "9MiB")
    ada = house.stranger()
    ada.run("login", f"ada@{house.address}", "--accept-key", password=PASSWORD)
    (tmp_path / "two").write_bytes(os.urandom(2 * MIB))
    refused = ada.run("put", tmp_path / "two", status=1).err
    assert "quota.bytes" in refused and "'ferry uploads drop'" in refused
    ada.run("uploads", "drop", "all")
    ada.run("put", tmp_path / "two")


def test_drafts_that_replace_one_file_do_not_share_its_room(house):
    with wire(house, "ada") as w:
        data = os.urandom(3 * MIB)
        id = begin(w, "/f", 3 * MIB)
        w.feed(id, 0, data)
        w.ask("put.commit", put=id, root=root_of(data), level="committed")
        house.admin("user", "quota", "ada", "--bytes", "6MiB")
        begin(w, "/f", 3 * MIB, b"1" * 16)
        assert w.ask("whoami")["reserved_bytes"] == 0
        begin(w, "/f", 3 * MIB, b"2" * 16)
        assert w.ask("whoami")["reserved_bytes"] == 3 * MIB
        assert w.refused("put", **w.put_fields("/f", 3 * MIB)) == "quota.bytes"


# ---- directories and links ----------------------------------------------------------


def test_directories_and_links_count(house, tmp_path):
    ada = house.member("ada")
    house.admin("user", "quota", "ada", "--files", "6")
    tree = tmp_path / "t"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/link").symlink_to("nowhere")
    for n in range(4):
        (tree / "a/b" / str(n)).write_text("x")
    put = ada.run("put", "-r", "--json", tree, ":/", status=5)
    assert "quota.files" in put.out + put.err
    who = ada.run("whoami", "--json").objects()[0]
    assert who["used_files"] == 6
    assert "6 names of 6" in ada.run("whoami").out
    refused = ada.run("mkdir", "-p", ":/x/y", status=1).err
    assert "holds 6 names" in refused and "quota.files" in refused
    assert ada.names(":/") == ["t"]
    ada.run("rm", "-r", ":/t")
    assert ada.run("whoami", "--json").objects()[0]["used_files"] == 0
    assert "as it should be" in house.admin("check")


def test_who_may_only_drop_fills_nothing_with_names(house):
    with wire(house, "mara"), wire(house, "eve") as eve:
        house.admin("space", "add", "box", "--owner", "mara", "--files", "10")
        house.admin("space", "grant", "box", "eve", "drop")
        made = [eve.request("mkdir", space="box", path=f"/{n}")
                for n in range(20)]
        made += [eve.request("link", space="box", path=f"/l{n}", target="x")
                 for n in range(20)]
        codes = []
        for id in made:
            try:
                codes.append(str(eve.reply(id)))
            except Refused as e:
                codes.append(e.code)
        assert codes.count("{}") == 10
        assert set(codes) == {"{}", "quota.files"}
    (box,) = map(json.loads,
                 house.admin("space", "list", "--json").splitlines())
    assert box["used_files"] == 10


def test_a_space_with_directories_only_is_deleted(house):
    with wire(house, "mara") as mara:
        house.admin("space", "add", "box", "--owner", "mara")
        mara.ask("mkdir", space="box", path="/a/b", parents=True)
        mara.ask("link", space="box", path="/a/l", target="x")
        house.admin("space", "delete", "box", status=1)
        mara.ask("remove", space="box", path="/a/l")
    house.admin("space", "delete", "box")
    assert "as it should be" in house.admin("check")
