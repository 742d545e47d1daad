"""A server of the tests' own, and this process as a program at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import fixtures
from support.proxy import Proxy, behind_proxy
from support.servers import Server

#: Short, but long enough for a busy machine to miss no sign of life by chance.
SHORT = {"HEARTBEAT": 0.3, "LEASE": 2.0}

#: On a port, so that each client has an address of its own.
server = fixtures.server(scope="package", tcp=True)
evidence = fixtures.evidence(**SHORT)


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Server, Proxy]]:
    with behind_proxy() as found:
        yield found


@pytest.fixture
def proxy(both: tuple[Server, Proxy]) -> Iterator[Proxy]:
    yield both[1]
    both[1].calm()
