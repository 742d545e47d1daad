"""What happens to the server: (fault) -> outcome for everyone who uses it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from support import fixtures
from support.programs import (
    Evidence,
    Log,
    address_of,
    gone,
    meanwhile,
    program,
    start,
    url_of,
)
from support.servers import PATIENCE, Server, alive, eventually, free_port

import lithops_mp as mp
from lithops_mp import listening
from lithops_mp._store import client as client_module
from lithops_mp._store import keys, processes, session, settings, wire
from lithops_mp._store.client import Client
from lithops_mp._store.wire import Busy
from lithops_mp.errors import ObjectExpired, OwnerDiedWarning, ServerUnavailable

from .test_cut import count_up

#: One for each test, since none survives it as it was.
server = fixtures.server(scope="function", tcp=True)
evidence = fixtures.evidence(scope="function", HEARTBEAT=0.3, LEASE=5.0)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a server that does not come back; in this process, not in its children."""
    monkeypatch.setattr(client_module, "RECONNECT", 2.0)


def restart(server: Server) -> None:
    """End it and start it again, empty, at the same place."""
    words = Path(f"/proc/{server.pid}/cmdline").read_bytes().split(b"\0")[:-1]
    binary = os.readlink(f"/proc/{server.pid}/exe")
    conf = server.log.parent / "conf"
    assert words
    server.kill()
    with server.log.open("ab") as output:
        server.process = subprocess.Popen(
            [binary, str(conf)], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    eventually(server._answers, "an answer of the server")


# -- SCRIPT FLUSH --


def test_script_flush_under_load_is_not_noticed(evidence: Evidence, log: Log) -> None:
    lock, done = mp.Lock(), threading.Event()
    path = log.path + ".counter"
    Path(path).write_text("0")
    flushes = 0

    def flush() -> None:
        nonlocal flushes
        connection = evidence.server.settings.connection()
        while not done.is_set():
            connection.send_command("SCRIPT", "FLUSH")
            assert connection.read_response()
            flushes += 1
        connection.disconnect()

    with meanwhile(flush):
        try:
            children = [start(log, count_up, lock, path, 200) for _ in range(2)]
            condition = mp.Condition()
            with condition:
                assert not condition.wait(0.01)
            assert [child.join() for child in children] == [0, 0]
        finally:
            done.set()
    assert flushes
    assert Path(path).read_text() == "400"


# -- restarted empty --


def wait_in(log: Log, method: str, handle: object) -> None:
    try:
        getattr(handle, method)()
    except ObjectExpired:
        log("expired", method)


def in_condition(log: Log, condition: mp.Condition) -> None:
    condition.acquire()
    try:
        condition.wait()
    except ObjectExpired:
        log("expired", "condition")


def test_server_restarted_empty_is_an_error_everywhere_and_nothing_hangs(
    evidence: Evidence, log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    held, semaphore, event, barrier = mp.Lock(), mp.Semaphore(0), mp.Event(), mp.Barrier(2)
    condition = mp.Condition()
    held.acquire()
    children = [
        start(log, wait_in, "acquire", held),
        start(log, wait_in, "acquire", semaphore),
        start(log, wait_in, "wait", event),
        start(log, wait_in, "wait", barrier),
        start(log, in_condition, condition),
        start(log, stand_still),
    ]
    evidence.wait_in_line(held, children[0])
    evidence.wait_in_line(semaphore, children[1])
    evidence.wait_in_line(condition, children[4])
    eventually(lambda: barrier.n_waiting == 1, "a party")
    restart(evidence.server)
    for use in (
        held.release,
        held.acquire,
        semaphore.get_value,
        semaphore.release,
        event.is_set,
        event.set,
        event.clear,
        event.wait,
        barrier.wait,
        barrier.abort,
        lambda: barrier.broken,
        condition.acquire,
    ):
        with pytest.raises(ObjectExpired, match="restarted empty"):
            use()
    # The children's records are gone as well: they are stopped, and we are told.
    for child in children:
        assert child.join() in (0, -signal.SIGKILL)
    eventually(lambda: gone(*(child.pid for child in children)), "the children's end")
    assert "is lost: its record is gone from Redis" in capfd.readouterr().err


def stand_still(log: Log) -> None:
    threading.Event().wait()


def test_program_goes_on_with_new_objects_after_an_empty_restart(
    evidence: Evidence, log: Log
) -> None:
    old = mp.Lock()
    restart(evidence.server)
    with pytest.raises(ObjectExpired):
        old.acquire()
    lock = mp.Lock()
    lock.acquire()
    # We are known again, at once: nobody takes us for dead.
    mine = session.current()
    assert processes.status(mine.client, mine.uid).word == "RUNNING"
    child = start(log, count_waiting, lock)
    evidence.wait_in_line(lock, child)
    lock.release()
    assert child.join() == 0


def count_waiting(log: Log, lock: mp.Lock) -> None:
    with lock:
        log("acquired")


# -- gone for good --


@pytest.mark.usefixtures("_impatient")
def test_server_that_does_not_come_back_is_an_error_in_bounded_time(
    evidence: Evidence, log: Log
) -> None:
    lock, event = mp.Lock(), mp.Event()
    child = start(log, stand_still)
    evidence.server.kill()
    for use in (lock.acquire, event.wait, mp.Lock):
        with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:\d+ does not answer") as caught:
            use()
        assert evidence.server.settings.password not in str(caught.value)
    assert child.join() == -signal.SIGKILL


@pytest.mark.usefixtures("_impatient")
def test_waiters_learn_of_the_end_of_their_server(evidence: Evidence) -> None:
    lock, condition, barrier = mp.Lock(), mp.Condition(), mp.Barrier(2)
    lock.acquire()

    def die() -> None:
        eventually(lambda: evidence.line(lock), "a waiter")
        eventually(lambda: evidence.line(condition), "a waiter")
        eventually(lambda: evidence.line(barrier), "a waiter")
        evidence.server.kill()

    errors = []

    def use(method: object) -> None:
        try:
            method()
        except ServerUnavailable as error:
            errors.append(error)

    def wait() -> None:
        condition.acquire()
        condition.wait()

    with contextlib.ExitStack() as stack:
        for method in (lock.acquire, barrier.wait, wait):
            stack.enter_context(meanwhile(lambda method=method: use(method)))
        die()
    assert len(errors) == 3


# -- paused --


@pytest.mark.parametrize("how", ["SIGSTOP", "CLIENT PAUSE"])
def test_server_that_pauses_is_waited_for(evidence: Evidence, log: Log, how: str) -> None:
    lock, event = mp.Lock(), mp.Event()
    lock.acquire()
    children = [start(log, count_waiting, lock), start(log, wait_for_event, event)]
    evidence.wait_in_line(lock, children[0])
    evidence.wait_blocked(children[1].address)
    if how == "SIGSTOP":
        evidence.server.freeze()
        # Whatever is sent now waits: an acquire of ours, too.
        with meanwhile(evidence.server.thaw):
            assert not lock.acquire(block=False)
    else:
        evidence.server.command("CLIENT", "PAUSE", 1500)
    lock.release()
    event.set()
    assert [child.join() for child in children] == [0, 0]
    assert listening.Listener._mine is not None


def wait_for_event(log: Log, event: mp.Event) -> None:
    assert event.wait()


# -- full, for a moment --


def refusals(server: Server) -> int:
    """How often it has said that its memory is full."""
    found = re.search(rb"errorstat_OOM:count=(\d+)", server.command("INFO", "errorstats"))
    return int(found[1]) if found else 0


def test_server_whose_memory_is_full_is_waited_for(evidence: Evidence, log: Log) -> None:
    server, lock, event = evidence.server, mp.Lock(), mp.Event()
    value = mp.Value("i")
    children = [start(log, count_waiting, lock), start(log, wait_for_event, event)]
    log.wait("acquired")
    evidence.wait_blocked(children[1].address)
    used: list[str] = []

    def use() -> None:
        with value:
            value.value += 1
        used.append("a value")

    server.command("CONFIG", "SET", "maxmemory", 1)
    with meanwhile(use), meanwhile(lambda: log("joined", children[0].join())):
        # Who beats for them is refused, too.
        eventually(lambda: refusals(server) > 20, "refusals")
        assert not used
        server.command("CONFIG", "SET", "maxmemory", 0)
    assert value.value == 1
    event.set()
    assert [child.join() for child in children] == [0, 0]


@pytest.mark.usefixtures("_impatient")
def test_server_whose_memory_stays_full_is_an_error_in_bounded_time(server: Server) -> None:
    client = Client(dataclasses.replace(server.settings, db=1), "p.0")
    server.command("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(ServerUnavailable, match="out of memory"):
        client.plain("SET", "some", "thing")
    assert client.plain("GET", "some") is None


# -- silent for longer than it is waited for --


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of silence is long, for this thread."""
    for name, value in ("SILENCE", 0.5), ("RECONNECT", 0.5), ("BRIEF", 0.25), ("PAUSE", 0.05):
        monkeypatch.setattr(client_module, name, value)
    client = session.current().client
    client._connection.disconnect()
    client._connection = client._open()


@contextlib.contextmanager
def silent(server: Server) -> Iterator[None]:
    server.freeze()
    try:
        with pytest.raises(ServerUnavailable):
            yield
    finally:
        server.thaw()


@pytest.mark.usefixtures("_hasty")
def test_a_handle_that_cannot_be_put_is_not_taken_for_one_that_does_not_pickle(
    evidence: Evidence,
) -> None:
    """Of that the queue would only print a report."""
    queue, lock = mp.Queue(), mp.Lock()
    with silent(evidence.server):
        queue.put(lock)
    queue.put("next")
    assert queue.get() == "next"


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
def test_what_could_not_be_released_is_though_nobody_speaks(evidence: Evidence, kind: str) -> None:
    """Neither has the program to release it again, nor its thread to ask for anything."""
    lock = getattr(mp, kind)()
    with pytest.raises(ServerUnavailable), lock:
        evidence.server.freeze()
    evidence.server.thaw()

    def take() -> None:
        with lock:
            pass

    with meanwhile(take):
        pass
    with lock:  # not waiting for ourselves
        pass


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_to_release_once_more_releases_nobody_elses(
    evidence: Evidence, log: Log, kind: str
) -> None:
    lock = getattr(mp, kind)()
    lock.acquire()
    with silent(evidence.server):
        lock.release()
    other = start(log, hold, lock)
    log.wait("holds")
    lock.release()
    assert evidence.owner(lock) == other.uid
    other.kill()
    assert other.join() == -signal.SIGKILL


def hold(log: Log, lock: mp.Lock) -> None:
    lock.acquire()
    log("holds")
    signal.pause()


@pytest.mark.usefixtures("_hasty")
def test_to_release_once_more_says_that_it_was_released(evidence: Evidence) -> None:
    lock = mp.Lock()
    lock.acquire()
    with silent(evidence.server):
        lock.release()
    lock.release()
    with pytest.raises(ValueError, match="too many times"):
        lock.release()


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_who_waits_in_a_condition_is_told_of_the_server_alone(
    evidence: Evidence, depth: int
) -> None:
    """And not that what it releases then is not its own."""
    condition = mp.Condition(mp.RLock() if depth else mp.Lock())

    def wait(depth: int) -> None:
        with condition:
            if depth > 1:
                return wait(depth - 1)
            evidence.server.freeze()
            try:
                condition.wait()
            finally:
                evidence.server.thaw()

    with pytest.raises(ServerUnavailable):
        wait(depth)
    assert evidence.line(condition) == []

    def notify() -> None:
        eventually(lambda: evidence.line(condition), "a waiter")
        with condition:
            condition.notify()

    with meanwhile(notify), condition:
        assert condition.wait(PATIENCE)
    with pytest.raises((AssertionError, ValueError)):  # which is excused no more
        condition.release()


@pytest.mark.usefixtures("_hasty")
def test_children_that_were_given_up_are_over_when_the_server_is_back(
    evidence: Evidence, log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    """Those who look after them have waited for it longer than we."""
    lock = mp.Lock()
    child = start(log, hold, lock)
    log.wait("holds")
    evidence.server.freeze()
    assert child.join() == -signal.SIGKILL
    assert alive(child.pid)
    evidence.server.thaw()
    with pytest.warns(OwnerDiedWarning, match="given up with the server"):
        lock.acquire()
    eventually(lambda: gone(child.pid), "its end")
    assert keys.process(child.uid) not in evidence.all_keys()
    assert "child processes are lost" in capfd.readouterr().err
    another = start(log, count_waiting, mp.Lock())
    assert another.join() == 0


def test_server_that_is_lost_while_a_child_is_buried(
    evidence: Evidence, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for the child is told, and its record is deleted later."""
    forget, failed = processes.forget, []

    def fail_once(client: Client, uid: str, *more: Any) -> None:
        if not failed:
            failed.append(uid)
            raise ServerUnavailable("for the test")
        forget(client, uid, *more)

    monkeypatch.setattr(processes, "forget", fail_once)
    child = start(log, count_waiting, mp.Lock())
    assert child.join() == 0
    assert failed == [child.uid]
    eventually(lambda: keys.process(child.uid) not in evidence.all_keys(), "that it is forgotten")


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("size", [10, 100_000], ids=["small", "large"])
def test_what_was_changed_under_a_lock_was_written_whole_or_not_at_all(
    evidence: Evidence, size: int
) -> None:
    array = mp.Array("b", size)
    array.acquire()
    array[:] = [1] * size
    with silent(evidence.server):
        array.release()
    with array:
        assert set(array[:]) in ({0}, {1})
        array[0] = 2
    assert array[0] == 2


# -- busy with a script, which may be anybody's: all else is refused --


def refuses(server: Server) -> bool:
    try:
        return not server.command("PING")
    except redis.ResponseError:
        return True


def test_server_that_is_busy_with_a_script_is_waited_for(
    evidence: Evidence, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, lock, refused = evidence.server, mp.Lock(), threading.Event()
    lock.acquire()
    child = start(log, count_waiting, lock)
    evidence.wait_in_line(lock, child)
    persist = Client._persist

    def noted(self: Client, packets: Any, scripts: Any, error: Any) -> Any:
        assert isinstance(error, Busy)
        refused.set()
        return persist(self, packets, scripts, error)

    def endless() -> None:
        with pytest.raises(redis.ResponseError, match="SCRIPT KILL"):
            server.command("EVAL", "while true do end", 0)

    def let_go() -> None:
        lock.release()
        assert mp.Event().wait(0) is False  # a connection is opened meanwhile, too

    server.command("CONFIG", "SET", "lua-time-limit", 1)
    monkeypatch.setattr(Client, "_persist", noted)
    with meanwhile(endless):
        eventually(lambda: refuses(server), "a refusal")
        with meanwhile(let_go):
            assert refused.wait(PATIENCE)
            server.command("SCRIPT", "KILL")
    monkeypatch.undo()
    assert child.join() == 0


@pytest.mark.usefixtures("_impatient")
def test_server_that_stays_busy_is_an_error_in_bounded_time(server: Server) -> None:
    client = Client(dataclasses.replace(server.settings, db=1), "p.0")
    server.command("CONFIG", "SET", "lua-time-limit", 1)

    def endless() -> None:
        with pytest.raises(redis.ResponseError, match="SCRIPT KILL"):
            server.command("EVAL", "while true do end", 0)

    with meanwhile(endless):
        try:
            eventually(lambda: refuses(server), "a refusal")
            with pytest.raises(ServerUnavailable, match="a script that does not come to an end"):
                client.plain("PING")
        finally:
            server.command("SCRIPT", "KILL")


# -- a failover --


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Has a request been refused for now?"""
    event, meant = threading.Event(), wire._meant

    def noted(text: str, parse: Any) -> Exception:
        error = meant(text, parse)
        if isinstance(error, Busy | redis.ReadOnlyError):
            event.set()
        return error

    monkeypatch.setattr(wire, "_meant", noted)
    return event


@pytest.mark.parametrize("what", ["get", "lock", "event"])
def test_waits_go_on_when_the_master_is_a_replica_for_a_moment(
    evidence: Evidence, log: Log, refused: threading.Event, what: str
) -> None:
    """It ends all blocked calls with an error."""
    server, queue, lock, event = evidence.server, mp.Queue(), mp.Lock(), mp.Event()
    go_on = mp.Event()
    holder = start(log, hold_until_set, lock, go_on)
    log.wait("holds")
    wait = {"get": queue.get, "lock": lock.acquire, "event": event.wait}[what]
    client = session.current().client

    def fail_over() -> None:
        eventually(lambda: evidence.is_blocked(address_of(client)), "a blocked call")
        server.command("REPLICAOF", "127.0.0.1", free_port())
        assert refused.wait(PATIENCE)
        server.command("REPLICAOF", "NO", "ONE")
        queue.put("not lost")
        event.set()
        go_on.set()

    with meanwhile(fail_over):
        assert wait() in (True, "not lost")
    assert holder.join() == 0


def hold_until_set(log: Log, lock: Any, event: Any) -> None:
    with lock:
        log("holds")
        event.wait()


def test_too_few_replicas_are_waited_for(evidence: Evidence, refused: threading.Event) -> None:
    lock = mp.Lock()
    evidence.server.command("CONFIG", "SET", "min-replicas-to-write", 1)

    def allow() -> None:
        assert refused.wait(PATIENCE)
        evidence.server.command("CONFIG", "SET", "min-replicas-to-write", 0)

    with meanwhile(allow):
        assert lock.acquire()
    lock.release()


# -- at the start --


def test_a_program_that_starts_meanwhile_waits_too(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, refusal = threading.Event(), settings._refusal

    def noted(error: BaseException, text: str) -> str | None:
        refused.set()
        return refusal(error, text)

    def endless() -> None:
        with pytest.raises(redis.ResponseError, match="SCRIPT KILL"):
            server.command("EVAL", "while true do end", 0)

    def let_go() -> None:
        assert refused.wait(PATIENCE)
        server.command("SCRIPT", "KILL")

    server.command("CONFIG", "SET", "lua-time-limit", 1)
    monkeypatch.setattr(settings, "_refusal", noted)
    with meanwhile(endless):
        eventually(lambda: refuses(server), "a refusal")
        with meanwhile(let_go), program(url_of(server.settings)):
            assert mp.Lock().acquire()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_program_does_not_wait_for_ever_for_a_server_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(session, "SILENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        says = "does it speak TLS" if scheme == "rediss" else "reachable from here"
        with pytest.raises(ServerUnavailable, match=says), program(url):
            pass


def test_a_user_who_may_not_publish_waits_for_mailboxes(server: Server) -> None:
    """Nothing is carried out by half for want of a hint."""
    server.command("ACL", "SETUSER", "mute", "on", ">secret", "~*", "&*", "+@all", "-publish")
    url = f"redis://mute:secret@127.0.0.1:{server.settings.port}"
    with program(url):
        barrier, queue = mp.Barrier(2), mp.Queue()
        places: list[int] = []
        with meanwhile(lambda: places.append(barrier.wait())):
            places.append(barrier.wait())
        assert sorted(places) == [0, 1]
        with meanwhile(lambda: queue.put(1)):
            assert queue.get() == 1
