# SPDX-License-Identifier: MIT
"""What the help shows as examples can be typed as it stands."""
import os
import re
import shutil
import subprocess
import time

import pytest

from ferry import BUILD, PASSWORD, PATIENCE, Server
from wire import Wire


def examples():
    def said(*args):
        return subprocess.run([BUILD / "ferry", *args], check=True, text=True,
                              env={**os.environ, "LC_ALL": "C"},
                              capture_output=True).stdout
    listed = said("help").split("\n\n")[2]
    for line in listed.splitlines():
        text = said(line.split()[0], "--help").partition("\nExamples:\n")[2]
        for example in text.splitlines():
            if example.strip() != "ferry":  # the prompt has a file of its own
                yield example.strip()


@pytest.fixture
def place(tmp_path):
    """Ada with all that the examples name."""
    with Server(tmp_path, "--registration", "open") as server:
        ada = server.member("ada")
        login = ["login", f"ada@{server.address}"]
        for _ in range(2):  # devices 2 and 3
            server.stranger().run(*login, "--accept-key", password=PASSWORD)
        ada.run(*login, "--as", "work", password=PASSWORD)
        ada.run("profiles", "default", "ada")
        server.admin("space", "add", "team", "--owner", "ada")
        here = tmp_path / "here"
        (here / "src").mkdir(parents=True)
        for name in ("maps.tar", "notes.txt", "src/a.c", "src/a.o"):
            (here / name).write_text(name)
        ada.run("mkdir", ":/2026", ":/2025", ":/photos")
        for path in ("maps.tar", "2026/maps.tar", "a", "b", "photos/x.raw",
                     "photos/x.jpg", "@team/x"):
            ada.run("put", here / "notes.txt",
                    ":" + path if path[0] == "@" else ":/" + path)
        ada.here, ada.server = here, server
        yield ada


def cut(server):
    """Somebody with an upload that was cut, and its ID."""
    with Wire(server.address).hello() as wire:
        wire.register("eve")
        wire.put("/large", 8 << 20)
    while '"active": true' in server.admin("uploads", "--json"):
        time.sleep(0.02)
    eve = server.stranger()
    eve.run("login", f"eve@{server.address}", "--accept-key", password=PASSWORD)
    return eve, eve.run("uploads", "--json").objects()[0]["upload"][:8]


@pytest.mark.parametrize("line", examples())
def test_an_example_works(place, line, tmp_path):
    who = place
    if re.search(r"\b(register|join)\b", line):  # ada would be there already
        who = place.server.stranger()
        line = line.replace("ada", "eve")
    if "uploads" in line:
        who, id = cut(place.server)
        line = line.replace("5e0c11a4", id)
    if "jq" in line and not shutil.which("jq"):
        pytest.skip("jq is not installed")
    # fish has made it when it was started first
    (tmp_path / "home/.config/fish/completions").mkdir(parents=True)
    typed = line.replace("/tmp/", f"{tmp_path}/home/")
    typed = typed.replace("ferry://files.example.org:9001/#...",
                          place.server.invite())
    typed = typed.replace("files.example.org", place.server.address)
    if re.search("register|login", line):
        typed += " --accept-key"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {typed}"], cwd=place.here, text=True,
        env={**who.env, "PATH": f"{BUILD}:{os.environ['PATH']}",
             "HOME": str(tmp_path / "home"), "FERRY_PASSWORD": PASSWORD,
             "FERRY_NEW_PASSWORD": "another " + PASSWORD},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, (typed, done)
    if "completion" in line:  # it went into a file
        assert [f for f in (tmp_path / "home").rglob("*")
                if f.is_file() and f.stat().st_size > 0], done
        return
    assert done.stdout or re.search(r"ferry (ls :/2026|mkdir|mv|rm|profiles)\b",
                                    line), done
