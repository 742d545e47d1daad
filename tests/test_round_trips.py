"""How often each operation goes to the server, as the client and as the server count it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.programs import Evidence, meanwhile, program, url_of
from support.servers import Server, eventually, running

import lithops_mp as mp
from lithops_mp import protocols
from lithops_mp._store import session

#: What a client of ours sends. The commands inside scripts are counted apart.
COMMANDS = ("evalsha", "eval", "script|load", "blpop", "xread", "ping")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(tcp=True) as found:
        yield found


@pytest.fixture
def counts(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    # Nobody else talks to the server: no signs of life, no safety checks.
    with program(url_of(server.settings), HEARTBEAT=3600):
        monkeypatch.setattr(protocols, "SAFETY", 60.0)
        warm_up()
        yield Counts(server)


def warm_up() -> None:
    """Have every script loaded."""
    lock, event, barrier = mp.RLock(), mp.Event(), mp.Barrier(2)
    condition, semaphore = mp.Condition(lock), mp.Semaphore(1)
    with condition, semaphore:
        condition.notify()
    with condition:
        condition.wait(0.001)
    event.set()
    event.clear()
    event.wait(0.001)
    with meanwhile(barrier.wait):
        barrier.wait()
    with lock:
        pass


class Counts:
    """Counts what happens at the server, which only the test uses."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def at_server(self) -> int:
        text = self.server.command("INFO", "commandstats").decode()
        found = 0
        for line in text.splitlines():
            name, _, rest = line.removeprefix("cmdstat_").partition(":calls=")
            if name in COMMANDS:
                found += int(rest.partition(",")[0])
        return found

    def of(self, operation: Callable[[], Any]) -> tuple[int, int]:
        """Round trips of the calling thread's client, and commands at the server."""
        client = session.current().client
        trips, commands = client.round_trips, self.at_server()
        operation()
        return client.round_trips - trips, self.at_server() - commands


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_uncontended_lock_takes_one_each(counts: Counts, kind: str) -> None:
    lock = getattr(mp, kind)()
    for _ in range(3):
        assert counts.of(lock.acquire) == (1, 1)
        assert counts.of(lock.release) == (1, 1)


def test_lock_that_is_not_to_be_had_takes_one(counts: Counts) -> None:
    lock = mp.Lock()
    lock.acquire()
    assert counts.of(lambda: lock.acquire(block=False)) == (1, 1)
    lock.release()


def test_nested_rlock_takes_none(counts: Counts) -> None:
    rlock = mp.RLock()
    with rlock:
        assert counts.of(rlock.acquire) == (0, 0)
        assert counts.of(rlock.release) == (0, 0)


def test_creation_takes_one(counts: Counts) -> None:
    kept = []
    assert counts.of(lambda: kept.append(mp.Lock()))[0] == 1


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_contended_acquire_takes_one_and_a_wake_up(counts: Counts, kind: str) -> None:
    lock = getattr(mp, kind)()
    lock.acquire()
    trips: list[int] = []
    before = counts.at_server()
    with meanwhile(lambda: trips.append(_trips(lock.acquire))):
        _wait_blocked(counts)
        assert counts.of(lock.release)[0] == 1
    assert trips == [2]
    assert counts.at_server() - before == 3  # acquire, its wake-up, release


def test_semaphore_handed_over_takes_an_acknowledgement_more(counts: Counts) -> None:
    semaphore = mp.Semaphore(0)
    trips: list[int] = []
    with meanwhile(lambda: trips.append(_trips(semaphore.acquire))):
        _wait_blocked(counts)
        assert counts.of(semaphore.release)[0] == 1
    assert trips == [3]


def test_condition_wait_takes_two_of_which_one_is_the_wake_up(counts: Counts) -> None:
    condition = mp.Condition(mp.Lock())
    trips: list[int] = []

    def wait() -> None:
        with condition:
            trips.append(_trips(condition.wait))

    with meanwhile(wait):
        _wait_blocked(counts)
        with condition:
            assert counts.of(condition.notify) == (1, 1)
    assert trips == [2]


def test_event_takes_one_each(counts: Counts) -> None:
    event = mp.Event()
    assert counts.of(event.is_set) == (1, 1)
    assert counts.of(event.set) == (1, 1)
    assert counts.of(event.is_set) == (1, 1)
    assert counts.of(event.wait) == (1, 1)
    assert counts.of(event.clear) == (1, 1)


def test_event_wait_takes_one_and_a_wake_up(counts: Counts) -> None:
    event = mp.Event()
    trips: list[int] = []
    before = counts.at_server()
    with meanwhile(lambda: trips.append(_trips(event.wait))):
        _wait_blocked(counts)
        event.set()
    assert trips == [2]
    assert counts.at_server() - before == 3


def test_barrier_takes_one_and_a_wake_up(counts: Counts) -> None:
    barrier = mp.Barrier(2)
    trips: list[int] = []
    before = counts.at_server()
    with meanwhile(lambda: trips.append(_trips(barrier.wait))):
        _wait_blocked(counts)
        assert counts.of(barrier.wait)[0] == 1
    assert trips == [2]
    assert counts.at_server() - before == 3


def _trips(operation: Callable[[], Any]) -> int:
    """Round trips of an operation in the calling thread."""
    client = session.current().client
    before = client.round_trips
    operation()
    return client.round_trips - before


def _wait_blocked(counts: Counts) -> None:
    """Until the one waiter there is is blocked."""
    evidence = Evidence(counts.server)
    eventually(lambda: any("b" in c["flags"] for c in evidence.clients()), "a blocked client")
    assert threading.active_count() > 1
