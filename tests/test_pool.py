"""Pools: CPython's contract and beyond, kept by workers on Lithops functions.

What CPython's own tests see is in ``conformance``; deaths are in ``faults``.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import itertools
import json
import os
import pickle
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import fixtures
from support.programs import Evidence, Log, url_of
from support.scripts import Scripts
from support.servers import PATIENCE, Server, eventually, written

import lithops_mp as mp
from lithops_mp import config, crew, details, functions, messages
from lithops_mp import pool as pool_module
from lithops_mp._store import session
from lithops_mp.errors import WorkerLost
from lithops_mp.pool import MaybeEncodingError, Pool, RemoteTraceback, ThreadPool

server = fixtures.server()
evidence = fixtures.evidence(autouse=True)

pytestmark = pytest.mark.usefixtures("own_config")


@pytest.fixture(scope="module")
def pool(evidence: Evidence) -> Iterator[Pool]:
    """For whoever needs nothing special."""
    with mp.Pool(2) as found:
        yield found
    found.join()


@contextlib.contextmanager
def ended(pool: Pool) -> Iterator[Pool]:
    """A pool that is closed and joined."""
    with pool:
        yield pool
        pool.close()
        pool.join()


# -- what tasks do; they travel by name --


def square(number: int) -> int:
    return number * number


def add(one: int, other: int = 0) -> int:
    return one + other


def pid_of(_: object = None) -> int:
    return os.getpid()


def wait_for(event: Any, value: Any = None) -> Any:
    event.wait()
    return value


def echo(value: Any) -> Any:
    return value


def fail(*args: object) -> None:
    raise LookupError(*args)


# -- the contract --


def test_a_pool_is_had_in_four_ways(pool: Pool) -> None:
    assert isinstance(pool, Pool)
    assert isinstance(pool, __import__("multiprocessing.pool").pool.Pool)
    for make in (mp.get_context().Pool, mp.get_context("spawn").Pool, Pool):
        with ended(make(processes=1)) as found:
            assert found.apply(square, (3,)) == 9
    assert repr(pool) == "<lithops_mp.pool.Pool state=RUN pool_size=2>"


def test_threads_do_not_need_the_server() -> None:
    for make in (ThreadPool, mp.dummy.Pool):
        with make(2) as threads:
            assert threads.map(lambda number: number + 1, range(5)) == [1, 2, 3, 4, 5]
            assert threads.apply(pid_of) == os.getpid()


def test_a_call_of_every_kind(pool: Pool) -> None:
    assert pool.apply(add, (1,), {"other": 2}) == 3
    assert pool.apply_async(add, (1, 2)).get(PATIENCE) == 3
    assert pool.map(square, range(10), 3) == [n * n for n in range(10)]
    assert pool.map_async(square, (n for n in range(4))).get(PATIENCE) == [0, 1, 4, 9]
    assert pool.starmap(add, [(1, 2), (3, 4)]) == [3, 7]
    assert pool.starmap_async(add, [(1, 2), (3, 4)], 2).get(PATIENCE) == [3, 7]
    assert list(pool.imap(square, iter(range(5)))) == [0, 1, 4, 9, 16]
    assert list(pool.imap(square, iter(range(5)), 2)) == [0, 1, 4, 9, 16]
    assert sorted(pool.imap_unordered(square, iter(range(5)))) == [0, 1, 4, 9, 16]
    assert sorted(pool.imap_unordered(square, iter(range(5)), 2)) == [0, 1, 4, 9, 16]
    assert pool.apply(lambda: "a lambda") == "a lambda"


def test_results_and_callbacks_come_as_they_come(pool: Pool) -> None:
    event, called, failed = mp.Event(), [], []
    late = pool.apply_async(wait_for, (event, "late"), callback=called.append)
    assert pool.apply_async(square, (3,), callback=called.append).get(PATIENCE) == 9
    missing = pool.apply_async(fail, ("it",), error_callback=failed.append)
    missing.wait(PATIENCE)
    assert (late.ready(), missing.ready(), missing.successful()) == (False, True, False)
    assert called == [9]
    assert [repr(error) for error in failed] == ["LookupError('it')"]
    with pytest.raises(mp.TimeoutError):
        late.get(0.01)
    with pytest.raises(ValueError, match="not ready"):
        late.successful()
    event.set()
    assert late.get(PATIENCE) == "late"
    assert called == [9, "late"]


def test_an_iterator_yields_what_is_there(pool: Pool) -> None:
    for method in pool.imap, pool.imap_unordered:
        event = mp.Event()
        found = method(call, [(square, 2), (square, 3), (wait_for, event)])
        assert sorted([next(found), next(found)]) == [4, 9]
        with pytest.raises(mp.TimeoutError):
            found.next(timeout=0.01)
        event.set()
        assert next(found) is None
        with pytest.raises(StopIteration):
            next(found)


def call(what: tuple[Callable[..., Any], Any]) -> Any:
    function, argument = what
    return function(argument)


def test_an_endless_iterable_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "AHEAD", 20)
    ahead = []

    def endless() -> Iterator[int]:
        for number in itertools.count():
            ahead.append(len(found._inqueue.outstanding))
            yield number

    with mp.Pool(1) as found:
        squares = found.imap(square, endless())
        assert [next(squares) for _ in range(100)] == [n * n for n in range(100)]
    found.join()
    assert max(ahead) <= 20


def test_large_arguments_wait_for_room_in_the_program(
    monkeypatch: pytest.MonkeyPatch, evidence: Evidence
) -> None:
    """In Redis they would count against its memory, and expire before their turn comes."""
    size, event = 1_000_000, mp.Event()
    monkeypatch.setattr(pool_module, "AHEAD_BYTES", 2 * size)
    with mp.Pool(1) as found:
        lengths = found.map_async(len_after, [(event, bytes(size))] * 8, 1)
        eventually(lambda: len(found._inqueue.outstanding) == 2, "what there is room for")
        eventually(lambda: bool(found._inqueue._room._waiters), "that the next one waits")
        name = f"{{{found._inqueue.shop.ref.ident}}}:b:"
        assert sum(name in key for key in evidence.object_keys()) == 1 + 2  # and the function
        event.set()
        assert lengths.get() == [size] * 8
    found.join()


def len_after(what: tuple[Any, bytes]) -> int:
    event, data = what
    event.wait()
    return len(data)


def test_exceptions_bring_their_traceback(pool: Pool) -> None:
    with pytest.raises(LookupError, match="what") as caught:
        pool.apply(fail, ("what",))
    assert type(caught.value.__cause__) is RemoteTraceback
    assert "raise LookupError(*args)" in str(caught.value.__cause__)


class Unloadable:
    """Something that can be sent, and not received."""

    def __reduce__(self) -> Any:
        return fail, ("received",)


class Attached(Exception):
    """An exception that does not pickle."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def fail_attached() -> None:
    raise Attached("not even this")


class Detaining:
    """As above; what it says of that cannot be sent."""

    def __reduce__(self) -> Any:
        return fail_attached, ()


class Odd(Exception):
    """An exception that pickles, and does not unpickle."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__("both")


def raise_odd() -> None:
    raise Odd(1, 2)


def test_what_does_not_travel_is_an_error_of_its_task_alone(pool: Pool) -> None:
    """CPython hangs in most of these cases."""
    with pytest.raises(MaybeEncodingError, match="lambda"):
        pool.apply(eval, ("lambda: 1",))
    with pytest.raises(LookupError, match="received"):
        pool.apply(echo, (Unloadable(),))
    with pytest.raises(LookupError, match="received"):
        pool.apply(Unloadable)
    with pytest.raises(
        MaybeEncodingError, match=r"not even this.*cannot pickle '_thread.lock'"
    ) as caught:
        pool.apply(echo, (Detaining(),))
    assert "in fail_attached" in str(caught.value.__cause__)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        pool.apply(raise_odd)
    with pytest.raises(TypeError, match="cannot pickle"):
        pool.apply(echo, (threading.Lock(),))
    assert pool.map(square, [1, 2]) == [1, 4]


def test_wrong_arguments_are_refused_before_anything_is_made(evidence: Evidence) -> None:
    before = evidence.object_keys()
    for processes in 0, -1:
        with pytest.raises(ValueError, match="at least 1"):
            mp.Pool(processes)
    with pytest.raises(ValueError, match="maxtasksperchild must be"):
        mp.Pool(1, maxtasksperchild=0)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        mp.Pool(1, initializer=3)
    assert evidence.object_keys() == before


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_refused_size_leaves_no_half_made_pool() -> None:
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        mp.Pool("two")
    gc.collect()


def test_an_initializer_that_cannot_be_sent_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        mp.Pool(1, echo, (threading.Lock(),))


def test_a_pool_in_a_process_of_a_pool() -> None:
    def with_a_pool(queue: Any) -> None:
        with mp.Pool(2) as inner:
            queue.put(inner.map(square, range(4)))

    queue = mp.SimpleQueue()
    process = mp.Process(target=with_a_pool, args=(queue,))
    process.start()
    assert queue.get() == [0, 1, 4, 9]
    process.join(PATIENCE)
    assert process.exitcode == 0


def test_a_worker_has_no_pool(pool: Pool) -> None:
    """As in CPython: it is a daemon."""
    with pytest.raises(AssertionError, match="daemonic processes are not allowed to have children"):
        pool.apply(mp.Pool, (1,))


class NoDaemon(mp.Process):
    """What programs do whose workers are to have children."""

    @property
    def daemon(self) -> bool:
        return False

    @daemon.setter
    def daemon(self, value: bool) -> None:
        pass


def test_workers_are_what_a_context_says() -> None:
    class Nestable(type(mp.get_context())):  # type: ignore[misc]
        Process = NoDaemon

    def inner(value: int) -> tuple[int, bool]:
        with mp.Pool(1) as pool:
            return pool.apply(abs, (value,)), isinstance(mp.current_process(), NoDaemon)

    with Nestable().Pool(1) as pool:
        assert pool.apply(inner, (-3,)) == (3, True)
        assert all(type(worker).__name__ == "PoolWorker" for worker in pool._pool)


# -- workers --


def worker_pids() -> set[int]:
    return {child.pid for child in mp.active_children() if type(child).__name__ == "PoolWorker"}


def test_workers_start_when_they_are_needed(pool: Pool) -> None:
    before = worker_pids()
    with mp.Pool(3) as lazy:
        assert worker_pids() == before
        pids = {lazy.apply(pid_of) for _ in range(20)}
        assert len(pids) == 1
        assert worker_pids() - before == pids
        event = mp.Event()
        waiting = [lazy.apply_async(wait_for, (event,)) for _ in range(3)]
        eventually(lambda: len(worker_pids() - before) == 3, "three workers")
        event.set()
        for result in waiting:
            result.get(PATIENCE)
        assert len(lazy._pool) == 3
    lazy.join()
    assert worker_pids() == before


def test_an_initializer_runs_once_per_worker(log: Log) -> None:
    with ended(mp.Pool(2, log, ("initialized",))) as found:
        found.map(square, range(50), 1)
    assert log.lines() in ([["initialized"]], [["initialized"]] * 2)


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_worker_retires_after_so_many_tasks(chunk: int) -> None:
    """A chunk is a task."""
    with ended(mp.Pool(1, maxtasksperchild=2)) as found:
        pids = found.map(pid_of, range(5 * chunk), chunk)
        assert found.apply(square, (3,)) == 9
    assert [len(list(group)) for _, group in itertools.groupby(pids)] == [2 * chunk] * 2 + [chunk]


def test_a_worker_that_is_idle_ends_and_another_one_starts(log: Log) -> None:
    config.set_parameter(config.IDLE_WORKER, 0.05)
    with mp.Pool(1) as found:
        first = found.apply(pid_of)
        eventually(lambda: first not in worker_pids(), "its end")
        second = found.apply(pid_of)
    found.join()
    assert first != second


def test_a_worker_ends_before_its_platform_ends_it() -> None:
    """Functions may run for six seconds here: a worker leaves after one."""
    config.set_parameter(config.LITHOPS_CONFIG, {"lithops": {"execution_timeout": 6}})
    with mp.Pool(1) as found:
        first = found.apply(pid_of)
        (worker,) = found._pool
        eventually(lambda: worker.exitcode is not None, "its end")
        assert worker.exitcode == 0
        assert found.apply(pid_of) != first
    found.join()


def fail_with(log: Log, how: str) -> None:
    log("began")
    if how == "raises":
        raise LookupError("not here")
    if how == "raises what does not unpickle":
        raise_odd()
    if how == "raises what does not pickle":
        fail_attached()
    os._exit(7)


#: What comes of it in the pool's process.
BEGINNINGS = {
    "raises": (LookupError, "not here"),
    "raises what does not unpickle": (TypeError, "missing 1 required positional argument"),
    "raises what does not pickle": (MaybeEncodingError, "not even this"),
    "exits": (WorkerLost, "in a row"),
}


@pytest.mark.parametrize("how", BEGINNINGS)
def test_an_initializer_that_fails_breaks_the_pool(
    how: str, log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    """CPython starts one worker after the other, for ever."""
    kind, match = BEGINNINGS[how]
    with mp.Pool(1, fail_with, (log, how)) as found:
        results = [found.apply_async(square, (n,)) for n in range(3)]
        many = found.map_async(square, range(10), 1)
        iterator = found.imap(square, range(3))
        for result in *results, many:
            with pytest.raises(kind, match=match) as caught:
                result.get(PATIENCE)
        if how == "raises":
            assert "in fail_with" in str(caught.value.__cause__)
        with pytest.raises(kind, match=match):
            next(iterator)
        with pytest.raises(kind, match=match):
            found.apply(square, (1,))
    found.join()
    assert log.lines() == [["began"]] * crew.FAILURES


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_worker_that_is_ended_before_it_started_is_replaced(end: str) -> None:
    with ended(mp.Pool(1)) as found:
        (worker,) = found._pool
        getattr(worker, end)()
        assert not worker.is_alive()
        assert worker.exitcode == -getattr(signal, {"terminate": "SIGTERM", "kill": "SIGKILL"}[end])
        assert found.apply_async(square, (3,)).get(PATIENCE) == 9
        eventually(lambda: found._pool != [worker], "another one")
        assert len(found._pool) == 1


def test_one_worker_that_fails_to_begin_is_made_up_for(log: Log) -> None:
    def fail_at_first(log: Log) -> None:
        log("began")
        if len(log.lines()) < crew.FAILURES:
            raise LookupError("not yet")

    with ended(mp.Pool(1, fail_at_first, (log,))) as found:
        assert found.map(square, range(3), 1) == [0, 1, 4]


def test_quick_tasks_do_not_wait_behind_a_long_one() -> None:
    """Some are taken at once; those that are not begun go back."""
    event = mp.Event()
    with ended(mp.Pool(2)) as found:
        assert found.map(square, range(2000), 1) == [n * n for n in range(2000)]
        calls = [(wait_for, event), *((square, n) for n in range(300))]
        results = found.imap_unordered(call, calls)
        assert sorted(next(results) for _ in range(300)) == [n * n for n in range(300)]
        event.set()
        assert list(results) == [None]


def test_results_do_not_wait_behind_a_long_task() -> None:
    """One worker; what it did before is told while it is busy."""
    event = mp.Event()
    with ended(mp.Pool(1)) as found:
        found.map(square, range(500), 1)
        calls = [*((square, n) for n in range(60)), (wait_for, event)]
        results = found.imap(call, calls)
        assert [next(results) for _ in range(60)] == [n * n for n in range(60)]
        event.set()
        assert list(results) == [None]


def leave(code: object) -> None:
    sys.exit(code)


def test_a_task_that_ends_its_process_is_an_error() -> None:
    """CPython waits for its result for ever."""
    with ended(mp.Pool(1)) as found:
        with pytest.raises(WorkerLost, match=r"the task leave, number 0 .* ended"):
            found.apply(leave, (3,))
        assert found.apply(square, (3,)) == 9


def test_a_pool_leaves_nothing(evidence: Evidence) -> None:
    before, pids = {*evidence.object_keys()}, worker_pids()
    for way in "close", "terminate":
        found = mp.Pool(2)
        found.map(echo, [b"x" * 3 * messages.INLINE] * 3, 1)
        assert {*evidence.object_keys()} - before
        getattr(found, way)()
        found.join()
        del found
        gc.collect()
        session.current().settle()
        assert {*evidence.object_keys()} <= before
        assert worker_pids() == pids


# -- what is sent --


class Function:
    """Says when it is unpickled."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def __call__(self, number: int) -> int:
        return number + 1

    def __reduce__(self) -> Any:
        return load_function, (self.log,)


def load_function(log: Log) -> Function:
    log("loaded", os.getpid())
    return Function(log)


def test_a_function_is_sent_once_and_loaded_once(
    log: Log, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = []
    store = messages.store
    monkeypatch.setattr(messages, "store", lambda *args: stored.append(args[2]) or store(*args))
    before = evidence.object_keys()
    with mp.Pool(2) as found:
        function = Function(log)
        for _ in range(3):
            assert found.map(function, range(100), 1) == [n + 1 for n in range(100)]
        assert len(stored) == 1
        assert len([key for key in evidence.object_keys() if ":b:" in key]) == 1 + len(
            [key for key in before if ":b:" in key]
        )
    found.join()
    loaded = [pid for _, pid in log.lines()]
    assert len(loaded) == len(set(loaded)) <= 2


def test_more_functions_than_are_kept_come_with_their_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "FUNCTIONS", 3)
    with ended(mp.Pool(1)) as found:
        for number in range(6):
            assert found.apply(lambda number=number: number) == number
            assert found.map(lambda x, n=number: x + n, [1, 2]) == [1 + number, 2 + number]


def test_a_worker_without_a_functions_modules_makes_room_for_one_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere a function is sent with the modules that were known when it was invoked."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in "needed_first", "needed_later":
        (tmp_path / f"{name}.py").write_text("import os\n\ndef pid(): return os.getpid()\n")
    config.set_parameter(config.TASK_RETRIES, 0)
    with ended(mp.Pool(1)) as found:
        monkeypatch.setattr(found._inqueue, "_local", False)
        first = found.apply(importlib.import_module("needed_first").pid)
        (worker,) = found._pool
        assert found.apply(importlib.import_module("needed_first").pid) == first
        second = found.apply(importlib.import_module("needed_later").pid)
        assert (first != second, worker.exitcode) == (True, 0)
        _, terms, _ = found._inqueue.terms()
        names = functions.modules_of(pickle.dumps(terms))
        assert {"needed_first", "needed_later", "lithops_mp"} <= {*names}
    for name in "needed_first", "needed_later":
        sys.modules.pop(name)


@pytest.mark.parametrize("size", [1, messages.INLINE - 200, messages.INLINE * 5])
def test_arguments_and_results_of_any_size(pool: Pool, evidence: Evidence, size: int) -> None:
    import numpy

    data = os.urandom(size)
    array = numpy.frombuffer(data, "u1")
    assert pool.map(echo, [data] * 4, 1) == [data] * 4
    (same,) = pool.map(echo, [array])
    assert (same == array).all()
    assert pool.apply(fail_with_data, (size,)) is None
    stored = len(pool._inqueue._names)
    eventually(
        lambda: (
            len({key.split(":")[3] for key in evidence.object_keys() if ":b:" in key}) <= stored
        ),
        "no large message",
    )


def fail_with_data(size: int) -> None:
    with contextlib.suppress(LookupError):
        raise LookupError("x" * size)


def test_objects_of_ours_are_arguments(pool: Pool) -> None:
    value, queue = mp.Value("i", 0), mp.Queue()

    def count(number: int, value: Any, queue: Any) -> None:
        with value:
            value.value += number
        queue.put(number)

    pool.starmap(count, [(n, value, queue) for n in range(20)], 1)
    assert value.value == sum(range(20))
    assert sorted(queue.get() for _ in range(20)) == list(range(20))


def use_counter(number: int) -> int:
    with COUNTER.get_lock():
        COUNTER.value += number
    return number


def set_counter(counter: Any) -> None:
    global COUNTER
    COUNTER = counter


def test_objects_of_ours_are_an_initializers() -> None:
    counter = mp.Value("i", 0)
    with ended(mp.Pool(2, set_counter, (counter,))) as found:
        assert found.map(use_counter, range(10), 1) == list(range(10))
    assert counter.value == 45


def test_main_is_one_namespace(script: Scripts, server: Server) -> None:
    """An initializer's ``global``, classes both ways, and functions that call each other."""
    code, out, err = script(
        """
        from lithops_mp import Pool

        shared, seen = None, []

        class Point:
            def __init__(self, x):
                self.x = x

        class Odd(Exception):
            pass

        def initialize(value):
            global shared
            shared = value

        def helper(point):
            return Point(point.x + shared)

        def move(point):
            assert type(point) is Point
            seen.append(point.x)
            return helper(point)

        def count(_):
            return len(seen)

        def fail():
            raise Odd("odd")

        with Pool(1, initialize, (10,)) as pool:
            moved = pool.map(move, [Point(n) for n in range(3)], 1)
            print([type(p) is Point for p in moved], [p.x for p in moved])
            print(pool.map(count, [None]), seen)
            try:
                pool.apply(fail)
            except Odd as error:
                print(repr(error))

            def helper(point):
                return "a newer one"

            def again(point):
                return helper(point)

            print(pool.apply(again, (Point(1),)))
        """,
        server=server,
    ).finish()
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "[True, True, True] [10, 11, 12]",
        "[3] []",
        "Odd('odd')",
        "a newer one",
    ]


# -- settings --


def test_the_program_of_the_documentation(script: Scripts, tmp_path: Path) -> None:
    """Lithops' page "Multiprocessing API", with our name for the module; no Redis is given."""
    code, out, err = script(
        """
        import lithops_mp as mp
        from lithops_mp import config as mp_config


        def my_map_function(x):
            import os

            print("ENVVAR is", os.environ["ENVVAR"])
            return x + 7


        if __name__ == "__main__":
            iterdata = [1, 2, 3, 4]

            mp_config.set_parameter(mp_config.LITHOPS_CONFIG, {"lithops": {"backend": "localhost"}})
            mp_config.set_parameter(mp_config.STREAM_STDOUT, True)
            mp_config.set_parameter(mp_config.REDIS_EXPIRY_TIME, 1800)
            mp_config.set_parameter(mp_config.PIPE_CONNECTION_TYPE, "redislist")
            mp_config.set_parameter(mp_config.ENV_VARS, {"ENVVAR": "hello"})
            mp_config.set_parameter(mp_config.EXPORT_EXECUTION_DETAILS, ".")

            with mp.Pool() as pool:
                results = pool.map(my_map_function, iterdata)

            print(results)
        """
    ).finish()
    assert (code, err) == (0, "")
    assert out.splitlines() == ["ENVVAR is hello"] * 4 + ["[8, 9, 10, 11]"]
    (stats,) = tmp_path.glob("Pool-*_stats.json")
    times = json.loads(stats.read_text())
    assert len(times) == 4
    for one in times.values():
        assert one["name"] == "my_map_function"
        order = ["host_submit_tstamp", "worker_func_start_tstamp", "worker_func_end_tstamp"]
        assert sorted(order, key=one.__getitem__) == order
    for plot in "timeline", "histogram":
        assert next(tmp_path.glob(f"Pool-*_{plot}.png")).read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("missing", [False, True])
def test_execution_details_of_processes_and_pools(
    missing: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, "lithops.plots", None)
    folder = tmp_path / "details"
    config.set_parameter(config.EXPORT_EXECUTION_DETAILS, str(folder))
    process = mp.Process(target=time.sleep, args=(0.05,), name="sleeper")
    process.start()
    process.join()
    process.join()
    with ended(mp.Pool(2)) as found:
        found.map(square, range(5), 1)
    names = {path.name.split("-")[0] for path in folder.glob("*_stats.json")}
    assert names == {"sleeper", "Pool"}
    assert len(list(folder.glob("*.png"))) == (0 if missing else 4)
    (stats,) = json.loads(next(folder.glob("sleeper*_stats.json")).read_text()).values()
    assert stats["exitcode"] == 0
    assert stats["worker_func_exec_time"] >= 0.04
    said = capfd.readouterr().err
    assert said.count("pip install 'lithops[plotting]'") == (2 if missing else 0)


def test_details_that_cannot_be_written_end_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    config.set_parameter(config.EXPORT_EXECUTION_DETAILS, str(tmp_path / "file"))
    details.write("it", {"1": details.Times(1, 2, 3, 4, 5).stats()}, lambda *args: None)
    assert "the execution details of it could not be written" in capfd.readouterr().err


def test_tasks_write_to_this_terminal(pool: Pool, capfd: pytest.CaptureFixture[str]) -> None:
    pool.map(print, ["one", "two", "three"], 1)
    words = {"one", "two", "three"}  # and perhaps others, of the end of an earlier test's
    eventually(lambda: words <= set(written(1).splitlines()), lambda: f"lines: {written(1)!r}")
    said = capfd.readouterr().out.splitlines()
    assert all(said.count(word) == 1 for word in words)


BAR = """
import sys
from lithops_mp import Pool, config

if __name__ == "__main__":
    if sys.argv[1:]:
        config.set_parameter(config.PROGRESS_BAR, True)
    with Pool(1) as pool:
        print(sum(pool.map(abs, range(30), 7)))
        print(sum(pool.imap(abs, range(20))))
        print(sum(pool.imap(abs, iter(range(10)), 3)))
"""


@pytest.mark.parametrize("wanted", [False, True])
def test_a_progress_bar_on_a_terminal(wanted: bool, tmp_path: Path, server: Server) -> None:
    path = tmp_path / "program.py"
    path.write_text(BAR)
    environ = {**os.environ, "PYTHONPATH": str(Path(mp.__file__).parents[1])}
    environ["LITHOPS_MP_REDIS_URL"] = url_of(server.settings)
    ours, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    command = [sys.executable, str(path), *(["bar"] if wanted else [])]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=terminal, env=environ, text=True
    ) as child:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is gone with its last user
            while data := os.read(ours, 4096):
                shown += data
        out, _ = child.communicate()
    os.close(ours)
    assert out.split() == ["435", "190", "45"]
    if not wanted:
        assert shown == b""
        return
    for last in b"30/30", b"20/20", b"4task":
        assert last in shown, shown


def test_no_bar_where_there_is_no_terminal(pool: Pool, capfd: pytest.CaptureFixture[str]) -> None:
    config.set_parameter(config.PROGRESS_BAR, True)
    assert pool.map(square, range(3)) == [0, 1, 4]
    assert capfd.readouterr().err == ""


def test_settings_are_checked() -> None:
    for value in (-1, 10, 1.5, True, None):
        with pytest.raises(ValueError, match="TASK_RETRIES must be a whole number from 0 to 9"):
            config.set_parameter(config.TASK_RETRIES, value)
    with pytest.raises(ValueError, match="IDLE_WORKER must be a number of seconds or None"):
        config.set_parameter(config.IDLE_WORKER, -1)


# -- a program's end --

LASTING = """
import signal
from lithops_mp import Pool

def busy(number):
    print("runs", flush=True)
    signal.pause()

if __name__ == "__main__":
    pool = Pool(2)
    pool.map_async(busy, range(2), 1)
    signal.pause()
"""


def test_workers_end_with_a_program_that_is_killed(script: Scripts) -> None:
    found = script(LASTING)
    assert found.process.stdout
    for _ in range(2):
        assert found.process.stdout.readline() == b"runs\n"
    os.kill(found.pid, signal.SIGKILL)
    found.process.wait()
    found.wait_nothing_left()


def test_a_program_that_forgets_its_pool_ends(script: Scripts) -> None:
    """CPython's test of it imports multiprocessing by name."""
    found = script(
        """
        from lithops_mp import Pool

        class A:
            def __init__(self):
                self.pool = Pool(processes=1)

        if __name__ == "__main__":
            problem = A()
            print(problem.pool.map(float, tuple(range(10))))
        """
    )
    code, out, _ = found.finish()
    assert (code, out) == (0, f"{list(map(float, range(10)))}\n")
    found.wait_nothing_left()
