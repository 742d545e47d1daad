"""A pytest plugin: a test that hangs says so, and ends the run.

pytest's own ``faulthandler_timeout`` shows 100 threads, and Lithops keeps more than
that idle; of what a run says, only the end may be kept. So this prints last, and
shortly: which test it is, what it wrote last, what the main thread does, and then the
threads that do something. It needs the interpreter lock; faulthandler's comes later and does not.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

#: What is printed has so many characters at most, so many of them of the test's own
#: output, and so many frames of a thread.
REPORT = 6000
OUTPUT = 1000
FRAMES = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hang-limit",
        type=float,
        default=240.0,
        metavar="SECONDS",
        help="a test that takes longer is shown, and ends the run",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        return  # tests run in the workers, each of which has its own
    # Output is not captured yet.
    capture = config.pluginmanager.getplugin("capturemanager")
    watchdog = Watchdog(config.getoption("--hang-limit"), os.dup(2), capture)
    config.pluginmanager.register(watchdog)
    watchdog.start()


class Watchdog(threading.Thread):
    """Ends the run if one test takes longer than ``limit``; ``fd`` is the terminal."""

    def __init__(self, limit: float, fd: int, capture: Any) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._limit = limit
        self._fd = fd
        self._capture = capture
        self._what = ""
        self._deadline: float | None = None  # nobody waits for us yet
        self._changed = threading.Condition()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._expect(nodeid, self._limit)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._expect(nodeid, None)  # a worker may have to wait for its next test

    def pytest_sessionfinish(self) -> None:
        # And the interpreter's: CPython joins processes then, and we tidy up.
        self._expect("the end of the run", self._limit)

    def pytest_enter_pdb(self) -> None:
        self._expect("a debugger", None)

    def _expect(self, what: str, seconds: float | None) -> None:
        with self._changed:
            self._what = what
            self._deadline = None if seconds is None else time.monotonic() + seconds
            self._changed.notify()

    def run(self) -> None:
        with self._changed:
            while self._deadline is None or time.monotonic() < self._deadline:
                left = self._deadline and max(0.0, self._deadline - time.monotonic())
                self._changed.wait(left)
            try:
                title = f"\n\n{self._what} hangs: it took more than {self._limit:g} s.\n"
                report = f"{title}{self._output()}{stacks()}"
                os.write(self._fd, report[:REPORT].encode() + b"\n")
            finally:
                kill_descendants(os.getpid())
                os._exit(1)

    def _output(self) -> str:
        """What the test wrote last, unless a fixture of its own has it."""
        found = ""
        with contextlib.suppress(Exception):  # the test has not expected us to read it
            found = "".join(self._capture.read_global_capture())
        return f"\nIts output\n{found[-OUTPUT:]}\n" if found else ""


def stacks() -> str:
    """What each thread does, the main thread first; those that do the same are one."""
    main = threading.main_thread().ident
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    first, idle, others = "", 0, Counter[str]()
    for ident, frame in sys._current_frames().items():
        stack = traceback.extract_stack(frame)
        if ident == main:
            first = _text([f for f in stack if not _is_pytests(f)], limit=2 * FRAMES)
        elif _is_idle(stack):
            idle += 1
        elif ident != threading.get_ident():
            title = re.sub(r"-\d+", "", names.get(ident, "?"))
            others[f"{title}\n{_text(stack, limit=FRAMES)}"] += 1
    found = "".join(f"\n{count} x {text}" for text, count in others.items())
    return f"\nMain thread\n{first}{found}\n{idle} threads of Lithops are idle.\n"


def _is_pytests(frame: traceback.FrameSummary) -> bool:
    return any(f"{os.sep}{name}{os.sep}" in frame.filename for name in ("_pytest", "pluggy"))


def _is_idle(stack: traceback.StackSummary) -> bool:
    """A consumer of Lithops' localhost that waits for a task."""
    pairs = itertools.pairwise(frame.name for frame in stack)
    return ("_queue_consumer", "get") in pairs


def _text(stack: list[traceback.FrameSummary], limit: int) -> str:
    lines = []
    for frame in stack[-limit:]:
        where = os.sep.join(Path(frame.filename).parts[-2:])
        lines.append(f"  {where}:{frame.lineno} {frame.name}: {frame.line}\n")
    return "".join(lines)


def kill_descendants(pid: int) -> None:
    """SIGKILL for all that descend from a process, before anything can begin another."""
    for child in _children(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGSTOP)
        kill_descendants(child)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    """Its children, whichever of its threads started them; none where there is no /proc."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            found += map(int, (thread / "children").read_text().split())
    return found
