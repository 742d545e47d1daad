"""One client: a thread's connection and its identity in every object's state.

It drives redis-py's own ``Connection`` with prepacked commands: redis-py's
client layer costs several times the round trip itself, its ``Connection`` does
not (``bench/`` measures both).

Every script call carries (client, sequence number), and a script that has
answered a number gives the same answer again. So when a connection breaks the
very same bytes are sent on a new one: redis-py's own retries stay off.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

from redis.exceptions import (
    ConnectionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from .commands import Block, Call, Command, Watch
from .scripts import Argument, Bound, Script, command
from .settings import Settings, translate

Reply = list[Any]
T = TypeVar("T")

# A blocked call never asks the server for more than BLOCK_LIMIT at once, so a
# connection that is silent for SILENCE is broken (a half-open TCP connection
# gives no other sign).
BLOCK_LIMIT = 5.0
SILENCE = 20.0

# How long a lost server is looked for before giving up. A restart or fail-over
# takes a few seconds; an embedded server never comes back.
RECONNECT = 20.0
RECONNECT_EMBEDDED = 1.0

# How often a script is loaded for one call.
LOADS = 100

_BROKEN = (ConnectionError, TimeoutError, ReadOnlyError)


class Client:
    """A connection and the name its requests carry. Not for two threads at once."""

    def __init__(self, settings: Settings, ident: str) -> None:
        self.settings = settings
        self.id = ident
        self.round_trips = 0
        self._seq = 0
        self._connection = self._open()

    clock = staticmethod(time.monotonic)

    def _open(self) -> Any:
        return self.settings.connection(socket_timeout=SILENCE)

    def tick(self) -> int:
        """A new sequence number."""
        self._seq += 1
        return self._seq

    # -- single commands --

    def call(self, bound: Bound, args: tuple[Argument, ...]) -> Reply:
        """Run a script; its reply. Raises ServerUnavailable when the server is lost."""
        packet = bound.pack(args)
        try:
            try:
                return self._exchange(packet)
            except NoScriptError:
                return self._load_and_repeat(bound.script, packet)
        except _BROKEN as error:
            return self._persist([packet], [bound.script], error)[0]
        except RedisError as error:
            raise translate(error, self.settings) from error

    def calls(self, batch: list[tuple[Bound, tuple[Argument, ...]]]) -> list[Reply]:
        """Run several scripts in one round trip. Each is atomic, not the batch."""
        if not batch:
            return []
        packets = [bound.pack(args) for bound, args in batch]
        scripts = [bound.script for bound, _ in batch]
        try:
            return self._exchange_all(packets, scripts)
        except _BROKEN as error:
            return self._persist(packets, scripts, error)
        except RedisError as error:
            raise translate(error, self.settings) from error

    def plain(self, *words: Argument) -> Any:
        """Run an ordinary command that may be repeated (reads, whole writes)."""
        packet = command(*words)
        try:
            try:
                return self._exchange(packet)
            except _BROKEN as error:
                return self._persist([packet], [], error)[0]
        except RedisError as error:
            raise translate(error, self.settings) from error

    def block(self, mailbox: str, seconds: float) -> Reply | None:
        """Wait for a hint; None if none came or the connection broke."""
        seconds = max(0.001, min(seconds, BLOCK_LIMIT))
        try:
            reply = self._exchange(command("BLPOP", mailbox, f"{seconds:.3f}"))
        except _BROKEN:
            self._connection.disconnect()
            return None
        except RedisError as error:
            raise translate(error, self.settings) from error
        return None if reply is None else reply[1].split(b"\x1f")

    def watch(self, stream: str, last: str, seconds: float) -> bool:
        """Wait for an entry after ``last``; False if none came or the connection broke."""
        milliseconds = max(1, int(min(seconds, BLOCK_LIMIT) * 1000))
        try:
            return bool(self.read(stream, last, milliseconds))
        except _BROKEN:
            self._connection.disconnect()
            return False
        except RedisError as error:
            raise translate(error, self.settings) from error

    def read(self, stream: str, last: str, milliseconds: int, count: int = 1) -> Any:
        """Stream entries after ``last``, as redis answers them; None if there are none."""
        words = ("XREAD", "COUNT", count, "BLOCK", milliseconds, "STREAMS", stream, last)
        return self._exchange(command(*words))

    def messages(self, stream: str, last: str, milliseconds: int) -> list[Any]:
        """Entries after ``last``, waiting for the first; none at a lost connection."""
        try:
            found = self.read(stream, last, milliseconds, count=128)
        except _BROKEN:
            self._connection.disconnect()
            self.plain("PING")  # come back, or raise ServerUnavailable
            return []
        except RedisError as error:
            raise translate(error, self.settings) from error
        return list(found[0][1]) if found else []

    # -- protocols --

    def execute(self, step: Command) -> Any:
        """Carry out one step of a protocol."""
        if type(step) is Call:
            return self.call(step.bound, step.args)
        if type(step) is Block:
            return self.block(step.mailbox, step.seconds)
        assert type(step) is Watch
        return self.watch(step.stream, step.last, step.seconds)

    def run(self, protocol: Generator[Command, Any, T]) -> T:
        """Run a protocol to its end.

        An exception on the way, a KeyboardInterrupt too, is thrown into the
        protocol, which may still clean up (withdraw a ticket) before it passes
        it on.
        """
        step: Command | None = None
        reply = None
        caught: BaseException | None = None
        while True:
            # A signal may raise between any two steps of this loop, too.
            try:
                while True:
                    if caught is None:
                        step = protocol.send(reply)
                    else:
                        error, caught = caught, None
                        step = protocol.throw(error)
                    reply = self.execute(step)
            except StopIteration as stop:
                result: T = stop.value
                return result
            except BaseException as error:
                if protocol.gi_frame is None:  # type: ignore[attr-defined]  # it has ended
                    raise
                caught = error

    # -- the wire --

    def _exchange(self, packet: bytes) -> Any:
        connection = self._connection
        self.round_trips += 1
        try:
            connection.send_packed_command((packet,), check_health=False)
            return connection.read_response(disable_decoding=True)
        except ResponseError:
            raise
        except BaseException:
            # An answer may be on its way that the next request must not get.
            connection.disconnect()
            raise

    def _exchange_all(self, packets: list[bytes], scripts: list[Script]) -> list[Any]:
        connection = self._connection
        self.round_trips += 1
        replies: list[Any] = []
        failed: ResponseError | None = None
        try:
            connection.send_packed_command((b"".join(packets),), check_health=False)
            for _ in packets:
                try:
                    replies.append(connection.read_response(disable_decoding=True))
                except NoScriptError as error:
                    replies.append(error)
                except ResponseError as error:
                    failed = error
        except BaseException:
            connection.disconnect()
            raise
        if failed:
            raise failed
        for i, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                replies[i] = self._load_and_repeat(scripts[i], packets[i])
        return replies

    def _load_and_repeat(self, script: Script, packet: bytes) -> Any:
        # Somebody's SCRIPT FLUSH may come in between, but not for ever.
        for _ in range(LOADS):
            self._exchange(command("SCRIPT", "LOAD", script.source))
            try:
                return self._exchange(packet)
            except NoScriptError as error:
                lost = error
        raise lost

    def _persist(
        self, packets: list[bytes], scripts: list[Script], error: RedisError
    ) -> list[Any]:
        """Send the same requests again on new connections until answered or out of time."""
        limit = RECONNECT_EMBEDDED if self.settings.embedded else RECONNECT
        deadline = time.monotonic() + limit
        pause = 0.01
        while True:
            self._connection.disconnect()
            self._connection = self._open()
            try:
                return self._exchange_all(packets, scripts)
            except _BROKEN as again:
                error = again
            except RedisError as other:
                raise translate(other, self.settings) from other
            if time.monotonic() > deadline:
                raise translate(error, self.settings) from error
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    # -- one command whose answer is read later (a supervisor's orders) --

    def send(self, packet: bytes) -> None:
        """Send a command that may be repeated; a broken connection is opened again."""
        try:
            self._connection.send_packed_command((packet,), check_health=False)
        except _BROKEN as error:
            self._persist([command("PING")], [], error)
            self._connection.send_packed_command((packet,), check_health=False)

    def fileno(self) -> int:
        """The socket to wait on; -1 while there is none."""
        sock = getattr(self._connection, "_sock", None)
        return -1 if sock is None else int(sock.fileno())

    def receive(self) -> Any:
        """The answer to :meth:`send`, or None if the connection broke."""
        try:
            return self._connection.read_response(disable_decoding=True)
        except _BROKEN:
            self._connection.disconnect()
            return None

    def close(self) -> None:
        """Close the connection; the next call would open it again."""
        self._connection.disconnect()
