"""The thread that looks after a process's ends."""

from __future__ import annotations

import collections
import contextlib
import os
import threading
import time
from multiprocessing import util
from typing import TYPE_CHECKING

from .._store.client import BLOCK_LIMIT, read_streams
from .._store.families import Step
from .._store.session import Session, current
from ..errors import ObjectExpired, ServerUnavailable
from .frames import Seen
from .sockets import Bell, wait

if TYPE_CHECKING:
    from .line import Line

# Seconds that what a killed process has sent may take to arrive, once nobody has its end.
LINGER = 1.0

# Seconds between looks whether its connection broke, as it then does.
GONE = 0.05


class Pump:
    """One thread per process, while it has such pipes in use.

    It listens to the bells of their ends, says what was used, mends broken connections,
    makes way for other readers, and receives for those who wait on a descriptor.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.bell = Bell()
        self.lock = threading.Lock()
        self.lines: dict[Line, None] = {}
        self.news = False
        self.retired: collections.deque[Line] = collections.deque()
        self.thread: threading.Thread | None = None
        self.time = 0.0
        # Before the outbox and the session end.
        util.Finalize(self, self._end, exitpriority=-4)

    def wake(self) -> None:
        """Have it look around."""
        self.news = True
        self.bell.set()

    def due(self, seconds: float) -> None:
        """There will be something to say, at the latest in so many seconds."""
        when = time.monotonic() + seconds
        if not self.time or when < self.time:
            self.time = when
            self.bell.set()

    def add(self, line: Line) -> None:
        """Look after an end."""
        if line in self.lines:
            return
        with self.lock:
            self.lines[line] = None
            if self.thread is None:
                self.thread = threading.Thread(
                    target=self._run, name="lithops_mp nanomsg", daemon=True
                )
                self.thread.start()
        self.wake()

    def remove(self, line: Line) -> None:
        """Look after it no more."""
        with self.lock:
            self.lines.pop(line, None)
        self.bell.set()

    def retire(self, line: Line) -> None:
        """See to its end, soon. Safe in a finalizer."""
        self.retired.append(line)
        self.bell.set()

    def _run(self) -> None:
        with self.session.another_client() as watcher:
            flying: set[str] = set()
            heard = 0.0
            streams: dict[str, str] = {}
            while True:
                self.bell.clear()
                self._retire()
                with self.lock:
                    lines = list(self.lines)
                    if not lines:
                        self.thread = None
                        break
                try:
                    if flying and time.monotonic() - heard > BLOCK_LIMIT * 2:
                        watcher.close()  # a half-open connection gives no other sign
                        flying = set()
                    news, self.news = self.news, False
                    if news or not flying:
                        streams = self._look(lines)
                    self._acknowledge(lines)
                    if flying != set(streams):
                        if flying:
                            watcher.close()  # and with it the wait on the server
                        flying, heard = set(), time.monotonic()
                        if streams:
                            watcher.send(read_streams(streams, int(BLOCK_LIMIT * 1000)))
                            flying = set(streams)
                except ServerUnavailable:
                    flying = set()
                    time.sleep(1)  # who needs it hears of it in a call of its own
                    continue
                extra = [fd for line in lines for fd in self._descriptors(line)]
                left = self.time - time.monotonic() if self.time else BLOCK_LIMIT
                del lines
                fds = [self.bell.fd, *extra, *([watcher.fileno()] if flying else [])]
                ready = wait(fds, min(left, BLOCK_LIMIT))
                if flying and watcher.fileno() in ready:
                    watcher.receive()
                    flying = set()
                self._move()
            watcher.close()

    def _retire(self) -> None:
        while self.retired:
            with contextlib.suppress(ServerUnavailable):
                line = self.retired.popleft()
                if not line.users:
                    line.retire()
                del line  # the last reference: now it is let go
                self.session.settle()

    def _look(self, lines: list[Line]) -> dict[str, str]:
        """See how things stand; the streams that will tell of changes."""
        batch: list[Step] = []
        for line in lines:
            batch += [(line.find_own, (b"",)), (line.find_target, (line.writer.name,))]
        when = [(line.reader.claims, line.writer.name) for line in lines]
        replies = self.session.client.calls(batch)
        streams = {}
        for line, (claims, name), own, target in zip(
            lines, when, replies[::2], replies[1::2], strict=True
        ):
            reader, writer = line.reader, line.writer
            for bound, reply in ((line.keys, own), (line.target, target)):
                if reply[0] == b"VALUE":
                    streams[bound.stream] = Seen.of(reply).last
            with contextlib.suppress(ObjectExpired, OSError), reader.lock:
                if reader.claims != claims:
                    self.wake()  # it asked meanwhile: who knows which answer is newer
                elif own[0] == b"VALUE":
                    reader.see(Seen.of(own))
                    if reader.mine or (reader.asked and not Seen.of(own).at):
                        reader.look()
                    if reader.wanted and reader.mine and not reader.busy:
                        reader.leave()
                reader.bell.set()
            if writer.turn.acquire(blocking=False):
                try:
                    with contextlib.suppress(ObjectExpired, OSError), writer.lock:
                        if writer.name == name:
                            writer.see(target)
                        else:
                            self.wake()
                        writer.advance(block=False)
                finally:
                    writer.turn.release()
            else:
                writer.bell.set()
        return streams

    def _acknowledge(self, lines: list[Line]) -> None:
        if not self.time or time.monotonic() < self.time:
            return
        self.time = 0.0
        batch = []
        for line in lines:
            with line.reader.lock:
                if step := line.reader.ack():
                    batch.append(step)
        try:
            self.session.client.calls(batch)
        except ServerUnavailable:
            # Again, though nothing more is used: a sender without room waits for it.
            for line in lines:
                with line.reader.lock:
                    line.reader.used_bytes += 1
            self.due(0)
            raise

    def _descriptors(self, line: Line) -> list[int]:
        reader, writer = line.reader, line.writer
        found = []
        with reader.lock:
            if reader.pull:
                # Nobody may be about to receive.
                found.append(reader.pull.listener.fileno())
            if reader.ready and reader.mine and not reader.messages and not reader.eof:
                found.append(reader.fd)
                if reader.gone:
                    self.due(GONE)
        if writer.unsent and writer.turn.acquire(blocking=False):
            try:
                with writer.lock:
                    if writer.push and writer.unsent:
                        found.append(writer.push.send_fd)
            finally:
                writer.turn.release()
        return found

    def _move(self) -> None:
        """Receive and send what can be at once."""
        with self.lock:
            lines = list(self.lines)
        for line in lines:
            with contextlib.suppress(OSError, ObjectExpired, ServerUnavailable):
                with line.reader.lock:
                    if line.reader.pull:
                        line.reader.pull.accept()
                    if line.reader.ready:
                        line.reader.look()
                if line.writer.unsent and line.writer.turn.acquire(blocking=False):
                    try:
                        with line.writer.lock:
                            line.writer.advance(block=False)
                    finally:
                        line.writer.turn.release()

    def _end(self) -> None:
        """The process ends."""
        for line in list(self.lines):
            with contextlib.suppress(ServerUnavailable):
                line.retire()
        thread = self.thread
        if thread:
            self.bell.set()
            thread.join(LINGER)


_pump: Pump | None = None
_starting = threading.Lock()


def _after_fork() -> None:
    global _pump, _starting
    _pump, _starting = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def running() -> Pump | None:
    """This process's, if it has begun."""
    return _pump


def pump() -> Pump:
    """This session's."""
    global _pump
    session = current()
    if _pump is None or _pump.session is not session:
        with _starting:
            if _pump is None or _pump.session is not session:
                _pump = Pump(session)
    return _pump
