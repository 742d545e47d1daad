"""The errors a user meets: each says what happened, where the setting came from, what to do."""

from __future__ import annotations

import contextlib
import gc
import logging
import operator
import pickle
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import TimeoutError
from support import fixtures
from support.programs import Evidence, Log, ident_of, meanwhile, program, start, url_of
from support.proxy import Frames, words_of
from support.servers import Server, eventually, free_port, running

import lithops_mp as mp
from lithops_mp import config
from lithops_mp._store import client as client_module
from lithops_mp._store import keys, session
from lithops_mp._store.settings import URL_VARIABLE
from lithops_mp._store.wire import Wire
from lithops_mp.errors import (
    ConfigurationError,
    LockLost,
    ObjectExpired,
    ServerUnavailable,
    VersionMismatch,
)
from lithops_mp.memory import PAGE

SECRET = "hunter2-and-more"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server is configured anywhere, and a lost one is given up on soon."""
    for name in (URL_VARIABLE, "LITHOPS_CONFIG", "LITHOPS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client_module, "RECONNECT", 0.2)


server = fixtures.server(tcp=True, password=SECRET)


@contextlib.contextmanager
def told(kind: type[Exception], *words: str) -> Iterator[pytest.ExceptionInfo[BaseException]]:
    """The block raises this, with these words in its message, and without the password."""
    with pytest.raises(kind) as caught:
        yield caught
    for word in words:
        assert word in str(caught.value), caught.value
    # What is chained to it is shown to the user as well.
    text = "".join(traceback.format_exception(caught.value))
    assert SECRET not in str(caught.value)
    assert SECRET not in text.replace(f'SECRET = "{SECRET}"', "")


def new_program(monkeypatch: pytest.MonkeyPatch, url: str = "", **parameters: Any) -> None:
    """What a user does first; the URL comes from the environment."""
    if url:
        monkeypatch.setenv(URL_VARIABLE, url)
    with program(None, **parameters):
        pass


# -- no server to be had --


def test_unreachable_server(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    where = f"127.0.0.1:{port}"
    with told(ServerUnavailable, where, URL_VARIABLE, "Is the server running"):
        new_program(monkeypatch, f"redis://:{SECRET}@{where}")


def test_unreachable_server_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port = free_port()
    Path(".lithops_config").write_text(
        "lithops: {backend: localhost, storage: localhost}\n"
        f"redis: {{host: 127.0.0.1, port: {port}, password: {SECRET}}}\n"
    )
    with told(ServerUnavailable, f"127.0.0.1:{port}", "redis section", "configuration"):
        new_program(monkeypatch)


def test_unreachable_server_of_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with told(ServerUnavailable, f"127.0.0.1:{port}", config.REDIS_URL):
        new_program(monkeypatch, REDIS_URL=f"redis://:{SECRET}@127.0.0.1:{port}")


def test_url_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with told(ConfigurationError, URL_VARIABLE, "redis://"):
        new_program(monkeypatch, f"http://:{SECRET}@127.0.0.1/")


@pytest.mark.parametrize("password", ["wrong" + SECRET, ""], ids=["wrong", "none"])
def test_refused_password(monkeypatch: pytest.MonkeyPatch, server: Server, password: str) -> None:
    url = f"redis://:{password}@127.0.0.1:{server.settings.port}"
    with told(ServerUnavailable, server.settings.address, "password", URL_VARIABLE):
        new_program(monkeypatch, url)


class OldServer(threading.Thread):
    """Says that it is Redis 5."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self) -> None:
        client, _ = self.listener.accept()
        with client, contextlib.suppress(EOFError, OSError):
            requests = Frames(client)
            while True:
                words = words_of(requests.next())
                info = b"redis_version:5.0.14\r\nredis_mode:standalone\r\n"
                reply = b"$%d\r\n%b\r\n" % (len(info), info) if words[0] == b"INFO" else b"+OK\r\n"
                client.sendall(reply)


def test_old_server(monkeypatch: pytest.MonkeyPatch) -> None:
    old = OldServer()
    old.start()
    with told(ServerUnavailable, "Redis 5.0.14", "6.2 or later", URL_VARIABLE, "Upgrade"):
        new_program(monkeypatch, f"redis://:{SECRET}@127.0.0.1:{old.port}")
    old.join()
    old.listener.close()


@pytest.mark.parametrize("use", [mp.Lock, lambda: mp.Process(target=int).start()])
def test_remote_backend_without_a_server(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[], object]
) -> None:
    remote = {"lithops": {"backend": "aws_lambda"}}
    words = "No Redis server is configured", "aws_lambda", "redis:", URL_VARIABLE
    with program(None, LITHOPS_CONFIG=remote, begin=False):
        with told(ConfigurationError, *words):
            use()
        assert session._current is None  # nothing was started for it


def test_server_that_may_evict(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        running(config={"maxmemory-policy": "allkeys-lru"}) as server,
        pytest.warns(RuntimeWarning, match="allkeys-lru.*noeviction") as caught,
    ):
        new_program(monkeypatch, url_of(server.settings))
    assert len(caught) == 1
    assert URL_VARIABLE in str(caught[0].message)


def test_a_server_that_is_lost_is_told_of_without_what_lies_below() -> None:
    with running() as server, program(url_of(server.settings)):
        lock, held, event, queue = mp.Lock(), mp.Lock(), mp.Event(), mp.Queue(1)
        value, raw, big = mp.Value("i"), mp.RawValue("i"), mp.Array("B", 3 * PAGE)
        held.acquire()
        server.kill()
        for use in (
            *(mp.Lock, lock.acquire, held.release, event.set, event.wait, lock._semlock._look),
            *(lambda: raw.value, lambda: value.add(1), value.acquire, lambda: big[:]),
            *(lambda: operator.setitem(big, slice(None), bytes(3 * PAGE)), queue.get),
            *(lambda: queue.put(bytes(1_000_000)), queue.qsize, lambda: pickle.dumps(lock)),
        ):
            with told(ServerUnavailable, "does not answer", config.REDIS_URL) as caught:
                use()
            shown = "".join(traceback.format_exception(caught.value))
            assert shown.count("Traceback") == 1, shown


@pytest.mark.parametrize("password", ["", SECRET])
@pytest.mark.parametrize("use", ["lock", "held lock", "get", "bounded put", "event", "condition"])
def test_a_server_that_hangs_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, password: str, use: str
) -> None:
    """Its system accepts connections for it. Seconds that each wait may take are recorded."""
    waits: list[float] = []
    with running(tcp=True, password=password) as server, program(url_of(server.settings)):
        lock, held, full, condition = mp.Lock(), mp.Lock(), mp.Queue(1), mp.Condition()
        queue, event = mp.Queue(), mp.Event()
        condition.acquire()
        full.put(1)
        thread = threading.Thread(target=held.acquire)
        thread.start()
        thread.join()
        for name, value in ("SILENCE", 1.0), ("RECONNECT", 600.0), ("BRIEF", 0.25):
            monkeypatch.setattr(client_module, name, value)
        monkeypatch.setattr(client_module, "BLOCK_LIMIT", 0.2)
        connected, gave_up = Wire._connect, Wire._give_up

        def noted_connecting(wire: Wire) -> Any:
            try:
                return connected(wire)
            except TimeoutError:
                waits.append(wire._connection.socket_timeout)
                raise

        def noted_giving_up(wire: Wire, error: Exception) -> Any:
            waits.append(client_module.SILENCE)
            gave_up(wire, error)

        session.current().client._connection.disconnect()
        session.current().client._connection = session.current().client._open()
        lock.acquire()  # the connection has the new limits
        lock.release()
        monkeypatch.setattr(Wire, "_connect", noted_connecting)
        monkeypatch.setattr(Wire, "_give_up", noted_giving_up)
        server.freeze()
        try:
            with told(ServerUnavailable, "does not answer"):
                {
                    "lock": lock.acquire,
                    "held lock": held.acquire,
                    "get": queue.get,
                    "bounded put": lambda: full.put(2),
                    "event": event.wait,
                    "condition": condition.wait,
                }[use]()
        finally:
            server.thaw()
        assert sum(waits) <= client_module.SILENCE + 4 * client_module.BRIEF, waits
        # What it has done meanwhile is taken back when it is found again.
        assert lock.acquire(timeout=60)
        with meanwhile(lambda: queue.put("not lost")):
            assert queue.get() == "not lost"
        assert full.get() == 1
        assert full.qsize() == 0
        # Whether it has waited or not depends on when it was frozen.
        with contextlib.suppress(LockLost):
            condition.release()
        with meanwhile(lambda: notify(condition)), condition:
            assert condition.wait(timeout=60)


def notify(condition: mp.Condition) -> None:
    eventually(condition._sleeping_count.get_value, "a waiter")
    with condition:
        condition.notify()


# -- objects --

evidence = fixtures.evidence(scope="function")


def uses() -> dict[str, tuple[Any, list[Callable[[], object]]]]:
    """Every family: an object and what can be done with it."""
    lock, rlock, semaphore = mp.Lock(), mp.RLock(), mp.Semaphore()
    event, barrier = mp.Event(), mp.Barrier(2)
    return {
        "lock": (lock, [lock.acquire, lock.release]),
        "rlock": (rlock, [rlock.acquire]),
        "sem": (semaphore, [semaphore.acquire, semaphore.release, semaphore.get_value]),
        "event": (event, [event.set, event.clear, event.is_set, event.wait]),
        "barrier": (
            barrier,
            [barrier.wait, barrier.abort, barrier.reset, lambda: barrier.broken],
        ),
    }


FAMILIES = ["lock", "rlock", "sem", "event", "barrier"]


@pytest.mark.parametrize("family", FAMILIES)
def test_object_that_is_gone(evidence: Evidence, family: str) -> None:
    handle, methods = uses()[family]
    evidence.server.command("DEL", keys.state(ident_of(handle)))
    for method in methods:
        with told(ObjectExpired, "REDIS_EXPIRY_TIME", "evicted", "restarted", "create it anew"):
            method()
    assert "unknown" in repr(handle)


@pytest.mark.parametrize("family", FAMILIES)
def test_object_of_another_version(evidence: Evidence, family: str) -> None:
    handle, methods = uses()[family]
    evidence.server.command("HSET", keys.state(ident_of(handle)), "fmt", "sem/0")
    for method in methods:
        with told(VersionMismatch, "'sem/0'", "lithops_mp 0.", "same version everywhere"):
            method()


@pytest.mark.parametrize("what", ["lock", "condition"])
@pytest.mark.parametrize("trouble", ["gone", "version"])
def test_condition_in_trouble(evidence: Evidence, what: str, trouble: str) -> None:
    condition = mp.Condition(mp.Lock())
    condition.acquire()
    ident = ident_of(condition if what == "condition" else condition._lock)
    if trouble == "gone":
        evidence.server.command("DEL", keys.state(ident))
    else:
        evidence.server.command("HSET", keys.state(ident), "fmt", "cond/0")
    error, words = {
        "gone": (ObjectExpired, "REDIS_EXPIRY_TIME"),
        "version": (VersionMismatch, "'cond/0'"),
    }[trouble]
    with told(error, words):
        condition.notify()
    with told(error, words):
        condition.wait()


def test_handle_whose_object_is_gone_when_it_arrives(evidence: Evidence) -> None:
    lock = mp.Lock()
    text = pickle.dumps(lock)
    del lock
    gc.collect()
    other = mp.Lock()  # lets go of it: only the pickle knows it now
    evidence.server.command("FLUSHALL")
    with told(ObjectExpired, "create it anew"):
        pickle.loads(text)
    del other


# -- secrets --


def test_no_credential_is_shown_anywhere(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.DEBUG)
    log = Log(tmp_path / "log")
    with program(url_of(server.settings), HEARTBEAT=0.3) as mine:
        handles = [found for found, _ in uses().values()]
        child = start(log, use_all, *handles)
        assert child.join() == 0
        shown = [repr(mine), repr(mine.settings), str(mine.settings), repr(mine.client)]
        shown += map(repr, handles)
        shown += [repr(child.process), repr(mine.__dict__)]
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                shown.append(path.read_text(errors="replace"))
    captured = capfd.readouterr()
    for text in (*shown, captured.out, captured.err, caplog.text, Path(log.path).read_text()):
        assert SECRET not in text


def use_all(log: Log, *handles: Any) -> None:
    logging.basicConfig(level=logging.DEBUG, force=True)
    log("uses", repr(handles), repr(session.current().settings))


def test_no_credential_is_left_in_the_files_of_lithops(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(tmp_path / "log")
    with program(url_of(server.settings)):
        from lithops.constants import LITHOPS_TEMP_DIR

        child = start(log, look_for_secret, LITHOPS_TEMP_DIR)
        assert child.join() == 0
    assert log.wait("others can read")[1] == []
    assert [str(path) for path in files_with_secret(LITHOPS_TEMP_DIR)] == []


def look_for_secret(log: Log, folder: str) -> None:
    """While a function runs, its argument lies about. Who can read it?"""
    log("others can read", [str(path) for path in files_with_secret(folder) if is_open(path)])


def is_open(path: Path) -> bool:
    """Whether another user of this machine could read it."""
    if not path.stat().st_mode & 0o004:
        return False
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


def files_with_secret(folder: str) -> Iterator[Path]:
    for path in Path(folder).rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and SECRET.encode() in path.read_bytes():
                yield path
