"""The scripts of events, each alone."""

from __future__ import annotations

import pytest

from lithops_mp._store import keys

from .play import EVENT, Case, Run, check, event, play, run, unproduced

STATE, STREAM = keys.state(EVENT), keys.stream(EVENT)


def up(client: str, seq: int) -> Run:
    return run("event/set", client=client, seq=seq)


def down(client: str, seq: int) -> Run:
    return run("event/clear", client=client, seq=seq)


LOOK = run("event/look")
LATER = [*event(), down("A.0", 9)]

CASES = [
    Case("OK", up("A.0", 1), event()),
    Case("OK", up("B.0", 1), [*event(), up("A.0", 1)]),
    Case("STALE", up("A.0", 1), LATER),
    Case("OK", down("A.0", 1), event()),
    Case("OK", down("A.0", 2), [*event(), up("A.0", 1)]),
    Case("STALE", down("A.0", 1), LATER),
    Case("UNSET 0-0", LOOK, event()),
    Case("SET", LOOK, [*event(), up("A.0", 1)]),
    *(Case("GONE", call, []) for call in (up("A.0", 1), down("A.0", 1), LOOK)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    check(machine, case)


def test_every_reply_is_produced():
    assert not unproduced("event/", CASES)


def test_a_repeated_set_after_clear_does_not_raise_the_flag(machine):
    _, before = play(machine, *event(), up("A.0", 1), down("B.0", 1))
    reply, after = play(machine, up("A.0", 1), state=before)
    assert reply == "OK"
    assert after is before


def test_set_and_clear_leave_an_entry_for_whoever_was_waiting(machine):
    told, state = play(machine, *event(), LOOK)
    _, state = play(machine, up("A.0", 1), down("A.0", 2), state=state)
    (entry,) = state.content[STREAM]
    assert entry > told.split()[1]
    assert play(machine, LOOK, state=state)[0] == f"UNSET {entry}"


def test_the_stream_keeps_one_entry(machine):
    changes = [call for seq in range(1, 9, 2) for call in (up("A.0", seq), down("A.0", seq + 1))]
    _, state = play(machine, *event(), *changes)
    assert len(state.content[STREAM]) == 1
    assert state.hash(STATE)["flag"] == "0"
