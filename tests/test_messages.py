"""Objects as elements of a list and keys beside it, and back, on a real server."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from support.servers import Server, running

from lithops_mp import messages
from lithops_mp._store import keys
from lithops_mp._store.client import Client
from lithops_mp._store.families import Ref
from lithops_mp.errors import ObjectExpired

REF = Ref("queue", "Q")
INLINE, APART, PIECE = 100, 40, 64


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as found:
        yield found


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


def store(client: Client, parts: list[Any]) -> bytes:
    """Send a message; its element."""
    element, large = messages.pack(REF, parts)
    for name, piece in large.pieces if large else ():
        client.store(name, piece, 60000)
    return element


def through(client: Client, obj: Any) -> tuple[bytes, Any]:
    """An object's element, and the object that it becomes."""
    element = store(client, messages.dumps(obj))
    return element, messages.loads(*messages.unpack(client, REF, element))


def some(size: int) -> bytes:
    """Bytes of which no two pieces are the same."""
    return b"".join(b"%08d" % number for number in range(size // 8 + 1))[:size]


@pytest.mark.parametrize("obj", [None, 1, "text", b"", b"bytes", [1, {"a": (2,)}], Array(b"short")])
def test_a_small_message_is_its_element(client, obj):
    element, back = through(client, obj)
    assert element[:1] == b"0"
    assert back == obj
    assert client.plain("DBSIZE") == 0


# Around where one more piece begins: a pickle of bytes is some bytes longer than they are.
@pytest.mark.parametrize("size", [*range(INLINE - 20, INLINE + 2), *range(2 * PIECE - 20, 200)])
def test_a_large_one_has_keys_of_its_own(client, size):
    obj = some(size)
    pickled = len(messages.dumps(obj)[0])
    element, back = through(client, obj)
    assert back == obj
    if pickled <= INLINE:
        assert element[:1] == b"0"
        return
    length, pieces, name = element[1:].split(b":")
    assert (element[:1], int(length), int(pieces)) == (b"1", pickled, -(-pickled // PIECE))
    for number in range(int(pieces)):
        key = keys.blob(REF.ident, name.decode(), number)
        assert client.plain("STRLEN", key) == min(PIECE, pickled - number * PIECE)
        assert client.plain("PTTL", key) > 0


@pytest.mark.parametrize("sizes", [[APART], [41, 64, 65], [200, APART, 1000], [128] * 5])
def test_buffers_are_sent_beside_the_pickle(client, sizes):
    obj = {"arrays": [Array(bytearray(some(size))) for size in sizes], "rest": "x" * 10}
    parts = messages.dumps(obj)
    assert [memoryview(part).nbytes for part in parts[1:]] == sizes
    element, back = through(client, obj)
    assert element[:1] == b"2"
    assert back == obj
    back["arrays"][0].data[:1] = b"!"  # they can be written to, as what was sent


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


def test_nothing_is_copied_into_pieces(client):
    data = bytearray(some(500))
    _, large = messages.pack(REF, messages.dumps(Array(data)))
    assert large
    views = [part for _, piece in large.pieces for part in piece]
    assert any(view.obj is data for view in views if isinstance(view, memoryview))


def test_bytes_are_received_as_they_were_sent(client):
    """``send_bytes``: no pickle, inline or in pieces; and of an object, its pickle."""
    for size in (0, 1, INLINE, INLINE + 1, 1000):
        element = store(client, [memoryview(some(size))])
        assert bytes(messages.plain(*messages.unpack(client, REF, element))) == some(size)
    element = store(client, messages.dumps(Array(some(300))))
    plain = messages.plain(*messages.unpack(client, REF, element))
    assert pickle.loads(plain) == Array(some(300))


def test_a_message_that_is_gone_is_said_to_be(client):
    element = store(client, messages.dumps(some(300)))
    *_, name = element.split(b":")
    client.plain("DEL", keys.blob(REF.ident, name.decode(), 1))
    with pytest.raises(ObjectExpired, match="is gone from Redis"):
        messages.unpack(client, REF, element)
    client.plain("PING")


def test_a_refused_message_can_be_looked_at_if_it_is_small(client):
    assert messages.peek(store(client, messages.dumps([1]))) == [1]
    assert messages.peek(store(client, messages.dumps(some(300)))) is None
