"""``multiprocessing`` with threads: CPython's."""

from multiprocessing import dummy
from multiprocessing.dummy import *  # noqa: F403 - the same names
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(dummy, name)  # those that its __all__ leaves out
