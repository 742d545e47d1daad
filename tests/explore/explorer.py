"""Every interleaving of a few clients' steps, with faults, on a real server.

A :class:`World` is the server's state and each client's position. From each
world every possible next move is made; a world that was seen before is not
looked at twice, so the search covers all schedules although it does not walk
each of them. In every world the scenario's rules are checked, and at the end
that from every world the clients can still come to their ends.

Moves of three kinds:

step
    A client's next command, or what is done about a dead process. They happen
    sooner or later.
idle
    A wait runs out. Possible at once if nothing else can happen; earlier only
    as a fault, since it takes seconds.
fault
    At most ``budget`` per schedule, at any step. See :data:`FAULTS`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgpack

from lithops_mp._store import families, keys
from lithops_mp._store.commands import Block, Call, Watch
from lithops_mp._store.families import Ref
from lithops_mp._store.scripts import REGISTRY, command, script

from .actor import INTERRUPT, UNAVAILABLE, Actor, Get, Input, Node, Program, Put, answer
from .machine import Machine, State

BY_SHA = {found.sha: found for found in REGISTRY.values()}


#: What may go wrong at a step, by name.
FAULTS = {
    "crash": "the client dies before its command is sent",
    "crash after": "the client dies when its command has been carried out",
    "declare": "the client is taken for dead, but goes on",
    "lost": "the reply is lost, and the command is sent again later",
    "copy": "a copy of the command is carried out later still",
    "timeout": "a wait runs out although something may have arrived",
    "drop": "a hint is lost with its connection",
}
USUAL = frozenset(FAULTS)
#: Those that only some scenarios have.
INTERRUPTS = frozenset({"interrupt", "interrupt after"})
IN_FLIGHT = frozenset({"crash in flight"})
AWAY = frozenset({"away", "away after", "away in flight"})

#: Where Ctrl-C, or the server's absence, finds a program, unless a scenario says otherwise:
#: where it waits.
WAITS = frozenset(
    {
        *("acquire", "acquire_eager", "cond_wait", "cond_wait_eager", "event_wait"),
        *("barrier_wait", "barrier_wait_eager"),
        *("get", "get_eagerly", "put"),
    }
)

Step = tuple[Any, tuple[Any, ...]]


class Seat(NamedTuple):
    """A client in a world. ``sent``: its command was carried out, the reply lost.

    ``away``: the server is out of its reach; ``owed`` is what it will send before anything
    else when it is back.
    """

    node: Node
    sent: bool = False
    alive: bool = True
    away: bool = False
    owed: tuple[bytes, ...] = ()


class World(NamedTuple):
    """Everything that decides what can happen next.

    ``chores`` is what is still to be done about dead processes, in order;
    ``copies`` are late copies on their way; ``dead`` are processes that ended or
    were declared to have, ``presumed`` those of the latter kind; ``board`` the shared
    variables.
    """

    state: State
    seats: tuple[Seat, ...]
    chores: tuple[bytes, ...] = ()
    copies: tuple[bytes, ...] = ()
    dead: frozenset[str] = frozenset()
    presumed: frozenset[str] = frozenset()
    board: tuple[tuple[str, Any], ...] = ()
    budget: int = 0

    def shared(self, name: str) -> Any:
        return dict(self.board).get(name)


class Label(NamedTuple):
    """What a move was, put into words only when somebody reads it."""

    who: str
    what: Any
    outcome: Any = None

    def __str__(self) -> str:
        outcome = "" if self.outcome is None else f" -> {words(self.outcome)}"
        return f"{self.who} {describe(self.what)}{outcome}"


class Move(NamedTuple):
    label: Label
    kind: str
    world: World


class Violation(AssertionError):
    """A rule does not hold. ``schedule`` is a shortest way there."""

    def __init__(self, rule: str, schedule: list[str]) -> None:
        self.rule = rule
        self.schedule = schedule
        lines = "".join(f"\n  {number:2} {move}" for number, move in enumerate(schedule, 1))
        super().__init__(f"{rule}{lines}")


class Rules:
    """What must hold; a method returns what is wrong, or None."""

    def state(self, state: State) -> str | None:
        """In every state."""

    def change(self, before: State, after: State) -> str | None:
        """From each state to the next."""

    def world(self, world: World) -> str | None:
        """In every world."""

    def end(self, world: World) -> str | None:
        """When everybody has ended, or may wait for ever."""

    def may_wait(self, world: World, client: int) -> bool:
        """May this client wait for ever?"""
        return False


@dataclass
class Scenario:
    """Clients, what they share, and the faults to inject."""

    refs: list[Ref]
    setup: list[Step]
    programs: dict[str, Program]
    rules: Rules
    budget: int = 1
    faults: frozenset[str] = USUAL
    #: What is done about a dead process: its record says so, then it is buried.
    #: ``finish`` alone leaves the rest to the others' safety checks.
    burial: str = "finish bury"
    #: The protocols in which Ctrl-C or an absence may strike, if they are among the faults.
    interruptible: frozenset[str] = WAITS
    limit: int = 100_000
    #: What a process refers to, if not to all ``refs``.
    has: dict[str, list[Ref]] = field(default_factory=dict)

    def refs_of(self, process: str) -> list[Ref]:
        return self.has.get(process, self.refs)


@dataclass
class Report:
    """What was explored."""

    worlds: int = 0
    moves: int = 0
    schedules: int = 0
    trips: int = 0
    ends: int = 0
    results: set[Any] = field(default_factory=set)

    def __str__(self) -> str:
        return (
            f"{self.worlds} worlds, {self.moves} moves, {self.schedules:.3g} schedules, "
            f"{self.ends} ends, {self.trips} trips"
        )


class Explorer:
    """One scenario on one machine.

    Beside :data:`FAULTS` it knows ``interrupt`` (Ctrl-C before a command is
    carried out), ``interrupt after`` it, and ``crash in flight``: the client
    dies, and the server reads its last command later. ``away``: the client gives the
    server up, and does so at every command until it is found again; the first one was not
    carried out, or it was (``away after``), or the server reads it later (``away in flight``).
    """

    def __init__(self, machine: Machine, scenario: Scenario) -> None:
        self.machine = machine
        self.scenario = scenario
        self.actors = [Actor(ident, make) for ident, make in scenario.programs.items()]
        self._checked: dict[tuple[State, State], str | None] = {}
        # world -> (where from, by which move), for the shortest schedule
        self._from: dict[World, tuple[World | None, Label]] = {}

    # -- the search --

    def run(self) -> Report:
        """Explore everything. Raises :class:`Violation`."""
        report = Report()
        trips = self.machine.trips
        first = self._first()
        self._from[first] = (None, Label("", ""))
        self._check_change(first, first, None)
        queue = deque([first])
        onwards: dict[World, list[tuple[str, World]]] = {}
        while queue:
            world = queue.popleft()
            onwards[world] = []
            for move in self._moves(world):
                report.moves += 1
                onwards[world].append((move.kind, move.world))
                self._check_change(world, move.world, move.label)
                if move.world not in self._from:
                    self._from[move.world] = (world, move.label)
                    self._check_world(move.world)
                    queue.append(move.world)
            if len(onwards) > self.scenario.limit:
                raise AssertionError(f"more than {self.scenario.limit} worlds: make it smaller")
        ends = [world for world in onwards if self._is_end(world, onwards[world])]
        for world in ends:
            self._require(self.scenario.rules.end(world), world)
            report.results.add(tuple(seat.node.result for seat in world.seats if seat.alive))
        self._everyone_arrives(onwards, ends)
        report.worlds, report.ends = len(onwards), len(ends)
        report.schedules = _count_paths(first, onwards, set(ends))
        report.trips = self.machine.trips - trips
        return report

    def _first(self) -> World:
        state = self.machine.empty
        for process in sorted({actor.process for actor in self.actors}):
            fields = b"\x82\xa4name" + b"\xa1" + process.encode() + b"\xa3pid\xa11"
            register = script("process/register").on(keys.process(process))
            _, state = self.machine.run(state, register.pack((10**9, "running", 10**9, fields)))
        for bound, args in self.scenario.setup:
            _, state = self.machine.run(state, bound.pack(args))
        for actor in self.actors:
            for ref in self.scenario.refs_of(actor.process):
                for bound, args in (
                    families.note(ref, actor.process, 10**9),
                    families.refer(ref, actor.process),
                ):
                    _, state = self.machine.run(state, bound.pack(args))
        seats = tuple(Seat(actor.start) for actor in self.actors)
        world = World(state, seats, budget=self.scenario.budget)
        for i in range(len(seats)):
            world = self._settle(world, i)
        return world

    def _is_end(self, world: World, moves: list[tuple[str, World]]) -> bool:
        """Is nothing left to happen that must, and does everyone who waits do so rightly?"""
        if any(kind == "step" for kind, _ in moves):
            return False
        rules = self.scenario.rules
        return all(
            not seat.alive or seat.node.ended or rules.may_wait(world, i)
            for i, seat in enumerate(world.seats)
        )

    def _everyone_arrives(
        self, onwards: dict[World, list[tuple[str, World]]], ends: list[World]
    ) -> None:
        """From every world, without further faults, an end can be reached."""
        back: dict[World, list[World]] = {}
        for world, moves in onwards.items():
            for kind, after in moves:
                if kind in ("step", "idle"):
                    back.setdefault(after, []).append(world)
        good, queue = set(ends), deque(ends)
        while queue:
            for before in back.get(queue.popleft(), ()):
                if before not in good:
                    good.add(before)
                    queue.append(before)
        # Breadth first: the first one has a shortest schedule.
        stuck = next((world for world in onwards if world not in good), None)
        if stuck is not None:
            quiet = self._run_on(stuck, onwards)
            who = [
                actor.id
                for actor, seat in zip(self.actors, quiet.seats, strict=True)
                if seat.alive and not seat.node.ended
            ]
            raise Violation(f"stuck for ever: {', '.join(who)}", self._schedule(stuck))

    @staticmethod
    def _run_on(world: World, onwards: dict[World, list[tuple[str, World]]]) -> World:
        """Where a stuck world ends up, to say who is stuck."""
        seen = set()
        while world not in seen:
            seen.add(world)
            nexts = [after for kind, after in onwards[world] if kind in ("step", "idle")]
            world = next((after for after in nexts if after not in seen), world)
        return world

    # -- rules --

    def _check_change(self, before: World, world: World, label: Label | None) -> None:
        pair = (before.state, world.state)
        if pair not in self._checked:
            rules = self.scenario.rules
            wrong = rules.state(world.state) or rules.change(*pair)
            if world.state.immortal:
                wrong = f"no TTL: {world.state.immortal}"
            self._checked[pair] = wrong
        if self._checked[pair]:
            last = [str(label)] if label else []
            raise Violation(self._checked[pair] or "", self._schedule(before) + last)

    def _check_world(self, world: World) -> None:
        self._require(self.scenario.rules.world(world) or self._unexpected(world), world)

    def _unexpected(self, world: World) -> str | None:
        """Did a program end in an exception that nothing in its schedule explains?"""
        for actor, seat in zip(self.actors, world.seats, strict=True):
            error = seat.node.error
            if error is None or error.startswith(("KeyboardInterrupt", "ServerUnavailable")):
                continue
            # It was taken for dead: a lock was given on, its end of a pipe closed.
            lost = error.startswith(("LockLost", "ObjectExpired"))
            if lost and actor.process in world.dead:
                continue
            return f"{actor.id} ended in {error}"
        return None

    def _require(self, wrong: str | None, world: World) -> None:
        if wrong:
            raise Violation(wrong, self._schedule(world))

    def _schedule(self, world: World | None) -> list[str]:
        labels: list[str] = []
        while world is not None:
            world, label = self._from[world]
            labels.append(str(label))
        return labels[-2::-1]

    # -- moves --

    def _moves(self, world: World) -> list[Move]:
        moves = [*self._steps(world), *self._absences(world)]
        if not moves:
            moves += self._idle(world)
        if world.chores:
            moves.append(self._chore(world))
        moves += self._late(world)
        if world.budget:
            spent = world._replace(budget=world.budget - 1)
            for i, _ in self._live(world):
                moves += self._faults(spent, i)
        return moves

    def _live(self, world: World) -> Iterator[tuple[int, Seat]]:
        for i, seat in enumerate(world.seats):
            if seat.alive and not seat.node.ended and not seat.away:
                yield i, seat

    def _steps(self, world: World) -> Iterator[Move]:
        for i, seat in self._live(world):
            pending = seat.node.command
            if isinstance(pending, Call):
                reply, state = self.machine.run(world.state, seat.node.packet)
            elif isinstance(pending, Block):
                reply, state = self._pop(world.state, pending)
            else:
                reply, state = self._arrived(world.state, pending), world.state
            if reply:
                after = self._take(world._replace(state=state), i, answer(reply))
                yield Move(Label(self.actors[i].id, pending, reply), "step", after)

    def _absences(self, world: World) -> Iterator[Move]:
        """Who cannot reach the server tries again in vain, or finds it."""
        for i, seat in enumerate(world.seats):
            if not seat.away or not seat.alive:
                continue
            who = self.actors[i].id
            if seat.owed:
                packet, *rest = seat.owed
                reply, state = self.machine.run(world.state, packet)
                after = self._seat(world._replace(state=state), i, owed=tuple(rest))
                yield Move(Label(f"{who} is back and owes", packet, reply), "step", after)
            else:
                after = self._seat(world, i, away=False)
                yield Move(Label(f"{who} is back at", seat.node.command), "step", after)
            if not seat.node.ended:
                label = Label(f"{who} is AWAY at", seat.node.command)
                yield Move(label, "step", self._despair(world, i))

    def _despair(self, world: World, i: int) -> World:
        """A client is told that the server is out of reach, as ``Client.execute`` does."""
        node, owed = world.seats[i].node, world.seats[i].owed
        if isinstance(node.command, Call) and node.command.late:
            owed += (node.packet,)
        return self._take(self._seat(world, i, away=True, owed=owed), i, UNAVAILABLE)

    def _idle(self, world: World) -> Iterator[Move]:
        for i, seat in self._live(world):
            if isinstance(seat.node.command, Block | Watch):
                yield self._runs_out(world, i, "idle")

    def _runs_out(self, world: World, i: int, kind: str) -> Move:
        pending = world.seats[i].node.command
        nothing = None if isinstance(pending, Block) else False
        after = self._take(world, i, answer(nothing, max(0.0, pending.seconds)))
        return Move(Label(self.actors[i].id, pending, "runs out"), kind, after)

    def _chore(self, world: World) -> Move:
        packet, *rest = world.chores
        reply, state = self.machine.run(world.state, packet)
        after = world._replace(state=state, chores=tuple(rest))
        return Move(Label("chore", packet, reply), "step", after)

    def _late(self, world: World) -> Iterator[Move]:
        """Copies arrive whenever they like, or never; nobody reads the reply."""
        for i, packet in enumerate(world.copies):
            reply, state = self.machine.run(world.state, packet)
            copies = world.copies[:i] + world.copies[i + 1 :]
            after = world._replace(state=state, copies=copies)
            yield Move(Label("late copy of", packet, reply), "late", after)

    # -- faults --

    def _faults(self, world: World, i: int) -> Iterator[Move]:
        pending = world.seats[i].node.command
        allowed = self.scenario.faults
        who = self.actors[i].id

        def fault(name: str, after: World) -> Move:
            return Move(Label(f"{who} {name.upper()} at", pending), "fault", after)

        if "crash" in allowed:
            yield fault("crash", self._die(world, i))
        if "declare" in allowed and self.actors[i].process not in world.dead:
            presumed = world.presumed | {self.actors[i].process}
            yield fault("declare", self._declare(world._replace(presumed=presumed), i))
        waits = bool(self.scenario.interruptible & set(world.seats[i].node.waiting))
        if "interrupt" in allowed and waits:
            yield fault("interrupt", self._take(world, i, INTERRUPT))
        if "away" in allowed and waits:
            yield fault("away", self._despair(world, i))
        if isinstance(pending, Call):
            packet = world.seats[i].node.packet
            reply, state = self.machine.run(world.state, packet)
            done = world._replace(state=state)
            if "lost" in allowed:
                yield fault("lost", self._seat(done, i, sent=True))
            if "copy" in allowed:
                late = done._replace(copies=(*done.copies, packet))
                yield fault("copy", self._take(late, i, answer(reply)))
            if "crash after" in allowed:
                yield fault("crash after", self._die(done, i))
            if "crash in flight" in allowed:
                late = world._replace(copies=(*world.copies, packet))
                yield fault("crash in flight", self._die(late, i))
            if "interrupt after" in allowed and waits:
                # It may now be sending the same request again, to learn the answer.
                after = self._seat(self._take(done, i, INTERRUPT), i, sent=True)
                yield fault("interrupt after", after)
            if "away after" in allowed and waits:
                yield fault("away after", self._despair(done, i))
            if "away in flight" in allowed and waits:
                late = world._replace(copies=(*world.copies, packet))
                yield fault("away in flight", self._despair(late, i))
            return
        if "timeout" in allowed:
            yield self._runs_out(world, i, "fault")
        if isinstance(pending, Block):
            reply, state = self._pop(world.state, pending)
            done = world._replace(state=state)
            if "drop" in allowed and reply is not None:
                yield fault("drop", self._take(done, i, answer(None)))
            if "away after" in allowed and waits and reply is not None:
                yield fault("away after", self._despair(done, i))

    def _die(self, world: World, i: int) -> World:
        """All clients of the process are gone."""
        process = self.actors[i].process
        seats = tuple(
            seat._replace(alive=seat.alive and actor.process != process)
            for actor, seat in zip(self.actors, world.seats, strict=True)
        )
        words = {
            actor.id.partition(".")[2]: (f"{seat.node.ledger[0]:012d}", seat.node.ledger[1])
            for actor, seat in zip(self.actors, world.seats, strict=True)
            if actor.process == process and seat.node.ledger
        }
        return self._declare(world._replace(seats=seats), i, msgpack.packb(words))

    def _declare(self, world: World, i: int, seen: bytes = b"") -> World:
        """What is to be done about a process that is, or seems, dead.

        ``seen`` is what its ledger says, of one that was seen to end.
        """
        process = self.actors[i].process
        if process in world.dead:
            return world
        done, refs = self.scenario.burial.split(), self.scenario.refs_of(process)
        finish = script("process/finish").on(keys.process(process))
        steps: list[Step | None] = [(finish, (-9, "killed", seen))] if "finish" in done else []
        if "bury" in done:
            steps += [families.bury(ref, process, "died", seen) for ref in refs]
        if "drop" in done:
            steps += [families.drop(ref, process, ended=True) for ref in refs]
        packets = tuple(bound.pack(args) for bound, args in filter(None, steps))
        return world._replace(chores=world.chores + packets, dead=world.dead | {process})

    # -- a client takes an input --

    def _take(self, world: World, i: int, taken: Input) -> World:
        node = self.actors[i].step(world.seats[i].node, taken)
        return self._settle(self._seat(world, i, node=node, sent=False), i)

    def _settle(self, world: World, i: int) -> World:
        """Let a program use the shared variables, which takes no time."""
        while True:
            node = world.seats[i].node
            if isinstance(node.command, Put):
                board = dict(world.board) | {node.command.name: node.command.value}
                world = world._replace(board=tuple(sorted(board.items())))
                value = None
            elif isinstance(node.command, Get):
                value = world.shared(node.command.name)
            else:
                return world
            world = self._seat(world, i, node=self.actors[i].step(node, answer(value)))

    def _seat(self, world: World, i: int, **changes: Any) -> World:
        seats = list(world.seats)
        seats[i] = seats[i]._replace(**changes)
        return world._replace(seats=tuple(seats))

    # -- blocking commands, without blocking --

    def _pop(self, state: State, block: Block) -> tuple[list[bytes] | None, State]:
        if not state.has(block.mailbox):
            return None, state
        hint, after = self.machine.run(state, command("LPOP", block.mailbox))
        return hint.split(b"\x1f"), after

    def _arrived(self, state: State, watch: Watch) -> bool:
        last = _entry(watch.last)
        return any(_entry(entry) > last for entry in state.content.get(watch.stream, ()))


def _entry(ident: str) -> tuple[int, int]:
    milliseconds, _, number = ident.partition("-")
    return int(milliseconds), int(number or 0)


def _count_paths(
    first: World, onwards: dict[World, list[tuple[str, World]]], ends: set[World]
) -> int:
    """Schedules from the first world to an end, none of which is in a world twice.

    Going round in circles (a waiter that keeps looking) adds nothing. Where
    circles meet, the number is a lower bound.
    """
    count: dict[World, int] = {}
    entered: set[World] = set()
    stack = [(first, iter(onwards[first]))]
    sums = [0]
    entered.add(first)
    while stack:
        world, moves = stack[-1]
        for _, after in moves:
            if after in count:
                sums[-1] += count[after]
            elif after not in entered:
                entered.add(after)
                stack.append((after, iter(onwards[after])))
                sums.append(0)
                break
        else:
            stack.pop()
            total = sums.pop() + (world in ends)
            count[world] = total
            if sums:
                sums[-1] += total
    return count[first]


def describe(pending: Any) -> str:
    """A command, packed or not, in a few words."""
    if pending is None:
        return "its end"
    if isinstance(pending, bytes):
        return name_of(pending)
    if isinstance(pending, Call):
        arguments = ",".join(map(text, pending.args))
        return f"{pending.bound.script.name}({arguments})"
    return type(pending).__name__


def words(reply: Any) -> str:
    """A reply in a few words."""
    if isinstance(reply, list):
        return " ".join(map(text, reply))
    return text(reply)


def text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def name_of(packet: bytes) -> str:
    """Script and last arguments of a packed command."""
    parts = packet.split(b"\r\n")[2::2]
    found = BY_SHA[parts[1].decode()]
    arguments = parts[-len(found.args) :] if found.args else []
    return f"{found.name}({','.join(map(text, arguments))})"
