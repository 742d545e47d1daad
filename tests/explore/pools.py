"""What the explorer's programs and workers do with a pool, and what must hold of it.

Every task has a name of its own, so each can be followed: where it lies, who has it in
hand, who has run it, whether the program was told.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from lithops_mp import pooling
from lithops_mp._store import families, keys
from lithops_mp._store.commands import Call
from lithops_mp._store.families import Ref
from lithops_mp._store.scripts import packed, script
from lithops_mp.pooling import PoolKeys

from .actor import Me, Program
from .explorer import Rules, Scenario, World
from .machine import State
from .programs import TTL, Run

POOL = Ref("pool", "O")
KEYS = PoolKeys(POOL)

#: The program has two threads; its name is also that of the pool's owner.
PROGRAM = "M"


# -- programs --


def adder(*batches: tuple[str, ...]) -> Program:
    """Add tasks, some at a time."""

    def program(me: Me) -> Run:
        me.held["added"] = ()
        for batch in batches:
            first, *more = [b"0%b:0" % name.encode() for name in batch]
            args = (me.id, me.stamp(), first, packed(more) if more else b"")
            yield Call(KEYS.add, args)
            me.held["added"] += batch

    return program


def taker(count: int) -> Program:
    """Take results until there are so many, and close the pool; what they were."""

    def program(me: Me) -> Run:
        me.held["got"] = ()
        while len(me.held["got"]) < count:
            found = yield from pooling.take(KEYS, me, len(me.held["got"]), 2)
            me.held["got"] += tuple(text(element) for element in found)
        yield from pooling.close(KEYS, False)
        return tuple(sorted(me.held["got"]))

    return program


def worker(want: int = 1, busy: str = "", most: int = 9, timeout: float | None = None) -> Program:
    """Run tasks until the pool is closed, or ``most``, and leave.

    At the task ``busy`` it reports what it did before, and gives back what comes after.
    """

    def program(me: Me) -> Run:
        me.held["ran"] = ()
        hand, base, done = pooling.EMPTY, 0, []
        while len(me.held["ran"]) < most:
            hand = yield from pooling.step(KEYS, me, hand, base, done, want, timeout)
            if hand is None:
                return
            base, done = 0, []
            for number, task in enumerate(hand.tasks, 1):
                me.saw(int(hand.seq), number)
                name = task[1:].partition(b":")[0]
                me.held["ran"] += (name.decode(),)
                yield Call(ASIDE, ())  # time, in which it may die
                if name.decode() == busy:
                    yield from pooling.report(KEYS, me, hand, base, done, number)
                    base, done = base + len(done), [b"R%b:0" % name]
                    break
                done = [*done, b"R%b:0" % name]
        yield from pooling.step(KEYS, me, hand, base, done, 0)

    return program


#: A command that changes nothing.
ASIDE = script("process/status").on(keys.process(PROGRAM))


def text(element: bytes) -> str:
    """A result without its message."""
    return element.partition(b":")[0].decode()


# -- rules --


class View(NamedTuple):
    """What a state says of the pool, by names of tasks."""

    tasks: list[str]
    hands: dict[str, list[str]]  # client -> what it has no result of yet
    results: list[str]
    line: list[str]


def view(state: State) -> View:
    hands = {}
    for field, value in state.hash(keys.state(POOL.ident)).items():
        if field[:2] == "t:" and value[12:13] == "H":
            done, *tasks = msgpack.unpackb(value[13:].encode("latin-1"))
            hands[field[2:]] = [name_of(task) for task in tasks[done:]]
    tasks, results, line = (
        list(state.content.get(name(POOL.ident), ()))
        for name in (keys.items, keys.parked, keys.waiters)
    )
    tasks = [name_of(task) for task in tasks]
    return View(tasks, hands, [name_of(result) for result in results], line)


def name_of(element: str) -> str:
    return element[1:].partition(":")[0]


class PoolRules(Rules):
    """A pool whose tasks run at most ``retries`` + 1 times."""

    def __init__(self, retries: int) -> None:
        self.retries = retries

    def state(self, state: State) -> str | None:
        now = view(state)
        if not state.hash(keys.state(POOL.ident)):
            return "the state is gone"
        if now.tasks and now.line:
            return f"I16: {now.tasks} lie there although {now.line} are idle"
        places = [*now.tasks, *(name for hand in now.hands.values() for name in hand)]
        places += now.results
        twice = {name for name in places if places.count(name) > 1}
        return f"I17: {twice} in two places" if twice else None

    def change(self, before: State, after: State) -> str | None:
        """Results come in the list's order, and what is idle is served in its own."""
        old, new = view(before), view(after)
        kept = [name for name in old.tasks if name in new.tasks]
        if old.tasks[len(old.tasks) - len(kept) :] != kept:
            return f"FIFO: {old.tasks} became {new.tasks}"
        back = {name for hand in old.hands.values() for name in hand}
        first = [name for name in new.tasks if name not in kept and name in back]
        if new.tasks[: len(first)] != first:
            return f"FIFO: {old.tasks} became {new.tasks}, and {first} came back"
        left = [ticket for ticket in old.line if ticket in new.line]
        if left != [ticket for ticket in new.line if ticket in old.line]:
            return f"FIFO: the line {old.line} became {new.line}"
        served = [t for t in old.line if new.hands.get(t.partition(":")[0]) and t not in new.line]
        if any(old.line.index(t) > old.line.index(other) for t in served for other in left):
            return f"FIFO: {served} were served before {left}"
        return None

    def world(self, world: World) -> str | None:
        now = view(world.state)
        got = [name for seat in world.seats for name in dict(seat.node.held).get("got", ())]
        told = [name_of(result) for result in got]
        if len(set(told)) < len(told):
            return f"I18: the program was told {got}"
        places = [*now.tasks, *now.results, *(n for hand in now.hands.values() for n in hand)]
        for name in (n for seat in world.seats for n in dict(seat.node.held).get("added", ())):
            if name not in told and name not in places:
                return f"conservation: {name} was added and is nowhere"
        return self._runs(world)

    def _runs(self, world: World) -> str | None:
        """Nothing runs twice unless a worker died, and nothing too often."""
        ran = [name for seat in world.seats for name in dict(seat.node.held).get("ran", ())]
        for name in set(ran):
            if ran.count(name) > (self.retries + 1 if world.dead else 1):
                return f"{name} ran {ran.count(name)} times"
        return None

    def end(self, world: World) -> str | None:
        now = view(world.state)
        for seat in world.seats:
            hand = now.hands.get(seat.node.client)
            if hand and (seat.node.ended or not seat.alive):
                return f"at the end {hand} is in hand of {seat.node.client}, which is over"
            got = dict(seat.node.held).get("got")
            lost = [name for name in got or () if name[0] == "L"]
            if lost and len(world.dead) <= self.retries:
                return f"{lost} although only {set(world.dead)} died"
        return None

    def may_wait(self, world: World, client: int) -> bool:
        """For a task that nobody adds, or results when all workers are gone."""
        now, node = view(world.state), world.seats[client].node
        if "step" in node.waiting:
            return not now.tasks and not now.hands.get(node.client)
        workers = [seat for seat in world.seats if "ran" in dict(seat.node.held)]
        idle = all(not seat.alive or seat.node.ended for seat in workers)
        return "take" in node.waiting and not now.results and (idle or PROGRAM in world.dead)


def on_pool(
    *workers: Program,
    tasks: tuple[tuple[str, ...], ...],
    retries: int = 1,
    program: bool = True,
    **options: Any,
) -> Scenario:
    """A program that adds tasks and takes results, and workers.

    Without ``program`` the tasks are there at the start, and nobody takes results.
    """
    fields = pooling.fields(len(workers), retries, PROGRAM)
    setup = [families.create(POOL, TTL, PROGRAM, fields)]
    clients = {f"{name}.0": work for name, work in zip("ABC", workers, strict=False)}
    if program:
        threads = {f"{PROGRAM}.0": adder(*tasks), f"{PROGRAM}.1": taker(sum(map(len, tasks)))}
        clients = {**threads, **clients}
    else:
        first, *more = [b"0%b:0" % name.encode() for batch in tasks for name in batch]
        args = (f"{PROGRAM}.9", b"%012d" % 1, first, packed(more) if more else b"")
        setup += [(KEYS.add, args), (KEYS.close, (0,))]
    return Scenario([POOL], setup, clients, PoolRules(retries), **options)
