# SPDX-License-Identifier: MIT
"""Completion in the shells themselves: a key, and what stands in the line."""
import os
import shlex
import shutil
import subprocess

import pytest

from ferry import BUILD, PATIENCE, ROOT, Server

SCRIPTS = ROOT / "dist/completions"
# what is typed, then the words the shell would run
CASES = [
    ("ferry who", ["whoami"]),
    ("ferry ls --so", ["ls", "--sort"]),
    ("ferry ls --sort ti", ["ls", "--sort", "time"]),
    ("ferry --as ad", ["--as", "ada"]),
    ("ferry explain quota.b", ["explain", "quota.bytes"]),
    ("ferry devices re", ["devices", "remove"]),
    ("ferry help wh", ["help", "whoami"]),
    ("ferry get :/pl", ["get", ":/plain"]),
    ("ferry get :/dee", ["get", ":/deep/"]),
    ("ferry get -r :/deep/i", ["get", "-r", ":/deep/inner file"]),
    ("ferry get :/tw", ["get", ":/two words"]),
    ("ferry get ':/tw", ["get", ":/two words"]),
    ('ferry get ":/tw', ["get", ":/two words"]),
    ("ferry get :/two\\ w", ["get", ":/two words"]),
    ("ferry rm :/it", ["rm", ":/it's \"q\""]),
    ("ferry get :/\\$", ["get", ":/$HOME x"]),
    ("ferry get :/文", ["get", ":/文件"]),
    ("ferry get ada:/pl", ["get", "ada:/plain"]),
    ("ferry put tw", ["put", "two words"]),
    ("ferry put -r --exclude x pl", ["put", "-r", "--exclude", "x", "plain"]),
    ("ferry put plain :/de", ["put", "plain", ":/deep/"]),
    ("ferry login pl", ["login", "pl"]),
]


@pytest.fixture(scope="module")
def ada(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("completions")
    with Server(tmp) as server:
        client = server.member("ada")
        client.here = tmp / "here"
        client.here.mkdir()
        for name in ("plain", "two words", 'it\'s "q"'):
            (client.here / name).write_text("x")
            client.run("put", client.here / name)
        client.run("mkdir", ":/deep")
        for name in ("deep/inner file", "$HOME x", "文件"):
            client.run("put", client.here / "plain", ":/" + name)
        client.env = {**client.env, "PATH": f"{BUILD}:{os.environ['PATH']}",
                      "HOME": str(tmp), "XDG_CONFIG_HOME": str(tmp),
                      "PS1": "sh> ", "TERM": "dumb"}
        client.stranger = server.stranger()
        yield client


def shell(name):
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    return name


class Line:
    """An interactive shell that shows the words of a line for running it."""

    def __init__(self, ada, argv, setup):
        import pexpect

        self.child = pexpect.spawn(argv[0], argv[1:], env=ada.env,
                                   cwd=str(ada.here), timeout=PATIENCE,
                                   encoding="utf-8", dimensions=(40, 200))
        self.child.expect("sh> ")
        show = r"show() { printf '<<'; printf '%s|' " '"$@"' r"; printf '>>\n'; }"
        for line in [*setup, show]:
            self.child.sendline(line)
            self.child.expect(r"\n.*sh> ")

    def complete(self, line):
        # ^A: before the line, ^E: behind it again
        self.child.send(line + "\t\x01show \x05\r")
        self.child.expect("<<(.*)>>")
        words = self.child.match.group(1).split("|")[1:-1]
        self.child.expect("sh> ")
        return words


@pytest.fixture(scope="module")
def bash(ada):
    return Line(ada, [shell("bash"), "--norc", "--noprofile", "-i"],
                ["bind 'set bell-style none'", f". {SCRIPTS}/ferry.bash"])


@pytest.fixture(scope="module")
def zsh(ada):
    return Line(ada, [shell("zsh"), "-f", "-i"],
                ["PS1='sh> '; bindkey -e", f"fpath=({SCRIPTS} $fpath)",
                 "autoload -U compinit; compinit -u -D"])


@pytest.mark.parametrize("typed, words", CASES)
def test_bash_completes(bash, typed, words):
    closed = typed + {"'": "'", '"': '"'}.get(typed.split()[-1][0], "")
    shlex.split(closed)  # a case of this test is a line of a shell
    assert bash.complete(typed) == words


@pytest.mark.parametrize("typed, words", CASES)
def test_zsh_completes(zsh, typed, words):
    assert zsh.complete(typed) == words


@pytest.mark.parametrize("typed, words", CASES)
def test_fish_completes(ada, typed, words):
    done = subprocess.run(
        [shell("fish"), "--no-config", "-c",
         f"source {SCRIPTS}/ferry.fish; complete -C $argv[1]", typed],
        env=ada.env, cwd=ada.here, text=True, capture_output=True,
        timeout=PATIENCE)
    assert done.returncode == 0 and not done.stderr, done
    found = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert found == ([] if words[-1] == "pl" else [words[-1]])


def test_what_several_begin_with_is_completed(bash, zsh):
    for line in (bash, zsh):
        assert line.complete("ferry pass") == ["passwd"]
        assert line.complete("ferry get --no") == ["get", "--no-replace"]


def test_a_stranger_is_asked_nothing(ada):
    for kind in ("remote", "profiles"):
        done = subprocess.run(
            [BUILD / "ferry", "complete-names", kind, "--", ":/"],
            env=ada.stranger.env, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=PATIENCE)
        assert done.stdout == b""
