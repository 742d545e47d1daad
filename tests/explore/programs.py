"""What the explorer's clients do, and the objects they do it with."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

from lithops_mp import memory, protocols
from lithops_mp._store import families, keys
from lithops_mp._store.commands import Call
from lithops_mp._store.families import Ref
from lithops_mp._store.replies import fault
from lithops_mp._store.scripts import command, packed
from lithops_mp.errors import LockLost, ServerUnavailable
from lithops_mp.memory import MemKeys
from lithops_mp.protocols import BarrierKeys, CondKeys, EventKeys, SemKeys

from .actor import Get, Me, Program, Put
from .explorer import Rules, Scenario, Step
from .rules import BarrierRules, CondRules, EventRules, MemRules, SemRules

Run = Generator[Any, Any, Any]

TTL = 10_000_000
LOCK, COND, EVENT, BARRIER, REGION = "L", "L/C", "E", "B", "L/M"
REGIONS = (REGION, "L/N")


# -- objects, as lithops_mp.synchronize makes them --


def make_sem(kind: str, value: int, policy: str = "warn") -> list[Step]:
    fields = {"value": value, "owner": "", "fence": 0, "kind": kind, "policy": policy}
    return [families.create(Ref("sem", LOCK), TTL, "main", fields)]


def make_cond(kind: str) -> list[Step]:
    return [*make_sem(kind, 1), families.create(Ref("cond", COND), TTL, "main", {})]


def make_event() -> list[Step]:
    return [families.create(Ref("event", EVENT), TTL, "main", {"flag": 0, "last": "0-0"})]


def make_barrier(parties: int) -> list[Step]:
    fields = {"parties": parties, "phase": "filling", "actor": ""}
    return [families.create(Ref("barrier", BARRIER), TTL, "main", fields)]


def make_mem(kind: str, regions: int) -> list[Step]:
    fields = {"size": 8, "version": 1}
    made = [
        families.create(Ref("mem", ident), TTL, "main", fields, 8, b"")
        for ident in REGIONS[:regions]
    ]
    return [*make_sem(kind, 1), *made]


# -- locks and semaphores --


def locking(
    sem: SemKeys, me: Me, block: bool = True, timeout: float | None = None, eager: bool = False
) -> Run:
    """One critical section; True if it was entered."""
    if eager:
        grant = yield from protocols.acquire_eager(sem, me)
    else:
        grant = yield from protocols.acquire(sem, me, block, timeout)
    if grant is None:
        if block and timeout is None:
            raise RuntimeError("an acquire without a time limit gave up")
        return False
    yield from leaving(sem, me, grant)
    return True


def leaving(sem: SemKeys, me: Me, grant: protocols.Grant) -> Run:
    """Hold what was granted, until the release is answered."""
    name = keys.state(sem.ident)
    me.held[name] = (me.id, grant)
    try:
        interrupt = yield from protocols.release(sem, me, grant.fence)
    finally:
        del me.held[name]
    if interrupt:
        raise interrupt


def giving_back(sem: SemKeys, me: Me, fence: int) -> Run:
    """Release what may have been lost, now or later."""
    with contextlib.suppress(LockLost, ServerUnavailable):
        yield from protocols.release(sem, me, fence)


def once_more(program: Program) -> Program:
    """Again from the beginning, if the server was out of reach."""

    def twice(me: Me) -> Run:
        try:
            return (yield from program(me))
        except ServerUnavailable:
            return (yield from program(me))

    return twice


def locker(
    kind: str = "lock",
    rounds: int = 1,
    block: bool = True,
    timeout: float | None = None,
    most: int = 1,
    eager: bool = False,
) -> Program:
    """Enter the critical section ``rounds`` times."""
    sem = SemKeys(LOCK, kind, most)

    def program(me: Me) -> Run:
        entered = []
        for _ in range(rounds):
            entered.append((yield from locking(sem, me, block, timeout, eager)))
        return tuple(entered)

    return program


# -- conditions: a store of items --


def taker(kind: str = "lock", timeout: float | None = None, eager: bool = False) -> Program:
    """Take an item, waiting for one. True if there was one in time."""
    lock = SemKeys(LOCK, kind, 1)
    cond = CondKeys(COND, lock)
    name = keys.state(LOCK)

    def program(me: Me) -> Run:
        grant = yield from protocols.acquire(lock, me)
        me.held[name] = (me.id, grant)
        woken = True
        while not (yield Get("items")) and woken:
            # It is given up when the script has run, at the first answer.
            fence = me.held.pop(name)[1].fence
            if eager:
                steps = protocols.cond_wait_eager(cond, me, fence)
            else:
                steps = protocols.cond_wait(cond, me, fence, timeout)
            try:
                woken, grant, interrupt = yield from steps
            except ServerUnavailable:
                yield Put("left", ((yield Get("left")) or 0) + 1)
                yield from giving_back(lock, me, fence)
                raise
            me.held[name] = (me.id, grant)
            if woken:
                yield Put("woken", ((yield Get("woken")) or 0) + 1)
            if interrupt:
                woken = False
        items = (yield Get("items")) or 0
        if items:
            yield Put("items", items - 1)
        yield from leaving(lock, me, grant)
        return bool(items)

    return program


def maker(kind: str = "lock", items: int = 1, count: int = 1, rounds: int = 1) -> Program:
    """Put ``items`` there and notify ``count``."""
    lock = SemKeys(LOCK, kind, 1)
    cond = CondKeys(COND, lock)

    def program(me: Me) -> Run:
        for _ in range(rounds):
            grant = yield from protocols.acquire(lock, me)
            me.held[keys.state(LOCK)] = (me.id, grant)
            moved = yield from protocols.cond_notify(cond, me, grant.fence, count)
            # After the notify, so that an item there is one that was announced.
            yield Put("items", ((yield Get("items")) or 0) + items)
            yield Put("moved", ((yield Get("moved")) or 0) + moved)
            yield from leaving(lock, me, grant)

    return program


# -- shared memory: a number that is counted up --


def counter(
    kind: str = "lock",
    rounds: int = 1,
    timeout: float | None = None,
    how: str = "",
    regions: int = 1,
) -> Program:
    """Add one under the lock, which brings the number and takes it back. How often it did.

    ``how``: ``eager`` listens for the lock, ``along`` sends the request for the number
    behind the one for the lock, ``keep`` adds one more and writes it back in between,
    ``stage`` stores the new content beside the old one.
    """
    lock = SemKeys(LOCK, kind, 1)
    found = tuple(MemKeys(ident, lock) for ident in REGIONS[:regions])

    def program(me: Me) -> Run:
        done, copies = 0, Copies()
        for _ in range(rounds):
            if how == "eager":
                grant = yield from protocols.acquire_eager(lock, me)
            elif how == "along":
                grant = yield from acquire_along(lock, found, me, copies)
            else:
                grant = yield from protocols.acquire(lock, me, True, timeout)
            if grant is not None:
                yield from count_up(lock, found, me, grant, copies, how)
                done += 1 + (how == "keep")
                if how != "along":
                    copies.clear()
        return done

    return program


#: What a client knows of each region: its version and number, and the fence it was so under.
Copies = dict[MemKeys, tuple[int, int, int]]


def request(region: MemKeys, copies: Copies) -> Call:
    return Call(region.fetch, (0, 3, copies.get(region, (0, 0, 0))[0]))


def arrived(region: MemKeys, copies: Copies, reply: Any, fence: int) -> None:
    if reply[0] == b"DATA":
        copies[region] = int(reply[1]), int.from_bytes(reply[2], "little"), fence
    elif reply[0] == b"SAME":
        copies[region] = *copies[region][:2], fence
    else:
        raise fault(reply, "shared value")


def one_more(region: MemKeys, copies: Copies) -> memory.Ranges:
    """Add one to the copy, which will be the next version; what is to be written."""
    version, number, fence = copies[region]
    copies[region] = version + 1, number + 1, fence
    return [0, (number + 1).to_bytes(4, "little")]


def acquire_along(lock: SemKeys, regions: tuple[MemKeys, ...], me: Me, copies: Copies) -> Run:
    """As ``SemHandle.acquire`` does it: what comes along counts if the lock was had at once."""
    seq = me.stamp()
    reply = yield Call(lock.acquire, (me.id, seq))
    data = []
    for region in regions:
        data.append((yield request(region, copies)))
    grant = yield from protocols.acquire_on(lock, me, seq, reply, None)
    if reply[0] == b"ACQUIRED":
        for region, found in zip(regions, data, strict=True):
            arrived(region, copies, found, grant.fence)
    return grant


def count_up(
    lock: SemKeys,
    regions: tuple[MemKeys, ...],
    me: Me,
    grant: protocols.Grant,
    copies: Copies,
    how: str = "",
) -> Run:
    """Read, add and release, as the holder."""
    name = keys.state(lock.ident)
    me.held[name] = (me.id, grant)
    try:
        for region in regions:
            if copies.get(region, (0, 0, 0))[2] != grant.fence:
                arrived(region, copies, (yield request(region, copies)), grant.fence)
        if how == "keep":
            changes = packed([one_more(region, copies) for region in regions])
            keep = Call(
                memory.release_bound(lock, [*regions]),
                (1, changes, me.id, me.stamp(), grant.fence),
            )
            reply, interrupt = yield from protocols.insist(keep)
            if reply != b"KEPT":
                raise fault(reply, lock.kind)
        changes = {region: one_more(region, copies) for region in regions}
        if how == "stage":
            for region in regions:
                stage = f"{region.bytes}:{me.id}:{me.seq + 1:012d}"
                yield Call(Stored(), (stage, changes[region][1] + bytes(4)))
                changes[region] = []
        interrupt = yield from memory.release(lock, me, grant.fence, changes)
    finally:
        del me.held[name]
    if interrupt:
        raise interrupt


class Stored:
    """The command that stores something, in place of a script."""

    name = "SET"
    script = property(lambda self: self)

    def pack(self, args: tuple[Any, ...]) -> bytes:
        return command("SET", *args, "PX", memory.STAGE_MS)


def adder(kind: str = "lock") -> Program:
    """Add one in one step; under the lock, if somebody has it."""
    lock = SemKeys(LOCK, kind, 1)
    region = MemKeys(REGION, lock)
    one = (1).to_bytes(4, "little")

    def program(me: Me) -> Run:
        ask = (me.id, me.stamp(), "add", "int", "<", 0, one, b"")
        reply = yield Call(region.guarded_update, ask)
        if reply[0] == b"BUSY":
            grant = yield from protocols.acquire(lock, me)
            yield from count_up(lock, (region,), me, grant, Copies())
        elif reply[0] != b"WAS":
            raise fault(reply, "shared value")
        return 1

    return program


def marker(rounds: int = 1, kind: str = "lock") -> Program:
    """Write 1, 2 ... beside the number; under the lock, if somebody has it."""
    lock = SemKeys(LOCK, kind, 1)
    region = MemKeys(REGION, lock)

    def program(me: Me) -> Run:
        for mark in range(1, rounds + 1):
            ranges = [4, mark.to_bytes(4, "little")]
            ask = (me.id, me.stamp(), packed(ranges))
            reply = yield Call(region.guarded_write, ask)
            if reply == b"BUSY":
                grant = yield from protocols.acquire(lock, me)
                me.held[keys.state(LOCK)] = (me.id, grant)
                try:
                    yield from memory.release(lock, me, grant.fence, {region: ranges})
                finally:
                    del me.held[keys.state(LOCK)]
            elif reply != b"WROTE":
                raise fault(reply, "shared value")
        return rounds

    return program


# -- events --


def setter(*changes: str) -> Program:
    """``set`` and ``clear`` the event, in this order."""
    event = EventKeys(EVENT)

    def program(me: Me) -> Run:
        for change in changes:
            yield from protocols.event_change(getattr(event, change), me)
            yield Put(f"{change} {me.id}", True)
            yield Put("last change", change)

    return program


def watcher(timeout: float | None = None, sure: tuple[str, ...] = ()) -> Program:
    """Wait for the event. ``sure``: notes after which it is up for good."""
    event = EventKeys(EVENT)

    def program(me: Me) -> Run:
        up = False
        for name in sure:
            up = up or (yield Get(name)) or False
        woken = yield from protocols.event_wait(event, me, timeout)
        if up and not woken:
            raise RuntimeError("the event was up and wait() did not say so")
        return woken

    return program


# -- barriers --


def party(
    rounds: int = 1,
    action: bool = False,
    timeout: float | None = None,
    fails: bool = False,
    eager: bool = False,
) -> Program:
    """Meet the others ``rounds`` times; how each time ended."""
    barrier = BarrierKeys(BARRIER)

    def program(me: Me) -> Run:
        results: list[tuple[str, int]] = []
        for number in range(rounds):
            if eager:
                passage = yield from protocols.barrier_wait_eager(barrier, me, action)
            else:
                passage = yield from protocols.barrier_wait(barrier, me, action, timeout)
            word, index, ticket = passage
            if word == "ACT":
                word = yield from acting(barrier, me, ticket, number, fails)
            elif word == "PASSED" and action and ((yield Get("acted")) or 0) <= number:
                raise RuntimeError("let through before the action had run")
            results.append((word, index))
            if word == "BROKEN":
                break
        return tuple(results)

    return program


def acting(barrier: BarrierKeys, me: Me, ticket: str, number: int, fails: bool) -> Run:
    """Run the action, and let everyone through or break the barrier."""
    me.held["action"] = number
    try:
        if fails:
            yield from protocols.barrier_fail(barrier, me, ticket)
            return "BROKEN"
        yield Put("acted", number + 1)
        try:
            opened, interrupt = yield from protocols.barrier_open(barrier, me, ticket)
        except ServerUnavailable:
            yield from protocols.barrier_fail(barrier, me, ticket)
            raise
        if interrupt:
            raise interrupt
    finally:
        del me.held["action"]
    return "PASSED" if opened else "BROKEN"


def smasher(*phases: str) -> Program:
    """Abort (``broken``) or reset (``filling``) the barrier."""
    barrier = BarrierKeys(BARRIER)

    def program(me: Me) -> Run:
        for phase in phases:
            yield from protocols.barrier_smash(barrier, me, phase)
        return ()

    return program


# -- scenarios --

CLIENTS = ("A.0", "B.0", "C.0")


def on_sem(
    *programs: Program, kind: str = "lock", value: int = 1, most: int = 1, **options: Any
) -> Scenario:
    """Clients of a lock or semaphore."""
    rules = SemRules(LOCK, kind, value, most)
    setup = make_sem(kind, value)
    return _scenario([Ref("sem", LOCK)], setup, programs, rules, options)


def on_cond(*programs: Program, kind: str = "lock", **options: Any) -> Scenario:
    """Clients of a condition."""
    refs = options.pop("refs", [Ref("cond", COND), Ref("sem", LOCK)])
    return _scenario(refs, make_cond(kind), programs, CondRules(LOCK, COND, kind), options)


def on_mem(*programs: Program, kind: str = "lock", regions: int = 1, **options: Any) -> Scenario:
    """Clients that count up a number under a lock, in some regions at once."""
    idents = REGIONS[:regions]
    refs = [*(Ref("mem", ident) for ident in idents), Ref("sem", LOCK)]
    return _scenario(refs, make_mem(kind, regions), programs, MemRules(LOCK, idents, kind), options)


def on_event(*programs: Program, sole: bool = True, **options: Any) -> Scenario:
    """Clients of an event."""
    rules = EventRules(EVENT, sole)
    return _scenario([Ref("event", EVENT)], make_event(), programs, rules, options)


def on_barrier(*programs: Program, parties: int, crowd: bool = False, **options: Any) -> Scenario:
    """Clients of a barrier."""
    rules = BarrierRules(BARRIER, parties, crowd)
    return _scenario([Ref("barrier", BARRIER)], make_barrier(parties), programs, rules, options)


def _scenario(
    refs: list[Ref],
    setup: list[Step],
    programs: tuple[Program, ...],
    rules: Rules,
    options: dict[str, Any],
) -> Scenario:
    clients = dict(zip(CLIENTS, programs, strict=False))
    return Scenario(refs, setup, clients, rules, **options)
