"""Pipes, and connections to an address: CPython's, through Redis.

A connection is one end of a pipe: what the other end has sent waits in Redis. An
end is open as long as a process has it, or it is on its way to one; when the last
one has closed it, or died, the other end reads what is left and then the end of
the file, and writing to it fails. A send waits while more than ROOM bytes have
not been read.

Addresses are names in Redis, whatever their family: no port is opened and no file
made, and they are reached from wherever the server is.

Time-outs are in seconds. Whatever asks the server may raise ObjectExpired (this end of the
pipe, or a large message, is gone from it) and ServerUnavailable (no answer for some 20 s). A
connection that is closed here, or used in the direction it does not have, raises OSError.
"""

from __future__ import annotations

import contextlib
import errno
import io
import multiprocessing.connection as _mp
import os
import random
import socket
import time
from collections.abc import Iterable
from multiprocessing.connection import (  # type: ignore[attr-defined]
    AuthenticationError,
    BufferTooShort,
    address_type,
    answer_challenge,
    deliver_challenge,
)
from typing import Any, NoReturn

from . import config, messages, queueing
from ._store import keys, processes
from ._store.client import BLOCK_LIMIT, Buffer, read_streams
from ._store.families import Ref
from ._store.session import current
from .arguments import seconds
from .channel import Channel, End
from .errors import ObjectExpired

__all__ = [
    "AuthenticationError",
    "BufferTooShort",
    "Client",
    "Connection",
    "Listener",
    "Pipe",
    "wait",
]

# Bytes that may wait in a pipe, each way. CPython's have 64 KB or so, which costs
# nothing there; here a sender that waits costs two round trips.
ROOM = 16 * 1024 * 1024

default_family = "AF_REDIS"
families = ["AF_REDIS", "AF_INET", "AF_UNIX"]


_ConnectionBase: Any = _mp._ConnectionBase


class Connection(_ConnectionBase):  # type: ignore[misc]
    """One end of a pipe.

    ``send`` and ``recv`` take one round trip, and a wake-up where they wait. Large
    buffers (protocol 5) are sent from where they are. ``recv`` raises EOFError when
    nothing is left and the other end is closed by everyone, ``send`` BrokenPipeError.
    """

    _handle: End | None

    def __init__(self, handle: End, readable: bool = True, writable: bool = True) -> None:
        if not readable and not writable:
            raise ValueError("at least one of `readable` and `writable` must be True")
        self._handle = handle
        handle.users += 1
        self._readable = readable
        self._writable = writable

    def __reduce__(self) -> Any:
        self._check_closed()
        return type(self), (self._handle, self._readable, self._writable)

    def __del__(self) -> None:
        """The handle says that it is gone; nothing is sent in a finalizer."""

    def fileno(self) -> NoReturn:
        """Refused: there is no file descriptor to wait on."""
        self._check_closed()
        raise io.UnsupportedOperation(
            "a connection through Redis has no file descriptor: use lithops_mp.connection.wait, "
            "which takes it together with sockets and other descriptors"
        )

    def send(self, obj: Any) -> None:
        """Send an object; waits while ROOM bytes are not read.

        Raises BrokenPipeError if the other end is closed by everyone, or was let go by the
        death of the last process that had it; and what pickling raises: then nothing is sent.
        """
        self._check_closed()
        self._check_writable()
        self._put(messages.dumps(obj))

    def recv(self) -> Any:
        """Receive an object, which is waited for.

        Raises EOFError if nothing is left and the other end is closed, or was let go, by
        everyone; and what unpickling raises: that message is used then.
        """
        self._check_closed()
        self._check_readable()
        return messages.loads(*self._get())

    def _put(self, message: messages.Message) -> None:
        assert self._handle
        self._handle.put(message)

    def _get(self) -> tuple[int, Buffer]:
        handle = self._handle
        assert handle
        element = handle.get()
        assert element is not None
        return handle.unpack(element)

    def _send_bytes(self, buf: memoryview) -> None:
        self._put(messages.Message(messages.PICKLE, [buf]))

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO | None:
        body = messages.plain(*self._get())
        if maxsize is not None and len(body) > maxsize:
            return None
        file = io.BytesIO()
        file.write(body)
        return file

    def _poll(self, timeout: float | None) -> bool:
        assert self._handle
        return self._handle.poll(timeout)

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        assert handle
        handle.users -= 1
        if not handle.users:
            handle.let_go()
        current().settle()


def Pipe(duplex: bool = True) -> tuple[Any, Any]:
    """Two connections, joined; with ``duplex`` False the first one only receives."""
    if config.get_parameter(config.PIPE_CONNECTION_TYPE) == "nanomsg":
        from .nanomsg import Pipe

        return Pipe(duplex)
    first, second = End.pair(ROOM)
    return Connection(first, writable=duplex), Connection(second, readable=duplex)


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Those of some connections, sentinels, sockets and file descriptors that are ready.

    Waits until there is one, or for ``timeout`` seconds: in one blocked call for all
    that are in Redis, together with one ``select`` if there are others. A connection whose
    ``recv`` would raise EOFError is ready. Raises OSError for one that is closed here.
    """
    objects = list(object_list)
    timeout = seconds(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    ours = [one for one in objects if type(one) is Connection]
    others = [one for one in objects if type(one) is not Connection]
    for one in ours:
        one._check_closed()
    if not ours:
        return _mp.wait(others, timeout)
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        streams, ready = _look(ours, watch=left is None or left > 0)
        if ready or (left is not None and left <= 0):
            ready += _mp.wait(others, 0)
            return [one for one in objects if any(one is found for found in ready)]
        ready = _sleep(streams, others, BLOCK_LIMIT if left is None else min(left, BLOCK_LIMIT))
        if ready:
            return ready + _look(ours, watch=False)[1]


def _look(connections: list[Connection], watch: bool) -> tuple[dict[str, str], list[Any]]:
    """The streams that will tell of changes; those that are ready."""
    client = current().client
    channels: list[Any] = [one._handle for one in connections]
    replies = client.calls([(channel.keys.look, (int(watch),)) for channel in channels])
    streams, ready = {}, []
    for one, channel, reply in zip(connections, channels, replies, strict=True):
        seen = queueing.sight(reply, channel.family)
        streams[channel.keys.stream] = seen.last
        if seen.length or not seen.open or channel.holds:
            ready.append(one)
    return streams, ready


def _sleep(streams: dict[str, str], others: list[Any], seconds: float) -> list[Any]:
    """Until a stream has something new, or one of the others is ready: those."""
    session = current()
    packet = read_streams(streams, max(1, int(seconds * 1000)))
    if not others:
        session.client.watch_any(packet)
        return []
    with session.another_client() as client:
        client.send(packet)
        ready = _mp.wait([*others, client.fileno()], seconds)
        if client.fileno() in ready:
            client.receive()
            ready.remove(client.fileno())
        else:
            client.close()  # and with it the wait on the server
    return ready


class _Post:
    """Where connections to an address wait to be accepted: CPython's ``SocketListener``."""

    def __init__(self, address: Any, family: str) -> None:
        session = current()
        self._family = family
        self._last_accepted: Any = None
        while True:
            self._address = address
            if address is None:
                self._address = _choose(family)
            elif _any_port(address):
                self._address = _choose(family, address[0])
            self._owner = f"{session.uid} {session.new_id()}"
            if session.bind(_ref(family, self._address), queueing.fields(), self._owner):
                break
            if self._address == address:
                raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {address!r}")
        self._channel: Channel | None = Channel(_ref(family, self._address), single=True)

    def accept(self) -> Connection:
        channel = self._channel
        assert channel
        try:
            element = channel.get()
        except ObjectExpired:
            if self._channel is None:  # closed meanwhile, in another thread
                raise OSError("listener is closed") from None
            raise
        assert element is not None
        connection, self._last_accepted = messages.loads(*channel.unpack(element))
        return connection  # type: ignore[no-any-return]

    def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel:
            for element in current().unbind(channel.ref, self._owner):
                # Nobody accepts them any more: their other ends find it closed.
                with contextlib.suppress(ObjectExpired):
                    messages.loads(*channel.unpack(element))[0].close()


def _any_port(address: Any) -> bool:
    return isinstance(address, tuple) and len(address) > 1 and address[1] == 0


def _choose(family: str, host: str = "localhost") -> Any:
    if family == "AF_INET":
        return host, random.randrange(49152, 65536)
    return f"/lithops_mp/{keys.new_id()}" if family == "AF_UNIX" else f"listener-{keys.new_id()}"


def _ref(family: str, address: Any) -> Ref:
    if family == "AF_INET":
        host, port = address
        loopback = host in ("127.0.0.1", "::1")
        address = "localhost" if loopback else "" if host in ("0.0.0.0", "::") else host, port
    return Ref("queue", f"@{keys.digest(f'{family} {address!r}')}")


def _family_of(address: Any, family: str | None) -> str:
    found = family or ("AF_REDIS" if address is None else address_type(address))
    if found == "AF_UNIX" and family is None and os.sep not in os.fspath(address):
        found = "AF_REDIS"
    if found not in families:
        raise ValueError(f"family {found} is not recognized: there are {', '.join(families)}")
    return str(found)


class Listener(_mp.Listener):
    """Accepts connections to an address, a name in Redis; see the module's page.

    ``AF_INET`` addresses are (host, port), where port 0 chooses one; ``AF_UNIX`` ones
    paths, of which no file is made; ``AF_REDIS`` any other string. Raises OSError
    (EADDRINUSE) if a living process listens there.
    """

    def __init__(
        self,
        address: Any = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        if authkey is not None and not isinstance(authkey, bytes):
            raise TypeError("authkey should be a byte string")
        self._listener: _Post | None = _Post(address, _family_of(address, family))
        self._authkey = authkey

    def accept(self) -> Any:
        """The next client's connection. Raises AuthenticationError if its key is another one,
        EOFError if it hangs up before the keys are compared, OSError after ``close``.
        """
        try:
            return super().accept()
        except BrokenPipeError:
            raise EOFError("the client hung up before the keys were compared") from None


def Client(address: Any, family: str | None = None, authkey: bytes | None = None) -> Connection:
    """A connection to whoever listens at an address; waits to be accepted for ``authkey`` only.

    If nobody listens there, raises ConnectionRefusedError for ``AF_INET`` and
    FileNotFoundError for other families; ConnectionRefusedError for all if the listener ends
    meanwhile. AuthenticationError if the keys differ, EOFError if the listener closes the
    connection before they are compared; ValueError for an unknown family, TypeError for an
    ``authkey`` that is not bytes.
    """
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError("authkey should be a byte string")
    if address is None:
        raise ValueError("a client needs the address of a listener, not None")
    connection = _connect(address, _family_of(address, family))
    if authkey is not None:
        try:
            answer_challenge(connection, authkey)
            deliver_challenge(connection, authkey)
        except BaseException:
            connection.close()
            raise
    return connection


def _connect(address: Any, family: str) -> Connection:
    session = current()
    addresses = [address]
    if family == "AF_INET":
        addresses.append(("", address[1]))
    for one in addresses:
        ref = _ref(family, one)
        owner = session.client.plain("HGET", keys.state(ref.ident), "owner")
        if owner:
            break
    else:
        refused = errno.ECONNREFUSED if family == "AF_INET" else errno.ENOENT
        raise OSError(refused, f"{os.strerror(refused)}: nobody listens at {address!r}")
    here, there = Pipe()
    # It is the listener's from now on: closed if that process dies. If we are that
    # process, we let go of it here and take it up there: it is pinned in between.
    listener = owner.decode().partition(" ")[0]
    source = socket.gethostname(), os.getpid()
    lent: list[Ref] = []
    if listener == session.uid:
        message = messages.dumps((there, source))
    else:
        with session.lending() as lent:
            message = messages.dumps((there, source))
        session.lend(lent, listener)
    there.close()
    element = messages.inline(message)
    assert element
    try:
        # Who buries it goes by a list that may be from before our loan; but not if it lives
        # now. Otherwise nobody else would close the other end.
        if lent and processes.status(session.client, listener).word in ("ENDED", "GONE"):
            raise ObjectExpired(f"the process that listened at {address!r} has ended")
        # Without a handle: it is not ours to keep, and the listener may be this very process.
        session.client.run(queueing.put(queueing.QueueKeys(ref), session.client, element))
    except ObjectExpired:
        here.close()
        session.take_back(lent, listener)
        raise ConnectionRefusedError(
            errno.ECONNREFUSED, f"nobody listens at {address!r} any more"
        ) from None
    return here  # type: ignore[no-any-return]
