"""Value, Array and their kin: ctypes objects whose bytes are in Redis.

A :class:`View` stands for a ctypes object, or a part of one, in a region
(``memory``). Conversions are left to ctypes: what is read becomes an object of the
same type, what is written comes out of one, so values, overflows and errors are its own.
The ``Synchronized*`` classes are CPython's.

What is not CPython's: ``add``, ``exchange``, ``compare_exchange``, ``max`` and ``min``
change a number in one round trip, with the type's own overflow, and return what it was.
They wait while somebody else has the lock, and are local for who has it.

Every access may raise ObjectExpired (the object's bytes are gone) and ServerUnavailable. A
write to an object with a lock, and the five methods, take the lock if somebody has it: they
wait without a time-out, and raise what ``acquire`` and ``release`` do (OwnerDied, LockLost).
Reading never waits for a Lock or RLock. What the holder of the lock writes is sent by
``release``, which is what raises LockLost; what a holder that dies wrote is gone with it.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import functools
import operator
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing import sharedctypes
from typing import Any

from . import synchronize
from ._store.client import Buffer
from .memory import Access, Guarded, Locked, Region

# typeshed knows less of it than there is.
_mp: Any = sharedctypes
typecode_to_type = _mp.typecode_to_type

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

_Simple: Any = ctypes._SimpleCData
_Pointer: Any = ctypes._Pointer
_Function: Any = ctypes._CFuncPtr  # type: ignore[attr-defined]  # typeshed lacks it

# Objects, strings and functions of one process.
_ADDRESSES = "OzZX"

_KINDS = {**dict.fromkeys("bhilq", "int"), **dict.fromkeys("BHILQ", "uint")}
_KINDS |= dict.fromkeys("fd", "float")


# -- making them --


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """A value without a lock; each access is one atomic round trip.

    ``args`` are the type's own. Raises TypeError for what is no type code or ctypes type, and
    for a type with pointers, functions or objects in it: addresses in this process.
    """
    return _value(typecode_or_type, args, None)


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """An array without a lock, of so many zeros or of the elements of a sequence.

    Each access is one atomic round trip, a slice, too. Raises TypeError as :func:`RawValue`.
    """
    return _array(typecode_or_type, size_or_initializer, None)


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """A value with a lock; without one if ``lock`` is False.

    A new RLock by default. If its holder dies, the value is what the last release left, and
    the next in line has the lock. Raises TypeError as :func:`RawValue`, AttributeError for a
    ``lock`` without ``acquire``.
    """
    lock = _lock(lock, ctx)
    obj = _value(typecode_or_type, args, lock)
    return obj if lock is None else synchronized(obj, lock, ctx)


def Array(
    typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None
) -> Any:
    """An array with a lock; without one if ``lock`` is False. As :func:`Value`."""
    lock = _lock(lock, ctx)
    obj = _array(typecode_or_type, size_or_initializer, lock)
    return obj if lock is None else synchronized(obj, lock, ctx)


def copy(obj: Any) -> Any:
    """A new shared object without a lock, with the value of a shared or ctypes object."""
    if isinstance(obj, View):
        return _new(obj._b_type_, obj._b_read_())
    return _new(type(obj), bytes(obj))


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """A shared object with a lock; a new RLock by default.

    One that has no lock yet: what RawValue, RawArray or copy() made. Raises TypeError for
    anything else, AssertionError for what has one. A lock that is not a Lock or RLock of ours
    is taken around each access, reading too, and what it guards is not fenced.
    """
    assert not isinstance(obj, _mp.SynchronizedBase), "object already synchronized"
    if not isinstance(obj, View):
        raise TypeError(
            f"only what RawValue, RawArray or copy() made can be synchronized, not {obj!r}"
        )
    if isinstance(obj, ScalarView):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, StringView):
        return SynchronizedString(obj, lock, ctx)
    if isinstance(obj, ArrayView):
        return SynchronizedArray(obj, lock, ctx)
    return _synchronized_record(obj._b_type_)(obj, lock, ctx)


def _lock(lock: Any, ctx: Any) -> Any:
    if lock is False:
        return None
    if lock in (True, None):
        return ctx.RLock() if ctx else synchronize.RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return lock


def _value(typecode_or_type: Any, args: Any, lock: Any) -> View:
    type_ = _type_of(typecode_or_type)
    return _new(type_, bytes(type_(*args)), lock)


def _array(typecode_or_type: Any, size_or_initializer: Any, lock: Any) -> View:
    type_ = _type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new(type_ * size_or_initializer, b"", lock)
    length = len(size_or_initializer)
    if not hasattr(size_or_initializer, "__getitem__"):  # a set, keys of a dict
        size_or_initializer = list(size_or_initializer)
    return _new(type_ * length, _packed_all(type_, length, size_or_initializer), lock)


def _type_of(typecode_or_type: Any) -> Any:
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if not isinstance(type_, type):
        codes = ", ".join(typecode_to_type)
        raise TypeError(f"{type_!r} is neither a type code ({codes}) nor a ctypes type")
    _refuse_addresses(type_)
    return type_


def _new(type_: Any, data: Buffer, lock: Any = None) -> View:
    return _view(type_, Region.create(ctypes.sizeof(type_), data, _engine(lock)), 0)


def _engine(lock: Any) -> Any:
    """The engine of a lock that can guard a region; None of one that cannot."""
    return lock._semlock if isinstance(lock, synchronize.Lock | synchronize.RLock) else None


@functools.lru_cache(maxsize=256)
def _refuse_addresses(type_: Any) -> None:
    """Raise TypeError for what is of no use in another process."""
    if issubclass(type_, ctypes.Array):
        _refuse_addresses(type_._type_)
    elif issubclass(type_, ctypes.Structure | ctypes.Union):
        for _, field, *_ in getattr(type_, "_fields_", ()):
            _refuse_addresses(field)
    elif issubclass(type_, _Pointer | _Function) or (
        issubclass(type_, _Simple) and type_._type_ in _ADDRESSES
    ):
        raise TypeError(f"{type_.__name__} cannot be shared: it is an address in this process")


# -- bytes and values --


def _is_simple(type_: Any) -> bool:
    """Does ctypes give the value of an element of this type, not an object?"""
    return _Simple in type_.__bases__


def _packed(type_: Any, value: Any) -> bytes:
    """One element, as its bytes."""
    cells = (type_ * 1)()
    cells[0] = value._b_load_() if isinstance(value, View) else value
    return bytes(cells)


def _packed_all(type_: Any, count: int, values: Any) -> Buffer:
    """``count`` elements, as their bytes."""
    code = type_._type_ if _is_simple(type_) else ""
    if code in _KINDS and type_ is typecode_to_type.get(code):
        # The same in a fraction of the time, where it is the same.
        try:
            if isinstance(values, list | tuple | range):
                found: Any = array.array(code, values)
            else:
                found = memoryview(values)
                if found.format != code or found.ndim != 1:
                    raise TypeError
            if len(found) == count:
                return bytes(found)
        except (TypeError, OverflowError):
            pass
    if not _is_simple(type_):
        values = [value._b_load_() if isinstance(value, View) else value for value in values]
    cells = (type_ * count)()
    cells[:] = values
    return bytes(cells)


def _get(type_: Any, access: Access, offset: int) -> Any:
    """The element that is there: its value, or a view of it."""
    if _is_simple(type_):
        return type_.from_buffer_copy(access.read(offset, ctypes.sizeof(type_))).value
    return _view(type_, access, offset)


def _update(
    type_: Any, access: Access, offset: int, what: str, value: Any, expected: Any = None
) -> Any:
    """Change a number in one step; what it was."""
    kind = _KINDS.get(type_._type_ if _is_simple(type_) else "", "")
    if not (kind or (_is_simple(type_) and what in ("exchange", "compare_exchange"))):
        raise TypeError(f"{type_.__name__} has no {what}")
    operand = _packed(type_, value)
    wanted = b"" if what != "compare_exchange" else _packed(type_, expected)
    was = None
    region = access.region
    if not region.held:
        order = ">" if type_ is getattr(type_, "__ctype_be__", None) else "<"
        was = access.update(what, kind, order, offset, operand, wanted)
    if was is None:
        # Under the lock, which may have to be waited for.
        assert region.lock is not None
        with contextlib.nullcontext() if region.held else region.lock:
            was = bytes(region.read(offset, len(operand)))
            region.change([offset, _changed(type_, what, was, operand, wanted)])
    return type_.from_buffer_copy(was).value


def _changed(type_: Any, what: str, was: bytes, operand: bytes, expected: bytes) -> bytes:
    """What ``mem/update`` makes of it."""
    if what == "compare_exchange":
        return operand if was == expected else was
    if what == "exchange":
        return operand
    old, new = (type_.from_buffer_copy(found).value for found in (was, operand))
    if what == "add":
        return _packed(type_, old + new)
    return operand if (old < new if what == "max" else new < old) else was


# -- views --


class View:
    """A ctypes object, or a part of one, whose bytes are in a region.

    What is its own is named as in ctypes, so that it hides no field of a structure.
    """

    def __init__(self, type_: Any, access: Access, offset: int) -> None:
        size = ctypes.sizeof(type_)
        self.__dict__.update(_b_type_=type_, _b_access_=access, _b_offset_=offset, _b_size_=size)

    _b_type_: Any
    _b_access_: Access
    _b_offset_: int
    _b_size_: int

    def _b_read_(self) -> Buffer:
        return self._b_access_.read(self._b_offset_, self._b_size_)

    def _b_load_(self) -> Any:
        """A ctypes object with its present value."""
        return self._b_type_.from_buffer_copy(self._b_read_())

    def _b_through_(self, access: Access) -> View:
        """The same object, in another way."""
        return type(self)(self._b_type_, access, self._b_offset_)

    def __bytes__(self) -> bytes:
        return bytes(self._b_read_())

    def __reduce__(self) -> Any:
        return _arrived, (_described(self._b_type_), self._b_access_.region, self._b_offset_)

    def __repr__(self) -> str:
        where = f"{self._b_offset_} of {self._b_access_.region.ref}"
        return f"<shared {self._b_type_.__name__} at {where}>"


class ScalarView(View):
    """A simple value."""

    @property
    def value(self) -> Any:
        """The value; one round trip without the lock."""
        type_ = self._b_type_
        return type_.from_buffer_copy(self._b_access_.read(self._b_offset_, self._b_size_)).value

    @value.setter
    def value(self, value: Any) -> None:
        cell = self._b_type_()
        cell.value = value
        self._b_access_.write([self._b_offset_, bytes(cell)])

    def _update(self, what: str, *values: Any) -> Any:
        return _update(self._b_type_, self._b_access_, self._b_offset_, what, *values)

    def add(self, value: Any) -> Any:
        """Add, and return what it was."""
        return self._update("add", value)

    def exchange(self, value: Any) -> Any:
        """Set, and return what it was."""
        return self._update("exchange", value)

    def compare_exchange(self, expected: Any, value: Any) -> Any:
        """Set if it is ``expected``, bit by bit; return what it was."""
        return self._update("compare_exchange", value, expected)

    def max(self, value: Any) -> Any:
        """Set if that is more, and return what it was."""
        return self._update("max", value)

    def min(self, value: Any) -> Any:
        """Set if that is less, and return what it was."""
        return self._update("min", value)

    def __repr__(self) -> str:
        try:
            return repr(self._b_load_())
        except Exception:
            return f"{self._b_type_.__name__}(unknown)"


class ArrayView(View):
    """An array; a slice takes one round trip, and so does going through all of it."""

    def __init__(self, type_: Any, access: Access, offset: int) -> None:
        super().__init__(type_, access, offset)
        element = type_._type_
        self.__dict__.update(_element=element, _step=ctypes.sizeof(element))

    _element: Any
    _step: int  # bytes from one to the next

    def __len__(self) -> int:
        return int(self._b_type_._length_)

    @property
    def _length_(self) -> int:
        return len(self)

    @property
    def _type_(self) -> Any:
        return self._element

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """For numpy, a copy of the elements' type. Unless it is of another one it is read-only.

        Writing to it would change nothing here; a slice of ours takes an array as well.
        """
        if copy is False:
            raise ValueError("a shared array has no memory here that numpy could use uncopied")
        import numpy

        found = numpy.frombuffer(self._b_read_(), numpy.dtype(self._b_type_))[0]
        found.flags.writeable = False
        return found if dtype is None else found.astype(dtype)

    def _at(self, index: Any, kind: str = "integers") -> int:
        try:
            place = operator.index(index)
        except TypeError:
            raise TypeError(f"indices must be {kind}") from None
        if place < 0:
            place += len(self)
        if not 0 <= place < len(self):
            raise IndexError("invalid index")
        return self._b_offset_ + place * self._step

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return _get(self._element, self._b_access_, self._at(index))
        places = range(*index.indices(len(self)))
        if not _is_simple(self._element):
            return [self[place] for place in places]
        if not places:
            return (self._element * 0)()[:]
        low, high = min(places[0], places[-1]), max(places[0], places[-1]) + 1
        data = self._b_access_.read(self._b_offset_ + low * self._step, (high - low) * self._step)
        code = self._element._type_
        if code in _KINDS and self._element is typecode_to_type.get(code):
            return memoryview(data).cast(code)[:: places.step].tolist()
        return (self._element * (high - low)).from_buffer_copy(data)[:: places.step]

    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(index, slice):
            place = self._at(index, "integer")  # so ctypes words it
            self._b_access_.write([place, _packed(self._element, value)])
            return
        places = range(*index.indices(len(self)))
        data = _packed_all(self._element, len(places), value)
        start, size = self._b_offset_, self._step
        if not places:
            return
        if places.step == 1:
            self._b_access_.write([start + places[0] * size, data])
            return
        ranges: list[Any] = []
        for number, place in enumerate(places):
            ranges += start + place * size, data[number * size : (number + 1) * size]
        self._b_access_.write(ranges)

    def __delitem__(self, index: Any) -> None:
        raise TypeError("Array does not support item deletion")

    def __iter__(self) -> Iterator[Any]:
        return iter(self[:])

    def __reversed__(self) -> Iterator[Any]:
        return iter(self[::-1])

    def _update(self, index: Any, what: str, *values: Any) -> Any:
        return _update(self._element, self._b_access_, self._at(index), what, *values)

    def add(self, index: int, value: Any) -> Any:
        """Add to an element, and return what it was."""
        return self._update(index, "add", value)

    def exchange(self, index: int, value: Any) -> Any:
        """Set an element, and return what it was."""
        return self._update(index, "exchange", value)

    def compare_exchange(self, index: int, expected: Any, value: Any) -> Any:
        """Set an element if it is ``expected``, bit by bit; return what it was."""
        return self._update(index, "compare_exchange", value, expected)

    def max(self, index: int, value: Any) -> Any:
        """Set an element if that is more, and return what it was."""
        return self._update(index, "max", value)

    def min(self, index: int, value: Any) -> Any:
        """Set an element if that is less, and return what it was."""
        return self._update(index, "min", value)


class TextView(ArrayView):
    """An array of ``c_wchar``."""

    @property
    def value(self) -> Any:
        """Up to the first NUL."""
        return self._b_load_().value

    @value.setter
    def value(self, value: Any) -> None:
        cells = self._with("value", value)
        # As in ctypes, what comes after the NUL stays.
        self._b_access_.write([self._b_offset_, cells[: (len(value) + 1) * self._step]])

    def _with(self, name: str, value: Any) -> bytes:
        """What an array is like that has this for its ``value`` or ``raw``."""
        cells = self._b_type_()
        setattr(cells, name, value)
        return bytes(cells)


class StringView(TextView):
    """An array of ``c_char``."""

    @property
    def raw(self) -> Any:
        """All of it."""
        return self._b_load_().raw

    @raw.setter
    def raw(self, value: Any) -> None:
        cells = self._with("raw", value)
        self._b_access_.write([self._b_offset_, cells[: memoryview(value).nbytes]])


class RecordView(View):
    """A structure or union; its fields are properties of a subclass (:func:`_record`)."""

    def _b_get_(self, name: str) -> Any:
        field, type_ = getattr(self._b_type_, name), _fields(self._b_type_)[name]
        if field.size >> 16:  # a field of bits
            return getattr(self._b_load_(), name)
        found = _get(type_, self._b_access_, self._b_offset_ + field.offset)
        return found.value if isinstance(found, TextView) else found

    def _b_set_(self, name: str, value: Any) -> None:
        field, type_ = getattr(self._b_type_, name), _fields(self._b_type_)[name]
        size = ctypes.sizeof(type_)
        # Of a field of bits the neighbours are written with it, as in C.
        whole = self._b_load_() if field.size >> 16 else self._b_type_()
        setattr(whole, name, value._b_load_() if isinstance(value, View) else value)
        if issubclass(type_, ctypes.Array) and type_._type_ in (ctypes.c_char, ctypes.c_wchar):
            # As in ctypes, what comes after the NUL stays.
            size = min(size, (len(getattr(whole, name)) + 1) * ctypes.sizeof(type_._type_))
        data = bytes(whole)[field.offset : field.offset + size]
        self._b_access_.write([self._b_offset_ + field.offset, data])

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _fields(self._b_type_):  # as ctypes, whose objects have a __dict__
            super().__setattr__(name, value)
        else:
            self._b_set_(name, value)


@functools.lru_cache(maxsize=256)
def _fields(type_: Any) -> dict[str, Any]:
    """Names and types of a structure's fields, with those of its bases and nameless parts."""
    found: dict[str, Any] = {}
    for base in reversed(type_.__mro__):
        for name, field, *_ in vars(base).get("_fields_", ()):
            found[name] = field
        for name in vars(base).get("_anonymous_", ()):
            found.update(_fields(found[name]))
    return found


def _property(name: str) -> property:
    """A property of a synchronized object: its view's."""
    return property(
        operator.attrgetter(f"_safe.{name}"),
        lambda self, value: setattr(self._safe, name, value),
    )


def _field(name: str) -> property:
    return property(
        lambda self: self._b_get_(name), lambda self, value: RecordView._b_set_(self, name, value)
    )


_classes: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _record(type_: Any) -> Any:
    """The class of a structure's views."""
    found = _classes.get(type_)
    if found is None:
        members = {}
        for base in reversed(type_.__mro__):
            if not base.__module__.lstrip("_").startswith("ctypes"):
                members.update(vars(base))
        # Methods, properties and constants. Python's own hooks would meet no ctypes object.
        own = {name: member for name, member in members.items() if not name.startswith("__")}
        fields = {name: _field(name) for name in _fields(type_)}
        found = _classes[type_] = type(type_.__name__ + "View", (RecordView,), own | fields)
    return found


def _view(type_: Any, access: Access, offset: int) -> View:
    """The view of a type."""
    made: Any
    if issubclass(type_, ctypes.Array):
        made = {ctypes.c_char: StringView, ctypes.c_wchar: TextView}.get(type_._type_, ArrayView)
    elif issubclass(type_, _Simple):
        made = ScalarView
    elif issubclass(type_, ctypes.Structure | ctypes.Union):
        made = _record(type_)
    else:
        raise TypeError(f"{type_!r} is not a type code or a ctypes type")
    found: View = made(type_, access, offset)
    return found


def _described(type_: Any) -> Any:
    """A type so that it pickles: array types have no name of their own."""
    if issubclass(type_, ctypes.Array):
        return _described(type_._type_), type_._length_
    return type_


def _made(described: Any) -> Any:
    """The inverse."""
    if isinstance(described, tuple):
        return _made(described[0]) * described[1]
    return described


def _arrived(described: Any, region: Region, offset: int) -> View:
    """A view that was pickled."""
    return _view(_made(described), region, offset)


# -- with a lock --


class SynchronizedBase(_mp.SynchronizedBase):  # type: ignore[misc]  # see _mp
    """A shared object and its lock.

    Held by who uses it, its bytes are here: reading and writing takes no round trip. Not
    held, each access is one, and a write waits while somebody else has the lock.
    """

    _safe: Any

    def __init__(self, obj: View, lock: Any = None, ctx: Any = None) -> None:
        super().__init__(obj, lock or _lock(None, ctx), ctx)
        region, engine = obj._b_access_.region, _engine(self._lock)
        if engine is not None:
            region.attach(engine)
        ours = engine is not None and region.lock is engine
        self._safe = obj._b_through_(Guarded(region) if ours else Locked(region, self._lock))

    def __reduce__(self) -> Any:
        return synchronized, (self._obj, self._lock)


class _Atomic:
    """What CPython's do not have; ``ScalarView`` and ``ArrayView`` say what it does.

    All take the arguments of those (an array's the index first), wait while another holder
    has the lock, and raise TypeError unless the elements are numbers (``exchange`` and
    ``compare_exchange`` take any simple type).
    """

    _safe: Any

    def add(self, *args: Any) -> Any:
        """Add, and return what it was."""
        return self._safe.add(*args)

    def exchange(self, *args: Any) -> Any:
        """Set, and return what it was."""
        return self._safe.exchange(*args)

    def compare_exchange(self, *args: Any) -> Any:
        """Set if it is as expected, and return what it was."""
        return self._safe.compare_exchange(*args)

    def max(self, *args: Any) -> Any:
        """Set if that is more, and return what it was."""
        return self._safe.max(*args)

    def min(self, *args: Any) -> Any:
        """Set if that is less, and return what it was."""
        return self._safe.min(*args)


class Synchronized(_Atomic, SynchronizedBase):
    """A value with a lock."""

    value = _property("value")


class SynchronizedArray(_Atomic, SynchronizedBase):
    """An array with a lock."""

    def __len__(self) -> int:
        return len(self._safe)

    def __getitem__(self, index: Any) -> Any:
        return self._safe[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._safe[index] = value

    def __getslice__(self, start: int, stop: int) -> Any:
        return self._safe[start:stop]

    def __setslice__(self, start: int, stop: int, values: Sequence[Any]) -> None:
        self._safe[start:stop] = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._safe)

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._safe[::-1])


class SynchronizedString(SynchronizedArray):
    """An array of ``c_char`` with a lock."""

    value = _property("value")
    raw = _property("raw")


_synchronized_classes: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _synchronized_record(type_: Any) -> Any:
    """The class of a structure with a lock."""
    found = _synchronized_classes.get(type_)
    if found is None:
        fields = {name: _property(name) for name in _fields(type_)}
        name = "Synchronized" + type_.__name__
        found = _synchronized_classes[type_] = type(name, (SynchronizedBase,), fields)
    return found
