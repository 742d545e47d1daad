"""Who takes part, each used the way its own documentation shows.

A contestant makes a shared object once, in the main process; what ``make``
returns travels to the workers, where ``open`` turns it into the object again.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.managers import SyncManager
from typing import Any, NamedTuple

from . import floor
from .site import Site

FLOOR, OURS, PEER, LOCAL = "floor", "ours", "peer", "one machine"
SPAWN = multiprocessing.get_context("spawn")


@contextlib.contextmanager
def manager() -> Iterator[SyncManager]:
    """CPython's Manager, whose process ends with ours. By itself it would outlive a killed one."""
    found = SyncManager(ctx=SPAWN)
    found.start(_end_with_parent)
    with found:
        yield found


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class Stack(contextlib.ExitStack):
    """What is to be closed in the end. ``manager`` is CPython's, made when somebody needs it."""

    @functools.cached_property
    def manager(self) -> Any:
        return self.enter_context(manager())


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
    return stack.manager.Lock()


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


def _floor_of(factory: Callable[..., Any], args: tuple[Any, ...], site: Site, name: str) -> Any:
    return factory(site.wire, name, *args)


def family(
    name: str, least: Callable[..., Any], args: Sequence[Any] = (), *, own: Sequence[Any] = ()
) -> tuple[Contestant, ...]:
    """What each of us calls ``name``, made with ``args``: CPython's, its Manager's, ours, Lithops'.

    The floor's ``least`` is made of a wire, the name of a key, ``args`` and ``own``.
    """

    def ours(site: Site, stack: Stack) -> Any:
        import lithops_mp

        return getattr(lithops_mp, name)(*args)

    def theirs(site: Site, stack: Stack) -> Any:
        import lithops.multiprocessing

        return getattr(lithops.multiprocessing, name)(*args)

    return (
        Contestant("floor", FLOOR, _name, functools.partial(_floor_of, least, (*args, *own))),
        Contestant("lithops_mp", OURS, ours),
        Contestant("multiprocessing", LOCAL, lambda site, stack: getattr(SPAWN, name)(*args)),
        Contestant("Manager", PEER, lambda site, stack: getattr(stack.manager, name)(*args)),
        Contestant("lithops", PEER, theirs, needs="lithops"),
    )


def crew_objects(parties: Sequence[int]) -> list[tuple[str, tuple[Contestant, ...]]]:
    """What the workers have of everyone besides a lock."""
    return [
        ("Condition", family("Condition", floor.Condition)),
        ("Event", family("Event", floor.Event)),
        *((f"Barrier of {n}", family("Barrier", floor.Barrier, [n])) for n in parties),
    ]
