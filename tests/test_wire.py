"""When an answer is polled for, and when it is slept for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError
from support import fixtures
from support.programs import Evidence, meanwhile, program, url_of
from support.servers import Server, eventually

import lithops_mp as mp
from lithops_mp._store import polling
from lithops_mp._store.client import Client
from lithops_mp._store.polling import MOST_CROWDS, MOST_IN_VAIN, SAMPLE, Polling, Turns
from lithops_mp._store.scripts import command
from lithops_mp._store.wire import Wire

server = fixtures.server()

PING = command("PING")
# Answered when nobody has pushed anything for half a second: long after anyone polls.
SLOW = command("BLPOP", "nothing", "0.5")


class Watched(Polling):
    """Notes whether an answer is polled for."""

    polled = False

    def is_due(self) -> bool:
        self.polled = super().is_due()
        return self.polled


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other thread has been at it, nor is: not one that an earlier test has left either."""
    monkeypatch.setattr(polling, "turns", Turns())
    monkeypatch.setattr(polling, "get_ident", lambda: 1)


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    wire = Wire(server.settings.connection(), 20.0)
    wire.send(PING)
    assert wire.receive(soon=False) == b"PONG"
    wire._polling = Watched()
    yield wire
    wire.disconnect()


def polled(wire: Wire, packet: bytes, *, soon: bool = True) -> bool:
    """Was the answer to this polled for?"""
    watched: Any = wire._polling
    watched.polled = False
    wire.send(packet)
    wire.receive(soon=soon)
    return bool(watched.polled)


def test_answer_is_polled_for(wire: Wire) -> None:
    assert polled(wire, PING)


def test_answer_that_may_be_long_in_coming_is_slept_for(wire: Wire) -> None:
    assert not any(polled(wire, PING, soon=False) for _ in range(100))


def test_slow_server_is_polled_more_and_more_rarely() -> None:
    one, found = Polling(), []
    for place in range(31):
        if one.is_due():
            found.append(place)
            one.done(late=True)
    assert found == [0, 2, 6, 14, 30]


def test_server_that_was_slow_is_polled_again_when_it_is_not(wire: Wire) -> None:
    assert polled(wire, SLOW)
    assert not polled(wire, PING)
    assert polled(wire, PING)


def test_server_that_was_always_slow_is_polled_now_and_then() -> None:
    one = Polling()
    for _ in range(2 * MOST_IN_VAIN):
        while not one.is_due():
            pass
        one.done(late=True)
    assert not any(one.is_due() for _ in range((1 << MOST_IN_VAIN) - 1))
    assert one.is_due()


def test_threads_that_take_turns_sleep(
    server: Server, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "get_ident", threading.get_ident)
    other = Wire(server.settings.connection(), 20.0)
    other.send(PING)
    other.receive(soon=False)
    other._polling = Watched()
    found = []
    for _ in range(2 * SAMPLE):
        found.append(polled(wire, PING))
        with meanwhile(lambda: found.append(polled(other, PING))):
            pass
    assert sum(found) < 5
    eventually(lambda: polled(wire, PING), "a poll, now that there is but one again")
    other.disconnect()


@pytest.mark.parametrize(
    ("load", "crowded"),
    [
        ("0.50 0.20 0.10 9999/12345 678\n", True),
        ("0.50 0.20 0.10 1/12345 678\n", False),
        ("0.50 0.20 0.10\n", False),
        ("0.50 0.20 0.10 many/12345 678\n", False),
        (None, False),
    ],
)
def test_more_threads_than_processors_are_a_crowd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: str | None, crowded: bool
) -> None:
    monkeypatch.setattr(polling, "LOAD", tmp_path / "loadavg")
    if load:
        polling.LOAD.write_text(load)
    assert polling.is_crowded() is crowded


def test_linux_says_how_many_there_are() -> None:
    """As what is read above; this thread is one of them."""
    if sys.platform == "linux":
        assert int(polling.LOAD.read_text().split()[3].partition("/")[0]) >= 1


def test_in_a_crowd_answers_are_slept_for(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "LOAD", tmp_path / "loadavg")
    polling.LOAD.write_text("9.9 9.9 9.9 9999/12345 678\n")
    requests = 4 * SAMPLE << MOST_CROWDS
    assert sum(polled(wire, PING) for _ in range(requests)) < requests / 4
    # And now and then it is tried whether it is still there.
    assert any(polled(wire, PING) for _ in range((SAMPLE << MOST_CROWDS) + 1))


def test_connection_that_was_closed_is_noticed_by_polling(wire: Wire, server: Server) -> None:
    watched: Any = wire._polling
    server.command("CLIENT", "KILL", "TYPE", "normal")
    with pytest.raises(ConnectionError):
        wire.receive()
    assert watched.polled


@pytest.fixture
def releases(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Of each release of a lock: was its answer expected soon?"""
    found: list[bool] = []
    request = Client.request

    def noted(self: Client, script: Any, packet: bytes, *, soon: bool = True) -> Any:
        if script.name in ("sem/release", "mem/release") and threading.current_thread() is here:
            found.append(soon)
        return request(self, script, packet, soon=soon)

    here = threading.current_thread()
    with program(url_of(server.settings)):
        monkeypatch.setattr(Client, "request", noted)
        yield found


def test_release_that_wakes_nobody_is_polled_for(releases: list[bool]) -> None:
    lock = mp.Lock()
    for _ in range(3):
        with lock:
            pass
    assert releases == [True, True, True]


def test_release_after_a_wait_in_line_leaves_the_processor_to_the_next(
    server: Server, releases: list[bool]
) -> None:
    lock, evidence = mp.Lock(), Evidence(server)
    with meanwhile(lock.acquire):
        pass
    with meanwhile(lambda: eventually(lambda: evidence.line(lock), "a waiter") and lock.release()):
        lock.acquire()
    lock.release()
    assert releases == [False]


def test_release_with_data_leaves_it_to_the_next_as_well(
    server: Server, releases: list[bool]
) -> None:
    value, evidence = mp.Value("i", 0), Evidence(server)
    lock, holds = value.get_lock(), threading.Event()

    def hold() -> None:
        with lock:
            holds.set()
            eventually(lambda: evidence.line(lock), "a waiter")

    with meanwhile(hold):
        assert holds.wait(60)
        with lock:
            value.value += 1
    assert releases == [False]


def test_release_after_a_notify_leaves_the_processor_to_who_was_notified(
    server: Server, releases: list[bool]
) -> None:
    condition: Any = mp.Condition()
    evidence = Evidence(server)

    def wait() -> None:
        with condition:
            condition.wait()

    with meanwhile(wait):
        eventually(lambda: evidence.line(condition), "a waiter")
        with condition:
            condition.notify()
    with condition:
        condition.notify()  # nobody
    assert releases == [False, True]
