# SPDX-License-Identifier: MIT
"""What ferry is compared with: each starts a server of its own on loopback.

A peer has put(local, name) and get(name, local), which give the client's
command line, path(name), where the server keeps it, and cpu(), the seconds its
server's processes have used.
"""

import getpass
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"
                       / "support"))
import ferry  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def program(name):
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        raise SystemExit(f"bench: {name} is not installed")
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def stat(pid):
    """The fields of /proc/PID/stat from the third on, or None."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def children(pid):
    return [int(p.name) for p in pathlib.Path("/proc").glob("[0-9]*")
            if (fields := stat(p.name)) and int(fields[1]) == pid]


def cpu_seconds(pid):
    """Of a process, all its threads, and its children that were waited for."""
    fields = stat(pid)
    return sum(map(int, fields[11:15])) / TICKS if fields else 0


class Daemon:
    """A server in the foreground that listens on `port` when it is ready."""

    def __init__(self, name, command, port, log):
        self.name, self.log = name, pathlib.Path(log)
        with open(log, "w", encoding="utf-8") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        end = time.monotonic() + 10
        while not self.listens(port):
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise SystemExit(f"bench: {name} did not start:\n"
                                 + self.log.read_text())
            time.sleep(0.02)

    @staticmethod
    def listens(port):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Scp:
    """OpenSSH with its usual cipher; scp speaks SFTP."""

    name = "scp"

    def __init__(self, tmp, files):
        self.files = files
        # As root, sshd insists on this directory.
        self.run = pathlib.Path("/run/sshd")
        self.made_run = os.geteuid() == 0 and not self.run.exists()
        if self.made_run:
            self.run.mkdir(mode=0o755)
        for key in ("host", "user"):
            subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519",
                            "-N", "", "-f", tmp / key], check=True)
        self.port = free_port()
        config = tmp / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\n"
            f"HostKey {tmp}/host\nAuthorizedKeysFile {tmp}/user.pub\n"
            "PidFile none\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            "LogLevel ERROR\nSubsystem sftp internal-sftp\n")
        (tmp / "known").write_text(f"[127.0.0.1]:{self.port} "
                                   + (tmp / "host.pub").read_text())
        self.command = [
            program("scp"), "-q", "-F", "none", "-P", str(self.port),
            "-i", str(tmp / "user"), "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={tmp}/known"]
        self.host = f"{getpass.getuser()}@127.0.0.1:"
        self.server = Daemon("sshd", [program("sshd"), "-D", "-e", "-f",
                                      str(config)], self.port, tmp / "sshd.log")

    def put(self, local, name):
        return self.command + [str(local), self.host + str(self.path(name))]

    def get(self, name, local):
        return self.command + [self.host + str(self.path(name)), str(local)]

    def path(self, name):
        return self.files / name

    def cpu(self):
        # A connection's process counts once it was waited for.
        pid = self.server.process.pid
        end = time.monotonic() + 5
        while children(pid) and time.monotonic() < end:
            time.sleep(0.01)
        return cpu_seconds(pid)

    def stop(self):
        self.server.stop()
        if self.made_run:
            self.run.rmdir()


NGINX = """
daemon off;
worker_processes {workers};
pid {tmp}/nginx.pid;
error_log {tmp}/nginx.log error;
{user}
events {{ worker_connections 256; }}
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_protocols TLSv1.3;
        ssl_certificate {tmp}/nginx.crt;
        ssl_certificate_key {tmp}/nginx.key;
        root {files};
        client_max_body_size 0;
        client_body_temp_path {files}/incoming;
        proxy_temp_path {tmp}/t1;
        fastcgi_temp_path {tmp}/t2;
        uwsgi_temp_path {tmp}/t3;
        scgi_temp_path {tmp}/t4;
        dav_methods PUT;
        create_full_put_path on;
    }}
}}
"""


class Nginx:
    """nginx over TLS 1.3 with curl: no login, no hash, no sync."""

    name = "nginx"

    def __init__(self, tmp, files):
        self.files = files
        subprocess.run(
            [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
             "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", tmp / "nginx.key", "-out", tmp / "nginx.crt"],
            check=True, stderr=subprocess.DEVNULL)
        self.port = free_port()
        config = tmp / "nginx.conf"
        config.write_text(NGINX.format(
            tmp=tmp, files=files, port=self.port,
            workers=len(os.sched_getaffinity(0)),
            user="user root;" if os.geteuid() == 0 else ""))
        self.curl = [program("curl"), "-q", "-sS", "--fail", "--cacert",
                     str(tmp / "nginx.crt")]
        self.url = f"https://127.0.0.1:{self.port}/"
        self.server = Daemon(
            "nginx", [program("nginx"), "-c", str(config), "-e",
                      str(tmp / "nginx.log")], self.port, tmp / "nginx.out")

    def put(self, local, name):
        return self.curl + ["-T", str(local), self.url + name]

    def get(self, name, local):
        return self.curl + ["-o", str(local), self.url + name]

    def path(self, name):
        return self.files / name

    def cpu(self):
        pid = self.server.process.pid
        return sum(map(cpu_seconds, [pid] + children(pid)))

    def stop(self):
        self.server.stop()


class Ferry:
    """ferry as it comes: TLS 1.3, sha256 at both ends, committed."""

    name = "ferry"

    def __init__(self, tmp, files):
        self.files = files
        self.server = ferry.Server(tmp, data=files / "data").start()
        self.client = self.server.member("bench")
        self.command = [str(self.client.program)]
        self.env = self.client.env
        self.pid = self.server.process.pid

    def put(self, local, name):
        return self.command + ["put", str(local), f":/{name}"]

    def get(self, name, local):
        return self.command + ["get", f":/{name}", str(local)]

    def path(self, name):
        return next((self.files / "data" / "spaces").glob(f"**/{name}"))

    def cpu(self):
        return cpu_seconds(self.pid)

    def peak_rss(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").open():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise SystemExit("bench: no VmHWM")

    def idle_ticks(self, seconds):
        before = cpu_seconds(self.pid)
        time.sleep(seconds)
        return round((cpu_seconds(self.pid) - before) * TICKS)

    def stop(self):
        self.server.stop()
