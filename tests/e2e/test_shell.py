# SPDX-License-Identifier: MIT
"""The prompt: at a terminal as a person uses it, and from a file."""
import os
import re
import signal
import stat
import subprocess

import pytest

from ferry import BUILD, PASSWORD, PATIENCE, Server
from proxy import Proxy

PROMPT = r"ferry (\S*)> "


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path) as s:
        yield s


@pytest.fixture
def ada(server, tmp_path):
    client = server.member("ada")
    here = tmp_path / "here"
    here.mkdir()
    (here / "plain").write_bytes(b"plain")
    (here / "two words").write_bytes(b"x" * 2000)
    (here / "sub").mkdir()
    return client


class Prompt:
    """Somebody at the prompt, in the directory `here`."""

    def __init__(self, client, here, *args, columns=80):
        import pexpect

        self.child = pexpect.spawn(
            str(BUILD / "ferry"), list(args), cwd=str(here),
            env={**client.env, "TERM": "xterm"}, timeout=PATIENCE,
            encoding="utf-8", dimensions=(24, columns))
        self.child.expect(PROMPT)
        # A key that comes before the terminal is libedit's may be lost.
        self.where = self.child.match.group(1)

    def do(self, line):
        """A line; what was said, without the line itself."""
        self.child.send(line + "\r")
        return self.until_prompt()

    def until_prompt(self):
        self.child.expect(r"\r\n")
        self.child.expect(PROMPT)
        self.where = self.child.match.group(1)
        return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "",
                      self.child.before).replace("\r", "")

    def leave(self):
        import pexpect

        self.child.sendeof()
        self.child.expect(pexpect.EOF)
        self.child.close()
        return self.child.exitstatus


def test_a_person_carries_files(ada, tmp_path):
    p = Prompt(ada, tmp_path / "here")
    assert "plain -> :/plain" in p.do("put plain")
    assert p.do("mkdir d") == ""
    assert p.do("cd d") == "" and p.where == ":/d"
    assert ":/d/renamed" in p.do("put 'two words' renamed")
    assert p.do("ls") == "renamed\n"
    assert p.do("mv renamed ../two\\ words") == ""
    assert p.do("ls ..") == "d/         plain      two words\n" \
        or p.do("ls ..").split() == ["d/", "plain", "two", "words"]
    assert p.do("pwd") == ":/d\n"
    assert "size      2000" in p.do("stat '../two words'")
    assert p.do("lcd sub") == ""
    assert p.do("lpwd") == f"{tmp_path}/here/sub\n"
    p.do("get ../plain")
    p.do("get '../two words' mine")
    assert p.do("lls").split() == ["mine", "plain"]
    p.do("rm ../plain")
    assert p.do("cd") == "" and p.where == ":/"
    assert p.do("ls").split() == ["d/", "two", "words"]
    assert (tmp_path / "here/sub/mine").stat().st_size == 2000
    assert p.leave() == 0


def test_what_goes_wrong_ends_no_prompt(ada, tmp_path):
    p = Prompt(ada, tmp_path / "here")
    assert "file.missing" in p.do("ls nix")
    assert "is not a command" in p.do("frobnicate")
    assert "a quote does not end" in p.do("put 'plain")
    assert "takes no option" in p.do("mkdir -r x")
    assert "file.missing" in p.do("cd nix") and p.where == ":/"
    p.do("put plain")
    assert "file.not_directory" in p.do("cd plain")
    assert p.do("# a comment") == "" and p.do("") == ""
    assert "cd [REMOTE]" in p.do("help") and "usage: ferry put" in \
        p.do("help put")
    p.child.send("exit\r")
    p.child.expect(r"\r\n")
    import pexpect
    p.child.expect(pexpect.EOF)


def test_names_are_completed_there_and_here(ada, tmp_path):
    here = tmp_path / "here"
    ada.run("put", here / "plain", ":/only-there")
    ada.run("put", here / "plain", ":/odd \x1b name")
    ada.run("mkdir", ":/deep")
    p = Prompt(ada, here)
    p.child.send("get on\t")
    p.child.expect("ly-there ")
    assert "only-there -> " in p.until_after("\r")
    p.child.send("put tw\t")
    p.child.expect("words ")
    p.until_after("\r")
    assert "two words" in p.do("ls")
    p.child.send("who\t")
    p.child.expect("ami ")
    assert "ada on" in p.until_after("\r")
    p.child.send("get od\t")
    p.child.expect("name ")
    assert r"odd \x1b name" in p.until_after("\r")
    assert (here / "odd \x1b name").exists()
    p.child.send("cd de\t")
    p.child.expect("ep/")
    p.until_after("\r")
    assert p.where == ":/deep"
    # several: they are shown, and the line stays
    p.child.send("ls ../o\t")
    p.child.expect("odd")
    p.child.expect("only-there")
    p.child.send("nly-there\r")
    p.child.expect("only-there\r\n")
    p.child.expect(PROMPT)
    assert p.leave() == 0


def test_back_and_by_other_names(ada, tmp_path):
    here = tmp_path / "here"
    p = Prompt(ada, here)
    p.do("mkdir a b")
    p.do("cd a")
    p.do("cd ../b")
    assert p.do("cd -") == "" and p.where == ":/a"
    p.do("cd -")
    assert p.where == ":/b"
    p.do("mput plain 'two words'")
    p.do("rename plain other")
    assert p.do("dir -a") == "other  two words\n"
    p.do("lmkdir new")
    p.do("lcd new")
    p.do("mget *")
    assert sorted(os.listdir(here / "new")) == ["other", "two words"]
    assert "File exists" in p.do("lmkdir ../sub")
    assert "File exists" in p.do("lmkdir /")
    assert "No such file" in p.do("lmkdir ../none/x")
    p.do("lmkdir ../sub/below/")
    assert (here / "sub" / "below").is_dir()
    (here / "new" / ".dot").touch()
    assert p.do("lls") == "other  two words\n"
    assert p.do("lls -a .") == ".dot  other  two words\n"
    assert p.do("help lcd") == "  lcd [DIRECTORY]     goes to a directory here\n"
    assert p.do("help mput").startswith("usage: ferry put")
    assert "is not a command" in p.do("help nix")
    p.child.send("mput ../pl\t")
    p.child.expect("ain ")
    p.until_after("\r")
    assert "plain" in p.do("ls")
    assert p.leave() == 0


def until_after(self, key):
    self.child.send(key)
    return self.until_prompt()


Prompt.until_after = until_after


def test_lines_are_remembered_for_the_owner_alone(server, ada, tmp_path):
    p = Prompt(ada, tmp_path / "here")
    p.do("ls  -l")
    p.do(" whoami")
    p.do(f"join {server.invite()}secret no:name")
    p.do(f"--json join {server.invite()}secret no:name")
    p.do(f"ls {server.invite()}")
    assert p.leave() == 0
    history = ada.home / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    text = history.read_text()
    assert "ls" in text and "whoami" not in text and "join" not in text
    assert "ferry://" not in text
    p = Prompt(ada, tmp_path / "here")
    p.child.send("\x1b[A")
    p.child.expect("ls  -l")
    p.until_after("\r")
    assert p.leave() == 0


def test_an_interrupt_ends_the_line_or_the_command(server, ada, tmp_path):
    here = tmp_path / "here"
    with open(here / "large", "wb") as f:
        f.truncate(2 << 30)
    p = Prompt(ada, here)
    p.do("pwd")
    p.child.send("ls half a li")
    p.child.expect("half a li")
    p.child.sendintr()
    p.child.expect(r"\^C")
    p.child.expect(PROMPT)
    p.child.send("put large\r")
    p.child.expect("%")
    p.child.sendintr()
    p.child.expect("cancelled")
    p.child.expect(PROMPT)
    assert p.do("pwd") == ":/\n"
    assert p.do("ls") == ""
    assert p.leave() == 0


def test_one_connection_serves_all_and_is_made_again(server, ada, tmp_path):
    with Proxy(server.address) as line:
        profile = next((ada.home / "profiles").iterdir())
        text = profile.read_text()
        pins = ada.home / "pins.json"
        profile.write_text(text.replace(server.address, line.address))
        pins.write_text(pins.read_text().replace(server.address, line.address))
        p = Prompt(ada, tmp_path / "here")
        p.do("put plain")
        p.do("ls")
        assert len(line.open) == 1
        for pair in list(line.open):
            for s in pair:
                line._reset(s)
        assert p.do("ls") == "plain\n"
        assert len(line.open) == 2
        assert p.leave() == 0


def test_a_stopped_prompt_goes_on(ada, tmp_path):
    import pexpect

    child = pexpect.spawn("/bin/bash", ["--norc", "--noprofile", "-i"],
                          env={**ada.env, "PS1": "sh> ", "TERM": "xterm"},
                          timeout=PATIENCE, encoding="utf-8",
                          cwd=str(tmp_path / "here"))
    child.expect("sh> ")
    child.sendline(f"{BUILD}/ferry")
    child.expect(PROMPT)
    child.send("pw")
    child.expect("pw")
    child.send("\x1a")
    child.expect("Stopped")
    child.expect("sh> ")
    child.sendline("stty -a | grep -ow -e '-*icanon'")
    child.expect(r"\ricanon")
    child.expect("sh> ")
    child.sendline("fg")
    child.expect(PROMPT + "pw")
    child.send("d\r")
    child.expect(r"\r\n:/\r\n")
    child.expect(PROMPT)
    child.sendeof()
    child.expect("sh> ")
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()


def test_a_smaller_terminal_is_noticed(ada, tmp_path):
    here = tmp_path / "here"
    for name in ("aaaa", "bbbb", "cccc"):
        ada.run("put", here / "plain", f":/{name}")
    p = Prompt(ada, here)
    assert p.do("ls").split("\n")[0].split() == ["aaaa", "bbbb", "cccc"]
    p.child.setwinsize(24, 15)
    assert len(p.do("ls").strip().split("\n")) > 1
    assert p.leave() == 0


def batch(client, text, *args, here):
    return subprocess.run([BUILD / "ferry", "shell", *args], input=text,
                          env=client.env, cwd=here, text=True,
                          capture_output=True, timeout=PATIENCE)


def test_commands_come_from_a_file(ada, tmp_path):
    here = tmp_path / "here"
    done = batch(ada, "put plain\nput 'two words' x\n\n# comment\nls\n",
                 here=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("plain\nx\n")
    last = batch(ada, "pwd", here=here)
    assert (last.returncode, last.stdout) == (0, ":/\n")


def test_a_failure_ends_the_file_unless_it_may(ada, tmp_path):
    here = tmp_path / "here"
    done = batch(ada, "-cd nix\n-rm nix\nput plain\nls nix\nrm plain\n",
                 here=here)
    assert done.returncode == 1
    assert done.stderr.count("file.missing") == 3
    assert ada.names() == ["plain"]
    assert batch(ada, "foo\nrm plain\n", here=here).returncode == 2
    assert batch(ada, "exit\nfoo\n", here=here).returncode == 0


def test_a_file_speaks_json(ada, tmp_path):
    done = batch(ada, "put plain\nls\n-ls nix\n", "--json",
                 here=tmp_path / "here")
    import json
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [o.get("do") for o in said] == ["put", None, None]
    assert said[2]["problem"]["code"] == "file.missing"


def test_without_a_terminal_ferry_alone_says_how_it_is_used(ada, tmp_path):
    alone = ada.run(status=2)
    assert alone.err.startswith("usage: ferry")


def test_a_login_that_fails_opens_no_prompt(server):
    refused = server.stranger().run("shell", status=1)
    assert "login.needed" in refused.err


def test_relative_names_and_lcd_keep_the_home_of_ferry(ada, tmp_path):
    here = tmp_path / "here"
    env = {**ada.env, "FERRY_HOME": os.path.relpath(ada.home, here)}
    done = subprocess.run([BUILD / "ferry", "shell"],
                          input="lcd sub\nls\nput ../plain\nls /\n", env=env,
                          cwd=here, text=True, capture_output=True,
                          timeout=PATIENCE)
    assert done.returncode == 0 and done.stdout.endswith("plain\n"), done


def test_a_hangup_leaves_nothing_behind(ada, tmp_path):
    p = Prompt(ada, tmp_path / "here")
    os.kill(p.child.pid, signal.SIGHUP)
    import pexpect
    p.child.expect(pexpect.EOF)
    p.child.close()
    assert p.child.signalstatus == signal.SIGHUP


# ---- patterns


def test_patterns_stand_for_names_there_and_here(ada, tmp_path):
    here = tmp_path / "here"
    for name in ("a.txt", "b.txt", "c.bin", ".hidden.txt", "x:y.txt",
                 "star*.txt"):
        (here / name).write_bytes(name.encode())
    p = Prompt(ada, here)
    p.do("mkdir d")
    assert "4 files" in p.do("put *.txt d")
    assert sorted(ada.names(":/d")) == ["a.txt", "b.txt", "star*.txt",
                                        "x:y.txt"]
    assert p.do("ls d/[ab].txt").split() == [":/d/a.txt", ":/d/b.txt"]
    p.do("cd d")
    p.do("lcd sub")
    assert "4 files" in p.do("get *.txt .")
    assert (here / "sub" / "x:y.txt").read_bytes() == b"x:y.txt"
    # A quoted one is a name.
    p.do("rm 'star*.txt'")
    assert sorted(ada.names(":/d")) == ["a.txt", "b.txt", "x:y.txt"]
    p.do("rm ?.txt")
    assert ada.names(":/d") == ["x:y.txt"]
    assert "There is no /d/*.none" in p.do("get *.none")
    assert "last part" in p.do("get :/*/a.txt")
    assert p.leave() == 0
