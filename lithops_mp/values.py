"""Keys and values of dicts and lists, as bytes.

A key is bytes that are the same for equal objects: ``s`` and a text in UTF-8, ``b`` and
bytes, ``i`` and an integer in hexadecimal, which stands for all numbers that equal it,
``q`` and another real number as a fraction, ``c`` and the parts of a complex one, ``t``
and ``f`` and the keys in a tuple or frozenset, ``n`` for None, ``e`` and the name of a
member of an Enum. Of all else only Python knows what it equals: ``o`` and a name.

An element is a value: simple ones (numbers, texts, bytes, None, True and False) are
written so that a script can compare them and add to them; the rest are messages
(``messages``), with ``r`` and what they refer to in front if they do.
"""

from __future__ import annotations

import contextlib
import enum
import numbers
import struct
import types
from collections.abc import Hashable, Iterable
from typing import Any

from . import messages

# Integers that Lua has exactly.
EXACT = 1 << 53

_DOUBLE = struct.Struct(">d")

# A class written in Python that derives from one of these may compare by any rule of its
# own; compiled ones compare as these do.
_BASES = (str, bytes, tuple, frozenset, int, float, complex)


def key_of(obj: Hashable) -> bytes | None:
    """The key of an object; None if only Python knows what it equals."""
    kind = type(obj)
    base = next((base for base in _BASES if isinstance(obj, base)), None)
    if base is not kind and base is not None:
        own = kind.__eq__, kind.__hash__
        if any(isinstance(rule, types.FunctionType) for rule in own):
            return None
    if isinstance(obj, str):
        return b"s" + str.encode(obj, "utf-8", "surrogatepass")
    if isinstance(obj, bytes):
        return b"b" + bytes(obj)
    if isinstance(obj, tuple):
        return _several(b"t", obj)
    if isinstance(obj, frozenset):
        return _several(b"f", obj, order=True)
    if obj is None:
        return b"n"
    if isinstance(obj, numbers.Number):
        return _number(obj)
    if isinstance(obj, enum.Enum) and kind.__eq__ is object.__eq__:
        return f"e{kind.__module__}\0{kind.__qualname__}\0{obj.name}".encode()
    return None


def _several(mark: bytes, objects: Iterable[Any], *, order: bool = False) -> bytes | None:
    found = [key_of(one) for one in objects]
    keys = [key for key in found if key is not None]
    if len(keys) < len(found):
        return None
    if order:
        keys.sort()
    return mark + b"".join(b"%d:%b" % (len(key), key) for key in keys)


def _number(number: Any) -> bytes | None:
    if isinstance(number, numbers.Integral):
        return b"i%x" % int(number)
    if isinstance(number, numbers.Complex) and not isinstance(number, numbers.Real):
        if number.imag:
            return _several(b"c", (number.real, number.imag))
        number = number.real
    try:
        above, below = number.as_integer_ratio()
    except OverflowError:
        return b"q+" if number > 0 else b"q-"
    except (AttributeError, ValueError):
        return None  # not a number: equal to nothing, not even itself
    return b"i%x" % above if below == 1 else b"q%x/%x" % (above, below)


def says_all(key: bytes, obj: object) -> bool:
    """Is the object exactly what :func:`object_of` makes of its key?"""
    return type(obj) is _SAID.get(key[0])


_SAID = {ord("s"): str, ord("b"): bytes, ord("i"): int}


def object_of(key: bytes, pickled: bytes) -> Any:
    """The object of a key; ``pickled`` if the key does not say it."""
    if pickled:
        return messages.loads(messages.SMALL, pickled)
    if key[0] == 115:
        return key[1:].decode("utf-8", "surrogatepass")
    return int(key[1:], 16) if key[0] == 105 else key[1:]


def simple(value: Any) -> bytes | None:
    """The element of a simple value; None if it is not one, or not small."""
    kind = type(value)
    if kind is int:
        return b"i%d" % value if -EXACT < value < EXACT else None
    if kind is str:
        with contextlib.suppress(UnicodeEncodeError):
            return b"s" + value.encode() if len(value) < messages.APART else None
        return None
    if kind is float:
        return b"d" + _DOUBLE.pack(value)
    if value is None:
        return b"n"
    if kind is bool:
        return b"t" if value else b"f"
    if kind is bytes and len(value) < messages.INLINE:
        return b"b" + bytes(value)
    return None


def holds_only_atoms(value: Any, limit: int = 16) -> bool:
    """Is it made of a few simple values, which hold no class or handle of anybody's?

    Then it need not go through a pickler that looks for such.
    """
    kind = type(value)
    if kind is dict:
        value = [*value, *value.values()]
    elif kind is not tuple and kind is not list:
        return kind in _ATOMS
    if len(value) > limit:
        return False
    for one in value:  # a generator would take as long again as all of this
        if type(one) not in _ATOMS and not holds_only_atoms(one, limit // 2):
            break
    else:
        return True
    return False


_ATOMS = frozenset({str, int, float, bool, bytes, type(None)})


def of_simple(element: bytes) -> Any:
    """The value of such an element."""
    kind = element[0]
    if kind == 105:
        return int(element[1:])
    if kind == 115:
        return element[1:].decode()
    if kind == 100:
        return _DOUBLE.unpack_from(element, 1)[0]
    if kind == 98:
        return element[1:]
    return {110: None, 116: True, 102: False}[kind]


def all_equal(value: Any) -> list[bytes] | None:
    """The simple elements that equal a value; None if that cannot be said."""
    kind = type(value)
    if kind not in (int, float, bool):
        if kind not in (str, bytes, type(None)):
            return None
        only = simple(value)
        return None if only is None else [only]
    found: list[Any] = []
    if value == value:
        whole = abs(value) < EXACT and value == int(value)
        found = [int(value)] if whole else []
        if kind is float or (value.bit_length() < 1024 and float(value) == value):
            found.append(float(value))
        if value == 0:
            found.append(-0.0)
        if value in (0, 1):
            found.append(bool(value))
    return [element for one in found if (element := simple(one)) is not None]
