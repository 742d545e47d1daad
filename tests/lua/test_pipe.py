"""The scripts of queues on the ends of a pipe, and the end of an end."""

from __future__ import annotations

import pytest

from lithops_mp._store import keys
from lithops_mp._store.scripts import command

from . import test_queue
from .play import HERE, THERE, Case, Run, check, number, pipe, play, unproduced
from .test_queue import bury, get, large, look, packed, put

STREAM, STATE = keys.stream(HERE.ident), keys.state(HERE.ident)
ITEMS = keys.items(HERE.ident)

#: What is sent to HERE comes from THERE.
SENT = put("A.0", 1, "0a", ref=HERE)
RECEIVE = get("B.0", 1, ref=HERE)


def unref(end, process: str = "main", ended: int = 0) -> Run:
    return Run("pipe/unref", {"process": process, "ended": ended}, end)


def read(process: str = "main", address: str = "tcp://one:1", seq: int = 1) -> Run:
    args = {"process": process, "address": address, "client": f"{process}.0", "seq": seq}
    return Run("pipe/read", args, HERE)


def ack(
    *counts: str | int, at: str = "main tcp://one:1", leave: int = 0, back: tuple[str, ...] = ()
) -> Run:
    args = {"at": at, "counts": packed(*counts), "leave": leave, "back": packed(*back)}
    return Run("pipe/ack", args, HERE)


def find(sender: str = "", end=HERE) -> Run:
    return Run("pipe/find", {"sender": sender}, end)


REF = Run("object/ref", {"member": "B", "ms": 0, "pin": ""}, HERE)
FULL = [*pipe(room=1), SENT, put("A.0", 2, "0b", ref=HERE)]
#: Read over sockets, by main; B wants to; main is gone.
READ = [*pipe(), REF, read()]
WANTED = [*READ, read("B", "tcp://two:2")]
ORPHAN = [*READ, ack("s", 3), unref(HERE)]

CASES = [
    Case("PUT", SENT, pipe()),
    Case("PARKED", put("A.0", 2, "0b", ref=HERE), [*pipe(room=1), SENT]),
    Case("BROKEN", SENT, [*pipe(), unref(HERE)]),
    Case("BROKEN", put("A.0", 2, "0b", ref=HERE), [*FULL, unref(HERE)]),
    # That end had got it, and the answer was lost.
    Case("PUT", SENT, [*pipe(), SENT, unref(HERE)]),
    Case("PUT", put("A.0", 2, "0b", ref=HERE), [*FULL, RECEIVE, unref(HERE)]),
    Case("BROKEN", put("A.0", 2, "0b", ref=HERE), [*pipe(), SENT, unref(HERE)]),
    Case("PUT", SENT, [*pipe(), unref(THERE)]),
    Case("GONE", SENT, [*pipe(), unref(THERE), unref(HERE)]),
    Case("GONE", SENT, []),
    Case("ITEMS 0a", RECEIVE, [*pipe(), SENT]),
    Case("ITEMS 0a", RECEIVE, [*pipe(), SENT, unref(THERE)]),
    Case("QUEUED", RECEIVE, pipe()),
    Case("EOF", RECEIVE, [*pipe(), unref(THERE)]),
    Case("EOF", RECEIVE, [*pipe(), RECEIVE, unref(THERE)]),
    Case("EOF", get("B.0", 2, ref=HERE), [*pipe(), SENT, RECEIVE, unref(THERE)]),
    Case("GONE", RECEIVE, [*pipe(), unref(HERE)]),
    Case("VALUE 0  0 0-0 1", look(ref=HERE), pipe()),
    Case("VALUE 0  0 *", look(ref=HERE), [*pipe(), unref(THERE)]),
    Case("BURIED", bury("B", ref=HERE), [*pipe(), RECEIVE]),
    Case("OK", unref(HERE), [*pipe(), REF]),
    Case("DELETED", unref(HERE), pipe()),
    Case("DELETED", unref(HERE), []),
    Case("DELETED", unref(HERE, ended=1), [*pipe(), RECEIVE]),
    Case("OK 0", read(), pipe()),
    Case("OK 0 s 3", read(address="tcp://one:2", seq=2), [*READ, ack("s", 3)]),
    Case("OK 0 s 3", read("B", "tcp://two:2", 2), [*WANTED, ack("s", 3, leave=1)]),
    Case("OK 1 s 3", read("B", "tcp://two:2"), ORPHAN),
    Case("TAKEN", read("B", "tcp://two:2"), READ),
    Case("TAKEN", read("B", "tcp://two:2", 2), WANTED),
    Case("STALE", read(), [*READ, read(seq=2)]),
    Case("GONE", read(), []),
    Case("OK", ack("s", 3), READ),
    Case("OK", ack("s", 3, "t", 1), [*READ, ack("s", 2)]),
    Case("OK", ack(), READ),
    Case("OK", ack("s", 3, leave=1), WANTED, again="LOST"),
    Case("OK", ack("s", 3, leave=1, back=("0a", "0b")), READ, again="LOST"),
    Case("LOST", ack("s", 3), pipe()),
    Case("LOST", ack("s", 3), [*ORPHAN, read("B", "tcp://two:2")]),
    Case("GONE", ack("s", 3), []),
    Case("VALUE  0 0 0 0-0 1", find(), pipe()),
    Case("VALUE main tcp://one:1 0 0 1 *", find(), [*READ, SENT]),
    Case("VALUE main tcp://one:1 1 3 0 *", find("s"), [*WANTED, ack("s", 3)]),
    Case("VALUE  0 0 0 *", find(), [*pipe(), unref(THERE)]),
    Case("BROKEN", find(), [*pipe(), unref(HERE)]),
    Case("GONE", find(), []),
    # Told again, whoever wants to read asks again.
    Case("OK", unref(HERE), WANTED, again=None),
    # Told again, whoever waits asks again.
    Case("DELETED", unref(THERE), [*pipe(), RECEIVE], again=None),
    Case("DELETED", unref(HERE), FULL, again=None),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    check(machine, case)


def test_every_reply_is_produced():
    assert not unproduced("pipe/", CASES)
    assert not unproduced("queue/", [*test_queue.CASES, *CASES])


def test_who_reads_is_told_of_the_end_of_the_file(machine):
    _, state = play(machine, *pipe(), RECEIVE, unref(THERE))
    assert state.content[keys.mailbox(HERE.ident, "B.0")] == (f"{number(1)}\x1fASK",)
    assert state.hash(STATE)


def test_who_waits_for_room_is_told_that_the_pipe_is_broken(machine):
    _, state = play(machine, *FULL, unref(HERE))
    assert state.content[keys.mailbox(HERE.ident, "A.0")] == (f"{number(2)}\x1fASK",)
    assert not state.hash(STATE)


def test_the_bell_of_who_watches_rings_at_the_end(machine):
    _, state = play(machine, *pipe(), look(1, ref=HERE), unref(THERE))
    assert state.content[STREAM] == (state.hash(STATE)["last"],)
    assert state.hash(STATE)["watch"] == "0"


def test_what_was_sent_is_read_after_its_end_is_closed(machine):
    _, state = play(machine, *pipe(), SENT, unref(THERE))
    reply, state = play(machine, RECEIVE, state=state)
    assert reply == "ITEMS 0a"
    assert play(machine, get("B.0", 2, ref=HERE), state=state)[0] == "EOF"


def test_messages_go_with_the_end_they_were_sent_to(machine):
    _, state = play(machine, *FULL, unref(HERE))
    left = [key for key in state.content if key.startswith(STATE) and ":m:" not in key]
    assert not left


def test_a_reference_keeps_an_end_open(machine):
    _, state = play(machine, *pipe(), REF, unref(HERE))
    assert play(machine, SENT, state=state)[0] == "PUT"
    _, state = play(machine, unref(HERE, "B"), state=state)
    assert play(machine, SENT, state=state)[0] == "BROKEN"


def test_the_state_says_that_the_other_end_is_closed(machine):
    """So a get need not look whether it is there."""
    _, state = play(machine, *pipe())
    assert state.hash(STATE)["eof"] == ""
    _, state = play(machine, unref(THERE), state=state)
    assert state.hash(STATE)["eof"] == "1"
    assert play(machine, look(ref=HERE), state=state)[0].endswith(" 0")


def test_a_get_with_its_wait_sent_along_is_told_of_the_end(machine):
    _, state = play(machine, *pipe(), unref(THERE), get("B.0", 1, block=2, ref=HERE))
    assert state.content[keys.mailbox(HERE.ident, "B.0")] == (f"{number(1)}\x1fASK",)


def test_an_end_that_went_without_a_word_is_found_gone(machine):
    """Its keys ran out: nobody set ``eof``."""
    gone = command("DEL", keys.state(THERE.ident))
    _, state = play(machine, *pipe(), RECEIVE, gone)
    assert play(machine, RECEIVE, state=state)[0] == "EOF"


def test_large_messages_that_nobody_will_read_go(machine):
    for sent in (put("A.0", 1, large("x"), ref=HERE), put("A.0", 1, "0a", large("x"), ref=HERE)):
        pieces = [keys.blob(HERE.ident, "x", piece) for piece in range(2)]
        stored = [command("SET", key, "x", "PX", 60000) for key in pieces]
        reply, state = play(machine, *pipe(), unref(HERE), *stored, sent)
        assert reply == "BROKEN"
        assert not [key for key in pieces if state.has(key)]


# -- ends that are read over sockets --


def test_who_comes_to_read_and_who_leaves_rings(machine):
    _, state = play(machine, *pipe(), find(), read())
    assert state.content[STREAM] == (state.hash(STATE)["last"],)
    for call in (ack("s", 3), read("B", "tcp://two:2"), ack("s", 4, leave=1), unref(HERE)):
        _, before = play(machine, *READ, find())
        _, state = play(machine, call, state=before)
        assert state.content[STREAM] != before.content[STREAM], call
        assert state.content[STREAM] == (state.hash(STATE)["last"],)
        assert state.hash(STATE)["watch"] == "0"


def test_the_reader_is_asked_once_to_make_way(machine):
    _, state = play(machine, *WANTED, find())
    assert state.hash(STATE)["wanted"] == "1"
    reply, after = play(machine, read("C", "tcp://three:3"), state=state)
    assert (reply, after.content[STREAM]) == ("TAKEN", state.content[STREAM])


def test_who_comes_to_read_and_asks_again_is_told_the_same(machine):
    """And who wants to read in its place is not forgotten."""
    again = read("B", "tcp://two:2")
    _, state = play(machine, *ORPHAN, again, read("C", "tcp://three:3"))
    reply, after = play(machine, again, state=state)
    assert (reply, after) == ("OK 1 s 3", state)
    assert after.hash(STATE)["wanted"] == "1"


def test_a_late_copy_leaves_no_address_of_who_reads_no_longer(machine):
    _, state = play(machine, *READ, ack(leave=1))
    assert play(machine, read(), state=state) == ("TAKEN", state)
    again = read(address="tcp://one:2", seq=2)
    assert play(machine, again, state=state)[0] == "OK 0"


def test_a_late_copy_of_who_was_not_let_in_does_not_take_the_place_that_is_free_by_now(machine):
    _, state = play(machine, *WANTED, ack(leave=1))
    assert play(machine, WANTED[-1], state=state) == ("TAKEN", state)


def test_what_was_used_goes_on_and_never_back(machine):
    _, state = play(machine, *READ, ack("s", 9))
    assert play(machine, ack("s", 5), state=state) == ("OK", state)


def test_who_leaves_gives_back_what_it_took_unused_but_once(machine):
    leaves = ack("s", 3, leave=1, back=("0a", "0b"))
    _, state = play(machine, *READ, put("A.0", 1, "0c", ref=HERE), leaves)
    assert state.content[ITEMS] == ("0a", "0b", "0c")
    assert state.hash(STATE)["at"] == ""
    _, state = play(machine, read(address="tcp://one:2", seq=2), state=state)
    assert play(machine, leaves, state=state) == ("LOST", state)


def test_what_comes_back_goes_to_who_waits(machine):
    waits = get("B.0", 1, ref=HERE)
    _, state = play(machine, *READ, waits, ack(leave=1, back=("0a", "0b")))
    assert play(machine, waits, state=state)[0] == "ITEMS 0a"
    assert state.content[ITEMS] == ("0b",)
