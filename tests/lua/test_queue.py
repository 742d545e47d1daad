"""The scripts of queues, each alone."""

from __future__ import annotations

import msgpack
import pytest

from lithops_mp import queueing
from lithops_mp._store import keys
from lithops_mp._store.families import Ref
from lithops_mp._store.scripts import command

from .play import QUEUE, TTL, Case, Run, check, number, play, queue, text, unproduced

STATE, ITEMS = keys.state(QUEUE.ident), keys.items(QUEUE.ident)
WAITERS, PARKED = keys.waiters(QUEUE.ident), keys.parked(QUEUE.ident)
BLOBS, STREAM = keys.blobs(QUEUE.ident), keys.stream(QUEUE.ident)


def packed(*elements: str | int) -> bytes:
    found: bytes = msgpack.packb(list(elements), use_bin_type=False)
    return found


def put(client: str, seq: int, element: str, *more: str, block: int = 1, ref: Ref = QUEUE) -> Run:
    args = {"client": client, "seq": seq, "block": block, "element": element}
    return Run("queue/put", {**args, "more": packed(*more) if more else b""}, ref)


def get(client: str, seq: int, block: int = 1, want: int = 1, ref: Ref = QUEUE) -> Run:
    return Run("queue/get", {"block": block, "client": client, "seq": seq, "want": want}, ref)


def cancel(what: str, client: str, seq: int, keep: int = 1) -> Run:
    args = {"what": what, "client": client, "seq": seq, "keep": keep}
    return Run("queue/cancel", args, QUEUE)


def settle(client: str, of: int, used: int) -> Run:
    return Run("queue/settle", {"client": client, "of": number(of), "used": used}, QUEUE)


def done(client: str, seq: int) -> Run:
    return Run("queue/done", {"client": client, "seq": seq}, QUEUE)


def look(watch: int = 0, ref: Ref = QUEUE) -> Run:
    return Run("queue/look", {"watch": watch}, ref)


def bury(process: str, seen: bytes = b"", died: str = "died", ref: Ref = QUEUE) -> Run:
    return Run("queue/bury", {"process": process, "died": died, "seen": seen}, ref)


def ledger(**slots: tuple[int, int]) -> bytes:
    """What a process's ledger says: ``s0=(1, 2)`` is slot 0, get 1, two messages."""
    words = {slot[1:]: (number(seq), count) for slot, (seq, count) in slots.items()}
    found: bytes = msgpack.packb(words)
    return found


#: Scripts that are told the number of a request.
STAMPED = {"put", "get", "cancel", "done"}

#: It knows of no message that was used.
NOTHING = ledger()


def bind(owner: str, process: str = "main") -> Run:
    fields = packed(*(word for field in queueing.fields().items() for word in field))
    args = {"fmt": "queue/1", "ttl": TTL, "process": process, "fields": fields, "owner": owner}
    return Run("queue/bind", args, QUEUE)


def unbind(owner: str, process: str = "main") -> Run:
    return Run("queue/unbind", {"process": process, "owner": owner}, QUEUE)


def answer(owner: str, process: str = "main") -> str:
    """Where it keeps what it answers."""
    return keys.answer(QUEUE.ident, process, owner.partition(" ")[2])


def drop(process: str) -> Run:
    return Run("object/unref", {"process": process, "ended": 0}, QUEUE)


def client_of(ticket: str) -> str:
    return ticket.partition(":")[0]


def large(name: str, size: int = 500, pieces: int = 2) -> str:
    """The element of a message that has keys of its own."""
    return f"1{size}:{pieces}:{name}"


def stored(name: str, pieces: int = 2) -> list[bytes]:
    """Those keys, as a sender writes them."""
    names = [keys.blob(QUEUE.ident, name, piece) for piece in range(pieces)]
    return [command("SET", key, "x", "PX", 60000) for key in names]


def blob_keys(state) -> list[str]:
    return [key for key in state.content if key.startswith(f"{BLOBS}:")]


ONE = [*queue(), put("A.0", 1, "0a")]
THREE = [*queue(), put("A.0", 1, "0a", "0b", "0c")]
LINE = [*queue(), get("A.0", 1), get("B.0", 1)]
FULL = [*queue(1), put("A.0", 1, "0a")]
OVER = [*FULL, put("A.0", 2, "0b")]
ROOM = [*queue(room=2), put("A.0", 1, "0a")]
TASK = [*queue(joinable=True), put("A.0", 1, "0a")]
LATER = [*queue(), get("A.0", 5, block=0)]
SERVED = [*LINE, put("C.0", 1, "0a")]
FLOWN = [*THREE, get("B.0", 1, want=2)]
#: An address: of a listener of main's; with two who have called; and a fork of main.
BOUND = [bind("main 1")]
CALLED = [*BOUND, put("C.0", 1, "0a"), put("D.0", 1, "0b")]
REF = Run("object/ref", {"member": "B", "ms": 0, "pin": ""}, QUEUE)
AGAIN = [*queue(redeliver=True), put("A.0", 1, "0a"), get("B.0", 1)]

CASES = [
    Case("PUT", put("A.0", 1, "0a"), queue()),
    Case("PUT", put("A.0", 1, "0a", "0b"), queue()),
    Case("PUT", put("C.0", 1, "0a", "0b", "0c"), LINE),
    Case("PUT", put("A.0", 1, "0a"), [*queue(), look(1)]),
    Case("PUT", put("A.0", 1, large("x")), [*queue(), *stored("x")]),
    Case("PUT", put("A.0", 2, "0b"), [*ROOM, get("B.0", 1)]),
    Case("PARKED", put("A.0", 2, "0b"), FULL),
    Case("PARKED", put("A.0", 2, "0b"), ROOM),
    Case("PARKED", put("A.0", 2, large("x")), [*FULL, *stored("x")]),
    Case("FULL", put("A.0", 2, "0b", block=0), FULL),
    Case("FULL", put("A.0", 2, large("x"), block=0), [*FULL, *stored("x")]),
    Case("PUT", put("A.0", 2, "0b"), [*OVER, get("B.0", 1)]),
    Case("PUT", put("A.0", 2, "0b"), [*OVER, bury("A"), get("B.0", 1)]),
    Case("PARKED", put("A.0", 2, "0b"), [*OVER, bury("A")]),
    Case("STALE", put("A.0", 2, "0b"), [*OVER, bury("A", NOTHING), get("B.0", 1)]),
    Case("STALE", put("A.0", 1, "0a"), [*ONE, put("A.0", 2, "0b")]),
    Case("STALE", put("A.0", 2, "0b"), [*OVER, cancel("put", "A.0", 2)]),
    Case("ITEMS 0a", get("B.0", 1), ONE),
    Case("ITEMS 0b", get("B.0", 2), [*ONE, get("B.0", 1, block=0), put("A.0", 2, "0b")]),
    Case("ITEMS 0a", get("B.0", 1), THREE),
    Case("ITEMS 0a 0b", get("B.0", 1, want=2), THREE),
    Case("ITEMS 0a 0b 0c", get("B.0", 1, want=9), THREE),
    Case("ITEMS 0c", get("B.0", 2, want=2), FLOWN),
    Case("ITEMS 0c", get("C.0", 1, want=2), FLOWN),
    Case("ITEMS 0a", get("A.0", 1), SERVED),
    Case("ITEMS 0a", get("B.0", 1), OVER),
    Case("ITEMS 0a", get("B.0", 1), [*ROOM, put("A.0", 2, "0b")]),
    Case("ITEMS", get("B.0", 1), [*FLOWN, bury("B")]),
    Case("QUEUED", get("A.0", 1), queue()),
    Case("QUEUED", get("A.0", 2), [*queue(), get("A.0", 1, block=0)]),
    Case("QUEUED", get("A.0", 1), [*LINE, bury("A")]),
    Case("QUEUED", get("A.0", 1, block=2), queue()),
    Case("EMPTY", get("A.0", 1, block=0), queue()),
    Case("EMPTY", get("A.0", 2, block=0), [*queue(), get("A.0", 1, block=0)]),
    Case("STALE", get("A.0", 1), LATER),
    Case("STALE", get("A.0", 1), [*LINE, cancel("get", "A.0", 1)]),
    Case("STALE", get("A.0", 2), [*LINE, bury("A", NOTHING)]),
    Case("STALE", get("A.0", 1), [*ONE, bury("A", NOTHING)]),
    Case("CANCELLED", cancel("get", "A.0", 1), LINE),
    Case("CANCELLED", cancel("get", "A.0", 1), queue()),
    Case("CANCELLED", cancel("get", "A.0", 5), LATER),
    Case("CANCELLED", cancel("put", "A.0", 1), queue()),
    Case("CANCELLED", cancel("put", "A.0", 2), OVER),
    Case("CANCELLED", cancel("put", "A.0", 2), [*OVER, bury("A", NOTHING)]),
    Case("ITEMS 0a", cancel("get", "A.0", 1), SERVED),
    Case("ITEMS 0a 0b", cancel("get", "B.0", 1), FLOWN),
    Case("CANCELLED", cancel("get", "A.0", 1, keep=0), SERVED),
    Case("CANCELLED", cancel("get", "A.0", 1), [*SERVED, bury("A")]),
    Case("STALE", cancel("get", "A.0", 1), [*SERVED, bury("A", NOTHING)]),
    Case("PUT", cancel("put", "A.0", 2), [*OVER, get("B.0", 1)]),
    Case("PUT", cancel("put", "A.0", 2, keep=0), [*OVER, get("B.0", 1)]),
    Case("STALE", cancel("get", "A.0", 1), LATER),
    Case("STALE", cancel("put", "A.0", 1), OVER),
    Case("OK", settle("B.0", 1, 1), FLOWN),
    Case("OK", settle("B.0", 7, 1), FLOWN),
    Case("OK", settle("C.0", 1, 1), FLOWN),
    Case("OK", settle("B.0", 1, 0), [*FLOWN, get("C.0", 1), get("D.0", 1)]),
    Case("OK", done("B.0", 1), TASK),
    Case("TOO_MANY", done("B.0", 1), queue(joinable=True)),
    Case("STALE", done("B.0", 1), [*TASK, done("B.0", 2)]),
    Case("VALUE 0  0 0-0 1", look(), queue()),
    Case("VALUE 1 1 0 0-0 1", look(1), TASK),
    Case("VALUE 1 0 1 *", look(), [*TASK, done("B.0", 1)]),
    Case("BURIED", bury("A"), LINE),
    Case("BURIED", bury("A"), OVER),
    Case("BURIED", bury("B"), FLOWN),
    Case("BURIED", bury("B", NOTHING), FLOWN),
    Case("BURIED", bury("B", NOTHING, died=""), FLOWN),
    Case("OK", bind("A 1"), []),
    Case("OK", bind("A 1"), [bind("A 1")]),
    Case("TAKEN A 1", bind("B 1"), [bind("A 1")]),
    Case("ITEMS", unbind("main 1"), BOUND),
    Case("ITEMS 0a 0b", unbind("main 1"), CALLED),
    Case("ITEMS", unbind("main 1"), [*CALLED, REF]),
    Case("ITEMS", unbind("main 1"), [*CALLED, REF, drop("main")]),
    Case("ITEMS", unbind("main 1"), [bind("B 1", "B"), put("C.0", 1, "0a")]),
    Case("ITEMS", unbind("main 1"), []),
    *(
        Case("GONE", call, [])
        for call in (
            *(put("A.0", 1, "0a"), put("A.0", 1, "0a", "0b"), get("A.0", 1)),
            *(cancel("get", "A.0", 1), cancel("put", "A.0", 1), settle("A.0", 1, 1)),
            *(done("A.0", 1), look(), bury("A")),
        )
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    check(machine, case)


def test_every_reply_is_produced():
    # The ends of pipes are closed in test_pipe.py.
    assert unproduced("queue/", CASES) == {"queue/get EOF", "queue/put BROKEN"}


def test_every_request_with_a_number_may_come_too_late():
    stale = {case.call.name for case in CASES if case.reply == "STALE"}
    assert stale == {f"queue/{name}" for name in STAMPED}


# -- who gets what --


def test_a_put_serves_who_came_first_with_the_message_in_the_hint(machine):
    _, state = play(machine, *LINE, put("C.0", 1, "0a"))
    assert [client_of(ticket) for ticket in state.list(WAITERS)] == ["B.0"]
    mailbox = keys.mailbox(QUEUE.ident, "A.0")
    assert state.content[mailbox] == (f"{number(1)}\x1fITEMS\x1f0a",)
    assert not state.has(ITEMS)


def test_one_put_of_many_serves_many_and_leaves_the_rest(machine):
    _, state = play(machine, *LINE, put("C.0", 1, "0a", "0b", "0c", "0d"))
    assert text(play(machine, get("A.0", 1), state=state)[0]) == "ITEMS 0a"
    assert text(play(machine, get("B.0", 1), state=state)[0]) == "ITEMS 0b"
    assert state.content[ITEMS] == ("0c", "0d")


def test_more_elements_than_lua_can_unpack_are_put(machine):
    many = [f"0{number}" for number in range(20000)]
    _, state = play(machine, *queue(), put("A.0", 1, *many))
    assert state.content[ITEMS] == tuple(many)


def test_only_a_sole_reader_is_given_many(machine):
    _, state = play(machine, *FLOWN, get("C.0", 1, want=9))
    assert state.content.get(ITEMS) is None
    _, state = play(machine, put("A.0", 2, "0d", "0e"), state=state)
    assert play(machine, get("B.0", 2, want=9), state=state)[0] == "ITEMS 0d"


def test_a_get_with_its_wait_sent_along_always_posts_a_hint(machine):
    """Else the wait behind it would sleep until its time is out."""
    hints = {
        "READY 0a": (ONE, OVER, ROOM, THREE),
        "READY 0b": ([*THREE, get("B.0", 1)],),
        f"READY {large('x')}": ([*queue(), put("A.0", 1, large("x"))],),
        "ASK": (
            [*queue(), get("B.0", 12, block=0)],
            [*queue(), get("B.0", 9), cancel("get", "B.0", 9)],
            [*queue(), get("B.0", 9, block=0)],
            [*FLOWN, bury("B", NOTHING)],
            [],
            [*queue(), command("HSET", STATE, "fmt", "other/9")],
        ),
    }
    for hint, befores in hints.items():
        for before in befores:
            _, state = play(machine, *before)
            reply, state = play(machine, get("B.0", 9, block=2), state=state)
            words = "\x1f".join((number(9), *hint.split()))
            assert state.content[keys.mailbox(QUEUE.ident, "B.0")] == (words,), reply
            assert not state.immortal
    _, state = play(machine, *queue(), get("B.0", 9, block=2), put("A.0", 1, "0a"))
    words = f"{number(9)}\x1fITEMS\x1f0a"
    assert state.content[keys.mailbox(QUEUE.ident, "B.0")] == (words,)


def test_a_late_answer_is_that_of_the_last_get_alone(machine):
    """What it took before is forgotten with the next one."""
    _, state = play(machine, *THREE, get("B.0", 1), get("B.0", 2))
    assert play(machine, get("B.0", 2), state=state) == ("ITEMS 0b", state)
    assert play(machine, get("B.0", 1), state=state) == ("STALE", state)
    assert state.hash(STATE)["t:B.0"] == f"{number(2)}I0b"


def test_a_large_message_is_given_alone(machine):
    """It is read after the get; what is taken with it could be given back by then."""
    _, state = play(machine, *queue(), put("A.0", 1, "0a", "0b", large("x"), "0c", large("y")))
    taken = []
    for seq in range(1, 5):
        reply, state = play(machine, get("B.0", seq, want=9), state=state)
        assert not state.immortal
        taken.append(reply)
    assert taken == ["ITEMS 0a 0b", f"ITEMS {large('x')}", "ITEMS 0c", f"ITEMS {large('y')}"]


# -- bounds --


def test_a_get_puts_the_parked_in_their_order_and_tells_them(machine):
    _, state = play(machine, *OVER, put("B.0", 1, "0c"), get("C.0", 1))
    assert state.content[ITEMS] == ("0b",)
    assert [client_of(ticket) for ticket in state.list(PARKED)] == ["B.0"]
    assert state.content[keys.mailbox(QUEUE.ident, "A.0")] == (f"{number(2)}\x1fPUT",)
    assert not state.has(keys.mailbox(QUEUE.ident, "B.0"))


def test_bytes_that_lie_in_a_queue_are_counted(machine):
    _, state = play(machine, *queue(room=600), put("A.0", 1, "0abc", "0de"))
    assert state.hash(STATE)["held"] == "7"
    _, state = play(machine, put("A.0", 2, large("x", 593)), state=state)
    reply, state = play(machine, put("A.0", 3, large("y", 90)), state=state)
    assert (reply, state.hash(STATE)["held"]) == ("PARKED", "600")
    _, state = play(machine, get("B.0", 1, want=2), state=state)
    assert state.content[ITEMS] == (large("x", 593), large("y", 90))
    assert state.hash(STATE)["held"] == "683"
    _, state = play(machine, settle("B.0", 1, 1), state=state)
    assert state.hash(STATE)["held"] == "686"


def test_a_queue_without_room_for_bytes_counts_none(machine):
    _, state = play(machine, *OVER, get("C.0", 1))
    assert state.hash(STATE)["held"] == "0"


@pytest.mark.parametrize(
    "given_up", [cancel("put", "A.0", 2), bury("A", NOTHING)], ids=["cancel", "bury"]
)
def test_a_parked_put_that_is_given_up_leaves_nothing(given_up, machine):
    _, state = play(machine, *FULL, *stored("x"), put("A.0", 2, large("x")), given_up)
    assert not state.has(PARKED)
    assert not blob_keys(state)
    assert state.hash(STATE)["s:A.0"] == f"{number(2)}C"
    _, state = play(machine, get("B.0", 1), state=state)
    assert not state.has(ITEMS)


def test_a_large_message_of_one_that_was_only_taken_for_dead_can_be_put_anew(machine):
    again = put("A.0", 2, large("x"))
    before = [*FULL, *stored("x"), again, bury("A"), get("B.0", 1)]
    reply, state = play(machine, *before, again)
    assert (reply, state.content[ITEMS]) == ("PUT", (large("x"),))
    assert len(blob_keys(state)) == 2


def test_what_comes_back_stands_at_the_head_whatever_the_bound(machine):
    _, state = play(machine, *FULL, get("B.0", 1), put("A.0", 2, "0b"), bury("B", NOTHING))
    assert state.content[ITEMS] == ("0a", "0b")
    assert play(machine, put("A.0", 3, "0c", block=0), state=state)[0] == "FULL"


def test_after_a_cancel_a_late_copy_takes_and_puts_nothing(machine):
    _, state = play(machine, *LINE, cancel("get", "A.0", 1), put("C.0", 1, "0a", "0b"))
    assert play(machine, get("A.0", 1), state=state) == ("STALE", state)
    _, state = play(machine, *OVER, cancel("put", "A.0", 2), get("B.0", 1))
    assert play(machine, put("A.0", 2, "0b"), state=state) == ("STALE", state)


# -- what comes back --


def test_an_interrupted_get_gives_its_message_to_the_next(machine):
    _, state = play(machine, *SERVED, cancel("get", "A.0", 1, keep=0))
    assert play(machine, get("B.0", 1), state=state)[0] == "ITEMS 0a"
    assert not state.has(ITEMS)


def test_what_was_not_used_comes_first_again(machine):
    _, state = play(machine, *THREE, get("B.0", 1, want=2), settle("B.0", 1, 1))
    assert state.content[ITEMS] == ("0b", "0c")
    _, state = play(machine, *THREE, get("B.0", 1, want=2), settle("B.0", 1, 0))
    assert state.content[ITEMS] == ("0a", "0b", "0c")


SEEN = {
    "nobody knows": (b"", FLOWN, ("0c",)),
    "nothing was used": (NOTHING, FLOWN, ("0a", "0b", "0c")),
    "one was used": (ledger(s0=(1, 1)), FLOWN, ("0b", "0c")),
    "all were used": (ledger(s0=(1, 2)), FLOWN, ("0c",)),
    "an earlier get was used": (ledger(s0=(0, 1)), FLOWN, ("0a", "0b", "0c")),
    "another thread's was used": (ledger(s1=(1, 2)), FLOWN, ("0a", "0b", "0c")),
    "made for delivering again": (ledger(s0=(1, 1)), AGAIN, ("0a",)),
}


@pytest.mark.parametrize("name", SEEN)
def test_what_a_dead_process_had_in_hand(name, machine):
    seen, before, left = SEEN[name]
    _, state = play(machine, *before, bury("B", seen))
    assert state.content.get(ITEMS, ()) == left
    over = number(999999999999 if seen else 1)
    assert state.hash(STATE)["t:B.0"] == f"{over}G"


def test_a_process_that_was_seen_to_end_takes_nothing_any_more(machine):
    """Its last request may be on its way still, the first of its thread or not."""
    _, before = play(machine, *ONE, put("A.0", 2, "0b"), get("B.0", 1), bury("B", NOTHING))
    for late in (get("B.0", 1), get("B.0", 2), get("B.1", 1)):
        assert play(machine, late, state=before) == ("STALE", before)
    _, state = play(machine, *ONE, bury("B"))  # only taken for dead
    assert play(machine, get("B.0", 1), state=state)[0] == "ITEMS 0a"


def test_a_normal_exit_delivers_nothing_again(machine):
    _, state = play(machine, *AGAIN, bury("B", ledger(s0=(1, 1)), died=""))
    assert not state.has(ITEMS)


def test_the_dead_are_struck_off_and_their_messages_go_to_who_waits(machine):
    _, state = play(machine, *LINE, put("C.0", 1, "0a"), bury("A", NOTHING))
    assert play(machine, get("B.0", 1), state=state)[0] == "ITEMS 0a"
    _, state = play(machine, *LINE, bury("A"))
    assert [client_of(ticket) for ticket in state.list(WAITERS)] == ["B.0"]


# -- large messages --


def test_a_large_message_lives_as_long_as_its_queue_once_it_was_put(machine):
    _, state = play(machine, *queue(), *stored("x"), put("A.0", 1, large("x")))
    assert state.content[BLOBS] == ("2:x",)
    ttl, _ = machine.run(state, command("PTTL", keys.blob(QUEUE.ident, "x", 1)))
    assert ttl > 60000


@pytest.mark.parametrize(
    "over", [get("B.0", 2), settle("B.0", 1, 1), bury("B")], ids=["get", "settle", "bury"]
)
def test_a_large_message_goes_when_it_was_used(over, machine):
    before = [*queue(), *stored("x"), put("A.0", 1, large("x")), get("B.0", 1)]
    _, state = play(machine, *before)
    assert len(blob_keys(state)) == 2
    _, state = play(machine, over, state=state)
    assert not blob_keys(state)
    assert not state.has(BLOBS)


def test_a_large_message_for_which_there_is_no_room_goes(machine):
    _, state = play(machine, *FULL, *stored("x"), put("A.0", 2, large("x"), block=0))
    assert not blob_keys(state)


# -- those who watch --


def test_the_bell_rings_once_for_who_asked(machine):
    _, state = play(machine, *queue(), put("A.0", 1, "0a"))
    assert not state.has(STREAM)
    _, state = play(machine, *queue(), look(1), put("A.0", 1, "0a"))
    assert state.content[STREAM] == (state.hash(STATE)["last"],)
    assert state.hash(STATE)["watch"] == "0"


def test_the_last_task_that_is_done_rings(machine):
    two = [*queue(joinable=True), put("A.0", 1, "0a", "0b")]
    _, state = play(machine, *two, done("B.0", 1))
    assert not state.has(STREAM)
    _, state = play(machine, done("B.0", 2), state=state)
    assert state.has(STREAM)
    assert (state.hash(STATE)["todo"], state.hash(STATE)["rounds"]) == ("0", "1")


def test_a_task_counts_when_it_is_put_and_not_before(machine):
    full = [*queue(1, joinable=True), put("A.0", 1, "0a"), put("A.0", 2, "0b")]
    _, state = play(machine, *full)
    assert state.hash(STATE)["todo"] == "1"
    _, state = play(machine, get("B.0", 1), state=state)
    assert state.hash(STATE)["todo"] == "2"


def test_an_address_belongs_to_whoever_took_it_until_the_queue_is_gone(machine):
    _, state = play(machine, bind("A 1", "A"), drop("A"))
    assert state is machine.empty
    assert play(machine, bind("B 1", "B"), state=state)[0] == "OK"


def test_who_gives_an_address_up_is_told_again_what_lay_there(machine):
    """Until the answer is deleted; and whoever has taken the address since loses nothing."""
    _, state = play(machine, *CALLED, unbind("main 1"))
    assert [*state.content] == [answer("main 1")]
    assert play(machine, unbind("main 1"), state=state) == ("ITEMS 0a 0b", state)
    for process in ("A", "main"):
        _, taken = play(machine, bind(f"{process} 2", process), put("C.0", 2, "0c"), state=state)
        assert play(machine, unbind("main 1"), state=taken) == ("ITEMS 0a 0b", taken)
        reply, after = play(machine, unbind(f"{process} 2", process), state=taken)
        assert reply == "ITEMS 0c"
        assert {*after.content} == {answer("main 1"), answer("main 2", process)}
    _, state = play(machine, command("DEL", answer("main 1")), state=state)
    assert state is machine.empty


def test_an_address_that_others_have_keeps_what_lies_there(machine):
    """A fork of the listener's process goes on to accept."""
    _, state = play(machine, *CALLED, REF, unbind("main 1"))
    assert state.content[ITEMS] == ("0a", "0b")
    reply, after = play(machine, unbind("main 1", "B"), state=state)
    assert (reply, [*after.content]) == ("ITEMS 0a 0b", [answer("main 1", "B")])
    assert play(machine, unbind("main 1"), state=after) == ("ITEMS", after)


def test_an_address_can_be_given_up_with_more_calls_than_lua_can_unpack(machine):
    many = [f"0{number}" for number in range(10000)]
    _, state = play(machine, *BOUND, put("C.0", 1, *many), unbind("main 1"))
    assert state.content[answer("main 1")] == tuple(many)
    assert not state.immortal
