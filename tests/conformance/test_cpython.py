"""CPython's tests of processes, synchronization, queues and pipes, run on Lithops functions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("test._test_multiprocessing", reason="this Python has no test package")

from . import cpython
from .replacement import multiprocessing
from .suite import CLASSES


@pytest.fixture(scope="module", autouse=True)
def _as_in_cpython(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What ``test_multiprocessing_spawn`` sets up: a function is a fresh interpreter, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cpython"))  # tests write a file of a fixed name
        multiprocessing.set_start_method("spawn", force=True)
        multiprocessing.get_logger().setLevel(cpython.LOG_LEVEL)
        # Started here, so that no test finds finalizers that it has not made.
        process = multiprocessing.Process(target=int)
        process.start()
        process.join()
        yield
        multiprocessing.set_start_method(None, force=True)


globals().update((case.__name__, case) for case in CLASSES.values())
