"""Referents: what stands behind the proxies of a manager's objects in Redis.

They have the methods of what CPython's server process would have made; dicts, lists, events
and barriers are what they are anywhere (``containers``, ``synchronize``).
"""

from __future__ import annotations

import array
import multiprocessing.managers as _mp
import queue
from typing import Any

from . import messages, queues, synchronize
from .containers import Dict
from .memory import Region

_cpython: Any = _mp  # also what its stub leaves out


class Acquirer:
    """``threading``'s Lock, RLock or semaphore, over ours."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        exclusive = self.lock._semlock.kind != synchronize.SEMAPHORE
        if exclusive and timeout is not None and timeout < 0:
            if timeout != -1:
                raise ValueError("timeout value must be a non-negative number")
            timeout = None
        if not blocking and timeout is not None:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return bool(self.lock.acquire(bool(blocking), timeout))

    def release(self) -> None:
        kind = self.lock._semlock.kind
        try:
            self.lock.release()
        except ValueError:
            if kind == synchronize.SEMAPHORE:
                raise
            raise RuntimeError("release unlocked lock") from None
        except AssertionError:
            raise RuntimeError("cannot release un-acquired lock") from None

    def __repr__(self) -> str:
        return repr(self.lock)


class Condition(Acquirer):
    """``threading.Condition``, over ours."""

    def __init__(self, condition: Any) -> None:
        super().__init__(condition._lock)
        self.condition = condition

    def wait(self, timeout: float | None = None) -> bool:
        self._check("wait on")
        return bool(self.condition.wait(timeout))

    def notify(self, n: int = 1) -> None:
        self._check("notify on")
        self.condition.notify(n)

    def notify_all(self) -> None:
        self._check("notify on")
        self.condition.notify_all()

    def _check(self, what: str) -> None:
        if not self.lock._semlock._is_mine():
            raise RuntimeError(f"cannot {what} un-acquired lock")

    def __repr__(self) -> str:
        return repr(self.condition)


class Queue(queues.JoinableQueue):
    """``queue.Queue``, over ours: what was put is there when ``put`` returns."""

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        if not self._channel.put(messages.dumps(obj), block, _not_negative(block, timeout)):
            raise queue.Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block, _not_negative(block, timeout))


def _not_negative(block: bool, timeout: float | None) -> float | None:
    if block and timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


class Names:
    """The attributes of a Namespace."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = Dict.create(names)

    def get(self, name: str) -> Any:
        try:
            return self.names[name]
        except KeyError:
            raise AttributeError(f"'Namespace' object has no attribute {name!r}") from None

    def delete(self, name: str) -> None:
        try:
            del self.names[name]
        except KeyError:
            raise AttributeError(f"'Namespace' object has no attribute {name!r}") from None

    def copy(self) -> Any:
        return _cpython.Namespace(**self.names.copy())


class Cell:
    """A Value."""

    def __init__(self, typecode: Any, value: Any, lock: bool = True) -> None:
        self.typecode = typecode
        self.cell = Dict.create({"value": value})

    def get(self) -> Any:
        return self.cell["value"]

    def set(self, value: Any) -> None:
        self.cell["value"] = value

    def copy(self) -> Any:
        return _cpython.Value(self.typecode, self.get())


class Array:
    """An ``array.array`` that keeps its length: its bytes."""

    def __init__(self, typecode: str, sequence: Any, lock: bool = True) -> None:
        data = array.array(typecode, sequence)
        self.typecode, self.length, self.width = typecode, len(data), data.itemsize
        self.region = Region.create(len(data) * data.itemsize, data.tobytes())

    def _read(self, start: int, stop: int) -> Any:
        found = array.array(self.typecode)
        found.frombytes(self.region.read(start * self.width, (stop - start) * self.width))
        return found

    def copy(self) -> Any:
        return self._read(0, self.length)

    def __len__(self) -> int:
        return self.length

    def _at(self, index: int, what: str) -> int:
        place = index + self.length if index < 0 else index
        if not 0 <= place < self.length:
            raise IndexError(f"array {what} out of range")
        return place

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            place = self._at(index, "index")
            return self._read(place, place + 1)[0]
        places = range(self.length)[index]
        if not places:
            return array.array(self.typecode)
        low, high = min(places), max(places)
        found = self._read(low, high + 1)
        return found if places.step == 1 else found[slice(*_ends(places, low))]

    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(index, slice):
            place = self._at(index, "assignment index")
            data = array.array(self.typecode, [value]).tobytes()
            self.region.write([place * self.width, data])
            return
        if not isinstance(value, array.array) or value.typecode != self.typecode:
            raise TypeError("can only assign an array of the same typecode")
        places, data, width = range(self.length)[index], value.tobytes(), self.width
        if len(places) != len(value):
            raise ValueError(
                f"an array of a manager keeps its length: {len(value)} elements do not fit in a "
                f"slice of {len(places)}"
            )
        if places.step == 1 and places:
            self.region.write([places[0] * width, data])
        elif places:
            ranges: list[Any] = []
            for number, place in enumerate(places):
                ranges += place * width, data[number * width : (number + 1) * width]
            self.region.write(ranges)


def _ends(places: range, low: int) -> tuple[int, int | None, int]:
    stop = places.stop - low
    return places.start - low, stop if stop >= 0 else None, places.step
