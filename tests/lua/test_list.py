"""The scripts of lists, each alone."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from explore.machine import State

from lithops_mp._store import keys
from lithops_mp._store.scripts import command

from .play import LIST, Case, Run, check, play, sequence, unproduced

STATE, ITEMS = keys.state("N"), keys.items("N")
TRASH, COPY = keys.stream("N"), keys.mailbox("N", "R.0")

PINS = msgpack.packb(["in:N:1", "event E"], use_bin_type=False)
REFERS = b"r%d:%b" % (len(PINS), PINS) + b"sx"
LARGE = b"15:1:abc"
BLOB = keys.blob("N", "abc", 0)


def on(name: str, client: str, seq: int, **args: Any) -> Run:
    return Run(f"list/{name}", {"client": client, "seq": seq} | args, LIST)


def packed(*words: Any) -> bytes:
    found: bytes = msgpack.packb(words, use_bin_type=False)
    return found


def push(client: str, seq: int, element: str | bytes, *more: str) -> Run:
    return on("push", client, seq, more=packed(*more) if more else b"", element=element)


def put(client: str, seq: int, index: int, element: str | bytes) -> Run:
    return on("set", client, seq, index=index, element=element)


def take(client: str, seq: int, index: int, what: str = "pop") -> Run:
    return on("take", client, seq, what=what, index=index)


def splice(
    client: str, seq: int, part: str, *elements: str | bytes, version: int | str = ""
) -> Run:
    start, stop, step = part.split(":")
    args = {"start": start, "stop": stop, "step": step}
    args["elements"] = packed(*elements) if elements else b""
    return on("splice", client, seq, version=version, **args)


def find(client: str, seq: int, what: str, *same: str, part: str = ":") -> Run:
    start, stop = part.split(":")
    return on("find", client, seq, what=what, start=start, stop=stop, elements=packed(*same))


def order(client: str, seq: int, *places: int, version: int | str = "") -> Run:
    return on("order", client, seq, version=version, places=packed(*places) if places else b"")


def times(client: str, seq: int, count: int) -> Run:
    return on("times", client, seq, count=count)


def look(index: int | str = "") -> Run:
    return Run("list/look", {"index": index}, LIST)


def read(part: str = "::", count: int = 9, seq: int = 1) -> Run:
    start, stop, step = part.split(":")
    args = {"client": "R.0", "seq": seq, "start": start, "stop": stop, "step": step}
    return Run("list/read", args | {"count": count}, LIST)


def page(start: int = 0, count: int = 2) -> Run:
    return Run("list/page", {"client": "R.0", "seq": 1, "from": start, "count": count}, LIST)


def close(seq: int = 2) -> Run:
    return Run("store/close", {"client": "R.0", "seq": seq}, LIST)


def bury(process: str = "A") -> Run:
    return Run("store/bury", {"process": process}, LIST)


NONE = sequence()
ABC = sequence("a", "b", "c")
MIXED = [*ABC, push("A.0", 1, b"0pickle")]
RICH = [*ABC, command("SET", BLOB, "large", "PX", 60_000), push("A.0", 1, LARGE),
        push("A.0", 2, REFERS)]  # fmt: skip
READING = [*ABC, read(count=2)]
FORGOTTEN = [
    *(*RICH, read(), put("A.0", 3, -1, "sx")),  # what it referred to is kept for R
    command("HSET", STATE, "open", "R.0 000000000001 1"),  # of whom nothing was heard since 1970
]
LATE = [*ABC, push("A.0", 5, "sd")]

CASES = [
    Case("ADDED", push("A.0", 1, "sa"), NONE),
    Case("ADDED", push("A.0", 1, b"0pickle"), ABC),
    Case("ADDED", push("A.0", 2, b"0pickle"), MIXED),
    Case("ADDED", push("A.0", 1, "sd", "se"), ABC),
    Case("ADDED", push("A.0", 1, REFERS), ABC),
    Case("ADDED [in:N:1 event E]", push("A.0", 4, "sx"), FORGOTTEN),
    Case("STALE", push("A.0", 4, "sx"), LATE),
    Case("SET", put("A.0", 1, 1, "sx"), ABC),
    Case("SET", put("A.0", 1, -3, "sx"), ABC),
    Case("SET", put("A.0", 1, 0, b"0pickle"), ABC),
    Case("SET [in:N:1 event E]", put("A.0", 3, -1, "sx"), RICH),
    Case("MISSING", put("A.0", 1, 3, "sx"), ABC),
    Case("MISSING", put("A.0", 1, -4, "sx"), ABC),
    Case("STALE", put("A.0", 4, 0, "sx"), LATE),
    Case("VALUE 3 sb", look(1), ABC),
    Case("VALUE 3 sc", look(-1), ABC),
    Case("MISSING 3", look(3), ABC),
    Case("MISSING 0", look(), NONE),
    Case("TOOK sa", take("A.0", 1, 0), ABC),
    Case("TOOK sc", take("A.0", 1, -1), ABC),
    Case("TOOK 15:1:abc", take("A.0", 3, 3), RICH),
    Case(f"TOOK {REFERS.decode('latin-1')} [in:N:1 event E]", take("A.0", 3, -1), RICH),
    Case("REMOVED", take("A.0", 1, 1, "drop"), ABC),
    Case("REMOVED [in:N:1 event E]", take("A.0", 3, 4, "drop"), RICH),
    Case("MISSING 3", take("A.0", 1, 3), ABC),
    Case("MISSING 0", take("A.0", 1, -1), NONE),
    Case("STALE", take("A.0", 4, 0), LATE),
    Case("OK", splice("A.0", 1, "1:2:", "sx", "sy"), ABC),
    Case("OK [in:N:1 event E]", splice("A.0", 3, "3::"), RICH),
    Case("OK", splice("A.0", 1, "::2", "sx", "sy"), ABC),
    Case("OK", splice("A.0", 1, "::", version=3), ABC),
    Case("SIZE 2", splice("A.0", 1, "::2", "sx"), ABC),
    Case("CHANGED", splice("A.0", 1, "::", version=2), ABC),
    Case("STALE", splice("A.0", 4, "::"), LATE),
    Case("AT 1", find("A.0", 1, "index", "sb"), ABC),
    Case("AT 0", find("A.0", 1, "index", "sc", "sa"), ABC),
    Case("AT 3", find("A.0", 1, "index", "sa", part="1:"), sequence("a", "b", "c", "a")),
    Case("MISSING", find("A.0", 1, "index", "sa", part="1:3"), sequence("a", "b", "c", "a")),
    Case("MISSING", find("A.0", 1, "index", "sa", part="0:0"), ABC),
    Case("MISSING", find("A.0", 1, "index", "sa", part="2:1"), ABC),
    Case("MISSING", find("A.0", 1, "index", "sx"), ABC),
    Case("NUMBER 2", find("A.0", 1, "count", "sa", "sb"), ABC),
    Case("NUMBER 0", find("A.0", 1, "count"), ABC),
    Case("REMOVED", find("A.0", 1, "remove", "sb"), ABC),
    Case("MISSING", find("A.0", 1, "remove", "sx"), ABC),
    Case("LOOK", find("A.0", 2, "remove", "sb"), MIXED),
    Case("STALE", find("A.0", 4, "count", "sb"), LATE),
    Case("OK", order("A.0", 1), ABC),
    Case("OK", order("A.0", 1, 2, 0, 1, version=3), ABC),
    Case("CHANGED", order("A.0", 1, 2, 0, 1, version=2), ABC),
    Case("STALE", order("A.0", 4), LATE),
    Case("OK", times("A.0", 1, 2), ABC),
    Case("OK", times("A.0", 1, 0), ABC),
    Case("LOOK", times("A.0", 3, 2), RICH),
    Case("STALE", times("A.0", 4, 2), LATE),
    Case("ALL 3 sa sb sc", read(), ABC),
    Case("ALL 3 sc sa", read("::-2"), ABC),
    Case("ALL 3", read("5::"), ABC),
    Case("ALL 3 sb", read("1:2:", 1), ABC),
    Case("COPIED 3 3", read(count=2), ABC, None),
    Case("COPIED 5 5", read(), RICH, None),
    Case("PAGE sa sb", page(), READING, None),
    Case("PAGE sc", page(2), READING, None),
    Case("AGAIN", page(), ABC),
    Case("AGAIN", read(count=2), READING),
    Case("AGAIN", read(count=2), [*READING, close()]),
    Case("OK", close(), READING),
    Case("OK", close(), ABC),
    Case("STALE", close(), [*READING, close(3)]),
    Case("BURIED", bury(), [*RICH, take("A.0", 3, 3)]),
    Case("BURIED", bury("R"), READING),
    *(
        Case("GONE", call, before)
        for before in ([], [*ABC, command("DEL", ITEMS)])
        for call in (push("A.0", 1, "s"), push("A.0", 1, REFERS), put("A.0", 1, 0, "s"),
                     take("A.0", 1, 0), splice("A.0", 1, "::"), find("A.0", 1, "count", "s"),
                     order("A.0", 1), times("A.0", 1, 2), look(0), read())
    ),
    *(Case("GONE", call, []) for call in (page(), close(), bury())),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    check(machine, case)


def test_every_reply_is_produced():
    assert not unproduced(("list/", "store/"), CASES)


def content(state: State) -> str:
    """A list of single letters as a text."""
    found = state.list(ITEMS)
    assert state.hash(STATE)["size"] == str(len(found))
    return "".join(element[1:] for element in found)


def python(text: str, part: str, new: str | None = None) -> str:
    """What Python makes of it: a slice is replaced, or deleted."""
    found = list(text)
    where = slice(*(int(word) if word else None for word in part.split(":")))
    if new is None:
        del found[where]
    else:
        found[where] = new
    return "".join(found)


BOUNDS = ("", "0", "1", "3", "5", "9", "-1", "-4", "-9")


@pytest.mark.parametrize("step", ["", "1", "2", "-1", "-2"])
def test_slices_are_pythons(step, machine):
    text = "abcde"
    for start in BOUNDS:
        for stop in BOUNDS:
            part = f"{start}:{stop}:{step}"
            reply, _ = play(machine, *sequence(*text), read(part))
            where = slice(*(int(word) if word else None for word in part.split(":")))
            assert reply.split()[2:] == [f"s{letter}" for letter in text[where]], part
            _, state = play(machine, *sequence(*text), splice("A.0", 1, part))
            assert content(state) == python(text, part), part
            new = "XY" if step in ("", "1") else "XYZVW"[: len(text[where])]
            _, state = play(
                machine, *sequence(*text), splice("A.0", 1, part, *[f"s{x}" for x in new])
            )
            if new:
                assert content(state) == python(text, part, new), part


@pytest.mark.parametrize(
    ("call", "after"),
    [
        (put("A.0", 1, 1, "sx"), "axc"),
        (take("A.0", 1, 1), "ac"),
        (take("A.0", 1, -3, "drop"), "bc"),
        (find("A.0", 1, "remove", "sc", "sb"), "ac"),
        (order("A.0", 1), "cba"),
        (order("A.0", 1, 2, 0, 1), "cab"),
        (times("A.0", 1, 3), "abcabcabc"),
        (times("A.0", 1, -1), ""),
        (push("A.0", 1, "sd", "se"), "abcde"),
    ],
)
def test_changes_are_pythons(call, after, machine):
    _, state = play(machine, *ABC, call)
    assert content(state) == after


@pytest.mark.parametrize("index", [0, 10, 700, 900, 1390, 1400])
def test_the_middle_of_a_long_list(index, machine):
    """Far from both ends the server itself puts and takes a single element."""
    text = [f"s{number}" for number in range(1400)]
    long = [*NONE, push("A.0", 1, *text)]
    _, state = play(machine, *long, splice("A.0", 2, f"{index}:{index}:", "sx"))
    assert state.list(ITEMS) == [*text[:index], "sx", *text[index:]]
    _, state = play(machine, take("A.0", 3, index), state=state)
    assert state.list(ITEMS) == text


def test_a_large_element_goes_with_the_next_request_of_who_took_it(machine):
    _, state = play(machine, *RICH, take("A.0", 3, 3))
    assert BLOB in state.content
    _, state = play(machine, push("A.0", 4, "sx"), state=state)
    assert BLOB not in state.content


def test_a_copy_is_of_one_moment_and_goes_with_its_reader(machine):
    _, state = play(machine, *READING, put("A.0", 1, 0, "sx"), take("A.0", 2, 1))
    reply, state = play(machine, page(0, 9), state=state)
    assert reply == "PAGE sa sb sc"
    _, state = play(machine, close(), state=state)
    assert COPY not in state.content
    assert state.hash(STATE)["open"] == ""


def test_what_was_overwritten_stays_as_long_as_somebody_reads(machine):
    _, state = play(machine, *RICH, read(), splice("A.0", 3, "3::"))
    assert BLOB in state.content
    reply, state = play(machine, close(), state=state)
    assert reply == "OK [in:N:1 event E]"
    assert BLOB not in state.content
    assert TRASH not in state.content


def test_an_emptied_list_can_be_compared_by_scripts_again(machine):
    reply, _ = play(machine, *MIXED, splice("A.0", 2, "::"), find("A.0", 3, "count", "sa"))
    assert reply == "NUMBER 0"
