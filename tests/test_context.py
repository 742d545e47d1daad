"""Names: what ``import lithops_mp as multiprocessing`` gives, and what a handle is."""

from __future__ import annotations

import copy
import importlib
import inspect
import logging
import multiprocessing
import os
import pickle
import pkgutil
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support import fixtures
from support.programs import fork, ident_of

import lithops_mp as mp
from lithops_mp import managers
from lithops_mp._store import keys, session
from lithops_mp.context import DefaultContext
from lithops_mp.errors import ObjectExpired

MODULES = (
    *("context", "dummy", "pool", "process", "reduction", "sharedctypes"),
    *("synchronize", "util"),
)
LATER = ("heap", "resource_sharer", "resource_tracker", "shared_memory")

server = fixtures.server()
evidence = fixtures.evidence(autouse=True)


# --- names ---


def test_every_public_name_of_cpython_is_here() -> None:
    assert set(multiprocessing.__all__) <= set(mp.__all__)
    assert all(hasattr(mp, name) for name in mp.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_submodules_have_the_names_of_cpythons(name: str) -> None:
    theirs = importlib.import_module(f"multiprocessing.{name}")
    ours = importlib.import_module(f"lithops_mp.{name}")
    assert getattr(mp, name) is ours
    assert [found for found in theirs.__all__ if not hasattr(ours, found)] == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *(("connection", "AuthenticationError"), ("context", "BaseContext")),
        *(("context", "Process"), ("pool", "TimeoutError")),
    ],
)
def test_other_names_that_programs_import_are_there(module: str, name: str) -> None:
    theirs = getattr(importlib.import_module(f"multiprocessing.{module}"), name)
    ours = getattr(importlib.import_module(f"lithops_mp.{module}"), name)
    assert ours is (mp.Process if name == "Process" else theirs)


@pytest.mark.parametrize(
    "name",
    [name for name in multiprocessing.__all__ if inspect.ismethod(getattr(multiprocessing, name))],
)
def test_functions_take_what_cpythons_take(name: str) -> None:
    """What a function takes beyond that has to be named."""
    theirs = inspect.signature(getattr(multiprocessing, name)).parameters.values()
    ours = inspect.signature(getattr(mp, name)).parameters.values()
    known = {p.name for p in theirs}
    own = [p for p in ours if p.name in known or p.kind is not p.KEYWORD_ONLY]
    assert [(p.name, p.default) for p in theirs] == [(p.name, p.default) for p in own]


@pytest.mark.parametrize("name", LATER)
def test_a_module_to_come_says_so_when_it_is_imported(name: str) -> None:
    message = f"lithops_mp has no module '{name}' yet; it comes in a later version"
    with pytest.raises(ModuleNotFoundError, match=message):
        importlib.import_module(f"lithops_mp.{name}")
    with pytest.raises(ModuleNotFoundError, match=message):
        exec(f"from lithops_mp import {name}")
    with pytest.raises(AttributeError, match=message):
        getattr(mp, name)
    assert not hasattr(mp, name)


def test_a_manager_to_come_says_so_when_it_is_imported() -> None:
    with pytest.raises(ImportError, match="no SharedMemoryManager yet; it comes in a later"):
        exec("from lithops_mp.managers import SharedMemoryManager")
    assert not hasattr(managers, "SharedMemoryManagers")


def test_every_module_of_cpythons_is_there_or_says_why_not() -> None:
    said = []
    for module in pkgutil.iter_modules(multiprocessing.__path__):
        try:
            importlib.import_module(f"lithops_mp.{module.name}")
        except ModuleNotFoundError as error:
            said.append(str(error))
    assert said
    assert [text for text in said if not text.startswith("lithops_mp has no module")] == []


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lithops_mp' has no attribute 'Prozess'"):
        _ = mp.Prozess


def test_import_is_cheap() -> None:
    """Neither Lithops nor redis-py, which take half a second, before they are needed."""
    code = "import lithops_mp, sys; print(*{'lithops', 'redis', 'cloudpickle'} & set(sys.modules))"
    folder = os.path.dirname(os.path.dirname(mp.__file__))
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert found.stdout == "\n"


def test_state_of_processes_is_cpythons() -> None:
    """So code that asks the standard library gets the same answers."""
    assert mp.current_process() is multiprocessing.current_process()
    assert mp.active_children() == multiprocessing.active_children()
    assert mp.parent_process() is None
    for name in "ProcessError", "TimeoutError", "BufferTooShort", "AuthenticationError":
        assert getattr(mp, name) is getattr(multiprocessing, name)
    assert mp.get_logger() is multiprocessing.get_logger()
    assert mp.cpu_count() == multiprocessing.cpu_count()


def test_log_to_stderr_logs_processes(capsys: pytest.CaptureFixture[str]) -> None:
    logger = mp.get_logger()
    level, handlers = logger.level, list(logger.handlers)
    try:
        mp.log_to_stderr(logging.INFO).info("a word")
        assert "[INFO/MainProcess] a word\n" in capsys.readouterr().err
    finally:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        mp.util._log_to_stderr = False


def test_nothing_to_do_is_done() -> None:
    mp.freeze_support()
    mp.allow_connection_pickling()
    mp.set_executable(sys.executable)
    mp.set_forkserver_preload(["os"])


# --- contexts ---


@pytest.fixture
def default() -> DefaultContext:
    return DefaultContext()


def test_start_method_is_set_once(default: DefaultContext) -> None:
    assert default.get_start_method(allow_none=True) is None
    default.set_start_method("spawn")
    assert default.get_start_method() == "spawn"
    with pytest.raises(RuntimeError, match="context has already been set"):
        default.set_start_method("lithops")
    default.set_start_method("forkserver", force=True)
    assert default.get_start_method() == "forkserver"
    default.set_start_method(None, force=True)
    assert default.get_start_method(allow_none=True) is None
    assert default.get_start_method() == "lithops"
    with pytest.raises(RuntimeError, match="context has already been set"):
        default.set_start_method("spawn")


def test_contexts_have_cpythons_names(default: DefaultContext) -> None:
    assert default.get_all_start_methods() == ["lithops", "spawn", "forkserver"]
    for name in default.get_all_start_methods():
        context = default.get_context(name)
        assert context.get_start_method() == name
        assert context.get_context() is context
        assert context is mp.get_context(name)
        assert issubclass(context.Process, mp.Process)
        with pytest.raises(ValueError, match="cannot set start method of concrete context"):
            context.set_start_method("spawn")


@pytest.mark.parametrize("method", ["fork", "threads"])
def test_other_start_methods_are_refused(default: DefaultContext, method: str) -> None:
    for use in default.get_context, default.set_start_method, mp.get_context("spawn").get_context:
        with pytest.raises(ValueError, match=f"cannot find context for '{method}'"):
            use(method)


# --- handles ---

MAKERS: dict[str, Callable[[], Any]] = {
    "Lock": mp.Lock,
    "RLock": mp.RLock,
    "Semaphore": lambda: mp.Semaphore(2),
    "BoundedSemaphore": lambda: mp.BoundedSemaphore(2),
    "Condition": mp.Condition,
    "Event": mp.Event,
    "Barrier": lambda: mp.Barrier(2),
}
handles = pytest.mark.parametrize("kind", MAKERS)


@handles
def test_a_handle_is_of_its_class(kind: str) -> None:
    assert type(MAKERS[kind]()) is getattr(mp.synchronize, kind)


@handles
def test_a_handle_is_pickled_by_name(kind: str) -> None:
    """At any time, unlike CPython's; both are the same object."""
    handle = MAKERS[kind]()
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(handle, protocol))
        assert type(twin) is type(handle)
        assert state(twin) == state(handle)
    twin = copy.copy(handle)
    change(handle)
    assert state(twin) == state(handle) != state(MAKERS[kind]())


def state(handle: Any) -> object:
    """What a look at it shows."""
    if hasattr(handle, "is_set"):
        return handle.is_set()
    if hasattr(handle, "broken"):
        return handle.broken
    return getattr(handle, "_lock", handle)._semlock._get_value()


def change(handle: Any) -> None:
    next(getattr(handle, name) for name in ("set", "abort", "acquire") if hasattr(handle, name))()


@handles
def test_a_handle_outlives_its_maker(kind: str) -> None:
    """A pickled one keeps its object for a while, and each handle as long as it is there."""
    pickled = pickle.dumps(MAKERS[kind]())
    mp.Event()  # a call, at which what was dropped is let go
    handle = pickle.loads(pickled)
    assert state(handle) is not None


@handles
def test_a_handle_whose_object_is_gone_says_so(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    handle = MAKERS[kind]()
    for found in handle, getattr(handle, "_lock", handle):
        session.current().client.plain("DEL", keys.state(ident_of(found)))
    with pytest.raises(ObjectExpired):
        state(handle)
    assert "unknown" in repr(handle)
    process = mp.Process(target=print, args=(handle,))
    process.start()
    process.join()
    assert process.exitcode == 1
    assert "ObjectExpired: the state of this " in capfd.readouterr().err


def test_representations_are_cpythons() -> None:
    lock, rlock, semaphore = mp.Lock(), mp.RLock(), mp.Semaphore(3)
    assert repr(lock) == "<Lock(owner=None)>"
    assert repr(rlock) == "<RLock(None, 0)>"
    assert repr(semaphore) == "<Semaphore(value=3)>"
    assert repr(mp.BoundedSemaphore(3)) == "<BoundedSemaphore(value=3, maxvalue=3)>"
    assert repr(mp.Condition(rlock)) == "<Condition(<RLock(None, 0)>, 0)>"
    assert repr(mp.Event()).endswith(" unset>")
    with lock, rlock, rlock, semaphore:
        assert repr(lock) == "<Lock(owner=MainProcess)>"
        assert repr(rlock) == "<RLock(MainProcess, 2)>"
        assert repr(semaphore) == "<Semaphore(value=2)>"


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_a_lock_is_a_context_manager(kind: str) -> None:
    handle = MAKERS[kind]()
    before = state(handle)

    def fail() -> None:
        with handle:
            assert state(handle) == before - 1
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert state(handle) == before


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_does_not_hold_what_its_parent_holds() -> None:
    lock = mp.RLock()
    event = mp.Event()

    def child() -> None:
        assert not lock.acquire(block=False)
        with pytest.raises(AssertionError, match="not owned by thread"):
            lock.release()
        event.set()
        session.current().end()

    with lock:
        assert fork(child) == 0
        assert lock._semlock._count() == 1
        assert lock.acquire(block=False)
        lock.release()
    assert event.is_set()


def test_a_thread_does_not_hold_what_another_holds() -> None:
    lock = mp.RLock()
    found: list[object] = []
    with lock:
        thread = threading.Thread(target=lambda: found.append(lock.acquire(block=False)))
        thread.start()
        thread.join()
    assert found == [False]
