"""The machine that the explorer runs on."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from lithops_mp._store.scripts import command


def test_an_error_of_a_script_leaves_no_answer_for_the_next_request(machine):
    broken = command("EVAL", "return redis.call('INCR', KEYS[1], 'x')", 1, "key")
    with pytest.raises(ResponseError):
        machine.run(machine.empty, broken)
    reply, state = machine.run(machine.empty, command("SET", "key", "5", "PX", 1000))
    assert reply == b"OK"
    assert state.content == {"key": "5"}
