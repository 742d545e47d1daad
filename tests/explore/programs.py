"""What the explorer's clients do, and the objects they do it with."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from lithops_mp import memory, protocols
from lithops_mp._store import families, keys
from lithops_mp._store.commands import Call
from lithops_mp._store.families import Ref
from lithops_mp.memory import MemKeys
from lithops_mp.protocols import BarrierKeys, CondKeys, EventKeys, SemKeys

from .actor import Get, Me, Program, Put
from .explorer import Rules, Scenario, Step
from .rules import BarrierRules, CondRules, EventRules, MemRules, SemRules

Run = Generator[Any, Any, Any]

TTL = 10_000_000
LOCK, COND, EVENT, BARRIER, REGION = "L", "L/C", "E", "B", "L/M"


# -- objects, as lithops_mp.synchronize makes them --


def make_sem(kind: str, value: int, most: int, policy: str = "warn") -> list[Step]:
    fields = {"value": value, "owner": "", "fence": 0, "kind": kind, "max": most, "policy": policy}
    return [families.create(Ref("sem", LOCK), TTL, "main", fields)]


def make_cond(kind: str) -> list[Step]:
    return [*make_sem(kind, 1, 1), families.create(Ref("cond", COND), TTL, "main", {})]


def make_event() -> list[Step]:
    return [families.create(Ref("event", EVENT), TTL, "main", {"flag": 0, "last": "0-0"})]


def make_barrier(parties: int) -> list[Step]:
    fields = {"parties": parties, "phase": "filling", "actor": "", "n": 0}
    return [families.create(Ref("barrier", BARRIER), TTL, "main", fields)]


def make_mem(kind: str) -> list[Step]:
    fields = {"size": 4, "version": 1}
    region = families.create(Ref("mem", REGION), TTL, "main", fields, 4, b"")
    return [*make_sem(kind, 1, 1), region]


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


def taker(kind: str = "lock", timeout: float | None = None) -> Program:
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
            steps = protocols.cond_wait(cond, me, fence, timeout)
            woken, grant, interrupt = yield from steps
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
    kind: str = "lock", rounds: int = 1, timeout: float | None = None, eager: bool = False
) -> Program:
    """Add one under the lock, which brings the number and takes it back. How often it did."""
    lock = SemKeys(LOCK, kind, 1)
    region = MemKeys(REGION, lock)

    def program(me: Me) -> Run:
        done = 0
        for _ in range(rounds):
            if eager:
                grant = yield from protocols.acquire_eager(lock, me)
            else:
                grant = yield from protocols.acquire(lock, me, True, timeout)
            if grant is not None:
                yield from count_up(lock, region, me, grant)
                done += 1
        return done

    return program


def count_up(lock: SemKeys, region: MemKeys, me: Me, grant: protocols.Grant) -> Run:
    """Read, add and release, as the holder."""
    name = keys.state(lock.ident)
    me.held[name] = (me.id, grant)
    try:
        # In real life it is sent along with the acquire; here others may come between.
        reply = yield Call(region.fetch, (0, 3, 0))
        number = int.from_bytes(reply[2], "little") + 1
        changes = {region: [0, number.to_bytes(4, "little")]}
        interrupt = yield from memory.release(lock, me, grant.fence, changes)
    finally:
        del me.held[name]
    if interrupt:
        raise interrupt


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
            yield from count_up(lock, region, me, grant)
        return 1

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
    rounds: int = 1, action: bool = False, timeout: float | None = None, fails: bool = False
) -> Program:
    """Meet the others ``rounds`` times; how each time ended."""
    barrier = BarrierKeys(BARRIER)

    def program(me: Me) -> Run:
        results: list[tuple[str, int]] = []
        for number in range(rounds):
            word, index, ticket = yield from protocols.barrier_wait(barrier, me, action, timeout)
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
            yield from protocols.barrier_smash(barrier, me, "broken")
            opened = False
        else:
            yield Put("acted", number + 1)
            opened = yield from protocols.barrier_open(barrier, me, ticket)
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
    setup = make_sem(kind, value, most)
    return _scenario([Ref("sem", LOCK)], setup, programs, rules, options)


def on_cond(*programs: Program, kind: str = "lock", **options: Any) -> Scenario:
    """Clients of a condition."""
    refs = options.pop("refs", [Ref("cond", COND), Ref("sem", LOCK)])
    return _scenario(refs, make_cond(kind), programs, CondRules(LOCK, COND, kind), options)


def on_mem(*programs: Program, kind: str = "lock", **options: Any) -> Scenario:
    """Clients that count up a number under a lock."""
    refs = [Ref("mem", REGION), Ref("sem", LOCK)]
    return _scenario(refs, make_mem(kind), programs, MemRules(LOCK, REGION, kind), options)


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
