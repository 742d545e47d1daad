"""What an object looks like on its way: bytes in Redis, and back.

A small message is one element of a list in Redis: ``0`` and the pickle. A large
one has keys of its own, and its element says where: how it is encoded, then
``size:pieces:name``. ``1`` is a pickle, ``3`` and ``4`` are bytes and a bytearray
as they are, and ``2`` is a pickle with its buffers beside it (protocol 5). Buffers
are sent from where they are and received where they stay:

    pickle's size, number of buffers, their sizes (each 8 bytes, little-endian),
    the pickle, the buffers; each begins at a multiple of ALIGN.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from ._store import keys
from ._store.client import Buffer, Client
from ._store.families import Ref
from .errors import ObjectExpired
from .reduction import MessagePickler

# Larger messages do not pass through Lua's memory.
INLINE = 128 * 1024

# Smaller buffers are not worth being sent apart.
APART = 32 * 1024

# Redis refuses strings over 512 MB.
PIECE = 256 * 1024 * 1024

# Milliseconds that the bytes of a large message live before it is put: as long as that its
# process may stand still in between. The put makes them live as long as the object.
STORED_MS = 300_000

# What numpy and others want a buffer's start to be a multiple of.
ALIGN = 64

# The rest cannot hold a class of ours, an array or a handle.
_PLAIN = frozenset({bytes, str, int, float, bool, type(None)})

# How a message is encoded: the first byte of its element.
SMALL, PICKLE, FRAME, BYTES, BYTEARRAY = b"01234"


# These are sent as they are, if large.
_RAW: dict[type, int] = {bytes: BYTES, bytearray: BYTEARRAY}


class Message(NamedTuple):
    """An object ready to be sent: how it is encoded, and its bytes, which are not joined."""

    kind: int
    parts: Sequence[Buffer]

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(memoryview(part).nbytes for part in self.parts)


def dumps(obj: object) -> Message:
    """Encode an object."""
    kind = type(obj)
    if kind in _RAW and len(obj) > INLINE:  # type: ignore[arg-type]
        return Message(_RAW[kind], [obj])  # type: ignore[list-item]
    if kind in _PLAIN:
        return Message(PICKLE, [pickle.dumps(obj, 5)])
    buffers: list[Buffer] = []

    def apart(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < APART:
            return True
        buffers.append(view)
        return False

    pickled = MessagePickler.dumps(obj, apart)
    if not buffers:
        return Message(PICKLE, [pickled])
    return Message(FRAME, _frame([pickled, *buffers]))


def inline(message: Message) -> bytes | None:
    """The element of a small message; None if it is a large one."""
    if len(message.parts) == 1 and len(message.parts[0]) <= INLINE:
        return b"".join((b"0", message.parts[0]))
    return None


def store(client: Client, ref: Ref, message: Message, name: str = "") -> bytes:
    """Store a large message, here and now, so its buffers may change; its element."""
    name = name or keys.new_id()
    pieces = _cut(message.parts)
    for number, piece in enumerate(pieces):
        client.store(keys.blob(ref.ident, name, number), piece, STORED_MS)
    return b"%c%d:%d:%b" % (message.kind, message.size, len(pieces), name.encode())


def unpack(client: Client, ref: Ref, element: bytes) -> tuple[int, Buffer]:
    """How a message is encoded, and its bytes.

    Raises ObjectExpired if they are gone.
    """
    kind = element[0]
    if kind == SMALL:
        return kind, memoryview(element)[1:]
    size, pieces, name = element[1:].split(b":")
    body = bytearray(int(size))
    view = memoryview(body)
    for number in range(int(pieces)):
        piece = view[number * PIECE : (number + 1) * PIECE]
        if not client.fetch(keys.blob(ref.ident, name.decode(), number), piece):
            raise ObjectExpired(
                f"a message of {int(size)} bytes is gone from Redis: it was evicted, or nobody "
                "used what it belongs to for REDIS_EXPIRY_TIME seconds, or whoever sent it stood "
                "still for minutes in the middle of it"
            )
    return kind, body


def loads(kind: int, body: Buffer) -> Any:
    """The object."""
    if kind == BYTEARRAY:
        return body
    if kind == BYTES:
        return bytes(body)
    if kind != FRAME:
        return pickle.loads(body)
    view = memoryview(body)
    size, count = struct.unpack_from("<QQ", view)
    sizes = struct.unpack_from(f"<{count}Q", view, 16)
    at = _aligned(16 + 8 * count)
    pickled = view[at : at + size]
    at += size
    buffers = []
    for size in sizes:
        at = _aligned(at)
        buffers.append(view[at : at + size])
        at += size
    return pickle.loads(pickled, buffers=buffers)


def plain(kind: int, body: Buffer) -> Buffer:
    """A message as ``recv_bytes`` has it: all of it in the pickle."""
    return body if kind in (SMALL, PICKLE) else pickle.dumps(loads(kind, body), 5)


def _aligned(position: int) -> int:
    return -(-position // ALIGN) * ALIGN


def _frame(parts: Sequence[Buffer]) -> list[Buffer]:
    """A pickle and its buffers, with what tells them apart and the gaps between."""
    sizes = [memoryview(part).nbytes for part in parts]
    head = struct.pack(f"<{len(sizes) + 1}Q", sizes[0], len(sizes) - 1, *sizes[1:])
    framed: list[Buffer] = []
    for part in (head, *parts):
        view = memoryview(part).cast("B")
        framed += [view, bytes(_aligned(view.nbytes) - view.nbytes)]
    return framed


def _cut(parts: Sequence[Buffer]) -> list[list[Buffer]]:
    """The same bytes in pieces of PIECE, without copying."""
    pieces: list[list[Buffer]] = [[]]
    room = PIECE
    for part in parts:
        view = memoryview(part).cast("B")
        while view:
            if not room:
                pieces.append([])
                room = PIECE
            pieces[-1].append(view[:room])
            taken = min(room, view.nbytes)
            view, room = view[taken:], room - taken
    return pieces
