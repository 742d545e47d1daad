"""Processes that meet at a barrier, again and again.

    python -m bench --only barrier

A sample is the time from one return of a party's ``wait`` to the next: everybody wakes up,
comes back and the last one lets all through.
"""

from __future__ import annotations

import statistics
import time

from .contestants import Contestant
from .crew import Post
from .harness import Goal, Series, Stage, Table, few, latency_rows

NAME = "barrier"
GOAL = Goal(1.5)


def meet(post: Post, name: str, parties: int, times: int) -> list[float]:
    """Meet once, and then so often; the microseconds that each of these took."""
    wait, clock = post.object(name, f"Barrier of {parties}").wait, time.perf_counter_ns
    wait()
    before, taken = clock(), []
    for _ in range(times):
        wait()
        now = clock()
        taken.append((now - before) / 1000)
        before = now
    return taken


def run(stage: Stage) -> Table:
    """Measure."""
    rows = []
    for parties in stage.sizes.parties:
        paces: dict[str, float] = {}

        def once(
            one: Contestant,
            series: Series,
            parties: int = parties,
            paces: dict[str, float] = paces,
        ) -> int:
            pace = paces.get(one.name, stage.sizes.patience)
            times = few(pace, stage.sizes.calls, stage.sizes.patience)
            taken = stage.crew.run([(meet, (one.name, parties, times))] * parties)[0]
            series.samples += taken
            series.rounds.append(statistics.median(taken))
            paces[one.name] = series.rounds[-1] / 1e6
            return (times + 1) * parties

        name = f"Barrier of {parties}"
        rounds = stage.sizes.handover_rounds
        found = stage.interleave(f"{NAME}: {parties} parties", stage.crewed(name), rounds, once)
        some = latency_rows(NAME, f"{parties} parties", found, GOAL)
        rows += [row | {"x": parties} for row in some]
    columns = ("p50", "p99", "to_floor", "to_best_peer", "goal")
    title = "Barrier: from one meeting to the next, microseconds"
    about = "The round trips are those of one party."
    return Table(NAME, title, columns, rows, about)


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
