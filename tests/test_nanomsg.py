"""Pipes over TCP: every property of a connection, and what others on the network can do."""

from __future__ import annotations

import array
import contextlib
import hashlib
import hmac
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from support import fixtures
from support.programs import Log, meanwhile, start
from support.servers import PATIENCE, eventually

import lithops_mp as mp
from lithops_mp import config, connection
from lithops_mp._store import session
from lithops_mp._store.client import Client
from lithops_mp.errors import ServerUnavailable

pynng = pytest.importorskip("pynng")

from lithops_mp import nanomsg  # noqa: E402

server = fixtures.server()
evidence = fixtures.evidence(autouse=True, PIPE_CONNECTION_TYPE="nanomsg")


@pytest.fixture
def pipe() -> Iterator[Callable[..., tuple[Any, Any]]]:
    """Makes pipes that are closed at the end."""
    made: list[Any] = []

    def make(duplex: bool = True) -> tuple[Any, Any]:
        made.extend(ends := mp.Pipe(duplex))
        return ends  # type: ignore[return-value]

    yield make
    for end in made:
        end.close()


def direct(a: Any, b: Any) -> None:
    """Have both directions go by TCP from now on."""
    for one, other in ((a, b), (b, a)):
        if one.writable and other.readable:
            assert not other.poll()
            one.send_bytes(b"first")
            assert other.recv_bytes() == b"first"
            assert one._handle.writer.push is not None


def echo(log: Log, connection: Any) -> None:
    while True:
        try:
            got = connection.recv()
        except EOFError:
            return
        connection.send(got)


# -- what every connection does --


def test_objects_and_bytes_in_both_directions(pipe):
    a, b = pipe()
    direct(a, b)
    for one, other in ((a, b), (b, a)):
        one.send({"an": ["object", 1.5, None]})
        one.send_bytes(b"some bytes")
        one.send_bytes(b"")
        one.send_bytes(array.array("i", [1, 2, 3]), 4, 8)
        assert other.recv() == {"an": ["object", 1.5, None]}
        assert other.recv_bytes() == b"some bytes"
        assert other.recv_bytes() == b""
        assert other.recv_bytes() == array.array("i", [2, 3]).tobytes()


def test_what_is_sent_before_anybody_reads_comes_first(pipe):
    a, b = pipe()
    for number in range(5):
        a.send(number)
    assert b.recv() == 0
    for number in range(5, 10):
        a.send(number)
    assert a._handle.writer.push is not None
    assert [b.recv() for _ in range(9)] == list(range(1, 10))


def test_receiving_into_a_buffer_and_with_a_limit(pipe):
    a, b = pipe()
    direct(a, b)
    buffer = bytearray(8)
    a.send_bytes(b"12345")
    assert b.recv_bytes_into(buffer, 2) == 5
    assert buffer == b"\0\x0012345\0"
    a.send_bytes(b"123456789")
    with pytest.raises(mp.BufferTooShort) as caught:
        b.recv_bytes_into(buffer)
    assert caught.value.args == (b"123456789",)
    a.send_bytes(b"123")
    with pytest.raises(OSError, match="bad message length"):
        b.recv_bytes(2)


def test_one_way(pipe):
    r, w = pipe(False)
    assert (r.readable, r.writable, w.readable, w.writable) == (True, False, False, True)
    with pytest.raises(OSError, match="read-only"):
        r.send(1)
    with pytest.raises(OSError, match="write-only"):
        w.recv()
    with pytest.raises(OSError, match="write-only"):
        w.poll()
    direct(w, r)


def test_a_closed_connection_is_closed(pipe):
    a, _ = pipe()
    assert not a.closed
    a.close()
    a.close()
    assert a.closed
    for method in (a.recv, a.poll, a.fileno, a.recv_bytes):
        with pytest.raises(OSError, match="closed"):
            method()


def test_poll(pipe):
    a, b = pipe()
    assert b.poll() is False
    assert b.poll(0.01) is False
    a.send(1)
    assert b.poll(PATIENCE) is True
    assert b.poll(None) is True
    assert b.recv() == 1
    with meanwhile(lambda: a.send(2)):
        assert b.poll(None) is True
    assert b.recv() == 2
    a.close()
    assert b.poll() is True
    with pytest.raises(EOFError):
        b.recv()
    with pytest.raises(EOFError):
        b.recv()


def test_both_ends_that_are_closed(pipe):
    a, b = pipe()
    direct(a, b)
    a.send("last words")
    a.close()
    assert b.recv() == "last words"
    with pytest.raises(EOFError):
        b.recv_bytes()
    with pytest.raises(BrokenPipeError):
        b.send(1)


def test_a_reader_that_closed(pipe):
    a, b = pipe()
    direct(a, b)
    b.close()
    with pytest.raises(BrokenPipeError):
        a.send(1)


def test_a_connection_that_is_only_dropped(pipe):
    a, b = mp.Pipe()
    direct(a, b)
    a.send("last words")
    del a
    assert b.recv() == "last words"
    with pytest.raises(EOFError):
        b.recv()
    b.close()


@pytest.mark.parametrize(
    "size", [nanomsg.frames.FRAME - 1, nanomsg.frames.FRAME, nanomsg.frames.FRAME + 1, 100_000_000]
)
def test_messages_of_any_size(pipe, log, size):
    a, b = pipe()
    child = start(log, echo, b)
    data = os.urandom(1000) * (size // 1000) + bytes(size % 1000)
    a.send(data)
    got = a.recv()
    assert hashlib.sha1(got).digest() == hashlib.sha1(data).digest()
    a.send(bytearray(data))  # protocol 5: apart from its pickle
    assert a.recv() == data
    child.kill()
    child.join()


def test_arrays_are_sent_from_where_they_are(pipe):
    import numpy

    a, b = pipe()
    direct(a, b)
    sent = numpy.arange(1_000_000).reshape(1000, 1000)
    with meanwhile(lambda: a.send([sent, sent[:10]])):
        got, small = b.recv()
    assert (got == sent).all()
    assert (small == sent[:10]).all()


# -- other processes --


def test_last_words_of_a_process_that_was_joined(pipe, log):
    """As in CPython, where the system keeps them."""
    a, b = pipe()
    child = start(log, lambda log, b: b.send("done"), b)
    assert child.join() == 0
    assert a.poll()
    assert a.recv() == "done"


def test_an_end_passed_on_and_on(pipe, log):
    def child(log: Log, connection: Any) -> None:
        connection.send("child")
        log("child", connection.recv())
        grandchild = mp.Process(target=echo, args=(log, connection))
        grandchild.start()
        grandchild.join()

    a, b = pipe()
    process = start(log, child, b)
    b.close()
    assert a.recv() == "child"
    a.send("for the child")
    log.wait("child", "for the child")
    for number in range(20):
        a.send(number)
        assert a.recv() == number
    a.close()
    assert process.join() == 0


def test_an_end_sent_through_another_pipe(pipe):
    a, b = pipe()
    c, d = pipe()
    direct(a, b)
    a.send(d)
    with contextlib.closing(b.recv()) as again:
        c.send("through it")
        assert again.recv() == "through it"


def test_the_reader_changes_and_nothing_is_lost(pipe, log):
    """One that read before makes way, with what it had and did not use."""

    def reader(log: Log, connection: Any, turn: Any) -> None:
        for _ in range(5):
            with turn:
                log("got", connection.recv())

    a, b = pipe()
    turn = mp.Lock()
    children = [start(log, reader, b, turn) for _ in range(2)]
    for number in range(15):
        a.send(number)
    assert [child.join() for child in children] == [0, 0]
    assert sorted(line[1] for line in log.lines() if line[0] == "got") == list(range(10))
    assert [b.recv() for _ in range(5)] == list(range(10, 15))


def test_many_writers(pipe, log):
    def writer(log: Log, connection: Any, name: str) -> None:
        for number in range(50):
            connection.send((name, number))

    r, w = pipe(False)
    children = [start(log, writer, w, name) for name in "xyz"]
    got = [r.recv() for _ in range(150)]
    for name in "xyz":
        assert [number for who, number in got if who == name] == list(range(50))
    for child in children:
        child.join()


def test_a_fork(pipe):
    """The sockets of the parent are left alone; the child has its own."""
    a, b = pipe()
    direct(a, b)
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        code = 1
        with contextlib.suppress(BaseException):
            a.send("from the fork")
            assert b.recv() == "for the fork"
            second = os.fork()
            if not second:
                with contextlib.suppress(BaseException):
                    a.send("from its child")
                    a.close()
                    session.current().end()
                    os._exit(0)
                os._exit(1)
            assert os.waitpid(second, 0)[1] == 0
            a.close()
            b.close()
            session.current().end()
            code = 0
        os._exit(code)
    assert b.recv() == "from the fork"
    a.send("for the fork")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b.recv() == "from its child"
    direct(a, b)


def test_the_peer_is_killed_while_we_receive(pipe, log):
    def child(log: Log, connection: Any) -> None:
        connection.send("alive")
        signal.pause()

    a, b = pipe()
    process = start(log, child, b)
    b.close()
    assert a.recv() == "alive"
    with meanwhile(process.kill), pytest.raises(EOFError):
        a.recv()


def test_the_peer_is_killed_while_we_send(pipe, log):
    def child(log: Log, connection: Any) -> None:
        connection.recv()
        log("reading")
        signal.pause()

    a, b = pipe()
    process = start(log, child, b)
    b.close()
    a.send("first")
    log.wait("reading")

    def send() -> None:
        while True:
            a.send_bytes(bytes(1_000_000))

    with meanwhile(process.kill), pytest.raises(BrokenPipeError):
        send()


def test_what_arrives_of_a_killed_process_is_its_first_messages_in_order(pipe, log):
    """What it kept is lost: the last ones, but none of those that were used."""

    def child(log: Log, connection: Any) -> None:
        connection.recv()
        for number in range(1000):
            connection.send(number)
            if number == 99:
                eventually(lambda: not connection._handle.writer.kept, "that all was used")
        os.kill(os.getpid(), signal.SIGKILL)

    a, b = pipe()
    start(log, child, b)
    b.close()
    assert not a.poll()  # it reads
    a.send("go")
    got = []
    with contextlib.suppress(EOFError):
        while True:
            got.append(a.recv())
    assert len(got) >= 100
    assert got == list(range(len(got)))


def test_a_sender_waits_for_a_reader_that_does_not_read(pipe):
    a, b = pipe()
    direct(a, b)
    sent = []

    def send() -> None:
        for number in range(64):
            a.send_bytes(number.to_bytes(1, "big") * 1_000_000)
            sent.append(number)

    with meanwhile(send):
        writer = a._handle.writer
        eventually(lambda: writer.held >= connection.ROOM or writer.unsent, "a sender that waits")
        assert len(sent) < 64
        for number in range(64):
            assert b.recv_bytes()[:1] == number.to_bytes(1, "big")
    assert len(sent) == 64


@contextlib.contextmanager
def no_timers() -> Iterator[None]:
    """Nothing happens only because time has passed, in this process."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(nanomsg.reader, "ACK", 600.0))
        stack.enter_context(mock.patch.object(nanomsg.writer, "REACH", 6000.0))
        for module in (nanomsg.reader, nanomsg.writer, nanomsg.pump):
            stack.enter_context(mock.patch.object(module, "BLOCK_LIMIT", 600.0))
        yield


def asked(writer: Any, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows with every round trip in which it asks for its reader."""
    found: list[None] = []
    ask = writer.ask
    monkeypatch.setattr(writer, "ask", lambda: found.append(None) or ask())
    return found


@pytest.mark.parametrize("size", [10_000, nanomsg.frames.FRAME, 5_000_000])
def test_a_sender_without_room_hears_of_every_acknowledgement(pipe, log, monkeypatch, size):
    def child(log: Log, connection: Any, count: int) -> None:
        with no_timers():
            log("reading", connection.poll())
            for _ in range(count):
                connection.recv_bytes()

    a, b = pipe()
    total = 4 * connection.ROOM
    with no_timers():
        process = start(log, child, b, total // size)
        log.wait("reading")
        asks = asked(a._handle.writer, monkeypatch)
        for _ in range(total // size):
            a.send_bytes(bytes(size))
        assert process.join() == 0
    # Once before it waits and once when it hears, and some at the beginning.
    assert len(asks) <= 2 * total // nanomsg.reader.ACK_BYTES + 10


def test_a_sender_that_waits_for_a_reader_does_not_ask_all_the_time(pipe, server, monkeypatch):
    a, b = pipe()
    asks = asked(a._handle.writer, monkeypatch)
    with no_timers(), meanwhile(lambda: a.send_bytes(bytes(connection.ROOM + 1))):
        eventually(lambda: asks, "a sender that waits")
        for _ in range(300):
            server.command("PING")
        assert len(asks) < 10
        assert len(b.recv_bytes()) == connection.ROOM + 1


def test_a_connection_that_breaks_while_its_sender_waits_for_room(pipe, relay, monkeypatch):
    """Nobody else can send again what was lost."""
    monkeypatch.setattr(nanomsg.writer, "ROOM", 100_000)
    a, b = pipe(False)
    direct(b, a)
    relay.held.clear()
    with meanwhile(lambda: [b.send_bytes(bytes([number]) * 10_000) for number in range(20)]):
        eventually(lambda: b._handle.writer.held >= 100_000, "a sender that waits")
        relay.cut()
        relay.held.set()
        assert [a.recv_bytes()[0] for _ in range(20)] == list(range(20))


@pytest.mark.parametrize("size", [10_000, 30_000_000], ids=["for room", "for the network"])
def test_another_process_reads_while_the_sender_waits(pipe, log, monkeypatch, size):
    """Nobody else can send it what the last one had not used."""

    def child(log: Log, connection: Any) -> None:
        connection.recv()
        log("reading")
        signal.pause()

    monkeypatch.setattr(nanomsg.writer, "ROOM", 5 * size)
    monkeypatch.setattr(nanomsg.reader, "ACK_BYTES", size)
    a, b = pipe()
    a.send("first")
    process = start(log, child, b)
    log.wait("reading")
    writer = a._handle.writer
    with no_timers(), meanwhile(lambda: [a.send_bytes(bytes([one]) * size) for one in range(8)]):
        eventually(lambda: writer.held >= 5 * size or writer.unsent, "a sender that waits")
        process.kill()
        assert [b.recv_bytes()[0] for _ in range(8)] == list(range(8))


def test_an_acknowledgement_is_said_again_when_the_server_was_away(pipe, monkeypatch):
    """No other one comes: the sender waits for room, and the reader for the sender."""
    monkeypatch.setattr(nanomsg.writer, "ROOM", 100_000)
    monkeypatch.setattr(nanomsg.reader, "ACK_BYTES", 100_000)
    a, b = pipe()
    direct(a, b)
    said: list[Any] = []
    calls = Client.calls

    def fail_once(client: Client, batch: Any, **how: Any) -> Any:
        if batch and batch[0][0] is b._handle.ack:
            said.append(batch)
            if len(said) == 1:
                raise ServerUnavailable("for the test")
        return calls(client, batch, **how)

    monkeypatch.setattr(Client, "calls", fail_once)
    with no_timers(), meanwhile(lambda: [a.send_bytes(bytes(10_000)) for _ in range(20)]):
        assert [len(b.recv_bytes()) for _ in range(20)] == [10_000] * 20
    assert len(said) > 1


def test_news_that_come_while_a_process_begins_to_read(pipe, monkeypatch):
    """What the thread did not tell, as the reader was another by then, it looks at again."""
    r, w = pipe(False)
    direct(w, r)
    nanomsg.pump.pump().due(0)
    eventually(lambda: not w._handle.writer.kept, "that nothing is left to be put into Redis")
    reader = r._handle.reader
    calls = Client.calls
    began = threading.Event()

    def begin(client: Client, batch: Any, **how: Any) -> Any:
        replies = calls(client, batch, **how)
        for (bound, _), reply in zip(batch, replies, strict=True):
            if bound is r._handle.find_own and not reply[-1] and not began.is_set():
                began.set()
                reader.claims += 1  # as `claim` does, had it been asked a moment ago
        return replies

    monkeypatch.setattr(Client, "calls", begin)
    with no_timers(), meanwhile(w.close), pytest.raises(EOFError):
        r.recv()
    assert began.is_set()


def test_what_a_killed_reader_had_not_acknowledged_comes_again(pipe, log):
    """Used or not: its sender cannot know."""

    def child(log: Log, connection: Any) -> None:
        with no_timers():
            connection.recv()
            log("reading")
            assert [connection.recv() for _ in range(3)] == [0, 1, 2]
            log("used")
            signal.pause()

    a, b = pipe()
    a.send("first")
    process = start(log, child, b)
    log.wait("reading")
    for number in range(6):
        a.send(number)
    log.wait("used")
    process.kill()
    assert [b.recv() for _ in range(6)] == list(range(6))


def test_nobody_reads_yet_and_there_is_room_for_so_much(pipe):
    a, b = pipe()
    with meanwhile(lambda: [a.send_bytes(bytes(6_000_000)) for _ in range(6)]):
        assert [len(b.recv_bytes()) for _ in range(6)] == [6_000_000] * 6


# -- waiting for several --


def test_waiting_for_connections_of_both_kinds_sentinels_and_sockets(pipe, log):
    a, b = pipe()
    config.set_parameter(config.PIPE_CONNECTION_TYPE, "redislist")
    c, d = mp.Pipe()
    config.set_parameter(config.PIPE_CONNECTION_TYPE, "nanomsg")
    child = start(log, lambda log, go: go.recv(), d)
    mine, other = socket.socketpair()
    objects = [b, c, child.process.sentinel, mine]
    with mine, other:
        assert connection.wait(objects, 0) == []
        with meanwhile(lambda: a.send(1)):
            assert connection.wait(objects) == [b]
        assert connection.wait(objects, 0) == [b]
        assert b.recv() == 1
        assert connection.wait(objects, 0) == []
        with meanwhile(lambda: d.send(2)):
            assert connection.wait(objects) == [c]
        assert c.recv() == 2
        other.send(b"3")
        assert connection.wait(objects) == [mine]
        mine.recv(1)
        c.send("go")
        assert connection.wait(objects, PATIENCE) == [child.process.sentinel]
        child.join()
        a.close()
        assert connection.wait([b, mine]) == [b]
    for end in (c, d):
        end.close()


def test_the_descriptor_is_readable_only_if_a_receive_returns(pipe, refused):
    import select

    a, b = pipe()
    direct(a, b)
    fd = b.fileno()
    assert not select.select([fd], [], [], 0)[0]
    forge(b, b"junk")
    eventually(lambda: refused, "that it is refused")
    assert not select.select([fd], [], [], 0)[0]
    a.send(1)
    assert select.select([fd], [], [], PATIENCE)[0]
    assert b.recv() == 1
    assert not select.select([fd], [], [], 0)[0]
    a.close()
    assert select.select([fd], [], [], PATIENCE)[0]
    with pytest.raises(EOFError):
        b.recv()


# -- others on the network --


class Bomb:
    """What happens if somebody unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (99,)


def forge(reader: Any, *frames: bytes) -> None:
    """Send to whoever reads at a connection, as anybody on the network can."""
    with pynng.Push0() as push:
        push.dial(reader._handle.reader.url, block=True)
        for frame in frames:
            push.send(frame)
        # All was taken by the other side once its end of the connection is closed.
        eventually(lambda: reader._handle.reader.look() is not None and True, "a look")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The keyed hashes that were found wrong."""
    found: list[bytes] = []

    def compare(given: bytes, right: bytes) -> bool:
        if equal := hmac.compare_digest(given, right):
            return equal
        found.append(given)
        return False

    monkeypatch.setattr(nanomsg.reader, "hmac", mock.Mock(compare_digest=compare))
    return found


def wait_refused(connection: Any, refused: list[bytes], number: int) -> None:
    def look() -> bool:
        assert not connection.poll()
        return len(refused) >= number

    eventually(look, f"{number} frames that are refused")


def test_garbage_is_refused(pipe, refused):
    a, b = pipe()
    direct(a, b)
    with pynng.Push0() as push:
        push.dial(b._handle.reader.url, block=True)
        junk = [b"", b"junk", bytes(1000), pickle.dumps(Bomb()), bytes(50) + pickle.dumps(Bomb())]
        for number, frame in enumerate(junk, start=1):
            push.send(frame)
            wait_refused(b, refused, number)
        # What is larger than any frame is not even read.
        push.send(bytes(2 * nanomsg.frames.FRAME))
    with socket.socket() as sock:
        host, port = b._handle.reader.url.removeprefix("tcp://").split(":")
        sock.connect((host, int(port)))
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n" * 100)
    direct(a, b)
    a.send("as if nothing had happened")
    assert b.recv() == "as if nothing had happened"


def test_forged_replayed_and_reflected_frames_are_refused(pipe, refused):
    a, b = pipe()
    direct(a, b)
    seen: list[bytes] = []
    writer, reader = a._handle.writer, b._handle.reader
    true_frame = writer._frame

    def frame(*args: Any) -> bytes:
        seen.append(true_frame(*args))
        return seen[-1]

    writer._frame = frame
    a.send("once")
    assert b.recv() == "once"
    (good,) = seen
    bad = [good[:-1] + bytes([good[-1] ^ 1]), good[:16] + b"\xff" + good[17:]]
    bomb = pickle.dumps(Bomb())
    head = nanomsg.frames.HEAD.pack(b"0" * 16, 1, 49, 3, len(bomb))
    bad.append(head + nanomsg.frames.seal(b"guess", b._handle.ref.ident, head, bomb) + bomb)
    with pynng.Push0() as push:
        push.dial(reader.url, block=True)
        for number, forged in enumerate(bad, start=1):
            push.send(forged)
            wait_refused(b, refused, number)
        push.send(good)  # a second time
    # In the other direction: its keyed hash is another one.
    with pynng.Push0() as push:
        push.dial(a._handle.reader.url, block=True)
        push.send(good)
        wait_refused(a, refused, len(bad) + 1)
    a.send("twice")
    assert b.recv() == "twice"
    assert not b.poll()


def test_the_secret_is_nowhere_in_redis(pipe, server):
    a, b = pipe()
    direct(a, b)
    for key in server.command("KEYS", f"*{a._handle.ref.ident.partition('/')[0]}*"):
        if server.command("TYPE", key) == b"hash":
            assert a._handle.secret not in b"".join(server.command("HGETALL", key))


# -- the network --


class Relay(threading.Thread):
    """A port that leads to another one, until it is cut."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.to = ("", 0)
        self.open: list[socket.socket] = []
        self.connections = 0
        self.held = threading.Event()
        self.held.set()

    def run(self) -> None:
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(one,), daemon=True).start()

    def serve(self, one: socket.socket) -> None:
        with one, contextlib.suppress(OSError), socket.create_connection(self.to) as other:
            self.connections += 1
            self.open += [one, other]
            back = threading.Thread(target=self.forward, args=(other, one), daemon=True)
            back.start()
            self.forward(one, other)
            back.join()

    def forward(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self.held.wait()
                other.sendall(data)
        for sock in (one, other):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        while self.open:
            with contextlib.suppress(OSError):
                self.open.pop().shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()
        self.join(PATIENCE)


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """What readers of this process are reached through."""
    relay = Relay()

    class Pull(nanomsg.sockets.Pull):
        def __init__(self, host: str) -> None:
            super().__init__(host)
            relay.to = host, self.port
            self.port = relay.port

    monkeypatch.setattr(nanomsg.reader, "Pull", Pull)
    relay.start()
    yield relay
    relay.end()


def test_a_connection_that_breaks_loses_nothing(pipe, relay):
    a, b = pipe(False)
    direct(b, a)
    for number in range(300):
        b.send(number)
        if number % 60 == 0:
            relay.cut()
    assert [a.recv() for _ in range(300)] == list(range(300))
    assert not a.poll()
    assert relay.connections > 1


def test_what_was_sent_last_arrives_though_the_connection_broke(pipe, relay):
    """Nobody sends after it: the process's thread sends it again."""
    a, b = pipe(False)
    direct(b, a)
    relay.held.clear()
    b.send("on its way")
    relay.cut()
    relay.held.set()
    assert a.recv() == "on its way"


def test_a_reader_that_cannot_be_reached(pipe, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]

    class Pull(nanomsg.sockets.Pull):
        def __init__(self, host: str) -> None:
            super().__init__(host)
            self.port = port

    monkeypatch.setattr(nanomsg.reader, "Pull", Pull)
    monkeypatch.setattr(nanomsg.writer, "REACH", 0.2)
    a, b = pipe()
    assert not b.poll()
    with pytest.raises(ConnectionError, match=f"127.0.0.1:{port}.*redislist"):
        a.send(1)
    b.send("the other direction is one of its own")
    assert a.recv() == "the other direction is one of its own"


def test_a_reader_that_stands_still_is_waited_for(pipe, log, monkeypatch):
    def child(log: Log, connection: Any) -> None:
        connection.recv()
        log("reading")
        for _ in range(3):
            log("got", connection.recv())

    monkeypatch.setattr(nanomsg.writer, "REACH", 0.1)
    a, b = pipe()
    a.send("first")  # there is no connection yet
    process = start(log, child, b)
    log.wait("reading")
    process.freeze()
    probes = []
    connect = socket.create_connection

    def probe(*args: Any) -> socket.socket:
        probes.append(args)
        return connect(*args)

    monkeypatch.setattr(socket, "create_connection", probe)
    with meanwhile(lambda: [a.send(number) for number in range(3)]):
        eventually(lambda: probes, "a look whether it can be reached")
        process.thaw()
        for number in range(3):
            log.wait("got", number)
    assert process.join() == 0


# -- without pynng, and what is left behind --


def test_without_pynng_there_is_a_clear_error():
    code = (
        "import sys; sys.modules['pynng'] = None\n"
        "from lithops_mp import config, connection\n"
        "config.set_parameter('PIPE_CONNECTION_TYPE', 'nanomsg')\n"
        "connection.Pipe()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError" in done.stderr
    assert "pip install lithops-mp[nanomsg]" in done.stderr


def test_nothing_is_left_behind(evidence, log):
    def pipes() -> list[str]:
        return [key for key in evidence.all_keys() if "}:c" in key]

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def use() -> None:
        a, b = mp.Pipe()
        direct(a, b)
        b.fileno()
        a.send(1)
        assert connection.wait([a, b], PATIENCE) == [b]
        del a
        assert b.recv() == 1
        with pytest.raises(EOFError):
            b.recv()
        b.close()

    def quiet() -> bool:
        return not nanomsg.pump.pump().thread

    child = start(log, lambda log, b: b.send(b.recv()), mp.Pipe()[0])
    child.kill()
    child.join()
    use()  # what the libraries have for good is there now
    eventually(quiet, "that the thread has ended")
    before = descriptors()
    for _ in range(5):
        use()
    eventually(quiet, "that the thread has ended")
    eventually(lambda: not pipes(), f"no key of a pipe, but there are {pipes()}")
    eventually(lambda: descriptors() <= before, "no descriptor")


def test_listeners_use_it_too(log):
    def client(log: Log, address: Any) -> None:
        with connection.Client(address, authkey=b"key") as found:
            assert type(found) is nanomsg.Connection
            found.send("hello")

    with connection.Listener(authkey=b"key") as listener:
        child = start(log, client, listener.address)
        with listener.accept() as accepted:
            assert type(accepted) is nanomsg.Connection
            assert accepted.recv() == "hello"
        assert child.join() == 0
