"""The bench runs, and every row has its numbers. No test asserts a time: machines differ."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from support.servers import eventually, running

ROOT = Path(__file__).parent.parent


class Outcome(NamedTuple):
    """What a run left: its JSON, its page, what it printed, and said meanwhile, and its folder."""

    report: dict[str, Any]
    page: str
    printed: str
    said: str
    temporary: Path

    def leaves_nothing(self) -> None:
        """The embedded server goes when the program has gone: wait for it."""
        files = self.temporary.rglob
        eventually(lambda: not [*files("*")], lambda: f"nothing, but there are {[*files('*')]}")


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def measure(scratch: Path, *words: str) -> Outcome:
    files = scratch / "result.json", scratch / "page.html"
    temporary = scratch / "t"  # a short name: sockets are made there
    temporary.mkdir()
    done = bench(temporary, "--tiny", "--json", str(files[0]), "--html", str(files[1]), *words)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    report, page = json.loads(files[0].read_text()), files[1].read_text()
    return Outcome(report, page, done.stdout, done.stderr, temporary)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run of everything, as small as it gets."""
    return measure(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import harness

    return harness


def test_every_subject_has_rows_of_the_floor_and_of_us(outcome: Outcome) -> None:
    rows = outcome.report["rows"]
    cases = {(row["subject"], row["case"]) for row in rows}
    explained = bench(ROOT, "--help").stdout.partition("subjects:")[2].partition("columns:")[0]
    subjects = set(re.findall(r"^  (\w+) ", explained, re.MULTILINE))
    assert subjects >= {"lock", "handover", "contention", "waiters", "queue", "pipe", "value"}
    assert subjects >= {"event", "barrier", "start", "roundtrip", "dict", "list"}
    assert {subject for subject, _ in cases} == subjects
    for case in cases:
        kinds = {row["kind"] for row in rows if (row["subject"], row["case"]) == case}
        assert "floor" in kinds
        assert "ours" in kinds or case[0] == "roundtrip"


def test_every_row_has_its_numbers(outcome: Outcome) -> None:
    for row in outcome.report["rows"]:
        wanted = {"ops_per_s"} if row.get("ops_per_s") else {"p50", "p99"}
        if row["subject"] == "contention":
            wanted |= {"wait_p50", "wait_p99", "jain"}
        for name in (*wanted, "figure", "to_floor"):
            assert row[name] > 0, (name, row)
        assert row["rounds"]


def test_round_trips_are_counted(outcome: Outcome) -> None:
    rows = [row for row in outcome.report["rows"] if row.get("unit") != "bytes"]
    for row in rows:
        if row["kind"] in ("floor", "ours"):
            assert row["requests"] > 0, row
        else:
            assert row["requests"] is not None
    # Of a few operations only, and on a busy machine somebody's sign of life comes between.
    pairs = [row for row in rows if row["case"] == "Lock pair"]
    lock = {row["contestant"]: round(row["requests"]) for row in pairs}
    assert lock["lithops_mp"] == lock["floor"] == 2
    assert lock["multiprocessing"] == lock["Manager"] == 0


def test_a_person_sees_who_is_nearer_the_floor_and_the_best_peer(outcome: Outcome) -> None:
    rows = outcome.report["rows"]
    for subject in {row["subject"] for row in rows} - {"roundtrip"}:
        mine = [row for row in rows if row["subject"] == subject]
        assert any(row.get("goal") and isinstance(row["met"], bool) for row in mine), subject
        assert any(row["to_best_peer"] for row in mine if row["kind"] == "ours"), subject


def test_progress_is_shown_while_it_runs(outcome: Outcome) -> None:
    rows = outcome.report["rows"]
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    for number, subject in enumerate(subjects, 1):
        assert f"[{number}/{len(subjects)}] {subject}: " in outcome.said


def test_a_line_of_waiters_is_held_against_a_shorter_one(outcome: Outcome) -> None:
    rows = [row for row in outcome.report["rows"] if row["subject"] == "waiters"]
    shortest, longest = min(row["x"] for row in rows), max(row["x"] for row in rows)
    assert longest > shortest
    assert all(row["growth"] > 0 for row in rows if row["x"] == longest)
    ours = [row for row in rows if row["kind"] == "ours" and row["x"] == longest]
    assert [row["goal"] for row in ours] == ["growth <= 1.3"]


def test_the_sizes_are_those_that_are_promised(harness: ModuleType) -> None:
    for sizes in (harness.QUICK, harness.FULL):
        assert sizes.processes == (1, 2, 4, 8, 16)
        assert sizes.waiters[-1] == 1000


@pytest.mark.parametrize("subject", ["queue", "pipe"])
def test_messages_of_several_sizes_are_sent(outcome: Outcome, subject: str) -> None:
    rows = [row for row in outcome.report["rows"] if row["subject"] == subject]
    assert len({row["x"] for row in rows if row.get("ops_per_s")}) >= 2
    assert len({row["x"] for row in rows if row.get("p50")}) >= 2


def test_a_pool_is_measured_warm_and_cold(outcome: Outcome) -> None:
    rows = [row for row in outcome.report["rows"] if row["subject"] == "pool"]
    for rate in "ops_per_s", "cold":
        found = {row["contestant"] for row in rows if row.get(rate)}
        assert {"lithops_mp", "multiprocessing"} <= found


def test_a_server_of_ones_own_has_none_of_its_keys_afterwards(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running(tcp=True, password="secret") as server:
        s = server.settings
        server.command("SET", "theirs", "stays")
        words = [
            "--only",
            "lock",
            "--only",
            "dict",
            "--redis",
            f"redis://:secret@{s.host}:{s.port}",
        ]
        found = measure(tmp_path_factory.mktemp("own"), *words)
        assert found.report["server"]["origin"] == "given with --redis"
        assert "secret" not in found.printed + found.said + json.dumps(found.report) + found.page
        assert server.command("KEYS", "*") == [b"theirs"]
        assert len(found.report["rows"]) > 20


def test_the_locks_exclude(outcome: Outcome) -> None:
    contended = [row for row in outcome.report["rows"] if row["subject"] == "contention"]
    assert all(row["count"] == "right" for row in contended if row["kind"] in ("floor", "ours"))


def test_json_says_what_was_measured_where(outcome: Outcome) -> None:
    report = outcome.report
    assert report["python"]
    assert report["machine"]["cores"]
    assert report["machine"]["cpu"]
    assert re.fullmatch("[0-9a-f]{40}", report["commit"]) or not (ROOT / ".git").exists()
    assert report["seconds"] > 0
    assert report["server"]["redis_version"]
    assert {"lithops", "redis"} <= report["libraries"].keys()
    assert {"commit", "version", "date"} <= report.keys()


def test_the_table_names_everyone(outcome: Outcome) -> None:
    for row in outcome.report["rows"]:
        assert row["contestant"] in outcome.printed
    for heading in ("round trips", "x floor", "x best peer", "goal"):
        assert f"| {heading} " in re.sub(" +", " ", outcome.printed)
    for name in outcome.report["left_out"]:
        assert f"left out: {name}" in outcome.printed


def test_the_page_has_plots_of_every_subject_and_needs_nothing_else(outcome: Outcome) -> None:
    rows = outcome.report["rows"]
    assert outcome.page.count("<svg") >= len({row["subject"] for row in rows})
    for row in rows:
        assert row["contestant"] in outcome.page
    assert not re.search(r"<script|<link|src=|href=|\bnan\b", outcome.page)


def test_nothing_is_left(outcome: Outcome) -> None:
    outcome.leaves_nothing()


def test_a_run_that_is_killed_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    scratch = tmp_path_factory.mktemp("dead") / "t"
    scratch.mkdir()
    words = [sys.executable, "-m", "bench", "--tiny", "--only", "lock"]
    environ = {**os.environ, "TMPDIR": str(scratch)}
    mark = f"TMPDIR={scratch}".encode()

    def left() -> list[str]:
        """Its files, and the processes that it has spawned."""
        found = [str(path) for path in scratch.iterdir()]
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                if mark in (folder / "environ").read_bytes() and b"multiprocessing" in command:
                    found.append(command.decode())
        return found

    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, cwd=ROOT, env=environ, text=True, **pipes) as run:
        assert run.stderr
        for line in run.stderr:
            if "measured" in line:
                break
        assert left()
        run.kill()
        run.wait()
        eventually(lambda: not left(), lambda: f"nothing, but there are {left()}")


def test_a_latency_is_in_every_round_trip(tmp_path_factory: pytest.TempPathFactory) -> None:
    found = measure(tmp_path_factory.mktemp("late"), "--only", "lock", "--latency", "2ms")
    assert found.report["latency"] == 0.002
    assert "2 ms longer" in found.printed
    for row in found.report["rows"]:
        # No machine is too quick for this: a delay has at least its length.
        if row["case"] == "Lock pair" and row["kind"] in ("floor", "ours"):
            assert row["p50"] > 2 * 2000
            assert row["requests"] == 2
    found.leaves_nothing()


def test_the_proxy_passes_everything_on_and_ends_with_its_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.proxy import Proxy

    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as near:
        proxy = Proxy("127.0.0.1", str(server.getsockname()[1]), 0.002)
        near.connect(proxy.path)
        with server.accept()[0] as far:
            # More than fits in one read, both ways
            for sender, receiver in ((near, far), (far, near)):
                for _ in range(20):
                    data = os.urandom(100_000)
                    sender.sendall(data)
                    assert receiver.recv(len(data), socket.MSG_WAITALL) == data
        assert near.recv(1) == b""  # closed here, as it was there
        proxy.close()
    assert not Path(proxy.path).parent.exists()


@pytest.mark.parametrize(
    "words",
    [["--latency", "1"], ["--latency", "1h"], ["--latency", "11s"], ["--only", "everything"]],
)
def test_wrong_usage_is_explained(words: list[str]) -> None:
    done = bench(ROOT, *words)
    assert done.returncode == 2
    assert "usage: python -m bench" in done.stderr
    assert repr(words[1]) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    done = bench(tmp_path, "--redis", "redis://me:secret@127.0.0.1:1", "--only", "lock")
    assert done.returncode == 2
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


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
    assert stage.dropped == {"broken (subject)": "OSError: no such luck"}


def test_the_floor_may_not_fail(harness: ModuleType) -> None:
    from bench.contestants import FLOOR, Contestant

    stage = harness.Stage(None, harness.TINY, None)
    floor = Contestant("floor", FLOOR, lambda site, stack: None)

    def once(one: Contestant, series: Any) -> None:
        raise OSError("no such luck")

    with pytest.raises(OSError, match="no such luck"):
        stage.interleave("subject", [floor], 1, once)
