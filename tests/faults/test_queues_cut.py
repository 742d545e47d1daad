"""Messages over connections that break: none is lost, none is doubled."""

from __future__ import annotations

import collections
import contextlib
import os
from collections.abc import Callable
from typing import Any

import pytest
from support.programs import Evidence, Log, ident_of, meanwhile, start
from support.proxy import Fault, Proxy
from support.servers import Server, eventually

import lithops_mp as mp
from lithops_mp import messages
from lithops_mp._store import keys
from lithops_mp.connection import Client, Listener

from .test_cut import each_fault
from .test_queues import drain


@each_fault
@pytest.mark.parametrize("kind", ["unbounded", "bounded", "simple", "pipe"])
@pytest.mark.parametrize("name", ["queue/put", "queue/get"])
def test_messages_arrive_once(proxy: Proxy, fault: Fault, kind: str, name: str) -> None:
    put, get, empty = ways(kind)
    before = proxy.faults
    proxy.once(name, fault)
    for number in range(3):
        put(number)
    assert [get() for _ in range(3)] == [0, 1, 2]
    assert empty()
    assert proxy.faults == before + 1


def ways(kind: str) -> tuple[Callable[[Any], Any], Callable[[], Any], Callable[[], bool]]:
    if kind == "pipe":
        here, there = mp.Pipe()
        return here.send, there.recv, lambda: not there.poll()
    queue = {"unbounded": mp.Queue, "bounded": lambda: mp.Queue(3), "simple": mp.SimpleQueue}[
        kind
    ]()
    return queue.put, queue.get, queue.empty


@each_fault
def test_who_waits_to_be_accepted_sees_the_listener_close(proxy: Proxy, fault: Fault) -> None:
    listener = Listener("cut off")
    client = Client("cut off")
    before = proxy.faults
    proxy.once("queue/unbind", fault)
    listener.close()
    assert proxy.faults == before + 1
    with pytest.raises(EOFError):
        client.recv()
    client.close()


def test_message_whose_reader_hangs_up_at_once_was_sent(
    both: tuple[Server, Proxy], proxy: Proxy
) -> None:
    here, there = mp.Pipe()
    end, evidence = ident_of(there), Evidence(both[0])

    def take_and_go() -> None:
        assert there.recv() == "last words"
        there.close()
        eventually(lambda: keys.state(end) not in evidence.all_keys(), "a closed end")
        proxy.cut()

    here.send("first words")  # now the server has the scripts
    assert there.recv() == "first words"
    proxy.once("queue/put", Fault.SILENCE)
    with meanwhile(take_and_go):
        here.send("last words")
    with pytest.raises(BrokenPipeError):
        here.send("more")


@each_fault
@pytest.mark.parametrize("name", ["SET", "queue/put", "queue/get", "GET"])
def test_large_messages_arrive_once(
    both: tuple[Server, Proxy],
    proxy: Proxy,
    fault: Fault,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(messages, "PIECE", 100_000)
    put, get, empty = ways("pipe")
    body = os.urandom(350_000)
    proxy.once(name, fault, nth=2 if name in ("SET", "GET") else 1)
    before = proxy.faults
    put(body)
    assert get() == body
    assert proxy.faults == before + 1
    assert empty()
    put("next")
    assert get() == "next"
    assert not [key for key in Evidence(both[0]).object_keys() if ":b:" in key]


@each_fault
@pytest.mark.parametrize("name", ["queue/get", "BLPOP m", "CLIENT REPLY"])
def test_wake_up_that_is_lost_only_takes_longer(
    both: tuple[Server, Proxy], proxy: Proxy, fault: Fault, name: str
) -> None:
    queue, evidence = mp.Queue(), Evidence(both[0])
    got: list[int] = []

    def get() -> None:
        for _ in range(3):
            got.append(queue.get())

    with meanwhile(get):
        for number in range(3):
            eventually(lambda: evidence.line(queue), "a consumer")
            if number == 1:
                proxy.once(name, fault)
            queue.put(number)
            eventually(lambda n=number: len(got) > n, "it arrives")
    assert got == [0, 1, 2]


@each_fault
@pytest.mark.parametrize("name", ["queue/put", "BLPOP m", "queue/cancel"])
def test_put_that_waits_is_put_once_or_not_at_all(
    both: tuple[Server, Proxy], proxy: Proxy, fault: Fault, name: str
) -> None:
    queue, evidence = mp.Queue(1), Evidence(both[0])
    queue.put(1)
    proxy.once(name, fault)
    if name == "queue/cancel":
        with pytest.raises(mp.queues.Full):
            queue.put(2, timeout=0.05)
        assert drain(queue) == [1]
        assert evidence.parked(queue) == []
    else:
        with meanwhile(lambda: queue.put(2)):
            eventually(lambda: evidence.parked(queue), "a parked put")
            assert queue.get() == 1
        assert drain(queue) == [2]


@each_fault
def test_what_was_in_hand_goes_back_once(proxy: Proxy, fault: Fault) -> None:
    queue, before = mp.Queue(), proxy.faults
    for number in range(500):
        queue.put(number)
    proxy.once("queue/settle", fault)
    got = [queue.get() for _ in range(20)]
    while len(got) + queue.qsize() < 500:  # gives back; another one has it meanwhile
        pass
    got += [queue.get() for _ in range(480)]
    assert got == list(range(500))
    assert queue.empty()
    eventually(lambda: proxy.faults > before, "the fault")


def produce(log: Log, queue: Any, who: int, count: int) -> None:
    for turn in range(count):
        queue.put((who, turn))
        if turn % 50 == 0:
            queue.put((who, "large" * messages.INLINE))


def consume(log: Log, queue: Any) -> None:
    got = []
    for who, turn in iter(queue.get, None):
        got.append([who, turn if isinstance(turn, int) else len(turn)])
    log("consumed", got)


@pytest.mark.parametrize("bound", [0, 4])
def test_nothing_is_lost_or_doubled_however_many_replies_are(
    proxy: Proxy, log: Log, bound: int
) -> None:
    queue = mp.Queue(bound)
    consumers = [start(log, consume, queue) for _ in range(2)]
    producers = [start(log, produce, queue, who, 100) for who in range(2)]
    before = proxy.faults
    proxy.at_random(bound + 1, 0.05)
    assert [child.join() for child in producers] == [0, 0]
    for _ in consumers:
        queue.put(None)
    assert [child.join() for child in consumers] == [0, 0]
    proxy.calm()
    assert proxy.faults > before
    lists = [line[1] for line in log.lines() if line[0] == "consumed"]
    found = collections.Counter(tuple(item) for got in lists for item in got)
    expected = collections.Counter((who, turn) for who in range(2) for turn in range(100))
    expected.update({(who, 5 * messages.INLINE): 2 for who in range(2)})
    assert found == expected
    for got in lists:
        for who in range(2):
            turns = [turn for item, turn in got if item == who and turn < 100]
            assert turns == sorted(turns)


def test_ping_pong_goes_on_however_many_replies_are_lost(proxy: Proxy, log: Log) -> None:
    here, there = mp.Pipe()
    child = start(log, pong, there)
    there.close()
    proxy.at_random(5, 0.05)
    for number in range(100):
        here.send(number)
        assert here.recv() == -number
    proxy.calm()
    here.close()
    assert child.join() == 0


def pong(log: Log, conn: Any) -> None:
    with contextlib.suppress(EOFError):
        while True:
            conn.send(-conn.recv())
