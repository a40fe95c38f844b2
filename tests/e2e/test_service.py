# SPDX-License-Identifier: MIT
"""The daemon as a service: its manager, its settings, its log, its units."""
import ctypes
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

import wire
from wire import Wire
from ferry import BUILD, PASSWORD, PATIENCE, ROOT, SANITIZED, Server, \
    environment

AS_ROOT = ["--allow-root"] if os.geteuid() == 0 else []
# What the service does while it serves.
both = pytest.mark.usefixtures("poller")


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, tmp):
        self.path = str(tmp / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(PATIENCE)

    def next(self):
        return dict(line.split("=", 1)
                    for line in self.socket.recv(4096).decode().splitlines())

    def wait(self, key):
        """The next message with that key; what came before it is dropped."""
        while key not in (said := self.next()):
            pass
        return said

    def drain(self):
        self.socket.setblocking(False)
        try:
            while True:
                self.socket.recv(4096)
        except BlockingIOError:
            self.socket.settimeout(PATIENCE)


@pytest.fixture
def manager(tmp_path):
    m = Manager(tmp_path)
    yield m
    m.socket.close()


def settings(tmp_path, text):
    path = tmp_path / "etc" / "ferryd.conf"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def ferryd(*args, status=0, **options):
    done = subprocess.run([str(BUILD / "ferryd"), *map(str, args)],
                          env=environment(), capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=PATIENCE, **options)
    assert done.returncode == status, done
    return done.stdout + done.stderr


# ---- the service manager


@both
def test_the_manager_hears_of_ready_reload_and_stop(tmp_path, manager):
    with Server(tmp_path, env={"NOTIFY_SOCKET": manager.path}) as server:
        assert manager.next()["READY"] == "1"
        server.process.send_signal(signal.SIGHUP)
        said = manager.next()
        assert said["RELOADING"] == "1" and int(said["MONOTONIC_USEC"]) > 0
        assert manager.next()["READY"] == "1"
    said = manager.next()
    assert said["STOPPING"] == "1" and int(said["EXTEND_TIMEOUT_USEC"]) > 0


def seize(tid):
    """Stops one thread, as a loop that hangs; returns what lets it go."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2
    if libc.ptrace(0x4206, tid, None, None) != 0:  # PTRACE_SEIZE
        pytest.skip("ptrace is not allowed here")
    assert libc.ptrace(0x4207, tid, None, None) == 0  # PTRACE_INTERRUPT
    os.waitpid(tid, 0x40000000)  # __WALL
    return lambda: libc.ptrace(17, tid, None, None)  # PTRACE_DETACH


@both
def test_the_watchdog_is_fed_while_every_loop_answers(tmp_path, manager):
    with Server(tmp_path, env={"NOTIFY_SOCKET": manager.path,
                               "WATCHDOG_USEC": "400000"}) as server:
        for _ in range(3):
            manager.wait("WATCHDOG")
        (tid, *_) = [
            int(task.name) for task in
            pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()
            if (task / "comm").read_text().strip() == "serve"]
        release = seize(tid)
        server.wait_log("does not answer")
        manager.drain()
        manager.socket.settimeout(1)  # more than two rounds of it
        with pytest.raises(TimeoutError):
            manager.wait("WATCHDOG")
        manager.socket.settimeout(PATIENCE)
        release()
        server.wait_log("answers again")
        manager.wait("WATCHDOG")


LAUNCHER = """
import os, socket, sys
name, family, *command = sys.argv[1:]
if family == "udp":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
else:
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    if family == "tcp":
        s.listen(16)
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
if name != "-":
    os.environ["LISTEN_FDNAMES"] = name
os.execv(command[0], command)
"""


def launched(tmp_path, name, family="tcp"):
    return Server(tmp_path, wrap=[sys.executable, "-c", LAUNCHER, name,
                                  family])


@both
@pytest.mark.parametrize("name", ["-", "ferry", "ferryd.socket"])
def test_a_socket_of_the_manager_is_served(tmp_path, name):
    with launched(tmp_path, name) as server:
        ada = server.member("ada")
        (tmp_path / "f").write_text("x")
        ada.run("put", tmp_path / "f")
        assert ada.names() == ["f"]


@pytest.mark.parametrize("name,family", [("https", "tcp"), ("ferry", "udp"),
                                         ("ferry", "bound only")])
def test_a_socket_that_is_none_of_ours_is_refused(tmp_path, name, family):
    with pytest.raises(RuntimeError, match="socket '" + name):
        launched(tmp_path, name, family).start()


# ---- draining


def slow_put(server, tmp_path):
    """An upload that has begun and does not go on."""
    ada = server.member("ada")
    with open(tmp_path / "big", "wb") as f:
        f.truncate(2 << 30)
    put = ada.start("put", tmp_path / "big")
    while not any((server.data / "drafts").rglob("*.log")):
        assert put.poll() is None, put.communicate()
    put.send_signal(signal.SIGSTOP)
    return ada, put


def end(put):
    put.send_signal(signal.SIGCONT)
    put.kill()
    put.communicate(timeout=PATIENCE)


@both
def test_a_second_term_ends_at_once(tmp_path):
    conf = settings(tmp_path, "[server]\ngrace = 1h\n")
    server = Server(tmp_path, "--config", conf).start()
    ada, put = slow_put(server, tmp_path)
    server.process.send_signal(signal.SIGTERM)
    server.wait_log("draining")
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(0.5)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 1
    assert "stopped at once" in server.log()
    end(put)
    # What had arrived is there, and goes on.
    server.args += ["--listen", server.address]
    with server:
        assert any((server.data / "drafts").rglob("*.log"))


@both
def test_after_the_grace_it_stops_all_the_same(tmp_path):
    conf = settings(tmp_path, "[server]\ngrace = 1s\n")
    server = Server(tmp_path, "--config", conf).start()
    ada, put = slow_put(server, tmp_path)
    assert server.stop() == 0
    end(put)


# ---- settings


@both
def test_a_reload_changes_what_can_change(tmp_path):
    conf = settings(tmp_path, "[server]\nregistration = closed\n")
    with Server(tmp_path, "--config", conf) as server:
        ada = server.stranger()

        def register(status):
            return ada.run("register", f"ada@{server.address}", "--accept-key",
                           password=PASSWORD, status=status).err

        assert "takes no new accounts" in register(1)
        conf.write_text("[server]\nregistration = open\nbuffers = 3\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("settings: refused")
        assert "line 3" in server.log() and "buffers" in server.log()
        assert "takes no new accounts" in register(1)
        # An editor puts another file in its place.
        new = conf.with_suffix(".new")
        new.write_text("[server]\nregistration = open\nloops = 3\n"
                       "log_level = debug\n[vault]\nquota = 1 MiB\n")
        new.rename(conf)
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("settings: read again")
        log = server.log()
        assert "server.registration changed\n" in log
        assert "server.log_level changed\n" in log
        assert "server.loops changed, and counts at the next start" in log
        assert "grace" not in log
        register(0)
        with open(tmp_path / "big", "wb") as f:
            f.truncate(2 << 20)
        assert "1 MiB" in ada.run("put", tmp_path / "big", status=1).err


def test_a_broken_public_is_refused_at_a_reload_and_as_an_option(tmp_path):
    conf = settings(tmp_path, "[server]\npublic = files.example.org\n")
    with Server(tmp_path, "--config", conf) as server:
        conf.write_text("[server]\ngrace = 9s\npublic = x y z\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("settings: refused")
        assert "line 3" in server.log() and "x y z" in server.log()
    said = ferryd("--data", tmp_path / "d", "--public", "x y z", *AS_ROOT,
                  status=2)
    assert "--public: 'x y z' is not HOST" in said
    assert not (tmp_path / "d").exists()


class WhereTheFileSays(Server):
    """A ferryd without --listen."""

    def command(self):
        words = super().command()
        at = words.index("--listen")
        return words[:at] + words[at + 2:]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_reload_refuses_what_a_start_could_not_listen_on(tmp_path):
    conf = settings(tmp_path, f"[server]\nlisten = 127.0.0.1:{free_port()}\n")

    def reloaded(listen, *more):
        """What the log says of it, whole."""
        conf.write_text(f"[server]\nlisten = {listen}\ngrace = 9s\n"
                        + "".join(f"{line}\n" for line in more))
        before = server.log().count("settings: re")
        server.process.send_signal(signal.SIGHUP)
        with server.said:
            assert server.said.wait_for(
                lambda: "".join(server.lines).count("settings: re") > before,
                PATIENCE)
        return server.log()

    with socket.socket() as taken, \
            WhereTheFileSays(tmp_path, "--config", conf) as server:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        other = "127.0.0.1:%d" % taken.getsockname()[1]
        for listen, why in ((other, "Address already in use"),
                            (f"{server.address} {other}", "already in use"),
                            (f"{server.address} {server.address}",
                             "already in use"),
                            ("192.0.2.1:9", "Cannot assign requested address"),
                            ("no-such-host.invalid:9001",
                             "no-such-host.invalid")):
            log = reloaded(listen).splitlines()[-1]
            assert "settings: refused, and left as they were" in log, log
            assert "result=listen.failed" in log and why in log, log
        # Nothing of a refused file counts.
        assert "changed" not in server.log()
        # What it has now is in the way of the same, and is free at a start.
        for listen in (f"0.0.0.0:{server.address.rsplit(':', 1)[1]}",
                       f"{server.address} 127.0.0.1:{free_port()}",
                       "127.0.0.1:0 127.0.0.1:0"):
            log = reloaded(listen)
            assert "settings: read again" in log.splitlines()[-1], log
            assert "server.listen changed, and counts at the next start" in log
        # It listens where it did, and on nothing else.
        assert server.member("ada").names() == []
        again = reloaded(server.address)
        assert "settings: read again" in again.splitlines()[-1]


@both
def test_a_reload_changes_the_cap_of_connections(tmp_path):
    conf = settings(tmp_path, "[server]\nconnections = 1000\n")
    with Server(tmp_path, "--config", conf) as server:
        ada = server.member("ada")
        conf.write_text("[server]\nconnections = 1\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("settings: read again")
        host, port = server.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), PATIENCE):
            server_sees = ada.run("ls", status=None)
            assert server_sees.status != 0
        server.wait_log("full: 1 connections")


@pytest.mark.parametrize("text,line,word", [
    ("[server]\nlisten\n", 2, "key = value"),
    ("[server]\n\nconections = 5\n", 3, "server.connections"),
    ("[server]\ngrace = soon\n", 2, "grace"),
    ("[server]\nregistration = perhaps\n", 2, "open, invite or closed"),
    ("[server]\nlog_level = loud\n", 2, "error, warn, info or debug"),
    ("[server]\nlisten = 9001\n", 2, "HOST:PORT"),
    ("[server]\nlisten = ftp://[::]:21\n", 2, "ferry://"),
    ("[server]\npublic = x y z\n", 2, "public: 'x y z' is not HOST"),
    ("[server]\npublic = a:99999\n", 2, "HOST:PORT"),
    ("[server]\nloops = 1\n\nloops = 2\n", 4, "in line 2 already"),
    ("[vault]\nquota = -1\n", 2, "quota"),
    ("[server]\nlog = " + "x" * 5000 + "\n", 2, "longer"),
])
def test_a_bad_file_is_refused_by_file_line_and_reason(tmp_path, text, line,
                                                       word):
    conf = settings(tmp_path, text)
    said = ferryd("--data", tmp_path / "d", "--config", conf, *AS_ROOT,
                  status=2)
    assert str(conf) in said and f"line {line}" in said and word in said
    assert not (tmp_path / "d").exists()
    # Help is there all the same.
    assert "usage:" in ferryd("--config", conf, "--help")


def test_the_example_is_what_the_program_prints_and_it_serves(tmp_path):
    example = (ROOT / "dist" / "ferryd.conf.example").read_text()
    assert ferryd("--settings") == example
    live = re.sub(r"(?m)^#([a-z_]+ =)", r"\1", example)
    live = live.replace("/var/log/ferry", str(tmp_path))
    assert live.count("\n#") < example.count("\n#")
    conf = settings(tmp_path, live)
    with Server(tmp_path, "--config", conf) as server:
        # Nothing in it differs from what is in force without it.
        conf.write_text(f"[server]\nlog = {tmp_path}/ferryd.log\n"
                        "public = files.example.org\n")
        server.process.send_signal(signal.SIGHUP)
        log = tmp_path / "ferryd.log"
        while "read again" not in log.read_text():
            assert server.process.poll() is None
            time.sleep(0.01)
        assert "changed" not in log.read_text()


# ---- the log


def wait_for(condition):
    patience = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.01)


@both
def test_the_log_goes_to_a_file_and_is_opened_anew(tmp_path):
    log = tmp_path / "log" / "ferryd.log"
    log.parent.mkdir()
    conf = settings(tmp_path, f"[server]\nlog = {log}\n")
    with Server(tmp_path, "--config", conf) as server:
        line = log.read_text().splitlines()[0]
        assert re.match(r"time=\d{4}-\d\d-\d\dT[\d:.]+Z level=info sub=daemon ",
                        line)
        assert log.stat().st_mode & 0o777 == 0o640
        log.rename(log.with_suffix(".1"))
        server.process.send_signal(signal.SIGHUP)
        wait_for(log.exists)
        server.member("ada")
        wait_for(lambda: "account=ada" in log.read_text())
        assert "account=ada" not in log.with_suffix(".1").read_text()
        # Out of reach for a confined process: the log stays where it is.
        conf.write_text(f"[server]\nlog = {tmp_path}/nowhere/x.log\n")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "stays where it was" in log.read_text())
    assert server.log() == ""


@both
def test_a_full_log_disk_stops_nobody_and_is_counted(tmp_path):
    conf = settings(tmp_path, "[server]\nlog = /dev/full\n")
    log = pathlib.Path("/dev/shm") / f"ferryd-{os.getpid()}.log"
    with Server(tmp_path, "--config", conf) as server:
        ada = server.member("ada")
        (tmp_path / "f").write_text("x")
        ada.run("put", tmp_path / "f")
        stats = ferryd("stats", "--data", server.data)
        assert re.search(r"[1-9]\d* +Log lines dropped", stats), stats
        # Room again: back to standard error, with the count of what is gone.
        conf.write_text("[server]\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("lines were dropped for want of room")
        assert ada.names() == ["f"]
    assert not log.exists()


@both
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount")
def test_a_log_disk_that_fills_up_and_gets_room(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,nr_inodes=64", "none", disk],
                      capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        conf = settings(tmp_path, f"[server]\nlog = {disk}/log\n")
        with Server(tmp_path, "--config", conf) as server:
            with open(disk / "ballast", "wb", buffering=0) as f:
                with pytest.raises(OSError):
                    while True:
                        f.write(b"x" * 4096)
            clients = [server.member(f"user{i}") for i in range(3)]
            for _ in range(20):
                if "log_dropped_total 0" not in (prom := ferryd(
                        "stats", "--prometheus", "--data", server.data)):
                    break
                for c in clients:
                    c.run("ls", ":/" + "n" * 200, status=1)
            assert "log_dropped_total 0" not in prom
            (disk / "ballast").unlink()
            clients[0].run("ls", ":/nothing", status=1)
            wait_for(lambda: "were dropped" in (disk / "log").read_text())
            for line in (disk / "log").read_text().splitlines():
                assert line.isprintable()
    finally:
        subprocess.run(["umount", disk], check=True)


@both
def test_a_reader_of_the_log_that_goes_away_stops_nobody(tmp_path):
    server = Server(tmp_path)
    server.process = subprocess.Popen(
        server.command(), env=server.env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    server.process.stderr.close()
    for line in server.process.stdout:
        if line.startswith("listening "):
            server.address = line.split()[1]
            break
    ada = server.member("ada")
    assert ada.names() == []
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0
    server.process.stdout.close()


def test_foreign_bytes_are_escaped_in_the_log(tmp_path):
    with Server(tmp_path) as server:
        ada = server.member("ada")
        name = b"\x1b]0;owned\x07\nlevel=error\xff\xe2\x80\xae"
        path = os.fsencode(tmp_path) + b"/" + name
        with open(path, "wb") as f:
            f.truncate(3 << 20)
        ada.run("put", path)
        server.wait_log("owned")
        for line in server.log().splitlines():
            assert line.isprintable() and "\u202e" not in line
            assert line.startswith("time=")


def fields(line):
    """A line as ferryd(8) describes it: its keys and values."""
    value = r"'(?:[^'\\]|\\.)*'|[^' ]*"
    found = re.match(rf"(?:[a-z]+=(?:{value})(?: |$))*", line)[0]
    return dict(re.findall(rf"([a-z]+)=({value})(?: |$)", found))


def test_nobody_forges_a_line_of_the_log(tmp_path):
    with Server(tmp_path) as server:
        ada = server.member("ada")
        for name in ("/a' nosuch result=ok path='b", "/\\' account=root x='",
                     "/ends in \\"):
            ada.run("get", ":" + name, tmp_path / "x", status=1)
        with Wire(server.address).hello() as w:
            w.request("login.start", name="x' result=ok name='", first="n,,")
            w.request("list", path="/", space="a account=root b'")
            w.send(wire.GOODBYE, b'{"problem": null}')
            w.ended()
        server.wait_log("verb=list")
        lines = [fields(x) for x in server.log().splitlines()
                 if "result=" in x]
        gets = [x for x in lines if x.get("verb") in ("stat", "get")]
        assert [x["path"] for x in gets] == [
            r"'/a\' nosuch result=ok path=\'b'", r"'/\\\' account=root x=\''",
            r"'/ends in \\'"]
        for x in gets:
            assert x["account"] == "ada" and x["result"] == "file.missing", x
            assert x["words"] == f"'There is no {x['path'][1:-1]}.'"
        assert not [x for x in lines if x["account"] == "root"]
        asked = [(x["name"], x["result"]) for x in lines if "name" in x]
        assert asked == [("'ada'", "ok"),
                         (r"'x\' result=ok name=\''", "protocol.broken")]


def test_a_failed_login_says_whose(tmp_path):
    with Server(tmp_path) as server:
        server.member("ada")
        for name in ("ada", "nobody.here"):
            server.stranger().run("login", f"{name}@{server.address}",
                                  "--accept-key", password="wrong password",
                                  status=1)
        lines = [fields(x) for x in server.log().splitlines()
                 if "result=login.refused" in x]
        assert [x["name"] for x in lines] == ["'ada'", "'nobody.here'"]
        assert all(x["peer"].startswith("127.0.0.1:") for x in lines)


# ---- units


@pytest.fixture
def units(tmp_path):
    root = tmp_path / "root"
    subprocess.run(["meson", "install", "-C", BUILD / "obj", "--no-rebuild",
                    "--quiet", "--destdir", root], check=True,
                   capture_output=True)
    (unit,) = root.rglob("ferryd.service")
    return unit.parent


analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"),
                             reason="needs systemd-analyze")


@analyze
def test_the_units_are_what_systemd_wants(units):
    service = units / "ferryd.service"
    text = service.read_text()
    program = re.search(r"ExecStart=(\S+)", text)[1]
    assert program.endswith("/sbin/ferryd")
    service.write_text(text.replace(program, str(BUILD / "ferryd")))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", service,
                           units / "ferryd.socket"], capture_output=True,
                          text=True, check=False, timeout=PATIENCE)
    # A container has neither kill(1) nor the units of a booted system.
    said = [line for line in done.stderr.splitlines()
            if "sysinit.target" not in line and "/bin/kill" not in line]
    assert said == [], done.stderr


@analyze
def test_the_service_is_hardened(units):
    done = subprocess.run(["systemd-analyze", "security", "--offline=true",
                           "--threshold=20", units / "ferryd.service"],
                          capture_output=True, text=True, check=False,
                          timeout=PATIENCE)
    if "nknown option" in done.stderr or "unrecognized" in done.stderr:
        pytest.skip("this systemd-analyze looks at running units only")
    assert done.returncode == 0, done.stdout + done.stderr


@both
@analyze
@pytest.mark.skipif(not shutil.which("strace") or SANITIZED,
                    reason="needs strace and a plain build")
def test_the_system_calls_it_makes_are_allowed(units, tmp_path):
    """A real service's calls against the unit's filter."""
    def calls(*groups):
        out = subprocess.run(["systemd-analyze", "syscall-filter", *groups],
                             capture_output=True, text=True, check=True).stdout
        found = set()
        for word in out.split("\n"):
            word = word.strip()
            if word.startswith("@") and word not in groups:
                found |= calls(word)
            elif re.fullmatch(r"[a-z0-9_]+", word):
                found.add(word)
        return found

    filters = re.findall(r"(?m)^SystemCallFilter=(~?)(.*)$",
                         (units / "ferryd.service").read_text())
    allowed = set()
    for no, words in filters:
        for word in words.split():
            these = calls(word) if word.startswith("@") else {word}
            allowed = allowed - these if no else allowed | these
    trace = tmp_path / "trace"
    with Server(tmp_path, wrap=["strace", "-D", "-f", "-c", "-o",
                                str(trace), "-U", "name"]) as server:
        ada = server.member("ada")
        with open(tmp_path / "big", "wb") as f:
            f.truncate(40 << 20)
        for n in range(3):
            (tmp_path / f"f{n}").write_text("x")
            ada.run("put", tmp_path / f"f{n}")
        ada.run("put", tmp_path / "big")
        ada.run("get", ":/big", tmp_path / "back")
    wait_for(lambda: "total" in trace.read_text())
    made = {line.strip() for line in trace.read_text().splitlines()
            if re.fullmatch(r"[a-z0-9_]+", line.strip())} - {"syscall", "total"}
    assert "openat2" in made or "io_uring_setup" in made, trace.read_text()
    assert made - allowed - {"execve"} == set()


def test_settings_are_installed_once(units, tmp_path):
    (conf,) = (tmp_path / "root").rglob("ferryd.conf")
    conf.write_text("[server]\n")
    subprocess.run(["meson", "install", "-C", BUILD / "obj", "--no-rebuild",
                    "--quiet", "--destdir", tmp_path / "root"], check=True,
                   capture_output=True)
    assert conf.read_text() == "[server]\n"


# ---- manual pages


def page(name):
    return (ROOT / "docs" / "man" / name).read_text()


def test_every_option_is_in_the_manual_and_back():
    said = ferryd("--help")
    for command in ("user", "space", "invite", "sessions", "check", "stats"):
        said += ferryd(command, "--help")
    options = set(re.findall(r"--([a-z][a-z-]*)", said))
    assert options == set(re.findall(r"Fl -([a-z][a-z-]*)",
                                     page("ferryd.8")))


def test_every_command_is_in_the_manual():
    for command in re.findall(r"(?m)^  ferryd (\w+)(?: \[?([\w|]+))?",
                              ferryd("--help").split("Administration")[1]
                              .split("The first")[0]):
        for word in command[1].split("|"):
            assert re.search(rf"Cm {command[0]}\b", page("ferryd.8"))
            assert not word or re.search(
                rf"Cm {command[0]} {word}\b|Cm {command[0]} .*Cm {word}\b",
                page("ferryd.8")), command


def test_every_setting_is_in_its_manual_and_back():
    section, settings_ = "", set()
    for line in ferryd("--settings").splitlines():
        if line.startswith("["):
            section = line
        elif match := re.match(r"#([a-z_]+) = ", line):
            settings_.add((section, match[1]))
    documented = set()
    for line in page("ferryd.conf.5").splitlines():
        if line.startswith(".Ss "):
            section = line[line.find("["):line.find("]") + 1]
        elif line.startswith(".It Ic "):
            documented.add((section, line[7:]))
    assert settings_ == documented


@pytest.mark.skipif(not shutil.which("groff"), reason="needs groff")
@pytest.mark.parametrize("name", ["ferryd.8", "ferryd.conf.5"])
def test_the_pages_are_laid_out_without_a_warning(name):
    done = subprocess.run(["groff", "-ww", "-mdoc", "-Tutf8",
                           ROOT / "docs" / "man" / name], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr
