"""Taking and giving back what nobody else wants.

    python -m bench --only lock

One sample is a pair: ``acquire`` and ``release``; with a condition ``notify``, which
nobody waits for, between the two.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from . import floor
from .contestants import Contestant, family
from .harness import Goal, Series, Stage, Table, latency_rows, timed

NAME = "lock"
GOAL = Goal(1.5)


def pair(lock: Any) -> Callable[[], None]:
    """One sample."""
    acquire, release = lock.acquire, lock.release

    def both() -> None:
        acquire()
        release()

    return both


def notify(condition: Any) -> Callable[[], None]:
    """One sample of a condition."""
    acquire, release, word = condition.acquire, condition.release, condition.notify

    def all_three() -> None:
        acquire()
        word()
        release()

    return all_three


def up_and_down(event: Any) -> Callable[[], None]:
    """One sample of an event that nobody waits for."""
    up, down = event.set, event.clear

    def both() -> None:
        up()
        down()

    return both


def look(event: Any) -> Callable[[], object]:
    """One sample of an event that is looked at."""
    is_set: Callable[[], object] = event.is_set
    return is_set


# Case -> what is timed, and who takes part.
OTHERS: dict[str, tuple[Callable[[Any], Callable[[], object]], tuple[Contestant, ...]]] = {
    "RLock pair": (pair, family("RLock", floor.Lock)),
    "Semaphore pair": (pair, family("Semaphore", floor.Semaphore, own=[1])),
    "Condition.notify": (notify, family("Condition", floor.Condition)),
    "Event.is_set": (look, family("Event", floor.Event)),
    "Event.set, clear": (up_and_down, family("Event", floor.Event)),
}


def run(stage: Stage) -> Table:
    """Measure."""
    opened = {one: one.open(stage.site, made) for one, made in stage.locks.items()}
    rows = _case(stage, "Lock pair", {one: pair(lock) for one, lock in opened.items()}, GOAL)
    for case, (sample, contestants) in OTHERS.items():
        opened = stage.open(contestants)
        rows += _case(stage, case, {one: sample(thing) for one, thing in opened.items()}, GOAL)
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
