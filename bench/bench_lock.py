"""Taking and giving back what nobody else wants.

    python -m bench --only lock

One sample is a pair: ``acquire`` and ``release``. The other primitives are
measured against their own floors only.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from . import floor
from .contestants import FLOOR, OURS, Contestant, Stack
from .harness import Goal, Series, Stage, Table, latency_rows, timed
from .site import Site

NAME = "lock"
GOAL = Goal(1.5)


def pair(lock: Any) -> Callable[[], None]:
    """One sample."""
    acquire, release = lock.acquire, lock.release

    def both() -> None:
        acquire()
        release()

    return both


def _ours(name: str) -> Callable[[Site, Stack], Any]:
    def make(site: Site, stack: Stack) -> Any:
        from lithops_mp import synchronize

        return getattr(synchronize, name)()

    return make


def _floor_lock(site: Site, stack: Stack) -> Any:
    return floor.Lock(site.wire, site.name())


def _floor_semaphore(site: Site, stack: Stack) -> Any:
    return floor.Semaphore(site.wire, site.name(), 1)


def _floor_event(site: Site, stack: Stack) -> Any:
    return floor.Event(site.wire, site.name())


# Case -> what is timed, the floor's and our own object.
OTHERS: dict[str, tuple[Callable[[Any], Callable[[], object]], tuple[Contestant, Contestant]]] = {
    "RLock pair": (
        pair,
        (Contestant("floor", FLOOR, _floor_lock), Contestant("lithops_mp", OURS, _ours("RLock"))),
    ),
    "Semaphore pair": (
        pair,
        (
            Contestant("floor", FLOOR, _floor_semaphore),
            Contestant("lithops_mp", OURS, _ours("Semaphore")),
        ),
    ),
    "Event.is_set": (
        lambda event: event.is_set,
        (Contestant("floor", FLOOR, _floor_event), Contestant("lithops_mp", OURS, _ours("Event"))),
    ),
}


def run(stage: Stage) -> Table:
    """Measure."""
    opened = {one: one.open(stage.site, made) for one, made in stage.locks.items()}
    rows = _case(stage, "Lock pair", {one: pair(lock) for one, lock in opened.items()}, GOAL)
    for case, (sample, contestants) in OTHERS.items():
        made = stage.make(contestants)
        rows += _case(stage, case, {one: sample(made[one]) for one in made}, GOAL)
    columns = ("p50", "p99", "to_floor", "to_best_peer", "goal")
    return Table(NAME, "Uncontended, microseconds", columns, rows)


def _case(
    stage: Stage, case: str, calls: dict[Contestant, Callable[[], object]], goal: Goal | None
) -> list[dict[str, Any]]:
    def once(one: Contestant, series: Series) -> None:
        taken = timed(calls[one], stage.sizes.calls)
        series.samples += taken
        series.rounds.append(statistics.median(taken))

    found = stage.interleave(f"{NAME}: {case}", list(calls), stage.sizes.rounds, once)
    return latency_rows(NAME, case, found, goal)


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
