"""A dict of a manager: reading and setting a value.

    python -m bench --only dict

One sample is one ``d[key]``, or one ``d[key] = value``. The floor does it by hand: HGET or
HSET, and pickle.
"""

from __future__ import annotations

import pickle
import statistics
from collections.abc import Callable
from typing import Any

from . import floor
from .contestants import FLOOR, OURS, PEER, Contestant, Stack, manager
from .harness import Goal, Series, Stage, Table, latency_rows, ratio, timed
from .site import Site

NAME = "dict"
KEY = "key"
VALUE = ("a value", 7, [1.5, 2.5])
TO_FLOOR = Goal(1.5)
# How many times slower than we they are to be.
SLOWER = {"Manager": Goal(1, True), "lithops": Goal(4, True)}


class Hash:
    """A dict by hand."""

    def __init__(self, wire: floor.Wire, name: str) -> None:
        self._wire = wire
        self._get = floor.packed("HGET", name, KEY)
        self._set = floor.packed("HSET", name, KEY, "@").rpartition(b"$1\r\n")[0]

    def __getitem__(self, key: str) -> Any:
        return pickle.loads(self._wire.value(self._get))

    def __setitem__(self, key: str, value: Any) -> None:
        data = pickle.dumps(value, 5)
        self._wire.ask(b"%b$%d\r\n%b\r\n" % (self._set, len(data), data))


def _ours(site: Site, stack: Stack) -> Any:
    from lithops_mp import Manager

    return stack.enter_context(Manager()).dict()


def _lithops(site: Site, stack: Stack) -> Any:
    from lithops.multiprocessing import Manager

    found = Manager().dict()
    # It leaves them where they are.
    stack.callback(site.redis.delete, found._oid, f"ref-{found._oid}")
    return found


DICTS = (
    Contestant("floor", FLOOR, lambda site, stack: Hash(site.wire, site.name())),
    Contestant("lithops_mp", OURS, _ours),
    Contestant("Manager", PEER, lambda site, stack: stack.enter_context(manager()).dict()),
    Contestant("lithops", PEER, _lithops, needs="lithops"),
)


def run(stage: Stage) -> Table:
    """Measure."""
    made = stage.make(DICTS)
    for shared in made.values():
        shared[KEY] = VALUE
    rows = case(stage, NAME, "d[key]", {one: _read(shared) for one, shared in made.items()})
    writes = {one: _write(shared) for one, shared in made.items()}
    rows += case(stage, NAME, "d[key] = value", writes)
    columns = ("p50", "p99", "to_floor", "ours_to", "goal")
    return Table(NAME, "A manager's dict, microseconds", columns, rows)


def _read(shared: Any) -> Callable[[], object]:
    return lambda: shared[KEY]


def _write(shared: Any) -> Callable[[], object]:
    def write() -> None:
        shared[KEY] = VALUE

    return write


def case(
    stage: Stage, subject: str, name: str, calls: dict[Contestant, Callable[[], object]]
) -> list[dict[str, Any]]:
    """The rows of one method."""

    def once(one: Contestant, series: Series) -> None:
        taken = timed(calls[one], stage.sizes.calls)
        series.samples += taken
        series.rounds.append(statistics.median(taken))

    found = stage.interleave(f"{subject}: {name}", list(calls), stage.sizes.rounds, once)
    ours = next(series for series in found if series.kind == OURS)
    rows = latency_rows(subject, name, found, TO_FLOOR)
    for row, series in zip(rows, found, strict=True):
        if slower := SLOWER.get(series.name):
            row["ours_to"] = ratio(series, ours)
            row |= {"goal": str(slower), "met": slower.met(row["ours_to"])}
    return rows


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
