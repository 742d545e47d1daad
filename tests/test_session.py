"""A process's place in Redis: its clients, what it refers to, and what it leaves."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import warnings
from typing import Any

import pytest
from support import fixtures
from support.programs import Evidence, Log, gone, ident_of, program, start, url_of
from support.servers import Server, eventually

import lithops_mp as mp
from lithops_mp._store import keys, processes, session
from lithops_mp._store.client import Client
from lithops_mp.errors import ObjectExpired

server = fixtures.server(tcp=True)
evidence = fixtures.evidence(scope="function", HEARTBEAT=0.3, LEASE=5.0)


def run_in_thread(function: Any) -> Any:
    result = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    return result[0]


# -- clients --


def test_each_thread_has_a_client_of_its_own(evidence: Evidence) -> None:
    mine = session.current().client
    assert session.current().client is mine
    barrier = threading.Barrier(3)
    found = []

    def look() -> None:
        found.append(session.current().client)
        barrier.wait()

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(client) for client in (mine, *found)}) == 4
    assert len({client.id for client in (mine, *found)}) == 4


def test_a_thread_that_ends_leaves_its_client_to_the_next(evidence: Evidence) -> None:
    first = run_in_thread(lambda: session.current().client)
    second = run_in_thread(lambda: session.current().client)
    assert second is first
    for _ in range(20):
        run_in_thread(lambda: session.current().client.plain("PING"))
    ours = [c for c in evidence.clients() if c["cmd"] == "ping"]
    assert len(ours) == 1


def test_lock_outlives_the_thread_that_took_it(evidence: Evidence) -> None:
    lock = mp.Lock()
    run_in_thread(lock.acquire)
    assert not lock.acquire(block=False)
    assert not run_in_thread(lambda: lock.acquire(block=False))  # by the same client
    lock.release()
    with lock:
        pass


def test_call_in_a_signal_handler_does_not_disturb_the_call_it_interrupts(
    evidence: Evidence,
) -> None:
    event, inner = mp.Event(), mp.Semaphore(7)
    values = []

    def handler(number: int, frame: object) -> None:
        values.append(inner.get_value())
        event.set()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        main = threading.main_thread().ident or 0
        timer = threading.Timer(0, lambda: None)
        address = _address()
        timer.function = lambda: (
            evidence.wait_blocked(address),
            signal.pthread_kill(main, signal.SIGUSR1),
        )
        timer.start()
        assert event.wait()
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert values == [7]


def _address() -> str:
    from support.programs import my_address

    return my_address()


# -- a plain fork --


def in_fork(function: Any) -> Any:
    """What a function returns in a fork of this process."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # we do have threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(write, pickle.dumps(function()))
            session.current().end()
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as file:
        data = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return pickle.loads(data)


def test_fork_is_a_process_of_its_own(evidence: Evidence) -> None:
    lock = mp.Lock()
    lock.acquire()

    def look() -> tuple[Any, ...]:
        mine = session.current()
        tried = lock.acquire(block=False)
        lock.release()  # anyone may
        return mine.uid, mine.client.id, tried, lock.acquire(block=False)

    before = session.current()
    uid, client, tried, taken = in_fork(look)
    assert uid != before.uid
    assert client.startswith(uid)
    assert (tried, taken) == (False, True)
    assert session.current() is before
    assert before.client.plain("PING") == b"PONG"
    lock.release()


def test_rlock_is_not_held_by_a_fork(evidence: Evidence) -> None:
    rlock = mp.RLock()
    with rlock:
        assert in_fork(lambda: rlock.acquire(block=False)) is False
        with rlock:
            pass


def test_fork_refers_to_what_its_parent_did(evidence: Evidence) -> None:
    lock = mp.Lock()

    def look() -> list[str]:
        lock.acquire(block=False)
        return [session.current().uid, *refs_of(evidence, lock)]

    uid, *refs = in_fork(look)
    assert set(refs) == {uid, session.current().uid}
    assert refs_of(evidence, lock) == [session.current().uid]


def test_fork_of_a_fork_and_fork_without_use(evidence: Evidence) -> None:
    lock = mp.Lock()
    assert in_fork(lambda: in_fork(lambda: lock.acquire(block=False))) is True
    lock.release()
    pid = os.fork() if not hasattr(warnings, "deprecated") else None
    if pid == 0:
        os._exit(0)
    if pid:
        os.waitpid(pid, 0)
    with lock:
        pass


# -- references --


def refs_of(evidence: Evidence, handle: Any) -> list[str]:
    """Who refers to an object, pins apart."""
    ident = handle if isinstance(handle, str) else ident_of(handle)
    members = evidence.server.command("ZRANGE", keys.refs(ident), 0, -1)
    return [member.decode() for member in members if not member.startswith(b"pin")]


def let_go(handle_of: list[Any]) -> None:
    """Collect what is in the list, and make the call that goes along with."""
    handle_of.clear()
    gc.collect()
    mp.Event()


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "Condition", "Event", "Barrier"])
def test_object_goes_with_its_last_handle(evidence: Evidence, kind: str) -> None:
    handles = [getattr(mp, kind)(*([2] if kind == "Barrier" else []))]
    ident = ident_of(handles[0])
    assert evidence.server.command("EXISTS", keys.state(ident))
    let_go(handles)
    left = [key for key in evidence.all_keys() if ident.partition("/")[0] in key]
    assert left == []


def test_a_finalizer_does_no_io(evidence: Evidence) -> None:
    handles = [mp.Lock() for _ in range(10)]
    idents = [ident_of(handle) for handle in handles]
    client = session.current().client
    before = client.round_trips
    with ForbiddenIO():
        handles.clear()
        gc.collect()
    assert client.round_trips == before
    assert all(evidence.server.command("EXISTS", keys.state(ident)) for ident in idents)
    mp.Lock()  # they go along with it
    assert client.round_trips == before + 1
    assert not any(evidence.server.command("EXISTS", keys.state(ident)) for ident in idents)


class ForbiddenIO:
    """Any request of this process's fails."""

    def __enter__(self) -> None:
        from lithops_mp._store.client import Client

        self.patch = pytest.MonkeyPatch()

        def refuse(*args: object) -> None:
            raise AssertionError("I/O")

        thread = threading.get_ident()
        original = Client._exchange_all

        def exchange(*args: Any, **options: Any) -> Any:
            return refuse() if threading.get_ident() == thread else original(*args, **options)

        self.patch.setattr(Client, "_exchange_all", exchange)

    def __exit__(self, *args: object) -> None:
        self.patch.undo()


def test_copies_of_a_handle_are_one_reference(evidence: Evidence) -> None:
    lock = mp.Lock()
    copies = [pickle.loads(pickle.dumps(lock)) for _ in range(3)]
    assert refs_of(evidence, lock) == [session.current().uid]
    copies.append(lock)
    ident = ident_of(lock)
    del lock
    while len(copies) > 1:
        copies.pop()
        gc.collect()
        mp.Event()
        assert evidence.server.command("EXISTS", keys.state(ident))
    assert copies[0].acquire(block=False)


def test_pickled_handle_is_pinned_until_someone_has_it(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles = [mp.Lock()]
    ident = ident_of(handles[0])
    text = pickle.dumps(handles[0])
    let_go(handles)
    assert evidence.server.command("EXISTS", keys.state(ident))
    assert refs_of(evidence, ident) == []
    lock = pickle.loads(text)
    assert refs_of(evidence, ident) == [session.current().uid]
    assert lock.acquire(block=False)


def test_pin_holds_for_a_while_only(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    handles = [mp.Lock()]
    ident = ident_of(handles[0])
    with monkeypatch.context() as patch:
        patch.setattr(session.current(), "ttl", 1)
        text = pickle.dumps(handles[0])
    evidence.server.command("SET", "test:clock", 1, "PX", 5)
    eventually(lambda: not evidence.server.command("EXISTS", "test:clock"), "5 ms")
    let_go(handles)
    assert not evidence.server.command("EXISTS", keys.state(ident))
    with pytest.raises(ObjectExpired):
        pickle.loads(text)


def test_process_refers_to_what_it_was_given_while_it_lives(evidence: Evidence, log: Log) -> None:
    handles = [mp.Event()]
    ident = ident_of(handles[0])
    child = start(log, wait_for, handles[0])
    assert set(refs_of(evidence, ident)) == {session.current().uid, child.uid}
    child.process._args = ()  # it is not the parent that keeps it
    let_go(handles)
    assert refs_of(evidence, ident) == [child.uid]
    # Only the child knows it now, and it is still whole.
    child.kill(signal.SIGTERM)
    assert child.join() == -signal.SIGTERM
    eventually(lambda: not evidence.server.command("EXISTS", keys.state(ident)), "its deletion")


def wait_for(log: Log, event: mp.Event) -> None:
    event.wait()


@pytest.mark.parametrize("number", [0, signal.SIGKILL])
def test_process_that_ends_leaves_no_reference(evidence: Evidence, log: Log, number: int) -> None:
    event, inner = mp.Event(), mp.Lock()
    child = start(log, make_objects, event, inner)
    made = log.wait("made")[1]
    assert all(evidence.server.command("EXISTS", keys.state(ident)) for ident in made)
    if number:
        child.kill(number)
    else:
        event.set()
    assert child.join() == -number
    assert refs_of(evidence, inner) == [session.current().uid]
    assert not any(evidence.server.command("EXISTS", keys.state(ident)) for ident in made)
    # The state remembers it for a while, should it only have been taken for dead.
    assert not [key for key in evidence.all_keys() if child.uid in key]


def make_objects(log: Log, event: mp.Event, inner: mp.Lock) -> None:
    mine = [mp.Lock(), mp.Semaphore(), mp.Barrier(1)]
    with inner:
        log("made", [ident_of(handle) for handle in mine])
    event.wait()


# -- the end --


def test_program_that_ends_leaves_no_key_and_no_process(server: Server, log: Log) -> None:
    evidence = Evidence(server)
    evidence.wait_empty()
    with program(url_of(server.settings)) as mine:
        handles = [mp.Lock(), mp.Condition(), mp.Event(), mp.Barrier(1), mp.Semaphore(2)]
        handles[0].acquire()
        handles[3].wait()
        pickle.dumps(handles[0])
        child = start(log, make_and_leave)
        assert child.join() == 0
        keeper = mine._keeper.pid
        assert evidence.all_keys()
    assert evidence.all_keys() == []
    eventually(lambda: gone(keeper, child.supervisor), "no process")


def make_and_leave(log: Log) -> None:
    lock = mp.Lock()
    lock.acquire()
    with mp.Condition() as condition:
        condition.wait(0.01) if hasattr(condition, "wait") else None


def test_program_that_ends_is_not_told_anything_any_more(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An orphan may write to the terminal in the middle of the program's end.
    client, forget = Client(server.settings, "function.0"), processes.forget

    def write_and_forget(mine: Client, uid: str) -> None:
        processes.tell(client, uid, "out", "orphan", 1, b"a word", 60_000)
        forget(mine, uid)

    monkeypatch.setattr(processes, "forget", write_and_forget)
    with program(url_of(server.settings)):
        pass
    assert Evidence(server).all_keys() == []
    client.close()


def test_programs_do_not_disturb_each_other(server: Server) -> None:
    with program(url_of(server.settings)) as first:
        lock = mp.Lock()
        with program(url_of(server.settings)) as second:
            assert second.uid != first.uid
            mp.Lock()
        assert session.current() is first
        with lock:
            pass
    assert Evidence(server).all_keys() == []
