"""Run the subjects and show what came out: a table for people, JSON for later, and a page."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from lithops_mp._store.settings import check_server
from lithops_mp.errors import ConfigurationError, ServerUnavailable

from . import (
    bench_barrier,
    bench_contention,
    bench_dict,
    bench_event,
    bench_handover,
    bench_list,
    bench_lock,
    bench_pipe,
    bench_pool,
    bench_queue,
    bench_roundtrip,
    bench_start,
    bench_value,
    bench_waiters,
)
from .contestants import Stack
from .harness import FULL, QUICK, TINY, Sizes, Stage, Table
from .page import page
from .site import Meter, site, surroundings

SUBJECTS: dict[str, ModuleType] = {
    module.NAME: module
    for module in (
        *(bench_roundtrip, bench_lock, bench_handover, bench_contention, bench_waiters),
        *(bench_event, bench_barrier, bench_queue, bench_pipe, bench_value),
        *(bench_dict, bench_list, bench_start, bench_pool),
    )
}

HEADINGS = {
    "to_floor": "x floor",
    "to_best_peer": "x best peer",
    "ops_per_s": "ops/s",
    "cold": "first 100 tasks/s",
    "ours_to": "lithops_mp to it",
    "wait_p50": "wait p50",
    "wait_p99": "wait p99",
    "jain": "Jain",
    "requests": "round trips",
    "growth": "growth",
}


def main(argv: Sequence[str] | None = None, prog: str = "python -m bench") -> int:
    """The command line."""
    options = _parser(prog).parse_args(argv)
    if options.server:
        os.environ["LITHOPS_MP_SERVER"] = options.server
    names = [name for name in SUBJECTS if name in (options.only or SUBJECTS)]
    sizes: Sizes = options.sizes
    if options.latency:  # it is most of every figure, and the same for all
        sizes = sizes._replace(rounds=max(2, sizes.rounds // 5))
    try:
        report, tables = run(sizes, names, options.redis, options.latency)
    except (ConfigurationError, ServerUnavailable) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{prog}: interrupted", file=sys.stderr)
        return 130
    print(render(report, tables))
    for file, text in (
        (options.json, lambda: json.dumps(report, indent=1) + "\n"),
        (options.html, lambda: _page(report, tables)),
    ):
        if file:
            file.write(text())
            file.close()
            print(f"written: {file.name}", file=sys.stderr)
    return 0


def only(name: str) -> int:
    """The command line of one subject's file."""
    return main(["--only", name, *sys.argv[1:]])


_ABOUT = """\
Measures lithops_mp against a floor (the least that the same work costs over Redis: a bare
socket and minimal scripts) and against what one would use instead: lithops.multiprocessing,
CPython's multiprocessing and its Manager, redis-py's Lock, and, where they are installed,
python-redis-lock and pottery. Everybody takes turns on one server, in many short rounds; a
ratio is the median of the rounds' ratios.
"""

_EXAMPLES = """\
subjects:
{subjects}

columns:
  p50, p99     microseconds that half, and 99 of 100 samples take at most
  round trips  requests to the server per sample, counted by the server; what costs time
               when the server is elsewhere
  x floor      divided by the floor's figure: for times, 1.00 is the least and 2.00 twice that;
               for rates, more is better
  x best peer  divided by the best of those that work on more than one machine
  goal         what we hold ourselves to

examples:
  {prog} --quick --html bench.html
      everything in two minutes, and a page of plots
  {prog} --only lock --only handover --latency 1ms
      two subjects, with a server that is a millisecond away
  {prog} --redis redis://:secret@10.0.0.5:6379/0 --json here.json
      on your own server, from this machine; the keys that it makes are deleted at the end

Exit status: 0; 2 if there is no server to be had or the command line is wrong; 130 after Ctrl-C.
"""


def _parser(prog: str) -> argparse.ArgumentParser:
    subjects = "\n".join(
        f"  {name:<12} {(module.__doc__ or '').splitlines()[0].replace('`', '')}"
        for name, module in SUBJECTS.items()
    )
    parser = argparse.ArgumentParser(
        prog=prog,
        description=_ABOUT,
        epilog=_EXAMPLES.format(prog=prog, subjects=subjects),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    size = parser.add_mutually_exclusive_group()
    for name, sizes, text in (
        ("--quick", QUICK, "fewer rounds: under two minutes"),
        ("--tiny", TINY, "as good as nothing: to see that everything runs"),
    ):
        size.add_argument(
            name, dest="sizes", action="store_const", const=sizes, default=FULL, help=text
        )
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        choices=list(SUBJECTS),
        help="this subject; may be repeated",
    )
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="your server (redis://..., unix:///...); by default one is started for the run",
    )
    parser.add_argument(
        "--server",
        metavar="BINARY",
        help="the redis-server or valkey-server to start; by default the embedded one",
    )
    parser.add_argument(
        "--latency",
        metavar="TIME",
        type=_seconds,
        default=0.0,
        help="put a proxy in front of the server that makes each round trip longer by this: "
        "1ms, 250us, 0.02s",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        type=argparse.FileType("w"),
        help="write everything measured, with commit, machine and versions",
    )
    parser.add_argument(
        "--html",
        metavar="FILE",
        type=argparse.FileType("w"),
        help="write one page of plots, which needs nothing but a browser",
    )
    return parser


def _seconds(text: str) -> float:
    """A time with its unit, such as 1ms."""
    for unit, factor in (("ms", 1e-3), ("us", 1e-6), ("s", 1.0)):
        if text.endswith(unit):
            with contextlib.suppress(ValueError):
                seconds = float(text.removesuffix(unit)) * factor
                if 0 <= seconds <= 10:
                    return seconds
            break
    raise argparse.ArgumentTypeError(f"{text!r} is no time from 0 to 10s, such as 1ms or 250us")


def run(
    sizes: Sizes, names: list[str], url: str | None, latency: float = 0.0
) -> tuple[dict[str, Any], list[Table]]:
    """Measure the subjects; the report and its tables."""
    started = time.monotonic()
    report = surroundings()
    place = site(url, latency)
    check_server(place.settings.connection(), place.settings)
    place.announce()
    report["server"] = {"origin": place.origin, "address": place.settings.address}
    report["server"] |= place.info()
    report["latency"] = latency
    print(f"server: {_server(report)}", file=sys.stderr)
    tables: list[Table] = []
    report["seconds_of"] = {}
    with Stack() as whole:
        whole.callback(place.clean)
        stage = Stage(place, sizes, whole, Meter(place))
        for number, name in enumerate(names, 1):
            stage.act = f"[{number}/{len(names)}] "
            began = time.monotonic()
            with Stack() as stage.stack:
                found = SUBJECTS[name].run(stage)
                tables += [found] if isinstance(found, Table) else found
            report["seconds_of"][name] = round(time.monotonic() - began, 1)
    report["sizes"] = sizes._asdict()
    report["left_out"] = stage.dropped
    report["seconds"] = round(time.monotonic() - started, 1)
    report["rows"] = [row for table in tables for row in table.rows]
    return report, tables


def headline(report: dict[str, Any]) -> list[str]:
    """What a number means nothing without."""
    machine = report["machine"]
    return [
        f"lithops_mp {report['version']} bench, commit {report['commit'][:12] or 'unknown'}"
        + (" and changes since" if report["changed_since"] else "")
        + f", {report['date']}",
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']:.1f}; "
        f"{report['python']}; {_server(report)}; "
        + ", ".join(f"{name} {version}" for name, version in report["libraries"].items()),
    ]


def render(report: dict[str, Any], tables: list[Table]) -> str:
    """Everything as text."""
    lines = headline(report)
    for table in tables:
        lines += ["", table.title, "", *_grid(table)]
    for name, reason in report["left_out"].items():
        lines += ["", f"left out: {name}: {reason.splitlines()[-1]}"]
    lines += ["", f"{report['seconds']} s"]
    return "\n".join(lines)


def _server(report: dict[str, Any]) -> str:
    server = report["server"]
    if "valkey_version" in server:
        return f"Valkey {server['valkey_version']} ({server['origin']})"
    return f"Redis {server.get('redis_version', '?')} ({server['origin']})"


def columns_of(table: Table) -> list[str]:
    """A table's columns, with those that every table has whose rows have them."""
    columns = list(table.columns)
    place = columns.index("to_floor")
    for column, where in (("to_best_peer", place + 1), ("requests", place)):
        if column not in columns and any(row.get(column) is not None for row in table.rows):
            columns.insert(where, column)
    return columns


def grid(table: Table) -> list[list[str]]:
    """A table's cells as text, the head first."""
    columns = columns_of(table)
    cells = [["", "", *(HEADINGS.get(column, column) for column in columns)]]
    case = None
    for row in table.rows:
        name = row["contestant"] + (" (one machine only)" if row["kind"] == "one machine" else "")
        first = row["case"] if row["case"] != case else ""
        cells.append([first, name, *(_cell(row, column) for column in columns)])
        case = row["case"]
    return cells


def _page(report: dict[str, Any], tables: list[Table]) -> str:
    return page(headline(report), [(table, grid(table)) for table in tables], report["left_out"])


def _grid(table: Table) -> list[str]:
    cells = grid(table)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_line(row, widths) for row in cells]
    return [lines[0], "|".join("-" * (width + 2) for width in widths).join("||"), *lines[1:]]


def _line(cells: list[str], widths: list[int]) -> str:
    padded = [
        cell.ljust(width) if place < 2 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"


def _cell(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if column == "goal":
        return f"{value}: {'met' if row['met'] else 'MISSED'}" if value else ""
    if value is None or isinstance(value, str):
        return value or ""
    if column in ("to_floor", "to_best_peer", "ours_to"):
        return f"{value:.2f}" if value < 100 else f"{value:.0f}"
    if column == "jain":
        return f"{value:.4f}"
    if column == "requests":
        return f"{value:.1f}" if value >= 0.1 else f"{value:.2f}" if value >= 0.005 else "0"
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"
