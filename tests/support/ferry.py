# SPDX-License-Identifier: MIT
"""Starts the built programs and talks to them as people and scripts do.

    with Server(tmp) as server:
        ada = server.member("ada")
        ada.run("put", "file", ":/file")

Nothing here sleeps to wait for an event: a server is ready when it prints
"listening", and gone when its process is.
"""
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FERRY_BUILD", ROOT / "build"))
# A build under a sanitizer: times and sizes say nothing.
SANITIZED = any(word in str(BUILD) for word in ("asan", "tsan"))
PASSWORD = "correct horse battery staple"
# A sanitizer or valgrind makes everything slower; a stuck test still ends.
PATIENCE = float(os.environ.get("FERRY_PATIENCE", "120"))


def environment(**more):
    """The tests' own environment: nobody's FERRY_*, plain words."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith("FERRY_") and k != "LANGUAGE"}
    env.update({"LC_ALL": "C.UTF-8", "TERM": "dumb"})
    if SANITIZED:
        env["LSAN_OPTIONS"] = (f"suppressions={ROOT}/tests/support/lsan.supp:"
                               "print_suppressions=0")
    env.update({k: str(v) for k, v in more.items()})
    return env


class Result:
    def __init__(self, args, status, out, err):
        self.args, self.status = args, status
        self.out = out.decode(errors="replace")
        self.err = err.decode(errors="replace")

    def objects(self):
        """What --json printed, an object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    def __repr__(self):
        return f"{self.args} -> {self.status}\n{self.out}\n{self.err}"


class Client:
    """One person's ferry, with a home of its own."""

    def __init__(self, home, program="ferry", env=None):
        self.home = pathlib.Path(home)
        self.program = BUILD / program
        self.env = environment(FERRY_HOME=self.home, **(env or {}))

    def start(self, *args, password=None, env=None, **options):
        env = {**self.env, **(env or {})}
        if password is not None:
            env["FERRY_PASSWORD"] = password
        return subprocess.Popen(
            [str(self.program), *map(os.fspath, args)], env=env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # no terminal to ask at
            **options)

    def run(self, *args, status=0, **options):
        """Runs a command and expects its exit status (None: any)."""
        process = self.start(*args, **options)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{args} hangs\n{out}\n{err}") from None
        result = Result(args, process.returncode, out, err)
        if status is not None:
            assert result.status == status, result
        return result

    def names(self, path=":/"):
        return [o["name"] for o in self.run("ls", "--json", path).objects()]


class Server:
    """A ferryd on a loopback port the kernel picks."""

    def __init__(self, tmp, *args, data=None, program="ferryd", env=None,
                 wrap=()):
        self.tmp = pathlib.Path(tmp)
        self.data = pathlib.Path(data) if data else self.tmp / "data"
        self.args = list(args)
        self.program = BUILD / program
        self.env = environment(**(env or {}))
        self.wrap = list(wrap)
        self.process = self.address = None
        self.lines = []
        self.said = threading.Condition()
        self.clients = 0

    def command(self):
        root = ["--allow-root"] if os.geteuid() == 0 else []
        listen = [] if "--listen" in self.args else ["--listen", "127.0.0.1:0"]
        return [*self.wrap, str(self.program), "--data", str(self.data),
                *listen, *root, *map(str, self.args)]

    def start(self):
        self.process = subprocess.Popen(
            self.command(), env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace")
        self.lines = []
        self.reader = threading.Thread(target=self._collect, daemon=True)
        self.reader.start()
        self.address = None
        for line in self.process.stdout:
            if line.startswith("listening "):
                self.address = line.split()[1]
                break
        if self.address is None:
            self.wait()
            raise RuntimeError(f"ferryd did not start: {self.log()}")
        return self

    def _collect(self):
        for line in self.process.stderr:
            with self.said:
                self.lines.append(line)
                self.said.notify_all()

    def wait_log(self, text):
        """Until the log says so."""
        with self.said:
            assert self.said.wait_for(
                lambda: text in "".join(self.lines), PATIENCE), \
                f"never said: {text}\n{''.join(self.lines)}"

    def log(self):
        """All of it so far.  A thread of the server's writes it and one of ours
        reads it: what was logged before is there once both have come to rest."""
        seen = -1
        while self.process and self.process.poll() is None and \
                seen != len(self.lines):
            seen = len(self.lines)
            time.sleep(0.05)
        return "".join(self.lines)

    def wait(self):
        status = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stdout.close()
        self.process.stderr.close()
        return status

    def stop(self):
        """SIGTERM; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.wait()
            raise AssertionError(f"ferryd does not stop\n{self.log()}") from None

    def kill(self):
        self.process.kill()
        return self.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, *error):
        if self.process.returncode is None:
            status = self.stop()
            if error == (None, None, None):
                assert status == 0, f"ferryd ended with {status}\n{self.log()}"

    def admin(self, *words, status=0):
        """What a command of ferryd says, by way of the daemon if it runs."""
        done = subprocess.run(
            [str(self.program), *words, "--data", str(self.data)],
            env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=PATIENCE, check=False)
        assert done.returncode == status, done
        return done.stdout

    def invite(self, *args):
        """A fresh invite."""
        return self.admin("invite", *args).strip()

    def stranger(self, **options):
        """A ferry that has never been here."""
        self.clients += 1
        return Client(self.tmp / f"home{self.clients}", **options)

    def member(self, name="ada", invite=None, **options):
        """Somebody who joined."""
        client = self.stranger(**options)
        client.run("join", invite or self.invite(), name, password=PASSWORD)
        return client
