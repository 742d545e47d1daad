"""The kinds of objects and what is common to them: creation, references, burial.

An object is its state hash and a few keys beside it, all named after it
(``keys``). It lives as long as a process refers to it: a sorted set at the
object says who does, and a set at each process says to what, so that whoever
finds a process ended can let go in its name. A handle that is pickled is pinned
for a while, until the process that unpickles it refers to it itself.
"""

from __future__ import annotations

from typing import NamedTuple

import msgpack

from . import keys
from .scripts import REGISTRY, Argument, Bound, script

# How long a pickled handle keeps its object when nobody else refers to it.
PIN_MS = 120_000


class Ref(NamedTuple):
    """An object's name: its family and its id."""

    family: str
    ident: str

    def __str__(self) -> str:
        return f"{self.family} {self.ident}"

    @classmethod
    def parse(cls, text: str) -> Ref:
        """The inverse of ``str``."""
        family, _, ident = text.partition(" ")
        return cls(family, ident)

    @property
    def all_keys(self) -> tuple[str, str, str, str]:
        """State, references, waiters and stream."""
        i = self.ident
        return keys.state(i), keys.refs(i), keys.waiters(i), keys.stream(i)


Step = tuple[Bound, tuple[Argument, ...]]


def create(ref: Ref, ttl: int, process: str, fields: dict[str, Argument]) -> Step:
    """Write an object's first state; the busiest of its fields come first."""
    fmt = f"{ref.family}/1"
    packed: bytes = msgpack.packb([word for field in fields.items() for word in field])
    return script("object/create").on(*ref.all_keys[:2]), (fmt, ttl, process, packed)


def note(ref: Ref, process: str, ttl: int) -> Step:
    """Put an object on a process's own list, before it refers to it."""
    return script("process/note").on(keys.objects(process)), (str(ref), ttl)


def refer(ref: Ref, member: str, pin_ms: int = 0) -> Step:
    """Note a reference (``pin_ms`` 0) or a pin."""
    return script("object/ref").on(*ref.all_keys), (member, pin_ms)


def drop(ref: Ref, process: str, *, ended: bool) -> Step:
    """Let go of an object; the last one deletes it."""
    return script("object/unref").on(*ref.all_keys), (process, int(ended))


def renew(ref: Ref) -> Step:
    """Keep an object that a living process refers to."""
    return script("object/renew").on(*ref.all_keys), ()


def bury(ref: Ref, process: str, died: str) -> Step | None:
    """Release what a process that ended held; ``died`` is empty for a normal exit."""
    found = REGISTRY.get(f"{ref.family}/bury")
    if found is None:
        return None
    return found.on(keys.state(ref.ident), keys.waiters(ref.ident)), (process, died)
