"""One client: a thread's connection and its identity in every object's state.

It sends prepacked commands over a redis-py ``Connection`` (``wire``): redis-py's
client layer costs several times the round trip itself (``bench/`` measures it).

Every script call carries (client, sequence number), and a script that has
answered a number gives the same answer again. So when a connection breaks the
very same bytes are sent on a new one: redis-py's own retries stay off.
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

from redis.exceptions import (
    ConnectionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from ..errors import ServerUnavailable
from .commands import Block, Call, Command, Watch
from .scripts import NO_REPLY, Argument, Bound, Script, command, pack
from .settings import Settings, translate
from .wire import Busy, Wire

Reply = list[Any]
Buffer = bytes | bytearray | memoryview
T = TypeVar("T")

# Seconds. A blocked call never asks the server for more than BLOCK_LIMIT at once, so a
# connection that is silent for SILENCE is broken (a half-open TCP connection
# gives no other sign).
BLOCK_LIMIT = 5.0
SILENCE = 20.0

# Seconds that a wait listens before it asks again and blocks. Short, since nobody hears of
# a script that is missing; the next wait is as long as any.
EAGER = 0.25

# After somebody has flushed the server's scripts, so many requests that are answered by a
# hint carry the script's text: it may happen again, and each that is lost costs EAGER.
IN_FULL = 100

# A hint is split at most so often: a message in it may have any byte.
HINT_WORDS = 3

# How long a lost server is looked for before giving up. A restart or fail-over
# takes a few seconds; an embedded server never comes back.
RECONNECT = 20.0
RECONNECT_EMBEDDED = 1.0

# How long one that was lost may take to greet us.
BRIEF = 1.0

# Seconds between two tries to send what is owed to a server that was lost.
PAUSE = 1.0

_BROKEN = (ConnectionError, TimeoutError, ReadOnlyError)

_MULTI, _EXEC = command("MULTI"), command("EXEC")


def _in_full(packet: bytes, script: Script) -> bytes:
    """The same call with the script's text in place of its digest, which loads it.

    Loading it apart could go on for ever under somebody's SCRIPT FLUSH.
    """
    length, _, words = packet.partition(b"\r\n")
    _, _, rest = words.partition(pack(script.sha))
    return b"%b\r\n%b%b%b" % (length, pack("EVAL"), pack(script.source), rest)


def _unnoticed(seq: int, count: int) -> None:
    """For clients whose process takes no messages."""


def _unless_missing(wire: Wire) -> Any:
    """A reply; the word NoScriptError if the script is missing: others are behind it.

    Not the exception itself, which would keep our callers' objects by its traceback.
    """
    try:
        return wire.receive()
    except NoScriptError:
        return NoScriptError


def read_streams(streams: Mapping[str, str], milliseconds: int, count: int = 1) -> bytes:
    """The packed command that waits for an entry in one of some streams."""
    head = ("XREAD", "COUNT", count, "BLOCK", milliseconds, "STREAMS")
    return command(*head, *streams.keys(), *streams.values())


def _pay(debtor: weakref.ref[Client]) -> None:
    """Send what a client owes until that succeeds, or it has done so itself.

    Both may send it: then the second copy comes too late, as any copy may.
    """
    while (client := debtor()) and (owed := client._late.copy()):
        wire = Wire(client.settings.connection(socket_timeout=SILENCE), SILENCE, owed.copy())
        del client
        try:
            wire.send(command("PING"))
        except RedisError:
            time.sleep(PAUSE)
            continue
        finally:
            wire.disconnect()
        if client := debtor():
            for packet in owed:
                with contextlib.suppress(ValueError):
                    client._late.remove(packet)


class Woken(Exception):
    """Somebody in this process has something for who waits for the server."""


class Client:
    """A connection and the name its requests carry. Not for two threads at once."""

    def __init__(self, settings: Settings, ident: str) -> None:
        self.settings = settings
        self.id = ident
        #: Notes in the ledger, if there is one, which messages reach the program.
        self.saw: Callable[[int, int], None] = _unnoticed
        self.round_trips = 0
        # Above 0 in the middle of a request: a signal's handler, which runs on
        # the same thread, must take another client then.
        self.busy = 0
        #: A file descriptor that ends a wait for hints, by Woken, when it is ready to be read.
        self.wake: int | None = None
        self._seq = 0
        self._lost = False
        # What is to be carried out when a lost server is there again.
        self._late: list[bytes] = []
        self._payer: threading.Thread | None = None
        # Of each script that answers by hints: how many of its next requests carry its text.
        self._in_full: dict[str, int] = {}
        self._doubt = 1  # the server may never have seen one
        self._ear: Wire | None = None  # where hints are heard of
        self._connection = self._open()

    clock = staticmethod(time.monotonic)

    def _open(self) -> Wire:
        patience = BRIEF if self._lost else SILENCE
        connection = self.settings.connection(socket_timeout=patience)
        return Wire(connection, SILENCE, self._late if self._lost else None)

    def stamp(self) -> bytes:
        """A new sequence number, in the one width that lets scripts compare it as text."""
        self._seq += 1
        return b"%012d" % self._seq

    @property
    def last(self) -> bytes:
        """The last one, as scripts have it."""
        return b"%012d" % self._seq

    def numbered(self, operation: Callable[..., T], *args: Any) -> T:
        """Call ``operation(client, number, *args)``, with a new number.

        A signal's handler that comes meanwhile takes another client, from before the number
        is taken: a greater one that came first would make this one stale.
        """
        self.busy += 1
        try:
            return operation(self, self.stamp(), *args)
        finally:
            self.busy -= 1

    # -- single commands --

    def once(self, bound: Bound, *args: Argument) -> Reply:
        """:meth:`call` of a script that takes our name and a number before anything else."""
        return self.numbered(Client._once, bound, *args)

    def _once(self, seq: bytes, bound: Bound, *args: Argument) -> Reply:
        return self.call(bound, (self.id, seq, *args))

    def call(self, bound: Bound, args: tuple[Argument, ...]) -> Reply:
        """Run a script; its reply. Raises ServerUnavailable when the server is lost."""
        reply: Reply = self.request(bound.script, bound.pack(args))
        return reply

    def request(self, script: Script, packet: bytes, *, soon: bool = True) -> Any:
        """:meth:`call` of a packed script.

        Not ``soon``: it wakes somebody who may need this processor.
        """
        self.round_trips += 1
        self.busy += 1
        try:
            self._connection.send(packet)
            return self._connection.receive(soon=soon)
        except RedisError as error:
            return self._recover(script, packet, error)
        except BaseException:
            # An answer may be on its way that the next request must not get.
            self._connection.disconnect()
            raise
        finally:
            self.busy -= 1

    def _recover(self, script: Script, packet: bytes, error: RedisError) -> Any:
        """The reply to a request that met with an error."""
        try:
            if isinstance(error, NoScriptError):
                return self._reload(packet, script)
        except RedisError as again:
            error = again
        if isinstance(error, _BROKEN):
            return self._persist([packet], [script], error)[0]
        raise translate(error, self.settings) from None

    def hear(self, script: Script, packet: bytes, seq: bytes) -> Reply | None:
        """Run a script that answers by a hint alone, now or later, and listen for that.

        One round trip, and one wake-up, where the script's own reply would be another:
        it is not even sent. The hint's words, or None if
        none came for EAGER seconds, or anything went wrong (nobody hears that a script
        is missing): asking again shows what.
        """
        self.round_trips += 1
        self.busy += 1
        try:
            ear = self._ear or self._subscribe()
            if left := self._in_full.get(script.sha, self._doubt):
                self._in_full[script.sha] = left - 1
                packet = _in_full(packet, script)
            self._connection.send(NO_REPLY + packet)
            while (message := ear.listen()) is not None:
                words: Reply = message.split(b"\x1f", HINT_WORDS)
                if words[0] == seq:  # and not of a wait that was given up
                    return words
            return None
        except RedisError as error:
            self._deaf()
            if isinstance(error, TimeoutError):
                self._break_off(error)
            return None
        except BaseException:
            self._deaf()
            raise
        finally:
            self.busy -= 1

    def _subscribe(self) -> Wire:
        self._ear = self._open()
        self._ear.subscribe(f"lmp:{self.id}", EAGER)
        return self._ear

    def _deaf(self) -> None:
        if self._ear:
            self._ear.disconnect()
        self._ear = None

    def request_more(
        self, script: Script, packet: bytes, more: bytes, count: int
    ) -> tuple[Any, Any]:
        """:meth:`request`, and the answers to ``count`` commands that are sent right behind it.

        None for those if anything went wrong: they might be from before the first one.
        """
        wire = self._connection
        self.round_trips += 1
        self.busy += 1
        try:
            wire.send(packet + more)
            reply, *found = [_unless_missing(wire) for _ in range(1 + count)]
        except RedisError as error:
            wire.disconnect()
            return self._recover(script, packet, error), None
        except BaseException:
            wire.disconnect()
            raise
        finally:
            self.busy -= 1
        if reply is NoScriptError:
            return self._recover(script, packet, NoScriptError()), None
        return reply, None if NoScriptError in found else found

    def calls(
        self, batch: list[tuple[Bound, tuple[Argument, ...]]], *, soon: bool = True
    ) -> list[Reply]:
        """Run several scripts in one round trip. Each is atomic, not the batch.

        ``soon`` as for :meth:`request`.
        """
        if not batch:
            return []
        packets = [bound.pack(args) for bound, args in batch]
        return self._several(packets, [bound.script for bound, _ in batch], soon=soon)

    def together(
        self, batch: list[tuple[Bound, tuple[Argument, ...]]], *, soon: bool = True
    ) -> list[Reply]:
        """:meth:`calls`, in order: none of a script unless those of it before are carried out.

        One that is missing at first may be there for the next call of it, if somebody else
        has loaded it meanwhile. In a transaction nobody does.
        """
        if len(batch) < 2:
            return self.calls(batch, soon=soon)
        packets = [bound.pack(args) for bound, args in batch]
        replies: list[Any] = self._several([_MULTI, *packets, _EXEC], [], soon=soon)[-1]
        for place, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                replies[place] = self.request(batch[place][0].script, packets[place])
            elif isinstance(reply, RedisError):
                raise translate(reply, self.settings) from None
        return replies

    def call_after(
        self, commands: list[tuple[Argument, ...]], bound: Bound, args: tuple[Argument, ...]
    ) -> Reply:
        """Run ordinary commands that may be repeated, and then a script, in one round trip."""
        packets = [*(command(*words) for words in commands), bound.pack(args)]
        reply: Reply = self._several(packets, [bound.script] * len(packets))[-1]
        return reply

    def _several(
        self, packets: list[Any], scripts: list[Script], *, soon: bool = True
    ) -> list[Any]:
        try:
            try:
                return self._exchange_all(packets, scripts, soon=soon)
            except _BROKEN as error:
                return self._persist(packets, scripts, error)
        except RedisError as error:
            raise translate(error, self.settings) from None

    def plain(self, *words: Argument) -> Any:
        """Run an ordinary command that may be repeated (reads, whole writes)."""
        return self.ask(command(*words))

    def ask(self, packet: bytes) -> Any:
        """:meth:`plain` of a packed command."""
        try:
            try:
                return self._exchange(packet)
            except _BROKEN as error:
                return self._persist([packet], [], error)[0]
        except RedisError as error:
            raise translate(error, self.settings) from None

    def plains(self, *commands: tuple[Argument, ...]) -> list[Any]:
        """Run several such commands in one round trip."""
        return self._several([command(*words) for words in commands], [])

    def store(self, key: str, parts: Sequence[Buffer], ttl: int, *, new: bool = False) -> None:
        """Write a value that is in parts, without joining them; ``ttl`` in ms.

        ``new`` leaves one alone that is there already: this very request, sent again.
        """
        size = sum(memoryview(part).nbytes for part in parts)
        head = b"*%d\r\n%b%b$%d\r\n" % (5 + new, pack("SET"), pack(key), size)
        options: tuple[Argument, ...] = ("PX", ttl, "NX") if new else ("PX", ttl)
        tail = b"".join(map(pack, options))
        packet = [head, *parts, b"\r\n" + tail]
        try:
            try:
                self._exchange_all([packet], [])
            except _BROKEN as error:
                self._persist([packet], [], error)
        except RedisError as error:
            raise translate(error, self.settings) from None

    def fetch(self, key: str, into: memoryview) -> bool:
        """Read a value of known size straight into memory. False if it is gone."""
        packet = command("GET", key)
        while True:
            try:
                self.round_trips += 1
                self.busy += 1
                try:
                    self._connection.send(packet)
                    return self._connection.receive_into(into)
                except ResponseError:
                    raise
                except BaseException:
                    self._connection.disconnect()
                    raise
                finally:
                    self.busy -= 1
            except _BROKEN as error:
                self._persist([command("PING")], [], error)
            except RedisError as error:
                raise translate(error, self.settings) from None

    def block(self, mailbox: str, seconds: float) -> Reply | None:
        """Wait for a hint; None if none came or the connection broke."""
        seconds = max(0.001, min(seconds, BLOCK_LIMIT))
        packet = command("BLPOP", mailbox, f"{seconds:.3f}")
        try:
            if self.wake is not None:
                self._connection.send(packet)
                self.round_trips += 1
                if self.wake in select.select([self.fileno(), self.wake], [], [])[0]:
                    self._connection.disconnect()  # an answer may be on its way
                    raise Woken
                reply = self._connection.receive(soon=False)
            else:
                reply = self._exchange(packet, soon=False)
        except _BROKEN as error:
            self._break_off(error)
            return None
        except RedisError as error:
            raise translate(error, self.settings) from None
        return None if reply is None else reply[1].split(b"\x1f", HINT_WORDS)

    def watch(self, stream: str, last: str, seconds: float) -> bool:
        """Wait for an entry after ``last``; False if none came or the connection broke."""
        milliseconds = max(1, int(min(seconds, BLOCK_LIMIT) * 1000))
        try:
            return bool(self.read(stream, last, milliseconds))
        except _BROKEN as error:
            self._break_off(error)
            return False
        except RedisError as error:
            raise translate(error, self.settings) from None

    def watch_any(self, packet: bytes) -> None:
        """Wait as the packet (:func:`read_streams`) says; shorter if the connection breaks."""
        try:
            self._exchange(packet, soon=False)
        except _BROKEN as error:
            self._break_off(error)
        except RedisError as error:
            raise translate(error, self.settings) from None

    def read(self, stream: str, last: str, milliseconds: int, count: int = 1) -> Any:
        """Stream entries after ``last``, as redis answers them; None if there are none."""
        return self._exchange(read_streams({stream: last}, milliseconds, count), soon=False)

    def messages(self, stream: str, last: str, milliseconds: int) -> list[Any]:
        """Entries after ``last``, waiting for the first; none at a lost connection."""
        try:
            found = self.read(stream, last, milliseconds, count=128)
        except _BROKEN as error:
            self._break_off(error)
            self.plain("PING")  # come back, or raise ServerUnavailable
            return []
        except RedisError as error:
            raise translate(error, self.settings) from None
        return list(found[0][1]) if found else []

    # -- protocols --

    def execute(self, step: Command) -> Any:
        """Carry out one step of a protocol."""
        if type(step) is Call:
            try:
                return self.call(step.bound, step.args)
            except ServerUnavailable:
                if step.late:
                    self.owe(step)
                raise
        if type(step) is Block:
            return self.block(step.mailbox, step.seconds)
        assert type(step) is Watch
        return self.watch(step.stream, step.last, step.seconds)

    def owe(self, step: Call) -> None:
        """Carry out a call when the server is there again.

        Before we say anything else; but we may never do so, and others wait for it.
        """
        packet = _in_full(step.bound.pack(step.args), step.bound.script)
        if packet not in self._late:
            self._late.append(packet)
        if self._payer is None or not self._payer.is_alive():
            self._payer = threading.Thread(
                target=_pay, args=(weakref.ref(self),), name=f"owed by {self.id}", daemon=True
            )
            self._payer.start()

    def run(self, protocol: Generator[Command, Any, T]) -> T:
        """Run a protocol to its end.

        An exception on the way, a KeyboardInterrupt too, is thrown into the
        protocol, which may still clean up (withdraw a ticket) before it passes
        it on.
        """
        step: Command | None = None
        reply = None
        caught: BaseException | None = None
        self.busy += 1
        try:
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
        finally:
            self.busy -= 1

    # -- the wire --

    def _exchange(self, packet: bytes, *, soon: bool = True) -> Any:
        connection = self._connection
        self.round_trips += 1
        self.busy += 1
        try:
            connection.send(packet)
            return connection.receive(soon=soon)
        except (ResponseError, *_BROKEN):
            raise
        except BaseException:
            # An answer may be on its way that the next request must not get.
            connection.disconnect()
            raise
        finally:
            self.busy -= 1

    def _exchange_all(
        self, packets: list[Any], scripts: list[Script], *, soon: bool = True
    ) -> list[Any]:
        connection = self._connection
        self.round_trips += 1
        replies: list[Any] = []
        failed: ResponseError | None = None
        self.busy += 1
        try:
            if len(packets) == 1 and isinstance(packets[0], list):
                for part in packets[0]:
                    connection.send(part)
            else:
                connection.send(b"".join(packets))
            for _ in packets:
                try:
                    replies.append(connection.receive(soon=soon))
                except NoScriptError:
                    replies.append(NoScriptError)
                except ResponseError as error:
                    failed = error
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self.busy -= 1
        if failed:
            raise failed
        for i, reply in enumerate(replies):
            if reply is NoScriptError:
                replies[i] = self._reload(packets[i], scripts[i])
        return replies

    def _break_off(self, error: RedisError) -> None:
        """A wait was cut short. Raises ServerUnavailable if the server is silent."""
        self._connection.disconnect()
        if isinstance(error, TimeoutError):
            self._persist([command("PING")], [], error)

    def _reload(self, packet: bytes, script: Script) -> Any:
        """The reply to a request whose script the server does not have."""
        if script.sha in self._in_full:  # it was there
            self._doubt = IN_FULL
            self._in_full.clear()
        return self._exchange(_in_full(packet, script))

    def _persist(self, packets: list[Any], scripts: list[Script], error: RedisError) -> list[Any]:
        """Send the same requests again on new connections until answered or out of time."""
        # A server that was looked for in vain is tried once by each later call; so is one that
        # was silent, for which we have waited long enough.
        self._lost = self._lost and not self._connection.met
        if isinstance(error, TimeoutError):
            if self._lost:
                raise translate(error, self.settings) from None
            self._lost = True
        gone = self.settings.embedded and not isinstance(error, Busy)
        limit = RECONNECT_EMBEDDED if gone else RECONNECT
        deadline = time.monotonic() + (0 if self._lost else limit)
        pause = 0.01
        while True:
            if not isinstance(error, Busy):
                self._connection.disconnect()
                self._connection = self._open()
            try:
                replies = self._exchange_all(packets, scripts)
            except _BROKEN as again:
                error = again
            except RedisError as other:
                raise translate(other, self.settings) from None
            else:
                self._lost = False
                # Or it would keep, by way of its traceback, our callers and what they have.
                del error
                return replies
            if time.monotonic() > deadline:
                self._lost = True
                self._connection.disconnect()
                self._connection = self._open()
                raise translate(error, self.settings) from None
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    # -- one command whose answer is read later (a supervisor's orders) --

    def send(self, packet: bytes) -> None:
        """Send a command that may be repeated; a broken connection is opened again."""
        try:
            self._connection.send(packet)
        except _BROKEN as error:
            self._persist([command("PING")], [], error)
            self._connection.send(packet)

    def fileno(self) -> int:
        """The socket to wait on; -1 while there is none."""
        return self._connection.fileno()

    def receive(self) -> Any:
        """The answer to :meth:`send`, or None if the connection broke."""
        try:
            return self._connection.receive(soon=False)
        except _BROKEN:
            self._connection.disconnect()
            return None

    def close(self) -> None:
        """Close the connection; the next call would open it again."""
        self._deaf()
        self._connection.disconnect()
