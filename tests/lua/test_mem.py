"""The scripts of shared memory, each alone."""

from __future__ import annotations

import struct

import pytest

from lithops_mp._store import keys
from lithops_mp._store.scripts import command, packed

from .play import LOCK, REGION, TTL, Case, Run, check, made, number, play, region, run, unproduced
from .test_sem import acquire, depose

STATE, BYTES = keys.state(REGION), keys.items(REGION)
A1 = "A.0:" + number(1)


def fetch(first: int = 0, last: int = 7, version: int = 0) -> Run:
    return run("mem/fetch", first=first, last=last, version=version)


def write(client: str, seq: int, *ranges: object) -> Run:
    return run("mem/write", client=client, seq=seq, ranges=packed(list(ranges)))


def release(client: str, seq: int, fence: int, *ranges: object, keep: int = 0) -> Run:
    changes = packed([list(ranges)])
    args = {"client": client, "seq": seq, "fence": fence}
    return run("mem/release", kind="rlock", keep=keep, changes=changes, **args)


def update(
    client: str, seq: int, what: str, code: str, operand: object, expected: object = 0
) -> Run:
    """On the element at offset 0, of that code of ``struct``."""
    kind = "float" if code[-1] in "fd" else "uint" if code[-1].isupper() else "int"
    return run(
        "mem/update",
        client=client,
        seq=seq,
        what=what,
        kind=kind,
        order=code[0],
        offset=0,
        operand=struct.pack(code, operand),
        expected=struct.pack(code, expected),
    )


def stage(client: str, seq: int, data: bytes) -> bytes:
    """New content beside the region, as ``memory.staged`` stores it."""
    return command("SET", f"{BYTES}:{client}:{number(seq)}", data, "PX", 60_000)


ABC = region(b"abcdefgh")
HELD = [*ABC, acquire("A.0", 1, "rlock")]
LINE = [*HELD, acquire("B.0", 1, "rlock")]
LOST = [*LINE, depose(A1, 1)]
LATER = [*ABC, write("A.0", 5, 0, b"x")]
CREATE = run(
    "mem/create", fmt="mem/1", ttl=TTL, process="main", fields=packed(["version", 1]),
    size=8, bytes=b"",
)  # fmt: skip
ADD = update("A.0", 1, "add", "<q", 1)

CREATION = [Case("OK", CREATE, []), Case("OK", CREATE, ABC)]
CASES = [
    Case("DATA 1 abcdefgh", fetch(), ABC),
    Case("DATA 1 cd", fetch(2, 3), ABC),
    Case("DATA 1 ", fetch(1, 0), ABC),
    Case("DATA 2 abcdefgh", fetch(version=1), [*ABC, write("B.0", 1, 0, b"abc")]),
    Case("SAME", fetch(version=1), ABC),
    Case("WROTE", write("A.0", 1, 2, b"xy"), ABC),
    Case("WROTE", write("A.0", 1, 0, b"x", 7, b"y"), ABC),
    Case("WROTE", write("A.0", 1), [*ABC, stage("A.0", 1, b"12345678")]),
    Case("GONE", write("A.0", 1), ABC),  # what was stored beside it has expired
    Case("BUSY", write("B.0", 1, 0, b"x"), HELD),
    Case("BUSY", write("B.0", 1), [*HELD, stage("B.0", 1, b"12345678")]),
    Case("STALE", write("A.0", 4, 0, b"y"), LATER),
    # It changes something: what was stored is deleted.
    Case("STALE*", write("A.0", 4), [*LATER, stage("A.0", 4, b"12345678")]),
    Case("RELEASED", release("A.0", 2, 1, 0, b"xy"), HELD),
    Case("RELEASED", release("A.0", 2, 1, 0, b"xy", 4, b"z"), LINE),
    Case("RELEASED", release("A.0", 2, 1), [*HELD, stage("A.0", 2, b"12345678")]),
    Case("KEPT", release("A.0", 2, 1, 0, b"xy", keep=1), LINE),
    Case("LOST", release("A.0", 2, 1, 0, b"xy"), LOST),
    Case("LOST", release("A.0", 2, 1, 0, b"xy"), ABC),
    Case("LOST", release("A.0", 2, 1), [*LOST, stage("A.0", 2, b"12345678")]),
    Case("STALE", release("A.0", 0, 1, 0, b"xy"), HELD),
    Case("VANISHED", release("A.0", 2, 1, 0, b"xy"), [*HELD, command("DEL", BYTES)]),
    Case("VANISHED", release("A.0", 2, 1), HELD),
    Case("WAS abcdefgh", ADD, ABC),
    Case("WAS abcdefgh", update("A.0", 1, "exchange", "<q", 1), ABC),
    Case("BUSY", update("B.0", 1, "add", "<q", 1), HELD),
    Case("STALE", update("A.0", 4, "add", "<q", 1), LATER),
    *(
        Case("GONE", call, [])
        for call in (fetch(), write("A.0", 1, 0, b"x"), release("A.0", 1, 1, 0, b"x"), ADD)
    ),
    *(
        Case("GONE", call, [*ABC, command("DEL", BYTES)])
        for call in (write("A.0", 1, 0, b"x"), ADD)
    ),
]


@pytest.mark.parametrize("case", CREATION + CASES, ids=lambda case: case.name)
def test_a_script_answers(case, machine):
    check(machine, case)


def test_every_reply_is_produced():
    assert not unproduced("mem/", CREATION + CASES)


@pytest.mark.parametrize(
    ("call", "content"),
    [
        (write("A.0", 1, 2, b"xy"), "abxyefgh"),
        (write("A.0", 1, 0, b"x", 7, b"y"), "xbcdefgy"),
        (write("B.0", 1, 0, b"x"), "xbcdefgh"),
        (update("A.0", 1, "exchange", "<i", 0), "\0\0\0\0efgh"),
    ],
)
def test_what_is_written_is_there_and_the_version_grows(call, content, machine):
    _, state = play(machine, *ABC, call)
    assert state.content[BYTES] == content
    assert state.hash(STATE)["version"] == "2"


def test_new_content_takes_the_place_of_the_old_one_and_lives_as_long(machine):
    _, state = play(machine, *ABC, stage("A.0", 1, b"12345678"), write("A.0", 1))
    assert state.content[BYTES] == "12345678"
    assert [key for key in state.content if key.startswith(BYTES)] == [BYTES]
    assert not state.immortal


@pytest.mark.parametrize("before", [LOST, ABC], ids=["deposed", "never held"])
def test_who_lost_the_lock_changes_nothing_that_it_guards(before, machine):
    _, state = play(machine, *before, release("A.0", 2, 1, 0, b"xy"))
    assert state.content[BYTES] == "abcdefgh"
    assert state.hash(STATE)["version"] == "1"


def test_what_is_stored_beside_a_region_does_not_outlive_a_refusal(machine):
    for before, call in ((LOST, release("A.0", 2, 1)), (HELD, write("B.0", 2))):
        staged = stage(call.args["client"], 2, b"12345678")
        _, state = play(machine, *before, staged, call)
        assert [key for key in state.content if key.startswith(BYTES)] == [BYTES]


def test_release_writes_and_hands_over_at_once(machine):
    _, state = play(machine, *LINE, release("A.0", 2, 1, 0, b"xy"))
    assert state.content[BYTES] == "xycdefgh"
    assert state.hash(keys.state(LOCK))["owner"].startswith("B.0:")
    assert state.content[keys.mailbox(LOCK, "B.0")] == (f"{number(1)}\x1fACQUIRED\x1f2",)


def test_writing_back_keeps_the_lock(machine):
    _, state = play(machine, *LINE, release("A.0", 2, 1, 0, b"xy", keep=1))
    assert state.content[BYTES] == "xycdefgh"
    assert state.hash(keys.state(LOCK))["owner"] == A1


def test_a_region_that_is_gone_does_not_keep_the_lock(machine):
    gone = command("DEL", STATE, BYTES)
    _, state = play(machine, *LINE, gone, release("A.0", 2, 1, 0, b"xy"))
    assert state.hash(keys.state(LOCK))["owner"].startswith("B.0:")
    assert BYTES not in state.content


def test_a_write_that_found_the_lock_taken_is_not_carried_out_later(machine):
    """Its late copy, that is, when the lock is free."""
    freed = release("A.0", 2, 1, 0, b"xy")
    reply, state = play(machine, *HELD, write("B.0", 1, 0, b"!"), freed, write("B.0", 1, 0, b"!"))
    assert reply == "BUSY"
    assert state.content[BYTES] == "xycdefgh"


def test_what_is_created_with_bytes_has_them(machine):
    assert play(machine, *ABC)[1].content[BYTES] == "abcdefgh"
    assert play(machine, *region())[1].content[BYTES] == "\0" * 8
    stored = command("SET", BYTES, b"12345678", "PX", TTL, "NX")
    assert play(machine, stored, *region())[1].content[BYTES] == "12345678"
    assert BYTES not in play(machine, made(REGION, "mem", 0, b"", size=0, version=1))[1].content


# -- numbers --

TOP = {"b": 2**7, "h": 2**15, "i": 2**31, "q": 2**63}


def changed(machine, code: str, old: object, what: str, operand: object, expected: object = 0):
    """What is there after an update."""
    size = struct.calcsize(code)
    before = region(struct.pack(code, old), size)
    reply, state = play(machine, *before, update("A.0", 1, what, code, operand, expected))
    assert reply.startswith("WAS ")
    return struct.unpack(code, state.content[BYTES].encode("latin-1"))[0]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", "bhiqBHIQ")
def test_integers_are_added_exactly_and_overflow_as_in_c(machine, order, code):
    top = TOP[code.lower()]
    signed = code.islower()
    low, high = (-top, top - 1) if signed else (0, 2 * top - 1)
    values = [low, low + 1, 0, 1, 255 % top, top // 3, high - 1, high]
    for old in values:
        for operand in (1, high, low, top // 5):
            wanted = (old + operand - low) % (high - low + 1) + low
            assert changed(machine, order + code, old, "add", operand) == wanted, (old, operand)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", ["b", "i", "q", "B", "Q", "f", "d"])
def test_the_larger_and_the_smaller_are_found(machine, order, code):
    top = TOP.get(code.lower(), 2**20)
    values = [0, 1, 2, top // 3, top - 1]
    if code.islower():
        values += [-1, -2, -top]
    for old in values:
        for operand in values:
            assert changed(machine, order + code, old, "max", operand) == max(old, operand)
            assert changed(machine, order + code, old, "min", operand) == min(old, operand)


def test_floats_are_added_as_the_machine_does(machine):
    for old, operand in ((0.1, 0.2), (1e308, 1e308), (2.0**53, 1.0), (-0.0, 0.0)):
        assert changed(machine, "<d", old, "add", operand) == old + operand
    single = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    wanted = struct.unpack("<f", struct.pack("<f", single + single))[0]
    assert changed(machine, "<f", 0.1, "add", 0.1) == wanted


def test_compare_exchange_compares_every_bit(machine):
    assert changed(machine, "<q", 2**62 + 1, "compare_exchange", 7, 2**62 + 1) == 7
    assert changed(machine, "<q", 2**62 + 1, "compare_exchange", 7, 2**62) == 2**62 + 1


def test_an_update_that_changes_nothing_leaves_the_version(machine):
    before = region(struct.pack("<q", 5))
    _, state = play(machine, *before, update("A.0", 1, "max", "<q", 3))
    assert state.hash(STATE)["version"] == "1"
