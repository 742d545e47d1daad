"""From ``set`` to the last of many processes that wait for an event.

    python -m bench --only event

One process sets the event when all others wait for it, and clears it when they have told it
that they are awake. The setter notes the time just before it sets, each waiter when its
``wait`` returns; a sample is from the first to the last of these. It counts only if everybody
was waiting: if somebody was not, the setter gives them more time.
"""

from __future__ import annotations

import statistics
import time

from .bench_handover import in_line, pause
from .contestants import Contestant
from .crew import Post
from .harness import Goal, Series, Stage, Table, few, latency_rows

NAME = "event"
GOAL = Goal(1.5)
# Each gives everybody twice as long to come.
TRIES = 7


def call(post: Post, name: str, waiters: int, times: int, rest: float) -> list[float]:
    """Set the event so often, when everybody had some time to wait for it; when that was."""
    event, mine = post.object(name, "Event"), post.turns[waiters]
    called = []
    for _ in range(times):
        time.sleep(rest)
        called.append(time.monotonic())
        event.set()
        for _ in range(waiters):
            mine.acquire()
        event.clear()
        for turn in post.turns[:waiters]:
            turn.release()
    return called


def hear(post: Post, name: str, waiters: int, me: int, times: int) -> list[tuple[float, float]]:
    """Wait for the event so often; from when to when."""
    event, mine, setter = post.object(name, "Event"), post.turns[me], post.turns[waiters]
    waited = []
    for _ in range(times):
        start = time.monotonic()
        event.wait()
        waited.append((start, time.monotonic()))
        setter.release()
        mine.acquire()
    return waited


def run(stage: Stage) -> Table:
    """Measure."""
    rows = []
    for waiters in stage.sizes.parties:
        rests: dict[str, float] = {}

        def once(
            one: Contestant,
            series: Series,
            waiters: int = waiters,
            rests: dict[str, float] = rests,
        ) -> int:
            # A busy machine brings sixteen processes to their places one after the other.
            rest = rests.setdefault(one.name, pause(stage.site) * max(1.0, waiters / 4))
            times = few(rest * 2, stage.sizes.handovers, stage.sizes.patience)
            for _ in range(TRIES):
                jobs = [(hear, (one.name, waiters, me, times)) for me in range(waiters)]
                jobs.append((call, (one.name, waiters, times, rest)))
                *waited, called = stage.crew.run(jobs)
                taken = [
                    (max(until for _, until in turn) - moment) * 1e6
                    for moment, *turn in zip(called, *waited, strict=True)
                    if moment - max(since for since, _ in turn) > in_line(stage.site)
                ]
                if taken:
                    series.samples += taken
                    series.rounds.append(statistics.median(taken))
                    return times
                rests[one.name] = rest = rest * 2
            raise RuntimeError(f"in {TRIES} tries never were all {waiters} waiting")

        found = stage.interleave(
            f"{NAME}: {waiters} waiters", stage.crewed("Event"), stage.sizes.handover_rounds, once
        )
        some = latency_rows(NAME, f"{waiters} waiters", found, GOAL)
        rows += [row | {"x": waiters} for row in some]
    columns = ("p50", "p99", "to_floor", "to_best_peer", "goal")
    title = "Event: from set to the last waiter's return, microseconds"
    about = "The round trips are those of one set, one clear, and a wait of every waiter."
    return Table(NAME, title, columns, rows, about)


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
