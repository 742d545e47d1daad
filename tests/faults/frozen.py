"""Processes that are frozen with a lock, or in line for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.programs import Child, Evidence, Log, start

from lithops_mp.errors import OwnerDiedWarning


def frozen_holder(
    evidence: Evidence, log: Log, target: Callable[..., object], *args: object
) -> Child:
    """A process that says it holds a lock, waits for something else, and is frozen there."""
    holder = start(log, target, *args)
    log.wait("holds")
    evidence.wait_blocked(holder.address)
    holder.freeze()
    return holder


def frozen_waiter(
    evidence: Evidence, log: Log, target: Callable[..., object], handle: Any
) -> Child:
    """A process that stands in line and is frozen there."""
    waiter = start(log, target, handle)
    evidence.wait_in_line(handle, waiter)
    waiter.freeze()
    return waiter


def take_over(lock: Any) -> None:
    """Acquire what a frozen process has."""
    with pytest.warns(OwnerDiedWarning, match="no sign of life"):
        lock.acquire()
