"""Every interleaving of a program and the workers of its pool."""

from __future__ import annotations

import pytest

from .explorer import IN_FLIGHT, USUAL
from .pools import on_pool, worker

pytestmark = pytest.mark.slow

DEATHS = frozenset({"crash", "crash after", "declare"})

SCENARIOS = {
    "one task, one worker": on_pool(worker(), tasks=(("a",),), budget=2),
    "two tasks, one worker": on_pool(worker(), tasks=(("a",), ("b",))),
    "one task, two workers": on_pool(worker(), worker(), tasks=(("a",),)),
    "two tasks at once, two workers": on_pool(worker(), worker(), tasks=(("a", "b"),)),
    "two workers, two deaths": on_pool(
        worker(), worker(), tasks=(("a", "b"),), program=False, faults=DEATHS, budget=2
    ),
    "a worker takes some": on_pool(worker(want=2), tasks=(("a", "b", "c"),)),
    "two take some": on_pool(
        worker(want=2), worker(want=2), tasks=(("a", "b", "c", "d"),), program=False
    ),
    "a long one gives back the rest": on_pool(worker(want=3, busy="a"), tasks=(("a", "b", "c"),)),
    "another worker gets it": on_pool(
        worker(want=2, busy="a"), worker(), tasks=(("a", "b", "c", "d"),), program=False
    ),
    "a task may cost no worker": on_pool(worker(), worker(), tasks=(("a",),), retries=0),
    "workers that leave": on_pool(worker(most=1), worker(most=1), tasks=(("a", "b"),)),
    "workers that do not wait for long": on_pool(worker(timeout=1.0), tasks=(("a",), ("b",))),
    "last command read late": on_pool(
        worker(), worker(), tasks=(("a", "b"),), program=False, faults=IN_FLIGHT | USUAL
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_pool_in_every_interleaving(name, explore):
    explore(SCENARIOS[name])
