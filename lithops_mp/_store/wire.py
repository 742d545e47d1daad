"""The bytes of one connection.

redis-py's ``Connection`` resolves the address, connects, negotiates TLS, logs in
and selects the database, and says what an error reply means. Requests and
replies then go straight over its socket and through hiredis: ``bench/`` shows
what redis-py's own way costs, most of it for a process that has just been woken.

A time limit is the socket's own (SO_RCVTIMEO, SO_SNDTIMEO): Python's would poll before
every read and write.
"""

from __future__ import annotations

import functools
import os
import socket
import ssl
import struct
from collections.abc import Callable
from time import monotonic
from typing import Any, NoReturn

import hiredis
from redis import exceptions
from redis.exceptions import ConnectionError

from .polling import POLL, Polling
from .scripts import command

_MORE = object()

# Bytes that are read at once.
ROOM = 16384


class Busy(ConnectionError):
    """The server cannot do it now: nothing was carried out, and the connection is sound.

    It has run a script for seconds, nobody knows whose; or a failover is under way, which
    ends blocked calls, too; or its memory or its disk is full.
    """

    @classmethod
    def of(cls, text: str) -> Busy | None:
        """What an error reply says, if it says this. Redis 6 quotes it in a script's error."""
        for word in _BUSY:
            if text.startswith(word) or f"-{word}" in text:
                return cls(text[text.index(word) :])
        return None

    @classmethod
    def meant(cls, error: exceptions.ResponseError) -> Busy | None:
        """:meth:`of`, of redis-py's error, which may lack the word."""
        return cls.of(_CUT_OFF.get(type(error), "") + str(error))


_BUSY = ("BUSY ", "UNBLOCKED ", "NOREPLICAS ", "MASTERDOWN ", "OOM ", "MISCONF ")
_CUT_OFF = {exceptions.OutOfMemoryError: "OOM ", exceptions.MasterDownError: "MASTERDOWN "}


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))


def _meant(text: str, parse: Callable[[str], Exception]) -> Exception:
    """The exception that an error reply stands for."""
    return Busy.of(text) or parse(text)


# What a socket raises was raised in one of these, or by C below them.
_SOCKETS = (__file__, socket.__file__, ssl.__file__, os.path.dirname(exceptions.__file__))


def _by_handler(error: BaseException) -> bool:
    """Was it raised by a signal's handler that came meanwhile, and not by the socket?

    A handler may raise TimeoutError, which says nothing about our connection.
    """
    trace = error.__traceback__
    while trace:
        if not trace.tb_frame.f_code.co_filename.startswith(_SOCKETS):
            return True
        trace = trace.tb_next
    return False


class Wire:
    """A connection that sends packed commands and reads replies.

    ``silence`` is how many seconds a read may take. Connects when it first sends. With
    ``first`` it sees then whether the server answers, within redis-py's time limit, and
    sends these packets once, whose answers nobody wants.
    Raises redis-py's exceptions; whenever one is not an error reply of the
    server, the connection is closed.
    """

    def __init__(self, connection: Any, silence: float, first: list[bytes] | None = None) -> None:
        self._connection = connection
        self._silence = silence
        self._first = first
        self._polling: Polling | None = None
        #: Has the server answered here?
        self.met = False
        self._sock: Any = None
        self._reader: Any = None

    def _connect(self) -> Any:
        try:
            self._connection.connect()
            if self._first is not None:
                self._say_first(self._first)
        except exceptions.ResponseError as error:
            # It chooses no database either.
            raise Busy.meant(error) or error from None
        sock = self._connection._sock
        self.met = True
        sock.settimeout(self._silence)
        if type(sock) is socket.socket:  # TLS keeps Python's time limit
            sock.settimeout(None)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(self._silence))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(self._silence))
            self._polling = self._polling or Polling()
        parse = self._connection._parser.parse_error
        meaning = functools.partial(_meant, parse=parse)
        self._reader = hiredis.Reader(replyError=meaning, notEnoughData=_MORE)
        self._sock = sock
        return sock

    def _say_first(self, packets: list[bytes]) -> None:
        for packet in (command("PING"), *packets):
            self._connection.send_packed_command([packet])
            try:
                self._connection.read_response()
            except exceptions.ResponseError as error:
                if Busy.meant(error):
                    raise
        packets.clear()

    def send(self, packet: bytes | bytearray | memoryview) -> None:
        """Send a command, several, or a part of one."""
        try:
            (self._sock or self._connect()).sendall(packet)
        except OSError as error:
            self._give_up(error)
        except BaseException:
            self.disconnect()
            raise

    def receive(self, *, soon: bool = True) -> Any:
        """The next reply. Raises the exception that stands for an error reply.

        Not ``soon``: it may be long in coming, or others need this processor.
        """
        reader = self._reader
        try:
            reply = reader.gets()
            while reply is _MORE:
                reader.feed((soon and self._poll()) or self._some(ROOM))
                soon = False  # the rest of a large one
                reply = reader.gets()
        except (OSError, AttributeError, hiredis.ProtocolError) as error:
            self._give_up(error)  # AttributeError: not connected
        except BaseException:
            # The answer may be on its way still; the next request must not get it.
            self.disconnect()
            raise
        if isinstance(reply, Exception):
            try:
                raise reply
            finally:
                # Or it would keep, by way of its traceback, itself and our callers'
                # objects, whose end somebody may wait for.
                reply = None
        return reply

    def subscribe(self, channel: str, patience: float) -> None:
        """From now on there is nothing but what is published there (:meth:`listen`)."""
        self.send(command("SUBSCRIBE", channel))
        self.receive()
        if type(self._sock) is socket.socket:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(patience))
        else:
            self._sock.settimeout(patience)

    def listen(self) -> bytes | None:
        """The next message; None if for ``patience`` seconds none came."""
        reader = self._reader
        try:
            reply = reader.gets()
            while reply is _MORE:
                reader.feed(self._sock.recv(ROOM) or self._closed())
                reply = reader.gets()
            message: bytes = reply[2]
            return message
        except (OSError, AttributeError, hiredis.ProtocolError) as error:
            if isinstance(error, BlockingIOError | TimeoutError) and not _by_handler(error):
                return None
            self._give_up(error)

    def receive_into(self, view: memoryview) -> bool:
        """Read a value of exactly this size into memory, past the parser, which would copy it.

        False if there is none. Nothing else may be on its way.
        """
        try:
            head = b""
            while not head.endswith(b"\r\n"):  # some bytes, against a large value
                head += self._some(1)
            if head[:1] == b"-":
                self._reader.feed(head)
                raise self._reader.gets()
            if head == b"$-1\r\n":
                return False
            if int(head[1:]) != view.nbytes:
                raise OSError(f"a value of {int(head[1:])} bytes instead of {view.nbytes}")
            while view:
                view = view[self._sock.recv_into(view) or self._closed() :]
            for _ in b"\r\n":
                self._some(1)
        except (OSError, AttributeError, ValueError) as error:
            self._give_up(error)
        return True

    def _poll(self) -> bytes | None:
        """What arrives within POLL seconds, if anything does."""
        polling = self._polling
        if polling is None or not polling.is_due():
            return None
        recv, end = self._sock.recv, monotonic() + POLL
        data: bytes | None
        while True:
            try:
                data = recv(ROOM, socket.MSG_DONTWAIT) or self._closed()
            except BlockingIOError as error:
                if error.__traceback__ and error.__traceback__.tb_next:
                    raise  # a signal's handler has: see _by_handler
                data = None
            # It may have come long ago: other threads had the interpreter meanwhile.
            if (late := monotonic() > end) or data:
                break
        polling.done(late)
        return data

    def _some(self, size: int) -> bytes:
        data: bytes = self._sock.recv(size)
        return data or self._closed()

    def _closed(self) -> NoReturn:
        raise OSError("closed by the server")

    def _give_up(self, error: Exception) -> NoReturn:
        """Close the connection, and say why."""
        self.disconnect()
        if _by_handler(error):
            raise error
        if isinstance(error, BlockingIOError | TimeoutError):
            raise exceptions.TimeoutError(f"no answer for {self._silence:g} s") from error
        raise ConnectionError(str(error)) from error

    def disconnect(self) -> None:
        """Close the connection, if there is one."""
        self._sock = self._reader = None
        self._connection.disconnect()

    def fileno(self) -> int:
        """The socket to wait on; -1 while there is none."""
        return -1 if self._sock is None else int(self._sock.fileno())
