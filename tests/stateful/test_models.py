"""Random commands to Redis and to a model in plain Python, which must agree.

The explorer covers few clients and short programs completely; these cover long
programs by chance. The models say what CPython's objects would do, with the
order of arrival added.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from explore.machine import Machine
from explore.programs import (
    BARRIER,
    COND,
    EVENT,
    LOCK,
    make_barrier,
    make_cond,
    make_event,
    make_sem,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from lithops_mp import protocols
from lithops_mp._store import keys
from lithops_mp.protocols import BarrierKeys, CondKeys, EventKeys, SemKeys

from .bench import WAITS, Bench, Client

NAMES = st.sampled_from("ABC")


class Model(RuleBasedStateMachine):
    """Clients that are idle or wait, whose requests are repeated and whose hints get lost."""

    machine: ClassVar[Machine]
    setup: ClassVar[list[Any]]

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(self.machine, self.setup)

    def client(self, name: str) -> Client:
        return self.bench.clients[name]

    def waits(self, name: str) -> bool:
        return self.client(name).pending is not None

    @invariant()
    def every_key_expires(self) -> None:
        assert not self.bench.state.immortal

    @rule(stutters=st.booleans())
    def requests_are_repeated(self, stutters: bool) -> None:
        self.bench.stutters = stutters

    @rule(name=NAMES)
    def a_hint_is_lost(self, name: str) -> None:
        if self.waits(name) and hasattr(self.client(name).pending, "mailbox"):
            self.bench.do(b"*2\r\n$3\r\nDEL\r\n" + _bulk(self.client(name).pending.mailbox))


def _bulk(text: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


class LockModel(Model):
    """A lock, or a semaphore with ``first`` units."""

    kind, first, most = "lock", 1, 1
    setup: ClassVar[list[Any]] = make_sem("lock", 1)

    def __init__(self) -> None:
        super().__init__()
        self.sem = SemKeys(LOCK, self.kind, self.most)
        self.value = self.first
        self.line: list[str] = []
        self.granted: set[str] = set()  # handed over, not noticed yet
        self.held: dict[str, list[int]] = {name: [] for name in "ABC"}
        self.fence = 0

    @rule(name=NAMES, how=st.sampled_from(["wait", "try", "limit"]))
    def acquire(self, name: str, how: str) -> None:
        if self.waits(name):
            return
        client = self.client(name)
        timeout = 1.0 if how == "limit" else None
        steps = protocols.acquire(self.sem, client.me, how != "try", timeout)
        got = client.start(steps)
        if self.value:
            self.value -= 1
            self.takes(name, got)
        elif how == "try":
            assert got is None
        else:
            assert got == WAITS
            self.line.append(name)

    def takes(self, name: str, grant: Any) -> None:
        assert grant.fence > self.fence or self.kind == "sem"
        self.fence = max(self.fence, grant.fence)
        self.held[name].append(grant.fence)

    @rule(name=NAMES)
    def release(self, name: str) -> None:
        """By its holder; a semaphore by anyone, and a free lock too, which is an error."""
        allowed = self.kind == "sem" or self.held[name] or self.value
        if self.waits(name) or not allowed:
            return
        fence = self.held[name].pop() if self.held[name] else 0
        client = self.client(name)
        steps = protocols.release(self.sem, client.me, fence)
        if self.kind == "rlock" and not fence:
            with pytest.raises(AssertionError, match="not owned by thread"):
                client.start(steps)
        elif self.value >= self.most:
            with pytest.raises(ValueError, match="released too many times"):
                client.start(steps)
        else:
            client.start(steps)
            self.frees()

    def frees(self) -> None:
        if self.line:
            self.granted.add(self.line.pop(0))
        else:
            self.value += 1

    @rule(name=NAMES)
    def hear(self, name: str) -> None:
        if self.waits(name):
            self.ends(name, self.client(name).hear())

    @rule(name=NAMES)
    def run_out(self, name: str) -> None:
        """Its time is up, or it is time for a look."""
        if not self.waits(name):
            return
        limited = self.client(name).pending.seconds <= 1.0
        got = self.client(name).runs_out()
        if limited and name in self.line:
            assert got is None
            self.line.remove(name)
            return
        self.ends(name, got, must=name in self.granted)

    def ends(self, name: str, got: Any, must: bool = False) -> None:
        if got == WAITS:
            assert not must, f"{name} was granted and does not notice"
            return
        assert name in self.granted
        self.granted.remove(name)
        self.takes(name, got)

    @invariant()
    def value_and_line_are_the_models(self) -> None:
        reply = self.bench.do(self.sem.look.pack(()))
        assert [int(reply[1]), int(reply[2])] == [self.value, len(self.line)]


class RLockModel(LockModel):
    kind = "rlock"
    setup: ClassVar[list[Any]] = make_sem("rlock", 1)


class SemaphoreModel(LockModel):
    kind, first, most = "sem", 2, 5
    setup: ClassVar[list[Any]] = make_sem("sem", 2)


class CondModel(Model):
    """A condition: who waits, who stands in the lock's line, who owns it."""

    setup: ClassVar[list[Any]] = make_cond("lock")

    def __init__(self) -> None:
        super().__init__()
        self.lock = SemKeys(LOCK, "lock", 1)
        self.cond = CondKeys(COND, self.lock)
        self.owner = ""
        self.line: list[str] = []
        self.area: list[str] = []
        self.fence: dict[str, int] = {}  # of those who know that they own it
        self.limited: set[str] = set()
        self.woken: set[str] = set()  # waited, and were notified

    def hand_over(self) -> None:
        self.owner = self.line.pop(0) if self.line else ""

    @rule(name=NAMES)
    def acquire(self, name: str) -> None:
        if self.waits(name) or self.owner == name:
            return
        got = self.client(name).start(protocols.acquire(self.lock, self.client(name).me))
        if self.owner:
            assert got == WAITS
            self.line.append(name)
        else:
            self.owner, self.fence[name] = name, got.fence

    @rule(name=NAMES)
    def release(self, name: str) -> None:
        if name in self.fence:
            fence = self.fence.pop(name)
            client = self.client(name)
            client.start(protocols.release(self.lock, client.me, fence))
            self.hand_over()

    @rule(name=NAMES, timeout=st.sampled_from([None, 1.0]))
    def wait(self, name: str, timeout: float | None) -> None:
        if name in self.fence:
            client, fence = self.client(name), self.fence.pop(name)
            assert client.start(protocols.cond_wait(self.cond, client.me, fence, timeout)) == WAITS
            self.area.append(name)
            self.hand_over()
            if timeout:
                self.limited.add(name)

    @rule(name=NAMES, count=st.sampled_from([1, 2, -1]))
    def notify(self, name: str, count: int) -> None:
        if name in self.fence:
            client = self.client(name)
            steps = protocols.cond_notify(self.cond, client.me, self.fence[name], count)
            moved = self.area[:count] if count > 0 else self.area[:]
            assert client.start(steps) == len(moved)
            self.area = self.area[len(moved) :]
            self.line += moved
            self.woken |= set(moved)

    @rule(name=NAMES)
    def hear(self, name: str) -> None:
        if self.waits(name):
            self.ends(name, self.client(name).hear())

    @rule(name=NAMES)
    def run_out(self, name: str) -> None:
        if not self.waits(name):
            return
        gives_up = name in self.limited and name in self.area
        self.limited.discard(name)
        if gives_up:
            self.area.remove(name)
            if self.owner:
                self.line.append(name)
            else:
                self.owner = name
        got = self.client(name).runs_out()
        assert got != WAITS or self.owner != name, f"{name} owns the lock and does not notice"
        self.ends(name, got)

    def ends(self, name: str, got: Any) -> None:
        if got == WAITS:
            return
        assert self.owner == name
        self.limited.discard(name)
        if isinstance(got, protocols.Grant):
            self.fence[name] = got.fence
            return
        notified, grant, interrupt = got
        assert notified == (name in self.woken)
        assert interrupt is None
        self.woken.discard(name)
        self.fence[name] = grant.fence

    @invariant()
    def everyone_is_where_the_model_says(self) -> None:
        state = self.bench.state
        owner = state.hash(keys.state(LOCK))["owner"]
        places = [owner], state.list(keys.waiters(LOCK)), state.list(keys.waiters(COND))
        found = [[ticket.partition(".")[0] for ticket in place] for place in places]
        assert found == [[self.owner], self.line, self.area]


class EventModel(Model):
    """An event: a wait ends if the flag was up at any time during it."""

    setup: ClassVar[list[Any]] = make_event()

    def __init__(self) -> None:
        super().__init__()
        self.event = EventKeys(EVENT)
        self.flag = False
        self.woken: set[str] = set()
        self.limited: set[str] = set()

    @rule(name=NAMES, up=st.booleans())
    def change(self, name: str, up: bool) -> None:
        if not self.waits(name):
            bound = self.event.set if up else self.event.clear
            self.client(name).start(protocols.event_change(bound, self.client(name).me))
            self.flag = up
            if up:
                self.woken |= {other for other in "ABC" if self.waits(other)}

    @rule(name=NAMES, timeout=st.sampled_from([None, 1.0]))
    def wait(self, name: str, timeout: float | None) -> None:
        if self.waits(name):
            return
        client = self.client(name)
        got = client.start(protocols.event_wait(self.event, client.me, timeout))
        assert got == (True if self.flag else WAITS)
        if got == WAITS and timeout:
            self.limited.add(name)

    @rule(name=NAMES)
    def hear(self, name: str) -> None:
        if self.waits(name):
            self.ends(name, self.client(name).hear(), WAITS)

    @rule(name=NAMES)
    def run_out(self, name: str) -> None:
        if self.waits(name):
            otherwise = False if name in self.limited else WAITS
            self.ends(name, self.client(name).runs_out(), otherwise)

    def ends(self, name: str, got: Any, otherwise: Any) -> None:
        assert got == (True if name in self.woken else otherwise)
        if got != WAITS:
            self.woken.discard(name)
            self.limited.discard(name)

    @invariant()
    def the_flag_is_the_models(self) -> None:
        steps = protocols.event_is_set(self.event)
        assert Client(self.bench, "Z.0").start(steps) == self.flag


class BarrierModel(Model):
    """A barrier for two, used by three, with or without an action."""

    action = False
    setup: ClassVar[list[Any]] = make_barrier(2)

    def __init__(self) -> None:
        super().__init__()
        self.barrier = BarrierKeys(BARRIER)
        self.phase = "filling"
        self.here: list[str] = []  # of this generation and the next, as they came
        self.actor = ""
        self.outcome: dict[str, tuple[str, int]] = {}
        self.limited: set[str] = set()
        self.acting: dict[str, str] = {}  # whoever was told to act -> its ticket

    def opens(self) -> None:
        """Let the first two through; a complete next generation may have to act."""
        for index, name in enumerate(self.here[:2]):
            self.outcome[name] = ("PASSED", index)
        del self.here[:2]
        self.phase, self.actor = "filling", ""
        if len(self.here) == 2:
            self.completes()

    def completes(self) -> None:
        if self.action:
            self.phase, self.actor = "action", self.here[1]
            self.outcome[self.actor] = ("ACT", 1)
        else:
            self.opens()

    def breaks(self, phase: str) -> None:
        for name in self.here:
            self.outcome[name] = ("BROKEN", -1)
        self.here, self.phase, self.actor = [], phase, ""

    @rule(name=NAMES, timeout=st.sampled_from([None, 1.0]))
    def arrive(self, name: str, timeout: float | None) -> None:
        if self.waits(name) or name in self.acting:
            return
        client = self.client(name)
        got = client.start(protocols.barrier_wait(self.barrier, client.me, self.action, timeout))
        if self.phase == "broken":
            assert got.word == "BROKEN"
            return
        self.here.append(name)
        if self.phase == "filling" and len(self.here) == 2:
            self.completes()
        if got == WAITS and timeout:
            self.limited.add(name)
        if name in self.outcome:
            self.ends(name, got)
        else:
            assert got == WAITS

    @rule(name=NAMES)
    def hear(self, name: str) -> None:
        if self.waits(name):
            self.ends(name, self.client(name).hear())

    @rule(name=NAMES)
    def run_out(self, name: str) -> None:
        if not self.waits(name):
            return
        if name in self.limited and name not in self.outcome and self.phase == "filling":
            self.breaks("broken")
        self.limited.discard(name)
        told = name in self.outcome
        got = self.client(name).runs_out()
        assert got != WAITS or not told, f"{name} does not notice its outcome"
        self.ends(name, got)

    def ends(self, name: str, got: Any) -> None:
        if got == WAITS:
            return
        assert (got.word, got.place) == self.outcome.pop(name)
        self.limited.discard(name)
        if got.word == "ACT":
            self.acting[name] = got.ticket

    @rule(name=NAMES)
    @precondition(lambda self: self.acting)
    def act(self, name: str) -> None:
        if name in self.acting:
            client, ticket = self.client(name), self.acting.pop(name)
            done = client.start(protocols.barrier_open(self.barrier, client.me, ticket))
            mine = self.phase == "action" and self.actor == name
            assert done == (mine, None)
            if mine:
                self.opens()
                del self.outcome[name]
            else:
                self.outcome.pop(name, None)

    @rule(name=NAMES, phase=st.sampled_from(["broken", "filling"]))
    def smash(self, name: str, phase: str) -> None:
        if not self.waits(name) and name not in self.acting:
            steps = protocols.barrier_smash(self.barrier, self.client(name).me, phase)
            self.client(name).start(steps)
            self.breaks(phase)

    @invariant()
    def phase_and_waiters_are_the_models(self) -> None:
        reply = self.bench.do(self.barrier.look.pack(()))
        assert [reply[1].decode(), int(reply[2])] == [self.phase, len(self.here)]


class ActionModel(BarrierModel):
    action = True


MODELS = (
    *(LockModel, RLockModel, SemaphoreModel),
    *(CondModel, EventModel, BarrierModel, ActionModel),
)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_redis_agrees_with_the_model(model, machine):
    model.machine = machine
    run_machine(
        model,
        settings=settings(
            max_examples=200,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
