"""Real servers for tests: any binary, with any configuration, until the block ends."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lithops_mp._store.server import server_binaries
from lithops_mp._store.settings import Settings

T = TypeVar("T")

#: Become a server that dies with the thread that started it, since a test run
#: that hangs is ended without any clean-up (``faulthandler_exit_on_timeout``).
_LAUNCH = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

#: More binaries to test with, separated as in PATH.
BINARIES_VARIABLE = "LITHOPS_MP_TEST_SERVERS"

#: How long evidence may take to appear. Reaching it is a failure, so it is
#: generous: CI machines stall.
PATIENCE = 30.0


def eventually(
    evidence: Callable[[], T], what: str | Callable[[], str], patience: float = PATIENCE
) -> T:
    """Look for evidence until there is some; its value. ``what`` says what was missing."""
    deadline = time.monotonic() + patience
    while True:
        found = evidence()
        if found:
            return found
        if time.monotonic() > deadline:
            missing = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {patience} s in vain: {missing}")
        time.sleep(0.005)


def written(fd: int) -> str:
    """What a test with ``capfd`` has written to a file descriptor; it stays there.

    To be looked at while others write: ``readouterr`` reads the file and then empties it,
    and what is written in between is lost.
    """
    return os.pread(fd, 1 << 20, 0).decode()


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self").exists()  # no procfs here, or gone just now


def all_server_binaries() -> list[str]:
    """Every engine of this machine, the embedded one's first, each once."""
    extra = filter(None, os.environ.get(BINARIES_VARIABLE, "").split(os.pathsep))
    found: dict[str, str] = {}
    for binary in (*server_binaries(), *extra):
        found.setdefault(os.path.realpath(binary), binary)
    return list(found.values())


def free_port() -> int:
    """A free port of the loopback interface, with a free one 10,000 above for a cluster's bus.

    Both are below those the system gives to connections, so nothing takes them
    before the server does.
    """
    while True:
        port = random.randrange(11000, 22000)
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10000))
            return port


class Server:
    """A server under test. ``settings`` reaches it as its first user would."""

    def __init__(self, settings: Settings, process: subprocess.Popen[bytes], log: Path) -> None:
        self.settings = settings
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def command(self, *words: str | bytes | int) -> Any:
        """One command on a connection of its own."""
        connection = self.settings.connection()
        try:
            connection.send_command(*words)
            return connection.read_response()
        finally:
            connection.disconnect()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the server did not start:\n{self.log.read_text()}")
        try:
            return bool(self.command("PING"))
        except (ConnectionError, *_redis_connection_errors()):
            return False


def _redis_connection_errors() -> tuple[type[Exception], ...]:
    import redis

    return (redis.ConnectionError, redis.TimeoutError)


@contextlib.contextmanager
def running(
    binary: str | None = None,
    *,
    tcp: bool = False,
    password: str | None = "test password, with a space",
    config: Mapping[str, str | int] | None = None,
    arguments: tuple[str, ...] = (),
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Server]:
    """Start a server on a Unix socket, or on a loopback port; kill it at the end.

    It ends with the calling thread at the latest, on Linux.

    ``config`` adds to its configuration file, ``arguments`` to its command line,
    ``settings`` replaces fields of the settings that reach it.
    """
    with tempfile.TemporaryDirectory(prefix="lmp-test-") as directory:
        values: dict[str, Any] = {"password": password, "source": "the test", "db": 0}
        lines: dict[str, str | int] = {"save": '""', "appendonly": "no", "dir": directory}
        if tcp:
            values.update(kind="tcp", host="127.0.0.1", port=free_port())
            lines.update(port=values["port"], bind="127.0.0.1")
        else:
            values.update(kind="unix", path=os.path.join(directory, "s"))
            lines.update(port=0, unixsocket=values["path"])
        if password is not None:
            lines["requirepass"] = f'"{password}"'
        lines.update(config or {})
        values.update(settings or {})
        conf = Path(directory, "conf")
        conf.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
        log = Path(directory, "log")
        command = [binary or all_server_binaries()[0], str(conf), *arguments]
        if sys.platform.startswith("linux"):
            command = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *command]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(Settings(**values), process, log)
        try:
            eventually(server._answers, "an answer of the server")
            yield server
        finally:
            server.kill()
