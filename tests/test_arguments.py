"""What programs written for CPython give and find: numbers, time-outs, names, attributes."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import fixtures

import lithops_mp as mp
from lithops_mp import dummy, pool, process, util
from lithops_mp.connection import Client, Listener, wait

server = fixtures.server()
evidence = fixtures.evidence(autouse=True)

MADE: dict[str, Callable[[Any], Any]] = {
    "Semaphore": mp.Semaphore,
    "BoundedSemaphore": mp.BoundedSemaphore,
    "Queue": mp.Queue,
    "JoinableQueue": mp.JoinableQueue,
    "Barrier": mp.Barrier,
    "manager's Queue": lambda size: mp.Manager().Queue(size),
    "manager's Semaphore": lambda size: mp.Manager().Semaphore(size),
}


@pytest.mark.parametrize("one", [True, np.int64(1)], ids=["bool", "int64"])
@pytest.mark.parametrize("kind", MADE)
def test_what_is_as_good_as_a_number_is_one(kind: str, one: Any) -> None:
    made = MADE[kind](one)
    if "Queue" in kind:
        made.put(0)
        assert made.full()
    elif "Barrier" in kind:
        assert made.wait() == 0
    else:
        assert made.acquire()
        assert not made.acquire(False)


@pytest.mark.parametrize("kind", MADE)
def test_a_float_is_no_number_of_things(kind: str) -> None:
    with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
        MADE[kind](1.5)


@pytest.mark.parametrize("size", [True, np.int64(1)])
def test_size_of_a_pool(size: Any) -> None:
    with mp.Pool(size) as pool:
        assert pool.map(abs, [-1]) == [1]


@pytest.mark.parametrize("n", [True, np.int64(1)])
def test_number_of_the_notified(n: Any) -> None:
    condition = mp.Condition()
    with condition:
        condition.notify(n)


@pytest.mark.parametrize("timeout", [math.nan, "1"])
def test_a_time_out_that_is_no_number_of_seconds(timeout: Any) -> None:
    held, full, condition = mp.Semaphore(0), mp.Queue(1), mp.Condition()
    full.put(1)
    reader, writer = mp.Pipe()
    child = mp.Process(target=reader.recv)
    child.start()
    with condition:
        for use in (
            *(held.acquire, mp.Queue().get, mp.Event().wait, condition.wait, mp.Barrier(2).wait),
            *(writer.poll, child.join, lambda timeout: full.put(2, timeout=timeout)),
            lambda timeout: mp.Queue().put(1, timeout=timeout),
            lambda timeout: wait([writer], timeout),
        ):
            with pytest.raises(
                (TypeError, ValueError), match=r"must be real number|time-out of nan"
            ):
                use(timeout=timeout)
    writer.send(None)
    child.join()


# -- what programs find on CPython's objects --


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_the_lock_classes_have_a_base_of_cpythons_name(kind: str) -> None:
    made = getattr(mp, kind)()
    assert isinstance(made, mp.synchronize.SemLock)
    assert isinstance(made, getattr(mp.synchronize, kind))


@pytest.mark.parametrize("lock", [multiprocessing.Lock(), mp.Semaphore, "a lock", 1])
def test_what_is_no_lock_of_ours_makes_no_condition(lock: Any) -> None:
    with pytest.raises(TypeError, match="needs a Lock or RLock of lithops_mp"):
        mp.Condition(lock() if callable(lock) else lock)


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_int)]
    DIMENSIONS = 2

    def sum(self) -> int:
        return int(self.x + self.y)

    @property
    def first(self) -> int:
        return int(self.x)

    @first.setter
    def first(self, value: int) -> None:
        self.x = value


@pytest.mark.parametrize("module", [multiprocessing, mp], ids=["CPython", "ours"])
def test_a_structure_keeps_its_methods(module: Any) -> None:
    for point in module.RawValue(Point, 1, 2), module.Value(Point, 1, 2).get_obj():
        assert (point.sum(), point.DIMENSIONS, point.first) == (3, 2, 1)
        point.first = 5
        assert (point.x, point.sum(), point._fields_[0][0]) == (5, 7, "x")


@pytest.mark.parametrize("module", [multiprocessing, mp], ids=["CPython", "ours"])
def test_an_array_as_bytes_and_from_a_set(module: Any) -> None:
    array = module.RawArray("h", [1, 300])
    assert bytes(array) == b"\x01\x00\x2c\x01"
    assert (array._length_, array._type_) == (2, ctypes.c_short)
    assert bytes(module.RawValue("h", 300)) == b"\x2c\x01"
    assert list(module.Array("h", {7})) == [7]
    assert list(module.RawArray("h", {7: 8}.keys())) == [7]


@pytest.mark.parametrize("what", ["zz", 5, None])
def test_a_type_that_is_none(what: Any) -> None:
    for make in mp.Value, mp.RawValue:
        with pytest.raises(TypeError, match=r"neither a type code .* nor a ctypes type"):
            make(what)


def test_a_pool_whose_subclass_makes_its_workers() -> None:
    class NoDaemon(mp.Process):
        @property
        def daemon(self) -> bool:
            return False

        @daemon.setter
        def daemon(self, value: bool) -> None:
            pass

    class Nesting(pool.Pool):
        @staticmethod
        def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
            return NoDaemon(*args, **kwds)

    def inner(number: int) -> int:
        with mp.Pool(1) as nested:
            return int(nested.apply(abs, (number,)))

    with Nesting(1) as outer:
        assert outer.map(inner, [-1, -2]) == [1, 2]


def test_names_beside_all() -> None:
    assert dummy.Value("i", 3).value == 3
    assert util.MAXFD
    assert process.ORIGINAL_DIR
    with pytest.raises(AttributeError):
        _ = util.nothing


def test_a_listener_keeps_the_host_it_was_given() -> None:
    with Listener(("127.0.0.1", 0)) as listener:
        assert listener.address[0] == "127.0.0.1"


def test_a_client_that_hangs_up_before_the_keys_are_compared() -> None:
    with Listener(authkey=b"key") as listener:
        Client(listener.address).close()
        with pytest.raises(EOFError):
            listener.accept()
    with pytest.raises(ValueError, match="needs the address"):
        Client(None)


def test_a_managers_lock_takes_no_negative_time() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        mp.Manager().Lock().acquire(True, -5)
