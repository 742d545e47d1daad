"""Clients without threads: protocols driven by hand on a real server."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from explore.actor import Me
from explore.machine import Machine

from lithops_mp._store import keys
from lithops_mp._store.commands import Block, Call
from lithops_mp._store.scripts import command, script

#: A client that waits for ever in the model has done this instead of ending.
WAITS = "waits"


class Client:
    """A client and the protocol it is in, if it waits."""

    def __init__(self, server: Bench, ident: str) -> None:
        self.server = server
        self.me = Me(ident)
        self.grants: list[Any] = []
        self.pending: Any = None
        self._steps: Generator[Any, Any, Any] | None = None

    def start(self, steps: Generator[Any, Any, Any]) -> Any:
        """Run a protocol to its end, or to where it waits: its result, or WAITS."""
        self._steps = steps
        return self._on(lambda: next(steps))

    def hear(self) -> Any:
        """Go on with what has arrived, if anything has."""
        if isinstance(self.pending, Block):
            hint = self.server.do(command("LPOP", self.pending.mailbox))
            return self.go_on(hint.split(b"\x1f")) if hint else WAITS
        entries = self.server.state.content.get(self.pending.stream, ())
        arrived = any(_number(entry) > _number(self.pending.last) for entry in entries)
        return self.go_on(True) if arrived else WAITS

    def runs_out(self) -> Any:
        """What it waits for does not come in time."""
        self.me.now += max(0.0, self.pending.seconds)
        return self.go_on(None if isinstance(self.pending, Block) else False)

    def go_on(self, reply: Any) -> Any:
        steps = self._steps
        assert steps is not None
        return self._on(lambda: steps.send(reply))

    def _on(self, resume: Callable[[], Any]) -> Any:
        steps, self.pending = self._steps, None
        assert steps is not None
        try:
            step = resume()
            while isinstance(step, Call):
                step = steps.send(self.server.call(step.bound.pack(step.args)))
        except StopIteration as stop:
            return stop.value
        self.pending = step
        return WAITS


class Bench:
    """A server's state, and the clients of one example."""

    def __init__(self, machine: Machine, setup: list[Any], names: str = "ABC") -> None:
        self.machine = machine
        self.state = machine.empty
        self.stutters = False
        for name in names:  # all of them alive for as long as it takes
            register = script("process/register").on(keys.process(name))
            self.do(register.pack((10**9, "running", 10**9, b"\x80")))
        for bound, args in setup:
            self.do(bound.pack(args))
        self.clients = {name: Client(self, f"{name}.0") for name in names}

    def call(self, packet: bytes) -> Any:
        """A protocol's request; ``stutters`` sends it twice and loses the first reply."""
        if self.stutters:
            self.do(packet)
        return self.do(packet)

    def do(self, packet: bytes) -> Any:
        reply, self.state = self.machine.run(self.state, packet)
        return reply


def _number(entry: str) -> tuple[int, ...]:
    return tuple(map(int, entry.split("-")))
