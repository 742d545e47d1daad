"""The scripts of barriers, each alone."""

from __future__ import annotations

import pytest

from lithops_mp._store import keys

from .play import BARRIER, Case, Run, barrier, check, number, play, run, unproduced

STATE, WAITERS = keys.state(BARRIER), keys.waiters(BARRIER)


def arrive(client: str, seq: int, action: int = 0, look: int = 0, listen: int = 0) -> Run:
    return run("barrier/arrive", action=action, listen=listen, client=client, seq=seq, look=look)


def expire(client: str, seq: int, force: int = 0) -> Run:
    return run("barrier/expire", client=client, seq=seq, force=force)


def opened(client: str, seq: int, ticket: str) -> Run:
    return run("barrier/open", client=client, seq=seq, ticket=ticket)


def smash(client: str, seq: int, phase: str = "broken") -> Run:
    return run("barrier/smash", client=client, seq=seq, phase=phase)


def bury(process: str) -> Run:
    return run("barrier/bury", process=process)


LOOK = run("barrier/look")
A1, B1 = f"A.0:{number(1)}", f"B.0:{number(1)}"
ONE = [*barrier(), arrive("A.0", 1)]
ACTING = [*barrier(), arrive("A.0", 1, action=1), arrive("B.0", 1, action=1)]
BROKEN = [*barrier(), smash("C.0", 1)]
LATER = [*barrier(), smash("A.0", 9, "filling")]
#: A waits, and all trace of its ticket is gone: nothing does that today.
STRUCK = [*ONE, b"*2\r\n$3\r\nDEL\r\n$%d\r\n%b\r\n" % (len(WAITERS), WAITERS.encode())]
#: B is told to run the action when the generation before is opened.
CROWD = [*ACTING, arrive("C.0", 1, 1), arrive("D.0", 1, 1), opened("B.0", 2, B1)]

CASES = [
    Case(f"WAITING {A1}", arrive("A.0", 1), barrier()),
    Case(f"WAITING {B1}", arrive("A.0", 1), ACTING),
    Case("PASSED 1", arrive("B.0", 1), ONE),
    Case("PASSED 0", arrive("A.0", 1), [*ONE, arrive("B.0", 1)]),
    Case("PASSED 0", arrive("A.0", 1), barrier(1)),
    Case("ACT 1", arrive("B.0", 1, action=1), ONE),
    Case("ACT 1", arrive("D.0", 1, action=1), CROWD),
    Case("BROKEN", arrive("A.0", 1), BROKEN),
    Case("BROKEN", arrive("A.0", 1), [*ONE, smash("B.0", 1, "filling")]),
    Case("FORGOTTEN", arrive("A.0", 1), STRUCK),
    Case("STALE", arrive("A.0", 1), LATER),
    Case("BROKEN", expire("A.0", 1), ONE),
    Case("PASSED 0", expire("A.0", 1), [*ONE, arrive("B.0", 1)]),
    Case("ACT 1", expire("D.0", 1), CROWD),
    Case("WAITING", expire("A.0", 1), ACTING),
    Case("BROKEN", expire("A.0", 1, force=1), ACTING),
    Case("STALE", expire("A.0", 1), LATER),
    Case("PASSED 1", opened("B.0", 2, B1), ACTING),
    Case("BROKEN", opened("B.0", 2, B1), [*ACTING, smash("C.0", 1)]),
    Case("STALE", opened("A.0", 2, A1), LATER),
    Case("OK", smash("B.0", 1), ONE),
    Case("OK", smash("B.0", 1, "filling"), ONE),
    Case("STALE", smash("A.0", 1), LATER),
    Case("BURIED", bury("A"), ONE),
    Case("BURIED", bury("Z"), ONE),
    Case("VALUE filling 1", LOOK, ONE),
    Case("VALUE broken 0", LOOK, BROKEN),
    *(
        Case("GONE", call, [])
        for call in (
            *(arrive("A.0", 1), expire("A.0", 1), opened("A.0", 2, A1)),
            *(smash("A.0", 1), bury("A"), LOOK),
        )
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    check(machine, case)


def test_every_reply_is_produced():
    assert not unproduced("barrier/", CASES)


def test_a_dead_party_breaks_the_barrier_for_those_who_wait(machine):
    _, state = play(machine, *barrier(3), arrive("A.0", 1), arrive("B.0", 1), bury("A"))
    assert state.hash(STATE)["phase"] == "broken"
    assert not state.has(WAITERS)
    assert play(machine, arrive("B.0", 1), state=state)[0] == "BROKEN"


def test_those_who_come_during_the_action_are_the_next_generation(machine):
    _, state = play(machine, *ACTING, arrive("C.0", 1, 1), opened("B.0", 2, B1))
    assert state.hash(STATE)["phase"] == "filling"
    assert [t.partition(":")[0] for t in state.list(WAITERS)] == ["C.0"]
    assert play(machine, arrive("A.0", 1, 1), state=state)[0] == "PASSED 0"


def test_every_waiter_is_looked_after_in_turn(machine):
    _, state = play(machine, *barrier(4), *(arrive(f"{p}.0", 1) for p in "ABC"))
    suspects = {
        play(machine, arrive("A.0", 1, look=look), state=state)[0].split()[1][0]
        for look in range(3)
    }
    assert suspects == {"A", "B", "C"}


# -- who listens --


def hints(state, client: str) -> tuple[str, ...]:
    return tuple(
        h.replace("\x1f", " ") for h in state.content.get(keys.mailbox(BARRIER, client), ())
    )


@pytest.mark.parametrize(
    ("before", "action", "said"),
    [(ONE, 0, "PASSED 1"), (ONE, 1, "ACT 1"), (BROKEN, 0, "BROKEN"), ([], 0, "ASK")],
)
def test_who_listens_has_what_is_answered_at_once_as_a_hint_too(machine, before, action, said):
    reply, state = play(machine, *before, arrive("B.0", 1, action, listen=1))
    assert hints(state, "B.0") == (f"{number(1)} {said}",)
    assert reply == ("GONE" if said == "ASK" else said)


def test_who_asks_has_no_hint(machine):
    _, state = play(machine, *ONE, arrive("B.0", 1))
    assert hints(state, "A.0") == (f"{number(1)} PASSED 0",)
    assert hints(state, "B.0") == ()


def test_who_asks_listens_no_longer(machine):
    _, state = play(machine, *barrier(2), arrive("A.0", 1, listen=1))
    # The last is a late copy of the first request.
    for listen, place in (1, f"~{A1}"), (0, A1), (1, A1):
        reply, state = play(machine, arrive("A.0", 1, listen=listen), state=state)
        assert (reply, state.list(WAITERS)) == (f"WAITING {A1}", [place])
