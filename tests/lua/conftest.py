"""A server for single scripts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from explore.machine import Machine
from support.servers import running


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    with running() as server:
        yield Machine(server.settings.connection())
