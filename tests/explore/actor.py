"""A client's program as an automaton.

A program is a generator over the protocols. Generators cannot be copied, but
they are deterministic: what one does next follows from what it was sent. So a
position in a program is the list of its inputs so far, and to take another
input there, a fresh generator is fed that list first. Positions with equal
local variables are one :class:`Node`, and a transition is worked out once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import GeneratorType
from typing import Any, NamedTuple

from lithops_mp import pooling, protocols, queueing, storing
from lithops_mp._store.commands import Block, Call, Watch
from lithops_mp.errors import ServerUnavailable
from lithops_mp.memory import MemKeys


class Put(NamedTuple):
    """Write a variable that all programs share. Takes no time: guard it with a lock."""

    name: str
    value: Any


class Get(NamedTuple):
    """Read a shared variable."""

    name: str


class Me:
    """Who a program is, for the protocols; its clock moves only when it waits.

    ``held`` is what the program believes to hold, by name: what mutual
    exclusion is about. ``ledger`` is its word in its process's: it outlives it.
    """

    def __init__(self, ident: str) -> None:
        self.id = ident
        self.now = 1000.0
        self.seq = 0
        self.held: dict[str, Any] = {}
        self.ledger: tuple[int, int] | None = None

    def stamp(self) -> bytes:
        self.seq += 1
        return b"%012d" % self.seq

    def clock(self) -> float:
        return self.now

    def saw(self, seq: int, count: int) -> None:
        self.ledger = seq, count


Program = Callable[[Me], Generator[Any, Any, Any]]

#: Input of a program: the answer to its command and how long that took, or an
#: exception that is raised at it.
Input = tuple[str, Any, float]


def answer(value: Any, seconds: float = 0.0) -> Input:
    """A command's answer."""
    return ("send", _frozen(value), seconds)


INTERRUPT: Input = ("throw", KeyboardInterrupt, 0.0)
UNAVAILABLE: Input = ("throw", ServerUnavailable, 0.0)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _thawed(value: Any) -> Any:
    return [_thawed(item) for item in value] if isinstance(value, tuple) else value


class Node:
    """A position in a program: the command it waits at, or how it ended.

    ``waiting`` names the protocol functions it is in, outermost first.
    """

    __slots__ = (
        *("after", "client", "command", "error", "held"),
        *("inputs", "ledger", "packet", "result", "seq", "waiting"),
    )

    def __init__(self, client: str) -> None:
        self.client = client
        self.command: Any = None
        self.packet = b""
        self.result: Any = None
        self.error: str | None = None
        self.held: tuple[tuple[str, Any], ...] = ()
        self.ledger: tuple[int, int] | None = None
        self.seq = 0
        self.waiting: tuple[str, ...] = ()
        self.inputs: tuple[Input, ...] = ()
        self.after: dict[Input, Node] = {}

    @property
    def ended(self) -> bool:
        return self.command is None


class Actor:
    """One client: its id and its program's nodes."""

    def __init__(self, ident: str, program: Program) -> None:
        self.id = ident
        self.process = ident.partition(".")[0]
        self._program = program
        self._nodes: dict[Any, Node] = {}
        self.start = self._replay(())

    def step(self, node: Node, taken: Input) -> Node:
        """Where an input leads."""
        after = node.after.get(taken)
        if after is None:
            after = node.after[taken] = self._replay((*node.inputs, taken))
        return after

    def _replay(self, inputs: tuple[Input, ...]) -> Node:
        node, me = Node(self.id), Me(self.id)
        node.inputs = inputs
        steps = self._program(me)
        try:
            node.command = next(steps)
            for how, value, seconds in inputs:
                me.now += seconds
                if how == "send":
                    node.command = steps.send(_thawed(value))
                else:
                    node.command = steps.throw(value())
        except StopIteration as stop:
            node.command, node.result = None, stop.value
        except (Exception, KeyboardInterrupt) as error:
            node.command, node.error = None, f"{type(error).__name__}: {error}"
        node.held = tuple(sorted(me.held.items()))
        node.seq, node.ledger = me.seq, me.ledger
        frames = _frames(steps, me)
        node.waiting = tuple(name for name, _, _ in frames)
        result = _hashable(node.result)
        known = (node.held, node.ledger, node.seq)
        mark = (frames, _asked(node.command), known, result, node.error)
        if isinstance(node.command, Call):
            node.packet = node.command.bound.pack(node.command.args)
        steps.close()
        return self._nodes.setdefault(mark, node)


#: Locals that say nothing about the position: constant per program, or a
#: generator, whose own locals are looked at.
_CONSTANT = (
    *(Me, GeneratorType),
    *(protocols.SemKeys, protocols.CondKeys, protocols.EventKeys, protocols.BarrierKeys),
    *(queueing.QueueKeys, pooling.PoolKeys, MemKeys, storing.Keys),
)

#: Points in time count as distances from now.
_TIMES = ("deadline", "end")

#: The count of safety checks is only used modulo the number of waiters, at most 3.
_COUNTS = ("looks",)


def _frames(steps: Any, me: Me) -> tuple[Any, ...]:
    """The local variables of a generator and of those it delegates to."""
    found = []
    while steps is not None and getattr(steps, "gi_frame", None) is not None:
        frame = steps.gi_frame
        variables = tuple(
            (name, _local(name, value, me))
            for name, value in sorted(frame.f_locals.items())
            if not isinstance(value, _CONSTANT)
        )
        found.append((frame.f_code.co_name, frame.f_lasti, variables))
        steps = steps.gi_yieldfrom
    return tuple(found)


def _asked(pending: Any) -> Any:
    """What tells a command from another one of the same place and variables."""
    if isinstance(pending, Call):
        return pending.bound.script.name
    return type(pending) if isinstance(pending, Block | Watch) else pending


def _local(name: str, value: Any, me: Me) -> Any:
    if name in _TIMES and value is not None:
        return round(max(0.0, value - me.now), 6)
    if name in _COUNTS:
        return value % 6
    return _hashable(value)


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_hashable(item) for item in value)
    if isinstance(value, BaseException):
        return type(value).__name__
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value
