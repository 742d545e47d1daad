"""The receiving side."""

from __future__ import annotations

import collections
import hmac
import os
import select
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import msgpack

from .. import messages
from .._store.client import BLOCK_LIMIT, Client
from .._store.families import Step
from .._store.replies import fault
from .._store.session import current
from ..connection import ROOM
from .frames import FIRST, HEAD, LAST, MAC, Message, Seen, raw, seal
from .pump import GONE, LINGER, pump
from .sockets import Bell, Pull

if TYPE_CHECKING:
    from .line import Line

# A sender hears of used messages after so many seconds, or so many bytes.
ACK = 0.5
ACK_BYTES = ROOM // 4


def my_host() -> str:
    """The address by which others reach us: that of our way to the server."""
    client = current().client
    if client.fileno() < 0:
        client.plain("PING")
    with socket.socket(fileno=os.dup(client.fileno())) as sock:
        if sock.family == socket.AF_UNIX:
            return "127.0.0.1"
        host = str(sock.getsockname()[0])
    return host


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
        self.fd = -1  # readable while ``pull`` has something
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
                left = min(left, GONE if self.gone else BLOCK_LIMIT)
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

    def _ask(self, client: Client, seq: bytes, uid: str) -> list[Any]:
        return client.call(self.line.read, (uid, self.url, client.id, seq))

    def claim(self) -> bool:
        """Become the one who reads here, unless another process does."""
        if self.mine:
            return True
        if self.pull is None:
            host = my_host()
            self.pull = Pull(host)
            where = f"[{host}]" if ":" in host else host
            self.url = f"tcp://{where}:{self.pull.port}"
            self.fd = self.pull.fileno()
            pump().add(self.line.itself())
        session = current()
        reply = session.client.numbered(self._ask, session.uid)
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
        for frame in sorted(found, key=lambda one: HEAD.unpack_from(one)[:2]):
            self.accept(frame, borrowed=True)

    def accept(self, frame: bytes, borrowed: bool = False) -> None:
        """Take a frame in, if it is what it says and its turn."""
        head, mac = frame[: HEAD.size], frame[HEAD.size : HEAD.size + MAC]
        body = memoryview(frame)[HEAD.size + MAC :]
        line = self.line
        if not hmac.compare_digest(mac, seal(line.secret, line.ref.ident, head, body)):
            return
        sender, number, kind, place, size = HEAD.unpack(head)
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
        if place == FIRST | LAST:
            # Whoever receives a buffer may write to it, as with one that came by itself.
            whole = body if kind == messages.PICKLE else bytearray(body)
            self.messages.append(Message(sender, number, kind, whole))
        else:
            if place & FIRST:
                # What it had begun before, it did not end.
                self.parts[sender] = bytearray(size), 0
            if sender in self.parts:
                gathered, at = self.parts[sender]
                gathered[at : at + len(body)] = body
                self.parts[sender] = gathered, at + len(body)
            if place & LAST and sender in self.parts:
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
            message, client = raw(frame), current().client
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
