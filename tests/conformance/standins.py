"""Test equipment: the means by which CPython's tests observe a Process or a Condition.

Some of those tests have a child report through a piece of shared memory, which does not
exist here yet. This stand-in carries the reports: a plain string on the program's own
server, without any of the guarantees. Part 4 replaces it with the real thing; no test of
the suite is run *for* it, and ``exclusions.py`` lists those whose subject it is.
"""

from __future__ import annotations

import secrets
import struct
import types
from typing import Any

from lithops_mp._store.session import current

_LIFETIME_MS = 600_000


def _redis(*words: Any) -> Any:
    return current().client.plain(*words)


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
