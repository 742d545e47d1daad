"""The floor: the least that the same work costs from Python over Redis.

A bare socket, commands packed before the clock starts, one recv per reply, and
Lua scripts with nothing in them but the job: first come, first served, and a
fence that never repeats and is checked at release. No reconnection, no repeated
requests, no dead holders, no time-outs, one client per process. What we do
beyond that is the price of surviving failure, and the ratio to this is how we
know what it is.
"""

from __future__ import annotations

import hashlib
import os
import socket
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
        me = os.urandom(8).hex()
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


class Event:
    """A flag to look at."""

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire = wire
        self._look = packed("EVALSHA", wire.load("return redis.call('EXISTS', KEYS[1])"), 1, name)

    def is_set(self) -> bool:
        """Is the flag up?"""
        return self._wire.ask(self._look) == b":1\r\n"


def script_call(wire: Wire, source: str) -> Callable[[], object]:
    """A script without keys or arguments, ready to be called."""
    packet = packed("EVALSHA", wire.load(source), 0)
    return lambda: wire.ask(packet)
