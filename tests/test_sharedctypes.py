"""Value, Array and their kin, held against ctypes objects of this process."""

from __future__ import annotations

import array
import ctypes
import functools
import operator
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from support import fixtures
from support.programs import meanwhile, url_of
from support.servers import Server, eventually

import lithops_mp as mp
from lithops_mp import sharedctypes
from lithops_mp._store.session import current
from lithops_mp._store.settings import URL_VARIABLE
from lithops_mp.errors import ObjectExpired
from lithops_mp.memory import PAGE, Region
from lithops_mp.sharedctypes import typecode_to_type


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Number(ctypes.Union):
    _fields_ = [("whole", ctypes.c_uint32), ("halves", ctypes.c_uint16 * 2)]


class Record(Point):
    _anonymous_ = ("number",)
    _fields_ = [
        ("name", ctypes.c_char * 8),
        ("ends", Point * 2),
        ("low", ctypes.c_int, 3),
        ("high", ctypes.c_int, 5),
        ("number", Number),
        ("grid", ctypes.c_short * 3 * 2),
        ("value", ctypes.c_longlong),
        ("_offset", ctypes.c_byte),
    ]


class Count(ctypes.c_int):
    """A simple type that ctypes does not turn into a number."""


server = fixtures.server()
evidence = fixtures.evidence(autouse=True)


def outcome(action: Callable[..., Any], *args: Any) -> Any:
    """What an action returns, or how it fails."""
    try:
        found = action(*args)
    except Exception as error:
        return type(error), str(error)
    return found[:] if isinstance(found, ctypes.Array | sharedctypes.ArrayView) else found


def region_of(obj: Any) -> Region:
    found: Region = getattr(obj, "_obj", obj)._b_access_.region
    return found


def at_server(obj: Any) -> bytes:
    """The bytes that everybody sees."""
    found: bytes = current().client.plain("GETRANGE", region_of(obj).keys.bytes, 0, -1)
    return found


#: In which way it is reached: without a lock, with one that is free, with one that is held.
WAYS = ["raw", "free", "held"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[Callable[[Any], Any]]:
    """Turns what ``RawValue`` and ``RawArray`` make into an object that is reached so."""
    held: list[Any] = []

    def turn(obj: Any) -> Any:
        if request.param == "raw":
            return obj
        found = sharedctypes.synchronized(obj)
        if request.param == "held":
            found.acquire()
            held.append(found)
        return found

    yield turn
    for found in held:
        bytes_here = bytes(found._obj._b_load_())
        found.release()
        assert at_server(found)[: len(bytes_here)] == bytes_here


# -- simple values --

NUMBERS = [0, 1, -1, 127, 128, 255, 2**15, -(2**31), 2**32 + 3, 2**63, -(2**63) - 1, 2**64, 10**30]


@pytest.mark.parametrize("code", sorted(typecode_to_type))
def test_a_value_is_what_ctypes_makes_of_it(way: Any, code: str) -> None:
    values: list[Any] = [*NUMBERS, 1.5, -0.1, 1e40, "x", b"x", b"xy", "é", None]
    ours, theirs = way(mp.RawValue(code)), typecode_to_type[code]()
    assert ours.value == theirs.value
    for value in values:
        assert outcome(setattr, ours, "value", value) == outcome(setattr, theirs, "value", value)
        assert ours.value == theirs.value
        made = outcome(lambda value=value: mp.RawValue(code, value).value)
        assert made == outcome(lambda value=value: typecode_to_type[code](value).value)


@pytest.mark.parametrize(
    "type_", [ctypes.c_bool, ctypes.c_size_t, ctypes.c_longdouble, ctypes.c_void_p, Count]
)
def test_other_simple_types_are_values_too(type_: Any) -> None:
    ours = mp.Value(type_, 1)
    assert ours.value == 1
    ours.value = 0
    assert ours.value == type_(0).value


@pytest.mark.parametrize(
    "type_",
    [
        *(ctypes.c_char_p, ctypes.c_wchar_p, ctypes.py_object),
        *(ctypes.POINTER(ctypes.c_int), ctypes.CFUNCTYPE(None), ctypes.c_char_p * 2),
        type("Holder", (ctypes.Structure,), {"_fields_": [("text", ctypes.c_char_p)]}),
    ],
)
def test_an_address_of_this_process_is_refused(type_: Any) -> None:
    with pytest.raises(TypeError, match="it is an address in this process"):
        mp.Value(type_)
    with pytest.raises(TypeError, match="it is an address in this process"):
        mp.Array(type_, 3)


# -- arrays --

SLICES = [
    *(slice(None), slice(2, 5), slice(5, 2), slice(-3, None), slice(None, -3), slice(-100, 100)),
    *(slice(None, None, 2), slice(1, None, 3), slice(None, None, -1), slice(7, 1, -2)),
    *(slice(3, 3), slice(8, None, -3), slice(2, 3, 5)),
]
SEQUENCE = [680, 626, 934, 821, 150, 233, 548, 982, 714, 831]


@pytest.mark.parametrize("code", ["b", "i", "d", "Q"])
def test_slices_are_those_of_ctypes(way: Any, code: str) -> None:
    ours = way(mp.RawArray(code, SEQUENCE))
    theirs = (typecode_to_type[code] * 10)(*SEQUENCE)
    for found in SLICES:
        assert ours[found] == theirs[found], found
    assert list(ours) == list(theirs)
    assert list(reversed(ours)) == list(reversed(theirs))
    assert len(ours) == 10
    assert 548 % 256 in ours or 548 in ours or code == "b"


@pytest.mark.parametrize("code", ["b", "i", "d", "Q"])
def test_slices_are_set_as_in_ctypes(way: Any, code: str) -> None:
    ours = way(mp.RawArray(code, SEQUENCE))
    theirs = (typecode_to_type[code] * 10)(*SEQUENCE)
    values: list[Any] = [
        *([], [1], (7, 8, 9), range(10), b"abc", "abc", [1, "x", 3], [2**70, 1, 2]),
        *(array.array("i", [4, 5, 6]), array.array("d", [4, 5, 6]), iter([1, 2]), 5, None),
        *(memoryview(b"abc"), bytearray(10), (typecode_to_type[code] * 3)(1, 2, 3)),
    ]
    for found in SLICES:
        for value in [*values, list(range(len(theirs[found])))]:
            mine = outcome(operator.setitem, ours, found, value)
            assert mine == outcome(operator.setitem, theirs, found, value)
            if mine is None:
                assert ours[:] == theirs[:], (found, value)
            else:
                theirs[:] = ours[:]  # ctypes stops half-way, we do not begin


def test_elements_and_errors_are_those_of_ctypes(way: Any) -> None:
    ours, theirs = way(mp.RawArray("h", SEQUENCE)), (ctypes.c_short * 10)(*SEQUENCE)
    for index in (0, 3, 9, -1, -10, 10, -11, "x", 1.0, None, True, (1, 2)):
        assert outcome(operator.getitem, ours, index) == outcome(operator.getitem, theirs, index)
        for value in (5, 70000, -1, "x", 1.5, None):
            assert outcome(operator.setitem, ours, index, value) == outcome(
                operator.setitem, theirs, index, value
            )
    assert ours[:] == theirs[:]
    assert outcome(operator.delitem, mp.RawArray("i", 1), 0) == outcome(operator.delitem, theirs, 0)


def test_an_array_is_made_as_in_ctypes() -> None:
    assert mp.RawArray("i", 3)[:] == [0, 0, 0]
    assert mp.RawArray("i", range(3))[:] == [0, 1, 2]
    assert mp.RawArray("c", b"abc")[:] == b"abc"
    assert mp.RawArray("u", "äbc")[:] == "äbc"
    assert mp.RawArray("b", [1, 300])[:] == [1, 44]
    assert mp.RawArray("d", array.array("d", [1, 2]))[:] == [1, 2]
    assert mp.RawArray("i", 0)[:] == mp.Array("i", [])[:] == []
    for wrong in (-1, None, 1.5, iter([1]), ["x"]):
        with pytest.raises((TypeError, ValueError)):
            mp.RawArray("i", wrong)


def test_arrays_have_rows(way: Any) -> None:
    ours, theirs = way(mp.RawArray(ctypes.c_int * 3, 2)), (ctypes.c_int * 3 * 2)()
    for grid in ours, theirs:
        grid[1][2] = 5
        grid[0] = (1, 2, 3)
        grid[0][1:] = [8, 9]
    assert [row[:] for row in ours] == [row[:] for row in theirs] == [[1, 8, 9], [0, 0, 5]]
    ours[1] = ours[0]
    ours[0:2] = [(7, 7, 7), ours[1]]
    assert [row[:] for row in ours[::-1]] == [[1, 8, 9], [7, 7, 7]]


def test_text_is_that_of_ctypes(way: Any) -> None:
    pairs = [
        (way(mp.RawArray("c", 5)), (ctypes.c_char * 5)()),
        (way(mp.RawArray("u", 5)), (ctypes.c_wchar * 5)()),
    ]
    for ours, theirs in pairs[:1]:
        for name in ("value", "raw"):
            for value in (b"", b"ab", b"hello", b"too long", "text", None, bytearray(b"xy"), 5):
                assert outcome(setattr, ours, name, value) == outcome(setattr, theirs, name, value)
                assert (ours.value, ours.raw) == (theirs.value, theirs.raw)
    ours, theirs = pairs[1]
    ours = getattr(ours, "_safe", ours)
    for value in ("", "äb", "hello", "too long", b"text", None):
        assert outcome(setattr, ours, "value", value) == outcome(setattr, theirs, "value", value)
        assert (ours.value, ours[:]) == (theirs.value, theirs[:])


# -- structures --


def test_structures_are_those_of_ctypes(way: Any) -> None:
    ours, theirs = way(mp.RawValue(Record, 1, 2.5, b"name")), Record(1, 2.5, b"name")
    for record in ours, theirs:
        record.x += 1
        record.y = -3
        record.name = b"other"
        record.ends[1].x = 7
        record.ends[0] = (3, 4)
        record.low, record.high = 2, -7
        record.whole = 0x20001
        record.grid[1][2] = -5
        record.value = 2**40
        record._offset = 3
    for record in ours, theirs:
        assert (record.x, record.y, record.name) == (2, -3.0, b"other")
        assert [(end.x, end.y) for end in record.ends] == [(3, 4.0), (7, 0.0)]
        assert (record.low, record.high) == (2, -7)
        assert record.halves[:] == record.number.halves[:] == [1, 2]
        assert [row[:] for row in record.grid] == [[0, 0, 0], [0, 0, -5]]
        assert (record.value, record._offset) == (2**40, 3)
    for name, value in (("x", "x"), ("y", None), ("name", b"much too long"), ("ends", 5)):
        assert outcome(setattr, ours, name, value)[0] is outcome(setattr, theirs, name, value)[0]
    ours.ends = (Point * 2)((5, 6), (7, 8))
    assert [(end.x, end.y) for end in ours.ends] == [(5, 6.0), (7, 8.0)]


def test_arrays_of_structures(way: Any) -> None:
    ours = way(mp.RawArray(Point, [(1, 2.0), (3, 4.0)]))
    ours[0].x = 9
    ours[1] = Point(5, 6)
    assert [(point.x, point.y) for point in ours] == [(9, 2.0), (5, 6.0)]
    ours[:] = [ours[1], (0, 0)]
    assert [(point.x, point.y) for point in ours[::-1]] == [(0, 0.0), (5, 6.0)]


def test_an_attribute_that_is_no_field_is_this_processs() -> None:
    point = mp.RawValue(Point)
    point.label = "mine"
    assert point.label == "mine"
    with pytest.raises(AttributeError):
        _ = point.z


# -- locks --


def test_the_lock_is_the_one_that_was_given() -> None:
    for make in (mp.Value, mp.Array):
        for lock in (mp.Lock(), mp.RLock(), mp.Semaphore(1), threading.Lock()):
            found = make("i", 5, lock=lock)
            assert found.get_lock() is lock
            with found:
                assert not lock.acquire(False) or isinstance(lock, type(mp.RLock()))
        assert type(make("i", 5).get_lock()) is type(mp.RLock())
        assert type(make("i", 5, lock=None).get_lock()) is type(mp.RLock())
        assert not hasattr(make("i", 5, lock=False), "get_lock")
        with pytest.raises(AttributeError, match="'navalue' has no method 'acquire'"):
            make("i", 5, lock="navalue")


@pytest.mark.parametrize("make", [lambda: mp.Semaphore(1), threading.RLock, threading.Lock])
def test_with_a_lock_that_is_not_ours_each_access_takes_it(make: Callable[[], Any]) -> None:
    lock = make()
    value = mp.Value("i", 5, lock=lock)
    value.value += 1
    assert value.value == 6
    assert value.add(1) == 6
    lock.acquire()
    with meanwhile(lambda: setattr(value, "value", 9)):
        assert at_server(value) == (7).to_bytes(4, "little")
        lock.release()
    assert value.value == 9


def test_only_shared_objects_are_synchronized() -> None:
    with pytest.raises(TypeError, match="only what RawValue, RawArray or copy"):
        sharedctypes.synchronized(ctypes.c_int(5))
    with pytest.raises(AssertionError, match="object already synchronized"):
        sharedctypes.synchronized(mp.Value("i"))


def test_a_copy_is_an_object_of_its_own() -> None:
    point = mp.RawValue(Point, 1, 2)
    for other in (sharedctypes.copy(point), sharedctypes.copy(Point(1, 2))):
        other.x = 5
        assert (other.x, other.y, point.x) == (5, 2.0, 1)


def test_synchronized_gives_a_lock_to_what_had_none() -> None:
    raw = mp.RawValue("h", 3)
    value = sharedctypes.synchronized(raw, mp.Lock())
    with value:
        value.value += 1
        raw.value += 1
        assert at_server(raw) == b"\3\0"
    assert raw.value == value.value == 5
    other = sharedctypes.synchronized(raw, mp.Lock())
    other.value += 1
    with other.get_lock(), value.get_lock():
        raw.value += 1
    assert (raw.value, value.value, other.value) == (7, 7, 7)


def test_what_a_holder_writes_is_seen_when_it_releases() -> None:
    numbers = mp.Array("i", 3)
    with numbers.get_lock():
        numbers[0] = 1
        with numbers:
            numbers.get_obj()[1] = 2
        assert numbers[:] == [1, 2, 0]
        assert at_server(numbers) == bytes(12)
    assert array.array("i", at_server(numbers)).tolist() == [1, 2, 0]


def test_a_write_waits_while_another_thread_has_the_lock() -> None:
    value = mp.Value("i", 1)
    value.acquire()
    with meanwhile(lambda: setattr(value, "value", 10)), meanwhile(lambda: value.add(100)):
        eventually(lambda: int(value.get_lock()._semlock._look()[2]) == 2, "two in line")
        value.value += 1
        value.release()
    assert value.value in (10, 110)


def test_what_others_write_between_two_sections_is_seen() -> None:
    numbers, big = mp.Array("i", 3), mp.Array("B", 3 * PAGE)
    for step in range(1, 4):
        for found, last in ((numbers, 2), (big, 2 * PAGE)):
            with found:
                assert found[last] == step - 1
                found[0] = step
            write = functools.partial(operator.setitem, found, last, step)
            with meanwhile(write):
                pass


def test_what_is_written_without_the_lock_during_a_section_is_not_lost() -> None:
    big = mp.Array("B", 3 * PAGE)
    with big:
        big[5] = 1
        with meanwhile(lambda: operator.setitem(big.get_obj(), 6, 2)):
            pass
    with big:
        assert big[4:8] == [0, 1, 2, 0]


def test_several_objects_share_a_lock() -> None:
    lock = mp.Lock()
    count, total = mp.Value("i", lock=lock), mp.Value("d", lock=lock)
    for number in (1.5, 2.5):
        with lock:
            count.value += 1
            total.value += number
    assert (count.value, total.value) == (2, 4.0)


def test_a_condition_writes_back_before_it_waits_and_reads_anew() -> None:
    condition = mp.Condition(mp.Lock())
    value = mp.Value("i", lock=condition._lock)

    def answer() -> None:
        with condition:
            assert condition.wait_for(lambda: value.value == 1, 10)
            value.value = 2
            condition.notify()

    with meanwhile(answer), condition:
        value.value = 1
        condition.notify()
        assert condition.wait_for(lambda: value.value == 2, 10)
    assert value.value == 2


def test_an_object_that_goes_during_a_section_is_written_nevertheless() -> None:
    lock = mp.Lock()
    with lock:
        value = mp.Value("i", lock=lock)
        raw = value.get_obj()
        value.value = 5
        del value
    assert raw.value == 5
    assert len(lock._semlock.regions) == 1
    del raw
    assert lock._semlock.regions == []


def test_large_arrays_are_right_wherever_they_are_touched() -> None:
    size = 3 * PAGE + 100
    wanted = bytearray(size)
    big = mp.Array("B", size)
    places = [0, 1, PAGE - 1, PAGE, 2 * PAGE - 1, 2 * PAGE + 5, 3 * PAGE, size - 1]
    for step, place in enumerate(places, 1):
        with big:
            big[place] = wanted[place] = step
            low, high = max(place - 3, 0), min(place + 3, size)
            assert big[low:high] == list(wanted[low:high])
            big[PAGE - 10 : 2 * PAGE + 10] = wanted[PAGE - 10 : 2 * PAGE + 10]
        assert at_server(big) == wanted
    with big:
        big[:] = wanted = bytearray(n % 251 for n in range(size))
        assert big[PAGE] == wanted[PAGE]
    assert at_server(big) == wanted
    big[:] = bytes(size)
    assert not any(big)
    big[1:] = wanted[1:]
    assert big[:] == [0, *wanted[1:]]
    initial = mp.RawArray("B", wanted)
    assert initial[:] == list(wanted)


# -- in one step --

OPERATIONS = ["add", "exchange", "max", "min"]


@pytest.mark.parametrize("code", "bBhHiIlLqQfd")
def test_numbers_change_in_one_step_as_ctypes_would_have_it(way: Any, code: str) -> None:
    type_ = typecode_to_type[code]
    value, numbers = way(mp.RawValue(code)), way(mp.RawArray(code, 3))
    theirs = type_()
    for operand in (5, -3, 2**31 - 1, 2**63 - 1, 2**40 + 7, -(2**63)):
        for operation in OPERATIONS:
            new = type_(operand).value
            wanted = {
                "add": theirs.value + new,
                "exchange": new,
                "max": max(theirs.value, new),
                "min": min(theirs.value, new),
            }[operation]
            was = theirs.value
            theirs.value = wanted
            assert getattr(value, operation)(operand) == was
            assert getattr(numbers, operation)(-2, operand) == was
            assert value.value == numbers[1] == theirs.value, (operation, operand)
    was = theirs.value
    assert value.compare_exchange(was, 7) == was
    assert value.compare_exchange(was, 8) == 7
    assert numbers.compare_exchange(1, was, 7) == was
    assert value.value == numbers[1] == 7
    assert numbers[::2] == [0, 0]


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_who_has_the_lock_does_not_wait_for_it(kind: str) -> None:
    numbers = mp.Array("i", [5, 7], lock=getattr(mp, kind)())
    with numbers:
        assert numbers.add(0, 1) == 5
        assert numbers.max(1, 9) == 7
        assert numbers.compare_exchange(0, 6, 1) == 6
    assert numbers[:] == [1, 9]


def test_what_is_no_number_has_no_sum() -> None:
    for type_ in (ctypes.c_char, ctypes.c_bool, ctypes.c_longdouble, ctypes.c_wchar):
        value = mp.Value(type_)
        for operation in ("add", "max", "min"):
            with pytest.raises(TypeError, match=f"{type_.__name__} has no {operation}"):
                getattr(value, operation)(value.value)
        was = value.value
        assert value.exchange(was) == was
        assert value.compare_exchange(was, was) == was
    with pytest.raises(TypeError):
        mp.Value("i").add("x")
    with pytest.raises(TypeError, match="Point has no add"):
        mp.Array(Point, 1).add(0, (1, 2))
    with pytest.raises(IndexError, match="invalid index"):
        mp.Array("i", 1).add(1, 1)


def test_bytes_in_the_other_order_are_numbers_too() -> None:
    value = mp.Value(ctypes.c_int.__ctype_be__, 255)
    assert value.add(1) == 255
    assert value.max(3) == 256
    with value:
        assert value.min(7) == 256
    assert value.value == 7
    assert at_server(value) == b"\0\0\0\7"


# -- names and ends --


def test_what_is_pickled_is_the_same_object() -> None:
    for found in (
        *(mp.Value("i", 5), mp.Array("d", 3), mp.Array("c", 3), mp.Value(Record)),
        *(mp.RawValue("i", 5), mp.RawArray(ctypes.c_int * 3 * 2, 2), mp.RawValue(Record).ends[1]),
        *(mp.Value("i", 5, lock=mp.Semaphore(1)), mp.RawArray("i", 0)),
    ):
        other = pickle.loads(pickle.dumps(found))
        assert type(other) is type(found)
        assert region_of(other) is region_of(found)
        assert getattr(other, "_obj", other)._b_offset_ == getattr(found, "_obj", found)._b_offset_
        if hasattr(found, "get_lock"):
            assert other.get_lock()._semlock is found.get_lock()._semlock


def test_repr_never_fails(server: Server) -> None:
    value, raw = mp.Value("i", 5), mp.RawValue("i", 5)
    assert (repr(value), repr(raw)) == ("<Synchronized wrapper for c_int(5)>", "c_int(5)")
    assert repr(mp.Value(Record)).startswith("<SynchronizedRecord wrapper for <shared Record")
    server.command("DEL", region_of(raw).keys.bytes)
    assert repr(raw) == "c_int(unknown)"


def _use(found: Any) -> None:
    with found:
        found.get_obj()._b_access_.write([0, b"x"])


@pytest.mark.parametrize("key", ["bytes", "state"])
def test_what_is_gone_is_an_error_and_never_zero(server: Server, key: str) -> None:
    def gone(obj: Any) -> Any:
        region = region_of(obj)
        server.command("DEL", region.keys.bytes if key == "bytes" else region.keys.changed[0])
        return obj

    raw, value, numbers = gone(mp.RawValue("i")), gone(mp.Value("i")), gone(mp.Array("d", 10**4))
    for action in (
        *(lambda: setattr(raw, "value", 1), lambda: setattr(value, "value", 1)),
        *(lambda: value.add(1), lambda: numbers.__setitem__(0, 1)),
    ):
        with pytest.raises(ObjectExpired):
            action()
    if key == "bytes":
        for action in (
            lambda: raw.value,
            lambda: value.value,
            lambda: numbers[5],
            lambda: numbers[:],
        ):
            with pytest.raises(ObjectExpired):
                action()
    for found in (value, numbers):
        with pytest.raises(ObjectExpired):
            _use(found)
        assert found.get_lock()._semlock._get_value() == 1, "it kept the lock"


def test_nothing_is_left_of_an_object_that_nobody_has(server: Server) -> None:
    before = set(server.command("KEYS", "*"))
    found = [mp.Value("i"), mp.Array("d", 10**5), mp.RawValue(Record), mp.RawArray("c", b"abc")]
    found[1][:] = range(10**5)
    with found[1]:
        found[1][:] = range(10**5)
    assert len(set(server.command("KEYS", "*")) - before) >= 10
    found.clear()
    mp.Lock()  # lets go of what was dropped
    eventually(
        lambda: (mp.Lock(), len(set(server.command("KEYS", "*")) - before) <= 4)[1], "no key"
    )


# -- types that the program's own file defines --

MAIN = """
import ctypes
import lithops_mp as mp

class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]

    def turned(self):
        return Point(self.y, self.x)

class Word(ctypes.Union):
    _fields_ = [("whole", ctypes.c_uint16), ("halves", ctypes.c_uint8 * 2)]

class Header(ctypes.BigEndianStructure):
    _pack_ = 1
    _fields_ = [("kind", ctypes.c_uint8, 3), ("length", ctypes.c_uint32)]

class Record(ctypes.Structure):
    _anonymous_ = ["word"]
    _fields_ = [("ends", Point * 2), ("word", Word)]
    _fields_ += [("cells", ctypes.c_int * 3 * 2), ("head", Header)]

class Count(ctypes.c_long):
    pass

def child(points, record, count, foreign, queue):
    for point in points:
        point.x, point.y = point.y, point.x
    with record.get_lock():
        record.ends[1].x, record.whole, record.cells[1][2], record.head.length = 0.5, 0x0102, 7, 258
    with count.get_lock():
        count.value += 1
    foreign.value = 5
    queue.put(Point(1, 2).turned())

if __name__ == "__main__":
    points, record = mp.Array(Point, [(1, 2), (3, 4)]), mp.Value(Record)
    count, foreign, queue = mp.Value(Count, 1), mp.Value(ctypes.c_int.__ctype_be__), mp.Queue()
    process = mp.Process(target=child, args=(points, record, count, foreign, queue))
    process.start()
    got = queue.get()
    process.join()
    assert type(got) is Point and (got.x, got.y) == (2, 1)
    assert [(p.x, p.y) for p in points] == [(2, 1), (4, 3)]
    assert (record.ends[1].x, sorted(record.halves), record.cells[1][2]) == (0.5, [1, 2], 7)
    assert record.head.length == 258 and count.value == 2 and foreign.value == 5
    print("all is well")
"""


def test_types_of_the_program_itself_travel(server: Server, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(MAIN)
    environ = {**os.environ, URL_VARIABLE: url_of(server.settings)}
    environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(p) for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, env=environ, timeout=60, check=False
    )
    assert done.stdout == b"all is well\n", done.stderr.decode()


def test_numpy_has_a_copy_of_the_right_type_that_says_that_it_is_one() -> None:
    shared = mp.RawArray("i", [1, 2, 3])
    for found in (numpy.asarray(shared), numpy.ctypeslib.as_array(shared)):
        assert found.dtype == numpy.int32
        assert found.tolist() == [1, 2, 3]
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 7
    with pytest.raises(ValueError, match="read-only"):
        numpy.asarray(mp.Array("d", 3).get_obj())[:] = 1
    table = mp.RawArray(ctypes.c_short * 2, 3)
    assert numpy.asarray(table).shape == (3, 2)
    assert numpy.asarray(table, float).dtype == float
    shared[:] = numpy.arange(3) + 4
    assert shared[:] == [4, 5, 6]
