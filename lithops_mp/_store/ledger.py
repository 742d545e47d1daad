"""Which messages a process has handed to its program, in memory that outlives it.

A message that was given to a process and never reached its program must not be
lost with it; one that did must not be given out again. Asking the server about
each would cost a round trip per message. So the process notes in shared memory
what it hands over, and whoever sees to its end (the supervisor, the keeper) reads
that when it is gone, killed or not.

One word of 64 bits per slot (a thread's client): the number of its last get
whose messages were handed over, and how many of them. Writing a word is one
instruction, so a kill comes before or after it.
"""

from __future__ import annotations

import mmap
import os
import tempfile

import msgpack

# The threads that a process may have at a time. Untouched pages take no memory.
SLOTS = 16384
_COUNT_BITS = 20


class Ledger:
    """The words, in memory that is shared with a fork or with whoever has ``fd``."""

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            if hasattr(os, "memfd_create"):
                fd = os.memfd_create("lithops_mp")
            else:
                with tempfile.TemporaryFile() as file:
                    fd = os.dup(file.fileno())
            os.ftruncate(fd, SLOTS * 8)
        self.fd = fd
        self._map = mmap.mmap(fd, SLOTS * 8)
        self._words = memoryview(self._map).cast("Q")

    def saw(self, slot: int, seq: int, count: int) -> None:
        """The first ``count`` messages of a get are the program's now."""
        word = seq << _COUNT_BITS | count
        if word > self._words[slot]:  # or another thread has said more meanwhile
            self._words[slot] = word

    def dump(self) -> bytes:
        """What scripts read: a msgpack map, slot -> number in 12 digits, count."""
        # Most slots were never used.
        slots = -(-len(self._map[:].rstrip(b"\0")) // 8)
        mask = (1 << _COUNT_BITS) - 1
        found: bytes = msgpack.packb(
            {
                str(slot): (f"{word >> _COUNT_BITS:012d}", word & mask)
                for slot, word in enumerate(self._words[:slots])
                if word
            }
        )
        return found

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._map.close()
        os.close(self.fd)
