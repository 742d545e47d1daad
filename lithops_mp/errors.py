"""Exceptions that are ours alone, where CPython has none to raise.

``lithops_mp.context`` has CPython's own (``ProcessError`` and its children).
Every message says what happened, where the setting or the object came from,
and what to do; none carries a credential.
"""

from __future__ import annotations

from multiprocessing import ProcessError


class ConfigurationError(ProcessError):
    """A setting is missing or cannot be used."""


class ServerUnavailable(ProcessError, ConnectionError):
    """The Redis server does not answer, refuses us, or is too old."""


class ObjectExpired(ProcessError):
    """The state of a shared object is gone from the server.

    It expired (see ``REDIS_EXPIRY_TIME``), was evicted, or the server was
    restarted empty. It never reads as unlocked, zero or empty.
    """


class VersionMismatch(ProcessError):
    """The state of a shared object was written by an incompatible version."""


class LockLost(ProcessError):
    """The lock was given to someone else while we were taken for dead.

    Raised in a process that stood still for longer than its lease: by ``release``, by a
    condition's ``wait`` and ``notify``, and where what it wrote to shared memory under the
    lock is sent (with the release, or before a wait). The server takes none of that.
    """


class ManagerLost(ProcessError, EOFError, ConnectionRefusedError):
    """The process that has a manager's objects is gone: it ended, was killed or shut down."""


class WorkerLost(ProcessError):
    """A pool's task has cost one worker more than ``TASK_RETRIES``, or no worker can begin."""


class OwnerDied(ProcessError):
    """The previous holder died inside its critical section (policy ``raise``)."""


class OwnerDiedWarning(RuntimeWarning):
    """The previous holder died inside its critical section (policy ``warn``)."""


# What our own requests end with when there is nothing left to undo. Anything else that comes
# out of one, another ProcessError too, a signal's handler has raised in the middle of it.
FINAL = (ConfigurationError, ServerUnavailable, ObjectExpired, VersionMismatch, LockLost, OwnerDied)
