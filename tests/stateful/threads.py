"""Threads that do one thing after the other, and may be left waiting."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

from support.servers import PATIENCE


class Thread:
    """A thread of this process, which does one thing after the other."""

    def __init__(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self.task: concurrent.futures.Future[Any] | None = None

    def do(self, action: Callable[[], Any]) -> Any:
        return self._pool.submit(action).result(PATIENCE)

    def begin(self, action: Callable[[], Any]) -> None:
        """Something that will wait for others."""
        self.task = self._pool.submit(action)

    def ends(self) -> Any:
        """What has been waited for has happened."""
        assert self.task is not None
        result = self.task.result(PATIENCE)
        self.task = None
        return result

    def close(self) -> None:
        self._pool.shutdown()
