"""Regions: packed bytes in Redis, which the holder of their lock has a copy of.

Without the lock every access is one atomic round trip. With it nobody else writes,
so a holder reads and writes its copy: what acquires the lock asks for what has changed
since (``mem/fetch``, sent along), what releases it brings what this process has changed
(``mem/release``, in place of ``sem/release``). The server refuses the latter if the lock
was lost.

The copy belongs to the period of ownership that it was checked in: a fence never
repeats, so a copy that was not checked under the lock's present fence is checked when it
is touched, however the lock was come by. Large regions are copied by page.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from multiprocessing import ProcessError, util
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from ._store import keys
from ._store.client import Buffer, Client
from ._store.commands import Call
from ._store.families import Ref
from ._store.replies import fault
from ._store.scripts import Bound, command, packed, script
from ._store.session import current
from .errors import ServerUnavailable
from .handle import Handle
from .protocols import Me, SemKeys, Steps, insist, release_on

if TYPE_CHECKING:
    from .synchronize import SemHandle

# What is copied at once, and what need not pass through a script. A page takes about as
# long on the wire as a round trip on a local network.
PAGE = 1 << 16

# Whether so few bytes have changed is not asked: that would cost more than bringing them.
SMALL = 1 << 10

# More than so many pages are not asked for again only because they were touched last time.
WINDOW = 16 * PAGE

# How long new content waits beside a region for the request that puts it in place.
STAGE_MS = 60_000

# When so many ranges were changed, those that touch are joined.
MANY = 1024

Ranges = list[Any]  # offset, bytes, offset, bytes, ...


class MemKeys:
    """The scripts of a region, bound to its keys and those of its lock, if it has one."""

    def __init__(self, ident: str, lock: SemKeys | None = None) -> None:
        state, self.bytes = keys.state(ident), keys.items(ident)
        self.changed = state, self.bytes
        self.fetch = script("mem/fetch").on(state, self.bytes)
        # Whoever writes without the lock waits for the guard, or for nobody.
        self.write = script("mem/write").on(state, state, self.bytes)
        self.update = script("mem/update").on(state, state, self.bytes)
        if lock:
            guard = keys.state(lock.ident)
            self.guarded_write = script("mem/write").on(guard, state, self.bytes)
            self.guarded_update = script("mem/update").on(guard, state, self.bytes)
            self.release = release_bound(lock, [self])


def release_bound(lock: SemKeys, regions: list[MemKeys]) -> Bound:
    """The script that releases a lock with changes of these regions."""
    names = [name for region in regions for name in region.changed]
    found = script("mem/release").on(keys.state(lock.ident), keys.waiters(lock.ident), *names)
    return found.given(lock.kind)


def release(lock: SemKeys, me: Me, fence: int, changes: dict[MemKeys, Ranges]) -> Steps:
    """:func:`protocols.release` that writes, in the same step. Raises LockLost.

    A :class:`Commit` is how ``SemHandle.release`` begins with it.
    """
    what = packed(list(changes.values()))
    bound = release_bound(lock, list(changes))
    first = Call(bound, (0, what, me.id, me.stamp(), fence), late=True)
    try:
        reply = yield first
    except BaseException as error:
        reply = error
    return (yield from release_on(lock, first, reply))


class Region(Handle):
    """Bytes in Redis. ``lock`` is the engine of the Lock or RLock that guards them."""

    family = "mem"

    def __init__(self, ref: Ref, size: int, lock: SemHandle | None = None) -> None:
        super().__init__(ref)
        self.size = size
        self.lock: SemHandle | None = None
        self.keys = MemKeys(ref.ident)
        #: Is it to be asked for when the lock is acquired? If it was used the last times.
        self.wanted = self._used = True
        whole = command("GETRANGE", self.keys.bytes, 0, size - 1)
        self._whole = Request(0, size, whole) if size <= SMALL else None
        self.forget()
        if lock is not None:
            self.attach(lock)

    @classmethod
    def create(cls, size: int, data: Buffer = b"", lock: SemHandle | None = None) -> Region:
        """A new region of ``size`` bytes, all zero unless there is ``data``; one round trip.

        One more for what is too large for a script.
        """
        session = current()
        ident = session.new_id()
        if lock is not None:
            ident = f"{lock.ref.ident}/{ident}"
        if len(data) > PAGE:
            session.client.store(keys.items(ident), [data], session.ttl, new=True)
            data = b""
        fields: dict[str, Any] = {"size": size, "version": 1}
        return cls(session.create(cls.family, fields, ident, size, bytes(data)), size, lock)

    def _details(self) -> tuple[Any, ...]:
        return self.size, self.lock

    def attach(self, lock: SemHandle) -> None:
        """Be guarded by a lock from here on, unless by another one already."""
        if self.lock is None:
            self.keys = MemKeys(self.ref.ident, lock.keys)
            self.lock = lock
            lock.regions.append(weakref.ref(self, lock.regions.remove))

    def forget(self) -> None:
        """Hold no copy: what a new or a forked process starts with."""
        #: What the copy was like when it was read: 0 if there is none.
        self.version = 0
        #: The fence under which that was found to be so still.
        self._checked = 0
        self._copy = bytearray()
        self._pages = bytearray(-(-self.size // PAGE))  # 1: is in the copy
        self._all = False  # they all are
        self._changed: list[tuple[int, int]] = []
        self._was = 0
        self._window = (0, self.size if self.size <= PAGE else 0)
        _see_to_the_end()

    # -- what views do --

    @property
    def region(self) -> Region:
        """Itself: how those reach it who use it through a :class:`Guarded`."""
        return self

    @property
    def held(self) -> bool:
        """Does this thread hold the lock?"""
        lock = self.lock
        return lock is not None and lock._depth > 0 and lock._thread == get_ident()

    def read(self, offset: int, size: int) -> Buffer:
        """Some bytes."""
        if self.held:
            if not self._all or self._checked != self.lock.fence:  # type: ignore[union-attr]
                self._bring(offset, offset + size)
            self._used = True
            return self._copy[offset : offset + size]
        return self._get(offset, offset + size)

    def write(self, ranges: Ranges) -> None:
        """Change some bytes, all at once."""
        if self.held:
            self.change(ranges)
        else:
            self.send(self.keys.write, ranges)

    def update(self, *what: Any) -> bytes:
        """Change an element (``mem/update`` has the arguments); the bytes it had before."""
        was = self.alter(self.keys.update, *what)
        assert was is not None
        return was

    # -- without the lock --

    def _get(self, start: int, stop: int) -> Buffer:
        if start == stop:
            return b""
        client = current().client
        if stop - start == self.size > PAGE:
            data = bytearray(self.size)
            if client.fetch(self.keys.bytes, memoryview(data)):
                return data
            raise self._gone()
        found: bytes = client.plain("GETRANGE", self.keys.bytes, start, stop - 1)
        if len(found) != stop - start:
            raise self._gone()
        return found

    def send(self, bound: Bound, ranges: Ranges) -> bool:
        """Write at the server. False if somebody has the guard."""
        reply = current().client.numbered(self._send, bound, ranges)
        if reply not in (b"WROTE", b"BUSY"):
            raise fault(reply, "shared value")
        return bool(reply == b"WROTE")

    def _send(self, client: Client, seq: bytes, bound: Bound, ranges: Ranges) -> Any:
        what = packed(staged(client, seq, self, ranges))
        return client.call(bound, (client.id, seq, what))

    def alter(self, bound: Bound, *what: Any) -> bytes | None:
        """Change an element at the server; what it was. None if somebody has the guard."""
        reply = current().client.once(bound, *what)
        if reply[0] not in (b"WAS", b"BUSY"):
            raise fault(reply, "shared value")
        return reply[1] if reply[0] == b"WAS" else None

    def _gone(self) -> Exception:
        return fault(b"GONE", "shared value")

    # -- with it --

    def request(self) -> Request:
        """What goes along with an acquire."""
        if self._whole is not None:
            return self._whole
        start, stop = self._window
        # To the server -1 is the last byte of all.
        ends = (start, stop - 1) if start < stop else (1, 0)
        return Request(start, stop, self.keys.fetch.pack((*ends, self.version)))

    def arrived(self, request: Request, reply: Any, fence: int) -> bool:
        """What it brought, which is true if the lock was granted before. False if nothing."""
        self.wanted, self._used = self._used, False
        if type(reply) is bytes:
            if len(reply) != self.size:
                return False
            self._copy = bytearray(reply)
            self._all = True
        elif reply[0] == b"DATA":
            version, data = int(reply[1]), reply[2]
            start, stop = request.start, request.stop
            if len(data) != stop - start:
                return False
            if not self._copy:
                self._copy = bytearray(self.size)
            if self.version != version:
                self._pages = bytearray(len(self._pages))
                self._all = False
            self._copy[start:stop] = data
            self._mark(start, stop)
            self.version = version
        elif reply[0] != b"SAME":
            return False
        self._checked = fence
        return True

    def _mark(self, start: int, stop: int) -> None:
        first, last = start // PAGE, -(-stop // PAGE)
        self._pages[first:last] = b"\1" * (last - first)
        self._all = 0 not in self._pages

    def _check(self, fence: int) -> None:
        """See to it that the copy is of this period of ownership."""
        request = self.request()
        reply = current().client.request(self.keys.fetch.script, request.packet)
        if not self.arrived(request, reply, fence):
            known = type(reply) is list and reply[0] != b"DATA"
            raise fault(reply if known else b"GONE", "shared value")

    def _bring(self, start: int, stop: int) -> None:
        """See to it that these bytes are in the copy."""
        assert self.lock is not None
        if self._checked != self.lock.fence:
            self._check(self.lock.fence)
        self.wanted = self._used = True
        if self._all or start == stop:
            return
        low = start // PAGE * PAGE
        high = min(-(-stop // PAGE) * PAGE, self.size)
        # What is used now is what will be asked for next time.
        self._window = (low, high) if high - low <= WINDOW else (0, 0)
        first, last = start // PAGE, (stop - 1) // PAGE
        page = self._pages.find(0, first, last + 1)
        while page >= 0:
            end = self._pages.find(1, page, last + 1)
            end = last + 1 if end < 0 else end
            low, high = page * PAGE, min(end * PAGE, self.size)
            self._copy[low:high] = self._get(low, high)
            self._mark(low, high)
            page = self._pages.find(0, end, last + 1)

    def change(self, ranges: Ranges) -> None:
        """Change the copy; the release writes it back."""
        assert self.lock is not None
        if self._checked != self.lock.fence:
            self._bring(0, 0)
        self._used = True
        copy = self._copy = self._copy or bytearray(self.size)
        changed = self._changed
        for offset, data in in_pairs(ranges):
            stop = offset + len(data)
            if not self._all and offset < stop:
                self._bring_edges(offset, stop)
            copy[offset:stop] = data
            if changed and changed[-1][0] <= offset <= changed[-1][1]:
                changed[-1] = changed[-1][0], max(changed[-1][1], stop)
            else:
                changed.append((offset, stop))
        if len(changed) > MANY:
            changed[:] = joined(changed)
        self.lock.dirty[self] = None

    def _bring_edges(self, start: int, stop: int) -> None:
        """Of a page that is about to be written in part the rest is needed."""
        if start % PAGE or stop < min(start + PAGE, self.size):
            self._bring(start, start + 1)
        if stop % PAGE and stop < self.size:
            self._bring(stop - 1, stop)
        self._mark(start, stop)

    def take_changes(self) -> Ranges:
        """What the release is to write."""
        ranges: Ranges = []
        for start, stop in joined(self._changed):
            ranges += start, self._copy[start:stop]
        self._changed = []
        # Not to be believed until the server has taken them.
        self._was, self.version = self.version, 0
        return ranges

    def taken(self) -> None:
        """The server has them, and the copy is as its bytes are.

        If somebody wrote without the lock meanwhile, its version is higher still, and
        the copy will be read anew. If another thread of ours has the lock by now, it has
        that version or a later one: this can only make it read anew, too.
        """
        self.version = self._was and self._was + 1

    def put_back(self, ranges: Ranges) -> None:
        """They could not be sent."""
        self.version = self._was
        self._changed += [(offset, offset + len(data)) for offset, data in in_pairs(ranges)]


class Request(NamedTuple):
    """The packed request for a range of a region, to be sent behind an acquire."""

    start: int
    stop: int
    packet: bytes


def in_pairs(ranges: Ranges) -> Iterator[tuple[int, Buffer]]:
    """Where, and what."""
    words = iter(ranges)
    return zip(words, words, strict=True)


def joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges in order, those that touch as one."""
    if len(ranges) < 2:
        return ranges
    found: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        else:
            found.append((start, stop))
    return found


def staged(client: Client, seq: bytes, region: Region, ranges: Ranges) -> Ranges:
    """What a script is given of some changes.

    A whole new content that is large is stored beside the region: renaming it costs
    nothing, and none of its bytes pass through Lua.
    """
    if len(ranges) == 2 and len(ranges[1]) == region.size > PAGE:
        stage = f"{region.keys.bytes}:{client.id}:{seq.decode()}"
        client.store(stage, [ranges[1]], STAGE_MS)
        return []
    return ranges


class Commit:
    """The changes of a lock's regions, on their way with its release: ``bound`` and ``args``."""

    def __init__(self, lock: SemHandle, client: Client, seq: bytes, *, keep: bool = False) -> None:
        self.lock = lock
        # Taken before they are sent: when the lock is released another thread may hold it.
        self.changes = [(region, region.take_changes()) for region in lock.dirty]
        lock.dirty = {}
        try:
            sent = [staged(client, seq, *change) for change in self.changes]
        except BaseException as error:
            if keep or not isinstance(error, ServerUnavailable):  # then the lock is given up
                self.undo()
            raise
        if len(sent) == 1:
            self.bound = self.changes[0][0].keys.release
        else:
            self.bound = release_bound(lock.keys, [region.keys for region, _ in self.changes])
        self.args = int(keep), packed(sent), client.id, seq, lock.fence

    def undo(self) -> None:
        """It is not known to have happened, and the lock is still ours."""
        for region, ranges in self.changes:
            region.put_back(ranges)
            self.lock.dirty[region] = None

    def done(self) -> None:
        """The server has carried it out."""
        for region, _ in self.changes:
            region.taken()


def flush(lock: SemHandle) -> None:
    """Write back what this process has changed, and keep the lock. Raises LockLost."""
    current().client.numbered(_flush, lock)


def _flush(client: Client, seq: bytes, lock: SemHandle) -> None:
    commit = Commit(lock, client, seq, keep=True)
    try:
        steps = insist(Call(commit.bound, commit.args))
        reply, interrupt = client.run(steps)
    except BaseException:
        commit.undo()
        raise
    if reply != b"KEPT":
        raise fault(reply, lock.kind)
    commit.done()
    if interrupt:
        raise interrupt


def abandon(lock: SemHandle) -> None:
    """Forget what was changed under a lock that is given up."""
    for region in lock.dirty:
        region.take_changes()
    lock.dirty = {}


_seen_to = 0  # the pid in which the finalizer was registered; a fork needs its own


def _see_to_the_end() -> None:
    global _seen_to
    if _seen_to != os.getpid():
        _seen_to = os.getpid()
        # Before children are joined, who may wait for it.
        util.Finalize(None, _end, exitpriority=0)


def _end() -> None:
    """The process ends and has locks: what it changed is written, and they stay held.

    As in C, where all of it is in memory already. A thread that has one and still runs
    may release it yet.
    """
    others = {thread.ident for thread in threading.enumerate()} - {get_ident()}
    for region in list(Handle._live.values()):
        lock = region.lock if isinstance(region, Region) else None
        if lock and lock.dirty and lock._thread not in others:
            try:
                flush(lock)
            except ProcessError as error:
                lost = "what was changed in shared memory could not be written"
                print(f"lithops_mp: {lost}: {error}", file=sys.stderr)


class Guarded:
    """A region as those write it who wait while somebody else has its lock."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.read = region.read

    def write(self, ranges: Ranges) -> None:
        """Change some bytes, all at once."""
        region = self.region
        assert region.lock is not None
        if region.held:
            region.change(ranges)
        elif not region.send(region.keys.guarded_write, ranges):
            with region.lock:
                region.change(ranges)

    def update(self, *what: Any) -> bytes | None:
        """Change an element; None if somebody has the lock."""
        return self.region.alter(self.region.keys.guarded_update, *what)


class Locked:
    """A region behind a lock that is not one of ours, or not its own."""

    def __init__(self, region: Region, lock: Any) -> None:
        self.region = region
        self.lock = lock

    def read(self, offset: int, size: int) -> Buffer:
        """Some bytes."""
        with self.lock:
            return self.region.read(offset, size)

    def write(self, ranges: Ranges) -> None:
        """Change some bytes, all at once."""
        with self.lock:
            self.region.write(ranges)

    def update(self, *what: Any) -> bytes | None:
        """Change an element; the bytes it had before."""
        with self.lock:
            return self.region.update(*what)


Access = Region | Guarded | Locked
