# SPDX-License-Identifier: MIT
"""The daemon: starting, refusing to start, administration, stopping."""
import filecmp
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time

import pytest

from ferry import BUILD, PASSWORD, PATIENCE, SANITIZED, Server, environment

MIB = 1 << 20
LARGE = (1024 if os.environ.get("KEEL_TEST_LONG") else 128) * MIB


def ferryd(*args, status):
    """Runs a ferryd that should end by itself."""
    result = subprocess.run([str(BUILD / "ferryd"), *map(str, args)],
                            env=environment(), capture_output=True, text=True,
                            stdin=subprocess.DEVNULL, timeout=PATIENCE)
    assert result.returncode == status, result
    return result.stderr


ROOT = ["--allow-root"] if os.geteuid() == 0 else []


def test_two_daemons_on_one_directory_are_refused(server):
    assert "in use by another ferryd" in ferryd(
        "--data", server.data, "--listen", "127.0.0.1:0", *ROOT, status=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to refuse it")
def test_root_is_refused(tmp_path):
    assert "does not run as root" in ferryd("--data", tmp_path / "d", status=2)
    assert not (tmp_path / "d").exists()


def test_a_directory_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    tmp_path.chmod(0o755)
    for command in (["--listen", "127.0.0.1:0", *ROOT], ["invite"]):
        args = [*command, "--data", tmp_path]
        assert "no data directory" in ferryd(*args, status=1)
        assert (tmp_path / "thesis.txt").read_text() == "precious"
        assert os.listdir(tmp_path) == ["thesis.txt"]
        assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_newer_format_is_refused(tmp_path):
    with Server(tmp_path) as server:
        pass
    (server.data / "format").write_text("ferry data 2\n")
    assert "ferry data 2" in ferryd("--data", server.data, *ROOT, "--listen",
                                    "127.0.0.1:0", status=1)


def test_a_damaged_ledger_is_refused_and_not_touched(tmp_path):
    with Server(tmp_path) as server:
        server.member("ada")
    ledger = server.data / "ledger.db"
    damaged = bytearray(ledger.read_bytes())
    damaged[4096:12288] = os.urandom(8192)
    ledger.write_bytes(damaged)
    assert "damaged" in ferryd("--data", server.data, *ROOT, "--listen",
                               "127.0.0.1:0", status=1)
    assert ledger.read_bytes() == damaged


def test_an_unknown_setting_is_named_with_its_line(tmp_path):
    conf = tmp_path / "ferryd.conf"
    conf.write_text("[server]\n# a comment\nconections = 5\n")
    said = ferryd("--data", tmp_path / "d", "--config", conf, *ROOT, status=2)
    assert "line 3" in said and "conections" in said
    assert "connections" in said.replace("conections", "")
    conf.write_text("[server]\nconnections = 0\n")
    assert "line 2" in ferryd("--data", tmp_path / "d", "--config", conf,
                              *ROOT, status=2)


def test_usage_is_exit_2():
    assert "--data" in ferryd(status=2)
    ferryd("--no-such-option", status=2)
    ferryd("nonsense", status=2)


def test_invites_are_made_with_and_without_a_daemon(tmp_path):
    with Server(tmp_path) as server:
        online = server.invite()
        address = server.address
    offline = server.invite()
    assert online.split("#")[0] == offline.split("#")[0]
    assert online != offline
    server.args += ["--listen", address]
    with server:
        server.member("a", online)
        server.member("b", offline)


def connect(server):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["ferry/1"])
    host, port = server.address.rsplit(":", 1)
    raw = socket.create_connection((host, int(port)), timeout=PATIENCE)
    return context.wrap_socket(raw)


def test_a_place_that_was_left_is_given_again(tmp_path):
    conf = tmp_path / "ferryd.conf"
    conf.write_text("[server]\nconnections = 3\n")
    with Server(tmp_path, "--config", conf) as server:
        held = [connect(server) for _ in range(3)]
        for c in held:
            c.close()
        ada = server.stranger()
        # A place is free again as soon as the server has seen one leave.
        link = server.invite()
        for _ in range(200):
            result = ada.run("join", link, "ada", password=PASSWORD,
                             status=None)
            if result.status == 0:
                break
        assert result.status == 0, result


def test_old_tls_is_refused(server):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, port = server.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as raw:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(raw)


def cpu_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()
    return int(fields[11]) + int(fields[12])


def test_idle_costs_no_cpu(server):
    server.member("ada").run("ls")
    with connect(server):
        before = cpu_ticks(server.process.pid)
        time.sleep(2)  # the span that is measured, not an event waited for
        assert cpu_ticks(server.process.pid) - before <= 1


def test_a_large_file_leaves_the_server_small(server, tmp_path):
    """No two of its chunks are alike, nothing in it is a hole."""
    ada = server.member("ada")
    big, back = tmp_path / "big", tmp_path / "back"
    block = bytearray(os.urandom(32 * MIB))
    with open(big, "wb") as f:
        for i in range(LARGE // len(block)):
            block[::MIB] = bytes([i]) * (len(block) // MIB)
            f.write(block)
    ada.run("put", big)
    ada.run("get", ":/big", back)
    assert filecmp.cmp(big, back, shallow=False)
    big.unlink()
    back.unlink()
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0])
    if not SANITIZED:
        assert peak < 48 * 1024, f"{peak} KiB"


def test_term_lets_a_transfer_finish(server, tmp_path):
    ada = server.member("ada")
    big = tmp_path / "big"
    with open(big, "wb") as f:
        f.truncate(256 * MIB)
    put = ada.start("put", big)
    # The upload has begun when its draft is there.
    drafts = server.data / "drafts"
    while not any(drafts.rglob("*.log")):
        assert put.poll() is None, put.communicate()
    assert server.stop() == 0
    out, err = put.communicate(timeout=PATIENCE)
    assert put.returncode == 0, err
    server.args += ["--listen", server.address]
    with server:
        assert ada.names() == ["big"]


def test_it_confines_itself(tmp_path):
    """Landlock: what lies outside DATA and beside its settings is not read, not
    even when the settings are a link to it, and nothing gives new rights."""
    place, outside = tmp_path / "etc", tmp_path / "outside"
    place.mkdir()
    outside.mkdir()
    conf, other = place / "ferryd.conf", outside / "other.conf"
    conf.write_text("[server]\nconnections = 50\n")
    other.write_text("[server]\nconnections = 60\n")
    with Server(tmp_path, "--config", conf) as server:
        if "not confined" in server.log():
            pytest.skip("this kernel has no Landlock")
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        conf.unlink()
        conf.symlink_to(other)
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("Permission denied")
        assert "settings: read again" not in server.log()
        # The same words where it may read them.
        conf.unlink()
        conf.write_text(other.read_text())
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("settings: read again")


def test_quit_prints_every_coroutine(server):
    server.member("ada")
    with connect(server):
        server.process.send_signal(signal.SIGQUIT)
        for name in ("accept", "connection", "admin", "expire"):
            server.wait_log(name)


def test_a_hash_nobody_waits_for_ends(server, tmp_path):
    """The file is large enough to keep the server busy for minutes."""
    ada = server.member("ada")
    (tmp_path / "f").write_bytes(b"x")
    ada.run("put", tmp_path / "f")
    (stored,) = [p for p in (server.data / "spaces").rglob("f")]
    os.truncate(stored, 1 << 40)
    asking = ada.start("hash", ":/f")
    while cpu_ticks(server.process.pid) < 50:
        assert asking.poll() is None, asking.communicate()
    asking.kill()
    asking.communicate()
    # Stopping waits for requests in progress: it would wait for the hash.
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 9
