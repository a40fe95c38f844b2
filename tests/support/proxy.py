# SPDX-License-Identifier: MIT
"""A TCP proxy that counts bytes, is as slow as it is told, and cuts or holds the
line where it is told.

    with Proxy(server.address) as line:
        line.cut(up=30 << 20)       # after so many bytes from the client
        ...
        line.hold(up=30 << 20)      # nothing more comes through from there
        line.held.wait()            # until it does not
        ...
        line.mend()                 # whole again, counters at zero
    line.drop()                 # every connection breaks, what is held is lost
"""
import socket
import struct
import threading
import time


class Proxy:
    def __init__(self, address, rate=None):
        self.rate = rate  # bytes a second, each way
        host, port = address.rsplit(":", 1)
        self.target = (host, int(port))
        self.listener = self._narrow(socket.socket())
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(128)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.open, self.past = set(), set()
        self.threads = []
        self.held, self.flows = threading.Event(), threading.Event()
        self.mend()

    def cut(self, up=None, down=None):
        self.mend()
        self.limit = {"up": up, "down": down}

    def hold(self, up=None, down=None):
        self.mend()
        with self.lock:
            self.holds = {"up": up, "down": down}
            self.flows.clear()

    def mend(self, anew=False):
        """`anew`: what is left of the connections so far does not count."""
        with self.lock:
            if anew:
                self.past |= self.open
            self.limit = {"up": None, "down": None}
            self.holds = {"up": None, "down": None}
            self.moved = {"up": 0, "down": 0}
            self.held.clear()
            self.flows.set()

    def drop(self):
        for pair in list(self.open):
            for s in pair:
                self._reset(s)
        self.open.clear()
        self.mend()

    def __enter__(self):
        self._thread(self._accept)
        return self

    def __exit__(self, *error):
        # Wakes accept, which close alone does not.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.mend()
        for pair in list(self.open):
            for s in pair:
                self._reset(s)
        for t in self.threads:
            t.join(30)
            assert not t.is_alive()

    def _thread(self, run, *args):
        t = threading.Thread(target=run, args=args, daemon=True)
        self.threads.append(t)
        t.start()

    def _narrow(self, s):
        """What is on the way beyond the line is little, as on a real one."""
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        return s

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = self._narrow(socket.socket())
                server.connect(self.target)
            except OSError:
                client.close()
                continue
            pair = (client, server)
            self.open.add(pair)
            self._thread(self._move, client, server, "up", pair)
            self._thread(self._move, server, client, "down", pair)

    def _move(self, source, sink, way, pair):
        try:
            while data := source.recv(65536):
                with self.lock:
                    limit = self.limit[way]
                    if limit is not None:
                        data = data[: max(0, limit - self.moved[way])]
                    if pair not in self.past:
                        self.moved[way] += len(data)
                    over = limit is not None and self.moved[way] >= limit
                    hold = self.holds[way]
                    hold = hold is not None and self.moved[way] >= hold
                if hold:
                    self.held.set()
                    self.flows.wait()
                try:
                    sink.sendall(data)
                except OSError:
                    continue  # cut: what still comes is lost
                if self.rate:
                    time.sleep(len(data) / self.rate)
                if over:
                    # What was counted arrives; then the line is dead.
                    sink.shutdown(socket.SHUT_WR)
                    self._reset(source)
                    return
        except OSError:
            pass
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _reset(self, s):
        """As a line that breaks: no goodbye."""
        try:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                         struct.pack("ii", 1, 0))
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        s.close()
