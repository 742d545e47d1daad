"""Launching: CPython's ``Popen`` contract over Lithops functions.

A process is described in Redis (its record, and the pickled process object);
then it is handed to a function of this program that is idle, or else Lithops is
asked for a new one (``functions``). ``start`` does not wait for the function:
``pid`` does. What becomes of the process, the listener hears (``listening``).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing import context, process, util
from multiprocessing.connection import wait as wait_for
from typing import Any, NoReturn

from . import alias, config, details
from ._store import keys, processes
from ._store.scripts import script
from ._store.session import Session, current
from ._store.settings import working_directory
from .arguments import seconds
from .errors import ServerUnavailable
from .functions import Functions, draw, import_path, modules_of
from .listening import Listener, interrupt_all
from .reduction import ProcessPickler

__all__ = ["Popen"]

# Redis refuses strings over 512 MB; a large argument travels in such pieces.
ARGUMENT_PIECE = 64 * 1024 * 1024


class Popen:
    """One child process, as its parent sees it."""

    method = "lithops"

    def __init__(self, process_obj: process.BaseProcess) -> None:
        util._flush_std_streams()  # type: ignore[attr-defined]
        self.returncode: int | None = None
        self.uid = keys.new_id()
        self.name = process_obj.name
        self.placed = 0.0
        self.invocations = 0
        self.future: Any = None
        self.times = [time.time()]
        self._exports = getattr(process_obj, "_exports", True)
        #: Is another one to take its place if it stands still for its lease?
        self.replaceable = getattr(process_obj, "_replaceable", False)
        self._pid: int | None = None
        self._started = threading.Event()
        self._launch(process_obj)

    # -- CPython's contract --

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, or None while the child runs. No round trip."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end; the exit code, or None if ``timeout`` seconds passed first."""
        if self.returncode is None:
            timeout = seconds(timeout)
            try:
                wait_for([self.sentinel], timeout)
            except KeyboardInterrupt:
                if not util.is_exiting():
                    raise
                # Pressed while the program waits at its end, Ctrl-C is meant for
                # those it waits for. Pressed again, it ends the waiting.
                interrupt_all()
                wait_for([self.sentinel], timeout)
        if self.returncode is not None and self._exports:
            self._export()
        return self.returncode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def interrupt(self) -> None:
        """Send SIGINT."""
        self._send_signal(signal.SIGINT)

    def close(self) -> None:
        """Close the sentinel."""
        self._close_sentinel()

    def _send_signal(self, number: int) -> None:
        if self.returncode is None:
            session = current()
            processes.order(session.client, self.uid, "signal", number, session.ttl)
            if not self._started.is_set():
                Listener.mine().check(self, session.client)  # that may have been its end

    @property
    def pid(self) -> int | None:
        """The pid on the machine it runs on; None until it is known."""
        return self._pid

    def wait_pid(self) -> int | None:
        """The pid, once the child has started; None if it ended without starting."""
        self._started.wait()
        return self._pid

    # What CPython's reducers of connections and sockets ask of who is being started.
    DupFd = int

    def duplicate_for_child(self, fd: int) -> NoReturn:
        """Refuse."""
        raise TypeError(
            "a connection or socket of multiprocessing cannot be sent to a Lithops function, "
            "which may run on another machine"
        )

    # -- what the listener calls --

    def note_start(self, pid: int, at: float) -> None:
        """The child runs, since then."""
        self._pid = pid
        self.times.append(at)
        self._started.set()

    def note_end(self, code: int, at: float | None = None) -> None:
        """The child is over: whoever waits on the sentinel wakes."""
        if self.returncode is None:
            self.times.append(at or time.time())
            self.returncode = code
            self._started.set()
            # A byte, since a plain fork of ours may keep a copy of this end open.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._alive, b"\0")
            os.close(self._alive)

    def _export(self) -> None:
        """Say once when it ran, if that is asked for."""
        self._exports = False
        if details.wanted() and len(self.times) == 3:  # it has begun
            made, began, ended = self.times
            times = details.Times(made, made, began, ended, time.time())
            stats = {self.uid: times.stats(name=self.name, exitcode=self.returncode)}
            details.write(f"{self.name}-{self.uid[:8]}", stats, draw)

    # -- launching --

    def _launch(self, process_obj: process.BaseProcess) -> None:
        session = current()
        listener = Listener.mine()
        # Once: it reads Lithops' configuration, which may be a file.
        self.functions = Functions.mine()
        context.set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            with session.lending() as lent:
                pickled = ProcessPickler.dumps(process_obj)
                self.modules = [] if self.functions.local else modules_of(pickled)
        finally:
            context.set_spawning_popen(None)
        header = pickle.dumps(self._describe(session, process_obj))
        self.sentinel, self._alive = os.pipe()
        self._close_sentinel = util.Finalize(self, os.close, (self.sentinel,))
        try:
            self._write(session, header, pickled, lent)
            listener.add(self)  # it has a record now, which the listener may ask
            if not self._place(session):
                self.invoke()
        except BaseException:
            listener.abandon(self)
            self.note_end(processes.KILLED)
            self.close()
            with contextlib.suppress(ServerUnavailable):  # then the listener does it later
                listener.settle(session.client)
            raise

    def _describe(self, session: Session, process_obj: process.BaseProcess) -> dict[str, Any]:
        from .context import _default_context as default

        functions = self.functions
        method = getattr(process_obj, "_method", None)
        logger = util._logger  # type: ignore[attr-defined]  # None until there is one
        main = sys.modules.get("__main__")
        spec: dict[str, Any] = {
            "name": process_obj.name,
            "daemon": process_obj.daemon,
            "parent": session.uid,
            "program": session.program,
            "terminal": session.terminal,
            "ttl": session.ttl,
            "lease": session.lease,
            "grace": config.get_parameter(config.PROGRAM_GRACE),
            "heartbeat": config.get_parameter(config.HEARTBEAT),
            "stream": config.get_parameter(config.STREAM_STDOUT),
            "config": {**config.snapshot(), config.LITHOPS_CONFIG: functions.lithops_config},
            "environ": {k: str(v) for k, v in config.get_parameter(config.ENV_VARS).items()},
            "argv": sys.argv,
            "main": getattr(main, "__file__", None),
            "package": getattr(main, "__package__", None),
            "alias": alias.installed(),
            "method": method or default.get_start_method(allow_none=True),
            "log_level": logger.getEffectiveLevel() if logger else None,
            "log_to_stderr": util._log_to_stderr,  # type: ignore[attr-defined]
        }
        if functions.local:
            # As CPython's children have it; the function may be older than a change.
            spec["environ"] = {**os.environ, **spec["environ"]}
            spec |= {"cwd": working_directory(), "path": import_path()}
        return spec

    def _write(self, session: Session, header: bytes, pickled: bytes, lent: list[Any]) -> None:
        client = session.client
        children, spec = keys.children(session.uid), keys.spec(self.uid)
        described: list[processes.Words] = [
            ("SADD", children, self.uid),
            ("PEXPIRE", children, session.ttl),
            ("HSET", spec, 0, header, 1, pickled[:ARGUMENT_PIECE]),
            ("PEXPIRE", spec, session.ttl),
        ]
        if lent or len(pickled) > ARGUMENT_PIECE:
            client.plains(*described)
            described = []
        for number, start in enumerate(
            range(ARGUMENT_PIECE, len(pickled), ARGUMENT_PIECE), start=2
        ):
            client.plain("HSET", spec, number, pickled[start : start + ARGUMENT_PIECE])
        session.lend(lent, self.uid)
        about = {"parent": session.uid, "program": session.program}
        times = session.ttl, session.lease
        processes.register(client, self.uid, "starting", *times, self.name, about, after=described)

    def _place(self, session: Session) -> bool:
        idle = keys.idle(session.program, self.functions.kind(self.modules))
        reply = session.client.call(script("process/place").on(idle), (self.uid,))
        self.placed = time.monotonic()
        return bool(reply[0] == b"PLACED")

    def invoke(self) -> None:
        """Have Lithops run a function for this process. Raises what Lithops raises."""
        self.placed = 0.0
        self.invocations += 1
        self.future = self.functions.invoke(self.uid, self.modules)
