"""Tasks that do nothing, on a pool of two workers that is warm; and the first task of a program.

    python -m bench --only pool

One round is a ``map`` of 1,000 tasks, each sent by itself (``chunksize`` 1); of a few where
each is an invocation, and takes a second or so. The floor there are two processes that take
tasks from one list in Redis and put results into another one, in batches of 32. "first" is a
whole program, from its beginning to its first result, and cold the rate of its first 100 tasks
from that beginning on; the floor calls a function by Lithops itself, once.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import floor
from .contestants import FLOOR, LOCAL, OURS, PEER, SPAWN, Contestant, Stack
from .harness import Goal, Series, Stage, Table, compared, latency_rows, ratio
from .site import Site

NAME = "pool"
TASKS = 1000
WORKERS = 2
# Where every task is a function of its own.
FEW = 4
# Our rate, against these; and our first result's time against Lithops' own.
GOALS = {"multiprocessing": Goal(0.5, True), "lithops": Goal(100, True)}
FIRST = Goal(1)
# The tasks of a program of which the rate is taken, its beginning included.
COLD = 100
# Lithops' second call on one executor may never end.
PATIENCE = 20.0

# Runs a map of so many tasks.
Map = Callable[[int], object]


def nothing(number: int) -> None:
    """What a task does."""


def work(site: Site, tasks: str, results: str) -> None:
    """A worker of the floor."""
    mine, theirs = floor.Queue(site.wire, tasks), floor.Queue(site.wire, results)
    while True:
        task = mine.get()
        theirs.put((task, nothing(task)) if task is not None else None)  # type: ignore[arg-type]
        if not mine._in:
            theirs.put(None)


def _floor(site: Site, stack: Stack) -> Map:
    names = site.name(), site.name()
    tasks, results = (floor.Queue(site.wire, name) for name in names)
    for _ in range(WORKERS):
        worker = SPAWN.Process(target=work, args=(site, *names), daemon=True)
        worker.start()
        stack.callback(worker.join)
        stack.callback(worker.kill)

    def run(count: int) -> None:
        for number in range(count):
            tasks.put(number)
        tasks.put(None)
        while count:
            count -= results.get() is not None

    return run


def _map(pool: Any, stack: Stack, task: Callable[[int], None] = nothing) -> Map:
    stack.callback(pool.join)
    stack.callback(pool.terminate)
    return lambda count: pool.map_async(task, range(count), 1).get(PATIENCE)


def _ours(site: Site, stack: Stack) -> Map:
    from lithops_mp import Pool

    return _map(Pool(WORKERS), stack)


def _lithops(site: Site, stack: Stack) -> Map:
    from lithops.multiprocessing import Pool, config

    local = {
        "backend": "localhost",
        "storage": "localhost",
        "log_level": None,
        "data_cleaner": False,
    }
    config.set_parameter(
        config.LITHOPS_CONFIG,
        {"config": {"lithops": local, "localhost": {"runtime": sys.executable}}},
    )
    # By value: its workers do not find this module.
    return _map(Pool(WORKERS), stack, lambda number: None)


POOLS = (
    Contestant("floor", FLOOR, _floor),
    Contestant("lithops_mp", OURS, _ours),
    Contestant("multiprocessing", LOCAL, lambda site, stack: _map(SPAWN.Pool(WORKERS), stack)),
    Contestant("lithops", PEER, _lithops, needs="lithops"),
)

# -- a program's first task --

# At its end it says to the server that it was there, as all that are measured do.
_LITHOPS = """
import os, redis, sys
from lithops import FunctionExecutor
def nothing(number): pass
executor = FunctionExecutor(
    config={"lithops": {"backend": "localhost", "storage": "localhost", "data_cleaner": False},
            "localhost": {"runtime": sys.executable}}, log_level=None)
executor.call_async(nothing, (1,)).result()
print("done", flush=True)
redis.Redis.from_url(os.environ["LITHOPS_MP_REDIS_URL"]).ping()
executor.__exit__(None, None, None)
"""
_POOL = """
from %s import Pool
def nothing(number): pass
if __name__ == "__main__":
    with Pool(2) as pool:
        pool.apply(nothing, (1,))
        print("done", flush=True)
        pool.map(nothing, range(%d), 1)
        print("all", flush=True)
"""


def _program(text: str) -> Callable[[Site, Stack], list[str]]:
    return lambda site, stack: [sys.executable, "-c", text]


FIRSTS = (
    Contestant("floor", FLOOR, _program(_LITHOPS)),
    Contestant("lithops_mp", OURS, _program(_POOL % ("lithops_mp", COLD - 1))),
    Contestant("multiprocessing", LOCAL, _program(_POOL % ("multiprocessing", COLD - 1))),
)


def first(command: list[str]) -> tuple[float, float | None]:
    """Microseconds from a program's beginning to its first result; then its rate, if it has one.

    That is the tasks per second of all, its beginning included.
    """
    root = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    ) as program:
        assert program.stdout
        line = program.stdout.readline()
        taken = time.perf_counter() - start
        rest = program.stdout.readline()
        rate = COLD / (time.perf_counter() - start) if rest == b"all\n" else None
        program.wait(PATIENCE)
    if line != b"done\n":
        raise RuntimeError(f"the program failed: {command}")
    return taken * 1e6, rate


def run(stage: Stage) -> list[Table]:
    """Measure."""
    made = stage.make(POOLS)
    few = {one for one in made if one.name == "lithops"}

    def once(one: Contestant, series: Series) -> int:
        count = FEW if one in few else TASKS
        start = time.perf_counter()
        made[one](count)
        series.rounds.append(count / (time.perf_counter() - start))
        return count

    found = stage.interleave(NAME, list(made), stage.sizes.contention_rounds, once)
    rows = compared(NAME, f"{TASKS:,} tasks", found, None, more_is_better=True)
    ours = next(series for series in found if series.kind == OURS)
    to = {series.name: ratio(ours, series) for series in found}
    for row in rows:
        row["ops_per_s"] = row["figure"]
        row["ours_to"] = to[row["contestant"]]
        if row["kind"] == OURS:
            present = {name: goal for name, goal in GOALS.items() if name in to}
            row["goal"] = ", ".join(f"{goal} x {name}" for name, goal in present.items())
            row["met"] = all(goal.met(to[name]) for name, goal in present.items())

    programs = stage.make(FIRSTS)
    cold: dict[str, list[float]] = {}

    def begin(one: Contestant, series: Series) -> int:
        taken, rate = first(programs[one])
        series.rounds.append(taken)
        series.samples.append(taken)
        if rate:
            cold.setdefault(one.name, []).append(rate)
        return 1 if rate is None else COLD

    rounds = stage.sizes.few
    found = stage.interleave(f"{NAME}: first", list(programs), rounds, begin, warm_up=False)
    firsts = latency_rows(NAME, "first of a program", found, FIRST)
    for row in firsts:
        if rates := cold.get(row["contestant"]):
            row["cold"] = statistics.median(rates)
    columns = ("ops_per_s", "requests", "to_floor", "ours_to", "to_best_peer", "goal")
    title = "Tasks that do nothing, on two workers: tasks per second"
    times = ("p50", "p99", "cold", "requests", "to_floor", "goal")
    return [
        Table(NAME, title, columns, rows),
        Table(NAME, "The first task of a program, microseconds; and its first 100", times, firsts),
    ]


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
