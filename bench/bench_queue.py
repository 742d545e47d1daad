"""Messages from one process to another through a queue: how many a second?

    python -m bench --only queue

One process puts messages of 100 bytes for a fixed time and then says that it is
done, the other takes them until it hears that. So the figure has both sides in it,
and whatever has piled up between them.
"""

from __future__ import annotations

import time
from typing import Any

from . import floor
from .contestants import FLOOR, LOCAL, OURS, PEER, SPAWN, Contestant, Stack
from .crew import Crew, Post
from .harness import Goal, Series, Stage, Table, compared, ratio
from .site import Site

NAME = "queue"
MESSAGE = b"x" * 100
# Our rate, against these.
GOALS = {"multiprocessing": Goal(1, True), "Manager": Goal(8, True), "lithops": Goal(20, True)}


def _floor(site: Site, name: str) -> floor.Queue:
    return floor.Queue(site.wire, name)


def _ours(site: Site, stack: Stack) -> Any:
    from lithops_mp import Queue

    return Queue()


def _lithops(site: Site, stack: Stack) -> Any:
    from lithops.multiprocessing import Queue

    return Queue()


QUEUES = (
    Contestant("floor", FLOOR, lambda site, stack: site.name(), _floor),
    Contestant("lithops_mp", OURS, _ours),
    Contestant("multiprocessing", LOCAL, lambda site, stack: SPAWN.Queue()),
    Contestant("Manager", PEER, lambda site, stack: stack.enter_context(SPAWN.Manager()).Queue()),
    Contestant("lithops", PEER, _lithops, needs="lithops"),
)


def produce(post: Post, name: str, seconds: float) -> float:
    """Put messages; when that began."""
    put = post.object(name).put
    start = now = time.monotonic()
    while now < start + seconds:
        for _ in range(10):
            put(MESSAGE)
        now = time.monotonic()
    put(None)
    return start


def consume(post: Post, name: str) -> tuple[int, float]:
    """Take them; how many, and when the last one came."""
    get, count = post.object(name).get, 0
    while get() is not None:
        count += 1
    return count, time.monotonic()


def run(stage: Stage) -> Table:
    """Measure."""
    made = stage.make(QUEUES)
    crew = Crew(stage.site, 2, made)
    stage.stack.callback(crew.close)

    def once(one: Contestant, series: Series) -> None:
        jobs: list[Any] = [(produce, (one.name, stage.sizes.window)), (consume, (one.name,))]
        start, (count, end) = crew.run(jobs)
        series.rounds.append(count / (end - start))

    found = stage.interleave(NAME, list(made), stage.sizes.contention_rounds, once)
    rows = compared(NAME, "100 B", found, None, more_is_better=True)
    ours = next(series for series in found if series.kind == OURS)
    to = {series.name: ratio(ours, series) for series in found}
    for row in rows:
        row["ops_per_s"] = row["figure"]
        row["ours_to"] = to[row["contestant"]]
        if row["kind"] == OURS:
            present = {name: goal for name, goal in GOALS.items() if name in to}
            row["goal"] = ", ".join(f"{goal} x {name}" for name, goal in present.items())
            row["met"] = all(goal.met(to[name]) for name, goal in present.items())
    columns = ("ops_per_s", "to_floor", "ours_to", "goal")
    return Table(NAME, "put and get between two processes: messages per second", columns, rows)


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
