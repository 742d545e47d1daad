"""A proxy between clients and a server that breaks connections where a test says so.

It understands as much of the protocol as it takes to tell requests and replies
apart, so "between request and reply" is exactly that. A *plan* is asked about
each request: it answers None to let it pass, or a :class:`Fault`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import random
import select
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from lithops_mp._store.scripts import REGISTRY
from lithops_mp._store.settings import Settings

from .programs import program, url_of
from .servers import Server, running

BY_SHA = {found.sha: found for found in REGISTRY.values()}


class Fault(enum.Enum):
    """What happens to a connection at a request."""

    REFUSE = "cut before the server gets the request"
    LOSE = "cut when the server has answered, and the answer is lost"
    TEAR = "cut in the middle of the answer"
    ABANDON = "cut as soon as the server has the request, while it blocks or works"
    SILENCE = "the answer never comes, and the connection stays open"


Plan = Callable[[str], Fault | None]


def name_of(words: list[bytes]) -> str:
    """What a request does: a script's name, or a command's in capitals.

    What blocks says on what, too: "BLPOP m" on a mailbox, "BLPOP idle" as an idle
    function, "XREAD s" on an event, "XREAD inbox", "XREAD control".
    """
    command = words[0].decode().upper()
    if command == "EVALSHA":
        script = BY_SHA.get(words[1].decode())
        return script.name if script else command
    if command == "CLIENT":
        return f"CLIENT {words[1].decode().upper()}"
    if command in ("BLPOP", "XREAD"):
        key = words[1 if command == "BLPOP" else -2].decode().partition("}")[2].split(":")
        return f"{command} {key[-1] if command == 'XREAD' else key[1]}"
    return command


class Proxy(threading.Thread):
    """Forwards connections to a server. ``settings`` reaches the server through it."""

    def __init__(self, upstream: Settings, listener: socket.socket, settings: Settings) -> None:
        super().__init__(name="proxy", daemon=True)
        self.upstream = upstream
        self.settings = settings
        self.plan: Plan = lambda name: None
        self.faults = 0
        self.requests: list[str] = []
        self._listener = listener
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        password = self.settings.password or ""
        if self.settings.kind == "unix":
            return f"unix://:{password}@{self.settings.path}"
        return f"redis://:{password}@{self.settings.host}:{self.settings.port}"

    def count(self, name: str) -> int:
        """How many requests of this name there were."""
        with self._lock:
            return self.requests.count(name)

    def cut(self) -> None:
        """Break every connection now."""
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def once(self, name: str, fault: Fault, nth: int = 1) -> None:
        """Plan one fault, at the nth request of this name from now on."""
        left = nth

        def plan(request: str) -> Fault | None:
            nonlocal left
            left -= request == name
            if left or request != name:
                return None
            left = -1
            return fault

        self.plan = plan

    def at_random(self, seed: int, share: float, *names: str) -> None:
        """Break this share of the requests (of these names only), each in some way."""
        dice = random.Random(seed)
        ways = [Fault.REFUSE, Fault.LOSE, Fault.TEAR, Fault.ABANDON]

        def plan(request: str) -> Fault | None:
            if names and request not in names:
                return None
            return dice.choice(ways) if dice.random() < share else None

        self.plan = plan

    def calm(self) -> None:
        """Break nothing any more."""
        self.plan = lambda name: None

    def run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                server = _connect(self.upstream)
            except OSError:
                return
            with server:
                with self._lock:
                    self._open |= {client, server}
                with contextlib.suppress(OSError, EOFError):
                    self._forward(client, server)
                with self._lock:
                    self._open -= {client, server}

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        requests, replies = Frames(client), Frames(server)
        silent = 0
        while True:
            request = requests.next()
            name = name_of(words_of(request))
            with self._lock:
                self.requests.append(name)
                fault = self.plan(name)
                self.faults += fault is not None
            if fault is Fault.REFUSE:
                return
            server.sendall(request)
            if name == "CLIENT REPLY":  # this one has no answer, and the next one neither
                silent = 1
                continue
            if silent:
                silent = 0
                if fault in (None, Fault.SILENCE):
                    continue
                return
            if fault is Fault.ABANDON:
                return
            # A client that hangs up while it is blocked must be noticed.
            while not replies.buffer and not select.select([server], [], [], 0.05)[0]:
                if select.select([client], [], [], 0)[0] and not client.recv(1, socket.MSG_PEEK):
                    return
            reply = replies.next()
            if name == "SUBSCRIBE":  # from here on the server speaks unasked
                client.sendall(reply)
                _pass_on(server, client)
                return
            if fault is Fault.LOSE:
                return
            if fault is Fault.TEAR:
                client.sendall(reply[: len(reply) // 2])
                return
            if fault is not Fault.SILENCE:
                client.sendall(reply)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


def _pass_on(server: socket.socket, client: socket.socket) -> None:
    """What the server says, until either hangs up."""
    while True:
        if client in (ready := select.select([server, client], [], [])[0]) and not client.recv(1):
            return
        if server in ready:
            client.sendall(server.recv(65536) or _hung_up())


def _hung_up() -> NoReturn:
    raise EOFError


def _connect(settings: Settings) -> socket.socket:
    if settings.kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(settings.path)
        return sock
    sock = socket.create_connection((settings.host, settings.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Frames:
    """Splits what a socket receives into RESP messages."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def next(self) -> bytes:
        """The next whole message. Raises EOFError."""
        while True:
            end = end_of(self.buffer, 0)
            if end:
                message, self.buffer = self.buffer[:end], self.buffer[end:]
                return message
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data


def end_of(data: bytes, start: int) -> int:
    """Where the message ends that begins at ``start``; 0 if it is not all there."""
    newline = data.find(b"\r\n", start)
    if newline < 0:
        return 0
    kind, end = data[start : start + 1], newline + 2
    if kind not in b"$*":
        return end
    count = int(data[start + 1 : newline])
    if count < 0:
        return end
    if kind == b"$":
        end += count + 2
        return end if end <= len(data) else 0
    for _ in range(count):
        end = end_of(data, end)
        if not end:
            return 0
    return end


def words_of(request: bytes) -> list[bytes]:
    """The words of a request: an array of bulk strings."""
    words = []
    position = request.index(b"\r\n") + 2
    while position < len(request):
        newline = request.index(b"\r\n", position)
        length = int(request[position + 1 : newline])
        words.append(request[newline + 2 : newline + 2 + length])
        position = newline + length + 4
    return words


@contextlib.contextmanager
def proxied(upstream: Settings) -> Iterator[Proxy]:
    """A proxy in front of a server: on a Unix socket if the server is, else on a port."""
    with tempfile.TemporaryDirectory(prefix="lmp-proxy-") as directory:
        if upstream.kind == "unix":
            path = os.path.join(directory, "s")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            settings = dataclasses.replace(upstream, path=path)
        else:
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            settings = dataclasses.replace(upstream, host="127.0.0.1", port=port)
        listener.listen(128)
        proxy = Proxy(upstream, listener, settings)
        proxy.start()
        try:
            yield proxy
        finally:
            proxy.close()


@contextlib.contextmanager
def behind_proxy(*, tcp: bool = True) -> Iterator[tuple[Server, Proxy]]:
    """A server and a proxy before it; this process and its children use the proxy."""
    with (
        running(tcp=tcp) as server,
        proxied(server.settings) as proxy,
        program(url_of(proxy.settings), HEARTBEAT=0.3, LEASE=5.0),
    ):
        yield server, proxy
