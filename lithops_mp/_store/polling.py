"""Whether an answer is worth polling for, before the thread goes to sleep until it comes.

A server on this machine answers in 10 to 30 microseconds. To be woken takes as long
again, and on a virtual machine, whose idle processor has been given away, several times
that: ``bench/README.md`` has figures. But a server may be far away, and who polls keeps a
processor from others. Both are looked at, and remembered.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import get_ident
from time import monotonic

#: Seconds that an answer is polled for.
POLL = 80e-6

# After polling in vain n times in a row the next 2**n - 1 answers are slept for, with n at
# most this: a server that is far away, or busy, costs next to nothing.
MOST_IN_VAIN = 10

# If after SAMPLE polls more threads want a processor than there are, twice as many answers
# are slept for, then four times, and so on up to SAMPLE << MOST_CROWDS. Without this 4 or 8
# processes on two processors got a third less done by polling, while one alone gets twice as
# much done.
SAMPLE = 64
MOST_CROWDS = 4

# Threads of one process that all poll take the interpreter from each other: two got a third
# less done. So nobody polls for so many seconds after one found that another asked before it.
SHARED = 0.1


# Where Linux says how many threads run, or want to.
LOAD = Path("/proc/loadavg")


def is_crowded() -> bool:
    """Do more threads of this machine want a processor than this process may use?

    Not known outside Linux; a container's quota of processor time is not seen.
    """
    try:
        file = os.open(LOAD, os.O_RDONLY)  # a third of the time that Python's files take
        try:
            wanting = int(os.read(file, 100).split()[3].partition(b"/")[0])
        finally:
            os.close(file)
        return wanting > len(os.sched_getaffinity(0))
    except (OSError, IndexError, ValueError):
        return False


class Turns:
    """Which threads of this process have asked."""

    def __init__(self) -> None:
        self.last = 0
        #: Several have; until then nobody polls.
        self.until = 0.0


# An object's, since to set an attribute of a class makes Python forget what it knows of it.
turns = Turns()


class Polling:
    """What polling on one connection has been good for."""

    def __init__(self) -> None:
        self._rest = 0  # so many answers are slept for
        self._in_vain = 0
        self._polls = SAMPLE  # left of this sample
        self._crowds = 0

    # Both run with every request: what is rare is looked for last.

    def is_due(self) -> bool:
        """Is the next answer to be polled for? Then :meth:`done` is to follow."""
        if self._rest:
            self._rest -= 1
            return False
        if turns.last != (thread := get_ident()):
            if turns.last:
                turns.until = monotonic() + SHARED
            turns.last = thread
        if turns.until:
            if monotonic() < turns.until:
                self._rest = SAMPLE
                return False
            turns.until = 0.0
        return True

    def done(self, late: bool) -> None:
        """It was; ``late`` if that took longer than POLL."""
        self._polls -= 1
        if late:
            self._in_vain = min(self._in_vain + 1, MOST_IN_VAIN)
            self._rest = (1 << self._in_vain) - 1
        elif self._in_vain:
            self._in_vain = 0
        if not self._polls:
            self._polls = SAMPLE
            self._crowds = min(self._crowds + 1, MOST_CROWDS) if is_crowded() else 0
            if self._crowds:
                self._rest = max(self._rest, SAMPLE << self._crowds)
