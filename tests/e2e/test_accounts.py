# SPDX-License-Identifier: MIT
"""Registering, logging in, and everything that is refused on the way."""
import pathlib
import re
import stat
import subprocess

import pytest

from ferry import BUILD, PASSWORD, PATIENCE, Server


def test_the_first_invite_makes_an_administrator(server):
    link = (server.data / "first-invite").read_text().strip()
    mode = stat.S_IMODE((server.data / "first-invite").stat().st_mode)
    assert mode == 0o600
    ada = server.stranger()
    ada.run("join", link, "ada", password=PASSWORD)
    who = ada.run("whoami", "--json").objects()[0]
    assert who["name"] == "ada" and who["admin"] is True
    again = server.stranger().run("join", link, "bob", password=PASSWORD,
                                  status=1)
    assert "invite.invalid" in again.err


def test_an_invite_by_standard_input(server):
    link = server.invite()
    bob = server.stranger()
    process = subprocess.run(
        [str(BUILD / "ferry"), "join", "-", "bob"], input=link + "\n",
        env={**bob.env, "FERRY_PASSWORD": PASSWORD}, text=True,
        capture_output=True, timeout=PATIENCE)
    assert process.returncode == 0, process.stderr


def test_an_invite_is_good_for_its_uses(server):
    link = server.invite("--uses", "2")
    server.member("a", link)
    server.member("b", link)
    server.stranger().run("join", link, "c", password=PASSWORD, status=1)


@pytest.mark.parametrize("policy, code", [("closed", "registration.closed"),
                                          ("invite", "registration.invite")])
def test_who_may_register_is_the_operators_word(tmp_path, policy, code):
    with Server(tmp_path, "--registration", policy) as server:
        refused = server.stranger().run(
            "register", f"ada@{server.address}", "--accept-key",
            password=PASSWORD, status=1)
        assert code in refused.err


def test_open_registration_takes_anybody_once(tmp_path):
    with Server(tmp_path, "--registration", "open") as server:
        address = f"ada@{server.address}"
        server.stranger().run("register", address, "--accept-key",
                              password=PASSWORD)
        taken = server.stranger().run("register", address, "--accept-key",
                                      password=PASSWORD, status=1)
        assert "account.exists" in taken.err


@pytest.mark.parametrize("name", ["Ada", ".a", "a b", "a" * 33, "", "ä"])
def test_a_name_that_cannot_be_one_is_refused(server, name):
    refused = server.stranger().run("join", server.invite(), name,
                                    password=PASSWORD, status=1)
    assert "account.name" in refused.err


def test_a_short_password_costs_no_invite(server):
    link = server.invite()
    weak = server.stranger().run("join", link, "ada", password="short",
                                 status=1)
    assert "password.weak" in weak.err
    server.member("ada", link)


def test_wrong_password_and_unknown_name_are_said_alike(server):
    server.member("ada")
    words = []
    for name in ("ada", "nobody"):
        refused = server.stranger().run(
            "login", f"{name}@{server.address}", "--accept-key",
            password="wrong wrong wrong", status=1)
        words.append(refused.err)
    assert words[0] == words[1]
    assert "login.refused" in words[0]


def test_the_password_logs_in_a_second_device(server, tmp_path):
    server.member("ada")
    laptop = server.stranger()
    laptop.run("login", f"ada@{server.address}", "--accept-key", "--as", "work",
               password=PASSWORD)
    (tmp_path / "f").write_bytes(b"x")
    laptop.run("put", tmp_path / "f", "work:/f")
    assert laptop.names("work:/") == ["f"]


def test_logout_forgets_the_key_on_both_sides(server):
    ada = server.member("ada")
    profile = ada.home / "profiles" / "ada.json"
    kept = profile.read_bytes()
    ada.run("logout")
    assert not profile.exists()
    assert "login.needed" in ada.run("ls", status=1).err
    # The old key is worth nothing.
    profile.write_bytes(kept)
    (ada.home / "default").write_text("ada")
    assert "device.unknown" in ada.run("ls", status=1).err


def test_a_changed_server_key_is_exit_4_and_a_warning(server):
    ada = server.member("ada")
    server.stop()
    for name in ("key.pem", "chain.pem"):
        (server.data / "tls" / name).unlink()
    server.args += ["--listen", server.address]
    server.start()
    changed = ada.run("ls", status=4)
    assert "WARNING" in changed.err and "server.changed" in changed.err
    # Not by a yes in passing: only by its own option.
    address = f"ada@{server.address}"
    assert ada.run("login", address, "--accept-key", password=PASSWORD,
                   status=4)
    ada.run("login", address, "--new-key", password=PASSWORD)
    ada.run("ls")


def test_an_invite_of_another_server_is_refused(server, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with Server(other) as b:
        link = server.invite().replace(server.address, b.address)
        refused = b.stranger().run("join", link, "ada", password=PASSWORD,
                                   status=4)
        assert "server.changed" in refused.err


def test_an_unknown_key_is_nobodys_to_accept_without_a_terminal(server):
    server.member("ada")
    refused = server.stranger().run("login", f"ada@{server.address}",
                                    password=PASSWORD, status=2)
    assert "--accept-key" in refused.err


def test_no_server_there_is_exit_3(tmp_path, server):
    ada = server.member("ada")
    server.stop()
    assert "connect.failed" in ada.run("ls", status=3).err


def test_what_is_kept_is_for_its_owner_alone(server):
    ada = server.member("ada")
    for top in (ada.home, server.data):
        for path in [top, *top.rglob("*")]:
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert mode & 0o077 == 0 or path.is_socket(), (path, oct(mode))


def test_no_secret_in_the_log_or_the_process_list(server):
    link = server.invite()
    secret = re.search(r"#([^.]+)\.", link).group(1)
    ada = server.stranger()
    process = ada.start("join", link, "ada", password=PASSWORD)
    seen = []
    cmdline = pathlib.Path(f"/proc/{process.pid}/cmdline")
    while process.poll() is None:
        try:
            seen.append(cmdline.read_bytes())
        except OSError:
            break
    process.communicate()
    assert process.returncode == 0
    # It takes the program its first milliseconds to overwrite the argument;
    # who has ended has no arguments.
    assert secret.encode() not in [args for args in seen if args][-1]
    server.stop()
    assert secret not in server.log() and PASSWORD not in server.log()


def test_a_password_is_asked_at_the_terminal_without_echo(server):
    """A person at a real terminal: the key is shown, the password is not."""
    import pexpect

    server.member("ada")
    home = server.stranger().env
    child = pexpect.spawn(str(BUILD / "ferry"),
                          ["login", f"ada@{server.address}"], env=home,
                          timeout=PATIENCE, encoding="utf-8")
    child.expect(r"Is that what its operator says\? \[y/N\] ")
    child.sendline("y")
    child.expect("Password of ada: ")
    child.sendline(PASSWORD)
    child.expect("Logged in as ada")
    assert PASSWORD not in child.before
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
