"""Processes: CPython's contract, kept by Lithops functions.

Most tests run in this process, as one main program at a server of its own, whose
functions stay around for the next test. What concerns a program's beginning or
end runs in an interpreter of its own (:class:`Script`).

Targets are mostly local functions: they travel by value, so that children need
not import this module.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import multiprocessing
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from support import fixtures
from support.programs import Evidence, fork, meanwhile, state_of
from support.scripts import Scripts
from support.servers import PATIENCE, Server, alive, eventually

import lithops_mp as mp
from lithops_mp import config, functions
from lithops_mp._store import keys, session
from lithops_mp.errors import ConfigurationError
from lithops_mp.reduction import ForkingPickler, register

server = fixtures.server()
evidence = fixtures.evidence(autouse=True)

pytestmark = pytest.mark.usefixtures("own_config")


def run(target: Callable[..., object], *args: object, **kwargs: Any) -> mp.Process:
    """Run a process to its end."""
    process = mp.Process(target=target, args=args, **kwargs)
    process.start()
    process.join(PATIENCE)
    assert process.exitcode is not None, "it goes on and on"
    return process


def sleep() -> None:
    """Until it is killed."""
    while True:
        signal.pause()


@contextlib.contextmanager
def sleeping(
    target: Callable[..., object] = lambda: signal.pause(), *args: object, **kwargs: Any
) -> Iterator[mp.Process]:
    """A process that runs until it is killed, at the latest at the block's end."""
    process = mp.Process(target=target, args=args, **kwargs)
    process.start()
    assert process.pid
    try:
        yield process
    finally:
        process.kill()
        process.join(PATIENCE)


# --- exit codes ---


def kill_myself(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("target", "args", "code"),
    [
        (int, (), 0),
        (sys.exit, (), 0),
        (sys.exit, (None,), 0),
        (sys.exit, (7,), 7),
        (sys.exit, (True,), 1),
        (sys.exit, ("a reason",), 1),
        (sys.exit, (-1,), 255),
        (sys.exit, (256,), 0),
        (sys.exit, (1 << 70,), 0),
        (os._exit, (0,), 0),
        (os._exit, (3,), 3),
        (os._exit, (255,), 255),
        (int, ("not a number",), 1),
        (os.abort, (), -signal.SIGABRT),
        *(
            (kill_myself, (number,), -number)
            for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, signal.SIGALRM)
        ),
        (kill_myself, (signal.SIGRTMIN,), -signal.SIGRTMIN),
        (kill_myself, (signal.SIGINT,), 1),
    ],
)
def test_exit_code_is_exact(
    target: Callable[..., object], args: tuple[Any, ...], code: int
) -> None:
    assert run(target, *args).exitcode == code


def test_exception_gives_its_traceback_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise LookupError("in the child")

    process = run(fail, name="the one")
    out, err = capfd.readouterr()
    assert process.exitcode == 1
    assert err.startswith("Process the one:\nTraceback (most recent call last):\n")
    assert err.endswith("LookupError: in the child\n")
    assert out == ""


def test_reason_given_to_exit_is_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    run(sys.exit, "a reason")
    assert capfd.readouterr().err == "a reason\n"


def test_what_cannot_be_unpickled_gives_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return int, ("not a number",)

    assert run(print, Trap()).exitcode == 1
    assert "ValueError: invalid literal for int()" in capfd.readouterr().err


def test_exit_code_is_none_until_the_end() -> None:
    process = mp.Process(target=int)
    assert process.exitcode is None
    assert not process.is_alive()
    with sleeping() as process:
        assert process.exitcode is None
        assert process.is_alive()
        process.join(0)
        assert process.exitcode is None
    assert not process.is_alive()


def test_handlers_registered_in_the_child_run_at_its_end(tmp_path: Path) -> None:
    def target() -> None:
        import atexit
        import weakref
        from multiprocessing import util

        atexit.register(path.joinpath("atexit").touch)
        util.Finalize(None, path.joinpath("finalize").touch, exitpriority=1)
        weakref.finalize(target, path.joinpath("weakref").touch)

    path = tmp_path
    assert run(target).exitcode == 0
    assert {found.name for found in tmp_path.iterdir()} == {"atexit", "finalize", "weakref"}


# --- signals ---


def spin() -> None:
    while True:
        pass


def test_terminate_and_kill_reach_a_target_that_spins() -> None:
    for end, code in (mp.Process.terminate, -signal.SIGTERM), (mp.Process.kill, -signal.SIGKILL):
        with sleeping(spin) as process:
            end(process)
            process.join(PATIENCE)
            assert process.exitcode == code


def test_terminate_can_be_handled_and_kill_cannot(tmp_path: Path) -> None:
    def target() -> None:
        signal.signal(signal.SIGTERM, lambda *_: (tmp_path / "handled").touch())
        (tmp_path / "ready").touch()
        while True:
            signal.pause()

    with sleeping(target) as process:
        eventually((tmp_path / "ready").exists, "a handler")
        process.terminate()
        eventually((tmp_path / "handled").exists, "a handled signal")
        process.kill()
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGKILL


def test_kill_reaches_a_target_that_is_stopped() -> None:
    with sleeping() as process:
        pid = process.pid
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: state_of(pid) == "T", "a stopped process")
        process.kill()
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGKILL


def test_many_that_are_terminated_before_they_run_leave_nothing(evidence: Evidence) -> None:
    lock = mp.Lock()
    before = evidence.all_keys()
    processes = [mp.Process(target=lock.acquire) for _ in range(8)]
    for process in processes:
        process.start()
        process.terminate()
    for process in processes:
        process.join(PATIENCE)
    assert {process.exitcode for process in processes} <= {-signal.SIGTERM, 0}
    eventually(lambda: set(evidence.all_keys()) <= set(before) | idle_keys(), "no key of theirs")


def idle_keys() -> set[str]:
    """Keys that come with the program's functions and its inbox."""
    me = session.current()
    with contextlib.suppress(KeyError):
        return {
            key.decode()
            for key in me.client.plain("KEYS", f"{keys.process(me.uid)}*")
            if b":objects" not in key and b":children" not in key
        } | {keys.objects(me.uid)}
    return set()


def test_signals_to_a_process_that_is_over_are_ignored() -> None:
    process = run(int)
    process.terminate()
    process.kill()
    assert process.exitcode == 0


# --- the object ---


def test_close_releases_and_forbids() -> None:
    with sleeping() as process, pytest.raises(ValueError, match="while it is still running"):
        process.close()
    sentinel = process.sentinel
    process.close()
    for use in process.join, process.is_alive, process.terminate, process.kill:
        with pytest.raises(ValueError, match="process object is closed"):
            use()
    for name in "pid", "exitcode", "sentinel":
        with pytest.raises(ValueError, match="process object is closed"):
            getattr(process, name)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(sentinel)
    process.close()


def test_processes_that_are_dropped_leave_no_descriptor() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    run(int)
    before = count()
    for _ in range(10):
        run(int)
    eventually(lambda: count() <= before, "no more descriptors than before")


def test_sentinel_is_a_descriptor_to_wait_on() -> None:
    event = mp.Event()
    processes = [mp.Process(target=event.wait if i else int) for i in range(3)]
    for process in processes:
        process.start()
    first, *others = [process.sentinel for process in processes]
    assert wait([first, *others], PATIENCE) == [first]
    assert select.select([first, *others], [], [], 0)[0] == [first]
    event.set()
    left = set(others)
    while left:
        ready = wait(left, PATIENCE)
        assert ready
        left.difference_update(ready)
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_sentinel_needs_a_start() -> None:
    with pytest.raises(ValueError, match="process not started"):
        _ = mp.Process(target=int).sentinel


def test_pid_is_that_of_the_process(tmp_path: Path) -> None:
    def target() -> None:
        (tmp_path / "pid").write_text(f"{os.getpid()} {mp.current_process().pid}")
        signal.pause()

    process = mp.Process(target=target)
    assert process.pid is None
    with sleeping(target) as process:
        eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "a pid")
        assert (tmp_path / "pid").read_text() == f"{process.pid} {process.ident}"
        assert alive(process.pid)
        pid = process.pid
    assert process.pid == pid
    assert not alive(pid)


def test_repr_tells_the_state() -> None:
    process = mp.Process(target=int, name="some", daemon=True)
    assert repr(process) == f"<Process name='some' parent={os.getpid()} initial daemon>"
    process.start()
    process.join()
    pid = process.pid
    assert repr(process) == (
        f"<Process name='some' pid={pid} parent={os.getpid()} stopped exitcode=0 daemon>"
    )
    process.close()
    assert repr(process) == f"<Process name='some' parent={os.getpid()} closed daemon>"


def test_active_children_are_those_that_run() -> None:
    assert mp.active_children() == []
    with sleeping() as one, sleeping() as other:
        assert set(mp.active_children()) == {one, other}
    assert mp.active_children() == []


def test_child_knows_who_it_is_and_whose(tmp_path: Path) -> None:
    def target(*args: object, **kwargs: object) -> None:
        me, parent = mp.current_process(), mp.parent_process()
        assert parent is not None
        found = (args, kwargs, me.name, me.daemon, bytes(me.authkey), parent.pid, parent.name)
        (tmp_path / "found").write_bytes(pickle.dumps((*found, parent.is_alive())))

    me = mp.current_process()
    assert mp.parent_process() is None
    process = mp.Process(target=target, args=[1, 2], kwargs={"three": 3}, name="me", daemon=True)
    process.start()
    process.join(PATIENCE)
    found = pickle.loads((tmp_path / "found").read_bytes())
    expected = ((1, 2), {"three": 3}, "me", True, bytes(me.authkey), me.pid, me.name, True)
    assert found == expected


def test_start_once_and_join_after_start() -> None:
    process = mp.Process(target=int)
    with pytest.raises(AssertionError, match="can only join a started process"):
        process.join()
    process.start()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    process.join()


def test_daemonic_process_has_no_children(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: mp.Process(target=int).start(), daemon=True).exitcode == 1
    assert "daemonic processes are not allowed to have children" in capfd.readouterr().err


def test_nested_processes(tmp_path: Path) -> None:
    def nest(depth: int, path: Path) -> None:
        (path / f"{depth} {mp.current_process().name}").touch()
        if depth:
            process = mp.Process(target=nest, args=(depth - 1, path))
            process.start()
            process.join()
            assert process.exitcode == 0
            assert mp.active_children() == []

    process = run(nest, 3, tmp_path)
    assert process.exitcode == 0
    names = [f"{3 - i} {process.name}{':1' * i}" for i in range(4)]
    assert sorted(found.name for found in tmp_path.iterdir()) == sorted(names)


def test_end_of_the_parent_shows_in_the_child(tmp_path: Path) -> None:
    def grandchild() -> None:
        parent = mp.parent_process()
        assert parent is not None
        (tmp_path / "ready").touch()
        parent.join()
        (tmp_path / "over").write_text(str(parent.is_alive()))

    def child() -> None:
        mp.Process(target=grandchild).start()
        signal.pause()

    with sleeping(child) as process:
        eventually((tmp_path / "ready").exists, "a grandchild")
        process.kill()
        eventually(lambda: (tmp_path / "over").exists() and (tmp_path / "over").read_text(), "word")
    assert (tmp_path / "over").read_text() == "False"


# --- what can be a target ---


class Adder:
    """Found by reference: the child imports this module."""

    base = 1

    def add(self, path: Path, *numbers: int) -> None:
        path.write_text(str(sum(numbers, self.base)))

    @classmethod
    def add_all(cls, path: Path, *numbers: int) -> None:
        path.write_text(str(sum(numbers, cls.base)))

    def __call__(self, path: Path, *numbers: int) -> None:
        self.add(path, *numbers)


def add(path: Path, *numbers: int, base: int = 1) -> None:
    path.write_text(str(sum(numbers, base)))


def closure() -> Callable[..., None]:
    base = 1

    class Local:
        def add(self, path: Path, *numbers: int) -> None:
            path.write_text(str(sum(numbers, base)))

    def inner(path: Path, *numbers: int) -> None:
        Local().add(path, *numbers)

    return inner


@pytest.mark.parametrize(
    "target",
    [
        add,
        lambda path, *numbers: path.write_text(str(sum(numbers, 1))),
        closure(),
        Adder().add,
        Adder.add_all,
        Adder(),
        functools.partial(add, base=1),
    ],
    ids=["function", "lambda", "closure", "method", "class method", "callable", "partial"],
)
def test_target_of_any_kind(target: Callable[..., object], tmp_path: Path) -> None:
    assert run(target, tmp_path / "sum", 2, 3).exitcode == 0
    assert (tmp_path / "sum").read_text() == "6"


def test_builtin_is_a_target(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(print, "a", "b").exitcode == 0
    assert capfd.readouterr().out == "a b\n"


def test_subclass_with_a_run_of_its_own(tmp_path: Path) -> None:
    class Mine(mp.Process):
        def __init__(self, path: Path) -> None:
            super().__init__(name="mine")
            self.path = path

        def run(self) -> None:
            self.path.write_text(self.name)

    process = Mine(tmp_path / "name")
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (tmp_path / "name").read_text() == "mine"


def test_methods_see_the_globals_of_their_module() -> None:
    """A class method is not sent with copies of the globals it uses."""
    assert run(Counter.count).exitcode == 0


class Counter:
    @classmethod
    def count(cls) -> None:
        assert Counter is cls
        assert sys.modules[cls.__module__].__dict__["Counter"] is Counter


@pytest.mark.parametrize("size", [0, 1, 8_000, 64 * 1024 * 1024, 100_000_000])
def test_arguments_of_any_size(size: int) -> None:
    data = os.urandom(1024) * (size // 1024) + os.urandom(size % 1024)

    def target(data: bytes, digest: str) -> None:
        assert hashlib.sha1(data).hexdigest() == digest

    assert run(target, data, hashlib.sha1(data).hexdigest()).exitcode == 0


def test_unpicklable_target_raises_and_leaves_nothing(evidence: Evidence) -> None:
    run(int)
    lock = mp.Lock()
    before, descriptors = evidence.all_keys(), os.listdir("/proc/self/fd")
    process = mp.Process(target=print, args=(lock, threading.Lock()))
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        process.start()
    assert set(evidence.all_keys()) <= set(before) | idle_keys()
    # Lithops' threads open files, too.
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= len(descriptors), "no new descriptor")
    assert mp.active_children() == []
    assert process.exitcode is None


def test_descriptors_of_this_machine_are_refused() -> None:
    one, other = multiprocessing.Pipe()
    with one, other, socket.socket() as endpoint:
        for arg in one, endpoint:
            with pytest.raises(TypeError, match="cannot be sent to a Lithops function"):
                mp.Process(target=print, args=(arg,)).start()


def test_registered_reducers_are_used(capfd: pytest.CaptureFixture[str]) -> None:
    class Mine:
        """Pickles as it is, but not when a process is started."""

    register(Mine, lambda _: (int, ("7",)))
    try:
        run(print, Mine())
    finally:
        del ForkingPickler._extra_reducers[Mine]
    assert capfd.readouterr().out == "7\n"


def test_failure_of_lithops_raises_and_leaves_nothing(evidence: Evidence) -> None:
    run(int)
    lock = mp.Lock()
    before = evidence.all_keys()
    config.set_parameter(
        config.LITHOPS_CONFIG, {"lithops": {"backend": "localhost", "storage": "nowhere"}}
    )
    process = mp.Process(target=print, args=(lock,))
    with pytest.raises(Exception, match="nowhere"):
        process.start()
    assert set(evidence.all_keys()) <= set(before) | idle_keys()
    assert mp.active_children() == []
    config.set_parameter(config.LITHOPS_CONFIG, {})
    assert run(int).exitcode == 0


def test_function_that_ends_before_it_begins_is_a_lost_process(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Lithops reports nothing about a function that its machine has killed."""
    runtime, python = tmp_path / "python", functions.interpreter()
    runtime.write_text(f'#!/bin/sh\n[ "$2" = run_job ] && kill -9 $$\nexec {python} "$@"\n')
    runtime.chmod(0o755)
    config.set_parameter(config.LITHOPS_CONFIG, {"localhost": {"runtime": str(runtime)}})
    process = run(int, name="the one")
    assert process.exitcode == 1
    assert process.pid is None
    assert "lithops_mp: the one is lost: Lithops ended its function early" in capfd.readouterr().err


# --- output ---


def test_output_of_descriptors_and_subprocesses(capfd: pytest.CaptureFixture[str]) -> None:
    def target() -> None:
        print("print", end=" ")
        sys.stdout.flush()
        os.write(1, b"write ")
        subprocess.run(["sh", "-c", "printf 'shell '; printf shell >&2"], check=True)
        sys.stderr.write(" stderr")
        print("end")

    assert run(target).exitcode == 0
    assert capfd.readouterr() == ("print write shell end\n", "shell stderr")


def test_output_that_was_not_flushed_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: sys.stdout.write("no end of line")).exitcode == 0
    assert run(lambda: (print("before"), kill_myself(signal.SIGKILL))).exitcode == -9
    assert capfd.readouterr().out == "no end of linebefore\n"


def test_output_of_nested_processes_comes_here(capfd: pytest.CaptureFixture[str]) -> None:
    def child() -> None:
        process = mp.Process(target=print, args=("grandchild",))
        process.start()
        process.join()
        print("child")

    assert run(child).exitcode == 0
    assert capfd.readouterr().out == "grandchild\nchild\n"


def test_large_output_arrives_complete_and_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    def target() -> None:
        for i in range(160_000):
            print(f"{i:063d}")

    assert run(target).exitcode == 0
    out, err = capfd.readouterr()
    assert out == "".join(f"{i:063d}\n" for i in range(160_000))
    assert err == ""


def test_output_is_here_before_join_returns(capfd: pytest.CaptureFixture[str]) -> None:
    for i in range(20):
        run(print, i)
        assert capfd.readouterr().out == f"{i}\n"


def test_streaming_can_be_switched_off(capfd: pytest.CaptureFixture[str]) -> None:
    config.set_parameter(config.STREAM_STDOUT, False)
    assert run(lambda: (print("out"), os.write(2, b"err"))).exitcode == 0
    assert capfd.readouterr() == ("", "")


# --- settings ---


def test_environment_variables_reach_nested_processes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def child() -> None:
        process = mp.Process(target=show)
        process.start()
        process.join()

    def show() -> None:
        print(*(os.environ.get(name) for name in ("LMP_ONE", "LMP_TWO", "LMP_THREE")))

    monkeypatch.setenv("LMP_TWO", "mine")
    monkeypatch.setenv("LMP_THREE", "mine")
    config.set_parameter(config.ENV_VARS, {"LMP_ONE": 1, "LMP_TWO": "set"})
    run(child)
    assert capfd.readouterr().out == "1 set mine\n"


def test_environment_is_that_of_the_parent_at_the_start(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the function that runs it may have been there before a change."""

    def show() -> None:
        print(os.environ.get("LMP_ONE"))

    for value in "before", "after":
        monkeypatch.setenv("LMP_ONE", value)
        run(show)
    monkeypatch.delenv("LMP_ONE")
    run(show)
    assert capfd.readouterr().out == "before\nafter\nNone\n"


def test_folder_and_arguments_are_those_of_the_parent(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def show() -> None:
        print(os.getcwd(), sys.argv)

    for name in "one", "two":
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setattr(sys, "argv", ["program", name])
        run(show)
        assert capfd.readouterr().out == f"{tmp_path / name} ['program', '{name}']\n"


def test_folder_that_was_deleted_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(
        ConfigurationError, match="The working directory of this program has been deleted"
    ):
        mp.Process(target=print).start()


def test_settings_made_at_run_time_reach_nested_processes(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def child() -> None:
        config.set_parameter(config.DEAD_OWNER, "raise")
        process = mp.Process(target=show)
        process.start()
        process.join()

    def show() -> None:
        print(config.get_parameter(config.LEASE), config.get_parameter(config.DEAD_OWNER))
        print(config.get_parameter(config.LITHOPS_CONFIG)["lithops"]["log_level"])

    config.update(LEASE=17, LITHOPS_CONFIG={"lithops": {"log_level": "ERROR"}})
    run(child)
    assert capfd.readouterr().out == "17 raise\nERROR\n"


def test_start_method_of_a_context_reaches_the_child(capfd: pytest.CaptureFixture[str]) -> None:
    for method in "spawn", "forkserver", "lithops":
        process = mp.get_context(method).Process(target=lambda: print(mp.get_start_method()))
        process.start()
        process.join()
    assert capfd.readouterr().out == "spawn\nforkserver\nlithops\n"


# --- many ---


def test_two_hundred_one_after_another() -> None:
    for _ in range(200):
        assert run(int).exitcode == 0


def meet(parties: int, others: int = 0) -> None:
    barrier = mp.Barrier(parties + 1)
    event = mp.Event()
    processes = [
        mp.Process(target=barrier.wait if i < parties else event.wait)
        for i in range(parties + others)
    ]
    for process in processes:
        process.start()
    barrier.wait()
    event.set()
    for process in processes:
        process.join(PATIENCE)
    assert {process.exitcode for process in processes} == {0}


def test_thirty_two_at_one_barrier() -> None:
    meet(31)


@pytest.mark.slow
def test_more_than_an_executor_runs_at_one_barrier() -> None:
    """Lithops runs no more than 64 functions of an executor at a time."""
    meet(70)


# --- threads and forks ---


def test_threads_start_and_join() -> None:
    codes: list[int | None] = []

    def work(code: int) -> None:
        for _ in range(5):
            codes.append(run(sys.exit, code).exitcode)

    threads = [threading.Thread(target=work, args=(code,)) for code in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(filter(None, codes)) == [1] * 5 + [2] * 5 + [3] * 5


def test_a_process_is_ended_from_another_thread() -> None:
    with sleeping() as process:
        thread = threading.Thread(target=process.terminate)
        thread.start()
        thread.join()
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGTERM


def test_a_signals_handler_may_use_what_it_interrupts(evidence: Evidence) -> None:
    """It runs in the middle of a request, on the same thread."""
    lock, event = mp.Lock(), mp.Event()
    lock.acquire()

    def handle(*_: object) -> None:
        event.set()
        mp.Semaphore(2).acquire()
        lock.release()

    def send() -> None:
        evidence.wait_in_line(lock, session.current().uid)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with meanwhile(send):
            assert lock.acquire(timeout=PATIENCE)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert event.is_set()
    assert not lock.acquire(block=False)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_plain_fork_starts_processes_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    lock = mp.RLock()

    def child() -> None:
        with lock:
            assert run(print, "from a fork's child").exitcode == 0
        for function in list(functions.Functions._mine.values()):
            function._end()
        session.current().end()

    run(int)
    assert fork(child) == 0
    assert capfd.readouterr() == ("from a fork's child\n", "")
    assert run(int).exitcode == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_plain_fork_does_not_hold_up_a_sentinel() -> None:
    event, ready = mp.Event(), os.pipe()
    process = mp.Process(target=event.wait)
    process.start()
    pid = os.fork()
    if pid == 0:
        os.read(ready[0], 1)  # until the parent has seen the end of the process
        os._exit(0)
    event.set()
    process.join(PATIENCE)
    assert process.exitcode == 0
    os.write(ready[1], b"x")
    os.waitpid(pid, 0)


# --- programs of their own ---

empty_server = fixtures.server(scope="function")


def test_functions_and_classes_of_main(script: Scripts) -> None:
    """There need be no guard: children do not import the program."""
    code, out, err = script(
        """
        import lithops_mp as multiprocessing
        from dataclasses import dataclass

        FACTOR = 2

        @dataclass
        class Point:
            x: int
            def times(self, factor): return Point(self.x * factor)

        class Worker(multiprocessing.Process):
            def __init__(self, point):
                super().__init__()
                self.point = point
            def run(self):
                print(type(self).__name__, self.point.times(FACTOR), self.point == Point(3))

        def show(point):
            print(point.times(FACTOR), isinstance(point, Point), __name__)
            process = multiprocessing.Process(target=lambda: print("nested", point))
            process.start()
            process.join()

        for process in (
            multiprocessing.Process(target=show, args=(Point(2),)),
            Worker(Point(3)),
            multiprocessing.Process(target=print, args=(Point(4).times(FACTOR),)),
        ):
            process.start()
            process.join()
        """
    ).finish()
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Point(x=4) True __main__",
        "nested Point(x=2)",
        "Worker Point(x=6) True",
        "Point(x=8)",
    ]


def test_names_of_nested_functions_do_not_grow(script: Scripts, server: Server) -> None:
    """They are names of files, which have their limits, and begin as the program's do."""
    code, out, err = script(
        """
        from lithops_mp import Process, popen_lithops

        def nest(depth):
            if depth:
                process = Process(target=nest, args=(depth - 1,))
                process.start()
                process.join()
                ((executor, _),) = popen_lithops.Functions.mine()._executors
                print(executor.executor_id, flush=True)

        nest(4)
        """,
        server=server,
    ).finish()
    assert (code, err) == (0, "")
    *nested, ours = out.split()
    assert len(set(nested)) == 3
    assert len({len(name) for name in nested}) == 1
    assert all(name.startswith(f"{ours}-") for name in nested)


def test_what_main_is_made_of(script: Scripts, server: Server) -> None:
    """What programs define at the top and cloudpickle alone does not carry, or not whole."""
    code, out, err = script(
        """
        import functools, pickle, threading
        from dataclasses import dataclass
        from typing import NamedTuple
        from lithops_mp import Pool, Process, Queue

        @functools.lru_cache(maxsize=50)
        def fibonacci(n):
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

        @functools.singledispatch
        def kind(value):
            return "something"

        @kind.register
        def _(value: int):
            return "a number"

        guard, local = threading.Lock(), threading.local()

        def guarded(value):
            with guard:
                local.value = value
                return not hasattr(local, "other") and guard.locked()

        class Single:
            _lock = threading.RLock()
            made = 0
            @functools.cached_property
            def number(self):
                with self._lock:
                    type(self).made += 1
                    return self.made

        @dataclass(slots=True)
        class Slots:
            value: int

        class Private:
            __slots__ = ("__value",)
            def __init__(self):
                self.__value = 5
            def get(self):
                return self.__value

        class Plugin:
            kinds = []
            def __init_subclass__(cls, *, kind):
                cls.kinds.append(kind)

        class Mine(Plugin, kind="mine"):
            pass

        class Pair(NamedTuple):
            left: int
            right: int = 2

        class Outer:
            class Inner:
                pass

        def names():
            return repr(Outer.Inner), hasattr(Slots(1), "__dict__")

        def thaw(value):
            return type(pickle.loads(pickle.dumps(value))) is type(value)

        with Pool(1) as pool:
            print(pool.apply(fibonacci, (30,)), pool.apply(lambda: fibonacci(5)))
            print(pool.apply(lambda: fibonacci.cache_parameters()))
            print(pool.apply(lambda f: f(6), (fibonacci,)))
            print(pool.apply(kind, (1,)), pool.apply(kind, ("",)))
            print(pool.apply(guarded, (1,)))
            print([pool.apply(lambda s: s.number, (Single(),)) for _ in range(3)], Single.made)
            print(pool.apply(Slots, (3,)) == Slots(3), pool.apply(Private).get())
            print(pool.apply(lambda value: value.kinds, (Mine(),)))
            print(pool.apply(lambda: Pair(1)) == Pair(1), pool.apply(Pair(7)._asdict))
            print(pool.apply(names))
            print(pool.apply(thaw, (Slots(4),)), pool.apply(thaw, (Outer.Inner,)))

        class Count:
            number = 0

        def count(asked, said):
            Count.number += 5
            while asked.get() is not None:
                said.put(Count.number)

        asked, said = Queue(), Queue()
        process = Process(target=count, args=(asked, said))
        process.start()
        for _ in range(2):
            Count.number = 100
            asked.put(Count())
            print(said.get())
        asked.put(None)
        process.join()
        """,
        server=server,
    ).finish()
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "832040 5",
        "{'maxsize': 50, 'typed': False}",
        "8",
        "a number something",
        "True",
        "[1, 2, 3] 0",
        "True 5",
        "['mine']",
        "True {'left': 7, 'right': 2}",
        "(\"<class '__main__.Outer.Inner'>\", False)",
        "True True",
        "5",
        "5",
    ]


def test_a_global_that_cannot_be_sent_is_named(script: Scripts, server: Server) -> None:
    """A lock that is an argument protects nothing there, and is refused as it always was."""
    code, out, err = script(
        """
        import queue, threading
        from lithops_mp import Process

        tasks = queue.Queue()

        class Fine:
            lock = threading.Lock()

        def take():
            return Fine, tasks.get()

        for target, args in (take, ()), (print, (threading.Lock(),)):
            try:
                Process(target=target, args=args).start()
            except TypeError as error:
                print(error)
        """,
        server=server,
    ).finish()
    assert (code, err) == (0, "")
    told, refused = out.splitlines()
    assert told.startswith("cannot pickle '_thread.lock' object. It is in 'tasks' of __main__"), (
        told
    )
    assert refused == "cannot pickle '_thread.lock' object"


def test_logging_of_the_program_is_its_own(script: Scripts, server: Server) -> None:
    """Lithops' messages are not among it, unless it asks for them."""
    code, out, err = script(
        """
        import logging, sys
        from lithops_mp import Pool

        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s")
        with Pool(1) as pool:
            logging.debug(pool.apply(abs, (-1,)))
        """,
        server=server,
    ).finish()
    assert (code, err) == (0, "")
    assert out.splitlines() == ["root"]


def test_program_that_ends_cleanly_leaves_nothing(
    script: Scripts, empty_server: Server, tmp_path: Path
) -> None:
    """Joined or not, daemonic or not, nested or not, terminated or not."""
    found = script(
        """
        import signal, sys
        import lithops_mp as mp

        def child(lock, condition, depth):
            with lock:
                print("child", depth, flush=True)
            if depth:
                mp.Process(target=child, args=(lock, condition, depth - 1)).start()

        if __name__ == "__main__":
            lock, condition = mp.Lock(), mp.Condition()
            event, barrier, semaphore = mp.Event(), mp.Barrier(2), mp.Semaphore(3)
            joined = mp.Process(target=child, args=(lock, condition, 0))
            joined.start()
            joined.join()
            terminated = mp.Process(target=signal.pause)
            terminated.start()
            terminated.terminate()
            at_barrier = mp.Process(target=barrier.wait)
            at_barrier.start()
            barrier.wait()
            mp.Process(target=event.wait, daemon=True).start()
            mp.Process(target=child, args=(lock, condition, 2)).start()
            mp.Process(target=sys.exit, args=(3,)).start()
            print("end", flush=True)
        """,
        server=empty_server,
    )
    code, out, err = found.finish()
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == ["child 0", "child 0", "child 1", "child 2", "end"]
    found.wait_nothing_left()
    assert empty_server.command("KEYS", "*") == []
    lithops = tmp_path / "tmp" / "lithops-root"
    for folder in "jobs", "logs", "modules", "storage/lithops.jobs":
        left = [path for path in (lithops / folder).rglob("*") if path.is_file()]
        assert left == []


def test_functions_do_not_need_the_copy_of_lithops(script: Scripts) -> None:
    """Each program that begins on this machine replaces it."""
    code, out, err = script(
        """
        import os, shutil
        import lithops_mp as mp
        mp.config.set_parameter("IDLE_FUNCTION", 0)
        for i in range(2):
            process = mp.Process(target=print, args=(i,))
            process.start()
            process.join()
            from lithops.constants import LITHOPS_TEMP_DIR
            folder = os.path.join(LITHOPS_TEMP_DIR, "lithops")
            shutil.rmtree(folder)
            os.mkdir(folder)
            with open(os.path.join(folder, "__init__.py"), "w") as file:
                file.write("half a copy")
        """
    ).finish()
    assert (code, out, err) == (0, "0\n1\n", "")


def test_program_without_a_server_leaves_no_process_and_no_socket(
    script: Scripts, tmp_path: Path
) -> None:
    found = script(
        """
        import lithops_mp as mp
        process = mp.Process(target=print, args=("hello",))
        process.start()
        process.join()
        """
    )
    assert found.finish() == (0, "hello\n", "")
    found.wait_nothing_left()
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["lithops-root"]


def test_program_waits_for_its_children_and_ends_daemonic_ones(
    script: Scripts, tmp_path: Path
) -> None:
    found = script(
        """
        import os, signal, sys
        import lithops_mp as mp

        def last(event):
            event.wait()
            print("the last word", flush=True)

        def terminated(*_):
            os.write(1, b"terminated\\n")
            sys.exit()

        def until_terminated():
            signal.signal(signal.SIGTERM, terminated)
            os.write(1, b"ready\\n")
            while True:
                signal.pause()

        event = mp.Event()
        mp.Process(target=last, args=(event,)).start()
        mp.Process(target=until_terminated, daemon=True).start()
        sys.stdin.read(1)
        event.set()
        """
    )
    found.wait_for("ready")
    code, out, err = found.finish(b"x")
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == ["terminated", "the last word"]


def test_what_is_written_at_the_end_is_not_lost(script: Scripts) -> None:
    code, out, err = script(
        """
        import lithops_mp as mp
        def chatter():
            for i in range(20_000):
                print(f"{i:099d}")
        for _ in range(2):
            mp.Process(target=chatter).start()
        """
    ).finish()
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == sorted([f"{i:099d}" for i in range(20_000)] * 2)


def test_output_waits_for_a_slow_terminal(script: Scripts, empty_server: Server) -> None:
    """It is not heaped up in Redis, and not lost."""
    size = 64 * 1024 * 1024
    found = script(
        f"""
        import os
        import lithops_mp as mp
        from lithops_mp._store import session
        def chatter():
            for i in range({size} // 65536):
                os.write(1, b"%065535d\\n" % i)
        process = mp.Process(target=chatter)
        process.start()
        os.write(2, session.current().uid.encode() + b"\\n")
        process.join()
        """,
        server=empty_server,
    )
    assert found.process.stderr
    inbox = keys.inbox(found.process.stderr.readline().decode().strip())

    def waiting() -> int:
        return int(empty_server.command("XLEN", inbox))

    lengths: list[int] = []

    def steady() -> bool:
        # Nobody reads: what waits grows until the writer is held up, and no more.
        lengths.append(waiting())
        return len(lengths) > 100 and lengths[-1] > 256 and len(set(lengths[-100:])) == 1

    eventually(steady, f"a writer that is held up; {lengths[-5:]}")
    assert waiting() < 300
    data = found.read(size)
    assert data == b"".join(b"%065535d\n" % i for i in range(size // 65536))
    assert found.finish() == (0, "", "")


LISTENING = """
    import os, signal, sys, time
    import lithops_mp as mp

    def sleep(depth):
        try:
            if depth:
                mp.Process(target=sleep, args=(depth - 1,)).start()
            else:
                print("ready", flush=True)
            while True:  # a signal that comes right before a long sleep waits for its end
                time.sleep(0.1)
        except KeyboardInterrupt:
            print("interrupted", depth, flush=True)
            raise
"""


def test_ctrl_c_ends_the_program_and_its_descendants(script: Scripts, empty_server: Server) -> None:
    found = script(
        LISTENING
        + """
    process = mp.Process(target=sleep, args=(2,))
    process.start()
    process.join()
    """,
        server=empty_server,
    )
    found.wait_for("ready")
    os.killpg(found.pid, signal.SIGINT)  # as the terminal does
    code, out, err = found.finish()
    assert code == -signal.SIGINT
    assert sorted(out.splitlines()) == [f"interrupted {depth}" for depth in range(3)]
    assert err.count("KeyboardInterrupt") == 4
    found.wait_nothing_left()
    assert empty_server.command("KEYS", "*") == []


def test_ctrl_c_at_the_end_is_for_those_it_waits_for(script: Scripts, empty_server: Server) -> None:
    found = script(
        LISTENING
        + """
    from lithops_mp import popen_lithops

    def wait_for(*args):
        print("waiting", flush=True)
        return wait_for_all(*args)

    wait_for_all, popen_lithops.wait_for = popen_lithops.wait_for, wait_for
    mp.Process(target=sleep, args=(1,)).start()
    """,
        server=empty_server,
    )
    found.wait_for("ready", "waiting")
    os.killpg(found.pid, signal.SIGINT)
    code, out, err = found.finish()
    assert sorted(out.splitlines()) == ["interrupted 0", "interrupted 1", "waiting"]
    assert code == 0, err
    found.wait_nothing_left()
    assert empty_server.command("KEYS", "*") == []


def test_ctrl_c_that_was_handled_leaves_the_children_alone(script: Scripts) -> None:
    found = script(
        """
        import sys, time
        import lithops_mp as mp
        def child(event):
            print("ready", flush=True)
            event.wait()
            print("child ends", flush=True)
        event = mp.Event()
        mp.Process(target=child, args=(event,)).start()
        try:
            time.sleep(1000)
        except KeyboardInterrupt:
            print("handled", flush=True)
        event.set()
        """
    )
    found.wait_for("ready")
    os.killpg(found.pid, signal.SIGINT)
    code, out, err = found.finish()
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == ["child ends", "handled"]


def test_a_fork_that_ends_normally_leaves_nothing(script: Scripts, empty_server: Server) -> None:
    """A fork that is the first to start a process has a terminal of its own, too."""
    found = script(
        """
        import os, sys
        import lithops_mp as mp
        lock = mp.RLock()
        lock.acquire()
        pid = os.fork()
        if pid == 0:
            assert not lock.acquire(block=False)
            process = mp.Process(target=print, args=("x" * 1000,))
            process.start()
            process.join()
            sys.exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        lock.release()
        """,
        server=empty_server,
    )
    code, out, err = found.finish()
    assert (code, err) == (0, "")
    assert out.splitlines() == ["x" * 1000, "5"]
    found.wait_nothing_left()
    assert empty_server.command("KEYS", "*") == []


def test_a_bad_backend_is_named(script: Scripts) -> None:
    code, _, err = script(
        """
        import lithops_mp as mp
        mp.config.update(
            REDIS_URL="redis://localhost:1",
            LITHOPS_CONFIG={"lithops": {"backend": "aws_lambda"}},
        )
        mp.Process(target=int).start()
        """
    ).finish()
    assert code == 1
    assert "localhost:1" in err


def test_a_remote_backend_without_a_server_is_refused(script: Scripts) -> None:
    code, _, err = script(
        """
        import lithops_mp as mp
        mp.config.set_parameter(
            "LITHOPS_CONFIG", {"lithops": {"backend": "aws_lambda", "storage": "aws_s3"}}
        )
        mp.Process(target=int).start()
        """
    ).finish()
    assert code == 1
    assert "ConfigurationError" in err
    assert "aws_lambda" in err


# Lithops leaves the file open that it looks at.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_modules_that_a_target_needs_are_found_for_another_machine(tmp_path: Path) -> None:
    """Lithops resolves the names that we find to the files that it ships."""
    from lithops.job.serialize import SerializeIndependent

    (tmp_path / "needed_there.py").write_text("def work(): pass\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import needed_there

        pickled = cloudpickle.dumps((needed_there.work, json.dumps, int))
        names = functions.modules_of(pickled)
        shipped = SerializeIndependent([]).module_paths([], names, [])
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("needed_there", None)
    assert names == ["lithops_mp", "needed_there"]
    assert str(tmp_path / "needed_there.py") in shipped
    assert any(path.endswith("lithops_mp") for path in shipped)
