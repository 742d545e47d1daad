"""The script registry: what each Lua script takes, answers and is called.

A :class:`Script` knows its keys and arguments from the header in ``lua/``;
:meth:`Script.on` binds it to the keys of one object and checks their number,
:meth:`Bound.pack` does so for the arguments, both before any I/O. What is sent
is packed here: the part of the command that never changes is built once.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import msgpack

from ._lua import SCRIPTS

Argument = str | bytes | int


@functools.lru_cache(maxsize=4096)
def _pack_text(value: str) -> bytes:
    # Client names and the like come again and again.
    raw = value.encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def pack(value: Argument) -> bytes:
    """One value as a RESP bulk string."""
    if isinstance(value, str):
        return _pack_text(value)
    raw = value if isinstance(value, bytes) else b"%d" % value
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def packed(value: object) -> bytes:
    """One argument in msgpack, for Lua, which knows strings, but not msgpack's type of bytes."""
    found: bytes = msgpack.packb(value, use_bin_type=False)
    return found


def command(*words: Argument) -> bytes:
    """A whole command in RESP."""
    return b"*%d\r\n%b" % (len(words), b"".join(map(pack, words)))


# The next command gets no answer.
NO_REPLY = command("CLIENT", "REPLY", "SKIP")


class Script(NamedTuple):
    """One Lua script; see the headers in ``lua/``."""

    name: str
    version: int
    sha: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    replies: tuple[str, ...]
    source: str

    def on(self, *keys: str) -> Bound:
        """This script on the keys of one object. Raises TypeError on a wrong number.

        A last key called ``name*`` stands for any number of them.
        """
        some = self.keys[-1:] and self.keys[-1].endswith("*")
        if len(keys) != len(self.keys) and not (some and len(keys) >= len(self.keys) - 1):
            raise TypeError(f"{self.name} takes the keys {self.keys}, not {len(keys)} of them")
        words = 3 + len(keys) + len(self.args)
        fixed: tuple[Argument, ...] = ("EVALSHA", self.sha, len(keys), *keys)
        head = b"*%d\r\n%b" % (words, b"".join(map(pack, fixed)))
        return Bound(self, head, len(self.args))


class Bound(NamedTuple):
    """A script with its keys, and perhaps its first arguments, ready to be sent."""

    script: Script
    head: bytes
    missing: int

    def given(self, *args: Argument) -> Bound:
        """This script with its first arguments fixed."""
        return Bound(self.script, self.head + b"".join(map(pack, args)), self.missing - len(args))

    def pack(self, args: tuple[Argument, ...]) -> bytes:
        """The command with the other arguments. Raises TypeError on a wrong number."""
        if len(args) != self.missing:
            raise TypeError(
                f"{self.script.name} takes the arguments {self.script.args}, of which "
                f"{self.missing} are missing, not {len(args)}"
            )
        return b"".join((self.head, *map(pack, args)))


REGISTRY = {name: Script(name, *rest) for name, rest in SCRIPTS.items()}


def script(name: str) -> Script:
    """The script called ``family/operation``."""
    return REGISTRY[name]
