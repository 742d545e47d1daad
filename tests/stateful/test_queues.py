"""Random programs of several threads with a queue, and a list in Python, which must agree.

The public classes, so what a process takes beforehand and sends later counts too. A
second process is played by a client of another name, which may die with what it has.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import msgpack
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from support.programs import Evidence, ident_of
from support.servers import eventually

import lithops_mp as mp
from lithops_mp import messages, queueing
from lithops_mp._store import families, keys, session
from lithops_mp._store.client import Client
from lithops_mp.queues import Empty, Full

from .threads import Thread

pytestmark = pytest.mark.slow

THREADS = st.integers(0, 2)


class Stranger:
    """Another process, which never existed."""

    def __init__(self, name: str, queue: mp.Queue) -> None:
        self.name = name
        self.ref = queue._channel.ref
        self.saw: tuple[int, int] | None = None
        self.client = Client(session.current().settings, f"{name}.0")
        self.client.saw = self._saw  # type: ignore[method-assign]

    def _saw(self, seq: int, count: int) -> None:
        self.saw = seq, count

    def get(self) -> Any:
        taken = self.client.run(
            queueing.get(queueing.QueueKeys(self.ref), self.client, block=False)
        )
        if taken is None:
            raise Empty
        return messages.loads(*messages.unpack(self.client, self.ref, taken.elements[0]))

    def dies(self, seen: bool) -> None:
        """Killed, before or after its program had the message."""
        assert self.saw is not None
        words = {"0": (f"{self.saw[0]:012d}", self.saw[1])} if seen else {}
        step = families.bury(self.ref, self.name, "killed", msgpack.packb(words))
        assert step
        self.client.calls([step])
        self.client.close()


class QueueModel(RuleBasedStateMachine):
    """A queue with a bound of ``bound``; numbers are put, a large object now and then."""

    evidence: ClassVar[Evidence]
    bound: ClassVar[int] = 0
    make: ClassVar[Callable[..., Any]] = mp.Queue

    def __init__(self) -> None:
        super().__init__()
        self.queue = type(self).make(self.bound)
        self.threads = [Thread() for _ in range(3)]
        self.items: deque[Any] = deque()
        self.getters: deque[Thread] = deque()  # those that wait, in the order of asking
        self.putters: deque[tuple[Thread, Any]] = deque()
        self.joiners: list[Thread] = []
        self.todo = 0
        self.strangers = 0
        self.number = 0
        self.pinned = False  # by a handle that is, as far as anybody knows, on its way

    def teardown(self) -> None:
        for thread in self.getters.copy():
            self.accepts(None)
            self.queue.put(None)
            assert thread.ends() is None
        while self.items:
            self.get(self.free(0))
        while self.todo:
            self.finish(self.free(0))
        for thread in self.threads:
            assert thread.task is None
            thread.close()
        ident = ident_of(self.queue)
        del self.queue
        session.current().settle()
        left = self.evidence.server.command("KEYS", f"{keys.state(ident)}*")
        assert self.pinned or left == []

    def free(self, number: int) -> Thread | None:
        """A thread that does not wait, if there is one."""
        idle = [thread for thread in self.threads if thread.task is None]
        return idle[number % len(idle)] if idle else None

    @property
    def may_wait(self) -> bool:
        """Somebody is left to go on."""
        return sum(thread.task is None for thread in self.threads) > 1

    def next(self, large: bool) -> Any:
        """Another item; a large one goes as a pickle or as it is, in turn."""
        self.number += 1
        if not large:
            return self.number
        body = b"%d." % self.number + b"x" * 200_000
        return [(self.number, body), body, bytearray(body)][self.number % 3]

    # -- the model --

    def full(self) -> bool:
        return 0 < self.bound <= len(self.items)

    def accepts(self, item: Any) -> None:
        """A message is there: for whoever waits, or at the end."""
        self.todo += self.make is mp.JoinableQueue
        if self.getters:
            self.getters.popleft()
        else:
            self.items.append(item)

    def leaves(self) -> Any:
        """The first message is taken, which may make room for another."""
        item = self.items.popleft()
        while self.putters and not self.full():
            thread, parked = self.putters.popleft()
            self.accepts(parked)
            thread.ends()
        return item

    # -- puts --

    @rule(number=THREADS, large=st.booleans())
    def put(self, number: int, large: bool) -> None:
        thread, item = self.free(number), self.next(large)
        if thread is None:
            return
        if self.full():
            if not self.may_wait:
                return
            thread.begin(lambda: self.queue.put(item))
            self.putters.append((thread, item))
            eventually(
                lambda: len(self.evidence.parked(self.queue)) == len(self.putters),
                "the put in line",
            )
            return
        waiting = self.getters[0] if self.getters else None
        thread.do(lambda: self.queue.put(item))
        self.accepts(item)
        if waiting:
            assert waiting.ends() == item

    @rule(number=THREADS, how=st.sampled_from([{"block": False}, {"timeout": 0.001}]))
    def put_without_waiting(self, number: int, how: dict[str, Any]) -> None:
        thread = self.free(number)
        if thread is None:
            return
        if not self.full():
            return self.put(number, False)
        item = self.next(False)
        with pytest.raises(Full):
            thread.do(lambda: self.queue.put(item, **how))
        return None

    # -- gets --

    @rule(number=THREADS)
    def get_one(self, number: int) -> None:
        thread = self.free(number)
        if thread is None:
            return
        if self.items:
            self.get(thread)
        elif self.may_wait:
            thread.begin(lambda: self.queue.get())
            self.getters.append(thread)
            eventually(
                lambda: len(self.evidence.line(self.queue)) == len(self.getters),
                "the get in line",
            )

    @rule(number=THREADS, count=st.integers(1, 9))
    def get_many(self, number: int, count: int) -> None:
        """A quick consumer, which is given some beforehand."""
        thread = self.free(number)
        for _ in range(count):
            if thread and self.items:
                self.get(thread)

    def get(self, thread: Thread | None) -> None:
        assert thread
        got = thread.do(lambda: self.queue.get())
        assert got == self.leaves()

    @rule(number=THREADS, how=st.sampled_from([{"block": False}, {"timeout": 0.001}]))
    def get_without_waiting(self, number: int, how: dict[str, Any]) -> None:
        thread = self.free(number)
        if thread is None:
            return
        if self.items:
            self.get(thread)
            return
        with pytest.raises(Empty):
            thread.do(lambda: self.queue.get(**how))

    @rule(fate=st.sampled_from(["lives", "dies unseen", "dies"]))
    def another_process_gets(self, fate: str) -> None:
        session.current().settle()  # what this one took beforehand it gives back
        self.strangers += 1
        stranger = Stranger(f"stranger{self.strangers}", self.queue)
        if not self.items:
            with pytest.raises(Empty):
                stranger.get()
            stranger.client.close()
            return
        first = self.items[0]
        assert stranger.get() == first
        self.leaves()
        if fate == "lives":
            stranger.client.close()
            return
        stranger.dies(seen=fate == "dies")
        if fate == "dies unseen":
            self.items.appendleft(first)

    # -- tasks --

    @rule(number=THREADS)
    def finish(self, number: int | Thread | None) -> None:
        thread = self.free(number) if isinstance(number, int) else number
        if thread is None or self.make is not mp.JoinableQueue:
            return
        if not self.todo:
            with pytest.raises(ValueError, match="task_done"):
                thread.do(self.queue.task_done)
            return
        thread.do(self.queue.task_done)
        self.todo -= 1
        if not self.todo:
            for joiner in self.joiners:
                joiner.ends()
            self.joiners = []

    @rule(number=THREADS)
    def join(self, number: int) -> None:
        thread = self.free(number)
        if thread is None or self.make is not mp.JoinableQueue:
            return
        if not self.todo:
            thread.do(self.queue.join)
        elif self.may_wait:
            session.current().settle()  # what was put counts
            thread.begin(self.queue.join)
            self.joiners.append(thread)

    # -- handles --

    def pickled(self) -> bytes:
        self.pinned = True
        return pickle.dumps(self.queue)

    @rule()
    def the_handle_is_dropped_while_it_is_on_its_way(self) -> None:
        busy = any(thread.task for thread in self.threads)
        pickled = self.pickled()
        if not busy:
            del self.queue
            session.current().settle()
        self.queue = pickle.loads(pickled)

    @rule()
    def close(self) -> None:
        pickled = self.pickled()
        again = pickle.loads(pickled)
        again.close()
        again.join_thread()
        with pytest.raises(ValueError, match="is closed"):
            again.put(0)
        with pytest.raises(ValueError, match="is closed"):
            again.get()
        self.queue = pickle.loads(pickled)

    @invariant()
    def its_size_is_the_models(self) -> None:
        session.current().settle()
        assert self.queue.qsize() == len(self.items)
        assert self.queue.empty() == (not self.items)
        assert self.queue.full() == self.full()


class RareLooksModel(QueueModel):
    """Nobody looks at the size in between, so messages taken beforehand stay taken."""

    def its_size_is_the_models(self) -> None:
        """Not here."""


class BoundedModel(QueueModel):
    bound = 2


class TasksModel(QueueModel):
    make = mp.JoinableQueue


class BoundedTasksModel(TasksModel):
    bound = 1


MODELS = (QueueModel, RareLooksModel, BoundedModel, TasksModel, BoundedTasksModel)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_queue_agrees_with_the_model(model, evidence):
    model.evidence = evidence
    run_machine(
        model,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
