"""The floor: the least that the same work costs from Python over Redis.

A bare socket, commands packed before the clock starts, one recv per reply, and
Lua scripts with nothing in them but the job: first come, first served, and a
fence that never repeats and is checked at release. No reconnection, no repeated
requests, no dead holders, no time-outs, one client per process. What we do
beyond that is the price of surviving failure, and the ratio to this is how we
know what it is.
"""

from __future__ import annotations

import array
import hashlib
import os
import pickle
import socket
import struct
from collections.abc import Callable

from lithops_mp._store.settings import Settings


def packed(*words: str | bytes | int) -> bytes:
    """A command as it travels."""
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in raw)


class Wire:
    """A socket to the server; one request at a time."""

    def __init__(self, settings: Settings) -> None:
        self._socket = self._connect(settings)
        self._send = self._socket.sendall
        self._recv = self._socket.recv
        if settings.password:
            user = (settings.username,) if settings.username else ()
            self.ask(packed("AUTH", *user, settings.password))
        if settings.db:
            self.ask(packed("SELECT", settings.db))

    @staticmethod
    def _connect(settings: Settings) -> socket.socket:
        if settings.ssl or settings.kind == "sentinel":
            raise SystemExit("the floor speaks plain TCP and Unix sockets: give another --redis")
        if settings.kind == "unix":
            wire = socket.socket(socket.AF_UNIX)
            wire.connect(settings.path)
            return wire
        wire = socket.create_connection((settings.host, settings.port))
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire

    def ask(self, packet: bytes) -> bytes:
        """Send one command whose reply is a line (a number, a status); that line."""
        self._send(packet)
        reply = self._recv(4096)
        while reply[-2:] != b"\r\n":
            reply += self._more()
        if reply[:1] == b"-":
            raise RuntimeError(reply.decode())
        return reply

    def block(self, packet: bytes) -> bytes:
        """Send a BLPOP; the element that came, which is a short word."""
        self._send(packet)
        reply = self._recv(4096)
        while reply.count(b"\r\n") < 5:
            reply += self._more()
        return reply[reply.rindex(b"\r\n", 0, -2) + 2 : -2]

    def lines(self, packet: bytes, count: int) -> bytes:
        """Send a command whose reply is so many lines, none of which has a line's end in it."""
        self._send(packet)
        reply = self._recv(4096)
        while reply.count(b"\r\n") < count:
            reply += self._more()
        return reply

    def take(self, packet: bytes) -> bytes | bytearray:
        """Send a BLPOP; the element that came, of any size."""
        self._send(packet)
        reply = self._recv(65536)
        while reply.count(b"\r\n") < 4:
            reply += self._more()
        at = reply.index(b"\r\n", reply.index(b"\r\n", reply.index(b"\r\n") + 2) + 2) + 3
        end = reply.index(b"\r\n", at)
        size, start = int(reply[at:end]), end + 2
        if len(reply) == start + size + 2:
            return reply[start:-2]
        body = bytearray(size + 2)
        body[: len(reply) - start] = reply[start:]
        view = memoryview(body)[len(reply) - start :]
        while view:
            view = view[self._socket.recv_into(view) :]
        return body[:-2]

    def ask_all(self, packet: bytes, lines: int, size: int) -> list[bytes]:
        """Send a command whose reply is so many lines and so many bytes; both."""
        self._send(packet)
        reply = self._recv(4096)
        while reply.count(b"\r\n") <= lines or len(reply.split(b"\r\n", lines)[-1]) < size + 2:
            reply += self._more()
        *found, rest = reply.split(b"\r\n", lines)
        return [*found, rest[:size]]

    def value(self, packet: bytes) -> bytes | memoryview:
        """Send a command whose reply is one value, of any size; the value."""
        self._send(packet)
        reply = self._recv(65536)
        while b"\r\n" not in reply:
            reply += self._more()
        head, _, start = reply.partition(b"\r\n")
        body = bytearray(int(head[1:]) + 2)
        body[: len(start)] = start
        view = memoryview(body)[len(start) :]
        while view:
            view = view[self._socket.recv_into(view) :]
        return memoryview(body)[:-2]

    def take_some(self, packet: bytes) -> list[bytes]:
        """Send an LPOP with a count; the elements that came, none of which has a line's end."""
        self._send(packet)
        reply = self._recv(65536)
        while not reply.endswith(b"\r\n") or reply.count(b"\r\n") < 1 + 2 * max(
            0, int(reply[1 : reply.index(b"\r\n")])
        ):
            reply += self._more()
        return reply.split(b"\r\n")[2::2]

    def _more(self) -> bytes:
        chunk: bytes = self._recv(4096)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        return chunk

    def load(self, source: str) -> str:
        """Load a script; its SHA."""
        self._send(packed("SCRIPT", "LOAD", source))
        reply = b""
        while reply.count(b"\r\n") < 2:
            reply += self._more()
        sha = hashlib.sha1(source.encode()).hexdigest()
        if sha.encode() not in reply:
            raise RuntimeError(reply.decode())
        return sha


# KEYS: state (hash: o holder, f fence), line (list of clients). Mailboxes are
# named after the state, as ours are.
_ACQUIRE = """
if redis.call('HSETNX', KEYS[1], 'o', ARGV[1]) == 1 then
  return redis.call('HINCRBY', KEYS[1], 'f', 1)
end
redis.call('RPUSH', KEYS[2], ARGV[1])
return 0
"""
_RELEASE = """
if redis.call('HGET', KEYS[1], 'f') ~= ARGV[1] then return redis.error_reply('stale fence') end
local next = redis.call('LPOP', KEYS[2])
if not next then return redis.call('HDEL', KEYS[1], 'o') end
redis.call('HSET', KEYS[1], 'o', next)
redis.call('RPUSH', KEYS[1] .. ':' .. next, redis.call('HINCRBY', KEYS[1], 'f', 1))
return 1
"""


class Lock:
    """A fenced first-come-first-served lock: one round trip each way, and a wake-up."""

    def __init__(self, wire: Wire, name: str) -> None:
        me = self.me = os.urandom(8).hex()
        keys = (f"{{{name}}}", f"{{{name}}}:line")
        self._wire = wire
        self._fence = b""
        self._take = packed("EVALSHA", wire.load(_ACQUIRE), 2, *keys, me)
        self._wait = packed("BLPOP", f"{{{name}}}:{me}", 0)
        give = packed("EVALSHA", wire.load(_RELEASE), 2, *keys, "FENCE")
        self._give = give.removesuffix(b"$5\r\nFENCE\r\n")

    def acquire(self) -> None:
        """Take the lock, in the order of asking."""
        fence = self._wire.ask(self._take)[1:-2]
        self._fence = fence if fence != b"0" else self._wire.block(self._wait)

    def release(self) -> None:
        """Give it to whoever waited longest."""
        fence = self._fence
        self._wire.ask(b"%b$%d\r\n%b\r\n" % (self._give, len(fence), fence))

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *args: object) -> None:
        self.release()


_P = """
if tonumber(redis.call('GET', KEYS[1])) > 0 then return redis.call('DECR', KEYS[1]) end
redis.call('RPUSH', KEYS[2], ARGV[1])
return -1
"""
_V = """
local next = redis.call('LPOP', KEYS[2])
if next then return redis.call('RPUSH', KEYS[1] .. ':' .. next, 1) end
return redis.call('INCR', KEYS[1])
"""


class Semaphore:
    """A first-come-first-served semaphore."""

    def __init__(self, wire: Wire, name: str, value: int) -> None:
        me = os.urandom(8).hex()
        keys = (f"{{{name}}}", f"{{{name}}}:line")
        self._wire = wire
        wire.ask(packed("SET", keys[0], value))
        self._take = packed("EVALSHA", wire.load(_P), 2, *keys, me)
        self._wait = packed("BLPOP", f"{{{name}}}:{me}", 0)
        self._give = packed("EVALSHA", wire.load(_V), 2, *keys)

    def acquire(self) -> None:
        """Take a unit, in the order of asking."""
        if self._wire.ask(self._take)[1:2] == b"-":
            self._wire.block(self._wait)

    def release(self) -> None:
        """Give a unit to whoever waited longest."""
        self._wire.ask(self._give)


class Queue:
    """Messages in batches of 32, both ways; a consumer that finds nothing waits for one."""

    BATCH = 32
    #: Larger ones go alone: there is nothing to be saved, and they are not split at line ends.
    LARGE = 10_000

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire = wire
        self._name = name
        self._out: list[bytes] = []
        self._in: list[bytes] = []
        self._push = packed("RPUSH", name, "").removesuffix(b"$0\r\n\r\n")
        self._some = packed("LPOP", name, self.BATCH)
        self._one = packed("BLPOP", name, 0)

    def put(self, obj: object) -> None:
        """Put an object; None ends a batch."""
        message = pickle.dumps(obj)
        if len(message) >= self.LARGE:
            self._wire.ask(b"%b$%d\r\n%b\r\n" % (self._push, len(message), message))
            return
        self._out.append(message)
        if obj is None or len(self._out) == self.BATCH:
            self._wire.ask(packed("RPUSH", self._name, *self._out))
            self._out = []

    def send(self, obj: object) -> None:
        """Put an object at once."""
        message = pickle.dumps(obj)
        self._wire.ask(b"%b$%d\r\n%b\r\n" % (self._push, len(message), message))

    def get(self) -> object:
        """The next object, and some more for the next time if they are small."""
        if not self._in:
            self._in = self._wire.take_some(self._some)[::-1]
        return pickle.loads(self._in.pop()) if self._in else self.receive()

    def receive(self) -> object:
        """The next object; nothing else."""
        return pickle.loads(self._wire.take(self._one))


class End:
    """One end of a pipe: two lists, and a BLPOP that loses what a broken connection held."""

    def __init__(self, wire: Wire, name: str, end: int) -> None:
        self._wire = wire
        self._push = packed("RPUSH", f"{name}:{1 - end}", "").removesuffix(b"$0\r\n\r\n")
        self._wait = packed("BLPOP", f"{name}:{end}", 0)

    def send(self, message: bytes) -> None:
        """Send bytes."""
        head = b"%b$%d\r\n" % (self._push, len(message))
        self._wire.ask(b"".join((head, message, b"\r\n")))

    def recv(self) -> bytes | bytearray:
        """Receive bytes."""
        return self._wire.take(self._wait)


_ENTER = """
if redis.call('HSETNX', KEYS[1], 'o', ARGV[1]) == 1 then
  return {redis.call('HINCRBY', KEYS[1], 'f', 1), redis.call('GETRANGE', KEYS[3], 0, -1)}
end
redis.call('RPUSH', KEYS[2], ARGV[1])
return {0, ''}
"""
_LEAVE = """
if redis.call('HGET', KEYS[1], 'f') ~= ARGV[1] then return redis.error_reply('stale fence') end
redis.call('SETRANGE', KEYS[3], 0, ARGV[2])
local next = redis.call('LPOP', KEYS[2])
if not next then return redis.call('HDEL', KEYS[1], 'o') end
redis.call('HSET', KEYS[1], 'o', next)
redis.call('RPUSH', KEYS[1] .. ':' .. next, redis.call('HINCRBY', KEYS[1], 'f', 1))
return 1
"""


class Value:
    """An integer under a lock nobody else wants: what takes the lock brings it, what gives
    the lock back writes it. And one without."""

    def __init__(self, wire: Wire, name: str) -> None:
        me = os.urandom(8).hex()
        keys = (f"{{{name}}}", f"{{{name}}}:line", f"{{{name}}}:data")
        self._wire = wire
        wire.ask(packed("SET", keys[2], bytes(4)))
        self._take = packed("EVALSHA", wire.load(_ENTER), 3, *keys, me)
        give = packed("EVALSHA", wire.load(_LEAVE), 3, *keys, "FENCE", "DATA")
        self._give = give.removesuffix(b"$5\r\nFENCE\r\n$4\r\nDATA\r\n")
        self._read = packed("GETRANGE", keys[2], 0, 3)
        self._write = packed("SETRANGE", keys[2], 0, "").removesuffix(b"$0\r\n\r\n")

    def increment(self) -> None:
        """Add one, under the lock."""
        reply = self._wire.ask_all(self._take, 3, 4)
        fence, data = reply[1][1:], reply[3]
        (value,) = _INT.unpack(data)
        give = b"%b$%d\r\n%b\r\n$4\r\n%b\r\n"
        self._wire.ask(give % (self._give, len(fence), fence, _INT.pack(value + 1)))

    def get(self) -> int:
        """The value, without the lock."""
        value: int = _INT.unpack(self._wire.ask_all(self._read, 1, 4)[1])[0]
        return value

    def set(self, value: int) -> None:
        """Set it, without the lock."""
        self._wire.ask(b"%b$4\r\n%b\r\n" % (self._write, _INT.pack(value)))


_INT = struct.Struct("i")


class Array:
    """Doubles in a string."""

    def __init__(self, wire: Wire, name: str, size: int) -> None:
        self._wire = wire
        self.name = name
        self.size = size
        wire.ask(packed("SETRANGE", name, size * 8 - 1, b"\0"))
        self._get = packed("GETRANGE", name, 0, -1)

    def read(self) -> list[float]:
        """All of them."""
        found = array.array("d")
        found.frombytes(self._wire.value(self._get))
        return found.tolist()

    def write(self, values: list[float]) -> None:
        """All of them."""
        self._wire.ask(packed("SET", self.name, array.array("d", values).tobytes()))

    def drop(self) -> None:
        """Delete it."""
        self._wire.ask(packed("DEL", self.name))


_REST = """
if redis.call('HGET', KEYS[1], 'f') ~= ARGV[1] then return redis.error_reply('stale fence') end
redis.call('RPUSH', KEYS[3], ARGV[2])
local next = redis.call('LPOP', KEYS[2])
if not next then return redis.call('HDEL', KEYS[1], 'o') end
redis.call('HSET', KEYS[1], 'o', next)
redis.call('RPUSH', KEYS[1] .. ':' .. next, redis.call('HINCRBY', KEYS[1], 'f', 1))
return 1
"""
_NOTIFY = """
local first = redis.call('LPOP', KEYS[2])
if first then redis.call('RPUSH', KEYS[1], first) end
return 1
"""


class Condition(Lock):
    """A lock, and who waits for word: that puts one in the lock's line, to be woken once."""

    def __init__(self, wire: Wire, name: str) -> None:
        super().__init__(wire, name)
        keys = (f"{{{name}}}", f"{{{name}}}:line", f"{{{name}}}:area")
        rest = packed("EVALSHA", wire.load(_REST), 3, *keys, "FENCE", "ME")
        self._rest = rest.removesuffix(b"$5\r\nFENCE\r\n$2\r\nME\r\n")
        self._me = b"$%d\r\n%b\r\n" % (len(self.me), self.me.encode())
        self._notify = packed("EVALSHA", wire.load(_NOTIFY), 2, *keys[1:])

    def wait(self) -> None:
        """Let the lock go, and have it again after a notify."""
        fence = self._fence
        self._wire.ask(b"%b$%d\r\n%b\r\n%b" % (self._rest, len(fence), fence, self._me))
        self._fence = self._wire.block(self._wait)

    def notify(self) -> None:
        """Wake one."""
        self._wire.ask(self._notify)


_LOOK = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
return redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1][1]
"""
_RAISE = """
redis.call('SET', KEYS[1], 1)
return redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 's', 1)
"""


class Event:
    """A flag, and a stream that everybody reads who waits for it."""

    def __init__(self, wire: Wire, name: str) -> None:
        keys = (f"{{{name}}}", f"{{{name}}}:stream")
        self._wire = wire
        self._stream = keys[1]
        wire.lines(packed("XADD", keys[1], "MAXLEN", 1, "*", "s", 1), 2)
        self._is = packed("EVALSHA", wire.load("return redis.call('EXISTS', KEYS[1])"), 1, keys[0])
        self._look = packed("EVALSHA", wire.load(_LOOK), 2, *keys)
        self._set = packed("EVALSHA", wire.load(_RAISE), 2, *keys)
        self._clear = packed("DEL", keys[0])

    def is_set(self) -> bool:
        """Is the flag up?"""
        return self._wire.ask(self._is) == b":1\r\n"

    def wait(self) -> None:
        """Wait for the flag."""
        self._wire._send(self._look)
        reply = self._wire._recv(4096)
        if reply != b":0\r\n":
            last = reply.split(b"\r\n")[1]
            read = packed("XREAD", "BLOCK", 0, "STREAMS", self._stream, last)
            self._wire.lines(read, 13)

    def set(self) -> None:
        """Raise the flag."""
        self._wire.lines(self._set, 2)

    def clear(self) -> None:
        """Lower it."""
        self._wire.ask(self._clear)


_ARRIVE = """
if redis.call('LLEN', KEYS[1]) < tonumber(ARGV[2]) - 1 then
  redis.call('RPUSH', KEYS[1], ARGV[1])
  return 0
end
for _, one in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  redis.call('RPUSH', KEYS[1] .. ':' .. one, 1)
end
redis.call('DEL', KEYS[1])
return 1
"""


class Barrier:
    """Whoever comes last wakes the others."""

    def __init__(self, wire: Wire, name: str, parties: int) -> None:
        me = os.urandom(8).hex()
        self._wire = wire
        self._come = packed("EVALSHA", wire.load(_ARRIVE), 1, f"{{{name}}}", me, parties)
        self._wait = packed("BLPOP", f"{{{name}}}:{me}", 0)

    def wait(self) -> None:
        """Wait for all."""
        if self._wire.ask(self._come) == b":0\r\n":
            self._wire.block(self._wait)


def script_call(wire: Wire, source: str) -> Callable[[], object]:
    """A script without keys or arguments, ready to be called."""
    packet = packed("EVALSHA", wire.load(source), 0)
    return lambda: wire.ask(packet)
