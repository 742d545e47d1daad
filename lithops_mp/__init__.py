"""Python's ``multiprocessing``, with processes that run as Lithops functions.

    import lithops_mp as multiprocessing

Shared objects live in Redis; see ``README.md`` for what is promised and where we
differ from CPython.
"""

from __future__ import annotations

from typing import Any

from . import config, context

__version__ = "0.1.0"

SUBDEBUG = 5
SUBWARNING = 25

# As in CPython: the names of the package are the methods of the default context.
_names = [name for name in dir(context._default_context) if not name.startswith("_")]
globals().update((name, getattr(context._default_context, name)) for name in _names)

__all__ = [*_names, "config"]  # noqa: PLE0604 - the names are strings

_SUBMODULES = ("context", "process", "synchronize", "errors", "config")
_LATER = (
    "connection", "dummy", "heap", "managers", "pool", "queues", "reduction",
    "resource_sharer", "shared_memory", "sharedctypes", "util",
)


def __getattr__(name: str) -> Any:
    import importlib

    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _LATER:
        raise NotImplementedError(f"lithops_mp has no module {name!r} yet; it comes in a later version")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
