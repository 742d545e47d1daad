"""The command ``lithops-mp``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import lithops_mp as mp

from . import alias

INCREMENTS = 250
ROUNDS = 3
TOKENS = 40
WORK = 0.005  # seconds a worker is busy with a token


class Tally:
    """Numbers in Redis, read and written by separate commands on purpose.

    Only a lock around both makes an increment atomic: that is what the demo shows.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def __getitem__(self, name: str) -> int:
        return int(_redis("HGET", self.key, name) or 0)

    def __setitem__(self, name: str, value: int) -> None:
        _redis("HSET", self.key, name, value)

    def clear(self) -> None:
        """Leave nothing behind."""
        _redis("DEL", self.key)


def _redis(*words: Any) -> Any:
    from ._store.session import current

    return current().client.plain(*words)


def _worker(tally: Tally, lock: Any, barrier: Any, condition: Any) -> None:
    me = mp.current_process().name
    tally[f"{me} pid"] = os.getpid()
    barrier.wait()
    for _ in range(INCREMENTS):
        with lock:
            tally["counter"] = tally["counter"] + 1
        tally[f"{me} increments"] = tally[f"{me} increments"] + 1
    for _ in range(ROUNDS):
        barrier.wait()
    while True:
        with condition:
            condition.wait_for(lambda: tally["tokens"] or tally["closed"])
            if not tally["tokens"]:
                return
            tally["tokens"] = tally["tokens"] - 1
            tally[f"{me} tokens"] = tally[f"{me} tokens"] + 1
        time.sleep(WORK)


def _die_holding(lock: Any) -> None:
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


class _Report:
    """Says what happens while it does, and how long it took."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.right = True

    def verdict(self, right: bool) -> str:
        """A word for it, which the exit status agrees with."""
        self.right = self.right and right
        return "right" if right else "WRONG"

    def step(self, text: str, action: Callable[[], str]) -> None:
        """Do one thing; ``action`` returns what came of it."""
        print(f"  {text:<46}", end="", flush=True)
        begin = time.perf_counter()
        result = action()
        print(f"{time.perf_counter() - begin:7.2f} s   {result}", flush=True)


def demo(processes: int) -> int:
    """The main job in small: processes as Lithops functions, state in Redis."""
    report = _Report()
    names = [f"worker-{i}" for i in range(processes)]
    barrier = mp.Barrier(processes + 1)
    lock = mp.Lock()
    condition = mp.Condition()
    tally = Tally("lmp:{demo" + os.urandom(8).hex() + "}")
    from ._store.session import current

    print(f"lithops-mp demo: {processes} processes, Redis: {current().settings.source}")
    workers = [
        mp.Process(target=_worker, args=(tally, lock, barrier, condition), name=name)
        for name in names
    ]

    def start() -> str:
        for worker in workers:
            worker.start()
        barrier.wait()
        return "all met at the barrier"

    def count() -> str:
        barrier.wait()
        wanted = processes * INCREMENTS
        return (
            f"counter {tally['counter']} of {wanted}: {report.verdict(tally['counter'] == wanted)}"
        )

    def meet() -> str:
        for _ in range(ROUNDS - 1):
            barrier.wait()
        return "all went on together"

    def hand_out() -> str:
        for _ in range(TOKENS):
            with condition:
                tally["tokens"] = tally["tokens"] + 1
                condition.notify()
        with condition:
            tally["closed"] = 1
            condition.notify_all()
        for worker in workers:
            worker.join()
        taken = sum(tally[f"{name} tokens"] for name in names)
        return f"{taken} of {TOKENS} taken: {report.verdict(taken == TOKENS)}"

    def recover() -> str:
        victim = mp.Process(target=_die_holding, args=(lock,), name="victim")
        victim.start()
        victim.join()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            got = lock.acquire(timeout=30)
        told = any(issubclass(w.category, mp.errors.OwnerDiedWarning) for w in caught)
        return f"exit code {victim.exitcode}, the lock came to us: {report.verdict(got and told)}"

    report.step("Lithops starts the processes", start)
    report.step(f"Lock: {INCREMENTS} increments each", count)
    report.step(f"Barrier: {ROUNDS} meetings", meet)
    report.step(f"Condition: {TOKENS} tokens, one notify each", hand_out)
    report.step("A process is killed while it holds the lock", recover)
    print(f"\n  {'process':<12}{'pid':>8}{'exit code':>11}{'increments':>12}{'tokens':>8}")
    for worker, name in zip(workers, names, strict=True):
        print(
            f"  {name:<12}{tally[f'{name} pid']:>8}{worker.exitcode:>11}"
            f"{tally[f'{name} increments']:>12}{tally[f'{name} tokens']:>8}"
        )
    right = report.right and not any(w.exitcode for w in workers)
    tally.clear()
    print(f"\n  {time.perf_counter() - report.start:.2f} s in all")
    return 0 if right else 1


def _add_redis(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="server to use, such as redis://localhost:6379 (default: LITHOPS_MP_REDIS_URL, the "
        "redis section of the Lithops configuration, or a private server)",
    )


def bench(argv: Sequence[str]) -> int:
    """Measure; the exit status."""
    # A wheel has bench/ as a part of the package; in a checkout it lies beside it.
    packed = importlib.util.find_spec("lithops_mp._bench")
    run = importlib.import_module("lithops_mp._bench.run" if packed else "bench.run")
    return int(run.main(argv, "lithops-mp bench"))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``lithops-mp``; the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["bench"]:  # it has a parser of its own, and its imports take a while
        return bench(words[1:])
    parser = argparse.ArgumentParser(
        prog="lithops-mp",
        description="Python's multiprocessing on Lithops functions, with shared state in Redis.",
        epilog="Without a Redis server configured, and with Lithops on this machine, a private "
        "server is started for as long as the command runs.",
    )
    parser.add_argument("--version", action="version", version=f"lithops-mp {mp.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser(
        "demo",
        help="processes that contend for a lock, meet at a barrier and wait on a condition",
        description="Runs a small program on Lithops and says who did what and how long it took.",
    )
    show.add_argument("--processes", type=int, default=4, metavar="N", help="how many (default 4)")
    _add_redis(show)
    go = commands.add_parser(
        "run",
        help="a program that imports multiprocessing, unchanged",
        usage="lithops-mp run [-h] [--redis URL] (program.py | -m module) [arguments ...]",
        description="Runs a Python program as python does; where its own modules import "
        "multiprocessing they get lithops_mp. The standard library and installed packages keep "
        "CPython's.",
    )
    go.add_argument("-m", dest="module", action="store_true", help="run a module, as python -m")
    _add_redis(go)
    go.add_argument("program", help="file, folder or archive, or with -m the module's name")
    go.add_argument("arguments", nargs=argparse.REMAINDER, help="of the program")
    commands.add_parser("bench", help="how fast it is here, beside what one would use instead")
    options = parser.parse_args(words)
    if options.command == "bench":
        return bench([])
    if options.redis:
        mp.config.set_parameter(mp.config.REDIS_URL, options.redis)
    if options.command == "run":
        try:
            loaded = alias.load(options.program, module=options.module)
        except (OSError, ImportError) as error:
            go.error(str(error))
        alias.run(*loaded, options.arguments)
        return 0
    if options.processes < 1:
        parser.error("--processes must be at least 1")
    try:
        return demo(options.processes)
    except mp.ProcessError as error:
        print(f"\nlithops-mp: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nlithops-mp: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
