"""Creation, references and the end of objects; versions, for all families."""

from __future__ import annotations

import pytest

from lithops_mp._store import families, keys
from lithops_mp._store.families import Ref
from lithops_mp._store.scripts import REGISTRY, command

from . import (
    test_barrier,
    test_cond,
    test_dict,
    test_event,
    test_list,
    test_mem,
    test_pipe,
    test_pool,
    test_queue,
    test_sem,
)
from .play import (
    BARRIER,
    COND,
    DICT,
    EVENT,
    HERE,
    LIST,
    LOCK,
    POOL,
    QUEUE,
    REGION,
    THERE,
    TTL,
    Case,
    check,
    event,
    play,
    run,
    unproduced,
)

STATE, REFS = keys.state(EVENT), keys.refs(EVENT)
REF = run("object/ref", member="B", ms=0, pin="")
UNREF = run("object/unref", process="main", ended=0)
CREATE = run("object/create", fmt="event/1", ttl=TTL, process="main", fields=b"\x90")

CASES = [
    Case("OK", CREATE._replace(args={**CREATE.args, "fields": b"\x92\xa1a\xa1b"}), []),
    Case("OK", CREATE, event()),
    Case("OK", REF, event()),
    Case("GONE", REF, []),
    Case("OK", run("object/renew"), event()),
    Case("GONE", run("object/renew"), []),
    Case("OK", UNREF, [*event(), REF]),
    Case("DELETED", UNREF, event()),
    Case("DELETED", run("object/delete"), [*event(), REF]),
    Case("DELETED", run("object/delete"), []),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    check(machine, case)


def test_every_reply_is_produced():
    assert not unproduced("object/", CASES)


def test_creating_again_keeps_what_happened_since(machine):
    _, before = play(machine, *event(), test_event.up("A.0", 1))
    assert play(machine, *event(), state=before)[1] is before


def test_an_object_lives_as_long_as_its_last_reference(machine):
    _, state = play(machine, *event(), REF, UNREF)
    assert state.zset(REFS) == ["B"]
    _, state = play(machine, run("object/unref", process="B", ended=0), state=state)
    assert state is machine.empty


def test_a_pin_that_ran_out_keeps_nothing(machine):
    long_ago = run("object/ref", member="pinX:1", ms=-1000, pin="")
    assert play(machine, *event(), long_ago, UNREF)[0] == "DELETED"


def test_a_pin_keeps_the_object(machine):
    assert (
        play(machine, *event(), run("object/ref", member="pinX:1", ms=60000, pin=""), UNREF)[0]
        == "OK"
    )


FAMILIES = {
    "sem": (test_sem.CASES, [Ref("sem", LOCK)]),
    "cond": (test_cond.CASES, [Ref("cond", COND), Ref("sem", LOCK)]),
    "event": (test_event.CASES, [Ref("event", EVENT)]),
    "barrier": (test_barrier.CASES, [Ref("barrier", BARRIER)]),
    "pool": (test_pool.CASES, [POOL]),
    "queue": (test_queue.CASES, [QUEUE]),
    "pipe": (test_pipe.CASES, [HERE, THERE]),
    "mem": (test_mem.CASES, [Ref("mem", REGION), Ref("sem", LOCK)]),
    "dict": (test_dict.CASES, [DICT]),
    "list": (test_list.CASES, [LIST]),
}
#: What is looked at beside the object itself, or in its place.
LOOKED_AT = {
    "cond/look": [COND],
    "cond/bury": [COND],
    "cond/expire": [LOCK],
    "cond/leave": [LOCK],
    "mem/fetch": [REGION],
    "mem/release": [LOCK],  # a region that is gone must not keep the lock
}


#: What goes by itself: who waits for room at an end is told that it is gone, where it was;
#: who gave an address up may ask again what lay there.
STAYS = {"pipe": ":m:", "queue": ":a:"}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_reference_leaves_nothing_behind(family, machine):
    """In every state the cases reach, mailboxes and all."""
    cases, refs = FAMILIES[family]
    for case in cases:
        if not case.before:
            continue
        _, state = play(machine, *case.before, case.call)
        users = ("main", "B")
        steps = [families.drop(ref, user, ended=False) for ref in refs for user in users]
        _, state = play(machine, *(bound.pack(args) for bound, args in steps), state=state)
        left = [key for key in state.content if STAYS.get(family, " ") not in key]
        assert not left, case.name


#: A name is taken or given up, or an end closed, whatever is under it.
UNVERSIONED = {"queue/bind", "queue/unbind", "pipe/unref"}
#: Whose cases are of more than their own scripts.
FOLDERS = {"dict": ("dict/", "store/"), "list": ("list/", "store/")}
VERSIONED = sorted(
    {
        (case.call.name, family): case
        for family, (cases, _) in FAMILIES.items()
        for case in cases
        if case.call.name.startswith(FOLDERS.get(family, f"{family}/"))
        and case.call.name not in UNVERSIONED
    }.items()
)


@pytest.mark.parametrize(
    ("name", "family", "case"),
    [(*which, case) for which, case in VERSIONED],
    ids=[f"{name} of a {family}" for (name, family), _ in VERSIONED],
)
def test_another_version_is_named_and_nothing_is_changed(name, family, case, machine):
    before = next(c.before for c in FAMILIES[family][0] if c.call.name == name and c.before)
    idents = [ref.ident for ref in reversed(FAMILIES[family][1])]
    if family == "pipe":
        idents = [HERE.ident]
    for ident in LOOKED_AT.get(name, idents):
        changed = command("HSET", keys.state(ident), "fmt", "other/9")
        _, state = play(machine, *before, changed)
        reply, after = play(machine, case.call, state=state)
        assert reply == "VERSION other/9"
        assert after is state


def test_versions_are_checked_by_every_script_that_says_so():
    says = {name for name, found in REGISTRY.items() if "VERSION" in found.replies}
    assert says == {name for (name, _), _ in VERSIONED}
