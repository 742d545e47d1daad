"""A list of a manager: reading, setting and adding an element.

    python -m bench --only list

One sample is one ``l[0]``, ``l[0] = value`` or ``l.append(value)``. The floor does it by hand:
LINDEX, LSET or RPUSH, and pickle.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from . import floor
from .bench_dict import VALUE, case
from .contestants import FLOOR, OURS, PEER, Contestant, Stack, manager
from .harness import Stage, Table
from .site import Site

NAME = "list"


class Items:
    """A list by hand."""

    def __init__(self, wire: floor.Wire, name: str) -> None:
        self._wire = wire
        self._get = floor.packed("LINDEX", name, 0)
        self._set = floor.packed("LSET", name, 0, "@").rpartition(b"$1\r\n")[0]
        self._add = floor.packed("RPUSH", name, "@").rpartition(b"$1\r\n")[0]

    def __getitem__(self, index: int) -> Any:
        return pickle.loads(self._wire.value(self._get))

    def _put(self, head: bytes, value: Any) -> None:
        data = pickle.dumps(value, 5)
        self._wire.ask(b"%b$%d\r\n%b\r\n" % (head, len(data), data))

    def __setitem__(self, index: int, value: Any) -> None:
        self._put(self._set, value)

    def append(self, value: Any) -> None:
        """Add an element."""
        self._put(self._add, value)


def _ours(site: Site, stack: Stack) -> Any:
    from lithops_mp import Manager

    return stack.enter_context(Manager()).list()


def _lithops(site: Site, stack: Stack) -> Any:
    from lithops.multiprocessing import Manager

    found = Manager().list()
    # It leaves them where they are.
    stack.callback(site.redis.delete, found._oid, f"ref-{found._oid}")
    return found


LISTS = (
    Contestant("floor", FLOOR, lambda site, stack: Items(site.wire, site.name())),
    Contestant("lithops_mp", OURS, _ours),
    Contestant("Manager", PEER, lambda site, stack: stack.enter_context(manager()).list()),
    Contestant("lithops", PEER, _lithops, needs="lithops"),
)


def run(stage: Stage) -> Table:
    """Measure."""
    made = stage.make(LISTS)
    for shared in made.values():
        shared.append(VALUE)
    rows: list[dict[str, Any]] = []
    for name, how in (("l[0]", _read), ("l[0] = value", _write), ("append", _append)):
        rows += case(stage, NAME, name, {one: how(shared) for one, shared in made.items()})
    columns = ("p50", "p99", "to_floor", "ours_to", "goal")
    return Table(NAME, "A manager's list, microseconds", columns, rows)


def _read(shared: Any) -> Callable[[], object]:
    return lambda: shared[0]


def _write(shared: Any) -> Callable[[], object]:
    def write() -> None:
        shared[0] = VALUE

    return write


def _append(shared: Any) -> Callable[[], object]:
    return lambda: shared.append(VALUE)


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
