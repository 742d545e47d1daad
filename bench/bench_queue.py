"""Messages from one process to another through a queue: how many a second, and how soon?

    python -m bench --only queue

For the rate one process puts messages for a fixed time and then says that it is done, the
other takes them until it hears that. So the figure has both sides in it, and whatever has
piled up between them. For the time the consumer waits already, as in ``handover``; it is from
just before ``put`` to the return of ``get``.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from . import floor
from .bench_handover import pause
from .contestants import FLOOR, LOCAL, OURS, PEER, SPAWN, Contestant, Stack
from .crew import Crew, Post
from .harness import Goal, Series, Stage, Table, compared, latency_rows, ratio
from .site import Site

NAME = "queue"
SIZES = {"100 B": 100, "10 KB": 10_000, "1 MB": 1_000_000}
# Bytes in a turn: a queue without a bound is all in the server's memory.
MOST = 64_000_000
LATENCY = Goal(1.5)
# Our rate of small messages, against these.
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
    Contestant("Manager", PEER, lambda site, stack: stack.manager.Queue()),
    Contestant("lithops", PEER, _lithops, needs="lithops"),
)


def produce(post: Post, name: str, size: int, seconds: float) -> float:
    """Put messages; when that began."""
    put, message = post.object(name).put, b"x" * size
    some = max(1, min(10, 100_000 // size))
    left = MOST // size
    start = now = time.monotonic()
    while now < start + seconds and left > 0:
        for _ in range(some):
            put(message)
        left -= some
        now = time.monotonic()
    put(None)
    return start


def consume(post: Post, name: str, size: int) -> tuple[int, float]:
    """Take them; how many, and when the last one came."""
    queue, count = post.object(name), 0
    get = queue.receive if isinstance(queue, floor.Queue) and size >= queue.LARGE else queue.get
    while get() is not None:
        count += 1
    return count, time.monotonic()


def put_one(post: Post, name: str, size: int, times: int) -> None:
    """Put a message when the other one waits for it, so often."""
    queue, message = post.object(name), b"x" * size
    put = queue.send if isinstance(queue, floor.Queue) else queue.put
    rest = pause(post.site)
    for _ in range(times):
        post.turns[0].acquire()
        time.sleep(rest)
        post.clock.value = time.monotonic_ns()
        put(message)


def get_one(post: Post, name: str, times: int) -> list[float]:
    """Wait for a message; the microseconds that it was on its way."""
    queue = post.object(name)
    get = queue.receive if isinstance(queue, floor.Queue) else queue.get
    taken = []
    for _ in range(times):
        post.turns[0].release()
        get()
        taken.append((time.monotonic_ns() - post.clock.value) / 1000)
    return taken


def run(stage: Stage) -> list[Table]:
    """Measure."""
    made = stage.make(QUEUES)
    crew = Crew(stage.site, 2, made)
    stage.stack.callback(crew.close)
    rates: list[dict[str, Any]] = []
    times: list[dict[str, Any]] = []
    for case, size in SIZES.items():
        rates += [row | {"x": size} for row in _rate(stage, crew, made, case, size)]
        times += [row | {"x": size} for row in _latency(stage, crew, made, case, size)]
    more = ("to_floor", "to_best_peer", "goal")
    return [
        Table(
            NAME,
            "put and get between two processes: messages per second",
            ("ops_per_s", *more),
            rates,
            "Both sides are in it, and whatever has piled up between them.",
        ),
        Table(
            NAME,
            "From put to the return of get in another process, microseconds",
            ("p50", "p99", *more),
            times,
            "The consumer waits when the message is put.",
        ),
    ]


def _rate(
    stage: Stage, crew: Crew, made: dict[Contestant, Any], case: str, size: int
) -> list[dict[str, Any]]:
    def once(one: Contestant, series: Series) -> int:
        orders = (one.name, size, stage.sizes.window)
        start, (count, end) = crew.run([(produce, orders), (consume, (one.name, size))])
        series.rounds.append(count / (end - start))
        return int(count)

    what = f"{NAME}: {case}, rate"
    found = stage.interleave(what, list(made), stage.sizes.contention_rounds, once)
    rows = compared(NAME, case, found, None, more_is_better=True)
    ours = next(series for series in found if series.kind == OURS)
    to = {series.name: ratio(ours, series) for series in found}
    for row in rows:
        row["ops_per_s"] = row["figure"]
        row["ours_to"] = to[row["contestant"]]
        if row["kind"] == OURS and size == 100:
            present = {name: goal for name, goal in GOALS.items() if name in to}
            row["goal"] = ", ".join(f"{goal} x {name}" for name, goal in present.items())
            row["met"] = all(goal.met(to[name]) for name, goal in present.items())
    return rows


def _latency(
    stage: Stage, crew: Crew, made: dict[Contestant, Any], case: str, size: int
) -> list[dict[str, Any]]:
    def once(one: Contestant, series: Series) -> int:
        count = stage.sizes.handovers
        taken = crew.run([(put_one, (one.name, size, count)), (get_one, (one.name, count))])[1]
        series.samples += taken
        series.rounds.append(statistics.median(taken))
        return count

    what = f"{NAME}: {case}, time"
    found = stage.interleave(what, list(made), stage.sizes.handover_rounds, once)
    return latency_rows(NAME, case, found, LATENCY)


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
