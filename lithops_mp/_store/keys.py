"""Names of everything we keep in Redis, in one place.

``lmp:{tag}...``: the braces are Redis Cluster's hash tag, so all keys of one
object are in one slot. A condition's tag is its lock's. ``lua/README.md`` says
what each key holds.
"""

from __future__ import annotations

import hashlib
import secrets


def new_id() -> str:
    """A name nobody else has: 64 random bits, without '.' and ':'."""
    return secrets.token_hex(8)


def digest(text: str) -> str:
    """A short name for a text."""
    return hashlib.sha1(text.encode()).hexdigest()[:12]


def state(ident: str) -> str:
    """State of an object. The ident of a lock's condition or region is ``lock/name``, that of
    a pipe's end ``pipe/end``."""
    whole, _, part = ident.partition("/")
    return f"lmp:{{{whole}}}:c{part}" if part else f"lmp:{{{whole}}}"


def waiters(ident: str) -> str:
    """Who waits, first come first (a barrier's parties, too); the order of a dict's keys."""
    return state(ident) + ":w"


def refs(ident: str) -> str:
    """Who refers to an object."""
    return state(ident) + ":r"


def stream(ident: str) -> str:
    """What those block on who watch an object and are not in line; a dict's or list's trash."""
    return state(ident) + ":s"


def items(ident: str) -> str:
    """What is in an object: messages, tasks, entries, elements; the bytes of a region."""
    return state(ident) + ":q"


def parked(ident: str) -> str:
    """Puts that wait for room in a queue; results of a pool; what keys of a dict were."""
    return state(ident) + ":p"


def blobs(ident: str) -> str:
    """Which messages, tasks, results or elements of an object have keys of their own."""
    return state(ident) + ":b"


def blob(ident: str, name: str, piece: int) -> str:
    """One piece of such a message, or of a pool's function."""
    return f"{blobs(ident)}:{name}:{piece}"


def mailbox(ident: str, client: str) -> str:
    """Where a client's hints about an object arrive; for its readers, what has changed."""
    return f"{state(ident)}:m:{client}"


def answer(ident: str, process: str, request: str) -> str:
    """What lay at an address when a process gave it up."""
    return f"{state(ident)}:a:{process}:{request}"


def process(uid: str) -> str:
    """Record of a process."""
    return f"lmp:{{p{uid}}}"


def objects(uid: str) -> str:
    """What a process refers to: ``family ident`` members."""
    return process(uid) + ":objects"


def control(uid: str) -> str:
    """Orders for the supervisor of a process: a stream."""
    return process(uid) + ":control"


def spec(uid: str) -> str:
    """What a process is to run, in pieces."""
    return process(uid) + ":spec"


def children(uid: str) -> str:
    """The processes a process has started."""
    return process(uid) + ":children"


def inbox(uid: str) -> str:
    """What the supervisors of its children tell a process."""
    return process(uid) + ":inbox"


def seen(uid: str) -> str:
    """The last message of each sender in an inbox."""
    return process(uid) + ":seen"


def idle(program: str, runtime: str) -> str:
    """A program's idle functions of one runtime."""
    return f"{process(program)}:idle:{runtime}"


def runtimes(program: str) -> str:
    """The runtimes whose functions have offered themselves to a program."""
    return process(program) + ":runtimes"
