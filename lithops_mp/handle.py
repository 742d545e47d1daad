"""Handles: names of objects in Redis, and this process's references to them."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

from ._store.families import Ref
from ._store.session import current, dropped


class Handle:
    """A name in Redis and this process's reference to it.

    There is at most one handle per object and process: unpickling a second one
    yields the first, so all of a process's threads share what it knows.
    """

    family: ClassVar[str]
    _live: ClassVar[weakref.WeakValueDictionary[Ref, Handle]] = weakref.WeakValueDictionary()
    _live_lock = threading.RLock()

    def __init__(self, ref: Ref) -> None:
        self.ref = ref
        self._live[ref] = self
        self._finalizer = weakref.finalize(self, dropped, ref)
        self._finalizer.atexit = False

    @classmethod
    def find(cls, ref: Ref, *args: Any, pin: str = "") -> Any:
        """The handle with this name. Raises ObjectExpired if the object is gone.

        ``pin`` has kept the object until now, and is taken away.
        """
        with cls._live_lock:
            handle = cls._live.get(ref)
            if handle is None:
                current().refer(ref, pin)
                handle = cls(ref, *args)
            elif pin:
                current().unpin(ref, pin)
            return handle

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        current().export(self.ref)
        return find, (type(self), self.ref, "", *self._details())

    def _details(self) -> tuple[Any, ...]:
        return ()

    def let_go(self) -> None:
        """Not to be used any more: as if collected, whoever still keeps it (a traceback, say)."""
        with self._live_lock:
            if self._live.get(self.ref) is self:
                del self._live[self.ref]
            self._finalizer()

    def forget(self) -> None:
        """Hold nothing: what a new or a forked process starts with."""


def _after_fork() -> None:
    # Another thread may have held it when this process was forked off.
    Handle._live_lock = threading.RLock()
    for handle in list(Handle._live.values()):
        handle.forget()


os.register_at_fork(after_in_child=_after_fork)


def find(cls: type[Handle], ref: Ref, pin: str, *args: Any) -> Any:
    """A handle that arrives; what one pickles to."""
    return cls.find(Ref(*ref), *args, pin=pin)
