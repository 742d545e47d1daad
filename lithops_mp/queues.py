"""Queue, JoinableQueue and SimpleQueue.

The classes are CPython's, over a line of messages in Redis instead of a pipe with
two locks. So there is no lock that a consumer could die with, and consumers are
served in the order they asked.

* ``put`` on an unbounded queue returns at once; what piles up is sent together, and
  before this process does anything else that others can see.
* A bound is exact, whoever puts: where there is no room, ``put`` waits in line.
* A message is delivered once. One that a process was given and never saw, since it
  was killed, comes first again; one that it saw is not given to anyone else, unless
  the queue was made with ``redeliver=True``: then, if the process dies before its
  next ``get``, it is.

Time-outs are in seconds. Whatever asks the server may raise ObjectExpired (the queue's state,
or a large message, is gone) and ServerUnavailable (no answer for some 20 s). An unbounded ``put``
of a small object asks nothing: if the server is lost, what this process does next says so; if the
queue is gone, its next ``put``. ``qsize``, ``empty`` and ``full`` are one round trip, and true
only of the moment of their answer.
"""

from __future__ import annotations

import multiprocessing.queues as _mp
import pickle
import weakref
from queue import Empty, Full
from typing import Any

from . import messages
from .arguments import count, seconds
from .channel import Channel
from .errors import FINAL
from .synchronize import SEM_VALUE_MAX

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]


class Queue(_mp.Queue):  # type: ignore[type-arg]
    """A queue for several processes and threads; ``maxsize`` 0 is no bound.

    ``put`` and ``get`` raise ValueError once this process has called ``close``,
    ObjectExpired when the queue's state is gone, and ServerUnavailable. What cannot
    be pickled is reported to ``_on_queue_feeder_error`` and not put, as in CPython.
    """

    _joinable = False

    def __init__(self, maxsize: int = 0, *, ctx: Any = None, redeliver: bool = False) -> None:
        bound = max(0, count(maxsize))
        self._maxsize = bound or SEM_VALUE_MAX
        self._open(Channel.create(bound=bound, joinable=self._joinable, redeliver=redeliver), bound)

    def _open(self, channel: Channel, bound: int) -> None:
        self._channel = channel
        self._bound = bound
        self._closed = False
        self._sent = False
        self._ignore_epipe = False
        channel.owner = weakref.ref(self)

    def __getstate__(self) -> Any:
        return self._channel, self._bound, self._maxsize

    def __setstate__(self, state: Any) -> None:
        channel, bound, self._maxsize = state
        self._open(channel, bound)

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an object; ``timeout`` is in seconds. Raises Full if there was no room in time."""
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        if timeout is not None and block:
            timeout = seconds(timeout)
        self._sent = True
        try:
            message = messages.dumps(obj)
        except FINAL:
            raise  # pickling one of our objects asks the server, and nothing is wrong with it
        except Exception as error:
            self._on_queue_feeder_error(error, obj)  # type: ignore[attr-defined]
            return
        if not self._bound:
            self._channel.post(message)
        elif not self._channel.put(message, block, timeout):
            raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The next object; ``timeout`` is in seconds. Raises Empty if there was none in time."""
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        element = self._channel.get(block, timeout)
        if element is None:
            raise Empty
        if element[0] == messages.SMALL:
            return pickle.loads(memoryview(element)[1:])
        return messages.loads(*self._channel.unpack(element))

    def qsize(self) -> int:
        """How many messages lie there."""
        return self._channel.look().length

    def empty(self) -> bool:
        """Does none? As in CPython, not to be asked after a ``close`` that had something to do."""
        if self._closed and self._sent:
            raise OSError("handle is closed")
        return self.qsize() == 0

    def full(self) -> bool:
        """Would ``put`` have to wait?"""
        return self._bound > 0 and self.qsize() >= self._bound

    def close(self) -> None:
        """This process puts and gets no more. What it has put is still sent."""
        self._closed = True

    def join_thread(self) -> None:
        """Wait until everything this process has put was sent; after ``close`` only."""
        assert self._closed, f"Queue {self!r} not closed"
        from ._store.session import current

        current().settle()

    def cancel_join_thread(self) -> None:
        """Do not send at exit what could not be sent before; it may be lost."""
        self._channel.cancelled = True


class JoinableQueue(Queue, _mp.JoinableQueue):  # type: ignore[type-arg]
    """A Queue that counts what is put and not yet said to be done.

    A task that a killed process took, and did not say to be done, stays counted: see ``join``.
    """

    _joinable = True

    def __getstate__(self) -> Any:
        return Queue.__getstate__(self)

    def __setstate__(self, state: Any) -> None:
        Queue.__setstate__(self, state)

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an object, a task that is not done; see :meth:`Queue.put`."""
        Queue.put(self, obj, block, timeout)

    def task_done(self) -> None:
        """One of the tasks is done; one round trip. Raises ValueError if there is none left."""
        self._channel.done()

    def join(self) -> None:
        """Wait until all are done. There is no time-out.

        It waits for ever for a task whose worker died with it, unless the queue was made
        with ``redeliver``: then another one gets that task, and can say that it is done.
        """
        self._channel.join()


class SimpleQueue(_mp.SimpleQueue):  # type: ignore[type-arg]
    """A queue without bound and time-outs, whose ``put`` returns when the object is there.

    ``put``, ``get`` and ``empty`` are one round trip, and raise OSError once this process has
    called ``close``.
    """

    def __init__(self, *, ctx: Any = None) -> None:
        self._open(Channel.create())

    def _open(self, channel: Channel) -> None:
        self._channel = channel
        self._closed = False

    def __getstate__(self) -> Any:
        return self._channel

    def __setstate__(self, state: Any) -> None:
        self._open(state)

    def close(self) -> None:
        """This process puts and gets no more."""
        self._closed = True

    def empty(self) -> bool:
        """Does nothing lie there?"""
        self._check()
        return self._channel.look().length == 0

    def put(self, obj: Any) -> None:
        """Put an object. Raises what pickling it raises: then nothing is put."""
        self._check()
        self._channel.put(messages.dumps(obj))

    def get(self) -> Any:
        """The next object, which is waited for; in the order of asking."""
        self._check()
        element = self._channel.get()
        assert element is not None
        return messages.loads(*self._channel.unpack(element))

    def _check(self) -> None:
        if self._closed:
            raise OSError("handle is closed")
