"""What a protocol may ask of its driver.

A protocol (``lithops_mp.protocols``) is a generator that yields these and gets
the answers sent back. A client runs them on its connection; the explorer of
interleavings runs the same generators one step at a time.
"""

from __future__ import annotations

from typing import NamedTuple

from .scripts import Argument, Bound


class Call(NamedTuple):
    """Run a script once, however often it has to be sent. Answers its reply.

    With ``late`` it takes back, or completes, what nobody will know the outcome of: if the
    server is lost it is carried out when this client reaches it again, before anything
    else, or when it is there again.
    """

    bound: Bound
    args: tuple[Argument, ...]
    late: bool = False


class Block(NamedTuple):
    """Sleep until a hint arrives. Answers its words, or None after ``seconds``.

    None also stands for a lost connection: the state says what happened.
    """

    mailbox: str
    seconds: float


class Watch(NamedTuple):
    """Sleep until a stream has an entry after ``last``.

    Answers True, or False after ``seconds`` or at a lost connection.
    """

    stream: str
    last: str
    seconds: float


Command = Call | Block | Watch
