"""The death of a main program, and of what looks after it: (victim, server) -> what is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support import fixtures
from support.programs import Evidence, Program, gone, running_program, url_of
from support.servers import Server, eventually

from lithops_mp._store import keys, processes
from lithops_mp._store.client import Client
from lithops_mp.worker import Supervisor

SHORT: dict[str, Any] = {"HEARTBEAT": 0.3, "LEASE": 2.0, "PROGRAM_GRACE": 2.0}

server = fixtures.server(scope="function", tcp=True)


@pytest.fixture
def url(server: Server) -> str:
    return url_of(server.settings)


@pytest.fixture
def evidence(server: Server) -> Evidence:
    return Evidence(server)


def hear_all(program: Program, *first: str) -> dict[str, list[Any]]:
    """What it and its children say, in any order: first word -> the others."""
    said = [program.hear() for _ in first]
    assert sorted(line[0] for line in said) == sorted(first)
    return {word: rest for word, *rest in said}


# -- with a server of somebody else's --


def test_killed_program_leaves_no_key_and_no_daemon_but_its_other_children(
    evidence: Evidence, url: str
) -> None:
    with running_program("family", url=url, **SHORT) as program:
        said = hear_all(program, "program", "daemon", "child")
        uid, ident = said["program"]
        program.process.kill()
        eventually(lambda: gone(said["daemon"][0]), "the daemonic child's end")
        eventually(lambda: not _keys_of(evidence, uid), "no key of the program")
        child_uid = said["child"][2]
        assert not gone(said["child"][0])
        eventually(
            lambda: (
                evidence.server.command("ZRANGE", keys.refs(ident), 0, -1) == [child_uid.encode()]
            ),
            "only the child to refer to the event",
        )
        # It still waits for its event, which it keeps. Nobody else will set it.
        os.kill(said["child"][0], signal.SIGTERM)
        evidence.wait_empty()
        program.wait_nothing_left()


def test_killed_program_stops_its_idle_functions(evidence: Evidence, url: str) -> None:
    with running_program("idle_function", url=url, **SHORT) as program:
        assert program.hear() == ["joined"]
        program.process.kill()
        program.wait_nothing_left()
        evidence.wait_empty()


def test_killed_program_that_never_shared_anything_leaves_no_key(
    evidence: Evidence, url: str
) -> None:
    with running_program("lonely", url=url) as program:  # with the default heartbeat
        assert program.hear() == ["holds"]
        assert evidence.all_keys()
        program.process.kill()
        evidence.wait_empty()
        program.wait_nothing_left()


def test_killed_program_passes_on_its_lock(evidence: Evidence, url: str) -> None:
    with running_program("holder", url=url, **SHORT) as program:
        _, ident = program.hear()
        eventually(
            lambda: evidence.server.command("LLEN", keys.waiters(ident)), "the child in line"
        )
        program.process.kill()
        eventually(lambda: evidence.server.command("GET", "test:child"), "the child's turn")
        evidence.server.command("DEL", "test:child")
        evidence.wait_empty()
        program.wait_nothing_left()


def test_killed_program_leaves_no_record_of_a_child_whose_end_it_has_not_heard_of(
    evidence: Evidence, url: str
) -> None:
    with running_program("family", url=url, **SHORT) as program:
        said = hear_all(program, "program", "daemon", "child")
        program.process.send_signal(signal.SIGSTOP)
        inbox = keys.inbox(said["program"][0])
        for pid, _, uid in (said["daemon"], said["child"]):
            os.kill(pid, signal.SIGKILL)
            # Its supervisor has said so, and is through with it.
            eventually(
                lambda uid=uid: uid.encode() in _told(evidence, inbox), "a word to its parent"
            )
        program.process.kill()
        evidence.wait_empty()


def test_supervisor_that_can_tell_nobody_leaves_no_record(server: Server) -> None:
    client = Client(server.settings, "function.0")
    processes.register(client, "child", "running", 60_000, 2_000, "child", {})
    spec = {"parent": "program", "name": "child", "ttl": 60_000}
    supervisor = Supervisor(client, server.settings, "child", spec, b"")
    # The program is gone, and this supervisor has not been told so yet.
    alive, supervisor.parent_pipe = os.pipe()
    supervisor._end(0)
    assert Evidence(server).all_keys() == []
    os.close(alive)
    os.close(supervisor.parent_pipe)
    client.close()


def test_program_that_ends_leaves_nothing(evidence: Evidence, url: str) -> None:
    with running_program("clean", url=url) as program:
        assert program.hear() == ["ends", 0]
        assert program.end() == 0
        assert evidence.all_keys() == []
        program.wait_nothing_left()


def test_program_without_keeper_is_taken_for_dead_once_its_lease_is_over(
    evidence: Evidence, url: str
) -> None:
    with running_program("holder", url=url, **SHORT) as program:
        assert program.hear()[0] == "holds"
        os.kill(program.one("lithops_mp._store.keeper"), signal.SIGKILL)
        eventually(lambda: evidence.server.command("GET", "test:child"), "the child's turn")
        program.tell("release")
        said = [program.hear(), program.hear()]
        assert ["lost"] in said
        assert program.end() == 0
        evidence.server.command("DEL", "test:child")
        evidence.wait_empty()
        program.wait_nothing_left()


# -- with an embedded server --


def test_killed_program_takes_its_embedded_server_and_everything_else_along() -> None:
    with running_program("family", **SHORT) as program:
        said = hear_all(program, "program", "daemon", "child")
        _, server, directory = _embedded(program)
        program.process.kill()
        program.wait_nothing_left()
        assert gone(server, said["daemon"][0], said["child"][0])
        assert not directory.exists()


def test_program_that_ends_takes_its_embedded_server_along() -> None:
    with running_program("clean") as program:
        assert program.hear() == ["ends", 0]
        assert program.end() == 0
        program.wait_nothing_left()  # the guard among them, which the server does not outlive


@pytest.mark.parametrize("victim", ["guard", "server"])
def test_program_whose_embedded_server_is_gone_is_told_so_and_ends(victim: str) -> None:
    with running_program("robbed", **SHORT) as program:
        assert program.hear() == ["ready"]
        guard, server, directory = _embedded(program)
        os.kill(guard if victim == "guard" else server, signal.SIGKILL)
        eventually(lambda: gone(server), "the server's end")
        program.tell("go on")
        word, message = program.hear()
        assert word == "unavailable"
        assert "embedded Redis server does not answer" in message
        assert program.end() == 0
        program.wait_nothing_left()
        assert not directory.exists()


def _keys_of(evidence: Evidence, uid: str) -> list[str]:
    return [key for key in evidence.all_keys() if key.startswith(keys.process(uid))]


def _told(evidence: Evidence, inbox: str) -> list[bytes]:
    """The processes of whose end an inbox says something."""
    messages = [fields for _, fields in evidence.server.command("XRANGE", inbox, "-", "+")]
    found = [dict(zip(fields[::2], fields[1::2], strict=True)) for fields in messages]
    return [message[b"child"] for message in found if message[b"kind"] == b"exit"]


def _embedded(program: Program) -> tuple[int, int, Path]:
    """Its guard, its server (whose environment we cannot read), and their directory."""
    guard = program.one("_guard.py")
    children = Path(f"/proc/{guard}/task/{guard}/children")
    server = int(eventually(children.read_text, "a server"))
    directory = Path(f"/proc/{server}/cwd").resolve()
    assert directory.name.startswith("lmp-")
    return guard, server, directory


# -- a plain fork --


def test_fork_keeps_its_parents_objects_when_the_parent_is_killed(
    evidence: Evidence, url: str
) -> None:
    with running_program("forked", url=url, **SHORT) as program:
        said = hear_all(program, "parent", "child has the lock")
        [parent], [child] = said["parent"], said["child has the lock"]
        program.process.kill()
        eventually(lambda: not _keys_of(evidence, parent), "no key of the parent")
        assert _keys_of(evidence, child)
        [pid] = [pid for pid, line in program.family().items() if "scenarios" in line]
        os.kill(pid, signal.SIGKILL)
        evidence.wait_empty()
        program.wait_nothing_left()


def test_fork_and_parent_end_cleanly(evidence: Evidence, url: str) -> None:
    with running_program("forked", url=url, **SHORT) as program:
        hear_all(program, "parent", "child has the lock")
        program.tell("go on")
        assert program.hear() == ["parent again", True]
        assert program.end() == 0
        evidence.wait_empty()
        program.wait_nothing_left()
