"""A test of CPython's that skips itself has to be listed, with a reason."""

from __future__ import annotations

import unittest
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    cls = getattr(item, "cls", None)
    if report.skipped and cls is not None and issubclass(cls, unittest.TestCase):
        report.outcome = "failed"
        report.longrepr = f"it skipped itself, and exclusions.py does not say why: {call.excinfo}"
    return report
