"""Every test of CPython's either runs or is excluded for a reason that is a fact."""

from __future__ import annotations

import pytest

from . import exclusions

pytest.importorskip("test._test_multiprocessing", reason="this Python has no test package")

from .suite import CLASSES, cases, names_in

BASES = {name: base for name, (base, _) in cases().items()}


@pytest.mark.parametrize("entry", exclusions.EXCLUDED)
def test_an_exclusion_names_something_that_exists(entry: str) -> None:
    case, _, test = entry.partition(".")
    found = case in BASES and (not test or test in names_in(BASES[case]))
    assert found or not exclusions.expected(entry), f"this Python has no {entry}"


@pytest.mark.parametrize("entry", exclusions.EXCLUDED)
def test_an_exclusion_is_made_once(entry: str) -> None:
    case, _, test = entry.partition(".")
    assert not test or case not in exclusions.EXCLUDED


@pytest.mark.parametrize("case", BASES)
def test_what_is_not_excluded_runs(case: str) -> None:
    runs = set(names_in(CLASSES[case])) if case in CLASSES else set()
    assert runs == {test for test in names_in(BASES[case]) if not exclusions.reason(case, test)}


def test_no_two_classes_share_a_name() -> None:
    titles = [made.__name__ for made in CLASSES.values()]
    assert len(titles) == len(set(titles))
