"""From ``release`` in one process to the return of ``acquire`` in another that waits.

    python -m bench --only handover

The holder notes the time just before it releases, the waiter when it has the
lock; on one machine CLOCK_MONOTONIC is the same for both. The holder first
sleeps for a moment, so that the waiter is in line. Whoever was not is not counted.

With a condition it is from just before ``notify``, and the release that follows, to the
return of ``wait``. There the waiter is in its place as soon as the notifier has the lock.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from .contestants import Contestant
from .crew import Post
from .harness import Goal, Series, Stage, Table, few, latency_rows
from .site import Site

NAME = "handover"
GOAL = Goal(1.3)
NOTIFY = Goal(1.5)
TRIES = 5


def pause(site: Site) -> float:
    """Long enough to be in line on a busy machine: a slow peer's acquire takes 1 ms."""
    return 0.004 + 10 * site.latency


def in_line(site: Site) -> float:
    """Who asked that long ago is in line: six round trips are the most that one of us takes."""
    return 0.002 + 6 * site.latency


def hold(post: Post, name: str, times: int) -> None:
    """Take the lock, call the waiter, let go a little later."""
    lock = post.object(name)
    waiter, holder = post.turns[1], post.turns[0]
    rest = pause(post.site)
    for _ in range(times):
        lock.acquire()
        waiter.release()
        time.sleep(rest)
        post.clock.value = time.monotonic_ns()
        lock.release()
        holder.acquire()


def wait(post: Post, name: str, times: int) -> list[float]:
    """Wait for the lock; the microseconds it was on its way."""
    lock = post.object(name)
    waiter, holder = post.turns[1], post.turns[0]
    needed = in_line(post.site) * 1e9
    taken = []
    for _ in range(times):
        waiter.acquire()
        asked = time.monotonic_ns()
        lock.acquire()
        got = time.monotonic_ns()
        released = post.clock.value
        lock.release()
        holder.release()
        if released - asked > needed:
            taken.append((got - released) / 1000)
    return taken


def notify(post: Post, name: str, times: int) -> None:
    """Notify who waits for the condition, which is so when the lock is free."""
    condition = post.object(name, "Condition")
    waiter, holder = post.turns[1], post.turns[0]
    for _ in range(times):
        holder.acquire()
        with condition:
            time.sleep(pause(post.site) / 2)
            post.clock.value = time.monotonic_ns()
            condition.notify()
        waiter.release()


def wait_for_word(post: Post, name: str, times: int) -> list[float]:
    """Wait for the condition; the microseconds that the word was on its way."""
    condition = post.object(name, "Condition")
    waiter, holder = post.turns[1], post.turns[0]
    taken = []
    for _ in range(times):
        with condition:
            holder.release()
            condition.wait()
            taken.append((time.monotonic_ns() - post.clock.value) / 1000)
        waiter.acquire()
    return taken


def run(stage: Stage) -> Table:
    """Measure."""
    rows = _case(stage, "Lock", list(stage.locks), (hold, wait), GOAL)
    rows += _case(stage, "Condition", stage.crewed("Condition"), (notify, wait_for_word), NOTIFY)
    columns = ("p50", "p99", "to_floor", "to_best_peer", "goal")
    about = "The round trips are those of both processes."
    title = "Hand-over to a waiting process, microseconds"
    return Table(NAME, title, columns, rows, about)


def _case(
    stage: Stage,
    case: str,
    contestants: Sequence[Contestant],
    jobs: tuple[Callable[..., Any], Callable[..., Any]],
    goal: Goal,
) -> list[dict[str, Any]]:
    paces: dict[str, float] = {}

    def once(one: Contestant, series: Series) -> int:
        pace = paces.get(one.name, stage.sizes.patience)
        times = few(pace, stage.sizes.handovers, stage.sizes.patience)
        taken: list[float] = []
        args, tries = (one.name, times), 0
        while not taken and tries < TRIES:
            taken += stage.crew.run([(job, args) for job in jobs])[1]
            tries += 1
        if not taken:
            raise RuntimeError(f"in {TRIES} tries the waiter never was in line in time")
        series.samples += taken
        series.rounds.append(statistics.median(taken))
        series.note(late=tries * times - len(taken))
        paces[one.name] = series.rounds[-1] / 1e6
        return tries * times

    found = stage.interleave(f"{NAME}: {case}", contestants, stage.sizes.handover_rounds, once)
    return latency_rows(NAME, case, found, goal)


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
