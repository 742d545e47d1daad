"""Lock, RLock, Semaphore, BoundedSemaphore, Condition, Event and Barrier.

The classes are CPython's, with another engine: where CPython's hold a
``_multiprocessing.SemLock``, ours hold a :class:`SemHandle`, a handle on state in
Redis. A handle holds a name and what this process knows of it (how deep it is
in an RLock, the fence of its last acquire); the truth is in Redis. It pickles
by name, at any time, to anyone who reaches the same server.

Waiters are served in the order they came. A lock whose holder died goes to the
next in line, which is told so (``DEAD_OWNER``); a holder that only stood still
finds out when it releases (``LockLost``).

Time-outs are in seconds; a negative one counts as 0, what is no number raises TypeError or
ValueError. Whatever asks the server may raise ObjectExpired (the object's state is gone),
VersionMismatch (another version wrote it) and ServerUnavailable (no answer for some 20 s).
None of that is said again below.
"""

from __future__ import annotations

import contextlib
import multiprocessing.synchronize as _mp
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from . import config, memory, protocols
from ._store.client import EAGER, Client
from ._store.commands import Call
from ._store.families import Ref
from ._store.replies import fault
from ._store.scripts import Argument, Bound
from ._store.session import current
from .arguments import count, seconds
from .errors import (
    FINAL,
    LockLost,
    ObjectExpired,
    OwnerDied,
    OwnerDiedWarning,
    ServerUnavailable,
)
from .handle import Handle

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

SEM_VALUE_MAX: int = _mp.SEM_VALUE_MAX  # type: ignore[attr-defined]  # typeshed lacks it
LOCK, RLOCK, SEMAPHORE = "lock", "rlock", "sem"

# How often a lock that had a line may be found free before no line is expected.
PATIENCE = 8

_AT_ONCE = (b"ACQUIRED", b"FREE")

# Of a region: what was asked for along with the lock, and the answer.
Brought = tuple["memory.Region", "memory.Request", Any]


def _main_thread() -> int:
    """The calling thread, if it is the one that runs signals' handlers; or 0."""
    me = threading.get_ident()
    return me if me == threading.main_thread().ident else 0


class SemHandle(Handle):
    """The engine of the four lock classes; the interface of CPython's own engine.

    ``kind`` is "lock", "rlock" or "sem"; ``policy`` what happens to a lock whose
    holder dies.
    """

    family = "sem"

    def __init__(self, ref: Ref, kind: str, maxvalue: int, policy: str) -> None:
        super().__init__(ref)
        self.kind = kind
        self.maxvalue = maxvalue
        self.policy = policy
        self.name = self.handle = ref.ident
        self.keys = protocols.SemKeys(ref.ident, kind, maxvalue)
        #: The regions of shared memory that it guards, as far as this process knows.
        self.regions: list[weakref.ref[memory.Region]] = []
        self.forget()

    @classmethod
    def create(cls, kind: str, value: int, maxvalue: int) -> SemHandle:
        """A new lock or semaphore; one round trip."""
        policy = config.get_parameter(config.DEAD_OWNER)
        fields = {"value": value, "owner": "", "fence": 0, "kind": kind, "policy": policy}
        ref = current().create(cls.family, fields)
        return cls(ref, kind, maxvalue, policy)

    def _details(self) -> tuple[Any, ...]:
        return self.kind, self.maxvalue, self.policy

    def forget(self) -> None:
        """Have nothing to do with it: what a new or a forked process starts with."""
        self._phrases = protocols.Phrases(self.keys, "")
        # The main thread, while it is in the middle of an RLock's acquire or release.
        self._amid = 0
        #: The release that could not be sent, of what we had last.
        self._owed: Call | None = None
        #: Releases to come, by thread, of what was given up in a wait.
        self._excused: dict[int, int] = {}
        self.let_go()

    def let_go(self) -> None:
        """Hold nothing."""
        self._depth = 0
        self._thread = 0
        self.fence = 0
        # While this is above 0 a line is expected: PATIENCE after an acquire that stood in
        # one, and one less with each that finds the lock free.
        self._line = 0
        # Somebody was notified, whom the release will wake.
        self._awaited = False
        #: Those of ``regions`` that this process has changed and not written back.
        self.dirty: dict[memory.Region, None] = {}

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take one unit, in the order of asking. False if not in time.

        One round trip, and a wake-up if there was a line; an RLock that this
        thread holds already needs none. After a time-out nothing is held and the place in
        the line is given up.

        If the last holder of a lock died, warns with OwnerDiedWarning; under the
        policy ``raise`` raises OwnerDied, and nothing is held then. Raises RuntimeError in a
        signal's handler that would wait for the RLock whose acquire or release it interrupts.
        """
        amid = 0
        if self.kind == RLOCK:
            amid = _main_thread()
            if amid and amid == self._amid:
                if not block:
                    return False
                # It would wait for itself. Python's own files refuse the same.
                raise RuntimeError(
                    "reentrant call: a signal's handler cannot wait for the RLock in whose acquire "
                    "or release it comes; acquire(block=False) says False"
                )
            if self._is_mine():
                self._depth += 1
                return True
        if timeout is not None and block:
            timeout = seconds(timeout)
            block = timeout != 0
        client = current().client
        # As Client.numbered does, but that one may be interrupted when this has succeeded.
        client.busy += 1
        try:
            if amid:
                self._amid = amid
            seq = client.stamp()
            reply: Any
            data: list[Brought] = []
            try:
                try:
                    reply, data = self._ask(client, seq, block, timeout)
                except BaseException as error:
                    reply = error
                died = ""
                if type(reply) is list and reply[0] in _AT_ONCE and len(reply) == 2:
                    fence = int(reply[1])
                    if reply[0] == b"FREE":
                        self._line -= 1
                else:
                    deadline = None if timeout is None or not block else client.clock() + timeout
                    steps = protocols.acquire_on(self.keys, client, seq, reply, deadline)
                    grant = client.run(steps)
                    if grant is None:
                        return False
                    if self.kind != SEMAPHORE:
                        self._line = PATIENCE
                    fence, died = grant
                    data = []  # it may be from before the grant
                for region, request, answer in data:
                    region.arrived(request, answer, fence)
                self._take(fence, 1)
            except FINAL:
                raise
            except BaseException as error:
                # Ctrl-C between two steps, which neither saw; or one of them has seen to it.
                client.run(protocols.acquire_on(self.keys, client, seq, error, None))
                raise
        finally:
            client.busy -= 1
            if amid:
                self._amid = 0
        if died:
            try:
                self._report(died)
            except BaseException:
                self.release()
                raise
        return True

    def _ask(
        self, client: Client, seq: bytes, block: bool, timeout: float | None
    ) -> tuple[Any, list[Brought]]:
        """How an acquire begins: the first answer, and data that came along."""
        phrases = self._phrases
        if phrases.client is not client.id:
            phrases = self._phrases = protocols.Phrases(self.keys, client.id)
        if self._line > 0 and block and timeout is None:
            # Who expects a line listens, and brings the data when it is touched.
            end = client.clock() + EAGER
            hint = client.hear(self.keys.eager.script, phrases.eager % seq, seq)
            return protocols.told(client, hint, seq, end), []
        attempt = self.keys.attempt
        packet = phrases.acquire % seq if block else attempt.pack((client.id, seq))
        # For the regions that were used the last time.
        used = [region for ref in self.regions if (region := ref()) and region.wanted]
        if used:
            requests = [region.request() for region in used]
            more = b"".join([request.packet for request in requests])
            reply, found = client.request_more(attempt.script, packet, more, len(requests))
            return reply, list(zip(used, requests, found or (), strict=False))
        return client.request(attempt.script, packet), []

    def _take(self, fence: int, depth: int) -> None:
        # After this line nothing is called, so that a signal finds all of it done, or nothing.
        thread = threading.get_ident()
        if self.kind != SEMAPHORE:
            self.fence = fence
            self._depth = depth
        else:
            self._depth += depth
        self._thread = thread
        self._owed = None
        if self._excused:
            self._excused.pop(thread, None)

    def _report(self, died: str) -> None:
        message = (
            f"the previous holder of this {self.kind} died inside its critical section "
            f"({died}); what the {self.kind} protects may be half done"
        )
        if self.policy == "raise":
            raise OwnerDied(message)
        warnings.warn(message, OwnerDiedWarning, stacklevel=3)

    def release(self) -> None:
        """Give one unit back; whoever waited longest has it at once. One round trip.

        What was changed meanwhile in shared memory that it guards is written with it.
        Raises what CPython does when there is nothing to release (AssertionError for an
        RLock, ValueError), and LockLost if the lock was given away because this process
        stood still too long: then nothing was written. After these and ObjectExpired
        nothing is held. Nor is it after ServerUnavailable: unless the release was carried
        out, it is when the server is there again; what was changed was written with it, or
        never is. To release a lock once more tells whether that has happened.
        """
        if self._owed is not None:
            return self._ask_again(self._owed)
        if self._excused and self._excuse():
            return
        amid = 0
        if self.kind == RLOCK:
            amid = _main_thread()
            if not self._is_mine():
                raise AssertionError("attempt to release recursive lock not owned by thread")
            if self._depth > 1:
                self._depth -= 1
                return
        session, fence = current(), self.fence
        try:
            client = session.client
        except ServerUnavailable:  # what this process has put comes late, then
            client = session._client
            memory.abandon(self)
            self._owe(client, fence, Call(self.keys.release, (client.id, client.stamp(), fence)))
            raise
        interrupt: BaseException | None = None
        commit = None
        # As in acquire: two calls less, on the way to who waits for this.
        client.busy += 1
        try:
            if amid:
                self._amid = amid
            phrases = self._phrases
            if phrases.client is not client.id:
                phrases = self._phrases = protocols.Phrases(self.keys, client.id)
            seq, digits = client.stamp(), b"%d" % fence
            release: Bound = self.keys.release
            args: tuple[Argument, ...] = (client.id, seq, fence)
            try:
                if self.dirty:
                    commit = memory.Commit(self, client, seq)
                    release, args = commit.bound, commit.args
                try:
                    if commit:
                        packet = release.pack(args)
                    else:
                        packet = phrases.release % (seq, len(digits), digits)
                    # Who stands in line is woken by it, and needs a processor.
                    soon = self._line <= 0 and not self._awaited
                    reply: Any = client.request(release.script, packet, soon=soon)
                except BaseException as error:
                    reply = error
                if reply != b"RELEASED":
                    first = Call(release, args, late=True)
                    interrupt = client.run(protocols.release_on(self.keys, first, reply))
            except ServerUnavailable:
                self._owe(client, fence, Call(release, args))
                raise
            except (ValueError, AssertionError, LockLost, ObjectExpired) as error:
                interrupt, commit = error, None
            except BaseException:
                if commit:
                    commit.undo()  # it may be tried again
                raise
        finally:
            client.busy -= 1
            if amid:
                self._amid = 0
        self._awaited = False
        # Unless another thread of ours has it by now. Nothing was called since the answer: a
        # signal does not come between.
        if self.fence == fence:
            self.fence = 0
            if self._depth:
                self._depth -= 1
        if commit:
            commit.done()
        if interrupt:
            raise interrupt

    def _owe(self, client: Client, fence: int, release: Call) -> None:
        """The server is out of reach: give up what we hold, and release it as soon as it is not.

        Whoever caught the error might wait for itself otherwise, the next time.
        """
        self._awaited = False
        # As in release: another thread of ours may have it by now.
        if self.fence == fence:
            self.fence = 0
            if self._depth:
                self._depth -= 1
            if self.kind != SEMAPHORE:  # of whose units nobody could say which one is meant
                self._owed = release
        client.owe(release)

    def excuse(self, client: Client, fence: int, releases: int) -> None:
        """The server is out of reach for a thread that waits in a condition.

        It does not hold the lock again. If the wait was not carried out it never gave it up,
        so a release is owed; the caller's own ones (``with``) are not to say more than the wait.
        """
        self._excused[threading.get_ident()] = releases
        client.owe(Call(self.keys.release, (client.id, client.stamp(), fence)))

    def _excuse(self) -> bool:
        left = self._excused.pop(threading.get_ident(), 0)
        if left > 1:
            self._excused[threading.get_ident()] = left - 1
        return left > 0

    def _ask_again(self, release: Call) -> None:
        """Was a release carried out that had no answer?"""
        reply, interrupt = current().client.run(protocols.insist(release))
        self._owed = None
        if reply not in (b"RELEASED", b"STALE"):
            raise fault(reply, self.kind)
        if interrupt:
            raise interrupt

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *args: object) -> None:
        self.release()

    def _is_mine(self) -> bool:
        return self._depth > 0 and self._thread == threading.get_ident()

    def _count(self) -> int:
        return self._depth

    def _get_value(self) -> int:
        return int(self._look()[1])

    def _look(self) -> list[Any]:
        reply = current().client.call(self.keys.look, ())
        if reply[0] != b"VALUE":
            raise fault(reply, self.kind)
        return reply


class SemLock(_mp.SemLock):
    """What our four lock classes do differently from CPython's; ``kind`` is as in SemHandle."""

    _semlock: SemHandle

    def __init__(self, kind: str, value: int, maxvalue: int) -> None:
        self._adopt(SemHandle.create(kind, value, maxvalue))

    def _adopt(self, semlock: SemHandle) -> None:
        self._semlock = semlock
        self.acquire = semlock.acquire  # type: ignore[method-assign]
        self.release = semlock.release  # type: ignore[method-assign]

    def __enter__(self) -> bool:
        return self._semlock.acquire()

    def __exit__(self, *args: object) -> None:
        self._semlock.release()

    def __getstate__(self) -> SemHandle:
        return self._semlock

    def __setstate__(self, semlock: SemHandle) -> None:
        self._adopt(semlock)


class Lock(SemLock, _mp.Lock):
    """A non-recursive lock; any process or thread may release it.

    Uncontended, ``acquire`` and ``release`` take one round trip each.
    """

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__(LOCK, 1, 1)


class RLock(SemLock, _mp.RLock):
    """A recursive lock; only the thread that holds it may release it.

    Acquiring it again while holding it takes no round trip.
    """

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__(RLOCK, 1, 1)


class Semaphore(SemLock, _mp.Semaphore):
    """A counter that may be released more often than it was acquired.

    Units have no owner: those of a process that is killed are lost, as in
    CPython. A unit that was handed to a waiter that was dead by then is not.
    """

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        super().__init__(SEMAPHORE, _checked(value), SEM_VALUE_MAX)


class BoundedSemaphore(SemLock, _mp.BoundedSemaphore):
    """A Semaphore that raises ValueError when released above its first value."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        value = _checked(value)
        super().__init__(SEMAPHORE, value, value)


def _checked(value: int) -> int:
    value = count(value)
    if not 0 <= value <= SEM_VALUE_MAX:
        raise ValueError(f"semaphore value must be between 0 and {SEM_VALUE_MAX}, not {value}")
    return value


class _CondHandle(Handle):
    family = "cond"

    def __init__(self, ref: Ref, lock: SemHandle) -> None:
        super().__init__(ref)
        self.lock = lock
        self.keys = protocols.CondKeys(ref.ident, lock.keys)

    def _details(self) -> tuple[Any, ...]:
        return (self.lock,)

    def get_value(self) -> int:
        """How many are waiting."""
        reply = current().client.call(self.keys.look, ())
        if reply[0] != b"VALUE":
            raise fault(reply, "condition")
        return int(reply[1])

    _get_value = get_value

    @property
    def _semlock(self) -> _CondHandle:
        return self


class _Zero:
    """CPython's bookkeeping of waiters that are on their way: there are none here."""

    def get_value(self) -> int:
        return 0

    _get_value = get_value

    @property
    def _semlock(self) -> _Zero:
        return self


class Condition(_mp.Condition):
    """A condition variable.

    ``wait`` takes one round trip in which the notify is heard of, and two more if that
    takes long; with a time limit it takes two. A notified waiter wakes once, holding the
    lock already. If a notified process turns out to be dead, the next waiter is woken in
    its place, so a wake-up may be spurious, but none is missed.
    """

    # What CPython's repr and its tests read; a waiter is in one place at a time.
    _woken_count = _wait_semaphore = _Zero()

    def __init__(self, lock: Lock | RLock | None = None, *, ctx: Any = None) -> None:
        lock = lock or RLock()
        if not isinstance(lock, Lock | RLock):
            raise TypeError(f"a Condition needs a Lock or RLock of lithops_mp, not {lock!r}")
        semlock = lock._semlock
        ident = f"{semlock.ref.ident}/{current().new_id()}"
        ref = current().create(_CondHandle.family, {}, ident)
        self.__setstate__((lock, _CondHandle(ref, semlock)))

    def __getstate__(self) -> tuple[Any, ...]:
        return self._lock, self._sleeping_count

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._lock, self._sleeping_count = state
        self._make_methods()  # type: ignore[attr-defined]  # typeshed lacks it

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait for a notify, and hold the lock again.

        False if ``timeout`` seconds passed first; the lock is then waited for all the
        same, however long that takes. So it is after an interrupt, which is raised when
        the lock is held. Raises AssertionError if the calling thread does not hold the
        lock, LockLost if it has lost it. If the lock's last holder died, warns with
        OwnerDiedWarning or, under the policy ``raise``, raises OwnerDied: with the lock held.
        After ServerUnavailable it is not held, and to release it does nothing.
        """
        semlock: SemHandle = self._lock._semlock
        assert semlock._is_mine(), "must acquire() condition before using wait()"
        while semlock.dirty:  # a signal's handler may write meanwhile
            memory.flush(semlock)
        notified, died, interrupt = current().client.numbered(self._wait, seconds(timeout))
        try:
            if died:
                semlock._report(died)
        finally:
            if interrupt:
                raise interrupt
        return notified

    def _wait(
        self, client: Client, seq: bytes, timeout: float | None
    ) -> tuple[bool, str, BaseException | None]:
        """Notified in time? How did the lock's holder die? What came between?"""
        semlock: SemHandle = self._lock._semlock
        depth, fence = semlock._depth, semlock.fence
        keys, start = self._sleeping_count.keys, client.clock()
        reply: Any = None
        try:
            semlock.let_go()
            try:
                if timeout is None:
                    wait = keys.wait.pack((client.id, seq, fence, keys.name, 1))
                    try:
                        hint = client.hear(keys.wait.script, wait, seq)
                        reply = protocols.told(client, hint, seq, start + EAGER)
                    except BaseException as error:
                        reply = error
                deadline = None if timeout is None else start + timeout
                steps = protocols.cond_wait_on(keys, client, seq, fence, reply, deadline)
                notified, grant, interrupt = client.run(steps)
                semlock._take(grant.fence, depth)
            except (*FINAL, AssertionError):
                raise
            except BaseException as error:
                # Ctrl-C before or between the protocol's steps: the lock is got back all the same.
                steps = protocols.cond_wait_on(keys, client, seq, fence, error, None)
                notified, grant, interrupt = client.run(steps)
                semlock._take(grant.fence, depth)
        except ServerUnavailable:
            semlock.excuse(client, fence, depth)
            raise
        except (*FINAL, AssertionError):
            # For the caller's release, which is to find out about the same fence.
            semlock._take(fence, depth)
            raise
        return bool(notified), grant.died, interrupt

    def notify(self, n: int = 1) -> None:
        """Wake up to ``n`` waiters, those who came first; one round trip.

        They go on when the lock is released. Raises AssertionError if the calling thread
        does not hold it, LockLost if it has lost it: then nobody is woken.
        """
        semlock: SemHandle = self._lock._semlock
        assert semlock._is_mine(), "lock is not owned"
        client = current().client
        most = min(count(n), SEM_VALUE_MAX)
        keys = self._sleeping_count.keys
        if client.run(protocols.cond_notify(keys, client, semlock.fence, most)):
            semlock._awaited = True


class _EventHandle(Handle):
    family = "event"

    def __init__(self, ref: Ref) -> None:
        super().__init__(ref)
        self.keys = protocols.EventKeys(ref.ident)


class Event(_mp.Event):
    """A flag to wait for. Every operation takes one round trip.

    ``set`` wakes all waiters at once, also if ``clear`` follows immediately:
    ``wait`` returns True if the flag was up at any time during the wait. All of them
    raise ObjectExpired and ServerUnavailable; nobody owns an event, so no death matters to it.
    """

    def __init__(self, *, ctx: Any = None) -> None:
        ref = current().create(_EventHandle.family, {"flag": 0, "last": "0-0"})
        self._handle = _EventHandle(ref)

    def __repr__(self) -> str:
        try:
            status = "set" if self.is_set() else "unset"
        except Exception:
            status = "unknown"
        return f"<{type(self).__qualname__} at {id(self):#x} {status}>"

    def is_set(self) -> bool:
        """Is the flag up?"""
        return bool(current().client.run(protocols.event_is_set(self._handle.keys)))

    def set(self) -> None:
        """Raise the flag and wake everyone."""
        client = current().client
        client.run(protocols.event_change(self._handle.keys.set, client))

    def clear(self) -> None:
        """Lower the flag."""
        client = current().client
        client.run(protocols.event_change(self._handle.keys.clear, client))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the flag; False if ``timeout`` seconds passed first."""
        client = current().client
        return bool(client.run(protocols.event_wait(self._handle.keys, client, seconds(timeout))))


class _BarrierHandle(Handle):
    family = "barrier"

    def __init__(self, ref: Ref) -> None:
        super().__init__(ref)
        self.keys = protocols.BarrierKeys(ref.ident)


class Barrier(threading.Barrier):
    """A meeting point for ``parties`` processes or threads.

    ``wait`` takes one round trip in which the others' arrival is heard of, and two more
    if they take long; with a time limit it takes two. A time-out, ``abort``, an action that fails,
    an interrupt, or the death of a process that is waiting or runs the action breaks it for
    everyone, until it is reset. ``timeout`` is what ``wait`` takes if it is given none.
    """

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
    ) -> None:
        parties = count(parties)
        if parties < 1:
            raise ValueError("parties must be > 0")
        ref = current().create(
            _BarrierHandle.family, {"parties": parties, "phase": "filling", "actor": ""}
        )
        self.__setstate__((parties, action, timeout, _BarrierHandle(ref)))

    def __getstate__(self) -> tuple[Any, ...]:
        return self._parties, self._action, self._timeout, self._handle

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._parties, self._action, self._timeout, self._handle = state

    def wait(self, timeout: float | None = None) -> int:
        """Wait for all parties; the order of arrival, from 0 to parties - 1.

        The last to arrive runs the action, then everyone goes on; what the action raises
        comes out of its ``wait``. Raises BrokenBarrierError if the barrier is or gets
        broken: by others, or because ``timeout`` seconds (by default the constructor's)
        passed before all were there. While the action runs no time is counted.
        """
        client = current().client
        timeout = seconds(self._timeout if timeout is None else timeout)
        keys, has_action = self._handle.keys, self._action is not None
        reply: Any = None
        # As in SemHandle.acquire: who comes last is not to be interrupted without knowing it.
        client.busy += 1
        try:
            seq, start = client.stamp(), client.clock()
            try:
                if timeout is None:
                    arrive = keys.arrive.pack((int(has_action), 1, client.id, seq, 0))
                    hint = client.hear(keys.arrive.script, arrive, seq)
                    reply = protocols.told(client, hint, seq, start + EAGER)
                deadline = None if timeout is None else start + timeout
                steps = protocols.barrier_wait_on(keys, client, seq, has_action, reply, deadline)
                passage = client.run(steps)
            except FINAL:
                raise
            except BaseException as error:
                # Ctrl-C between two steps, which neither saw; or one of them has seen to it.
                client.run(protocols.barrier_wait_on(keys, client, seq, has_action, error, None))
                raise
        finally:
            client.busy -= 1
        if passage.word == "ACT":
            try:
                if self._action:
                    self._action()
                steps = protocols.barrier_open(keys, client, passage.ticket)
                opened, interrupt = client.run(steps)
            except BaseException:
                with contextlib.suppress(ServerUnavailable):  # it is owed, then
                    client.run(protocols.barrier_fail(keys, client, passage.ticket))
                raise
            if interrupt:
                raise interrupt
            if not opened:
                raise threading.BrokenBarrierError
        elif passage.word == "BROKEN":
            raise threading.BrokenBarrierError
        return int(passage.place)

    def __repr__(self) -> str:
        try:
            status = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        except Exception:
            status = "unknown"
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        return f"<{name} at {id(self):#x}: {status}>"

    def reset(self) -> None:
        """Back to the empty state; whoever is waiting gets BrokenBarrierError."""
        client = current().client
        client.run(protocols.barrier_smash(self._handle.keys, client, "filling"))

    def abort(self) -> None:
        """Break the barrier for everyone, until it is reset."""
        client = current().client
        client.run(protocols.barrier_smash(self._handle.keys, client, "broken"))

    def _look(self) -> list[Any]:
        reply = current().client.call(self._handle.keys.look, ())
        if reply[0] != b"VALUE":
            raise fault(reply, "Barrier")
        return reply

    @property
    def n_waiting(self) -> int:
        """How many are waiting."""
        reply = self._look()
        return int(reply[2]) if reply[1] == b"filling" else 0

    @property
    def broken(self) -> bool:
        """Is the barrier broken?"""
        return bool(self._look()[1] == b"broken")
