"""Serving: a manager's server process, and how others talk to it.

The server is CPython's, and so is what is said to it (``multiprocessing.managers``); its
connections are ours, through Redis.
"""

from __future__ import annotations

import contextlib
import multiprocessing.connection as _mp_connection
import multiprocessing.managers as _mp
import threading
from collections.abc import Iterator
from typing import Any

from . import connection, messages, process
from .errors import ManagerLost, ObjectExpired, ServerUnavailable

# typeshed knows less of it than there is.
_cpython: Any = _mp


class _Serializer(str):
    """A name in CPython's table of Listeners and Clients; who unpickles it has this module."""

    def __reduce__(self) -> Any:
        return _Serializer, (str(self),)


class _Line:
    """A connection to a server process. When that is gone, everything raises ManagerLost."""

    def __init__(self, address: Any, authkey: bytes | None) -> None:
        self._address = address
        with self._told():
            self._connection: Any = connection.Client(address, authkey=authkey)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except ServerUnavailable:
            raise
        except (EOFError, OSError, ObjectExpired) as error:
            raise ManagerLost(
                f"the process that has this manager's objects (address {self._address!r}) does "
                "not answer any more: it ended or was killed, or the manager was shut down; its "
                "objects are gone, create them anew"
            ) from error

    def send(self, obj: Any) -> None:
        """Send an object."""
        message = messages.dumps(obj)
        with self._told():
            self._connection._check_closed()
            self._connection._put(message)

    def recv(self) -> Any:
        """Receive an object."""
        with self._told():
            self._connection._check_closed()
            received = self._connection._get()
        return messages.loads(*received)

    def send_bytes(self, data: bytes) -> None:
        """Send bytes."""
        with self._told():
            self._connection.send_bytes(data)

    def recv_bytes(self) -> bytes:
        """Receive bytes."""
        with self._told():
            data: bytes = self._connection.recv_bytes()
        return data

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Is there something to receive?"""
        with self._told():
            return bool(self._connection.poll(timeout))

    def fileno(self) -> int:
        """Refused, as by any connection through Redis."""
        return int(self._connection.fileno())

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


def _client(address: Any, authkey: bytes | None = None) -> _Line:
    return _Line(address, authkey)


def _in_xml(conn: Any) -> Any:
    import xmlrpc.client

    theirs: Any = _mp_connection
    theirs.xmlrpclib = xmlrpc.client
    return theirs.ConnectionWrapper(conn, theirs._xml_dumps, theirs._xml_loads)


class _XmlListener(connection.Listener):
    def accept(self) -> Any:
        return _in_xml(super().accept())


def _xml_client(address: Any, authkey: bytes | None = None) -> Any:
    return _in_xml(_Line(address, authkey))


_PICKLE, _XML = _Serializer("lithops_mp pickle"), _Serializer("lithops_mp xmlrpclib")
_cpython.listener_client[_PICKLE] = connection.Listener, _client
_cpython.listener_client[_XML] = _XmlListener, _xml_client
SERIALIZERS = {"pickle": _PICKLE, "xmlrpclib": _XML}


class Server(_cpython.Server):  # type: ignore[misc]
    """CPython's, which also ends with the process that started it, and with its address."""

    def serve_forever(self) -> None:
        """Run until shut down."""
        if parent := process.parent_process():
            watch = threading.Thread(target=self._outlive, args=(parent,), daemon=True)
            watch.start()
        super().serve_forever()

    def _outlive(self, parent: Any) -> None:
        connection.wait([parent.sentinel])
        self.stop_event.set()

    def accepter(self) -> None:
        """Accept connections, as long as there is an address."""
        while not self.stop_event.is_set():
            try:
                conn = self.listener.accept()
            except ServerUnavailable:
                break
            except (OSError, ObjectExpired):
                if not self._is_bound():
                    break
                continue  # whoever wanted to connect is gone
            threading.Thread(target=self.handle_request, args=(conn,), daemon=True).start()
        self.stop_event.set()

    def _is_bound(self) -> bool:
        post = self.listener._listener
        try:
            return post is not None and post._channel.look() is not None
        except ObjectExpired:
            return False
