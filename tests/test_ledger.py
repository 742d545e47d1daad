"""What a process has handed to its program, as others read it when it is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import msgpack
import pytest

from lithops_mp._store.ledger import SLOTS, Ledger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    found = Ledger()
    yield found
    found.close()


def read(ledger: Ledger) -> dict[str, list[object]]:
    found: dict[str, list[object]] = msgpack.unpackb(ledger.dump())
    return found


def test_a_new_one_knows_of_nothing(ledger):
    # Which is not the same as knowing nothing: that is empty bytes.
    assert ledger.dump() == b"\x80"


def test_each_slot_has_a_word_and_the_last_one_counts(ledger):
    ledger.saw(0, 1, 1)
    ledger.saw(0, 7, 256)
    ledger.saw(3, 2, 1)
    ledger.saw(SLOTS - 1, 10**12 - 1, 1)
    assert read(ledger) == {
        "0": ["000000000007", 256],
        "3": ["000000000002", 1],
        str(SLOTS - 1): ["999999999999", 1],
    }


@pytest.mark.parametrize("seq", [1, 255, 256, 2**20, 2**36, 2**40 - 1])
@pytest.mark.parametrize("count", [1, 255, 256, 2**20 - 1])
def test_a_word_holds_number_and_count_whatever_bytes_they_have(ledger, seq, count):
    ledger.saw(5, seq, count)
    assert read(ledger) == {"5": [f"{seq:012d}", count]}


def test_it_is_shared_with_a_fork_and_outlives_it(ledger):
    child = os.fork()
    if not child:
        ledger.saw(1, 2, 3)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert read(ledger) == {"1": ["000000000002", 3]}


def test_it_is_shared_with_whoever_has_its_descriptor(ledger):
    other = Ledger(os.dup(ledger.fd))
    ledger.saw(1, 2, 3)
    assert read(other) == {"1": ["000000000002", 3]}
    other.saw(1, 4, 5)
    other.close()
    assert read(ledger) == {"1": ["000000000004", 5]}
