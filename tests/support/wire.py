# SPDX-License-Identifier: MIT
"""The native protocol, byte by byte: a client that says whatever a test wants,
and a server that answers whatever a test wants.  docs/protocol.md.

    w = Wire(server.address).hello()
    w.register("eve")
    w.send(DATA, ...)
    assert w.ended() == "transfer.credit"

    with Impostor(tmp, {"stat": lambda c, q: {"name": "../x"}}) as bad:
        bad.client(tmp / "home").run("get", ":/x", status=1)
"""
import base64
import functools
import hashlib
import hmac
import json
import os
import pathlib
import socket
import ssl
import struct
import subprocess
import threading

from ferry import PASSWORD, PATIENCE, Client

(HELLO, REQUEST, REPLY, DATA, CREDIT, CANCEL, GOODBYE, NOTE) = range(1, 9)
MIB = 1 << 20


def b64(data):
    return base64.b64encode(data).decode()


def text(data):
    """A name as JSON has it: a string, or {"b64"} for other bytes."""
    try:
        if 0 not in data:
            return data.decode()
    except UnicodeDecodeError:
        pass
    return {"b64": b64(data)}


def frame(kind, body=b""):
    return struct.pack(">IB", 1 + len(body), kind) + body


def json_frame(kind, value):
    return frame(kind, json.dumps(value).encode())


def data_frame(id, offset, data):
    return frame(DATA, struct.pack(">IQ", id, offset) + data)


def credit_frame(id, size):
    return frame(CREDIT, struct.pack(">II", id, size))


def cancel_frame(id):
    return frame(CANCEL, struct.pack(">I", id))


@functools.lru_cache(None)
def scram_keys(password=PASSWORD, iterations=600_000):
    """RFC 5802, section 3; a salt of its own for each password."""
    salt = hashlib.sha256(password.encode()).digest()[:16]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    return {"iterations": iterations, "salt": b64(salt),
            "stored": b64(hashlib.sha256(client).digest()),
            "server": b64(hmac.digest(salted, b"Server Key", "sha256"))}


def root_of(data):
    """What docs/protocol.md calls a root (ferry/chunk/tree.h)."""
    leaves = [hashlib.sha256(b"\0" + data[i:i + MIB]).digest()
              for i in range(0, len(data), MIB)]

    def node(n):
        if len(n) == 1:
            return n[0]
        half = 1 << (len(n) - 1).bit_length() - 1
        return hashlib.sha256(b"\1" + node(n[:half]) + node(n[half:])).digest()

    return "sha256:" + (node(leaves) if leaves
                        else hashlib.sha256(b"").digest()).hex()


class Refused(Exception):
    """A REPLY with a problem."""

    def __init__(self, problem):
        super().__init__(json.dumps(problem))
        self.problem, self.code = problem, problem.get("code")


class Ended(Exception):
    """The other side ended the connection; `code` as in Wire.ended."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class Wire:
    """One end of a connection.  Frames that nobody waits for are kept: `notes`,
    `credit`, `data` and `replies` by request, `goodbye` the last words."""

    def __init__(self, address=None, stream=None, timeout=PATIENCE):
        if stream is None:
            host, port = address.rsplit(":", 1)
            raw = socket.create_connection((host, int(port)), timeout=timeout)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = client_context().wrap_socket(raw)
        self.stream = stream
        self.buffer = bytearray()
        self.next_id = 0
        self.notes, self.credit, self.replies, self.data = {}, {}, {}, {}
        self.goodbye = self.peer = self.problem = None

    # ---- frames

    def raw(self, data):
        """Sends; a peer that has closed already is found when reading."""
        try:
            self.stream.sendall(data)
        except OSError:
            pass
        return self

    def send(self, kind, body=b""):
        return self.raw(frame(kind, body))

    def send_json(self, kind, value):
        return self.raw(json_frame(kind, value))

    def _take(self, size):
        while len(self.buffer) < size:
            try:
                more = self.stream.recv(1 << 18)
            except (ssl.SSLEOFError, ConnectionError):
                more = b""
            if not more:
                return None
            self.buffer += more
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    def frame(self):
        """(kind, body), or None at the end of the stream."""
        head = self._take(5)
        if head is None:
            return None
        size, kind = struct.unpack(">IB", head)
        return kind, self._take(size - 1)

    def step(self):
        """Takes one frame to where it belongs; its kind."""
        got = self.frame()
        if got is None:
            raise Ended(self.goodbye)
        kind, body = got
        if kind in (HELLO, REPLY, NOTE, GOODBYE, REQUEST):
            value = json.loads(body)
        if kind == HELLO:
            self.peer = value
        elif kind == REPLY:
            self.replies[value["id"]] = value
        elif kind == NOTE:
            self.notes.setdefault(value["id"], []).append(value)
        elif kind == CREDIT:
            id, size = struct.unpack(">II", body)
            self.credit[id] = self.credit.get(id, 0) + size
        elif kind == DATA:
            id, offset = struct.unpack(">IQ", body[:12])
            self.data.setdefault(id, []).append((offset, body[12:]))
        elif kind == GOODBYE:
            problem = self.problem = value["problem"]
            self.goodbye = problem["code"] if problem else "in order"
        elif kind == REQUEST:
            self.asked = value
        return kind

    def ended(self):
        """Reads to the end: the code of the GOODBYE, "in order" when it had
        none, or None when there was no GOODBYE."""
        try:
            while True:
                self.step()
        except Ended:
            pass
        finally:
            self.close()
        return self.goodbye

    def close(self, abruptly=False):
        if abruptly:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                   struct.pack("ii", 1, 0))
        self.stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    # ---- a client's conversation

    def hello(self, **more):
        self.send_json(HELLO, {"version": 1, "agent": "test", "features": [],
                               **more})
        while self.peer is None:
            self.step()
        return self

    def request(self, verb, **fields):
        self.next_id += 1
        self.send_json(REQUEST, {"id": self.next_id, "do": verb, **fields})
        return self.next_id

    def reply(self, id):
        while id not in self.replies:
            self.step()
        got = self.replies.pop(id)
        if "problem" in got:
            raise Refused(got["problem"])
        return got["ok"]

    def note(self, id):
        while not self.notes.get(id):
            if id in self.replies:
                self.reply(id)
                raise AssertionError("a reply without a note")
            self.step()
        return self.notes[id].pop(0)

    def granted(self, id, least):
        while self.credit.get(id, 0) < least:
            if id in self.replies:
                self.reply(id)
            self.step()
        return self.credit[id]

    def ask(self, verb, **fields):
        return self.reply(self.request(verb, **fields))

    def refused(self, verb, **fields):
        """The code a request is refused with."""
        try:
            ok = self.ask(verb, **fields)
        except Refused as e:
            return e.code
        raise AssertionError(f"{verb} {fields} was answered: {ok}")

    def register(self, name):
        self.ask("register", name=name, scram=scram_keys())
        return self

    def put_fields(self, path, size, **more):
        return {"path": path, "size": size, "hash": "sha256", "mtime_ns": 0,
                "mode": 0o644, "source": b64(os.urandom(16)), **more}

    def feed(self, id, offset, data, sent=0):
        """Sends `data` as whatever credit there is allows, in DATA frames within
        their chunks; `sent` was used of the credit before.  All that is used
        now.  A side that waited for credit of a whole frame might wait for
        ever: the other one grants what its buffers have room for."""
        while data:
            room = self.granted(id, sent + 1) - sent
            size = min(len(data), room, 1 << 18, MIB - offset % MIB)
            self.raw(data_frame(id, offset, data[:size]))
            offset, sent, data = offset + size, sent + size, data[size:]
        return sent

    def put_now(self, path, data, **more):
        """Sends a put with its data; the id."""
        fields = {**self.put_fields(path, len(data)), "root": root_of(data),
                  "level": "committed", **more}
        self.next_id += 1
        self.raw(json_frame(REQUEST, {"id": self.next_id, "do": "put",
                                      **fields}) +
                 (data_frame(self.next_id, 0, data) if data else b""))
        return self.next_id

    def put(self, path, size, **more):
        """Opens an upload, up to its NOTE; the id."""
        id = self.request("put", **self.put_fields(path, size, **more))
        self.note(id)
        return id


@functools.lru_cache(None)
def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["ferry/1"])
    return context


# ---- the other role -------------------------------------------------------------


def certificate(tmp):
    """A fresh key and certificate in one file, and the pin a client keeps."""
    pem = pathlib.Path(tmp) / "impostor.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-days", "2",
         "-keyout", str(pem), "-out", str(pem) + ".crt"],
        check=True, capture_output=True)
    crt = pathlib.Path(str(pem) + ".crt").read_bytes()
    public = subprocess.run(["openssl", "x509", "-pubkey", "-noout"], input=crt,
                            check=True, capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"],
                         input=public, check=True, capture_output=True).stdout
    pem.write_bytes(pem.read_bytes() + crt)
    return pem, hashlib.sha256(der).digest()


class Impostor:
    """A server that lets everybody in, and answers as told: `answers` has a
    function (connection, request) for each verb, which returns what is "ok",
    raises Refused, or returns None when it has said all itself.  `talk`
    (connection) takes the place of all that from the HELLO on; `raw` (socket)
    even of TLS."""

    def __init__(self, tmp, answers=None, talk=None, raw=None):
        self.tmp = pathlib.Path(tmp)
        self.tmp.mkdir(exist_ok=True)
        self.answers, self.talk, self.raw = answers or {}, talk, raw
        pem, self.pin = certificate(self.tmp)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.set_alpn_protocols(["ferry/1"])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.trouble = []
        self.threads = []
        self.stopped = threading.Event()

    def __enter__(self):
        self._thread(self._accept)
        return self

    def __exit__(self, *error):
        self.stopped.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for t in self.threads:
            t.join(30)
            assert not t.is_alive()
        if error == (None, None, None):
            assert not self.trouble, self.trouble

    def _thread(self, run, *args):
        t = threading.Thread(target=run, args=args, daemon=True)
        self.threads.append(t)
        t.start()

    def _accept(self):
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            self._thread(self._serve, raw)

    def _serve(self, raw):
        with raw:
            raw.settimeout(PATIENCE)
            try:
                if self.raw:
                    self.raw(raw)
                    return
                with self.context.wrap_socket(raw, server_side=True) as stream:
                    self._talk(Wire(stream=stream))
            except (OSError, Ended):
                pass  # the client had enough
            except Exception as e:  # a fault of the test itself
                self.trouble.append(repr(e))

    def _talk(self, c):
        if self.talk:
            self.talk(c)
            return
        c.send_json(HELLO, {"version": 1, "agent": "impostor", "features": [],
                            "registration": "open"})
        while True:
            if c.step() != REQUEST:
                continue
            q = c.asked
            answer = self.answers.get(q["do"], self.default)
            try:
                ok = answer(c, q)
            except Refused as e:
                c.send_json(REPLY, {"id": q["id"], "problem": e.problem})
                continue
            if ok is not None:
                c.send_json(REPLY, {"id": q["id"], "ok": ok})

    @staticmethod
    def default(c, q):
        if q["do"] == "login.device":
            return {"name": q["name"]}
        if q["do"] == "ping":
            return {}
        raise Refused({"code": "request.unknown", "name": q["do"]})

    def client(self, home, device=True, **options):
        """Somebody who knows this server, and is logged in to it."""
        home = pathlib.Path(home)
        (home / "profiles").mkdir(parents=True)
        profile = {"user": "ada", "server": self.address, "device": 0}
        if device:
            profile.update(device=1, key=b64(bytes(range(32))))
        (home / "profiles/ada.json").write_text(json.dumps(profile))
        (home / "pins.json").write_text(json.dumps(
            {self.address: b64(self.pin)}))
        (home / "default").write_text("ada")
        return Client(home, **options)
