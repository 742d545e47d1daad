"""Main programs that are killed, frozen and robbed: see test_programs.py.

    python -m faults.scenarios '{"PARAMETER": value}' NAME ARGUMENT...

What they say is one JSON value a line; they go on at a line of input.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing import util
from typing import Any

from support.programs import SAFETY

import lithops_mp as mp
from lithops_mp import config, protocols
from lithops_mp._store import session
from lithops_mp.errors import LockLost, ServerUnavailable

SCENARIOS: dict[str, Callable[..., None]] = {}


def scenario(function: Callable[..., None]) -> Callable[..., None]:
    SCENARIOS[function.__name__] = function
    return function


def say(*words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def told() -> str:
    return sys.stdin.readline().strip()


def quick() -> None:
    protocols.SAFETY = SAFETY


# -- frozen --


def _take_turn(lock: mp.Lock) -> None:
    quick()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lock.acquire()
    print(json.dumps("said by the child"), flush=True)
    session.current().client.plain("SET", "test:child", 1)
    lock.release()


@scenario
def frozen() -> None:
    lock = mp.Lock()
    lock.acquire()
    child = mp.Process(target=_take_turn, args=(lock,))
    child.start()
    child.pid  # noqa: B018 - waits until it runs
    say("holds")
    told()
    try:
        lock.release()
    except LockLost:
        say("lost")
    told()
    child.join()
    say("exit", child.exitcode)


# -- killed --


def _run_until(go: mp.Event, word: str) -> None:
    """A child that ends when it is told so through Redis, whoever is left."""
    quick()
    lock = mp.Lock()
    with lock:
        print(json.dumps([word, os.getpid(), os.getppid(), session.current().uid]), flush=True)
        go.wait()


@scenario
def family() -> None:
    """A program with a daemonic child and another one, and a lock that it holds."""
    lock, go = mp.Lock(), mp.Event()
    lock.acquire()
    for daemon in (True, False):
        word = "daemon" if daemon else "child"
        mp.Process(target=_run_until, args=(go, word), daemon=daemon).start()
    say("program", session.current().uid, go._handle.ref.ident)
    told()
    go.set()
    say("set")
    told()


@scenario
def idle_function() -> None:
    """A program whose function waits for another process to run."""
    child = mp.Process(target=int)
    child.start()
    child.join()
    say("joined")
    told()


@scenario
def lonely() -> None:
    """A program that shares nothing with anyone."""
    mp.Lock().acquire()
    say("holds")
    told()


@scenario
def clean() -> None:
    """A program that uses everything and ends."""
    lock, event, barrier = mp.Lock(), mp.Event(), mp.Barrier(2)
    condition, semaphore = mp.Condition(), mp.BoundedSemaphore(2)
    child = mp.Process(target=_use_all, args=(lock, event, barrier, condition, semaphore))
    child.start()
    barrier.wait()
    event.set()
    child.join()
    lock.acquire()  # and never released
    say("ends", child.exitcode)


def _use_all(*handles: Any) -> None:
    quick()
    lock, event, barrier, condition, semaphore = handles
    with lock, semaphore:
        barrier.wait()
        event.wait()
    with condition:
        condition.notify_all()
    grandchild = mp.Process(target=semaphore.acquire)
    grandchild.start()
    grandchild.join()


@scenario
def holder() -> None:
    """A program that holds a lock which it has lent to a child in line."""
    lock = mp.Lock()
    lock.acquire()
    child = mp.Process(target=_take_turn, args=(lock,))
    child.start()
    say("holds", lock._semlock.ref.ident)
    told()
    try:
        lock.release()
        say("released")
    except LockLost:
        say("lost")
    child.join()


@scenario
def robbed() -> None:
    """A program that says what its server's end is like."""
    lock = mp.Lock()
    say("ready")
    told()
    try:
        lock.acquire()
    except ServerUnavailable as error:
        say("unavailable", str(error))


@scenario
def forked() -> None:
    """A plain fork uses its parent's objects, longer than the parent does."""
    lock, event = mp.Lock(), mp.Event()
    pid = os.fork()
    if pid == 0:
        with lock:
            say("child has the lock", session.current().uid)
            event.wait()
        util._exit_function()
        os._exit(0)
    say("parent", session.current().uid)
    told()
    event.set()
    os.waitpid(pid, 0)
    say("parent again", lock.acquire(block=False))


@scenario
def forked_messages() -> None:
    """Parent and plain fork put, get, and see when the other one has closed a pipe."""
    queue, back = mp.Queue(), mp.Queue()
    reader, writer = mp.Pipe(duplex=False)
    queue.put("from the parent")
    back.put("not the child's to get")
    assert back.get() == "not the child's to get"
    pid = os.fork()
    if pid == 0:
        reader.close()
        say("child got", queue.get())
        for turn in range(3):
            back.put(("child", turn))
        writer.close()
        told()
        util._exit_function()
        os._exit(0)
    writer.close()
    say("parent got", *(back.get() for _ in range(3)))
    try:
        reader.recv()
    except EOFError:  # the child runs, but has closed its end
        say("parent sees the end")
    os.kill(pid, 0)
    os.kill(pid, 9)
    os.waitpid(pid, 0)


@scenario
def sleeper() -> None:
    """A program that does nothing for longer than its objects live, and then uses them."""
    lock, event, barrier, semaphore = mp.Lock(), mp.Event(), mp.Barrier(1), mp.Semaphore()
    condition = mp.Condition()
    say("sleeps", lock._semlock.ref.ident)
    told()
    with lock, semaphore, condition:
        event.set()
        barrier.wait()
        condition.notify()
    say("fine")


def _sleep(lock: mp.Lock, event: mp.Event, uid: str) -> None:
    quick()
    say("sleeps", session.current().uid)
    while not session.current().client.plain("GET", "test:wake:" + uid):
        time.sleep(0.01)  # not in a call of ours: it would keep nothing
    with lock:
        event.set()
    say("fine")


@scenario
def sleeping_child() -> None:
    """Only a child of ours refers to the objects, and it does nothing."""
    lock, event = mp.Lock(), mp.Event()
    uid = session.current().uid
    child = mp.Process(target=_sleep, args=(lock, event, uid))
    child.start()
    say("program", lock._semlock.ref.ident, uid)
    told()
    event.wait()
    child.join()
    say("exit", child.exitcode)


if __name__ == "__main__":
    config.update(json.loads(sys.argv[1]))
    quick()
    SCENARIOS[sys.argv[2]](*sys.argv[3:])
