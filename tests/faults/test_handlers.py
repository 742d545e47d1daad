"""A signal's handler uses the very object in whose operation it arrives, at any place."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import handlers
from support.programs import Evidence, address_of, meanwhile
from support.servers import eventually

import lithops_mp as mp
from lithops_mp import storing
from lithops_mp._store import session
from lithops_mp.managers import SyncManager

Act = Callable[[Any], object]


def everywhere(
    make: Callable[[], Any], operate: Act, handle: Act, outcomes: Act, *fine: Any, least: int = 10
) -> None:
    """Try each place. What came of both is one of those that are fine, or what it is."""
    for place in handlers.everywhere():
        thing = make()
        handler = handlers.Handler(place, lambda: handle(thing))  # noqa: B023 - in this turn
        with handler.installed():
            operate(thing)
        print(handler.where)
        if not handler.where:
            break
        assert outcomes(thing) in fine
    assert place > least


def try_out(lock: Any) -> None:
    if lock.acquire(block=False):
        lock.release()


def section(lock: Any) -> None:
    with lock:
        pass


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_lock(evidence: Evidence, kind: str) -> None:
    def value(lock: Any) -> str:
        return evidence.state(lock)["value"]

    everywhere(getattr(mp, kind), section, try_out, value, "1")


def test_rlock_does_not_wait_for_itself(evidence: Evidence) -> None:
    refused = []

    def enter(lock: Any) -> None:
        try:
            section(lock)
        except RuntimeError as error:
            refused.append(str(error))

    def value(lock: Any) -> str:
        return evidence.state(lock)["value"]

    everywhere(mp.RLock, section, enter, value, "1")
    assert refused
    assert all(text.startswith("reentrant call") for text in refused)


@pytest.mark.parametrize("expected", [False, True])
def test_lock_that_is_waited_for(evidence: Evidence, expected: bool) -> None:
    def make() -> Any:
        lock: Any = mp.Lock()
        holds = threading.Event()

        def hold() -> None:
            with lock:
                holds.set()
                eventually(lambda: evidence.line(lock), "a waiter")

        lock.helper = threading.Thread(target=hold)
        lock.helper.start()
        holds.wait()
        lock._semlock._line = 8 * expected
        return lock

    def value(lock: Any) -> tuple[str, list[str]]:
        lock.helper.join()
        return evidence.state(lock)["value"], evidence.line(lock)

    everywhere(make, section, try_out, value, ("1", []))


def test_condition_is_notified(evidence: Evidence) -> None:
    """Both notify one: two waiters are woken."""

    made: list[Any] = []

    def notify(condition: Any) -> None:
        condition.notify()

    def make() -> Any:
        condition: Any = mp.Condition()
        condition.woken = []

        def wait() -> None:
            with condition:
                condition.woken.append(condition.wait(60))

        condition.helpers = [threading.Thread(target=wait) for _ in range(2)]
        for helper in condition.helpers:
            helper.start()
        eventually(lambda: len(evidence.line(condition)) == 2, "two waiters")
        condition.acquire()
        made.append(condition)
        return condition

    def woken(condition: Any) -> list[bool]:
        condition.release()
        for helper in condition.helpers:
            helper.join()
        return list(condition.woken)

    everywhere(make, notify, notify, woken, [True, True])
    made[-1].notify()  # where no handler has come
    assert woken(made[-1]) == [True, True]


def test_event_that_is_waited_for(evidence: Evidence) -> None:
    address = address_of(session.current().client)

    def wait(event: Any) -> None:
        def come() -> None:
            eventually(lambda: event.is_set() or evidence.is_blocked(address), "a wait, or the end")
            event.set()

        with meanwhile(come):
            assert event.wait(60)

    everywhere(mp.Event, wait, lambda event: event.set(), lambda event: event.is_set(), True)


def test_event() -> None:
    everywhere(
        mp.Event,
        lambda event: event.set(),
        lambda event: event.clear(),
        lambda event: event.is_set(),
        *(True, False),
    )


@pytest.mark.parametrize("handle", ["get", "section", "get twice"])
@pytest.mark.parametrize("warm", [3, 4, 5])
def test_messages_that_are_in_hand(handle: str, warm: int) -> None:
    """None is lost, none comes twice, whatever the handler does with them or others."""
    lock, count = mp.Lock(), 12

    def make() -> Any:
        queue: Any = mp.Queue()
        for number in range(count):
            queue.put(number)
        session.current().settle()
        queue.got = [queue.get() for _ in range(warm)]
        return queue

    def get(queue: Any) -> None:
        queue.got.append(queue.get())

    def act(queue: Any) -> None:
        for _ in range(handle.startswith("get") + handle.endswith("twice")):
            get(queue)
        if handle == "section":
            section(lock)

    def all_of(queue: Any) -> list[int]:
        session.current().settle()
        return sorted([*queue.got, *(queue.get() for _ in range(queue.qsize()))])

    everywhere(make, get, act, all_of, list(range(count)), least=3)


@pytest.mark.parametrize("kind", ["Queue", "bounded", "JoinableQueue", "SimpleQueue", "Pipe"])
def test_messages(kind: str) -> None:
    def make() -> Any:
        if kind == "Pipe":
            reader, writer = mp.Pipe(duplex=False)
            return writer.send, reader.recv
        queue: Any = mp.Queue(9) if kind == "bounded" else getattr(mp, kind)()
        return queue.put, queue.get

    def make_full() -> Any:
        put, get = make()
        for number in range(4):
            put(number)
        return get

    def both(ends: Any) -> list[Any]:
        return sorted(ends[1]() for _ in range(2))

    everywhere(make, lambda ends: ends[0]("a"), lambda ends: ends[0]("b"), both, ["a", "b"])
    everywhere(make_full, lambda get: get(), lambda get: get(), lambda get: get(), 2)


def test_value() -> None:
    def value(shared: Any) -> int:
        return int(shared.value)

    def assign(shared: Any) -> None:
        shared.value = 5

    def increment(shared: Any) -> None:
        shared.add(1)

    def make() -> Any:
        return mp.Value("i", 0)

    everywhere(make, assign, increment, value, 5, 6)
    everywhere(make, increment, increment, value, 2)


def test_array() -> None:
    def make() -> Any:
        return mp.RawArray("i", 2)

    def assign(place: int) -> Act:
        return lambda array: array.__setitem__(place, 1)

    everywhere(make, assign(0), assign(1), list, [1, 1])


@pytest.fixture
def manager() -> Iterator[SyncManager]:
    with mp.Manager() as manager:
        yield manager


def test_dict(manager: SyncManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "PAGE", 2)
    large = os.urandom(200_000)

    def assign(value: int) -> Act:
        return lambda shared: shared.__setitem__("k", value)

    def make() -> Any:
        return manager.dict(k=large)

    def value(shared: Any) -> Any:
        return shared["k"]

    everywhere(make, assign(1), assign(2), value, 1, 2)
    # By pages, all at once.
    batch = dict.fromkeys("abcdefg", 1)
    everywhere(make, lambda shared: shared.update(batch), assign(2), dict, {"k": 2, **batch})
    everywhere(make, assign(2), lambda shared: shared.update(batch), dict, {"k": 2, **batch})


def test_list(manager: SyncManager) -> None:
    def make() -> Any:
        return manager.list([2, 1])

    def append(shared: Any) -> None:
        shared.append(3)

    everywhere(make, append, append, list, [2, 1, 3, 3])
    everywhere(make, lambda shared: shared.__setitem__(0, 5), append, list, [5, 1, 3])
    # Python compares: the list is read and written, and read again if it has changed.
    everywhere(make, lambda shared: shared.sort(), append, list, [1, 2, 3])
