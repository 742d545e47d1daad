"""What each operation says to Redis, without saying it.

Every function here is a generator: it yields commands (``_store.commands``) and
is sent their answers. Whoever drives it decides how they are carried out: a
thread's client in real life, the explorer of interleavings in the tests. So the
same code is what runs and what is examined. Not the first request of the commonest
operations: ``synchronize`` and ``channel`` say it themselves, packed beforehand, and go
on here with its answer (``acquire_on`` and its like). The explorer has generators for
that request (``acquire``, ``acquire_eager``); both must say the same.

The shape is the same for all. A script either grants or puts our ticket in
line. In line we block on a mailbox for a hint; the hint only repeats what the
granting script wrote in the state, so losing it costs time, never correctness:
every SAFETY seconds we ask the state, and see whether whoever we wait for is
still alive. Interrupted anywhere, we withdraw the ticket before the exception
goes on.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, Protocol

from ._store import keys
from ._store.client import EAGER
from ._store.commands import Block, Call, Command, Watch
from ._store.processes import fate
from ._store.replies import fault
from ._store.scripts import Bound, script
from .errors import FINAL, LockLost, ObjectExpired, ServerUnavailable, VersionMismatch

# Seconds between two looks at the state by a waiter. Only lost hints and dead
# processes wait for it, so it trades load on the server for the time those take.
SAFETY = 5.0

Steps = Generator[Command, Any, Any]


class Me(Protocol):
    """Who is asking: a client, or the explorer's."""

    @property
    def id(self) -> str: ...
    def stamp(self) -> bytes: ...
    def clock(self) -> float: ...
    def saw(self, seq: int, count: int) -> None: ...


class Grant(NamedTuple):
    """A lock or unit that was acquired.

    ``fence`` never repeats; ``died`` names the previous holder if it died.
    """

    fence: int
    died: str


def seconds_left(me: Me, deadline: float | None) -> float:
    """How long to block now: to the deadline, but no longer than SAFETY."""
    return SAFETY if deadline is None else min(SAFETY, deadline - me.clock())


def hear(mailbox: str, seq: bytes, seconds: float, me: Me) -> Steps:
    """Block for the hint about request ``seq``; None if none came in time.

    Hints about earlier requests are left over from waits that were given up. One
    that was read long after the time was up is not believed: this process stood
    still, and what it was granted may have been given on since.
    """
    end = me.clock() + seconds
    while True:
        hint = yield Block(mailbox, end - me.clock())
        if hint is None or overslept(me, end):
            return None
        if hint[0] == seq:
            return hint[1:]
        if me.clock() >= end:
            return None


def overslept(me: Me, end: float) -> bool:
    """Did a wait take much longer than it may? A lease is several times SAFETY."""
    return me.clock() > end + SAFETY


def obituary(process: str) -> Steps:
    """Why a process is known to be dead, in words; None while it is alive."""
    reply = yield Call(script("process/status").on(keys.process(process)), ())
    word = reply[0]
    if word == b"GONE":
        return f"process {process}, of which nothing is left"
    if word == b"LAPSED":
        silence = int(reply[1]) / 1000
        return f"{reply[2].decode()}, which has given no sign of life for {silence:.0f} s"
    if word == b"ENDED":
        return f"{reply[2].decode()}, which {fate(int(reply[1]))}"
    return None


def insist(step: Call) -> Steps:
    """Carry a clean-up through although Ctrl-C is pressed again: (reply, interrupt).

    The call is the same request however often it is sent. A handful of tries,
    since an exception that is not a signal's would come back for ever.
    """
    interrupt: BaseException | None = None
    for _ in range(8):
        try:
            return (yield step), interrupt
        except (*FINAL, GeneratorExit):
            raise
        except BaseException as error:
            interrupt = error
    assert interrupt is not None
    raise interrupt


def granted(words: list[Any]) -> Grant:
    """``ACQUIRED fence [died]`` as a Grant."""
    return Grant(int(words[1]), words[2].decode() if len(words) > 2 else "")


class SemKeys:
    """The scripts of one lock or semaphore, bound to its keys."""

    def __init__(self, ident: str, kind: str, maxvalue: int) -> None:
        self.ident = ident
        self.kind = kind
        where = keys.state(ident), keys.waiters(ident)
        acquire = script("sem/acquire").on(*where)
        self.acquire = acquire.given(kind, 1)
        self.attempt = acquire.given(kind, 0)
        self.eager = acquire.given(kind, 2)
        self.release = script("sem/release").on(*where).given(kind, maxvalue)
        self.depose = script("sem/depose").on(*where)
        self.bury = script("sem/bury").on(*where)
        self.look = script("sem/look").on(*where)

    def cancel(self, mailbox: str) -> Bound:
        """The cancel script, which empties the mailbox too."""
        where = keys.state(self.ident), keys.waiters(self.ident)
        return script("sem/cancel").on(*where, mailbox).given(self.kind)


def acquire(sem: SemKeys, me: Me, block: bool = True, timeout: float | None = None) -> Steps:
    """Take one unit: a :class:`Grant`, or None if it could not be had in time."""
    seq = me.stamp()
    deadline = None if timeout is None else me.clock() + timeout
    first = Call(sem.acquire if block else sem.attempt, (me.id, seq))
    try:
        reply = yield first
    except BaseException as error:
        reply = error
    return (yield from acquire_on(sem, me, seq, reply, deadline))


def acquire_eager(sem: SemKeys, me: Me) -> Steps:
    """:func:`acquire` of a lock as it goes when a line is expected: we listen for the answer.

    One round trip for both, since the script gives a hint also if it grants at
    once. Its own reply says nothing more, and is not even sent (``Client.hear``).
    """
    seq, end = me.stamp(), me.clock() + EAGER
    reply: Any
    try:
        yield Call(sem.eager, (me.id, seq))
        hint = yield Block(keys.mailbox(sem.ident, me.id), EAGER)
        reply = told(me, hint, seq, end)
    except BaseException as error:
        reply = error
    return (yield from acquire_on(sem, me, seq, reply, None))


def told(me: Me, hint: list[Any] | None, seq: bytes, end: float) -> list[Any] | None:
    """What a hint says of request ``seq``, if it says all and is to be believed."""
    if hint and hint[0] == seq and hint[1] != b"ASK" and me.clock() <= end + SAFETY:
        return hint[1:]
    return None


class Phrases:
    """How the protocols of a lock begin when this client speaks, packed but for the numbers.

    A process that was just woken pays several times for every line of Python, and
    these are all that is said as long as nothing goes wrong. ``SemHandle`` begins with
    them and goes on with ``acquire_on`` and ``release_on``; the generators that say
    all of it are for those who take one step at a time.
    """

    def __init__(self, sem: SemKeys, client: str) -> None:
        self.client = client
        #: The request of :func:`acquire`, but for its seq.
        self.acquire = escaped(sem.acquire.given(client).head) + SEQ
        #: The first one of :func:`acquire_eager`, which listens then; but for its seq.
        self.eager = escaped(sem.eager.given(client).head) + SEQ
        #: That of :func:`release`, but for its seq, and the length and digits of the fence.
        self.release = escaped(sem.release.given(client).head) + SEQ + b"$%d\r\n%b\r\n"


SEQ = b"$12\r\n%b\r\n"


def escaped(packet: bytes) -> bytes:
    """Packed words, to be used with ``%``."""
    return packet.replace(b"%", b"%%")


def acquire_on(sem: SemKeys, me: Me, seq: bytes, reply: Any, deadline: float | None) -> Steps:
    """:func:`acquire` from the answer to its first request on, or from what kept it away.

    None is no answer: ask.

    It is a function of its own so that ``SemHandle`` can make the first request without a
    generator, which would double the time that Python takes. If the lock is free, that
    request is all there is.
    """
    try:
        if isinstance(reply, BaseException):
            raise reply
        if reply is None:
            reply = yield Call(sem.acquire, (me.id, seq))
        if reply[0] in (b"ACQUIRED", b"FREE"):
            return granted(reply)
        if reply[0] == b"WOULD_BLOCK":
            return None
        if reply[0] != b"QUEUED":
            raise fault(reply, sem.kind)
        return (yield from _stand_in_line(sem, me, seq, deadline))
    except (ObjectExpired, VersionMismatch, GeneratorExit):
        raise
    except BaseException:
        cancel = sem.cancel(keys.mailbox(sem.ident, me.id))
        yield from insist(Call(cancel, (me.id, seq, 0), late=True))
        raise


def _stand_in_line(sem: SemKeys, me: Me, seq: bytes, deadline: float | None) -> Steps:
    mailbox = keys.mailbox(sem.ident, me.id)
    while True:
        hint = yield from hear(mailbox, seq, seconds_left(me, deadline), me)
        if hint and hint[0] == b"ACQUIRED" and sem.kind != "sem":
            return granted(hint)
        if not hint and deadline is not None and me.clock() >= deadline:
            reply = yield Call(sem.cancel(mailbox), (me.id, seq, 1))
            if reply[0] == b"CANCELLED":
                return None
        else:
            # For a semaphore this is also how a grant is acknowledged.
            reply = yield Call(sem.acquire, (me.id, seq))
        if reply[0] == b"ACQUIRED":
            return granted(reply)
        if reply[0] != b"QUEUED":
            raise fault(reply, sem.kind)
        yield from unseat_the_dead(sem, reply[1], reply[2])


def unseat_the_dead(sem: SemKeys, owner: bytes, fence: bytes) -> Steps:
    """If the owner of a lock is dead, let the next in line have it."""
    if not owner or owner.startswith((b"!", b"?")):
        return
    died = yield from obituary(owner.decode().partition(".")[0])
    if died:
        if sem.kind == "sem":
            yield Call(sem.bury, (owner.decode().partition(".")[0], died))
        else:
            yield Call(sem.depose, (owner, fence, died))


def release(sem: SemKeys, me: Me, fence: int) -> Steps:
    """Give one unit back. ``fence`` is that of the acquire it undoes, or 0.

    Returns what interrupted it, for the caller to raise: the release has happened.
    """
    first = Call(sem.release, (me.id, me.stamp(), fence), late=True)
    try:
        reply = yield first
    except BaseException as error:
        reply = error
    return (yield from release_on(sem, first, reply))


def release_on(sem: SemKeys, first: Call, reply: Any) -> Steps:
    """:func:`release` from the answer to its request on, or from what kept it away."""
    interrupt = None
    if isinstance(reply, BaseException):
        if isinstance(reply, (*FINAL, GeneratorExit)):
            raise reply
        interrupt = reply
        reply, again = yield from insist(first)
        interrupt = interrupt or again
    if reply != b"RELEASED":
        raise fault(reply, sem.kind)
    return interrupt


class CondKeys:
    """The scripts of one condition and its lock, bound to their keys."""

    def __init__(self, ident: str, lock: SemKeys) -> None:
        self.lock = lock
        self.name = ident.partition("/")[2]
        line = keys.state(lock.ident), keys.waiters(lock.ident)
        area = keys.state(ident), keys.waiters(ident)
        self.wait = script("cond/wait").on(*line, *area)
        self.notify = script("cond/notify").on(*line, *area)
        self.expire = script("cond/expire").on(*line, area[1])
        self.leave = script("cond/leave").on(*line, area[1])
        self.look = script("cond/look").on(*area)


def cond_wait(cond: CondKeys, me: Me, fence: int, timeout: float | None) -> Steps:
    """Wait for a notify: (notified, Grant of the lock, interrupt).

    The lock is held again in any case, as CPython's ``finally`` has it; what
    interrupted the wait is the third item, for the caller to raise.
    """
    deadline = None if timeout is None else me.clock() + timeout
    return (yield from cond_wait_on(cond, me, me.stamp(), fence, None, deadline))


def cond_wait_eager(cond: CondKeys, me: Me, fence: int) -> Steps:
    """:func:`cond_wait` that listens for the notify at once, as :func:`acquire_eager` does."""
    seq, end = me.stamp(), me.clock() + EAGER
    reply: Any
    try:
        yield Call(cond.wait, (me.id, seq, fence, cond.name, 1))
        hint = yield Block(keys.mailbox(cond.lock.ident, me.id), EAGER)
        reply = told(me, hint, seq, end)
    except BaseException as error:
        reply = error
    return (yield from cond_wait_on(cond, me, seq, fence, reply, None))


def cond_wait_on(
    cond: CondKeys, me: Me, seq: bytes, fence: int, reply: Any, deadline: float | None
) -> Steps:
    """:func:`cond_wait` from the answer on, or from what kept it away; None: ask for it.

    Where the server is out of reach, the lock is not held again: ServerUnavailable. Then
    nobody waits any more, either.
    """
    try:
        return (yield from _stand_by(cond, me, seq, fence, reply, deadline))
    except ServerUnavailable:
        leave = Call(cond.leave, (me.id, me.stamp(), fence, _ticket(cond, me, seq)), late=True)
        yield from insist(leave)
        raise


def _stand_by(
    cond: CondKeys, me: Me, seq: bytes, fence: int, reply: Any, deadline: float | None
) -> Steps:
    mailbox = keys.mailbox(cond.lock.ident, me.id)
    ask, refused = Call(cond.wait, (me.id, seq, fence, cond.name, 0)), False
    try:
        if isinstance(reply, BaseException):
            raise reply
        if reply is None:
            reply = yield ask
        # Not only WAITING: a request that had to be sent again tells how things stand.
        if reply[0] not in (b"WAITING", b"QUEUED", b"ACQUIRED", b"FORGOTTEN"):
            refused = True
            raise fault(reply, "condition")
        while reply[0] == b"WAITING":
            if deadline is not None and me.clock() >= deadline:
                return (yield from _leave(cond, me, seq, None))
            hint = yield from hear(mailbox, seq, seconds_left(me, deadline), me)
            if hint and hint[0] == b"ACQUIRED":
                return True, granted(hint), None
            if len(reply) > 1:
                yield from unseat_the_dead(cond.lock, reply[1], reply[2])
            reply = yield ask
        return (yield from _get_back(cond, me, seq, ask, reply, True, None))
    except (ObjectExpired, VersionMismatch, LockLost, GeneratorExit):
        raise
    except BaseException as error:
        if refused:
            raise
        return (yield from _leave(cond, me, seq, error))


def _ticket(cond: CondKeys, me: Me, seq: bytes) -> str:
    return f"{me.id}:{seq.decode()}:{cond.name}"


def _leave(cond: CondKeys, me: Me, seq: bytes, error: BaseException | None) -> Steps:
    """Give up waiting, by time-out or interrupt, and get the lock back."""
    ask = Call(cond.expire, (me.id, me.stamp(), _ticket(cond, me, seq)))
    reply, interrupt = yield from insist(ask)
    notified = reply[0] != b"EXPIRED"
    return (yield from _get_back(cond, me, seq, ask, reply, notified, error or interrupt))


def _get_back(
    cond: CondKeys,
    me: Me,
    seq: bytes,
    ask: Call,
    reply: list[Any],
    notified: bool,
    error: BaseException | None,
) -> Steps:
    """Wait, without a time limit, until our ticket has come to hold the lock."""
    mailbox = keys.mailbox(cond.lock.ident, me.id)
    while True:
        if reply[0] in (b"EXPIRED", b"NOTIFIED"):
            reply = reply[1:]
        if reply[0] == b"ACQUIRED":
            return notified, granted(reply), error
        if reply[0] == b"FORGOTTEN":
            # Taken for dead. A notify may have passed us by, so wake up: a
            # spurious wake-up is allowed, a missed one is not.
            return True, (yield from acquire(cond.lock, me)), error
        if reply[0] != b"QUEUED":
            raise fault(reply, "condition")
        try:
            hint = yield from hear(mailbox, seq, SAFETY, me)
            if hint and hint[0] == b"ACQUIRED":
                return notified, granted(hint), error
            yield from unseat_the_dead(cond.lock, reply[1], reply[2])
        except (*FINAL, GeneratorExit):
            raise
        except BaseException as interrupt:
            error = error or interrupt
        reply, again = yield from insist(ask)
        error = error or again


def cond_notify(cond: CondKeys, me: Me, fence: int, count: int) -> Steps:
    """Wake up to ``count`` waiters (-1: all). Returns how many."""
    reply = yield Call(cond.notify, (me.id, me.stamp(), fence, count))
    if reply[0] != b"NOTIFIED":
        raise fault(reply, "condition")
    return int(reply[1])


class EventKeys:
    """The scripts of one event, bound to its keys."""

    def __init__(self, ident: str) -> None:
        self.stream = keys.stream(ident)
        self.set = script("event/set").on(keys.state(ident), self.stream)
        self.clear = script("event/clear").on(keys.state(ident))
        self.look = script("event/look").on(keys.state(ident))


def event_change(bound: Bound, me: Me) -> Steps:
    """Set or clear."""
    reply = yield Call(bound, (me.id, me.stamp()))
    if reply[0] != b"OK":
        raise fault(reply, "Event")


def event_is_set(event: EventKeys) -> Steps:
    """Is the flag up?"""
    reply = yield Call(event.look, ())
    if reply[0] not in (b"SET", b"UNSET"):
        raise fault(reply, "Event")
    return reply[0] == b"SET"


def event_wait(event: EventKeys, me: Me, timeout: float | None) -> Steps:
    """Wait until the flag is, or was, up: True; False at the time-out.

    ``set(); clear()`` wakes us too: the entry in the stream stays.
    """
    deadline = None if timeout is None else me.clock() + timeout
    start = None
    while True:
        reply = yield Call(event.look, ())
        if reply[0] == b"SET":
            return True
        if reply[0] != b"UNSET":
            raise fault(reply, "Event")
        if start is not None and reply[1] != start:
            return True
        start = reply[1]
        if deadline is not None and me.clock() >= deadline:
            return False
        if (yield Watch(event.stream, start.decode(), seconds_left(me, deadline))):
            return True


class BarrierKeys:
    """The scripts of one barrier, bound to its keys."""

    def __init__(self, ident: str) -> None:
        self.ident = ident
        where = keys.state(ident), keys.waiters(ident)
        self.arrive = script("barrier/arrive").on(*where)
        self.open = script("barrier/open").on(*where)
        self.smash = script("barrier/smash").on(*where)
        self.expire = script("barrier/expire").on(*where)
        self.bury = script("barrier/bury").on(*where)
        self.look = script("barrier/look").on(*where)


class Passage(NamedTuple):
    """How an arrival ended: ``word`` is PASSED, ACT or BROKEN.

    With ACT the caller runs the action and then :func:`barrier_open` s. ``place``
    is the order of arrival.
    """

    word: str
    place: int
    ticket: str


def barrier_wait(barrier: BarrierKeys, me: Me, has_action: bool, timeout: float | None) -> Steps:
    """Arrive and wait for the others: a :class:`Passage`."""
    deadline = None if timeout is None else me.clock() + timeout
    return (yield from barrier_wait_on(barrier, me, me.stamp(), has_action, None, deadline))


def barrier_wait_eager(barrier: BarrierKeys, me: Me, has_action: bool) -> Steps:
    """:func:`barrier_wait` that listens for the others at once, as :func:`acquire_eager` does."""
    seq, end = me.stamp(), me.clock() + EAGER
    reply: Any
    try:
        yield Call(barrier.arrive, (int(has_action), 1, me.id, seq, 0))
        hint = yield Block(keys.mailbox(barrier.ident, me.id), EAGER)
        reply = told(me, hint, seq, end)
    except BaseException as error:
        reply = error
    return (yield from barrier_wait_on(barrier, me, seq, has_action, reply, None))


def barrier_wait_on(
    barrier: BarrierKeys, me: Me, seq: bytes, has_action: bool, reply: Any, deadline: float | None
) -> Steps:
    """:func:`barrier_wait` from the answer on, or from what kept it away; None: ask for it."""
    ticket = f"{me.id}:{seq.decode()}"
    mailbox = keys.mailbox(barrier.ident, me.id)
    looks = 0
    try:
        if isinstance(reply, BaseException):
            raise reply
        while True:
            if reply is None:
                reply = yield Call(barrier.arrive, (int(has_action), 0, me.id, seq, looks))
            if reply[0] == b"WAITING":
                looks += 1
                if reply[1].decode() != ticket:
                    yield from _break_for_the_dead(barrier, reply[1])
                reply = yield from hear(mailbox, seq, seconds_left(me, deadline), me)
                if reply is None and deadline is not None and me.clock() >= deadline:
                    reply = yield Call(barrier.expire, (me.id, seq, 0))
                    if reply[0] == b"WAITING":
                        deadline = reply = None
                if reply is None or reply[0] == b"ASK":
                    reply = None
                    continue
            if reply[0] in (b"FORGOTTEN", b"BROKEN"):
                return Passage("BROKEN", -1, ticket)
            if reply[0] not in (b"PASSED", b"ACT"):
                raise fault(reply, "Barrier")
            return Passage(reply[0].decode(), int(reply[1]), ticket)
    except (ObjectExpired, VersionMismatch, GeneratorExit):
        raise
    except BaseException:
        yield from insist(Call(barrier.expire, (me.id, seq, 1), late=True))
        raise


def _break_for_the_dead(barrier: BarrierKeys, suspect: bytes) -> Steps:
    process = suspect.decode().partition(".")[0]
    died = yield from obituary(process)
    if died:
        yield Call(barrier.bury, (process,))


def barrier_open(barrier: BarrierKeys, me: Me, ticket: str) -> Steps:
    """The action has run: let everyone through. (False if broken meanwhile, interrupt).

    The interrupt is for the caller to raise: what is raised here came before it was done.
    """
    reply, interrupt = yield from insist(Call(barrier.open, (me.id, me.stamp(), ticket)))
    if reply[0] not in (b"PASSED", b"BROKEN"):
        raise fault(reply, "Barrier")
    return reply[0] == b"PASSED", interrupt


def barrier_fail(barrier: BarrierKeys, me: Me, ticket: str) -> Steps:
    """The action failed, or nobody knows whether :func:`barrier_open` was carried out.

    Unless it was, the barrier is broken for those who wait.
    """
    yield from insist(Call(barrier.expire, (me.id, ticket.partition(":")[2], 1), late=True))


def barrier_smash(barrier: BarrierKeys, me: Me, phase: str) -> Steps:
    """``phase`` "broken" aborts, "filling" resets."""
    reply = yield Call(barrier.smash, (me.id, me.stamp(), phase))
    if reply[0] != b"OK":
        raise fault(reply, "Barrier")
