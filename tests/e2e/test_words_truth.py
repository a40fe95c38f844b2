# SPDX-License-Identifier: MIT
"""What is said at the right time, and is true."""
import subprocess

import pexpect
import pytest

from ferry import BUILD, PASSWORD, PATIENCE


@pytest.fixture
def ada(server):
    return server.member("ada")


def terminal(client, *args):
    return pexpect.spawn(str(BUILD / "ferry"), list(args), env=client.env,
                         timeout=PATIENCE, encoding="utf-8",
                         dimensions=(24, 400))


def ended(child):
    child.expect(pexpect.EOF)
    said = child.before
    child.close()
    return child.exitstatus, said


def test_a_password_that_is_too_short_is_not_asked_for_twice(ada):
    child = terminal(ada, "passwd")
    child.expect("Password of ada now: ")
    child.sendline(PASSWORD)
    child.expect("New password: ")
    child.sendline("short")
    status, said = ended(child)
    assert status == 1 and "5 characters" in said and "Again" not in said


def test_a_key_that_is_not_accepted_says_how_to_compare_it(server):
    child = terminal(server.stranger(), "login", f"ada@{server.address}")
    child.expect(r"\[y/N\] ")
    child.sendline("N")
    status, said = ended(child)
    assert status == 1
    assert f"{server.address} was not accepted; nothing was sent" in said
    assert "--accept-key" in said and "invite" in said


@pytest.mark.parametrize("words", [[""], ["-r", ""], ["", ":/there"]])
def test_an_empty_name_is_no_file(ada, words):
    said = ada.run("put", *words, status=1).err
    assert "'' cannot be a name: it is empty." in said


def test_a_usage_has_no_blank_at_its_end(ada):
    assert "usage: ferry spaces [option]...\n" in \
        ada.run("spaces", "--help").out
    assert ada.run("spaces", "--nix", status=2).err.endswith(
        "usage: ferry spaces [option]...\n")
    assert "usage: ferry mkdir [option]... " in ada.run("mkdir", "--help").out


@pytest.mark.parametrize("words", [["ls"], ["ls", "--json"], ["whoami"],
                                   ["help", "put"]])
def test_an_output_that_is_full_says_so(ada, tmp_path, words):
    (tmp_path / "f").write_text("x")
    ada.run("put", tmp_path / "f")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(BUILD / "ferry"), *words], env=ada.env,
                              stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=PATIENCE)
    assert done.returncode == 1 and "No space left on device" in done.stderr
