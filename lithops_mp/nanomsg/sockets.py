"""A descriptor to ring with, and nng's receiving side on sockets of our own."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from typing import Any

from .frames import LARGEST


class Bell:
    """A file descriptor that is readable while it is set."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.rung = False

    def fileno(self) -> int:
        """The descriptor."""
        return self.fd

    def set(self, pipe: Any = None) -> None:
        """Ring. ``pipe`` is what nng's callbacks bring along."""
        if self.fd >= 0:
            # Before, or who is woken finds it still; and after, or it could stay readable.
            self.rung = True
            os.eventfd_write(self.fd, 1)
            self.rung = True

    def clear(self) -> bool:
        """Be still. Was it rung?"""
        if self.rung:
            self.rung = False
            with contextlib.suppress(BlockingIOError):
                return os.eventfd_read(self.fd) > 0
        return False

    def __del__(self) -> None:
        fd, self.fd = self.fd, -1
        os.close(fd)


def wait(fds: list[int], seconds: float) -> list[int]:
    """Those of some descriptors that are readable, as soon as one is; or closed."""
    poll = select.poll()
    for fd in fds:
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(max(0.0, seconds) * 1000)]


class Pull:
    """nng's Pull0 on sockets of our own: connections at a port, and what comes in by them.

    In pynng's each message passes three threads before it reaches ours, which takes
    longer than Redis does; and there have been races in its descriptor and its closing.

    An nng connection begins with 8 bytes each way; then come messages, each with its
    length before it.
    """

    _HELLO = struct.Struct(">4sHH")
    _LENGTH = struct.Struct(">Q")
    _PUSH, _PULL = 80, 81

    def __init__(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, 0), family=family, backlog=128)
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self._epoll = select.epoll()
        self._epoll.register(self.listener, select.EPOLLIN)
        #: Connections, what they have sent of a message so far, and whether they greeted.
        self.open: dict[int, tuple[socket.socket, bytearray, bool]] = {}

    def fileno(self) -> int:
        """Readable while something is to be received."""
        return self._epoll.fileno()

    def receive(self) -> list[bytes] | None:
        """Messages that have come; None if nothing has happened at all."""
        ready = self._epoll.poll(0)
        if not ready:
            return None
        found: list[bytes] = []
        for fd, _ in ready:
            if fd == self.listener.fileno():
                self.accept()
            elif not self._read(fd, found):
                self.open.pop(fd)[0].close()
        return found

    def accept(self) -> None:
        """Greet those who have come: only then do they send."""
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                self.open[sock.fileno()] = sock, bytearray(), False
                self._epoll.register(sock, select.EPOLLIN)
                sock.send(self._HELLO.pack(b"\0SP\0", self._PULL, 0))

    def _read(self, fd: int, found: list[bytes]) -> bool:
        """Take what a connection has; False if it is of no use any more."""
        sock, begun, greeted = self.open[fd]
        try:
            data: bytes | bytearray = sock.recv(262144)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        if begun:
            begun += data
            data = begun
        at = 0
        if not greeted:
            if len(data) < self._HELLO.size:
                self.open[fd] = sock, bytearray(data), False
                return True
            if self._HELLO.unpack_from(data) != (b"\0SP\0", self._PUSH, 0):
                return False
            at = self._HELLO.size
        while len(data) - at >= self._LENGTH.size:
            (size,) = self._LENGTH.unpack_from(data, at)
            if size > LARGEST:
                return False  # nothing of ours
            end = at + self._LENGTH.size + size
            if end > len(data):
                break
            found.append(bytes(memoryview(data)[at + self._LENGTH.size : end]))
            at = end
        if at and begun:
            del begun[:at]
        elif at < len(data) or not greeted:
            begun = begun or bytearray(memoryview(data)[at:])
        if begun is not self.open[fd][1] or not greeted:
            self.open[fd] = sock, begun, True
        return True

    def close(self) -> None:
        """Close all descriptors; a forked process closes its copies."""
        self._epoll.close()
        self.listener.close()
        while self.open:
            self.open.popitem()[1][0].close()
