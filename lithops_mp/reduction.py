"""Pickling for other processes: CPython's."""

from multiprocessing.reduction import *  # noqa: F403 - the same names
