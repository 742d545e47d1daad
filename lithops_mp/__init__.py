"""Python's ``multiprocessing``, with processes that run as Lithops functions.

    import lithops_mp as multiprocessing

Shared objects live in Redis; see ``README.md`` for what is promised and where we
differ from CPython.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
from typing import Any

from . import config, context
from ._version import __version__ as __version__

SUBDEBUG = 5
SUBWARNING = 25

# As in CPython: the names of the package are the methods of the default context.
_names = [name for name in dir(context._default_context) if not name.startswith("_")]
globals().update((name, getattr(context._default_context, name)) for name in _names)

__all__ = [*_names, "config"]

_HERE = (
    *("connection", "dummy", "managers", "pool", "process", "queues", "reduction"),
    *("sharedctypes", "synchronize", "util"),
)
_LATER = ("heap", "resource_sharer", "resource_tracker", "shared_memory")
# How CPython starts processes.
_NEVER = (
    *("forkserver", "popen_fork", "popen_forkserver", "popen_spawn_posix", "popen_spawn_win32"),
    *("spawn",),
)


def __getattr__(name: str) -> Any:
    if name in (*_HERE, *_LATER, *_NEVER):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:  # hasattr() must not fail
            raise AttributeError(str(error)) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Missing(importlib.abc.MetaPathFinder):
    """Says of CPython's submodules that are missing whether they are to come."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        package, _, name = fullname.rpartition(".")
        # Without name=, or "from lithops_mp import shared_memory" would swallow it.
        if package == __name__ and name in _LATER:
            raise ModuleNotFoundError(
                f"lithops_mp has no module {name!r} yet; it comes in a later version. Until "
                "then, CPython's serves processes of one machine"
            )
        if package == __name__ and name in _NEVER:
            raise ModuleNotFoundError(
                f"lithops_mp has no module {name!r}: Lithops starts its processes, not CPython"
            )


sys.meta_path.append(_Missing())
