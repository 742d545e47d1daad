"""Many processes, one lock: how much gets done, how evenly, and is it right?

    python -m bench --only contention

All begin and stop at the same times. What they do while holding the lock is to
add one to a number in shared memory, by reading and writing it: the final
number is right only if the lock excludes.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from .contestants import Contestant
from .crew import Post
from .harness import Goal, Series, Stage, Table, compared, jain, percentile

NAME = "contention"
GOAL = Goal(0.8, at_least=True)
FAIR = 0.99

# For the workers to read their orders before the start.
HEAD_START = 0.03


def contend(post: Post, name: str, start: float, stop: float) -> tuple[int, float, list[float]]:
    """Increment until ``stop``; how often, when done, and the waits in microseconds."""
    lock, counter = post.object(name), post.counter
    acquire, release, clock = lock.acquire, lock.release, time.monotonic
    waits: list[float] = []
    time.sleep(max(0.0, start - clock()))
    now = clock()
    while now < stop:
        acquire()
        waits.append((clock() - now) * 1e6)
        counter.value += 1
        release()
        now = clock()
    return len(waits), now, waits


def run(stage: Stage) -> Table:
    """Measure."""
    rows: list[dict[str, Any]] = []
    for processes in stage.sizes.processes:
        rows += _case(stage, processes)
    columns = ("ops_per_s", "wait_p50", "wait_p99", "jain", "count", "to_floor", "to_best_peer")
    title = "Contended Lock: operations per second, waits in microseconds"
    return Table(NAME, title, (*columns, "goal"), rows)


def _case(stage: Stage, processes: int) -> list[dict[str, Any]]:
    def once(one: Contestant, series: Series) -> int:
        before = stage.crew.counter.value
        start = time.monotonic() + HEAD_START
        job = (contend, (one.name, start, start + stage.sizes.window))
        results = stage.crew.run([job] * processes)
        counts = [count for count, _, _ in results]
        series.rounds.append(sum(counts) / (max(end for _, end, _ in results) - start))
        series.samples += [wait for _, _, waits in results for wait in waits]
        right = stage.crew.counter.value - before == sum(counts)
        series.note(jain=jain(counts), right=right)
        return sum(counts)

    rounds = stage.sizes.contention_rounds
    case = "alone" if processes == 1 else f"{processes} processes"
    what = f"{NAME}: {case}"
    warm_up = processes == stage.sizes.processes[0]
    found = stage.interleave(what, list(stage.locks), rounds, once, warm_up=warm_up)
    rows = compared(NAME, case, found, GOAL, more_is_better=True)
    for row, series in zip(rows, found, strict=True):
        row["x"] = processes
        row["ops_per_s"] = row["figure"]
        row["wait_p50"] = percentile(series.samples, 50)
        row["wait_p99"] = percentile(series.samples, 99)
        row["jain"] = statistics.median(series.notes["jain"])
        row["count"] = "right" if all(series.notes["right"]) else "WRONG"
        if "goal" in row:
            row["goal"] += f", Jain > {FAIR}, right"
            row["met"] = row["met"] and row["jain"] > FAIR and row["count"] == "right"
    return rows


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
