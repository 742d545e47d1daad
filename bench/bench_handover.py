"""From ``release`` in one process to the return of ``acquire`` in another that waits.

    python -m bench --only handover

The holder notes the time just before it releases, the waiter when it has the
lock; on one machine CLOCK_MONOTONIC is the same for both. The holder first
sleeps for PAUSE, so that the waiter is in line. Whoever was not is not counted.
"""

from __future__ import annotations

import statistics
import time

from .contestants import Contestant
from .crew import Post
from .harness import Goal, Series, Stage, Table, latency_rows

NAME = "handover"
GOAL = Goal(1.3)

# Long enough to be in line on a busy machine: a slow peer's acquire takes 1 ms.
PAUSE = 0.004
IN_LINE = 0.002


def hold(post: Post, name: str, times: int) -> None:
    """Take the lock, call the waiter, let go a little later."""
    lock = post.object(name)
    waiter, holder = post.turns[1], post.turns[0]
    for _ in range(times):
        lock.acquire()
        waiter.release()
        time.sleep(PAUSE)
        post.clock.value = time.monotonic_ns()
        lock.release()
        holder.acquire()


def wait(post: Post, name: str, times: int) -> list[float]:
    """Wait for the lock; the microseconds it was on its way."""
    lock = post.object(name)
    waiter, holder = post.turns[1], post.turns[0]
    taken = []
    for _ in range(times):
        waiter.acquire()
        asked = time.monotonic_ns()
        lock.acquire()
        got = time.monotonic_ns()
        released = post.clock.value
        lock.release()
        holder.release()
        if released - asked > IN_LINE * 1e9:
            taken.append((got - released) / 1000)
    return taken


def run(stage: Stage) -> Table:
    """Measure."""
    times = stage.sizes.handovers

    def once(one: Contestant, series: Series) -> None:
        args = (one.name, times)
        taken: list[float] = []
        for _ in range(5):
            taken += stage.crew.run([(hold, args), (wait, args)])[1]
            if taken:
                break
        series.samples += taken
        series.rounds.append(statistics.median(taken))
        series.note(late=times - len(taken))

    found = stage.interleave(NAME, list(stage.locks), stage.sizes.handover_rounds, once)
    rows = latency_rows(NAME, "Lock", found, GOAL)
    columns = ("p50", "p99", "to_floor", "to_best_peer", "goal")
    return Table(NAME, "Hand-over to a waiting process, microseconds", columns, rows)


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
