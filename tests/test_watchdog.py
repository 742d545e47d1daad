"""The watchdog over the tests: a run that hangs ends, and its last words say where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.servers import alive, eventually

#: The time is up as soon as the main thread is stuck here, and all others wait.
STUCK = """
import atexit, queue, subprocess, sys, threading, time

def stuck_here():
    threading.Event().wait()

def end_the_time():
    [watchdog] = [thread for thread in threading.enumerate() if thread.name == "watchdog"]
    main = threading.main_thread().ident
    while True:
        calls = {ident: names(frame) for ident, frame in sys._current_frames().items()}
        del calls[threading.get_ident()]
        stuck = calls[main][-3:] == ["stuck_here", "wait", "wait"]
        if stuck and all(call[-1] == "wait" for call in calls.values()):
            watchdog._expect(watchdog._what, 0.0)
            return
        time.sleep(0.01)

def names(frame):
    return [*names(frame.f_back), frame.f_code.co_name] if frame else []

threading.Thread(target=end_the_time, daemon=True).start()
"""

IN_A_TEST = """
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
    print("it is captured")
    stuck_here()
"""

AT_THE_END = """
def test_that_ends():
    atexit.register(stuck_here)
"""


def run(directory: Path, code: str) -> str:
    """What is printed last by a run of these tests, which has to fail."""
    (directory / "test_it.py").write_text(STUCK + code)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "support.watchdog", "--hang-limit=900", "."],
        cwd=directory,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 1
    before, _, said = ended.stdout.rpartition("hangs: it took more than 900 s.\n")
    assert len(said) < 6000
    return before.splitlines()[-1] + said


def test_hanging_test_is_named_and_its_processes_end(tmp_path: Path) -> None:
    said = run(tmp_path, IN_A_TEST)
    assert said.startswith("test_it.py::test_that_hangs ")
    main, _, others = said.partition("3 x Thread (busy_elsewhere)\n")
    assert "\nIts output\nit is captured\n" in main
    assert "stuck_here: threading.Event().wait()" in main
    assert "test_that_hangs: stuck_here()" in main
    assert "_pytest" not in main
    assert "busy_elsewhere: threading.Event().wait()" in others
    assert "_queue_consumer" not in others
    assert "200 threads of Lithops are idle." in others
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: not alive(pid), "the end of the process")


def test_hanging_exit_is_shown(tmp_path: Path) -> None:
    said = run(tmp_path, AT_THE_END)
    assert said.startswith("the end of the run ")
    assert "stuck_here: threading.Event().wait()" in said
