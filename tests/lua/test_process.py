"""The scripts of processes, each alone."""

from __future__ import annotations

import pytest

from lithops_mp._store import keys
from lithops_mp._store.scripts import command

from .play import TTL, Case, check, play, run, unproduced

FIELDS = b"\x82\xa4name\xa3One\xa3pid\xa242"


def register(state: str = "running", lease: int = TTL):
    return run("process/register", ttl=TTL, state=state, lease=lease, fields=FIELDS)


def claim(by: str = "f1"):
    return run("process/claim", function=by, host="h", ttl=TTL)


def order(word: str, signal: int = 0, seq: int = 1):
    return run("process/order", client="P.0", seq=seq, word=word, signal=signal, ttl=TTL)


def tell(seq: int = 1, kind: str = "out"):
    return run(
        "process/tell", sender="S.0", seq=seq, kind=kind, child="C", what=1, data=b"x", ttl=TTL
    )


def offer(by: str = "f1", ms: int = 60000):
    return run("process/offer", function=by, runtime="py", ms=ms, ttl=TTL)


BEAT = run("process/beat", ttl=TTL, frozen=0)
STATUS = run("process/status")
FINISH = run("process/finish", code=3, why="exit", seen="")
NOTE = run("process/note", member="sem L", ttl=TTL)
PLACE = run("process/place", order="A")
WITHDRAW = run("process/withdraw", function="f1")
RUNS, STARTS = [register()], [register("starting")]
ENDED = [*RUNS, FINISH]

CASES = [
    Case("OK", register(), []),
    Case("OK", register("starting"), ENDED),
    Case("OK", BEAT, RUNS, again=None),
    Case("ENDED 3", BEAT, ENDED),
    Case("GONE", BEAT, []),
    Case("STARTING", STATUS, STARTS),
    Case("RUNNING 42", STATUS, RUNS),
    Case("LAPSED *", STATUS, [register(lease=-1000)], again=None),
    Case("ENDED 3 One", STATUS, ENDED),
    Case("GONE", STATUS, []),
    Case("ENDED 3", FINISH, RUNS),
    Case("ENDED 3", run("process/finish", code=9, why="late", seen=""), ENDED),
    Case("GONE", FINISH, []),
    Case("OK", NOTE, []),
    Case("CLAIMED", claim(), STARTS, again=None),
    Case("TAKEN", claim("f2"), [*STARTS, claim()]),
    Case("ENDED 3", claim(), ENDED),
    Case("GONE", claim(), []),
    Case("SENT", order("signal", 15), RUNS),
    Case("SENT", order("parent"), STARTS),
    Case("ENDED -15", order("signal", 15), STARTS),
    Case("ENDED 3", order("signal", 15), ENDED),
    Case("GONE", order("signal", 15), []),
    Case("OK 1", tell(), RUNS),
    Case("OK 2", tell(2), [*RUNS, tell(1)]),
    Case("GONE", tell(), ENDED),
    Case("OK", offer(), RUNS, again=None),
    Case("GONE", offer(), ENDED),
    Case("PLACED f1", PLACE, [*RUNS, offer()], again=None),
    Case("NONE", PLACE, RUNS),
    Case("PLACED A", WITHDRAW, [*RUNS, offer(), PLACE], again=None),
    Case("WITHDRAWN", WITHDRAW, [*RUNS, offer()]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    check(machine, case)


def test_every_reply_is_produced():
    assert not unproduced("process/", CASES)


def test_the_first_end_counts(machine):
    _, state = play(machine, *ENDED, run("process/finish", code=9, why="late", seen=""))
    assert state.hash(keys.process("A"))["code"] == "3"


def test_a_message_that_is_sent_again_is_there_once(machine):
    _, state = play(machine, *RUNS, tell(1), tell(2), tell(1), tell(2))
    assert len(state.content[keys.inbox("A")]) == 2


def test_idle_functions_are_known_as_long_as_they_wait(machine):
    """However soon other keys expire: at its end the program takes them out."""
    _, state = play(machine, *RUNS, offer(ms=3 * TTL))
    known, waiting = (
        machine.run(state, command("PTTL", key))[0]
        for key in (keys.runtimes("A"), keys.idle("A", "py"))
    )
    assert known >= waiting > 3 * TTL


def test_a_function_that_is_about_to_give_up_is_passed_over(machine):
    assert play(machine, *RUNS, offer(ms=-1), PLACE)[0] == "NONE"
