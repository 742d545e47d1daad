"""Every interleaving of two and three clients that count up a number under a lock.

What acquires the lock brings the number, what releases it takes it back.
"""

from __future__ import annotations

import pytest

from .explorer import AWAY, IN_FLIGHT, INTERRUPTS, USUAL
from .programs import adder, counter, marker, on_mem

FULL = "finish bury drop"

SCENARIOS = {
    "two, twice each": on_mem(*[counter(rounds=2)] * 2),
    "two, two faults": on_mem(*[counter()] * 2, budget=2),
    "two, Ctrl-C twice": on_mem(*[counter()] * 2, budget=2, faults=USUAL | INTERRUPTS),
    "two, last command read late": on_mem(*[counter()] * 2, faults=IN_FLIGHT),
    "three": on_mem(*[counter()] * 3),
    "three, the wait sent along": on_mem(*[counter(how="eager")] * 3),
    "two, twice each, the data asked for with the lock": on_mem(
        *[counter(rounds=2, how="along")] * 2
    ),
    "three, the data asked for with the lock": on_mem(*[counter(how="along")] * 3),
    "two that write back before they release": on_mem(*[counter(how="keep")] * 2),
    "two, two regions": on_mem(*[counter(regions=2)] * 2, regions=2),
    "two, two regions, written back before the release": on_mem(
        *[counter(regions=2, how="keep")] * 2, regions=2
    ),
    "two that store new content beside the old": on_mem(*[counter(how="stage")] * 2),
    "three with a time limit": on_mem(*[counter(timeout=1.0)] * 3),
    "three, RLock": on_mem(*[counter("rlock")] * 3, kind="rlock"),
    "two, and one without the lock": on_mem(counter(), counter(), adder()),
    "two without the lock, and one with it, two faults": on_mem(
        adder(), adder(), counter(), budget=2, faults=USUAL - {"declare"}
    ),
    "one that overwrites without the lock, two faults": on_mem(marker(2), counter(), budget=2),
    "one that overwrites without the lock, and one that keeps a copy": on_mem(
        marker(2), counter(rounds=2, how="along")
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_number_in_every_interleaving(name, explore):
    explore(SCENARIOS[name])


def test_a_client_that_was_buried_too_early_changes_nothing(explore):
    """A host cut off for longer than the lease is buried, and comes back."""
    explore(on_mem(*[counter()] * 3, burial=FULL))


def test_ctrl_c_during_release_writes_once(explore):
    interruptible = frozenset({"release"})
    explore(on_mem(*[counter()] * 2, faults=INTERRUPTS, interruptible=interruptible))


@pytest.mark.parametrize("how", ["", "along", "eager", "stage"])
def test_what_could_not_be_written_is_or_never_is_when_the_server_is_back(how, explore):
    where = frozenset({"acquire", "acquire_eager", "acquire_on", "release"})
    scenario = on_mem(*[counter(how=how)] * 3, faults=AWAY, interruptible=where)
    explore(scenario)


def test_the_scenarios_do_what_they_are_meant_to(explore):
    results = explore(on_mem(*[counter(timeout=1.0)] * 2)).results
    assert {done for result in results for done in result} == {0, 1, None}
