"""Random programs of several threads with a Value or an Array, and a list of numbers.

The public classes, so what a holder's copy knows and forgets counts too. A second process
is played by a client of another name, which may die with the lock.
"""

from __future__ import annotations

import array
import ctypes
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from support.programs import Evidence
from support.servers import eventually

import lithops_mp as mp
from lithops_mp import memory, protocols
from lithops_mp._store import families, keys, processes, session
from lithops_mp._store.client import Client
from lithops_mp.memory import PAGE, MemKeys, Region

from .threads import Thread

pytestmark = [
    pytest.mark.slow,
    # That there is one is what others test.
    pytest.mark.filterwarnings("ignore::lithops_mp.errors.OwnerDiedWarning"),
]

THREADS = st.integers(0, 2)
PLACES = st.integers(0, 7)
NUMBERS = st.integers(-(2**15), 2**15 - 1)
STEPS = st.sampled_from([1, 2, -1])
CHANGES = st.sampled_from(["add", "exchange", "compare_exchange", "max", "min"])

Numbers = array.array  # of "h"


def changed(what: str, was: int, number: int) -> int:
    """What an operation makes of a number; compare_exchange expects 0."""
    return {
        "add": ctypes.c_short(was + number).value,
        "exchange": number,
        "compare_exchange": number if was == 0 else was,
        "max": max(was, number),
        "min": min(was, number),
    }[what]


class Stranger:
    """Another process, which never existed."""

    def __init__(self, name: str, region: Region) -> None:
        self.name = name
        mine = session.current()
        self.client = Client(mine.settings, f"{name}.0")
        # Whoever waits for it looks now and then whether it is alive.
        processes.register(self.client, name, "running", mine.ttl, mine.lease, name=name, about={})
        self.lock = region.lock
        self.keys = MemKeys(region.ref.ident, region.lock and region.lock.keys)
        self.size = region.size
        self.fence = 0

    def acquire(self) -> bytes:
        """Take the lock, which is free; the bytes that it guards."""
        assert self.lock
        grant = self.client.run(protocols.acquire(self.lock.keys, self.client, block=False))
        self.fence = grant.fence
        found: bytes = self.client.call(self.keys.fetch, (0, self.size - 1, 0))[2]
        return found

    def release(self, ranges: list[Any]) -> None:
        assert self.lock
        changes = {self.keys: ranges}
        self.client.run(memory.release(self.lock.keys, self.client, self.fence, changes))
        self.ends()

    def write(self, ranges: list[Any], *, guarded: bool) -> bytes:
        bound = self.keys.guarded_write if guarded else self.keys.write
        seq = self.client.stamp()
        reply: Any = self.client.call(bound, (self.client.id, seq, memory.packed(ranges)))
        self.ends()
        return bytes(reply)

    def dies(self) -> None:
        assert self.lock
        step = families.bury(self.lock.ref, self.name, "killed")
        assert step
        self.client.calls([step])
        self.ends()

    def ends(self) -> None:
        processes.forget(self.client, self.name)
        self.client.close()


class ArrayModel(RuleBasedStateMachine):
    """An array of short integers behind a lock of this kind, or none."""

    evidence: ClassVar[Evidence]
    count: ClassVar[int] = 8
    kind: ClassVar[str] = "RLock"

    def __init__(self) -> None:
        super().__init__()
        self.shared = self.make()
        self.threads = [Thread() for _ in range(3)]
        #: What everybody sees, and what the holder does.
        self.numbers = Numbers("h", bytes(2 * self.count))
        self.copy = self.numbers[:]
        self.changed: set[int] = set()  # by the holder
        self.blurred: set[int] = set()  # by others, who ask no lock, since it has it
        self.holder: Thread | Stranger | None = None
        self.depth = 0
        self.line: list[tuple[Thread, Callable[[], Any]]] = []
        self.strangers = 0

    def make(self) -> Any:
        lock = getattr(mp, self.kind)() if self.kind else False
        return mp.Array("h", self.count, lock=lock)

    @property
    def raw(self) -> Any:
        return self.shared.get_obj() if self.kind else self.shared

    @property
    def region(self) -> Region:
        found: Region = self.raw._b_access_.region
        return found

    def teardown(self) -> None:
        while self.holder:
            if isinstance(self.holder, Stranger):
                self.the_other_process_releases(0, 0)
            else:
                self.release(0)
        for thread in self.threads:
            assert thread.task is None
            thread.close()

    # -- the model --

    def place(self, number: int) -> int:
        """One of those where something may be different."""
        edges = [0, 1, *(p for k in range(1, 4) for p in (k * PAGE // 2 - 1, k * PAGE // 2))]
        found = range(self.count) if self.count < PAGE else [*edges, self.count - 1]
        return found[number % len(found)]

    def free(self, number: int) -> Thread | None:
        """A thread that does not wait, if there is one."""
        idle = [thread for thread in self.threads if thread.task is None]
        return idle[number % len(idle)] if idle else None

    def waits(self, thread: Thread, action: Callable[[], Any], then: Callable[[], Any]) -> None:
        """It stands in line, unless nobody would be left to go on."""
        if sum(one.task is None for one in self.threads) < 2:
            return
        thread.begin(action)
        self.line.append((thread, then))
        lock = self.shared.get_lock()
        eventually(lambda: len(self.evidence.line(lock)) == len(self.line), "one more in line")

    def takes(self, holder: Thread | Stranger) -> None:
        self.holder, self.depth = holder, 1
        self.copy = self.numbers[:]
        self.changed, self.blurred = set(), set()

    def frees(self, *, write: bool) -> None:
        """The holder is no more: the next ones have their turns."""
        for place in self.changed if write else ():
            self.numbers[place] = self.copy[place]
        self.holder = None
        while self.line and not self.holder:
            thread, then = self.line.pop(0)
            wanted = then()
            got = thread.ends()
            assert wanted is None or got == wanted

    def write_here(self, held: bool, places: range, values: list[int]) -> None:
        for place, value in zip(places, values, strict=True):
            (self.copy if held else self.numbers)[place] = value
            if held:
                self.changed.add(place)

    # -- the lock --

    @rule(number=THREADS)
    def acquire(self, number: int) -> None:
        thread = self.free(number)
        if thread is None or not self.kind:
            return
        if self.holder is None:
            assert thread.do(self.shared.acquire)
            self.takes(thread)
        elif self.holder is thread:
            if self.kind == "RLock":
                assert thread.do(self.shared.acquire)
                self.depth += 1
        else:
            self.waits(thread, self.shared.acquire, lambda: self.takes(thread))

    @rule(number=THREADS)
    def release(self, number: int) -> None:
        if isinstance(self.holder, Thread):
            self.holder.do(self.shared.release)
            self.depth -= 1
            if not self.depth:
                self.frees(write=True)

    # -- what threads do --

    @rule(number=THREADS, first=PLACES, last=PLACES, step=STEPS, raw=st.booleans())
    def read(self, number: int, first: int, last: int, step: int, raw: bool) -> None:
        thread = self.free(number)
        if thread is None:
            return
        start, stop = sorted((self.place(first), self.place(last)))
        places = range(start, stop + 1)[::step]
        held = self.holder is thread
        if held and self.blurred & set(places):
            return
        wanted = [(self.copy if held else self.numbers)[place] for place in places]
        obj = self.raw if raw else self.shared
        assert thread.do(lambda: self.get(obj, places)) == wanted

    def get(self, obj: Any, places: range) -> list[int]:
        found: list[int] = obj[as_slice(places)]
        return found

    @rule(number=THREADS, first=PLACES, last=PLACES, step=STEPS, raw=st.booleans(), value=NUMBERS)
    def write(self, number: int, first: int, last: int, step: int, raw: bool, value: int) -> None:
        thread = self.free(number)
        if thread is None:
            return
        start, stop = sorted((self.place(first), self.place(last)))
        places = range(start, stop + 1)[::step]
        values = [ctypes.c_short(value + place).value for place in places]
        held = self.holder is thread
        obj = self.raw if raw else self.shared

        def write() -> None:
            self.set(obj, places, values)

        if held or self.holder is None:
            thread.do(write)
            self.write_here(held, places, values)
        elif raw:
            thread.do(write)
            self.write_here(False, places, values)
            self.blurred |= set(places)
        else:
            self.waits(thread, write, lambda: self.write_here(False, places, values))

    def set(self, obj: Any, places: range, values: list[int]) -> None:
        obj[as_slice(places)] = values

    @rule(number=THREADS, at=PLACES, what=CHANGES, value=NUMBERS)
    def change(self, number: int, at: int, what: str, value: int) -> None:
        thread, place = self.free(number), self.place(at)
        held = self.holder is thread
        if thread is None or (held and place in self.blurred):
            return

        def change() -> Any:
            operands = (0, value) if what == "compare_exchange" else (value,)
            return self.update(what, place, *operands)

        def here() -> int:
            was = (self.copy if held else self.numbers)[place]
            self.write_here(held, range(place, place + 1), [changed(what, was, value)])
            return was

        if held or self.holder is None:
            assert thread.do(change) == here()
        else:
            self.waits(thread, change, here)

    def update(self, what: str, place: int, *operands: int) -> Any:
        return getattr(self.shared, what)(place, *operands)

    @rule(number=THREADS, first=PLACES, last=PLACES, at=PLACES, value=NUMBERS)
    def section(self, number: int, first: int, last: int, at: int, value: int) -> None:
        """Read and then write with the lock, for which it may wait."""
        thread, place = self.free(number), self.place(at)
        if thread is None or not self.kind or self.holder is thread:
            return
        start, stop = sorted((self.place(first), self.place(last)))
        places, other = range(start, stop + 1), range(place, place + 1)

        def section() -> list[int]:
            with self.shared.get_lock():
                found = self.get(self.shared, places)
                self.set(self.shared, other, [value])
                assert self.get(self.shared, other) == [value]
            return found

        def there() -> list[int]:
            found = [self.numbers[place] for place in places]
            self.write_here(False, other, [value])
            return found

        if self.holder:
            self.waits(thread, section, there)
        else:
            assert thread.do(section) == there()

    # -- another process --

    def stranger(self) -> Stranger:
        self.strangers += 1
        return Stranger(f"stranger{self.strangers}", self.region)

    @rule(at=PLACES, value=NUMBERS, guarded=st.booleans())
    def another_process_writes(self, at: int, value: int, guarded: bool) -> None:
        place, guarded = self.place(at), guarded and bool(self.kind)
        reply = self.stranger().write([2 * place, as_bytes(value)], guarded=guarded)
        if guarded and self.holder:
            assert reply == b"BUSY"
            return
        assert reply == b"WROTE"
        self.numbers[place] = value
        if self.holder:
            self.blurred.add(place)

    @rule()
    def another_process_acquires(self) -> None:
        if self.kind and not self.holder:
            stranger = self.stranger()
            assert stranger.acquire() == self.numbers.tobytes()
            self.takes(stranger)

    @rule(at=PLACES, value=NUMBERS)
    def the_other_process_releases(self, at: int, value: int) -> None:
        if isinstance(self.holder, Stranger):
            place = self.place(at)
            self.holder.release([2 * place, as_bytes(value)])
            self.write_here(True, range(place, place + 1), [value])
            self.frees(write=True)

    @rule()
    def the_other_process_dies(self) -> None:
        if isinstance(self.holder, Stranger):
            self.holder.dies()
            self.frees(write=False)

    # -- handles --

    @rule()
    def the_handle_is_dropped_while_it_is_on_its_way(self) -> None:
        pickled = pickle.dumps(self.shared)
        if not self.holder:
            del self.shared
            session.current().settle()
        self.shared = pickle.loads(pickled)

    @invariant()
    def everybody_sees_the_models(self) -> None:
        name = keys.items(self.region.ref.ident)
        assert self.evidence.server.command("GET", name) == self.numbers.tobytes()


def as_slice(places: range) -> slice:
    stop = places.stop if places.stop >= 0 else None
    return slice(places.start, stop, places.step)


def as_bytes(value: int) -> bytes:
    return bytes(ctypes.c_short(value))


class LockModel(ArrayModel):
    kind = "Lock"


class LargeModel(ArrayModel):
    """Of several pages, of which those that are touched are copied."""

    count = 3 * PAGE // 2 + 50


class RawModel(ArrayModel):
    """Without a lock."""

    kind = ""


class LargeRawModel(LargeModel, RawModel):
    pass


class ValueModel(ArrayModel):
    count = 1

    def make(self) -> Any:
        return mp.Value("h", lock=getattr(mp, self.kind)())

    def get(self, obj: Any, places: range) -> list[int]:
        return [obj.value for _ in places]

    def set(self, obj: Any, places: range, values: list[int]) -> None:
        (obj.value,) = values

    def update(self, what: str, place: int, *operands: int) -> Any:
        return getattr(self.shared, what)(*operands)


MODELS = (ArrayModel, LockModel, LargeModel, RawModel, LargeRawModel, ValueModel)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_shared_memory_agrees_with_the_model(model: Any, evidence: Evidence) -> None:
    model.evidence = evidence
    run_machine(
        model,
        settings=settings(
            max_examples=40 if model.count < PAGE else 15,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
