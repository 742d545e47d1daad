"""The kinds of objects and what is common to them: creation, references, burial.

An object is its state hash and a few keys beside it, all named after it
(``keys``). It lives as long as a process refers to it: a sorted set at the
object says who does, and a set at each process says to what, so that whoever
finds a process ended can let go in its name. A handle that is pickled is pinned
for a while, until the process that unpickles it refers to it itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgpack

from . import keys
from .scripts import REGISTRY, Argument, Bound, script


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
    def peer(self) -> str:
        """The other end, of an end of a pipe; otherwise the object itself."""
        pipe, _, end = self.ident.partition("/")
        return f"{pipe}/{1 - int(end)}" if self.family == "pipe" else self.ident

    def on(self, name: str, **given: str) -> Bound:
        """A script, bound to those of the object's keys that its header names.

        ``given``: those that are a client's, not the object's alone.
        """
        found = script(name)
        return found.on(*(given[s] if s in given else _KEYS[s](self) for s in found.keys))


# What the slots of the scripts' headers stand for.
_KEYS: dict[str, Callable[[Ref], str]] = {
    "state": lambda ref: keys.state(ref.ident),
    "refs": lambda ref: keys.refs(ref.ident),
    "waiters": lambda ref: keys.waiters(ref.ident),
    "stream": lambda ref: keys.stream(ref.ident),
    "items": lambda ref: keys.items(ref.ident),
    "parked": lambda ref: keys.parked(ref.ident),
    "blobs": lambda ref: keys.blobs(ref.ident),
    "tasks": lambda ref: keys.items(ref.ident),
    "results": lambda ref: keys.parked(ref.ident),
    "peer": lambda ref: keys.state(ref.peer),
    "readers": lambda ref: keys.waiters(ref.peer),
    "bell": lambda ref: keys.stream(ref.peer),
    "entries": lambda ref: keys.items(ref.ident),
    "order": lambda ref: keys.waiters(ref.ident),
    "objects": lambda ref: keys.parked(ref.ident),
    "trash": lambda ref: keys.stream(ref.ident),
}

Step = tuple[Bound, tuple[Argument, ...]]


# Where some have scripts in common.
_SHARED = {"pipe": "queue", "dict": "store", "list": "store"}


def own(ref: Ref, operation: str) -> str:
    """The name of the family's own script, of one that it shares, or of all objects'."""
    for folder in (ref.family, _SHARED.get(ref.family)):
        if f"{folder}/{operation}" in REGISTRY:
            return f"{folder}/{operation}"
    return f"object/{operation}"


# What is kept in Redis is that of another family.
_FORMATS = {"pipe": "queue"}


def create(ref: Ref, ttl: int, process: str, fields: dict[str, Argument], *more: Argument) -> Step:
    """Write an object's first state; the busiest of its fields come first.

    ``more`` is what the family's own script takes beyond that.
    """
    fmt = f"{_FORMATS.get(ref.family, ref.family)}/1"
    packed: bytes = msgpack.packb([word for field in fields.items() for word in field])
    return ref.on(own(ref, "create")), (fmt, ttl, process, packed, *more)


def bind(ref: Ref, ttl: int, process: str, fields: dict[str, Argument], owner: str) -> Step:
    """Make a queue whose name others may want, too."""
    _, args = create(ref, ttl, process, fields)
    return ref.on("queue/bind"), (*args, owner)


def unbind(ref: Ref, process: str, owner: str) -> tuple[Step, str]:
    """Let go of such a queue; the last one's answer has what lay there.

    And the key that keeps that answer, until it is deleted.
    """
    answer = keys.answer(ref.ident, process, owner.partition(" ")[2])
    return (ref.on("queue/unbind", answer=answer), (process, owner)), answer


def note(ref: Ref, process: str, ttl: int) -> Step:
    """Put an object on a process's own list, before it refers to it."""
    return script("process/note").on(keys.objects(process)), (str(ref), ttl)


def refer(ref: Ref, member: str, pin_ms: int = 0, arrived: str = "") -> Step:
    """Note a reference (``pin_ms`` 0) or a pin; or that a pinned handle has arrived."""
    return ref.on("object/ref"), (member, pin_ms, arrived)


def drop(ref: Ref, process: str, *, ended: bool) -> Step:
    """Let go of an object; the last one deletes it."""
    return ref.on(own(ref, "unref")), (process, int(ended))


def renew(ref: Ref) -> Step:
    """Keep an object that a living process refers to; the answer has what it holds."""
    return ref.on("object/renew"), ()


def delete(ref: Ref) -> Step:
    """Delete an object, whoever refers to it."""
    return ref.on("object/delete"), ()


def held(reply: list[bytes], start: int = 1) -> list[tuple[str, Ref]]:
    """What a dict or list holds or held, from an answer: pins, and the objects they are for."""
    if reply[0] == b"VERSION":
        return []
    words = [word.decode() for word in reply[start:]]
    return list(zip(words[::2], map(Ref.parse, words[1::2]), strict=True))


def free(replies: Iterable[list[bytes]]) -> list[Step]:
    """Let go of what was held by objects that these answers are about."""
    return [drop(ref, pin, ended=False) for reply in replies for pin, ref in held(reply)]


def bury(ref: Ref, process: str, died: str, seen: bytes = b"") -> Step | None:
    """Release what a process that ended held; ``died`` is empty for a normal exit.

    ``seen``: what the process's ledger says (``ledger``), if somebody has it.
    """
    name = own(ref, "bury")
    if name not in REGISTRY:
        return None
    given: dict[str, Argument] = {"process": process, "died": died, "seen": seen}
    return ref.on(name), tuple(given[slot] for slot in REGISTRY[name].args)
