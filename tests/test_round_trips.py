"""How often each operation goes to the server, as the client and as the server count it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import fixtures
from support.programs import Evidence, meanwhile, program, url_of
from support.servers import Server, eventually

import lithops_mp as mp
from lithops_mp import protocols
from lithops_mp._store import client, keys, session
from lithops_mp.connection import wait
from lithops_mp.memory import PAGE

#: What a client of ours sends. The commands inside scripts are counted apart.
COMMANDS = ("evalsha", "eval", "script|load", "blpop", "xread", "ping")

server = fixtures.server(tcp=True)


@pytest.fixture
def counts(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    # Nobody else talks to the server: no signs of life, no safety checks.
    with program(url_of(server.settings), HEARTBEAT=3600):
        monkeypatch.setattr(protocols, "SAFETY", 60.0)
        warm_up()
        yield Counts(server)


def warm_up() -> None:
    """Have every script loaded."""
    lock, event, barrier = mp.RLock(), mp.Event(), mp.Barrier(2)
    condition, semaphore = mp.Condition(lock), mp.Semaphore(1)
    with condition, semaphore:
        condition.notify()
    with condition:
        condition.wait(0.001)
    event.set()
    event.clear()
    event.wait(0.001)
    with meanwhile(barrier.wait):
        barrier.wait()
    with lock:
        pass
    for queue in (mp.Queue(), mp.Queue(1), mp.SimpleQueue()):
        queue.put(1)
        queue.get()
    here, there = mp.Pipe()
    here.send(there.poll())
    there.recv()
    for shared in mp.Array("i", 3), mp.Array("B", 3 * PAGE), mp.RawArray("B", 3 * PAGE):
        shared[0] = shared[0]
        shared.add(0, 1)
        for _ in range(2):
            with getattr(shared, "get_lock", mp.Lock)():
                shared[1] += 1
    with condition:
        mp.Value("i", lock=lock).value = 1
        condition.wait(0.001)
    first, second = mp.Value("i", lock=lock), mp.Value("i", lock=lock)
    with lock:
        first.value = second.value = 1


class Counts:
    """Counts what happens at the server, which only the test uses."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def at_server(self) -> int:
        text = self.server.command("INFO", "commandstats").decode()
        found = 0
        for line in text.splitlines():
            name, _, rest = line.removeprefix("cmdstat_").partition(":calls=")
            if name in COMMANDS:
                found += int(rest.partition(",")[0])
        return found

    def of(self, operation: Callable[[], Any]) -> tuple[int, int]:
        """Round trips of the calling thread's client, and commands at the server."""
        client = session.current().client
        trips, commands = client.round_trips, self.at_server()
        operation()
        return client.round_trips - trips, self.at_server() - commands


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_uncontended_lock_takes_one_each(counts: Counts, kind: str) -> None:
    lock = getattr(mp, kind)()
    for _ in range(3):
        assert counts.of(lock.acquire) == (1, 1)
        assert counts.of(lock.release) == (1, 1)


def test_lock_that_is_not_to_be_had_takes_one(counts: Counts) -> None:
    lock = mp.Lock()
    lock.acquire()
    assert counts.of(lambda: lock.acquire(block=False)) == (1, 1)
    lock.release()


def test_nested_rlock_takes_none(counts: Counts) -> None:
    rlock = mp.RLock()
    with rlock:
        assert counts.of(rlock.acquire) == (0, 0)
        assert counts.of(rlock.release) == (0, 0)


def test_call_on_a_warm_pool_takes_six(counts: Counts) -> None:
    """Add, and take twice with a wait; the worker steps, and waits."""
    with mp.Pool(1) as pool:
        pool.apply(int)
        eventually(lambda: idle_worker(counts, pool), "an idle worker")
        before = counts.at_server()
        for _ in range(5):
            pool.apply(int)
            eventually(lambda: idle_worker(counts, pool), "an idle worker")
        eventually(lambda: counts.at_server() - before >= 30, "thirty commands")
        assert counts.at_server() - before == 30
    pool.join()


def idle_worker(counts: Counts, pool: Any) -> bool:
    """Wait there for a task, and here for a result?"""
    ident = pool._inqueue.shop.ref.ident
    line = counts.server.command("LLEN", keys.waiters(ident))
    return bool(line and counts.server.command("HGET", keys.state(ident), "taker"))


def test_thousand_tasks_take_a_fraction_of_that(counts: Counts) -> None:
    with mp.Pool(1) as pool:
        pool.map(int, [0] * 1000, 1)
        before = counts.at_server()
        pool.map(int, [0] * 1000, 1)
        assert counts.at_server() - before < 500
    pool.join()


def test_creation_takes_one(counts: Counts) -> None:
    kept = []
    assert counts.of(lambda: kept.append(mp.Lock()))[0] == 1


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_contended_acquire_takes_one_and_a_wake_up(counts: Counts, kind: str) -> None:
    lock = getattr(mp, kind)()
    lock.acquire()
    trips: list[int] = []
    before = counts.at_server()
    with meanwhile(lambda: trips.append(_trips(lock.acquire))):
        _wait_blocked(counts)
        assert counts.of(lock.release)[0] == 1
    assert trips == [2]
    assert counts.at_server() - before == 3  # acquire, its wake-up, release


def test_semaphore_handed_over_takes_an_acknowledgement_more(counts: Counts) -> None:
    semaphore = mp.Semaphore(0)
    trips: list[int] = []
    with meanwhile(lambda: trips.append(_trips(semaphore.acquire))):
        _wait_blocked(counts)
        assert counts.of(semaphore.release)[0] == 1
    assert trips == [3]


def test_condition_wait_takes_one_with_the_wake_up(
    counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "EAGER", 60)
    condition = mp.Condition(mp.Lock())
    trips: list[int] = []

    def wait() -> None:
        with condition:
            trips.append(_trips(condition.wait))

    with meanwhile(wait):
        line = keys.waiters(condition._sleeping_count.ref.ident)
        eventually(lambda: counts.server.command("LLEN", line), "a waiter")
        with condition:
            assert counts.of(condition.notify) == (1, 1)
    assert trips == [1]


def test_condition_wait_that_takes_long_takes_two_and_the_wake_up(counts: Counts) -> None:
    condition = mp.Condition(mp.Lock())
    trips: list[int] = []

    def wait() -> None:
        with condition:
            trips.append(_trips(condition.wait))

    with meanwhile(wait):
        _wait_blocked(counts)
        with condition:
            assert counts.of(condition.notify) == (1, 1)
    assert trips == [3]


def test_event_takes_one_each(counts: Counts) -> None:
    event = mp.Event()
    assert counts.of(event.is_set) == (1, 1)
    assert counts.of(event.set) == (1, 1)
    assert counts.of(event.is_set) == (1, 1)
    assert counts.of(event.wait) == (1, 1)
    assert counts.of(event.clear) == (1, 1)


def test_event_wait_takes_one_and_a_wake_up(counts: Counts) -> None:
    event = mp.Event()
    trips: list[int] = []
    before = counts.at_server()
    with meanwhile(lambda: trips.append(_trips(event.wait))):
        _wait_blocked(counts)
        event.set()
    assert trips == [2]
    assert counts.at_server() - before == 3


def test_barrier_takes_one_with_the_wake_up(
    counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "EAGER", 60)
    barrier = mp.Barrier(2)
    trips: list[int] = []
    with meanwhile(lambda: trips.append(_trips(barrier.wait))):
        eventually(lambda: barrier.n_waiting == 1, "the first")
        assert counts.of(barrier.wait)[0] == 1
    assert trips == [1]


def test_barrier_for_which_others_come_late_takes_two_and_a_wake_up(counts: Counts) -> None:
    barrier = mp.Barrier(2)
    trips: list[int] = []
    before = counts.at_server()
    with meanwhile(lambda: trips.append(_trips(barrier.wait))):
        _wait_blocked(counts)
        assert counts.of(barrier.wait)[0] == 1
    assert trips == [3]
    assert counts.at_server() - before == 4


# -- messages --


@pytest.mark.parametrize("kind", ["bounded", "simple"])
def test_put_and_get_take_one_each(counts: Counts, kind: str) -> None:
    queue = mp.Queue(5) if kind == "bounded" else mp.SimpleQueue()
    queue.put(0)
    queue.get()
    for _ in range(2):
        assert counts.of(lambda: queue.put(1)) == (1, 1)
    if kind == "bounded":
        assert counts.of(queue.get_nowait) == (1, 1)
        assert counts.of(queue.qsize) == (1, 1)
    else:
        assert counts.of(queue.empty) == (1, 1)
    queue.get()


def test_unbounded_puts_take_one_together(counts: Counts) -> None:
    queue = mp.Queue()
    queue.put(0)
    session.current().settle()
    before = counts.at_server()
    with session.current().outbox._lock:  # as if the server were busy
        for number in range(100):
            queue.put(number)
    assert queue.qsize() == 101
    assert counts.at_server() - before == 2


def test_quick_consumer_takes_many_at_once(counts: Counts) -> None:
    queue = mp.Queue()
    for number in range(1000):
        queue.put(number)
    session.current().settle()
    before = counts.at_server()
    assert [queue.get() for _ in range(1000)] == list(range(1000))
    assert counts.at_server() - before < 200  # by and by, and not one for each


@pytest.mark.parametrize("kind", ["SimpleQueue", "Pipe"])
def test_quick_reader_takes_many_at_once(counts: Counts, kind: str) -> None:
    put: Callable[[Any], Any]
    get: Callable[[], Any]
    if kind == "Pipe":
        reader, writer = mp.Pipe(duplex=False)
        put, get = writer.send, reader.recv
    else:
        queue = mp.SimpleQueue()
        put, get = queue.put, queue.get
    for number in range(500):
        put(number)
    before = counts.at_server()
    assert [get() for _ in range(500)] == list(range(500))
    assert counts.at_server() - before < 100


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "Pipe"])
def test_get_that_waits_takes_one_and_the_first_time_two(
    counts: Counts, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "EAGER", 60)  # or a slow machine would have it ask again
    put: Callable[[Any], Any]
    get: Callable[[], Any]
    if kind == "Pipe":
        reader, writer = mp.Pipe(duplex=False)
        put, get, ident = writer.send, reader.recv, reader._handle.ref.ident
    else:
        queue = getattr(mp, kind)()
        put, get, ident = queue.put, queue.get, queue._channel.ref.ident
    trips: list[int] = []

    def several() -> None:
        for _ in range(3):
            trips.append(_trips(get))

    with meanwhile(several):
        for number in range(3):
            eventually(lambda n=number: len(trips) == n, "the one before")
            if number:  # it listens
                eventually(lambda: counts.server.command("LLEN", keys.waiters(ident)), "a line")
            else:
                _wait_blocked(counts)
            put(number)
    assert trips == [2, 1, 1]


def test_who_listens_is_heard_although_somebody_keeps_flushing_the_scripts(
    counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "EAGER", 3.0)
    queue = mp.SimpleQueue()
    trips: list[int] = []
    turn = threading.Semaphore(0)

    def several() -> None:
        for _ in range(5):
            turn.acquire()
            trips.append(_trips(queue.get))

    waiters = keys.waiters(queue._channel.ref.ident)
    with meanwhile(several):
        for number in range(5):
            counts.server.command("SCRIPT", "FLUSH")
            turn.release()
            eventually(lambda: counts.server.command("LLEN", waiters), "a line")
            queue.put(number)
            eventually(lambda n=number: len(trips) > n, "what was put")
    # At first it does not listen, and finds the script missing; then it sends it. The third
    # request is lost, which shows that somebody flushes.
    assert trips == [3, 1, 4, 1, 1]


def test_put_that_waits_takes_one_and_a_wake_up(counts: Counts) -> None:
    queue = mp.Queue(1)
    queue.put(1)
    trips: list[int] = []
    with meanwhile(lambda: trips.append(_trips(lambda: queue.put(2)))):
        _wait_blocked(counts)
        assert counts.of(queue.get_nowait)[0] == 1
    assert trips == [2]


def test_connection_takes_one_each(counts: Counts) -> None:
    here, there = mp.Pipe()
    here.send(0)
    there.recv()
    assert counts.of(there.poll) == (1, 1)
    assert counts.of(lambda: here.send(1)) == (1, 1)
    assert counts.of(lambda: here.send_bytes(b"1")) == (1, 1)
    assert counts.of(there.poll) == (1, 1)
    assert counts.of(there.recv) == (1, 1)
    assert counts.of(there.recv_bytes) == (1, 1)


def test_wait_takes_one_and_a_wake_up_and_another_look(counts: Counts) -> None:
    pipes = [mp.Pipe(duplex=False) for _ in range(5)]
    readers = [reader for reader, _ in pipes]
    assert counts.of(lambda: wait(readers, 0))[0] == 1
    trips: list[int] = []
    with meanwhile(lambda: trips.append(_trips(lambda: wait(readers)))):
        _wait_blocked(counts)
        pipes[3][1].send(1)


# -- shared memory --


def region_of(value: Any) -> Any:
    return value.get_obj()._b_access_.region


def increment(value: Any) -> None:
    with value.get_lock():
        value.value += 1


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_locked_increment_takes_two(counts: Counts, kind: str) -> None:
    value = mp.Value("i", 0, lock=getattr(mp, kind)())
    for _ in range(3):
        assert counts.of(lambda: increment(value)) == (2, 2)
    assert value.value == 3


def test_thousand_writes_in_one_section_take_two(counts: Counts) -> None:
    numbers = mp.Array("i", 1000)

    def fill() -> None:
        with numbers:
            for place in range(1000):
                numbers[place] = place
            assert numbers[::-1][0] == sum(numbers) - sum(range(999))
            with numbers.get_lock():
                numbers.add(0, 5)

    assert counts.of(fill)[0] == 2
    assert numbers[0] == 5


def test_reading_or_nothing_in_a_section_takes_two(counts: Counts) -> None:
    value = mp.Value("d", 1.5)

    def look() -> None:
        with value:
            assert value.value == 1.5

    assert [counts.of(look)[0] for _ in range(3)] == [2, 2, 2]

    def nothing() -> None:
        with value:
            pass

    assert [counts.of(nothing)[0] for _ in range(3)] == [2, 2, 2]
    assert [counts.of(look)[0] for _ in range(3)] == [3, 2, 2]  # it was not used for a while


def test_several_objects_of_one_lock_take_two(counts: Counts) -> None:
    lock = mp.Lock()
    values = [mp.Value("i", lock=lock) for _ in range(5)]

    def use() -> None:
        with lock:
            for value in values[:3]:
                value.value += 1

    assert [counts.of(use)[0] for _ in range(3)] == [2, 2, 2]
    assert [value.wanted for value in map(region_of, values)] == [True] * 3 + [False] * 2


@pytest.mark.parametrize("lock", [True, False])
def test_without_holding_the_lock_each_access_takes_one(counts: Counts, lock: bool) -> None:
    value, numbers = mp.Value("i", lock=lock), mp.Array("d", range(100), lock=lock)
    for operation in (
        *(lambda: value.value, lambda: setattr(value, "value", 3)),
        *(lambda: numbers[5], lambda: numbers.__setitem__(5, 1)),
        *(lambda: numbers[5:50], lambda: numbers.__setitem__(slice(5, 8), [1, 2, 3])),
        *(lambda: numbers[::-7], lambda: numbers.__setitem__(slice(None, None, 50), [1, 2])),
        *(lambda: list(numbers), lambda: sum(reversed(numbers)), lambda: 99.0 in numbers),
        *(lambda: value.add(1), lambda: value.compare_exchange(0, 1)),
        *(lambda: numbers.max(3, 7), lambda: numbers.exchange(3, 7)),
    ):
        assert counts.of(operation)[0] == 1
    assert counts.of(lambda: len(numbers)) == (0, 0)


def test_a_large_array_is_fetched_by_page(counts: Counts) -> None:
    big = mp.Array("B", 10 * PAGE)

    def touch(*places: int) -> None:
        with big:
            for place in places:
                big[place] += 1

    assert counts.of(lambda: touch(5, 6, PAGE - 1))[0] == 3  # the page is fetched
    assert counts.of(lambda: touch(7, 8))[0] == 2  # and still known
    with meanwhile(lambda: big.__setitem__(3, 1)):
        pass
    assert counts.of(lambda: touch(7))[0] == 2  # what was touched last is asked for
    assert counts.of(lambda: touch(9 * PAGE, 9 * PAGE + 1))[0] == 3


def test_a_large_array_that_is_used_whole_takes_few(counts: Counts) -> None:
    big, data = mp.Array("B", 10 * PAGE), bytes(range(256)) * (10 * PAGE // 256)
    assert counts.of(lambda: big.__setitem__(slice(None), data))[0] == 2
    assert counts.of(lambda: big[:])[0] == 1

    def reverse() -> None:
        with big:
            big[:] = big[::-1]

    assert counts.of(reverse)[0] == 4  # acquire, its bytes, the new ones, release
    assert big[0] == 255


def test_shared_memory_is_created_in_one_and_its_lock_in_another(counts: Counts) -> None:
    kept: list[Any] = []
    assert counts.of(lambda: kept.append(mp.RawValue("i", 3)))[0] == 1
    assert counts.of(lambda: kept.append(mp.RawArray("d", 10**6)))[0] == 1
    assert counts.of(lambda: kept.append(mp.Value("i", 3)))[0] == 2
    assert counts.of(lambda: kept.append(mp.RawArray("d", range(10**5))))[0] == 2


def test_waiting_for_a_lock_and_its_data_takes_two_more_than_having_it(counts: Counts) -> None:
    value = mp.Value("i")
    value.acquire()
    trips: list[int] = []
    with meanwhile(lambda: trips.append(_trips(lambda: increment(value)))):
        _wait_blocked(counts)
        value.value += 1
        value.release()
    assert trips == [4]  # acquire, wake-up, data, release
    assert value.value == 2


def test_where_a_line_is_expected_the_data_takes_one_more(
    counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "EAGER", 10.0)
    value = mp.Value("i")
    trips: list[int] = []

    def twice() -> None:
        trips.append(_trips(lambda: increment(value)))
        go.set()
        again.wait()
        trips.append(_trips(lambda: increment(value)))

    go, again = threading.Event(), threading.Event()
    value.acquire()
    with meanwhile(twice):
        _wait_blocked(counts)
        value.release()
        go.wait()
        value.acquire()
        again.set()
        eventually(lambda: value.get_lock()._semlock._look()[2] == 1, "a listener in line")
        value.value += 1
        value.release()
    assert trips == [4, 3]  # to ask and listen is one; data, release
    assert value.value == 3


def test_a_condition_that_has_something_to_write_takes_one_more(counts: Counts) -> None:
    condition = mp.Condition(mp.Lock())
    value = mp.Value("i", lock=condition._lock)
    trips: list[int] = []

    def wait() -> None:
        with condition:
            value.value = 1
            trips.append(_trips(condition.wait))

    with meanwhile(wait):
        _wait_blocked(counts)
        with condition:
            assert counts.of(condition.notify) == (1, 1)
    assert trips == [4]  # the change, to listen, to ask, the wake-up


#: One script, or a plain read, each.
OF_DICT: dict[str, Callable[[Any], Any]] = {
    "d[k]": lambda d: d["a"],
    "d[k] = v": lambda d: d.__setitem__("a", 2),
    "d[new] = v": lambda d: d.__setitem__("new", 2),
    "del d[k]": lambda d: d.__delitem__("a"),
    "k in d": lambda d: "x" in d,
    "len": len,
    "get": lambda d: d.get("a"),
    "pop": lambda d: d.pop("a"),
    "pop, default": lambda d: d.pop("x", 5),
    "popitem": lambda d: d.popitem(),
    "setdefault": lambda d: d.setdefault("x", 5),
    "update": lambda d: d.update(x=5, y=6),
    "|=": lambda d: d.__ior__({"x": 5}),
    "clear": lambda d: d.clear(),
    "keys": lambda d: d.keys(),
    "values": lambda d: d.values(),
    "items": lambda d: d.items(),
    "copy": lambda d: d.copy(),
    "iteration": lambda one: [*map(repr, one)],  # list() alone asks for the length, too
    "str": str,
    "add": lambda d: d.add("a", 1),
}
OF_LIST: dict[str, Callable[[Any], Any]] = {
    "l[i]": lambda one: one[1],
    "l[i] = v": lambda one: one.__setitem__(1, 5),
    "del l[i]": lambda one: one.__delitem__(1),
    "l[a:b:c]": lambda one: one[::2],
    "l[a:b] = s": lambda one: one.__setitem__(slice(1, 2), [4, 5, 6]),
    "del l[a:b:c]": lambda one: one.__delitem__(slice(None, None, 2)),
    "append": lambda one: one.append(5),
    "extend": lambda one: one.extend([5, 6]),
    "insert": lambda one: one.insert(1, 5),
    "pop": lambda one: one.pop(),
    "pop(i)": lambda one: one.pop(0),
    "remove": lambda one: one.remove(2),
    "reverse": lambda one: one.reverse(),
    "index": lambda one: one.index(2),
    "count": lambda one: one.count(2),
    "v in l": lambda one: 7 in one,
    "len": len,
    "*=": lambda one: one.__imul__(2),
    "iteration": lambda one: [*map(repr, one)],  # list() alone asks for the length, too
}


@pytest.mark.parametrize("what", OF_DICT)
def test_every_method_of_a_dict_takes_one(counts: Counts, what: str) -> None:
    with mp.Manager() as manager:
        _warm(manager)
        shared = manager.dict(a=1, b=[2], c="three")
        assert _trips(lambda: OF_DICT[what](shared)) == 1


@pytest.mark.parametrize("what", OF_LIST)
def test_every_method_of_a_list_takes_one(counts: Counts, what: str) -> None:
    with mp.Manager() as manager:
        _warm(manager)
        shared = manager.list([1, 2, 3])
        assert _trips(lambda: OF_LIST[what](shared)) == 1


def test_what_needs_python_takes_two(counts: Counts) -> None:
    with mp.Manager() as manager:
        _warm(manager)
        shared, elements = manager.dict(a=(1,)), manager.list([3, (1,)])
        assert _trips(lambda: shared.compare_set("a", (1,), (2,))) == 2
        assert _trips(lambda: elements.sort(key=str)) == 2
        # One more finds out that some elements are no numbers or texts.
        assert _trips(lambda: elements.remove((1,))) == 2
        assert _trips(lambda: elements.remove(3)) == 3


def _warm(manager: Any) -> None:
    """Have every script loaded."""
    for of, make in (OF_DICT, lambda: manager.dict(a=1)), (OF_LIST, lambda: manager.list([1, 2])):
        for operation in of.values():
            operation(make())
    shared = manager.dict(a=())
    shared.compare_set("a", (), 1)
    manager.list([2, 1]).sort()


def _trips(operation: Callable[[], Any]) -> int:
    """Round trips of an operation in the calling thread."""
    client = session.current().client
    before = client.round_trips
    operation()
    return client.round_trips - before


def _wait_blocked(counts: Counts) -> None:
    """Until the one waiter there is is blocked."""
    evidence = Evidence(counts.server)
    eventually(lambda: any("b" in c["flags"] for c in evidence.clients()), "a blocked client")
    assert threading.active_count() > 1
