"""Logging, finalizers and the like: CPython's, which knows our processes, too."""

from multiprocessing import util
from multiprocessing.util import *  # noqa: F403 - the same names
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(util, name)  # those that its __all__ leaves out
