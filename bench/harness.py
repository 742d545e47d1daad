"""How everything is measured: in turn, many short rounds, one figure per round.

The machine is never quiet, and its noise lasts longer than a round. So all
contestants take a turn in every round, and a ratio is the median of the rounds'
ratios: both of its sides met the same weather.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from .contestants import FLOOR, LOCKS, OURS, PEER, Contestant
from .crew import Crew
from .site import Site


class Sizes(NamedTuple):
    """How much is measured."""

    rounds: int
    calls: int
    handover_rounds: int
    handovers: int
    contention_rounds: int
    window: float
    processes: tuple[int, ...]


FULL = Sizes(300, 50, 40, 10, 15, 0.5, (2, 4, 8))
QUICK = Sizes(80, 40, 8, 6, 4, 0.3, (2, 4, 8))
TINY = Sizes(2, 5, 2, 2, 2, 0.05, (2,))


@dataclass
class Series:
    """One contestant's measurements. ``rounds`` has the figure that ratios are made of."""

    name: str
    kind: str
    rounds: list[float] = field(default_factory=list)
    samples: list[float] = field(default_factory=list)
    notes: dict[str, list[Any]] = field(default_factory=dict)

    def note(self, **values: Any) -> None:
        """Keep further figures of a round."""
        for name, value in values.items():
            self.notes.setdefault(name, []).append(value)


class Goal(NamedTuple):
    """What our ratio to the floor is held against."""

    limit: float
    at_least: bool = False

    def met(self, ratio: float) -> bool:
        """Is it reached?"""
        return ratio >= self.limit if self.at_least else ratio <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


class Table(NamedTuple):
    """A subject's outcome: rows of plain figures, and the columns to show."""

    subject: str
    title: str
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]


class Stage:
    """What a subject has at hand: the server, the sizes, contestants and workers."""

    def __init__(self, site: Site, sizes: Sizes, stack: contextlib.ExitStack) -> None:
        self.site = site
        self.sizes = sizes
        self.stack = stack
        self.dropped: dict[str, str] = {}

    def make(self, contestants: Iterable[Contestant]) -> dict[Contestant, Any]:
        """A shared object of each contestant that is installed and works."""
        made = {}
        for one in contestants:
            with self.forgiving(one):
                if not one.present:
                    raise ModuleNotFoundError(f"{one.needs} is not installed")
                made[one] = one.make(self.site, self.stack)
        return made

    @cached_property
    def locks(self) -> dict[Contestant, Any]:
        """A lock of everyone."""
        return self.make(LOCKS)

    @cached_property
    def crew(self) -> Crew:
        """Worker processes that have all the locks."""
        print("starting the workers", file=sys.stderr, flush=True)
        crew = Crew(self.site, max(self.sizes.processes), self.locks)
        self.stack.callback(crew.close)
        return crew

    @contextlib.contextmanager
    def forgiving(self, one: Contestant) -> Any:
        """A peer that fails is left out and named; the floor and we may not fail."""
        try:
            yield
        except Exception as error:
            if one.kind in (FLOOR, OURS):
                raise
            self.dropped.setdefault(one.name, f"{type(error).__name__}: {error}".strip())

    def interleave(
        self,
        what: str,
        contestants: Sequence[Contestant],
        rounds: int,
        once: Callable[[Contestant, Series], None],
    ) -> list[Series]:
        """Let everybody have a turn in each round, each time beginning with another.

        The first, unmeasured turn of each loads scripts, connects and warms up.
        """
        series = {one: Series(one.name, one.kind) for one in contestants}
        playing = list(contestants)
        for number in range(rounds + 1):
            shift = number % len(playing)
            for place, one in enumerate(playing[shift:] + playing[:shift]):
                progress(what, number, rounds, place / len(playing))
                target = series[one] if number else Series(one.name, one.kind)
                with self.forgiving(one):
                    once(one, target)
            playing = [one for one in playing if one.name not in self.dropped]
        progress(what, rounds + 1, rounds, 0)
        return [series[one] for one in playing]


_last_progress = [0.0]


def progress(what: str, number: int, rounds: int, part: float) -> None:
    """Say on stderr how far we are: a line that rewrites itself, or one per subject."""
    done = number > rounds
    if not sys.stderr.isatty():
        if done:
            print(f"{what}: measured", file=sys.stderr, flush=True)
        return
    now = time.monotonic()
    if done or now - _last_progress[0] > 0.1:
        _last_progress[0] = now
        percent = 100 * (number + part) / (rounds + 1) if not done else 100
        print(f"\r\033[K{what}: {percent:.0f} %", end="\n" if done else "", file=sys.stderr)
        sys.stderr.flush()


def timed(function: Callable[[], object], calls: int) -> list[float]:
    """Microseconds of each call."""
    clock = time.perf_counter_ns
    taken = []
    for _ in range(calls):
        start = clock()
        function()
        taken.append((clock() - start) / 1000)
    return taken


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def jain(shares: Sequence[float]) -> float:
    """Jain's fairness index: 1 if all shares are equal, 1/n if one takes all."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def ratio(top: Series, bottom: Series) -> float:
    """The median of the rounds' ratios."""
    pairs = zip(top.rounds, bottom.rounds, strict=False)
    return statistics.median(a / b for a, b in pairs)


def latency_rows(
    subject: str, case: str, found: list[Series], goal: Goal | None = None
) -> list[dict[str, Any]]:
    """Rows about microseconds: less is better."""
    rows = compared(subject, case, found, goal, more_is_better=False)
    for row, series in zip(rows, found, strict=True):
        row["p50"] = percentile(series.samples, 50)
        row["p99"] = percentile(series.samples, 99)
        row["samples"] = len(series.samples)
    return rows


def compared(
    subject: str, case: str, found: list[Series], goal: Goal | None, *, more_is_better: bool
) -> list[dict[str, Any]]:
    """A row for each series, with its ratios to the floor and to the best peer."""
    floor = next(series for series in found if series.kind == FLOOR)
    peers = [series for series in found if series.kind == PEER]
    choose = max if more_is_better else min
    best = choose(peers, key=lambda peer: ratio(peer, floor)) if peers else None
    rows = []
    for series in found:
        to_floor = ratio(series, floor)
        row = {
            "subject": subject,
            "case": case,
            "contestant": series.name,
            "kind": series.kind,
            "figure": statistics.median(series.rounds),
            "to_floor": to_floor,
            "to_best_peer": ratio(series, best) if best else None,
            "best_peer": best.name if best else None,
            "rounds": series.rounds,
        }
        if goal and series.kind == OURS:
            row |= {"goal": str(goal), "met": goal.met(to_floor)}
        rows.append(row)
    return rows
