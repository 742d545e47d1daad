"""When an answer is polled for, and when it is slept for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError
from support import fixtures
from support.servers import Server

from lithops_mp._store.polling import MOST_CROWDS, MOST_IN_VAIN, SAMPLE
from lithops_mp._store.scripts import command
from lithops_mp._store.wire import Wire

server = fixtures.server()

PING = command("PING")
# Answered when nobody has pushed anything for 20 ms: long after anyone polls.
SLOW = command("BLPOP", "nothing", "0.02")


class Watched:
    """A socket that notes whether somebody polls it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.polled = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.polled = self.polled or bool(flags & socket.MSG_DONTWAIT)
        return self._sock.recv(size, flags)


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    wire = Wire(server.settings.connection(), 20.0)
    wire.send(PING)
    assert wire.receive(soon=False) == b"PONG"
    wire._sock = Watched(wire._sock)
    yield wire
    wire.disconnect()


def polled(wire: Wire, packet: bytes, *, soon: bool = True) -> bool:
    """Was the answer to this polled for?"""
    wire._sock.polled = False
    wire.send(packet)
    wire.receive(soon=soon)
    return bool(wire._sock.polled)


def test_answer_is_polled_for(wire: Wire) -> None:
    assert polled(wire, PING)


def test_answer_that_may_be_long_in_coming_is_slept_for(wire: Wire) -> None:
    assert not any(polled(wire, PING, soon=False) for _ in range(100))


def test_slow_server_is_polled_more_and_more_rarely(wire: Wire) -> None:
    found = [polled(wire, SLOW) for _ in range(31)]
    assert [place for place, did in enumerate(found) if did] == [0, 2, 6, 14, 30]


def test_server_that_was_slow_is_polled_again_when_it_is_not(wire: Wire) -> None:
    assert polled(wire, SLOW)
    assert not polled(wire, PING)
    assert polled(wire, PING)


def test_server_that_was_always_slow_is_polled_now_and_then(wire: Wire) -> None:
    polling: Any = wire._polling
    polling._in_vain = MOST_IN_VAIN
    assert polled(wire, SLOW)
    assert sum(polled(wire, PING) for _ in range(1 << MOST_IN_VAIN)) == 1


@pytest.fixture
def crowd() -> Iterator[list[subprocess.Popen[bytes]]]:
    """More processes that want a processor than there are."""
    busy = [sys.executable, "-c", "while True: pass"]
    found = [subprocess.Popen(busy) for _ in range((os.cpu_count() or 1) + 1)]
    yield found
    for one in found:
        one.kill()
        one.wait()


def test_where_processors_are_wanted_answers_are_slept_for(
    wire: Wire, crowd: list[subprocess.Popen[bytes]]
) -> None:
    requests = 4 * SAMPLE << MOST_CROWDS
    assert sum(polled(wire, PING) for _ in range(requests)) < requests / 4
    # And now and then it is tried whether they still are.
    assert any(polled(wire, PING) for _ in range((SAMPLE << MOST_CROWDS) + 1))


def test_connection_that_was_closed_is_noticed_by_polling(wire: Wire, server: Server) -> None:
    server.command("CLIENT", "KILL", "TYPE", "normal")
    with pytest.raises(ConnectionError):
        polled(wire, PING)
