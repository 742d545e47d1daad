"""Random operations on a manager's dict and list, which must do what Python's own do.

Through the proxies that users have, on a real server. Requests may be sent twice, pages are
small, and so is what counts as large: the results are the same.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import enum
import fractions
import pickle
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from support.programs import program, url_of
from support.servers import running

from lithops_mp import messages, storing
from lithops_mp._store.client import Client
from lithops_mp.managers import DictProxy, SyncManager


@dataclasses.dataclass(frozen=True)
class Point:
    """A key of which only Python knows what it equals."""

    x: int


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    ONE = 1


class Name(str):
    """Equal to the text that it is."""


NUMBERS = st.sampled_from([0, 1, -1, 2**70, 1.0, -0.0, 0.5, True, False, 1j, 1 + 0j, 10**30])
NUMBERS |= st.sampled_from([Decimal(1), Decimal("0.5"), fractions.Fraction(1, 2), Level.ONE])
NUMBERS |= st.sampled_from([float("inf"), Decimal("inf"), 2.0**70])
TEXTS = st.sampled_from(["", "a", "i1", "ü", "\ud800", Name("a"), b"a", b"", "1"])
PLAIN = NUMBERS | TEXTS | st.none() | st.just(Colour.RED)
KEYS = (
    PLAIN
    | st.tuples(PLAIN)
    | st.frozensets(PLAIN, max_size=2)
    | st.builds(Point, st.integers(0, 2))
    | st.tuples(st.builds(Point, st.integers(0, 1)), PLAIN)
    | st.just(uuid.UUID(int=1))
)
VALUES = (
    st.integers(-3, 3)
    | st.sampled_from([0.0, 1.5, -1.0, 2**53, -(2**60), True, None, "a", "é\ud800", b"a" * 50])
    | st.lists(st.integers(0, 3), max_size=2)
    | st.just(Decimal(1))
    | st.builds(Point, st.integers(0, 1))
    | st.binary(min_size=300, max_size=310)
)
INDEXES = st.integers(-12, 12)
BOUNDS = st.none() | INDEXES
SLICES = st.builds(slice, BOUNDS, BOUNDS, st.none() | st.sampled_from([1, 2, 3, -1, -2]))


def outcome(function: Callable[[], Any]) -> Any:
    """What it returns, or the type of what it raises."""
    try:
        return function()
    except (KeyError, IndexError, ValueError, TypeError) as error:
        return type(error)


def exact(value: Any) -> Any:
    """What tells 1 from 1.0 and True, too."""
    if isinstance(value, dict):
        return [(exact(key), exact(one)) for key, one in value.items()]
    if isinstance(value, list):
        return [exact(one) for one in value]
    return type(value), value


class Model(RuleBasedStateMachine):
    """Something of Python's, and the same in Redis."""

    manager: ClassVar[SyncManager]
    stutters: ClassVar[bool] = False
    mine: Any
    theirs: Any

    def same(self, function: Callable[[Any], Any]) -> None:
        """It does the same with both."""
        expected, found = (
            outcome(lambda one=one: function(one)) for one in (self.mine, self.theirs)
        )
        assert exact(found) == exact(expected)

    @rule(stutters=st.booleans())
    def requests_are_repeated(self, stutters: bool) -> None:
        Model.stutters = stutters

    @invariant()
    def both_are_the_same(self) -> None:
        assert exact(self.theirs.copy()) == exact(self.mine)
        assert len(self.theirs) == len(self.mine)

    @rule()
    def copies(self) -> None:
        assert exact(copy.deepcopy(self.theirs)) == exact(self.mine)
        # A set that has travelled may name its members in another order.
        assert str(self.theirs) == str(pickle.loads(pickle.dumps(self.mine)))


class DictModel(Model):
    def __init__(self) -> None:
        super().__init__()
        self.mine: dict[Any, Any] = {}
        self.theirs: DictProxy = self.manager.dict()

    @rule(key=KEYS, value=VALUES)
    def enter(self, key: Any, value: Any) -> None:
        self.same(lambda one: one.__setitem__(key, value))

    @rule(key=KEYS)
    def look(self, key: Any) -> None:
        self.same(lambda one: one[key])
        self.same(lambda one: key in one)
        self.same(lambda one: one.get(key, "none"))

    @rule(key=KEYS)
    def delete(self, key: Any) -> None:
        self.same(lambda one: one.__delitem__(key))

    @rule(key=KEYS, default=st.booleans())
    def pop(self, key: Any, default: bool) -> None:
        self.same(lambda one: one.pop(key, 5) if default else one.pop(key))

    @rule()
    def pop_item(self) -> None:
        self.same(lambda one: list(one.popitem()))

    @rule(key=KEYS, value=VALUES)
    def set_default(self, key: Any, value: Any) -> None:
        self.same(lambda one: one.setdefault(key, value))

    @rule(more=st.dictionaries(KEYS, VALUES, max_size=6), how=st.sampled_from(["update", "|="]))
    def update(self, more: dict[Any, Any], how: str) -> None:
        if how == "update":
            self.same(lambda one: one.update(more))
        else:
            self.mine |= more
            self.theirs |= more

    @rule(more=st.dictionaries(KEYS, VALUES, max_size=2))
    def either(self, more: dict[Any, Any]) -> None:
        self.same(lambda one: one | more)
        self.same(lambda one: more | one)

    @rule()
    def clear(self) -> None:
        self.same(lambda one: one.clear())

    @rule()
    def lists(self) -> None:
        self.same(lambda one: list(one))
        self.same(lambda one: list(one.keys()))
        self.same(lambda one: list(one.values()))
        self.same(lambda one: [list(item) for item in one.items()])
        self.same(lambda one: list(reversed(one)))

    @rule(key=KEYS, amount=st.sampled_from([1, -1, 0.5, True, Decimal(1), 2**52, "x"]))
    def add(self, key: Any, amount: Any) -> None:
        def python(one: dict[Any, Any]) -> Any:
            was = one.get(key, 0)
            one[key] = was + amount if key in one or type(amount) not in (int, float) else amount
            return was

        expected = outcome(lambda: python(self.mine))
        assert exact(outcome(lambda: self.theirs.add(key, amount))) == exact(expected)

    @rule(key=KEYS, old=VALUES, new=VALUES)
    def compare_set(self, key: Any, old: Any, new: Any) -> None:
        expected = key in self.mine and self.mine[key] == old
        assert self.theirs.compare_set(key, old, new) == expected
        if expected:
            self.mine[key] = new


class ListModel(Model):
    def __init__(self) -> None:
        super().__init__()
        self.mine: list[Any] = []
        self.theirs = self.manager.list()

    @rule(value=VALUES)
    def append(self, value: Any) -> None:
        self.same(lambda one: one.append(value))

    @rule(some=st.lists(VALUES, max_size=5))
    def extend(self, some: list[Any]) -> None:
        self.same(lambda one: one.extend(some))

    @rule(some=st.lists(VALUES, max_size=2), times=st.integers(-1, 2))
    def operators(self, some: list[Any], times: int) -> None:
        self.same(lambda one: one + some)
        self.same(lambda one: one * times)
        self.same(lambda one: times * one)
        self.mine += some
        self.theirs += some

    @rule(times=st.integers(-1, 3))
    def multiply(self, times: int) -> None:
        if len(self.mine) < 20:
            self.mine *= times
            self.theirs *= times

    @rule(index=INDEXES)
    def look(self, index: int) -> None:
        self.same(lambda one: one[index])

    @rule(part=SLICES)
    def look_at_slice(self, part: slice) -> None:
        self.same(lambda one: one[part])

    @rule(index=INDEXES, value=VALUES)
    def put(self, index: int, value: Any) -> None:
        self.same(lambda one: one.__setitem__(index, value))

    @rule(part=SLICES, some=st.lists(VALUES, max_size=4))
    def put_slice(self, part: slice, some: list[Any]) -> None:
        self.same(lambda one: one.__setitem__(part, some))

    @rule(index=INDEXES | SLICES)
    def delete(self, index: Any) -> None:
        self.same(lambda one: one.__delitem__(index))

    @rule(index=INDEXES, value=VALUES)
    def insert(self, index: int, value: Any) -> None:
        self.same(lambda one: one.insert(index, value))

    @rule(index=INDEXES | st.just(-1))
    def pop(self, index: int) -> None:
        self.same(lambda one: one.pop(index))

    @rule(value=VALUES)
    def find(self, value: Any) -> None:
        self.same(lambda one: one.index(value))
        self.same(lambda one: one.count(value))
        self.same(lambda one: value in one)

    @rule(value=VALUES, start=INDEXES, stop=INDEXES)
    def find_in(self, value: Any, start: int, stop: int) -> None:
        self.same(lambda one: one.index(value, start, stop))

    @rule(value=VALUES)
    def remove(self, value: Any) -> None:
        self.same(lambda one: one.remove(value))

    @rule()
    def reverse(self) -> None:
        self.same(lambda one: one.reverse())
        self.same(lambda one: list(reversed(one)))

    @rule(reverse=st.booleans())
    def sort(self, reverse: bool) -> None:
        self.same(lambda one: one.sort(key=repr, reverse=reverse))

    @rule()
    def clear(self) -> None:
        self.same(lambda one: one.clear())

    @rule()
    def iterate(self) -> None:
        self.same(lambda one: list(one))


@pytest.fixture(scope="module", autouse=True)
def manager() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running())
        stack.enter_context(program(url_of(server.settings)))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(storing, "PAGE", 3)
        patch.setattr(messages, "INLINE", 200)
        once = Client.request

        def request(self: Client, script: Any, packet: bytes) -> Any:
            """One request, or the same one twice; but whoever begins to read begins anew."""
            family, _, name = script.name.partition("/")
            if Model.stutters and family in ("dict", "list", "store") and name != "read":
                once(self, script, packet)
            return once(self, script, packet)

        patch.setattr(Client, "request", request)
        Model.manager = stack.enter_context(SyncManager())
        yield


@pytest.mark.parametrize("model", [DictModel, ListModel], ids=lambda model: model.__name__)
def test_it_does_what_pythons_own_does(model: type[Model]) -> None:
    run_machine(
        model,
        settings=settings(
            max_examples=100,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
