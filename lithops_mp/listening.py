"""Listening: what a parent hears of its children.

One listener thread per parent reads the parent's inbox and serves all its
children: it notes that they started, writes their output to this program's
file descriptors, and closes the write end of their sentinel when they end. The
message about the end may be lost. So every few seconds the thread asks for the
children's records, which also shows functions that died and launches that failed.

The other way goes Ctrl-C, which this program's terminal sends to it alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from multiprocessing import util
from typing import TYPE_CHECKING, ClassVar

from ._store import keys, processes
from ._store.client import Client
from ._store.session import current
from .errors import ServerUnavailable

if TYPE_CHECKING:
    from .popen_lithops import Popen

# Seconds between two looks at the records of children, besides what the inbox tells.
SAFETY = 2.0

# Seconds an idle function may take to claim the process it was handed before
# another one is invoked. Claiming is exclusive, so being early is harmless.
CLAIM = 5.0

# Seconds between two looks whether a server that was given up is there again.
PAUSE = 1.0

# How many functions are invoked for a process before it is given up: one that dies
# before it begins may have been unlucky, a second one is not.
ATTEMPTS = 2


class Listener:
    """The thread that reads this process's inbox."""

    _mine: ClassVar[Listener | None] = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.session = current()
        self.pid = os.getpid()
        self.inbox = keys.inbox(self.session.uid)
        self.children: dict[str, Popen] = {}
        #: Those who were said to be over while the server was out of reach; it is still to hear.
        self.abandoned: list[Popen] = []
        self.over = threading.Event()  # nobody needs it any more
        self.client = Client(self.session.settings, f"{self.session.uid}.listener")
        threading.Thread(target=self._run, name="lithops_mp listener", daemon=True).start()

    @classmethod
    def mine(cls) -> Listener:
        """The listener of this operating-system process."""
        with cls._lock:
            if cls._mine is None or cls._mine.pid != os.getpid():
                cls._mine = cls()
                # Before CPython's own exit handler joins the children.
                util.Finalize(None, _pass_on_ctrl_c, exitpriority=100)
                util.Finalize(cls._mine, cls._mine.end, exitpriority=-60)
            return cls._mine

    def add(self, child: Popen) -> None:
        """Look after a child."""
        self.children[child.uid] = child

    def remove(self, child: Popen) -> None:
        """Look after it no longer."""
        self.children.pop(child.uid, None)

    def _run(self) -> None:
        last = "0-0"
        checked = time.monotonic()
        while not self.over.is_set():
            try:
                self.settle(self.client)
                found = self.client.messages(self.inbox, last, int(SAFETY * 1000))
                for ident, fields in found:
                    last = ident.decode()
                    self._handle(fields, int(last.partition("-")[0]) / 1000)
                if found:  # what came before goes only now: a lost reply is read again
                    self.client.plain("XTRIM", self.inbox, "MINID", found[0][0])
                if time.monotonic() - checked > SAFETY:
                    checked = time.monotonic()
                    self._check()
            except Exception as error:  # nobody may be left waiting for this thread
                self._lost(error)
                self.over.wait(PAUSE)

    def _handle(self, fields: list[bytes], at: float) -> None:
        message = dict(zip(fields[::2], fields[1::2], strict=True))
        kind, what = message[b"kind"], int(message[b"what"])
        if kind == b"out":
            _write_all(what, message[b"data"])
            return
        child = self.children.get(message[b"child"].decode())
        if child is None:
            return
        if kind == b"start":
            child.note_start(what, at)
        else:
            self._bury(child, what, message[b"data"].decode(), at)

    def _bury(self, child: Popen, code: int, lost: str, at: float | None = None) -> None:
        if lost:
            _write_all(2, f"lithops_mp: {child.name} is lost: {lost}\n".encode())
        self.abandon(child)
        try:
            self._forget(child, self.client)
        finally:  # whoever waits for it waits no longer
            child.note_end(code, at)

    def _forget(self, child: Popen, client: Client) -> None:
        strike = ("SREM", keys.children(self.session.uid), child.uid)
        processes.forget(client, child.uid, strike)
        with contextlib.suppress(ValueError):  # another thread was quicker
            self.abandoned.remove(child)

    def abandon(self, child: Popen) -> None:
        """It is over for this program, whatever its record says: that is to be told, too."""
        self.remove(child)
        self.abandoned.append(child)

    def settle(self, client: Client) -> None:
        """See to it that those are over; in any thread. Raises ServerUnavailable."""
        for child in tuple(self.abandoned):
            self._end(child, "it was given up with the server", client)
            self._forget(child, client)

    def _check(self) -> None:
        """Ask the records: what we were not told, and what nobody can tell us."""
        for child in list(self.children.values()):
            found = self.check(child, self.client)
            if found == "LAPSED":
                self._give_up(child, "its function has given no sign of life")
            elif found == "GONE":
                self._give_up(child, "its record is gone from Redis")
            elif found == "STARTING":
                self._check_launch(child)
            elif found == "FROZEN" and child.replaceable:
                ttl = self.session.ttl
                processes.order(self.client, child.uid, "signal", signal.SIGKILL, ttl)

    def check(self, child: Popen, client: Client) -> str:
        """How it is, by its record. If that has ended, see to what follows; in any thread."""
        found = processes.status(client, child.uid)
        if found.word == "ENDED":
            # Its supervisor, if it had one, may have died before it acted on that.
            why = f"{child.name}, which {processes.fate(found.value)}"
            ttl = self.session.ttl
            processes.close(client, child.uid, ttl, why if found.value else "")
            # By way of the inbox, so that its last output comes before its end.
            processes.tell(client, self.session.uid, "exit", child.uid, found.value, b"", ttl)
        return found.word

    def _check_launch(self, child: Popen) -> None:
        late = child.placed and time.monotonic() - child.placed > CLAIM
        over = (
            child.future is not None
            and child.future.over
            # and has not begun and ended since we asked
            and processes.status(self.client, child.uid).word == "STARTING"
        )
        if over and child.invocations >= ATTEMPTS:
            self._give_up(child, f"Lithops ended its function early; see {child.future.log}", 1)
        elif late or over:
            try:
                child.invoke()
            except Exception as error:
                self._give_up(child, f"no function could be started for it: {error}", 1)

    def _give_up(self, child: Popen, why: str, code: int = processes.KILLED) -> None:
        self._bury(child, self._end(child, why, self.client, code), why)

    def _end(self, child: Popen, why: str, client: Client, code: int = processes.KILLED) -> int:
        """Declare it over, which ends it if it is not, and pass on what it held."""
        code = processes.finish(client, child.uid, code, f"{child.name}: {why}")
        processes.close(client, child.uid, self.session.ttl, f"{child.name}: {why}")
        return code

    def end(self) -> None:
        """The program ends: nothing is to stay behind of those it gave up."""
        if self.pid == os.getpid():
            self.over.set()
            with contextlib.suppress(ServerUnavailable):
                self.settle(self.session.client)

    def _lost(self, error: Exception) -> None:
        """Tell all who wait for a child that it is over; those who look after it say the same."""
        if self.children:
            what = f"{type(error).__name__}: {error}"
            _write_all(2, f"lithops_mp: child processes are lost: {what}\n".encode())
        for child in list(self.children.values()):
            self.abandon(child)
            child.note_end(processes.KILLED)


def interrupt_all() -> None:
    """SIGINT for all who descend from us, as Ctrl-C on a terminal sends it."""

    def below(uid: str) -> None:
        for child in session.client.plain("SMEMBERS", keys.children(uid)):
            below(child.decode())
            processes.order(session.client, child.decode(), "signal", signal.SIGINT, session.ttl)

    session = current()
    with contextlib.suppress(ServerUnavailable):
        below(session.uid)


def _pass_on_ctrl_c() -> None:
    if isinstance(getattr(sys, "last_value", None), KeyboardInterrupt):
        interrupt_all()


def _write_all(fd: int, data: bytes) -> None:
    """To the terminal, as a child of CPython's would: to the descriptor itself."""
    view = memoryview(data)
    with contextlib.suppress(OSError, ValueError):
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:  # somebody who shares the terminal made it so
                select.select([], [fd], [])


def _after_fork() -> None:
    # Another thread may have held it when this process was forked off.
    Listener._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
