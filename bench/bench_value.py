"""A number and an array in shared memory.

    python -m bench --only value

One sample of "locked increment" is ``with value.get_lock(): value.value += 1``; the floor
does it with two requests, of which the first brings the number and the second one writes
it. What is read and written without the lock is held against a bare GETRANGE and SETRANGE;
the array there has 1000 integers.
One sample of "a million doubles" is to create an array, read all of it and write all of it.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
from collections.abc import Callable
from typing import Any

from . import floor
from .contestants import FLOOR, LOCAL, OURS, PEER, SPAWN, Contestant, Stack
from .harness import Goal, Series, Stage, Table, latency_rows, ratio, timed
from .site import Site

NAME = "value"
INCREMENT = Goal(1.6)
# How many times slower than we they are to be.
SLOWER = {"Manager": Goal(2, True), "lithops": Goal(10, True)}
ACCESS = Goal(1.5)
WHOLE = Goal(2)
# Memory in Redis, as a multiple of the raw bytes.
MEMORY = Goal(2.2)
MILLION = 1_000_000


def _ours(site: Site, stack: Stack) -> Any:
    from lithops_mp import Value

    return Value("i", 0)


def _lithops(site: Site, stack: Stack) -> Any:
    from lithops.multiprocessing import Value

    return Value("i", 0)


def _manager(site: Site, stack: Stack) -> Any:
    return stack.manager.Value("i", 0), stack.manager.Lock()


VALUES = (
    Contestant("floor", FLOOR, lambda site, stack: floor.Value(site.wire, site.name())),
    Contestant("lithops_mp", OURS, _ours),
    Contestant("multiprocessing", LOCAL, lambda site, stack: SPAWN.Value("i", 0)),
    Contestant("Manager", PEER, _manager),
    Contestant("lithops", PEER, _lithops, needs="lithops"),
)


def _increment(value: Any) -> Callable[[], None]:
    if isinstance(value, floor.Value):
        return value.increment
    value, lock = value if isinstance(value, tuple) else (value, value.get_lock())

    def increment() -> None:
        with lock:
            value.value += 1

    return increment


def _arrays(site: Site, stack: Stack) -> dict[str, Any]:
    """An array of everyone who has a value."""
    import lithops_mp

    found = {
        "lithops_mp": lithops_mp.Array("i", 1000),
        "multiprocessing": SPAWN.Array("i", 1000),
        "Manager": stack.manager.Array("i", [0] * 1000),
    }
    with contextlib.suppress(Exception):  # it is left out, and named, with its value
        import lithops.multiprocessing

        found["lithops"] = lithops.multiprocessing.Array("i", 1000)
    return found


def _access(stage: Stage, made: dict[Contestant, Any]) -> dict[str, dict[Contestant, Any]]:
    """What is timed without taking the lock first: case -> calls."""
    arrays = _arrays(stage.site, stage.stack)
    cases: dict[str, dict[Contestant, Any]] = {
        case: {} for case in ("Value.value", "Value.value =", "Array[i]", "Array[i] =", "Array[:]")
    }
    for one, value in made.items():
        if isinstance(value, floor.Value):
            whole = floor.Array(stage.site.wire, stage.site.name(), 500)
            stage.stack.callback(whole.drop)
            calls = (value.get, functools.partial(value.set, 7)) * 2 + (whole.read,)
        elif one.name in arrays:
            value, array = value[0] if isinstance(value, tuple) else value, arrays[one.name]
            calls = (
                functools.partial(getattr, value, "value"),
                functools.partial(setattr, value, "value", 7),
                functools.partial(array.__getitem__, 500),
                functools.partial(array.__setitem__, 500, 7),
                functools.partial(array.__getitem__, slice(None)),
            )
        for case, call in zip(cases, calls, strict=True):
            cases[case][one] = call
    return cases


def _whole(site: Site) -> dict[Contestant, Callable[[], object]]:
    """Create, read and write a million doubles."""
    from lithops_mp import Array

    values = [1.5] * MILLION

    def least() -> None:
        array = floor.Array(site.wire, site.name(), MILLION)
        array.read()
        array.write(values)
        array.drop()

    def ours() -> None:
        array = Array("d", MILLION)
        array[:]
        array[:] = values

    return dict(zip(VALUES[:2], (least, ours), strict=True))


def run(stage: Stage) -> Table:
    """Measure."""
    made = stage.make(VALUES)
    calls = {one: _increment(value) for one, value in made.items()}
    rows = _case(stage, "locked increment", calls, INCREMENT)
    for case, pair in _access(stage, made).items():
        rows += _case(stage, case, pair, ACCESS)
    rows += _case(stage, "a million doubles", _whole(stage.site), WHOLE, few=True)
    rows += _memory(stage)
    columns = ("p50", "p99", "to_floor", "to_best_peer", "goal")
    return Table(NAME, "Shared memory, microseconds", columns, rows)


def _case(
    stage: Stage,
    case: str,
    calls: dict[Contestant, Callable[[], object]],
    goal: Goal,
    *,
    few: bool = False,
) -> list[dict[str, Any]]:
    def once(one: Contestant, series: Series) -> None:
        taken = timed(calls[one], 1 if few else stage.sizes.calls)
        series.samples += taken
        series.rounds.append(statistics.median(taken))

    rounds = stage.sizes.contention_rounds if few else stage.sizes.rounds
    found = stage.interleave(f"{NAME}: {case}", list(calls), rounds, once)
    ours = next(series for series in found if series.kind == OURS)
    rows = latency_rows(NAME, case, found, goal)
    for row, series in zip(rows, found, strict=True):
        if goal is INCREMENT and (slower := SLOWER.get(series.name)):
            row["ours_to"] = ratio(series, ours)
            row |= {"goal": f"{slower} x lithops_mp", "met": slower.met(row["ours_to"])}
    return rows


def _memory(stage: Stage) -> list[dict[str, Any]]:
    """What the array takes in Redis, in bytes, against what its numbers take."""
    from lithops_mp import Array
    from lithops_mp._store import keys

    array = Array("d", MILLION)
    array[:] = [1.5] * MILLION
    ident = array.get_obj()._b_access_.region.ref.ident
    used = float(stage.site.redis.memory_usage(keys.items(ident)))
    rows = []
    for name, kind, size in (("floor", FLOOR, 8.0 * MILLION), ("lithops_mp", OURS, used)):
        times = size / (8.0 * MILLION)
        row: dict[str, Any] = {
            "subject": NAME,
            "case": "its bytes",
            "unit": "bytes",
            "contestant": name,
            "kind": kind,
            "figure": size,
            "p50": size,
            "p99": size,
            "to_floor": times,
            "to_best_peer": None,
            "rounds": [size],
        }
        if kind == OURS:
            row |= {"goal": str(MEMORY), "met": MEMORY.met(times)}
        rows.append(row)
    return rows


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
