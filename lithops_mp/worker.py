"""The far side: what runs inside a Lithops function.

Lithops calls :func:`host`. It claims the process it was sent for, forks it (the
target), and supervises it from outside, running no user code itself: so a
target that spins, or holds the interpreter lock, is not taken for dead. The
supervisor sleeps in one ``select`` over

* the target's pidfd: it has ended;
* pipes on the target's file descriptors 1 and 2, whose bytes it sends to the
  main program's inbox;
* a connection blocked on the control stream: signals, and word that the parent is
  gone;

and in between gives signs of life. When the target is over it writes the exit
code, releases what the target held, tells the parent, and offers itself for
another process: forking takes 2 ms, invoking a function some hundred times that.

If the function itself is killed, the kernel kills the target with it
(PR_SET_PDEATHSIG) and the heartbeat lapses, which the parent notices.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import logging
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
import types
import weakref
from multiprocessing import util
from typing import Any, NoReturn

from . import alias, config, context
from ._store import keys, processes, session
from ._store.client import SILENCE, Client
from ._store.keeper import Pulse
from ._store.ledger import Ledger
from ._store.scripts import command, script
from ._store.settings import Settings
from .errors import ServerUnavailable

# Output goes out in pieces of this size, and waits in the target's pipe, as it
# would for a slow terminal, when so many pieces have not been fetched yet.
OUTPUT_PIECE = 65536
BACKLOG = 256

# Seconds a daemonic target may take to end after SIGTERM once its parent is gone,
# and that a finished target's subprocesses may keep its output open.
GRACE = 5.0

# The part of its time that a function may use before what it runs is to end by itself, and
# no less than so many seconds before.
SHARE = 0.9
MARGIN = 5.0

# Milliseconds after which a blocked control connection is heard of in any case.
LISTEN_MS = 5000

_PR_SET_PDEATHSIG = 1


def host(payload: bytes) -> None:
    """Run the process the payload names, and others while there are any."""
    began = time.monotonic()
    order: dict[str, Any] = pickle.loads(payload)
    order["until"] = began + max(0.0, min(order["limit"] * SHARE, order["limit"] - MARGIN))
    settings = Settings.from_wire(order["settings"])
    function = keys.new_id()
    client = Client(settings, f"f{function}.0")
    uid: str | None = order["uid"]
    with contextlib.suppress(ServerUnavailable):
        while uid:
            _run(client, settings, function, uid, order)
            uid = _wait_for_another(client, function, order)
    client.close()


def _wait_for_another(client: Client, function: str, order: dict[str, Any]) -> str | None:
    """Offer ourselves; the next process to run, or None when it is time to go."""
    seconds = min(order["idle"], order["until"] - time.monotonic())
    if seconds <= 0:
        return None
    runtime, program = order["runtime"], order["program"]
    idle = keys.idle(program, runtime)
    mine = f"{idle}:{function}"
    offer = script("process/offer").on(idle, keys.runtimes(program), keys.process(program))
    milliseconds = int(seconds * 1000)
    if client.call(offer, (function, runtime, milliseconds, order["ttl"]))[0] != b"OK":
        return None
    deadline = time.monotonic() + seconds
    found: bytes | None = None
    while found is None and time.monotonic() < deadline:
        hint = client.block(mine, deadline - time.monotonic())
        found = hint[0] if hint else None
    if found is None:
        reply = client.call(script("process/withdraw").on(idle, mine), (function,))
        found = reply[1] if reply[0] == b"PLACED" else None
    return found.decode() if found and found != b"stop" else None


def _run(
    client: Client, settings: Settings, function: str, uid: str, order: dict[str, Any]
) -> None:
    """Claim a process and see it through; nothing if somebody else has it."""
    ttl = order["ttl"]
    claim = script("process/claim").on(keys.process(uid))
    if client.call(claim, (function, socket.gethostname(), ttl))[0] != b"CLAIMED":
        return
    found = client.plain("HGETALL", keys.spec(uid))
    if not found:
        return  # the parent has given it up meanwhile
    numbered = dict(zip(map(int, found[::2]), found[1::2], strict=True))
    header, *pieces = (numbered[number] for number in sorted(numbered))
    spec: dict[str, Any] = {**pickle.loads(header), "until": order["until"]}
    Supervisor(client, settings, uid, spec, b"".join(pieces)).run()


class Supervisor:
    """Forks one target and sees it through to its end."""

    def __init__(
        self, client: Client, settings: Settings, uid: str, spec: dict[str, Any], pickled: bytes
    ) -> None:
        self.client = client
        self.settings = settings
        self.uid = uid
        self.spec = spec
        self.pickled = pickled
        self.ttl: int = spec["ttl"]
        self.control = Client(settings, f"{client.id}c")
        self.ledger = Ledger()
        self.outputs: dict[int, int] = {}
        self.blocked = False
        self.last_order = "0-0"
        self.heard = 0.0
        self.parent_pipe = -1
        self.pid = 0
        self.lost = b""  # why we put an end to it

    def run(self) -> None:
        """The target's whole life."""
        self._fork()
        try:
            # Its description is not needed any more, and may be large.
            read: list[processes.Words] = [("DEL", keys.spec(self.uid))]
            about = ("start", self.uid, self.pid, b"", self.ttl)
            processes.tell(self.client, self.spec["parent"], *about, after=read)
            self._supervise()
        except ServerUnavailable:
            # Without the server there is neither anyone to serve nor to report to.
            self._kill()
            raise
        finally:
            self.control.close()
            self.ledger.close()
            self._close(self.parent_pipe, *self.outputs)

    # -- the target --

    def _fork(self) -> None:
        pipes = [os.pipe(), os.pipe()] if self.spec["stream"] else []
        parent_r, self.parent_pipe = os.pipe()
        supervisor = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _die_with(supervisor)
            self.client.close()
            self.control.close()
            for fd, (r, w) in enumerate(pipes, start=1):
                os.dup2(w, fd)
                self._close(r, w)
            os.close(self.parent_pipe)
            _target(self.settings, self.uid, self.spec, self.pickled, parent_r, self.ledger)
        self.pickled = b""
        os.close(parent_r)
        for fd, (r, w) in enumerate(pipes, start=1):
            os.close(w)
            fcntl.fcntl(r, fcntl.F_SETFL, os.O_NONBLOCK)
            self.outputs[r] = fd

    @staticmethod
    def _close(*fds: int) -> None:
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    # -- the loop --

    def _supervise(self) -> None:
        pulse = Pulse(self.client, self.uid, self.pid, self.ttl, self.spec["heartbeat"])
        pidfd = os.pidfd_open(self.pid)
        due = time.monotonic() + pulse.every  # to claim it was the first sign of life
        try:
            self._listen()
            while True:
                if time.monotonic() >= due:
                    due = time.monotonic() + pulse.every
                    if not pulse.beat():
                        self.lost = b"its record is gone from Redis"
                        self._kill_softly(signal.SIGKILL)
                    self._look_after_parent()
                wait = min(due - time.monotonic(), 0.05 if self.blocked else pulse.every)
                ready = self._wait([pidfd], max(0.0, wait))
                if pidfd in ready:
                    break
        finally:
            os.close(pidfd)
        _, status = os.waitpid(self.pid, 0)
        self._end(os.waitstatus_to_exitcode(status))

    def _wait(self, fds: list[int], seconds: float) -> list[int]:
        """One turn of ``select``; handles output and orders itself."""
        outputs = [] if self.blocked else list(self.outputs)
        if time.monotonic() - self.heard > SILENCE:
            self.control.close()
        control = self.control.fileno()
        wanted = fds + outputs + ([control] if control >= 0 else [])
        ready = select.select(wanted, [], [], seconds)[0]
        if self.blocked:
            self._pump(-1)
        for fd in outputs:
            if fd in ready:
                self._pump(fd)
        if control in ready or control < 0:
            self._obey()
        return ready

    def _pump(self, fd: int) -> bool:
        """Send on what the target wrote; with -1 only see how much is waiting."""
        data = b""
        if fd >= 0:
            try:
                data = os.read(fd, OUTPUT_PIECE)
            except BlockingIOError:
                return False
            if not data:
                self._close(fd)
                del self.outputs[fd]
                return False
            what = self.outputs[fd]
            waiting = processes.tell(
                self.client, self.spec["terminal"], "out", self.uid, what, data, self.ttl
            )
        else:
            waiting = self.client.plain("XLEN", keys.inbox(self.spec["terminal"]))
        self.blocked = waiting > BACKLOG
        return True

    def _listen(self) -> None:
        """Block on the control stream, without waiting: the loop reads the answer."""
        words = ("XREAD", "BLOCK", LISTEN_MS, "STREAMS", keys.control(self.uid), self.last_order)
        self.control.send(command(*words))
        self.heard = time.monotonic()

    def _obey(self) -> None:
        orders = []
        for _, entries in self.control.receive() or ():
            orders += entries
        if orders:
            self.last_order = orders[-1][0].decode()
        self._listen()
        for _, (word, number) in orders:
            if word == b"signal":
                self._signal(int(number))
            else:
                self._parent_died()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def _kill_softly(self, number: int) -> None:
        self._signal(number)
        if number != signal.SIGKILL:
            pidfd = os.pidfd_open(self.pid)
            gone = select.select([pidfd], [], [], GRACE)[0]
            os.close(pidfd)
            if not gone:
                self._signal(signal.SIGKILL)

    # -- the parent --

    def _look_after_parent(self) -> None:
        """The safety check behind the order "parent", which may be lost."""
        if self.parent_pipe < 0:
            return
        parent = processes.status(self.client, self.spec["parent"])
        program = self.spec["parent"] == self.spec["program"]
        if parent.word in ("ENDED", "GONE") or (
            parent.word == "LAPSED" and (not program or parent.value > self.spec["grace"] * 1000)
        ):
            self._parent_died()

    def _parent_died(self) -> None:
        """Let the target's ``parent_process()`` see it; a daemonic target goes, too."""
        self._close(self.parent_pipe)
        self.parent_pipe = -1
        if self.spec["daemon"]:
            self._kill_softly(signal.SIGTERM)

    # -- the end --

    def _end(self, code: int) -> None:
        self._drain()
        why = f"{self.spec['name']}, which {processes.fate(code)}"
        code = processes.finish(self.client, self.uid, code, why, self.ledger.dump())
        # Before the parent hears of it: after a join, nothing is held any more.
        rest = processes.bury(self.client, self.uid, self.ttl, why if code else "")
        about = ("exit", self.uid, code, self.lost, self.ttl)
        if self.parent_pipe < 0:
            processes.forget(self.client, self.uid, rest)  # nobody will ask
        elif not processes.tell(self.client, self.spec["parent"], *about, after=[rest]):
            processes.forget(self.client, self.uid)

    def _drain(self) -> None:
        """What is left in the pipes; subprocesses may hold them open for a while."""
        quiet = time.monotonic()
        while self.outputs and time.monotonic() - quiet < GRACE:
            for fd in list(self.outputs):
                while not self.blocked and self._pump(fd):
                    quiet = time.monotonic()
            if self.blocked:
                quiet = time.monotonic()
            if self.outputs:
                self._wait([], 0.05 if self.blocked else GRACE)


def _die_with(supervisor: int) -> None:
    """Ask the kernel to kill us when the function is killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(1)


def _target(
    settings: Settings,
    uid: str,
    spec: dict[str, Any],
    pickled: bytes,
    parent_fd: int,
    ledger: Ledger,
) -> NoReturn:
    """The forked process: becomes what the parent described, and runs it."""
    code = 1
    try:
        try:
            _become(settings, uid, spec, ledger)
            process_obj = pickle.loads(pickled)
            code = process_obj._bootstrap(parent_sentinel=parent_fd)
        except BaseException:
            traceback.print_exc()
        atexit._run_exitfuncs()
        session.current().flush()
        util._flush_std_streams()  # type: ignore[attr-defined]
    finally:  # whatever interrupts us, nothing of the function runs here
        os._exit(code & 0xFF)  # as the kernel has it; Python refuses what is no C int


def _is_lithops(name: str) -> bool:
    """Is this environment variable Lithops' word to one function?"""
    return name.startswith("__LITHOPS") or name == "LITHOPS_WORKER"


def _become(settings: Settings, uid: str, spec: dict[str, Any], ledger: Ledger) -> None:
    """Undo what Lithops set up for its function, and set up what the parent had."""
    # What was to run at the function's end is not ours to run.
    atexit._clear()
    atexit.register(logging.shutdown)
    atexit.register(util._exit_function)  # type: ignore[attr-defined]
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    util._finalizer_registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGPIPE else signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    if spec["stream"]:
        sys.stdout = sys.__stdout__ = _text(1, "strict")  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = _text(2, "backslashreplace")  # type: ignore[misc]
    if "cwd" in spec:
        for name in set(os.environ) - set(spec["environ"]):
            if not _is_lithops(name):
                del os.environ[name]
        with contextlib.suppress(OSError):
            os.chdir(spec["cwd"])
        sys.path[:] = spec["path"]
    os.environ.update((k, v) for k, v in spec["environ"].items() if not _is_lithops(k))
    sys.argv[:] = spec["argv"]
    main = types.ModuleType("__main__")
    main.__package__ = spec["package"]  # functions of a module that ran by -m import from it
    if spec["main"]:
        main.__file__ = spec["main"]
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    if spec["alias"]:
        alias.install()
    if spec["method"]:
        context._default_context.set_start_method(spec["method"], force=True)
    if spec["log_to_stderr"]:
        util.log_to_stderr()
    if spec["log_level"] is not None:
        util.get_logger().setLevel(spec["log_level"])
    config.reset()
    config.update(spec["config"])
    mine = session.Session(
        settings, uid=uid, program=spec["program"], ttl=spec["ttl"], lease=spec["lease"]
    )
    mine.own_keeper = False
    mine.ledger = ledger
    mine.terminal = spec["terminal"]
    mine.until = spec["until"]
    session.adopt(mine)


def _text(fd: int, errors: str) -> Any:
    """A text stream that is flushed at each line, as on a terminal."""
    return open(fd, "w", buffering=1, encoding="utf-8", errors=errors, closefd=False)
