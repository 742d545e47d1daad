"""Fixtures that many test modules have, each with a server and settings of its own.

``server = fixtures.server(tcp=True)`` in a module or a conftest is a fixture by that name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lithops_mp import config

from .programs import Evidence, Log, program, url_of
from .servers import Server, running


def server(*, scope: Any = "module", **options: Any) -> Any:
    """A server, as ``running`` starts it; on a port, each client has an address of its own."""

    @pytest.fixture(scope=scope)
    def found() -> Iterator[Server]:
        with running(**options) as server:
            yield server

    return found


def evidence(*, scope: Any = "module", autouse: bool = False, **parameters: Any) -> Any:
    """What ``server`` knows about this process, which is a main program there meanwhile."""

    @pytest.fixture(scope=scope, autouse=autouse)
    def found(server: Server) -> Iterator[Evidence]:
        with program(url_of(server.settings), **parameters):
            yield Evidence(server)

    return found


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """A file for what processes say."""
    return Log(tmp_path / "log")


@pytest.fixture
def own_config() -> Iterator[None]:
    """What a test sets is as it was for the next one."""
    before = config.snapshot()
    yield
    config.reset()
    config.update(before)
