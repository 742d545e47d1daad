"""Who takes part, each used the way its own documentation shows.

A contestant makes a shared object once, in the main process; what ``make``
returns travels to the workers, where ``open`` turns it into the object again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
from collections.abc import Callable
from typing import Any, NamedTuple

from . import floor
from .site import Site

FLOOR, OURS, PEER, LOCAL = "floor", "ours", "peer", "one machine"
SPAWN = multiprocessing.get_context("spawn")

Stack = contextlib.ExitStack


def _same(site: Site, ticket: Any) -> Any:
    return ticket


def _name(site: Site, stack: Stack) -> str:
    return site.name()


class Contestant(NamedTuple):
    """``kind`` LOCAL is a peer that cannot leave the machine: shown, but no measure for us."""

    name: str
    kind: str
    make: Callable[[Site, Stack], Any]
    open: Callable[[Site, Any], Any] = _same
    needs: str = ""

    @property
    def present(self) -> bool:
        """Is what it needs installed?"""
        return not self.needs or importlib.util.find_spec(self.needs) is not None


# -- locks --


def _floor_lock(site: Site, name: str) -> floor.Lock:
    return floor.Lock(site.wire, name)


def _our_lock(site: Site, stack: Stack) -> Any:
    from lithops_mp.synchronize import Lock

    return Lock()


def _manager_lock(site: Site, stack: Stack) -> Any:
    return stack.enter_context(SPAWN.Manager()).Lock()


def _redis_py_lock(site: Site, name: str) -> Any:
    return site.redis.lock(name)


def _lithops_lock(site: Site, stack: Stack) -> Any:
    from lithops.multiprocessing import Lock

    return Lock()


def _python_redis_lock(site: Site, name: str) -> Any:
    import redis_lock

    return redis_lock.Lock(site.redis, name)


def _pottery_lock(site: Site, name: str) -> Any:
    from pottery import Redlock

    return Redlock(key=name, masters={site.redis})


LOCKS = (
    Contestant("floor", FLOOR, _name, _floor_lock),
    Contestant("lithops_mp", OURS, _our_lock),
    Contestant("multiprocessing", LOCAL, lambda site, stack: SPAWN.Lock()),
    Contestant("Manager", PEER, _manager_lock),
    Contestant("redis-py", PEER, _name, _redis_py_lock, "redis"),
    Contestant("lithops", PEER, _lithops_lock, _same, "lithops"),
    Contestant("python-redis-lock", PEER, _name, _python_redis_lock, "redis_lock"),
    Contestant("pottery", PEER, _name, _pottery_lock, "pottery"),
)
