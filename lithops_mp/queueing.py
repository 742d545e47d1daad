"""What queues and pipes say to Redis: ``protocols`` of messages.

A get takes what is there or stands in line; a put leaves its message or, where
there is no room, is parked. Who waits blocks on a mailbox for a hint, which for
a get holds the message itself: it is in flight in the state until the client's
next get, so a hint that is lost is asked for again. What reached the program is
noted in the process's ledger (``_store.ledger``).
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

from ._store import keys
from ._store.commands import Call, Watch
from ._store.families import Ref
from ._store.replies import fault
from ._store.scripts import Argument, Bound, pack
from .errors import ObjectExpired, VersionMismatch
from .protocols import SEQ, Me, Steps, escaped, hear, insist, overslept, seconds_left


def fields(
    bound: int = 0, room: int = 0, *, joinable: bool = False, redeliver: bool = False
) -> dict[str, Argument]:
    """The first state of a queue, or of a pipe's end.

    ``bound`` counts messages, ``room`` bytes; 0 is none.
    """
    return {
        "max": bound,
        "room": room,
        "held": 0,
        "reader": "",
        "eof": "",
        "todo": 0 if joinable else "",
        "watch": 0,
        "last": "0-0",
        "rounds": 0,
        "redeliver": int(redeliver),
    }


class QueueKeys:
    """The scripts of a queue, or of a pipe's end, bound to its keys."""

    def __init__(self, ref: Ref) -> None:
        self.ref = ref
        get = ref.on("queue/get")
        self.get = get.given(1)
        self.attempt = get.given(0)
        self.eager = get.given(2)
        self.put = ref.on("queue/put")
        self.settle = ref.on("queue/settle")
        self.done = ref.on("queue/done")
        self.look = ref.on("queue/look")
        self.stream = keys.stream(ref.ident)
        self.what = ref.family

    def mailbox(self, me: Me) -> str:
        """Where a client's hints arrive."""
        return keys.mailbox(self.ref.ident, me.id)

    def cancel(self, me: Me, what: str) -> Bound:
        """The cancel script, which empties the mailbox too."""
        return self.ref.on("queue/cancel", mailbox=self.mailbox(me)).given(what)


# Hints that bring a message: one that came now, one that had been there.
_BROUGHT = (b"ITEMS", b"READY")


class Phrases:
    """How the commonest requests of a client begin and end, packed but for what changes."""

    def __init__(self, queue: QueueKeys, target: QueueKeys, client: str) -> None:
        self.client = client
        #: A get that listens for its answer, but for its seq.
        self.eager = escaped(queue.eager.given(client).head) + SEQ + pack(1)
        #: A put of one small message, but for the seq, the element's length and the message.
        self.put = escaped(target.put.given(client).head) + SEQ + pack(1) + _ELEMENT + pack(b"")


_ELEMENT = b"$%d\r\n0%b\r\n"


class Taken(NamedTuple):
    """Messages that a get has brought, and the number of that get."""

    seq: bytes
    elements: list[bytes]


def get(
    queue: QueueKeys, me: Me, want: int = 1, block: bool = True, timeout: float | None = None
) -> Steps:
    """Take up to ``want`` messages: :class:`Taken`, or None if there was none in time.

    Raises EOFError if the other end of a pipe is closed and nothing is left.
    """
    seq = me.stamp()
    deadline = None if timeout is None else me.clock() + timeout
    try:
        reply = yield Call(queue.get if block else queue.attempt, (me.id, seq, want))
    except BaseException as error:
        reply = error
    return (yield from get_on(queue, me, seq, want, reply, deadline))


def get_on(
    queue: QueueKeys,
    me: Me,
    seq: bytes,
    want: int,
    reply: Any,
    deadline: float | None,
) -> Steps:
    """:func:`get` from the answer to its first request on, or from what kept it away.

    None if the answer is not known.
    """
    mailbox = queue.mailbox(me)
    ask, ended = Call(queue.get, (me.id, seq, want)), False
    try:
        while True:
            if isinstance(reply, BaseException):
                raise reply
            if isinstance(reply, Taken):
                return reply
            if reply is None:
                reply = yield ask
            word = reply[0]
            if word == b"QUEUED":
                hint = yield from hear(mailbox, seq, seconds_left(me, deadline), me)
                if hint and hint[0] in _BROUGHT:
                    return _brought(me, seq, hint)
                reply = None
                if deadline is not None and me.clock() >= deadline:
                    reply = yield Call(queue.cancel(me, "get"), (me.id, seq, 1))
                continue
            if word == b"ITEMS":
                if len(reply) > 1:
                    return _seen(me, Taken(seq, reply[1:]))
                # Given to somebody else when we were taken for dead: anew.
                seq = me.stamp()
                ask = Call(queue.get, (me.id, seq, want))
                reply = None
                continue
            if word in (b"EMPTY", b"CANCELLED"):
                return None
            if word == b"EOF":
                ended = True
                raise EOFError
            raise fault(reply, queue.what)
    except (ObjectExpired, VersionMismatch, GeneratorExit):
        raise
    except BaseException:
        if not ended:
            yield from insist(Call(queue.cancel(me, "get"), (me.id, seq, 0), late=True))
        raise


def heard(me: Me, seq: bytes, hint: list[bytes] | None, end: float) -> Any:
    """What the hint says that a get has listened for: :class:`Taken`, or None to ask."""
    if hint is None or hint[0] != seq or hint[1] not in _BROUGHT or overslept(me, end):
        return None
    return _brought(me, seq, hint[1:])


def _brought(me: Me, seq: bytes, words: list[bytes]) -> Taken:
    # A hint is split, but the message in it may have any byte.
    message = words[1] if len(words) == 2 else b"\x1f".join(words[1:])
    return _seen(me, Taken(seq, [message]))


def _seen(me: Me, taken: Taken) -> Taken:
    me.saw(int(taken.seq), 1)
    return taken


def put(
    queue: QueueKeys, me: Me, element: bytes, block: bool = True, timeout: float | None = None
) -> Steps:
    """Put a message; False if there was no room in time.

    Raises BrokenPipeError if nobody has the end of the pipe any more that reads.
    """
    seq = me.stamp()
    deadline = None if timeout is None else me.clock() + timeout
    ask = Call(queue.put, (me.id, seq, int(block), element, b""))
    try:
        reply = yield ask
    except BaseException as error:
        reply = error
    return (yield from put_on(queue, me, seq, ask, reply, deadline))


def put_on(
    queue: QueueKeys, me: Me, seq: bytes, ask: Call, reply: Any, deadline: float | None
) -> Steps:
    """:func:`put` from the answer to its request on, or from what kept it away.

    None if the answer is not known.
    """
    mailbox = queue.mailbox(me)
    try:
        if isinstance(reply, BaseException):
            raise reply
        if reply is None:
            reply = yield ask
        while reply[0] == b"PARKED":
            hint = yield from hear(mailbox, seq, seconds_left(me, deadline), me)
            if hint and hint[0] == b"PUT":
                return True
            if deadline is not None and me.clock() >= deadline:
                reply = yield Call(queue.cancel(me, "put"), (me.id, seq, 1))
            else:
                reply = yield ask
        if reply[0] == b"PUT":
            return True
        if reply[0] in (b"FULL", b"CANCELLED"):
            return False
        if reply[0] == b"BROKEN":
            raise BrokenPipeError(errno.EPIPE, "the other end of the pipe is closed")
        raise fault(reply, queue.what)
    except (ObjectExpired, VersionMismatch, BrokenPipeError, GeneratorExit):
        raise
    except BaseException:
        yield from insist(Call(queue.cancel(me, "put"), (me.id, seq, 0), late=True))
        raise


class Sight(NamedTuple):
    """What a look shows.

    Messages, tasks that are not done, how often all were, the stream's last entry,
    whether the end of the pipe that writes is open.
    """

    length: int
    todo: int
    rounds: int
    last: str
    open: bool


def sight(reply: list[Any], what: str) -> Sight:
    """The answer to ``queue/look``."""
    if reply[0] != b"VALUE":
        raise fault(reply, what)
    length, todo, rounds, last, there = reply[1:]
    return Sight(int(length), int(todo or 0), int(rounds), last.decode(), there == 1)


def look(queue: QueueKeys, watch: bool = False) -> Steps:
    """A :class:`Sight`; with ``watch`` the stream will tell of the next change."""
    reply = yield Call(queue.look, (int(watch),))
    return sight(reply, queue.what)


def done(queue: QueueKeys, me: Me) -> Steps:
    """A task is done. Raises ValueError if there was none."""
    reply = yield Call(queue.done, (me.id, me.stamp()))
    if reply[0] == b"TOO_MANY":
        raise ValueError("task_done() called too many times")
    if reply[0] != b"OK":
        raise fault(reply, queue.what)


def join(queue: QueueKeys, me: Me) -> Steps:
    """Wait until all tasks are done, or were at some moment since."""
    first = yield from look(queue)
    seen = first
    while seen.todo and seen.rounds == first.rounds:
        yield Watch(queue.stream, seen.last, seconds_left(me, None))
        seen = yield from look(queue)


def poll(queue: QueueKeys, me: Me, timeout: float | None) -> Steps:
    """Would a get return, or raise, at once? Waits for it."""
    deadline = None if timeout is None else me.clock() + timeout
    while True:
        wait = deadline is None or me.clock() < deadline
        seen = yield from look(queue, wait)
        if seen.length or not seen.open:
            return True
        if not wait:
            return False
        yield Watch(queue.stream, seen.last, seconds_left(me, deadline))
