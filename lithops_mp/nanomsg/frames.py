"""Frames: what messages are cut into. And what Redis says of where they are to go."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .. import messages
from .._store.client import Buffer
from .._store.replies import fault

# Bytes of a message in a frame. A whole frame is held in memory before it can be judged,
# and no larger ones are taken from anybody.
FRAME = 1024 * 1024

# Sender, number, kind of the message, first (1) and last (2) frame, size of the message.
HEAD = struct.Struct("<16sQBBQ")
MAC = 16
LARGEST = HEAD.size + MAC + FRAME
FIRST, LAST = 1, 2


def seal(secret: bytes, end: str, head: bytes, body: Buffer) -> bytes:
    """The keyed hash of a frame to an end of a pipe."""
    digest = hashlib.blake2b(head, key=secret, digest_size=MAC, person=end[-2:].encode())
    digest.update(body)
    return digest.digest()


def chunks(parts: Sequence[Buffer], size: int) -> Iterator[bytes]:
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


def raw(frame: bytes) -> messages.Message:
    """A frame as a message of its own: how it lies in Redis."""
    return messages.Message(messages.PICKLE, [frame])


class Frame(NamedTuple):
    """A frame on its way."""

    number: int
    data: bytes


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
