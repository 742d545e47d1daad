"""Every interleaving of two and three clients of a Lock or RLock."""

from __future__ import annotations

import pytest

from .explorer import AWAY, IN_FLIGHT, INTERRUPTS, USUAL
from .programs import locker, on_sem, once_more

FULL = "finish bury drop"

SCENARIOS = {
    "two, no fault": on_sem(*[locker(rounds=2)] * 2, budget=0),
    "two, twice each": on_sem(*[locker(rounds=2)] * 2),
    "two, two faults": on_sem(*[locker()] * 2, budget=2),
    "two with a time limit, two faults": on_sem(*[locker(timeout=1.0)] * 2, budget=2),
    "two, Ctrl-C twice": on_sem(*[locker()] * 2, budget=2, faults=USUAL | INTERRUPTS),
    "two, last command read late": on_sem(*[locker()] * 2, faults=IN_FLIGHT),
    "three": on_sem(*[locker()] * 3),
    "three, nobody buries": on_sem(*[locker()] * 3, burial="finish"),
    "three with a time limit, Ctrl-C": on_sem(
        *[locker(timeout=1.0)] * 3, faults=USUAL | INTERRUPTS
    ),
    "one twice, one that does not wait, one with a time limit": on_sem(
        locker(rounds=2), locker(block=False), locker(timeout=1.0), faults=USUAL | INTERRUPTS
    ),
    "three, the wait sent along": on_sem(*[locker(eager=True)] * 3),
    "two, the wait sent along, Ctrl-C, two faults": on_sem(
        *[locker(eager=True)] * 2, budget=2, faults=USUAL | INTERRUPTS
    ),
    "three, the server out of reach": on_sem(
        once_more(locker()), once_more(locker(timeout=1.0)), locker(), faults=AWAY
    ),
    "two, the server out of reach, two faults": on_sem(
        *[once_more(locker())] * 2, faults=USUAL | AWAY, budget=2
    ),
    "two, the wait sent along, the server out of reach twice": on_sem(
        *[once_more(locker(eager=True))] * 2, faults=AWAY, budget=2
    ),
    "three, RLock": on_sem(*[locker("rlock")] * 3, kind="rlock"),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_lock_in_every_interleaving(name, explore):
    explore(SCENARIOS[name])


@pytest.mark.parametrize("kind", ["lock", "rlock"])
def test_a_client_that_was_buried_too_early_harms_nobody(kind, explore):
    """A host cut off for longer than the lease is buried, and comes back."""
    explore(on_sem(*[locker(kind)] * 3, kind=kind, burial=FULL))


def test_ctrl_c_during_release_does_not_keep_the_lock(explore):
    scenario = on_sem(*[locker()] * 2, faults=INTERRUPTS, interruptible=frozenset({"release"}))
    explore(scenario)


@pytest.mark.parametrize("kind", ["lock", "rlock", "sem"])
def test_what_could_not_be_released_is_when_the_server_is_back(kind, explore):
    where = frozenset({"acquire", "acquire_eager", "release"})
    eager = kind != "sem"
    programs = once_more(locker(kind, rounds=2)), once_more(locker(kind, eager=eager)), locker(kind)
    explore(on_sem(*programs, kind=kind, faults=AWAY, interruptible=where))
    explore(on_sem(*programs[:2], kind=kind, faults=AWAY, budget=2, interruptible=where))


def test_the_scenarios_do_what_they_are_meant_to(explore):
    """Waiting, giving up and entering all happen: else the search proves little."""
    results = explore(on_sem(*[locker(timeout=1.0)] * 2)).results
    rounds = [entered for result in results for entered in result if entered]
    assert {outcome for entered in rounds for outcome in entered} == {True, False}
