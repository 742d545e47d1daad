"""A stretch of network between the contestants and the server: whatever passes is late.

    python bench/proxy.py HOST PORT SECONDS
    python bench/proxy.py unix PATH SECONDS

Loopback is so quick that what Python and Lua do is all that shows. Behind this proxy
it is round trips that count, as between a function and a server elsewhere. Each
round trip takes SECONDS more, half of it on either way; bandwidth is not limited.

It prints the Unix socket that it listens on, and is gone when its standard input ends:
with the program that started it, however that ends.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import select
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Wakes up when it is told to. The loop's own rounds up to milliseconds."""

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout > 0:
            select.select([self.fileno()], [], [], timeout)
        return super().select(0)


class _Side(asyncio.Protocol):
    """One connection; what arrives leaves by ``other``'s, later."""

    other: _Side
    transport: asyncio.Transport

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._loop = asyncio.get_event_loop()
        self._late: collections.deque[bytes | None] = collections.deque()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes | None) -> None:
        self._late.append(data)
        self._loop.call_later(self._delay, self._deliver)

    def connection_lost(self, error: Exception | None) -> None:
        self.data_received(None)

    def _deliver(self) -> None:
        # The oldest, whichever timer that is: timers of one moment come in any order.
        data = self._late.popleft()
        if data is None:
            self.other.transport.close()
        else:
            self.other.transport.write(data)


class _Door(_Side):
    """A client's connection. It is read from once the server's is there."""

    def __init__(self, delay: float, connect: Any) -> None:
        super().__init__(delay)
        self._connect = connect

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.pause_reading()
        self._task = self._loop.create_task(self._pair())

    async def _pair(self) -> None:
        self.other = _Side(self._delay)
        self.other.other = self
        try:
            await self._connect(lambda: self.other)
        except OSError:
            self.transport.abort()
        else:
            self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if hasattr(self.other, "transport"):
            super().connection_lost(error)


def short_folder(prefix: str) -> str:
    """A new temporary folder in which sockets can be made: their paths have 100 letters or so."""
    usual = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix=prefix, dir=usual if len(usual) < 50 else "/tmp")


def main(place: str, where: str, delay: str) -> None:
    """Pass on until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for whoever started us, who says when
    loop = asyncio.SelectorEventLoop(_Selector())
    asyncio.set_event_loop(loop)
    folder = short_folder("lmp-proxy-")
    try:

        def connect(factory: Any) -> Any:
            if place == "unix":
                return loop.create_unix_connection(factory, where)
            return loop.create_connection(factory, place, int(where))

        path = f"{folder}/proxy"
        half = float(delay) / 2
        door = loop.create_unix_server(lambda: _Door(half, connect), path, backlog=2000)
        loop.run_until_complete(door)
        loop.add_reader(sys.stdin.fileno(), loop.stop)
        print(path, flush=True)
        loop.run_forever()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Proxy:
    """A running proxy; ``path`` is its Unix socket. It ends with this process, or sooner."""

    def __init__(self, place: str, where: str, delay: float) -> None:
        words = [sys.executable, __file__, place, where, repr(delay)]
        # In a session of its own: it is needed until the last word at exit is said.
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        self.path = self._process.stdout.readline().strip()
        if not self.path:
            raise RuntimeError("the proxy did not start; what it said is above")

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._process.communicate()


if __name__ == "__main__":
    main(*sys.argv[1:])
