"""Pickling for other processes: CPython's names, and the picklers of what is started
and of messages."""

from __future__ import annotations

import ctypes
import functools
import io
import operator
import pickle
import sys
import threading
import types
import typing
import weakref
from collections.abc import Callable
from multiprocessing.reduction import *  # noqa: F403 - the same names
from multiprocessing.reduction import HAVE_SEND_HANDLE as HAVE_SEND_HANDLE
from multiprocessing.reduction import ForkingPickler
from typing import Any

import cloudpickle

from ._store import session

_CData: Any = ctypes.Structure.__base__
_Field: Any = type(type("", (ctypes.Structure,), {"_fields_": [("field", ctypes.c_int)]}).field)  # type: ignore[attr-defined]

# What ctypes calls the twins of a simple type: that with our byte order, and the other.
_NATIVE, _FOREIGN = "__ctype_le__", "__ctype_be__"
if sys.byteorder == "big":
    _NATIVE, _FOREIGN = _FOREIGN, _NATIVE

_registered: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]

_Cached: Any = type(functools.lru_cache(int))

# Of these, a global or an attribute of a class is made anew where it arrives, as it would be
# if the program were imported there. Elsewhere they are refused: they protect nothing.
_ANEW: dict[type, Callable[[], Any]] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
    threading.local: threading.local,
}


class ProcessPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """What CPython's ForkingPickler can, and what cloudpickle can.

    A method goes by its name. cloudpickle would send a class method's function by
    value, with copies of the globals it uses: the child would not see its module's.
    What is registered with ForkingPickler goes as registered; for connections and
    sockets, which cloudpickle would take for data, that is an error. Structures and
    arrays of ctypes go as what they are made of. Classes keep their slots and their
    qualified names, which cloudpickle forgets.
    """

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._globals: dict[str, Any] = {}  # of __main__, those that are sent

    def reducer_override(self, obj: Any) -> Any:
        """Decide for these, and leave all else to cloudpickle."""
        if type(obj) is types.MethodType:
            if getattr(obj.__self__, obj.__name__, None) == obj:
                return getattr, (obj.__self__, obj.__name__)
        elif reduce := _registered.get(type(obj)):
            return reduce(obj)
        elif type(obj) is types.FunctionType and obj.__globals__ is vars(sys.modules["__main__"]):
            return self._of_main(obj)
        elif type(obj) in _REDUCERS:
            return _REDUCERS[type(obj)](obj)
        elif isinstance(obj, type):
            usual = super().reducer_override
            how = _reduce_ctype(obj, usual) if issubclass(obj, _CData) else usual(obj)
            return _reduce_class(obj, how)
        return super().reducer_override(obj)

    def _of_main(self, function: types.FunctionType) -> Any:
        """By value, as cloudpickle does; but all that ever arrive in a process share globals."""
        self.globals_ref.setdefault(id(function.__globals__), _Main())
        reduced = super().reducer_override(function)
        if not isinstance(reduced, tuple):
            return reduced
        make, args, (state, slots), *rest, _ = reduced
        self._globals |= slots["__globals__"]
        slots = {**slots, "__globals__": _anew(slots["__globals__"])}
        return make, args, (state, slots), *rest, _finish_function

    @classmethod
    def dumps(cls, obj: object) -> bytes:
        """Pickle to bytes. An error names the global of ``__main__`` that is to blame."""
        buffer = io.BytesIO()
        pickler = cls(buffer)
        try:
            pickler.dump(obj)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            if name := pickler._culprit(str(error)):
                raise type(error)(
                    f"{error}. It is in {name!r} of __main__, which is named by a function that is "
                    "to be sent. Make it in that function or in an initializer, or move both to a "
                    "module: modules are imported where they are needed, __main__ is not"
                ) from error
            raise
        return buffer.getvalue()

    def _culprit(self, error: str) -> str:
        """The global that raises this when it is pickled, if there is one."""
        data = {
            k: v for k, v in self._globals.items() if type(v) not in (types.FunctionType, *_ANEW)
        }
        for name in sorted(data, key=lambda name: isinstance(data[name], type)):
            try:
                type(self)(io.BytesIO()).dump(data[name])
            except Exception as same:
                if str(same) == error:
                    return name
        return ""


class _Anew:
    """Stands for a value that is made where it arrives."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __reduce__(self) -> Any:
        return self._make, ()


def _anew(values: dict[str, Any]) -> dict[str, Any]:
    return {k: _Anew(_ANEW[type(v)]) if type(v) in _ANEW else v for k, v in values.items()}


def _reduce_cached(function: Any) -> Any:
    """What ``functools.lru_cache`` makes: with nothing in it."""
    if function.__module__ != "__main__" and "<" not in function.__qualname__:
        return function.__reduce__()
    made = ("__wrapped__", "cache_parameters")  # by lru_cache itself
    state = {name: value for name, value in vars(function).items() if name not in made}
    return _cached, (function.__wrapped__, function.cache_parameters()), state


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _reduce_cached_property(found: Any) -> Any:
    state = {name: value for name, value in vars(found).items() if name not in ("lock", "func")}
    return functools.cached_property, (found.func,), state


def _reduce_copy(found: Any) -> Any:
    return type(found), (dict(found),)


# What else functions and classes of __main__ are often made of, and cloudpickle does not know;
# the last two are in what ``functools.singledispatch`` makes.
_REDUCERS: dict[type, Callable[[Any], Any]] = {
    _Cached: _reduce_cached,
    functools.cached_property: _reduce_cached_property,
    weakref.WeakKeyDictionary: _reduce_copy,
    types.MappingProxyType: _reduce_copy,
}


def _reduce_class(cls: type, how: Any) -> Any:
    """What cloudpickle leaves out, and an end that does not undo what was done to a class."""
    if not isinstance(how, tuple) or len(how) != 6:
        return how
    make, args, (state, _), *rest, _ = how
    state = {
        name: value
        for name, value in _anew(state).items()
        if not isinstance(value, types.MemberDescriptorType) or value.__objclass__ is not cls
    }
    if make is not cloudpickle.cloudpickle._make_skeleton_enum:
        mine = {"__qualname__": cls.__qualname__}
        # A NamedTuple has its own, and forbids them.
        if "__slots__" in state and typing.NamedTuple not in state.get("__orig_bases__", ()):
            mine["__slots__"] = state.pop("__slots__")
        args = (make, *args[:3], {**args[3], **mine}, *args[4:])
        make = _make_class
    _complete.add(cls)
    name = cls.__name__
    is_global = getattr(sys.modules["__main__"], name, None) is cls
    return make, args, (state, {"name": name if is_global else ""}), *rest, _finish_class


def _make_class(make: Any, *args: Any) -> Any:
    """Make a class without what was to be done once, and was done when it was defined."""
    hook = "__init_subclass__"
    bases = dict.fromkeys(b for base in types.resolve_bases(args[-4]) for b in base.__mro__)
    own = [base for base in bases if base in _complete and hook in vars(base)]
    hooks = [vars(base)[hook] for base in own]
    try:
        for base in own:
            type.__setattr__(base, hook, classmethod(lambda cls, **_: None))
        return make(*args)
    finally:
        for base, found in zip(own, hooks, strict=True):
            type.__setattr__(base, hook, found)


# Classes that are defined here, or have arrived: what was assigned to them here stays.
_complete: weakref.WeakSet[type] = weakref.WeakSet()


def _finish_class(cls: type, state: Any) -> None:
    """Give a class that arrives its attributes, and a place in ``__main__`` if it had one."""
    if cls not in _complete:
        cloudpickle.cloudpickle._class_setstate(cls, state)
        _complete.add(cls)
        name = state[1]["name"]
        if name and _bring(name, cls):
            _globals_of_main()[name] = cls


def _reduce_ctype(cls: Any, usual: Callable[[Any], Any]) -> Any:
    """How a class of ctypes is pickled: ``usual`` is cloudpickle's way."""
    native = getattr(cls, _NATIVE, cls)
    if native is not cls:  # the twin of a simple type, with the other byte order
        return getattr, (native, _FOREIGN)
    if issubclass(cls, ctypes.Array) and cls == cls._type_ * cls._length_:
        return operator.mul, (cls._type_, cls._length_)
    how = usual(cls)
    if not isinstance(how, tuple):
        return how
    state, slots = how[2]
    state = {name: value for name, value in state.items() if not isinstance(value, _Field)}
    if "_fields_" in state:
        state["_fields_"] = state.pop("_fields_")  # last: it makes the fields as the rest says
    return _class_like_its_base, (how[0], *how[1][1:]), (state, slots), *how[3:]


def _class_like_its_base(make: Any, name: str, bases: tuple[type, ...], *more: Any) -> Any:
    # ctypes' metaclasses have names, but no module where they can be found.
    return make(type(bases[0]), name, bases, *more)


class _Main(dict):  # type: ignore[type-arg]
    """Stands for the globals of ``__main__``, wherever it arrives."""

    def __reduce__(self) -> Any:
        return _globals_of_main, ()


def _globals_of_main() -> dict[str, Any]:
    return vars(sys.modules["__main__"])


# What functions of __main__ have brought along, by name.
_brought: dict[str, Any] = {}


def _finish_function(function: types.FunctionType, state: Any) -> None:
    """Give a function of ``__main__`` that arrives the globals it uses.

    What was assigned here stays, as in a child of CPython's: an initializer's ``global``.
    Functions and classes are replaced by newer ones; data comes once.
    """
    given = state[1]["__globals__"]
    for name, value in list(given.items()):
        if not _bring(name, value):
            del given[name]
    cloudpickle.cloudpickle._function_setstate(function, state)


def _bring(name: str, value: Any) -> bool:
    """Is this to be the global of that name?"""
    mine = _globals_of_main().get(name, _brought)
    newer = isinstance(value, type | types.FunctionType) and mine is _brought.get(name)
    if mine is _brought or newer:
        _brought[name] = value
        return True
    return False


class MessagePickler(ForkingPickler):
    """CPython's pickler of messages, which also knows the program's ``__main__``.

    A function has a ``__main__`` of its own, so what is defined in the program's goes
    by name and by value: by name it is found where the program runs, elsewhere the
    value is taken, once.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Decide for classes and functions of ``__main__``, and leave all else."""
        if isinstance(obj, type | types.FunctionType | _Cached) and obj.__module__ == "__main__":
            name = obj.__qualname__
            if "<" not in name:
                return _of_main, (session.current().program, name, _value(obj))
        return NotImplemented

    @classmethod
    def dumps(  # type: ignore[override]
        cls, obj: object, apart: Callable[[pickle.PickleBuffer], object] | None = None
    ) -> bytes:
        """Pickle to bytes; ``apart`` says of a buffer whether it stays in the pickle."""
        file = io.BytesIO()
        cls(file, 5, True, apart).dump(obj)
        return file.getvalue()


# What was pickled and unpickled by value: (program, name, value) -> object, and back.
_loaded: dict[tuple[str, str, bytes], Any] = {}
_values: dict[Any, bytes] = {}


def _value(obj: Any) -> bytes:
    """It by value; empty if it cannot be had so."""
    if obj not in _values:
        try:
            _values[obj] = ProcessPickler.dumps(obj)
        except Exception:
            _values[obj] = b""
    return _values[obj]


def _of_main(program: str, name: str, value: bytes) -> Any:
    here = session.current()
    found: Any = sys.modules.get("__main__") if here.uid == program else None
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not None:
        return found
    if not value:
        raise pickle.UnpicklingError(
            f"__main__.{name} is defined in the main program only, and cannot be sent by "
            "value; define it in a module"
        )
    key = program, name, value
    if key not in _loaded:
        _loaded[key] = pickle.loads(value)
        _values[_loaded[key]] = value
    return _loaded[key]
