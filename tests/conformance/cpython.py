"""The interpreter's ``test._test_multiprocessing``, run once more in this module.

Its ``multiprocessing`` is :data:`replacement.multiprocessing`. A child process
finds the test classes by reference, so it imports this module and sees the same.

Raises ModuleNotFoundError where there is no ``test`` package.
"""

import builtins
import importlib.util

from .replacement import import_with_replacement

SOURCE = "test._test_multiprocessing"

_found = importlib.util.find_spec(SOURCE)
if _found is None or _found.origin is None:
    raise ModuleNotFoundError(f"No module named {SOURCE!r}", name=SOURCE)
__file__ = _found.origin
__builtins__ = {**vars(builtins), "__import__": import_with_replacement}
with open(__file__, encoding="utf-8") as _source:
    exec(compile(_source.read(), __file__, "exec"))
