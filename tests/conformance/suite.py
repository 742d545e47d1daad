"""The classes that are run: CPython's, less what is excluded, on our context.

Children import this module, so it must not import what only the parent has.
"""

from __future__ import annotations

import unittest

from . import cpython, exclusions


class LithopsMixin(cpython.ProcessesMixin):
    """CPython's ProcessesMixin: the Process, Lock and so on it names are ours here."""


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


def _make(name: str, base: type) -> type | None:
    """The class that is run; None if all of it is excluded."""
    excluded = [test for test in names_in(base) if exclusions.reason(name, test)]
    if len(excluded) == len(names_in(base)):
        return None
    bases = (
        (base,) if issubclass(base, unittest.TestCase) else (base, LithopsMixin, unittest.TestCase)
    )
    title = "Test" + name.removeprefix("_").removeprefix("Test")
    return type(title, bases, {"__module__": __name__, **dict.fromkeys(excluded)})


CLASSES = {name: made for name, base in base_classes().items() if (made := _make(name, base))}
globals().update((made.__name__, made) for made in CLASSES.values())
