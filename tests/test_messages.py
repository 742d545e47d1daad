"""Objects as elements of a list and keys beside it, and back, on a real server."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from support import fixtures
from support.servers import Server

from lithops_mp import messages
from lithops_mp._store import keys
from lithops_mp._store.client import Client
from lithops_mp._store.families import Ref
from lithops_mp.errors import ObjectExpired
from lithops_mp.messages import Message

REF = Ref("queue", "Q")
INLINE, APART, PIECE = 100, 40, 64

server = fixtures.server()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client; messages are split at sizes at which that is quickly tried."""
    monkeypatch.setattr(messages, "INLINE", INLINE)
    monkeypatch.setattr(messages, "APART", APART)
    monkeypatch.setattr(messages, "PIECE", PIECE)
    server.command("FLUSHALL")
    found = Client(server.settings, "A.0")
    yield found
    found.close()


class Array:
    """Something whose bytes are sent from where they are, like numpy's."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: int) -> Any:
        return Array, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and bytes(self.data) == bytes(other.data)


def store(client: Client, message: Message) -> bytes:
    """Send a message; its element."""
    return messages.inline(message) or messages.store(client, REF, message)


def through(client: Client, obj: Any) -> tuple[bytes, Any]:
    """An object's element, and the object that it becomes."""
    element = store(client, messages.dumps(obj))
    return element, messages.loads(*messages.unpack(client, REF, element))


def joined(message: Message) -> bytes:
    return b"".join(bytes(memoryview(part).cast("B")) for part in message.parts)


def some(size: int) -> bytes:
    """Bytes of which no two pieces are the same."""
    return b"".join(b"%08d" % number for number in range(size // 8 + 1))[:size]


@pytest.mark.parametrize("obj", [None, 1, "text", b"", b"bytes", [1, {"a": (2,)}], Array(b"short")])
def test_a_small_message_is_its_element(client, obj):
    element, back = through(client, obj)
    assert element[:1] == b"0"
    assert back == obj
    assert client.plain("DBSIZE") == 0


def text(data: bytes) -> str:
    return data.decode()


# What is sent as it is, if it is large; a pickle is some bytes longer than that.
RAW = {bytes: messages.BYTES, bytearray: messages.BYTEARRAY}


# Around where one more piece begins.
@pytest.mark.parametrize("size", [*range(INLINE - 20, INLINE + 2), *range(2 * PIECE - 20, 200)])
@pytest.mark.parametrize("make", [text, bytes, bytearray])
def test_a_large_one_has_keys_of_its_own(client, make, size):
    obj = make(some(size))
    whole = joined(messages.dumps(obj))
    element, back = through(client, obj)
    assert type(back) is type(obj)
    assert back == obj
    if make in RAW and size > INLINE:
        kind = RAW[make]
        assert whole == some(size)
    else:
        kind = messages.PICKLE
        assert pickle.loads(whole) == obj
    if len(whole) <= INLINE:
        assert element == b"0" + whole
        assert client.plain("DBSIZE") == 0
        return
    length, pieces, name = element[1:].split(b":")
    assert (element[0], int(length), int(pieces)) == (kind, len(whole), -(-len(whole) // PIECE))
    stored = [keys.blob(REF.ident, name.decode(), number) for number in range(int(pieces))]
    assert b"".join(client.plain("GET", key) for key in stored) == whole
    for number, key in enumerate(stored):
        assert client.plain("STRLEN", key) == min(PIECE, len(whole) - number * PIECE)
        assert client.plain("PTTL", key) > 0
    assert client.plain("DBSIZE") == int(pieces)


class Named(bytes):
    """Bytes that are more than that."""


def test_large_bytes_of_another_class_keep_it(client):
    element, back = through(client, Named(some(300)))
    assert element[0] == messages.PICKLE
    assert type(back) is Named
    assert back == some(300)


@pytest.mark.parametrize("make", [bytearray, lambda data: Array(bytearray(data))])
def test_what_was_stored_does_not_change_with_what_was_sent(client, make):
    obj = make(some(300))
    element = store(client, messages.dumps(obj))
    getattr(obj, "data", obj)[:8] = b"changed!"
    assert messages.loads(*messages.unpack(client, REF, element)) == make(some(300))


@pytest.mark.parametrize("sizes", [[APART], [41, 64, 65], [200, APART, 1000], [128] * 5])
def test_buffers_are_sent_beside_the_pickle(client, sizes):
    obj = {"arrays": [Array(bytearray(some(size))) for size in sizes], "rest": "x" * 10}
    message = messages.dumps(obj)
    # With a gap behind each: what tells them apart, the pickle, the buffers.
    assert [memoryview(part).nbytes for part in message.parts[4::2]] == sizes
    element, back = through(client, obj)
    assert element[0] == message.kind == messages.FRAME
    assert back == obj
    back["arrays"][0].data[:1] = b"!"  # they can be written to, as what was sent


def test_buffers_that_are_too_small_are_in_the_pickle(client):
    obj = [Array(bytearray(some(APART - 1))) for _ in range(5)]
    element, back = through(client, obj)
    assert element[0] == messages.PICKLE
    assert back == obj


@pytest.mark.parametrize("sizes", [[APART], [41, 64, 65], [200, APART, 1000]])
def test_each_buffer_begins_where_arrays_may_begin(client, sizes):
    arrays = [some(size) for size in sizes]
    element = store(client, messages.dumps([Array(data) for data in arrays]))
    _, body = messages.unpack(client, REF, element)
    for data in arrays:
        assert bytes(body).index(data) % messages.ALIGN == 0


def test_memory_of_other_items_than_bytes_is_sent_whole(client):
    data = memoryview(some(400)).cast("Q")
    _, back = through(client, Array(data))
    assert bytes(back.data) == bytes(data)


@pytest.mark.parametrize("make", [bytearray, Array])
def test_nothing_is_copied_into_pieces(client, monkeypatch, make):
    sent = []
    monkeypatch.setattr(client, "store", lambda key, parts, ttl: sent.extend(parts))
    data = bytearray(some(500))
    obj = data if make is bytearray else make(data)
    store(client, messages.dumps(obj))
    views = [part for part in sent if isinstance(part, memoryview)]
    assert sum(view.nbytes for view in views if view.obj is data) == len(data)


def test_bytes_are_received_as_they_were_sent(client):
    """``send_bytes``: no pickle, inline or in pieces; and of an object, its pickle."""
    for size in (0, 1, INLINE, INLINE + 1, 1000):
        element = store(client, Message(messages.PICKLE, [memoryview(some(size))]))
        assert bytes(messages.plain(*messages.unpack(client, REF, element))) == some(size)
    for obj in ([1], some(300), bytearray(some(300)), Array(some(300))):
        element = store(client, messages.dumps(obj))
        back = pickle.loads(messages.plain(*messages.unpack(client, REF, element)))
        assert type(back) is type(obj)
        assert back == obj


def test_a_message_that_is_gone_is_said_to_be(client):
    element = store(client, messages.dumps(some(300)))
    *_, name = element.split(b":")
    client.plain("DEL", keys.blob(REF.ident, name.decode(), 1))
    with pytest.raises(ObjectExpired, match="is gone from Redis"):
        messages.unpack(client, REF, element)
    client.plain("PING")
