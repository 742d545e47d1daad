"""Processes: CPython's ``BaseProcess``, launched as Lithops functions.

Who we are, who our children are and who our parent is, is CPython's own state
(``multiprocessing.process``), so programs that ask there get the same answers.
"""

from __future__ import annotations

import os
from multiprocessing import process as _mp
from multiprocessing import util
from multiprocessing.process import ORIGINAL_DIR as ORIGINAL_DIR  # type: ignore[attr-defined]
from multiprocessing.process import (  # type: ignore[attr-defined]
    AuthenticationString,
    BaseProcess,
    active_children,
    current_process,
    parent_process,
)
from typing import Any

__all__ = [
    "AuthenticationString",
    "BaseProcess",
    "Process",
    "active_children",
    "current_process",
    "parent_process",
]


class Process(BaseProcess):
    """A process that runs as a Lithops function; the interface of ``threading.Thread``.

    ``start`` returns when the process is on its way, not when it runs. ``pid``
    waits until it does; it is the pid on the machine it runs on. A process whose
    function is lost counts as killed: ``exitcode`` -9. One that could not be begun has 1:
    Lithops started no function, or two that ended before that, or it did not unpickle.
    """

    _start_method = None  # CPython's bootstrap would look it up among its own
    _method: str | None = None  # what it is called in the child; None: as here

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        from .popen_lithops import Popen

        return Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        # CPython's forgets all finalizers, which it takes for its parent's. Those went
        # before this process was unpickled (``worker``); what came with it has its own.
        util._run_after_forkers()  # type: ignore[attr-defined]

    @property
    def ident(self) -> int | None:
        """The process id, or None before ``start``; waits until the process runs."""
        self._check_closed()  # type: ignore[attr-defined]
        if self is _mp.current_process():
            return os.getpid()
        popen: Any = self._popen  # type: ignore[attr-defined]
        return popen.wait_pid() if popen else None

    pid = ident
