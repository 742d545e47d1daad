"""Starting a process that does nothing, and waiting for its end.

    python -m bench --only start

"one after the other" is ``start()`` and ``join()`` when the program has done it before, so that
a function of ours is idle; "at once" starts several and then joins them all, per process. The
floor there are workers that wait on a list in Redis, fork for each job, and say when the child
has ended. "first of a program" is a whole program from its beginning, imports and all, to the
return of ``join()``; the floor calls a Lithops function that tells Redis it has run.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pickle
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import floor
from .contestants import FLOOR, LOCAL, OURS, PEER, SPAWN, Contestant, Stack
from .first import nothing
from .harness import Goal, Series, Stage, Table, few, latency_rows
from .site import Site

NAME = "start"
GOAL = Goal(5)
FIRST = Goal(1.3)
# Whoever is not ready by then never will be.
PATIENCE = 15.0
PROGRAM = Path(__file__).with_name("first.py")

# Makes a process that is not started yet.
Maker = Callable[[], Any]


class Job:
    """A process of the floor: a job for whichever worker is free."""

    def __init__(self, wire: floor.Wire, name: str) -> None:
        me = f"{name}:{os.urandom(8).hex()}"
        self._wire = wire
        self._push = floor.packed("RPUSH", name, pickle.dumps((me, nothing)))
        self._wait = floor.packed("BLPOP", me, 0)

    def start(self) -> None:
        """Hand it out."""
        self._wire.ask(self._push)

    def join(self, patience: float) -> None:
        """Wait until a worker says that its child has ended."""
        self._wire.block(self._wait)


def work(site: Site, name: str) -> None:
    """One of the floor's workers: wait for a job, fork, run it, wait for the child, tell."""
    wire = site.wire
    wait = floor.packed("BLPOP", name, 0)
    while True:
        me, function = pickle.loads(wire.take(wait))
        child = os.fork()
        if not child:
            function()
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        wire.ask(floor.packed("RPUSH", me, status))


def _floor(workers: int, site: Site, stack: Stack) -> Maker:
    name = site.name()
    for _ in range(workers):
        worker = SPAWN.Process(target=work, args=(site, name), daemon=True)
        worker.start()
        stack.callback(worker.join)
        stack.callback(worker.terminate)
    return lambda: Job(site.wire, name)


def _ours(site: Site, stack: Stack) -> Maker:
    from lithops_mp import Process

    return lambda: Process(target=nothing)


def _lithops(site: Site, stack: Stack) -> Maker:
    from lithops.multiprocessing import Process

    return lambda: Process(target=nothing)


def run(stage: Stage) -> Table:
    """Measure."""
    count = stage.sizes.starts
    makers = stage.make(
        (
            Contestant("floor", FLOOR, functools.partial(_floor, count)),
            Contestant("lithops_mp", OURS, _ours),
            Contestant("multiprocessing", LOCAL, lambda *_: lambda: SPAWN.Process(target=nothing)),
            Contestant("lithops", PEER, _lithops, needs="lithops"),
        )
    )
    rows = _case(stage, "one after the other", makers, 1, GOAL)
    rows += _case(stage, f"{count} at once", makers, count, GOAL)
    rows += _first(stage)
    columns = ("p50", "p99", "to_floor", "to_best_peer", "goal")
    return Table(NAME, "Start and join of a process, microseconds", columns, rows)


def _case(
    stage: Stage, case: str, makers: dict[Contestant, Maker], count: int, goal: Goal
) -> list[dict[str, Any]]:
    paces: dict[str, float] = {}

    def once(one: Contestant, series: Series) -> int:
        pace = paces.get(one.name, stage.sizes.patience) * count
        times = few(pace, stage.sizes.handovers, stage.sizes.patience)
        # Lithops prints an empty line for each.
        with contextlib.redirect_stdout(io.StringIO()):
            taken = [_start(makers[one], count) for _ in range(times)]
        series.samples += taken
        series.rounds.append(statistics.median(taken))
        paces[one.name] = series.rounds[-1] / 1e6
        return times * count

    found = stage.interleave(f"{NAME}: {case}", list(makers), stage.sizes.contention_rounds, once)
    return latency_rows(NAME, case, found, goal)


def _start(maker: Maker, count: int) -> float:
    """Microseconds per process, to start so many and wait for them."""
    processes = [maker() for _ in range(count)]
    start = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    taken = time.perf_counter() - start
    if taken > PATIENCE:
        raise TimeoutError(f"hung: no end after {PATIENCE:.0f} s")
    return taken / count * 1e6


def _first(stage: Stage) -> list[dict[str, Any]]:
    """Whole programs."""

    def once(one: Contestant, series: Series) -> int:
        words = [sys.executable, str(PROGRAM), one.name, stage.site.url]
        start = time.perf_counter()
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            limit = threading.Timer(PATIENCE, program.kill)
            limit.start()
            joined = any(line == "joined\n" for line in program.stdout)
            taken = (time.perf_counter() - start) * 1e6
            program.communicate()
            limit.cancel()
        if not joined:
            raise RuntimeError(f"{' '.join(words[1:3])} failed or hung; what it said is above")
        series.samples.append(taken)
        series.rounds.append(taken)
        return 1

    def make(site: Site, stack: Stack) -> None:
        """Nothing: each program makes its own."""

    contestants = (
        Contestant("floor", FLOOR, make, needs="lithops"),
        Contestant("lithops_mp", OURS, make),
        Contestant("multiprocessing", LOCAL, make),
        Contestant("multiprocessing, fork", LOCAL, make),
        Contestant("lithops", PEER, make, needs="lithops"),
    )
    case = "first of a program"
    rounds = stage.sizes.few
    found = stage.interleave(f"{NAME}: {case}", contestants, rounds, once, warm_up=False)
    return latency_rows(NAME, case, found, FIRST)


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
