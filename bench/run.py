"""Run the subjects and show what came out: a table for people, JSON for later."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from lithops_mp._store.settings import check_server
from lithops_mp.errors import ConfigurationError, ServerUnavailable

from . import (
    bench_contention,
    bench_dict,
    bench_handover,
    bench_lock,
    bench_pipe,
    bench_queue,
    bench_roundtrip,
    bench_value,
)
from .harness import FULL, QUICK, TINY, Sizes, Stage, Table
from .site import site, surroundings

SUBJECTS: dict[str, ModuleType] = {
    module.NAME: module
    for module in (
        *(bench_roundtrip, bench_lock, bench_handover, bench_contention),
        *(bench_queue, bench_pipe, bench_value, bench_dict),
    )
}

HEADINGS = {
    "to_floor": "x floor",
    "to_best_peer": "x best peer",
    "ops_per_s": "ops/s",
    "ours_to": "lithops_mp to it",
    "wait_p50": "wait p50",
    "wait_p99": "wait p99",
    "jain": "Jain",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(argv)
    if options.server:
        os.environ["LITHOPS_MP_SERVER"] = options.server
    try:
        report, tables = run(options.sizes, options.only or list(SUBJECTS), options.redis)
    except (ConfigurationError, ServerUnavailable) as error:
        print(error, file=sys.stderr)
        return 2
    print(render(report, tables))
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
        print(f"written: {options.json}", file=sys.stderr)
    return 0


def only(name: str) -> int:
    """The command line of one subject's file."""
    return main(["--only", name, *sys.argv[1:]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure lithops_mp against a hand-written floor and against what one would "
        "use instead, in turn, on one server. bench/README.md says how.",
        epilog="Subjects: " + ", ".join(SUBJECTS) + ".",
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
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    return parser


def run(sizes: Sizes, names: list[str], url: str | None) -> tuple[dict[str, Any], list[Table]]:
    """Measure the subjects; the report and its tables."""
    started = time.monotonic()
    report = surroundings()
    place = site(url)
    check_server(place.settings.connection(), place.settings)
    place.announce()
    report["server"] = {"origin": place.origin, "address": place.settings.address}
    report["server"] |= place.info()
    print(f"server: {_server(report)}", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        stack.callback(place.clean)
        stage = Stage(place, sizes, stack)
        tables = [SUBJECTS[name].run(stage) for name in names]
    report["sizes"] = sizes._asdict()
    report["left_out"] = stage.dropped
    report["seconds"] = round(time.monotonic() - started, 1)
    report["rows"] = [row for table in tables for row in table.rows]
    return report, tables


def render(report: dict[str, Any], tables: list[Table]) -> str:
    """Everything as text."""
    machine = report["machine"]
    lines = [
        f"lithops_mp bench, commit {report['commit'][:12] or 'unknown'}"
        + (" and changes since" if report["changed_since"] else ""),
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']:.1f}; "
        f"{report['python']}; {_server(report)}; "
        + ", ".join(f"{name} {version}" for name, version in report["libraries"].items()),
    ]
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


def _grid(table: Table) -> list[str]:
    head = ["", "", *(HEADINGS.get(column, column) for column in table.columns)]
    grid, case = [head], None
    for row in table.rows:
        name = row["contestant"] + (" (one machine only)" if row["kind"] == "one machine" else "")
        cells = [_cell(row, column) for column in table.columns]
        grid.append([row["case"] if row["case"] != case else "", name, *cells])
        case = row["case"]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = [_line(cells, widths) for cells in grid]
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
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"
