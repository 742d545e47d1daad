"""Connections that break: (where, at which request) -> nobody notices.

Between request and reply is where it matters: the server has done it, and the
client cannot know.
"""

from __future__ import annotations

import os
import signal
import threading

import pytest
from support.programs import Evidence, Log, gone, meanwhile, program, start, url_of
from support.proxy import Fault, Proxy, behind_proxy
from support.servers import Server, eventually

import lithops_mp as mp
from lithops_mp._store import processes, session

FAULTS = [Fault.REFUSE, Fault.LOSE, Fault.TEAR, Fault.ABANDON]
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=[f.name.lower() for f in FAULTS])


@pytest.fixture
def evidence(both: tuple[Server, Proxy]) -> Evidence:
    return Evidence(both[0])


def meet_faults(proxy: Proxy, count: int = 1) -> None:
    eventually(lambda: proxy.faults >= count, f"{count} faults")


# -- one operation, one fault --


@each_fault
def test_program_begins(proxy: Proxy, fault: Fault) -> None:
    proxy.once("INFO", fault)
    before = proxy.faults
    with program(url_of(proxy.settings), HEARTBEAT=0.3, LEASE=5.0):
        assert mp.Semaphore(3).get_value() == 3
    assert proxy.faults == before + 1


@each_fault
def test_acquire_takes_the_lock_once(evidence: Evidence, proxy: Proxy, fault: Fault) -> None:
    lock = mp.Lock()
    proxy.once("sem/acquire", fault)
    assert lock.acquire()
    assert evidence.state(lock)["value"] == "0"
    assert not lock.acquire(block=False)
    lock.release()
    assert evidence.state(lock)["value"] == "1"


@each_fault
def test_release_gives_one_unit_back(evidence: Evidence, proxy: Proxy, fault: Fault) -> None:
    semaphore = mp.Semaphore(1)
    semaphore.acquire()
    proxy.once("sem/release", fault)
    semaphore.release()
    assert semaphore.get_value() == 1
    lock = mp.Lock()
    lock.acquire()
    proxy.once("sem/release", fault)
    lock.release()  # a second one would raise
    with lock:
        pass


@each_fault
def test_release_that_is_repeated_takes_the_lock_from_nobody(
    evidence: Evidence, proxy: Proxy, fault: Fault, log: Log
) -> None:
    lock = mp.Lock()
    lock.acquire()
    waiter = start(log, acquire_and_hold, lock)
    evidence.wait_in_line(lock, waiter)
    proxy.once("sem/release", fault)
    lock.release()
    log.wait("holds")
    assert evidence.owner(lock) == waiter.uid
    waiter.process.kill()
    waiter.join()


def acquire_and_hold(log: Log, lock: mp.Lock) -> None:
    lock.acquire()
    log("holds")
    threading.Event().wait()


@each_fault
def test_wake_up_that_is_lost_only_takes_longer(
    evidence: Evidence, proxy: Proxy, fault: Fault
) -> None:
    lock = mp.Lock()
    lock.acquire()
    proxy.once("BLPOP m", fault)

    def release() -> None:
        eventually(lambda: evidence.line(lock), "a waiter")
        meet_faults(proxy, before + 1)
        lock.release()

    before = proxy.faults
    with meanwhile(release):
        assert lock.acquire()
    assert evidence.state(lock)["value"] == "0"
    lock.release()


@each_fault
def test_time_out_that_is_repeated_leaves_no_ticket(
    evidence: Evidence, proxy: Proxy, fault: Fault
) -> None:
    lock = mp.Lock()
    lock.acquire()
    proxy.once("sem/cancel", fault)
    assert not lock.acquire(timeout=0.05)
    assert evidence.line(lock) == []
    lock.release()
    with lock:
        pass


@each_fault
def test_condition_is_waited_for_and_notified_once(
    evidence: Evidence, proxy: Proxy, fault: Fault
) -> None:
    condition = mp.Condition()
    for name in ("cond/wait", "BLPOP m"):
        proxy.once(name, fault)

        def notify() -> None:
            eventually(lambda: evidence.line(condition), "a waiter")
            with condition:
                condition.notify()

        with condition, meanwhile(notify):
            assert condition.wait()


@each_fault
def test_notify_that_is_repeated_wakes_one(
    evidence: Evidence, proxy: Proxy, fault: Fault, log: Log
) -> None:
    condition = mp.Condition()
    children = []
    for n in (1, 2):
        children.append(start(log, wait_and_tell, condition))
        eventually(lambda n=n: len(evidence.line(condition)) == n, "waiters")
    proxy.once("cond/notify", fault)
    with condition:
        condition.notify()
        assert len(evidence.line(condition)) == 1
        condition.notify_all()
    assert [child.join() for child in children] == [0, 0]


def wait_and_tell(log: Log, condition: mp.Condition) -> None:
    with condition:
        log("woken", os.getpid(), condition.wait())


@each_fault
@pytest.mark.parametrize("name", ["event/look", "XREAD s", "event/set"])
def test_event_wakes(evidence: Evidence, proxy: Proxy, fault: Fault, name: str) -> None:
    event = mp.Event()
    before = proxy.count("XREAD s")

    def raise_flag() -> None:
        # To look at the flag is not to wait yet: that look's answer may be lost.
        eventually(lambda: proxy.count("XREAD s") > before, "a waiter")
        event.set()
        event.clear()

    proxy.once(name, fault)
    with meanwhile(raise_flag):
        assert event.wait()
    assert not event.is_set()


@each_fault
@pytest.mark.parametrize("name", ["barrier/arrive", "BLPOP m", "barrier/open"])
def test_barrier_lets_everyone_through_once(
    evidence: Evidence, proxy: Proxy, fault: Fault, name: str
) -> None:
    acted = []
    barrier = mp.Barrier(2, action=lambda: acted.append(1))
    places = []
    for _ in range(3):
        proxy.once(name, fault)
        with meanwhile(lambda: places.append(barrier.wait())):
            places.append(barrier.wait())
    assert sorted(places) == [0, 0, 0, 1, 1, 1]
    assert len(acted) == 3
    assert not barrier.broken


@each_fault
@pytest.mark.parametrize("name", ["object/create", "process/note", "object/ref"])
def test_objects_are_made_and_travel(
    evidence: Evidence, proxy: Proxy, fault: Fault, name: str, log: Log
) -> None:
    proxy.once(name, fault)
    lock = mp.Lock()
    child = start(log, acquire_once, lock)
    assert child.join() == 0


def acquire_once(log: Log, lock: mp.Lock) -> None:
    with lock:
        log("acquired")


# -- many --


def count_up(log: Log, lock: mp.Lock, path: str, times: int) -> None:
    for _ in range(times):
        with lock:
            with open(path) as file:
                value = int(file.read())
            with open(path, "w") as file:
                file.write(str(value + 1))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
def test_counter_under_a_lock_is_exact_however_many_replies_are_lost(
    proxy: Proxy, log: Log, kind: str, seed: int
) -> None:
    lock = getattr(mp, kind)()
    path = log.path + ".counter"
    with open(path, "w") as file:
        file.write("0")
    children = [start(log, count_up, lock, path, 100) for _ in range(3)]
    before = proxy.faults
    proxy.at_random(seed, 0.05)
    assert [child.join() for child in children] == [0, 0, 0]
    proxy.calm()
    with open(path) as file:
        assert int(file.read()) == 300
    assert proxy.faults > before
    assert lock.acquire(block=False)


def through_barriers(log: Log, barrier: mp.Barrier, times: int) -> None:
    log("places", [barrier.wait() for _ in range(times)])


def test_barrier_loses_nobody_however_many_replies_are_lost(proxy: Proxy, log: Log) -> None:
    barrier = mp.Barrier(3)
    children = [start(log, through_barriers, barrier, 30) for _ in range(3)]
    proxy.at_random(3, 0.1)
    assert [child.join() for child in children] == [0, 0, 0]
    rounds = zip(*(line[1] for line in log.lines() if line[0] == "places"), strict=True)
    assert all(sorted(places) == [0, 1, 2] for places in rounds)


def ping_pong(log: Log, condition: mp.Condition, path: str, mine: int, times: int) -> None:
    for turn in range(mine, times, 2):
        with condition:
            while os.path.getsize(path) != turn:
                condition.wait()
            with open(path, "a") as file:
                file.write(str(mine))
            condition.notify_all()


def test_condition_misses_no_notify_however_many_replies_are_lost(proxy: Proxy, log: Log) -> None:
    condition = mp.Condition()
    path = log.path + ".turns"
    open(path, "w").close()
    children = [start(log, ping_pong, condition, path, i, 60) for i in range(2)]
    proxy.at_random(4, 0.1)
    assert [child.join() for child in children] == [0, 0]
    with open(path) as file:
        assert file.read() == "01" * 30


# -- processes --


def write_lines(log: Log, count: int) -> None:
    for number in range(count):
        print(f"line {number}", flush=True)
    os._exit(7)


TALK = ["process/tell", "process/finish", "process/beat", "XREAD inbox", "XREAD control", "XTRIM"]


@pytest.mark.parametrize("seed", [5, 6])
def test_supervisor_loses_neither_output_nor_exit_code(
    proxy: Proxy, log: Log, capfd: pytest.CaptureFixture[str], seed: int
) -> None:
    proxy.at_random(seed, 0.2, *TALK)
    before = proxy.faults
    child = start(log, write_lines, 300)
    assert child.join() == 7
    assert proxy.faults > before
    written = capfd.readouterr().out
    assert written == "".join(f"line {number}\n" for number in range(300))


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.LOSE], ids=["refuse", "lose"])
@pytest.mark.parametrize(
    "name",
    [
        *("BLPOP idle", "process/place", "process/claim", "HGETALL", "process/offer"),
        *("SADD", "HSET", "PEXPIRE", "process/note", "object/ref", "process/register"),
        *("XREAD inbox", "process/tell", "process/finish", "SMEMBERS", "DEL"),
    ],
)
def test_process_is_started_and_joined(proxy: Proxy, log: Log, name: str, fault: Fault) -> None:
    lock = mp.Lock()
    assert start(log, acquire_once, lock).join() == 0  # there is an idle function now
    before = proxy.faults
    proxy.once(name, fault)
    assert start(log, acquire_once, lock).join() == 0
    meet_faults(proxy, before + 1)
    assert start(log, acquire_once, lock).join() == 0
    assert len([line for line in log.lines() if line[0] == "acquired"]) == 3


def test_orders_arrive_once_at_a_supervisor_that_is_cut_off(proxy: Proxy, log: Log) -> None:
    child = start(log, count_signals)
    log.wait("ready")
    client = session.current().client
    for number, fault in enumerate(FAULTS, start=1):
        before = proxy.faults
        proxy.once("XREAD control", fault)
        processes.order(client, child.uid, "signal", signal.SIGUSR1, 10_000)
        # The one that is blocked now answers without a fault.
        eventually(lambda n=number: len(signals(log)) == n, "the signal")
        processes.order(client, child.uid, "signal", signal.SIGUSR2, 10_000)
        meet_faults(proxy, before + 1)
    proxy.cut()
    child.process.terminate()
    assert child.join() == -signal.SIGTERM
    assert signals(log) == [signal.SIGUSR1] * 4
    assert gone(child.pid)


def count_signals(log: Log) -> None:
    signal.signal(signal.SIGUSR1, lambda number, frame: log("signal", number))
    signal.signal(signal.SIGUSR2, lambda number, frame: log("other", number))
    log("ready")
    while True:
        signal.pause()


def signals(log: Log) -> list[int]:
    return [line[1] for line in log.lines() if line[0] == "signal"]


def test_everything_cut_at_once_is_put_together_again(
    evidence: Evidence, proxy: Proxy, log: Log
) -> None:
    lock, event = mp.Lock(), mp.Event()
    lock.acquire()
    waiters = [start(log, acquire_once, lock) for _ in range(2)]
    sleeper = start(log, wait_for_event, event)
    evidence.wait_in_line(lock, *waiters)
    proxy.cut()
    lock.release()
    event.set()
    assert [child.join() for child in (*waiters, sleeper)] == [0, 0, 0]


def wait_for_event(log: Log, event: mp.Event) -> None:
    log("woken", event.wait())


def test_unix_sockets_break_as_well(log: Log) -> None:
    path = log.path + ".counter"
    with open(path, "w") as file:
        file.write("0")
    with behind_proxy(tcp=False) as (_, proxy):
        lock = mp.Lock()
        children = [start(log, count_up, lock, path, 50) for _ in range(2)]
        proxy.at_random(7, 0.1)
        assert [child.join() for child in children] == [0, 0]
        assert proxy.faults
        proxy.calm()
    with open(path) as file:
        assert int(file.read()) == 100
