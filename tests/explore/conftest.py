"""A server for the explorer, and what it found, for the record."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from support.servers import Server, running

from .explorer import Explorer, Report, Scenario
from .machine import Machine


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


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
