# SPDX-License-Identifier: MIT
"""Each operation of client and server fails once: nothing crashes, nothing
hangs, every refusal has its words, and the same command then works.

The quick run tries a growing choice of operations of each kind, KEEL_TEST_LONG
every one (those of which a start has thousands in shares, so that they run side
by side); odd ones on io_uring, even ones on epoll.
"""
import os
import random
import shutil
import signal

import pytest

from ferry import PASSWORD, Client, Server

LONG = bool(os.environ.get("KEEL_TEST_LONG"))
PROGRAMS = "obj/tests/fault/"
MIB = 1 << 20
CONTENT = random.Random(5).randbytes(2 * MIB + 77)

FILES = [("alloc", "ENOMEM"), ("open", "EIO"), ("read", "EIO"),
         ("read", "short"), ("read", "EINTR"), ("write", "EIO"),
         ("write", "ENOSPC"), ("write", "short"), ("sync", "EIO"),
         ("reserve", "ENOSPC"), ("stat", "EIO"), ("rename", "EIO"),
         ("link", "EIO"), ("unlink", "EIO"), ("mkdir", "ENOSPC"),
         ("list", "EIO"), ("lock", "EIO"), ("mode", "EIO")]
NET = [("socket", "EMFILE"), ("connect", "ECONNREFUSED"),
       ("accept", "EMFILE"), ("recv", "ECONNRESET"), ("recv", "short"),
       ("recv", "EINTR"), ("send", "EPIPE"), ("send", "short"),
       ("poll", "EIO"), ("thread", "EAGAIN")]
# The quick run has these only where a transfer can be lost or damaged.
MORE = [("write", "EINTR"), ("open", "ENOSPC"), ("sync", "ENOSPC"),
        ("rename", "ENOSPC"), ("mkdir", "EIO")]
KILL = [("any", "kill")]
SHARES = 4 if LONG else 1


def shared(orders):
    return [(op, what, share) for op, what in orders
            for share in range(SHARES if op in ("alloc", "any") else 1)]


ALL = shared(FILES + NET + MORE)
MOST = ALL if LONG else shared(FILES + NET)
KILL = shared(KILL)


def choice(op, share, growth=2 / 3, known=0):
    """Which operations of a kind fail, until one is past the last.

    Of the first `known`, which another test has one by one, a choice only."""
    nth = 1
    while nth < (known if LONG else 100000):
        if share == 0:
            yield nth
        nth += max(1, int(nth * growth))
    nth = max(1, known) + share
    while LONG and nth < 100000:
        yield nth
        nth += SHARES if op in ("alloc", "any") else 1


class Order:
    """An order for one fault, and whether it was reached."""

    def __init__(self, tmp, op, nth, what):
        self.text = f"{op}:{nth}:{what}"
        self.log = tmp / "fired"
        self.log.unlink(missing_ok=True)
        self.env = {"KEEL_FAULT": self.text, "KEEL_FAULT_LOG": str(self.log),
                    "KEEL_POLLER": "uring" if nth % 2 else "epoll"}

    def fired(self):
        return self.log.exists() and self.log.stat().st_size > 0


def check_words(order, status, words):
    """A failure is an exit status with a reason, and no crash."""
    assert "Sanitizer" not in words and "assert" not in words, \
        (order.text, words)
    assert "Nothing is wrong" not in words, (order.text, words)
    assert status >= 0, f"{order.text}: killed by {-status}\n{words}"
    if status > 0:
        assert status <= 5 and words.strip(), (order.text, status, words)


def joined(tmp):
    """A DATA and a member's home to start each try from."""
    with Server(tmp, data=tmp / "first") as server:
        ada = server.member()
        address = server.address
    return ada.home, address


def member_at(home, copy, old, new):
    """The member, whose server now listens elsewhere."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(home, copy, symlinks=True)
    for file in copy.rglob("*.json"):
        file.write_text(file.read_text().replace(old, new))
    return Client(copy)


def again(tmp, data):
    shutil.rmtree(tmp / "data", ignore_errors=True)
    shutil.copytree(data, tmp / "data", symlinks=True)


@pytest.mark.parametrize("op,what,share", MOST + (KILL if LONG else []))
def test_a_server_that_fails_to_start_says_why_and_starts_later(
        tmp_path, op, what, share):
    for nth in choice(op, share):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        order = Order(tmp_path, op, nth, what)
        server = Server(tmp_path, program=PROGRAMS + "ferryd-fault",
                        env=order.env)
        try:
            server.start()
        except RuntimeError:
            assert server.process.returncode != 0, (order.text, server.log())
        else:
            server.stop()
        if what == "kill" and order.fired():
            assert server.process.returncode == -signal.SIGKILL
        else:
            check_words(order, server.process.returncode, server.log())
        if not order.fired():
            assert server.process.returncode == 0
            return
        with Server(tmp_path) as plain:
            assert plain.address


@pytest.mark.parametrize("op,what,share", ALL)
def test_a_client_that_fails_once_then_puts_and_gets_the_same(
        tmp_path, op, what, share):
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(CONTENT)
    with Server(tmp_path) as server:
        ada = server.member()
        faulty = Client(ada.home, program=PROGRAMS + "ferry-fault")
        for verb in ("put", "get"):
            arguments = ("put", source, ":/file") if verb == "put" else (
                "get", ":/file", back)
            for nth in choice(op, share):
                order = Order(tmp_path, op, nth, what)
                back.unlink(missing_ok=True)
                result = faulty.run(*arguments, env=order.env, status=None)
                check_words(order, result.status, result.err)
                if verb == "get" and back.exists():
                    assert back.read_bytes() == CONTENT, order.text
                if verb == "get" and result.status == 0:
                    assert back.exists(), order.text
                if result.status != 0:
                    ada.run(*arguments)
                if not order.fired():
                    assert result.status == 0, result
                    break
        ada.run("get", ":/file", back)
        assert back.read_bytes() == CONTENT


@pytest.mark.parametrize("op,what,share", MOST)
def test_somebody_who_fails_to_join_is_a_member_or_can_become_one(
        tmp_path, op, what, share):
    with Server(tmp_path) as server:
        invite = server.invite("--uses", "1000")
        for nth in choice(op, share, 3):
            order = Order(tmp_path, op, nth, what)
            home, name = tmp_path / f"new{nth}", f"new{nth}"
            faulty = Client(home, program=PROGRAMS + "ferry-fault")
            result = faulty.run("join", invite, name, password=PASSWORD,
                                env=order.env, status=None)
            check_words(order, result.status, result.err)
            new = Client(home)
            if result.status != 0 and \
                    new.run("whoami", status=None).status != 0:
                # The same again, or, when only the answer was lost, logging in.
                again = new.run("join", invite, name, password=PASSWORD,
                                status=None)
                if again.status != 0:
                    assert "account.exists" in again.err, (order.text, again)
                    new.run("login", f"{name}@{server.address}",
                            "--accept-key", password=PASSWORD)
            assert new.names() == [], order.text
            if not order.fired():
                assert result.status == 0, result
                return


def grow(tree):
    for d in range(3):
        (tree / f"d{d}").mkdir(parents=True)
        for i in range(4):
            (tree / f"d{d}/{i}").write_bytes(CONTENT[:i * 700])
    (tree / "large").write_bytes(CONTENT)
    (tree / "link").symlink_to("d1/2")


def files_of(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*")
            if p.is_file() and not p.name.startswith(".ferry-")}


@pytest.mark.parametrize("op,what,share", ALL)
def test_a_tree_that_fails_once_goes_on_with_the_same_command(
        tmp_path, op, what, share):
    tree, back = tmp_path / "t", tmp_path / "back"
    grow(tree)
    wanted = files_of(tree)
    with Server(tmp_path) as server:
        ada = server.member()
        faulty = Client(ada.home, program=PROGRAMS + "ferry-fault")
        for verb in ("put", "get"):
            for nth in choice(op, share, 3):
                order = Order(tmp_path, op, nth, what)
                if verb == "put":
                    ada.run("rm", "-r", ":/t", status=None)
                    arguments = ("put", "-r", tree, ":/")
                else:
                    shutil.rmtree(back, ignore_errors=True)
                    back.mkdir()
                    arguments = ("get", "-r", ":/t", back)
                result = faulty.run(*arguments, env=order.env, status=None)
                check_words(order, result.status, result.err)
                # Whole files, and all of them when it says so.
                found = files_of(back / "t") if verb == "get" else {}
                assert found.items() <= wanted.items(), order.text
                if result.status != 0:
                    ada.run(*arguments)
                elif verb == "get":
                    assert found == wanted, order.text
                there = next((server.data / "spaces").iterdir()) / "t"
                assert files_of(there if verb == "put" else back / "t") == \
                    wanted, order.text
                if not order.fired():
                    assert result.status == 0, result
                    break


@pytest.mark.parametrize("op,what,share", ALL + KILL)
def test_what_a_failing_server_acknowledged_is_there(
        tmp_path, op, what, share):
    home, address = joined(tmp_path)
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(CONTENT)
    for nth in choice(op, share):
        again(tmp_path, tmp_path / "first")
        order = Order(tmp_path, op, nth, what)
        server = Server(tmp_path, program=PROGRAMS + "ferryd-fault",
                        env=order.env)
        acknowledged = False
        try:
            server.start()
            ada = member_at(home, tmp_path / "home", address,
                            server.address)
            acknowledged = ada.run("put", source, ":/file",
                                   status=None).status == 0
            status = server.stop()
        except RuntimeError:
            status = server.process.returncode
        if what == "kill" and order.fired():
            assert status == -signal.SIGKILL
        else:
            check_words(order, status, server.log())
        with Server(tmp_path) as plain:
            ada = member_at(home, tmp_path / "home", address,
                            plain.address)
            if acknowledged:
                ada.run("get", ":/file", back)
                assert back.read_bytes() == CONTENT, order.text
            ada.run("put", source, ":/file")
            assert ada.names() == ["file"], order.text
        if not order.fired():
            assert acknowledged
            return


def register(client, server, name, **options):
    return client.run("register", f"{name}@{server.address}", "--accept-key",
                      password=PASSWORD, status=None, **options)


def is_member(client, server, name):
    """Joins or, when the account was made and only the answer lost, logs in."""
    result = register(client, server, name)
    if result.status != 0:
        assert "account.exists" in result.err, result
        client.run("login", f"{name}@{server.address}", "--accept-key",
                   password=PASSWORD)
    assert client.names() == []


def most_of_a_start(tmp, op, what):
    """Nearly as many operations as a start on nothing takes: the test of the
    start has them all."""
    def is_of_it(nth):
        shutil.rmtree(tmp / "data", ignore_errors=True)
        order = Order(tmp, op, nth, what)
        server = Server(tmp, "--registration", "open",
                        program=PROGRAMS + "ferryd-fault", env=order.env)
        try:
            server.start()
        except RuntimeError:
            return True
        fired = order.fired()
        server.stop()
        return fired

    low, high = 0, 1
    while is_of_it(high):
        low, high = high, high * 2
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (middle, high) if is_of_it(middle) else (low, middle)
    return low * 9 // 10


@pytest.mark.parametrize("op,what,share", MOST + KILL)
def test_a_server_that_fails_in_a_registration_keeps_what_it_said(
        tmp_path, op, what, share):
    known = most_of_a_start(tmp_path, op, what) if LONG else 0
    for nth in choice(op, share, 3, known):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        # Of thousands of servers some get a port that another had, whose key
        # the strangers would know.
        for home in tmp_path.glob("home*"):
            shutil.rmtree(home)
        order = Order(tmp_path, op, nth, what)
        server = Server(tmp_path, "--registration", "open",
                        program=PROGRAMS + "ferryd-fault", env=order.env)
        client, joined_it = server.stranger(), False
        try:
            server.start()
            joined_it = register(client, server, "ada").status == 0
            status = server.stop()
        except RuntimeError:
            status = server.process.returncode
        if what == "kill" and order.fired():
            assert status == -signal.SIGKILL
        else:
            check_words(order, status, server.log())
        with Server(tmp_path, "--registration", "open") as plain:
            if joined_it:
                assert "ada" in plain.admin("user", "list"), order.text
            is_member(plain.stranger(), plain, "ada")
        if not order.fired():
            assert joined_it
            return
