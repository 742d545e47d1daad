"""What the explorer's clients do with queues and pipes, and what must hold of those.

Every message has a name of its own, so each can be followed: where it lies, at whom it
is in flight, who has received it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from lithops_mp import queueing
from lithops_mp._store import families, keys
from lithops_mp._store.commands import Block, Call
from lithops_mp._store.families import Ref
from lithops_mp.protocols import EAGER
from lithops_mp.queueing import QueueKeys, Taken

from .actor import Me, Node, Program
from .explorer import Rules, Scenario, World
from .machine import State
from .programs import CLIENTS, TTL, Run
from .rules import client_of, process_of

QUEUE = Ref("queue", "Q")
#: A pipe: what is sent at HERE is received at THERE.
HERE, THERE = Ref("pipe", "P/0"), Ref("pipe", "P/1")

EOF, BROKEN, INTERRUPTED = "end of file", "broken pipe", "interrupted"


# -- programs --


def putter(
    *names: str,
    to: Ref = QUEUE,
    block: bool = True,
    timeout: float | None = None,
    together: bool = False,
    closes: Ref | None = None,
) -> Program:
    """Put these messages, one by one or ``together``; which were accepted."""
    queue = QueueKeys(to)

    def program(me: Me) -> Run:
        me.held["put"] = ()
        for some in [names] if together else [(name,) for name in names]:
            first, *more = [b"0" + name.encode() for name in some]
            try:
                if more:  # as the outbox does it
                    packed = msgpack.packb(more, use_bin_type=False)
                    reply = yield Call(queue.put, (me.id, me.stamp(), 1, first, packed))
                    accepted = reply[0] == b"PUT"
                else:
                    accepted = yield from queueing.put(queue, me, first, block, timeout)
            except BrokenPipeError:
                return (*me.held["put"], BROKEN)
            if accepted:
                me.held["put"] += some
        if closes:
            yield from closing(me, closes)
        return me.held["put"]

    return program


def getter(
    count: int = 1,
    of: Ref = QUEUE,
    block: bool = True,
    timeout: float | None = None,
    want: int = 1,
    use: int = 1,
    eager: bool = False,
    task: bool = False,
    stubborn: bool = False,
    closes: Ref | None = None,
) -> Program:
    """Get ``count`` times and use what comes; what was received.

    Of ``want`` messages that are taken at once, ``use`` are used and the others given
    back. ``task``: each is said to be done. ``stubborn``: tries again after Ctrl-C.
    """
    queue = QueueKeys(of)

    def program(me: Me) -> Run:
        me.held["got"], me.held["done"] = (), 0
        outcomes: tuple[str, ...] = ()
        for _ in range(count):
            while True:
                try:
                    if eager:
                        taken = yield from get_eagerly(queue, me, want)
                    else:
                        taken = yield from queueing.get(queue, me, want, block, timeout)
                except EOFError:
                    return (*outcomes, EOF)
                except KeyboardInterrupt:
                    if not stubborn:
                        raise
                    continue
                break
            if taken is None:
                if block and timeout is None:
                    raise RuntimeError("a get without a time limit gave up")
                outcomes += ("",)
                continue
            yield from using(queue, me, taken, use)
            outcomes += me.held["got"][-1:]
            if task:
                yield from queueing.done(queue, me)
                me.held["done"] += 1
        if closes:
            yield from closing(me, closes)
        return outcomes

    return program


def get_eagerly(queue: QueueKeys, me: Me, want: int = 1) -> Run:
    """:func:`queueing.get` with its wait sent along, as ``channel.Channel`` does it."""
    seq, end = me.stamp(), me.clock() + EAGER
    reply: Any
    try:
        yield Call(queue.eager, (me.id, seq, want))
        reply = queueing.heard(me, seq, (yield Block(queue.mailbox(me), EAGER)), end)
    except BaseException as error:
        reply = error
    return (yield from queueing.get_on(queue, me, seq, want, reply, None))


def using(queue: QueueKeys, me: Me, taken: Taken, use: int) -> Run:
    """Use some of what was taken, as ``channel.Channel`` hands it out; give back the rest."""
    for number, element in enumerate(taken.elements[:use], 1):
        if number > 1:
            me.saw(int(taken.seq), number)
        me.held["got"] += (element[1:].decode(),)
        yield from queueing.look(queue)  # time, in which it may die with the message in hand
    if use < len(taken.elements):
        yield Call(queue.settle, (me.id, taken.seq, use))


def closing(me: Me, ref: Ref) -> Run:
    """Let go of an end of a pipe."""
    yield Call(*families.drop(ref, me.id.partition(".")[0], ended=False))


def joiner() -> Program:
    """Wait until all tasks are done."""
    queue = QueueKeys(QUEUE)

    def program(me: Me) -> Run:
        yield from queueing.join(queue, me)
        return "joined"

    return program


def poller(timeout: float | None = None, of: Ref = QUEUE) -> Program:
    """Wait until there is something to get."""
    queue = QueueKeys(of)

    def program(me: Me) -> Run:
        return (yield from queueing.poll(queue, me, timeout))

    return program


# -- rules --


class View(NamedTuple):
    """What a state says of a queue, by names of messages."""

    fields: dict[str, str]
    items: list[str]
    flights: dict[str, tuple[str, list[str]]]  # client -> number of the get, messages
    parked: dict[str, str]  # ticket -> message, in line
    line: list[str]

    @property
    def flying(self) -> list[str]:
        return [name for _, names in self.flights.values() for name in names]

    def number(self, field: str) -> int:
        return int(self.fields[field] or 0)

    @property
    def has_room(self) -> bool:
        most, room = self.number("max"), self.number("room")
        return not (most and len(self.items) >= most) and not (room and self.number("held") >= room)


def view(state: State, ref: Ref) -> View | None:
    """The queue in a state; None if it is gone."""
    s = state.hash(keys.state(ref.ident))
    if not s:
        return None
    flights = {}
    for field, value in s.items():
        if field[:2] == "t:" and value[12] in "IM":
            elements = [value[13:].encode("latin-1")]
            if value[12] == "M":
                elements = msgpack.unpackb(elements[0], raw=True)
            flights[field[2:]] = value[:12], [element[1:].decode() for element in elements]
    line, parked, items = (
        list(state.content.get(name(ref.ident), ()))
        for name in (keys.waiters, keys.parked, keys.items)
    )
    line = [ticket.lstrip("~") for ticket in line]  # "~": it listens
    puts = {ticket: s.get(f"s:{client_of(ticket)}", "") for ticket in parked}
    return View(
        s,
        [element[1:] for element in items],
        flights,
        {ticket: value[14:] for ticket, value in puts.items() if value[12:13] == "K"},
        line,
    )


def received(node: Node) -> tuple[str, ...]:
    found: tuple[str, ...] = dict(node.held).get("got", ())
    return found


class QueueRules(Rules):
    """A queue, or an end of a pipe; ``redeliver`` as it was made.

    ``ordered``: each getter receives a putter's messages in order, if nothing goes wrong.
    """

    def __init__(self, ref: Ref, redeliver: bool = False, ordered: bool = True) -> None:
        self.ref = ref
        self.redeliver = redeliver
        self.ordered = ordered

    # -- in every state --

    def state(self, state: State) -> str | None:
        now = view(state, self.ref)
        if now is None:
            return self._gone(state)
        if now.items and now.line:
            return f"I11: {now.items} lie there although {now.line} wait"
        if now.parked and now.has_room:
            return f"I12: {now.parked} are parked although there is room beside {now.items}"
        line = list(state.content.get(keys.parked(self.ref.ident), ()))
        if line != list(now.parked):
            return f"parked are {line}, and the state has {list(now.parked)}"
        places = [*now.items, *now.flying, *now.parked.values()]
        twice = {name for name in places if places.count(name) > 1}
        if twice:
            return f"I13: {twice} in two places"
        held = sum(len(name) + 1 for name in now.items) if now.number("room") else 0
        if now.number("held") != held:
            return f"held is {now.fields['held']}, and {now.items} lie there"
        return None

    def _gone(self, state: State) -> str | None:
        if self.ref.family == "queue":
            return "the state is gone"
        own = keys.state(self.ref.ident)
        left = [key for key in state.content if key.startswith(own) and ":m:" not in key]
        return f"an end is closed, and left {left}" if left else None

    # -- from each state to the next --

    def change(self, before: State, after: State) -> str | None:
        old, new = view(before, self.ref), view(after, self.ref)
        if old is None or new is None:
            return None
        return self._list(old, new) or self._order(old, new) or self._tasks(old, new)

    def _list(self, old: View, new: View) -> str | None:
        """The first ones leave; what comes back stands first, what is new last."""
        what = f"FIFO: {old.items} became {new.items}"
        kept = [name for name in old.items if name in new.items]
        if old.items[len(old.items) - len(kept) :] != kept:
            return what
        back = [name for name in new.items if name not in kept and name in old.flying]
        fresh = [name for name in new.items if name not in kept and name not in old.flying]
        if new.items != [*back, *kept, *fresh]:
            return what
        for _, names in old.flights.values():
            if [name for name in names if name in back] != [n for n in back if n in names]:
                return f"{what}, and {names} came back"
        most, room = new.number("max"), new.number("room")
        if fresh and most and len(new.items) > most:
            return f"bound: {fresh} made it {new.items}, with a bound of {most}"
        if fresh and room and new.number("held") - len(fresh[-1]) - 1 >= room:
            return f"bound: {fresh} made it {new.items}, with room for {room} bytes"
        parked = [name for name in old.parked.values() if name in fresh]
        if parked and parked != fresh[: len(parked)]:
            return f"FIFO: {list(old.parked.values())} were parked, and {fresh} put"
        return None

    def _order(self, old: View, new: View) -> str | None:
        """Whoever waits is served in the order of coming."""
        for line, rest, what in (
            (old.line, new.line, "gets"),
            (list(old.parked), list(new.parked), "puts"),
        ):
            kept = [ticket for ticket in line if ticket in rest]
            if kept != [ticket for ticket in rest if ticket in line]:
                return f"FIFO: the line of {what} {line} became {rest}"
        for ticket in old.line:
            client, seq = ticket.split(":")
            if ticket in new.line or new.flights.get(client, ("",))[0] != seq:
                continue
            ahead = [other for other in old.line[: old.line.index(ticket)] if other in new.line]
            if ahead:
                return f"FIFO: {ticket} was served before {ahead}"
        for ticket, name in old.parked.items():
            if name in new.items or name in new.flying:
                places = list(old.parked)
                ahead = [t for t in places[: places.index(ticket)] if t in new.parked]
                if ahead:
                    return f"FIFO: {name} of {ticket} was put before those of {ahead}"
        return None

    def _tasks(self, old: View, new: View) -> str | None:
        if old.fields["todo"] == "":
            return None
        there = {*old.items, *old.flying}
        fresh = {*new.items, *new.flying} - there
        more = new.number("todo") - old.number("todo")
        if more not in ((len(fresh),) if fresh else (0, -1)):
            return f"todo went from {old.number('todo')} to {new.number('todo')} with {fresh}"
        over = more == -1 and new.number("todo") == 0
        if new.number("rounds") - old.number("rounds") != over:
            return f"rounds is {new.number('rounds')}, with {new.number('todo')} to do"
        return None

    # -- in every world --

    def world(self, world: World) -> str | None:
        now = view(world.state, self.ref)
        return self._doubled(world, now) or self._lost(world, now) or self._in_order(world)

    def _doubled(self, world: World, now: View | None) -> str | None:
        owner: dict[str, str] = {}
        for seat in world.seats:
            client = seat.node.client
            again = self.redeliver and process_of(client) in world.dead
            for name in received(seat.node):
                elsewhere = now is not None and (
                    name in now.items
                    or name in now.parked.values()
                    or any(name in n for c, (_, n) in now.flights.items() if c != client)
                )
                if (elsewhere or name in owner) and not again:
                    return f"I13: {client} has received {name}, and it is at {owner.get(name, now)}"
                if not again:
                    owner[name] = client
            got = received(seat.node)
            if len(set(got)) < len(got):
                return f"doubled: {client} received {got}"
        return None

    def _lost(self, world: World, now: View | None) -> str | None:
        if now is None or world.presumed:  # of those nobody knows what they used
            return None
        had = {name for seat in world.seats for name in received(seat.node)}
        for seat in world.seats:
            for name in dict(seat.node.held).get("put", ()):
                if name not in had and name not in now.items and name not in now.flying:
                    return f"conservation: {name} was accepted and is nowhere"
        return None

    def _in_order(self, world: World) -> str | None:
        """A putter's messages are named in its order: a1, a2."""
        if not self.ordered or world.dead or any(seat.node.error for seat in world.seats):
            return None
        for seat in world.seats:
            got = received(seat.node)
            for sender in {name[0] for name in got}:
                own = [name for name in got if name[0] == sender]
                if own != sorted(own):
                    return f"FIFO: {seat.node.client} received {own}"
        return None

    # -- at the end --

    def end(self, world: World) -> str | None:
        now = view(world.state, self.ref)
        if now is None:
            return None
        waiting = [*now.line, *now.parked]
        alive = {seat.node.client for seat in world.seats if seat.alive and not seat.node.ended}
        left = [t for t in waiting if process_of(t) not in world.dead and client_of(t) not in alive]
        if left:
            return f"at the end {left} still wait"
        for seat in world.seats:
            _, names = now.flights.get(seat.node.client, ("", []))
            unseen = [name for name in names if name not in received(seat.node)]
            if unseen and (seat.alive or not world.presumed):
                return f"at the end {unseen} are in flight at {seat.node.client}, which ended"
        if now.fields["todo"] != "" and not world.dead:
            held = [dict(seat.node.held) for seat in world.seats]
            todo = sum(len(h.get("put", ())) - h.get("done", 0) for h in held)
            if now.number("todo") != todo and not any(seat.node.error for seat in world.seats):
                return f"at the end todo is {now.number('todo')} and not {todo}"
        return None

    def may_wait(self, world: World, client: int) -> bool:
        """For a message that nobody puts, room that nobody makes, tasks that nobody does."""
        node, now = world.seats[client].node, view(world.state, self.ref)
        if now is None or self._other_is_closed(world.state):
            return False
        seq = f"{node.seq:012d}"
        if {"get", "get_on"} & set(node.waiting):
            return not now.items and now.flights.get(node.client, ("",))[0] != seq
        if "put" in node.waiting:
            return f"{node.client}:{seq}" in now.parked
        if "poll" in node.waiting:
            return not now.items
        return "join" in node.waiting and now.number("todo") > 0

    def _other_is_closed(self, state: State) -> bool:
        return not state.has(keys.state(self.ref.peer))


# -- scenarios --


def on_queue(
    *programs: Program,
    bound: int = 0,
    room: int = 0,
    joinable: bool = False,
    redeliver: bool = False,
    ordered: bool = True,
    first: tuple[str, ...] = (),
    **options: Any,
) -> Scenario:
    """Clients of a queue, in which some messages lie at ``first``."""
    fields = queueing.fields(bound, room, joinable=joinable, redeliver=redeliver)
    setup = [families.create(QUEUE, TTL, "main", fields)]
    if first:
        head, *rest = [b"0" + name.encode() for name in first]
        more = msgpack.packb(rest, use_bin_type=False) if rest else b""
        setup.append((QUEUE.on("queue/put"), ("main.0", "000000000001", 1, head, more)))
    rules = QueueRules(QUEUE, redeliver, ordered)
    clients = dict(zip(CLIENTS, programs, strict=False))
    return Scenario([QUEUE], setup, clients, rules, **options)


def on_pipe(*programs: Program, room: int = 0, **options: Any) -> Scenario:
    """Clients of a pipe: A has the end HERE, all others THERE."""
    fields = queueing.fields(room=room)
    clients = dict(zip(CLIENTS, programs, strict=False))
    has = {client.partition(".")[0]: [HERE if client[0] == "A" else THERE] for client in clients}
    setup = [families.create(end, TTL, process, fields) for process, (end,) in has.items()]
    options = {"burial": "finish bury drop"} | options
    return Scenario([HERE, THERE], setup, clients, QueueRules(THERE), has=has, **options)
