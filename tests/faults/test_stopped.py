"""SIGSTOP and SIGCONT: a process that stands still for longer than its lease.

Its locks go to others meanwhile. It is not dead: it may come back, and then it
is told what it has lost. (A whole function that stands still cannot be told from
a dead one, and is given up.)
"""

from __future__ import annotations

import os
import signal
import threading

import pytest
from support.programs import Evidence, Log, running_program, start, state_of, url_of
from support.servers import eventually

import lithops_mp as mp
from lithops_mp._store import processes, session
from lithops_mp.errors import LockLost, OwnerDiedWarning

from .frozen import frozen_holder, frozen_waiter, take_over


def hold_and_release(log: Log, lock: mp.Lock, go: mp.Event) -> None:
    lock.acquire()
    log("holds")
    go.wait()
    try:
        lock.release()
    except LockLost as error:
        log("lost", str(error))
    with lock:  # and it may take part as before
        log("acquired again")


def hold_and_use(log: Log, condition: mp.Condition, go: mp.Event, method: str) -> None:
    condition.acquire()
    log("holds")
    go.wait()
    try:
        getattr(condition, method)()
    except LockLost:
        log("lost")
    with condition:
        log("acquired again")


def fail_and_release(log: Log, condition: mp.Condition, go: mp.Event, method: str) -> None:
    """As hold_and_use, but as a with statement has it: whatever happens, release."""
    condition.acquire()
    log("holds")
    go.wait()
    try:
        try:
            getattr(condition, method)()
        finally:
            condition.release()
    except (LockLost, AssertionError) as error:
        log("failed", type(error).__name__)


def release_elsewhere(log: Log, lock: mp.Lock, go: mp.Event) -> None:
    """As hold_and_release, but the release comes from another thread."""
    lock.acquire()
    log("holds")
    go.wait()

    def release() -> None:
        try:
            lock.release()
        except LockLost:
            log("lost")

    thread = threading.Thread(target=release)
    thread.start()
    thread.join()


def line_up(log: Log, lock: mp.Lock) -> None:
    lock.acquire()
    log("acquired", os.getpid())
    lock.release()


def take_part(log: Log, condition: mp.Condition) -> None:
    with condition:
        log("notified", condition.wait())


def meet(log: Log, barrier: mp.Barrier) -> None:
    try:
        log("met", barrier.wait())
    except threading.BrokenBarrierError:
        log("broken")


def wait_for_event(log: Log, event: mp.Event) -> None:
    log("woken", event.wait())


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_frozen_holder_loses_the_lock_and_is_told_so(
    evidence: Evidence, log: Log, kind: str
) -> None:
    lock, go = getattr(mp, kind)(), mp.Event()
    holder = frozen_holder(evidence, log, hold_and_release, lock, go)
    take_over(lock)
    go.set()
    holder.thaw()
    log.wait("lost")
    evidence.wait_in_line(lock, holder)  # its release has not taken ours away
    lock.release()
    log.wait("acquired again")
    assert holder.join() == 0


@pytest.mark.parametrize("method", ["wait", "notify", "notify_all"])
def test_frozen_holder_of_a_condition_is_told_so(evidence: Evidence, log: Log, method: str) -> None:
    condition, go = mp.Condition(), mp.Event()
    holder = frozen_holder(evidence, log, hold_and_use, condition, go, method)
    take_over(condition)
    go.set()
    holder.thaw()
    log.wait("lost")
    condition.release()
    log.wait("acquired again")
    assert holder.join() == 0


@pytest.mark.parametrize("method", ["wait", "notify"])
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_release_after_a_failed_wait_or_notify_takes_nobodys_lock(
    evidence: Evidence, log: Log, kind: str, method: str
) -> None:
    condition, go = mp.Condition(getattr(mp, kind)()), mp.Event()
    holder = frozen_holder(evidence, log, fail_and_release, condition, go, method)
    take_over(condition)
    go.set()
    holder.thaw()
    assert holder.join() == 0
    assert log.find("failed")
    assert evidence.owner(condition._lock) == session.current().uid
    condition.release()


def test_frozen_holder_is_told_so_in_whichever_thread_releases(
    evidence: Evidence, log: Log
) -> None:
    lock, go = mp.Lock(), mp.Event()
    holder = frozen_holder(evidence, log, release_elsewhere, lock, go)
    take_over(lock)
    go.set()
    holder.thaw()
    assert holder.join() == 0
    assert log.find("lost")
    assert not lock.acquire(block=False), "the release took our lock away"
    lock.release()


def test_lock_that_nobody_wanted_meanwhile_is_still_ours(evidence: Evidence, log: Log) -> None:
    lock, go = mp.Lock(), mp.Event()
    holder = frozen_holder(evidence, log, hold_and_release, lock, go)
    _wait_for_lapse(evidence, holder.uid)
    go.set()
    holder.thaw()
    log.wait("acquired again")
    assert not log.find("lost")
    assert holder.join() == 0


def test_frozen_waiter_gets_its_turn_when_it_is_back(evidence: Evidence, log: Log) -> None:
    lock = mp.Lock()
    lock.acquire()
    waiter = frozen_waiter(evidence, log, line_up, lock)
    _wait_for_lapse(evidence, waiter.uid)
    lock.release()
    # It was next, but stands still: whoever wants the lock gets it.
    with pytest.warns(OwnerDiedWarning):
        lock.acquire()
    waiter.thaw()
    evidence.wait_in_line(lock, waiter)
    lock.release()
    log.wait("acquired", waiter.pid)
    assert waiter.join() == 0


def test_frozen_waiter_that_nobody_overtakes_has_its_turn(evidence: Evidence, log: Log) -> None:
    lock = mp.Lock()
    lock.acquire()
    waiter = frozen_waiter(evidence, log, line_up, lock)
    lock.release()
    _wait_for_lapse(evidence, waiter.uid)
    waiter.thaw()
    log.wait("acquired", waiter.pid)
    assert waiter.join() == 0


def test_frozen_waiter_of_a_semaphore_keeps_its_unit(evidence: Evidence, log: Log) -> None:
    semaphore = mp.Semaphore(0)
    waiter = frozen_waiter(evidence, log, line_up, semaphore)
    semaphore.release()
    _wait_for_lapse(evidence, waiter.uid)
    assert not semaphore.acquire(block=False)
    waiter.thaw()
    log.wait("acquired", waiter.pid)
    assert semaphore.acquire()
    assert waiter.join() == 0


def test_frozen_waiter_of_a_condition_misses_no_notify(evidence: Evidence, log: Log) -> None:
    condition = mp.Condition()
    waiter = frozen_waiter(evidence, log, take_part, condition)
    with condition:
        condition.notify()
    _wait_for_lapse(evidence, waiter.uid)
    with pytest.warns(OwnerDiedWarning):  # it stood still with the lock
        condition.acquire()
    waiter.thaw()
    condition.release()
    assert log.wait("notified")[1] is True
    assert waiter.join() == 0


def test_frozen_waiter_of_an_event_is_woken_when_it_is_back(evidence: Evidence, log: Log) -> None:
    event = mp.Event()
    waiter = start(log, wait_for_event, event)
    evidence.wait_blocked(waiter.address)
    waiter.freeze()
    event.set()
    event.clear()
    _wait_for_lapse(evidence, waiter.uid)
    waiter.thaw()
    assert log.wait("woken")[1] is True
    assert waiter.join() == 0


def test_frozen_party_breaks_the_barrier_once_its_lease_is_over(
    evidence: Evidence, log: Log
) -> None:
    barrier = mp.Barrier(3)
    party = start(log, meet, barrier)
    eventually(lambda: barrier.n_waiting == 1, "a party")
    party.freeze()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    party.thaw()
    log.wait("broken")
    assert party.join() == 0


def test_frozen_child_is_alive_for_its_parent(evidence: Evidence, log: Log) -> None:
    lock = mp.Lock()
    lock.acquire()
    child = frozen_waiter(evidence, log, line_up, lock)
    _wait_for_lapse(evidence, child.uid)
    assert child.process.is_alive()
    lock.release()
    child.thaw()
    assert child.join() == 0


def test_frozen_function_is_given_up_and_its_target_stopped_when_it_is_back(
    evidence: Evidence, log: Log
) -> None:
    lock = mp.Lock()
    lock.acquire()
    child = frozen_waiter(evidence, log, line_up, lock)
    os.kill(child.supervisor, signal.SIGSTOP)
    assert child.join() == -signal.SIGKILL
    os.kill(child.supervisor, signal.SIGCONT)
    child.thaw()
    eventually(lambda: state_of(child.pid) in ("", "Z"), "the target's end")
    lock.release()
    assert not log.find("acquired")


def _wait_for_lapse(evidence: Evidence, uid: str) -> None:
    """Until a process counts as dead by the server's clock."""
    client = session.current().client
    found = eventually(
        lambda: (s := processes.status(client, uid)).word in ("FROZEN", "LAPSED") and s,
        "a lapsed lease",
    )
    assert found.word == "FROZEN"


def test_frozen_main_program_loses_its_lock_but_neither_children_nor_output(
    evidence: Evidence,
) -> None:
    url = url_of(evidence.server.settings)
    with running_program("frozen", url=url, HEARTBEAT=0.3, LEASE=2.0) as program:
        assert program.hear() == ["holds"]
        os.kill(program.pid, signal.SIGSTOP)
        # Its child takes the lock, and says so to a stopped parent.
        eventually(lambda: evidence.server.command("GET", "test:child"), "the child's turn")
        os.kill(program.pid, signal.SIGCONT)
        program.tell("release")
        # In which order its thread and its listener speak is open.
        said = [program.hear(), program.hear()]
        assert ["lost"] in said
        assert "said by the child" in said
        program.tell("join")
        assert program.hear() == ["exit", 0]
        assert program.end() == 0
        program.wait_nothing_left()
    evidence.server.command("DEL", "test:child")
