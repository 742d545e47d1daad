"""This process in Redis: where the server is, who we are, what we refer to.

There is one :class:`Session` per operating-system process, made at first use.
A program that calls us resolves its settings, starts the embedded server if it
needs one, and registers itself under a keeper (``_store.keeper``), which runs
no user code. A function's target is given its identity by the function that
forked it (:func:`adopt`). A plain ``os.fork`` makes a new process with a new
identity, registered when it first uses the session.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from multiprocessing import process, util
from typing import Any

from .. import config
from ..errors import ServerUnavailable
from . import families, keeper, keys, processes
from .client import RECONNECT, SILENCE, Client
from .families import Ref, Step
from .ledger import Ledger
from .outbox import Outbox
from .replies import fault
from .scripts import Argument
from .settings import Settings, backend_of, check_server, load_lithops_config, resolve


class Session:
    """What one process knows about its server; safe for its threads.

    ``uid`` names the process, ``program`` the main program it belongs to (the
    uid of that process). ``ttl`` and ``lease`` are in milliseconds.
    """

    def __init__(self, settings: Settings, *, uid: str, program: str, ttl: int, lease: int) -> None:
        self.settings = settings
        self.uid = uid
        self.program = program
        self.ttl = ttl
        self.lease = lease
        self.pid = os.getpid()
        self.own_keeper = True
        self.terminal = uid  # who writes our children's output
        #: When the function is to end by itself, by ``time.monotonic``; before its platform does.
        self.until: float | None = None
        self.server: Any = None
        self.record: dict[str, Any] = {}
        self._keeper: Any = None
        self._local = threading.local()
        # For a signal's handler, which may come on the thread that has them.
        self._lock = threading.RLock()
        self._referring = threading.RLock()
        self._spare: list[Client] = []
        self._slots = 0
        self.ledger: Ledger | None = None  # whoever sees to our end has it, too
        #: Something of ours is still to be sent (``outbox``) before anything else is.
        self.pending = False
        self._outbox: Outbox | None = None
        # Handles collected since the last call. A finalizer may run in the
        # middle of an exchange on this very thread, so it only notes the name.
        self._dropped: collections.deque[Ref] = collections.deque()
        self._referred: collections.Counter[Ref] = collections.Counter()

    @property
    def client(self) -> Client:
        """The calling thread's client. A thread that ends leaves it to the next one.

        What this process has put before is sent first, so that others see things in
        the order in which it did them.
        """
        if self.pending:
            self.settle()
        return self._client

    @property
    def _client(self) -> Client:
        try:
            client: Client = self._local.client
        except AttributeError:
            client = self._borrow()
            self._local.loan, self._local.client = _Loan(self._spare, client), client
        return self._another() if client.busy else client

    def _another(self) -> Client:
        """For a signal's handler, which came in the middle of a request of its thread."""
        clients: list[Client] = self._local.loan.clients
        for client in clients:
            if not client.busy:
                return client
        clients.append(self._borrow())
        return clients[-1]

    def _borrow(self) -> Client:
        with self._lock:
            if self._spare:
                return self._spare.pop()
            slot = self._slots
            self._slots += 1
        client = Client(self.settings, f"{self.uid}.{slot}")
        if self.ledger:
            client.saw = functools.partial(self.ledger.saw, slot)
        return client

    @contextlib.contextmanager
    def another_client(self) -> Iterator[Client]:
        """One more, for a while."""
        client = self._borrow()
        try:
            yield client
        except BaseException:
            client.close()  # an answer may be on its way that the next one must not get
            raise
        finally:
            self._spare.append(client)

    # -- what waits to be sent --

    @property
    def outbox(self) -> Outbox:
        """What this process has put and not sent, taken and not used."""
        with self._lock:
            if self._outbox is None:
                made = Outbox(self, Client(self.settings, f"{self.uid}.out"))
                if self._outbox is None:
                    self._outbox = made
                else:  # a signal's handler was quicker
                    made.close()
            return self._outbox

    def settle(self) -> None:
        """Send what waits, and let go of what was dropped.

        Until that is done ``pending`` stays, so that no thread passes us by.
        """
        if self._outbox:
            self._outbox.settle()
        with self._referring:
            self._gone(self._calls(self._let_go()))
        self.pending = False
        if self._dropped or (self._outbox and not self._outbox.empty):
            self.pending = True  # it came meanwhile

    def flush(self) -> None:
        """Send what was put after the finalizers had run: by threads that were waited for."""
        if self._outbox:
            self._outbox.end()

    # -- objects --

    def create(
        self, family: str, fields: dict[str, Argument], ident: str = "", *more: Argument
    ) -> Ref:
        """Make a new object and refer to it; one round trip."""
        ref = Ref(family, ident or keys.new_id())
        self._note(ref, families.create(ref, self.ttl, self.uid, fields, *more))
        for made in getattr(self._local, "making", ()):
            made.append(ref)
        return ref

    @contextlib.contextmanager
    def making(self, made: list[Ref]) -> Iterator[None]:
        """Note in a list what this thread creates meanwhile."""
        outer = getattr(self._local, "making", ())
        self._local.making = (*outer, made)
        try:
            yield
        finally:
            self._local.making = outer

    def exist(self, refs: Iterable[Ref]) -> list[Ref]:
        """Those of some objects that are there."""
        refs = list(refs)
        found = self.client.plains(*(("EXISTS", keys.state(ref.ident)) for ref in refs))
        return [ref for ref, there in zip(refs, found, strict=True) if there]

    def delete(self, refs: Iterable[Ref]) -> None:
        """Delete objects, whoever refers to them."""
        processes.let_go(self.client, [families.delete(ref) for ref in refs])

    def hold(self, holder: Ref, refs: Iterable[Ref]) -> list[str]:
        """Keep objects for one that is to hold them: pin, object, ... Raises ObjectExpired.

        The pins lapse unless the holder has them soon; it is renewed with them.
        """
        held = [(f"in:{holder.ident}:{keys.new_id()}", ref) for ref in refs]
        replies = self.client.calls([families.refer(ref, pin, self.ttl) for pin, ref in held])
        for (_, ref), reply in zip(held, replies, strict=True):
            if reply[0] != b"OK":
                raise fault(reply, ref.family)
        return [word for pin, ref in held for word in (pin, str(ref))]

    def unhold(self, freed: list[bytes]) -> None:
        """The holder does not have them any more: pins, each followed by its object."""
        processes.let_go(self.client, families.free([[b"", *freed]]))

    def bind(self, ref: Ref, fields: dict[str, Argument], owner: str) -> bool:
        """Make a queue under a name that others may have. False if they do."""
        step = families.bind(ref, self.ttl, self.uid, fields, owner)
        with self._referring:
            first = families.note(ref, self.uid, self.ttl)
            taken = self._calls([first, step])[1][0] == b"TAKEN"
            if not taken:
                self._referred[ref] += 1
        return not taken

    def unbind(self, ref: Ref, owner: str) -> list[bytes]:
        """Give such a name up; the messages that lay there. The handle goes later."""
        step, answer = families.unbind(ref, self.uid, owner)
        elements: list[bytes] = self.client.calls([step])[0][1:]
        if elements:
            self.client.plain("DEL", answer)
        return elements

    def refer(self, ref: Ref, pin: str = "") -> None:
        """Refer to an object whose handle has arrived. Raises ObjectExpired.

        ``pin`` is taken away, if given: for a handle that can arrive but once.
        """
        self._note(ref, families.refer(ref, self.uid, arrived=pin))
        if pin:
            self.unpin(ref, pin)  # it is still there if we referred to the object before

    def unpin(self, ref: Ref, pin: str) -> None:
        """A handle has arrived, again."""
        self.client.calls([families.refer(ref, self.uid, arrived=pin)])

    def _note(self, ref: Ref, step: Step) -> None:
        # The lock is held over the exchange: a reference that is let go and one
        # that is taken must reach the server in the order they were decided in.
        with self._referring:
            if not self._referred[ref]:
                # Our own list first: whatever happens next, burial finds it.
                first = families.note(ref, self.uid, self.ttl)
                _, reply, *more = self._calls([first, step, *self._let_go()])
                self._gone(more)
                if reply[0] != b"OK":
                    raise fault(reply, ref.family)
            self._referred[ref] += 1

    def _calls(self, steps: list[Step]) -> list[Any]:
        """Run what makes others depend on us, seeing to it that they know us.

        They do not after a restart of the server that lost its data, until our
        keeper notices.
        """
        if not self.own_keeper or not steps:
            return self._client.calls(steps)
        replies = self._client.calls([processes.sign(self.uid, self.ttl), *steps])
        if replies[0][0] == b"GONE":
            self._register()
        return replies[1:]

    new_id = staticmethod(keys.new_id)

    def export(self, ref: Ref) -> str:
        """A handle is being pickled: keep the object while it is on its way.

        The name of the pin that does so, if there is one.
        """
        lending = getattr(self._local, "lending", None)
        if lending is None:
            pin = f"pin{self.program}:{keys.new_id()}"
            self.client.calls([families.refer(ref, pin, self.ttl)])
            return pin
        lending.append(ref)
        return ""

    @contextlib.contextmanager
    def lending(self) -> Iterator[list[Ref]]:
        """Collect what this thread pickles meanwhile, for :meth:`lend` or :meth:`hold`."""
        outer = getattr(self._local, "lending", None)
        lent: list[Ref] = []
        self._local.lending = lent
        try:
            yield lent
        finally:
            self._local.lending = outer

    def lend(self, refs: Iterable[Ref], uid: str) -> None:
        """Refer to objects in the name of a process that is about to start."""
        refs = list(refs)
        self._calls([families.note(ref, uid, self.ttl) for ref in refs])
        self.client.calls([families.refer(ref, uid) for ref in refs])

    def take_back(self, refs: Iterable[Ref], uid: str) -> None:
        """Undo :meth:`lend`: the process is gone."""
        refs = list(refs)
        if refs:
            self._gone(self._calls([families.drop(ref, uid, ended=False) for ref in refs]))
            self.client.plain("SREM", keys.objects(uid), *map(str, refs))

    def inherit(self, parent: Session) -> None:
        """Refer to what the process referred to that we were forked from.

        ``parent`` is our copy of its session; handles are let go there until now.
        """
        parent._let_go()
        self._referred.update(parent._referred)
        self.lend(self._referred, self.uid)

    def drop(self, ref: Ref) -> None:
        """A handle was collected; the object is let go at the next call. No I/O.

        The end of a pipe is let go soon: somebody may wait for that.
        """
        self._dropped.append(ref)
        if ref.family == "pipe" and self._outbox:
            self.pending = True
            self._outbox.wake()

    def _gone(self, replies: list[Any]) -> None:
        """What was let go may have held others."""
        processes.let_go(self._client, families.free(replies))

    def _let_go(self) -> list[Step]:
        steps = []
        while self._dropped:
            ref = self._dropped.popleft()
            self._referred[ref] -= 1
            if self._referred[ref] <= 0:
                del self._referred[ref]
                steps.append(families.drop(ref, self.uid, ended=False))
        return steps

    # -- the process itself --

    def start(self) -> None:
        """Write this process's record, as running, and have a keeper look after us."""
        about = {"pid": self.pid, "host": socket.gethostname(), "program": self.program}
        self.record = {"name": process.current_process().name, "about": about}
        self.ledger = Ledger()
        self._register()
        self._keeper = keeper.start(self)

    def _register(self) -> None:
        processes.register(self.client, self.uid, "running", self.ttl, self.lease, **self.record)

    def end(self) -> None:
        """A clean end: let go of everything, leave no key, stop our helpers."""
        if self.pid != os.getpid():
            return
        with contextlib.suppress(ServerUnavailable):
            self.settle()
        client = self._client  # and not .client: what could not be sent by now never will be
        if self._keeper:  # first, or it would write our record anew
            keeper.stop(self._keeper)
        if self.own_keeper:
            with contextlib.suppress(ServerUnavailable):
                processes.finish(client, self.uid, 0, "")
                processes.close(client, self.uid, self.ttl, "")
                processes.forget(client, self.uid)
                if self.uid == self.program:
                    processes.stop_functions(client, self.program)
        if self._outbox:
            self._outbox.close()
        for one in (client, *self._spare):
            one.close()
        if self.server:
            self.server.stop()
        if self.ledger and self.own_keeper:
            self.ledger.close()


class _Loan:
    """Gives a thread's clients back when the thread's locals are destroyed."""

    def __init__(self, spare: list[Client], client: Client) -> None:
        self.spare = spare
        self.clients = [client]

    def __del__(self) -> None:
        self.spare += self.clients


_current: Session | None = None
_forked_from: Session | None = None
_starting = threading.RLock()


def current() -> Session:
    """This process's session, started if need be.

    Raises ConfigurationError or ServerUnavailable if there is no server to be had.
    """
    if _current is not None:
        return _current
    with _starting:
        if _current is not None:
            return _current
        return _after_fork(_forked_from) if _forked_from else _start()


def adopt(session: Session) -> None:
    """Be this session: a function's target, whose identity its parent chose."""
    global _current
    _current = session


def dropped(ref: Ref) -> None:
    """A handle was collected, of this process or of the one it was forked from."""
    session = _current or _forked_from
    if session:
        session.drop(ref)


def _milliseconds(parameter: str) -> int:
    return int(config.get_parameter(parameter) * 1000)


def _install(settings: Settings, uid: str, program: str) -> Session:
    session = Session(
        settings,
        uid=uid,
        program=program,
        ttl=_milliseconds(config.REDIS_EXPIRY_TIME),
        lease=_milliseconds(config.LEASE),
    )
    adopt(session)
    session.start()
    # After the children are joined, which is what CPython does at priority 0.
    util.Finalize(None, session.end, exitpriority=-100)
    return session


def _start() -> Session:
    overrides = config.get_parameter(config.LITHOPS_CONFIG)
    lithops_config, source = load_lithops_config(overrides)
    url = config.get_parameter(config.REDIS_URL)
    backend = backend_of(lithops_config)
    settings = resolve(
        url,
        lithops_config,
        backend,
        url_source=f"the parameter {config.REDIS_URL}",
        config_source=source,
    )
    server = None
    if settings is None:
        from .server import EmbeddedServer

        server = EmbeddedServer()
        settings = server.settings
    connection = settings.connection(socket_timeout=SILENCE)
    check_server(connection, settings, RECONNECT)
    connection.disconnect()
    uid = keys.new_id()
    session = _install(settings, uid, uid)
    session.server = server
    return session


def _after_fork(parent: Session) -> Session:
    session = _install(parent.settings, keys.new_id(), parent.program)
    session.inherit(parent)
    return session


def _in_child() -> None:
    global _current, _forked_from, _starting
    _current, _forked_from = None, _current or _forked_from
    _starting = threading.RLock()


os.register_at_fork(after_in_child=_in_child)
