"""Launching: CPython's ``Popen`` contract over Lithops functions.

A process is described in Redis (its record, and the pickled process object);
then it is handed to a function of this program that is idle, or else Lithops is
asked for a new one. ``start`` does not wait for the function: ``pid`` does.

One listener thread per parent reads the parent's inbox and serves all its
children: it notes that they started, writes their output to this program's
file descriptors, and closes the write end of their sentinel when they end. The
message about the end is a hint; every few seconds it asks the records, which
also shows functions that died and launches that failed.
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
import select
import shlex
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable
from multiprocessing import context, process, util
from multiprocessing.connection import wait as wait_for
from typing import Any, ClassVar, NoReturn

from . import alias, config, details
from ._store import keys, processes
from ._store.client import Client
from ._store.scripts import script
from ._store.session import Session, current
from ._store.settings import backend_of, load_lithops_config
from .errors import ServerUnavailable
from .reduction import ProcessPickler

__all__ = ["Popen"]

# Redis refuses strings over 512 MB; a large argument travels in such pieces.
PIECE = 64 * 1024 * 1024

# How often the records of children are asked, besides what the inbox tells.
SAFETY = 2.0

# Seconds an idle function may take to claim the process it was handed before
# another one is invoked. Claiming is exclusive, so being early is harmless.
CLAIM = 5.0

# How many functions are invoked for a process before it is given up: one that dies
# before it begins may have been unlucky, a second one is not.
ATTEMPTS = 2

# Lithops' localhost backend runs so many functions of an executor at a time; the
# next executor takes over where one is full, so no process waits for another.
FUNCTIONS_PER_EXECUTOR = 64

# Seconds a function may run, if neither the configuration nor the platform says so.
# Lithops wants a number; twenty days stand for no limit.
EXECUTION_LIMIT = 20 * 86400


class Popen:
    """One child process, as its parent sees it."""

    method = "lithops"

    def __init__(self, process_obj: process.BaseProcess) -> None:
        util._flush_std_streams()  # type: ignore[attr-defined]
        self.returncode: int | None = None
        self.uid = keys.new_id()
        self.name = process_obj.name
        self.placed = 0.0
        self.invocations = 0
        self.future: Any = None
        self.times = [time.time()]
        self._exports = getattr(process_obj, "_exports", True)
        #: Is another one to take its place if it stands still for its lease?
        self.replaceable = getattr(process_obj, "_replaceable", False)
        self._pid: int | None = None
        self._started = threading.Event()
        self._launch(process_obj)

    # -- CPython's contract --

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, or None while the child runs. No round trip."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end; the exit code, or None if ``timeout`` seconds passed first."""
        if self.returncode is None:
            try:
                wait_for([self.sentinel], timeout)
            except KeyboardInterrupt:
                if not util.is_exiting():
                    raise
                # Pressed while the program waits at its end, Ctrl-C is meant for
                # those it waits for. Pressed again, it ends the waiting.
                interrupt_all()
                wait_for([self.sentinel], timeout)
        if self.returncode is not None and self._exports:
            self._export()
        return self.returncode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def interrupt(self) -> None:
        """Send SIGINT."""
        self._send_signal(signal.SIGINT)

    def close(self) -> None:
        """Close the sentinel."""
        self._close_sentinel()

    def _send_signal(self, number: int) -> None:
        if self.returncode is None:
            session = current()
            processes.order(session.client, self.uid, "signal", number, session.ttl)
            if not self._started.is_set():
                Listener.mine().check(self, session.client)  # that may have been its end

    @property
    def pid(self) -> int | None:
        """The pid on the machine it runs on; None until it is known."""
        return self._pid

    def wait_pid(self) -> int | None:
        """The pid, once the child has started; None if it ended without starting."""
        self._started.wait()
        return self._pid

    # What CPython's reducers of connections and sockets ask of who is being started.
    DupFd = int

    def duplicate_for_child(self, fd: int) -> NoReturn:
        """Refuse."""
        raise TypeError(
            "a connection or socket of multiprocessing cannot be sent to a Lithops function, "
            "which may run on another machine"
        )

    # -- what the listener calls --

    def note_start(self, pid: int, at: float) -> None:
        """The child runs, since then."""
        self._pid = pid
        self.times.append(at)
        self._started.set()

    def note_end(self, code: int, at: float | None = None) -> None:
        """The child is over: whoever waits on the sentinel wakes."""
        if self.returncode is None:
            self.times.append(at or time.time())
            self.returncode = code
            self._started.set()
            # A byte, since a plain fork of ours may keep a copy of this end open.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._alive, b"\0")
            os.close(self._alive)

    def _export(self) -> None:
        """Say once when it ran, if that is asked for."""
        self._exports = False
        if details.wanted() and len(self.times) == 3:  # it has begun
            made, began, ended = self.times
            times = details.Times(made, made, began, ended, time.time())
            stats = {self.uid: times.stats(name=self.name, exitcode=self.returncode)}
            details.write(f"{self.name}-{self.uid[:8]}", stats, draw)

    # -- launching --

    def _launch(self, process_obj: process.BaseProcess) -> None:
        session = current()
        listener = Listener.mine()
        # Once: it reads Lithops' configuration, which may be a file.
        self.functions = Functions.mine()
        context.set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            with session.lending() as lent:
                pickled = ProcessPickler.dumps(process_obj)
                self.modules = [] if self.functions.local else modules_of(pickled)
        finally:
            context.set_spawning_popen(None)
        header = pickle.dumps(self._describe(session, process_obj))
        self.sentinel, self._alive = os.pipe()
        self._close_sentinel = util.Finalize(self, os.close, (self.sentinel,))
        try:
            self._write(session, header, pickled, lent)
            listener.add(self)  # it has a record now, which the listener may ask
            if not self._place(session):
                self.invoke()
        except BaseException:
            listener.remove(self)
            os.close(self._alive)
            self.close()
            processes.close(session.client, self.uid, session.ttl, "")
            processes.forget(session.client, self.uid)
            session.client.plain("SREM", keys.children(session.uid), self.uid)
            raise

    def _describe(self, session: Session, process_obj: process.BaseProcess) -> dict[str, Any]:
        from .context import _default_context as default

        functions = self.functions
        method = getattr(process_obj, "_method", None)
        logger = util._logger  # type: ignore[attr-defined]  # None until there is one
        main = sys.modules.get("__main__")
        spec: dict[str, Any] = {
            "name": process_obj.name,
            "daemon": process_obj.daemon,
            "parent": session.uid,
            "program": session.program,
            "terminal": session.terminal,
            "ttl": session.ttl,
            "lease": session.lease,
            "grace": config.get_parameter(config.PROGRAM_GRACE),
            "heartbeat": config.get_parameter(config.HEARTBEAT),
            "stream": config.get_parameter(config.STREAM_STDOUT),
            "config": {**config.snapshot(), config.LITHOPS_CONFIG: functions.lithops_config},
            "environ": {k: str(v) for k, v in config.get_parameter(config.ENV_VARS).items()},
            "argv": sys.argv,
            "main": getattr(main, "__file__", None),
            "package": getattr(main, "__package__", None),
            "alias": alias.installed(),
            "method": method or default.get_start_method(allow_none=True),
            "log_level": logger.getEffectiveLevel() if logger else None,
            "log_to_stderr": util._log_to_stderr,  # type: ignore[attr-defined]
        }
        if functions.local:
            # As CPython's children have it; the function may be older than a change.
            spec["environ"] = {**os.environ, **spec["environ"]}
            spec |= {"cwd": os.getcwd(), "path": import_path()}
        return spec

    def _write(self, session: Session, header: bytes, pickled: bytes, lent: list[Any]) -> None:
        client = session.client
        children, spec = keys.children(session.uid), keys.spec(self.uid)
        described: list[processes.Words] = [
            ("SADD", children, self.uid),
            ("PEXPIRE", children, session.ttl),
            ("HSET", spec, 0, header, 1, pickled[:PIECE]),
            ("PEXPIRE", spec, session.ttl),
        ]
        if lent or len(pickled) > PIECE:
            client.plains(*described)
            described = []
        for number, start in enumerate(range(PIECE, len(pickled), PIECE), start=2):
            client.plain("HSET", spec, number, pickled[start : start + PIECE])
        session.lend(lent, self.uid)
        about = {"parent": session.uid, "program": session.program}
        times = session.ttl, session.lease
        processes.register(client, self.uid, "starting", *times, self.name, about, after=described)

    def _place(self, session: Session) -> bool:
        idle = keys.idle(session.program, self.functions.kind(self.modules))
        reply = session.client.call(script("process/place").on(idle), (self.uid,))
        self.placed = time.monotonic()
        return bool(reply[0] == b"PLACED")

    def invoke(self) -> None:
        """Have Lithops run a function for this process. Raises what Lithops raises."""
        self.placed = 0.0
        self.invocations += 1
        self.future = self.functions.invoke(self.uid, self.modules)


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


class Listener:
    """The thread that reads this process's inbox."""

    _mine: ClassVar[Listener | None] = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.session = current()
        self.pid = os.getpid()
        self.inbox = keys.inbox(self.session.uid)
        self.children: dict[str, Popen] = {}
        self.client = Client(self.session.settings, f"{self.session.uid}.listener")
        threading.Thread(target=self._run, name="lithops_mp listener", daemon=True).start()

    @classmethod
    def mine(cls) -> Listener:
        """The listener of this operating-system process."""
        with cls._lock:
            if cls._mine is None or cls._mine.pid != os.getpid():
                cls._mine = cls()
                # Before CPython's own exit handler joins the children.
                util.Finalize(None, _pass_on_ctrl_c, exitpriority=100)
            return cls._mine

    def add(self, child: Popen) -> None:
        """Look after a child."""
        self.children[child.uid] = child

    def remove(self, child: Popen) -> None:
        """Look after it no longer."""
        self.children.pop(child.uid, None)

    def _run(self) -> None:
        last = "0-0"
        checked = time.monotonic()
        while True:
            try:
                found = self.client.messages(self.inbox, last, int(SAFETY * 1000))
                for ident, fields in found:
                    last = ident.decode()
                    self._handle(fields, int(last.partition("-")[0]) / 1000)
                if found:  # what came before goes only now: a lost reply is read again
                    self.client.plain("XTRIM", self.inbox, "MINID", found[0][0])
                if time.monotonic() - checked > SAFETY:
                    checked = time.monotonic()
                    self._check()
            except Exception as error:  # nobody may be left waiting for this thread
                self._lost(error)
                return

    def _handle(self, fields: list[bytes], at: float) -> None:
        message = dict(zip(fields[::2], fields[1::2], strict=True))
        kind, what = message[b"kind"], int(message[b"what"])
        if kind == b"out":
            _write_all(what, message[b"data"])
            return
        child = self.children.get(message[b"child"].decode())
        if child is None:
            return
        if kind == b"start":
            child.note_start(what, at)
        else:
            self._bury(child, what, message[b"data"].decode(), at)

    def _bury(self, child: Popen, code: int, lost: str, at: float | None = None) -> None:
        if lost:
            _write_all(2, f"lithops_mp: {child.name} is lost: {lost}\n".encode())
        self.remove(child)
        strike = ("SREM", keys.children(self.session.uid), child.uid)
        processes.forget(self.client, child.uid, strike)
        child.note_end(code, at)

    def _check(self) -> None:
        """Ask the records: what we were not told, and what nobody can tell us."""
        for child in list(self.children.values()):
            found = self.check(child, self.client)
            if found == "LAPSED":
                self._give_up(child, "its function has given no sign of life")
            elif found == "GONE":
                self._give_up(child, "its record is gone from Redis")
            elif found == "STARTING":
                self._check_launch(child)
            elif found == "FROZEN" and child.replaceable:
                ttl = self.session.ttl
                processes.order(self.client, child.uid, "signal", signal.SIGKILL, ttl)

    def check(self, child: Popen, client: Client) -> str:
        """How it is, by its record. If that has ended, see to what follows; in any thread."""
        found = processes.status(client, child.uid)
        if found.word == "ENDED":
            # Its supervisor, if it had one, may have died before it acted on that.
            why = f"{child.name}, which {processes.fate(found.value)}"
            ttl = self.session.ttl
            processes.close(client, child.uid, ttl, why if found.value else "")
            # By way of the inbox, so that its last output comes before its end.
            processes.tell(client, self.session.uid, "exit", child.uid, found.value, b"", ttl)
        return found.word

    def _check_launch(self, child: Popen) -> None:
        late = child.placed and time.monotonic() - child.placed > CLAIM
        over = (
            child.future is not None
            and child.future.over
            # and has not begun and ended since we asked
            and processes.status(self.client, child.uid).word == "STARTING"
        )
        if over and child.invocations >= ATTEMPTS:
            self._give_up(child, f"Lithops ended its function early; see {child.future.log}", 1)
        elif late or over:
            try:
                child.invoke()
            except Exception as error:
                self._give_up(child, f"no function could be started for it: {error}", 1)

    def _give_up(self, child: Popen, why: str, code: int = processes.KILLED) -> None:
        code = processes.finish(self.client, child.uid, code, f"{child.name}: {why}")
        processes.close(self.client, child.uid, self.session.ttl, f"{child.name}: {why}")
        self._bury(child, code, why)

    def _lost(self, error: Exception) -> None:
        if self.children:
            what = f"{type(error).__name__}: {error}"
            _write_all(2, f"lithops_mp: child processes are lost: {what}\n".encode())
        for child in list(self.children.values()):
            self.remove(child)
            child.note_end(processes.KILLED)
        with self._lock:
            if Listener._mine is self:
                Listener._mine = None


def interrupt_all() -> None:
    """SIGINT for all who descend from us, as Ctrl-C on a terminal sends it."""

    def below(uid: str) -> None:
        for child in session.client.plain("SMEMBERS", keys.children(uid)):
            below(child.decode())
            processes.order(session.client, child.decode(), "signal", signal.SIGINT, session.ttl)

    session = current()
    with contextlib.suppress(ServerUnavailable):
        below(session.uid)


def _pass_on_ctrl_c() -> None:
    if isinstance(getattr(sys, "last_value", None), KeyboardInterrupt):
        interrupt_all()


def _write_all(fd: int, data: bytes) -> None:
    """To the terminal, as a child of CPython's would: to the descriptor itself."""
    view = memoryview(data)
    with contextlib.suppress(OSError, ValueError):
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:  # somebody who shares the terminal made it so
                select.select([], [fd], [])


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


def _after_fork() -> None:
    # Another thread may have held them when this process was forked off.
    Listener._lock = threading.Lock()
    Functions._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
