"""Every interleaving of two and three clients of an Event."""

from __future__ import annotations

import pytest

from .explorer import INTERRUPTS, USUAL
from .programs import on_event, setter, watcher

UP = ("set C.0",)
ALL = USUAL | INTERRUPTS

SCENARIOS = {
    "one waits, one sets": on_event(watcher(), setter("set"), budget=2, faults=ALL),
    "set and clear": on_event(watcher(), setter("set", "clear"), budget=2, faults=ALL),
    "two wait, one for a time": on_event(
        watcher(sure=UP), watcher(1.0, sure=UP), setter("set"), budget=2, faults=ALL
    ),
    "set, clear, set": on_event(watcher(), watcher(1.0), setter("set", "clear", "set")),
    "two set and clear": on_event(watcher(), *[setter("set", "clear")] * 2, sole=False),
    "two set and clear, with a time limit": on_event(
        watcher(1.0), *[setter("set", "clear")] * 2, sole=False
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("burial", ["finish bury", "finish bury drop"])
def test_an_event_in_every_interleaving(name, burial, explore):
    scenario = SCENARIOS[name]
    scenario.burial = burial
    explore(scenario)


def test_set_and_clear_wake_whoever_was_waiting(explore):
    """Without faults a waiter is woken unless it came after clear()."""
    report = explore(on_event(watcher(), setter("set", "clear"), budget=0))
    assert {result[0] for result in report.results} == {True, None}
