"""The scripts of queues on the ends of a pipe, and the end of an end."""

from __future__ import annotations

import pytest

from lithops_mp._store import keys

from .play import HERE, THERE, Case, Run, check, number, pipe, play, unproduced
from .test_queue import bury, get, look, put

STREAM, STATE = keys.stream(HERE.ident), keys.state(HERE.ident)

#: What is sent to HERE comes from THERE.
SENT = put("A.0", 1, "0a", ref=HERE)
RECEIVE = get("B.0", 1, ref=HERE)


def unref(end, process: str = "main", ended: int = 0) -> Run:
    return Run("pipe/unref", {"process": process, "ended": ended}, end)


REF = Run("object/ref", {"member": "B", "ms": 0, "pin": ""}, HERE)
FULL = [*pipe(room=1), SENT, put("A.0", 2, "0b", ref=HERE)]

CASES = [
    Case("PUT", SENT, pipe()),
    Case("PARKED", put("A.0", 2, "0b", ref=HERE), [*pipe(room=1), SENT]),
    Case("BROKEN", SENT, [*pipe(), unref(HERE)]),
    Case("BROKEN", put("A.0", 2, "0b", ref=HERE), [*FULL, unref(HERE)]),
    Case("GONE", SENT, [*pipe(), unref(THERE)]),
    Case("GONE", SENT, []),
    Case("ITEMS 0a", RECEIVE, [*pipe(), SENT]),
    Case("ITEMS 0a", RECEIVE, [*pipe(), SENT, unref(THERE)]),
    Case("QUEUED", RECEIVE, pipe()),
    Case("EOF", RECEIVE, [*pipe(), unref(THERE)]),
    Case("EOF", RECEIVE, [*pipe(), RECEIVE, unref(THERE)]),
    Case("EOF", get("B.0", 2, ref=HERE), [*pipe(), SENT, RECEIVE, unref(THERE)]),
    Case("GONE", RECEIVE, [*pipe(), unref(HERE)]),
    Case("VALUE 0  0 0-0 1", look(ref=HERE), pipe()),
    Case("VALUE 0  0 0-0 0", look(ref=HERE), [*pipe(), unref(THERE)]),
    Case("BURIED", bury("B", ref=HERE), [*pipe(), RECEIVE]),
    Case("OK", unref(HERE), [*pipe(), REF]),
    Case("DELETED", unref(HERE), pipe()),
    Case("DELETED", unref(HERE), []),
    Case("DELETED", unref(HERE, ended=1), [*pipe(), RECEIVE]),
    # Told again, whoever waits asks again.
    Case("DELETED", unref(THERE), [*pipe(), RECEIVE], again=None),
    Case("DELETED", unref(HERE), FULL, again=None),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    check(machine, case)


def test_every_reply_is_produced():
    assert not unproduced("pipe/", CASES)
    assert not {"queue/get EOF", "queue/put BROKEN"} & unproduced("queue/", CASES)


def test_who_reads_is_told_of_the_end_of_the_file(machine):
    _, state = play(machine, *pipe(), RECEIVE, unref(THERE))
    assert state.content[keys.mailbox(HERE.ident, "B.0")] == (f"{number(1)}\x1fASK",)
    assert state.hash(STATE)


def test_who_waits_for_room_is_told_that_the_pipe_is_broken(machine):
    _, state = play(machine, *FULL, unref(HERE))
    assert state.content[keys.mailbox(HERE.ident, "A.0")] == (f"{number(2)}\x1fASK",)
    assert not state.hash(STATE)


def test_the_bell_of_who_watches_rings_at_the_end(machine):
    _, state = play(machine, *pipe(), unref(THERE))
    assert not state.has(STREAM)
    _, state = play(machine, *pipe(), look(1, ref=HERE), unref(THERE))
    assert state.content[STREAM] == (state.hash(STATE)["last"],)


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
