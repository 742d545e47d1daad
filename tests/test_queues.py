"""Queue, JoinableQueue, SimpleQueue: what is promised beyond CPython's own tests.

CPython's run in ``tests/conformance``; what happens when somebody dies is in
``tests/faults``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import queue as pyqueue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import util
from pathlib import Path
from typing import Any

import pytest
from support import fixtures
from support.programs import (
    Evidence,
    Log,
    gone,
    ident_of,
    meanwhile,
    running_program,
    start,
    url_of,
)
from support.servers import PATIENCE, Server, eventually

import lithops_mp as mp
from lithops_mp import messages, queues
from lithops_mp._store import keys, session
from lithops_mp._store.settings import URL_VARIABLE
from lithops_mp.errors import ObjectExpired

server = fixtures.server(tcp=True)
evidence = fixtures.evidence(HEARTBEAT=0.5)


# -- what a process puts last --


def put_and_end(queue: Any, *others: Any) -> None:
    queue.put("last")


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_message_of_a_process_that_ends_at_once_arrives(evidence: Evidence, kind: str) -> None:
    """Whatever else came with it: an end of a pipe has the outbox begin before the process."""
    queue = getattr(mp, kind)()
    process = mp.Process(target=put_and_end, args=(queue, *mp.Pipe(), mp.Value("i")))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert queue.qsize() == 1
    assert queue.get(timeout=PATIENCE) == "last"


# -- the bound --


def put_in_threads(queue: Any, before: bool) -> None:
    if before:
        queue.put("by the main thread")

    def last() -> None:
        # The process's own finalizers run before it waits for its threads.
        eventually(lambda: util.is_exiting() and not util._finalizer_registry, "its end")
        queue.put("by a thread")

    threading.Thread(target=last).start()


@pytest.mark.parametrize("before", [True, False])
def test_what_threads_put_while_they_are_waited_for_arrives(
    evidence: Evidence, before: bool
) -> None:
    queue = mp.Queue()
    process = mp.Process(target=put_in_threads, args=(queue, before))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0
    if before:
        assert queue.get(timeout=PATIENCE) == "by the main thread"
    assert queue.get(timeout=PATIENCE) == "by a thread"


def put_several(log: Log, queue: Any, number: int, times: int) -> None:
    for turn in range(times):
        queue.put((number, turn))


def test_bound_is_exact_with_eight_producers(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue(3)
    producers = [start(log, put_several, queue, number, 4) for number in range(8)]
    eventually(lambda: len(evidence.parked(queue)) == 8, "eight parked puts")
    assert evidence.length(queue) == queue.qsize() == 3
    assert queue.full()
    with pytest.raises(queues.Full):
        queue.put("one too many", timeout=0.01)
    for timeout in 0, -1:
        with pytest.raises(queues.Full):
            queue.put("one too many", timeout=timeout)
    with pytest.raises(queues.Full):
        queue.put_nowait("one too many")
    got = []
    for _ in range(32):
        got.append(queue.get())
        assert evidence.length(queue) <= 3
        if len(got) < 20:  # somebody is always parked until then: the room is used at once
            assert queue.qsize() == 3
    assert [child.join() for child in producers] == [0] * 8
    assert sorted(got) == [(number, turn) for number in range(8) for turn in range(4)]
    for number in range(8):  # and each one's in its order
        assert [turn for who, turn in got if who == number] == [0, 1, 2, 3]
    assert queue.empty()
    assert not queue.full()


def test_parked_puts_go_first_come_first_served(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue(1)
    queue.put("first")
    producers = []
    for number in range(3):
        producers.append(start(log, put_several, queue, number, 1))
        expected = [child.uid for child in producers]
        eventually(lambda e=expected: evidence.parked(queue) == e, "parked in order")
    assert [queue.get() for _ in range(4)] == ["first", (0, 0), (1, 0), (2, 0)]


def test_bound_of_nothing_is_none(evidence: Evidence) -> None:
    for size in (0, -1):
        queue = mp.Queue(size)
        for number in range(300):
            queue.put(number)
        assert not queue.full()
        assert queue.qsize() == 300


# -- the order of consumers --


def get_one(log: Log, queue: Any, number: int) -> None:
    log("got", number, queue.get())


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_consumers_are_served_in_the_order_they_asked(
    evidence: Evidence, log: Log, kind: str
) -> None:
    queue = getattr(mp, kind)()
    consumers = []
    for number in range(3):
        consumers.append(start(log, get_one, queue, number))
        evidence.wait_in_line(queue, *consumers)
    evidence.wait_blocked(*(child.address for child in consumers))
    for number in range(3):
        queue.put(f"message {number}")
    assert [child.join() for child in consumers] == [0, 0, 0]
    lines = sorted(line[1:] for line in log.lines() if line[0] == "got")
    assert lines == [[number, f"message {number}"] for number in range(3)]
    assert queue.empty()


# -- what was put is there before anything else is seen --


def signals() -> dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]]:
    """What a process may do that another one sees, and how that one sees it."""

    def notify(condition: Any) -> None:
        with condition:
            condition.notify()

    reader, writer = mp.Pipe(duplex=False)
    return {
        "semaphore": (s := mp.Semaphore(0), lambda _: s.release(), None),
        "event": (e := mp.Event(), lambda _: e.set(), None),
        "pipe": ((reader, writer), lambda _: writer.send(1), None),
        "queue": (q := mp.Queue(), lambda _: q.put(1), None),
        "bounded": (b := mp.Queue(1), lambda _: b.put(1), None),
        "simple": (i := mp.SimpleQueue(), lambda _: i.put(1), None),
        "barrier": (r := mp.Barrier(2), lambda _: r.wait(), None),
        "task": (j := mp.JoinableQueue(), lambda _: (j.put(1), j.get(), j.task_done()), None),
    }


def see(name: str, signal: Any) -> None:
    if name == "semaphore":
        signal.acquire()
    elif name == "event":
        signal.wait()
        signal.clear()
    elif name == "pipe":
        signal[0].recv()
    elif name == "barrier":
        signal.wait()
    elif name == "task":
        while not signal._channel.look().rounds:
            pass
    else:
        signal.get()


def look_at_once(log: Log, name: str, signal: Any, queue: Any, ready: Any, times: int) -> None:
    for turn in range(times):
        see(name, signal)
        assert queue.get_nowait() == turn
        ready.release()


@pytest.mark.parametrize(
    "name", ["semaphore", "event", "pipe", "queue", "bounded", "simple", "barrier", "task"]
)
def test_what_was_put_is_there_before_anything_else_is_seen(
    evidence: Evidence, log: Log, name: str
) -> None:
    signal, do, _ = signals()[name]
    times = 1 if name == "task" else 10
    queue, ready = mp.Queue(), mp.Semaphore(0)
    other = start(log, look_at_once, name, signal, queue, ready, times)
    for turn in range(times):
        queue.put(turn)
        do(signal)
        assert ready.acquire(timeout=PATIENCE)
    assert other.join() == 0


def test_what_was_put_is_there_when_a_child_runs(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue()
    queue.put("early")
    child = start(log, lambda log, queue: log("got", queue.get_nowait()), queue)
    assert child.join() == 0
    assert log.find("got", "early")


def test_what_was_put_is_there_when_the_process_has_ended(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue()
    child = start(log, put_several, queue, 7, 500)
    assert child.join() == 0
    assert [queue.get_nowait() for _ in range(500)] == [(7, turn) for turn in range(500)]


def test_a_thread_sees_what_another_one_has_put(evidence: Evidence) -> None:
    queue = mp.Queue()
    for number in range(20):
        with meanwhile(lambda n=number: queue.put(n)):
            pass
        assert queue.get_nowait() == number


def test_unbounded_put_does_not_wait_for_the_server(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue()
    consumer = start(log, get_one, queue, 0)
    evidence.wait_in_line(queue, consumer)
    os.kill(evidence.server.pid, signal.SIGSTOP)
    try:
        for number in range(100):
            queue.put(number)
        assert not session.current().outbox.empty
    finally:
        os.kill(evidence.server.pid, signal.SIGCONT)
    assert consumer.join() == 0
    assert log.find("got", 0, 0)
    assert [queue.get() for _ in range(99)] == list(range(1, 100))


# -- pickling --

MAIN = """
import lithops_mp as mp

class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(self) is type(other) and self.x == other.x

class Line(Point):
    def length(self): return helper(self.x)

def helper(x): return x * 2

def child(todo, done):
    while (item := todo.get()) is not None:
        kind, value = item
        if kind == "call":
            done.put(value(21))
        else:
            assert type(value) is Point or isinstance(value, Point), type(value)
            value.x += 1
            done.put(value)
    done.put(Line(21))
    done.put(helper)

if __name__ == "__main__":
    todo, done = mp.Queue({bound}), mp.{kind}()
    process = mp.Process(target=child, args=(todo, done))
    process.start()
    for _ in range(2):
        todo.put(("point", Point(1)))
        assert done.get() == Point(2)
        todo.put(("call", helper))
        assert done.get() == 42
        todo.put(("line", Line(1)))
        line = done.get()
        assert type(line) is Line and line.length() == 4
    todo.put(None)
    assert type(line := done.get()) is Line and line.length() == 42
    assert done.get() is helper
    process.join()
    assert process.exitcode == 0
    print("all is well")
"""


@pytest.mark.parametrize(("kind", "bound"), [("Queue", 0), ("SimpleQueue", 3)])
def test_what_is_defined_in_main_travels_both_ways(
    server: Server, tmp_path: Path, kind: str, bound: int
) -> None:
    script = tmp_path / "script.py"
    script.write_text(MAIN.replace("{kind}", kind).replace("{bound}", str(bound)))
    environ = {**os.environ, URL_VARIABLE: url_of(server.settings)}
    environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(p) for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, env=environ, timeout=60, check=False
    )
    assert done.stdout == b"all is well\n", done.stderr.decode()


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("this cannot be pickled")


class Telling(queues.JoinableQueue):
    told: list[Any] = []  # noqa: RUF012 - only for the test

    @staticmethod
    def _on_queue_feeder_error(error: Exception, obj: Any) -> None:
        Telling.told.append((type(error), type(obj)))


@pytest.mark.parametrize("bound", [0, 1])
def test_errors_in_pickling_are_reported_and_kill_nothing(evidence: Evidence, bound: int) -> None:
    Telling.told.clear()
    queue = Telling(bound, ctx=mp.get_context())
    queue.put(Unpicklable())
    assert Telling.told == [(RuntimeError, Unpicklable)]
    queue.join()  # it is no task
    queue.put("fine")
    assert queue.get() == "fine"
    queue.task_done()
    queue.join()


def test_errors_in_pickling_are_printed(
    evidence: Evidence, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = mp.Queue()
    queue.put(Unpicklable())
    queue.put("fine")
    assert queue.get() == "fine"
    assert "this cannot be pickled" in capsys.readouterr().err
    simple = mp.SimpleQueue()
    with pytest.raises(RuntimeError):
        simple.put(Unpicklable())
    simple.put("fine")
    assert simple.get() == "fine"


def test_a_message_that_the_server_refuses_is_printed(
    evidence: Evidence, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = mp.Queue()
    state = keys.state(ident_of(queue))
    assert evidence.server.command("DEL", state) == 1
    queue.put("lost")
    with pytest.raises(ObjectExpired):
        queue.get()
    assert "ObjectExpired: the state of this queue is gone" in capsys.readouterr().err


def test_put_pickles_at_once(evidence: Evidence) -> None:
    queue, value = mp.Queue(), [1]
    queue.put(value)
    value.append(2)
    assert queue.get() == [1]


def test_any_byte_may_be_in_a_message(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue()
    values = [bytes([n]) * 40 for n in range(256)] + [b"\x1f\x1e\r\n$-1\r\n" * 9, "\x1f", "ä€"]
    for value in values:
        queue.put(value)
    assert [queue.get() for _ in values] == values
    back = mp.Queue()
    echoing = start(log, echo, queue, back)
    for value in values[::16] + values[-3:]:  # and as a hint, to somebody who waits
        evidence.wait_in_line(queue, echoing)
        queue.put(value)
        assert back.get() == value
    queue.put(None)
    assert echoing.join() == 0


def echo(log: Log, queue: Any, back: Any) -> None:
    while (value := queue.get()) is not None:
        back.put(value)


# -- queues and pipes in queues --


def answer_to(log: Log, queue: Any) -> None:
    while (found := queue.get()) is not None:
        found.put("answer") if hasattr(found, "put") else found.send("answer")


def test_queues_and_connections_in_queues(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue()
    child = start(log, answer_to, queue)
    for kind in ("Queue", "JoinableQueue", "SimpleQueue"):
        back = getattr(mp, kind)()
        queue.put(back)
        assert back.get() == "answer"
    reader, writer = mp.Pipe(duplex=False)
    queue.put(writer)
    writer.close()
    assert reader.recv() == "answer"
    queue.put(None)
    with pytest.raises(EOFError):  # the child has let go of it
        reader.recv()
    assert child.join() == 0


def test_queue_that_was_sent_is_the_same_one_here(evidence: Evidence) -> None:
    queue = mp.Queue()
    queue.put(queue)
    again = queue.get()
    again.put("one")
    assert again is not queue
    assert queue.get() == "one"
    locks = mp.Queue()
    lock = mp.Lock()
    locks.put(lock)
    with locks.get():
        assert not lock.acquire(block=False)


# -- many at once --


def test_what_a_quick_consumer_has_in_hand_goes_back_when_it_does_something_else(
    evidence: Evidence, log: Log
) -> None:
    queue, go = mp.Queue(), mp.Event()
    for number in range(2000):
        queue.put(number)
    consumer = start(log, take_and_wait, queue, 50, go)
    log.wait("took", list(range(50)))
    eventually(lambda: evidence.length(queue) == 1950, "what it does not use")
    assert [queue.get_nowait() for _ in range(50, 2000)] == list(range(50, 2000))
    go.set()
    assert consumer.join() == 0
    assert queue.empty()


def take_and_wait(log: Log, queue: Any, count: int, go: Any) -> None:
    taken = [queue.get() for _ in range(count)]
    log("took", taken)
    go.wait()


def test_what_a_quick_consumer_has_in_hand_goes_back_when_it_does_nothing(
    evidence: Evidence, log: Log
) -> None:
    queue = mp.Queue()
    for number in range(1000):
        queue.put(number)
    consumer = start(log, take_and_pause, queue, 20)
    log.wait("took", list(range(20)))
    eventually(lambda: evidence.length(queue) == 980, "what it does not use")
    assert queue.get() == 20
    consumer.process.terminate()
    assert consumer.join() == -signal.SIGTERM
    assert [queue.get() for _ in range(21, 1000)] == list(range(21, 1000))


def test_large_messages_between_small_ones(evidence: Evidence) -> None:
    def message(number: int) -> Any:
        return bytes([number]) * (messages.INLINE if number % 7 == 3 or number > 80 else 1)

    queue = mp.Queue()
    reader, writer = mp.Pipe(duplex=False)
    for number in range(100):
        queue.put(message(number))
        writer.send(message(number))
    # Quickly, so that several are taken at once.
    assert [queue.get() for _ in range(100)] == [message(number) for number in range(100)]
    assert [reader.recv() for _ in range(100)] == [message(number) for number in range(100)]
    queue.put("next")
    writer.send("next")
    assert queue.get() == reader.recv() == "next"
    assert not [key for key in evidence.object_keys() if ":b:" in key]


def take_and_pause(log: Log, queue: Any, count: int) -> None:
    taken = [queue.get() for _ in range(count)]
    log("took", taken)
    threading.Event().wait()


def test_several_quick_consumers_take_each_message_once(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue()
    consumers = [start(log, take_all, queue) for _ in range(3)]
    for number in range(1500):
        queue.put(number)
    for _ in consumers:
        queue.put(None)
    assert [child.join() for child in consumers] == [0, 0, 0]
    taken = [line[1] for line in log.lines() if line[0] == "took all"]
    assert sorted(number for found in taken for number in found) == list(range(1500))
    assert all(found == sorted(found) for found in taken)


def take_all(log: Log, queue: Any) -> None:
    log("took all", list(iter(queue.get, None)))


def test_threads_put_and_get_each_message_once(evidence: Evidence) -> None:
    for queue in (mp.Queue(), mp.Queue(5), mp.SimpleQueue()):
        got: list[Any] = []

        def put(number: int, queue: Any = queue) -> None:
            for turn in range(100):
                queue.put((number, turn))

        def get(queue: Any = queue, got: list[Any] = got) -> None:
            for _ in range(100):
                got.append(queue.get())

        with contextlib.ExitStack() as threads:
            for work in (get, get, get, lambda: put(0), lambda: put(1)):
                threads.enter_context(meanwhile(work))
            put(2)
        assert sorted(got) == [(number, turn) for number in range(3) for turn in range(100)]
        assert queue.empty()


# -- processes --


def put_and_nest(log: Log, queue: Any, depth: int) -> None:
    queue.put(depth)
    if depth:
        assert start(log, put_and_nest, queue, depth - 1).join() == 0


def test_nested_processes(evidence: Evidence, log: Log) -> None:
    queue = mp.Queue()
    assert start(log, put_and_nest, queue, 2).join() == 0
    assert [queue.get_nowait() for _ in range(3)] == [2, 1, 0]


def test_plain_fork(server: Server) -> None:
    with running_program("forked_messages", url=url_of(server.settings)) as found:
        assert found.hear() == ["child got", "from the parent"]
        assert found.hear() == ["parent got", ["child", 0], ["child", 1], ["child", 2]]
        assert found.hear() == ["parent sees the end"]
        assert found.end() == 0, found.errors()


# -- tasks --


def test_join_waits_until_all_tasks_are_done(evidence: Evidence, log: Log) -> None:
    for bound in (0, 2):
        queue = mp.JoinableQueue(bound)
        queue.join()  # there are none
        worker = start(log, work, queue, go := mp.Semaphore(0))
        queue.put(0)
        with meanwhile(queue.join):
            for number in range(1, 5):
                queue.put(number)
                go.release()
            go.release()
        assert queue.empty()
        with meanwhile(queue.join):
            pass
        queue.put(None)
        go.release()
        assert worker.join() == 0
        with pytest.raises(ValueError, match="too many times"):
            queue.task_done()


def work(log: Log, queue: Any, go: Any) -> None:
    item = 0
    while item is not None:
        item = queue.get()
        go.acquire()
        queue.task_done()


# -- close, join_thread --


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_closed_queue_refuses_and_what_was_put_still_arrives(
    evidence: Evidence, log: Log, kind: str
) -> None:
    queue = getattr(mp, kind)()
    consumer = start(log, get_one, queue, 0)
    queue.put("last words")
    with pytest.raises(AssertionError):
        queue.join_thread()
    queue.close()
    queue.close()
    queue.join_thread()
    queue.join_thread()
    for refused in (lambda: queue.put(1), queue.get, queue.get_nowait):
        with pytest.raises(ValueError, match="is closed"):
            refused()
    assert consumer.join() == 0
    assert log.find("got", 0, "last words")


def test_closed_simple_queue_refuses(evidence: Evidence) -> None:
    queue = mp.SimpleQueue()
    queue.close()
    for refused in (lambda: queue.put(1), queue.get, queue.empty):
        with pytest.raises(OSError, match="closed"):
            refused()


def test_join_thread_waits_until_it_is_sent(evidence: Evidence) -> None:
    queue = mp.Queue()
    for number in range(1000):
        queue.put(number)
    queue.close()
    queue.join_thread()
    assert evidence.length(queue) == 1000


@pytest.mark.parametrize("cancels", [True, False])
def test_only_cancel_join_thread_lets_a_process_end_without_the_server(
    evidence: Evidence, log: Log, cancels: bool
) -> None:
    queue = mp.Queue()
    stopper = start(log, put_without_server, queue, evidence.server.pid, cancels)
    try:
        log.wait("put")
        if cancels:
            eventually(lambda: gone(stopper.pid), "its end")
        else:  # it says so itself, once it is sent
            assert not gone(stopper.pid)
    finally:
        os.kill(evidence.server.pid, signal.SIGCONT)
    assert stopper.join() == 0
    if not cancels:
        assert queue.get_nowait() == "perhaps"


def put_without_server(log: Log, queue: Any, server: int, cancels: bool) -> None:
    if cancels:
        queue.cancel_join_thread()
    os.kill(server, signal.SIGSTOP)
    queue.put("perhaps")
    log("put")


# -- nothing is left --


def test_nothing_is_left_of_queues(evidence: Evidence, log: Log) -> None:
    mp.Queue().put("the outbox exists")
    gc.collect()
    session.current().settle()
    before = evidence.object_keys()
    for make in (mp.Queue, lambda: mp.Queue(2), mp.JoinableQueue, mp.SimpleQueue):
        queue = make()
        queue.put(b"large" * messages.INLINE)
        queue.put("small")
        assert len(queue.get()) == 5 * messages.INLINE
        if hasattr(queue, "get_nowait"):
            assert queue.get_nowait() == "small"
            with pytest.raises(pyqueue.Empty):
                queue.get(timeout=0.01)
        else:
            queue.get()
        assert not [key for key in evidence.object_keys() if ":b:" in key]
        queue.put(b"unread" * messages.INLINE)
        consumer = start(log, get_one_quietly, queue)
        assert consumer.join() == 0
        assert not [key for key in evidence.object_keys() if ":b:" in key]
        queue.put(b"unread" * messages.INLINE)
        del queue, consumer
        gc.collect()
        session.current().settle()
        eventually(lambda: evidence.object_keys() == before, "no key more")


def get_one_quietly(log: Log, queue: Any) -> None:
    queue.get()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_queues_take_no_descriptor_and_no_thread(evidence: Evidence) -> None:
    first = mp.Queue()
    first.put(1)
    first.get()
    before = threading.active_count(), descriptors()
    many = [mp.Queue() for _ in range(50)]
    for number, queue in enumerate(many):
        queue.put(number)
    assert [queue.get() for queue in many] == list(range(50))
    # One each would be 50 more; a connection of an earlier test may come or go meanwhile.
    assert threading.active_count() < before[0] + 5
    assert descriptors() < before[1] + 5


# -- the end of a program --

WITHOUT_ITS_SERVER = """
import os, signal
import lithops_mp as mp
from lithops_mp._store.session import current

queue = mp.Queue()
info = current().client.plain("INFO", "server").decode()
queue.put(1)
assert queue.get() == 1
os.kill(int(info.partition("process_id:")[2].split()[0]), signal.SIGKILL)
queue.put(2)
"""


def test_what_cannot_be_sent_at_exit_is_said_in_a_line(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != URL_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ITS_SERVER],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0
    assert "1 message(s) could not be sent" in done.stderr
    assert "Traceback" not in done.stderr


# -- arrays --


def test_arrays_arrive_whole_and_can_be_written(evidence: Evidence) -> None:
    """Large ones travel beside their pickle, from the memory that they are in."""
    import numpy

    queue = mp.Queue()
    for size in 10, 100_000:
        sent = numpy.arange(size, dtype="f8").reshape(2, -1)
        queue.put([sent, {"a row": sent[1]}])
        sent[:] = 0  # what is changed afterwards is not seen
        got, rest = queue.get()
        assert got.tolist() == numpy.arange(size, dtype="f8").reshape(2, -1).tolist()
        assert rest["a row"].tolist() == got[1].tolist()
        assert got.flags.aligned
        got[0, 0] = 7.0


# -- imports --


def test_module_may_use_a_queue_while_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython's ``test_no_import_lock_contention``, with a module that imports us."""
    lines = "import lithops_mp as mp", "q = mp.Queue()", "q.put(3)", "got = q.get(timeout=30)"
    (tmp_path / "uses_a_queue_at_once.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("uses_a_queue_at_once").got == 3
    del sys.modules["uses_a_queue_at_once"]
