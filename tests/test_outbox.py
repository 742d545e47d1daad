"""What a process has put and not sent, and taken and not used."""

from __future__ import annotations

import linecache
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from support import fixtures
from support.programs import Evidence, ident_of, program, url_of
from support.proxy import Fault, Proxy, proxied
from support.servers import Server, eventually

import lithops_mp as mp
from lithops_mp import channel, messages
from lithops_mp._store import keys, outbox, session
from lithops_mp._store.scripts import script

FAULTS = [Fault.REFUSE, Fault.LOSE, Fault.TEAR, Fault.ABANDON]

server = fixtures.server(tcp=True)


@pytest.fixture(scope="module")
def proxy(server: Server) -> Iterator[Proxy]:
    with (
        proxied(server.settings) as found,
        program(url_of(found.settings), HEARTBEAT=3600, LEASE=3600),
    ):
        yield found


@pytest.fixture
def evidence(server: Server, proxy: Proxy) -> Iterator[Evidence]:
    yield Evidence(server)
    proxy.calm()
    session.current().settle()


#: Without a proxy, which takes its time.
direct = fixtures.evidence(scope="function", HEARTBEAT=3600, LEASE=3600)


@pytest.fixture
def asleep(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread sends nothing: what is sent, others have sent."""
    be_asleep(monkeypatch)


@pytest.fixture
def direct_asleep(direct: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    be_asleep(monkeypatch)


def be_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    box = session.current().outbox
    session.current().settle()
    monkeypatch.setattr(box, "wake", lambda: None)


def lying(evidence: Evidence, queue: Any) -> int:
    """How many messages lie in a queue, as others see it."""
    found: int = evidence.server.command("LLEN", keys.items(ident_of(queue)))
    return found


def last_put(evidence: Evidence, queue: Any) -> str:
    """The number of the last request in which this process put something there."""
    return evidence.state(queue)[f"s:{session.current().uid}.out"][:12]


def all_of(queue: Any) -> list[Any]:
    session.current().settle()
    return [queue.get() for _ in range(queue.qsize())]


# -- order --


def close(queue: Any) -> None:
    queue.close()
    queue.join_thread()


#: What is made beforehand, and what is done with it. Making something cannot be seen.
ACTIONS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "a lock is acquired": (mp.Lock, lambda lock: lock.acquire()),
    "an event is set": (mp.Event, lambda event: event.set()),
    "a semaphore is looked at": (mp.Semaphore, lambda semaphore: semaphore.get_value()),
    "another queue is looked at": (mp.Queue, lambda queue: queue.empty()),
    "something is put where there is a bound": (lambda: mp.Queue(1), lambda queue: queue.put(1)),
    "something is sent": (mp.Pipe, lambda ends: ends[0].send(1)),
    "a handle is pickled": (mp.Lock, pickle.dumps),
    "it is closed and joined": (mp.Queue, close),
}


@pytest.mark.usefixtures("asleep")
@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_what_was_put_is_there_before_anything_else_can_be_seen(evidence, action):
    make, act = action
    made, queue = make(), mp.Queue()
    queue.put(1)
    assert lying(evidence, queue) == 0
    act(made)
    assert lying(evidence, queue) == 1


def test_what_was_put_is_sent_although_nothing_else_is_done(evidence):
    queue = mp.Queue()
    queue.put(1)
    eventually(lambda: lying(evidence, queue) == 1, "the message")


@pytest.mark.usefixtures("asleep")
def test_queues_get_their_messages_in_the_order_of_the_puts(evidence):
    """The last put of each names its number."""
    first, second = mp.Queue(), mp.Queue()
    for queue in (first, second, first, first, second):
        queue.put("x")
    session.current().settle()
    last = [last_put(evidence, queue) for queue in (first, second)]
    assert last[0] < last[1]
    first.put("x")
    session.current().settle()
    assert last_put(evidence, first) > last[1]


@pytest.mark.usefixtures("asleep")
def test_more_than_one_call_carries_is_sent_in_order(evidence, monkeypatch):
    monkeypatch.setattr(outbox, "BATCH", 7)
    queue, numbers = mp.Queue(), list(range(30))
    for number in numbers:
        queue.put(number)
    session.current().settle()
    assert lying(evidence, queue) == 30
    assert all_of(queue) == numbers


@pytest.mark.usefixtures("asleep")
def test_messages_of_many_bytes_go_in_calls_of_their_own(evidence, proxy, monkeypatch):
    monkeypatch.setattr(outbox, "BATCH_BYTES", 100)
    queue = mp.Queue()
    for _ in range(4):
        queue.put(b"x" * 101)
    before = proxy.count("queue/put")
    session.current().settle()
    assert proxy.count("queue/put") == before + 4


@pytest.mark.usefixtures("asleep")
@pytest.mark.parametrize("when", ["before", "after"])
def test_another_thread_may_put_while_messages_are_sent(evidence, monkeypatch, when):
    client, queue = session.current().outbox._client, mp.Queue()
    calls, others = client.together, iter([threading.Thread(target=queue.put, args=["meanwhile"])])

    def put() -> None:
        for thread in others:
            thread.start()
            thread.join()

    def meanwhile(batch: list[Any], **options: Any) -> list[Any]:
        if when == "before":
            put()
        replies = calls(batch, **options)
        put()
        return replies

    monkeypatch.setattr(client, "together", meanwhile)
    queue.put("first")
    queue.put("last")
    session.current().settle()
    assert lying(evidence, queue) == 3
    assert all_of(queue) == ["first", "last", "meanwhile"]


@pytest.mark.usefixtures("asleep")
def test_a_large_message_is_what_it_was_when_it_was_put(evidence, monkeypatch):
    """It is stored at once, and put in its turn."""
    monkeypatch.setattr(messages, "INLINE", 100)
    queue, data = mp.Queue(), bytearray(b"x" * 200)
    queue.put(data)
    queue.put("last")
    assert lying(evidence, queue) == 0
    data[:] = b"y" * 200
    assert all_of(queue) == [b"x" * 200, "last"]


@pytest.mark.usefixtures("asleep")
def test_a_large_message_among_others_is_there_when_it_is_read(evidence, monkeypatch):
    """Reading it gives the others back, which must not take it along."""
    monkeypatch.setattr(messages, "INLINE", 100)
    queue = mp.Queue()
    sent = [0, 1, 2, "x" * 200, 3, 4, "y" * 200, "z" * 200, 5, 6, 7]
    for item in sent:
        queue.put(item)
    assert [queue.get() for _ in sent] == sent
    assert queue.empty()


# -- the end --


def test_the_thread_ends_with_the_session(server):
    def threads() -> list[threading.Thread]:
        return [found for found in threading.enumerate() if found.name == "lithops_mp outbox"]

    before = threads()
    with program(url_of(server.settings)):
        queue = mp.Queue()
        queue.put(1)
        (mine,) = [thread for thread in threads() if thread not in before]
        box = session.current().outbox
        assert box._thread is mine
        del queue
    assert not mine.is_alive()
    assert box._client.fileno() < 0


# -- connections that break --


@pytest.mark.usefixtures("asleep")
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name.lower() for fault in FAULTS])
def test_nothing_is_doubled_or_lost_with_a_connection(evidence, proxy, fault):
    queue, other = mp.Queue(), mp.Queue()
    for number in range(5):
        queue.put(number)
        other.put(number)
    faults = proxy.faults
    proxy.once("queue/put", fault, nth=4)
    session.current().settle()
    assert proxy.faults == faults + 1
    proxy.calm()
    assert all_of(queue) == all_of(other) == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("asleep")
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name.lower() for fault in FAULTS])
def test_what_was_not_used_goes_back_once(evidence, proxy, fault):
    queue = mp.Queue()
    for number in range(9):
        queue.put(number)
    got = []
    while not queue._channel.holds:  # until some are taken beforehand
        got.append(queue.get())
    proxy.once("queue/settle", fault)
    session.current().settle()
    proxy.calm()
    assert not queue._channel.holds
    assert lying(evidence, queue) == 9 - len(got)
    assert got + all_of(queue) == list(range(9))


def test_a_script_that_comes_back_in_the_middle_of_a_batch_loses_nothing(
    direct_asleep, direct, monkeypatch
):
    """Somebody flushes all scripts, and somebody else needs one, while we send."""
    first, second = mp.Queue(), mp.Queue()
    for number in range(2):
        first.put(number)
        second.put(number)
    client = session.current().outbox._client
    client.plain("PING")
    wire, send = client._connection, client._connection.send

    def in_pieces(packet: bytes) -> None:
        starts = [found.start() for found in re.finditer(rb"\*\d+\r\n\$7\r\nEVALSHA", packet)]
        if len(starts) < 2:
            return send(packet)
        direct.server.command("SCRIPT", "FLUSH")
        send(packet[: starts[1]])
        for _ in range(2):  # the server has come to what lay there before
            direct.server.command("PING")
        direct.server.command("SCRIPT", "LOAD", script("queue/put").source)
        send(packet[starts[1] :])

    monkeypatch.setattr(wire, "send", in_pieces)
    session.current().settle()
    monkeypatch.undo()
    assert all_of(first) == all_of(second) == [0, 1]


# -- Ctrl-C --


#: A signal is looked at after a call and at a jump back, so never before these.
UNDIVIDED = (
    *("with ", "try:", "finally:", "client.busy ", "self._batch = "),
    *("load.used = ", "if number == ", "self._load = None", "return load.elements"),
)

WATCHED = {outbox.__file__, session.__file__, channel.__file__}


class InterruptAt:
    """Raises KeyboardInterrupt before the nth line of ours that this thread comes to."""

    def __init__(self, line: int) -> None:
        self.left = line
        self.where = ""
        self._before: tuple[FrameType, int] | None = None

    def __enter__(self) -> None:
        sys.settrace(self._trace)

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in WATCHED or _finalizes(frame):
            return None
        if event == "line" and not _undivided(frame):
            # Where a comprehension that is part of its function goes round, Python 3.12 and
            # 3.13 run no "finally" for what is raised here; for what a signal raises they do.
            before, self._before = self._before, (frame, frame.f_lineno)
            if before == self._before:
                return self._trace
            self.left -= 1
            if not self.left:
                self.where = f"{frame.f_code.co_name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._trace


def _finalizes(frame: FrameType | None) -> bool:
    """What a finalizer raises is lost, a signal's exception too."""
    while frame and frame.f_code.co_name != "dropped":
        frame = frame.f_back
    return frame is not None


def _undivided(frame: FrameType) -> bool:
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    return line.strip().startswith(UNDIVIDED)


def every_line(action: Callable[[InterruptAt], None]) -> int:
    """Interrupt an action at each of its lines in turn; how many there were."""
    for line in range(1, 10_000):
        interrupt = InterruptAt(line)
        action(interrupt)
        if not interrupt.where:
            return line - 1
    raise AssertionError("it goes on and on")


def test_ctrl_c_in_a_put_neither_doubles_nor_holds_up_anything(direct):
    def puts(interrupt: InterruptAt) -> None:
        queue, put = mp.Queue(), []
        queue.put("before")
        # So the thread sleeps, or is about to, and is to be woken by the next put.
        eventually(lambda: lying(direct, queue) == 1, "the thread's work")
        try:
            with interrupt:
                for number in range(3):
                    queue.put(number)
                    put.append(number)
        except KeyboardInterrupt:
            pass
        unsure = [len(put)] if interrupt.where else []
        queue.put("after")
        # The thread still sends what nobody waits for.
        wanted = len(put) + 2
        eventually(lambda: lying(direct, queue) >= wanted, f"all but {interrupt.where}")
        got = all_of(queue)
        sure = ["before", *put, "after"]
        assert got in (sure, ["before", *put, *unsure, "after"]), interrupt.where

    assert every_line(puts) > 10


@pytest.mark.usefixtures("direct_asleep")
def test_ctrl_c_while_it_is_sent_neither_doubles_nor_loses_anything(direct):
    def settles(interrupt: InterruptAt) -> None:
        queue, other = mp.Queue(), mp.Queue()
        for number in range(3):
            queue.put(number)
            other.put(-number)
        try:
            with interrupt:
                session.current().settle()
        except KeyboardInterrupt:
            pass
        queue.put("after")
        mp.Event().set()  # whatever comes next
        assert lying(direct, queue) == 4, interrupt.where
        assert all_of(queue) == [0, 1, 2, "after"], interrupt.where
        assert all_of(other) == [0, -1, -2], interrupt.where

    assert every_line(settles) > 30


@pytest.mark.usefixtures("direct_asleep")
def test_ctrl_c_in_a_get_loses_no_more_than_the_message_it_brought(direct):
    def gets(interrupt: InterruptAt) -> None:
        queue, got = mp.Queue(), []
        for number in range(8):
            queue.put(number)
        try:
            with interrupt:
                for _ in range(4):
                    got.append(queue.get())
        except KeyboardInterrupt:
            pass
        rest = all_of(queue)
        lost = [number for number in range(8) if number not in [*got, *rest]]
        assert lost in ([], [len(got)]), interrupt.where
        assert sorted([*got, *rest, *lost]) == list(range(8)), interrupt.where
        assert rest == sorted(rest), interrupt.where

    assert every_line(gets) > 30


@pytest.mark.usefixtures("direct_asleep")
def test_ctrl_c_while_messages_go_back_neither_doubles_nor_loses_any(direct):
    def gives_back(interrupt: InterruptAt) -> None:
        queue, got = mp.Queue(), []
        for number in range(8):
            queue.put(number)
        while not queue._channel.holds:
            got.append(queue.get())
        try:
            with interrupt:
                session.current().settle()
        except KeyboardInterrupt:
            pass
        assert got + all_of(queue) == list(range(8)), interrupt.where

    assert every_line(gives_back) > 20
