"""What a pool and its workers say to Redis: ``protocols`` of tasks.

A worker's one call brings the results of what it has done and takes the next tasks, or a
place in the line of those who are idle. What it has in hand is recorded in the state
until its result is there; so whoever sees it end gives that to others. The program adds
tasks and takes results, each batch acknowledged by asking for the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ._store import keys
from ._store.commands import Call
from ._store.families import Ref
from ._store.replies import fault
from ._store.scripts import Argument, packed
from .protocols import SAFETY, Me, Steps, hear


def fields(size: int, retries: int, owner: str) -> dict[str, Argument]:
    """The first state of a pool of ``size`` workers, made by the process ``owner``.

    A task runs again when a worker has died with it, but not more than ``retries`` times.
    """
    given: dict[str, Argument] = {"taker": "", "gone": 0, "closed": 0, "size": size}
    return {**given, "retries": retries, "owner": owner}


class PoolKeys:
    """The scripts of a pool, bound to its keys."""

    def __init__(self, ref: Ref) -> None:
        self.ref = ref
        self.add = ref.on("pool/add")
        self.step = ref.on("pool/step")
        self.report = ref.on("pool/report")
        self.cancel = ref.on("pool/cancel")
        self.tell = ref.on("pool/tell")
        self.take = ref.on("pool/take")
        self.close = ref.on("pool/close")
        self.keep = ref.on("pool/keep")

    def mailbox(self, me: Me) -> str:
        """Where a client's hints arrive."""
        return keys.mailbox(self.ref.ident, me.id)


class Hand(NamedTuple):
    """Tasks that a worker has taken, and the number of the request that took them."""

    seq: bytes
    tasks: Sequence[bytes]


#: The hand of a worker that has no tasks.
EMPTY = Hand(b"%012d" % 0, ())


def step(
    pool: PoolKeys,
    me: Me,
    hand: Hand = EMPTY,
    base: int = 0,
    results: Sequence[bytes] = (),
    want: int = 1,
    timeout: float | None = None,
) -> Steps:
    """Hand in results, and take the next tasks: a :class:`Hand`.

    ``results`` are those of the tasks after the first ``base``. None if the worker is to
    end: the pool is closed, nothing came for ``timeout`` seconds, or it was taken for
    dead. With ``want`` 0 it takes nothing, and what it did not begin goes back.
    """
    seq = me.stamp()
    deadline = None if timeout is None else me.clock() + timeout
    given = packed(results) if results else b""
    ask = Call(pool.step, (me.id, seq, hand.seq, base, given, want))
    mailbox = pool.mailbox(me)
    reply = yield ask
    while reply[0] == b"QUEUED":
        seconds = SAFETY if deadline is None else min(SAFETY, deadline - me.clock())
        hint = yield from hear(mailbox, seq, seconds, me)
        if hint and hint[0] == b"TASKS":
            # A hint is split, but the task in it may have any byte.
            reply = [hint[0], b"\x1f".join(hint[1:])]
        elif deadline is not None and me.clock() >= deadline:
            reply = yield Call(pool.cancel, (me.id, seq))
        else:
            reply = yield ask
    if reply[0] == b"TASKS":
        return Hand(seq, reply[1:])
    if reply[0] in (b"CLOSED", b"LEFT", b"STALE"):
        return None
    raise fault(reply, "pool")


def report(
    pool: PoolKeys, me: Me, hand: Hand, base: int, results: Sequence[bytes], begun: int
) -> Steps:
    """Hand in results while another task runs, and give back what was not begun."""
    given = packed(results) if results else b""
    reply = yield Call(pool.report, (me.id, hand.seq, base, given, begun))
    if reply[0] != b"OK":
        raise fault(reply, "pool")


def tell(pool: PoolKeys, me: Me, element: bytes) -> Steps:
    """News of a worker for the program."""
    reply = yield Call(pool.tell, (me.id, me.stamp(), element))
    if reply[0] not in (b"OK", b"STALE"):
        raise fault(reply, "pool")


def take(pool: PoolKeys, me: Me, got: int, want: int) -> Steps:
    """Results, as soon as there are some, and news of workers.

    ``got`` is how many there have been before, all in all: those are done with.
    """
    seq = me.stamp()
    ask = Call(pool.take, (me.id, seq, got, want))
    reply = yield ask
    while reply[0] == b"EMPTY":
        yield from hear(pool.mailbox(me), seq, SAFETY, me)
        reply = yield ask
    if reply[0] != b"RESULTS":
        raise fault(reply, "pool")
    return reply[1:]


def close(pool: PoolKeys, drop: bool) -> Steps:
    """No more tasks come; with ``drop`` those that lie there do not run either."""
    reply = yield Call(pool.close, (int(drop),))
    if reply[0] != b"OK":
        raise fault(reply, "pool")
