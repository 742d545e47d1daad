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

from . import standins


class _Replacement(types.ModuleType):
    Queue = JoinableQueue = staticmethod(standins.Queue)
    Pipe = staticmethod(standins.Pipe)
    heap = standins.heap

    _CPYTHONS = (
        "connection",
        "dummy",
        "forkserver",
        "managers",
        "pool",
        "process",
        "queues",
        "reduction",
        "resource_tracker",
        "shared_memory",
        "util",
    )

    def __getattr__(self, name: str) -> Any:
        if name in self._CPYTHONS:
            return importlib.import_module(f"multiprocessing.{name}")
        return getattr(lithops_mp, name)

    def __dir__(self) -> list[str]:
        return dir(lithops_mp)


multiprocessing = _Replacement("multiprocessing")


def import_with_replacement(name: str, *args: Any, **kwargs: Any) -> Any:
    """``__import__`` for the tests."""
    found = builtins.__import__(name, *args, **kwargs)
    if found.__name__ == "multiprocessing.sharedctypes":
        return importlib.import_module("lithops_mp.sharedctypes")
    return multiprocessing if found.__name__ == "multiprocessing" else found
