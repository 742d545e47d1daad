"""The classes that are run: CPython's, less what is excluded, on our context.

Children import this module, so it must not import what only the parent has.
"""

from __future__ import annotations

import unittest

from . import cpython, exclusions


class LithopsMixin(cpython.ProcessesMixin):
    """CPython's ProcessesMixin: the Process, Lock and so on it names are ours here."""


class ManagerMixin(cpython.ManagerMixin):
    """The same with objects of a manager."""


def names_in(case: type) -> list[str]:
    """The names of its test methods."""
    return [name for name in dir(case) if name.startswith("test") and callable(getattr(case, name))]


def base_classes() -> dict[str, type]:
    """Every class with tests in CPython's module."""
    return {
        name: found
        for name, found in vars(cpython).items()
        if isinstance(found, type) and found.__module__ == cpython.__name__ and names_in(found)
    }


def cases() -> dict[str, tuple[type, type | None]]:
    """Each class and the mixin it is run with; ``/manager`` stands for a manager's."""
    found: dict[str, tuple[type, type | None]] = {}
    for name, base in base_classes().items():
        kinds = getattr(base, "ALLOWED_TYPES", None)
        if kinds is None:
            found[name] = base, None
            continue
        if "processes" in kinds:
            found[name] = base, LithopsMixin
        if "manager" in kinds:
            found[f"{name}/manager"] = base, ManagerMixin
    return found


def _make(name: str, base: type, mixin: type | None) -> type | None:
    """The class that is run; None if all of it is excluded."""
    excluded = [test for test in names_in(base) if exclusions.reason(name, test)]
    if len(excluded) == len(names_in(base)):
        return None
    bases = (base, mixin, unittest.TestCase) if mixin else (base,)
    plain, _, kind = name.partition("/")
    title = "Test" + plain.removeprefix("_").removeprefix("Test") + ("WithManager" if kind else "")
    return type(title, bases, {"__module__": __name__, **dict.fromkeys(excluded)})


CLASSES = {name: made for name, case in cases().items() if (made := _make(name, *case))}
globals().update((made.__name__, made) for made in CLASSES.values())
