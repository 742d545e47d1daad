"""A real server as a pure function: ``run(state, packet) -> (reply, state)``.

A state is everything the server holds. Running a command on a state puts the
server there first (DUMP and RESTORE of the keys that differ), so the explorer
may go back to any state it has seen. What was run once is remembered: scripts
are functions of the state, so the same command on the same state is asked of
the server only once, however many schedules lead there.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from redis.exceptions import ResponseError

from lithops_mp._store.scripts import REGISTRY, command

#: Everything about every key. Test code only: it computes keys.
SNAPSHOT = """
local read = {
  hash = function(k) return redis.call('HGETALL', k) end,
  zset = function(k) return redis.call('ZRANGE', k, 0, -1, 'WITHSCORES') end,
  list = function(k) return redis.call('LRANGE', k, 0, -1) end,
  set = function(k) return redis.call('SMEMBERS', k) end,
  stream = function(k) return redis.call('XRANGE', k, '-', '+') end,
  string = function(k) return redis.call('GET', k) end,
}
local all = {}
for i, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  all[i] = {key, kind, redis.call('PTTL', key), redis.call('DUMP', key), read[kind](key)}
end
return all
"""
SNAPSHOT_SHA = hashlib.sha1(SNAPSHOT.encode()).hexdigest()
LOOK = command("EVALSHA", SNAPSHOT_SHA, 0)

#: Keys are kept alive while the explorer is elsewhere; that they have a TTL at
#: all is remembered.
LONG_MS = 3_600_000


#: What is published is gone for who looks at states. Here it is put in the mailbox of
#: the client that listens, which reads it there.
KEEP = """local function hint_kept(mailbox, hint)
  redis.call('RPUSH', mailbox, hint)
  redis.call('PEXPIRE', mailbox, 60000)
end
"""


def kept(source: str) -> str:
    """A script whose hints can all be looked at."""
    published = "redis.pcall('PUBLISH', 'lmp:' .. "
    # And a reader may take as long as it takes to explore what it can do.
    source = source.replace("READING_MS = 60000", "READING_MS = 60000000")
    return KEEP + source.replace(published, "hint_kept(state .. ':m:' .. ")


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _readable(kind: str, raw: Any) -> Any:
    """A key's value as plain text, hashable once frozen by :func:`_frozen`."""
    if kind == "hash":
        # A queue's state has msgpack in it, and so have a dict's elements.
        found = {name.decode(): value.decode("latin-1") for name, value in _pairs(raw)}
        if "open" in found:  # how long they may read depends on the clock
            found["open"] = re.sub(r"(\S+ \d+) \d+", r"\1", found["open"])
        return found
    if kind == "zset":
        return tuple((member.decode(), float(score)) for member, score in _pairs(raw))
    if kind == "stream":
        return tuple(entry[0].decode() for entry in raw)
    if kind == "string":
        return raw.decode("latin-1")
    members = [member.decode("latin-1") for member in raw]
    return tuple(sorted(members) if kind == "set" else members)


def _frozen(value: Any) -> Any:
    return frozenset(value.items()) if isinstance(value, dict) else value


class State:
    """What the server holds: ``content`` for people, ``dumps`` to go back to it.

    States with the same content are the same object.
    """

    __slots__ = ("content", "dumps", "memory")

    def __init__(self, content: dict[str, Any], dumps: dict[str, tuple[bytes, bool]]) -> None:
        self.content = content
        self.dumps = dumps
        # command -> (reply, next state)
        self.memory: dict[bytes, tuple[Any, State]] = {}

    @property
    def immortal(self) -> list[str]:
        """Keys without a TTL: there must be none."""
        return [key for key, (_, mortal) in self.dumps.items() if not mortal]

    def hash(self, key: str) -> dict[str, str]:
        return self.content.get(key, {})

    def zset(self, key: str) -> list[str]:
        return [member for member, _ in self.content.get(key, ())]

    def line(self, key: str) -> list[str]:
        """The tickets in a line, whether they listen ("~") or not."""
        return [ticket.lstrip("~") for ticket in self.list(key)]

    def list(self, key: str) -> list[str]:
        return [*self.content.get(key, ())]

    def has(self, key: str) -> bool:
        return key in self.content


class Machine:
    """The server. ``planted`` maps a script's name to the source that replaces it."""

    def __init__(self, connection: Any, planted: dict[str, str] | None = None) -> None:
        self._connection = connection
        self._shas: dict[bytes, bytes] = {}
        self._known: dict[Any, State] = {}
        self.trips = 0
        self._send(command("FLUSHALL"), command("SCRIPT", "LOAD", SNAPSHOT))
        planted = planted or {}
        for name, script in REGISTRY.items():
            source = kept(planted.get(name, script.source))
            (sha,) = self._send(command("SCRIPT", "LOAD", source))
            if sha != script.sha.encode():
                self._shas[script.sha.encode()] = sha
        self.empty = self._here = self._intern([])

    def _send(self, *packets: bytes) -> list[Any]:
        self._connection.send_packed_command((b"".join(packets),), check_health=False)
        # All of them, whatever one is: the next request must not get what is left.
        replies: list[Any] = []
        for _ in packets:
            try:
                replies.append(self._connection.read_response(disable_decoding=True))
            except ResponseError as error:
                replies.append(error)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    def run(self, state: State, packet: bytes) -> tuple[Any, State]:
        """The reply to a command in a state, and the state it leads to."""
        known = state.memory.get(packet)
        if known is None:
            known = state.memory[packet] = self._execute(state, packet)
        return known

    def _execute(self, state: State, packet: bytes) -> tuple[Any, State]:
        self.trips += 1
        moves = self._way_to(state)
        for sha, planted in self._shas.items():
            packet = packet.replace(sha, planted)
        *_, reply, snapshot = self._send(*moves, packet, LOOK)
        self._here = self._intern(snapshot)
        return reply, self._here

    def _way_to(self, state: State) -> list[bytes]:
        here, there = self._here.dumps, state.dumps
        gone = [key for key in here if key not in there]
        moves = [command("DEL", *gone)] if gone else []
        for key, (dump, mortal) in there.items():
            if key not in here or here[key][0] != dump:
                ttl = LONG_MS if mortal else 0
                moves.append(command("RESTORE", key, ttl, dump, "REPLACE"))
        return moves

    def _intern(self, snapshot: list[Any]) -> State:
        content, dumps = {}, {}
        for key, kind, ttl, dump, raw in snapshot:
            name = key.decode()
            content[name] = _readable(kind.decode(), raw)
            dumps[name] = dump, ttl > 0
        mark = frozenset((key, _frozen(value)) for key, value in content.items())
        mark = (mark, frozenset(key for key, (_, mortal) in dumps.items() if not mortal))
        state = self._known.get(mark)
        if state is None:
            state = self._known[mark] = State(content, dumps)
        else:
            # The same content may be stored in another order: what the server
            # holds now is as good, and saves a restore.
            state.dumps = dumps
        return state
