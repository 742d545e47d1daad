"""A server of the tests' own, and this process as a program at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.programs import Evidence, Log, program, url_of
from support.proxy import Proxy, behind_proxy
from support.servers import Server, running

#: Short, but long enough for a busy machine to miss no sign of life by chance.
SHORT = {"HEARTBEAT": 0.3, "LEASE": 2.0}


@pytest.fixture(scope="package")
def server() -> Iterator[Server]:
    """On a port, so that each client has an address of its own."""
    with running(tcp=True) as found:
        yield found


@pytest.fixture(scope="module")
def evidence(server: Server) -> Iterator[Evidence]:
    """This process as a main program; what the server knows about it."""
    with program(url_of(server.settings), **SHORT):
        yield Evidence(server)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Server, Proxy]]:
    with behind_proxy() as found:
        yield found


@pytest.fixture
def proxy(both: tuple[Server, Proxy]) -> Iterator[Proxy]:
    yield both[1]
    both[1].calm()
