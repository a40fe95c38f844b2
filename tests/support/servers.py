# SPDX-License-Identifier: MIT
"""Runs a program against a real server: servers.py SERVER PROGRAM [ARGUMENT...]

SERVER is http, redis or postgres; the program is called with its address (URL,
port, connection string) after its own arguments.  The server listens on
loopback, on a port from the kernel, with its data in a directory of its own;
when the program has ended, or this script is ended, both are gone.  Exit status
of the program; 77 when the server is not installed.
"""
import contextlib
import ctypes
import glob
import http.server
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

START_SECONDS = 60


class Missing(Exception):
    pass


# ---- http: it counts who is there at the same time -------------------------------


class Http(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Condition()
        self.now = self.most = self.round = 0


class Handler(http.server.BaseHTTPRequestHandler):
    """/picture?of=N    answered when N of them are there at the same time
    /most            how many there were at most, since it was last asked"""

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/most":
            with self.server.lock:
                said = b"%d" % self.server.most
                self.server.most = 0
        else:
            self.gather(int(query.get("of", 1)))
            said = url.path.encode() * 100
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def gather(self, of):
        server = self.server
        with server.lock:
            server.now += 1
            server.most = max(server.most, server.now)
            if server.now >= of:
                server.round += 1
                server.lock.notify_all()
            mine = server.round
            while server.now < of and server.round == mine:
                server.lock.wait()
            server.now -= 1

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def run_http(_):
    with Http() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


# ---- others ------------------------------------------------------------------------


def die_with_parent(how):
    def set_up():
        ctypes.CDLL(None).prctl(1, how)  # PR_SET_PDEATHSIG

    return set_up


def port_from_kernel():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def started(command, ready, stop=signal.SIGTERM, **how):
    """`command` is called with a port, which somebody may take before the server
    does: then with another one."""
    for _ in range(5):
        port = port_from_kernel()
        server = subprocess.Popen(command(port), preexec_fn=die_with_parent(signal.SIGKILL), **how)
        end = time.monotonic() + START_SECONDS
        while server.poll() is None and not ready(port):
            if time.monotonic() > end:
                server.kill()
            time.sleep(0.02)
        if server.poll() is None:
            break
    else:
        raise RuntimeError(f"{command(0)[0]} does not start")
    try:
        yield port
    finally:
        server.send_signal(stop)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextlib.contextmanager
def run_redis(work):
    program = shutil.which("redis-server")
    if not program:
        raise Missing(program)

    def command(port):
        return [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--dir", str(work)]

    with started(command, answers, stdout=subprocess.DEVNULL) as port:
        yield str(port)


@contextlib.contextmanager
def run_postgres(work):
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    if not found:
        raise Missing("postgres")
    bin = pathlib.Path(found[-1]).parent
    how = {"cwd": work}
    if os.getuid() == 0:  # which it refuses to run as
        user = pwd.getpwnam("postgres")
        how |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(work, user.pw_uid, user.pw_gid)
    password = work / "password"
    password.write_text("letmein\n")
    password.chmod(0o644)
    data = work / "data"
    subprocess.run([bin / "initdb", "-D", data, "-U", "keel", "-A", "scram-sha-256",
                    f"--pwfile={password}", "--no-sync", "--no-locale"],
                   check=True, stdout=subprocess.DEVNULL, **how)

    def command(port):
        return [bin / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", "",
                "-c", "max_connections=400", "-c", "fsync=off", "-c", "shared_buffers=16MB",
                "-c", "log_min_messages=fatal", "-c", "autovacuum=off"]

    def ready(port):
        return subprocess.run([bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)],
                              check=False).returncode == 0

    with started(command, ready, signal.SIGINT, stderr=subprocess.DEVNULL, **how) as port:
        yield f"host=127.0.0.1 port={port} user=keel dbname=postgres password=letmein"


SERVERS = {"http": run_http, "redis": run_redis, "postgres": run_postgres}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = SERVERS[sys.argv[1]]
    with tempfile.TemporaryDirectory(prefix="keel-servers.") as work:
        try:
            with run(pathlib.Path(work)) as address:
                return subprocess.run([*sys.argv[2:], address], check=False,
                                      preexec_fn=die_with_parent(signal.SIGKILL)).returncode
        except Missing as missing:
            print(f"{missing} is not installed")
            return 77


sys.exit(main())
