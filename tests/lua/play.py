"""One script call as a value, and playing a few of them on a server.

Keys and arguments go by the names in the scripts' headers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from explore.machine import Machine, State

from lithops_mp import pooling, queueing, storing
from lithops_mp._store import families, keys
from lithops_mp._store.families import Ref
from lithops_mp._store.scripts import REGISTRY, script

TTL = 10_000_000

LOCK, COND, EVENT, BARRIER, REGION = "L", "L/C", "E", "B", "L/M"
QUEUE, POOL = Ref("queue", "Q"), Ref("pool", "O")
DICT, LIST = Ref("dict", "D"), Ref("list", "N")
#: The two ends of a pipe.
HERE, THERE = Ref("pipe", "P/0"), Ref("pipe", "P/1")

_OBJECT = {
    family: {
        "state": keys.state(ident),
        "waiters": keys.waiters(ident),
        "refs": keys.refs(ident),
        "stream": keys.stream(ident),
        "items": keys.items(ident),
        "parked": keys.parked(ident),
        "blobs": keys.blobs(ident),
    }
    for family, ident in (
        *(("sem", LOCK), ("cond", COND), ("event", EVENT), ("barrier", BARRIER)),
        ("mem", REGION),
    )
}
#: Key names in headers -> keys, by family, or by script if it has names of its own.
KEYS: dict[str, dict[str, str]] = {
    **_OBJECT,
    "object": _OBJECT["event"],
    "cond": {**_OBJECT["cond"], "lock": keys.state(LOCK), "line": keys.waiters(LOCK)},
    "mem": {**_OBJECT["mem"], "guard": keys.state(LOCK)},
    "mem/release": _OBJECT["sem"],
    "process": {
        "record": keys.process("A"),
        "program": keys.process("A"),
        "objects": keys.objects("A"),
        "children": keys.children("A"),
        "control": keys.control("A"),
        "inbox": keys.inbox("A"),
        "seen": keys.seen("A"),
        "idle": keys.idle("A", "py"),
        "runtimes": keys.runtimes("A"),
        "list": keys.idle("A", "py") + ":f1",
    },
}


def number(seq: int) -> str:
    """A sequence number in the width the scripts compare."""
    return f"{seq:012d}"


class Run(NamedTuple):
    """A call of a script with named arguments, on ``ref`` or on its family's object."""

    name: str
    args: dict[str, Any]
    ref: Ref | None = None

    @property
    def packet(self) -> bytes:
        found, family = script(self.name), self.name.partition("/")[0]
        args = dict(self.args)
        if "seq" in args:
            args["seq"] = number(args["seq"])
        if self.ref:
            own = {"mailbox": keys.mailbox(self.ref.ident, args.get("client", ""))}
            if "owner" in args:
                request = args["owner"].partition(" ")[2]
                own["answer"] = keys.answer(self.ref.ident, args["process"], request)
            bound = self.ref.on(self.name, **own)
        else:
            known = dict(KEYS.get(self.name) or KEYS[family])
            if "client" in args:
                known["mailbox"] = keys.mailbox(LOCK, args["client"])
            where = [known[key] for key in found.keys if key in known]
            if found.keys[-1:] == ("regions*",):
                where += keys.state(REGION), keys.items(REGION)
            bound = found.on(*where)
        return bound.pack(tuple(args[arg] for arg in found.args))


def run(name: str, **args: Any) -> Run:
    return Run(name, args)


def text(reply: Any) -> str:
    """A reply as words, numbers included, with spaces between; arrays in brackets."""
    words = reply if isinstance(reply, list) else [reply]
    return " ".join(map(_word, words))


def _word(word: Any) -> str:
    if isinstance(word, list):
        return f"[{text(word)}]"
    return word.decode("latin-1") if isinstance(word, bytes) else str(word)


def made(ident: str, family: str, *more: Any, **fields: Any) -> bytes:
    """The packet that creates an object, as ``lithops_mp.synchronize`` does."""
    bound, args = families.create(Ref(family, ident), TTL, "main", fields, *more)
    return bound.pack(args)


def lock(kind: str = "lock", value: int = 1, policy: str = "warn") -> list[bytes]:
    fields = {"value": value, "owner": "", "fence": 0}
    return [made(LOCK, "sem", **fields, kind=kind, policy=policy)]


def condition() -> list[bytes]:
    return [*lock("rlock"), made(COND, "cond")]


def event() -> list[bytes]:
    return [made(EVENT, "event", flag=0, last="0-0")]


def barrier(parties: int = 2) -> list[bytes]:
    return [made(BARRIER, "barrier", parties=parties, phase="filling", actor="", n=0)]


def region(data: bytes = b"", size: int = 8) -> list[bytes]:
    return [*lock("rlock"), made(REGION, "mem", size, data, size=size, version=1)]


def queue(bound: int = 0, room: int = 0, **options: bool) -> list[bytes]:
    return [made(QUEUE.ident, QUEUE.family, **queueing.fields(bound, room, **options))]


def pool(size: int = 2, retries: int = 1) -> list[bytes]:
    return [made(POOL.ident, POOL.family, **pooling.fields(size, retries, "main"))]


def pipe(room: int = 0) -> list[bytes]:
    return [made(end.ident, end.family, **queueing.fields(room=room)) for end in (HERE, THERE)]


def dictionary(**entries: str) -> list[bytes | Run]:
    """A dict of texts."""
    made: list[bytes | Run] = [_made(DICT, storing.dict_fields())]
    for number, (key, text) in enumerate(entries.items()):
        made.append(enter("main.0", number, key, f"s{text}"))
    return made


def sequence(*elements: str) -> list[bytes | Run]:
    """A list of texts."""
    made: list[bytes | Run] = [_made(LIST, storing.list_fields())]
    for number, text in enumerate(elements):
        args = {"client": "main.0", "seq": number, "more": b"", "element": f"s{text}"}
        made.append(Run("list/push", args, LIST))
    return made


def enter(client: str, seq: int, key: str, element: str | bytes, **more: Any) -> Run:
    """Enter an element under a text."""
    args = {"client": client, "seq": seq, "others": b"", "object": b"", "key": f"s{key}"}
    args["element"] = element
    return Run(
        "dict/set", {**args, **{name.rstrip("_"): word for name, word in more.items()}}, DICT
    )


def _made(ref: Ref, fields: dict[str, Any]) -> bytes:
    return made(ref.ident, ref.family, **fields)


def play(machine: Machine, *calls: bytes | Run, state: State | None = None) -> tuple[str, State]:
    """The last call's reply, and the state after it."""
    reply, now = "", state or machine.empty
    for call in calls:
        raw, now = machine.run(now, call if isinstance(call, bytes) else call.packet)
        reply = text(raw)
    return reply, now


class Case(NamedTuple):
    """After ``before``, the call answers ``reply`` (``*`` stands for any rest).

    ``again``: what the same request answers the second time; it changes nothing.
    None if the script is not meant to be repeated.
    """

    reply: str
    call: Run
    before: list[bytes | Run]
    again: str | None = "same"

    @property
    def name(self) -> str:
        return f"{self.call.name} {self.reply}"


def matches(reply: str, pattern: str) -> bool:
    start, star, _ = pattern.partition("*")
    return reply.startswith(start) if star else reply == pattern


def check(machine: Machine, case: Case) -> None:
    """The case's answer; asked again nothing changes; every key expires."""
    _, before = play(machine, *case.before)
    reply, after = play(machine, case.call, state=before)
    assert matches(reply, case.reply), reply
    assert not after.immortal, "a key has no TTL"
    if case.reply == "STALE":
        assert after is before
    if case.again is not None:
        second, still = play(machine, case.call, state=after)
        assert second == (reply if case.again == "same" else case.again)
        assert still.content == after.content


def unproduced(prefix: str | tuple[str, ...], cases: list[Case]) -> set[str]:
    """Reply words in the headers of a family that no case produces.

    VERSION is test_object.py's.
    """
    declared = {
        f"{name} {word}"
        for name, found in REGISTRY.items()
        if name.startswith(prefix)
        for word in found.replies
    }
    words = [(case.call.name, word) for case in cases for word in case.reply.strip("*").split()]
    produced = {f"{name} {word}" for name, word in words}
    return {name for name in declared - produced if not name.endswith(" VERSION")}
