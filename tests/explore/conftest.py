"""A server for the explorer, and what it found, for the record."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
from support import fixtures
from support.servers import Server

from .explorer import Explorer, Report, Scenario
from .machine import Machine

server = fixtures.server(scope="session")


@pytest.fixture(scope="module")
def machine(server: Server) -> Machine:
    """One per module: states are remembered, and so is memory used."""
    return Machine(server.settings.connection())


@pytest.fixture
def explore(
    machine: Machine, record_property: Callable[[str, object], None]
) -> Callable[[Scenario], Report]:
    """Explore a scenario; its report goes into the test report too."""

    def run(scenario: Scenario) -> Report:
        gc.disable()  # many small objects, none of which is garbage before the end
        try:
            report = Explorer(machine, scenario).run()
        finally:
            gc.enable()
        record_property("explored", str(report))
        print(report)
        return report

    return run
