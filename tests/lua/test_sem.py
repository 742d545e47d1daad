"""The scripts of locks and semaphores, each alone."""

from __future__ import annotations

import pytest

from lithops_mp._store import keys

from .play import LOCK, Case, Run, check, lock, play, run, unproduced

STATE, WAITERS = keys.state(LOCK), keys.waiters(LOCK)


def acquire(client: str, seq: int, kind: str = "lock", block: int = 1) -> Run:
    return run("sem/acquire", kind=kind, client=client, seq=seq, block=block)


def release(client: str, seq: int, fence: int, kind: str = "lock", most: int = 1) -> Run:
    return run("sem/release", kind=kind, max=most, client=client, seq=seq, fence=fence)


def cancel(client: str, seq: int, kind: str = "lock", keep: int = 1) -> Run:
    return run("sem/cancel", kind=kind, client=client, seq=seq, keep=keep)


def bury(process: str, died: str = "died") -> Run:
    return run("sem/bury", process=process, died=died)


def depose(owner: str, fence: int) -> Run:
    return run("sem/depose", owner=owner, fence=fence, died="died")


LOOK = run("sem/look")
A1 = "A.0:000000000001"
HELD = [*lock(), acquire("A.0", 1)]
LINE = [*HELD, acquire("B.0", 1), acquire("C.0", 1)]
RLOCK = [*lock("rlock"), acquire("A.0", 1, "rlock")]
NO_UNIT = [*lock("sem", 0)]
FULL = [*lock("sem", 1)]
LATER = [*lock(), acquire("A.0", 5, block=0)]

CASES = [
    Case("ACQUIRED 1", acquire("A.0", 1), lock()),
    Case("ACQUIRED 1", acquire("A.0", 1, "sem"), lock("sem", 2)),
    Case("QUEUED A.0:*", acquire("B.0", 1), HELD),
    Case("QUEUED  0", acquire("B.0", 1, "sem"), NO_UNIT),
    Case("WOULD_BLOCK", acquire("B.0", 1, block=0), HELD),
    Case("STALE", acquire("A.0", 1), LATER),
    Case("ACQUIRED 2", acquire("B.0", 1), [*HELD, acquire("B.0", 1), release("A.0", 2, 1)]),
    Case(
        "ACQUIRED 1",
        acquire("B.0", 1, "sem"),
        [*NO_UNIT, acquire("B.0", 1, "sem"), release("A.0", 1, 0, "sem", 9)],
    ),
    Case("ACQUIRED 3 died", acquire("B.0", 1), [*HELD, bury("A")]),
    # Whoever asks, because a hint or an answer was lost, is told how the last one died.
    Case("ACQUIRED 2 died", acquire("B.0", 1), [*LINE, bury("A")]),
    Case("ACQUIRED 2 died", cancel("B.0", 1), [*LINE, bury("A")]),
    Case("ACQUIRED 3 died", acquire("C.0", 1), [*LINE, bury("A"), cancel("B.0", 1, keep=0)]),
    Case("ACQUIRED 3", acquire("C.0", 1), [*LINE, bury("A"), release("B.0", 2, 2)]),
    Case(
        "ACQUIRED 3 died",
        acquire("C.0", 1),
        [*HELD, acquire("B.0", 1), bury("A"), cancel("B.0", 1, keep=0)],
    ),
    Case("RELEASED", release("A.0", 2, 1), HELD),
    Case("RELEASED", release("A.0", 2, 1), LINE),
    Case("RELEASED", release("B.0", 1, 0), HELD),
    Case("RELEASED", release("A.0", 1, 0, "sem", 9), NO_UNIT),
    Case("LOST", release("A.0", 2, 1), [*LINE, depose(A1, 1)]),
    Case("NOT_OWNER", release("B.0", 1, 0, "rlock"), RLOCK),
    Case("TOO_MANY", release("A.0", 1, 0), lock()),
    Case("TOO_MANY", release("A.0", 1, 0, "sem", 1), FULL),
    Case("STALE", release("A.0", 1, 1), LATER),
    Case("CANCELLED", cancel("B.0", 1), LINE),
    Case("CANCELLED", cancel("B.0", 1), HELD),
    Case("ACQUIRED 2", cancel("B.0", 1), [*LINE, release("A.0", 2, 1)]),
    Case("CANCELLED", cancel("B.0", 1, keep=0), [*LINE, release("A.0", 2, 1)]),
    Case("CANCELLED", cancel("A.0", 1, keep=0), HELD),
    Case(
        "ACQUIRED 1",
        cancel("B.0", 1, "sem"),
        [*NO_UNIT, acquire("B.0", 1, "sem"), release("A.0", 1, 0, "sem", 9)],
    ),
    Case("STALE", cancel("A.0", 1), LATER),
    Case("DEPOSED", depose(A1, 1), LINE, again="CHANGED"),
    Case("CHANGED", depose(A1, 7), LINE),
    Case("KEPT", depose(A1, 1), [*lock(policy="keep"), acquire("A.0", 1)]),
    Case("BURIED", bury("A"), LINE),
    Case("BURIED", bury("A", ""), LINE),
    Case("BURIED", bury("B"), LINE),
    Case("VALUE 1 0 ", LOOK, lock()),
    Case(f"VALUE 0 2 {A1}", LOOK, LINE),
    *(
        Case("GONE", call, [])
        for call in (
            *(acquire("A.0", 1), release("A.0", 1, 0), cancel("A.0", 1)),
            *(depose(A1, 1), bury("A"), LOOK),
        )
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    check(machine, case)


def test_every_reply_is_produced():
    assert not unproduced("sem/", CASES)


def test_a_release_hands_over_to_who_came_first(machine):
    _, state = play(machine, *LINE, release("A.0", 2, 1))
    assert state.hash(STATE)["owner"].startswith("B.0:")
    assert [t.partition(":")[0] for t in state.list(WAITERS)] == ["C.0"]
    assert state.content[keys.mailbox(LOCK, "B.0")] == ("000000000001\x1fACQUIRED\x1f2",)


def test_after_a_cancel_a_late_copy_of_the_acquire_takes_nothing(machine):
    _, state = play(machine, *LINE, cancel("B.0", 1), cancel("C.0", 1), release("A.0", 2, 1))
    reply, after = play(machine, acquire("B.0", 1), state=state)
    assert reply == "CANCELLED"
    assert after is state


def test_an_interrupted_waiter_gives_its_grant_to_the_next(machine):
    _, state = play(machine, *LINE, release("A.0", 2, 1), cancel("B.0", 1, keep=0))
    assert state.hash(STATE)["owner"].startswith("C.0:")
    assert state.hash(STATE)["fence"] == "3"


@pytest.mark.parametrize("how", [bury("A"), depose(A1, 1)], ids=["bury", "depose"])
def test_a_dead_owners_lock_goes_to_the_next_who_is_told(how, machine):
    _, state = play(machine, *LINE, how)
    assert state.hash(STATE)["owner"].startswith("B.0:")
    (hint,) = state.content[keys.mailbox(LOCK, "B.0")]
    assert hint.endswith("\x1fdied")
    assert state.hash(STATE)["x:A"] == "1"


def test_a_frozen_owner_releases_nothing_of_the_new_one(machine):
    _, before = play(machine, *LINE, depose(A1, 1))
    reply, after = play(machine, release("A.0", 2, 1), state=before)
    assert reply == "LOST"
    assert after.hash(STATE)["owner"] == before.hash(STATE)["owner"]


def test_a_normal_exit_keeps_the_lock_and_marks_it(machine):
    _, state = play(machine, *LINE, bury("A", ""))
    assert state.hash(STATE)["owner"] == f"!{A1}"
    _, state = play(machine, release("D.0", 1, 0), state=state)
    assert state.hash(STATE)["owner"].startswith("B.0:")


def test_a_unit_handed_to_the_dead_comes_back(machine):
    line = [*NO_UNIT, acquire("B.0", 1, "sem"), acquire("C.0", 1, "sem")]
    _, state = play(machine, *line, release("A.0", 1, 0, "sem", 9), bury("B"))
    reply, state = play(machine, acquire("C.0", 1, "sem"), state=state)
    assert reply.startswith("ACQUIRED")
    _, state = play(machine, release("C.0", 2, 0, "sem", 9), state=state)
    assert state.hash(STATE)["value"] == "1"


def test_a_bounded_semaphore_is_not_exceeded(machine):
    _, before = play(machine, *FULL)
    reply, after = play(machine, release("A.0", 1, 0, "sem", 1), state=before)
    assert reply == "TOO_MANY"
    assert after.hash(STATE)["value"] == "1"


def test_an_acquire_with_its_wait_sent_along_always_posts_a_hint(machine):
    """Else the wait behind it would sleep until its time is out."""
    for before in (lock(), HELD, [*HELD, bury("A")], LATER):
        _, state = play(machine, *before)
        reply, state = play(machine, acquire("B.0", 9, block=2), state=state)
        if not reply.startswith("QUEUED"):
            assert state.has(keys.mailbox(LOCK, "B.0")), reply
