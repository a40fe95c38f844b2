#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Records docs/progress.svg: a terminal in which a tree is sent over a line of
40 MB/s that breaks once, and the same command goes on.

    scripts/picture.py BUILD

Needs termtosvg (see scripts/packages, group picture).
"""
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
os.environ["FERRY_BUILD"] = str(pathlib.Path(sys.argv[1]).resolve())
sys.path.insert(0, str(ROOT / "tests" / "support"))
from ferry import Server  # noqa: E402
from proxy import Proxy  # noqa: E402

RATE = 40 << 20
SIZE = "78x16"
PLAY = """
from sys import argv, stdout
import os, shlex, subprocess, time
def typed(text):
    stdout.write("\x1b[1;32m$\x1b[0m ")
    for c in text:
        stdout.write(c)
        stdout.flush()
        time.sleep(0.04)
    print(flush=True)
    time.sleep(0.3)
for line in argv[1:]:
    typed(line)
    subprocess.run(shlex.split(line), check=False)
    time.sleep(1)
"""


def fill(place):
    """About 300 MB: photographs and a film."""
    (place / "summer" / "raw").mkdir(parents=True)
    for n in range(120):
        (place / "summer" / f"IMG_{4000 + n}.jpg").write_bytes(
            os.urandom(700_000 + n * 5_000))
    (place / "summer" / "raw" / "harbour.mov").write_bytes(
        os.urandom(180 << 20))


def mend(line):
    """The line is whole again soon after it broke."""
    while line.moved["up"] < line.limit["up"]:
        time.sleep(0.1)
    time.sleep(1.5)
    line.mend()


def main():
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        fill(tmp)
        (tmp / "server").mkdir()
        with Server(tmp / "server") as server:
            with Proxy(server.address, rate=RATE) as line:
                ada = server.member("ada")
                profiles = pathlib.Path(ada.home) / "profiles"
                for p in [*profiles.iterdir(), pathlib.Path(ada.home) /
                          "pins.json"]:
                    p.write_text(p.read_text().replace(server.address,
                                                       line.address))
                line.cut(up=190 << 20)
                mender = threading.Thread(target=mend, args=[line],
                                          daemon=True)
                mender.start()
                env = {**ada.env, "TERM": "xterm-256color",
                       "PATH": f"{os.environ['FERRY_BUILD']}:"
                               f"{os.environ['PATH']}"}
                play = tmp / "play.py"
                play.write_text(PLAY)
                # Its end of input would end the recording.
                keys, _open = os.pipe()
                subprocess.run(
                    ["termtosvg", str(ROOT / "docs" / "progress.svg"), "-g",
                     SIZE, "-t", "gjm8", "-m", "100", "-D", "3000", "-c",
                     shlex.join(["python3", str(play),
                                 "ferry put -r --retry summer :/",
                                 "ferry ls -l :/summer/raw"])],
                    env=env, cwd=tmp, check=True, stdin=keys)


main()
