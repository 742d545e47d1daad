"""Every interleaving of two and three clients of a Barrier."""

from __future__ import annotations

import pytest

from .explorer import AWAY, INTERRUPTS, USUAL
from .programs import on_barrier, party, smasher

ALL = USUAL | INTERRUPTS
HASTY = {"action": True, "timeout": 1.0}

SCENARIOS = {
    "two, twice": on_barrier(*[party(rounds=2)] * 2, parties=2),
    "two, twice, with a time limit": on_barrier(*[party(rounds=2, timeout=1.0)] * 2, parties=2),
    "two, twice, an action": on_barrier(*[party(rounds=2, action=True)] * 2, parties=2),
    "two, twice, nobody buries": on_barrier(
        *[party(rounds=2, action=True)] * 2, parties=2, burial="finish"
    ),
    "two, an action that fails": on_barrier(*[party(2, action=True, fails=True)] * 2, parties=2),
    "two, an action, Ctrl-C, two faults": on_barrier(
        *[party(**HASTY)] * 2, parties=2, faults=ALL, budget=2
    ),
    "two, twice, who listen": on_barrier(*[party(rounds=2, eager=True)] * 2, parties=2),
    "two, twice, an action, who listen": on_barrier(
        *[party(rounds=2, action=True, eager=True)] * 2, parties=2
    ),
    "two, one of whom listens, Ctrl-C, two faults": on_barrier(
        party(action=True, eager=True), party(**HASTY), parties=2, faults=ALL, budget=2
    ),
    "three": on_barrier(*[party()] * 3, parties=3, faults=ALL),
    "three who listen": on_barrier(*[party(eager=True)] * 3, parties=3, faults=ALL),
    "three, an action, a time limit": on_barrier(*[party(**HASTY)] * 3, parties=3, faults=ALL),
    "two, an action, the server out of reach": on_barrier(
        *[party(action=True)] * 2, parties=2, faults=AWAY, budget=2
    ),
    "two who listen, the server out of reach": on_barrier(
        *[party(eager=True)] * 2, parties=2, faults=AWAY, budget=2
    ),
    "three, a time limit, the server out of reach": on_barrier(
        *[party(timeout=1.0)] * 3, parties=3, faults=AWAY
    ),
    "two and an abort": on_barrier(
        *[party(timeout=1.0)] * 2, smasher("broken"), parties=2, faults=ALL
    ),
    "two and a reset": on_barrier(*[party(**HASTY)] * 2, smasher("filling"), parties=2, faults=ALL),
    "two who listen and an abort": on_barrier(
        *[party(eager=True)] * 2, smasher("broken"), parties=2, faults=ALL
    ),
    "three that meet in twos": on_barrier(*[party(timeout=1.0)] * 3, parties=2, crowd=True),
    "three that meet in twos, an action, who listen": on_barrier(
        *[party(action=True, eager=True)] * 3, parties=2, crowd=True
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_barrier_in_every_interleaving(name, explore):
    explore(SCENARIOS[name])


def test_a_client_that_was_buried_too_early_agrees_with_the_others(explore):
    explore(on_barrier(*[party(rounds=2)] * 2, parties=2, burial="finish bury drop"))


def test_ctrl_c_after_the_action_does_not_keep_the_others(explore):
    scenario = on_barrier(
        *[party(action=True)] * 2, parties=2,
        faults=INTERRUPTS, interruptible=frozenset({"barrier_open"}),
    )  # fmt: skip  # one subject per line
    explore(scenario)


@pytest.mark.parametrize("fails", [False, True])
def test_who_cannot_say_that_the_action_is_over_keeps_nobody(fails, explore):
    where = frozenset({"barrier_wait", "barrier_open", "barrier_fail"})
    parties = [party(rounds=2, action=True, fails=fails)] * 2
    explore(on_barrier(*parties, parties=2, faults=AWAY, budget=2, interruptible=where))
