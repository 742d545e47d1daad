"""A line of messages in Redis: the engine of queues, and twice that of a pipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import messages, queueing
from ._store.client import EAGER, Buffer, Client
from ._store.commands import Call
from ._store.families import Ref, Step
from ._store.replies import fault
from ._store.session import current
from .arguments import seconds
from .errors import FINAL, ObjectExpired
from .handle import Handle, find
from .messages import Message
from .protocols import insist

# Messages that are taken at once, at most: as many as are used within moments.
MOST = 256

# A quick consumer comes back within so many seconds.
QUICK = 0.01

# After a get that had to wait, so many more that find a message at once still listen for it
# in the same round trip; one that has to wait begins the count again.
PATIENT = 8

# Messages that were taken so many seconds ago are not believed any more: this process
# may have stood still, been taken for dead, and its messages given to others.
FRESH = 1.0


class Load:
    """Messages that were taken at once and not used yet."""

    def __init__(self, client: Client, taken: queueing.Taken) -> None:
        self.client = client
        self.of = taken.seq
        self.seq = int(taken.seq)
        self.elements = taken.elements
        self.count = len(taken.elements)
        self.used = 1
        self.looked = 0
        self.closed = False


class Channel(Handle):
    """A queue's state, or that of a pipe's end, as this process sees it.

    Who takes message after message and does nothing in between is given some at
    once: a round trip each would cost ten times what the rest does. They are given
    back before this process does anything that others can see, when it has not used
    one for some milliseconds, and when it dies: its ledger says which it used.
    """

    family = "queue"

    def __init__(self, ref: Ref, single: bool = False) -> None:
        super().__init__(ref)
        self.keys = self.target = queueing.QueueKeys(ref)
        self.single = single
        self.cancelled = False
        self.failed: Exception | None = None
        #: The queue that reports messages which the server refused.
        self.owner: Callable[[], Any] = _nobody
        self.forget()

    @classmethod
    def create(cls, *, bound: int = 0, joinable: bool = False, redeliver: bool = False) -> Channel:
        """A new queue; one round trip."""
        ref = current().create(
            cls.family, queueing.fields(bound, joinable=joinable, redeliver=redeliver)
        )
        return cls(ref, bound > 0 or redeliver)

    def _details(self) -> tuple[Any, ...]:
        return (self.single,)

    def forget(self) -> None:
        """Hold nothing: what a new or a forked process starts with."""
        self._load: Load | None = None
        self._fetching = False
        self._want = 1
        self._trips = -1
        self._at = 0.0
        self._waited = 0
        self._phrases = queueing.Phrases(self.keys, self.target, "")

    # -- taking --

    def get(self, block: bool = True, timeout: float | None = None) -> bytes | None:
        """The next message's element; None if there was none in time.

        Raises EOFError if the other end of a pipe is closed and nothing is left.
        """
        while True:
            element = self._next()
            if element is not None:
                return element
            client = current().client
            # As in SemHandle.acquire. A signal's handler that came before may have left some.
            client.busy += 1
            try:
                if self._load is None or self._load.closed:
                    return self._fetch(client, block, timeout)
            finally:
                client.busy -= 1

    # No lock guards what is in hand: a handler would meet it, or wait for a thread that waits
    # for it. Between two calls Python lets neither a handler nor another thread come.

    def _next(self) -> bytes | None:
        """One of those in hand, if there are any that are to be believed."""
        load = self._load
        while load is not None and not load.closed:
            if load.client.clock() - self._at >= FRESH:
                load.closed = True
                break
            number = load.used + 1
            load.client.saw(load.seq, number)
            # Nothing is called from here on.
            if self._load is load and not load.closed and load.used + 1 == number:
                load.used = number
                if number == load.count:
                    self._load = None
                return load.elements[number - 1]
            load = self._load
        return None

    def _fetch(self, client: Client, block: bool, timeout: float | None) -> bytes | None:
        if timeout is not None and block:
            timeout = seconds(timeout)
            block = timeout != 0
        if self._waited and block and timeout is None:
            return self._wait(client)
        last, first, load = client.last, False, None
        try:
            # Only one thread has messages in hand.
            first = not (self.single or self._fetching)
            self._fetching = self._fetching or first
            # And only if it did nothing else since it took the last ones.
            trips = client.round_trips
            quick = trips == self._trips and client.clock() - self._at < QUICK
            want = min(self._want * 2, MOST) if first and quick else 1
            steps = queueing.get(self.keys, client, want, block, timeout)
            taken: queueing.Taken | None = client.run(steps)
            if taken is None:
                return None
            if client.round_trips > trips + 1:
                self._waited = PATIENT
            if first:
                self._want, self._trips, self._at = want, client.round_trips, client.clock()
                if len(taken.elements) > 1:
                    load = self._load = Load(client, taken)
                    current().outbox.hold(self)
                else:
                    self._want = 1
            return taken.elements[0]
        except (*FINAL, EOFError):
            raise
        except BaseException:
            # Ctrl-C: what had come by then would be lost, or lie unused for good.
            used = 0
            if load:
                load.closed = True
                used = load.used if load.used > 1 else 0  # a handler has used some
            if client.last != last:
                client.run(
                    insist(Call(self.keys.settle, (client.id, client.last, used), late=True))
                )
            if load and self._load is load:
                self._load = None
            raise
        finally:
            if first:
                self._fetching = False

    def _wait(self, client: Client) -> bytes:
        """The next message, when the last one had to be waited for: listens for it."""
        phrases = self._phrases
        if phrases.client is not client.id:
            phrases = self._phrases = queueing.Phrases(self.keys, self.target, client.id)
        reply: Any
        seq, end = client.stamp(), client.clock() + EAGER
        try:
            hint = client.hear(self.keys.eager.script, phrases.eager % seq, seq)
            reply = queueing.heard(client, seq, hint, end)
            if type(reply) is queueing.Taken:
                assert hint
                self._waited = PATIENT if hint[1] == b"ITEMS" else self._waited - 1
                return reply.elements[0]
        except BaseException as error:
            reply = error
        taken: queueing.Taken = client.run(queueing.get_on(self.keys, client, seq, 1, reply, None))
        return taken.elements[0]

    # -- what was taken beforehand (``outbox.Reader``) --

    @property
    def holds(self) -> bool:
        """Is anything unused?"""
        return self._load is not None

    def give_back(self, *, idle: bool) -> Step | None:
        """The call that gives it back, after which it is not used any more."""
        load = self._load
        if load is None:
            return None
        if idle and load.looked != load.used and not load.closed:
            load.looked = load.used
            return None
        load.closed = True
        return self.keys.settle, (load.client.id, load.of, load.used)

    def given_back(self) -> None:
        """That call was answered. What was taken since is none of that."""
        load = self._load
        if load is not None and load.closed:
            self._load = None
            self._want = 1

    # -- putting --

    def posting(self, client: str, seq: bytes, first: bytes, more: bytes) -> Step:
        """The call that puts messages which were posted."""
        return self.target.put, (client, seq, 1, first, more)

    def post(self, message: Message) -> None:
        """Put a message, some time soon, in the order of posting. Returns at once."""
        if self.failed:
            raise self.failed
        session = current()
        element = messages.inline(message)
        if element is None:
            # Nobody sees it there before it is put: what was put before may wait.
            element = messages.store(session._client, self.target.ref, message)
        session.outbox.put(self, element)

    def refused(self, reply: list[Any]) -> None:
        """The server would not take a message that was posted."""
        self.failed = fault(reply, self.family)
        if queue := self.owner():
            try:  # CPython's prints the error that is being handled
                raise self.failed
            except Exception as error:
                queue._on_queue_feeder_error(error, None)

    def put(self, message: Message, block: bool = True, timeout: float | None = None) -> bool:
        """Put a message; False if there was no room in time.

        Raises BrokenPipeError if the end of the pipe that reads is closed.
        """
        return current().client.numbered(self._put, message, block, timeout)

    def _put(
        self, client: Client, seq: bytes, message: Message, block: bool, timeout: float | None
    ) -> bool:
        if timeout is not None and block:
            timeout = seconds(timeout)
            block = timeout != 0
        reply: Any = None
        try:
            # A small message in few lines, without a generator: see ``protocols.Phrases``.
            if block and len(message.parts) == 1 and len(message.parts[0]) <= messages.INLINE:
                body = message.parts[0]
                phrases = self._phrases
                if phrases.client is not client.id:
                    phrases = self._phrases = queueing.Phrases(self.keys, self.target, client.id)
                packet = phrases.put % (seq, len(body) + 1, body)
                reply = client.request(self.target.put.script, packet)
                if reply[0] == b"PUT":
                    return True
        except BaseException as error:
            reply = error
        element = messages.inline(message) or messages.store(client, self.target.ref, message)
        deadline = None if timeout is None or not block else client.clock() + timeout
        ask = Call(self.target.put, (client.id, seq, int(block), element, b""))
        return bool(client.run(queueing.put_on(self.target, client, seq, ask, reply, deadline)))

    # -- looking --

    def unpack(self, element: bytes) -> tuple[int, Buffer]:
        """The message of an element that this thread has taken last: kind and bytes.

        To read is nothing that others see, so nothing is settled before. Interrupted
        while it fetches a large one, it comes first again.
        """
        if element[0] == messages.SMALL:
            return messages.SMALL, memoryview(element)[1:]
        client = current()._client
        try:
            return messages.unpack(client, self.ref, element)
        except ObjectExpired:
            raise
        except BaseException:
            # Large ones are given out one at a time: it is all that this request took.
            client.run(insist(Call(self.keys.settle, (client.id, client.last, 0), late=True)))
            raise

    def look(self) -> queueing.Sight:
        """How things stand; one round trip."""
        client = current().client
        sight: queueing.Sight = client.run(queueing.look(self.keys))
        return sight

    def done(self) -> None:
        """A task is done. Raises ValueError if there was none."""
        client = current().client
        client.run(queueing.done(self.keys, client))

    def join(self) -> None:
        """Wait until all tasks are done."""
        client = current().client
        client.run(queueing.join(self.keys, client))

    def poll(self, timeout: float | None) -> bool:
        """Would a get return, or raise, at once? Waits for it for ``timeout`` seconds."""
        load = self._load
        if load is not None and not load.closed and load.client.clock() - self._at < FRESH:
            return True
        client = current().client  # what is there no more, or too old, has gone back by then
        return bool(client.run(queueing.poll(self.keys, client, seconds(timeout))))


class End(Channel):
    """The state of one end of a pipe: what the other end has sent it."""

    family = "pipe"

    def __init__(self, ref: Ref, room: int) -> None:
        super().__init__(ref)
        self.room = room
        #: Connections that have it and are not closed.
        self.users = 0
        # Where this end writes is the state of the other one.
        self.target = queueing.QueueKeys(Ref(ref.family, ref.peer))
        current().outbox  # noqa: B018 - closes ends that were dropped without a word

    @classmethod
    def pair(cls, room: int) -> tuple[End, End]:
        """Two ends of a new pipe, in which ``room`` bytes may wait each way."""
        session = current()
        pipe = session.new_id()
        given = queueing.fields(room=room)
        first, second = (session.create(cls.family, given, f"{pipe}/{end}") for end in (0, 1))
        return cls(first, room), cls(second, room)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        pin = current().export(self.ref)
        return find, (type(self), self.ref, pin, self.room)


def _nobody() -> None:
    return None
