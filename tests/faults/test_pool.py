"""Pools when a worker dies or stands still, a connection breaks, the server is gone.

Each task's result comes once, whatever happens: what a worker had begun runs again, once,
and what it had not is not counted.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.programs import Evidence, Log, program, state_of, url_of
from support.proxy import Fault, Proxy, proxied
from support.servers import PATIENCE, Server, alive, eventually, running

import lithops_mp as mp
from lithops_mp import config, messages, workplace
from lithops_mp._store import client as client_module
from lithops_mp._store import keys
from lithops_mp.errors import ObjectExpired, ServerUnavailable, WorkerLost

from .test_cut import each_fault
from .test_server import restart

pytestmark = pytest.mark.usefixtures("own_config")


@contextlib.contextmanager
def ended(pool: Any) -> Iterator[Any]:
    """A pool whose workers are all gone at the end."""
    with pool:
        yield pool
        pids = [worker.pid for worker in pool._pool if worker._begun]
    pool.join()
    assert not any(map(alive, pids))


def hands(evidence: Evidence, pool: Any) -> dict[str, str]:
    """What the state says of each worker."""
    key = keys.state(pool._inqueue.shop.ref.ident)
    flat = evidence.server.command("HGETALL", key)
    found = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
    return {name[2:]: chr(value[12]) for name, value in found.items() if name[:2] == "t:"}


# -- what tasks do --


def square(number: int) -> int:
    return number * number


def where(_: object = None) -> tuple[int, int]:
    return os.getpid(), os.getppid()


def stop_first(log: Log, when: str) -> None:
    """Stand still, if this is the first time; say so."""
    log(when, os.getpid(), os.getppid())
    if len([line for line in log.lines() if line[0] == when]) == 1:
        signal.pause()


def stopping(log: Log, number: int) -> int:
    stop_first(log, "runs")
    return number * number


class Loading:
    """A function that takes its time to arrive."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def __call__(self, log: Log, number: int) -> int:
        log("runs", os.getpid())
        return number * number

    def __reduce__(self) -> Any:
        return load, (self.log,)


def load(log: Log) -> Loading:
    stop_first(log, "loads")
    return Loading(log)


class Result:
    """A result that takes its time to be pickled."""

    def __init__(self, log: Log, number: int) -> None:
        self.log, self.number = log, number

    def __reduce__(self) -> Any:
        stop_first(self.log, "stores")
        return square, (self.number,)


def storing(log: Log, number: int) -> Result:
    log("runs", os.getpid())
    return Result(log, number)


#: The moment of death -> the function, and how often it is run.
MOMENTS: dict[str, tuple[Callable[[Log], Any], int]] = {
    "loads": (Loading, 1),
    "runs": (lambda log: stopping, 2),
    "stores": (lambda log: storing, 2),
}


# -- SIGKILL --


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_task_whose_worker_is_killed_runs_again_or_is_an_error(
    evidence: Evidence, log: Log, moment: str, retries: int
) -> None:
    config.set_parameter(config.TASK_RETRIES, retries)
    make, runs = MOMENTS[moment]
    with ended(mp.Pool(1)) as pool:
        result = pool.apply_async(make(log), (log, 3))
        other = pool.apply_async(square, (4,))
        os.kill(log.wait(moment)[1], signal.SIGKILL)
        if retries:
            assert result.get(PATIENCE) == 9
            assert len([line for line in log.lines() if line[0] == "runs"]) == runs
        else:
            with pytest.raises(WorkerLost, match=r"PoolWorker-\d+, which was killed by SIGKILL"):
                result.get(PATIENCE)
        assert other.get(PATIENCE) == 16


def kill_myself(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_task_that_kills_every_worker_is_lost_alone(evidence: Evidence, retries: int) -> None:
    config.set_parameter(config.TASK_RETRIES, retries)
    with ended(mp.Pool(2)) as pool:
        assert pool.map(square, range(500), 1) == [n * n for n in range(500)]
        numbers = pool.imap(square, range(100))
        poison = pool.apply_async(kill_myself, (7,))
        more = pool.imap(square, range(100))
        with pytest.raises(WorkerLost, match=rf"the task kill_myself.*TASK_RETRIES is {retries}"):
            poison.get(PATIENCE)
        for results in numbers, more:
            assert list(results) == [n * n for n in range(100)]


def test_a_task_that_was_fetched_and_not_begun_is_not_counted(evidence: Evidence, log: Log) -> None:
    """It was handed to a worker that was dead by then, and may not run twice."""
    config.set_parameter(config.TASK_RETRIES, 0)
    with ended(mp.Pool(1)) as pool:
        pid, _ = pool.apply(where)
        eventually(lambda: list(hands(evidence, pool).values()) == ["Q"], "an idle worker")
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: state_of(pid) == "T", "a stopped process")
        result = pool.apply_async(where)
        eventually(lambda: list(hands(evidence, pool).values()) == ["H"], "a task in hand")
        os.kill(pid, signal.SIGKILL)
        assert result.get(PATIENCE)[0] != pid


def test_an_idle_worker_that_is_killed_is_made_up_for(evidence: Evidence) -> None:
    with ended(mp.Pool(1)) as pool:
        pid, _ = pool.apply(where)
        os.kill(pid, signal.SIGKILL)
        assert pool.apply(where)[0] != pid


def test_a_function_that_is_lost_is_made_up_for(evidence: Evidence, log: Log) -> None:
    """The worker's supervisor goes with it, so nobody knows what it had begun."""
    with ended(mp.Pool(1)) as pool:
        result = pool.apply_async(stopping, (log, 3))
        _, pid, supervisor = log.wait("runs")
        os.kill(supervisor, signal.SIGKILL)
        assert result.get(PATIENCE) == 9
        assert not alive(pid)


def large(number: int) -> bytes:
    return bytes([number % 256]) * (2 * messages.INLINE)


def test_results_come_once_while_workers_die(evidence: Evidence) -> None:
    """Quick tasks, several in hand; each may run again, and none is told twice or lost."""
    config.set_parameter(config.TASK_RETRIES, 9)
    dice, over = random.Random(5), threading.Event()
    with ended(mp.Pool(2)) as pool:

        def kill() -> None:
            for _ in range(6):
                running_now = [w for w in list(pool._pool) if w._begun and w.is_alive()]
                if running_now:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(dice.choice(running_now).pid or -1, signal.SIGKILL)
                if over.wait(0.05):  # no order of events: deaths at any moment
                    return

        killer = threading.Thread(target=kill)
        killer.start()
        for _ in range(4):
            assert pool.map(square, range(1000), 1) == [n * n for n in range(1000)]
            assert pool.map(large, range(10), 1) == [large(n) for n in range(10)]
        over.set()
        killer.join()
    functions = len(pool._inqueue._names)
    assert functions == 2


# -- standing still --


def test_a_worker_that_stands_still_is_replaced(evidence: Evidence, log: Log) -> None:
    with ended(mp.Pool(1)) as pool:
        result = pool.apply_async(stopping, (log, 3))
        _, pid, _ = log.wait("runs")
        os.kill(pid, signal.SIGSTOP)
        assert result.get(PATIENCE) == 9
        assert not alive(pid)


def test_the_result_of_one_that_comes_back_is_refused(
    evidence: Evidence, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole function that stands still is taken for dead; its task runs elsewhere."""
    go = mp.Event()
    with ended(mp.Pool(1)) as pool:
        result = pool.apply_async(slow, (log, go))
        _, pid, supervisor = log.wait("slow")
        for one in supervisor, pid:
            os.kill(one, signal.SIGSTOP)
        assert eventually(lambda: len(log.lines()) == 2, "another run")
        first, second = (line[1] for line in log.lines())
        go.set()
        assert result.get(PATIENCE) == second
        told = pool.apply(where)
        os.kill(pid, signal.SIGCONT)  # it ends the task, and reports
        eventually(lambda: log.find("slow", first, "ends") or not alive(pid), "its end")
        os.kill(supervisor, signal.SIGCONT)
        eventually(lambda: not alive(pid), "the end of its process")
        assert pool.map(square, range(10), 1) == [n * n for n in range(10)]
        assert pool.apply(where) == told


def slow(log: Log, go: Any) -> int:
    log("slow", os.getpid(), os.getppid())
    go.wait()
    return os.getpid()


# -- connections --


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Server, Proxy]]:
    with (
        running(tcp=True) as server,
        proxied(server.settings) as proxy,
        program(url_of(proxy.settings), HEARTBEAT=0.3, LEASE=5.0),
    ):
        yield server, proxy


@each_fault
@pytest.mark.parametrize(
    "name", ["pool/add", "pool/step", "pool/take", "pool/keep", "pool/tell", "SET", "GET"]
)
def test_tasks_run_once_over_connections_that_break(
    proxy: Proxy, log: Log, fault: Fault, name: str
) -> None:
    before = proxy.faults
    counted = Log(f"{log.path}.{fault.name}")
    with ended(mp.Pool(1)) as pool:
        proxy.once(name, fault)
        data = [b"x" * 2 * messages.INLINE, b"y", b"z"]
        assert pool.map(Counting(counted), data, 1) == data
    assert proxy.faults == before + 1
    assert len(counted.lines()) == 3


class Counting:
    """Says when it runs."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def __call__(self, value: bytes) -> bytes:
        self.log("runs", len(value))
        return value


@each_fault
def test_a_report_arrives_once(both: tuple[Server, Proxy], proxy: Proxy, fault: Fault) -> None:
    before = proxy.faults
    first, go = mp.Event(), mp.Event()
    with ended(mp.Pool(1)) as pool:
        # Then it takes more at a time each time, however slow this machine is.
        pool.apply(take_all_for_quick)
        pool.apply_async(wait_for, (first,))
        some = [(square, n) for n in range(60)]
        results = pool.imap_unordered(run, [*some, (wait_for, go), *some])
        tasks = keys.items(pool._inqueue.shop.ref.ident)
        eventually(lambda: both[0].command("LLEN", tasks) == 121, "all tasks")
        proxy.once("pool/report", fault)
        first.set()
        assert sorted(next(results) for _ in range(60)) == [n * n for n in range(60)]
        eventually(lambda: proxy.faults > before, "a report")
        go.set()
        assert sorted(filter(None, results)) == [n * n for n in range(1, 60)]
    assert proxy.faults == before + 1


def take_all_for_quick() -> None:
    workplace.QUICK = 100.0


def run(what: tuple[Callable[..., Any], Any]) -> Any:
    function, argument = what
    return function(argument)


def wait_for(event: Any) -> None:
    event.wait()


@each_fault
@pytest.mark.parametrize("name", ["BLPOP m", "pool/close", "pool/cancel"])
def test_a_wake_up_that_is_lost_only_takes_longer(
    both: tuple[Server, Proxy], proxy: Proxy, fault: Fault, name: str
) -> None:
    if name == "pool/cancel":
        config.set_parameter(config.IDLE_WORKER, 0.1)
    before = proxy.faults
    with ended(mp.Pool(1)) as pool:
        proxy.once(name, fault)
        assert pool.apply(square, (3,)) == 9
        if name == "pool/cancel":
            eventually(lambda: proxy.faults > before, "a worker that leaves")
        assert pool.apply(square, (3,)) == 9
        pool.close()
        pool.join()
    assert proxy.faults > before


def test_everything_is_right_however_many_replies_are_lost(proxy: Proxy) -> None:
    names = ["pool/add", "pool/step", "pool/take", "pool/report"]
    with ended(mp.Pool(2)) as pool:
        proxy.at_random(3, 0.1, *names)
        for _ in range(3):
            assert pool.map(square, range(400), 1) == [n * n for n in range(400)]
        proxy.calm()


# -- the server --


@pytest.mark.parametrize("end", ["restarted empty", "flushed", "gone"])
def test_results_to_come_are_errors_when_the_server_has_lost_them(
    end: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "RECONNECT", 1.0)
    with running(tcp=True) as server, program(url_of(server.settings), HEARTBEAT=0.3, LEASE=2.0):
        go = mp.Event()
        with mp.Pool(2) as pool:
            one = pool.apply_async(slow, (log, go))
            many = pool.map_async(square, range(10))
            assert many.get(PATIENCE) == [n * n for n in range(10)]
            log.wait("slow")
            iterator = pool.imap(run, [(wait_for, go)])
            error: type[Exception]
            if end == "gone":
                server.kill()
                error = ServerUnavailable
            else:
                restart(server) if end == "restarted empty" else server.command("FLUSHALL")
                error = ObjectExpired
            with pytest.raises(error):
                one.get(PATIENCE)
            with pytest.raises(error):
                next(iterator)
            with pytest.raises(error):
                pool.apply(square, (1,))
        pool.join()
        if end != "gone":
            with mp.Pool(1) as pool:
                assert pool.apply(square, (4,)) == 16
            pool.join()


def test_frozen_for_a_moment_is_not_dead(evidence: Evidence, log: Log) -> None:
    """For less than its lease: it goes on, and its result counts."""
    go = mp.Event()
    with ended(mp.Pool(1)) as pool:
        result = pool.apply_async(slow, (log, go))
        _, pid, _ = log.wait("slow")
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: state_of(pid) == "T", "a stopped process")
        os.kill(pid, signal.SIGCONT)
        go.set()
        assert result.get(PATIENCE) == pid
        assert len(log.lines()) == 1
