"""The scripts of dicts, each alone."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest
from explore.actor import Me
from explore.machine import State

from lithops_mp import storing
from lithops_mp._store import keys
from lithops_mp._store.scripts import command

from .play import (
    DICT,
    Case,
    Run,
    check,
    dictionary,
    enter,
    play,
    unproduced,
)

STATE, ENTRIES, ORDER = keys.state("D"), keys.items("D"), keys.waiters("D")
OBJECTS, TRASH, BLOBS = keys.parked("D"), keys.stream("D"), keys.blobs("D")
MAILBOX = keys.mailbox("D", "R.0")

#: An element that refers to an object by a pin, and one that has keys of its own.
PINS = msgpack.packb(["in:D:1", "event E"], use_bin_type=False)
REFERS = b"r%d:%b" % (len(PINS), PINS) + b"sx"
LARGE, LATER = b"15:1:abc", b"15:1:def"
BLOB, LATER_BLOB = keys.blob("D", "abc", 0), keys.blob("D", "def", 0)


def store(key: str) -> bytes:
    return command("SET", key, "large", "PX", 60_000)


def on(name: str, client: str, seq: int, **args: Any) -> Run:
    if name not in ("clear",):
        args = {"others": b""} | args
    return Run(f"dict/{name}", {"client": client, "seq": seq} | args, DICT)


def take(client: str, seq: int, what: str = "pop", key: str = "sa", **more: Any) -> Run:
    return on("take", client, seq, what=what, key=key, **more)


def swap(client: str, seq: int, expected: str | bytes, key: str = "sa", **more: Any) -> Run:
    return on("swap", client, seq, key=key, expected=expected, element="sn", object="", **more)


def add(client: str, seq: int, amount: str | bytes, key: str = "sa") -> Run:
    return on("add", client, seq, key=key, amount=amount, object="")


def update(client: str, seq: int, *words: Any, **more: Any) -> Run:
    return on("update", client, seq, entries=msgpack.packb(words, use_bin_type=False), **more)


def get(key: str = "sa", want: int = 1, others: bytes = b"") -> Run:
    return Run("dict/get", {"others": others, "want": want, "key": key}, DICT)


def read(after: str = "", count: int = 9, seq: int = 1) -> Run:
    return Run(
        "dict/read",
        {"client": "R.0", "seq": seq, "after": after, "last": "3", "count": count},
        DICT,
    )


def catch(start: int = 0, count: int = 9) -> Run:
    return Run("dict/catch", {"client": "R.0", "seq": 1, "from": start, "count": count}, DICT)


def close(seq: int = 2) -> Run:
    return Run("store/close", {"client": "R.0", "seq": seq}, DICT)


def bury(process: str = "A") -> Run:
    return Run("store/bury", {"process": process}, DICT)


OTHERS = Run("dict/others", {}, DICT)


def lay(client: str, seq: int, *some: tuple[Any, ...]) -> list[bytes]:
    """Lay a batch down, of pages of words."""
    laid = storing.laid(storing.dict_keys(DICT), Me(client), b"%012d" % seq)
    pages = [msgpack.packb(words, use_bin_type=False) for words in some]
    return [
        *(command("HSET", laid, number, page) for number, page in enumerate(pages)),
        command("PEXPIRE", laid, 60_000),
    ]


def merge(client: str, seq: int, pages: int = 2, rich: bytes = b"", **more: Any) -> Run:
    return on("merge", client, seq, pages=pages, rich=rich, **more)


ENTER = Run("dict/enter", {}, DICT)

NONE = dictionary()
ABC = dictionary(a="1", b="2", c="3")
OTHER = [*NONE, enter("A.0", 9, "", "sx", key_="oX", object="pickled", others="0")]
RICH = [*ABC, store(BLOB), enter("A.0", 1, "a", LARGE), enter("A.0", 2, "b", REFERS)]
READING = [*ABC, read(count=2)]
CHANGED = [
    *READING,
    enter("A.0", 1, "a", "sn"),
    take("A.0", 2, key="sb"),
    enter("A.0", 3, "d", "s4"),
]
TWICE = [enter("A.0", 1, "a", "sn"), enter("A.0", 2, "a", "s2")]
TOOK = [*RICH, take("A.0", 3, key="sa")]
GONE = command("DEL", ENTRIES)
BATCH = [*ABC, *lay("A.0", 1, ("sa", "sn", "", "sd", "s4", ""), ("oX", "sx", "pickled"))]
MERGING = [*BATCH, merge("A.0", 1)]
FORGOTTEN = [
    *(*RICH, read(count=2), enter("A.0", 3, "b", "sn")),  # what it referred to is kept for R
    command("HSET", STATE, "open", "R.0 000000000001 1"),  # of whom nothing was heard since 1970
]
RICH_BATCH = [
    *(*ABC, store(BLOB)),
    *lay("A.0", 1, ("sa", LARGE, ""), ("sd", REFERS, "")),
    merge("A.0", 1, rich=msgpack.packb([LARGE, REFERS], use_bin_type=False)),
]
LATE = [*ABC, enter("A.0", 5, "a", "sn")]

CASES = [
    Case("ADDED", enter("A.0", 1, "a", "s1"), NONE),
    Case("SET", enter("A.0", 1, "a", "sn"), ABC),
    Case("ADDED", enter("A.0", 1, "t", "s1", key_="t", object="pickled"), ABC),
    Case("SET", enter("A.0", 1, "a", b"0pickle"), ABC),
    Case("SET", enter("A.0", 1, "a", LARGE), [*ABC, store(BLOB)]),
    Case("SET [in:D:1 event E]", enter("A.0", 3, "b", "sn"), RICH),
    Case("ADDED", enter("A.0", 1, "", "s1", key_="oX", object="pickled", others="0"), ABC),
    Case("SET", enter("A.0", 10, "", "s1", key_="oX", object="pickled", others="1"), OTHER),
    Case("CHANGED", enter("B.0", 1, "", "s1", key_="oY", object="pickled", others="0"), OTHER),
    Case("STALE", enter("A.0", 4, "a", "sx"), LATE),
    Case("VALUE 3 s1", get(), ABC),
    Case("VALUE 3", get(want=0), ABC),
    Case("MISSING 3", get("sx"), ABC),
    Case("MISSING 3", get("sx", want=0), ABC),
    Case("CHANGED", get("oX", others=b"5"), OTHER),
    Case("OK 1", update("A.0", 1, "sa", "sn", "", "sd", "s4", ""), ABC),
    Case("OK 0 [in:D:1 event E]", update("A.0", 3, "sb", "sn", "", "sa", "sn", ""), RICH),
    Case("CHANGED", update("B.0", 1, "oY", "s1", "pickled", others="0"), OTHER),
    Case("STALE", update("A.0", 4, "sa", "sn", ""), LATE),
    Case("MERGING", merge("A.0", 1), BATCH, "VERSION dict/1 merging"),
    Case("MERGING", merge("A.0", 1), [*NONE, *lay("A.0", 1, (), ())], "VERSION dict/1 merging"),
    Case("MERGING [in:D:1 event E]", merge("A.0", 4), [*FORGOTTEN, *lay("A.0", 4, (), ())],
         "VERSION dict/1 merging"),
    Case("MISSING", merge("A.0", 1), ABC),
    Case("MISSING", merge("A.0", 1, pages=3), BATCH),
    Case("CHANGED", merge("A.0", 1, others="5"), BATCH),
    Case("STALE", merge("A.0", 4), LATE),
    Case("VERSION dict/1 merging", merge("A.0", 1), MERGING),
    Case("VERSION dict/1 merging", enter("B.0", 1, "a", "s5"), MERGING),
    Case("VERSION dict/1 merging", get(), MERGING),
    Case("MORE", ENTER, MERGING, None),
    Case("ENTERED", ENTER, [*MERGING, ENTER], None),
    Case("ENTERED", ENTER, ABC),
    Case("OK 2", merge("A.0", 1), [*MERGING, ENTER, ENTER]),
    Case("MORE [in:D:1 event E]", ENTER,
         [*RICH, *lay("C.0", 1, ("sb", "sn", ""), ("sa", "sn", "")), merge("C.0", 1)], None),
    Case("TOOK s1 sa ", take("A.0", 1), ABC),
    Case("TOOK s3 sc ", take("A.0", 1, "last", ""), ABC),
    Case("TOOK sx oX pickled", take("A.0", 10, key="oX", others="1"), OTHER),
    Case("TOOK 15:1:abc sa ", take("A.0", 3), RICH),
    Case(f"TOOK {REFERS.decode('latin-1')} sb  [in:D:1 event E]", take("A.0", 3, key="sb"), RICH),
    Case("REMOVED", take("A.0", 1, "drop"), ABC),
    Case("REMOVED [in:D:1 event E]", take("A.0", 3, "drop", "sb"), RICH),
    Case("MISSING", take("A.0", 1, key="sx"), ABC),
    Case("MISSING", take("A.0", 1, "last", ""), NONE),
    Case("CHANGED", take("B.0", 1, key="oX", others="5"), OTHER),
    Case("STALE", take("A.0", 4), LATE),
    Case("SWAPPED", swap("A.0", 1, "s1"), ABC),
    Case("SWAPPED", swap("A.0", 1, "", key="sx"), ABC),
    Case("SWAPPED [in:D:1 event E]", swap("A.0", 3, REFERS, key="sb"), RICH),
    Case("VALUE s1", swap("A.0", 1, "s2"), ABC),
    Case("VALUE s1", swap("A.0", 1, ""), ABC),
    Case("MISSING", swap("A.0", 1, "s1", key="sx"), ABC),
    Case("CHANGED", swap("B.0", 1, "", key="oX", others="5"), OTHER),
    Case("STALE", swap("A.0", 4, "s1"), LATE),
    Case("ADDED", add("A.0", 1, "i5"), NONE),
    Case("WAS i5", add("A.0", 2, "i-7"), [*NONE, add("A.0", 1, "i5")]),
    Case("VALUE s1", add("A.0", 1, "i5"), ABC),
    Case("VALUE i9007199254740991", add("A.0", 2, "i1"), [*NONE, add("A.0", 1, f"i{2**53 - 1}")]),
    Case("CHANGED", on("add", "B.0", 1, others="5", key="oX", amount="i1", object="p"), OTHER),
    Case("STALE", add("A.0", 4, "i5"), LATE),
    Case("OK 3", on("clear", "A.0", 1), ABC),
    Case("OK 3 [in:D:1 event E]", on("clear", "A.0", 3), RICH),
    Case("OK 0", on("clear", "A.0", 1), NONE),
    Case("STALE", on("clear", "A.0", 4), LATE),
    Case("OTHERS 1 oX pickled", OTHERS, OTHER),
    Case("OTHERS 0", OTHERS, ABC),
    Case("ALL sa 1 s1  sb 2 s2  sc 3 s3 ", read(), ABC),
    Case("ALL", read(), NONE),
    Case("PAGE 3 sa 1 s1  sb 2 s2 ", read(count=2), ABC, None),
    Case("PAGE 3 sa 1 15:1:abc  sb*", read(count=2), RICH, None),
    Case("PAGE 3 sc 3 s3 ", read("2"), READING, None),
    Case("PAGE 3", read("3"), READING, None),
    Case("AGAIN", read("2"), ABC),
    Case("AGAIN", read(count=2), READING),
    Case("AGAIN", read(count=2), [*READING, read(count=2, seq=5)]),
    Case("AGAIN", read(count=2), [*READING, close()]),
    Case("AGAIN", read("2"), [*READING, on("clear", "A.0", 1)]),
    Case("CAUGHT 0 0", catch(), READING, None),
    Case("CAUGHT 0 3 sa 1 sn  sb 0   sd 4 s4 ", catch(), CHANGED, None),
    Case("CAUGHT 1 2 sa 1 sn  sb 0  ", catch(count=2), CHANGED, None),
    Case("CAUGHT 0 2 sa 1 s2 ", catch(), [*READING, *TWICE], None),
    Case("CAUGHT 0 1 sd 4 s4 ", catch(2), CHANGED, None),
    Case("AGAIN", catch(), ABC),
    Case("OK", close(), READING),
    Case("OK", close(), ABC),
    Case("STALE", close(), [*READING, close(3)]),
    Case("BURIED", bury(), TOOK),
    Case("BURIED", bury("R"), READING),
    *(
        Case("GONE", call, [])
        for call in (enter("A.0", 1, "a", "s1"), get(), update("A.0", 1), take("A.0", 1),
                     swap("A.0", 1, "s1"), add("A.0", 1, "i1"), on("clear", "A.0", 1), OTHERS,
                     read(), catch(), close(), bury(), merge("A.0", 1), ENTER)
    ),
    *(
        Case("GONE", call, [*ABC, GONE])
        for call in (enter("A.0", 1, "x", "s1"), enter("A.0", 1, "a", LARGE), get(), read(),
                     take("A.0", 1), on("clear", "A.0", 1))
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    check(machine, case)


def test_every_reply_is_produced():
    assert not unproduced(("dict/", "store/"), CASES)


def entries(state: State) -> dict[str, str]:
    """What the dict has, in its order."""
    found = state.hash(ENTRIES)
    order = state.zset(ORDER)
    assert sorted(found) == sorted(order)
    assert state.hash(STATE)["size"] == str(len(order))
    return {key: found[key] for key in order}


@pytest.mark.parametrize(
    ("call", "content"),
    [
        (enter("A.0", 1, "a", "sn"), {"sa": "sn", "sb": "s2", "sc": "s3"}),
        (enter("A.0", 1, "d", "sn"), {"sa": "s1", "sb": "s2", "sc": "s3", "sd": "sn"}),
        (enter("A.0", 1, "a", b"15:1:abc"), {"sa": "15:1:abc", "sb": "s2", "sc": "s3"}),
        (take("A.0", 1), {"sb": "s2", "sc": "s3"}),
        (take("A.0", 1, "last", ""), {"sa": "s1", "sb": "s2"}),
        (take("A.0", 1, "drop", "sb"), {"sa": "s1", "sc": "s3"}),
        (update("A.0", 1, "sd", "s4", "", "sa", "sn", ""),
         {"sa": "sn", "sb": "s2", "sc": "s3", "sd": "s4"}),
        (swap("A.0", 1, "s1"), {"sa": "sn", "sb": "s2", "sc": "s3"}),
        (swap("A.0", 1, "s2"), {"sa": "s1", "sb": "s2", "sc": "s3"}),
        (on("clear", "A.0", 1), {}),
    ],
)  # fmt: skip
def test_the_order_is_that_in_which_keys_were_new(call, content, machine):
    _, state = play(machine, *ABC, call)
    assert entries(state) == content


def test_a_batch_is_entered_as_an_update_is(machine):
    words = "sa", "sn", "", "sd", "s4", "", "oX", "sx", "pickled"
    _, entered = play(machine, *MERGING, ENTER, ENTER)
    _, updated = play(machine, *ABC, update("A.0", 1, *words))
    assert entered is updated


def test_what_a_batch_refers_to_is_kept_before_it_is_entered(machine):
    states = [play(machine, *RICH_BATCH, *more)[1] for more in ([], [ENTER], [ENTER, ENTER])]
    for state in states:
        assert state.hash(STATE)["p:in:D:1"] == "event E"
        assert state.hash(STATE)["rich"] == "1"
        assert "1:abc" in state.content[BLOBS]
    _, state = play(machine, take("B.0", 1, key="sd"), state=states[-1])
    assert "p:in:D:1" not in state.hash(STATE)


@pytest.mark.parametrize("entered", range(3))
def test_a_dict_that_is_deleted_in_the_middle_of_a_batch_leaves_nothing(machine, entered):
    steps = [*RICH_BATCH, *[ENTER] * entered, Run("object/delete", {}, DICT)]
    reply, state = play(machine, *steps)
    assert "in:D:1 event E" in reply
    assert not [key for key in state.content if "{D}" in key]


def test_a_batch_that_did_not_count_is_deleted(machine):
    for call in (merge("A.0", 1, others="5"), merge("A.0", 1, pages=3)):
        _, state = play(machine, *BATCH, call)
        assert not state.has(ENTRIES + ":A.0:000000000001")
    _, state = play(machine, *LATE, *lay("A.0", 4, ("sa", "sx", "")), merge("A.0", 4))
    assert not state.has(ENTRIES + ":A.0:000000000004")


def test_nobody_reads_entries_without_a_script_while_a_batch_is_entered(machine):
    for steps in (MERGING, [*MERGING, ENTER]):
        _, state = play(machine, *steps)
        assert not state.has(ENTRIES)


def test_a_key_that_comes_back_is_new(machine):
    _, state = play(machine, *ABC, take("A.0", 1), enter("A.0", 2, "a", "sn"))
    assert list(entries(state)) == ["sb", "sc", "sa"]


def test_an_object_stays_as_it_was_when_the_key_was_new(machine):
    one = enter("A.0", 1, "", "s1", key_="i1", object="True")
    _, state = play(machine, *NONE, one, enter("A.0", 2, "", "s2", key_="i1"))
    assert state.hash(OBJECTS) == {"i1": "True"}
    assert entries(state) == {"i1": "s2"}
    _, state = play(machine, take("A.0", 3, key="i1"), state=state)
    assert OBJECTS not in state.content


@pytest.mark.parametrize(
    ("first", "amount", "sum_"),
    [("i5", "i-7", "i-2"), (f"i{2**53 - 2}", "i1", f"i{2**53 - 1}"), ("i0", "i0", "i0")],
)
def test_integers_are_added_exactly(first, amount, sum_, machine):
    _, state = play(machine, *NONE, add("A.0", 1, first), add("A.0", 2, amount))
    assert entries(state) == {"sa": sum_}


def test_floats_are_added_as_python_does(machine):
    half, tenth = (b"d" + struct.pack(">d", value) for value in (0.5, 0.1))
    _, state = play(machine, *NONE, add("A.0", 1, "i1"), add("A.0", 2, half), add("A.0", 3, tenth))
    raw = entries(state)["sa"].encode("latin-1")
    assert struct.unpack(">d", raw[1:]) == (1 + 0.5 + 0.1,)


def test_what_was_overwritten_leaves_no_key(machine):
    _, state = play(machine, *RICH, store(LATER_BLOB), enter("A.0", 3, "a", LATER))
    assert BLOB not in state.content
    assert state.content[BLOBS] == ("1:def",)
    _, state = play(machine, enter("A.0", 4, "a", "s1"), state=state)
    assert LATER_BLOB not in state.content


def test_what_was_taken_stays_until_the_next_request_of_who_took_it(machine):
    _, state = play(machine, *TOOK)
    assert BLOB in state.content
    _, state = play(machine, enter("B.0", 1, "x", "s1"), state=state)
    assert BLOB in state.content
    _, state = play(machine, enter("A.0", 4, "y", "s1"), state=state)
    assert BLOB not in state.content


def test_what_a_dead_process_took_goes(machine):
    reply, state = play(machine, *TOOK, bury(), take("A.0", 3, key="sa"))
    assert BLOB not in state.content
    assert reply.startswith("TOOK 15:1:abc")  # it was answered, and may have been seen


def test_what_was_overwritten_stays_as_long_as_somebody_reads(machine):
    _, state = play(machine, *RICH, read(), enter("A.0", 3, "a", "s1"), enter("A.0", 4, "b", "s2"))
    assert BLOB in state.content
    assert state.hash(STATE)["p:in:D:1"] == "event E"
    reply, state = play(machine, close(), state=state)
    assert reply == "OK [in:D:1 event E]"
    assert BLOB not in state.content
    assert TRASH not in state.content
    assert MAILBOX not in state.content
    assert "p:in:D:1" not in state.hash(STATE)


def test_a_reader_that_died_keeps_nobody(machine):
    _, state = play(machine, *RICH, read(), enter("A.0", 3, "a", "s1"), bury("R"))
    assert BLOB not in state.content
    assert state.hash(STATE)["open"] == ""


def test_changes_are_noted_for_readers_only(machine):
    assert MAILBOX not in play(machine, *LATE)[1].content
    assert play(machine, *CHANGED)[1].content[MAILBOX] == ("sa", "sb", "sd")


def test_a_page_ends_where_it_gets_large(machine):
    big = "s" + "x" * 6_000
    two = [*NONE, enter("A.0", 1, "a", big), enter("A.0", 2, "b", big), enter("A.0", 3, "c", big)]
    reply, state = play(machine, *two, read())
    assert reply.startswith("PAGE 3 sa")
    assert reply.count(" s" + "x") == 2
    assert play(machine, read("2"), state=state)[0].startswith("PAGE 3 sc 3")


def test_who_deletes_the_last_reference_is_told_what_it_held(machine):
    unref = Run("object/unref", {"process": "main", "ended": "0"}, DICT)
    reply, state = play(machine, *RICH, unref)
    assert reply == "DELETED in:D:1 event E"
    assert state.content == {}


def test_a_manager_deletes_what_others_refer_to(machine):
    ref = Run("object/ref", {"member": "B", "ms": 0, "pin": ""}, DICT)
    reply, state = play(machine, *RICH, ref, read(), Run("object/delete", {}, DICT))
    assert reply == "DELETED in:D:1 event E"
    assert state.content == {}


def test_renewing_tells_what_is_to_be_renewed_with_it(machine):
    renew = Run("object/renew", {}, DICT)
    assert play(machine, *ABC, renew)[0] == "OK"
    assert play(machine, *RICH, renew)[0] == "OK in:D:1 event E"
