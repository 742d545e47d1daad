"""A program that imports ``multiprocessing`` has us instead, without a change.

    lithops-mp run program.py

Only where its own modules import it: the standard library and what is installed
(Lithops itself, too) go on with CPython's.
"""

from __future__ import annotations

import builtins
import importlib.util
import os
import pkgutil
import sys
import sysconfig
import types
from collections.abc import Mapping
from typing import Any

_NAME = "multiprocessing"
_OURS = __name__.partition(".")[0]

# Where modules are that are not the program's own.
_OTHERS = {
    os.path.realpath(path)
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(name))
} | {os.path.dirname(os.path.realpath(__file__))}
_INSTALLED = ("site-packages", "dist-packages")

_import = builtins.__import__


def install() -> None:
    """From now on, in this process; its children do the same."""
    builtins.__import__ = _alias


def installed() -> bool:
    """Is it so?"""
    return builtins.__import__ is _alias


def _alias(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Any = (),
    level: int = 0,
) -> types.ModuleType:
    first, dot, rest = name.partition(".")
    if first == _NAME and not level and globals is not None and _is_own(globals):
        name = _OURS + dot + rest
    return _import(name, globals, locals, fromlist, level)


def _is_own(module: Mapping[str, object]) -> bool:
    """Is a module with these globals part of the program?"""
    file = module.get("__file__")
    if module.get("__name__") == "__main__" or not isinstance(file, str):
        return module.get("__name__") == "__main__"
    path = os.path.dirname(os.path.realpath(file))
    while path not in _OTHERS and os.path.basename(path) not in _INSTALLED:
        above = os.path.dirname(path)
        if above == path:
            return True
        path = above
    return False


def load(program: str, *, module: bool = False) -> tuple[types.ModuleType, types.CodeType]:
    """A program's ``__main__`` and code, as ``python`` finds them.

    It is a file, a folder or an archive with a ``__main__.py``, or a module's name.

    Raises OSError or ImportError if there is none.
    """
    main = types.ModuleType("__main__")
    if module:
        sys.path.insert(0, os.getcwd())
        spec = importlib.util.find_spec(program)
        if spec and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{program}.__main__")
    elif finder := pkgutil.get_importer(program):
        sys.path.insert(0, program)
        spec = finder.find_spec("__main__")
    else:
        with open(program, "rb") as file:
            text = file.read()
        sys.path.insert(0, os.path.dirname(os.path.abspath(program)))
        main.__file__ = program
        return main, compile(text, program, "exec")
    loader: Any = spec and spec.loader
    code = loader and loader.get_code(spec.name)  # type: ignore[union-attr]
    if not code:
        raise ImportError(f"there is no module {program!r} that could be run")
    assert spec
    main.__spec__, main.__file__, main.__package__ = spec, spec.origin, spec.parent
    return main, code


def run(main: types.ModuleType, code: types.CodeType, args: list[str]) -> None:
    """Run what was loaded. What the program raises goes through, SystemExit too."""
    inside = main.__spec__ and main.__spec__.name == "__main__"  # of a folder or an archive
    sys.argv[:] = [sys.path[0] if inside else main.__file__ or "", *args]
    # It stays: processes and messages look for the program there to its very end.
    sys.modules["__main__"] = main
    install()
    exec(code, main.__dict__)
