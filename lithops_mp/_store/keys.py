"""Names of everything we keep in Redis, in one place.

``lmp:{tag}...``: the braces are Redis Cluster's hash tag, so all keys of one
object are in one slot. A condition's tag is its lock's. ``lua/README.md`` says
what each key holds.
"""

from __future__ import annotations

import secrets


def new_id() -> str:
    """A name nobody else has: 64 random bits, without '.' and ':'."""
    return secrets.token_hex(8)


def state(ident: str) -> str:
    """State of an object. A condition's ident is ``lock/condition``."""
    lock, _, condition = ident.partition("/")
    return f"lmp:{{{lock}}}:c{condition}" if condition else f"lmp:{{{lock}}}"


def waiters(ident: str) -> str:
    """Waiting area of an object."""
    return state(ident) + ":w"


def refs(ident: str) -> str:
    """Who refers to an object."""
    return state(ident) + ":r"


def stream(ident: str) -> str:
    """What an Event's waiters block on."""
    return state(ident) + ":s"


def mailbox(ident: str, client: str) -> str:
    """Where a client's hints about an object arrive."""
    return f"{state(ident)}:m:{client}"


def process(uid: str) -> str:
    """Record of a process."""
    return f"lmp:{{p{uid}}}"


def objects(uid: str) -> str:
    """What a process refers to: ``family ident`` members."""
    return process(uid) + ":objects"
