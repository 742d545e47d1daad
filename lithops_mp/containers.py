"""Dict and List: what the proxies of a manager stand for, as data in Redis.

Every method is one atomic round trip: a script, or one that is repeated until nothing
has changed since what it depends on was read. Values are pickled as messages are, but for
simple ones. What a value refers to (a lock, a queue, another dict) is kept as long as the
value is there.
"""

from __future__ import annotations

import contextlib
import operator
import pickle
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, TypeVar

import msgpack

from . import messages, storing, values
from ._store import keys
from ._store.client import Client
from ._store.families import Ref
from ._store.replies import fault
from ._store.scripts import command, pack, packed
from ._store.session import current
from .errors import ObjectExpired, ServerUnavailable
from .handle import Handle
from .protocols import SEQ, escaped

T = TypeVar("T")

_NOTHING: Any = object()

_WORD = b"$%d\r\n%b\r\n"


class Container(Handle):
    """What dicts and lists have in common: elements."""

    scripts: storing.Keys

    def __init__(self, ref: Ref) -> None:
        super().__init__(ref)
        self.scripts.freed = self._let_go
        self.forget()

    def forget(self) -> None:
        """Know nothing: what a new or a forked process starts with."""
        self._phrases: tuple[str, bytes] = ("", b"")

    # -- values --

    def _element(self, value: Any) -> bytes:
        """A value, ready to be kept. Raises what pickling it raises."""
        if values.holds_only_atoms(value):
            pickled = pickle.dumps(value, 5)
            if len(pickled) <= messages.INLINE:
                return b"0" + pickled
        return self._elements([value])[0]

    def _elements(self, some: Iterable[Any]) -> list[bytes]:
        made: list[bytes] = []
        rich: list[tuple[int, int]] = []
        lent: list[Ref] = []
        session = current()
        for value in some:
            element = values.simple(value)
            if element is None:
                with session.lending() as refs:
                    message = messages.dumps(value)
                element = messages.inline(message)
                if element is None:
                    element = messages.store(session.client, self.ref, message)
                if refs:
                    rich.append((len(made), len(refs)))
                    lent += refs
            made.append(element)
        if rich:
            held = session.hold(self.ref, lent)
            for place, count in rich:
                pins = packed(held[: 2 * count])
                del held[: 2 * count]
                made[place] = b"r%d:%b%b" % (len(pins), pins, made[place])
        return made

    def _value(self, element: bytes) -> Any:
        """The value of an element. Raises ObjectExpired if what it stands for is gone."""
        kind = element[0]
        if kind == messages.SMALL:
            return pickle.loads(memoryview(element)[1:])
        if kind > 96 and kind != 114:
            return values.of_simple(element)
        return messages.loads(*messages.unpack(current().client, self.ref, _bare(element)))

    def _values(self, sight: storing.Sight, made: Callable[[Any], T]) -> list[T]:
        """The values of what was read; it is closed."""
        client = current().client
        try:
            return [made(one) for one in sight.found]
        finally:
            if sight.open:
                self._let_go(client.run(storing.close(self.scripts, client)))

    def _settled(self, element: bytes, again: Callable[[], bytes | None]) -> Any:
        """The value of an element that others may replace while it is read; None if gone."""
        found: bytes | None = element
        while found is not None:
            element = found
            try:
                return self._value(element)
            except ObjectExpired:
                found = again()
                if found == element:
                    raise
        return _NOTHING

    def _drop(self, elements: Iterable[bytes]) -> None:
        """Elements that were made and are not kept after all."""
        names, pins = [], []
        for element in elements:
            if element[0] == 114:
                pins += _pins(element)
            bare = _bare(element)
            if 49 <= bare[0] <= 52:
                _, pieces, name = bare[1:].split(b":")
                names += [keys.blob(self.ref.ident, name.decode(), k) for k in range(int(pieces))]
        if names:
            current().client.plain("UNLINK", *names)
        if pins:
            current().unhold(pins)

    # -- requests --

    def _change(self, name: str, *args: Any) -> list[Any]:
        """Run a script that changes it. Who takes a value lets go of what that frees later."""
        client = current().client
        words: list[Any] = client.run(storing.change(self.scripts, name, client, *args))
        if words[0] != b"TOOK":
            self._let_go(words)
        return words

    @staticmethod
    def _let_go(words: list[Any]) -> None:
        """Let go of what an answer frees; that is not among its words then."""
        if type(words[-1]) is list:
            current().unhold(words.pop())

    def _say(self, client: Client, seq: bytes, name: str, phrase: bytes, words: Any) -> Any:
        return client.request(self.scripts[name].script, phrase % (seq, *words))

    def _phrase(self, client: Client, name: str, *args: Any) -> bytes:
        """The packed beginning of the commonest request, up to where it changes."""
        bound = self.scripts[name].given(client.id)
        return escaped(bound.head) + SEQ + b"".join(map(pack, args))


def _bare(element: bytes) -> bytes:
    """An element without its pins."""
    if element[0] != 114:
        return element
    size, _, rest = element[1:].partition(b":")
    return rest[int(size) :]


def _is_plain(element: bytes) -> bool:
    """Has it neither keys of its own nor pins?"""
    return element[0] != 114 and not 49 <= element[0] <= 52


def _pins(element: bytes) -> list[bytes]:
    size, _, rest = element[1:].partition(b":")
    found: list[bytes] = msgpack.unpackb(rest[: int(size)], raw=True)
    return found


class Dict(Container):
    """A dict in Redis."""

    family = "dict"

    def __init__(self, ref: Ref) -> None:
        self.scripts = storing.dict_keys(ref)
        self._read = escaped(command("HGET", self.scripts.items)).replace(b"*2", b"*3") + _WORD
        super().__init__(ref)

    @classmethod
    def create(cls, items: dict[Any, Any] | None = None) -> Dict:
        """A new dict: one round trip, and one for each thousand entries."""
        made = cls(current().create(cls.family, storing.dict_fields()))
        rest = list((items or {}).items())
        while rest:  # nobody else has it yet
            made.update(rest[: storing.PAGE])
            del rest[: storing.PAGE]
        return made

    def forget(self) -> None:
        """Know nothing."""
        super().forget()
        #: How often this process has changed the number of entries.
        self.resized = 0
        self._known: tuple[bytes, dict[Any, bytes]] | None = None

    # -- keys --

    def _locate(self, key: Hashable, new: dict[Any, bytes] | None = None) -> tuple[Any, ...]:
        """A key, the version of the index of others ('' if it does not matter), its object.

        ``new``: those that the same request enters.
        """
        hash(key)  # raises TypeError
        name = values.key_of(key)
        if name is not None:
            return name, b"", b"" if values.says_all(name, key) else _pickled(key)
        known = self._known
        if known is None:
            reply = self._ask("others")
            if reply[0] != b"OTHERS":
                raise fault(reply, self.family)
            pairs = zip(reply[2::2], reply[3::2], strict=True)
            index = {values.object_of(name, pickled): name for name, pickled in pairs}
            known = self._known = reply[1], index
        version, index = known
        name = index.get(key) or (new or {}).get(key)
        if name is None:
            name = b"o" + keys.new_id().encode()
            if new is not None:
                new[key] = name
        return name, version, _pickled(key)

    def _ask(self, name: str, *args: Any) -> list[Any]:
        """Run a script that only reads."""
        client = current().client
        while True:
            words: list[Any] = client.call(self.scripts[name], args)
            if not storing.in_between(words):
                return words
            client.run(storing.enter(self.scripts))

    def _about(self, name: str, key: Hashable, *args: Any, shape: str) -> list[Any]:
        """Run a script on one key; ``shape`` orders key and object among its arguments."""
        while True:
            where, others, pickled = self._locate(key)
            given: dict[Any, Any] = {"key": where, "object": pickled, **dict(enumerate(args))}
            places = [int(word) if word.isdigit() else word for word in shape.split()]
            words = self._change(name, others, *(given[place] for place in places))
            if others:
                self._known = None
                if words[0] == b"CHANGED":
                    continue
            return words

    # -- reading --

    def __getitem__(self, key: Any) -> Any:
        kind = type(key)
        if kind is str and key.isascii():
            name = b"s" + key.encode()
        elif kind is int:
            name = b"i%x" % key
        else:
            return self._get(key)
        element = current().client.ask(self._read % (len(name), name))
        if element is not None:
            if element[0] == messages.SMALL:
                return pickle.loads(memoryview(element)[1:])
            if element[0] == 115:
                return element[1:].decode()
            if element[0] == 105:
                return int(element[1:])
        return self._get(key, element)

    def _get(self, key: Any, element: bytes | None = None) -> Any:
        def again() -> bytes | None:
            words = self._look(key, 1)
            return words[2] if words[0] == b"VALUE" else None

        element = element or again()
        value = _NOTHING if element is None else self._settled(element, again)
        if value is _NOTHING:
            raise KeyError(key)
        return value

    def _look(self, key: Any, want: int) -> list[Any]:
        while True:
            name, others, _ = (b"", b"", b"") if key is _NOTHING else self._locate(key)
            words = self._ask("get", others, want, name)
            if words[0] == b"CHANGED":
                self._known = None
                continue
            if words[0] not in (b"VALUE", b"MISSING"):
                raise fault(words, self.family)
            return words

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or ``default``."""
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: Any) -> bool:
        return bool(self._look(key, 0)[0] == b"VALUE")

    def __len__(self) -> int:
        return int(self._look(_NOTHING, 0)[1])

    def snapshot(self, made: Callable[[storing.Entry], T]) -> list[T]:
        """Of each entry, in their order and as they were at one moment, what ``made`` makes."""
        client = current().client
        return self._values(client.run(storing.entries(self.scripts, client, storing.PAGE)), made)

    def _object(self, entry: storing.Entry) -> Any:
        return values.object_of(entry.key, entry.object)

    def _item(self, entry: storing.Entry) -> tuple[Any, Any]:
        return self._object(entry), self._value(entry.element)

    def keys(self) -> list[Any]:
        """The keys."""
        return self.snapshot(self._object)

    def values(self) -> list[Any]:
        """The values."""
        return self.snapshot(lambda entry: self._value(entry.element))

    def items(self) -> list[tuple[Any, Any]]:
        """Keys and values."""
        return self.snapshot(self._item)

    def copy(self) -> dict[Any, Any]:
        """A plain dict, as it was at one moment."""
        return dict(self.items())

    def __iter__(self) -> Iterator[Any]:
        """The keys, as they are when the first one is asked for.

        What others change meanwhile is not seen; if this process adds or deletes keys
        meanwhile, that is an error as in CPython.
        """
        return self._keys_from(self.resized)

    def _keys_from(self, resized: int) -> Iterator[Any]:
        found = self.keys() if resized == self.resized else [None]
        for key in found:
            if resized != self.resized:
                raise RuntimeError("dictionary changed size during iteration")
            yield key

    # -- changing --

    def __setitem__(self, key: Any, value: Any) -> None:
        kind = type(key)
        element = values.simple(value)
        if element is None:
            element = self._element(value)
        if kind is str and key.isascii():
            name = b"s" + key.encode()
        elif kind is int:
            name = b"i%x" % key
        else:
            name = b""
        if name:
            client = current().client
            ident, phrase = self._phrases
            if ident is not client.id:
                phrase = self._phrase(client, "set", "", "") + _WORD + _WORD
                self._phrases = client.id, phrase
            said = len(name), name, len(element), element
            reply = client.numbered(self._say, "set", phrase, said)
            if reply == b"SET":
                return
            words = reply if type(reply) is list else [reply]
            if storing.in_between(words):
                words = self._about("set", key, element, shape="object key 0")
            elif words[0] not in (b"SET", b"ADDED"):
                raise fault(words, self.family)
            else:
                self._let_go(words)
        else:
            words = self._about("set", key, element, shape="object key 0")
        if words[0] == b"ADDED":
            self.resized += 1

    def update(self, *args: Any, **kwds: Any) -> None:
        """Enter what ``dict.update`` takes, all at once."""
        given: dict[Any, Any] = {}
        given.update(*args, **kwds)
        if not given:
            return
        elements = self._elements(given.values())
        while True:
            flat: list[bytes] = []
            new: dict[Any, bytes] = {}
            version = b""
            for key, element in zip(given, elements, strict=True):
                name, others, pickled = self._locate(key, new)
                version = others or version
                flat += [name, element, pickled]
            pages = [packed(page) for page in storing.pages(flat)]
            if len(pages) == 1:
                words = self._change("update", version, *pages)
            else:
                rich = [element for element in elements if not _is_plain(element)]
                words = self._merge(version, pages, packed(rich) if rich else b"")
            if version:
                self._known = None
            if words[0] != b"CHANGED":
                break
        if words[1]:
            self.resized += 1

    def _merge(self, version: bytes, pages: list[bytes], rich: bytes) -> list[Any]:
        """Enter what does not fit in a page: all at once, too."""
        words = [b"MISSING"]
        while words[0] == b"MISSING":  # we stood still for longer than it lay there
            words = current().client.numbered(self._lay, version, pages, rich)
            self._let_go(words)
        return words

    def _lay(
        self, client: Client, seq: bytes, version: bytes, pages: list[bytes], rich: bytes
    ) -> list[Any]:
        laid = storing.laid(self.scripts, client, seq)
        try:
            for number, page in enumerate(pages):
                more = ("PEXPIRE", laid, storing.LAID)
                client.plains(("HSET", laid, number, page), more)
            merge = storing.merge(self.scripts, client, seq, version, len(pages), rich)
            words: list[Any] = client.run(merge)
            return words
        except BaseException:
            with contextlib.suppress(ServerUnavailable):
                client.plain("UNLINK", laid)  # what counts already lies elsewhere
            raise

    def __delitem__(self, key: Any) -> None:
        words = self._about("take", key, "drop", shape="0 key")
        if words[0] == b"MISSING":
            raise KeyError(key)
        self.resized += 1

    def pop(self, key: Any, *default: Any) -> Any:
        """Delete a key; its value. Raises KeyError, unless there is a default."""
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        words = self._about("take", key, "pop", shape="0 key")
        if words[0] == b"MISSING":
            if default:
                return default[0]
            raise KeyError(key)
        return self._taken(words)[1]

    def popitem(self) -> tuple[Any, Any]:
        """Delete the key that was new last; it and its value. Raises KeyError if there is none."""
        words = self._change("take", "", "last", "")
        if words[0] == b"MISSING":
            raise KeyError("popitem(): dictionary is empty")
        return self._taken(words)

    def _taken(self, words: list[Any]) -> tuple[Any, Any]:
        self.resized += 1
        if words[2][:1] == b"o":
            self._known = None
        try:
            return values.object_of(words[2], words[3]), self._value(words[1])
        finally:
            self._let_go(words)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of a key, which is entered if there is none."""
        element = values.simple(default) or self._element(default)
        words = self._about("swap", key, b"", element, shape="key 0 1 object")
        if words[0] == b"SWAPPED":
            self.resized += 1
            return default
        self._drop([element])
        return self._get(key, words[1])

    def clear(self) -> None:
        """Delete all keys."""
        words = self._change("clear")
        self._known = None
        if words[1]:
            self.resized += 1

    # -- beyond CPython --

    def add(self, key: Any, amount: Any) -> Any:
        """Add to the value of a key, 0 if there is none, and return what it was.

        One round trip for numbers; anything else that can be added is repeated until
        nobody changed the value meanwhile.
        """
        was: Any = 0
        if type(amount) in (int, float) and (element := values.simple(amount)) is not None:
            words = self._about("add", key, element, shape="key 0 object")
            if words[0] == b"ADDED":
                self.resized += 1
                return was
            if words[0] == b"WAS":
                return self._value(words[1])
            found = words[1]
        else:
            found = self._found(key)
        while True:
            if found is not None:
                was = self._settled(found, lambda: None)
                if was is _NOTHING:
                    was, found = 0, self._found(key)
                    continue
            else:
                was = 0
            words = self._swap(key, found, was + amount)
            if words[0] == b"SWAPPED":
                return was
            found = words[1] if words[0] == b"VALUE" else None

    def compare_set(self, key: Any, old: Any, new: Any) -> bool:
        """Set the value of a key if it equals ``old``. False if it does not, or there is none."""
        found = self._found(key)
        while found is not None:
            value = self._settled(found, lambda: None)
            if value is not _NOTHING:
                if not (value is old or value == old):
                    return False
                words = self._swap(key, found, new)
                if words[0] == b"SWAPPED":
                    return True
            found = self._found(key)
        return False

    def _found(self, key: Any) -> bytes | None:
        words = self._look(key, 1)
        return words[2] if words[0] == b"VALUE" else None

    def _swap(self, key: Any, expected: bytes | None, value: Any) -> list[Any]:
        element = values.simple(value) or self._element(value)
        words = self._about("swap", key, expected or b"", element, shape="key 0 1 object")
        if words[0] != b"SWAPPED":
            self._drop([element])
        elif expected is None:
            self.resized += 1
        return words


def _pickled(key: Any) -> bytes:
    return b"".join(bytes(part) for part in messages.dumps(key).parts)


class List(Container):
    """A list in Redis."""

    family = "list"

    def __init__(self, ref: Ref) -> None:
        self.scripts = storing.list_keys(ref)
        self._read = escaped(command("LINDEX", self.scripts.items)).replace(b"*2", b"*3") + _WORD
        super().__init__(ref)

    def forget(self) -> None:
        """Know nothing."""
        super().forget()
        self._setting: tuple[str, bytes] = ("", b"")

    @classmethod
    def create(cls, items: Iterable[Any] = ()) -> List:
        """A new list: one round trip, and one for each thousand elements."""
        made = cls(current().create(cls.family, storing.list_fields()))
        rest = list(items)
        while rest:  # nobody else has it yet
            made.extend(rest[: storing.PAGE])
            del rest[: storing.PAGE]
        return made

    # -- reading --

    def __len__(self) -> int:
        return int(self._look("")[1])

    def _look(self, index: Any) -> list[Any]:
        words: list[Any] = current().client.call(self.scripts["look"], (index,))
        if words[0] not in (b"VALUE", b"MISSING"):
            raise fault(words, self.family)
        return words

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._sight(index)[0]
        place = b"%d" % storing.clamped(_index(index))
        element = current().client.ask(self._read % (len(place), place))
        if element is not None:
            if element[0] == messages.SMALL:
                return pickle.loads(memoryview(element)[1:])
            if element[0] == 105:
                return int(element[1:])

        def again() -> bytes | None:
            words = self._look(place)
            return words[2] if words[0] == b"VALUE" else None

        element = element or again()
        value = _NOTHING if element is None else self._settled(element, again)
        if value is _NOTHING:
            raise IndexError("list index out of range")
        return value

    def _sight(self, part: slice = slice(None)) -> tuple[list[Any], bytes]:
        """The values of a slice as they were at one moment, and the list's version."""
        part = _checked(part)
        client = current().client
        sight = client.run(storing.elements(self.scripts, client, part, storing.PAGE))
        return self._values(sight, self._value), sight.version

    def copy(self) -> list[Any]:
        """A plain list, as it was at one moment."""
        return self._sight()[0]

    def __iter__(self) -> Iterator[Any]:
        """The elements, as they are when the first one is asked for."""
        yield from self.copy()

    def __reversed__(self) -> Any:
        return reversed(self.copy())

    def __add__(self, other: Any) -> Any:
        return self.copy() + other

    def __mul__(self, times: Any) -> Any:
        return self.copy() * times

    __rmul__ = __mul__

    def __contains__(self, value: Any) -> bool:
        try:
            self.index(value)
        except ValueError:
            return False
        return True

    def _find(self, what: str, value: Any, part: slice = slice(None)) -> list[Any] | None:
        """Have it found in Redis; None if only Python can."""
        same = values.all_equal(value)
        if same is None:
            return None
        start, stop, _ = storing.words(part)
        words = self._change("find", what, start, stop, packed(same))
        return None if words[0] == b"LOOK" else words

    def index(self, value: Any, start: Any = 0, stop: Any = None) -> int:
        """Where the first element is that equals a value. Raises ValueError if none does."""
        part = slice(_index(start), stop if stop is None else _index(stop))
        words = self._find("index", value, part)
        if words is None:
            return self.copy().index(
                value, *(bound for bound in _bounds(part)[:2] if bound is not None)
            )
        if words[0] == b"MISSING":
            raise ValueError(f"{value!r} is not in list")
        return int(words[1])

    def count(self, value: Any) -> int:
        """How many elements equal a value."""
        words = self._find("count", value)
        return self.copy().count(value) if words is None else int(words[1])

    # -- changing --

    def append(self, value: Any) -> None:
        """Add an element at the end."""
        element = values.simple(value)
        if element is None:
            element = self._element(value)
        client = current().client
        ident, phrase = self._phrases
        if ident is not client.id:
            phrase = self._phrase(client, "push", "") + _WORD
            self._phrases = client.id, phrase
        reply = client.numbered(self._say, "push", phrase, (len(element), element))
        if reply != b"ADDED":
            words = reply if type(reply) is list else [reply]
            if words[0] != b"ADDED":
                raise fault(words, self.family)
            self._let_go(words)

    def extend(self, some: Iterable[Any]) -> None:
        """Add elements at the end, all at once."""
        first, *more = self._elements(some) or [b""]
        if first:
            self._change("push", packed(more) if more else b"", first)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            return self._splice(index, value)
        place = b"%d" % storing.clamped(_index(index))
        element = values.simple(value)
        if element is None:
            element = self._element(value)
        client = current().client
        ident, phrase = self._setting
        if ident is not client.id:
            phrase = self._phrase(client, "set") + _WORD + _WORD
            self._setting = client.id, phrase
        said = len(place), place, len(element), element
        reply = client.numbered(self._say, "set", phrase, said)
        if reply != b"SET":
            words = reply if type(reply) is list else [reply]
            if words[0] == b"MISSING":
                raise IndexError("list assignment index out of range")
            if words[0] != b"SET":
                raise fault(words, self.family)
            self._let_go(words)

    def __delitem__(self, index: Any) -> None:
        if isinstance(index, slice):
            return self._splice(index)
        words = self._change("take", "drop", storing.clamped(_index(index)))
        if words[0] == b"MISSING":
            raise IndexError("list assignment index out of range")

    def _splice(self, part: slice, some: Any = None) -> None:
        part = _checked(part)
        if some is not None and not isinstance(some, Iterable):
            plain = part.step in (None, 1)
            raise TypeError(
                "can only assign an iterable" if plain else "must assign iterable to extended slice"
            )
        new = None if some is None else list(some)
        reply = self._put(part, None if new is None else self._elements(new))
        if reply[0] == b"SIZE":
            raise ValueError(
                f"attempt to assign sequence of size {len(new or ())} "
                f"to extended slice of size {int(reply[1])}"
            )

    def _put(
        self, part: slice, elements: list[bytes] | None = None, version: bytes = b""
    ) -> list[Any]:
        """Put elements in the place of a slice; None deletes it."""
        new = b"" if elements is None else packed(elements)
        words = self._change("splice", version, *storing.words(part), new)
        if words[0] != b"OK":
            self._drop(elements or ())
        return words

    def insert(self, index: Any, value: Any) -> None:
        """Put an element before another one."""
        place = _index(index)
        self._put(slice(place, place), self._elements([value]))

    def pop(self, index: Any = -1) -> Any:
        """Take an element out. Raises IndexError."""
        words = self._change("take", "pop", storing.clamped(_index(index)))
        if words[0] == b"MISSING":
            empty = not int(words[1])
            raise IndexError("pop from empty list" if empty else "pop index out of range")
        try:
            return self._value(words[1])
        finally:
            self._let_go(words)

    def remove(self, value: Any) -> None:
        """Take out the first element that equals a value. Raises ValueError if none does."""
        words = self._find("remove", value)
        while words is None or words[0] == b"CHANGED":
            found, version = self._sight()
            place = found.index(value) if value in found else None
            if place is None:
                break
            words = self._put(slice(place, place + 1), None, version)
        if words is None or words[0] in (b"MISSING", b"CHANGED"):
            raise ValueError("list.remove(x): x not in list")

    def clear(self) -> None:
        """Take out all elements."""
        self._put(slice(None))

    def reverse(self) -> None:
        """Turn it round."""
        self._change("order", "", "")

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort it, repeatedly if others change it meanwhile; not at all if ``key`` raises."""
        while True:
            found, version = self._sight()
            keyed = found if key is None else list(map(key, found))
            places = sorted(range(len(found)), key=keyed.__getitem__, reverse=reverse)
            if not places:
                return
            if self._change("order", version, msgpack.packb(places))[0] == b"OK":
                return

    def __imul__(self, times: Any) -> Any:
        """Have the elements several times, one after the other."""
        count = _index(times)
        words = self._change("times", storing.clamped(count))
        while words[0] != b"OK":
            found, version = self._sight()
            words = self._put(slice(None), self._elements(found * count), version)
        return self


def _bounds(part: slice) -> tuple[Any, Any, Any]:
    return part.start, part.stop, part.step


def _checked(part: slice) -> slice:
    part = slice(*(bound if bound is None else operator.index(bound) for bound in _bounds(part)))
    if part.step == 0:
        raise ValueError("slice step cannot be zero")
    return part


def _index(index: Any) -> int:
    try:
        return operator.index(index)
    except TypeError:
        raise TypeError(
            f"list indices must be integers or slices, not {type(index).__name__}"
        ) from None
