"""Servers for the state machines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from explore.machine import Machine
from support import fixtures
from support.servers import running

from lithops_mp import protocols


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with running() as server:
        yield Machine(server.settings.connection())


server = fixtures.server(tcp=True)
#: Nobody expects signs of life.
evidence = fixtures.evidence(HEARTBEAT=3600, LEASE=3600)


@pytest.fixture(autouse=True)
def _usual_safety_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models' clock counts on it; other tests of the same run shorten it."""
    monkeypatch.setattr(protocols, "SAFETY", 5.0)
