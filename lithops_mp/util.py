"""Logging, finalizers and the like: CPython's, which knows our processes, too."""

from multiprocessing.util import *  # noqa: F403 - the same names
