"""There and back through a pipe between two processes, and how many messages a second one way.

    python -m bench --only pipe

For the time one process sends a message and waits until it comes back from the other. For the
rate it sends for a fixed time, while the other one receives.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from typing import Any

from . import floor
from .contestants import FLOOR, LOCAL, OURS, PEER, SPAWN, Contestant, Stack
from .crew import Crew, Post
from .harness import Goal, Series, Stage, Table, compared, latency_rows, ratio
from .site import Site

NAME = "pipe"
SIZES = {"100 B": (100, Goal(1.5)), "1 KB": (1000, Goal(1.5)), "1 MB": (1_000_000, Goal(1.3))}
# Bytes in a turn: what a pipe without a bound holds is all in the server's memory.
MOST = 64_000_000
NANOMSG = "lithops_mp, nanomsg"


def _floor(site: Site, name: str) -> tuple[floor.End, floor.End]:
    return floor.End(site.wire, name, 0), floor.End(site.wire, name, 1)


def _ours(site: Site, stack: Stack) -> Any:
    from lithops_mp import Pipe

    return Pipe()


def _nanomsg(site: Site, stack: Stack) -> Any:
    from lithops_mp import Pipe, config

    before = config.get_parameter(config.PIPE_CONNECTION_TYPE)
    config.set_parameter(config.PIPE_CONNECTION_TYPE, "nanomsg")
    try:
        return Pipe()
    finally:
        config.set_parameter(config.PIPE_CONNECTION_TYPE, before)


def _lithops(site: Site, stack: Stack) -> Any:
    from lithops.multiprocessing import Pipe

    return Pipe()


PIPES = (
    Contestant("floor", FLOOR, lambda site, stack: site.name(), _floor),
    Contestant("lithops_mp", OURS, _ours),
    Contestant(NANOMSG, PEER, _nanomsg, needs="pynng"),
    Contestant("multiprocessing", LOCAL, lambda site, stack: SPAWN.Pipe()),
    Contestant("lithops", PEER, _lithops, needs="lithops"),
)


def serve(post: Post, name: str, size: int, times: int) -> list[float]:
    """Send and wait; the microseconds each took."""
    connection, message = post.object(name)[0], b"x" * size
    taken = []
    for _ in range(times):
        start = time.perf_counter_ns()
        connection.send(message)
        back = connection.recv()
        taken.append((time.perf_counter_ns() - start) / 1000)
        assert len(back) == size
    return taken


def give_back(post: Post, name: str, times: int) -> None:
    """Send what comes."""
    connection = post.object(name)[1]
    for _ in range(times):
        connection.send(connection.recv())


def pour(post: Post, name: str, size: int, seconds: float) -> float:
    """Send messages, and an empty one at the end; when that began."""
    connection, message = post.object(name)[0], b"x" * size
    some = max(1, min(10, 100_000 // size))
    left = MOST // size
    start = now = time.monotonic()
    while now < start + seconds and left > 0:
        for _ in range(some):
            connection.send(message)
        left -= some
        now = time.monotonic()
    connection.send(b"")
    return start


def drain(post: Post, name: str) -> tuple[int, float]:
    """Receive them; how many, and when the last one came."""
    recv, count = post.object(name)[1].recv, 0
    while recv():
        count += 1
    return count, time.monotonic()


def run(stage: Stage) -> list[Table]:
    """Measure."""
    made = stage.make(PIPES)
    crew = Crew(stage.site, 2, made)
    stage.stack.callback(crew.close)
    rows, rates = [], []
    for case, (size, goal) in SIZES.items():
        times = max(2, stage.sizes.calls // (10 if size > 100_000 else 1))

        def once(one: Contestant, series: Series, size: int = size, times: int = times) -> None:
            jobs: list[Any] = [(serve, (one.name, size, times)), (give_back, (one.name, times))]
            taken = crew.run(jobs)[0]
            series.samples += taken
            series.rounds.append(statistics.median(taken))

        def stream(one: Contestant, series: Series, size: int = size) -> int:
            orders = (one.name, size, stage.sizes.window)
            start, (count, end) = crew.run([(pour, orders), (drain, (one.name,))])
            series.rounds.append(count / (end - start))
            return int(count)

        rounds = stage.sizes.handover_rounds
        found = stage.interleave(f"{NAME}: {case}, time", list(made), rounds, once)
        some = latency_rows(NAME, case, found, goal)
        _compare_transports(case, some, found)
        rows += [row | {"x": size} for row in some]
        rounds = stage.sizes.contention_rounds
        found = stage.interleave(f"{NAME}: {case}, rate", list(made), rounds, stream)
        some = compared(NAME, case, found, None, more_is_better=True)
        rates += [row | {"x": size, "ops_per_s": row["figure"]} for row in some]
    more = ("to_floor", "to_best_peer")
    return [
        Table(
            NAME,
            "There and back through a pipe, microseconds",
            ("p50", "p99", *more, "goal"),
            rows,
            "The round trips are those of both processes.",
        ),
        Table(
            NAME,
            "One way through a pipe: messages per second",
            ("ops_per_s", *more),
            rates,
            "A send of ours has arrived at the server when it returns; CPython's is in a buffer.",
        ),
    ]


def _compare_transports(case: str, rows: list[dict[str, Any]], found: list[Series]) -> None:
    """nanomsg is to be faster than lists at 1 KB."""
    series = {one.name: one for one in found}
    if case != "1 KB" or importlib.util.find_spec("pynng") is None or NANOMSG not in series:
        return
    quicker = Goal(1)
    row = rows[found.index(series[NANOMSG])]
    row["to_lists"] = ratio(series[NANOMSG], series["lithops_mp"])
    row |= {"goal": f"{quicker} x lists", "met": quicker.met(row["to_lists"])}


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
