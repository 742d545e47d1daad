"""Shared memory under faults: what is written is written once, and by whom has the lock."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import Any

import pytest
from support.programs import SAFETY, Evidence, Log, program, start, url_of
from support.servers import eventually, running, written

import lithops_mp as mp
from lithops_mp import protocols
from lithops_mp._store import session
from lithops_mp.errors import LockLost, ObjectExpired, OwnerDiedWarning
from lithops_mp.memory import PAGE

from .frozen import frozen_holder, take_over
from .test_server import restart

CROWD, TURNS = 16, 500


def at_server(obj: Any) -> bytes:
    """The bytes that everybody sees."""
    where = obj.get_obj()._b_access_.region.keys.bytes
    found: bytes = session.current().client.plain("GETRANGE", where, 0, -1)
    return found


# -- many at once --


def count_up(log: Log, number: Any, done: Any, place: int, turns: int) -> None:
    """Add one to the number and to the own count, in one section each time."""
    protocols.SAFETY = SAFETY
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OwnerDiedWarning)
        for _ in range(turns):
            with number.get_lock():
                number.value += 1
                done[place] += 1


def crowd(log: Log, size: int, turns: int) -> tuple[Any, Any, list[mp.Process]]:
    number = mp.Value("i")
    done = mp.Array("i", size, lock=number.get_lock())
    processes = [
        mp.Process(target=count_up, args=(log, number, done, place, turns)) for place in range(size)
    ]
    for process in processes:
        process.start()
    return number, done, processes


def join(processes: list[mp.Process]) -> list[int | None]:
    for process in processes:
        process.join()  # how long so much work takes is no matter of patience
    return [process.exitcode for process in processes]


@pytest.mark.slow
def test_increments_of_many_processes_add_up(evidence: Evidence, log: Log) -> None:
    number, done, processes = crowd(log, CROWD, TURNS)
    assert join(processes) == [0] * CROWD
    assert number.value == CROWD * TURNS
    assert list(done) == [TURNS] * CROWD


@pytest.mark.slow
def test_they_add_up_although_one_is_killed(evidence: Evidence, log: Log) -> None:
    number, done, processes = crowd(log, CROWD, TURNS)
    eventually(lambda: done[3] > 20, "some increments")
    victim = processes[3].pid
    assert victim
    os.kill(victim, signal.SIGKILL)
    codes = join(processes)
    assert codes[3] == -signal.SIGKILL
    assert codes[:3] + codes[4:] == [0] * (CROWD - 1)
    # A section that it did not finish is not there at all.
    assert number.value == sum(done) == (CROWD - 1) * TURNS + done[3]
    assert done[3] < TURNS


# -- frozen and killed --


def change_and_release(log: Log, numbers: Any, go: mp.Event, places: list[int]) -> None:
    with numbers:
        numbers[0] += 1
    numbers.acquire()
    for place in places:
        numbers[place] = 77
    log("holds")
    go.wait()
    try:
        numbers.release()
    except LockLost as error:
        log("lost", str(error))
    with numbers:
        log("sees", *(numbers[place] for place in places))
        numbers[1] += 1


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
@pytest.mark.parametrize("size", [10, 3 * PAGE])
def test_what_a_frozen_holder_wrote_is_refused(
    evidence: Evidence, log: Log, kind: str, size: int
) -> None:
    numbers, go = mp.Array("B", size, lock=getattr(mp, kind)()), mp.Event()
    holder = frozen_holder(evidence, log, change_and_release, numbers, go, [2, size - 1])
    take_over(numbers)
    assert numbers[:3] == [1, 0, 0]
    numbers[2] = 5
    before = at_server(numbers)
    go.set()
    holder.thaw()
    assert "given to the next in line" in log.wait("lost")[1]
    assert at_server(numbers) == before
    numbers.release()
    assert log.wait("sees") == ["sees", 5, 0]
    assert holder.join() == 0
    assert numbers[:3] == [1, 1, 5]


def wait_after_change(log: Log, condition: mp.Condition, number: Any, go: mp.Event) -> None:
    condition.acquire()
    number.value = 77
    log("holds")
    go.wait()
    try:
        condition.wait()
    except LockLost:
        log("lost")


def test_a_frozen_holder_that_waits_for_a_condition_is_refused_too(
    evidence: Evidence, log: Log
) -> None:
    condition, go = mp.Condition(), mp.Event()
    number = mp.Value("i", 3, lock=condition._lock)
    holder = frozen_holder(evidence, log, wait_after_change, condition, number, go)
    take_over(condition)
    go.set()
    holder.thaw()
    log.wait("lost")
    condition.release()
    assert holder.join() == 0
    assert number.value == 3


def hold_changes(log: Log, numbers: Any) -> None:
    with numbers:
        numbers[0] = 1
    numbers.acquire()
    numbers[0] = numbers[1] = 2
    log("holds")
    signal.pause()


def test_what_a_killed_holder_did_not_release_is_gone_with_it(evidence: Evidence, log: Log) -> None:
    numbers = mp.Array("i", 2)
    holder = start(log, hold_changes, numbers)
    log.wait("holds")
    assert numbers[:] == [1, 0]  # as everybody sees it
    holder.kill()
    with pytest.warns(OwnerDiedWarning):
        numbers.acquire()
    assert numbers[:] == [1, 0]
    numbers.release()
    holder.join()


def end_with_changes(log: Log, numbers: Any, code: int) -> None:
    numbers.acquire()
    numbers[0] = numbers[len(numbers) - 1] = 2
    log("holds")
    sys.exit(code)


@pytest.mark.parametrize("size", [2, PAGE])
def test_what_a_holder_wrote_that_ends_is_there_and_the_lock_stays_held(
    evidence: Evidence, log: Log, size: int
) -> None:
    numbers = mp.Array("i", size, lock=mp.Lock())
    assert start(log, end_with_changes, numbers, 0).join() == 0
    assert numbers[:: size - 1] == [2, 2]
    assert not numbers.acquire(block=False)


def test_what_a_holder_wrote_that_fails_is_there_and_the_next_one_is_told(
    evidence: Evidence, log: Log
) -> None:
    numbers = mp.Array("i", 2)
    assert start(log, end_with_changes, numbers, 3).join() == 3
    with pytest.warns(OwnerDiedWarning, match="exit code 3"):
        numbers.acquire()
    assert numbers[:] == [2, 2]
    numbers.release()


def end_after_change(log: Log, number: Any, go: mp.Event) -> None:
    number.acquire()
    number.value = 77
    log("holds")
    go.wait()


def test_what_a_frozen_holder_wrote_is_not_written_at_its_end(
    evidence: Evidence, log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    number, go = mp.Value("i", 3), mp.Event()
    holder = frozen_holder(evidence, log, end_after_change, number, go)
    take_over(number)
    number.release()
    go.set()
    holder.thaw()
    assert holder.join() == 0
    assert number.value == 3
    eventually(
        lambda: "could not be written: this process stood still" in written(2),
        "word of it",
    )


def write_without(log: Log, number: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OwnerDiedWarning)
        number.value = 9
        log("wrote", number.add(1))


def test_a_write_that_waits_for_a_killed_holder_goes_on(evidence: Evidence, log: Log) -> None:
    numbers = mp.Array("i", 2)
    number = mp.Value("i", lock=numbers.get_lock())
    holder = start(log, hold_changes, numbers)
    log.wait("holds")
    writer = start(log, write_without, number)
    evidence.wait_in_line(numbers.get_lock(), writer)
    holder.kill()
    log.wait("wrote", 9)
    assert writer.join() == 0
    assert number.value == 10
    holder.join()


# -- the server comes back empty --


def test_what_is_gone_never_reads_as_zero(log: Log) -> None:
    with running(tcp=True) as server, program(url_of(server.settings), HEARTBEAT=0.3, LEASE=5.0):
        value, raw, big = mp.Value("i", 5), mp.RawArray("d", [1, 2]), mp.Array("B", 3 * PAGE)
        value.acquire()
        value.value += 1
        restart(server)
        for action in (
            *(lambda: raw[0], lambda: raw[:], lambda: raw.__setitem__(0, 1), lambda: raw.add(0, 1)),
            *(lambda: big[:], lambda: big[5], lambda: big.__setitem__(5, 1), big.acquire),
            *(value.release, lambda: value.value, lambda: setattr(value, "value", 1)),
        ):
            with pytest.raises(ObjectExpired):
                action()
