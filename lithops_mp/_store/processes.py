"""Records of processes: what a supervisor, a keeper or a parent says about them.

A record is written by whoever starts the process, claimed by the function that
runs it, kept alive by its supervisor's heartbeat, and ended once: by the
supervisor, which knows the exit code, or by whoever finds that the heartbeat
stopped. All functions may be repeated, and run from several places at once.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgpack

from . import families, keys
from .client import Client
from .families import Ref, Step
from .scripts import Argument, script

KILLED = -9

# An ordinary command, which may be repeated.
Words = tuple[Argument, ...]


def register(
    client: Client,
    uid: str,
    state: str,
    ttl: int,
    lease: int,
    name: str,
    about: Mapping[str, Argument],
    *,
    after: list[Words] | None = None,
) -> None:
    """Write a record, ``starting`` or ``running``; ``about`` is for people.

    ``after`` are commands that come first, in the same round trip.
    """
    packed: bytes = msgpack.packb({"name": name, **about})
    bound = script("process/register").on(keys.process(uid))
    client.call_after(after or [], bound, (ttl, state, lease, packed))


class Status(NamedTuple):
    """``word`` is STARTING, RUNNING, FROZEN, LAPSED, ENDED or GONE; of an order also SENT.

    ``value`` is the exit code of an ENDED process, the silence in ms of a LAPSED
    or FROZEN one. Both have lost their locks; somebody still looks after a frozen
    one, so it may come back.
    """

    word: str
    value: int = 0


def status(client: Client, uid: str) -> Status:
    """How a process is, by the server's clock."""
    reply = client.call(script("process/status").on(keys.process(uid)), ())
    word = reply[0].decode()
    if word == "LAPSED":
        return Status("FROZEN" if reply[3] == b"1" else word, int(reply[1]))
    return Status(word, int(reply[1]) if word == "ENDED" else 0)


def sign(uid: str, ttl: int, *, frozen: bool = False) -> Step:
    """A sign of life, or only of being looked after."""
    names = keys.process, keys.objects, keys.children, keys.control, keys.inbox, keys.seen
    bound = script("process/beat").on(*(name(uid) for name in names))
    return bound, (ttl, int(frozen))


def beat(client: Client, uid: str, ttl: int, *, frozen: bool = False) -> bool:
    """Give such a sign. False if the record is gone or says that the process is over."""
    return bool(client.call(*sign(uid, ttl, frozen=frozen))[0] == b"OK")


def renew(client: Client, uid: str, ttl: int) -> None:
    """Keep what a living process refers to, and its children that nobody has claimed yet."""
    _keep(client, _objects(client, uid), ttl)
    children = [child.decode() for child in client.plain("SMEMBERS", keys.children(uid))]
    asked = script("process/status")
    replies = client.calls([(asked.on(keys.process(child)), ()) for child in children])
    for child, reply in zip(children, replies, strict=True):
        if reply[0] == b"STARTING":
            kept = keys.process(child), keys.spec(child), keys.objects(child)
            client.plains(*(("PEXPIRE", key, ttl) for key in kept))
            _keep(client, _objects(client, child), ttl)


def _keep(client: Client, refs: Iterable[Ref], ttl: int) -> None:
    """Renew objects, and what they hold, by the pins that they have on it."""
    seen: set[Ref] = set()
    while refs := set(refs) - seen:
        seen |= refs
        replies = client.calls([families.renew(ref) for ref in refs])
        held = [pair for reply in replies for pair in families.held(reply)]
        client.calls([families.refer(ref, pin, ttl) for pin, ref in held])
        refs = {ref for _, ref in held}


def let_go(client: Client, steps: list[Step]) -> None:
    """Carry out steps after which objects may be gone, and let go of what those held."""
    while steps:
        steps = families.free(client.calls(steps))


def fate(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def finish(client: Client, uid: str, code: int, why: str, seen: bytes = b"") -> int:
    """Write how a process ended; the code that counts, which the first one wrote.

    ``seen`` is what its ledger says, from whoever has that.
    """
    reply = client.call(script("process/finish").on(keys.process(uid)), (code, why, seen))
    return int(reply[1]) if reply[0] == b"ENDED" else code


def order(client: Client, uid: str, word: str, signal: int, ttl: int) -> Status:
    """Tell a supervisor ``signal`` or ``parent`` (it has ended): SENT, ENDED or GONE."""
    bound = script("process/order").on(keys.process(uid), keys.control(uid))
    reply = client.once(bound, word, signal, ttl)
    return Status(reply[0].decode(), int(reply[1]) if len(reply) > 1 else 0)


def tell(
    client: Client,
    to: str,
    kind: str,
    child: str,
    what: int,
    data: bytes,
    ttl: int,
    *,
    after: list[Words] | None = None,
) -> int:
    """Append to an inbox; how many messages wait in it, 0 if its owner is gone.

    ``after`` are commands that come first, in the same round trip.
    """
    bound = script("process/tell").on(keys.inbox(to), keys.seen(to), keys.process(to))

    def say(client: Client, seq: bytes) -> Any:
        return client.call_after(after or [], bound, (client.id, seq, kind, child, what, data, ttl))

    reply = client.numbered(say)
    return int(reply[1]) if reply[0] == b"OK" else 0


def close(client: Client, uid: str, ttl: int, died: str) -> None:
    """:func:`bury` a process, and delete its keys but for its record."""
    client.plain(*bury(client, uid, ttl, died))


def bury(client: Client, uid: str, ttl: int, died: str) -> Words:
    """A process has ended: pass on what it held, let go of all it referred to.

    ``died`` says how, for the next holder of its locks; it is empty after a
    normal exit, which releases no lock. Its children are told. Its record, if there is
    one, must say that it has ended before: then nobody writes to its inbox any more.
    Returns the command that deletes what is left of it, which is to be sent.
    """
    members, seen, children = client.plains(
        ("SMEMBERS", keys.objects(uid)),
        ("HGET", keys.process(uid), "seen"),
        ("SMEMBERS", keys.children(uid)),
    )
    held = [Ref.parse(member.decode()) for member in members]
    burials = [families.bury(ref, uid, died, seen or b"") for ref in held]
    let_go(client, [step for step in burials if step])
    let_go(client, [families.drop(ref, uid, ended=True) for ref in held])
    for child in children:
        found = order(client, child.decode(), "parent", 0, ttl)
        if found.word != "SENT":
            # Described, but not registered: we died on the way. Or it has ended, and
            # its parent, who was told so, will not read that any more.
            why = client.plain("HGET", keys.process(child.decode()), "why") or b""
            close(client, child.decode(), ttl, why.decode() if found.value else "")
            forget(client, child.decode())
    names = (keys.objects, keys.children, keys.control, keys.spec, keys.inbox, keys.seen)
    return "DEL", *(name(uid) for name in names)


def forget(client: Client, uid: str, *more: Words) -> None:
    """Delete a record: nobody will ask for its exit code any more. ``more`` goes with it."""
    client.plains(("DEL", keys.process(uid), keys.control(uid), keys.spec(uid)), *more)


def stop_functions(client: Client, program: str) -> list[str]:
    """A program is over: end its idle functions, take no new ones.

    Returns the lists by which they hear of it; a function that is killed does not empty its own.
    """
    finish(client, program, 0, "")
    told = []
    for runtime in client.plain("SMEMBERS", keys.runtimes(program)):
        idle = keys.idle(program, runtime.decode())
        place = script("process/place").on(idle)
        while (reply := client.call(place, ("stop",)))[0] == b"PLACED":
            told.append(f"{idle}:{reply[1].decode()}")
    client.plain("DEL", keys.runtimes(program))
    return told


def _objects(client: Client, uid: str) -> list[Ref]:
    members: Any = client.plain("SMEMBERS", keys.objects(uid))
    return [Ref.parse(member.decode()) for member in members]
