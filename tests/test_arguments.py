"""Numbers as callers give them: bools and numpy's are numbers, what is none is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import fixtures

import lithops_mp as mp
from lithops_mp.connection import wait

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
    process = mp.Process(target=reader.recv)
    process.start()
    with condition:
        for use in (
            *(held.acquire, mp.Queue().get, mp.Event().wait, condition.wait, mp.Barrier(2).wait),
            *(writer.poll, process.join, lambda timeout: full.put(2, timeout=timeout)),
            lambda timeout: wait([writer], timeout),
        ):
            with pytest.raises(
                (TypeError, ValueError), match=r"must be real number|time-out of nan"
            ):
                use(timeout=timeout)
    writer.send(None)
    process.join()
