"""A thousand waiters in one lock's line: a hand-over must not cost more for it.

    python -m bench --only waiters

Somebody holds the lock until all waiters stand in line (threads, each with a connection of
its own, spread over the worker processes). Then each takes the lock and lets it go, one
after the other. A sample is the time between two of them; the ratios are of the time from the
first release to the last acquire, divided by the number of waiters. Who polls stands in no
line: those come as they come.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

from .contestants import OURS, Contestant
from .crew import Post
from .harness import Goal, Series, Stage, Table, latency_rows

NAME = "waiters"
# The longest line against the shortest, ours.
GROWTH = Goal(1.3)
# It looks by chance, every 0.1 s or so: a thousand would be at it for minutes.
TOO_SLOW = "pottery"
# Until the server has heard nothing for that long, somebody may be on the way to the line;
# and who polls is never quiet.
QUIET, NOISY = 0.05, 1.0


def stand(post: Post, name: str, count: int, worker: int) -> list[float]:
    """Take the lock and let it go in so many threads; when each of them had it."""
    # Made before anybody waits: that is not what is measured.
    locks = [post.another(name) for _ in range(count)]
    got: list[float] = []
    failures: list[Exception] = []

    def one(lock: Any) -> None:
        post.turns[worker].release()
        try:
            lock.acquire()
            got.append(time.monotonic())
            lock.release()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return got


def run(stage: Stage) -> Table:
    """Measure."""
    locks = {
        one: one.open(stage.site, shared)
        for one, shared in stage.locks.items()
        if one.name != TOO_SLOW
    }
    cases = []
    for waiters in stage.sizes.waiters:

        def once(one: Contestant, series: Series, waiters: int = waiters) -> int:
            taken = _line(stage, one, locks[one], waiters)
            series.rounds.append(taken[-1] / waiters)
            series.samples += [b - a for a, b in itertools.pairwise(taken)]
            return waiters

        case = f"{waiters:,} waiters"
        # A long line is warm from the short one, and has samples enough.
        first = not cases
        rounds = stage.sizes.contention_rounds if first else stage.sizes.few
        found = stage.interleave(f"{NAME}: {case}", list(locks), rounds, once, warm_up=first)
        rows = latency_rows(NAME, case, found)
        for row in rows:
            row["x"] = waiters
        cases.append((found, rows))
    _compare_lines(cases)
    columns = ("p50", "p99", "to_floor", "to_best_peer", "growth", "goal")
    title = "From one waiter in line to the next, microseconds"
    about = (
        "The line is as long as the label says; growth is against the shortest line. What a "
        "hand-over costs must not depend on how many others wait."
    )
    return Table(NAME, title, columns, [row for _, rows in cases for row in rows], about)


def _line(stage: Stage, one: Contestant, lock: Any, waiters: int) -> list[float]:
    """Microseconds from the first release to each acquire, and 0.0 for the release."""
    size = stage.crew.size
    counts = [len(range(worker, waiters, size)) for worker in range(min(size, waiters))]
    released = []

    def let_go() -> None:
        stage.crew.gather(counts)
        _settle(stage)
        released.append(time.monotonic())
        lock.release()

    lock.acquire()
    jobs = [(stand, (one.name, count, worker)) for worker, count in enumerate(counts)]
    got = sorted(itertools.chain(*stage.crew.run(jobs, let_go)))
    return [0.0, *((moment - released[0]) * 1e6 for moment in got)]


def _settle(stage: Stage) -> None:
    """Wait until nobody says anything to the server any more."""
    assert stage.meter is not None
    end, before = time.monotonic() + NOISY, -1
    while before != (now := stage.meter.requests()) and time.monotonic() < end:
        before = now
        time.sleep(QUIET)


def _compare_lines(cases: list[tuple[list[Series], list[dict[str, Any]]]]) -> None:
    """How much more a hand-over costs than in the shortest line."""
    shortest = {row["contestant"]: row["figure"] for row in cases[0][1]}
    for _, rows in cases[1:]:
        for row in rows:
            if row["contestant"] not in shortest:
                continue
            row["growth"] = row["figure"] / shortest[row["contestant"]]
            if row["kind"] == OURS:
                row |= {"goal": f"growth {GROWTH}", "met": GROWTH.met(row["growth"])}


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
