"""Every interleaving of two and three clients of a dict or a list."""

from __future__ import annotations

import pytest

from .containers import (
    AS_LIST,
    DICT,
    LARGE,
    LIST,
    enterer,
    merger,
    on_dict,
    on_list,
    once,
    pairer,
    picker,
    popper,
    pusher,
    reader,
    remover,
    sorter,
    summer,
    swapper,
    together,
    total,
)
from .explorer import INTERRUPTS, USUAL

PAIR = {"sa": "s1", "sb": "s1"}
ABC = {"sa": "s1", "sb": "s2", "sc": "s3"}
CLOSES = USUAL - {"copy"}
ONE, TWO = LARGE + "one", LARGE + "two"

SCENARIOS = {
    "two set the same key": on_dict(enterer("sa", "s1", "s2"), enterer("sa", "s3")),
    "three add": on_dict(summer(2), summer(2), summer(), check=total(DICT)),
    "two add, two faults": on_dict(summer(2), summer(2), budget=2, check=total(DICT)),
    "one adds, two swap": on_dict(summer(), swapper(2), swapper(), check=total(DICT)),
    "two take the last": on_dict(
        picker(times=2), picker(times=2), first=ABC, check=once(DICT, "s1", "s2", "s3"), budget=2
    ),
    "one is taken by two": on_dict(
        picker("sa"), picker("sa"), first={"sa": ONE}, check=once(DICT, ONE)
    ),
    "one reads, one changes two at once": on_dict(
        reader(), pairer("s2", "s3"), first=PAIR, check=together, faults=CLOSES
    ),
    "one reads, one changes two at once, two faults": on_dict(
        reader(), pairer("s2"), first=PAIR, check=together, budget=2
    ),
    "one reads, two change": on_dict(
        reader(), pairer("s2"), enterer("sc", "s5"), first=PAIR, check=together
    ),
    "one reads, one clears": on_dict(
        reader(), pairer("s2", how="clear"), first=PAIR, check=together, faults=CLOSES
    ),
    "two read what is large, one changes it": on_dict(
        reader(), reader(), enterer("sa", "s2"), first={"sa": ONE, "sb": TWO}
    ),
    "one reads what is large, one takes it": on_dict(
        reader(), picker("sa"), first={"sa": ONE}, faults=CLOSES
    ),
    "Ctrl-C while one reads": on_dict(
        reader(),
        pairer("s2"),
        first=PAIR,
        check=together,
        faults=INTERRUPTS,
        interruptible=frozenset({"entries"}),
    ),
    "one reads, one merges": on_dict(
        merger(), reader(), first=PAIR, laid={"A.0": "s2"}, check=together, faults=CLOSES
    ),
    "one reads, one merges, two faults": on_dict(
        merger(), reader(), first=PAIR, laid={"A.0": "s2"}, check=together, budget=2
    ),
    "two merge into nothing, one takes": on_dict(
        merger(), merger(), picker("sa"), laid={"A.0": "s2", "B.0": "s3"}, budget=1
    ),
    "one merges, one adds": on_dict(
        merger(), summer(2), first={"sa": "i0"}, laid={"A.0": "i5"}, budget=2
    ),
    "two push": on_list(pusher("s1", "s2"), pusher("s3"), check=once(LIST, "s1", "s2", "s3")),
    "two pop": on_list(
        popper(times=2), popper(-1), first=("s1", "s2", "s3"), check=once(LIST, "s1", "s2", "s3"),
        budget=2,
    ),
    "two remove the same, one pops": on_list(
        remover("s2"), remover("s2"), popper(), first=("s1", "s2"), check=once(LIST, "s1", "s2")
    ),
    "one sorts, one pushes, one pops": on_list(
        sorter(), pusher("s0"), popper(), first=("s2", "s1"), check=once(LIST, "s0", "s1", "s2")
    ),
    "one reads, one changes two at once, list": on_list(
        reader(AS_LIST),
        pairer("s2", "s3", how="splice"),
        first=("s1", "s1"),
        check=together,
        faults=CLOSES,
    ),
    "one reads what is large, one pops it": on_list(
        reader(AS_LIST), popper(), first=(ONE, TWO)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_container_in_every_interleaving(name, explore):
    explore(SCENARIOS[name])


def test_the_scenarios_do_what_they_are_meant_to(explore):
    """A reader sees each moment, and the steps of others lie between its own."""
    results = explore(SCENARIOS["one reads, one changes two at once"]).results
    seen = {result[0][0][1] for result in results if result[0]}
    assert seen == {"s1", "s2", "s3"}
