"""What an object looks like on its way: bytes in Redis, and back.

A small message is one element of a list in Redis: ``0`` and the pickle. A large
one has keys of its own, and its element says where: ``1`` or ``2``, then
``size:pieces:name``. ``2`` is a pickle with its buffers beside it (protocol 5),
which are sent from where they are and received where they stay:

    pickle's size, number of buffers, their sizes (each 8 bytes, little-endian),
    the pickle, the buffers; each begins at a multiple of ALIGN.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from typing import Any

from ._store import keys
from ._store.client import Buffer, Client
from ._store.families import Ref
from ._store.outbox import Large
from .errors import ObjectExpired
from .reduction import MessagePickler

# Larger messages do not pass through Lua's memory.
INLINE = 128 * 1024

# Smaller buffers are not worth being sent apart.
APART = 32 * 1024

# Redis refuses strings over 512 MB.
PIECE = 256 * 1024 * 1024

# What numpy and others want a buffer's start to be a multiple of.
ALIGN = 64

# The rest cannot hold a class of ours, an array or a handle.
_PLAIN = frozenset({bytes, str, int, float, bool, type(None)})


def dumps(obj: object) -> list[Buffer]:
    """The pickle, and behind it the buffers that are sent apart."""
    if type(obj) in _PLAIN:
        return [pickle.dumps(obj, 5)]
    buffers: list[Buffer] = []

    def apart(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < APART:
            return True
        buffers.append(view)
        return False

    return [MessagePickler.dumps(obj, apart), *buffers]


def pack(ref: Ref, parts: Sequence[Buffer]) -> tuple[bytes, Large | None]:
    """The element that stands for a message in an object's list, and what is stored apart."""
    body = parts[0]
    if len(parts) == 1 and len(body) <= INLINE:
        return b"".join((b"0", body)), None
    kind = 49  # "1"
    if len(parts) > 1:
        kind, parts = 50, _frame(parts)
    size = sum(map(len, parts))
    name = keys.new_id()
    pieces = _cut(parts)
    element = b"%c%d:%d:%b" % (kind, size, len(pieces), name.encode())
    names = [keys.blob(ref.ident, name, number) for number in range(len(pieces))]
    return element, Large(list(zip(names, pieces, strict=True)))


def unpack(client: Client, ref: Ref, element: bytes) -> tuple[int, Buffer]:
    """A message's kind (48, 49 or 50: its first byte) and its bytes.

    Raises ObjectExpired if they are gone.
    """
    kind = element[0]
    if kind == 48:
        return kind, memoryview(element)[1:]
    size, pieces, name = element[1:].split(b":")
    body = bytearray(int(size))
    view = memoryview(body)
    for number in range(int(pieces)):
        piece = view[number * PIECE : (number + 1) * PIECE]
        if not client.fetch(keys.blob(ref.ident, name.decode(), number), piece):
            raise ObjectExpired(
                f"a message of {int(size)} bytes is gone from Redis: it was evicted, or expired "
                "while nobody used its queue or pipe"
            )
    return kind, body


def loads(kind: int, body: Buffer) -> Any:
    """The object."""
    if kind != 50:
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


def peek(element: bytes) -> Any:
    """The object of a small message; None for a large one, which is not here."""
    return pickle.loads(memoryview(element)[1:]) if element[0] == 48 else None


def plain(kind: int, body: Buffer) -> Buffer:
    """A message as ``recv_bytes`` has it: with the buffers in the pickle."""
    return pickle.dumps(loads(kind, body), 5) if kind == 50 else body


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
