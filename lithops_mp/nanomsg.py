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
process is killed: with it goes what it kept, and what it had received and not used.

Messages are sent by ``pynng``, and received on sockets of our own (``Pull`` says why).
``pynng`` is never used across a fork: nng aborts a process whose parent has used it.
A forked child loads the library anew, from a copy, since a library is loaded once.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import hashlib
import hmac
import importlib.machinery
import importlib.util
import io
import os
import secrets
import select
import socket
import struct
import sys
import threading
import time
import urllib.parse
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import util
from typing import Any, NamedTuple

import msgpack

from . import connection, messages, queueing
from ._store.client import BLOCK_LIMIT, Buffer, read_streams
from ._store.families import Ref, Step
from ._store.replies import fault
from ._store.session import Session, current
from .channel import End
from .connection import ROOM
from .errors import ObjectExpired, ServerUnavailable

# Bytes in a frame. nng holds a whole one in memory before we can judge it, and takes no
# larger ones from anybody.
FRAME = 1024 * 1024

# Seconds after which a reader that cannot be reached is an error.
REACH = 10.0

# Seconds that what a killed process has sent may take to arrive, once nobody has its end.
LINGER = 1.0

# Seconds that a connection may take which is made to see whether that is possible.
PROBE = 3.0

# A sender hears of used messages after so many seconds, or so many bytes.
ACK = 0.5
ACK_BYTES = ROOM // 4

# Sender, number, kind of the message, first (1) and last (2) frame, size of the message.
_HEAD = struct.Struct("<16sQBBQ")
_MAC = 16
_FIRST, _LAST = 1, 2


# -- the library --

_library: Any = None
_stale = False  # it was used by the process that we were forked from
_path = ""  # of its compiled part


def _pynng() -> Any:
    """The library, as this process can use it."""
    global _library, _stale, _path
    if _library is None or _stale:
        if _stale:
            _load_copy(_path)
        try:
            import pynng
        except ImportError as error:
            raise ImportError(
                "PIPE_CONNECTION_TYPE 'nanomsg' needs pynng: pip install lithops-mp[nanomsg]"
            ) from error
        _library, _stale = pynng, False
        _path = _path or sys.modules["pynng._nng"].__file__ or ""
        # It would end the library before others' finalizers have sent their last words.
        atexit.unregister(pynng.nng._pynng_atexit)
        util.Finalize(None, pynng.nng._pynng_atexit, exitpriority=-101)
    return _library


def _load_copy(path: str) -> None:
    """Have the next import of pynng find a library that nobody has used.

    The loader of the system knows libraries by their inode.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "pynng"]:
        _inherited.append(sys.modules.pop(name))
    name = "pynng._nng"
    with open(path, "rb") as file, open(os.memfd_create("pynng"), "wb") as copy:
        copy.write(file.read())
        copy.flush()
        loader = importlib.machinery.ExtensionFileLoader(name, f"/proc/self/fd/{copy.fileno()}")
        spec = importlib.util.spec_from_loader(name, loader)
        assert spec
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    sys.modules[name] = module


# What a forked process must not let go of: destructors would call the library.
_inherited: list[Any] = []


def _dispose(sock: Any, *, call: bool = True) -> None:
    """Close a socket, for good; without ``call``, only see to it that nobody does."""
    if call:
        sock.close()
    del sock._socket  # its destructor would close it again


def _transmit(sock: Any, data: bytes) -> bool:
    """Send; False if that cannot be done now."""
    lib = _library.lib
    code = lib.nng_send(sock.socket, data, len(data), lib.NNG_FLAG_NONBLOCK)
    if code != lib.NNG_EAGAIN:
        _library.exceptions.check_err(code)
    return bool(code == 0)


def _after_fork() -> None:
    global _pump, _stale, _starting
    _pump, _starting = None, threading.Lock()
    _stale = _library is not None


os.register_at_fork(after_in_child=_after_fork)


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
            os.eventfd_write(self.fd, 1)
            self.rung = True  # last, or it could stay readable

    def clear(self) -> None:
        """Be still."""
        if self.rung:
            self.rung = False
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.fd)

    def __del__(self) -> None:
        fd, self.fd = self.fd, -1
        os.close(fd)


def _wait(fds: list[int], seconds: float) -> list[int]:
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
            if size > FRAME + 1024:
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


# -- frames --


def _seal(secret: bytes, end: str, head: bytes, body: Buffer) -> bytes:
    """The keyed hash of a frame to an end of a pipe."""
    digest = hashlib.blake2b(head, key=secret, digest_size=_MAC, person=end[-2:].encode())
    digest.update(body)
    return digest.digest()


def _chunks(parts: Sequence[Buffer], size: int) -> Iterator[bytes]:
    """The bytes of some buffers in pieces of this size; at least one."""
    if len(parts) == 1 and memoryview(parts[0]).nbytes <= size:
        yield bytes(parts[0])
        return
    gathered: list[Buffer] = []
    room = size
    for part in parts:
        view = memoryview(part).cast("B")
        while view:
            gathered.append(view[:room])
            view, room = view[room:], room - gathered[-1].nbytes  # type: ignore[union-attr]
            if not room:
                yield b"".join(gathered)
                gathered, room = [], size
    if gathered:
        yield b"".join(gathered)


def _raw(frame: bytes) -> messages.Message:
    """A frame as a message of its own: how it lies in Redis."""
    return messages.Message(messages.PICKLE, [frame])


class Message(NamedTuple):
    """One that is whole: its last frame, its kind (``messages``), its bytes."""

    sender: bytes
    number: int
    kind: int
    body: Buffer


class Seen(NamedTuple):
    """What ``pipe/find`` answers."""

    at: str
    wanted: bool
    number: int
    length: int
    last: str
    open: bool

    @classmethod
    def of(cls, reply: list[Any]) -> Seen:
        """Raises ObjectExpired or VersionMismatch."""
        if reply[0] != b"VALUE":
            raise fault(reply, "pipe")
        at, wanted, number, length, last, there = reply[1:]
        return cls(at.decode(), wanted == b"1", int(number), int(length), last.decode(), there == 1)


class Reader:
    """The receiving side of one end, in this process."""

    def __init__(self, line: Line) -> None:
        self.line: Line = weakref.proxy(line)
        self.lock = threading.RLock()
        self.bell = Bell()
        #: What ``fileno`` gave away: readable if and only if ``recv`` would return.
        self.ready: Bell | None = None
        self.asked = False  # for it, since we last made way
        self.busy = 0  # threads that wait here
        self.wanted = False  # another process wants to read
        self.closed = False
        self.pull: Pull | None = None
        self.url = ""  # where it listens
        self.claims = 0  # how often we became the reader
        self.poll: select.poll | None = None  # for one thread at a time
        self.fd = -1  # readable while nng has something
        self._reset()

    def _reset(self) -> None:
        self.mine = False
        self.orphan = False
        self.eof = False
        self.more = False  # there may be more in Redis
        self.gone = 0.0  # since when nobody has the other end
        self.messages: collections.deque[Message] = collections.deque()
        self.next: dict[bytes, int] = {}
        self.early: dict[tuple[bytes, int], tuple[bytes, bool]] = {}
        self.parts: dict[bytes, tuple[bytearray, int]] = {}
        self.borrowed: dict[tuple[bytes, int], bytes] = {}  # frames that were in Redis
        self.used: dict[bytes, int] = {}
        self.used_bytes = 0
        self.refused = 0

    # -- receiving --

    def wait(self, timeout: float | None) -> bool:
        """Would a receive return, or raise EOFError, at once? Waits for it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            self.busy += 1
        heard = False
        try:
            while True:
                with self.lock:
                    self.bell.clear()
                    # While all goes its way, only the descriptors can tell anything new.
                    quiet = self.mine and not (self.more or self.gone or self.closed)
                    if self.messages or ((heard or not quiet) and self.look()):
                        return True
                    poll = self.poll if self.poll and self.busy == 1 else self._new_poll()
                left = BLOCK_LIMIT if deadline is None else deadline - time.monotonic()
                left = min(left, 0.05 if self.gone else BLOCK_LIMIT)
                heard = left > 0 and bool(poll.poll(left * 1000))
                if heard:
                    continue
                # Nothing was heard: ask, as the bell may be late, or its thread in trouble.
                with self.lock:
                    if self.ask():
                        return True
                if deadline is not None and time.monotonic() >= deadline:
                    return False
        finally:
            with self.lock:
                self.busy -= 1
                if self.wanted and not self.busy:
                    pump().wake()

    def _new_poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self.bell.fd, select.POLLIN)
        if self.mine:
            poll.register(self.fd, select.POLLIN)
        return poll

    def take(self) -> Message:
        """The next message. Raises EOFError; ObjectExpired if the pipe is gone from Redis."""
        while True:
            with self.lock:
                if self.messages:
                    return self._use(self.messages.popleft())
                if self.eof:
                    raise EOFError
            self.wait(None)

    def _use(self, message: Message) -> Message:
        self.used[message.sender] = message.number
        first = not self.used_bytes
        self.used_bytes += len(message.body) + 1
        if self.borrowed:
            for sender, number in list(self.borrowed):
                if sender == message.sender and number <= message.number:
                    del self.borrowed[sender, number]
        self.show()
        if first or self.used_bytes >= ACK_BYTES:
            pump().due(0 if self.used_bytes >= ACK_BYTES else ACK)
        return message

    def look(self) -> bool:
        """Take what has come, without asking anybody."""
        if self.closed:
            raise OSError("handle is closed")
        if not self.messages and self.claim():
            if self.more:
                self._fetch()
            self._drain()
        if self.gone and not self.messages and not self.eof:
            # What a killed process has sent comes until its connection breaks.
            late = time.monotonic() - self.gone > LINGER
            if late or not self.pull or not self.pull.open:
                self._drain()
                self.eof = not self.messages
        self.show()
        return bool(self.messages) or self.eof

    def ask(self) -> bool:
        """The same, asking Redis."""
        self.see(Seen.of(current().client.call(self.line.find_own, (b"",))))
        return self.look()

    def see(self, seen: Seen) -> None:
        """Act upon what Redis says."""
        self.wanted = seen.wanted
        if self.mine and seen.at.partition(" ")[0] != current().uid:
            self._stop()  # we stood still, and were taken for dead
        if self.mine and (seen.length or not seen.open):
            self._fetch()
        self.bell.set()

    def claim(self) -> bool:
        """Become the one who reads here, unless another process does."""
        if self.mine:
            return True
        if self.pull is None:
            host = _my_host()
            self.pull = Pull(host)
            where = f"[{host}]" if ":" in host else host
            self.url = advertised(f"tcp://{where}:{self.pull.port}")
            self.fd = self.pull.fileno()
            pump().add(self.line.itself())
        session = current()
        reply = session.client.call(self.line.read, (session.uid, self.url))
        if reply[0] == b"TAKEN":
            return False
        if reply[0] != b"OK":
            raise fault(reply, "pipe")
        counts = iter(reply[2:])
        self.next = {sender: int(number) + 1 for sender, number in zip(counts, counts, strict=True)}
        self.orphan = reply[1] == 1
        self.mine = True
        self.poll = self._new_poll()
        self.claims += 1
        self._fetch()
        return True

    def _drain(self) -> None:
        while not self.messages and self.pull:
            frames = self.pull.receive()
            if frames is None:
                break
            for frame in frames:
                self.accept(frame)

    def _fetch(self) -> None:
        """What lies in Redis: one message, since more could be lost with us."""
        found: list[bytes] = []
        try:
            while not self.gone and (self.orphan or not self.messages):
                element = self.line.get(block=False)
                self.more = element is not None
                if element is None:
                    break
                frame = bytes(self.line.unpack(element)[1])
                if self.orphan:
                    found.append(frame)
                else:
                    self.accept(frame, borrowed=True)
        except EOFError:
            self.more = False
            self.gone = time.monotonic()
        # What the last reader had in hand was lost with it. The numbers go on from the
        # lowest that is left.
        for frame in sorted(found, key=lambda one: _HEAD.unpack_from(one)[:2]):
            self.accept(frame, borrowed=True)

    def accept(self, frame: bytes, borrowed: bool = False) -> None:
        """Take a frame in, if it is what it says and its turn."""
        head, seal = frame[: _HEAD.size], frame[_HEAD.size : _HEAD.size + _MAC]
        body = memoryview(frame)[_HEAD.size + _MAC :]
        line = self.line
        if len(seal) < _MAC or not hmac.compare_digest(
            seal, _seal(line.secret, line.ref.ident, head, body)
        ):
            self.refused += 1
            return
        sender, number, kind, place, size = _HEAD.unpack(head)
        turn = self.next.get(sender, 1)
        if number < turn:
            return  # it was here before
        if number > turn and not (self.orphan and sender not in self.used):
            self.early[sender, number] = frame, borrowed
            return
        self.used.setdefault(sender, number - 1)
        self.next[sender] = number + 1
        if borrowed:
            self.borrowed[sender, number] = frame
        if place == _FIRST | _LAST:
            # Whoever gets a buffer may write to it, as he may where it came by itself.
            whole = body if kind == messages.PICKLE else bytearray(body)
            self.messages.append(Message(sender, number, kind, whole))
        else:
            if place & _FIRST:
                # What it had begun before, it did not end.
                self.parts[sender] = bytearray(size), 0
            if sender in self.parts:
                gathered, at = self.parts[sender]
                gathered[at : at + len(body)] = body
                self.parts[sender] = gathered, at + len(body)
            if place & _LAST and sender in self.parts:
                self.messages.append(Message(sender, number, kind, self.parts.pop(sender)[0]))
        if self.early and (early := self.early.pop((sender, number + 1), None)):
            self.accept(*early)

    # -- others --

    def fileno(self) -> int:
        """A descriptor that is readable if and only if ``recv`` would return, or raise."""
        with self.lock:
            self.asked = True
            if self.ready is None:
                self.ready = Bell()
            if not self.look():
                self.ask()
            pump().wake()  # it receives from now on
            return self.ready.fd

    def show(self) -> None:
        """Let the descriptor say what there is."""
        if self.ready:
            self.ready.clear()
            if self.messages or self.eof:
                self.ready.set()

    def ack(self, *, leave: bool = False) -> Step | None:
        """The call that says what was used; nothing if nothing was."""
        if not self.mine or not (self.used_bytes or leave):
            return None
        self.used_bytes = 0
        words = [word for count in self.used.items() for word in count]
        counts: bytes = msgpack.packb(words, use_bin_type=False)
        back = []
        for frame in self.borrowed.values() if leave else ():
            message, client = _raw(frame), current().client
            element = messages.inline(message)
            if element is None:
                element = messages.store(client, self.line.ref, message)
            back.append(element)
        packed: bytes = msgpack.packb(back, use_bin_type=False)
        at = f"{current().uid} {self.url}"
        return self.line.ack, (at, counts, int(leave), packed)

    def leave(self) -> None:
        """Read no longer: others may, and get what was not used."""
        with self.lock:
            self.asked = False
            if step := self.ack(leave=True):
                current().client.call(*step)
            self._stop()

    def _stop(self) -> None:
        """Forget what we have: it is, or will be, sent to somebody else."""
        if self.pull is not None:
            self.pull.close()
            self.pull, self.fd, self.poll = None, -1, None
        if not self.eof:
            self._reset()
        self.bell.set()

    def close(self) -> None:
        """No more receives here."""
        self.leave()
        self.closed = True
        self.bell.set()


class Frame(NamedTuple):
    """A frame on its way."""

    number: int
    data: bytes


class Writer:
    """The sending side of one end, in this process."""

    def __init__(self, line: Line) -> None:
        self.line: Line = weakref.proxy(line)
        self.turn = threading.RLock()  # one message at a time
        self.lock = threading.RLock()  # of what is below
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
                place = _FIRST
                left = size
                for body in _chunks(parts, FRAME):
                    left -= len(body)
                    data = self._frame(kind, place | (0 if left else _LAST), size, body)
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
            data = self._frame(kind, _FIRST | _LAST, size, body)
            if not _transmit(self.push, data):
                self.number -= 1
                return False
            self.given = self.number
            self.kept.append(Frame(self.number, data))
            self.held += len(data)
            return True

    def _frame(self, kind: int, place: int, size: int, body: Buffer) -> bytes:
        self.number += 1
        head = _HEAD.pack(self.name, self.number, kind, place, size)
        return b"".join(
            (head, _seal(self.line.secret, self.line.target.ref.ident, head, body), body)
        )

    def _find_reader(self, size: int) -> bool:
        """Wait for room; is somebody there to send to?"""
        while True:
            with self.lock:
                self.bell.clear()
                if not self.push or self.lost or self.broken or self.closed:
                    self.ask()
                if self.held < ROOM:
                    if self.at or self.kept:
                        pump().add(self.line.itself())
                        return True
                    if size <= ROOM:
                        return False
                pump().add(self.line.itself())
            _wait([self.bell.fd], BLOCK_LIMIT)
            with self.lock:
                self.ask()

    def _leave_in_redis(self, kind: int, size: int, parts: Sequence[Buffer]) -> None:
        frame = self._frame(kind, _FIRST | _LAST, size, b"".join(parts))
        try:
            self.line.put(_raw(frame))
            self.given = self.number
        except BaseException:
            self._rename()  # whether it is there, who knows: leave no gap, and say nothing twice
            raise

    def _flush(self) -> None:
        """Wait until all is on its way."""
        while True:
            with self.lock:
                self.bell.clear()
                if self.broken or self.closed:
                    self.ask()
                self.advance()
                if not self.unsent:
                    return
                fds = [self.bell.fd, *([self.push.send_fd] if self.push else [])]
                late = self.since and time.monotonic() - self.since > REACH
            if late:
                self._check_reach()
            limit = BLOCK_LIMIT if not self.since else REACH / 10
            if not _wait(fds, limit):
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
        if self.push and (self.lost or self.at != self.url):
            self._hang_up()
        if not self.unsent:
            return
        if not self.at:
            self._spill(block)
            return
        if self.push is None:
            self.push = _pynng().Push0(reconnect_time_min=20, reconnect_time_max=500)
            self.push.add_post_pipe_connect_cb(_weak(self.bell.set))
            self.push.add_post_pipe_remove_cb(_weak(self._lose))
            self.url, self.since, self.lost = self.at, time.monotonic(), False
            self.push.dial(self.url, block=False)
        while self.unsent:
            frame = self.kept[-self.unsent]
            if not _transmit(self.push, frame.data):
                break
            self.since = 0.0
            self.given = max(self.given, frame.number)
            self.unsent -= 1

    def _lose(self, pipe: Any) -> None:
        """The connection broke; called by a thread of nng's."""
        if pipe.socket is self.push:
            self.lost = True
            self.bell.set()
            if _pump:
                _pump.wake()

    def _hang_up(self) -> None:
        push, self.push = self.push, None
        if push:
            _dispose(push)
        self.url, self.since, self.lost = "", 0.0, False
        self.unsent = len(self.kept)

    def _spill(self, block: bool) -> None:
        """Nobody reads: Redis keeps it."""
        self.unsent = len(self.kept)
        while self.kept and self.line.put(_raw(self.kept[0].data), block):
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
            raise BrokenPipeError("the other end of the pipe is closed")

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
        self.bell.set()

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


class Line(End):
    """One end of such a pipe, as this process sees it."""

    users = 0
    reader: Reader
    writer: Writer

    def __init__(self, ref: Ref, room: int, secret: bytes) -> None:
        super().__init__(ref, room)
        self.single = True
        self.secret = secret
        self.find_own = ref.on("pipe/find")
        self.find_target = self.target.ref.on("pipe/find")
        self.read = ref.on("pipe/read")
        self.ack = ref.on("pipe/ack")

    def itself(self) -> Line:
        """Not a proxy."""
        return self

    @classmethod
    def pair(cls, room: int) -> tuple[Line, Line]:
        """Two ends of a new pipe, with a key of their own."""
        session = current()
        pipe, secret = session.new_id(), secrets.token_bytes(32)
        given = queueing.fields(room=room)
        first, second = (session.create(cls.family, given, f"{pipe}/{end}") for end in (0, 1))
        return cls(first, room, secret), cls(second, room, secret)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        found, args = super().__reduce__()
        return found, (*args, self.secret)

    def forget(self) -> None:
        """Hold nothing: what a new or a forked process starts with."""
        super().forget()
        if "reader" in vars(self):
            if self.reader.pull:
                self.reader.pull.close()  # our copies of its descriptors
            if self.writer.push is not None:
                # The parent's: nobody may touch it here.
                _dispose(self.writer.push, call=False)
                _inherited.append(self.writer.push)
        self.reader = Reader(self)
        self.writer = Writer(self)

    def release(self, *, soon: bool = False) -> None:
        """A connection is closed, or was collected (``soon``: nothing is sent then)."""
        self.users -= 1
        if self.users:
            return
        if soon:
            if _pump:
                _pump.retire(self)
        else:
            self.retire()

    def retire(self) -> None:
        """Nobody uses this end here any more: leave nothing behind."""
        if _pump:
            _pump.remove(self)
        try:
            self.writer.close()
        finally:
            self.reader.close()
        # It may come back: a handle that arrives yields this one.
        self.reader, self.writer = Reader(self), Writer(self)
        peer = self._live.get(Ref(self.ref.family, self.ref.peer))
        if isinstance(peer, Line):
            peer.writer.lost = True  # it is to hear of it at once


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
                    time.sleep(1)  # who needs it hears of it from his own call
                    continue
                extra = [fd for line in lines for fd in self._descriptors(line)]
                left = self.time - time.monotonic() if self.time else BLOCK_LIMIT
                del lines
                fds = [self.bell.fd, *extra, *([watcher.fileno()] if flying else [])]
                ready = _wait(fds, min(left, BLOCK_LIMIT))
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
                if own[0] == b"VALUE" and reader.claims == claims:
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
        self.session.client.calls(batch)

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
                    self.due(0.05)
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


def pump() -> Pump:
    """This session's."""
    global _pump
    session = current()
    if _pump is None or _pump.session is not session:
        with _starting:
            if _pump is None or _pump.session is not session:
                _pump = Pump(session)
    return _pump


def _weak(method: Callable[..., None]) -> Callable[[Any], None]:
    """A callback for threads of nng's. pynng's sockets are only collected as garbage.

    They must not keep what has descriptors of its own.
    """
    found = weakref.WeakMethod(method)

    def call(pipe: Any) -> None:
        if alive := found():
            alive(pipe)

    return call


def _my_host() -> str:
    """The address by which others reach us: that of our way to the server."""
    client = current().client
    if client.fileno() < 0:
        client.plain("PING")
    with socket.socket(fileno=os.dup(client.fileno())) as sock:
        if sock.family == socket.AF_UNIX:
            return "127.0.0.1"
        host = str(sock.getsockname()[0])
    return host


def advertised(url: str) -> str:
    """What is written into Redis for a socket that listens there."""
    return url


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
        return self._handle.reader.wait(timeout)

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
    _pynng()
    first, second = Line.pair(ROOM)
    return Connection(first, writable=duplex), Connection(second, readable=duplex)
