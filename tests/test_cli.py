"""The command line, and the program that the README shows, as a newcomer runs them.

Both run in another folder, by the interpreter's path alone, with no Redis and no
Lithops configuration.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lithops_mp as mp
from lithops_mp import cli

README = Path(__file__).resolve().parent.parent / "README.md"


def run(tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("LITHOPS", "VIRTUAL"))}
    environ |= {
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
    }
    return subprocess.run(
        [sys.executable, *args], cwd=tmp_path, env=environ, capture_output=True, text=True
    )


def test_demo_says_who_did_what_and_that_it_is_right(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "lithops_mp.cli", "demo", "--processes", "3")
    assert done.returncode == 0, done.stderr
    assert "WRONG" not in done.stdout
    assert done.stdout.count(": right") == 3
    rows = re.findall(r"worker-\d +\d+ +0 +(\d+) +(\d+)", done.stdout)
    assert [int(increments) for increments, _ in rows] == [cli.INCREMENTS] * 3
    assert sum(int(tokens) for _, tokens in rows) == cli.TOKENS


def test_whatever_is_wrong_in_the_demo_is_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = cli._Report.verdict
    monkeypatch.setattr(cli._Report, "verdict", lambda report, right: verdict(report, not right))
    assert cli.demo(1) == 1
    assert "WRONG" in capsys.readouterr().out


def test_bench_is_a_part_of_the_command(tmp_path: Path) -> None:
    words = ("bench", "--tiny", "--only", "lock", "--json", "result.json", "--html", "page.html")
    done = run(tmp_path, "-m", "lithops_mp.cli", *words)
    assert done.returncode == 0, done.stderr
    assert "Lock pair" in done.stdout
    assert json.loads((tmp_path / "result.json").read_text())["rows"]
    assert "<svg" in (tmp_path / "page.html").read_text()


def test_program_of_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "program.py").write_text(program)
    done = run(tmp_path, "program.py")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "exit codes: [0, 0, 0, 0]"
    wanted = [f"worker {i}: turn {turn}" for turn in range(3) for i in range(4)]
    assert sorted(lines[:-1]) == sorted(wanted)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["demo", "--redis", "redis://127.0.0.1:1"], "does not answer"),
        (["demo", "--redis", "http://me:secret@host"], "its scheme is not known"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_no_traceback(
    args: list[str], says: str, tmp_path: Path
) -> None:
    done = run(tmp_path, "-m", "lithops_mp.cli", *args)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("args", [[], ["demo", "--processes", "0"], ["demo", "--processes", "x"]])
def test_wrong_usage_is_explained(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(args)
    assert raised.value.code == 2
    assert "usage: lithops-mp" in capsys.readouterr().err


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"lithops-mp {mp.__version__}\n"
