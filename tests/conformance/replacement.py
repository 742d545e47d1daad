"""What CPython's tests get when they import ``multiprocessing``.

``lithops_mp``, a few stand-ins (``standins``) for what is still to come, and
CPython's own modules where those are not ours (``process._dangling`` and the like).
"""

from __future__ import annotations

import builtins
import importlib
import types
from typing import Any

import lithops_mp
from lithops_mp import pool, sharedctypes

from . import standins


class _Both(types.ModuleType):
    """Our module, and behind it the constants and functions of CPython's that tests look at."""

    def __getattr__(self, name: str) -> Any:
        theirs = importlib.import_module(self.__name__)
        ours = importlib.import_module(self.__name__.replace("multiprocessing", "lithops_mp"))
        return getattr(ours, name) if hasattr(ours, name) else getattr(theirs, name)


connection = _Both("multiprocessing.connection")
managers = _Both("multiprocessing.managers")


class _Replacement(types.ModuleType):
    heap = standins.heap

    _CPYTHONS = (
        "dummy",
        "forkserver",
        "process",
        "resource_sharer",
        "resource_tracker",
        "shared_memory",
        "util",
    )

    def __getattr__(self, name: str) -> Any:
        if name in ("connection", "managers"):
            return globals()[name]
        if name in self._CPYTHONS:
            return importlib.import_module(f"multiprocessing.{name}")
        return getattr(lithops_mp, name)

    def __dir__(self) -> list[str]:
        return dir(lithops_mp)


multiprocessing = _Replacement("multiprocessing")

_REPLACED = {
    **{module.__name__: module for module in (multiprocessing, connection, managers)},
    "multiprocessing.pool": pool,
    "multiprocessing.sharedctypes": sharedctypes,
}


def import_with_replacement(name: str, *args: Any, **kwargs: Any) -> Any:
    """``__import__`` for the tests."""
    found = builtins.__import__(name, *args, **kwargs)
    return _REPLACED.get(found.__name__, found)
