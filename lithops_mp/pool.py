"""Pool: CPython's, with workers that run as Lithops functions.

::

    apply, map, ...     task handler          Redis            workers (``workplace``)
    +------------+     +------------+     +------------+     +------------+
    | taskqueue  | --> | Tasks.put  | --> | tasks      | --> | get        |
    +------------+     +------------+     |            |     |  the call  |
    | cache:     | <-- | Results.get| <-- | results    | <-- | put        |
    | AsyncResult|     +------------+     +------------+     +------------+
    +------------+     result handler

The classes on the left, the three threads between and what they do are CPython's
(``multiprocessing.pool``). Ours are both queues, and how workers come and go (``crew``):

* A worker is a process that lives as long as the pool; it starts when there is something
  for it to do, ends when it has been idle for long, before its platform ends it, and
  after ``maxtasksperchild`` tasks, and is started again when there is more to do.
* A worker's death loses nothing: the task it had begun runs again, once, then raises
  ``WorkerLost`` (``TASK_RETRIES``), what else it had in hand goes to others, and each
  result is accepted once.
* Functions are sent once per pool and kept by their digest.
* What breaks the whole pool (an initializer that fails, a server that is gone) is raised
  by every result that is still to come.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import pickle
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import ProcessError
from multiprocessing import TimeoutError as TimeoutError
from multiprocessing import connection as _connection
from multiprocessing import pool as _mp
from multiprocessing.pool import (  # type: ignore[attr-defined]
    CLOSE,
    INIT,
    RUN,
    TERMINATE,
    ApplyResult,
    AsyncResult,
    ExceptionWithTraceback,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
    MaybeEncodingError,
    RemoteTraceback,
    ThreadPool,
)
from typing import Any, NamedTuple

from . import config, details, messages, pooling
from ._store.client import Client, Woken
from ._store.families import Step
from ._store.replies import fault
from ._store.session import current
from .arguments import count
from .crew import Crew, Notifier, worker_class
from .errors import WorkerLost
from .functions import Functions, draw, modules_of
from .process import Process
from .reduction import ProcessPickler
from .workplace import CALLS, FUNCTIONS, Shop, Terms, task_of, work

__all__ = [
    "CLOSE",
    "INIT",
    "RUN",
    "TERMINATE",
    "ApplyResult",
    "AsyncResult",
    "ExceptionWithTraceback",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "MaybeEncodingError",
    "Pool",
    "RemoteTraceback",
    "ThreadPool",
]

# Tasks that are sent before their turn, and bytes of them: what comes from an endless
# iterable waits here, not in Redis.
AHEAD = 4096
AHEAD_BYTES = 64 << 20

# Results that are taken at once, at most.
MOST = 500

# Tasks whose times are kept, at most, for EXPORT_EXECUTION_DETAILS.
RECORDS = 100_000


class Sent(NamedTuple):
    """A task that was sent: its size, its function, when."""

    size: int
    function: Any
    at: float

    @property
    def name(self) -> str:
        """What its function is called."""
        return str(getattr(self.function, "__qualname__", self.function))


class Tasks:
    """The queue that leads to the workers."""

    cancelled = False

    shop: Shop

    def __init__(self) -> None:
        self.results = Results(self)
        self.crew = Crew(self)
        self._local = True
        self._idle: float | None = None
        self._initializer = b""
        self._maxtasks: int | None = None
        self.retries = 0
        self._modules: set[str] = set()
        self._names: set[bytes] = set()
        self._known: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()
        self._last: tuple[int, Any, tuple[bytes, bytes]] = (-1, None, (b"", b""))
        #: What was sent and has no result yet.
        self.outstanding: dict[tuple[int, int], Sent] = {}
        #: When tasks ran, if that is asked for.
        self.details: dict[str, details.Stats] | None = None
        self._bytes = 0
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        self._stopped = False
        self._closed = False
        self.broken: BaseException | None = None
        self.is_open = False

    def open(
        self, size: int, initializer: Any, initargs: tuple[Any, ...], maxtasks: int | None
    ) -> None:
        """Make the pool's state. Raises what pickling the initializer raises."""
        self._session = session = current()
        self._local = Functions.mine().local
        idle = config.get_parameter(config.IDLE_WORKER)
        self._idle = 60 if idle is None and not self._local else idle
        self.retries = config.get_parameter(config.TASK_RETRIES)
        self.shop = Shop.create(pooling.fields(size, self.retries, session.uid))
        self.crew.size = size
        if initializer is not None:
            self._initializer = self._store(ProcessPickler.dumps((initializer, tuple(initargs))))
        self._maxtasks = maxtasks
        self._made = time.time()
        if details.wanted():
            self.details = {}
        self.results.open()
        self.is_open = True

    def terms(self) -> tuple[Any, ...]:
        """What a worker that begins is told."""
        modules = None if self._local else frozenset(self._modules)
        timed = self.details is not None
        several = self.retries > 0
        given = Terms(self._initializer, self._maxtasks, modules, self._idle, several, timed)
        return self.shop, given, True

    # -- what CPython's task handler calls --

    def put(self, task: Any) -> None:
        """Send a task; None if there will be no more. Raises what pickling it raises."""
        if task is None:
            self._close(drop=False)
            return
        job, i, function, args, kwds = task
        call = 0
        if function is _mp.mapstar or function is _mp.starmapstar:  # type: ignore[attr-defined]
            call = CALLS.index(function)
            ((function, args),) = args
        name, data = self._name(job, function)
        message = messages.dumps((args, kwds) if name else (data, args, kwds))
        with self._lock:
            while self._is_crowded() and not (self._stopped or self.broken):
                self._room.wait()
            if self.broken:
                raise self.broken
            if self._stopped:
                return
            self.outstanding[job, i] = Sent(message.size, function, time.time())
            self._bytes += message.size
        try:
            # Only now: what is stored lives for minutes, unless it is sent then.
            element = messages.inline(message) or messages.store(
                self._session._client, self.shop.ref, message
            )
        except BaseException:
            self.settle(job, i)
            raise
        self._session.outbox.put(self, task_of(job, i, call, name, element))
        if self.crew.count < self.crew.size:
            self.crew.look()

    def _is_crowded(self) -> bool:
        return len(self.outstanding) >= AHEAD or self._bytes >= AHEAD_BYTES

    # -- functions --

    def _name(self, job: int, function: Any) -> tuple[bytes, bytes]:
        """What a function is kept under; empty if it is sent with the task: its pickle, then."""
        if self._last[0] == job and self._last[1] is function:
            return self._last[2]
        # A function is what it was; other things that are called may have changed.
        fixed = isinstance(function, type) or (
            isinstance(function, types.FunctionType) and not function.__closure__
        )
        name = self._known.get(function, b"") if fixed else b""
        data = b""
        if not name:
            data = ProcessPickler.dumps(function)
            name = self._store(data)
            if fixed and name:
                self._known[function] = name
        self._last = job, function, (name, data)
        return name, data

    def _store(self, data: bytes) -> bytes:
        modules = [] if self._local else modules_of(data)
        self._modules.update(modules)
        body = pickle.dumps((modules, data))
        digest = hashlib.sha256(body).hexdigest()[:24]
        shop, client = self.shop, self._session._client
        size = b"%d" % len(body)
        name = b"%b.%d.%b" % (size, -(-len(body) // messages.PIECE), digest.encode())
        if name in self._names:
            return name
        if len(self._names) >= FUNCTIONS:
            return b""
        element = messages.store(
            client, shop.ref, messages.Message(messages.PICKLE, [body]), digest
        )
        reply = client.call(shop.keys.keep, (element,))
        if reply[0] != b"OK":
            raise fault(reply, "pool")
        self._names.add(name)
        return name

    # -- what the outbox calls --

    def posting(self, client: str, seq: bytes, first: bytes, more: bytes) -> Step:
        """The call that sends tasks."""
        return self.shop.keys.add, (client, seq, first, more)

    def refused(self, reply: list[Any]) -> None:
        """The server would not take them."""
        self.fail(fault(reply, "pool"))

    # -- ends --

    def settle(self, job: int, i: int) -> Sent | None:
        """A task has its result. None if it had one before."""
        with self._lock:
            crowded = self._is_crowded()
            found = self.outstanding.pop((job, i), None)
            if found is None:
                return None
            self._bytes -= found.size
            if crowded:
                self._room.notify()
            return found

    def fail(self, error: BaseException) -> None:
        """The pool is broken: whatever has no result yet raises this."""
        with self._lock:
            if self.broken:
                return
            self.broken = error
            lost, self.outstanding = list(self.outstanding), {}
            self._room.notify()
        self.results.add([(job, i, (False, error)) for job, i in lost])
        self.stop()

    def trouble(self) -> Exception | None:
        """What is wrong with the pool's state or its server, if anything is."""
        try:
            gone = not current().exist([self.shop.ref])
        except ProcessError as error:
            return error
        return fault([b"GONE"], "pool") if gone else None

    def stop(self) -> None:
        """Send nothing more, start no more workers, and have those that run end."""
        self.cancelled = True
        with self._lock:
            self._stopped = True
            self._room.notify()
        self.crew.stop()
        self._close(drop=True)

    def _close(self, drop: bool) -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(ProcessError):  # the server may be what is broken
            self._session.client.run(pooling.close(self.shop.keys, drop))

    def note_times(self, job: int, i: int, task: Sent, times: Sequence[str]) -> None:
        """When a task ran, if its worker says so."""
        if self.details is not None and times and len(self.details) < RECORDS:
            began, ended = map(float, times)
            known = details.Times(self._made, task.at, began, ended, time.time())
            self.details[f"{job}.{i}"] = known.stats(name=task.name)

    def export(self) -> None:
        """Say once when tasks ran, if that is asked for."""
        found, self.details = self.details, None
        if found:
            details.write(f"Pool-{self.shop.ref.ident[:8]}", found, draw)

    def finish(self) -> None:
        """All threads have ended: nothing of the pool is needed any more."""
        self.results.close()
        self.export()
        if self.is_open:
            self.shop.let_go()


class Bar:
    """How far a call is, on the terminal: tqdm's, which comes with Lithops."""

    def __init__(self, result: Any, iterable: Any) -> None:
        from tqdm import tqdm

        self._result = result
        self._chunks = isinstance(result, MapResult)
        things = result._value if self._chunks else iterable
        total = len(things) if hasattr(things, "__len__") else None
        self._bar = tqdm(total=total, unit="task")

    def update(self) -> bool:
        """Show how it stands now. False if it is done, and the line is finished."""
        result = self._result
        if self._chunks:
            left = result._number_left
            over, done = left == 0, len(result._value) - left * result._chunksize
            # The last chunk may be a short one, and comes when it comes.
            done = len(result._value) if over else max(0, done)
        else:
            # The length of an iterable may be known after its last result only.
            done = result._index + len(result._unsorted)
            over = result._index == result._length or done == self._bar.total
        self._bar.update(done - self._bar.n)
        if over:
            self.close()
        return not over

    def close(self) -> None:
        """Finish the line."""
        self._bar.close()


class Results:
    """The queue that comes from the workers, and news of them.

    ``get`` waits for the server and for this process at the same time.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._ready: collections.deque[Any] = collections.deque()
        self._notifier = Notifier()
        self._got = 0
        self._bars: list[Bar] = []
        self._client: Client | None = None

    def open(self) -> None:
        """The pool has a state now."""
        self._client = current()._borrow()
        self._client.wake = self._notifier._reader.fileno()

    def close(self) -> None:
        """Nobody will ask again."""
        for bar in self._bars:
            if bar.update():
                bar.close()
        if self._client:
            self._client.close()
        self._notifier.close()

    def put(self, what: Any) -> None:
        """Something that ``get`` is to return; None ends the thread that asks."""
        self.add([what])

    def add(self, found: Iterable[Any]) -> None:
        """Some such things."""
        self._ready.extend(found)
        self._notifier.put(None)

    def show(self, result: Any, iterable: Any) -> None:
        """Show on the terminal, if it is one, how far a call is."""
        if sys.stderr.isatty():
            self._bars.append(Bar(result, iterable))

    def get(self) -> Any:
        """A task's job, its number, and (True, result) or (False, exception)."""
        for bar in tuple(self._bars):  # what this returned the last time has been counted by now
            if not bar.update():
                self._bars.remove(bar)
        while True:
            while self._ready:
                found = self._ready.popleft()
                if type(found) is not bytes:
                    return found
                if (result := self._open(found)) is not None:
                    return result
            self._fetch()

    def _fetch(self) -> None:
        if not self._notifier.empty():
            self._notifier.get()
        elif self._tasks.broken:
            _connection.wait([self._notifier._reader])
        else:
            assert self._client
            try:
                steps = pooling.take(self._tasks.shop.keys, self._client, self._got, MOST)
                found = self._client.run(steps)
                self._got += len(found)
                self._ready.extend(found)
            except Woken:
                pass
            except Exception as error:
                self._tasks.fail(error)

    def _open(self, element: bytes) -> Any:
        """What a result or a piece of news says; None if it is no result, or not a first one."""
        at = element.index(b":")
        words = element[1:at].decode().split(" ")
        letter, name = element[:1], words[0]
        crew = self._tasks.crew
        if letter == b"Y":
            crew.note_ready(name)
        elif letter == b"F":
            try:
                why = self._loads(element, at + 1)
            except Exception as error:  # it does not unpickle here, which is what there is to say
                why = error
            crew.note_failure(name, why)
        else:
            job, i = map(int, name.split("."))
            task = self._tasks.settle(job, i)
            if task is not None:
                if letter == b"R":
                    self._tasks.note_times(job, i, task, words[1:])
                    return job, i, self._outcome(element, at + 1)
                end = element[at + 2 :].decode()
                return job, i, (False, _lost(task.name, i, end, self._tasks.retries + 1))
        return None

    def _outcome(self, element: bytes, at: int) -> Any:
        try:
            return self._loads(element, at)
        except Exception as error:
            return False, error

    def _loads(self, element: bytes, at: int) -> Any:
        if element[at] == messages.SMALL:
            return pickle.loads(memoryview(element)[at + 1 :])
        assert self._client
        return messages.loads(*messages.unpack(self._client, self._tasks.shop.ref, element[at:]))


def _lost(task: str, i: int, end: str, deaths: int) -> WorkerLost:
    some = "a worker has" if deaths == 1 else f"{deaths} workers have"
    return WorkerLost(
        f"the task {task}, number {i} of its call, is lost: {some} died with it, the last one "
        f"{end}. It may be the task that ends its process; TASK_RETRIES is {deaths - 1}"
    )


class Backstage:
    """A context as CPython's Pool uses it, which has no need of a queue between processes."""

    def __init__(self, ctx: Any) -> None:
        self.Process = ctx.Process
        self.SimpleQueue = Notifier


class Pool(_mp.Pool):
    """A pool of workers that run as Lithops functions; CPython's interface and defaults.

    A result raises ``WorkerLost`` if its task has cost one worker more than ``TASK_RETRIES``
    (two by default); ObjectExpired or ServerUnavailable if the pool's state or its server is gone;
    and what the initializer raised if three workers in a row could not begin.
    """

    # CPython's ``__del__`` asks for it, of a pool too whose arguments are refused right here.
    _state = INIT

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any | None = None,
    ) -> None:
        if context is None:
            from .context import _default_context

            context = _default_context.get_context()
        if (own := type(self).Process) is not Pool.Process:
            # As one makes daemons of workers, or no daemons. What CPython would give it to run
            # is of no use to a worker of ours.
            self.Process = lambda ctx, *args, **kwds: own(  # type: ignore[method-assign]
                ctx, target=work, args=kwds["args"][0].crew.terms()
            )
        size = Functions.mine().most() if processes is None else count(processes)
        super().__init__(
            size,
            initializer,
            initargs,
            maxtasksperchild,
            Backstage(context),
        )

    # What CPython's Pool asks of its subclasses.

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """A worker, which starts when it is needed."""
        crew = kwds["args"][0].crew
        kind = ctx.Process
        if isinstance(kind, type) and issubclass(kind, Process):
            return worker_class(kind)(crew, kind._method)
        return kind(target=work, args=crew.terms())

    def _setup_queues(self) -> None:
        self._inqueue = Tasks()
        self._outqueue = self._inqueue.results
        self._quick_put = self._inqueue.put
        self._quick_get = self._outqueue.get

    def _repopulate_pool(self) -> None:
        if not self._inqueue.is_open:
            mine: Any = self
            self._inqueue.crew.notifier = mine._change_notifier
            given = mine._initializer, mine._initargs, mine._maxtasksperchild
            self._inqueue.open(mine._processes, *given)
        super()._repopulate_pool()  # type: ignore[misc]

    def _get_sentinels(self) -> list[Any]:
        return [self._change_notifier._reader]  # type: ignore[attr-defined]

    @staticmethod
    def _help_stuff_finish(inqueue: Tasks, task_handler: object, size: int) -> None:
        inqueue.stop()

    @classmethod
    def _terminate_pool(cls, taskqueue: Any, inqueue: Tasks, *rest: Any) -> None:
        try:
            super()._terminate_pool(taskqueue, inqueue, *rest)  # type: ignore[misc]
        finally:
            inqueue.finish()

    def join(self) -> None:
        """Wait until the workers have ended; after ``close`` or ``terminate``."""
        super().join()
        self._inqueue.export()

    def _guarded_task_generation(self, result_job: int, func: Any, iterable: Any) -> Any:
        if config.get_parameter(config.PROGRESS_BAR):
            self._outqueue.show(self._cache[result_job], iterable)  # type: ignore[attr-defined]
        return super()._guarded_task_generation(result_job, func, iterable)  # type: ignore[misc]
