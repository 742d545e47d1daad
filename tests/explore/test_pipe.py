"""Every interleaving of the two ends of a pipe, and of their end.

A sends at its end, the others receive at theirs.
"""

from __future__ import annotations

import pytest

from .explorer import INTERRUPTS, USUAL
from .queues import BROKEN, EOF, HERE, THERE, getter, on_pipe, poller, putter

pytestmark = pytest.mark.slow

ALL = USUAL | INTERRUPTS


def sender(*names: str, **options):
    return putter(*names, to=THERE, **options)


def receiver(count: int = 1, **options):
    return getter(count, of=THERE, **options)


SCENARIOS = {
    "one sends, one receives": on_pipe(sender("a1", "a2"), receiver(2), faults=ALL),
    "one sends and closes": on_pipe(sender("a1", "a2", closes=HERE), receiver(9), faults=ALL),
    "one closes without a word": on_pipe(sender(closes=HERE), receiver(), faults=ALL, budget=2),
    "little room": on_pipe(sender("a1", "a2", "a3"), receiver(3), room=4),
    "little room, and the reader closes": on_pipe(
        sender("a1", "a2", "a3"), receiver(closes=THERE), room=1, faults=ALL
    ),
    "little room, two faults": on_pipe(
        sender("a1", "a2", closes=HERE), receiver(9), room=1, budget=2
    ),
    "the wait sent along": on_pipe(
        sender("a1", "a2", closes=HERE), receiver(9, eager=True), faults=ALL
    ),
    "some are taken at once": on_pipe(
        sender("a1", "a2", "a3", together=True, closes=HERE),
        receiver(9, want=3, use=2),
        room=9,
        faults=ALL,
    ),
    "one looks": on_pipe(sender("a1", closes=HERE), poller(of=THERE), faults=ALL, budget=2),
    "two receive": on_pipe(
        sender("a1", closes=HERE), receiver(2), receiver(2), faults=frozenset({"crash", "lost"})
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_pipe_in_every_interleaving(name, explore):
    explore(SCENARIOS[name])


def test_the_end_of_the_file_comes_when_all_was_read(explore):
    report = explore(on_pipe(sender("a1", closes=HERE), receiver(9), budget=0))
    assert report.results == {(("a1",), ("a1", EOF))}


def test_who_waits_for_room_learns_that_nobody_will_make_any(explore):
    scenario = on_pipe(sender("a1", "a2", "a3"), receiver(closes=THERE), room=1, budget=0)
    sent = {result[0] for result in explore(scenario).results}
    assert sent == {("a1", BROKEN), ("a1", "a2", BROKEN)}
