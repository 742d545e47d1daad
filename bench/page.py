"""One page of plots, with everything in it: HTML and SVG, and no script.

Times and rates differ by factors, so all axes are logarithmic, but for fairness. Cases that are
sizes or numbers of processes (``x`` in their rows) become lines, the others a dot for half of
the samples and a line up to 99 of 100.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from html import escape
from typing import Any, NamedTuple

from .harness import Table

Row = dict[str, Any]

# Okabe and Ito's colours, which most people can tell apart; we are blue and thick.
COLOURS = {
    "floor": "#777777",
    "lithops_mp": "#0072b2",
    "lithops_mp, nanomsg": "#56a0e9",
    "multiprocessing": "#cc79a7",
    "multiprocessing, fork": "#b05a8a",
    "Manager": "#009e73",
    "redis-py": "#e69f00",
    "lithops": "#d55e00",
    "python-redis-lock": "#8c6d31",
    "pottery": "#9467bd",
}
OTHER_COLOURS = ("#2f4b7c", "#a05195", "#665191", "#458b00")

WIDTH = 1040
STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --faint: #8886; --paper: #fdfdfc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #17181a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 1040px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin: 2.2em 0 0.2em; }
p { margin: 0.3em 0 0.8em; } .where { opacity: 0.75; font-size: 0.87em; }
.legend span { white-space: nowrap; margin-right: 1.3em; }
.legend i { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 50%;
            margin-right: 0.4em; }
svg { max-width: 100%; height: auto; display: block; } svg text { font-size: 12px;
      fill: var(--ink); } svg .case { font-weight: 600; } svg .axis { opacity: 0.65; }
svg .ours { font-weight: 600; } svg .grid { stroke: var(--faint); stroke-width: 1; }
.charts { display: flex; flex-wrap: wrap; gap: 1em 2em; } .charts svg { flex: 0 1 500px; }
summary { cursor: pointer; opacity: 0.75; font-size: 0.87em; }
table { border-collapse: collapse; font-size: 0.83em; font-variant-numeric: tabular-nums; }
td, th { padding: 0.1em 0.7em; text-align: right; border-bottom: 1px solid var(--faint); }
td:nth-child(-n+2) { text-align: left; } .scroll { overflow-x: auto; }
"""


class Metric(NamedTuple):
    """A column that is drawn."""

    column: str
    title: str
    show: Callable[[float], str]
    logarithmic: bool = True


def micros(value: float) -> str:
    """Microseconds, for people."""
    for limit, unit in ((1e3, "µs"), (1e6, "ms")):
        if value < limit * 0.9995:
            return f"{_three(value / limit * 1e3)} {unit}"
    return f"{_three(value / 1e6)} s"


def rate(value: float) -> str:
    """So many a second, for people."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{_three(value / limit)}{unit}/s"
    return f"{_three(value)}/s"


def _three(value: float) -> str:
    """Three digits, and no zeros after the point."""
    text = f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


TIME, TAIL = Metric("p50", "p50", micros), Metric("p99", "p99", micros)
RATE = Metric("ops_per_s", "per second", rate)
WAIT = Metric("wait_p99", "wait, p99", micros)
FAIRNESS = Metric("jain", "Jain's fairness index", _three, False)


def page(head: list[str], tables: list[tuple[Table, list[list[str]]]], left_out: Row) -> str:
    """The page. ``head`` says where this was measured; tables come with their cells as text."""
    names = dict.fromkeys(row["contestant"] for table, _ in tables for row in table.rows)
    colours = _colours(names)
    body = [
        "<h1>lithops_mp beside what one would use instead</h1>",
        *(f"<p class=where>{escape(line)}</p>" for line in head),
        "<p class=legend>",
        *(
            f"<span><i style='background:{colours[name]}'></i>{escape(name)}</span>"
            for name in names
            if name in COLOURS
        ),
        "</p><p>The <b>floor</b> is the least that the same work costs over Redis: a bare socket "
        "and minimal scripts. <b>multiprocessing</b> works on one machine only. Where there are "
        "dots, the dot is the median and the line ends where 99 of 100 samples do; beside it are "
        "the ratio to the floor, and how many requests to the server it took. "
        "Axes are logarithmic.</p>",
    ]
    for table, cells in tables:
        body += [f"<h2>{escape(table.title)}</h2>", f"<p>{escape(table.about)}</p>"]
        body += [_plots(table, colours), _details(cells)]
    for name, reason in left_out.items():
        body.append(f"<p class=where>left out: {escape(name)}: {escape(reason)}</p>")
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{escape(head[0])}</title><style>{STYLE}</style></head>\n<body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


def _colours(names: Iterable[str]) -> dict[str, str]:
    others = [name for name in names if name not in COLOURS]
    return COLOURS | {
        name: OTHER_COLOURS[place % len(OTHER_COLOURS)] for place, name in enumerate(others)
    }


def _details(cells: list[list[str]]) -> str:
    head, *rows = ([escape(cell) for cell in row] for row in cells)
    lines = "\n".join("<tr><td>" + "<td>".join(row) for row in rows)
    return (
        "<details><summary>all figures</summary><div class=scroll><table>"
        f"<tr><th>{'<th>'.join(head)}\n{lines}</table></div></details>"
    )


def _plots(table: Table, colours: dict[str, str]) -> str:
    rows = [row for row in table.rows if row.get("unit") is None]
    rated = "ops_per_s" in table.columns
    if len({row["x"] for row in rows if "x" in row}) > 1:
        metrics = [RATE] if rated else [TIME, TAIL]
        metrics += [m for m in (WAIT, FAIRNESS) if m.column in table.columns]
        charts = (_lines(rows, metric, colours) for metric in metrics)
        return f"<div class=charts>{''.join(charts)}</div>"
    return _dots(rows, RATE if rated else TIME, colours)


class Scale:
    """Where a value is on an axis from ``start`` to ``end``."""

    def __init__(self, values: Iterable[float], start: float, end: float, log: bool = True) -> None:
        found = [value for value in values if value > 0] or [1.0]
        low, high = min(found), max(found)
        self._map: Callable[[float], float] = math.log10 if log else float
        self._start, self._end = start, end
        self.ticks = self._ticks(low, high) if log else [0.0, 0.25, 0.5, 0.75, 1.0]
        self._low = min(low, self.ticks[0])
        self._high = max(high, self.ticks[-1])

    @staticmethod
    def _ticks(low: float, high: float) -> list[float]:
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if len(exponents) <= 4 else (1,)
        ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
        first = max((place for place, tick in enumerate(ticks) if tick <= low), default=0)
        last = min((p for p, tick in enumerate(ticks) if tick >= high), default=len(ticks) - 1)
        return ticks[first : last + 1]

    def __call__(self, value: float) -> float:
        if self._high == self._low:
            return (self._start + self._end) / 2
        low, high = self._map(self._low), self._map(self._high)
        part = (self._map(max(value, self._low)) - low) / (high - low)
        return self._start + part * (self._end - self._start)


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f"<text x={x:.0f} y={y:.0f} {more}>{escape(text)}</text>"


def _dots(rows: list[Row], metric: Metric, colours: dict[str, str]) -> str:
    """A line for each row, in groups by case."""
    left, right, line = 250, WIDTH - 210, 19
    ends = [row[c] for row in rows for c in (metric.column, "p99") if row.get(c)]
    if metric is RATE:
        ends = [row[metric.column] for row in rows]
    scale = Scale(ends, left, right)
    places = (right + 80, right + 135, right + 208)
    heads = zip(places, (metric.title, "x floor", "round trips"), strict=True)
    marks = [_text(x, 12, word, "class=axis text-anchor=end") for x, word in heads]
    y, case = 16, None
    for row in rows:
        if row["case"] != case:
            case = row["case"]
            y += 14
            marks.append(_text(0, y + 4, case, "class=case"))
        name, value = row["contestant"], row[metric.column]
        colour, x = colours[name], scale(value)
        bold = "class=ours " if row["kind"] == "ours" else ""
        marks.append(_text(left - 10, y + 4, name, f"{bold}text-anchor=end"))
        if metric is not RATE and row.get("p99"):
            marks.append(
                f"<line x1={x:.1f} x2={scale(row['p99']):.1f} y1={y} y2={y} stroke='{colour}' "
                "stroke-width=2 stroke-opacity=0.55 />"
            )
        hollow = row["kind"] == "one machine"
        marks.append(
            f"<circle cx={x:.1f} cy={y} r={6 if bold else 4.5} stroke='{colour}' stroke-width=2 "
            f"fill='{'var(--paper)' if hollow else colour}'><title>{escape(_tip(row))}</title>"
            "</circle>"
        )
        trips = row.get("requests")
        said = (metric.show(value), _ratio(row["to_floor"]), _three(trips) if trips else "")
        for place, word in zip(places, said, strict=True):
            marks.append(_text(place, y + 4, word, f"{bold}text-anchor=end"))
        y += line
    grid = []
    for tick in scale.ticks:
        x = scale(tick)
        grid.append(f"<line class=grid x1={x:.1f} x2={x:.1f} y1=16 y2={y} />")
        grid.append(_text(x, y + 14, metric.show(tick), "class=axis text-anchor=middle"))
    return f"<svg viewBox='0 0 {WIDTH} {y + 20}' role=img>{''.join(grid + marks)}</svg>"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if 0.01 <= value < 10 else "< 0.01" if value < 0.01 else f"{value:,.0f}"


def _tip(row: Row) -> str:
    known = ("p50", "p99", "wait_p50", "wait_p99")
    words = [f"{name} {micros(row[name])}" for name in known if row.get(name)]
    words += [rate(row["ops_per_s"])] if row.get("ops_per_s") else []
    return f"{row['case']}, {row['contestant']}: " + ", ".join(words)


def _lines(rows: list[Row], metric: Metric, colours: dict[str, str]) -> str:
    """A line for each contestant, its name at the end."""
    width, height, left, right, top = 500, 330, 62, 365, 24
    bottom = height - 26
    rows = [row for row in rows if row.get(metric.column) is not None]
    shown, outside = _within(rows, metric)
    across = Scale([row["x"] for row in shown], left, right)
    up = Scale([row[metric.column] for row in shown], bottom, top, metric.logarithmic)
    marks = [_text(0, 12, metric.title, "class=case")]
    if outside:
        marks.append(_text(width, 12, outside, "class=axis text-anchor=end"))
    for tick in up.ticks:
        y = up(tick)
        marks.append(f"<line class=grid x1={left} x2={right} y1={y:.1f} y2={y:.1f} />")
        marks.append(_text(left - 6, y + 4, metric.show(tick), "class=axis text-anchor=end"))
    # The first says of what: "2 processes", "4", "8".
    cases = sorted({row["x"]: row["case"] for row in shown}.items())
    common = len({case.split()[-1] for _, case in cases[1:]}) == 1
    for place, (x, case) in enumerate(cases):
        label = case.split()[0] if common and 0 < place < len(cases) - 1 else case
        marks.append(_text(across(x), height - 6, label, "class=axis text-anchor=middle"))
    ends: list[tuple[float, str, bool]] = []
    for name in dict.fromkeys(row["contestant"] for row in shown):
        mine = sorted((row for row in shown if row["contestant"] == name), key=lambda r: r["x"])
        points = [(across(row["x"]), up(row[metric.column])) for row in mine]
        ours, floor = mine[0]["kind"] == "ours", mine[0]["kind"] == "floor"
        dash = " stroke-dasharray='5 4'" if floor or mine[0]["kind"] == "one machine" else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        marks.append(
            f"<polyline points='{path}' fill=none stroke='{colours[name]}' "
            f"stroke-width={3 if ours else 1.6}{dash} />"
        )
        marks += [
            f"<circle cx={x:.1f} cy={y:.1f} r={4 if ours else 3} fill='{colours[name]}'>"
            f"<title>{escape(_tip(row))}</title></circle>"
            for (x, y), row in zip(points, mine, strict=True)
        ]
        ends.append((points[-1][1], name, ours))
    for y, name, ours in _apart(ends):
        more = f"{'class=ours ' if ours else ''}style='fill:{colours[name]}'"
        marks.append(_text(right + 8, y + 4, name, more))
    return f"<svg viewBox='0 0 {width} {height}' role=img>{''.join(marks)}</svg>"


def _within(rows: list[Row], metric: Metric) -> tuple[list[Row], str]:
    """The rows to be drawn. What never leaves the machine is left out, and said, where it is so
    far away that the others would be squeezed together."""
    others = [row[metric.column] for row in rows if row["kind"] != "one machine"]
    local = [row[metric.column] for row in rows if row["kind"] == "one machine"]
    if not (metric.logarithmic and others and local):
        return rows, ""
    if max(local) < 10 * max(others) and min(local) > min(others) / 10:
        return rows, ""
    low, high = metric.show(min(local)), metric.show(max(local))
    names = ", ".join(dict.fromkeys(r["contestant"] for r in rows if r["kind"] == "one machine"))
    shown = [row for row in rows if row["kind"] != "one machine"]
    return shown, f"{names} (not drawn): {low if low == high else f'{low} to {high}'}"


def _apart(ends: list[tuple[float, str, bool]]) -> list[tuple[float, str, bool]]:
    """Labels beside the ends of their lines, far enough from each other to be read."""
    placed: list[tuple[float, str, bool]] = []
    for y, name, ours in sorted(ends):
        least = placed[-1][0] + 13 if placed else y
        placed.append((max(y, least), name, ours))
    return placed
