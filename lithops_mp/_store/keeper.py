"""The keeper: a small process that gives a program's signs of life.

A thread of the program could not: one long call that holds the interpreter lock
would make the program look dead, and a program that is killed could not say so.
The keeper runs no user code. When the program is gone without a word it does
what the program would have done: it passes on the locks it held, tells its
children and idle functions, and deletes its keys.

It is started with the program's session, and sleeps until the first sign of life
is due: a program that ends before costs one bare interpreter, some 10 ms.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from .. import config
from ..errors import ServerUnavailable
from . import keys, processes
from .client import Client
from .ledger import Ledger
from .settings import Settings

if TYPE_CHECKING:
    from .session import Session

# Reads its parameters, and not a byte more: what follows them is the good-bye.
_CODE = """
import json, os, select, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
left, text = int(os.read(0, 8)), b''
while left > len(text):
    text += os.read(0, left - len(text))
about = json.loads(text)
sources = [0]
if hasattr(os, 'pidfd_open'):
    try:
        sources.append(os.pidfd_open(about['pid']))
    except ProcessLookupError:
        pass
if os.getppid() == about['pid']:
    ready = select.select(sources, [], [], about['every'])[0]
    if 0 in ready and os.read(0, 4) == b'bye\\n':
        sys.exit()
sys.path[:] = about['path']
from lithops_mp._store.keeper import main
main(about)
"""
_BYE = b"bye\n"
_PATIENCE = 1.0  # seconds until a keeper that is looking for its server is killed


def start(session: Session) -> subprocess.Popen[bytes]:
    """Start the keeper of this process."""
    assert session.ledger
    keeper = _Keeper(
        [sys.executable, "-I", "-S", "-c", _CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for it
        pass_fds=(session.ledger.fd,),
    )
    about = {
        "path": sys.path,
        "pid": session.pid,
        "uid": session.uid,
        "program": session.program,
        "record": session.record,
        "ledger": session.ledger.fd,
        "ttl": session.ttl,
        "lease": session.lease,
        "every": interval(config.get_parameter(config.HEARTBEAT), session.ttl),
        "settings": session.settings.to_wire(),
    }
    assert keeper.stdin
    with contextlib.suppress(BrokenPipeError):
        text = json.dumps(about).encode()
        keeper.stdin.write(b"%8d%b" % (len(text), text))
        keeper.stdin.flush()
    return keeper


def stop(keeper: subprocess.Popen[bytes]) -> None:
    """The program ends cleanly, and tidies up itself."""
    assert keeper.stdin
    with contextlib.suppress(OSError):
        keeper.stdin.write(_BYE)
        keeper.stdin.close()
    try:
        keeper.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()


class _Keeper(subprocess.Popen[bytes]):
    def __del__(self) -> None:
        """No complaint: a keeper outlives the program, and is not a fork's child."""


def is_stopped(pid: int) -> bool:
    """Is a process frozen (SIGSTOP, Ctrl-Z)? Then nobody should vouch for it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:
        return False


def interval(heartbeat: float, ttl: int) -> float:
    """Seconds between two signs of life, which also keep what expires after ``ttl`` ms."""
    return min(heartbeat, ttl / 4000)


class Pulse:
    """Gives the signs of life of one process, and keeps what it refers to."""

    def __init__(self, client: Client, uid: str, pid: int, ttl: int, heartbeat: float) -> None:
        self.client = client
        self.uid = uid
        self.pid = pid
        self.ttl = ttl
        self.every = interval(heartbeat, ttl)
        self.renew_every = max(1, int(ttl / 4000 / self.every))
        self.beats = 0

    def beat(self) -> bool:
        """One sign of life. False if the process was declared over, or its record is gone.

        For a frozen process it only says that somebody looks after it: what it
        refers to stays, but its locks may be given to others.
        """
        self.beats += 1
        alive = processes.beat(self.client, self.uid, self.ttl, frozen=is_stopped(self.pid))
        if alive and self.beats % self.renew_every == 0:
            processes.renew(self.client, self.uid, self.ttl)
        return alive


def main(about: dict[str, Any]) -> None:
    """The keeper's life, from the first sign of life on."""
    uid, ttl = about["uid"], about["ttl"]
    client = Client(Settings.from_wire(about["settings"]), f"k{keys.new_id()}.0")
    if _watch(client, about):
        return
    with contextlib.suppress(ServerUnavailable):
        why = "the main program, which was killed"
        processes.finish(client, uid, processes.KILLED, why, Ledger(about["ledger"]).dump())
        processes.close(client, uid, ttl, why)
        processes.forget(client, uid)
        if uid == about["program"]:
            processes.stop_functions(client, uid)


def _watch(client: Client, about: dict[str, Any]) -> bool:
    """Until the program says good-bye (True) or is gone (False)."""
    uid, pid, ttl = about["uid"], about["pid"], about["ttl"]
    pulse = Pulse(client, uid, pid, ttl, about["every"])
    stdin = 0
    sources = [stdin]
    step = pulse.every
    if hasattr(os, "pidfd_open"):
        try:
            sources.append(os.pidfd_open(pid))
        except ProcessLookupError:
            return False
    else:  # not Linux: see whether we were handed to another parent
        step = min(step, 0.5)
    due = 0.0
    while os.getppid() == pid:
        if time.monotonic() >= due:
            due = time.monotonic() + pulse.every
            with contextlib.suppress(ServerUnavailable):
                if not pulse.beat():
                    # The server lost its data; new objects are to have a living owner.
                    lease, record = about["lease"], about["record"]
                    processes.register(client, uid, "running", ttl, lease, **record)
        ready = select.select(sources, [], [], step)[0]
        if stdin in ready:
            if os.read(stdin, len(_BYE)) == _BYE:
                return True
            sources.remove(stdin)  # closed without a word, as a killed program leaves it
        elif ready:
            return False
    return False
