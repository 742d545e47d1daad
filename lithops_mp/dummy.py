"""``multiprocessing`` with threads: CPython's."""

from multiprocessing.dummy import *  # noqa: F403 - the same names
