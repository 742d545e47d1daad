"""The sending side."""

from __future__ import annotations

import collections
import errno
import secrets
import socket
import threading
import time
import urllib.parse
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import messages
from .._store.client import BLOCK_LIMIT, Buffer
from .._store.session import current
from ..connection import ROOM
from ..errors import ObjectExpired
from .frames import FIRST, FRAME, HEAD, LAST, Frame, Seen, chunks, raw, seal
from .library import dispose, load, transmit
from .pump import pump, running
from .sockets import Bell, wait

if TYPE_CHECKING:
    from .line import Line

# Seconds after which a reader that cannot be reached is an error.
REACH = 10.0

# Seconds that a connection may take which is made to see whether that is possible.
PROBE = 3.0


def weak(method: Callable[..., None]) -> Callable[[Any], None]:
    """A callback for threads of nng's. pynng's sockets are only collected as garbage.

    They must not keep what has descriptors of its own.
    """
    found = weakref.WeakMethod(method)

    def call(pipe: Any) -> None:
        if alive := found():
            alive(pipe)

    return call


class Writer:
    """The sending side of one end, in this process."""

    def __init__(self, line: Line) -> None:
        self.line: Line = weakref.proxy(line)
        self.turn = threading.RLock()  # one message at a time
        self.lock = threading.RLock()  # of what is below
        #: There is something to ask for. While a message has its turn, the pump only rings.
        self.bell = Bell()
        self.push: Any = None
        self.url = ""  # where push dials
        self.at = ""  # where the reader is
        self.lost = False
        self.broken = False
        self.closed = False
        self.since = 0.0  # when dialing began, 0 once there was a connection
        self.kept: collections.deque[Frame] = collections.deque()
        self.held = 0
        self.unsent = 0  # the last of them, so many
        self.given = 0  # number of the last frame that ever left
        self._rename()

    def _rename(self) -> None:
        self.name = secrets.token_hex(8).encode()
        self.number = self.given = 0

    # -- sending --

    def send(self, message: messages.Message) -> None:
        """Send a message; waits while ROOM bytes are not used.

        Raises BrokenPipeError if nobody has the other end, ConnectionError if its reader
        cannot be reached, ObjectExpired if the pipe is gone from Redis.
        """
        kind, parts = message
        size = sum(memoryview(part).nbytes for part in parts)
        with self.turn:
            if size <= FRAME and len(parts) == 1 and self._send_at_once(kind, size, parts[0]):
                return
            if not self._find_reader(size):
                self._leave_in_redis(kind, size, parts)
                return
            start = self.number
            try:
                place = FIRST
                left = size
                for body in chunks(parts, FRAME):
                    left -= len(body)
                    data = self._frame(kind, place | (0 if left else LAST), size, body)
                    with self.lock:
                        self.kept.append(Frame(self.number, data))
                        self.held += len(data)
                        self.unsent += 1
                    self._flush()
                    place = 0
            except BaseException:
                self._take_back(start)
                raise

    def _send_at_once(self, kind: int, size: int, body: Buffer) -> bool:
        """The usual way of a small message: nothing is to be waited for. False if there is."""
        with self.lock:
            if (
                self.push is None
                or self.since
                or self.unsent
                or self.held >= ROOM
                or self.at != self.url
                or self.lost
                or self.broken
                or self.closed
            ):
                return False
            data = self._frame(kind, FIRST | LAST, size, body)
            if not transmit(self.push, data):
                self.number -= 1
                return False
            self.given = self.number
            self.kept.append(Frame(self.number, data))
            self.held += len(data)
            return True

    def _frame(self, kind: int, place: int, size: int, body: Buffer) -> bytes:
        self.number += 1
        head = HEAD.pack(self.name, self.number, kind, place, size)
        return b"".join(
            (head, seal(self.line.secret, self.line.target.ref.ident, head, body), body)
        )

    def _find_reader(self, size: int) -> bool:
        """Wait for room; is somebody there to send to?"""
        while True:
            with self.lock:
                waits = self.held >= ROOM or not self.at
                doubtful = self.push is None or self.lost or self.broken or self.closed
                if self.bell.clear() or waits or doubtful:
                    self.ask()
                if self.held < ROOM:
                    if self.at or self.kept:
                        pump().add(self.line.itself())
                        return True
                    if size <= ROOM:
                        return False
                pump().add(self.line.itself())
                again = self.unsent or (self.kept and self._astray())
            if again:
                self._flush()  # the pump cannot: it is our turn
            else:
                wait([self.bell.fd], BLOCK_LIMIT)

    def _astray(self) -> bool:
        """Does the connection, if there is one, not lead to the reader?"""
        return self.lost or self.at != self.url

    def _leave_in_redis(self, kind: int, size: int, parts: Sequence[Buffer]) -> None:
        frame = self._frame(kind, FIRST | LAST, size, b"".join(parts))
        try:
            self.line.put(raw(frame))
            self.given = self.number
        except BaseException:
            self._rename()  # whether it is there, who knows: leave no gap, and say nothing twice
            raise

    def _flush(self) -> None:
        """Wait until all is on its way."""
        while True:
            with self.lock:
                if self.bell.clear() or self.lost or self.broken or self.closed:
                    self.ask()
                self.advance()
                if not self.unsent:
                    return
                fds = [self.bell.fd, *([self.push.send_fd] if self.push else [])]
                late = self.since and time.monotonic() - self.since > REACH
            if late:
                self._check_reach()
            limit = BLOCK_LIMIT if not self.since else REACH / 10
            if not wait(fds, limit):
                with self.lock:
                    self.ask()

    def _check_reach(self) -> None:
        """Raises ConnectionError unless the reader's machine answers, or it is another now."""
        url = self.url
        with self.lock:
            self.ask()
            self.since = time.monotonic()
            if self.at != url:
                return
        where = urllib.parse.urlsplit(url)
        try:
            socket.create_connection((where.hostname or "", where.port or 0), PROBE).close()
        except OSError as error:
            raise ConnectionError(
                f"the process at the other end of the pipe listens at {url}, which cannot be "
                f"reached from {socket.gethostname()} ({error}): with PIPE_CONNECTION_TYPE "
                "'nanomsg' hosts must reach each other directly by TCP; use 'redislist' otherwise"
            ) from error

    def _take_back(self, start: int) -> None:
        """Forget those frames of a message that failed which never left."""
        with self.lock:
            while self.kept and self.kept[-1].number > max(start, self.given):
                self.held -= len(self.kept.pop().data)
                self.unsent -= 1
            self.number = max(start, self.given)

    def advance(self, block: bool = True) -> None:
        """Send what can be sent at once."""
        if self.push and self._astray():
            self._hang_up()
        if not self.unsent:
            return
        if not self.at:
            self._spill(block)
            return
        if self.push is None:
            self.push = load().Push0(reconnect_time_min=20, reconnect_time_max=500)
            self.push.add_post_pipe_connect_cb(weak(self.bell.set))
            self.push.add_post_pipe_remove_cb(weak(self._lose))
            self.url, self.since, self.lost = self.at, time.monotonic(), False
            self.push.dial(self.url, block=False)
        while self.unsent:
            frame = self.kept[-self.unsent]
            if not transmit(self.push, frame.data):
                break
            self.since = 0.0
            self.given = max(self.given, frame.number)
            self.unsent -= 1

    def _lose(self, pipe: Any) -> None:
        """The connection broke; called by a thread of nng's."""
        if pipe.socket is self.push:
            self.lost = True
            self.bell.set()
            if found := running():
                found.wake()

    def _hang_up(self) -> None:
        push, self.push = self.push, None
        if push:
            dispose(push)
        self.url, self.since, self.lost = "", 0.0, False
        self.unsent = len(self.kept)

    def _spill(self, block: bool) -> None:
        """Nobody reads: Redis keeps it."""
        self.unsent = len(self.kept)
        while self.kept and self.line.put(raw(self.kept[0].data), block):
            self.given = max(self.given, self.kept[0].number)
            self._drop()

    def _drop(self) -> None:
        self.held -= len(self.kept.popleft().data)
        self.unsent = min(self.unsent, len(self.kept))

    # -- what Redis says --

    def ask(self) -> None:
        """Look for the reader. Raises BrokenPipeError if nobody has the other end."""
        if self.closed:
            raise OSError("handle is closed")
        self.see(current().client.call(self.line.find_target, (self.name,)))
        if self.broken:
            raise BrokenPipeError(errno.EPIPE, "the other end of the pipe is closed")

    def see(self, reply: list[Any]) -> None:
        """Act upon an answer of ``pipe/find``. Raises ObjectExpired."""
        if reply[0] == b"BROKEN":
            self.broken, self.at = True, ""
            while self.kept:
                self._drop()
        else:
            seen = Seen.of(reply)
            self.at = seen.at.partition(" ")[2]
            while self.kept and self.kept[0].number <= seen.number:
                self._drop()

    def close(self) -> None:
        """What was not used goes to Redis."""
        self.closed = True
        self.bell.set()  # another thread may be in the middle of a send
        with self.turn, self.lock:
            self.closed = False
            try:
                if self.kept:
                    self.ask()
                    self._spill(True)
            except (BrokenPipeError, ObjectExpired):
                pass
            finally:
                self._hang_up()
                self.closed = True
