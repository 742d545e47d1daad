"""Pickling for other processes: CPython's names, and the pickler of what is started."""

from __future__ import annotations

import io
import types
from multiprocessing.reduction import *  # noqa: F403 - the same names
from multiprocessing.reduction import ForkingPickler
from typing import Any

import cloudpickle

_registered: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]


class ProcessPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """What CPython's ForkingPickler can, and what cloudpickle can.

    A method goes by its name. cloudpickle would send a class method's function by
    value, with copies of the globals it uses: the child would not see its module's.
    What is registered with ForkingPickler goes as registered; for connections and
    sockets, which cloudpickle would take for data, that is an error.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Decide for these, and leave all else to cloudpickle."""
        if type(obj) is types.MethodType:
            if getattr(obj.__self__, obj.__name__, None) == obj:
                return getattr, (obj.__self__, obj.__name__)
        elif reduce := _registered.get(type(obj)):
            return reduce(obj)
        return super().reducer_override(obj)

    @classmethod
    def dumps(cls, obj: object) -> bytes:
        """Pickle to bytes."""
        buffer = io.BytesIO()
        cls(buffer).dump(obj)
        return buffer.getvalue()
