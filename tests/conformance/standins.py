"""Test equipment: the means by which CPython's tests observe a Process or a Condition.

Many of those tests have a child report through a Queue, a Pipe or a piece of shared
memory, none of which exists here yet. These stand-ins carry the reports: plain Redis
lists and strings on the program's own server, without any of the guarantees (a reply
that is lost loses an item). Parts 2 and 3 replace
them with the real thing; no test of the suite is run *for* them, and
``exclusions.py`` lists those whose subject they are.
"""

from __future__ import annotations

import pickle
import queue
import secrets
import struct
import time
import types
from typing import Any

from lithops_mp._store.session import current

_LIFETIME_MS = 600_000
_STEP = 2.0  # seconds the server is asked to block at once


def _redis(*words: Any) -> Any:
    return current().client.plain(*words)


def _wait(command: str, key: str, *words: Any, timeout: float | None) -> Any:
    """A blocking command, repeated until it answers; None after ``timeout`` seconds."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = _STEP if deadline is None else min(_STEP, deadline - time.monotonic())
        found = _redis(command, key, *words, f"{max(left, 0.001):.3f}")
        if found is not None or (deadline is not None and time.monotonic() >= deadline):
            return found


class _List:
    """A list of byte strings, known by its key."""

    def __init__(self) -> None:
        self.key = f"test:{secrets.token_hex(8)}"

    def push(self, data: bytes) -> None:
        _redis("RPUSH", self.key, data)
        _redis("PEXPIRE", self.key, _LIFETIME_MS)

    def pop(self, timeout: float | None) -> bytes | None:
        found = _wait("BLPOP", self.key, timeout=timeout)
        return None if found is None else bytes(found[1])

    def peek(self, timeout: float | None) -> bool:
        """Is there something to pop? The head moves to where it is."""
        return _wait("BLMOVE", self.key, self.key, "LEFT", "LEFT", timeout=timeout) is not None

    def __len__(self) -> int:
        return int(_redis("LLEN", self.key))


class Queue:
    """``put``, ``get`` and ``empty``. The maximal size is ignored."""

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        self._items = _List()

    def put(self, item: Any) -> None:
        self._items.push(pickle.dumps(item))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        data = self._items.pop(timeout if block else 0)
        if data is None:
            raise queue.Empty
        return pickle.loads(data)

    def empty(self) -> bool:
        return len(self._items) == 0


class Connection:
    """One end of a pipe. There is no end-of-file."""

    def __init__(self, incoming: _List, outgoing: _List) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def send(self, item: Any) -> None:
        self.send_bytes(pickle.dumps(item))

    def recv(self) -> Any:
        return pickle.loads(self.recv_bytes())

    def send_bytes(self, data: bytes) -> None:
        self._outgoing.push(data)

    def recv_bytes(self) -> bytes:
        data = self._incoming.pop(None)
        assert data is not None
        return data

    def poll(self, timeout: float | None = 0.0) -> bool:
        return self._incoming.peek(timeout)

    def close(self) -> None:
        """There is nothing to close."""


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    one, other = _List(), _List()
    return Connection(one, other), Connection(other, one)


class _Memory:
    """As much of a memoryview as a counter needs."""

    def __init__(self, key: str, typecode: str = "B") -> None:
        self._key = key
        self._item = struct.Struct(typecode)

    def cast(self, typecode: str) -> _Memory:
        return _Memory(self._key, typecode)

    def __getitem__(self, index: int) -> Any:
        start = index * self._item.size
        data = _redis("GETRANGE", self._key, start, start + self._item.size - 1)
        return self._item.unpack(data)[0]

    def __setitem__(self, index: int, value: Any) -> None:
        _redis("SETRANGE", self._key, index * self._item.size, self._item.pack(value))
        _redis("PEXPIRE", self._key, _LIFETIME_MS)


class BufferWrapper:
    """A block of bytes, in place of ``multiprocessing.heap``'s."""

    def __init__(self, size: int) -> None:
        self._key = f"test:{secrets.token_hex(8)}"

    def create_memoryview(self) -> _Memory:
        return _Memory(self._key)


heap = types.SimpleNamespace(BufferWrapper=BufferWrapper)
