"""Pickling for other processes: CPython's names, and the pickler of what is started."""

from __future__ import annotations

import io
import types
from multiprocessing.reduction import *  # noqa: F403 - the same names
from typing import Any

import cloudpickle


class ProcessPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """What cloudpickle can, but a method goes by its name, as everywhere in CPython.

    cloudpickle sends a class method's function by value, with copies of the
    globals it uses: the child would not see its own module's.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Decide for methods, and leave all else to cloudpickle."""
        if type(obj) is types.MethodType and getattr(obj.__self__, obj.__name__, None) == obj:
            return getattr, (obj.__self__, obj.__name__)
        return super().reducer_override(obj)

    @classmethod
    def dumps(cls, obj: object) -> bytes:
        """Pickle to bytes."""
        buffer = io.BytesIO()
        cls(buffer).dump(obj)
        return buffer.getvalue()
