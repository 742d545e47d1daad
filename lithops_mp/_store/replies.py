"""What the scripts answer, as exceptions: the one table of it.

Outcomes (ACQUIRED, QUEUED, ...) are read by the protocols. Everything else a
script may say is an error, and becomes one here.
"""

from __future__ import annotations

from typing import Any

from .._version import __version__
from ..errors import LockLost, ObjectExpired, VersionMismatch


def fault(reply: list[Any] | bytes, what: str) -> Exception:
    """The exception for a reply about ``what`` that is not an outcome."""
    words = reply if isinstance(reply, list) else [reply]
    word = words[0].decode()
    if word in ("GONE", "VANISHED"):
        return ObjectExpired(
            f"the state of this {what} is gone from Redis: it was not used for "
            "REDIS_EXPIRY_TIME seconds, was evicted, its manager was shut down, or the server was "
            "restarted empty; "
            "create it anew"
        )
    if word == "VERSION":
        return VersionMismatch(
            f"the state of this {what} has format {words[1].decode()!r}, which lithops_mp "
            f"{__version__} does not read: run the same version everywhere"
        )
    if word == "LOST":
        return LockLost(
            f"this process stood still for longer than its lease, so its {what} was given to "
            "the next in line; what it did since is not protected"
        )
    if word == "NOT_OWNER":
        if what == "condition":
            return AssertionError(
                "the lock of this condition is not held any more: somebody else released it; "
                "acquire it again before wait() or notify()"
            )
        return AssertionError("attempt to release recursive lock not owned by thread")
    if word == "TOO_MANY":
        return ValueError("semaphore or lock released too many times")
    return RuntimeError(f"unexpected reply {reply!r}")
