"""Queues and pipes when somebody dies, stands still, or the connection or server breaks.

Messages are counted: none is lost but what a dead process had used, none is doubled
but where ``redeliver`` says so.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.programs import Evidence, Log, gone, meanwhile, program, start, url_of
from support.servers import PATIENCE, eventually, running

import lithops_mp as mp
from lithops_mp import channel, messages
from lithops_mp._store import client as client_module
from lithops_mp._store import processes, session
from lithops_mp.connection import Client, Listener, wait
from lithops_mp.errors import ObjectExpired
from lithops_mp.queues import Empty

from .test_interrupt import (  # noqa: F401 - fixtures
    Interrupts,
    blocked,
    interrupted_when,
    interrupts,
    run_out,
    sides,
    steps,
)
from .test_server import restart

# -- what children do --


def put_one(log: Log, queue: Any, word: str) -> None:
    queue.put(word)
    log("put", word)


def get_one(log: Log, queue: Any) -> None:
    log("got", os.getpid(), queue.get())


def use_all(log: Log, queue: Any) -> None:
    """Say of each message that it is used, before the next one is taken."""
    for number in iter(queue.get, None):
        log("used", number)


def use_slowly(log: Log, queue: Any, go: Any) -> None:
    """As above, and stand still in the middle with some in hand."""
    for number in iter(queue.get, None):
        log("used", number)
        if number == 40:
            log("pauses")
            signal.pause()


def used(log: Log) -> list[int]:
    return [line[1] for line in log.lines() if line[0] == "used"]


def drain(queue: Any) -> list[Any]:
    found = []
    with contextlib.suppress(Empty):
        while True:
            found.append(queue.get(block=False))
    return found


# -- SIGKILL --


def test_parked_put_of_a_killed_producer_is_gone(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue(1)
    queue.put("first")
    victim = start(log, put_one, queue, "the victim's")
    eventually(lambda: evidence.parked(queue) == [victim.uid], "a parked put")
    other = start(log, put_one, queue, "the other's")
    eventually(lambda: evidence.parked(queue) == [victim.uid, other.uid], "parked puts")
    victim.kill()
    assert victim.join() == -signal.SIGKILL
    assert evidence.parked(queue) == [other.uid]
    assert queue.get() == "first"
    assert queue.get(timeout=PATIENCE) == "the other's"
    assert other.join() == 0
    assert drain(queue) == []


def test_parked_large_put_of_a_killed_producer_leaves_no_key(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue(1)
    queue.put("first")
    victim = start(log, put_one, queue, "large" * messages.INLINE)
    eventually(lambda: evidence.parked(queue) == [victim.uid], "a parked put")
    assert [key for key in evidence.object_keys() if ":b:" in key]
    victim.kill()
    assert victim.join() == -signal.SIGKILL
    assert not [key for key in evidence.object_keys() if ":b:" in key]


def test_killed_consumer_leaves_the_line(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue()
    victim, other = start(log, get_one, queue), start(log, get_one, queue)
    eventually(lambda: len(evidence.line(queue)) == 2, "two consumers")
    victim.kill()
    assert victim.join() == -signal.SIGKILL
    assert evidence.line(queue) == [other.uid]
    queue.put("message")
    assert other.join() == 0
    assert log.find("got", other.pid, "message")


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("large", [False, True])
def test_message_handed_to_a_consumer_that_dies_before_it_knows_goes_on(
    evidence: Evidence, log: Log, others: int, large: bool
) -> None:
    queue = mp.Queue()
    message = "message" * (messages.INLINE if large else 1)
    victim = start(log, get_one, queue)
    evidence.wait_in_line(queue, victim)
    rest = [start(log, get_one, queue) for _ in range(others)]
    evidence.wait_in_line(queue, victim, *rest)
    victim.freeze()
    queue.put(message)
    session.current().settle()
    assert evidence.line(queue) == [child.uid for child in rest]
    victim.kill()
    if others:
        assert rest[0].join() == 0
        assert log.find("got", rest[0].pid, message)
    else:
        assert victim.join() == -signal.SIGKILL
        assert queue.get_nowait() == message
    assert drain(queue) == []


COUNT = 3000


def fill(queue: Any) -> None:
    for number in range(COUNT):
        queue.put(number)
    session.current().settle()


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_only_what_a_killed_consumer_used_is_gone(evidence: Evidence, log: Log, kind: str) -> None:
    queue = getattr(mp, kind)()
    fill(queue)
    victim = start(log, use_all, queue)
    eventually(lambda: len(used(log)) > 200, "some in use")
    victim.kill()
    assert victim.join() == -signal.SIGKILL
    rest = [queue.get() for _ in range(evidence.length(queue))]
    before = used(log)
    # One may have been the program's, which did not come to say so.
    lost = set(range(COUNT)) - set(before) - set(rest)
    assert len(lost) <= 1
    assert before + sorted(lost) + rest == list(range(COUNT))


def test_pipe_keeps_what_its_killed_reader_did_not_use(evidence: Evidence, log: Log) -> None:
    reader, writer = mp.Pipe(duplex=False)
    for number in range(1000):
        writer.send(number)
    victim = start(log, receive_all, reader)
    eventually(lambda: len(used(log)) > 100, "some in use")
    victim.kill()
    assert victim.join() == -signal.SIGKILL
    writer.close()
    before, rest = used(log), []
    with contextlib.suppress(EOFError):
        while True:
            rest.append(reader.recv())
    lost = set(range(1000)) - set(before) - set(rest)
    assert len(lost) <= 1
    assert before + sorted(lost) + rest == list(range(1000))


def receive_all(log: Log, reader: Any) -> None:
    while True:
        log("used", reader.recv())


@pytest.mark.parametrize("whole", [False, True], ids=["process", "function"])
def test_with_redeliver_nothing_is_gone(evidence: Evidence, log: Log, whole: bool) -> None:
    queue = mp.Queue(redeliver=True)
    for number in range(100):
        queue.put(number)
    session.current().settle()
    victim = start(log, use_slowly, queue, None)
    log.wait("pauses")
    os.kill(victim.supervisor if whole else victim.pid, signal.SIGKILL)
    assert victim.join() == -signal.SIGKILL
    assert drain(queue) == list(range(40, 100))  # the one in hand, again
    assert used(log) == list(range(41))


def test_with_redeliver_a_normal_end_is_one(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue(redeliver=True)
    queue.put("once")
    consumer = start(log, get_one, queue)
    assert consumer.join() == 0
    assert log.find("got", consumer.pid, "once")
    assert drain(queue) == []


def test_consumer_killed_with_its_function_doubles_nothing(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue()
    fill(queue)
    victim = start(log, use_all, queue)
    eventually(lambda: len(used(log)) > 200, "some in use")
    os.kill(victim.supervisor, signal.SIGKILL)
    assert victim.join() == -signal.SIGKILL
    eventually(lambda: gone(victim.pid), "its end")
    rest = [queue.get() for _ in range(evidence.length(queue))]
    before = used(log)
    assert not set(before) & set(rest)  # what it had in hand counts as used
    assert before == list(range(len(before)))
    assert rest == list(range(COUNT - len(rest), COUNT))
    assert COUNT - len(rest) - len(before) <= channel.MOST


def test_parked_sender_that_is_killed_does_not_keep_the_pipe(evidence: Evidence, log: Log) -> None:
    reader, writer = mp.Pipe(duplex=False)
    victim = start(log, send_large, writer)
    writer.close()
    eventually(lambda: evidence.parked(reader) == [victim.uid], "a parked message")
    victim.kill()
    assert victim.join() == -signal.SIGKILL
    got = []
    with contextlib.suppress(EOFError):
        while True:
            got.append(len(reader.recv_bytes()))
    assert got[:3] == [6 << 20] * 3
    assert len(got) <= 4
    reader.close()
    assert not [key for key in evidence.object_keys() if ":b:" in key]


def send_large(log: Log, writer: Any) -> None:
    while True:
        writer.send_bytes(bytes(6 << 20))


# -- SIGSTOP --


def frozen(uid: str) -> bool:
    return processes.status(session.current().client, uid).word == "FROZEN"


def test_frozen_consumer_finds_its_message_when_it_comes_back(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue()
    consumer = start(log, get_one, queue)
    evidence.wait_in_line(queue, consumer)
    consumer.freeze()
    queue.put("late")
    eventually(lambda: frozen(consumer.uid), "the end of its lease")
    consumer.thaw()
    assert consumer.join() == 0
    assert log.find("got", consumer.pid, "late")
    assert drain(queue) == []


def test_frozen_consumer_with_messages_in_hand_uses_each_once(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue()
    fill(queue)
    queue.put(None)
    consumer = start(log, use_all, queue)
    eventually(lambda: len(used(log)) > 200, "some in use")
    consumer.freeze()
    eventually(lambda: frozen(consumer.uid), "the end of its lease")
    assert len(used(log)) < COUNT
    consumer.thaw()
    assert consumer.join() == 0
    assert used(log) == list(range(COUNT))


def test_frozen_producer_goes_on(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue(1)
    queue.put("first")
    producer = start(log, put_one, queue, "second")
    eventually(lambda: evidence.parked(queue) == [producer.uid], "a parked put")
    producer.freeze()
    eventually(lambda: frozen(producer.uid), "the end of its lease")
    assert [queue.get(), queue.get(timeout=PATIENCE)] == ["first", "second"]
    producer.thaw()
    assert producer.join() == 0
    assert drain(queue) == []


# -- the server --


def test_script_flush_is_not_noticed(evidence: Evidence, log: Log) -> None:
    queue, back = mp.Queue(2), mp.Queue()
    here, there = mp.Pipe()
    child = start(log, answer, queue, back, there)
    for number in range(60):
        if number % 20 == 0:
            evidence.server.command("SCRIPT", "FLUSH")
        queue.put(number)
        assert back.get() == number
        here.send(number)
        assert here.recv() == number
        assert not here.poll()
    queue.put(None)
    assert child.join() == 0


def answer(log: Log, queue: Any, back: Any, conn: Any) -> None:
    for number in iter(queue.get, None):
        back.put(number)
        conn.send(conn.recv())


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Evidence]:
    """A server that does not survive the test as it was."""
    monkeypatch.setattr(client_module, "RECONNECT", 2.0)
    with (
        running(tcp=True) as server,
        program(url_of(server.settings), HEARTBEAT=0.3, LEASE=5.0),
    ):
        yield Evidence(server)


def test_server_restarted_empty_is_noticed_everywhere(fresh: Evidence) -> None:
    bounded, tasks, simple = mp.Queue(1), mp.JoinableQueue(), mp.SimpleQueue()
    told: list[Any] = []
    unbounded = mp.Queue()
    unbounded._on_queue_feeder_error = lambda error, obj: told.append((type(error), obj))
    here, there = mp.Pipe()
    listener = Listener("somewhere")
    bounded.put(1)
    tasks.put(1)
    waiting = {
        "get": unbounded.get,
        "put": lambda: bounded.put(2),
        "simple": simple.get,
        "recv": there.recv,
        "poll": lambda: here.poll(None),
        "wait": lambda: wait([here, there]),
        "join": tasks.join,
        "accept": listener.accept,
    }
    expired: list[str] = []

    def expires(name: str) -> None:
        with pytest.raises(ObjectExpired):
            waiting[name]()
        expired.append(name)

    with contextlib.ExitStack() as threads:
        for name in waiting:
            threads.enter_context(meanwhile(lambda n=name: expires(n)))
        blocked_now = lambda: sum("b" in c["flags"] for c in fresh.clients())  # noqa: E731
        eventually(lambda: blocked_now() >= len(waiting), "all of them blocked")
        restart(fresh.server)
    assert sorted(expired) == sorted(waiting)
    for refused in (
        *(bounded.get, bounded.qsize, lambda: bounded.put(1), tasks.task_done, simple.empty),
        *(lambda: simple.put(1), lambda: here.send(1), there.recv, here.poll),
        lambda: wait([here], 0),
    ):
        with pytest.raises(ObjectExpired):
            refused()
    unbounded.put("lost")
    with contextlib.suppress(ObjectExpired):
        unbounded.qsize()
    assert told == [(ObjectExpired, None)]
    with pytest.raises(ObjectExpired):
        unbounded.put("refused")
    with pytest.raises(FileNotFoundError):
        Client("somewhere")
    for each in (here, there, listener):
        each.close()
    queue = mp.Queue()  # new ones work
    queue.put(1)
    assert queue.get() == 1


# -- Ctrl-C --


def test_interrupted_get_leaves_the_line_and_loses_nothing(
    evidence: Evidence,
    blocked: Callable[[], bool],  # noqa: F811
) -> None:
    for queue in (mp.Queue(), mp.SimpleQueue(), mp.Queue(2)):
        for number in range(2):  # the second time the wait is sent along
            with interrupted_when(lambda q=queue: evidence.line(q), blocked):
                queue.get()
            assert evidence.line(queue) == []
            queue.put(number)
            assert queue.get() == number
            with meanwhile(lambda q=queue: put_when_awaited(evidence, q)):
                assert queue.get() == "awaited"


def put_when_awaited(evidence: Evidence, queue: Any) -> None:
    eventually(lambda: evidence.line(queue), "a consumer")
    queue.put("awaited")


def test_interrupted_put_leaves_nothing(
    evidence: Evidence,
    blocked: Callable[[], bool],  # noqa: F811
) -> None:
    queue = mp.Queue(1)
    for large in (1, messages.INLINE):
        queue.put("first")
        with interrupted_when(lambda: evidence.parked(queue), blocked):
            queue.put("interrupted" * large)
        assert evidence.parked(queue) == []
        assert drain(queue) == ["first"]
        assert not [key for key in evidence.object_keys() if ":b:" in key]


def test_interrupted_recv_poll_and_wait_lose_nothing(
    evidence: Evidence,
    blocked: Callable[[], bool],  # noqa: F811
) -> None:
    here, there = mp.Pipe()
    for operation in (here.recv, here.recv, lambda: here.poll(None), lambda: wait([here, there])):
        with interrupted_when(blocked):
            operation()
        there.send("still there")
        assert here.poll()
        assert here.recv() == "still there"
        assert not here.poll()


def test_interrupted_wait_over_descriptors_leaves_the_next_its_own_answers(
    evidence: Evidence,
) -> None:
    here, there = mp.Pipe()
    fd, fd_writer = os.pipe()

    def watching() -> set[str]:
        return {c["addr"] for c in evidence.clients() if "b" in c["flags"] and c["cmd"] == "xread"}

    for _ in range(3):
        before = watching()
        with interrupted_when(lambda known=before: watching() - known):
            wait([here, fd])
        there.send(1)
        assert wait([here, fd]) == [here]
        assert here.recv() == 1
        with meanwhile(lambda: queue_of_a_thread()):
            pass
    os.close(fd)
    os.close(fd_writer)


def queue_of_a_thread() -> None:
    queue = mp.Queue(1)
    queue.put("answer")
    assert queue.get() == "answer"


@steps
@sides
@pytest.mark.parametrize("kind", ["unbounded", "bounded", "simple", "large"])
def test_get_interrupted_at_any_step_loses_nothing(
    evidence: Evidence,
    interrupts: Interrupts,  # noqa: F811
    kind: str,
    step: int,
    after: bool,
) -> None:
    queue = {"bounded": lambda: mp.Queue(9), "simple": mp.SimpleQueue}.get(kind, mp.Queue)()
    words = [str(number) * (messages.INLINE if kind == "large" else 1) for number in range(6)]
    for word in words:
        queue.put(word)
    session.current().settle()
    interrupts.at(step, after)
    got: list[str] = []
    run_out(interrupts, evidence, queue, lambda: [got.append(queue.get()) for _ in range(3)])
    session.current().settle()
    rest = [queue.get() for _ in range(evidence.length(queue))]
    assert got + rest == words


@steps
@sides
def test_put_interrupted_at_any_step_puts_once_or_not_at_all(
    evidence: Evidence,
    interrupts: Interrupts,  # noqa: F811
    step: int,
    after: bool,
) -> None:
    for queue in (mp.Queue(2), mp.SimpleQueue(), mp.Queue()):
        queue.put("first")
        interrupts.at(step, after)
        run_out(interrupts, evidence, queue, lambda q=queue: q.put("second"))
        queue.put("third") if not hasattr(queue, "get_nowait") else None
        got = [queue.get()]
        while not queue.empty():
            got.append(queue.get())
        assert [word for word in got if word != "third"] in (["first"], ["first", "second"])
        assert evidence.parked(queue) == []
