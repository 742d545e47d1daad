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

from .contestants import FLOOR, LOCKS, OURS, PEER, Contestant, Stack, crew_objects
from .crew import Crew
from .site import Meter, Site


class Sizes(NamedTuple):
    """How much is measured.

    ``window`` is the seconds of a turn that is about throughput, ``patience`` those that a
    turn of a slow contestant may take, if it can do with fewer samples. ``parties`` are the
    numbers of processes that meet or wait for an event, ``waiters`` the lengths of a line,
    ``starts`` how many processes are started in a turn, ``few`` the rounds of what takes long.
    """

    rounds: int
    calls: int
    handover_rounds: int
    handovers: int
    contention_rounds: int
    window: float
    processes: tuple[int, ...]
    patience: float
    parties: tuple[int, ...]
    waiters: tuple[int, ...]
    starts: int
    few: int


FULL = Sizes(
    *(300, 50, 40, 10, 15, 0.5, (1, 2, 4, 8, 16)),
    *(1.0, (2, 4, 16), (10, 100, 1000), 8, 5),
)
QUICK = Sizes(
    *(40, 30, 5, 6, 3, 0.08, (1, 2, 4, 8, 16)),
    *(0.1, (2, 4, 16), (10, 1000), 4, 1),
)
TINY = Sizes(*(1, 5, 1, 2, 1, 0.02, (1, 2)), *(0.01, (2,), (2, 8), 2, 1))


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
    """A subject's outcome: rows of plain figures, and the columns to show.

    Rows that have ``x`` (a size, a number of processes) are drawn as lines over it. ``about``
    says in a sentence or two what one sees.
    """

    subject: str
    title: str
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    about: str = ""


class Stage:
    """What a subject has at hand: the server, the sizes, contestants and workers.

    ``stack`` is closed at the end of the subject, ``whole`` at the end of the run. ``act`` is
    where in the run we are, for whoever watches.
    """

    def __init__(self, site: Site, sizes: Sizes, whole: Stack, meter: Meter | None = None) -> None:
        self.site = site
        self.sizes = sizes
        self.whole = self.stack = whole
        self.meter = meter
        self.act = ""
        self.dropped: dict[str, str] = {}

    def make(
        self, contestants: Iterable[Contestant], stack: Stack | None = None
    ) -> dict[Contestant, Any]:
        """A shared object of each contestant that is installed and works."""
        made = {}
        for one in contestants:
            with self.forgiving(one):
                if not one.present:
                    raise ModuleNotFoundError(f"{one.needs} is not installed")
                made[one] = one.make(self.site, stack or self.stack)
        return made

    def open(self, contestants: Iterable[Contestant]) -> dict[Contestant, Any]:
        """The same, ready to be used in this process."""
        return {one: one.open(self.site, shared) for one, shared in self.make(contestants).items()}

    @cached_property
    def locks(self) -> dict[Contestant, Any]:
        """A lock of everyone."""
        return self.make(LOCKS, self.whole)

    @cached_property
    def crew(self) -> Crew:
        """Worker processes that have all the locks, and what else everyone has."""
        size = max(*self.sizes.processes, *self.sizes.parties) + 1  # one sets the event
        print(f"{self.act}starting {size} workers", file=sys.stderr, flush=True)
        made = {
            name: self.make(some, self.whole) for name, some in crew_objects(self.sizes.parties)
        }
        crew = Crew(self.site, size, self.locks, made)
        self.whole.callback(crew.close)
        return crew

    def crewed(self, name: str) -> list[Contestant]:
        """Whose object of that name the workers have."""
        return list(self.crew.others[name])

    @contextlib.contextmanager
    def forgiving(self, one: Contestant, what: str = "") -> Any:
        """A peer that fails is left out and named; the floor and we may not fail."""
        try:
            yield
        except Exception as error:
            if one.kind in (FLOOR, OURS):
                raise
            name = f"{one.name} ({what})" if what else one.name
            self.dropped.setdefault(name, f"{type(error).__name__}: {error}".strip())

    def interleave(
        self,
        what: str,
        contestants: Sequence[Contestant],
        rounds: int,
        once: Callable[[Contestant, Series], int | None],
        *,
        warm_up: bool = True,
    ) -> list[Series]:
        """Let everybody have a turn in each round, each time beginning with another.

        The first, unmeasured turn of each loads scripts, connects and warms up. ``once``
        may return how many operations its turn had; if it does not, they are its samples.
        """
        series = {one: Series(one.name, one.kind) for one in contestants}
        playing = list(contestants)
        for number in range(0 if warm_up else 1, rounds + 1):
            shift = number % len(playing)
            for place, one in enumerate(playing[shift:] + playing[:shift]):
                progress(f"{self.act}{what}", number, rounds, place / len(playing))
                target = series[one] if number else Series(one.name, one.kind)
                with self.forgiving(one, what):
                    self._turn(one, target, once)
            playing = [one for one in playing if f"{one.name} ({what})" not in self.dropped]
        progress(f"{self.act}{what}", rounds + 1, rounds, 0)
        return [series[one] for one in playing]

    def _turn(
        self, one: Contestant, series: Series, once: Callable[[Contestant, Series], int | None]
    ) -> None:
        """A turn, and how many requests an operation took in it."""
        before, had = self.meter.requests() if self.meter else 0, len(series.samples)
        operations = once(one, series) or len(series.samples) - had
        if self.meter and operations:
            series.note(requests=(self.meter.requests() - before) / operations)


_last_progress = [0.0]


def progress(what: str, number: int, rounds: int, part: float) -> None:
    """Say on stderr how far we are: a line that rewrites itself, or one per case."""
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


def timed(function: Callable[[], object], calls: int, patience: float = 0.05) -> list[float]:
    """Microseconds of each call; fewer calls if those take more than ``patience`` seconds."""
    clock = time.perf_counter_ns
    taken = []
    end = clock() + patience * 1e9
    for _ in range(calls):
        start = clock()
        function()
        now = clock()
        taken.append((now - start) / 1000)
        if now > end:
            break
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
            "requests": _requests(series),
            "rounds": series.rounds,
        }
        if goal and series.kind == OURS:
            row |= {"goal": str(goal), "met": goal.met(to_floor)}
        rows.append(row)
    return rows


def _requests(series: Series) -> float | None:
    """Requests to the server per operation, in most rounds: somebody's heartbeat is not one."""
    found = series.notes.get("requests")
    return max(0.0, statistics.median(found)) if found else None


def few(seconds: float, most: int, patience: float) -> int:
    """How many samples a turn has of a contestant whose samples take so many seconds."""
    return max(1, min(most, int(patience / seconds)))
