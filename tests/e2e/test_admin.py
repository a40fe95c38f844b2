# SPDX-License-Identifier: MIT
"""Administration, through the daemon and without one."""
import json
import os
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import tempfile

import pexpect
import pytest

from ferry import BUILD, PASSWORD, PATIENCE, Server, environment

ROOT = ["--allow-root"] if os.geteuid() == 0 else []


class House:
    """A data directory, and ferryd's commands on it."""

    def __init__(self, server):
        self.server = server
        self.data = server.data

    def run(self, *args, status=0, stdin=None, user=None):
        done = subprocess.run(
            [str(BUILD / "ferryd"), *map(str, args), "--data", str(self.data)],
            env=environment(), text=True, capture_output=True,
            input=stdin if stdin is not None else "", timeout=PATIENCE,
            user=user)
        assert done.returncode == status, done
        return done.stdout if status == 0 else done.stderr

    def rows(self, *args):
        return [json.loads(line)
                for line in self.run(*args, "--json").splitlines()]

    def add(self, name, *args):
        return self.run("user", "add", name, *args, stdin=PASSWORD + "\n")


@pytest.fixture(params=["running", "stopped"])
def house(request, tmp_path):
    """The same commands, whoever does the work."""
    with Server(tmp_path) as server:
        if request.param == "stopped":
            server.stop()
        yield House(server)


@pytest.fixture
def online(tmp_path, poller):
    with Server(tmp_path) as server:
        yield House(server)


# ---- people


def test_people_are_added_listed_and_deleted(house):
    assert "nobody yet" in house.run("user", "list")
    house.add("mara")
    house.add("bo", "--admin", "--bytes", "10 GiB", "--files", "5")
    assert "taken" in house.run("user", "add", "bo", status=1,
                                stdin=PASSWORD + "\n")
    bo, mara = house.rows("user", "list")
    assert (bo["name"], mara["name"]) == ("bo", "mara")
    assert bo["admin"] and not mara["admin"]
    assert (bo["quota_bytes"], bo["quota_files"]) == (10 << 30, 5)
    table = house.run("user", "list").splitlines()
    assert re.match(r"NAME +STATE +USED +UNFINISHED +QUOTA", table[0])
    assert re.match(r"bo +admin +0 bytes +- +10 GiB", table[1])
    house.run("user", "delete", "bo")
    assert [r["name"] for r in house.rows("user", "list")] == ["mara"]
    assert "no account" in house.run("user", "delete", "bo", status=1)


def test_who_was_added_logs_in_with_that_password(house):
    house.add("mara")
    if house.server.process.returncode is not None:
        house.server.start()
    mara = house.server.stranger()
    mara.run("login", f"mara@{house.server.address}", "--accept-key",
             password=PASSWORD)
    assert mara.names() == []
    house.run("user", "passwd", "mara", stdin="another long password\n")
    stranger = house.server.stranger()
    stranger.run("login", f"mara@{house.server.address}", "--accept-key",
                 password=PASSWORD, status=1)
    stranger.run("login", f"mara@{house.server.address}", "--accept-key",
                 password="another long password")


def test_who_is_disabled_is_out_at_once(online, tmp_path):
    online.add("mara")
    mara = online.server.stranger()
    mara.run("login", f"mara@{online.server.address}", "--accept-key",
             password=PASSWORD)
    online.run("user", "disable", "mara")
    assert "disabled" in mara.run("ls", status=1).err
    (row,) = online.rows("user", "list")
    assert row["disabled"]
    online.run("user", "enable", "mara")
    assert mara.names() == []


def test_a_transfer_of_somebody_who_is_disabled_ends(online, tmp_path):
    online.add("mara")
    mara = online.server.stranger()
    mara.run("login", f"mara@{online.server.address}", "--accept-key",
             password=PASSWORD)
    big = tmp_path / "big"
    with open(big, "wb") as f:
        f.truncate(2 << 30)
    put = mara.start("put", big)
    while not any((online.data / "drafts").rglob("*.log")):
        assert put.poll() is None, put.communicate()
    online.run("user", "disable", "mara")
    out, err = put.communicate(timeout=PATIENCE)
    assert put.returncode in (1, 3), err
    assert b"operator" in err or b"disabled" in err, err
    assert b"disabled" in mara.start("put", big).communicate(
        timeout=PATIENCE)[1]


def test_a_home_that_has_files_is_not_deleted(house, tmp_path):
    running = house.server.process.returncode is None
    if not running:
        house.server.start()
    ada = house.server.member("ada")
    (tmp_path / "f").write_text("x")
    ada.run("put", tmp_path / "f")
    if not running:
        house.server.stop()
    assert "ada has 1 file, 1 byte." in house.run("user", "delete", "ada",
                                                  status=1)
    assert [r["used_files"] for r in house.rows("user", "list")] == [1]


def test_a_quota_is_set_and_each_half_stays(house):
    house.add("mara")
    assert "needs --bytes" in house.run("user", "quota", "mara", status=2)
    house.run("user", "quota", "mara", "--bytes", "1 MiB")
    house.run("user", "quota", "mara", "--files", "7")
    (row,) = house.rows("user", "list")
    assert (row["quota_bytes"], row["quota_files"]) == (1 << 20, 7)
    house.run("user", "quota", "mara", "--bytes", "0")
    (row,) = house.rows("user", "list")
    assert (row["quota_bytes"], row["quota_files"]) == (0, 7)


def test_a_password_is_no_argument_and_not_weak(house, tmp_path):
    assert "least 8" in house.run("user", "add", "mara", status=1,
                                  stdin="short\n").replace("at least", "least")
    secret = tmp_path / "secret"
    secret.write_text("from a file, long\nnot this\n")
    house.run("user", "add", "mara", "--password-file", secret)
    house.run("user", "passwd", "mara", "--password-file", "-",
              stdin="from the pipe\n")
    for wrong in ("/no/such/file", tmp_path):
        house.run("user", "passwd", "mara", "--password-file", wrong, status=1)
    house.run("user", "add", "bo", "a password that is long", status=2)
    # An empty one is what a forgotten pipe gives.
    house.run("user", "add", "bo", status=1, stdin="")


def test_a_password_is_typed_twice_without_echo(online):
    child = pexpect.spawn(str(BUILD / "ferryd"),
                          ["user", "add", "mara", "--data", str(online.data)],
                          env=environment(), timeout=PATIENCE,
                          encoding="utf-8")
    child.expect("New password for mara: ")
    child.sendline(PASSWORD)
    child.expect("Again: ")
    child.sendline("something else")
    child.expect("not the same")
    child.expect("New password")
    child.sendline(PASSWORD)
    child.expect("Again: ")
    child.sendline(PASSWORD)
    child.expect("mara: added")
    child.expect(pexpect.EOF)
    assert PASSWORD not in (child.before or "")
    child.close()
    assert child.exitstatus == 0


def test_an_invite_in_place_of_a_password(house):
    link = house.run("user", "add", "mara", "--invite").strip()
    assert link.startswith("ferry://") and "#" in link
    house.run("user", "add", "No Name", "--invite", status=1)
    house.run("user", "add", "mara", "--invite", "--password-file", "x",
              status=2)


# ---- spaces


def test_spaces_are_made_granted_and_deleted(house):
    house.add("mara")
    house.add("bo")
    assert "no shared spaces" in house.run("space", "list")
    house.run("space", "add", "team", "--owner", "mara", "--bytes", "1 GiB",
              "--files", "9")
    house.run("space", "add", "team", "--owner", "mara", status=1)
    house.run("space", "add", "more", "--owner", "nobody", status=1)
    house.run("space", "add", "No", "--owner", "mara", status=1)
    (team,) = house.rows("space", "list")
    assert (team["name"], team["owner"]) == ("team", "mara")
    assert (team["quota_bytes"], team["quota_files"]) == (1 << 30, 9)
    house.run("space", "grant", "team", "bo", "read,list")
    house.run("space", "grant", "team", "--everybody", "drop", "--path",
              "/inbox")
    assert "no grants" not in house.run("space", "grants")
    grants = house.rows("space", "grants", "team")
    assert {(g["account"], g["rights"], g["path"]) for g in grants} == {
        ("bo", "read,list", "/"), (None, "drop", "/inbox")}
    table = house.run("space", "grants", "team")
    assert "(everybody)" in table and "/inbox" in table
    house.run("space", "revoke", "team", "bo")
    for what in (["bo"], ["bo", "--path", "/nonsense"], ["--everybody"]):
        said = house.run("space", "revoke", "team", *what, status=1)
        assert "has no grant at /" in said and "space grants" in said
        assert ("Everybody" if "--everybody" in what else "bo") in said
    house.run("space", "revoke", "team", "--everybody", "--path", "/inbox")
    assert house.rows("space", "grants", "team") == []
    for wrong in (["grant", "team", "bo", "dance"],
                  ["grant", "team", "nobody", "read"],
                  ["grant", "nowhere", "bo", "read"],
                  ["grant", "team", "bo", "read", "--path", "/../x"],
                  ["quota", "nowhere", "--files", "1"],
                  ["delete", "nowhere"], ["grants", "nowhere"]):
        house.run("space", *wrong, status=1)
    for wrong in (["grant", "team", "read"], ["revoke", "team"],
                  ["grant", "team", "bo", "read", "--everybody"],
                  ["add", "x"], ["quota", "team"],
                  ["quota", "team", "--files", "many"]):
        house.run("space", *wrong, status=2)
    house.run("space", "quota", "team", "--bytes", "2 GiB")
    (team,) = house.rows("space", "list")
    assert (team["quota_bytes"], team["quota_files"]) == (2 << 30, 9)
    house.run("space", "delete", "team")
    assert house.rows("space", "list") == []


# ---- sessions


def test_sessions_are_listed_and_kicked(online, tmp_path):
    assert "nobody is connected" in online.run("sessions")
    ada = online.server.member("ada")
    big = tmp_path / "big"
    with open(big, "wb") as f:
        f.truncate(2 << 30)
    put = ada.start("put", big)
    while not any((online.data / "drafts").rglob("*.log")):
        assert put.poll() is None, put.communicate()
    rows = [r for r in online.rows("sessions") if r["account"] == "ada"]
    assert rows and "put" in rows[0]["doing"]
    assert "ada" in online.run("sessions", "list")
    assert "no session" in online.run("sessions", "kick", "00000000", status=1)
    for row in rows:
        online.run("sessions", "kick", row["id"])
    out, err = put.communicate(timeout=PATIENCE)
    assert put.returncode in (1, 3), err
    assert b"ended by" in err or b"operator" in err, err


def test_without_a_daemon_nobody_is_connected(tmp_path):
    with Server(tmp_path) as server:
        pass
    house = House(server)
    for command in (["sessions"], ["sessions", "list"]):
        assert house.run(*command) == "nobody is connected\n"
        assert house.rows(*command) == []
    assert "No ferryd runs" in house.run("sessions", "kick", "00000000",
                                         status=1)


# ---- check


def test_check_finds_and_repairs(house, tmp_path):
    running = house.server.process.returncode is None
    if not running:
        house.server.start()
    ada = house.server.member("ada")
    for name in ("kept", "gone"):
        (tmp_path / name).write_text(name)
        ada.run("put", tmp_path / name)
    if not running:
        house.server.stop()
    assert "as it should be" in house.run("check")
    (stored,) = (house.data / "spaces").rglob("gone")
    stored.unlink()
    house.run("check", status=1)
    assert any("gone" in str(r["path"]) and r["where"] == "ada"
               for r in [json.loads(line) for line in subprocess.run(
                   [str(BUILD / "ferryd"), "check", "--json", "--data",
                    str(house.data)], env=environment(), text=True,
                   capture_output=True, timeout=PATIENCE).stdout.splitlines()])
    assert "repaired" in house.run("check", "--repair")
    assert "as it should be" in house.run("check")
    (row,) = house.rows("user", "list")
    assert (row["used_files"], row["used_bytes"]) == (1, 4)


def test_check_sees_what_others_did(house, tmp_path):
    running = house.server.process.returncode is None
    if not running:
        house.server.start()
    ada = house.server.member("ada")
    for name in ("same", "changed"):
        (tmp_path / name).write_text(name)
        ada.run("put", tmp_path / name)
    if not running:
        house.server.stop()
    else:
        assert "as it should be" in house.run("check")
    (changed,) = (house.data / "spaces").rglob("changed")
    with open(changed, "r+b") as f:
        f.write(b"C")
    os.utime(changed, ns=(0, 5))
    (changed.parent / "foreign").write_text("x")
    (changed.parent / "etc").symlink_to("/etc")
    said = subprocess.run(
        [str(BUILD / "ferryd"), "check", "--data", str(house.data)],
        env=environment(), text=True, capture_output=True, timeout=PATIENCE)
    assert said.returncode == 1
    assert "changed: was changed by somebody else" in said.stdout
    assert "same" not in said.stdout
    assert "from outside: files, served and in no quota: 1; directories and " \
        "links, likewise: 1; links that lead out, never followed: 1" in \
        said.stdout
    assert "repaired" in house.run("check", "--repair")
    assert "from outside: files, served and in no quota: 2" in \
        house.run("check")
    assert changed.read_text() == "Changed"
    spaces = house.data / "spaces"
    spaces.rename(house.data / "away")
    spaces.mkdir(mode=0o700)
    said = subprocess.run(
        [str(BUILD / "ferryd"), "check", "--repair", "--data",
         str(house.data)], env=environment(), text=True, capture_output=True,
        timeout=PATIENCE)
    assert said.returncode == 1 and "spaces/" in said.stdout, said
    spaces.rmdir()
    (house.data / "away").rename(spaces)
    assert "as it should be" in house.run("check")


# ---- stats


def test_stats_in_three_forms(house):
    house.add("mara")
    stats = json.loads(house.run("stats", "--json"))
    running = house.server.process.returncode is None
    assert stats["running"] == running and stats["accounts"] == 1
    assert stats["ledger_bytes"] > 0 and stats["disk_free_bytes"] > 0
    if running:
        assert stats["process_memory_bytes"] > 1 << 20
        assert stats["process_descriptors"] > 5
        assert stats["loops"]
    assert "Accounts." in house.run("stats")
    seen, typed = set(), set()
    for line in house.run("stats", "--prometheus").splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert name not in typed and kind in ("gauge", "counter")
            typed.add(name)
            continue
        if line.startswith("# HELP "):
            continue
        match = re.fullmatch(
            r'(ferry_[a-z0-9_]+)(\{[a-z]+="[^"\\\n]*"(,[a-z]+="[^"\\\n]*")*\})?'
            r" (\d+)", line)
        assert match, line
        assert match[1] in typed
        assert (match[1], match[2]) not in seen
        seen.add((match[1], match[2]))
    assert ("ferry_accounts", None) in seen
    house.run("stats", "--json", "--prometheus", status=2)


def test_counters_count(online, tmp_path):
    ada = online.server.member("ada")
    before = json.loads(online.run("stats", "--json"))
    (tmp_path / "f").write_bytes(b"x" * 100000)
    ada.run("put", tmp_path / "f")
    ada.run("get", ":/f", tmp_path / "g")
    after = json.loads(online.run("stats", "--json"))
    for key, least in (("received_bytes_total", 100000),
                       ("sent_bytes_total", 100000), ("logins_total", 2),
                       ("connections_accepted_total", 2), ("files", 1)):
        assert after[key] - before[key] >= least, key
    puts = [v for v in after["verbs"] if v["verb"] == "put"]
    assert puts and puts[0]["ok"] >= 1


# ---- the command line


def commands():
    return ["user", "space", "invite", "sessions", "check", "stats"]


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help_with_examples(command):
    said = subprocess.run([str(BUILD / "ferryd"), command, "--help"],
                          env=environment(), text=True, capture_output=True,
                          check=True).stdout
    assert said.startswith(f"usage: ferryd {command}")
    assert "Examples:" in said and "--data" in said and "--json" in said
    assert max(map(len, said.splitlines())) <= 79


@pytest.mark.parametrize("words", [
    ["user"], ["user", "dance"], ["user", "add"], ["user", "list", "x"],
    ["user", "list", "--repair"], ["user", "add", "x", "--nonsense"],
    ["user", "add", "x", "--bytes", "much"], ["invite", "--uses", "0"],
    ["invite", "--uses"], ["check", "x"], ["stats", "--repair"],
    ["sessions", "kick"], ["space"], ["space", "grant", "a"]])
def test_a_wrong_command_line_is_said_once(house, words):
    said = house.run(*words, status=2).splitlines()
    assert len(said) == 2, said
    assert said[0].startswith("ferryd: ") and said[1].endswith("See --help.")


def test_a_command_without_data_or_on_nothing(tmp_path):
    done = subprocess.run([str(BUILD / "ferryd"), "user", "list"],
                          env=environment(), text=True, capture_output=True)
    assert done.returncode == 2 and "--data DIR" in done.stderr
    done = subprocess.run([str(BUILD / "ferryd"), "user", "list", "--data",
                           str(tmp_path)], env=environment(), text=True,
                          capture_output=True)
    assert done.returncode == 1 and "no data directory" in done.stderr
    assert os.listdir(tmp_path) == []


def test_commands_wait_for_each_other(tmp_path, poller):
    """Two without a daemon: one has the lock, the other its turn."""
    with Server(tmp_path) as server:
        pass
    house = House(server)
    running = [subprocess.Popen(
        [str(BUILD / "ferryd"), "invite", "--data", str(house.data)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(5)]
    for process in running:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert out.startswith(b"ferry://")


# ---- who may


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give it up")
@pytest.mark.parametrize("command", [["invite"], ["user", "list"],
                                     ["check"], ["user", "add", "x"]])
def test_root_leaves_nothing_of_its_own_behind(command):
    # /tmp itself: whoever DATA is given to must get through to it.
    with tempfile.TemporaryDirectory() as tmp:
        os.chmod(tmp, 0o755)
        with Server(tmp) as server:
            pass
        for path in [server.data, *server.data.rglob("*")]:
            os.chown(path, 4321, 4322, follow_symlinks=False)
        House(server).run(*command, stdin=PASSWORD + "\n")
        for path in [server.data, *server.data.rglob("*")]:
            st = path.lstat()
            assert (st.st_uid, st.st_gid) == (4321, 4322), path


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_somebody_else_is_not_served(online):
    """Even when the socket lets them in."""
    os.chmod(online.server.tmp, 0o755)
    with tempfile.TemporaryDirectory() as tmp:
        os.chmod(tmp, 0o755)
        path = f"{tmp}/s"
        os.link(online.data / "admin.sock", path)
        os.chmod(path, 0o777)
        request = b'{"do": "user.list"}'
        code = (
            "import os, socket, sys\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            f"s.connect({path!r})\n"
            "try:\n"
            f"    s.sendall({struct.pack('>I', len(request)) + request!r})\n"
            "    sys.exit(1 if s.recv(1) else 0)\n"
            "except (ConnectionError, BrokenPipeError):\n"
            "    sys.exit(0)\n")
        assert subprocess.run(["/usr/bin/python3", "-c", code],
                              timeout=PATIENCE).returncode == 0
    online.server.wait_log("admin.sock: refused")


# ---- the socket


def ask(house, body, raw=None):
    """One frame to admin.sock; what comes back, parsed."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(PATIENCE)
        s.connect(f"/proc/self/fd/{os.open(house.data, os.O_PATH)}/admin.sock")
        s.sendall(raw if raw is not None
                  else struct.pack(">I", len(body)) + body)
        s.shutdown(socket.SHUT_WR)
        got = b""
        while piece := s.recv(65536):
            got += piece
    return [json.loads(got[4:4 + struct.unpack(">I", got[:4])[0]])] \
        if got else []


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b"{}", b'{"do": 3}', b'{"do": "dance"}',
    b'{"do": "user.add"}', b'{"do": "user.add", "name": "x"}',
    b'{"do": "user.add", "name": "x", "scram": 3}',
    b'{"do": "user.add", "name": "x", "scram": {"iterations": 1, "salt": "",'
    b' "stored": "", "server": ""}}',
    b'{"do": "user.add", "name": "../x", "scram": {}}',
    b'{"do": "user.disable", "name": "' + b"x" * 5000 + b'"}',
    b'{"do": "user.quota", "name": "nobody", "quota_bytes": -1}',
    b'{"do": "space.grant", "name": "x", "path": {"b64": "AA=="},'
    b' "account": null, "rights": "read"}',
    b'{"do": "sessions.kick", "id": {}}', b'{"do": "invite", "uses": 0}',
    b'{"do": "invite", "lifetime_s": 99999999999999}',
    b'{"do": "check", "repair": "yes"}', b"[" * 60000,
    b'{"do": "user.list", "x": [' + b"[" * 100 + b"]" * 100 + b"]}"])
def test_a_broken_request_is_answered_with_its_problem(online, body):
    (reply,) = ask(online, body)
    assert "code" in reply["problem"], reply
    assert ask(online, b'{"do": "user.list"}') == [{"ok": {"count": 0}}]


def test_a_request_that_is_too_long_or_cut_ends_alone(online):
    ask(online, b"", raw=struct.pack(">I", 1 << 31))
    ask(online, b"", raw=b"\0\0")
    ask(online, b"", raw=b"\0\0\0\x20{")
    assert ask(online, b'{"do": "user.list"}') == [{"ok": {"count": 0}}]


def test_unfinished_uploads_past_their_time_go_at_the_start(tmp_path,
                                                            poller):
    with Server(tmp_path) as server:
        house = House(server)
        ada = server.member("ada")
        big = tmp_path / "big"
        with open(big, "wb") as f:
            f.truncate(2 << 30)
        put = ada.start("put", big)
        while not any((house.data / "drafts").rglob("*.log")):
            assert put.poll() is None, put.communicate()
        put.send_signal(signal.SIGKILL)
        put.communicate()
    assert json.loads(house.run("stats", "--json"))["drafts"] == 1
    with sqlite3.connect(house.data / "ledger.db") as db:
        db.execute("UPDATE draft SET expires = 1")
    db.close()
    with server:
        server.wait_log("1 drafts dropped")
        stats = json.loads(house.run("stats", "--json"))
        assert stats["drafts"] == stats["drafts_reserved_bytes"] == 0
        assert not any((house.data / "drafts").rglob("*.log"))
