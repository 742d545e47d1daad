"""Crew: the workers of a pool, as its program sees them.

For CPython's Pool they are all there from the beginning. A worker is started when there is
something for it to do; then ``workplace`` is what it runs.
"""

from __future__ import annotations

import collections
import contextlib
import signal
import threading
from collections.abc import Callable
from multiprocessing import connection as _connection
from multiprocessing import process as _process
from typing import TYPE_CHECKING, Any

from .errors import WorkerLost
from .process import Process
from .workplace import work

if TYPE_CHECKING:
    from .pool import Tasks

# So many workers in a row may fail to begin, none getting ready in between, before the
# pool is broken: a failure may be one machine's, three are the initializer's.
FAILURES = 3


class Notifier:
    """CPython's ``_change_notifier``, which wakes the thread that looks after the workers.

    As much of a queue as that asks for.
    """

    def __init__(self) -> None:
        self._reader, self._writer = _connection.Pipe(duplex=False)
        self._rung = False

    def put(self, what: None) -> None:
        """Ring; no more than once until it was heard."""
        if not self._rung:
            self._rung = True
            self._writer.send_bytes(b"")

    def get(self) -> None:
        """Hear it."""
        self._rung = False
        self._reader.recv_bytes()

    def empty(self) -> bool:
        """Has it not been rung?"""
        return not self._reader.poll()

    def close(self) -> None:
        """It will not be rung again."""
        self._rung = True
        self._reader.close()
        self._writer.close()


class PoolWorker(Process):
    """A worker of a pool, which starts when there is something to do.

    ``pid`` is that of a worker that runs: who asks for it has it started.
    """

    def __init__(self, crew: Crew, method: str | None) -> None:
        super().__init__(target=work)
        self._exports = False  # the pool says when its tasks ran
        self._replaceable = True
        self._crew = crew
        self._method = method
        self._starting = threading.RLock()
        self._dismissed = 0  # by this signal

    def __getstate__(self) -> dict[str, Any]:
        ours = {"_crew", "_starting", "_dismissed"}
        return {name: value for name, value in self.__dict__.items() if name not in ours}

    def start(self) -> None:
        """Be ready to start."""
        if _process.current_process()._config.get("daemon"):  # type: ignore[attr-defined]
            raise AssertionError("daemonic processes are not allowed to have children")
        self._crew.add(self)

    def begin(self) -> bool:
        """Start, if that has not happened. False if it never will."""
        with self._starting:
            if not (self._begun or self._dismissed):
                self._args = self._crew.terms()
                super().start()
            return self._begun

    @property
    def _begun(self) -> bool:
        return self._popen is not None  # type: ignore[attr-defined]

    @property
    def sentinel(self) -> int:
        """A file descriptor that is ready when the worker has ended. None before it started."""
        if not self._begun:
            raise AttributeError("sentinel")
        return super().sentinel

    @property
    def ident(self) -> int | None:
        """The process id; waits until the worker runs. 0 if it was ended before."""
        self._crew.begin(self)
        return super().ident or 0

    pid = ident

    def is_alive(self) -> bool:
        """Does it run, or will it when it is needed?"""
        return super().is_alive() if self._begun else not self._dismissed

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end; of one that never started, not at all."""
        if self._begun:
            super().join(timeout)
            self._crew.note_end(self)

    @property
    def exitcode(self) -> int | None:
        """As of any process; of one that never started, that of one which was ended."""
        return super().exitcode if self._begun else -self._dismissed or None

    def terminate(self) -> None:
        """End it, or never start it."""
        self._dismiss(signal.SIGTERM, super().terminate)

    def kill(self) -> None:
        """End it, or never start it."""
        self._dismiss(signal.SIGKILL, super().kill)

    def _dismiss(self, number: int, end: Callable[[], None]) -> None:
        with self._starting:
            self._dismissed = self._dismissed or number
            if self._begun:
                return end()
        self._crew.forget(self)


def worker_class(kind: type[Process]) -> type[PoolWorker]:
    """Workers that are what a context's processes are, where a program has its own.

    The usual reason is that they are to have children: processes that are never daemons.
    """
    if kind.__module__.startswith(f"{__package__}."):
        return PoolWorker
    return type(PoolWorker.__name__, (PoolWorker, kind), {})


class Crew:
    """The workers that there may be, and a thread that starts as many as there is work for.

    Starting one takes a while, and the first one much longer; nobody waits for it.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._lock = threading.Lock()
        self._idle: collections.deque[PoolWorker] = collections.deque()
        self._running: set[PoolWorker] = set()
        self._failures: collections.OrderedDict[str, BaseException | None] = (
            collections.OrderedDict()
        )
        self._ready: set[str] = set()
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.size = 0
        self.notifier: Notifier | None = None
        #: How many run, or are about to.
        self.count = 0

    def terms(self) -> tuple[Any, ...]:
        """What a worker that begins is told."""
        return self._tasks.terms()

    def add(self, worker: PoolWorker) -> None:
        """One more that may be started."""
        self._idle.append(worker)
        self.look()

    def look(self) -> None:
        """Start some if there is work for them."""
        if self._idle and self.count < len(self._tasks.outstanding) and not self._stopped:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="lithops_mp crew", daemon=True
                )
                self._thread.start()
            self._wake.set()

    def begin(self, worker: PoolWorker) -> None:
        """Start this one."""
        with self._lock:
            idle = worker in self._idle
            if idle:
                self._idle.remove(worker)
                self.count += 1
        if idle:
            try:
                self._start(worker)
            except BaseException:
                self._idle.append(worker)
                raise
        else:
            worker.begin()  # waits for whoever is about to

    def forget(self, worker: PoolWorker) -> None:
        """This one is never to start: the pool may have another one instead."""
        with self._lock, contextlib.suppress(ValueError):
            self._idle.remove(worker)
        self._notify()

    def _start(self, worker: PoolWorker) -> None:
        begun = False
        try:
            begun = worker.begin()
        finally:
            with self._lock:
                if begun:
                    self._running.add(worker)
                else:
                    self.count -= 1
        self._notify()  # its end is waited for, too

    def _notify(self) -> None:
        if self.notifier:
            self.notifier.put(None)

    def _next(self) -> PoolWorker | None:
        with self._lock:
            if self._stopped or self._tasks.broken:
                return None
            if self._idle and self.count < len(self._tasks.outstanding):
                self.count += 1
                return self._idle.popleft()
            return None

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait()
            self._wake.clear()
            while worker := self._next():
                try:
                    self._start(worker)
                except Exception as error:
                    self._tasks.fail(error)

    def note_end(self, worker: PoolWorker) -> None:
        """A worker has ended: another one may take its place. Counted if it never got ready."""
        if worker.exitcode is None or worker not in self._running:
            return
        with self._lock:
            self._running.discard(worker)
            self.count -= 1
        uid = worker._popen.uid  # type: ignore[attr-defined]
        if worker.exitcode != 0 and uid not in self._ready:
            self.note_failure(uid, None)
        self._ready.discard(uid)
        self.look()

    def note_ready(self, uid: str) -> None:
        """A worker has begun."""
        self._ready.add(uid)
        self._failures.clear()

    def note_failure(self, uid: str, error: BaseException | None) -> None:
        """A worker could not begin, and perhaps said why; the last of some breaks the pool."""
        self._failures[uid] = error or self._failures.get(uid)
        if len(self._failures) >= FAILURES:
            why = next(filter(None, reversed(self._failures.values())), None)
            self._tasks.fail(
                why
                or self._tasks.trouble()
                or WorkerLost(
                    f"{FAILURES} workers of this pool in a row ended before they could begin; "
                    "what they wrote to stderr may say why"
                )
            )

    def stop(self) -> None:
        """Start no more."""
        self._stopped = True
        self._wake.set()
