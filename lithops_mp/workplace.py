"""A pool's worker: where it has its tasks from and where their results go.

CPython's own loop (``multiprocessing.pool.worker``) takes tasks from a queue and puts
results into another one. A :class:`Workplace` is both. It asks the server for several
tasks at once while they are quick, and reports several results at once; the ledger of the
process tells which of them it had begun if it dies. When a task turns out to take long, a
thread reports what was done before it and gives back what was not begun.
"""

from __future__ import annotations

import collections
import contextlib
import pickle
import threading
import time
from collections.abc import Callable
from multiprocessing import ProcessError, pool
from typing import Any, NamedTuple

from . import messages, pooling
from ._store.families import Ref
from ._store.scripts import Argument
from ._store.session import current
from .errors import ObjectExpired
from .handle import Handle
from .pooling import PoolKeys

_mp: Any = pool  # also what its stub leaves out

# Tasks that are taken at once, at most, and bytes, by the size of the last ones.
MOST = 256
MOST_BYTES = 1 << 20

# A quick task takes less than so many seconds.
QUICK = 0.001

# Seconds after which results are reported, and tasks given back, although another one runs.
PATIENCE = 0.004

# Functions that a worker keeps. A pool stores no more; others come with their tasks.
FUNCTIONS = 1000

#: How a function is called: with its arguments, or as CPython's ``map`` and ``starmap`` do.
CALLS: tuple[Callable[..., Any] | None, ...] = (None, _mp.mapstar, _mp.starmapstar)


class Shop(Handle):
    """A pool's state in Redis, as a process sees it."""

    family = "pool"

    def __init__(self, ref: Ref) -> None:
        super().__init__(ref)
        self.keys = PoolKeys(ref)

    @classmethod
    def create(cls, fields: dict[str, Argument]) -> Shop:
        """A new one; one round trip."""
        return cls(current().create(cls.family, fields))


class Terms(NamedTuple):
    """What a worker is told when it begins.

    ``initializer`` names it and its arguments, ``modules`` are those that its function was
    sent with (None: all are there), ``idle`` is how many seconds it waits for a task,
    ``several`` whether it may have more than one in hand, whose results would be lost with
    it; ``timed`` whether to say when tasks ran.
    """

    initializer: bytes
    maxtasks: int | None
    modules: frozenset[str] | None
    idle: float | None
    several: bool
    timed: bool


class Order(NamedTuple):
    """A task: its number, how and with what function it is called, and its message."""

    job: int
    i: int
    call: int
    function: bytes
    message: memoryview


def order_of(task: bytes) -> Order:
    """What a task says; the inverse of :func:`task_of`."""
    at = task.index(b":")
    name, what = task[1:at].split(b" ")
    job, _, i = name.partition(b".")
    return Order(int(job), int(i), what[0] - 48, what[1:], memoryview(task)[at + 1 :])


def task_of(job: int, i: int, call: int, function: bytes, message: bytes) -> bytes:
    """The task: no worker has died with it; its name, which ends where its message begins."""
    return b"0%d.%d %d%b:%b" % (job, i, call, function, message)


class Workplace:
    """Both queues of a worker."""

    def __init__(self, shop: Shop, terms: Terms) -> None:
        self._shop = shop
        self._terms = terms
        self._session = current()
        self._client = self._session._borrow()  # of our own: the thread uses it, too
        self._lock = threading.Lock()
        self._functions: dict[bytes, Any] = {}
        self._stored: dict[bytes, bytes] = {}  # what was fetched and not loaded yet
        self._hand = pooling.EMPTY
        self._rest: collections.deque[bytes] = collections.deque()
        self._begun = 0  # of those in hand
        self._done: list[bytes] = []
        self._reported = 0
        self._total = 0
        self._want = 1
        self._since = self._started = 0.0
        self._looked: object = None
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Run the initializer, and tell the program how it went. Raises what it raises."""
        try:
            if self._terms.initializer:
                self._fetch(self._terms.initializer)
                initializer, initargs = self._load(self._terms.initializer)
                initializer(*initargs)
        except Exception as error:
            self._tell(b"F", _sendable(error))
            raise
        self._tell(b"Y", None)

    def _tell(self, letter: bytes, what: object) -> None:
        uid = self._session.uid.encode()
        element = b"%b%b:%b" % (letter, uid, self._element(messages.dumps(what)))
        self._client.run(pooling.tell(self._shop.keys, self._client, element))

    def _element(self, message: messages.Message) -> bytes:
        small = messages.inline(message)
        return messages.store(self._client, self._shop.ref, message) if small is None else small

    # -- what CPython's loop calls --

    def get(self) -> Any:
        """The next task; None if this worker is to end."""
        while (found := self._next()) is not None:
            order, kind, body = found
            self._started = time.time()
            try:
                if kind < 0:
                    raise body
                function = self._load(order.function) if order.function else None
                *own, args, kwds = messages.loads(kind, body)
                function = pickle.loads(own[0]) if own else function
                if way := CALLS[order.call]:
                    return order.job, order.i, way, ((function, args),), {}
                return order.job, order.i, function, args, kwds
            except Exception as error:
                self.put((order.job, order.i, (False, _sendable(error))))
        return None

    def put(self, result: tuple[int, int, tuple[bool, Any]]) -> None:
        """What a task gave. Raises what pickling that raises."""
        job, i, outcome = result
        message = messages.dumps(outcome)
        times = b" %.6f %.6f" % (self._started, time.time()) if self._terms.timed else b""
        with self._lock:
            self._done.append(b"R%d.%d%b:%b" % (job, i, times, self._element(message)))

    def _next(self) -> tuple[Order, int, Any] | None:
        with self._lock:
            if not self._rest and not self._exchange():
                return None
            order = order_of(self._rest[0])
            kind: int = messages.SMALL
            body: Any = order.message[1:]
            try:
                if order.function and not self._fetch(order.function):
                    # One that was started now has the modules.
                    self._exchange(leave=True)
                    return None
                if order.message[0] != messages.SMALL:
                    element = bytes(order.message)
                    kind, body = messages.unpack(self._client, self._shop.ref, element)
            except ObjectExpired as error:
                kind, body = -1, error
            self._rest.popleft()
            self._begun += 1
            self._total += 1
            # From here on its end may be the task's doing.
            self._client.saw(int(self._hand.seq), self._begun)
            return order, kind, body

    # -- tasks: called with the lock --

    def _exchange(self, *, leave: bool = False) -> bool:
        """Hand in what was done, and take more. False if this worker is to end."""
        client, terms = self._client, self._terms
        until = self._session.until
        idle = terms.idle
        if until is not None:
            left = until - client.clock()
            leave = leave or left <= 0
            idle = left if idle is None else min(idle, left)
        want = 0 if leave else self._wanted()
        steps = pooling.step(
            self._shop.keys, client, self._hand, self._reported, self._done, want, idle
        )
        hand = client.run(steps)
        self._done, self._reported, self._begun = [], 0, 0
        self._hand = hand or pooling.EMPTY
        self._rest = collections.deque(self._hand.tasks)
        self._since = client.clock()
        if len(self._rest) > 1:
            self._watch()
        return hand is not None

    def _wanted(self) -> int:
        """How many tasks to ask for: twice as many as long as they are quick and small."""
        if not self._terms.several:
            return 1
        tasks = self._hand.tasks
        quick = self._client.clock() - self._since < QUICK * len(tasks)
        small = sum(map(len, tasks)) < MOST_BYTES
        self._want = min(MOST, self._want * 2) if quick and small else 1
        most = self._terms.maxtasks
        return min(self._want, most - self._total) if most else self._want

    def leave(self) -> None:
        """Hand in what was done; the rest goes back."""
        with self._lock:
            if self._hand is not pooling.EMPTY:
                self._exchange(leave=True)

    def break_off(self) -> None:
        """The same, in the middle of a task that ends this process: it counts as begun."""
        with self._lock, contextlib.suppress(ProcessError):
            self._report()

    # -- the thread --

    def _watch(self) -> None:
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._look, name="lithops_mp workplace", daemon=True
            )
            self._thread.start()

    def _look(self) -> None:
        """See to it that nothing waits for one task that takes long."""
        while True:
            self._wake.wait()
            time.sleep(PATIENCE)
            with self._lock:
                now = self._hand.seq, self._begun
                if not (self._rest or self._done):
                    self._wake.clear()
                elif self._looked != now:
                    self._looked = now
                else:
                    # The task's own end will show what went wrong.
                    with contextlib.suppress(ProcessError):
                        self._report()

    def _report(self) -> None:
        client, keys = self._client, self._shop.keys
        self._want = 1
        self._rest.clear()
        client.run(
            pooling.report(keys, client, self._hand, self._reported, self._done, self._begun)
        )
        self._reported += len(self._done)
        self._done = []

    # -- functions --

    def _fetch(self, name: bytes) -> bool:
        """Have a function's bytes at hand. False if this process has not its modules."""
        if name in self._functions or name in self._stored:
            return True
        element = b"%c%b" % (messages.PICKLE, name.replace(b".", b":"))
        _, body = messages.unpack(self._client, self._shop.ref, element)
        modules, self._stored[name] = pickle.loads(body)
        return self._terms.modules is None or self._terms.modules.issuperset(modules)

    def _load(self, name: bytes) -> Any:
        """The function that is kept under this name."""
        if name not in self._functions:
            self._functions[name] = pickle.loads(self._stored[name])
            del self._stored[name]
        return self._functions[name]


def _sendable(error: Exception) -> Any:
    """The error with its traceback; if it cannot be pickled, one that says so."""
    try:
        messages.dumps(error)
    except Exception as trouble:
        return _mp.ExceptionWithTraceback(
            _mp.MaybeEncodingError(trouble, error), error.__traceback__
        )
    return _mp.ExceptionWithTraceback(error, error.__traceback__)


def work(shop: Shop, terms: Terms, wrap_exception: bool) -> None:
    """The life of a worker: what its process runs."""
    place = Workplace(shop, terms)
    try:
        _mp.worker(place, place, place.begin, (), terms.maxtasks, wrap_exception)
        place.leave()
    except ObjectExpired:
        # The program, which is told the same, says so.
        raise SystemExit(1) from None
    except BaseException:
        place.break_off()
        raise
