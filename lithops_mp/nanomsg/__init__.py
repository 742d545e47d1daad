"""Pipes whose messages go straight from process to process, by TCP (``pynng``).

Redis is the directory, and what a pipe's buffer is to CPython: who reads at an end
writes its address into the end's state; who writes there sends to that address, or,
as long as nobody reads, puts the message into Redis, where it survives its sender.
A message of more than ROOM bytes waits for a reader instead.

Every message is cut into frames. A frame names its sender and its number, and carries
a keyed hash of these, of its direction and of its content; the key is the pipe's own
and travels in its handles alone. What somebody else on the network sends, or sends
again, or in the other direction, is dropped before anybody looks at it.

A sender keeps what its reader has not used, ROOM bytes at most, and then waits. It
sends it again when the connection broke, or to whoever reads there next; what is left
when the sender closes or ends goes to Redis. Frames are taken in the order of their
numbers and once, whichever way they came. So nothing is lost or doubled, unless a
process is killed. With a sender goes what it kept and the reader had not received. Who
reads after a killed reader gets again what that one had used and not acknowledged (half
a second's, or ACK_BYTES), and never sees what it had taken from Redis and not used.

Messages are sent by ``pynng``, and received on sockets of our own (``sockets.Pull`` says why).
``pynng`` is never used across a fork: nng aborts a process whose parent has used it.
A forked child loads the library anew, from a copy, since a library is loaded once.

In reading order: ``frames``, ``sockets``, ``library``, ``reader`` and ``writer``, which
``line`` has one of each, and ``pump``, the thread that looks after them.
"""

from __future__ import annotations

import io
from typing import Any

from .. import connection, messages
from .._store.client import Buffer
from .._store.session import current
from ..arguments import seconds
from ..connection import ROOM
from .library import load
from .line import Line


class Connection(connection.Connection):
    """One end of a pipe, whose messages come by TCP; see the module's page.

    ``send`` returns when the message is on its way, or in Redis if nobody reads yet. It
    raises BrokenPipeError when nobody has the other end, and ConnectionError when its
    reader cannot be reached for REACH seconds. ``recv`` raises EOFError when nothing is
    left and nobody has the other end, which is soon after a process was killed.
    """

    _handle: Line | None

    def __del__(self) -> None:
        """Nothing is sent in a finalizer; the process's thread for pipes sees to it."""
        handle: Line | None = getattr(self, "_handle", None)
        if handle is not None:
            handle.release(soon=True)

    def fileno(self) -> int:  # type: ignore[override]
        """Readable if and only if ``recv`` would return, or raise EOFError, at once.

        The first call makes this process the one that reads. Write-only connections
        have none (UnsupportedOperation).
        """
        self._check_closed()
        if not self._readable or self._handle is None:
            raise io.UnsupportedOperation("a connection that only sends has no descriptor")
        return self._handle.reader.fileno()

    def _put(self, message: messages.Message) -> None:
        assert self._handle
        self._handle.writer.send(message)

    def _get(self) -> tuple[int, Buffer]:
        assert self._handle
        message = self._handle.reader.take()
        return message.kind, message.body

    def _poll(self, timeout: float | None) -> bool:
        assert self._handle
        return self._handle.reader.wait(seconds(timeout))

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        assert handle
        handle.release()
        del handle
        current().settle()


def Pipe(duplex: bool = True) -> tuple[Any, Any]:
    """Two connections, joined; with ``duplex`` False the first one only receives.

    Raises ImportError if pynng is not there.
    """
    load()
    first, second = Line.pair(ROOM)
    return Connection(first, writable=duplex), Connection(second, readable=duplex)
