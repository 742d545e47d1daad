"""What dicts and lists say to Redis: ``protocols`` of containers.

Most of it is one script, and so is most of this module: names. Only what is read page by
page, or depends on what Python alone can tell, takes several; ``lua/README.md`` says how
that comes out as if it were one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ._store import keys
from ._store.commands import Call
from ._store.families import Ref, own
from ._store.replies import fault
from ._store.scripts import Argument, Bound
from .protocols import Me, Steps, insist

# Entries or elements that are read at once. Some tenths of a millisecond of the server's
# time.
PAGE = 1000
# A page has at most PAGE * ENTRY bytes; a single entry may be larger.
ENTRY = 1024

# The format of a dict while a batch is entered.
MERGING = b"dict/1 merging"
# Milliseconds after which a batch that was laid down, and not merged, is gone.
LAID = 60_000


class Keys:
    """The scripts of a container, bound to its keys."""

    def __init__(self, ref: Ref, *names: str) -> None:
        self.ref = ref
        self.state = keys.state(ref.ident)
        self.items = keys.items(ref.ident)
        #: Takes from an answer what it frees, and lets go of that.
        self.freed: Callable[[list[Any]], object] = bool
        self._bound = {name: ref.on(own(ref, name)) for name in names}

    def __getitem__(self, name: str) -> Bound:
        return self._bound[name]

    def mine(self, name: str, me: Me) -> Bound:
        """A script that uses the client's mailbox."""
        return self.ref.on(f"{self.ref.family}/{name}", mailbox=keys.mailbox(self.ref.ident, me.id))


def dict_keys(ref: Ref) -> Keys:
    """Of a dict."""
    names = ("set", "get", "update", "take", "swap", "add", "clear", "others", "close")
    return Keys(ref, *names, "merge", "enter")


def list_keys(ref: Ref) -> Keys:
    """Of a list."""
    names = ("push", "set", "look", "take", "splice", "find", "order", "times", "close")
    return Keys(ref, *names)


def dict_fields() -> dict[str, Argument]:
    """The first state of a dict."""
    return {"size": 0, "n": 0, "rich": 0, "open": "", "others": 0}


def list_fields() -> dict[str, Argument]:
    """The first state of a list."""
    return {"version": 0, "size": 0, "mixed": 0, "rich": 0, "open": ""}


class Entry(NamedTuple):
    """One of a dict: its key, its place in the order, its value and, if need be, its object."""

    key: bytes
    place: float
    element: bytes
    object: bytes


class Sight(NamedTuple):
    """What was there at one moment. ``open``: to be closed when it has been used."""

    found: list[Any]
    open: bool
    version: bytes = b""


def change(of: Keys, name: str, me: Me, *args: Argument) -> Steps:
    """Run a script that changes a container; its answer, as words."""
    return (yield from _request(of, Call(of[name], (me.id, me.stamp(), *args))))


def merge(of: Keys, me: Me, seq: bytes, others: Argument, pages: int, rich: bytes = b"") -> Steps:
    """Enter the batch that was laid down under this number (:func:`laid`); as :func:`change`.

    ``rich`` are those of its elements that are more than bytes, packed.
    """
    return (yield from _request(of, Call(of["merge"], (me.id, seq, others, pages, rich))))


def _request(of: Keys, call: Call) -> Steps:
    reply = yield from _settled(of, call)
    words = reply if isinstance(reply, list) else [reply]
    if words[0] in (b"GONE", b"VERSION", b"STALE"):
        raise fault(words, of.ref.family)
    return words


def _settled(of: Keys, call: Call) -> Steps:
    """The answer to a request, once no batch is in its way."""
    while True:
        reply = yield call
        if not in_between(reply):
            return reply
        if reply[0] == b"MERGING":
            of.freed(reply)
        yield from enter(of)


def in_between(reply: Any) -> bool:
    """Is there a batch to be entered first, perhaps one's own?"""
    return bool(reply[0] == b"MERGING" or reply == [b"VERSION", MERGING])


def enter(of: Keys) -> Steps:
    """Enter a batch to its end, whoever brought it."""
    reply = [b"MORE"]
    while reply[0] == b"MORE":
        reply = yield Call(of["enter"], ())
        if reply[0] not in (b"MORE", b"ENTERED"):
            raise fault(reply, of.ref.family)
        of.freed(reply)


def laid(of: Keys, me: Me, seq: bytes) -> str:
    """Where a client lays a batch down: a hash of pages."""
    return f"{of.items}:{me.id}:{seq.decode()}"


def pages(flat: list[bytes]) -> list[list[bytes]]:
    """Entries, of three words each, as pages."""
    found: list[list[bytes]] = [[]]
    size = 0
    for entry in zip(*[iter(flat)] * 3, strict=True):
        more = sum(map(len, entry))
        if len(found[-1]) == 3 * PAGE or (found[-1] and size + more > PAGE * ENTRY):
            found.append([])
            size = 0
        found[-1] += entry
        size += more
    return found


def close(of: Keys, me: Me) -> Steps:
    """What was read is not needed any more: the answer, with what was kept for it."""
    call = Call(of["close"], (me.id, me.stamp()))
    while True:
        reply, interrupt = yield from insist(call)
        if interrupt:
            raise interrupt
        if not in_between(reply):
            return reply
        yield from enter(of)


def entries(of: Keys, me: Me, page: int) -> Steps:
    """All entries of a dict, in their order, as they were at one moment: a :class:`Sight`.

    Pages first, and then what was changed meanwhile, until nothing is left: what is read
    last says how everything was at that moment.
    """
    try:
        while True:
            found: dict[bytes, Entry] = {}
            seq = me.stamp()
            word, some = yield from _page(of, me, seq, "", "", page)
            last = some.pop(0) if word == b"PAGE" else b""
            _enter(found, some)
            if word == b"ALL":
                return Sight(list(found.values()), False)
            while some and word == b"PAGE":
                word, some = yield from _page(of, me, seq, some[-3], last, page)
                _enter(found, some := some[1:])
            seen, left, count = 0, 1, page
            while left > 0 and word != b"AGAIN":
                call = Call(of.mine("catch", me), (me.id, seq, seen, count))
                reply = yield from _settled(of, call)
                word = reply[0]
                if word == b"CAUGHT":
                    left = int(reply[1])
                    seen += int(reply[2])
                    _enter(found, reply[3:])
                    # Others may change more than this reads: so it asks for more each time.
                    count *= 2
                elif word != b"AGAIN":
                    raise fault(reply, of.ref.family)
            if word != b"AGAIN":
                return Sight(sorted(found.values(), key=_place), True)
    except GeneratorExit:
        raise
    except BaseException:
        yield from insist(Call(of["close"], (me.id, me.stamp())))
        raise


def _page(of: Keys, me: Me, seq: bytes, after: Argument, last: Argument, count: int) -> Steps:
    call = Call(of.mine("read", me), (me.id, seq, after, last, count))
    reply = yield from _settled(of, call)
    if reply[0] not in (b"ALL", b"PAGE", b"AGAIN"):
        raise fault(reply, of.ref.family)
    return reply[0], reply[1:]


def _enter(found: dict[bytes, Entry], flat: list[bytes]) -> None:
    for key, place, element, pickled in zip(*[iter(flat)] * 4, strict=True):
        found.pop(key, None)
        if element:
            found[key] = Entry(key, float(place), element, pickled)


def _place(entry: Entry) -> float:
    return entry.place


def elements(of: Keys, me: Me, part: slice, page: int) -> Steps:
    """The elements of a list's slice, as they were at one moment: a :class:`Sight`."""
    try:
        while True:
            seq = me.stamp()
            reply = yield Call(of.mine("read", me), (me.id, seq, *words(part), page))
            if reply[0] == b"AGAIN":
                continue
            if reply[0] == b"ALL":
                return Sight(reply[2:], False, reply[1])
            if reply[0] != b"COPIED":
                raise fault(reply, of.ref.family)
            version, size = reply[1], int(reply[2])
            found: list[bytes] = []
            while len(found) < size and reply[0] != b"AGAIN":
                reply = yield Call(of.mine("page", me), (me.id, seq, len(found), page))
                found += reply[1:]
            if len(found) == size:
                return Sight(found[part], True, version)
    except GeneratorExit:
        raise
    except BaseException:
        yield from insist(Call(of["close"], (me.id, me.stamp())))
        raise


def words(part: slice) -> tuple[Argument, ...]:
    """A slice as the scripts take it."""
    bounds = part.start, part.stop, part.step
    return tuple("" if bound is None else clamped(bound) for bound in bounds)


# Beyond any list's end; Lua has it exactly.
_FAR = 1 << 52


def clamped(index: int) -> int:
    """An index that is far beyond the end of any list, made smaller."""
    return max(-_FAR, min(_FAR, index))
