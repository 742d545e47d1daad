"""Pipes, wait, Listener and Client: what is promised beyond CPython's own tests.

CPython's run in ``tests/conformance``; what happens when connections to the server
break is in ``tests/faults``.
"""

from __future__ import annotations

import array
import errno
import gc
import io
import os
import pickle
import signal
import socket
import threading
from typing import Any

import pytest
from support import fixtures
from support.programs import Evidence, Log, meanwhile, start
from support.servers import PATIENCE, eventually

import lithops_mp as mp
from lithops_mp import connection, messages, queueing
from lithops_mp._store import keys, session
from lithops_mp.connection import Client, Listener, wait

server = fixtures.server(tcp=True)
evidence = fixtures.evidence(HEARTBEAT=0.3, LEASE=3.0)


# -- what CPython's test_connection tests, but for the file descriptor --


def echo(log: Log, conn: Any) -> None:
    while (message := conn.recv_bytes()) != b"":
        conn.send_bytes(message)
    conn.close()


def test_connection_as_in_cpython(evidence: Evidence, log: Log) -> None:
    conn, other = mp.Pipe()
    child = start(log, echo, other)
    words = [1, 2.25, None]
    conn.send(words)
    assert conn.recv() == words
    conn.send_bytes(b"hello world")
    assert conn.recv_bytes() == b"hello world"
    numbers, size = array.array("i", range(4)), array.array("i").itemsize
    for offset in (0, 3):
        buffer = array.array("i", [0] * 10)
        conn.send_bytes(numbers)
        assert conn.recv_bytes_into(buffer, offset * size) == 4 * size
        assert list(buffer) == [0] * offset + [0, 1, 2, 3] + [0] * (6 - offset)
    conn.send_bytes(b"too long" * 10)
    with pytest.raises(connection.BufferTooShort) as caught:
        conn.recv_bytes_into(bytearray(40))
    assert caught.value.args == (b"too long" * 10,)
    for timeout in (0, -1, 0.01):
        assert not conn.poll(timeout)
    conn.send(None)
    assert conn.poll(PATIENCE)
    assert conn.poll()
    assert conn.recv() is None
    conn.send_bytes(large := b"x" * 16 * 1024 * 1024)
    assert conn.recv_bytes() == large
    conn.send_bytes(b"")
    other.close()
    with pytest.raises(EOFError):
        conn.recv_bytes()
    assert child.join() == 0
    assert conn.readable
    assert conn.writable


def test_there_is_no_file_descriptor(evidence: Evidence) -> None:
    conn, other = mp.Pipe()
    with pytest.raises(io.UnsupportedOperation, match=r"connection\.wait"):
        conn.fileno()
    conn.close()
    with pytest.raises(OSError, match="closed"):
        conn.fileno()
    other.close()


def test_message_longer_than_allowed_is_refused(evidence: Evidence) -> None:
    here, there = mp.Pipe()
    here.send_bytes(b"x" * 100)
    with pytest.raises(OSError, match="message"):
        there.recv_bytes(10)


# -- the end of the file --


def test_eof_when_everyone_has_closed(evidence: Evidence, log: Log) -> None:
    reader, writer = mp.Pipe(duplex=False)
    go = mp.Event()
    child = start(log, send_and_close, writer, go)
    writer.send("ours")
    writer.close()
    assert reader.recv() == "ours"
    assert not reader.poll()  # the child has it, too
    go.set()
    assert reader.recv() == "theirs"
    for _ in range(2):
        assert reader.poll(None)
        with pytest.raises(EOFError):
            reader.recv()
    assert child.process.is_alive()
    child.process.kill()
    child.join()


def send_and_close(log: Log, writer: Any, go: Any) -> None:
    go.wait()
    writer.send("theirs")
    writer.close()
    threading.Event().wait()


def test_eof_wakes_who_waits_for_it(evidence: Evidence, log: Log) -> None:
    reader, writer = mp.Pipe(duplex=False)
    children = [start(log, read_to_the_end, reader) for _ in range(2)]
    eventually(lambda: len(evidence.line(reader)) == 2, "two readers")
    del writer  # without a word, and nothing else is done here
    gc.collect()
    assert [child.join() for child in children] == [0, 0]


def read_to_the_end(log: Log, reader: Any) -> None:
    try:
        while True:
            log("read", reader.recv())
    except EOFError:
        log("end")


def test_eof_when_the_process_was_killed(evidence: Evidence, log: Log) -> None:
    reader, writer = mp.Pipe(duplex=False)
    child = start(log, send_and_pause, writer)
    writer.close()
    assert reader.recv() == "one"
    child.kill()
    with pytest.raises(EOFError):
        reader.recv()
    assert child.join() == -signal.SIGKILL


def send_and_pause(log: Log, writer: Any) -> None:
    writer.send("one")
    log("sent")
    threading.Event().wait()


def test_eof_when_the_whole_function_was_killed(evidence: Evidence, log: Log) -> None:
    reader, writer = mp.Pipe(duplex=False)
    child = start(log, send_and_pause, writer)
    writer.close()
    log.wait("sent")
    os.kill(child.supervisor, signal.SIGKILL)
    assert reader.recv() == "one"
    with pytest.raises(EOFError):
        reader.recv()
    assert child.join() == -signal.SIGKILL


def test_what_was_sent_before_the_end_is_read_before_it(evidence: Evidence, log: Log) -> None:
    reader, writer = mp.Pipe(duplex=False)
    for number in range(50):
        writer.send(number)
    writer.send_bytes(b"large" * messages.INLINE)
    writer.close()
    assert [reader.recv() for _ in range(50)] == list(range(50))
    assert reader.recv_bytes() == b"large" * messages.INLINE
    with pytest.raises(EOFError):
        reader.recv()


def test_broken_pipe(evidence: Evidence, log: Log) -> None:
    here, there = mp.Pipe()
    there.close()
    for message in ("small", b"large" * messages.INLINE):
        with pytest.raises(BrokenPipeError, match="Errno 32"):
            here.send(message)
    with pytest.raises(EOFError):
        here.recv()
    here.close()
    eventually(lambda: not evidence.object_keys(), "no key")


def test_broken_pipe_when_the_reader_was_killed(evidence: Evidence, log: Log) -> None:
    here, there = mp.Pipe()
    child = start(log, send_and_pause, there)
    there.close()
    log.wait("sent")
    here.send("unread")
    child.kill()
    assert child.join() == -signal.SIGKILL
    with pytest.raises(BrokenPipeError):
        here.send("more")


# -- back-pressure --


def send_many(log: Log, writer: Any, count: int) -> None:
    try:
        for number in range(count):
            writer.send_bytes(b"%04d" % number * 25)
    except BrokenPipeError:
        log("broken", number)


def test_sender_waits_while_too_much_is_unread(
    evidence: Evidence, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ROOM", 250)
    reader, writer = mp.Pipe(duplex=False)
    child = start(log, send_many, writer, 20)
    eventually(lambda: evidence.parked(reader) == [child.uid], "a parked message")
    assert evidence.length(reader) == 3
    for number in range(20):
        assert reader.recv_bytes() == b"%04d" % number * 25
    assert child.join() == 0
    assert not reader.poll()


def test_waiting_sender_finds_the_pipe_broken(
    evidence: Evidence, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ROOM", 250)
    reader, writer = mp.Pipe(duplex=False)
    child = start(log, send_many, writer, 20)
    eventually(lambda: evidence.parked(reader) == [child.uid], "a parked message")
    reader.close()
    assert child.join() == 0
    assert log.find("broken", 3)


def test_signals_do_not_disturb_who_waits(
    evidence: Evidence, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ROOM", 250)
    here, there = mp.Pipe()
    child = start(log, receive_and_send_under_signals, there)
    evidence.wait_blocked(child.address)
    child.kill(signal.SIGUSR1)
    log.wait("signal", 1)
    here.send(1234)
    assert here.recv() == 1234
    eventually(lambda: len(evidence.parked(here)) == 1, "a parked message")
    child.kill(signal.SIGUSR1)
    log.wait("signal", 2)
    assert [here.recv_bytes() for _ in range(5)] == [b"x" * 100] * 5
    assert child.join() == 0


def receive_and_send_under_signals(log: Log, conn: Any) -> None:
    count = iter(range(1, 9))
    signal.signal(signal.SIGUSR1, lambda *_: log("signal", next(count)))
    conn.send(conn.recv())
    for _ in range(5):
        conn.send_bytes(b"x" * 100)


# -- poll and wait --


def test_poll(evidence: Evidence, log: Log) -> None:
    reader, writer = mp.Pipe(duplex=False)
    assert not reader.poll()
    assert not reader.poll(0.01)
    child = start(log, poll_and_tell, reader)
    evidence.wait_blocked(child.address)
    writer.send("word")
    assert child.join() == 0
    assert log.find("polled", True)
    assert reader.poll()
    assert reader.recv() == "word"
    with meanwhile(writer.close):
        assert reader.poll(None)
    with pytest.raises(EOFError):
        reader.recv()
    with pytest.raises(OSError, match="closed"):
        writer.poll()


def poll_and_tell(log: Log, reader: Any) -> None:
    log("polled", reader.poll(None))


def test_wait_takes_whatever_is_ready(evidence: Evidence, log: Log) -> None:
    reader, writer = mp.Pipe(duplex=False)
    other, other_writer = mp.Pipe(duplex=False)
    child = start(log, sleep_until, go := mp.Event())
    one, two = socket.socketpair()
    fd, fd_writer = os.pipe()
    everything = [reader, other, child.process.sentinel, one, fd]
    assert wait(everything, 0) == []
    assert wait(everything, 0.01) == []

    def ready(action: Any) -> list[Any]:
        with meanwhile(action):
            return wait(everything, PATIENCE)

    assert ready(lambda: writer.send(1)) == [reader]
    assert reader.recv() == 1
    assert ready(lambda: two.send(b"x")) == [one]
    one.recv(1)
    assert ready(lambda: os.write(fd_writer, b"x")) == [fd]
    os.read(fd, 1)
    assert ready(go.set) == [child.process.sentinel]
    everything.remove(child.process.sentinel)
    assert ready(other_writer.close) == [other]  # the end of the file, too
    two.send(b"x")
    writer.send(2)
    assert set(wait(everything)) == {reader, other, one}
    assert wait([reader]) == [reader]
    assert wait([one], 0) == [one]
    assert wait([], 0) == []
    for each in (one, two):
        each.close()
    os.close(fd)
    os.close(fd_writer)
    reader.close()
    with pytest.raises(OSError, match="closed"):
        wait([reader])
    assert child.join() == 0


def sleep_until(log: Log, go: Any) -> None:
    go.wait()


def test_wait_over_many_connections(evidence: Evidence, log: Log) -> None:
    pipes = [mp.Pipe(duplex=False) for _ in range(4)]
    children = [start(log, send_several, writer, 10) for _, writer in pipes]
    for _, writer in pipes:
        writer.close()
    readers = [reader for reader, _ in pipes]
    got: dict[int, list[int]] = {number: [] for number in range(4)}
    while readers:
        for reader in wait(readers):
            try:
                got[[r for r, _ in pipes].index(reader)].append(reader.recv())
            except EOFError:
                readers.remove(reader)
    assert got == {number: list(range(10)) for number in range(4)}
    assert [child.join() for child in children] == [0] * 4


def send_several(log: Log, writer: Any, count: int) -> None:
    for number in range(count):
        writer.send(number)


# -- ends that travel --


def test_end_in_transit_keeps_the_pipe_open(evidence: Evidence, log: Log) -> None:
    reader, writer = mp.Pipe(duplex=False)
    here, there = mp.Pipe()
    here.send(writer)
    writer.close()
    gc.collect()
    session.current().settle()
    assert not reader.poll()  # nobody has it, but it is on its way
    child = start(log, use_what_arrives, there)
    assert reader.recv() == "through it"
    with pytest.raises(EOFError):
        reader.recv()
    assert child.process.is_alive()
    here.send("end")
    assert child.join() == 0


def use_what_arrives(log: Log, conn: Any) -> None:
    arrived = conn.recv()
    arrived.send("through it")
    arrived.close()
    conn.recv()


def test_end_that_arrives_where_it_is_already(evidence: Evidence) -> None:
    reader, writer = mp.Pipe(duplex=False)
    here, there = mp.Pipe()
    here.send(writer)
    here.send(writer)
    one, two = there.recv(), there.recv()
    for each in (writer, one, two):
        assert not reader.poll()
        each.send("alive")
        assert reader.recv() == "alive"
        each.close()
    with pytest.raises(EOFError):
        reader.recv()
    for each in (here, there, reader):
        each.close()
    eventually(lambda: not evidence.object_keys(), "no key")


def test_closed_connection_is_not_sent(evidence: Evidence) -> None:
    here, there = mp.Pipe()
    _, writer = mp.Pipe(duplex=False)
    writer.close()
    with pytest.raises(OSError, match="closed"):
        here.send(writer)
    here.send("fine")
    assert there.recv() == "fine"


# -- large messages --


class Array:
    """What numpy's arrays do when they are pickled."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def __reduce_ex__(self, protocol: int) -> Any:
        assert protocol >= 5
        return Array, (pickle.PickleBuffer(self.buffer),)


def test_hundred_megabytes(evidence: Evidence, log: Log) -> None:
    here, there = mp.Pipe()
    child = start(log, flip, there)
    block = os.urandom(1 << 20)
    here.send(Array(bytearray(block * 100)))
    found = here.recv()
    view = memoryview(found.buffer)
    assert view.nbytes == 100 << 20
    assert view[:3] == b"abc"
    assert view[3 : 1 << 20] == block[3:]
    assert view[-(1 << 20) :] == block
    view[0] = 0  # it is ours
    assert child.join() == 0


def flip(log: Log, conn: Any) -> None:
    found = conn.recv()
    memoryview(found.buffer)[:3] = b"abc"
    conn.send(found)


def test_buffers_are_sent_apart_and_small_ones_are_not(evidence: Evidence) -> None:
    here, there = mp.Pipe()
    small, large = bytearray(b"s" * 10), bytearray(b"l" * messages.APART)
    odd = bytearray(b"o" * (messages.APART + 13))
    here.send([Array(small), Array(large), "between", Array(odd), Array(memoryview(large)[:0])])
    assert len(large_keys(evidence)) == 1
    first, second, between, third, none = there.recv()
    assert between == "between"
    assert [bytes(a.buffer) for a in (first, second, third, none)] == [small, large, odd, b""]
    here.send(Array(large))
    assert pickle.loads(there.recv_bytes()).buffer == large  # as CPython has it
    here.close()
    there.close()
    eventually(lambda: not evidence.object_keys(), "no key")


def large_keys(evidence: Evidence) -> list[str]:
    return [key for key in evidence.object_keys() if ":b:" in key]


def test_large_messages_are_split(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "PIECE", 100_000)
    here, there = mp.Pipe()
    queue = mp.Queue()
    body = os.urandom(450_000)
    for put, get in (
        (lambda: here.send_bytes(body), there.recv_bytes),
        (lambda: here.send(body), there.recv),
        (lambda: here.send(Array(bytearray(body))), lambda: bytes(there.recv().buffer)),
        (lambda: (queue.put(body), queue.qsize()), queue.get),
        (lambda: (queue.put(Array(body)), queue.qsize()), lambda: bytes(queue.get().buffer)),
    ):
        put()
        assert len(large_keys(evidence)) == 5
        assert get() == body
        here.send("next")  # what was read is gone with the next request there
        queue.put("next")
        assert there.recv() == queue.get() == "next"
        assert large_keys(evidence) == []


def test_large_messages_live_as_long_as_the_pipe(evidence: Evidence, log: Log) -> None:
    here, there = mp.Pipe()
    here.send(b"large" * messages.INLINE)
    [key] = large_keys(evidence)
    life = evidence.server.command("PTTL", key)
    assert 0 < life <= session.current().ttl
    here.close()
    assert there.recv() == b"large" * messages.INLINE
    there.close()
    eventually(lambda: not evidence.object_keys(), "no key")


# -- what is left --


def test_nothing_is_left_of_pipes(evidence: Evidence, log: Log) -> None:
    mp.Pipe()
    gc.collect()
    session.current().settle()
    assert not evidence.object_keys()
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    pipes = [mp.Pipe() for _ in range(30)]
    for here, there in pipes:
        here.send(b"large" * messages.INLINE)
        there.send("small")
    assert wait([here for here, _ in pipes], 0) == [here for here, _ in pipes]
    pipes.clear()
    del here, there
    gc.collect()
    eventually(lambda: not evidence.object_keys(), "no key")
    # One each would be 30 more; a connection of an earlier test may come or go meanwhile.
    assert threading.active_count() < before[0] + 5
    assert len(os.listdir("/proc/self/fd")) < before[1] + 5


# -- addresses --


FAMILIES = ["AF_REDIS", "AF_INET", "AF_UNIX"]


def connect_and_talk(log: Log, address: Any, authkey: bytes | None) -> None:
    try:
        with Client(address, authkey=authkey) as conn:
            conn.send(["hello", conn.recv()])
    except mp.AuthenticationError:
        log("refused")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("authkey", [None, b"a secret"])
def test_listener_and_client(
    evidence: Evidence, log: Log, family: str, authkey: bytes | None
) -> None:
    with Listener(family=family, authkey=authkey) as listener:
        assert listener.last_accepted is None
        child = start(log, connect_and_talk, listener.address, authkey)
        with listener.accept() as conn:
            conn.send(1)
            assert conn.recv() == ["hello", 1]
            with pytest.raises(EOFError):
                conn.recv()
        assert listener.last_accepted == (socket.gethostname(), child.pid)
        assert child.join() == 0
    with pytest.raises(OSError, match="closed"):
        listener.accept()
    assert not [key for key in evidence.object_keys() if "@" in key]


@pytest.mark.parametrize(("ours", "theirs"), [(b"right", b"wrong"), (b"x", b"y" * 300)])
def test_wrong_key(evidence: Evidence, log: Log, ours: bytes, theirs: bytes) -> None:
    with Listener(authkey=ours) as listener:
        child = start(log, connect_and_talk, listener.address, theirs)
        with pytest.raises(mp.AuthenticationError):
            listener.accept()
        assert child.join() == 0
        assert log.find("refused")
        again = start(log, connect_and_talk, listener.address, ours)
        with listener.accept() as conn:  # it goes on
            conn.send(2)
            assert conn.recv() == ["hello", 2]
        assert again.join() == 0


def test_key_must_be_bytes(evidence: Evidence) -> None:
    with pytest.raises(TypeError, match="byte string"):
        Listener(authkey="text")
    with Listener() as listener, pytest.raises(TypeError, match="byte string"):
        Client(listener.address, authkey="text")
    assert not [key for key in evidence.object_keys() if "@" in key]


@pytest.mark.parametrize(
    "address", ["a name", "/a/path", ("localhost", 4711), ("127.0.0.1", 4712), ("", 4713)]
)
def test_address_is_taken_and_free_again(evidence: Evidence, log: Log, address: Any) -> None:
    with Listener(address) as listener:
        assert listener.address == address
        with pytest.raises(OSError, match="in use") as caught:
            Listener(address)
        assert caught.value.errno == errno.EADDRINUSE
    holder = start(log, listen, address)
    log.wait("listens")
    with pytest.raises(OSError, match="in use") as caught:
        Listener(address)
    assert caught.value.errno == errno.EADDRINUSE
    holder.kill()
    assert holder.join() == -signal.SIGKILL
    Listener(address).close()


def listen(log: Log, address: Any) -> None:
    with Listener(address):
        log("listens")
        threading.Event().wait()


def test_loopback_has_several_names(evidence: Evidence) -> None:
    for listens, calls in (("localhost", "127.0.0.1"), ("127.0.0.1", "localhost")):
        with Listener((listens, 4800)) as listener:
            client = Client((calls, 4800))
            with listener.accept() as conn:
                conn.send("found")
            assert client.recv() == "found"
    with Listener(("0.0.0.0", 4801)) as listener:
        client = Client(("some.host", 4801))
        listener.accept().send("found")
        assert client.recv() == "found"


def test_port_0_chooses_one(evidence: Evidence) -> None:
    with Listener(("localhost", 0)) as one, Listener(("localhost", 0)) as two:
        assert one.address != two.address
        assert one.address[1] > 0


@pytest.mark.parametrize(
    ("address", "error"),
    [
        (("localhost", 4900), ConnectionRefusedError),
        ("/nobody/listens", FileNotFoundError),
        ("nobody listens", FileNotFoundError),
    ],
)
def test_nobody_listens(evidence: Evidence, address: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Client(address)
    with Listener(address):
        pass
    with pytest.raises(error):
        Client(address)


def test_pending_connections_see_the_end_when_the_listener_closes(
    evidence: Evidence, log: Log
) -> None:
    listener = Listener("busy")
    children = [start(log, connect_and_wait, "busy", number) for number in range(2)]
    ours = Client("busy")
    ours.send("in vain")
    for number in range(2):
        log.wait("connected", number)
    listener.close()
    with pytest.raises(EOFError):
        ours.recv()
    with pytest.raises(BrokenPipeError):
        ours.send("more")
    assert [child.join() for child in children] == [0, 0]
    assert len([line for line in log.lines() if line[0] == "end"]) == 2
    ours.close()
    eventually(lambda: not evidence.object_keys(), "no key")


def connect_and_wait(log: Log, address: Any, number: int) -> None:
    with Client(address) as conn:
        log("connected", number)
        try:
            conn.recv()
        except EOFError:
            log("end", number)


def test_pending_connections_see_the_end_when_the_listener_is_killed(
    evidence: Evidence, log: Log
) -> None:
    holder = start(log, listen, "mortal")
    log.wait("listens")
    ours = Client("mortal")
    holder.kill()
    with pytest.raises(EOFError):
        ours.recv()
    assert holder.join() == -signal.SIGKILL
    with pytest.raises(FileNotFoundError):
        Client("mortal")


def test_a_listener_that_has_ended_and_is_being_buried_is_not_connected_to(
    evidence: Evidence,
) -> None:
    """What it had is let go of by a list that was made before: ours would stay for good."""
    child = mp.Process()
    child.start()
    child.join()
    uid = child._popen.uid
    ref = connection._ref("AF_REDIS", "grave")
    assert session.current().bind(ref, queueing.fields(), f"{uid} request")
    before = evidence.object_keys()
    with pytest.raises(ConnectionRefusedError, match="any more"):
        Client("grave")
    gc.collect()
    eventually(lambda: evidence.object_keys() == before, evidence.object_keys)
    session.current().unbind(ref, f"{uid} request")


def test_accept_in_a_thread_ends_when_the_listener_is_closed(evidence: Evidence) -> None:
    listener = Listener("threads")
    failed: list[BaseException] = []

    def accept() -> None:
        with pytest.raises(OSError, match="closed") as caught:
            listener.accept()
        failed.append(caught.value)

    with meanwhile(accept):
        ident = connection._ref("AF_REDIS", "threads").ident
        eventually(lambda: evidence.server.command("EXISTS", keys.waiters(ident)), "a waiter")
        listener.close()
    assert failed


def test_many_clients_of_one_listener(evidence: Evidence, log: Log) -> None:
    with Listener() as listener:
        children = [start(log, connect_and_talk, listener.address, None) for _ in range(4)]
        for number in range(4):
            with listener.accept() as conn:
                conn.send(number)
                assert conn.recv() == ["hello", number]
        assert [child.join() for child in children] == [0] * 4


def test_families_that_are_not_there(evidence: Evidence) -> None:
    for call in (
        lambda: Listener(r"\\.\pipe\name"),
        lambda: Listener(family="AF_PIPE"),
        lambda: Client("x", family="AF_WHAT"),
    ):
        with pytest.raises(ValueError, match="not recognized"):
            call()
