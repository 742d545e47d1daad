"""REDIS_EXPIRY_TIME: what anyone alive refers to stays; the rest goes, by itself if need be."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from support import fixtures
from support.programs import Evidence, running_program, state_of, url_of
from support.servers import Server, eventually

from lithops_mp._store import keys
from lithops_mp.functions import interpreter

#: Below the heartbeat, which has to follow; above what a busy machine stalls.
TTL = {"REDIS_EXPIRY_TIME": 4}

server = fixtures.server(scope="function", tcp=True)


@pytest.fixture
def evidence(server: Server) -> Evidence:
    return Evidence(server)


def outlive(evidence: Evidence) -> None:
    """Wait until a key that nobody renews would have expired, and another time to be sure."""
    for _ in range(2):
        evidence.server.command("SET", "test:clock", 1, "PX", 4100)
        eventually(lambda: not evidence.server.command("EXISTS", "test:clock"), "an expiry")


def test_idle_program_that_nobody_waits_for_loses_nothing(evidence: Evidence) -> None:
    with running_program("sleeper", url=url_of(evidence.server.settings), **TTL) as program:
        assert program.hear()[0] == "sleeps"
        outlive(evidence)
        program.tell("wake up")
        assert program.hear() == ["fine"]
        assert program.end() == 0
        assert evidence.all_keys() == []


def test_idle_child_loses_nothing(evidence: Evidence) -> None:
    with running_program("sleeping_child", url=url_of(evidence.server.settings), **TTL) as program:
        said = {line[0]: line for line in (program.hear(), program.hear())}
        uid = said["program"][2]
        outlive(evidence)
        evidence.server.command("SET", f"test:wake:{uid}", 1, "EX", 60)
        program.tell("join")
        assert [program.hear(), program.hear()] in (
            [["fine"], ["exit", 0]],
            [["exit", 0], ["fine"]],
        )
        assert program.end() == 0
        evidence.server.command("DEL", f"test:wake:{uid}")
        evidence.wait_empty()


WAITS = """#!/bin/sh
case "$*" in *run_job*) while ! test -e "{go}"; do sleep 0.05; done;; esac
exec {python} "$@"
"""


def test_child_that_is_long_on_its_way_loses_nothing(evidence: Evidence, tmp_path: Path) -> None:
    # As with a platform that has no room for another function yet.
    go, runtime = tmp_path / "go", tmp_path / "python"
    runtime.write_text(WAITS.format(go=go, python=interpreter()))
    runtime.chmod(0o755)
    slow = {"LITHOPS_CONFIG": {"localhost": {"runtime": str(runtime)}}}
    url = url_of(evidence.server.settings)
    with running_program("sleeping_child", url=url, **TTL, **slow) as program:
        _, _, uid = program.hear()
        outlive(evidence)
        go.touch()
        assert program.hear()[0] == "sleeps"
        evidence.server.command("SET", f"test:wake:{uid}", 1, "EX", 60)
        assert program.hear() == ["fine"]


def test_stopped_program_loses_nothing(evidence: Evidence) -> None:
    with running_program("sleeper", url=url_of(evidence.server.settings), **TTL) as program:
        program.hear()
        os.kill(program.pid, signal.SIGSTOP)
        outlive(evidence)
        os.kill(program.pid, signal.SIGCONT)
        program.tell("wake up")
        assert program.hear() == ["fine"]


def test_keys_expire_when_everyone_died_without_a_word(evidence: Evidence) -> None:
    with running_program("family", url=url_of(evidence.server.settings), **TTL) as program:
        for _ in range(3):
            program.hear()
        assert evidence.all_keys()
        # Whoever could tidy up goes first: the keeper and the functions.
        _kill_at_once([pid for pid in program.family() if pid != program.pid])
        program.process.kill()
        evidence.wait_empty()


def test_every_key_expires(evidence: Evidence) -> None:
    with running_program("family", url=url_of(evidence.server.settings)) as program:
        said = {line[0]: line for line in (program.hear() for _ in range(3))}
        assert keys.process(said["program"][1]) in evidence.all_keys()
        for key in evidence.all_keys():
            assert evidence.server.command("PTTL", key) > 0, key


def _kill_at_once(pids: list[int]) -> None:
    """So that none of them sees the end of another."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    eventually(lambda: {state_of(pid) for pid in pids} == {"T"}, "stopped processes")
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it went with its function
            os.kill(pid, signal.SIGKILL)
