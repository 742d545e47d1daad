"""Every interleaving of two and three clients of a queue."""

from __future__ import annotations

import pytest

from .explorer import AWAY, IN_FLIGHT, INTERRUPTS, USUAL
from .queues import getter, joiner, on_queue, poller, putter

pytestmark = pytest.mark.slow

ALL = USUAL | INTERRUPTS
DEATHS = frozenset({"crash", "crash after"})

SCENARIOS = {
    "one puts, one gets": on_queue(putter("a1", "a2"), getter(2), faults=ALL),
    "a bound of one": on_queue(putter("a1", "a2"), getter(2), bound=1, faults=ALL),
    "a bound of one, two faults": on_queue(putter("a1", "a2"), getter(2), bound=1, budget=2),
    "a bound of two": on_queue(putter("a1", "a2", "a3"), getter(3), bound=2),
    "last command read late": on_queue(
        putter("a1"), getter(), getter(), faults=IN_FLIGHT, budget=2
    ),
    "room for some bytes": on_queue(putter("a1", "a2", "a3"), getter(3), room=4),
    "two put, one gets": on_queue(putter("a1"), putter("b1"), getter(2), bound=1),
    "one puts, two get": on_queue(putter("a1", "a2"), getter(), getter(), faults=ALL),
    "one puts two together, two get": on_queue(
        putter("a1", "a2", together=True), getter(), getter(), faults=ALL
    ),
    "one puts, two get, a bound": on_queue(
        putter("a1", "a2"), getter(), getter(), bound=1, faults=DEATHS
    ),
    "gets with a time limit": on_queue(
        putter("a1", "a2"), getter(2, timeout=1.0), getter(timeout=1.0)
    ),
    "puts with a time limit": on_queue(
        putter("a1", "a2", timeout=1.0), putter("b1", timeout=1.0), getter(), bound=1
    ),
    "one does not wait to put, one does not wait to get": on_queue(
        putter("a1", "a2", block=False), getter(2, block=False), getter(), bound=1, faults=ALL
    ),
    "the wait sent along": on_queue(
        putter("a1", "a2"), getter(2, eager=True), faults=ALL, budget=2
    ),
    "two get, Ctrl-C, and again": on_queue(
        putter("a1"), getter(stubborn=True), getter(timeout=1.0), faults=INTERRUPTS, budget=2
    ),
    "some are taken at once and all used": on_queue(
        putter("a1"), getter(2, want=3, use=3), first=("z1", "z2", "z3"), faults=ALL
    ),
    "some are taken at once and given back": on_queue(
        putter("a1"), getter(2, want=3, use=1), first=("z1", "z2", "z3"), faults=ALL
    ),
    "some are given back while another waits": on_queue(
        getter(want=3, use=1), getter(2), first=("z1", "z2", "z3"), faults=ALL, budget=2
    ),
    "one takes some, another gets what is new": on_queue(
        # What was given back comes behind what the other was given meanwhile.
        getter(want=3, use=1),
        getter(2),
        putter("z4"),
        first=("z1", "z2", "z3"),
        ordered=False,
    ),
    "room, and some given back": on_queue(
        putter("a1", "a2"), getter(2, want=2, use=1), room=5, first=("z1",)
    ),
    "delivered again": on_queue(putter("a1"), getter(), getter(), redeliver=True, faults=ALL),
    "a bound of one, the server out of reach": on_queue(
        putter("a1", "a2"), putter("b1", timeout=1.0), getter(2), bound=1, faults=AWAY, budget=2
    ),
    "two get, the server out of reach": on_queue(
        putter("a1", "a2"), getter(2, eager=True), getter(), faults=AWAY, budget=2
    ),
    "some are given back, the server out of reach": on_queue(
        putter("a1"), getter(2, want=3, use=1), first=("z1", "z2", "z3"), faults=AWAY, budget=2
    ),
    "tasks": on_queue(putter("a1", "a2"), getter(2, task=True), joiner(), joinable=True),
    "tasks with a bound": on_queue(
        putter("a1", "a2"), getter(2, task=True), joiner(), joinable=True, bound=1, faults=DEATHS
    ),
    "one looks": on_queue(putter("a1"), poller(1.0), getter(), faults=ALL),
    "one looks for as long as it takes": on_queue(putter("a1"), poller(), faults=ALL, budget=2),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_queue_in_every_interleaving(name, explore):
    explore(SCENARIOS[name])
