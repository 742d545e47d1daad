"""What the explorer's clients do with dicts and lists, and what must hold of those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from lithops_mp import storing
from lithops_mp._store import families, keys
from lithops_mp._store.commands import Call
from lithops_mp._store.families import Ref
from lithops_mp._store.scripts import command

from .actor import Me, Program
from .explorer import Rules, Scenario, Step, World
from .machine import State
from .programs import CLIENTS, TTL, Run
from .rules import process_of

DICT, LIST = Ref("dict", "D"), Ref("list", "N")
AS_DICT, AS_LIST = storing.dict_keys(DICT), storing.list_keys(LIST)

#: A large element: the keys that a sender stores before it enters it are left out, but for
#: those of the first state.
LARGE = "15:1:"


def blob(element: str, ref: Ref) -> str:
    """The key of a large one."""
    return keys.blob(ref.ident, element.removeprefix(LARGE), 0)


def packed(*words: str) -> bytes:
    found: bytes = msgpack.packb(words, use_bin_type=False)
    return found


# -- programs --


def enterer(key: str, *elements: str) -> Program:
    """Enter one element after the other."""

    def program(me: Me) -> Run:
        for element in elements:
            yield from storing.change(AS_DICT, "set", me, "", "", key, element)
        return ()

    return program


def summer(times: int = 1) -> Program:
    """Add one."""

    def program(me: Me) -> Run:
        for _ in range(times):
            yield from storing.change(AS_DICT, "add", me, "", "sa", "i1", "")
        return times

    return program


def swapper(times: int = 1) -> Program:
    """The same by reading, adding and swapping until nobody was quicker."""

    def program(me: Me) -> Run:
        for _ in range(times):
            reply = yield Call(AS_DICT["get"], ("", 1, "sa"))
            while True:
                found = reply[-1] if reply[0] == b"VALUE" else b""
                new = b"i%d" % (int(found[1:] or 0) + 1)
                reply = yield from storing.change(AS_DICT, "swap", me, "", "sa", found, new, "")
                if reply[0] == b"SWAPPED":
                    break
        return times

    return program


def picker(what: str = "last", times: int = 1) -> Program:
    """Take entries; what they were."""

    def program(me: Me) -> Run:
        taken = []
        for _ in range(times):
            key = "" if what == "last" else what
            reply = yield from storing.change(
                AS_DICT, "take", me, "", "last" if what == "last" else "pop", key
            )
            if reply[0] == b"TOOK":
                taken.append(reply[1].decode())
        return tuple(taken)

    return program


def pairer(*elements: str, how: str = "update") -> Program:
    """Change two entries, or two elements, at once, to the same."""

    def program(me: Me) -> Run:
        for element in elements:
            both = packed("sa", element, "", "sb", element, "")
            if how == "update":
                yield from storing.change(AS_DICT, "update", me, "", both)
            elif how == "clear":
                yield from storing.change(AS_DICT, "clear", me)
            else:
                two = packed(element, element)
                yield from storing.change(AS_LIST, "splice", me, "", 0, 2, "", two)
        return ()

    return program


def merger() -> Program:
    """Enter the batch that was laid down for it; how many keys were new."""

    def program(me: Me) -> Run:
        reply = yield from storing.merge(AS_DICT, me, me.stamp(), "", 2)
        return int(reply[1]) if reply[0] == b"OK" else None

    return program


def reader(of: storing.Keys = AS_DICT) -> Program:
    """Read everything, one at a time; the elements, which are there until it has closed."""

    def program(me: Me) -> Run:
        if of is AS_DICT:
            sight = yield from storing.entries(of, me, 1)
            found = tuple((one.key.decode(), one.element.decode()) for one in sight.found)
        else:
            sight = yield from storing.elements(of, me, slice(None), 1)
            found = tuple((str(n), one.decode()) for n, one in enumerate(sight.found))
        if sight.open:
            me.held["reads"] = tuple(element for _, element in found)
            try:
                yield from storing.close(of, me)
            finally:
                del me.held["reads"]
        return found

    return program


def pusher(*elements: str) -> Program:
    """Add elements at the end."""

    def program(me: Me) -> Run:
        for element in elements:
            yield from storing.change(AS_LIST, "push", me, "", element)
        return ()

    return program


def popper(index: int = 0, times: int = 1) -> Program:
    """Take elements out; which."""

    def program(me: Me) -> Run:
        taken = []
        for _ in range(times):
            reply = yield from storing.change(AS_LIST, "take", me, "pop", index)
            if reply[0] == b"TOOK":
                taken.append(reply[1].decode())
        return tuple(taken)

    return program


def remover(element: str) -> Program:
    """Take out the first such element, as is done where Python has to compare."""

    def program(me: Me) -> Run:
        while True:
            sight = yield from storing.elements(AS_LIST, me, slice(None), 9)
            found = [one.decode() for one in sight.found]
            if element not in found:
                return ()
            at = found.index(element)
            args = sight.version, at, at + 1, "", ""
            reply = yield from storing.change(AS_LIST, "splice", me, *args)
            if reply[0] == b"OK":
                return (element,)

    return program


def sorter() -> Program:
    """Sort, until nobody changed it meanwhile."""

    def program(me: Me) -> Run:
        while True:
            sight = yield from storing.elements(AS_LIST, me, slice(None), 9)
            places = sorted(range(len(sight.found)), key=sight.found.__getitem__)
            args = sight.version, msgpack.packb(places)
            reply = yield from storing.change(AS_LIST, "order", me, *args)
            if reply[0] == b"OK":
                return ()

    return program


# -- rules --


class ContainerRules(Rules):
    """``check`` says what is wrong at the end, of the results of those who are alive."""

    def __init__(self, ref: Ref, check: Callable[[World, list[Any]], str | None]) -> None:
        self.ref = ref
        self.check = check
        self.key, self.items = keys.state(ref.ident), keys.items(ref.ident)

    def content(self, state: State) -> Any:
        """What is there."""
        if batch := state.hash(self.key).get("merge"):
            where, _, _ = batch.partition(" ")
            return state.content.get(f"{keys.blobs(self.ref.ident)}:{where}:1", ())
        return state.content.get(self.items, ())

    def state(self, state: State) -> str | None:
        s = state.hash(self.key)
        if not s:
            return "the state is gone"
        if "merge" in s and state.has(self.items):
            return "I20: what is half entered can be read without a script"
        found = self.content(state)
        if len(found) != int(s["size"]):
            return f"I19: size is {s['size']}, and there are {found}"
        if self.ref == DICT and sorted(found) != sorted(state.zset(keys.waiters("D"))):
            return f"I19: the order is {state.zset(keys.waiters('D'))} of {found}"
        if not s["open"] and state.has(keys.stream(self.ref.ident)):
            return "nobody reads, and there is trash"
        here = found.values() if isinstance(found, dict) else found
        lost = [one for one in here if one[:5] == LARGE and not state.has(blob(one, self.ref))]
        return f"the keys of {lost} are gone" if lost else None

    def change(self, before: State, after: State) -> str | None:
        if self.ref == DICT:
            return None
        old, new = before.hash(self.key), after.hash(self.key)
        if old and int(new["version"]) < int(old["version"]):
            return "the version went back"
        if self.content(before) != self.content(after) and old["version"] == new["version"]:
            return f"the version is the same: {self.content(before)}, {self.content(after)}"
        return None

    def world(self, world: World) -> str | None:
        for seat in world.seats:
            reads = dict(seat.node.held).get("reads", ())
            for one in reads if seat.alive and not seat.sent else ():
                mine = process_of(seat.node.client) not in world.dead
                if mine and one[:5] == LARGE and not world.state.has(blob(one, self.ref)):
                    return f"{seat.node.client} reads {one}, whose keys are gone"
        return None

    def end(self, world: World) -> str | None:
        s = world.state.hash(self.key)
        if s["open"] and not world.dead and not world.copies:
            # A late copy of a request may make its client a reader, until it lapses.
            late = any("copy" in str(seat) for seat in world.seats)
            if not late and not self.excused:
                return f"at the end {s['open']} reads"
        if "merge" in s and not world.dead:
            return f"a batch is left: {s['merge']}"
        results = [seat.node.result for seat in world.seats if seat.alive]
        return self.check(world, results)

    #: A copy of a reader's request came when it had closed.
    excused = False


def total(ref: Ref) -> Callable[[World, list[Any]], str | None]:
    """What was counted up is what those who live have added, at least."""

    def check(world: World, results: list[Any]) -> str | None:
        found = world.state.hash(keys.items(ref.ident)).get("sa", "i0")
        number, done = int(found[1:]), sum(result or 0 for result in results)
        whole = not world.dead
        if number < done or (whole and number != done):
            return f"the number is {number} after {done}"
        return None

    return check


def once(ref: Ref, *first: str) -> Callable[[World, list[Any]], str | None]:
    """Everything was taken once, or is there."""

    def check(world: World, results: list[Any]) -> str | None:
        found = world.state.content.get(keys.items(ref.ident), ())
        here = list(found.values() if isinstance(found, dict) else found)
        there = [one for result in results for one in result or ()] + here
        twice = {one for one in there if there.count(one) > first.count(one)}
        lost = not world.dead and sorted(there) != sorted(first)
        return f"{there} are there and taken, of {first}" if twice or lost else None

    return check


def together(world: World, results: list[Any]) -> str | None:
    """Whoever read has both of a pair, and both of the same moment."""
    for result in results:
        if not result:
            continue
        if len({element for _, element in result[:2]}) != 1 or len(result) < 2:
            return f"I20: {result} were not there together"
    return None


def alone(world: World, results: list[Any]) -> str | None:
    """Nothing to say."""
    return None


# -- scenarios --


def on_dict(
    *programs: Program,
    first: dict[str, str] | None = None,
    check: Callable[[World, list[Any]], str | None] = alone,
    laid: dict[str, str] | None = None,
    **options: Any,
) -> Scenario:
    """Clients of a dict in which there is something at ``first``.

    ``laid``: the batch of a client, which sets two entries to the same, in two pages.
    """
    setup: list[Step] = [families.create(DICT, TTL, "main", storing.dict_fields())]
    for number, (key, element) in enumerate((first or {}).items()):
        args = ("main.0", f"{number:012d}", "", "", key, element)
        setup += [*stored(element, DICT), (AS_DICT["set"], args)]
    for client, element in (laid or {}).items():
        where = storing.laid(AS_DICT, Me(client), b"%012d" % 1)
        for page, key in enumerate(("sa", "sb")):
            setup.append((_Plain("HSET", where, page, packed(key, element, "")), ()))
        setup.append((_Plain("PEXPIRE", where, 60_000), ()))
    return _scenario(DICT, setup, programs, check, options)


def on_list(
    *programs: Program,
    first: tuple[str, ...] = (),
    check: Callable[[World, list[Any]], str | None] = alone,
    **options: Any,
) -> Scenario:
    """Clients of a list in which there is something at ``first``."""
    setup: list[Step] = [families.create(LIST, TTL, "main", storing.list_fields())]
    for number, element in enumerate(first):
        setup += [
            *stored(element, LIST),
            (AS_LIST["push"], ("main.0", f"{number:012d}", "", element)),
        ]
    return _scenario(LIST, setup, programs, check, options)


class _Plain:
    """A command that is no script, in a scenario's setup."""

    def __init__(self, *words: str | int) -> None:
        self.packet = command(*words)

    def pack(self, args: Any) -> bytes:
        return self.packet


def stored(element: str, ref: Ref) -> list[Any]:
    """The keys of a large one."""
    if not element.startswith(LARGE):
        return []
    return [(_Plain("SET", blob(element, ref), "large", "PX", 3_000_000), ())]


def _scenario(ref: Ref, setup: list[Step], programs: Any, check: Any, options: Any) -> Scenario:
    clients = dict(zip(CLIENTS, programs, strict=False))
    rules = ContainerRules(ref, check)
    rules.excused = "copy" in options.get("faults", {"copy"})
    return Scenario([ref], setup, clients, rules, **options)
