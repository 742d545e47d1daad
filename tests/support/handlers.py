"""A signal's handler, at any place where Python would run one."""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import lithops_mp

PACKAGE = str(Path(lithops_mp.__file__).parent)


class Handler:
    """Is run at the nth place in our code where a signal's handler may be.

    Python looks for signals where a function of its own begins and where one in C has
    returned, of which a profiler is told; and where it jumps back, of which it is not, nor of
    the return of Python's functions, where 3.10 looks, too. One that comes again and again,
    while an answer is polled for, counts once.
    """

    def __init__(self, place: int, act: Callable[[], object]) -> None:
        self.act = act
        self.left = place
        #: Where that was; nowhere, if there are fewer places.
        self.where = ""
        self.last: object = None

    def __call__(self, frame: FrameType, event: str, function: Any) -> None:
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(PACKAGE):
            if self.last == (this := (id(frame), frame.f_lineno, event)):
                return
            self.last = this
            self.left -= 1
            if not self.left:
                sys.setprofile(None)
                self.where = f"{frame.f_code.co_name}:{frame.f_lineno}"
                self.act()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """The block meets with it."""
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)


def everywhere() -> Iterator[int]:
    """Place by place; stop when :attr:`Handler.where` is empty."""
    gc.collect()
    gc.disable()  # a finalizer swallows what is raised in it
    try:
        yield from itertools.count(1)
    finally:
        gc.enable()
