"""What callers give: seconds, and numbers of things."""

from __future__ import annotations

import math
import operator
from typing import SupportsIndex


def seconds(timeout: float | None) -> float | None:
    """A time-out, 0 if it is negative; None is none.

    Raises TypeError for what is no number. Nan would wait for ever: it raises ValueError.
    """
    if timeout is None:
        return None
    if math.isnan(timeout):
        raise ValueError("a time-out of nan: give a number of seconds, or None for no limit")
    return max(0.0, float(timeout))


def count(number: SupportsIndex) -> int:
    """An int, whether it was a bool or numpy's. Raises TypeError for what is none."""
    return int(operator.index(number))
