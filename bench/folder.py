"""A temporary folder goes with the program, however that ends.

    python bench/folder.py FOLDER

Deletes it when standard input has ended: with the program that started it. Whoever that
leaves behind needs a moment to notice, and may write something until then.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

# Seconds for which it is looked after when the program was killed.
PATIENCE = 10


def main(folder: str) -> None:
    """Wait, and delete it: at once after a good-bye, for some seconds if there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for whoever started us
    ended_well = sys.stdin.read() == "bye"
    end = time.monotonic() + (0 if ended_well else PATIENCE)
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() >= end:
            return
        time.sleep(0.5)


class Folder:
    """Whoever sees to that."""

    def __init__(self, path: str) -> None:
        words = [sys.executable, "-I", "-S", __file__, path]
        # In a session of its own: it has something to do when all others have ended.
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    def close(self) -> None:
        """Delete it."""
        self._process.communicate("bye")


if __name__ == "__main__":
    main(*sys.argv[1:])
