"""Programs under test: this process as one, or processes of their own."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from multiprocessing import util
from pathlib import Path
from typing import Any

import lithops_mp as mp
from lithops_mp import config, functions, listening, protocols
from lithops_mp._store import keys, session
from lithops_mp._store.client import Client
from lithops_mp._store.settings import URL_VARIABLE, Settings

from .servers import PATIENCE, Server, alive, eventually

#: The waiters' safety interval in tests.
SAFETY = 0.2


def url_of(settings: Settings) -> str:
    """A URL that reaches the server of a test."""
    password = (settings.password or "").replace(" ", "%20")
    if settings.kind == "unix":
        return f"unix://:{password}@{settings.path}"
    return f"redis://:{password}@{settings.host}:{settings.port}"


@contextlib.contextmanager
def program(url: str | None, *, begin: bool = True, **parameters: Any) -> Iterator[Any]:
    """Make this process a main program of its own, at some server, until the block ends.

    What it was before, it is again afterwards. It has a session at once, or, without
    ``begin``, at first use.
    """
    before = session._current, config.snapshot(), listening.Listener._mine
    executors, safety = functions.Functions._mine, protocols.SAFETY
    session._current = listening.Listener._mine = None
    functions.Functions._mine = {}
    config.reset()
    config.update({config.REDIS_URL: url, **parameters})
    protocols.SAFETY = SAFETY
    try:
        yield session.current() if begin else None
    finally:
        for found in list(functions.Functions._mine.values()):
            _finalize(found._end)
        if listening.Listener._mine is not None:
            _finalize(listening.Listener._mine.end)
            _silence(listening.Listener._mine)
        gc.collect()
        if session._current is not None:
            _finalize(session._current.end)
        session._current, _, listening.Listener._mine = before
        functions.Functions._mine, protocols.SAFETY = executors, safety
        config.reset()
        config.update(before[1])


def _silence(listener: listening.Listener) -> None:
    """End a listener's thread, which would otherwise last as long as this process."""
    listener.children.clear()
    if listener.client.fileno() >= 0:
        with (
            contextlib.suppress(OSError),
            socket.socket(fileno=os.dup(listener.client.fileno())) as sock,
        ):
            sock.shutdown(socket.SHUT_RDWR)
    for thread in threading.enumerate():
        if getattr(getattr(thread, "_target", None), "__self__", None) is listener:
            thread.join(PATIENCE)
    listener.client.close()


def _finalize(method: Any) -> None:
    """Do now what is to be done when this process exits."""
    for finalizer in list(util._finalizer_registry.values()):
        callback = finalizer._callback
        if getattr(callback, "__self__", None) is method.__self__:
            finalizer()


def fork(target: Callable[[], object]) -> int:
    """Run it in a plain fork; its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            target()
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -- children, and what they say --


class Log:
    """A file that processes write words into, each line at once."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)

    def __call__(self, *words: object) -> None:
        line = json.dumps(words) + "\n"
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, line.encode())
        os.close(fd)

    def lines(self) -> list[list[Any]]:
        """What was written so far."""
        try:
            with open(self.path) as file:
                return [json.loads(line) for line in file if line.endswith("\n")]
        except FileNotFoundError:
            return []

    def find(self, *start: object) -> list[Any] | None:
        """The first line that begins with these words."""
        for line in self.lines():
            if line[: len(start)] == list(start):
                return line
        return None

    def wait(self, *start: object) -> list[Any]:
        """That line, as soon as it is there."""
        return eventually(lambda: self.find(*start), lambda: f"{start} among {self.lines()}")


class Child:
    """A process of ours that has said where it runs."""

    def __init__(self, process: mp.Process, log: Log, about: list[Any]) -> None:
        self.process = process
        self.log = log
        self.uid, self.pid, self.supervisor, self.address = about[2:]

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        eventually(lambda: state_of(self.pid) == "T", "a stopped process")

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def join(self) -> int | None:
        self.process.join(PATIENCE)
        return self.process.exitcode


_count = 0


def start(
    log: Log, target: Callable[..., object], *args: object, daemon: bool | None = None
) -> Child:
    """Start a process that runs ``target(log, *args)``, and wait until it does."""
    global _count
    _count += 1
    name = f"{target.__name__}-{_count}"
    process = mp.Process(target=_child, args=(log, name, target, args), name=name, daemon=daemon)
    process.start()

    def started() -> list[Any] | None:
        assert process.exitcode is None or log.find("started", name), process
        return log.find("started", name)

    return Child(process, log, eventually(started, f"the start of {name}"))


def _child(log: Log, name: str, target: Callable[..., object], args: tuple[object, ...]) -> None:
    protocols.SAFETY = SAFETY
    log("started", name, session.current().uid, os.getpid(), os.getppid(), my_address())
    target(log, *args)


def my_address() -> str:
    """The address of the calling thread's connection, as the server shows it."""
    client = session.current().client
    client.plain("PING")
    return address_of(client)


def address_of(client: Client) -> str:
    """The address of a client, as the server shows it; "" if it has none."""
    if client.fileno() < 0:
        return ""
    with socket.socket(fileno=os.dup(client.fileno())) as sock:
        name = sock.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else ""


def state_of(pid: int) -> str:
    """The state letter of a process (R, S, T ...), "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def gone(*pids: int) -> bool:
    """Whether all these processes are over."""
    return not any(map(alive, pids))


# -- evidence at the server --


class Evidence:
    """What the server knows of objects and clients."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def state(self, handle: Any) -> dict[str, str]:
        """The state hash of a lock, semaphore, event or barrier."""
        flat = self.server.command("HGETALL", keys.state(ident_of(handle)))
        return {k.decode(): v.decode("latin1") for k, v in zip(flat[::2], flat[1::2], strict=True)}

    def line(self, handle: Any) -> list[str]:
        """The processes that wait for it, first come first."""
        key = keys.waiters(ident_of(handle))
        ranked = self.server.command("TYPE", key) == b"zset"  # a barrier's
        tickets = self.server.command("ZRANGE" if ranked else "LRANGE", key, 0, -1)
        # "~": it listens
        return [ticket.decode().lstrip("~").partition(".")[0] for ticket in tickets]

    def owner(self, handle: Any) -> str:
        """The process that holds a lock."""
        return self.state(handle)["owner"].partition(".")[0]

    def length(self, handle: Any) -> int:
        """How many messages lie in a queue, or at one end of a pipe."""
        return int(self.server.command("LLEN", keys.items(ident_of(handle))))

    def parked(self, handle: Any) -> list[str]:
        """The processes whose puts wait for room there, first come first."""
        tickets = self.server.command("LRANGE", keys.parked(ident_of(handle)), 0, -1)
        return [ticket.decode().partition(".")[0] for ticket in tickets]

    def wait_in_line(self, handle: Any, *children: Any) -> None:
        """Wait until these, and only these, are in line, in this order."""
        expected = [child if isinstance(child, str) else child.uid for child in children]
        eventually(lambda: self.line(handle) == expected, f"{expected} in line")

    def clients(self) -> list[dict[str, str]]:
        text = self.server.command("CLIENT", "LIST").decode()
        return [
            dict(word.partition("=")[::2] for word in line.split(" ")) for line in text.splitlines()
        ]

    def is_blocked(self, address: str) -> bool:
        """Whether the client at this address is blocked in a command."""
        return any(c["addr"] == address and "b" in c["flags"] for c in self.clients())

    def wait_blocked(self, *addresses: str) -> None:
        for address in addresses:
            eventually(lambda a=address: self.is_blocked(a), "a blocked client")

    def all_keys(self) -> list[str]:
        return sorted(key.decode() for key in self.server.command("KEYS", "*"))

    def object_keys(self) -> list[str]:
        """The keys of objects; not those of processes."""
        return [key for key in self.all_keys() if not key.startswith("lmp:{p")]

    def wait_empty(self) -> None:
        """Wait until no key is left."""
        eventually(lambda: not self.all_keys(), lambda: f"no key, but there are {self.all_keys()}")


def ident_of(handle: Any) -> str:
    """The name of an object in Redis."""
    for attribute in ("_sleeping_count", "_semlock", "_handle", "_channel"):
        inner = getattr(handle, attribute, None)
        if inner is not None:
            return str(inner.ref.ident)
    raise TypeError(handle)


# -- signals at the right moment --


@contextlib.contextmanager
def meanwhile(action: Callable[[], object]) -> Iterator[None]:
    """Run an action in a thread; its failure is the block's."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            traceback.print_exc()  # the block may wait for what will not come now
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE)
    if failures:
        raise failures[0]
    assert not thread.is_alive(), "what was to happen meanwhile did not end"


def interrupt_main() -> None:
    """Ctrl-C: the signal is delivered to the main thread itself."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


# -- programs of their own --


class Program:
    """A scenario of ``faults.scenarios`` in an interpreter of its own.

    Everything it starts carries a mark in its environment, by which it is found.
    """

    def __init__(
        self, scenario: str, *args: str, url: str | None = None, **parameters: Any
    ) -> None:
        self.mark = f"LMP_TEST_MARK={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        environ = {k: v for k, v in os.environ.items() if k != URL_VARIABLE}
        environ[name] = value
        environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(p) for p in sys.path if p)
        if url:
            environ[URL_VARIABLE] = url
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faults.scenarios", json.dumps(parameters), scenario, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            start_new_session=True,
        )
        self._said = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self) -> Any:
        """The next thing it says."""
        assert self.process.stdout
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._said:
            if not select.select([self.process.stdout], [], [], deadline - time.monotonic())[0]:
                raise AssertionError(f"it says nothing; so far {self._said!r}")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise AssertionError(f"it ended: {self._said!r} {self.errors()}")
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return json.loads(line)

    def tell(self, word: str) -> None:
        """Let it go on."""
        assert self.process.stdin
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()

    def errors(self) -> str:
        """All of its stderr, once it has ended."""
        assert self.process.stderr
        return self.process.stderr.read().decode()

    def end(self) -> int:
        """Wait for its end."""
        return self.process.wait(PATIENCE)

    def family(self) -> dict[int, str]:
        """Every living process that carries the mark: pid -> command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    environ = (entry / "environ").read_bytes().split(b"\0")
                    if self.mark.encode() in environ and alive(int(entry.name)):
                        words = (entry / "cmdline").read_bytes().split(b"\0")
                        found[int(entry.name)] = b" ".join(words).decode("utf-8", "replace")
        return found

    def wait_nothing_left(self) -> None:
        """Wait until none of its processes is left."""
        eventually(
            lambda: not self.family(), lambda: f"nothing left, but there are {self.family()}"
        )

    def one(self, word: str) -> int:
        """The pid of the one process of its family with a word in its command line."""

        def look() -> list[int]:
            return [pid for pid, line in self.family().items() if word in line]

        found = eventually(look, f"a process with {word!r}")
        assert len(found) == 1, found
        return found[0]

    def close(self) -> None:
        """Leave nothing, whatever happened."""
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextlib.contextmanager
def running_program(scenario: str, *args: str, **kwargs: Any) -> Iterator[Program]:
    """A program of its own, of which nothing is left at the end."""
    found = Program(scenario, *args, **kwargs)
    try:
        yield found
    finally:
        found.close()
