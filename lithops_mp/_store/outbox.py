"""What a process has put and not sent yet, and taken and not used yet.

An unbounded ``put`` returns at once; a thread sends what has piled up in one
call, in the order in which it was put, whatever the queues. Messages that were
taken many at once and are not used go back. Both happen before this process
does anything else that others can see (``Session.client``), so nobody can tell
the difference.

What was sent and not answered is kept and sent again, the very same requests,
whoever does so.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import queue
import sys
import threading
from multiprocessing import util
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..errors import ServerUnavailable
from .client import Client
from .families import Step
from .scripts import packed

if TYPE_CHECKING:
    from .session import Session

# One call's messages: so many, or so many bytes, whichever comes first.
BATCH = 1000
BATCH_BYTES = 1 << 20

# Seconds that messages which were taken at once may lie unused: somebody else may
# wait for them.
IDLE = 0.005

# Seconds that the end of the process waits for the thread, which may look for its server.
PATIENCE = 1.0


class Sender(Protocol):
    """A queue, as the outbox sees it."""

    cancelled: bool

    def posting(self, client: str, seq: bytes, first: bytes, more: bytes) -> Step:
        """The call that puts some of its messages."""

    def refused(self, reply: list[Any]) -> None:
        """The server would not take messages."""


class Reader(Protocol):
    """What takes more messages at once than it uses: a queue's or a pipe's end."""

    @property
    def holds(self) -> bool:
        """Is anything unused?"""

    def give_back(self, *, idle: bool) -> Step | None:
        """The call that gives it back, after which it is not used any more.

        With ``idle`` only if nothing has been used since the last look.
        """

    def given_back(self) -> None:
        """That call was answered."""


Entry = tuple[Sender, bytes]


class Batch(NamedTuple):
    """Requests on their way, and with how many of the first messages that wait."""

    requests: list[tuple[Step, Sender | None, Reader | None]]
    messages: int


class Outbox:
    """One per session, with a thread that sends what nobody waits for.

    A signal's handler may come after any call: one that raises, and one that puts or takes
    itself and so does all that we were about to. A batch becomes ours, or is done with,
    between two calls; that it is still the same one is looked at before; and everything
    else can be done twice.
    """

    def __init__(self, session: Session, client: Client) -> None:
        self._session = session
        self._client = client
        self._lock = threading.RLock()
        self._waiting: list[Entry] = []
        self._batch = Batch([], 0)
        self._readers: set[Reader] = set()
        # Whether the thread is about to look is asked of this, not noted beside it: a
        # note would be wrong for good if Ctrl-C came between the two. True ends the thread.
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="lithops_mp outbox", daemon=True)
        self._thread.start()
        # Where CPython's queues wait for their feeders.
        util.Finalize(self, self.end, exitpriority=-5)

    @property
    def empty(self) -> bool:
        """Nothing to send and nothing to give back."""
        return not (self._waiting or self._batch.requests or self._readers)

    def put(self, sender: Sender, element: bytes) -> None:
        """Have a message sent. Returns at once."""
        self._waiting.append((sender, element))
        self._session.pending = True
        if self._wake.empty():
            self.wake()

    def hold(self, reader: Reader) -> None:
        """See to it that what a reader has taken does not lie unused."""
        self._readers.add(reader)
        self._session.pending = True
        if self._wake.empty():
            self.wake()

    def wake(self) -> None:
        """Let the thread look. Safe in a finalizer."""
        self._wake.put(False)

    def settle(self) -> None:
        """Send all there is, and give back what is not used. Raises ServerUnavailable."""
        self._work(idle=False)

    def _work(self, *, idle: bool) -> None:
        with self._lock:
            while batch := self._next(idle=idle):
                # The thread leaves the processor to who puts, and to whom it wakes.
                replies = self._calls([step for step, *_ in batch.requests], soon=not idle)
                # Made before: making something may run a finalizer.
                empty, sent = Batch([], 0), slice(batch.messages)
                if self._batch is batch:
                    del self._waiting[sent]
                    self._batch = empty
                    self._answered(batch, replies)

    def _next(self, *, idle: bool) -> Batch | None:
        """What is to be sent: again, if it is not known to have been carried out."""
        before = self._batch
        if before.requests:
            return before
        requests: list[tuple[Step, Sender | None, Reader | None]] = []
        for reader in list(self._readers):
            if not reader.holds:
                self._readers.discard(reader)
                if reader.holds:  # again: somebody has taken some between the two
                    self._readers.add(reader)
            elif step := reader.give_back(idle=idle):
                requests.append((step, None, reader))
        entries: list[Entry] = []
        size = 0
        for entry in self._waiting[:BATCH]:  # other threads append meanwhile
            if size > BATCH_BYTES:
                break
            size += len(entry[1])
            entries.append(entry)
        for sender, group in itertools.groupby(entries, operator.itemgetter(0)):
            seq = self._client.stamp()
            first, *rest = [element for _, element in group]
            more = packed(rest) if rest else b""
            requests.append((sender.posting(self._client.id, seq, first, more), sender, None))
        batch = Batch(requests, len(entries))
        if self._batch is not before:
            return self._next(idle=idle)  # a handler has sent some: see what is left
        self._batch = batch
        return batch if requests else None

    def _calls(self, steps: list[Step], *, soon: bool) -> list[Any]:
        if not self._client.busy:
            return self._client.together(steps, soon=soon)
        # We are a signal's handler: the very same requests may be on their way already.
        with self._session.another_client() as client:
            return client.together(steps, soon=soon)

    def _answered(self, batch: Batch, replies: list[Any]) -> None:
        for (_, sender, reader), reply in zip(batch.requests, replies, strict=True):
            if reader:
                reader.given_back()
            elif sender and reply[0] not in (b"PUT", b"STALE"):
                sender.refused(reply)

    def close(self) -> None:
        """The session has ended: no thread and no connection stays."""
        self._wake.put(True)
        self._thread.join(PATIENCE)
        self._client.close()

    def _run(self) -> None:
        while True:
            with contextlib.suppress(queue.Empty):
                if self._wake.get(timeout=IDLE if self._readers else None):
                    return
            # Whoever does something next that others can see will hear of it.
            with contextlib.suppress(Exception):
                self._work(idle=True)
                if self.empty:
                    self._session.settle()

    def end(self) -> None:
        """The process ends: send what there is, unless told not to wait for it."""
        unsent = self._waiting[:]
        if any(sender.cancelled for sender, _ in unsent):
            if all(sender.cancelled for sender, _ in unsent):
                return  # the thread may be at it, and wait for its server
            with self._lock:
                done = False
                while not done:
                    batch = self._batch
                    rest = slice(batch.messages, len(self._waiting))
                    kept = [entry for entry in self._waiting[rest] if not entry[0].cancelled]
                    if done := self._batch is batch:  # and a handler has sent nothing
                        self._waiting[rest] = kept
        try:
            self.settle()
        except ServerUnavailable as error:
            lost = f"{len(self._waiting)} message(s) could not be sent"
            print(f"lithops_mp: {lost}: {error}", file=sys.stderr)
