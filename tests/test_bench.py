"""The bench runs, and every row has its numbers. No test asserts a time: machines differ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
LATENCY = {"p50", "p99"}
WANTED = {
    "contention": {"ops_per_s", "wait_p50", "wait_p99", "jain"},
    "queue": {"ops_per_s", "ours_to"},
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """One run of everything, as small as it gets: its JSON and what it printed."""
    written = tmp_path_factory.mktemp("bench") / "result.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--tiny", "--json", str(written)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(written.read_text()), done.stdout


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import harness

    return harness


def test_every_subject_has_rows_of_the_floor_and_of_us(
    outcome: tuple[dict[str, Any], str],
) -> None:
    rows = outcome[0]["rows"]
    cases = {(row["subject"], row["case"]) for row in rows}
    subjects = {"roundtrip", "lock", "handover", "contention", "queue", "pipe", "value", "dict"}
    assert {subject for subject, _ in cases} == subjects
    for case in cases:
        kinds = {row["kind"] for row in rows if (row["subject"], row["case"]) == case}
        assert "floor" in kinds
        assert "ours" in kinds or case[0] == "roundtrip"


def test_every_row_has_its_numbers(outcome: tuple[dict[str, Any], str]) -> None:
    for row in outcome[0]["rows"]:
        wanted = WANTED.get(row["subject"], LATENCY)
        for name in (*wanted, "figure", "to_floor"):
            assert row[name] > 0, (name, row)
        assert row["rounds"]


def test_our_rows_stand_beside_their_goals(outcome: tuple[dict[str, Any], str]) -> None:
    ours = [row for row in outcome[0]["rows"] if row["kind"] == "ours"]
    goals = [row for row in ours if row["subject"] != "queue"]  # there the peers have them
    assert all(isinstance(row["met"], bool) and row["goal"] for row in goals)


def test_the_locks_exclude(outcome: tuple[dict[str, Any], str]) -> None:
    contended = [row for row in outcome[0]["rows"] if row["subject"] == "contention"]
    assert all(row["count"] == "right" for row in contended if row["kind"] in ("floor", "ours"))


def test_json_says_what_was_measured_where(outcome: tuple[dict[str, Any], str]) -> None:
    report = outcome[0]
    assert report["python"]
    assert report["machine"]["cores"]
    assert report["server"]["redis_version"]
    assert {"lithops", "redis"} <= report["libraries"].keys()
    assert "commit" in report


def test_the_table_names_everyone(outcome: tuple[dict[str, Any], str]) -> None:
    report, printed = outcome
    for row in report["rows"]:
        assert row["contestant"] in printed
    for name in report["left_out"]:
        assert f"left out: {name}" in printed


def test_fairness_is_one_for_equal_shares_and_one_nth_for_a_monopoly(harness: ModuleType) -> None:
    assert harness.jain([7, 7, 7, 7]) == 1
    assert harness.jain([9, 0, 0]) == pytest.approx(1 / 3)
    assert harness.jain([0, 0]) == 0


def test_a_ratio_is_the_median_of_the_rounds_ratios(harness: ModuleType) -> None:
    # Given a machine that was ten times slower in one round, for both
    floor = harness.Series("floor", "floor", [10.0, 100.0, 12.0])
    ours = harness.Series("ours", "ours", [15.0, 150.0, 18.0])
    # Then the ratio does not show it
    assert harness.ratio(ours, floor) == 1.5


def test_a_peer_that_fails_is_left_out_and_named(harness: ModuleType) -> None:
    from bench.contestants import FLOOR, PEER, Contestant

    stage = harness.Stage(None, harness.TINY, None)
    floor = Contestant("floor", FLOOR, lambda site, stack: None)
    broken = Contestant("broken", PEER, lambda site, stack: None)

    def once(one: Contestant, series: Any) -> None:
        if one is broken:
            raise OSError("no such luck")
        series.rounds.append(1.0)

    found = stage.interleave("subject", [floor, broken], 2, once)
    assert [series.name for series in found] == ["floor"]
    assert stage.dropped == {"broken": "OSError: no such luck"}


def test_the_floor_may_not_fail(harness: ModuleType) -> None:
    from bench.contestants import FLOOR, Contestant

    stage = harness.Stage(None, harness.TINY, None)
    floor = Contestant("floor", FLOOR, lambda site, stack: None)

    def once(one: Contestant, series: Any) -> None:
        raise OSError("no such luck")

    with pytest.raises(OSError, match="no such luck"):
        stage.interleave("subject", [floor], 1, once)
