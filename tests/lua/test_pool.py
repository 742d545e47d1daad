"""The scripts of pools, each alone."""

from __future__ import annotations

import msgpack
import pytest
from explore.machine import State

from lithops_mp._store import keys
from lithops_mp._store.scripts import command, packed

from .play import POOL, Case, Run, check, number, play, pool, unproduced
from .test_queue import large, ledger

STATE, WAITERS = keys.state(POOL.ident), keys.waiters(POOL.ident)
TASKS, RESULTS, BLOBS = keys.items(POOL.ident), keys.parked(POOL.ident), keys.blobs(POOL.ident)


def add(seq: int, *tasks: str, client: str = "M.0") -> Run:
    first, *more = tasks
    more_packed = packed([task.encode() for task in more]) if more else b""
    return Run("pool/add", {"client": client, "seq": seq, "task": first, "more": more_packed}, POOL)


def step(
    client: str, seq: int, *results: str, of: int | None = None, base: int = 0, want: int = 1
) -> Run:
    """Of the request before, if nothing else is said."""
    given = packed([result.encode() for result in results]) if results else b""
    of = seq - 1 if of is None else of
    args = {"client": client, "seq": seq, "of": number(of), "base": base, "results": given}
    return Run("pool/step", {**args, "want": want}, POOL)


def report(client: str, of: int, *results: str, base: int = 0, begun: int = 1) -> Run:
    given = packed([result.encode() for result in results]) if results else b""
    args = {"client": client, "of": number(of), "base": base, "results": given, "begun": begun}
    return Run("pool/report", args, POOL)


def cancel(client: str, seq: int) -> Run:
    return Run("pool/cancel", {"client": client, "seq": seq}, POOL)


def tell(client: str, seq: int, element: str = "YA:0") -> Run:
    return Run("pool/tell", {"client": client, "seq": seq, "element": element}, POOL)


def take(seq: int, got: int = 0, want: int = 9, client: str = "M.1") -> Run:
    return Run("pool/take", {"client": client, "seq": seq, "got": got, "want": want}, POOL)


def close(drop: int = 0) -> Run:
    return Run("pool/close", {"drop": drop}, POOL)


def keep(name: str) -> Run:
    return Run("pool/keep", {"element": large(name)}, POOL)


def bury(process: str, seen: bytes = b"", died: str = "died") -> Run:
    return Run("pool/bury", {"process": process, "died": died, "seen": seen}, POOL)


def task(name: str, deaths: int = 0, message: str = "0") -> str:
    return f"{deaths}{name}:{message}"


def result(name: str, message: str = "0") -> str:
    return f"R{name}:{message}"


def stored(*names: str) -> list[bytes]:
    """The keys of large messages, as a sender writes them."""
    blobs = [keys.blob(POOL.ident, name, piece) for name in names for piece in range(2)]
    return [command("SET", blob, "x", "PX", 60000) for blob in blobs]


def blobs_in(state: State) -> list[str]:
    found = {key.split(":")[-2] for key in state.content if key.startswith(f"{BLOBS}:")}
    assert {member.partition(":")[2] for member in state.content.get(BLOBS, ())} == found
    return sorted(found)


def hand(state: State, client: str) -> list[object]:
    """How many of its tasks have results, and the tasks; empty if it has none."""
    record = state.hash(STATE).get(f"t:{client}", "")
    if record[12:13] != "H":
        return []
    done, *tasks = msgpack.unpackb(record[13:].encode("latin-1"))
    return [done, *tasks]


def names(state: State, key: str) -> list[str]:
    return [element.partition(":")[0] for element in state.content.get(key, ())]


A, B, C, D, E, F = (task(name) for name in "abcdef")
#: Six tasks; the worker A has taken one, then asked for more, and got its share.
SIX = [*pool(), add(1, A, B, C, D, E, F)]
ONE = [*SIX, step("A.0", 1)]
SOME = [
    *pool(),
    add(1, A, B, C, D, E, F, task("g")),
    step("A.0", 1),
    step("A.0", 2, "Ra:0", want=9),
]
IDLE = [*pool(), step("A.0", 1), step("B.0", 1)]
GIVEN = [*IDLE, add(1, A)]
CLOSED = [*IDLE, close()]
RESULT = [*ONE, step("A.0", 2, "Ra:0")]
LEFT = [*pool(), step("A.0", 1, want=0)]
NOTHING = ledger()
OTHER = [command("HSET", STATE, "fmt", "pool/9"), command("PEXPIRE", STATE, 60000)]
LARGE = [*pool(), *stored("x"), add(1, task("a", message=large("x")))]

SCRIPTS = {
    "pool/add": add(1, A),
    "pool/step": step("A.0", 1),
    "pool/report": report("A.0", 1),
    "pool/cancel": cancel("A.0", 1),
    "pool/tell": tell("A.0", 1),
    "pool/take": take(1),
    "pool/close": close(),
    "pool/keep": keep("x"),
    "pool/bury": bury("A"),
}

CASES = [
    *(Case("GONE", call, []) for call in SCRIPTS.values()),
    *(Case("VERSION pool/9", call, OTHER) for call in SCRIPTS.values()),
    Case("PUT", add(1, A), pool()),
    Case("PUT", add(1, A, B, C), IDLE),
    Case("PUT", add(1, A), IDLE),
    Case("PUT", add(1, task("a", message=large("x"))), [*pool(), *stored("x")]),
    Case("STALE", add(1, A), [*SIX, add(2, A)]),
    Case("TASKS 0a:0", step("A.0", 1), SIX),
    Case("TASKS 0a:0", step("A.0", 1), GIVEN),
    Case("TASKS 0a:0 0b:0 0c:0", step("A.0", 1, want=9), SIX),
    Case("TASKS 0a:0 0b:0", step("A.0", 1, want=2), SIX),
    Case("TASKS 0b:0", step("A.0", 2, "Ra:0"), ONE),
    Case("TASKS 0b:0", step("B.0", 1), ONE),
    Case("TASKS 0a:0", step("A.0", 1), [*SIX, close()]),
    Case("QUEUED", step("A.0", 1), pool()),
    Case("QUEUED", step("A.0", 2, "Ra:0"), [*IDLE, add(1, A)]),
    Case("CLOSED", step("A.0", 1), [*pool(), close()]),
    Case("CLOSED", step("A.0", 1), CLOSED),
    Case("CLOSED", step("A.0", 1), [*IDLE, bury("main")]),
    Case("LEFT", step("A.0", 1, want=0), SIX),
    Case("LEFT", step("A.0", 2, "Ra:0", want=0), ONE),
    Case("LEFT", step("A.0", 3, "Rb:0", want=0), SOME),
    Case("STALE", step("A.0", 1), SOME),
    Case("STALE", step("A.0", 2, "Ra:0"), [*ONE, bury("A")]),
    Case("STALE", step("A.1", 1), [*SIX, bury("A")]),
    Case("OK", report("A.0", 2, "Rb:0", begun=2), SOME),
    Case("OK", report("A.0", 2, begun=1), SOME),
    Case("OK", report("A.0", 1, "Ra:0"), SOME),
    Case("OK", report("A.0", 2, "Rb:0"), [*SOME, bury("A")]),
    Case("LEFT", cancel("A.0", 1), IDLE),
    Case("LEFT", cancel("A.0", 1), pool()),
    Case("TASKS 0a:0", cancel("A.0", 1), GIVEN),
    Case("CLOSED", cancel("A.0", 1), CLOSED),
    Case("STALE", cancel("A.0", 1), SOME),
    Case("OK", tell("A.0", 1), pool()),
    Case("OK", tell("A.0", 1, "FA:" + large("x")), [*pool(), *stored("x")]),
    Case("STALE", tell("A.0", 1), [*pool(), tell("A.0", 2)]),
    Case("EMPTY", take(1), pool()),
    Case("EMPTY", take(2, 1), [*RESULT, take(1)]),
    Case("RESULTS Ra:0", take(1), RESULT),
    Case("RESULTS Ra:0", take(1), [*ONE, take(1), step("A.0", 2, "Ra:0")]),
    Case("RESULTS Ra:0", take(1, want=1), [*RESULT, tell("A.0", 3)]),
    Case("RESULTS Ra:0", take(2), [*RESULT, take(1)]),
    Case("RESULTS YA:0", take(2, 1), [*RESULT, tell("A.0", 3), take(1, want=1)]),
    Case("STALE", take(1), [*RESULT, take(2)]),
    Case("OK", close(), IDLE),
    Case("OK", close(drop=1), [*LARGE, add(2, A)]),
    Case("OK", keep("x"), [*pool(), *stored("x")]),
    Case("BURIED", bury("A"), IDLE),
    Case("BURIED", bury("A"), SOME),
    Case("BURIED", bury("A", NOTHING), SOME),
    Case("BURIED", bury("main"), IDLE),
    Case("BURIED", bury("A"), [*pool(retries=0), add(1, A), step("A.0", 1)]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    check(machine, case)


def test_every_reply_is_produced():
    assert not unproduced("pool/", CASES)


# -- who gets what --


def test_idle_workers_get_a_task_each_and_hear_of_it(machine):
    _, state = play(machine, *IDLE, add(1, A, B, C))
    assert (hand(state, "A.0"), hand(state, "B.0")) == ([0, A], [0, B])
    assert names(state, TASKS) == ["0c"]
    for client, given in ("A.0", A), ("B.0", B):
        hint = f"{number(1)}\x1fTASKS\x1f{given}"
        assert state.list(keys.mailbox(POOL.ident, client)) == [hint]


def test_a_worker_leaves_the_others_their_share(machine):
    for size, share in (1, 6), (2, 3), (6, 1), (9, 1):
        _, state = play(machine, *pool(size), add(1, A, B, C, D, E, F), step("A.0", 1, want=9))
        assert len(hand(state, "A.0")) - 1 == share


def test_a_task_that_a_worker_died_with_comes_alone(machine):
    again = task("b", 1)
    _, state = play(machine, *pool(1), add(1, A, again, C), step("A.0", 1, want=9))
    assert hand(state, "A.0") == [0, A]
    _, state = play(machine, step("A.0", 2, "Ra:0", want=9), state=state)
    assert (hand(state, "A.0"), names(state, TASKS)) == ([0, again], ["0c"])


def test_what_a_worker_that_leaves_has_not_begun_goes_to_one_that_is_idle(machine):
    before = [*pool(1), add(1, A, B, C), step("A.0", 1, want=9), step("B.0", 1)]
    _, state = play(machine, *before, step("A.0", 2, "Ra:0", want=0))
    assert (hand(state, "B.0"), names(state, TASKS)) == ([0, B], ["0c"])


def test_what_is_not_begun_while_a_task_takes_long_goes_to_others(machine):
    _, state = play(machine, *SOME, report("A.0", 2, "Rb:0", begun=2))
    assert hand(state, "A.0") == [1, B, C]
    assert names(state, TASKS) == ["0d", "0e", "0f", "0g"]
    assert names(state, RESULTS) == ["Ra", "Rb"]
    _, state = play(machine, step("A.0", 3, "Rc:0", base=1), state=state)
    assert names(state, RESULTS) == ["Ra", "Rb", "Rc"]
    assert hand(state, "A.0") == [0, D]


def test_it_goes_to_one_that_is_idle_at_once(machine):
    before = [*pool(1), add(1, A, B), step("A.0", 1, want=9), step("B.0", 1)]
    _, state = play(machine, *before, report("A.0", 1))
    assert (hand(state, "A.0"), hand(state, "B.0")) == ([0, A], [0, B])


def test_a_late_report_changes_nothing(machine):
    again = report("A.0", 2, "Rb:0", begun=2)
    _, state = play(machine, *SOME, again, step("A.0", 3, "Rc:0", base=1))
    assert play(machine, again, state=state) == ("OK", state)


# -- results --


def test_the_program_is_woken_by_the_first_result(machine):
    _, state = play(machine, *ONE, take(1))
    assert state.hash(STATE)["taker"] == f"M.1:{number(1)}"
    _, state = play(machine, step("A.0", 2, "Ra:0"), state=state)
    assert state.list(keys.mailbox(POOL.ident, "M.1")) == [f"{number(1)}\x1fREADY"]
    assert state.hash(STATE)["taker"] == ""


def test_results_lie_there_until_the_program_asks_for_more(machine):
    _, state = play(machine, *RESULT, tell("A.0", 3), take(1))
    assert names(state, RESULTS) == ["Ra", "YA"]
    _, state = play(machine, take(2, 1), state=state)
    assert names(state, RESULTS) == ["YA"]
    _, state = play(machine, take(3, 2), state=state)
    assert not state.has(RESULTS)


@pytest.mark.parametrize("seen", [b"", NOTHING], ids=["nobody knows", "nothing was begun"])
def test_a_result_of_one_that_was_buried_is_refused(seen, machine):
    """It was only frozen; its task runs elsewhere."""
    before = [*ONE, bury("A", seen), step("B.0", 1)]
    _, state = play(machine, *before, *stored("y"), step("A.0", 2, result("a", large("y"))))
    assert not state.has(RESULTS)
    assert hand(state, "B.0")[0] == 0
    _, state = play(machine, report("A.0", 1, result("a", large("y"))), state=state)
    assert not state.has(RESULTS)
    assert not blobs_in(state)


# -- deaths --

#: A has taken b, c and d with its second request, and has given the result of b.
BUSY = [*SOME, report("A.0", 2, "Rb:0", begun=3)]
DEATHS = {
    "nobody knows": (b"", ["1c", "1d", "0e", "0f", "0g"]),
    "only the one with a result was begun": (ledger(s0=(2, 1)), ["0c", "0d", "0e", "0f", "0g"]),
    "another one was begun": (ledger(s0=(2, 2)), ["1c", "0d", "0e", "0f", "0g"]),
    "all were begun": (ledger(s0=(2, 3)), ["1c", "1d", "0e", "0f", "0g"]),
    "its last word is about an earlier hand": (ledger(s0=(1, 1)), ["0c", "0d", "0e", "0f", "0g"]),
    "its last word is another thread's": (ledger(s1=(2, 3)), ["0c", "0d", "0e", "0f", "0g"]),
}


@pytest.mark.parametrize("name", DEATHS)
def test_what_a_dead_worker_had_in_hand_comes_first_again(name, machine):
    seen, left = DEATHS[name]
    _, state = play(machine, *BUSY, bury("A", seen))
    assert names(state, TASKS) == left
    assert names(state, RESULTS) == ["Ra", "Rb"]
    assert state.hash(STATE)["t:A.0"] == f"{number(999999999999)}D"


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_task_that_costs_too_many_workers_is_lost(retries, machine):
    _, state = play(machine, *pool(retries=retries), add(1, A, B))
    for death in range(retries + 1):
        assert names(state, TASKS) == [f"{death}a", "0b"]
        worker = f"W{death}"
        kill = bury(worker, ledger(s0=(1, 1)), died="who was killed")
        _, state = play(machine, step(f"{worker}.0", 1), kill, state=state)
    assert state.list(RESULTS) == ["La:0who was killed"]
    assert names(state, TASKS) == ["0b"]
    assert play(machine, kill, state=state) == ("BURIED", state)


def test_a_death_gives_its_tasks_to_who_is_idle(machine):
    before = [*pool(1), add(1, A, B), step("A.0", 1, want=9), step("B.0", 1), step("C.0", 1)]
    _, state = play(machine, *before, bury("A", ledger(s0=(1, 1))))
    assert (hand(state, "B.0"), hand(state, "C.0")) == ([0, task("a", 1)], [0, B])


def test_the_dead_wait_no_longer(machine):
    _, state = play(machine, *IDLE, bury("A", NOTHING), add(1, A))
    assert (hand(state, "A.0"), hand(state, "B.0")) == ([], [0, A])


def test_with_the_program_the_pool_ends(machine):
    _, state = play(machine, *IDLE, bury("main"))
    assert not state.has(WAITERS)
    for client in ("A.0", "B.0"):
        assert state.list(keys.mailbox(POOL.ident, client)) == [f"{number(1)}\x1fCLOSED"]
    assert play(machine, step("C.0", 1), state=state)[0] == "CLOSED"


# -- large messages --


def test_large_arguments_go_when_their_task_has_its_result(machine):
    before = [*LARGE, step("A.0", 1)]
    _, state = play(machine, *before)
    assert blobs_in(state) == ["x"]
    _, state = play(machine, bury("A"), step("B.0", 1), state=state)
    assert blobs_in(state) == ["x"]
    _, state = play(machine, step("B.0", 2, "Ra:0"), state=state)
    assert not blobs_in(state)


@pytest.mark.parametrize(
    "end", [close(drop=1), bury("A", died="late")], ids=["thrown away", "lost"]
)
def test_large_arguments_go_with_their_task(end, machine):
    before = [*pool(retries=0), *LARGE[1:]]
    if end.name == "pool/bury":
        before.append(step("A.0", 1))
    _, state = play(machine, *before, end)
    assert not blobs_in(state)


def test_a_large_result_goes_when_the_program_has_it(machine):
    _, state = play(machine, *ONE, *stored("y"), step("A.0", 2, result("a", large("y"))), take(1))
    assert blobs_in(state) == ["y"]
    _, state = play(machine, take(2, 1), state=state)
    assert not blobs_in(state)


def test_a_late_copy_does_not_take_a_large_result_away(machine):
    again = report("A.0", 2, result("b", large("y")), begun=2)
    _, state = play(machine, *SOME, *stored("y"), again, step("A.0", 3, "Rc:0", base=1))
    assert play(machine, again, state=state) == ("OK", state)
    assert blobs_in(state) == ["y"]


def test_a_function_lives_as_long_as_its_pool(machine):
    _, state = play(machine, *pool(), *stored("f"), keep("f"))
    assert blobs_in(state) == ["f"]
    ttl, _ = machine.run(state, command("PTTL", keys.blob(POOL.ident, "f", 1)))
    assert ttl > 60000
    drop = Run("object/unref", {"process": "main", "ended": 1}, POOL)
    assert play(machine, drop, state=state) == ("DELETED", machine.empty)


def test_what_nobody_will_read_is_not_kept(machine):
    for call in add(1, task("a", message=large("x"))), keep("x"):
        reply, state = play(machine, *stored("x"), call)
        assert reply == "GONE"
        assert state is machine.empty
