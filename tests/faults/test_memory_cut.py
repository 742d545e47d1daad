"""Shared memory behind connections that break: what is sent again changes nothing twice."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
from support.programs import Log
from support.proxy import Proxy

import lithops_mp as mp
from lithops_mp._store import session
from lithops_mp.memory import PAGE

from .test_cut import each_fault, meet_faults
from .test_memory import CROWD, TURNS, at_server, crowd, join


@pytest.mark.slow
def test_they_add_up_although_replies_are_lost(proxy: Proxy, log: Log) -> None:
    names = ("sem/acquire", "mem/release", "mem/fetch", "GETRANGE", "BLPOP m")
    proxy.at_random(5, 0.005, *names)
    number, done, processes = crowd(log, CROWD, TURNS)
    assert join(processes) == [0] * CROWD
    proxy.calm()
    assert proxy.faults > 10
    assert number.value == CROWD * TURNS
    assert list(done) == [TURNS] * CROWD


def in_a_section(numbers: Any) -> None:
    with numbers:
        numbers.add(0, 1)


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "sem/acquire": in_a_section,
    "mem/release": in_a_section,
    "GETRANGE": in_a_section,
    "mem/write": lambda numbers: operator.setitem(numbers, 0, numbers[0] + 1),
    "mem/update": lambda numbers: numbers.add(0, 1),
}


@each_fault
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_sent_again_changes_nothing_twice(proxy: Proxy, fault: Any, name: str) -> None:
    numbers = mp.Array("i", 100)
    OPERATIONS[name](numbers)
    for count in range(2, 5):
        faults = proxy.faults
        proxy.once(name, fault)
        OPERATIONS[name](numbers)
        meet_faults(proxy, faults + 1)
        proxy.calm()
        assert numbers[:2] == [count, 0]
    with numbers:
        assert numbers[0] == 4


@each_fault
@pytest.mark.parametrize("name", ["mem/create", "SET", "GET", "mem/fetch", "mem/release"])
def test_large_ones_are_whole_though_connections_break(proxy: Proxy, fault: Any, name: str) -> None:
    size = 3 * PAGE
    data = bytes(range(256)) * (size // 256)
    mp.Array("B", 5)[0] += 1
    faults = proxy.faults
    proxy.once(name, fault)
    big = mp.Array("B", data)
    assert at_server(big) == data
    big[:] = data[::-1]
    assert bytes(big[:]) == data[::-1]
    for _ in range(2):
        with big:
            big[:] = bytes(size)
            big[5] = 1
    meet_faults(proxy, faults + 1)
    proxy.calm()
    assert sum(big) == 1
    region = big.get_obj()._b_access_.region
    pattern = region.keys.bytes + "*"
    assert session.current().client.plain("KEYS", pattern) == [region.keys.bytes.encode()]
