"""Every interleaving of two and three clients of a semaphore."""

from __future__ import annotations

import pytest

from .explorer import AWAY, IN_FLIGHT, INTERRUPTS, USUAL
from .programs import locker, on_sem, once_more

ANY = 100  # what an unbounded semaphore may grow to


def users(count: int, **options):
    return [locker("sem", most=ANY, **options)] * count


SCENARIOS = {
    "two, two faults": on_sem(*users(2), kind="sem", most=ANY, budget=2),
    "two, twice each": on_sem(*users(2, rounds=2), kind="sem", most=ANY),
    "three, one unit": on_sem(*users(3), kind="sem", most=ANY),
    "three, two units, bounded": on_sem(*[locker("sem", most=2)] * 3, kind="sem", value=2, most=2),
    "three with a time limit, Ctrl-C": on_sem(
        *users(3, timeout=1.0), kind="sem", most=ANY, faults=USUAL | INTERRUPTS
    ),
    "three, the server out of reach": on_sem(
        *[once_more(users(1)[0])] * 2, *users(1, timeout=1.0), kind="sem", most=ANY, faults=AWAY
    ),
    "two and one that does not wait": on_sem(
        *users(2), *users(1, block=False), kind="sem", most=ANY
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_semaphore_in_every_interleaving(name, explore):
    explore(SCENARIOS[name])


def test_a_client_that_was_buried_too_early_makes_no_units(explore):
    scenario = on_sem(*users(2), kind="sem", most=ANY, budget=2, burial="finish bury drop")
    explore(scenario)


@pytest.mark.parametrize("burial", ["finish bury", "finish bury drop"])
def test_a_unit_goes_on_from_a_waiter_that_was_buried_before_its_command_was_read(burial, explore):
    scenario = on_sem(*users(3), kind="sem", most=ANY, faults=IN_FLIGHT, burial=burial)
    explore(scenario)
