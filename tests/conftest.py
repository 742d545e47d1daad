"""For all tests: none may hang, some are of whole programs, and several run at a time."""

from __future__ import annotations

import os
import shutil
import tempfile
from multiprocessing import util

import pytest

pytest_plugins = ["support.watchdog", "support.fixtures", "support.scripts"]


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        # Some tests look at all that Lithops keeps there: others' is not to be among it.
        folder = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="lmp-")
        tempfile.tempdir = None  # it is asked for again
        # Lithops' executors tidy up before.
        util.Finalize(None, shutil.rmtree, (folder, True), exitpriority=-1000)
