"""Every interleaving of two and three clients of a Condition.

Takers wait for items, a maker puts some there and notifies.
"""

from __future__ import annotations

import pytest

from lithops_mp._store.families import Ref

from .explorer import AWAY, INTERRUPTS, USUAL
from .programs import COND, LOCK, maker, on_cond, once_more, taker

pytestmark = pytest.mark.slow

DEATHS = frozenset({"crash", "crash after"})
TIMES = frozenset({"timeout", "drop", "lost"})

SCENARIOS = {
    "two": on_cond(taker(), maker()),
    "two with a time limit, two faults": on_cond(taker(timeout=1.0), maker(), budget=2),
    "two, one of whom listens": on_cond(taker(eager=True), maker()),
    "two, one of whom listens, two faults": on_cond(
        taker(eager=True), maker(), faults=TIMES, budget=2
    ),
    "three, one of whom listens": on_cond(
        taker(eager=True), taker(timeout=1.0), maker(items=2, count=-1), faults=TIMES
    ),
    "three, an item each, notify_all": on_cond(
        taker(), taker(), maker(items=2, count=-1), faults=DEATHS
    ),
    "three, one item": on_cond(taker(), taker(), maker(), faults=USUAL - DEATHS),
    "three with a time limit, RLock": on_cond(
        *[taker("rlock", timeout=1.0)] * 2, maker("rlock"), kind="rlock", faults=TIMES
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_condition_in_every_interleaving(name, explore):
    explore(SCENARIOS[name])


def test_a_client_that_was_buried_too_early_is_told_so(explore):
    explore(on_cond(taker(), maker(), burial="finish bury drop"))
    explore(on_cond(taker(eager=True), maker(), burial="finish bury drop"))


@pytest.mark.parametrize("eager", [False, True])
def test_no_wake_up_is_lost_with_a_dead_waiter_in_whatever_order_it_is_buried(explore, eager):
    """A process's objects are buried in the order of a set: in none."""
    refs = [Ref("sem", LOCK), Ref("cond", COND)]
    crashes = frozenset({"crash after"})
    explore(on_cond(*[taker(eager=eager)] * 2, maker(), faults=crashes, refs=refs))


@pytest.mark.parametrize("eager", [False, True])
def test_no_wake_up_is_lost_with_a_dead_waiter_that_nobody_buries(explore, eager):
    scenario = on_cond(
        *[taker(eager=eager)] * 2, maker(), faults=frozenset({"crash after"}), burial="finish"
    )
    explore(scenario)


@pytest.mark.parametrize("eager", [False, True])
def test_ctrl_c_during_wait_gives_the_lock_back(explore, eager):
    explore(on_cond(taker(eager=eager), maker(), faults=INTERRUPTS, budget=2))


AWAY_FROM = {
    "two, Ctrl-C": on_cond(once_more(taker()), maker(), faults=AWAY | INTERRUPTS, budget=2),
    "three, one item": on_cond(taker(), taker(), maker(), faults=AWAY),
    "three, one of whom listens": on_cond(
        once_more(taker(eager=True)), taker(timeout=1.0), maker(items=2, count=-1), faults=AWAY
    ),
    "two, at the release too": on_cond(
        once_more(taker()),
        maker(),
        faults=AWAY,
        budget=2,
        interruptible=frozenset({"acquire", "cond_wait", "release"}),
    ),
    "two, RLock": on_cond(once_more(taker("rlock")), maker("rlock"), kind="rlock", faults=AWAY),
}


@pytest.mark.parametrize("name", AWAY_FROM)
def test_who_gave_the_server_up_waits_no_longer_when_it_is_back(name, explore):
    explore(AWAY_FROM[name])
