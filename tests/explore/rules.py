"""The invariants of ``lua/README.md``, as checks on states, steps and worlds.

A method returns what is wrong, in words, or None. ``I1`` and so on are the
numbers used there and in the scripts' headers.
"""

from __future__ import annotations

import struct

from lithops_mp._store import keys
from lithops_mp._store.commands import Watch

from .explorer import Rules, World
from .machine import State


def client_of(ticket: str) -> str:
    return ticket.lstrip("!").partition(":")[0]


def process_of(ticket: str) -> str:
    return client_of(ticket).partition(".")[0]


class SemRules(Rules):
    """Locks and semaphores: ``value`` units at first, at most ``most``."""

    def __init__(self, ident: str, kind: str = "lock", value: int = 1, most: int = 1) -> None:
        self.key = keys.state(ident)
        self.line = keys.waiters(ident)
        self.kind = kind
        self.initial = value
        self.most = most

    # -- in every state --

    def state(self, state: State) -> str | None:
        s = state.hash(self.key)
        if not s:
            return "the state is gone"
        value, owner, waiting = int(s["value"]), s["owner"], state.line(self.line)
        if value < 0:
            return "value is negative"
        if value > 0 and waiting:
            return f"I1: value is {value} although {waiting} wait"
        if self.kind != "sem" and (value == 0) != (owner not in ("",) and owner[0] != "?"):
            return f"I2: value is {value} and owner {owner!r}"
        if value > self.most:
            return f"I4: value {value} exceeds {self.most}"
        return self._units(s)

    def _units(self, s: dict[str, str]) -> str | None:
        """No unit is made out of nothing.

        Each client has at most one: it is in the answer to its last request,
        or granted and not seen yet.
        """
        if self.kind != "sem":
            return None
        had = sum(1 for name, last in s.items() if name[:2] == "r:" and "\x1fACQUIRED" in last)
        granted = sum(1 for name in s if name[:2] == "g:")
        total = int(s["value"]) + had + granted
        if total > self.initial:
            return f"conservation: {total} units where there were {self.initial}"
        return None

    # -- from each state to the next --

    def change(self, before: State, after: State) -> str | None:
        old, new = before.hash(self.key), after.hash(self.key)
        if not old:
            return None
        if int(new["fence"]) < int(old["fence"]):
            return "the fence went back"
        return self._grants(before, after)

    def _grants(self, before: State, after: State) -> str | None:
        old, new = before.hash(self.key), after.hash(self.key)
        granted = {name[2:] for name in new if name[:2] == "g:" and name not in old}
        owner = new["owner"]
        if owner and owner[0] not in "?!" and owner != old["owner"]:
            granted.add(owner)
        if granted and int(new["fence"]) <= int(old["fence"]):
            return f"fence: {granted} granted, and the fence stayed {new['fence']}"
        line, rest = before.line(self.line), after.line(self.line)
        for ticket in granted & set(line):
            ahead = [other for other in line[: line.index(ticket)] if other in rest]
            if ahead:
                return f"FIFO: {ticket} was granted before {ahead}"
        kept = [ticket for ticket in line if ticket in rest]
        if kept != [ticket for ticket in rest if ticket in line]:
            return f"FIFO: the line {line} became {rest}"
        return None

    # -- in every world --

    def world(self, world: World) -> str | None:
        s = world.state.hash(self.key)
        if self.kind == "sem":
            return self._all_units(world, s)
        holders = []
        for seat in world.seats:
            held = dict(seat.node.held).get(self.key)
            if held is None or seat.sent or not seat.alive:
                continue
            client, (fence, died) = held
            if s["owner"] and client_of(s["owner"]) == client and s["fence"] == str(fence):
                holders.append(client)
                if s.get("died", "").startswith(f"{fence}\x1f") and not died:
                    return f"{client} was not told that the holder before it died"
            elif client.partition(".")[0] not in world.dead:
                return f"mutual exclusion: {client} holds fence {fence}, the state says {s}"
        return f"mutual exclusion: {holders}" if len(holders) > 1 else None

    def _all_units(self, world: World, s: dict[str, str]) -> str | None:
        """Units that are free, granted or in clients' hands: none lost while all live."""
        had = sum(1 for name, last in s.items() if name[:2] == "r:" and "\x1fACQUIRED" in last)
        granted = sum(1 for name in s if name[:2] == "g:")
        total = int(s["value"]) + had + granted
        if not world.dead and total != self.initial:
            return f"conservation: {total} units where there were {self.initial}"
        return None

    # -- at the end --

    def end(self, world: World) -> str | None:
        s = world.state.hash(self.key)
        waiting = world.state.line(self.line)
        living = [ticket for ticket in waiting if process_of(ticket) not in world.dead]
        if living and not any(seat.node.waiting for seat in world.seats if seat.alive):
            return f"at the end {living} still wait"
        if self.kind == "sem":
            lost = self.lost_units(world)
            # What was granted to the dead and not seen is there for the next one.
            left = int(s["value"]) + sum(
                name[:2] == "g:" and process_of(name[2:]) in world.dead for name in s
            )
            if left + lost != self.initial:
                return f"at the end {left} units are left of {self.initial}, {lost} lost"
        elif s["value"] != "1" and process_of(s["owner"]) not in world.dead:
            return f"at the end {s['owner']} owns the lock"
        return None

    def lost_units(self, world: World) -> int:
        """Units that processes had when they died: lost, as in CPython."""
        s = world.state.hash(self.key)
        dead = [seat.node for seat in world.seats if not seat.alive]
        return sum("\x1fACQUIRED" in s.get(f"r:{node.client}", "") for node in dead)

    def may_wait(self, world: World, client: int) -> bool:
        waits = world.seats[client].node.waiting
        return self.kind == "sem" and "acquire" in waits and self.lost_units(world) >= self.initial


class CondRules(SemRules):
    """A condition over a lock, used as a store of items that waiters take."""

    def __init__(self, lock: str, cond: str, kind: str = "lock") -> None:
        super().__init__(lock, kind)
        self.area = keys.waiters(cond)

    def state(self, state: State) -> str | None:
        return super().state(state) or self._one_place(state)

    def _one_place(self, state: State) -> str | None:
        places = [*state.line(self.area), *state.line(self.line), state.hash(self.key)["owner"]]
        twice = {ticket for ticket in places if places.count(ticket) > 1}
        return f"I7: {twice} in two places" if twice else None

    def change(self, before: State, after: State) -> str | None:
        """The waiting area keeps its order, and so does what is moved at once."""
        area, rest = before.line(self.area), after.line(self.area)
        if [t for t in area if t in rest] != [t for t in rest if t in area]:
            return f"FIFO: the waiting area {area} became {rest}"
        line, s = after.line(self.line), after.hash(self.key)
        moved = [ticket for ticket in area if ticket in line]
        if moved != [ticket for ticket in line if ticket in area]:
            return f"FIFO: {moved} were moved to {line}"
        for ticket in moved:
            ahead = [other for other in area[: area.index(ticket)] if other in rest]
            gave_up = "EXPIRED" in s.get(f"r:{client_of(ticket)}", "")
            if ahead and not gave_up:
                return f"FIFO: {ticket} was notified before {ahead}"
        return super().change(before, after)

    def end(self, world: World) -> str | None:
        moved, woken, left = (world.shared(name) or 0 for name in ("moved", "woken", "left"))
        if not world.dead and not moved - left <= woken <= moved:
            return f"{moved} were notified and {woken} woken, {left} left"
        if any(process_of(t) not in world.dead for t in world.state.line(self.area)):
            waiting = [seat for seat in world.seats if "cond_wait_on" in seat.node.waiting]
            if not waiting:
                return f"at the end {world.state.line(self.area)} wait"
        return super().end(world)

    def may_wait(self, world: World, client: int) -> bool:
        node = world.seats[client].node
        lock_is_free = world.state.hash(self.key)["value"] == "1"
        return "cond_wait_on" in node.waiting and not world.shared("items") and lock_is_free


class MemRules(SemRules):
    """Numbers in regions that are counted up under a lock: every change adds one.

    If there are several regions, they are changed together.
    """

    def __init__(self, lock: str, regions: tuple[str, ...], kind: str = "lock") -> None:
        super().__init__(lock, kind)
        self.regions = [(keys.state(ident), keys.items(ident)) for ident in regions]

    def number(self, state: State, place: int = 0) -> int:
        """The sum of the numbers in a region."""
        data = state.content[self.regions[place][1]].encode("latin-1")
        return sum(struct.unpack("<2I", data))

    def version(self, state: State, place: int = 0) -> int:
        return int(state.hash(self.regions[place][0])["version"])

    def state(self, state: State) -> str | None:
        for place, (region, _) in enumerate(self.regions):
            if not state.hash(region):
                return "the region is gone"
            # Whoever overwrites an unseen value raises the version, but not the number.
            number, version = self.number(state, place), self.version(state, place)
            if number != version - 1:
                return f"lost update: {number} after {version - 1} changes (I14)"
            if number != self.number(state):
                return f"half a release: {number} in one, {self.number(state)} in the other"
        return super().state(state)

    def change(self, before: State, after: State) -> str | None:
        """While somebody has the lock, a change is that one's."""
        s, new = before.hash(self.key), after.hash(self.key)
        if s and s["value"] == "0" and self.version(before) != self.version(after):
            mine = f"r:{client_of(s['owner'])}"
            if new.get(mine) == s.get(mine):
                return f"I15: changed while {s['owner']} has the lock"
        return super().change(before, after)

    def end(self, world: World) -> str | None:
        done = [seat.node.result or 0 for seat in world.seats if seat.alive]
        number = self.number(world.state)
        whole = not world.dead and not any(seat.node.error for seat in world.seats)
        if number < sum(done) or (whole and number != sum(done)):
            return f"the number is {number} after {done}"
        return super().end(world)


class EventRules(Rules):
    """An event. ``sole``: one client alone changes it."""

    def __init__(self, ident: str, sole: bool = False) -> None:
        self.sole = sole
        self.key = keys.state(ident)
        self.stream = keys.stream(ident)

    def state(self, state: State) -> str | None:
        s = state.hash(self.key)
        if not s:
            return "the state is gone"
        newest = state.content.get(self.stream, ("0-0",))[-1]
        if newest != s["last"]:
            return f"I8: the newest entry is {newest}, the state says {s['last']}"
        return None

    def change(self, before: State, after: State) -> str | None:
        old, new = before.hash(self.key), after.hash(self.key)
        if old and (old["flag"], new["flag"]) == ("0", "1") and old["last"] == new["last"]:
            return "I8: raised without an entry in the stream"
        return None

    def end(self, world: World) -> str | None:
        flag, last = world.state.hash(self.key)["flag"], world.shared("last change")
        if self.sole and last and not world.dead and flag != str(int(last == "set")):
            return f"the flag is {flag} after {last}"
        return None

    def may_wait(self, world: World, client: int) -> bool:
        watch = world.seats[client].node.command
        s = world.state.hash(self.key)
        return isinstance(watch, Watch) and s["flag"] == "0" and s["last"] == watch.last


class BarrierRules(Rules):
    """A barrier for ``parties``."""

    def __init__(self, ident: str, parties: int, crowd: bool = False) -> None:
        self.crowd = crowd  # more clients than parties: somebody is left over
        self.key = keys.state(ident)
        self.waiters = keys.waiters(ident)
        self.parties = parties

    def state(self, state: State) -> str | None:
        s = state.hash(self.key)
        if not s:
            return "the state is gone"
        waiting = state.line(self.waiters)
        if s["phase"] == "filling" and len(waiting) >= self.parties:
            return f"I9: {waiting} wait for {self.parties}"
        if s["phase"] == "broken" and waiting:
            return f"I10: broken, and {waiting} wait"
        if (s["phase"] == "action") != (s["actor"] != ""):
            return f"phase {s['phase']}, actor {s['actor']!r}"
        return None

    def world(self, world: World) -> str | None:
        acting = [
            i
            for i, seat in enumerate(world.seats)
            if seat.alive and not seat.sent and "action" in dict(seat.node.held)
        ]
        return f"two actions at once: {acting}" if len(acting) > 1 else None

    def end(self, world: World) -> str | None:
        """In each round everyone got through, or nobody did."""
        results = [
            seat.node.result or ()
            for seat in world.seats
            if seat.alive and seat.node.ended and not seat.node.error
        ]
        for number in range(max(map(len, results), default=0)):
            round_ = [result[number] for result in results if len(result) > number]
            passed = [index for word, index in round_ if word == "PASSED"]
            if self.crowd:
                continue
            if passed and len(passed) < len(round_):
                return f"round {number}: {round_}"
            if len(set(passed)) < len(passed) or not set(passed) <= set(range(self.parties)):
                return f"round {number}: indices {passed}"
        return None

    def may_wait(self, world: World, client: int) -> bool:
        """For a party that died, or was interrupted, before it came, or that is one too many.

        Who is taken for dead itself is looked after by the others, and need not be.
        """
        mine = process_of(world.seats[client].node.client)
        waiting = world.state.line(self.waiters)
        s = world.state.hash(self.key)
        missing = self.crowd or bool(world.dead) or any(seat.node.error for seat in world.seats)
        return (
            missing
            and "barrier_wait_on" in world.seats[client].node.waiting
            and s["phase"] == "filling"
            and not ({process_of(ticket) for ticket in waiting} - {mine}) & world.dead
        )
