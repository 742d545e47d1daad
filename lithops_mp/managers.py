"""Managers: CPython's, whose containers are data in Redis.

What a :class:`SyncManager` makes (dicts, lists, locks, queues and so on) lives in Redis:
there is no server process, every method is one atomic round trip, and the proxies are
CPython's classes. What is registered by a program (``register``), and a ``Pool``, lives in
a server process as in CPython: a Lithops function, which is started when the first such
object is made (by a :class:`BaseManager`, at ``start``). Its methods run there, those of
one client's thread one at a time.

Proxies pickle by name, at any time, to anyone who reaches the same Redis. An object lives
as long as somebody has a proxy or a container has it in a value, and at most until its
manager is shut down.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing.managers as _mp
import queue
import threading
from collections.abc import Callable, Iterator
from multiprocessing import util
from multiprocessing.context import ProcessError
from multiprocessing.managers import Namespace as Namespace  # where programs look for it
from multiprocessing.managers import RemoteError, Token
from typing import Any

from . import connection, process, referents
from ._store.families import Ref
from ._store.session import current
from .containers import Dict, List
from .errors import ManagerLost, ServerUnavailable
from .serving import SERIALIZERS, Server

__all__ = ["BaseManager", "BaseProxy", "SyncManager", "Token"]

# typeshed knows less of it than there is.
_cpython: Any = _mp
State: Any = _cpython.State
Value: Any = _cpython.Value
_BaseProxy: Any = _cpython.BaseProxy
_BaseManager: Any = _cpython.BaseManager


def __getattr__(name: str) -> Any:
    if name == "SharedMemoryManager":
        # Of an AttributeError's text "from lithops_mp.managers import ..." shows nothing.
        raise ImportError(
            "lithops_mp.managers has no SharedMemoryManager yet; it comes in a later version, "
            "with shared_memory. Until then, share a RawArray"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# What CPython has a mutable default for; nobody changes it.
_NONE: Any = {}

# So many objects are made before it is asked which of them are still there.
MANY = 1000


# -- proxies of what is in a server process --


class BaseProxy(_BaseProxy):  # type: ignore[misc]  # see _cpython
    """CPython's. Raises ManagerLost when the server process is gone."""

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = _NONE) -> Any:
        """Call a method of the referent; what it returns, or raises."""
        try:
            return super()._callmethod(methodname, args, kwds)
        except ManagerLost:
            # Another server may come to this address.
            self._tls.__dict__.pop("connection", None)
            raise

    def __reduce__(self) -> Any:
        rebuild, (make, *rest) = super().__reduce__()
        return rebuild, (AutoProxy if make is _cpython.AutoProxy else make, *rest)


_made_types: dict[tuple[str, tuple[str, ...]], Any] = {}


def MakeProxyType(name: str, exposed: Any) -> Any:
    """A class of proxies that has these methods."""
    wanted = name, tuple(exposed)
    if wanted not in _made_types:
        theirs: Any = _cpython.MakeProxyType(*wanted)
        _made_types[wanted] = type(name, (BaseProxy, theirs), {})
    return _made_types[wanted]


def AutoProxy(
    token: Any,
    serializer: str,
    manager: Any = None,
    authkey: bytes | None = None,
    exposed: Any = None,
    incref: bool = True,
    manager_owned: bool = False,
) -> Any:
    """A proxy that has all public methods of its referent."""
    if authkey is None:
        authkey = (manager and manager._authkey) or process.current_process().authkey
    if exposed is None:
        with contextlib.closing(
            _cpython.listener_client[serializer][1](token.address, authkey=authkey)
        ) as conn:
            exposed = _cpython.dispatch(conn, None, "get_methods", (token,))
    found = MakeProxyType(f"AutoProxy[{token.typeid}]", exposed)(
        token,
        serializer,
        manager=manager,
        authkey=authkey,
        incref=incref,
        manager_owned=manager_owned,
    )
    found._isauto = True
    return found


class BaseManager(_BaseManager):  # type: ignore[misc]  # see _cpython
    """CPython's, whose server process is a Lithops function.

    ``address`` is as a ``Listener`` takes it: a name in Redis. Objects are gone with the
    server process, which ends with the program that started it.
    """

    _Server = Server
    _process: Any = None
    _address: Any
    _state: Any
    _registry: Any

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        **more: Any,
    ) -> None:
        if ctx is None:
            from .context import _default_context

            ctx = _default_context.get_context()
        super().__init__(address, authkey, SERIALIZERS.get(serializer, serializer), ctx, **more)

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Any = None,
        proxytype: Any = None,
        exposed: Any = None,
        method_to_typeid: Any = None,
        create_method: bool = True,
    ) -> None:
        """Have a type of shared objects that live in the server process."""
        made = proxytype or AutoProxy
        super().register(typeid, callable, made, exposed, method_to_typeid, create_method)

    def get_server(self) -> Any:
        """The server, for a process that is to be it: ``serve_forever()``."""
        self._expect_new()
        return self._Server(self._registry, self._address, self._authkey, self._serializer)

    def start(self, initializer: Any = None, initargs: Any = ()) -> None:
        """Start the server process; ``initializer`` runs in it first.

        Raises ManagerLost if it ends before it serves.
        """
        self._expect_new()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._launch(initializer, initargs)
        self._started(_shut_down, self._end_server)

    def _started(self, function: Any, *args: Any) -> None:
        self._state.value = State.STARTED
        # As in CPython it is not there before.
        self.shutdown = util.Finalize(self, function, args=(*args, self._state), exitpriority=0)

    def _expect_new(self) -> None:
        state = self._state.value
        if state == State.STARTED:
            raise ProcessError("Already started server")
        if state == State.SHUTDOWN:
            raise ProcessError("Manager has shut down")

    def _launch(self, initializer: Any, initargs: Any) -> None:
        reader, writer = connection.Pipe(duplex=False)
        run = type(self)._run_server
        given = self._registry, self._address, self._authkey, self._serializer
        child = self._ctx.Process(target=run, args=(*given, writer, initializer, initargs))
        number = ":".join(str(part) for part in child._identity)
        child.name = f"{type(self).__name__}-{number}"
        child.start()
        writer.close()
        try:
            self._address = reader.recv()
        except BaseException as error:
            child.terminate()
            child.join()
            if not isinstance(error, EOFError):
                raise
            raise ManagerLost(
                f"the server process of this manager ended before it served (exit code "
                f"{child.exitcode}); what it wrote to its standard error says why"
            ) from error
        finally:
            reader.close()
        self._process = child
        timeout = getattr(self, "_shutdown_timeout", None)
        self._end_server = _Ending(child, self._address, self._authkey, self._Client, timeout)


class _Ending:
    """How a server process is ended: CPython's way."""

    def __init__(self, *args: Any) -> None:
        *self._args, timeout = args
        self._more = [] if timeout is None else [timeout]

    def __call__(self) -> None:
        child, address, authkey, client = self._args
        end = _cpython.BaseManager._finalize_manager
        end(child, address, authkey, State(), client, *self._more)


def _shut_down(end_server: _Ending, state: Any) -> None:
    end_server()
    state.value = State.SHUTDOWN


# -- their proxies --


class _Direct(BaseProxy):
    """A proxy whose referent is in Redis; or, as any other, in a server process."""

    _referent: Any = None
    _exposed_: tuple[str, ...]

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = _NONE) -> Any:
        referent = self._referent
        if referent is None:
            return super()._callmethod(methodname, args, kwds)
        if methodname in ("#GETVALUE", "__repr__", "__str__"):
            if not hasattr(referent, "copy"):
                if methodname != "#GETVALUE":
                    return repr(referent)
                raise RemoteError(f"Unserializable message: a {self._token.typeid} has no value\n")
            value = referent.copy()
            return value if methodname == "#GETVALUE" else repr(value)
        if methodname not in self._exposed_:
            raise RemoteError(
                f"AttributeError: method {methodname!r} of {self._token.typeid!r} object is not "
                f"in exposed={self._exposed_!r}\n"
            )
        return getattr(referent, methodname)(*args, **kwds)

    def __reduce__(self) -> Any:
        if self._referent is None:
            return super().__reduce__()
        return _arrived, (self._token.typeid, self._referent)


def _proxy(typeid: str, referent: Any, manager: Any = None) -> Any:
    found = object.__new__(_DIRECT[typeid])
    for name, value in (
        ("_referent", referent),
        ("_token", Token(typeid, None, f"{id(referent):x}")),
        ("_manager", manager),
    ):
        object.__setattr__(found, name, value)
    return found


def _arrived(typeid: str, referent: Any) -> Any:
    """A proxy that was pickled."""
    return _proxy(typeid, referent)


class IteratorProxy(BaseProxy, _cpython.IteratorProxy):  # type: ignore[misc]
    """An iterator in a server process."""


class PoolProxy(BaseProxy, _cpython.PoolProxy):  # type: ignore[misc]
    """A Pool in a server process."""


class AcquirerProxy(_Direct, _cpython.AcquirerProxy):  # type: ignore[misc]
    """A lock or semaphore."""


class ConditionProxy(_Direct, _cpython.ConditionProxy):  # type: ignore[misc]
    """A condition variable."""


class EventProxy(_Direct, _cpython.EventProxy):  # type: ignore[misc]
    """An event."""


class BarrierProxy(_Direct, _cpython.BarrierProxy):  # type: ignore[misc]
    """A barrier. Its action runs in the process that comes last."""


class NamespaceProxy(_Direct, _cpython.NamespaceProxy):  # type: ignore[misc]
    """An object with attributes."""

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = _NONE) -> Any:
        names = self._referent
        if names is None or methodname not in self._exposed_:
            return super()._callmethod(methodname, args, kwds)
        if methodname == "__getattribute__":
            return names.get(*args)
        if methodname == "__setattr__":
            return names.names.__setitem__(*args)
        return names.delete(*args)


class ValueProxy(_Direct, _cpython.ValueProxy):  # type: ignore[misc]
    """A value."""


class ArrayProxy(_Direct, _cpython.ArrayProxy):  # type: ignore[misc]
    """An array of numbers."""


class ListProxy(_Direct, _cpython.ListProxy):  # type: ignore[misc]
    """A list. Every method is atomic; iteration is over the list as it was at one moment."""

    _exposed_ = (*_cpython.ListProxy._exposed_, "clear", "copy", "__iter__")

    def __getitem__(self, index: Any) -> Any:
        referent = self._referent
        return self._callmethod("__getitem__", (index,)) if referent is None else referent[index]

    def append(self, value: Any) -> None:
        """Add an element at the end."""
        if self._referent is None:
            self._callmethod("append", (value,))
        else:
            self._referent.append(value)

    def __iter__(self) -> Iterator[Any]:
        found: Iterator[Any] = iter(self._getvalue() if self._referent is None else self._referent)
        return found

    def clear(self) -> None:
        """Take out all elements."""
        self[:] = ()

    def copy(self) -> Any:
        """A plain list."""
        return self._getvalue()


class DictProxy(_Direct, _cpython.DictProxy):  # type: ignore[misc]
    """A dict. Every method is atomic; iteration is over the dict as it was at one moment."""

    _exposed_ = (*_cpython.DictProxy._exposed_, "add", "compare_set")

    def __getitem__(self, key: Any) -> Any:
        referent = self._referent
        return self._callmethod("__getitem__", (key,)) if referent is None else referent[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._referent is None:
            self._callmethod("__setitem__", (key, value))
        else:
            self._referent[key] = value

    def update(self, *args: Any, **kwds: Any) -> None:
        """Enter what ``dict.update`` takes, all at once."""
        self._callmethod("update", tuple(map(_plain, args)), kwds)

    def __or__(self, other: Any) -> Any:
        return self.copy() | _plain(other)

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __reversed__(self) -> Any:
        return reversed(self.keys())

    def add(self, key: Any, amount: Any) -> Any:
        """Add to a value, 0 if there is none, and return what it was. Not in CPython."""
        return self._callmethod("add", (key, amount))

    def compare_set(self, key: Any, old: Any, new: Any) -> bool:
        """Set a value if it equals ``old``; did it? Not in CPython."""
        return bool(self._callmethod("compare_set", (key, old, new)))


def _plain(value: Any) -> Any:
    return value.copy() if isinstance(value, DictProxy) else value


_public = [name for name in _cpython.public_methods(queue.Queue()) if "shut" not in name]


class QueueProxy(_Direct, MakeProxyType("AutoProxy[Queue]", _public)):  # type: ignore[misc]
    """A queue: what CPython has an AutoProxy for."""


QueueProxy.__name__ = QueueProxy.__qualname__ = "AutoProxy[Queue]"


class JoinableQueueProxy(QueueProxy):
    """The same by another name."""


JoinableQueueProxy.__name__ = JoinableQueueProxy.__qualname__ = "AutoProxy[JoinableQueue]"


# -- the manager of all of them --

_DIRECT: dict[str, Any] = {
    "Queue": QueueProxy,
    "JoinableQueue": JoinableQueueProxy,
    "Event": EventProxy,
    "Condition": ConditionProxy,
    "Barrier": BarrierProxy,
    "list": ListProxy,
    "dict": DictProxy,
    "Value": ValueProxy,
    "Array": ArrayProxy,
    "Namespace": NamespaceProxy,
    **dict.fromkeys(("Lock", "RLock", "Semaphore", "BoundedSemaphore"), AcquirerProxy),
}


class SyncManager(BaseManager, _cpython.SyncManager):  # type: ignore[misc]
    """The manager that ``Manager()`` starts: of dicts, lists, locks, queues and so on in Redis.

    A server process is started when it is needed: with an ``address`` or ``initializer``, or
    at the first object of a type of the program's own, or Pool.
    """

    def __init__(self, *args: Any, **kwds: Any) -> None:
        super().__init__(*args, **kwds)
        self._made = _Made()
        self._starting = threading.RLock()
        self._remote = False

    def start(self, initializer: Any = None, initargs: Any = ()) -> None:
        """Start; ``initializer`` runs in the server process, which is started for it."""
        self._expect_new()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if initializer is not None or self._address is not None:
            self._launch(initializer, initargs)
        self._started(_tidy_up, self._made)

    def connect(self) -> None:
        """Use the server process at ``address``, of a manager that another program started."""
        super().connect()
        self._remote = True

    @property
    def address(self) -> Any:
        """Where the server process listens; it is started if it was not needed until now."""
        if self._state.value == State.STARTED:
            self._serve()
        return self._address

    def _launch(self, initializer: Any, initargs: Any) -> None:
        super()._launch(initializer, initargs)
        self._made.end_server = self._end_server

    def _serve(self) -> None:
        with self._starting:
            if self._process is None and not self._remote:
                self._launch(None, ())

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> Any:
        self._expect_started()
        self._serve()
        return super()._create(typeid, *args, **kwds)

    def _expect_started(self) -> None:
        started = self._state.value == State.STARTED
        assert started, "server not yet started"

    def _direct(self, typeid: str, make: Callable[..., Any], *args: Any) -> Any:
        self._expect_started()
        with self._made.more():
            referent = make(*args)
        return _proxy(typeid, referent, self)

    def _number_of_objects(self) -> int:
        """How many objects there are, in Redis and in the server process."""
        hosted = super()._number_of_objects() if self._process else 0
        return len(current().exist(self._made.refs)) + int(hosted)

    def _debug_info(self) -> str:
        """What they are."""
        hosted = [super()._debug_info()] if self._process else []
        return "\n".join([*map(str, current().exist(self._made.refs)), *hosted])

    # -- what it makes --

    def Lock(self) -> Any:
        """A lock."""
        return self._direct("Lock", lambda: referents.Acquirer(self._ctx.Lock()))

    def RLock(self) -> Any:
        """A recursive lock."""
        return self._direct("RLock", lambda: referents.Acquirer(self._ctx.RLock()))

    def Semaphore(self, value: int = 1) -> Any:
        """A semaphore."""
        return self._direct("Semaphore", lambda: referents.Acquirer(self._ctx.Semaphore(value)))

    def BoundedSemaphore(self, value: int = 1) -> Any:
        """A bounded semaphore."""
        make = self._ctx.BoundedSemaphore
        return self._direct("BoundedSemaphore", lambda: referents.Acquirer(make(value)))

    def Condition(self, lock: Any = None) -> Any:
        """A condition variable; ``lock`` may be a proxy of one."""
        if isinstance(lock, _Direct):
            lock = lock._referent.lock
        return self._direct("Condition", lambda: referents.Condition(self._ctx.Condition(lock)))

    def Event(self) -> Any:
        """An event."""
        return self._direct("Event", self._ctx.Event)

    def Barrier(self, parties: int, action: Any = None, timeout: float | None = None) -> Any:
        """A barrier."""
        return self._direct("Barrier", self._ctx.Barrier, parties, action, timeout)

    def Queue(self, maxsize: int = 0) -> Any:
        """A queue, whose tasks can be waited for."""
        return self._direct("Queue", referents.Queue, maxsize)

    def JoinableQueue(self, maxsize: int = 0) -> Any:
        """The same, as in CPython."""
        return self._direct("JoinableQueue", referents.Queue, maxsize)

    def Namespace(self, /, **kwds: Any) -> Any:
        """An object with attributes."""
        return self._direct("Namespace", referents.Names, kwds)

    def Value(self, typecode: Any, value: Any, lock: bool = True) -> Any:
        """Any value; the type code is only shown."""
        return self._direct("Value", referents.Cell, typecode, value)

    def Array(self, typecode: str, sequence: Any, lock: bool = True) -> Any:
        """An array of numbers."""
        return self._direct("Array", referents.Array, typecode, sequence)

    def list(self, *args: Any) -> Any:
        """A list."""
        return self._direct("list", lambda: List.create(list(*args)))

    def dict(self, /, *args: Any, **kwds: Any) -> Any:
        """A dict."""
        return self._direct("dict", lambda: Dict.create(dict(*map(_plain, args), **kwds)))

    def Process(self, *args: Any, **kwds: Any) -> Any:
        """A process of the manager's context."""
        return self._ctx.Process(*args, **kwds)


class _Made:
    """What a manager has made and is to delete."""

    def __init__(self) -> None:
        self.refs: list[Ref] = []
        self.end_server: Callable[[], None] | None = None
        self._checked = 0

    @contextlib.contextmanager
    def more(self) -> Iterator[None]:
        """What is created meanwhile is the manager's."""
        made: list[Ref] = []
        with current().making(made):
            yield
        self.refs += made
        if len(self.refs) > 2 * self._checked + MANY:
            self.refs[:] = current().exist(self.refs)
            self._checked = len(self.refs)


def _tidy_up(made: _Made, state: Any) -> None:
    if made.end_server:
        made.end_server()
    # Without its server there is nothing to delete.
    with contextlib.suppress(ServerUnavailable):
        current().delete(made.refs)
    made.refs.clear()
    state.value = State.SHUTDOWN


def _pool(*args: Any, **kwds: Any) -> Any:
    return importlib.import_module(f"{__package__}.pool").Pool(*args, **kwds)


# Where they are made by a method of something in a server process.
for _typeid, (_callable, _, _, _) in _cpython.SyncManager._registry.items():
    SyncManager.register(_typeid, _callable, _DIRECT.get(_typeid), create_method=False)
SyncManager.register("Queue", queue.Queue, create_method=False)
SyncManager.register("JoinableQueue", queue.Queue, create_method=False)
SyncManager.register("Iterator", proxytype=IteratorProxy, create_method=False)
SyncManager.register("Pool", _pool, PoolProxy)
