"""One end of such a pipe, with its two sides."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from .. import queueing
from .._store.families import Ref
from .._store.session import current
from ..channel import End
from .library import dispose, inherited
from .pump import running
from .reader import Reader
from .writer import Writer


class Line(End):
    """One end of such a pipe, as this process sees it."""

    users = 0
    reader: Reader
    writer: Writer

    def __init__(self, ref: Ref, room: int, secret: bytes) -> None:
        super().__init__(ref, room)
        self.single = True
        self.secret = secret
        self.find_own = ref.on("pipe/find")
        self.find_target = self.target.ref.on("pipe/find")
        self.read = ref.on("pipe/read")
        self.ack = ref.on("pipe/ack")

    def itself(self) -> Line:
        """Not a proxy."""
        return self

    @classmethod
    def pair(cls, room: int) -> tuple[Line, Line]:
        """Two ends of a new pipe, with a key of their own."""
        session = current()
        pipe, secret = session.new_id(), secrets.token_bytes(32)
        given = queueing.fields(room=room)
        first, second = (session.create(cls.family, given, f"{pipe}/{end}") for end in (0, 1))
        return cls(first, room, secret), cls(second, room, secret)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        found, args = super().__reduce__()
        return found, (*args, self.secret)

    def forget(self) -> None:
        """Hold nothing: what a new or a forked process starts with."""
        super().forget()
        if "reader" in vars(self):
            if self.reader.pull:
                self.reader.pull.close()  # our copies of its descriptors
            if self.writer.push is not None:
                # The parent's: nobody may touch it here.
                dispose(self.writer.push, call=False)
                inherited.append(self.writer.push)
        self.reader = Reader(self)
        self.writer = Writer(self)

    def release(self, *, soon: bool = False) -> None:
        """A connection is closed, or was collected (``soon``: nothing is sent then)."""
        self.users -= 1
        if self.users:
            return
        if soon:
            if found := running():
                found.retire(self)
        else:
            self.retire()

    def retire(self) -> None:
        """Nobody uses this end here any more: leave nothing behind."""
        if found := running():
            found.remove(self)
        try:
            self.writer.close()
        finally:
            self.reader.close()
        # It may come back: a handle that arrives yields this one.
        self.reader, self.writer = Reader(self), Writer(self)
        peer = self._live.get(Ref(self.ref.family, self.ref.peer))
        if isinstance(peer, Line):
            peer.writer.lost = True  # it is to hear of it at once
