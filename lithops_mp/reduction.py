"""Pickling for other processes: CPython's names, and the picklers of what is started
and of messages."""

from __future__ import annotations

import ctypes
import io
import operator
import pickle
import sys
import types
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


class ProcessPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """What CPython's ForkingPickler can, and what cloudpickle can.

    A method goes by its name. cloudpickle would send a class method's function by
    value, with copies of the globals it uses: the child would not see its module's.
    What is registered with ForkingPickler goes as registered; for connections and
    sockets, which cloudpickle would take for data, that is an error. Structures and
    arrays of ctypes go as what they are made of.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Decide for these, and leave all else to cloudpickle."""
        if type(obj) is types.MethodType:
            if getattr(obj.__self__, obj.__name__, None) == obj:
                return getattr, (obj.__self__, obj.__name__)
        elif reduce := _registered.get(type(obj)):
            return reduce(obj)
        elif type(obj) is types.FunctionType and obj.__globals__ is vars(sys.modules["__main__"]):
            return self._of_main(obj)
        elif isinstance(obj, type) and issubclass(obj, _CData):
            return _reduce_ctype(obj, super().reducer_override)
        return super().reducer_override(obj)

    def _of_main(self, function: types.FunctionType) -> Any:
        """By value, as cloudpickle does; but all that ever arrive in a process share globals."""
        self.globals_ref.setdefault(id(function.__globals__), _Main())
        reduced = super().reducer_override(function)
        return (*reduced[:-1], _finish_function) if isinstance(reduced, tuple) else reduced

    @classmethod
    def dumps(cls, obj: object) -> bytes:
        """Pickle to bytes."""
        buffer = io.BytesIO()
        cls(buffer).dump(obj)
        return buffer.getvalue()


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
    here, (_, slots) = function.__globals__, state
    given = slots["__globals__"]
    for name, value in list(given.items()):
        mine = here.get(name, _brought)
        newer = isinstance(value, type | types.FunctionType) and mine is _brought.get(name)
        if mine is _brought or newer:
            _brought[name] = value
        else:
            del given[name]
    cloudpickle.cloudpickle._function_setstate(function, state)


class MessagePickler(ForkingPickler):
    """CPython's pickler of messages, which also knows the program's ``__main__``.

    A function has a ``__main__`` of its own, so what is defined in the program's goes
    by name and by value: by name it is found where the program runs, elsewhere the
    value is taken, once.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Decide for classes and functions of ``__main__``, and leave all else."""
        if isinstance(obj, type | types.FunctionType) and obj.__module__ == "__main__":
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
