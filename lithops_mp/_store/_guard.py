"""The guard of the embedded server: a process that outlives a SIGKILL of the program.

It starts the server, waits until the program or the server is gone, and leaves
nothing behind. It is run as a script, isolated and without site-packages, so
that it is up in milliseconds; it imports nothing of this package.

A plain child would survive the program's SIGKILL, and ``PR_SET_PDEATHSIG`` on a
child of the program would fire when the *thread* that forked it ends. The guard
has one thread, so for the guard's own child that signal is well-defined, and
covers the case that the guard itself is killed (then only the directory stays,
until the program's ``stop()``).

Input, on stdin: pid of the program, path of the server binary, directory to
create, and the server's configuration, each ended by NUL.
Output, on stdout: ``pid N`` and a line feed, once the server process exists;
later, only if it ends by itself, how it ended and the end of its log.
"""

from __future__ import annotations

import os
import select
import signal
import sys

POLL_MS = 500  # how often to look for the program where nothing wakes us
LOG_TAIL = 2000  # bytes of the server's log that go into an error message


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    os.umask(0o077)
    os.chdir("/")
    words = _read_words(4)
    if words is None:
        return
    program, binary, directory = int(words[0]), os.fsdecode(words[1]), os.fsdecode(words[2])
    wake, wake_write = os.pipe()
    for fd in (wake, wake_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for awaited in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(awaited, lambda *_: None)

    # First the pidfd, then the question whether that pid is still our parent: if
    # the program died in between, the pidfd may be some other process's.
    pidfd = _pidfd_open(program)
    if os.getppid() != program:
        return
    os.mkdir(directory)
    try:
        server = _start(binary, words[3], os.path.join(directory, "log"))
        os.write(1, b"pid %d\n" % server)
        _wait(program, pidfd, server, wake, directory)
    finally:
        _remove(directory)


def _read_words(count: int) -> list[bytes] | None:
    """The words from stdin, or None if the program died before it sent them.

    End-of-file does not tell: a fork in another thread of the program may hold
    a copy of the pipe's other end.
    """
    parent, data = os.getppid(), b""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    while data.count(b"\0") < count:
        if poll.poll(POLL_MS):
            chunk = os.read(0, 65536)
            if not chunk:
                return None
            data += chunk
        elif os.getppid() != parent:
            return None
    return data.split(b"\0")


def _pidfd_open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux 5.3, or a sandbox forbids it
        return None


def _start(binary: str, config: bytes, log_path: str) -> int:
    """Fork the server, in a session of its own and bound to our life; its pid.

    The configuration goes through a pipe, because it holds the password. It is
    smaller than any pipe's buffer, so writing it does not wait for the reader.
    """
    config_read, config_write = os.pipe()
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _die_with_parent()
            if os.getppid() != guard:
                os._exit(1)
            os.setsid()
            os.dup2(config_read, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.execv(binary, [binary, "-"])
        except OSError as exc:
            os.write(log, f"{binary}: {exc.strerror}\n".encode())
        finally:
            os._exit(127)
    os.write(config_write, config)
    for fd in (config_read, config_write, log):
        os.close(fd)
    return pid


def _die_with_parent() -> None:
    """Linux only. Elsewhere the server survives if its guard is killed."""
    if sys.platform.startswith("linux"):
        try:
            import ctypes

            ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
        except (ImportError, OSError, AttributeError):
            pass  # an unusual Python or C library; the guard itself still works


def _wait(program: int, pidfd: int | None, server: int, wake: int, directory: str) -> None:
    """Until the program is gone, or SIGTERM, or the server's end; then there is no server."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    if pidfd is not None:
        poll.register(pidfd, select.POLLIN)
    while os.getppid() == program:
        ready = [fd for fd, _ in poll.poll(None if pidfd is not None else POLL_MS)]
        ended, status = os.waitpid(server, os.WNOHANG)
        if ended:
            _report(os.waitstatus_to_exitcode(status), os.path.join(directory, "log"))
            return
        if pidfd in ready or (wake in ready and signal.SIGTERM in os.read(wake, 64)):
            break
    # Nothing is worth saving, so there is nothing to ask the server for.
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)


def _report(code: int, log_path: str) -> None:
    with open(log_path, "rb") as log:
        log.seek(0, os.SEEK_END)
        log.seek(max(0, log.tell() - LOG_TAIL))
        tail = log.read()
    try:  # noqa: SIM105 - to import contextlib takes longer than the rest of the start
        os.write(1, b"exit code %d\n%s" % (code, tail))
    except OSError:
        pass  # nobody listens any more


def _remove(directory: str) -> None:
    try:
        for entry in list(os.scandir(directory)):
            if entry.is_dir(follow_symlinks=False):
                _remove(entry.path)
            else:
                os.unlink(entry.path)
        os.rmdir(directory)
    except OSError:
        pass  # someone else removes it too


if __name__ == "__main__":
    main()
