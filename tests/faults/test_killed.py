"""SIGKILL: (moment of death, victim) -> outcome.

The victims are real processes; whoever is left is this process or another one.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from pathlib import Path

import pytest
from support.programs import (
    Evidence,
    Log,
    address_of,
    gone,
    interrupt_main,
    meanwhile,
    start,
)
from support.servers import PATIENCE, eventually

import lithops_mp as mp
from lithops_mp import config, functions, listening
from lithops_mp._store import keys, session
from lithops_mp.errors import OwnerDied, OwnerDiedWarning

KINDS = ["Lock", "RLock"]


# -- what children do --


def hold(log: Log, lock: mp.Lock) -> None:
    lock.acquire()
    log("holds")
    signal.pause()


def line_up(log: Log, lock: mp.Lock) -> None:
    """Acquire, say what that was like, and release."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lock.acquire()
    log("acquired", os.getpid(), [str(w.message) for w in caught])
    lock.release()


def line_up_or_fail(log: Log, lock: mp.Lock) -> None:
    try:
        lock.acquire()
    except OwnerDied as error:
        log("failed", os.getpid(), str(error))


def wait_for_notify(log: Log, condition: mp.Condition) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with condition:
            result = condition.wait()
    log("notified", os.getpid(), result, [str(w.message) for w in caught])


def wait_for_event(log: Log, event: mp.Event) -> None:
    log("woken", os.getpid(), event.wait())


def meet(log: Log, barrier: mp.Barrier) -> None:
    try:
        log("met", os.getpid(), barrier.wait())
    except threading.BrokenBarrierError:
        log("broken", os.getpid())


class Stall:
    """The action of a barrier that never ends."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def __call__(self) -> None:
        self.log("acts", os.getpid())
        signal.pause()


def new(kind: str, policy: str = "warn") -> mp.Lock:
    config.set_parameter(config.DEAD_OWNER, policy)
    try:
        return getattr(mp, kind)()
    finally:
        config.set_parameter(config.DEAD_OWNER, "warn")


# -- a holder --


@pytest.mark.parametrize("kind", KINDS)
def test_lock_of_a_killed_holder_goes_to_the_next_in_line_who_is_warned(
    evidence: Evidence, log: Log, kind: str
) -> None:
    lock = new(kind)
    holder = start(log, hold, lock)
    log.wait("holds")
    first, second = start(log, line_up, lock), start(log, line_up, lock)
    evidence.wait_in_line(lock, first, second)
    holder.kill()
    *_, [warning] = log.wait("acquired", first.pid)
    assert "died inside its critical section" in warning
    assert "killed by SIGKILL" in warning
    assert log.wait("acquired", second.pid)[2] == []
    assert holder.join() == -signal.SIGKILL
    assert [first.join(), second.join()] == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_lock_of_a_killed_holder_is_free_for_whoever_comes_later(
    evidence: Evidence, log: Log, kind: str
) -> None:
    lock = new(kind)
    holder = start(log, hold, lock)
    log.wait("holds")
    holder.kill()
    assert holder.join() == -signal.SIGKILL
    with pytest.warns(OwnerDiedWarning, match=holder.process.name):
        lock.acquire()
    lock.release()
    with lock:  # told once
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_policy_raise_gives_the_waiter_an_error_and_the_lock_to_the_next(
    evidence: Evidence, log: Log, kind: str
) -> None:
    lock = new(kind, "raise")
    holder = start(log, hold, lock)
    log.wait("holds")
    first, second = start(log, line_up_or_fail, lock), start(log, line_up, lock)
    evidence.wait_in_line(lock, first, second)
    holder.kill()
    assert "killed by SIGKILL" in log.wait("failed", first.pid)[2]
    assert log.wait("acquired", second.pid)[2] == []


def test_policy_raise_holds_for_whoever_comes_later(evidence: Evidence, log: Log) -> None:
    lock = new("Lock", "raise")
    holder = start(log, hold, lock)
    log.wait("holds")
    holder.kill()
    holder.join()
    with pytest.raises(OwnerDied, match="killed by SIGKILL"):
        lock.acquire()
    with lock:
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_policy_raise_in_a_condition_is_not_masked_by_the_release(
    evidence: Evidence, log: Log, kind: str
) -> None:
    lock = new(kind, "raise")
    condition = mp.Condition(lock)

    def die_holding() -> None:
        eventually(lambda: evidence.line(condition), "a waiter")
        holder = start(log, notify_and_hold, condition)
        log.wait("holds")
        evidence.wait_in_line(lock, session.current().uid)
        holder.kill()

    with pytest.raises(OwnerDied, match="killed by SIGKILL"), meanwhile(die_holding), condition:
        condition.wait()
    with condition:  # free, and told once
        pass


def test_policy_raise_does_not_swallow_an_interrupt(evidence: Evidence, log: Log) -> None:
    condition = mp.Condition(new("Lock", "raise"))
    client = session.current().client

    def interrupt_and_die() -> None:
        eventually(lambda: evidence.line(condition), "a waiter")
        holder = start(log, notify_and_hold, condition)
        log.wait("holds")
        evidence.wait_in_line(condition._lock, session.current().uid)
        before = address_of(client)
        evidence.wait_blocked(before)  # not at the ear, which is another connection
        interrupt_main()
        eventually(
            lambda: address_of(client) != before and evidence.is_blocked(address_of(client)),
            "that it waits for the lock all the same",
        )
        holder.kill()

    with pytest.raises(KeyboardInterrupt) as caught, meanwhile(interrupt_and_die), condition:
        condition.wait()
    assert isinstance(caught.value.__context__, OwnerDied)
    with condition:  # free, and told once
        pass


def notify_and_hold(log: Log, condition: mp.Condition) -> None:
    condition.acquire()
    condition.notify()
    log("holds")
    signal.pause()


@pytest.mark.parametrize("kind", KINDS)
def test_policy_keep_leaves_the_lock_held_for_ever(evidence: Evidence, log: Log, kind: str) -> None:
    lock = new(kind, "keep")
    holder = start(log, hold, lock)
    log.wait("holds")
    waiter = start(log, line_up, lock, daemon=True)
    evidence.wait_in_line(lock, waiter)
    holder.kill()
    holder.join()
    assert not lock.acquire(timeout=1)
    assert evidence.line(lock) == [waiter.uid]
    if kind == "Lock":  # anyone may release it, as in CPython
        lock.release()
        assert log.wait("acquired", waiter.pid)[2] == []
    waiter.process.kill()
    waiter.join()


def test_a_normal_exit_releases_nothing(evidence: Evidence, log: Log) -> None:
    lock = mp.Lock()
    process = mp.Process(target=lock.acquire)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert not lock.acquire(timeout=1)
    lock.release()
    with lock:
        pass


# -- a waiter --


@pytest.mark.parametrize("kind", KINDS)
def test_killed_waiter_loses_its_place_and_the_next_one_gets_the_lock(
    evidence: Evidence, log: Log, kind: str
) -> None:
    lock = new(kind)
    lock.acquire()
    victim, other = start(log, line_up, lock), start(log, line_up, lock)
    evidence.wait_in_line(lock, victim, other)
    victim.kill()
    evidence.wait_in_line(lock, other)
    lock.release()
    assert log.wait("acquired", other.pid)[2] == []
    assert victim.join() == -signal.SIGKILL


@pytest.mark.parametrize("kind", KINDS)
def test_lock_handed_to_a_waiter_that_dies_before_it_knows_goes_on(
    evidence: Evidence, log: Log, kind: str
) -> None:
    lock = new(kind)
    lock.acquire()
    victim, other = start(log, line_up, lock), start(log, line_up, lock)
    evidence.wait_in_line(lock, victim, other)
    victim.freeze()
    lock.release()
    assert evidence.owner(lock) == victim.uid
    victim.kill()
    log.wait("acquired", other.pid)


def test_unit_of_a_semaphore_is_not_lost_with_a_waiter(evidence: Evidence, log: Log) -> None:
    semaphore = mp.Semaphore(0)
    victim = start(log, line_up, semaphore)
    evidence.wait_in_line(semaphore, victim)
    victim.kill()
    evidence.wait_in_line(semaphore)
    semaphore.release()
    assert semaphore.get_value() == 1


@pytest.mark.parametrize("others", [0, 1])
def test_unit_handed_to_a_waiter_that_dies_before_it_knows_is_not_lost(
    evidence: Evidence, log: Log, others: int
) -> None:
    semaphore = mp.BoundedSemaphore(1)
    semaphore.acquire()
    victim = start(log, line_up, semaphore)
    rest = [start(log, line_up, semaphore) for _ in range(others)]
    evidence.wait_in_line(semaphore, victim, *rest)
    victim.freeze()
    semaphore.release()
    assert evidence.line(semaphore) == [child.uid for child in rest]
    victim.kill()
    for child in rest:
        log.wait("acquired", child.pid)
    eventually(lambda: semaphore.get_value() == 1, "the unit")


def test_killed_waiter_of_a_condition_leaves_the_notify_to_the_next(
    evidence: Evidence, log: Log
) -> None:
    condition = mp.Condition()
    victim, other = start(log, wait_for_notify, condition), start(log, wait_for_notify, condition)
    eventually(lambda: set(evidence.line(condition)) == {victim.uid, other.uid}, "both waiting")
    victim.kill()
    evidence.wait_in_line(condition, other)
    with condition:
        condition.notify()
    assert log.wait("notified", other.pid)[2:] == [True, []]


@pytest.mark.parametrize("holds", [False, True])
def test_notify_meant_for_a_waiter_that_dies_passes_to_the_next(
    evidence: Evidence, log: Log, holds: bool
) -> None:
    condition = mp.Condition()
    victim = start(log, wait_for_notify, condition)
    evidence.wait_in_line(condition, victim)
    other = start(log, wait_for_notify, condition)
    evidence.wait_in_line(condition, victim, other)
    victim.freeze()
    with condition:
        condition.notify()
        if not holds:  # it dies in line for the lock, not holding it
            victim.kill()
            assert victim.join() == -signal.SIGKILL
    if holds:
        assert evidence.owner(condition._lock) == victim.uid
        victim.kill()
    result, said = log.wait("notified", other.pid)[2:]
    assert result is True
    assert len(said) == holds  # the lock's holder died, so its next one is warned


def test_killed_waiter_of_an_event_changes_nothing(evidence: Evidence, log: Log) -> None:
    event = mp.Event()
    victim, other = start(log, wait_for_event, event), start(log, wait_for_event, event)
    evidence.wait_blocked(victim.address, other.address)
    victim.kill()
    victim.join()
    assert not event.is_set()
    event.set()
    assert log.wait("woken", other.pid)[2] is True


def test_killed_party_breaks_the_barrier_for_everyone(evidence: Evidence, log: Log) -> None:
    barrier = mp.Barrier(3)
    victim, other = start(log, meet, barrier), start(log, meet, barrier)
    eventually(lambda: barrier.n_waiting == 2, "two parties")
    victim.kill()
    log.wait("broken", other.pid)
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken


def test_killed_runner_of_the_action_breaks_the_barrier(evidence: Evidence, log: Log) -> None:
    barrier = mp.Barrier(2, action=Stall(log))
    children = {child.pid: child for child in (start(log, meet, barrier) for _ in range(2))}
    actor = children.pop(log.wait("acts")[1])
    [other] = children.values()
    actor.kill()
    log.wait("broken", other.pid)
    assert barrier.broken


# -- a function --


@pytest.mark.parametrize("group", [False, True], ids=["supervisor", "process group"])
def test_target_dies_with_its_function_and_its_lock_is_recovered(
    evidence: Evidence, log: Log, group: bool
) -> None:
    lock = mp.Lock()
    holder = start(log, hold, lock)
    log.wait("holds")
    waiter = start(log, line_up, lock)
    evidence.wait_in_line(lock, waiter)
    if group:
        os.killpg(os.getpgid(holder.supervisor), signal.SIGKILL)
    else:
        os.kill(holder.supervisor, signal.SIGKILL)
    eventually(lambda: gone(holder.pid, holder.supervisor), "the target's end")
    assert len(log.wait("acquired", waiter.pid)[2]) == 1
    assert holder.join() == -signal.SIGKILL
    assert waiter.join() == 0


def test_process_whose_record_is_lost_is_stopped_and_its_parent_told_why(
    evidence: Evidence, log: Log, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its supervisor finds out before its parent does, which asks more seldom.
    monkeypatch.setattr(listening, "SAFETY", 10.0)
    child = start(log, hold, mp.Lock())
    evidence.server.command("DEL", keys.process(child.uid))
    assert child.join() == -signal.SIGKILL
    assert f"{child.process.name} is lost: its record is gone" in capfd.readouterr().err


def test_function_killed_between_processes_is_replaced(evidence: Evidence, log: Log) -> None:
    first = start(log, line_up, mp.Lock())
    assert first.join() == 0
    os.kill(first.supervisor, signal.SIGKILL)
    second = start(log, line_up, mp.Lock())
    assert second.join() == 0


FAILS_ONCE = """#!/bin/sh
case "$*" in *run_job*) if mkdir "{marker}" 2>/dev/null; then exit 1; fi;; esac
exec {python} "$@"
"""


def test_function_that_dies_before_it_claims_its_process_is_replaced(
    evidence: Evidence, log: Log, tmp_path: Path
) -> None:
    # As it happens when another program replaces the copy of Lithops that it imports.
    marker, runtime = tmp_path / "failed", tmp_path / "python"
    runtime.write_text(FAILS_ONCE.format(marker=marker, python=functions.interpreter()))
    runtime.chmod(0o755)
    config.set_parameter(config.LITHOPS_CONFIG, {"localhost": {"runtime": str(runtime)}})
    try:
        process = mp.Process(target=line_up, args=(log, mp.Lock()))
        process.start()
        process.join(PATIENCE)
        assert marker.exists()
        assert process.exitcode == 0
    finally:
        config.set_parameter(config.LITHOPS_CONFIG, {})
        process.kill()


# -- a middle process --


def middle(log: Log, daemon: bool) -> None:
    child = start(log, grandchild, daemon=daemon)
    log("grandchild", child.uid, child.pid, child.supervisor)
    signal.pause()


def grandchild(log: Log) -> None:
    parent = mp.parent_process()
    parent.join()
    log("parent is gone", parent.is_alive())
    if mp.current_process().daemon:
        signal.pause()
    print("grandchild ends", flush=True)


@pytest.mark.parametrize("daemon", [True, False])
def test_grandchild_learns_of_the_death_of_its_parent(
    evidence: Evidence, log: Log, daemon: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    parent = start(log, middle, daemon)
    _, uid, pid, _ = log.wait("grandchild")
    parent.kill()
    assert parent.join() == -signal.SIGKILL
    eventually(lambda: gone(pid), "the grandchild's end")
    eventually(
        lambda: not [key for key in evidence.all_keys() if uid in key], "no key of the grandchild"
    )
    if not daemon:  # a daemonic one is stopped, and may not come to say so
        assert log.wait("parent is gone")[1] is False
        # Its last words are in our inbox, and the end of a later process is behind them.
        assert start(log, line_up, mp.Lock()).join() == 0
        assert "grandchild ends\n" in capfd.readouterr().out
