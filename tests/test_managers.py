"""Managers: what is promised beyond CPython's own tests.

CPython's run in ``tests/conformance``; that dicts and lists do what Python's do is in
``tests/stateful``; what happens when somebody dies is in ``tests/faults``.
"""

from __future__ import annotations

import array
import copy
import dataclasses
import gc
import multiprocessing.managers
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Full
from typing import Any

import msgpack
import pytest
from support import fixtures
from support.programs import Evidence, Log, meanwhile, start, url_of
from support.servers import PATIENCE, Server, eventually, written

import lithops_mp as mp
from lithops_mp import storing
from lithops_mp._store import processes, session
from lithops_mp._store.client import Client
from lithops_mp._store.settings import URL_VARIABLE
from lithops_mp.errors import ManagerLost, ObjectExpired
from lithops_mp.managers import BaseManager, BaseProxy, RemoteError, SyncManager

server = fixtures.server(tcp=True)
evidence = fixtures.evidence(HEARTBEAT=0.5)


@pytest.fixture
def manager(evidence: Evidence) -> Iterator[SyncManager]:
    with mp.Manager() as found:
        yield found
    gc.collect()
    session.current().settle()
    left = [key for key in evidence.object_keys() if ":m:" not in key]
    assert not left


# -- proxies --

KINDS: dict[str, tuple[Any, ...]] = {
    "dict": (),
    "list": (),
    "Namespace": (),
    "Value": ("i", 3),
    "Array": ("i", [1, 2]),
    "Queue": (),
    "JoinableQueue": (),
    "Event": (),
    "Lock": (),
    "RLock": (),
    "Semaphore": (),
    "BoundedSemaphore": (),
    "Condition": (),
    "Barrier": (2,),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_is_cpythons_and_pickles_by_name(manager: SyncManager, kind: str) -> None:
    proxy = getattr(manager, kind)(*KINDS[kind])
    assert isinstance(proxy, multiprocessing.managers.BaseProxy)
    theirs = getattr(multiprocessing.managers, type(proxy).__name__, None)
    assert theirs is None or isinstance(proxy, theirs)
    assert repr(proxy).startswith(f"<{type(proxy).__name__} object, typeid {kind!r} at 0x")
    assert str(proxy) not in ("", repr(proxy))
    other = pickle.loads(pickle.dumps(proxy))
    assert type(other) is type(proxy)
    assert repr(other).partition(" at ")[0] == repr(proxy).partition(" at ")[0]
    assert copy.copy(proxy) != proxy  # as CPython's, they are compared by identity
    with pytest.raises(RemoteError, match="is not in exposed"):
        proxy._callmethod("__class__")


def test_a_manager_starts_no_process_until_one_is_needed(manager: SyncManager) -> None:
    for kind, args in KINDS.items():
        getattr(manager, kind)(*args)
    assert mp.active_children() == []
    assert isinstance(manager, multiprocessing.managers.SyncManager)
    assert manager.address
    (child,) = mp.active_children()
    assert child.name.startswith("SyncManager-")


def test_shutdown_leaves_no_key_though_others_refer_to_what_was_made(
    evidence: Evidence, log: Log
) -> None:
    manager = mp.Manager()
    made = [getattr(manager, kind)(*args) for kind, args in KINDS.items()]
    outer = manager.dict(inner=manager.list([manager.Queue()]), large=b"x" * 1_000_000)
    child = start(log, keep, made, outer)
    log.wait("has them")
    assert manager._number_of_objects() == len(KINDS) + 4  # a Condition has a lock
    manager.shutdown()
    assert evidence.object_keys() == []
    with pytest.raises(ObjectExpired, match="its manager was shut down"):
        outer["inner"]
    with pytest.raises(AssertionError, match="not yet started"):
        manager.dict()
    child.process.terminate()
    child.join()


def keep(log: Log, made: list[Any], outer: Any) -> None:
    log("has them")
    threading.Event().wait()


def test_what_a_manager_forgets_is_not_counted(
    manager: SyncManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lithops_mp.managers.MANY", 5)
    for _ in range(50):
        manager.dict()
    assert len(manager._made.refs) < 20
    kept = [manager.list([number]) for number in range(20)]
    assert manager._number_of_objects() == 20
    assert [one[0] for one in kept] == list(range(20))


def test_a_process_through_a_manager(manager: SyncManager) -> None:
    found = manager.list()
    process = manager.Process(target=found.append, args=(5,))
    process.start()
    process.join()
    assert (process.exitcode, found[:]) == (0, [5])


# -- dicts --


def test_one_and_1_0_and_true_are_one_key(manager: SyncManager) -> None:
    shared = manager.dict({1.0: "float"})
    shared[True] = "bool"
    shared[1] = "int"
    assert shared.items() == [(1.0, "int")]
    assert type(shared.keys()[0]) is float


@dataclasses.dataclass(frozen=True)
class Place:
    """A key that has an equality of its own."""

    x: int


def test_keys_of_ones_own_class_are_found_by_their_equality(manager: SyncManager, log: Log) -> None:
    shared = manager.dict({Place(1): "a", Place(2): "b"})
    child = start(log, use_places, shared)
    assert child.join() == 0
    assert shared.copy() == {Place(1): "changed", Place(3): "new"}
    assert Place(2) not in shared
    assert shared.compare_set(Place(3), "new", "newer")
    assert shared.add(Place(4), 2) == 0
    assert shared.pop(Place(4)) == 2


def use_places(log: Log, shared: Any) -> None:
    shared[Place(1)] = "changed"
    assert shared.pop(Place(2)) == "b"
    assert shared.setdefault(Place(3), "new") == "new"


def test_a_key_that_many_add_at_once_is_added_once(manager: SyncManager) -> None:
    shared, barrier = manager.dict(), threading.Barrier(4)

    def add() -> None:
        for number in range(10):
            barrier.wait()
            shared[Place(number)] = threading.get_ident()

    at_once(*[add] * 4)
    assert [key.x for key in shared] == list(range(10))


def at_once(*functions: Callable[[], object]) -> None:
    """Run them in threads, of which each has a client of its own."""
    first, *more = functions
    if not more:
        first()
        return
    with meanwhile(first):
        at_once(*more)


def test_add_and_compare_set_lose_nothing(manager: SyncManager) -> None:
    shared = manager.dict(n=0, text="")

    def count() -> None:
        for _ in range(50):
            shared.add("n", 1)
            shared.add("big", 2**60)  # more than Lua has exactly
            while not shared.compare_set("text", text := shared["text"], text + "x"):
                pass

    at_once(*[count] * 4)
    assert shared["n"] == 200
    assert shared["big"] == 200 * 2**60
    assert shared["text"] == "x" * 200
    assert not shared.compare_set("n", 5, 6)
    assert not shared.compare_set("missing", None, 6)
    with pytest.raises(TypeError):
        shared.add("text", 1)


def test_what_equals_by_pythons_rules_is_compared_by_them(manager: SyncManager) -> None:
    shared = manager.dict(a={"x": 1, "y": 2})
    assert shared.compare_set("a", {"y": 2.0, "x": True}, 5)
    found = manager.list([{"x": 1, "y": 2}, 1.0, Place(1)])
    assert found.index({"y": 2, "x": 1}) == 0
    assert found.index(True) == 1
    found.remove(Place(1))
    assert found[:] == [{"x": 1, "y": 2}, 1.0]


def test_going_through_a_dict_sees_one_moment(
    manager: SyncManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "PAGE", 7)
    names = [f"k{number}" for number in range(40)]
    shared, done = manager.dict(dict.fromkeys(names, 0)), threading.Event()

    def write() -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            shared.update(dict.fromkeys(names, turn))

    with meanwhile(write):
        try:
            seen = [set(shared.values()) for _ in range(30)]
            assert [len(values) for values in seen] == [1] * 30
            assert len(set.union(*seen)) > 5
            assert shared.keys() == names
        finally:
            done.set()


def test_going_through_a_list_sees_one_moment(
    manager: SyncManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "PAGE", 7)
    shared, done = manager.list([0] * 40), threading.Event()

    def write() -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            shared[:] = [turn] * 40

    with meanwhile(write):
        try:
            seen: list[set[int]] = []
            while len(set().union(*seen)) <= 5:  # until it was written to in between
                seen.append(set(shared))
            assert all(len(values) == 1 for values in seen)
        finally:
            done.set()


def test_a_dict_of_100000_entries_is_read_by_pages(
    manager: SyncManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 100_000
    content = {f"key {number}": number for number in range(size)}
    shared = manager.dict(content)
    replies: list[int] = []
    call = Client.call

    def counted(self: Client, *args: Any) -> Any:
        reply = call(self, *args)
        replies.append(len(reply))
        return reply

    monkeypatch.setattr(Client, "call", counted)
    assert shared.copy() == content
    assert list(shared) == list(content)
    # An entry is four words.
    assert max(replies) <= 4 * storing.PAGE + 2
    assert len(replies) >= 2 * size / storing.PAGE
    replies.clear()
    assert len(shared) == size
    assert "key 5" in shared
    shared.clear()
    assert len(shared) == 0
    assert max(replies) < 5


def test_a_batch_of_100000_entries_is_entered_by_pages_and_all_at_once(
    manager: SyncManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 100_000
    shared = manager.dict(a=0)
    sent: list[int] = []
    whole = Client._exchange_all

    def measured(self: Client, packets: list[Any], *args: Any, **options: Any) -> list[Any]:
        sent.append(sum(map(len, packets)))
        return whole(self, packets, *args, **options)

    monkeypatch.setattr(Client, "_exchange_all", measured)
    content = {f"key {number}": number for number in range(size)}
    trips = session.current().client.round_trips
    shared.update(content)
    # A page is laid down with one request and entered with another.
    assert session.current().client.round_trips - trips <= 2 * size / storing.PAGE + 3
    assert len(sent) == size / storing.PAGE
    assert max(sent) < 2 * storing.PAGE * storing.ENTRY
    assert shared.copy() == {"a": 0, **content}
    # Large entries make more pages, each of no more bytes.
    sent.clear()
    shared.update(dict.fromkeys(range(50), b"x" * 100000))
    assert len(sent) >= 5
    assert max(sent) < 2 * storing.PAGE * storing.ENTRY


def test_a_batch_may_have_large_values_and_proxies(
    manager: SyncManager, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "PAGE", 10)
    shared, inner, large = manager.dict(), manager.list([1]), os.urandom(1_000_000)
    scripts: list[str] = []
    call = Client.call

    def noted(self: Client, bound: Any, args: Any) -> Any:
        scripts.append(bound.script.name)
        return call(self, bound, args)

    monkeypatch.setattr(Client, "call", noted)
    shared.update({**dict.fromkeys(range(25), 5), "large": large, "inner": inner})
    assert scripts.count("dict/enter") == 3
    assert "dict/update" not in scripts
    del inner
    shared["inner"].append(2)
    assert shared["inner"][:] == [1, 2]
    assert shared["large"] == large
    shared.update({**dict.fromkeys(range(25), 6), "large": 1, "inner": 1})
    assert [key for key in evidence.object_keys() if ":b:" in key] == []


def test_a_batch_lets_go_of_what_was_kept_for_a_reader_who_is_silent(
    manager: SyncManager, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "PAGE", 2)
    inner = manager.list([1])
    shared, name = manager.dict(a=1, b=2, c=inner), inner._referent.ref.ident
    of, client = shared._referent.scripts, session.current().client
    reply = client.call(of.mine("read", client), (client.id, client.stamp(), "", "", 1))
    assert reply[0] == b"PAGE"
    shared["c"] = 3
    client.plain("HSET", of.state, "open", f"{client.id} 000000000001 1")  # since 1970
    del inner
    gc.collect()
    assert [key for key in evidence.object_keys() if name in key]
    shared.update(dict.fromkeys("abcde", 5))
    assert shared.copy() == dict.fromkeys("abcde", 5)
    session.current().settle()
    assert not [key for key in evidence.object_keys() if name in key]


class Plain(dict[Any, Any]):
    """A dict with our two methods more."""

    def add(self, key: Any, amount: int) -> int:
        was: int = self.get(key, 0)
        self[key] = was + amount
        return was

    def compare_set(self, key: Any, old: Any, new: Any) -> bool:
        return self.get(key) == old and not self.__setitem__(key, new)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "dict setitem": lambda d: d.__setitem__("a", 1),
    "dict setitem, only Python compares": lambda d: d.__setitem__(1.5, 1),
    "dict setitem, new": lambda d: d.__setitem__("z", 1),
    "dict update": lambda d: d.update(a=1, z=2),
    "dict setdefault, there": lambda d: d.setdefault("a", 1),
    "dict setdefault, new": lambda d: d.setdefault("z", 1),
    "dict del": lambda d: d.__delitem__("a"),
    "dict pop": lambda d: d.pop("a"),
    "dict pop, missing": lambda d: d.pop("z", None),
    "dict popitem": lambda d: d.popitem(),
    "dict clear": lambda d: d.clear(),
    "dict add": lambda d: d.add("a", 1),
    "dict add, new": lambda d: d.add("z", 1),
    "dict add, of any size": lambda d: d.add("a", 1 << 70),
    "dict compare_set": lambda d: d.compare_set("a", 1, 2),
    "list append": lambda x: x.append(1),
    "list append, a tuple": lambda x: x.append((1, 2)),
    "list extend": lambda x: x.extend([1, 2]),
    "list +=": lambda x: x.__iadd__([1]),
    "list *=": lambda x: x.__imul__(0),
    "list setitem": lambda x: x.__setitem__(0, 1),
    "list setitem, a slice": lambda x: x.__setitem__(slice(1, 2), [7, 8]),
    "list del": lambda x: x.__delitem__(0),
    "list insert": lambda x: x.insert(0, 1),
    "list pop": lambda x: x.pop(),
    "list remove": lambda x: x.remove(1),
    "list index": lambda x: x.index(1),
    "list count": lambda x: x.count(1),
    "list reverse": lambda x: x.reverse(),
    "list sort": lambda x: x.sort(),
    "list clear": lambda x: x.clear(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_lets_go_of_what_was_kept_for_a_reader_who_is_silent(
    what: str, manager: SyncManager, evidence: Evidence
) -> None:
    kind, change = what.partition(" ")[0], CHANGES[what]
    inner = manager.list([1])
    name = inner._referent.ref.ident
    plain: Any = Plain(c=3, a=1) if kind == "dict" else [3, 1]
    shared = getattr(manager, kind)(plain)
    place = "c" if kind == "dict" else 0
    shared[place] = inner
    of, client = shared._referent.scripts, session.current().client
    start = ("", "") if kind == "dict" else ("", "", "")
    reply = client.call(of.mine("read", client), (client.id, client.stamp(), *start, 1))
    assert reply[0] in (b"PAGE", b"COPIED")
    shared[place] = 3
    client.plain("HSET", of.state, "open", f"{client.id} 000000000001 1")  # since 1970
    del inner
    gc.collect()
    session.current().settle()
    assert [key for key in evidence.object_keys() if name in key]
    assert change(shared) == change(plain) or kind == "list"
    session.current().settle()
    assert not [key for key in evidence.object_keys() if name in key]
    assert shared.copy() == plain


def test_an_assignment_takes_one_trip_whatever_else_is_there(manager: SyncManager) -> None:
    shared = manager.dict(large=os.urandom(1_000_000))
    shared["a"] = 1  # the server knows the script from here on
    session.current().settle()
    of, client = shared._referent.scripts, session.current().client
    client.call(of.mine("read", client), (client.id, client.stamp(), "", "", 1))
    for key in ("new", "new", "large"):
        trips = client.round_trips
        shared[key] = 5
        assert client.round_trips == trips + 1
    assert shared.copy() == {"large": 5, "a": 1, "new": 5}


def test_going_through_a_dict_does_not_notice_an_update_of_what_is_there(
    manager: SyncManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "PAGE", 2)
    shared = manager.dict(a=1, b=2, c=3)
    for key in shared:
        shared.update(dict.fromkeys("abc", key))
    assert shared.copy() == dict.fromkeys("abc", "c")
    going = iter(shared)
    next(going)
    shared.update(c=1, d=2, e=3)
    with pytest.raises(RuntimeError, match="changed size during iteration"):
        next(going)


def test_a_batch_counts_for_every_method_from_one_moment_on(manager: SyncManager) -> None:
    """Each meets a batch that is not entered yet, and enters it."""
    for method, expected in (
        *((lambda d: d["a"], 2), (lambda d: d.get("c"), 2), (lambda d: "c" in d, True)),
        *((len, 3), (lambda d: d.copy(), dict.fromkeys("abc", 2)), (lambda d: d.pop("a"), 2)),
        *((lambda d: d.popitem(), ("c", 2)), (lambda d: d.setdefault("c", 5), 2)),
        *((lambda d: d.add("a", 1), 2), (lambda d: d.compare_set("c", 2, 3), True)),
        *((lambda d: d.__setitem__("a", 5), None), (lambda d: d.__delitem__("c"), None)),
        *((lambda d: d.update(a=5), None), (lambda d: d.clear(), None), (list, ["a", "b", "c"])),
        *((lambda d: d.__setitem__(Place(1), 5), None), (lambda d: Place(1) in d, False)),
    ):
        shared = manager.dict(a=1, b=1)
        of, client = shared._referent.scripts, session.current().client
        seq = client.stamp()
        for number, key in enumerate("abc"):
            page = msgpack.packb(["s" + key, "i2", ""])
            client.plain("HSET", storing.laid(of, client, seq), number, page)
        assert client.call(of["merge"], (client.id, seq, "", 3, "")) == [b"MERGING"]
        assert method(shared) == expected
        assert shared.get("b") == (None if len(shared) == 0 else 2)


def test_values_of_any_size_are_there_and_leave_nothing(
    manager: SyncManager, evidence: Evidence
) -> None:
    large, larger = b"a" * 1_000_000, os.urandom(3_000_000)
    shared, elements = manager.dict(a=large, b=1), manager.list([large])
    assert (shared["a"], elements[0]) == (large, large)
    shared["a"] = elements[0] = larger
    assert shared.copy() == {"a": larger, "b": 1}
    assert shared.items() == [("a", larger), ("b", 1)]
    elements *= 2
    elements.append(large)
    assert elements[:] == [larger, larger, large]
    assert elements.pop() == large
    assert shared.pop("a") == larger
    assert shared.setdefault("c", large) == large
    assert shared.setdefault("c", larger) == large
    assert not shared.compare_set("c", larger, larger)
    assert shared.compare_set("c", large, larger)
    assert shared["c"] == larger
    del elements[:], shared["c"]
    elements.append(1)  # what was taken goes with the next request
    shared["b"] = 2
    assert [key for key in evidence.object_keys() if ":b:" in key] == []


def test_changing_a_dict_while_going_through_it_is_an_error(manager: SyncManager) -> None:
    shared = manager.dict(a=1, b=2)
    going = iter(shared)
    del shared[next(going)]
    with pytest.raises(RuntimeError, match="changed size during iteration"):
        next(going)
    for key in shared:
        shared[key] = 5
    assert shared.copy() == {"b": 5}


def test_what_cannot_be_a_key_or_pickled_is_refused(manager: SyncManager) -> None:
    shared, elements = manager.dict(), manager.list()
    for action in (
        *(lambda: shared.__setitem__([], 1), lambda: shared[{}], lambda: [] in shared),
        *(lambda: shared.update({1: threading.Lock()}), lambda: elements.append(threading.Lock())),
        *(lambda: elements["a"], lambda: elements.insert("a", 1), lambda: elements[1:"a"]),
    ):
        with pytest.raises(TypeError):
            action()
    for part, words in (
        (slice(1), "only assign an iter"),
        (slice(0, 9, 2), "assign iter.* to ext"),
    ):
        with pytest.raises(TypeError, match=words):
            elements[part] = 5
    assert (shared.copy(), elements[:]) == ({}, [])


def test_sorting_is_repeated_if_others_change_the_list(manager: SyncManager) -> None:
    numbers = manager.list([3, 1, 2])
    turns = []

    def key(number: int) -> int:
        if len(turns) < 3:
            numbers.append(0)
        turns.append(number)
        return number

    numbers.sort(key=key)
    assert numbers[:] == [0, 0, 0, 1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        numbers.sort(key=lambda number: 1 / number)
    assert numbers[:] == [0, 0, 0, 1, 2, 3]


class Meddler:
    """Equal to ``Place(2)``; whoever compares it first is interrupted."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        self.meddle = [meddle]

    def __eq__(self, other: object) -> bool:
        while self.meddle:
            self.meddle.pop()()
        return other == Place(2)

    __hash__ = None  # type: ignore[assignment]


def test_removing_is_repeated_if_others_change_the_list(manager: SyncManager) -> None:
    elements = manager.list([Place(1), Place(2)])
    elements.remove(Meddler(lambda: elements.insert(0, "new")))
    assert elements[:] == ["new", Place(1)]
    elements.append(Place(2))
    with pytest.raises(ValueError, match="not in list"):
        elements.remove(Meddler(lambda: elements.remove(Place(2))))
    assert elements[:] == ["new", Place(1)]


class Copied:
    """Says when it is pickled."""

    meddle: list[Callable[[], object]]

    def __reduce__(self) -> Any:
        while self.meddle:
            self.meddle.pop()()
        return Copied, ()


def test_multiplying_is_repeated_if_others_change_the_list(manager: SyncManager) -> None:
    Copied.meddle = []
    elements = manager.list([Copied(), manager.list()])  # only Python has more proxies
    Copied.meddle = [lambda: elements.append(5)]
    elements *= 2
    assert [type(one).__name__ for one in elements] == ["Copied", "ListProxy", "int"] * 2


# -- what values refer to --


def test_a_container_keeps_what_its_values_refer_to(
    manager: SyncManager, evidence: Evidence
) -> None:
    outer = manager.dict()
    outer["inner"] = manager.dict(a=manager.list([1]))
    outer["event"] = mp.Event()  # of no manager
    gc.collect()
    session.current().settle()
    outer["inner"]["a"].append(2)
    assert outer["inner"]["a"][:] == [1, 2]
    outer["event"].set()
    assert outer["event"].is_set()
    del outer["inner"]
    outer["event"] = 5
    gc.collect()
    session.current().settle()
    assert len({key.split("}")[0] for key in evidence.object_keys()}) == 1
    assert outer.copy() == {"event": 5}
    popped = manager.list([manager.list([7])])
    inner = popped.pop()
    assert inner[:] == [7]


def test_what_a_value_refers_to_is_renewed_with_it(manager: SyncManager, server: Server) -> None:
    outer = manager.dict(inner=manager.list([manager.Event()]))
    gc.collect()
    here = session.current()
    here.settle()
    objects = {key.split("}")[0] + "}" for key in Evidence(server).object_keys()}
    assert len(objects) == 3
    for state in objects:
        server.command("PEXPIRE", state, 30_000)
    processes.renew(here.client, here.uid, here.ttl)
    assert all(server.command("PTTL", state) > 30_000 for state in objects)
    assert not outer["inner"][0].is_set()


def test_a_list_may_hold_itself(manager: SyncManager) -> None:
    found = manager.list([1])
    found.append(found)
    assert found[1][1][0] == 1


def test_nested_proxies_go_to_other_processes(manager: SyncManager, log: Log) -> None:
    outer = manager.dict(numbers=manager.list())
    child = start(log, nest, outer)
    assert child.join() == 0
    assert outer["numbers"][:] == [1]
    assert outer["new"]["deep"].get(timeout=PATIENCE) == "from the child"


def nest(log: Log, outer: Any) -> None:
    outer["numbers"].append(1)
    with mp.Manager() as mine:
        inner = mine.dict()
        queue = mp.JoinableQueue()
        queue.put("from the child")
        inner["deep"] = queue
        outer["copy"] = inner.copy()
    outer["new"] = outer.pop("copy")


# -- the others --


def test_a_namespace(manager: SyncManager) -> None:
    assert manager.Namespace(make=1, typeid=2, self=3).self == 3
    names = manager.Namespace(a=1)
    names.b = [1]
    names._own = 5
    assert (names.a, names.b, str(names)) == (1, [1], "Namespace(a=1, b=[1])")
    del names.a
    for action in (lambda: names.a, lambda: names.__delattr__("a")):
        with pytest.raises(AttributeError, match="no attribute 'a'"):
            action()
    assert not hasattr(pickle.loads(pickle.dumps(names)), "_own")


def test_a_value_may_be_anything(manager: SyncManager) -> None:
    value = manager.Value("d", "text")
    assert (value.value, value.get(), str(value)) == ("text", "text", "Value('d', 'text')")
    value.value = {"a": 1}
    value.set(value.get() | {"b": 2})
    assert value.value == {"a": 1, "b": 2}


def test_an_array_is_array_arrays(manager: SyncManager) -> None:
    found, mine = manager.Array("h", range(6)), array.array("h", range(6))
    for index in (0, -1, 3, slice(None), slice(1, 3), slice(None, None, 2), slice(4, 0, -2)):
        assert found[index] == mine[index]
    found[1] = mine[1] = -5
    found[2:4] = mine[2:4] = array.array("h", [7, 8])
    found[::-2] = mine[::-2] = array.array("h", [1, 2, 3])
    assert (found[:], len(found), str(found), list(found)) == (mine, 6, str(mine), mine.tolist())
    assert manager.Array("d", []).__getitem__(slice(None)) == array.array("d")
    for error, action in (
        (IndexError, lambda: found[6]),
        (IndexError, lambda: found.__setitem__(-7, 0)),
        (OverflowError, lambda: found.__setitem__(0, 2**40)),
        (TypeError, lambda: found.__setitem__(0, "a")),
        (TypeError, lambda: found.__setitem__(slice(1), [1])),
        (ValueError, lambda: found.__setitem__(slice(1), mine)),
    ):
        with pytest.raises(error):
            action()
    assert found[:] == mine


def test_a_queue_is_queue_queues(manager: SyncManager) -> None:
    queue = manager.Queue(1)
    queue.put(1)
    assert (queue.full(), queue.qsize(), queue.empty()) == (True, 1, False)
    for error, action in (
        (Full, lambda: queue.put_nowait(2)),
        (Full, lambda: queue.put(2, timeout=0.01)),
        (ValueError, lambda: queue.put(2, timeout=-1)),
        (TypeError, lambda: queue.put(threading.Lock())),
    ):
        with pytest.raises(error):
            action()
    assert queue.get() == 1
    queue.task_done()
    queue.join()
    with pytest.raises(ValueError, match="called too many times"):
        queue.task_done()
    for action in (queue.get_nowait, lambda: queue.get(timeout=0.01)):
        with pytest.raises(Empty):
            action()
    assert not hasattr(queue, "close")


def test_locks_raise_what_threadings_do(manager: SyncManager) -> None:
    lock, rlock, condition = manager.Lock(), manager.RLock(), manager.Condition()
    bounded = manager.BoundedSemaphore(1)
    for error, action in (
        (RuntimeError, lock.release),
        (RuntimeError, rlock.release),
        (RuntimeError, condition.notify),
        (RuntimeError, condition.wait),
        (ValueError, bounded.release),
        (ValueError, lambda: lock.acquire(False, 1)),
    ):
        with pytest.raises(error):
            action()
    with lock:
        assert not lock.acquire(False)
        assert not lock.acquire(timeout=0.01)
    assert lock.acquire(timeout=-1)
    with rlock, rlock:
        pass
    mine = manager.Condition(rlock)
    with mine:
        mine.notify_all()
        assert mine.wait_for(lambda: True)
        assert not mine.wait(0.01)


# -- what lives in a server process --


class Counter:
    def __init__(self, start: int = 0) -> None:
        self.number = start

    def up(self, by: int = 1) -> int:
        self.number += by
        return self.number

    def fails(self) -> None:
        raise LookupError("as it should")

    def hears(self, shared: Any) -> None:
        shared["heard"] = self.number

    def pid(self) -> int:
        return os.getpid()

    def numbers(self) -> Iterator[int]:
        return iter(range(self.number))

    def _hidden(self) -> str:
        return "hidden"


class UpProxy(BaseProxy):
    _exposed_ = ("up", "_hidden")

    def up(self) -> Any:
        return self._callmethod("up", (10,))


class Mine(SyncManager):
    pass


Mine.register("Counter", Counter, method_to_typeid={"numbers": "Iterator"})
Mine.register("Hidden", Counter, exposed=("_hidden", "up"))
Mine.register("Up", Counter, proxytype=UpProxy)
Mine.register("Only", create_method=False)


@pytest.fixture(scope="module")
def mine(evidence: Evidence) -> Iterator[Mine]:
    with Mine() as found:
        yield found


def test_registered_types_live_in_one_server_process(mine: Mine) -> None:
    counter = mine.Counter(5)
    assert (counter.up(), counter.up(by=2)) == (6, 8)
    assert list(counter.numbers()) == list(range(8))
    assert repr(counter).startswith("<AutoProxy[Counter] object, typeid 'Counter'")
    assert counter.pid() == mine.Counter().pid() != os.getpid()
    with pytest.raises(LookupError, match="as it should"):
        counter.fails()
    with pytest.raises(RemoteError):
        counter._callmethod("_hidden")
    assert not hasattr(counter, "_hidden")
    hidden = mine.Hidden()
    assert hidden._hidden() == "hidden"
    assert not hasattr(hidden, "fails")
    assert mine.Up().up() == 10
    assert not hasattr(mine, "Only")


def test_they_take_what_is_in_redis(mine: Mine) -> None:
    shared = mine.dict()
    mine.Counter(7).hears(shared)
    assert shared.copy() == {"heard": 7}


def test_other_processes_use_them(mine: Mine, log: Log) -> None:
    counter = mine.Counter()
    child = start(log, count_up, counter)
    assert child.join() == 0
    assert counter.up() == 6


def count_up(log: Log, counter: Any) -> None:
    for _ in range(5):
        counter.up()


def test_a_server_that_does_not_come_up_says_so(
    evidence: Evidence, capfd: pytest.CaptureFixture[str]
) -> None:
    manager = Mine()
    with pytest.raises(TypeError, match="must be a callable"):
        manager.start(initializer=5)
    with pytest.raises(ManagerLost, match="ended before it served"):
        manager.start(initializer=int, initargs=("no number",))
    eventually(lambda: "invalid literal" in written(2), "the child's traceback")


def test_an_initializer_runs_in_the_server_process(evidence: Evidence, log: Log) -> None:
    manager = Mine()
    manager.start(log, ("initialized",))
    try:
        log.wait("initialized")
        with pytest.raises(mp.ProcessError, match="Already started"):
            manager.start()
    finally:
        manager.shutdown()
        manager.join()
    assert manager._process is None


PROGRAM = """
import sys
from lithops_mp.managers import BaseManager
sys.path.insert(0, {tests!r})
from test_managers import Counter

class Theirs(BaseManager):
    pass

counter = Counter(100)
Theirs.register("counter", lambda: counter)
server = Theirs(address={address!r}, authkey=b"secret").get_server()
print("serves", flush=True)
server.serve_forever()
"""


class Theirs(BaseManager):
    pass


Theirs.register("counter")


def test_another_programs_server_is_used_by_address_and_key(
    evidence: Evidence, server: Server, tmp_path: Path
) -> None:
    tests = str(Path(__file__).parent)
    script = tmp_path / "server.py"
    script.write_text(PROGRAM.format(tests=tests, address="counters"))
    root = str(Path(tests).parent)
    environ = {**os.environ, URL_VARIABLE: url_of(server.settings)}
    environ["PYTHONPATH"] = os.pathsep.join([root, tests])
    other = subprocess.Popen([sys.executable, str(script)], env=environ, stdout=subprocess.PIPE)
    try:
        assert other.stdout
        assert other.stdout.readline() == b"serves\n"
        manager = Theirs(address="counters", authkey=b"secret")
        manager.connect()
        counters = manager.counter(), manager.counter()
        assert [counter.up() for counter in counters] == [101, 102]
        with pytest.raises(mp.AuthenticationError):
            Theirs(address="counters", authkey=b"wrong").connect()
        other.kill()
        other.wait()
        for action in (counters[0].up, manager.counter):
            with pytest.raises(ManagerLost, match="ended or was killed"):
                action()
    finally:
        other.kill()
        other.wait()
        assert other.stdout
        other.stdout.close()
    with pytest.raises(ManagerLost):
        manager.connect()


def test_names_are_cpythons() -> None:
    for name in multiprocessing.managers.__all__:
        if name != "SharedMemoryManager":
            assert hasattr(mp.managers, name)
