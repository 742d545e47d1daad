"""Managers under faults: what is changed is changed once, and nobody waits for the dead."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.programs import Evidence, Log, meanwhile, program, start, url_of
from support.proxy import Proxy
from support.servers import Server, eventually, running

import lithops_mp as mp
from lithops_mp import storing
from lithops_mp._store import session
from lithops_mp._store.client import Client
from lithops_mp._store.commands import Call
from lithops_mp.errors import ManagerLost, ObjectExpired
from lithops_mp.managers import SyncManager

from .test_cut import behind_proxy, each_fault, meet_faults
from .test_server import restart


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Server, Proxy]]:
    with behind_proxy(tcp=True) as found:
        yield found


@pytest.fixture(scope="module")
def manager(both: tuple[Server, Proxy]) -> Iterator[SyncManager]:
    with mp.Manager() as found:
        yield found


# -- requests that are sent again --

LARGE = b"x" * 300_000

#: What is asked for -> the operation, and what is there and returned after it.
DICT: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "HGET": (lambda d: d["a"], {"a": 1, "b": 2}, 1),
    "dict/get": (lambda d: "c" in d, {"a": 1, "b": 2}, False),
    "dict/set": (lambda d: d.__setitem__("c", 3), {"a": 1, "b": 2, "c": 3}, None),
    "dict/update": (lambda d: d.update(c=3), {"a": 1, "b": 2, "c": 3}, None),
    "HSET": (lambda d: d.update(c=3, a=4), {"a": 4, "b": 2, "c": 3}, None),
    "dict/merge": (lambda d: d.update(c=3, a=4), {"a": 4, "b": 2, "c": 3}, None),
    "dict/enter": (lambda d: d.update(c=3, a=4), {"a": 4, "b": 2, "c": 3}, None),
    "dict/take": (lambda d: d.popitem(), {"a": 1}, ("b", 2)),
    "dict/swap": (lambda d: d.setdefault("c", 3), {"a": 1, "b": 2, "c": 3}, 3),
    "dict/add": (lambda d: d.add("a", 5), {"a": 6, "b": 2}, 1),
    "dict/clear": (lambda d: d.clear(), {}, None),
    "dict/read": (lambda d: d.copy(), {"a": 1, "b": 2}, {"a": 1, "b": 2}),
    "dict/catch": (lambda d: d.copy(), {"a": 1, "b": 2}, {"a": 1, "b": 2}),
    "store/close": (lambda d: d.copy(), {"a": 1, "b": 2}, {"a": 1, "b": 2}),
}
LIST: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "LINDEX": (lambda one: one[1], [3, 1, 2], 1),
    "list/look": (len, [3, 1, 2], 3),
    "list/push": (lambda one: one.append(5), [3, 1, 2, 5], None),
    "list/set": (lambda one: one.__setitem__(0, 5), [5, 1, 2], None),
    "list/take": (lambda one: one.pop(0), [1, 2], 3),
    "list/splice": (lambda one: one.insert(1, 5), [3, 5, 1, 2], None),
    "list/find": (lambda one: one.remove(1), [3, 2], None),
    "list/order": (lambda one: one.sort(), [1, 2, 3], None),
    "list/times": (lambda one: one.__imul__(2) and None, [3, 1, 2] * 2, None),
    "list/read": (lambda one: one[:], [3, 1, 2], [3, 1, 2]),
    "list/page": (lambda one: one[:], [3, 1, 2], [3, 1, 2]),
    "store/close": (lambda one: one[:], [3, 1, 2], [3, 1, 2]),
}


@each_fault
@pytest.mark.parametrize(
    ("kind", "name"), [*(("dict", name) for name in DICT), *(("list", name) for name in LIST)]
)
def test_what_is_sent_again_is_done_once(
    manager: SyncManager,
    proxy: Proxy,
    fault: Any,
    kind: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storing, "PAGE", 1)  # so that pages are asked for
    shared = manager.dict(a=1, b=2) if kind == "dict" else manager.list([3, 1, 2])
    operation, content, returned = (DICT if kind == "dict" else LIST)[name]
    faults = proxy.faults
    proxy.once(name, fault)
    assert operation(shared) == returned
    meet_faults(proxy, faults + 1)
    proxy.calm()
    assert shared.copy() == content


@each_fault
@pytest.mark.parametrize("name", ["SET", "GET", "dict/set", "dict/take", "object/ref"])
def test_large_values_and_what_they_refer_to_survive(
    manager: SyncManager, proxy: Proxy, fault: Any, name: str
) -> None:
    shared = manager.dict(a=1)
    faults = proxy.faults
    proxy.once(name, fault)
    shared["large"] = LARGE
    shared["inner"] = manager.list([1])
    assert shared.pop("large") == LARGE
    assert shared["inner"][:] == [1]
    meet_faults(proxy, faults + 1)
    proxy.calm()
    assert shared.pop("inner")[:] == [1]
    assert shared.copy() == {"a": 1}


def count_up(log: Log, shared: Any, times: int) -> None:
    for _ in range(times):
        shared.add("n", 1)
        shared.add("big", 2**60)
        shared["list"].append(os.getpid())
        while not shared.compare_set("text", text := shared["text"], text + "x"):
            pass


def test_counts_of_many_processes_add_up_although_replies_are_lost(
    manager: SyncManager, proxy: Proxy, log: Log
) -> None:
    shared = manager.dict(n=0, text="", list=manager.list())
    children = [start(log, count_up, shared, 30) for _ in range(3)]
    before = proxy.faults
    proxy.at_random(7, 0.05)
    assert [child.join() for child in children] == [0] * 3
    proxy.calm()
    assert proxy.faults > before
    assert (shared["n"], shared["big"], shared["text"]) == (90, 90 * 2**60, "x" * 90)
    found = shared["list"][:]
    assert sorted(found) == sorted(child.pid for child in children for _ in range(30))


# -- the process that has the objects dies --


class Host:
    """Something that only a server process has."""

    def pid(self) -> int:
        return os.getpid()

    def sleep(self, log: Log) -> None:
        log("sleeps")
        threading.Event().wait()


class Hosts(SyncManager):
    pass


Hosts.register("Host", Host)


def test_proxies_of_a_killed_server_process_say_so(evidence: Evidence, log: Log) -> None:
    with Hosts() as hosts:
        host, shared = hosts.Host(), hosts.dict(a=1)
        pid, child = host.pid(), start(log, ask, host)
        log.wait("asks")
        with meanwhile(lambda: wait_in_vain(log, host)):
            log.wait("sleeps")
            os.kill(pid, signal.SIGKILL)
        assert log.wait("told")[1].startswith("the process that has this manager's objects")
        assert child.join() == 0
        for action in (host.pid, hosts.Host):
            with pytest.raises(ManagerLost, match="ended or was killed"):
                action()
        # What is in Redis does not depend on it.
        assert shared["a"] == 1
    assert [key for key in evidence.object_keys() if ":m:" not in key] == []


def wait_in_vain(log: Log, host: Any) -> None:
    with pytest.raises(ManagerLost):
        host.sleep(log)


def ask(log: Log, host: Any) -> None:
    log("asks", host.pid())
    try:
        host.sleep(log)
    except (EOFError, ConnectionError) as error:  # as CPython's are
        log("told", str(error))


def test_a_server_process_ends_with_its_program(evidence: Evidence, log: Log) -> None:
    child = start(log, have_host)
    pid = log.wait("host")[1]
    child.kill()
    child.join()
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the server process")
    eventually(lambda: not evidence.object_keys(), lambda: str(evidence.object_keys()))


def have_host(log: Log) -> None:
    hosts = Hosts()
    hosts.start()
    kept = hosts.Host(), hosts.dict(a=[hosts.list()])
    log("host", kept[0].pid())
    threading.Event().wait()


# -- who has something dies --


def read_and_stop(log: Log, shared: Any) -> None:
    """Be killed in the middle of reading page by page."""
    storing.PAGE = 1
    client = session.current().client
    steps = storing.entries(shared._referent.scripts, client, 1)
    step = next(steps)
    for _ in range(2):
        step = steps.send(client.execute(step))
    log("reads")
    threading.Event().wait()


def test_a_reader_that_is_killed_keeps_nothing(evidence: Evidence, log: Log) -> None:
    with mp.Manager() as manager:
        shared = manager.dict(a=LARGE, b=manager.list([1]))
        child = start(log, read_and_stop, shared)
        log.wait("reads")
        shared["a"] = shared["b"] = 0
        session.current().settle()  # we have no proxy of the list any more
        assert [key for key in evidence.object_keys() if ":b:" in key]
        child.kill()
        child.join()
        eventually(lambda: len(evidence.object_keys()) == 4, lambda: str(evidence.object_keys()))
        assert shared.copy() == {"a": 0, "b": 0}


def merge_and_stop(log: Log, shared: Any, turn: int) -> None:
    """Be killed when a batch counts, and half of it is entered."""
    execute = Client.execute

    def stop(self: Client, step: Any) -> Any:
        reply = execute(self, step)
        if isinstance(step, Call) and step.bound.script.name == "dict/enter":
            log("has begun", turn)
            threading.Event().wait()
        return reply

    Client.execute = stop  # type: ignore[method-assign]
    storing.PAGE = 1
    shared.update(a=2, b=2, c=2)


def test_what_a_killed_process_began_to_enter_is_entered(evidence: Evidence, log: Log) -> None:
    looks: list[tuple[Callable[[Any], Any], Any]] = [
        (lambda d: d["b"], 2),
        (lambda d: d.copy(), {"a": 2, "b": 2, "c": 2}),
        (lambda d: d.setdefault("c", 5), 2),
    ]
    for turn, (look, expected) in enumerate(looks):
        with mp.Manager() as manager:
            shared = manager.dict(a=1, b=1)
            child = start(log, merge_and_stop, shared, turn)
            log.wait("has begun", turn)
            child.kill()
            child.join()
            assert look(shared) == expected
            assert shared.copy() == {"a": 2, "b": 2, "c": 2}
            assert not [key for key in evidence.object_keys() if ":b" in key]
        # And a manager that is shut down before anybody looks leaves nothing.
    with mp.Manager() as manager:
        child = start(log, merge_and_stop, manager.dict(a=1, b=1), len(looks))
        log.wait("has begun", len(looks))
        child.kill()
        child.join()
    assert [key for key in evidence.object_keys() if ":m:" not in key] == []


def take_and_stop(log: Log, shared: Any) -> None:
    shared.pop("a")
    log("has it")
    threading.Event().wait()


def test_what_a_killed_process_took_is_gone(evidence: Evidence, log: Log) -> None:
    with mp.Manager() as manager:
        shared = manager.dict(a=LARGE, b=1)
        child = start(log, take_and_stop, shared)
        log.wait("has it")
        child.kill()
        child.join()
        eventually(
            lambda: not [key for key in evidence.object_keys() if ":b" in key],
            lambda: str(evidence.object_keys()),
        )
        assert shared.copy() == {"b": 1}


# -- the state is gone --


def operations(shared: Any, elements: Any) -> list[Callable[[], Any]]:
    return [
        *(lambda: shared["a"], lambda: shared["x"], lambda: "x" in shared, lambda: len(shared)),
        *(lambda: shared.__setitem__("x", 1), lambda: shared.update(x=1), lambda: shared.pop("a")),
        *(lambda: shared.setdefault("x", 1), lambda: shared.add("a", 1), shared.popitem),
        *(lambda: shared.compare_set("a", 1, 2), shared.clear, shared.copy, lambda: list(shared)),
        *(lambda: elements[0], lambda: elements[9], lambda: len(elements), lambda: elements[:]),
        *(lambda: elements.append(1), lambda: elements.pop(), lambda: elements.index(1)),
        *(lambda: elements.insert(0, 1), elements.reverse, elements.sort, elements.clear),
        *(lambda: elements.__setitem__(0, 1), lambda: elements.__imul__(2)),
    ]


def test_what_is_gone_never_reads_as_empty() -> None:
    with running(tcp=True) as server, program(url_of(server.settings), HEARTBEAT=0.3, LEASE=5.0):
        manager = mp.Manager()
        shared, elements = manager.dict(a=1, b=2), manager.list([1, 2])
        others = manager.Namespace(a=1), manager.Value("i", 1), manager.Array("i", [1])
        restart(server)
        for action in (
            *operations(shared, elements),
            *(lambda: others[0].a, lambda: others[1].value, lambda: others[2][0]),
        ):
            with pytest.raises(ObjectExpired):
                action()
        manager.shutdown()


def test_entries_that_were_evicted_are_missed(evidence: Evidence) -> None:
    """The server may throw one key of several away, if it is told to (``maxmemory-policy``)."""
    with mp.Manager() as manager:
        shared, elements = manager.dict(a=1, b=2), manager.list([1, 2])
        for one in (shared, elements):
            evidence.server.command("DEL", one._referent.scripts.items)
        for action in operations(shared, elements):
            with pytest.raises(ObjectExpired):
                action()
