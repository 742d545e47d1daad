"""The scripts of conditions, each alone."""

from __future__ import annotations

import pytest

from lithops_mp._store import keys

from .play import COND, LOCK, Case, Run, check, condition, number, play, run, unproduced
from .test_sem import acquire, bury, depose, release

STATE, LINE, AREA = keys.state(LOCK), keys.waiters(LOCK), keys.waiters(COND)


def take(client: str, seq: int) -> Run:
    return acquire(client, seq, "rlock")


def wait(client: str, seq: int, fence: int, listen: int = 0) -> Run:
    return run("cond/wait", client=client, seq=seq, fence=fence, condition="C", listen=listen)


def notify(client: str, seq: int, fence: int, count: int = 1) -> Run:
    return run("cond/notify", client=client, seq=seq, fence=fence, count=count)


def expire(client: str, seq: int, wait: int) -> Run:
    ticket = f"{client}:{number(wait)}:C"
    return run("cond/expire", client=client, seq=seq, ticket=ticket)


def leave(client: str, seq: int, fence: int, wait: int) -> Run:
    ticket = f"{client}:{number(wait)}:C"
    return run("cond/leave", client=client, seq=seq, fence=fence, ticket=ticket)


LOOK = run("cond/look")
COND_BURY = run("cond/bury", process="A")
A1, A2 = f"A.0:{number(1)}", f"A.0:{number(2)}:C"
HELD = [*condition(), take("A.0", 1)]
WAITING = [*HELD, wait("A.0", 2, 1)]
#: B holds the lock, A waits.
MAKING = [*WAITING, take("B.0", 1)]
#: A was notified and stands in B's line.
NOTIFIED = [*MAKING, notify("B.0", 2, 2)]
#: A was notified and owns the lock.
AWAKE = [*NOTIFIED, release("B.0", 3, 2, "rlock")]
#: A's lock was given to B.
LOST = [*HELD, take("B.0", 1), depose(A1, 1)]
#: A waits, and all trace of its ticket is gone.
STRUCK = [*WAITING, COND_BURY]
LATER = [*condition(), acquire("A.0", 9, "rlock", block=0)]

CASES = [
    Case("WAITING*", wait("A.0", 2, 1), HELD, again="*"),
    Case("QUEUED B.0:*", wait("A.0", 2, 1), NOTIFIED),
    Case("ACQUIRED 3", wait("A.0", 2, 1), AWAKE),
    Case("ACQUIRED 3 died", wait("A.0", 2, 1), [*NOTIFIED, bury("B")]),
    Case("FORGOTTEN", wait("A.0", 2, 1), STRUCK),
    Case("LOST", wait("A.0", 2, 1), LOST),
    Case("NOT_OWNER", wait("B.0", 1, 1), HELD),
    Case("STALE", wait("A.0", 2, 1), LATER),
    Case("NOTIFIED 0", notify("A.0", 2, 1), HELD),
    Case("NOTIFIED 1", notify("B.0", 2, 2), MAKING),
    Case("LOST", notify("A.0", 2, 1), LOST),
    Case("NOT_OWNER", notify("B.0", 1, 7), HELD),
    Case("STALE", notify("A.0", 2, 1), LATER),
    Case("EXPIRED ACQUIRED 2", expire("A.0", 3, 2), WAITING),
    Case("EXPIRED QUEUED B.0:*", expire("A.0", 3, 2), MAKING),
    Case("NOTIFIED QUEUED B.0:*", expire("A.0", 3, 2), NOTIFIED),
    Case("NOTIFIED ACQUIRED 3", expire("A.0", 3, 2), AWAKE),
    Case("NOTIFIED ACQUIRED 3 died", expire("A.0", 3, 2), [*NOTIFIED, bury("B")]),
    Case("EXPIRED ACQUIRED 4 died", expire("A.0", 3, 2), [*MAKING, bury("B")]),
    Case("FORGOTTEN", expire("A.0", 3, 2), STRUCK),
    Case("STALE", expire("A.0", 3, 2), LATER),
    Case("LEFT", leave("A.0", 3, 1, 2), WAITING),
    Case("STALE", leave("A.0", 3, 1, 2), LATER),
    Case("BURIED", COND_BURY, WAITING),
    Case("VALUE 1", LOOK, WAITING),
    Case("VALUE 0", LOOK, AWAKE),
    *(
        Case("GONE", call, [])
        for call in (
            *(wait("A.0", 1, 1), notify("A.0", 1, 1), expire("A.0", 2, 1)),
            *(leave("A.0", 3, 1, 2), COND_BURY, LOOK),
        )
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    if case.again == "*":
        # The first answer and the safety check's may say more or less.
        _, after = play(machine, *case.before, case.call)
        reply, still = play(machine, case.call, state=after)
        assert reply.startswith("WAITING")
        assert still is after
        case = case._replace(again=None)
    check(machine, case)


def test_every_reply_is_produced():
    assert not unproduced("cond/", CASES)


def test_waiting_hands_the_lock_to_the_next(machine):
    _, state = play(machine, *HELD, take("B.0", 1), wait("A.0", 2, 1))
    assert state.hash(STATE)["owner"].startswith("B.0:")
    assert state.list(AREA) == [A2]


def test_notify_moves_in_the_order_of_waiting(machine):
    waits = [*WAITING, take("B.0", 1), wait("B.0", 2, 2), take("C.0", 1)]
    _, state = play(machine, *waits, notify("C.0", 2, 3, 1))
    assert [t.partition(":")[0] for t in state.list(LINE)] == ["A.0"]
    _, state = play(machine, *waits, notify("C.0", 2, 3, -1))
    assert [t.partition(":")[0] for t in state.list(LINE)] == ["A.0", "B.0"]
    assert state.list(AREA) == []


def test_a_notified_waiter_wakes_up_holding_the_lock(machine):
    _, state = play(machine, *AWAKE)
    assert state.hash(STATE)["owner"] == A2
    assert state.content[keys.mailbox(LOCK, "A.0")] == (f"{number(2)}\x1fACQUIRED\x1f3",)


def test_a_notify_of_the_dead_goes_to_the_next(machine):
    waits = [*WAITING, take("B.0", 1), wait("B.0", 2, 2), take("C.0", 1), notify("C.0", 2, 3)]
    _, in_line = play(machine, *waits, bury("A"))
    assert [t.partition(":")[0] for t in in_line.list(LINE)] == ["B.0"]
    _, owner = play(machine, *waits, release("C.0", 3, 3, "rlock"), bury("A"))
    assert owner.hash(STATE)["owner"].startswith("B.0:")


# -- who could not reach the server --


@pytest.mark.parametrize("before", [WAITING, MAKING, NOTIFIED, AWAKE], ids="WMNA")
@pytest.mark.parametrize("kind", ["lock", "rlock"])
def test_who_leaves_is_nowhere_and_its_release_does_no_harm(machine, before, kind):
    _, state = play(machine, *before, leave("A.0", 3, 1, 2))
    assert state.list(AREA) == state.list(LINE) == []
    s = state.hash(STATE)
    assert s["owner"].startswith("B.0:" if before in (MAKING, NOTIFIED) else "")
    assert (s["value"] == "1") == (s["owner"] == "")
    # Nor does a copy of the wait that is read late.
    assert play(machine, wait("A.0", 2, 1), state=state) == ("STALE", state)
    reply, after = play(machine, release("A.0", 4, 1, kind), state=state)
    assert reply == "LOST"
    assert after.hash(STATE)["owner"] == s["owner"]


def test_who_leaves_without_having_waited_still_has_the_lock(machine):
    _, state = play(machine, *HELD, leave("A.0", 3, 1, 2))
    assert play(machine, wait("A.0", 2, 1), state=state) == ("STALE", state)
    reply, _ = play(machine, release("A.0", 4, 1, "rlock"), state=state)
    assert reply == "RELEASED"


@pytest.mark.parametrize("owns", [False, True])
def test_the_notify_of_who_leaves_goes_to_the_next(machine, owns):
    waits = [*WAITING, take("B.0", 1), wait("B.0", 2, 2), take("C.0", 1), notify("C.0", 2, 3)]
    if owns:
        waits.append(release("C.0", 3, 3, "rlock"))
    _, state = play(machine, *waits, leave("A.0", 3, 1, 2))
    places = [state.hash(STATE)["owner"]] if owns else state.list(LINE)
    assert [ticket.partition(":")[0] for ticket in places] == ["B.0"]
    assert state.list(AREA) == []


def test_who_leaves_does_not_hide_that_the_last_holder_died(machine):
    _, state = play(machine, *NOTIFIED, bury("B"), leave("A.0", 3, 1, 2))
    reply, _ = play(machine, take("C.0", 1), state=state)
    assert reply == "ACQUIRED 4 died"


# -- who listens --


@pytest.mark.parametrize(
    ("before", "fence", "said"),
    [(HELD, 7, "NOT_OWNER"), (LOST, 1, "LOST"), ([], 1, "GONE"), (HELD, 1, "WAITING")],
)
def test_who_listens_is_told_to_ask_unless_he_waits(machine, before, fence, said):
    reply, state = play(machine, *before, wait("A.0", 2, fence, listen=1))
    asked = (f"{number(2)}\x1fASK",)
    assert reply == said
    assert state.content.get(keys.mailbox(LOCK, "A.0"), ()) == (() if said == "WAITING" else asked)


def test_who_listens_is_told_when_he_has_the_lock(machine):
    waiting = [*HELD, wait("A.0", 2, 1, listen=1)]
    _, state = play(machine, *waiting)
    assert state.list(AREA) == [f"~{A2}"]
    making = [*waiting, take("B.0", 1), notify("B.0", 2, 2), release("B.0", 3, 2, "rlock")]
    _, state = play(machine, *making)
    assert state.content[keys.mailbox(LOCK, "A.0")] == (f"{number(2)}\x1fACQUIRED\x1f3",)
    assert state.hash(STATE)["owner"] == A2


@pytest.mark.parametrize("notified", [False, True])
def test_who_asks_listens_no_longer(machine, notified):
    made = [*HELD, wait("A.0", 2, 1, listen=1), take("B.0", 1)]
    if notified:
        made.append(notify("B.0", 2, 2))
    place = LINE if notified else AREA
    _, state = play(machine, *made)
    # The last is a late copy of the first request.
    for listen, ticket in (1, f"~{A2}"), (0, A2), (1, A2):
        _, state = play(machine, wait("A.0", 2, 1, listen=listen), state=state)
        assert state.list(place) == [ticket]


@pytest.mark.parametrize("notified", [False, True])
def test_who_listened_and_gives_up_gets_the_lock_back_by_his_mailbox(machine, notified):
    made = [*HELD, wait("A.0", 2, 1, listen=1), take("B.0", 1)]
    if notified:
        made.append(notify("B.0", 2, 2))
    reply, state = play(machine, *made, expire("A.0", 3, 2))
    assert reply.split()[:2] == ["NOTIFIED" if notified else "EXPIRED", "QUEUED"]
    assert (state.list(LINE), state.list(AREA)) == ([A2], [])
