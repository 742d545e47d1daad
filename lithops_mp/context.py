"""Contexts: CPython's, with processes and objects of ours.

There is one way to start a process, called ``lithops``. ``spawn`` and
``forkserver`` are accepted as other names for it, since what they promise (a
fresh interpreter that is sent what it needs) is what it does. ``fork`` promises
the parent's memory, which no other machine has, and is refused.
"""

from __future__ import annotations

from multiprocessing import context as _mp
from multiprocessing.context import (
    AuthenticationError,
    BaseContext,
    BufferTooShort,
    ProcessError,
    TimeoutError,
    assert_spawning,
    get_spawning_popen,
    set_spawning_popen,
)
from typing import Any

from . import process
from .process import Process

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "Process",
    "ProcessError",
    "TimeoutError",
    "assert_spawning",
    "get_spawning_popen",
    "set_spawning_popen",
]


class LithopsContext(_mp.BaseContext):
    """The context whose processes are Lithops functions."""

    _name = "lithops"
    Process = process.Process

    def Lock(self) -> Any:
        """A lock, handed over in the order of asking; see ``synchronize.Lock``."""
        from .synchronize import Lock

        return Lock(ctx=self.get_context())

    def RLock(self) -> Any:
        """A lock that its holder may acquire again; see ``synchronize.RLock``."""
        from .synchronize import RLock

        return RLock(ctx=self.get_context())

    def Condition(self, lock: Any = None) -> Any:
        """A condition variable, of a new RLock by default; see ``synchronize.Condition``."""
        from .synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> Any:
        """A counter of ``value`` units to be taken; see ``synchronize.Semaphore``."""
        from .synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> Any:
        """One that never exceeds ``value``; see ``synchronize.BoundedSemaphore``."""
        from .synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> Any:
        """A flag to wait for, which is down; see ``synchronize.Event``."""
        from .synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(self, parties: int, action: Any = None, timeout: float | None = None) -> Any:
        """A meeting point for ``parties`` threads or processes; see ``synchronize.Barrier``."""
        from .synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0, *, redeliver: bool = False) -> Any:
        """A queue; with ``redeliver`` what a process took and died with is given out again.

        ``maxsize`` 0 is no bound; see ``queues.Queue``.
        """
        from .queues import Queue

        return Queue(maxsize, ctx=self.get_context(), redeliver=redeliver)

    def JoinableQueue(self, maxsize: int = 0, *, redeliver: bool = False) -> Any:
        """A queue whose tasks can be waited for (``join``); see ``queues.JoinableQueue``."""
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context(), redeliver=redeliver)

    def SimpleQueue(self) -> Any:
        """A queue without bound and time-outs; see ``queues.SimpleQueue``."""
        from .queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Pipe(self, duplex: bool = True) -> Any:
        """The two ends of a pipe; if not ``duplex`` the first one only receives.

        See ``connection.Connection``.
        """
        from .connection import Pipe

        return Pipe(duplex)

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """A shared ctypes value without a lock; see ``sharedctypes.RawValue``."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:
        """A shared ctypes array without a lock; see ``sharedctypes.RawArray``."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """A shared ctypes value with a lock, a new RLock by default; see ``sharedctypes.Value``."""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        """A shared ctypes array with a lock, a new RLock by default; see ``sharedctypes.Array``."""
        from .sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def Manager(self) -> Any:
        """A manager of shared dicts, lists and so on, started; see ``managers.SyncManager``."""
        from .managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pool(
        self,
        processes: int | None = None,
        initializer: Any = None,
        initargs: Any = (),
        maxtasksperchild: int | None = None,
    ) -> Any:
        """A pool of workers, which start when there are tasks; see ``pool.Pool``."""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    def freeze_support(self) -> None:
        """Nothing to do: functions run an interpreter, not this executable."""

    def allow_connection_pickling(self) -> None:
        """Nothing to do: connections pickle by name."""

    def set_executable(self, executable: Any) -> None:
        """Accepted and ignored: Lithops' configuration names the runtime."""

    def set_forkserver_preload(self, module_names: Any) -> None:
        """Checked and ignored: functions import what they need."""
        if not all(type(name) is str for name in module_names):
            raise TypeError("module_names must be a list of strings")

    def get_context(self, method: str | None = None) -> Any:
        """This context, or the one of that name. Raises ValueError for ``fork``."""
        if method is None:
            return self
        if method == "fork":
            raise ValueError(
                "cannot find context for 'fork': a Lithops function does not have this "
                "process's memory; use 'spawn' or 'lithops'"
            )
        if method not in _contexts:
            raise ValueError(f"cannot find context for {method!r}")
        return _contexts[method]


class SpawnProcess(process.Process):
    """A process whose children are started by ``spawn``, too."""

    _method = "spawn"


class SpawnContext(LithopsContext):
    """The same under CPython's name."""

    _name = "spawn"
    Process = SpawnProcess


class ForkServerProcess(process.Process):
    """A process whose children are started by ``forkserver``, too."""

    _method = "forkserver"


class ForkServerContext(LithopsContext):
    """The same under CPython's name."""

    _name = "forkserver"
    Process = ForkServerProcess


_contexts = {c._name: c() for c in (LithopsContext, SpawnContext, ForkServerContext)}


class DefaultContext(LithopsContext):
    """What the functions of the module ``lithops_mp`` are bound to."""

    def __init__(self) -> None:
        self._actual: LithopsContext | None = None

    def get_context(self, method: str | None = None) -> Any:
        """The context that was set, or the one of that name."""
        if method is not None:
            return super().get_context(method)
        if self._actual is None:
            self._actual = _contexts["lithops"]
        return self._actual

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Choose among names for the same thing. Raises RuntimeError the second time."""
        if self._actual is not None and not force:
            raise RuntimeError("context has already been set")
        self._actual = None if method is None and force else self.get_context(method)

    def get_start_method(self, allow_none: bool = False) -> str | None:  # type: ignore[override]
        """The name that was set; ``lithops`` by default."""
        if self._actual is None and allow_none:
            return None
        return str(self.get_context()._name)

    def get_all_start_methods(self) -> list[str]:
        """The names there are, the default first."""
        return list(_contexts)


_default_context = DefaultContext()
