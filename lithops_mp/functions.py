"""Functions: all that is asked of Lithops.

Only this module imports Lithops, and not before it is needed, since that takes a while.
A function runs ``worker.host``, here or anywhere; which process it begins with, and how it finds
the server, is in the bytes that it is given.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import pickle
import pickletools
import queue
import re
import shlex
import sys
import threading
import types
import warnings
from collections.abc import Callable
from multiprocessing import util
from typing import Any, ClassVar

from . import config, details
from ._store import keys, processes
from ._store.session import current
from ._store.settings import backend_of, load_lithops_config
from .errors import ServerUnavailable

# Lithops' localhost backend runs so many functions of an executor at a time; the
# next executor takes over where one is full, so no process waits for another.
FUNCTIONS_PER_EXECUTOR = 64

# Seconds a function may run, if neither the configuration nor the platform says so.
# Lithops wants a number; twenty days stand for no limit.
EXECUTION_LIMIT = 20 * 86400


class Call:
    """One invocation of a function by Lithops."""

    def __init__(self, executor: Any, future: Any) -> None:
        self._executor = executor
        self._future = future

    @property
    def over(self) -> bool:
        """Has Lithops seen the end of it? It looks every two seconds."""
        if self._future.ready or self._future.success or self._future.done:
            return True
        # Of a function of this machine that was killed, or never began, Lithops
        # reports nothing; it only knows that its process is gone.
        environment = getattr(self._executor.compute_handler, "env", None)
        latch = environment and environment.jobs.get(self._future.job_key)
        return bool(latch and latch.done)

    @property
    def log(self) -> str:
        """Where Lithops keeps its output."""
        from lithops.constants import LOGS_DIR

        return os.path.join(LOGS_DIR, f"{self._future.job_key}.log")


class Functions:
    """Lithops' executors for this process, under the present configuration.

    All calls into Lithops come from one daemon thread: threads that Lithops
    starts are then daemons, too, and do not hold up the program's end.
    """

    _mine: ClassVar[dict[str, Functions]] = {}
    _lock = threading.Lock()
    _pid = 0

    def __init__(self, lithops_config: dict[str, Any], runtime: str) -> None:
        self.lithops_config = lithops_config
        self.local = backend_of(lithops_config) == "localhost"
        self.runtime = runtime
        self._executors: list[tuple[Any, list[Call]]] = []
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        util.Finalize(self, self._end, exitpriority=-50)

    @classmethod
    def mine(cls) -> Functions:
        """Those of this operating-system process and the present LITHOPS_CONFIG."""
        overrides = config.get_parameter(config.LITHOPS_CONFIG)
        found, _ = load_lithops_config(overrides)
        runtime = keys.digest(repr(sorted(found.items())))
        with cls._lock:
            if cls._pid != os.getpid():
                cls._mine, cls._pid = {}, os.getpid()
            if runtime not in cls._mine:
                cls._mine[runtime] = cls(found, runtime)
            return cls._mine[runtime]

    def most(self) -> int | None:
        """How many functions the backend runs at once; None on this machine."""
        if self.local:
            return None
        from lithops.config import default_config

        settings = default_config(config_data=self.lithops_config)
        return int(settings[settings["lithops"]["backend"]]["max_workers"])

    def kind(self, modules: list[str]) -> str:
        """Which functions can run a process: elsewhere, those that have its modules."""
        return self.runtime if self.local else keys.digest(f"{self.runtime} {modules}")

    def invoke(self, uid: str, modules: list[str]) -> Call:
        """A new function, which begins with the process ``uid``."""
        session = current()
        idle = config.get_parameter(config.IDLE_FUNCTION)
        if idle is None:
            idle = 10 if self.local else 0
        order = {
            "uid": uid,
            "settings": session.settings.to_wire(),
            "program": session.program,
            "runtime": self.kind(modules),
            "ttl": session.ttl,
            # Others may use a function after us only if it does not end with us.
            "idle": idle if session.uid == session.program else 0,
            "path": import_path() if self.local else None,
        }
        done: concurrent.futures.Future[Call] = concurrent.futures.Future()
        # A function on this machine finds what we find, by our path.
        shipped = None if self.local else modules
        self._ask(lambda: self._invoke(order, shipped), done)
        return done.result()

    def _ask(self, what: Callable[[], Any], done: concurrent.futures.Future[Any]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._serve, name="lithops_mp launcher", daemon=True
            )
            self._thread.start()
        self._requests.put((what, done))

    def _serve(self) -> None:
        while True:
            what, done = self._requests.get()
            try:
                done.set_result(what())
            except BaseException as error:
                done.set_exception(error)

    # -- in the launcher thread --

    def _invoke(self, order: dict[str, Any], modules: list[str] | None) -> Call:
        executor, calls = self._executor()
        # The configuration's own word, and the platform's.
        own = (self.lithops_config.get("lithops") or {}).get("execution_timeout")
        platform = (executor.config.get(executor.backend) or {}).get("runtime_timeout")
        limit = min(filter(None, (own, platform)), default=EXECUTION_LIMIT)
        future = executor.call_async(
            _entry(),
            (pickle.dumps({**order, "limit": limit}),),
            timeout=limit,
            include_modules=modules,
        )
        call = Call(executor, future)
        calls.append(call)
        return call

    def _executor(self) -> tuple[Any, list[Call]]:
        for executor, calls in self._executors:
            calls[:] = [call for call in calls if not call.over]
            if not self.local or len(calls) < FUNCTIONS_PER_EXECUTOR:
                return executor, calls
        self._executors.append((self._new_executor(), []))
        return self._executors[-1]

    def _new_executor(self) -> Any:
        import lithops
        from lithops.constants import SESSION_ID_ENV

        settings = dict(self.lithops_config)
        settings["lithops"] = {**(settings.get("lithops") or {}), "data_cleaner": False}
        if self.local:
            settings["lithops"].setdefault("backend", "localhost")
            settings["lithops"].setdefault("storage", "localhost")
            local = {"runtime": interpreter(), **(settings.get("localhost") or {})}
            workers = max(FUNCTIONS_PER_EXECUTOR, local.get("worker_processes", 0))
            settings["localhost"] = {**local, "worker_processes": workers, "version": 2}
        session = current()
        if session.uid != session.program:
            # A fork, or a target of a function that ran others before, must not
            # count executors on where its twin does: their files would mix.
            # Names begin as the program's do, which cleans up after those that were
            # killed, and do not grow with each generation: they are names of files.
            name = re.sub("-[0-9a-f]{16}(-.*)?$", "", os.environ.get(SESSION_ID_ENV, ""))
            os.environ[SESSION_ID_ENV] = f"{name}-{session.uid}"
        logger = logging.getLogger("lithops")
        if logger.level == logging.NOTSET:
            # The program's own logging is not to tell how its processes are started.
            logger.setLevel(logging.WARNING)
        executor = lithops.FunctionExecutor(config=settings, log_level=None)
        if self.local:
            # The payload says how to reach the server, and Lithops' files are
            # open to every user of this machine.
            from lithops.constants import LITHOPS_TEMP_DIR

            with contextlib.suppress(OSError):
                os.chmod(LITHOPS_TEMP_DIR, 0o700)
        return executor

    def _end(self) -> None:
        """The program is over, and its children are: end the functions, leave no file."""
        if self._pid != os.getpid() or not self._executors:
            return
        session, told = current(), []
        if session.uid == session.program:
            with contextlib.suppress(ServerUnavailable):
                told = processes.stop_functions(session.client, session.program)
        for executor, _ in self._executors:
            executor.__exit__(None, None, None)  # which kills what runs on this machine
            _clean(executor)
        if self.local and told:
            with contextlib.suppress(ServerUnavailable):
                session.client.plain("DEL", *told)


def _clean(executor: Any) -> None:
    """Delete what an executor's jobs left in Lithops' storage and folders."""
    import shutil

    from lithops.constants import JOBS_DIR, JOBS_PREFIX, LOGS_DIR, MODULES_DIR

    with contextlib.suppress(Exception):
        bucket = executor.internal_storage.bucket
        for end in "-", "/":  # of its jobs, of its functions; "1" is no prefix of "10"
            prefix = f"{JOBS_PREFIX}/{executor.executor_id}{end}"
            found = executor.storage.list_keys(bucket, prefix=prefix)
            if found:
                executor.storage.delete_objects(bucket, found)
    if executor.backend != "localhost":
        return
    for folder in (JOBS_DIR, LOGS_DIR, MODULES_DIR):
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if name.startswith(f"{executor.executor_id}-"):
                    path = os.path.join(folder, name)
                    if os.path.isdir(path):
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        os.unlink(path)


def draw(stats: list[details.Stats], path: str) -> None:
    """Lithops' timeline and histogram. Raises ImportError without its plotting extra."""
    from lithops.plots import create_histogram, create_timeline

    calls = [types.SimpleNamespace(stats=one) for one in stats]
    for create in create_timeline, create_histogram:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of axes that are shorter than a second
            create(calls, path)


def _entry() -> Callable[[bytes], None]:
    """What Lithops runs. It travels by value, so it finds us by the path it brings."""

    def lithops_mp_function(payload: bytes) -> None:
        import pickle
        import sys

        path = pickle.loads(payload)["path"]
        if path:
            sys.path[:] = path
        from lithops_mp.worker import host

        host(payload)

    # cloudpickle sends the functions of __main__ by value.
    return types.FunctionType(
        lithops_mp_function.__code__,
        {"__builtins__": __builtins__, "__name__": "__main__"},
        "lithops_mp_function",
    )


def modules_of(pickled: bytes) -> list[str]:
    """The modules, beside the standard library's, that a pickle will import.

    Lithops looks for them in the function it is given, not in bytes. Every text in
    the pickle that names a loaded module counts, so it may be one too many.
    """
    texts = {arg for _, arg, _ in pickletools.genops(pickled) if isinstance(arg, str)}
    found = {text.partition(".")[0] for text in texts if text in sys.modules}
    return sorted((found | {"lithops_mp"}) - set(sys.stdlib_module_names) - {"__main__"})


def import_path() -> list[str]:
    """``sys.path`` as it is for a process in another folder."""
    return [os.path.abspath(entry) for entry in sys.path]


def interpreter() -> str:
    """This Python, called by a small script beside the runner that Lithops starts with it.

    By itself it would take Lithops from the copy that lies there, too. Each program
    that begins on this machine replaces that copy, and whoever imports it meanwhile
    fails. Besides, Lithops takes the path for a container image's name, in which
    neither a space nor most punctuation may stand.
    """
    from lithops.constants import LITHOPS_TEMP_DIR

    script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(_RUN)} "$@"\n'
    path = os.path.join(LITHOPS_TEMP_DIR, f"python-{keys.digest(script)}")
    if not os.path.exists(path):
        os.makedirs(LITHOPS_TEMP_DIR, exist_ok=True)
        staged = f"{path}.{keys.new_id()}"
        with open(staged, "w") as file:
            file.write(script)
        os.chmod(staged, 0o755)
        os.replace(staged, path)
    accepted = re.fullmatch(r"[A-Za-z0-9_/.:-]+", path) and os.access(path, os.X_OK)
    return path if accepted else sys.executable


# As if python were called with the rest of the arguments, but with nothing of the
# script's folder or of this one in front of the installed modules.
_RUN = (
    "import runpy, sys; sys.path[:] = filter(None, sys.path); del sys.argv[0]; "
    'runpy.run_path(sys.argv[0], run_name="__main__")'
)


def _after_fork() -> None:
    # Another thread may have held it when this process was forked off.
    Functions._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
