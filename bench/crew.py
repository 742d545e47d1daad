"""Worker processes that do as they are told, all of them holding all contestants.

The same processes serve everyone, so no contestant has fresher ones. They are
spawned by the standard library: an object of ours works in any process.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import connection
from typing import Any, NoReturn

from .contestants import SPAWN, Contestant
from .site import Site

# A turn takes some seconds at most; a contestant that needs longer has lost a wake-up.
PATIENCE = 30.0


class Post:
    """What a worker has: the contestants' objects, and memory shared with the others.

    ``turns`` has a semaphore for each worker, to take turns with; ``counter`` is
    what a lock protects, and ``clock`` a place for a time stamp. All of them
    are of this machine only and cost next to nothing.
    """

    def __init__(
        self, site: Site, handles: dict[str, tuple[Any, Any]], counter: Any, clock: Any, turns: Any
    ) -> None:
        self.site = site
        self.counter = counter
        self.clock = clock
        self.turns = turns
        self._handles = handles
        self._opened: dict[str, Any] = {}

    def object(self, contestant: str, name: str = "") -> Any:
        """A contestant's shared object, opened at first use; or another one that has a name."""
        key = f"{name} of {contestant}" if name else contestant
        if key not in self._opened:
            opener, shared = self._handles[key]
            self._opened[key] = opener(self.site, shared)
        return self._opened[key]

    def another(self, contestant: str) -> Any:
        """The same, with connections of its own: for a thread."""
        opener, shared = self._handles[contestant]
        return opener(self.site.again(), shared)


class Crew:
    """Some workers. The shared objects travel to them when they are spawned."""

    def __init__(
        self,
        site: Site,
        size: int,
        made: dict[Contestant, Any],
        others: dict[str, dict[Contestant, Any]] | None = None,
    ) -> None:
        self.counter = SPAWN.RawValue("q", 0)
        #: What the workers have of each contestant besides, by name.
        self.others = others or {}
        self._site = site
        self.size = size
        self._handles = {one.name: (one.open, shared) for one, shared in made.items()}
        for name, some in self.others.items():
            for one, shared in some.items():
                self._handles[f"{name} of {one.name}"] = (one.open, shared)
        self._start()

    def _start(self) -> None:
        # Kept: a semaphore is gone for a child that has not opened it when ours is collected.
        turns = self._turns = [SPAWN.Semaphore(0) for _ in range(self.size)]
        post = (self._site, self._handles, self.counter, SPAWN.RawValue("q", 0), turns)
        self._pipes, self._processes = [], []
        for _ in range(self.size):
            ours, theirs = SPAWN.Pipe()
            process = SPAWN.Process(target=_work, args=(theirs, post), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(
        self,
        jobs: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]],
        meanwhile: Callable[[], object] = bool,
    ) -> list[Any]:
        """Give the first workers one job each, at the same time; their results.

        ``meanwhile`` is called here while they are at it. Raises TimeoutError if they hang,
        RuntimeError if one fails.
        """
        pipes = self._pipes[: len(jobs)]
        for pipe, job in zip(pipes, jobs, strict=True):
            pipe.send(job)
        try:
            meanwhile()
        except Exception as error:
            self._replace(error)
        deadline = time.monotonic() + PATIENCE
        results: dict[Any, Any] = {}
        while len(results) < len(pipes):
            patience = max(0.0, deadline - time.monotonic())
            ready = connection.wait([pipe for pipe in pipes if pipe not in results], patience)
            if not ready:
                self._replace(TimeoutError(f"hung: no end after {PATIENCE:.0f} s"))
            for pipe in ready:
                fine, results[pipe] = pipe.recv()
                if not fine:
                    self._replace(RuntimeError(f"in a worker:\n{results[pipe]}"))
        return [results[pipe] for pipe in pipes]

    def gather(self, counts: Sequence[int]) -> None:
        """Wait until each worker has released its turn so often. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        for turn, count in zip(self._turns, counts, strict=False):
            for _ in range(count):
                if not turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"hung: not ready after {PATIENCE:.0f} s")

    def _replace(self, error: Exception) -> NoReturn:
        """Whoever is still at it waits for one that failed: new workers for all."""
        self._dismiss(0)
        self._start()
        raise error

    def close(self) -> None:
        """Send everyone home."""
        for pipe in self._pipes:
            pipe.close()
        self._dismiss(5)

    def _dismiss(self, patience: float) -> None:
        for process in self._processes:
            process.join(patience)
            if process.exitcode is None:
                process.kill()
                process.join()


def _work(pipe: Any, post: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends us
    mine = Post(*post)
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, function(mine, *args)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
