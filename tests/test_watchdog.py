"""The watchdog over the tests: a run that hangs ends, and its last words say where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.servers import alive, eventually

HANGS = """
import queue, subprocess, sys, threading

def test_that_ends():
    pass

def test_that_hangs():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with open("pid", "w") as file:
        file.write(str(child.pid))

    def _queue_consumer():
        queue.Queue().get()

    def busy_elsewhere():
        threading.Event().wait()

    for target in 200 * [_queue_consumer] + 3 * [busy_elsewhere]:
        threading.Thread(target=target, daemon=True).start()
    stuck_here()

def stuck_here():
    print("it is captured")
    threading.Event().wait()
"""

HANGS_AT_THE_END = """
import atexit, threading

def test_that_ends():
    atexit.register(stuck_here)

def stuck_here():
    threading.Event().wait()
"""


def run(directory: Path, code: str) -> str:
    """What is printed last by a run of these tests, which has to fail."""
    (directory / "test_it.py").write_text(code)
    tests = Path(__file__).parent
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "support.watchdog", "--hang-limit=2", "."],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(tests)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 1
    before, _, said = ended.stdout.rpartition("hangs: it took more than 2 s.\n")
    assert len(said) < 6000
    return before.splitlines()[-1] + said


def test_hanging_test_is_named_and_its_processes_end(tmp_path: Path) -> None:
    said = run(tmp_path, HANGS)
    assert said.startswith("test_it.py::test_that_hangs ")
    main, _, others = said.partition("3 x Thread (busy_elsewhere)\n")
    assert "stuck_here: threading.Event().wait()" in main
    assert "test_that_hangs: stuck_here()" in main
    assert "_pytest" not in main
    assert "busy_elsewhere: threading.Event().wait()" in others
    assert "_queue_consumer" not in others
    assert "200 threads of Lithops are idle." in others
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: not alive(pid), "the end of the process")


def test_hanging_exit_is_shown(tmp_path: Path) -> None:
    said = run(tmp_path, HANGS_AT_THE_END)
    assert said.startswith("the end of the run ")
    assert "stuck_here: threading.Event().wait()" in said
