"""Ctrl-C, and any other signal whose handler raises, in the middle of an operation."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import handlers
from support.programs import (
    Evidence,
    Log,
    address_of,
    ident_of,
    interrupt_main,
    meanwhile,
    start,
)
from support.servers import PATIENCE, eventually

import lithops_mp as mp
from lithops_mp._store import keys, session
from lithops_mp._store.wire import Wire

# -- while the server shows us blocked --


@contextlib.contextmanager
def interrupted_when(*evidence: Callable[[], object]) -> Iterator[None]:
    """The block is interrupted once all the evidence is there."""

    def interrupt() -> None:
        for each in evidence:
            eventually(each, "the moment to interrupt")
        interrupt_main()

    with pytest.raises(KeyboardInterrupt), meanwhile(interrupt):
        yield


@pytest.fixture
def blocked(evidence: Evidence) -> Callable[[], bool]:
    client = session.current().client
    # It changes: an interrupt breaks the connection.
    return lambda: evidence.is_blocked(address_of(client))


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_interrupted_acquire_leaves_the_line(
    evidence: Evidence, log: Log, blocked: Callable[[], bool], kind: str
) -> None:
    lock = getattr(mp, kind)()
    holder = start(log, hold_until, lock, go := mp.Event())
    log.wait("holds")
    with interrupted_when(lambda: evidence.line(lock), blocked):
        lock.acquire()
    assert evidence.line(lock) == []
    go.set()
    assert holder.join() == 0
    assert lock.acquire(block=False)
    lock.release()
    if kind == "RLock":
        with pytest.raises(AssertionError):
            lock.release()


def hold_until(log: Log, lock: mp.Lock, go: mp.Event) -> None:
    with lock:
        log("holds")
        go.wait()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
@pytest.mark.parametrize("contended", [False, True])
def test_interrupted_wait_holds_the_lock_again(
    evidence: Evidence, log: Log, blocked: Callable[[], bool], kind: str, contended: bool
) -> None:
    condition = mp.Condition(getattr(mp, kind)())
    go = mp.Event()

    def contend() -> bool:
        """Somebody else has the lock when we want it back."""
        if contended:
            child = start(log, hold_until, condition._lock, go)
            log.wait("holds")
            threading.Thread(target=let_go, args=(child,)).start()
        return True

    def let_go(child: object) -> None:
        eventually(lambda: evidence.line(condition._lock), "our ticket in line")
        go.set()

    with condition:
        with interrupted_when(lambda: evidence.line(condition), blocked, contend):
            condition.wait()
        assert evidence.line(condition) == []
        assert evidence.owner(condition._lock) == session.current().uid
        condition.notify()  # we hold it
    with condition:
        pass


def test_second_interrupt_while_the_lock_is_got_back_is_one_interrupt(
    evidence: Evidence, log: Log, blocked: Callable[[], bool]
) -> None:
    condition, go = mp.Condition(), mp.Event()

    def again() -> None:
        child = start(log, hold_until, condition._lock, go)
        log.wait("holds")

        def press() -> None:
            eventually(lambda: evidence.line(condition._lock), "our ticket in line")
            eventually(blocked, "a blocked client")
            interrupt_main()
            # The connection we were blocked on is broken by that.
            eventually(lambda: not blocked(), "an interrupt")
            go.set()
            child.join()

        threading.Thread(target=press).start()

    with condition:
        with interrupted_when(lambda: evidence.line(condition), blocked, lambda: again() or True):
            condition.wait()
        assert evidence.owner(condition._lock) == session.current().uid


def test_interrupted_party_breaks_the_barrier(
    evidence: Evidence, log: Log, blocked: Callable[[], bool]
) -> None:
    barrier = mp.Barrier(3)
    other = start(log, meet, barrier)
    eventually(lambda: barrier.n_waiting == 1, "a party")
    with interrupted_when(lambda: len(evidence.line(barrier)) == 2, blocked):
        barrier.wait()
    log.wait("broken")
    assert other.join() == 0
    assert barrier.broken
    assert evidence.line(barrier) == []


def meet(log: Log, barrier: mp.Barrier) -> None:
    try:
        barrier.wait()
    except threading.BrokenBarrierError:
        log("broken")


def test_interrupted_wait_for_an_event_changes_nothing(
    evidence: Evidence, log: Log, blocked: Callable[[], bool]
) -> None:
    event = mp.Event()
    with interrupted_when(blocked):
        event.wait()
    assert not event.is_set()
    event.set()
    assert event.wait()


def test_interrupt_while_joining_leaves_the_child_alone(evidence: Evidence, log: Log) -> None:
    child = start(log, pause)
    log.wait("paused")
    main = threading.main_thread().ident or 0
    with interrupted_when(lambda: sys._current_frames()[main].f_code.co_name == "select"):
        child.process.join()
    assert child.process.is_alive()
    child.process.terminate()
    assert child.join() == -signal.SIGTERM


def pause(log: Log) -> None:
    log("paused")
    signal.pause()


# -- at any single step --


class Interrupts:
    """Raises the signal right before the nth request is sent, or after its answer is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.after = False
        self.thread = threading.get_ident()
        send, receive = Wire.send, Wire.receive

        def interrupted_send(wire: Wire, packet: bytes) -> None:
            if not self.after:
                self._count()
            send(wire, packet)

        def interrupted_receive(wire: Wire, *, soon: bool = True) -> object:
            reply = receive(wire, soon=soon)
            if self.after:
                self._count()
            return reply

        monkeypatch.setattr(Wire, "send", interrupted_send)
        monkeypatch.setattr(Wire, "receive", interrupted_receive)

    def _count(self) -> None:
        if self.left and threading.get_ident() == self.thread:
            self.left -= 1
            if not self.left:
                signal.raise_signal(signal.SIGINT)

    def at(self, step: int, after: bool) -> None:
        self.left, self.after = step, after


@pytest.fixture
def interrupts(monkeypatch: pytest.MonkeyPatch) -> Interrupts:
    return Interrupts(monkeypatch)


steps = pytest.mark.parametrize("step", range(1, 6))
sides = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


def run_out(
    interrupts: Interrupts, evidence: Evidence, handle: object, operation: Callable[[], object]
) -> bool:
    """Run it; whether it was interrupted. One that would hang gets ObjectExpired."""
    state = keys.state(ident_of(handle).partition("/")[0])
    rescue = threading.Timer(PATIENCE, evidence.server.command, ("DEL", state))
    rescue.start()
    try:
        operation()
    except KeyboardInterrupt:
        return True
    finally:
        interrupts.left = 0
        rescue.cancel()
    return False


@steps
@sides
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
@pytest.mark.parametrize("timeout", [None, 0.05])
def test_acquire_interrupted_at_any_step_holds_nothing(
    evidence: Evidence, interrupts: Interrupts, kind: str, timeout: float, step: int, after: bool
) -> None:
    lock = getattr(mp, kind)()
    if timeout:
        lock.acquire()
        if kind == "RLock":  # contended means: held by another thread
            lock.release()
            thread = threading.Thread(target=lock.acquire)
            thread.start()
            thread.join()
    interrupts.at(step, after)
    result = []
    interrupted = run_out(
        interrupts, evidence, lock, lambda: result.append(lock.acquire(timeout=timeout))
    )
    assert interrupted or result == [timeout is None]
    assert evidence.line(lock) == []
    held = timeout is not None or not interrupted
    assert evidence.state(lock)["value"] == ("0" if held else "1")


@steps
@sides
def test_condition_wait_interrupted_at_any_step_holds_the_lock(
    evidence: Evidence, interrupts: Interrupts, step: int, after: bool
) -> None:
    condition = mp.Condition()
    with condition:
        interrupts.at(step, after)
        run_out(interrupts, evidence, condition, lambda: condition.wait(timeout=0.3))
        assert evidence.line(condition) == []
        assert evidence.line(condition._lock) == []
        assert evidence.owner(condition._lock) == session.current().uid
    assert evidence.state(condition._lock)["value"] == "1"


@steps
@sides
def test_barrier_interrupted_at_any_step_is_broken_or_untouched(
    evidence: Evidence, interrupts: Interrupts, step: int, after: bool
) -> None:
    barrier = mp.Barrier(2)
    interrupts.at(step, after)
    with contextlib.suppress(threading.BrokenBarrierError):
        run_out(interrupts, evidence, barrier, lambda: barrier.wait(timeout=0.3))
    assert evidence.line(barrier) == []


@steps
@sides
def test_what_follows_an_interrupt_gets_its_own_answers(
    evidence: Evidence, interrupts: Interrupts, step: int, after: bool
) -> None:
    event = mp.Event()
    interrupts.at(step, after)
    run_out(interrupts, evidence, event, lambda: event.wait(timeout=0.3))
    semaphore = mp.Semaphore(3)
    assert semaphore.get_value() == 3
    assert not event.is_set()


# -- wherever Python runs a handler --


def interrupt() -> None:
    raise KeyboardInterrupt


def everywhere(
    prepare: Callable[[], Any], operate: Callable[[Any], object], check: Callable[[Any, str], None]
) -> None:
    """Interrupt an operation at each place in turn, and look at what it left.

    ``check`` is told where that was; nowhere, in the end.
    """
    for place in handlers.everywhere():
        thing, handler = prepare(), handlers.Handler(place, interrupt)
        try:
            with handler.installed():
                operate(thing)
        except KeyboardInterrupt:
            assert handler.where
        else:
            assert not handler.where
        print(handler.where)
        check(thing, handler.where)
        if not handler.where:
            break
    assert place > 10


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
@pytest.mark.parametrize("line", ["free", "taken", "expected"])
def test_acquire_interrupted_anywhere_holds_nothing(
    evidence: Evidence, kind: str, line: str
) -> None:
    def prepare() -> Any:
        lock = getattr(mp, kind)()
        lock.helper = None
        if line != "free":
            lock.over, holds = threading.Event(), threading.Event()

            def hold() -> None:
                with lock:
                    holds.set()
                    while not evidence.line(lock) and not lock.over.wait(0.001):
                        pass

            lock.helper = threading.Thread(target=hold)
            lock.helper.start()
            holds.wait()
        if line == "expected":
            lock._semlock._line = 8
        return lock

    def check(lock: Any, interrupted: str) -> None:
        if lock.helper:
            lock.over.set()
            lock.helper.join()
        assert evidence.line(lock) == []
        assert evidence.state(lock)["value"] == ("1" if interrupted else "0")
        if not interrupted:
            lock.release()
        assert lock.acquire(block=False)
        lock.release()

    everywhere(prepare, lambda lock: lock.acquire(), check)


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
def test_release_interrupted_anywhere_is_carried_out_or_not_begun(
    evidence: Evidence, kind: str
) -> None:
    def prepare() -> Any:
        lock = getattr(mp, kind)()
        lock.acquire()
        return lock

    def check(lock: Any, interrupted: str) -> None:
        held = evidence.state(lock)["value"] == "0"
        assert interrupted or not held
        if kind != "Semaphore":
            assert bool(lock._semlock._depth) == held
        if held:
            lock.release()
        assert evidence.state(lock)["value"] == "1"

    everywhere(prepare, lambda lock: lock.release(), check)


@pytest.mark.parametrize("timeout", [None, 60])
def test_condition_wait_interrupted_anywhere_holds_the_lock(
    evidence: Evidence, timeout: float | None
) -> None:
    def prepare() -> Any:
        condition: Any = mp.Condition()
        condition.acquire()
        condition.over = threading.Event()

        def notify() -> None:
            while not evidence.line(condition) and not condition.over.wait(0.001):
                pass
            if not condition.over.is_set():
                with condition:
                    condition.notify()

        condition.helper = threading.Thread(target=notify)
        condition.helper.start()
        return condition

    def check(condition: Any, interrupted: str) -> None:
        condition.over.set()
        assert evidence.line(condition) == []
        assert evidence.owner(condition._lock) == session.current().uid
        condition.release()
        condition.helper.join()
        assert evidence.state(condition._lock)["value"] == "1"
        assert evidence.line(condition._lock) == []

    everywhere(prepare, lambda condition: condition.wait(timeout), check)


@pytest.mark.parametrize("action", [None, int])
@pytest.mark.parametrize("last", [False, True])
def test_barrier_interrupted_anywhere_keeps_nobody(
    evidence: Evidence, action: Callable[[], object] | None, last: bool
) -> None:
    def prepare() -> Any:
        barrier: Any = mp.Barrier(2, action)
        barrier.over, barrier.said = threading.Event(), []

        def meet() -> None:
            while not last and not evidence.line(barrier) and not barrier.over.wait(0.001):
                pass
            try:
                barrier.said.append(barrier.wait())
            except threading.BrokenBarrierError:
                barrier.said.append("broken")

        barrier.helper = threading.Thread(target=meet)
        barrier.helper.start()
        if last:
            eventually(lambda: evidence.line(barrier), "the other one")
        return barrier

    def check(barrier: Any, interrupted: str) -> None:
        barrier.over.set()
        # Either we had come, and the other one knows how that ended; or it waits for us.
        eventually(lambda: barrier.said or evidence.line(barrier), "an end, or a place in line")
        if interrupted and evidence.line(barrier):
            assert barrier.wait() == 1
        barrier.helper.join()
        assert interrupted or barrier.said == [0 if last else 1]
        assert evidence.line(barrier) == []
        assert evidence.state(barrier)["phase"] != "action"

    everywhere(prepare, lambda barrier: barrier.wait(), check)


@pytest.mark.parametrize("kind", ["Queue", "bounded", "JoinableQueue", "SimpleQueue", "Pipe"])
def test_get_interrupted_anywhere_loses_nothing_that_was_not_being_unpickled(
    evidence: Evidence, kind: str
) -> None:
    def prepare() -> Any:
        put, get = ends(kind)
        put(1)
        put(2)
        return get

    def check(get: Callable[[], int], interrupted: str) -> None:
        opening = interrupted.partition(":")[0] in ("get", "recv", "unpack", "loads")
        first = get()
        assert first == 2 if not interrupted else first == 1 or opening
        if first == 1:
            assert get() == 2

    everywhere(prepare, lambda get: get(), check)


@pytest.mark.parametrize("kind", ["Queue", "bounded", "JoinableQueue", "SimpleQueue", "Pipe"])
def test_put_interrupted_anywhere_is_carried_out_once_or_not_at_all(
    evidence: Evidence, kind: str
) -> None:
    def check(both: Any, interrupted: str) -> None:
        put, get = both
        put(2)
        first = get()
        assert first == 1 or interrupted
        if first == 1:
            assert get() == 2

    everywhere(lambda: ends(kind), lambda both: both[0](1), check)


def ends(kind: str) -> tuple[Callable[[int], object], Callable[[], int]]:
    """How to put something in, and how to get it out."""
    if kind == "Pipe":
        reader, writer = mp.Pipe(duplex=False)
        return writer.send, reader.recv
    queue: Any = mp.Queue(5) if kind == "bounded" else getattr(mp, kind)()
    return queue.put, queue.get


# -- whatever it is that the handler raises --


def _held(lock: Any) -> Any:
    with meanwhile(lock.acquire):
        pass
    return lock


def _full() -> Any:
    queue = mp.Queue(1)
    queue.put(1)
    return queue


def _condition() -> Any:
    condition = mp.Condition()
    condition.acquire()
    return condition


WAITS: dict[str, tuple[Callable[[], Any], Callable[[Any], object], Callable[[Any], object]]] = {
    "lock": (lambda: _held(mp.Lock()), lambda lock: lock.acquire(), lambda lock: lock.release()),
    "timed": (
        lambda: _held(mp.Lock()),
        lambda lock: lock.acquire(timeout=60),
        lambda lock: lock.release(),
    ),
    "condition": (
        _condition,
        lambda condition: condition.wait(),
        lambda condition: condition.release(),
    ),
    "event": (mp.Event, lambda event: event.wait(), lambda event: event.set()),
    "barrier": (lambda: mp.Barrier(2), lambda barrier: barrier.wait(), lambda barrier: None),
    "get": (mp.Queue, lambda queue: queue.get(), lambda queue: queue.put(1) or queue.get()),
    "put": (_full, lambda queue: queue.put(2), lambda queue: queue.get()),
    "recv": (mp.Pipe, lambda ends: ends[0].recv(), lambda ends: ends[1].send(1) or ends[0].recv()),
    "poll": (mp.Pipe, lambda ends: ends[0].poll(None), lambda ends: None),
}

RAISED = (TimeoutError, mp.TimeoutError, EOFError, ConnectionResetError, BlockingIOError)


@pytest.mark.parametrize("raised", [*RAISED, AttributeError, ValueError, AssertionError])
@pytest.mark.parametrize("name", WAITS)
def test_what_a_handler_raises_comes_out_of_a_wait(
    blocked: Callable[[], bool], name: str, raised: type[Exception]
) -> None:
    """It is not taken for what a socket or a server says."""

    def handle(*_: object) -> None:
        raise raised("of the handler")

    make, wait, use = WAITS[name]
    thing = make()
    before = signal.signal(signal.SIGUSR1, handle)
    try:

        def press() -> None:
            eventually(blocked, "a wait")
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        with pytest.raises(raised, match="of the handler") as caught, meanwhile(press):
            wait(thing)
        assert caught.type is raised
    finally:
        signal.signal(signal.SIGUSR1, before)
    use(thing)
