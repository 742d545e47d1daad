"""``pynng``, as this process can use it, also if it was forked off one that has."""

from __future__ import annotations

import atexit
import importlib.machinery
import importlib.util
import os
import sys
from multiprocessing import util
from typing import Any

_library: Any = None
_stale = False  # it was used by the process that we were forked from
_path = ""  # of its compiled part


def load() -> Any:
    """The library, as this process can use it."""
    global _library, _stale, _path
    if _library is None or _stale:
        if _stale:
            _load_copy(_path)
        try:
            import pynng
        except ImportError as error:
            raise ImportError(
                "PIPE_CONNECTION_TYPE 'nanomsg' needs pynng: pip install lithops-mp[nanomsg]"
            ) from error
        _library, _stale = pynng, False
        _path = _path or sys.modules["pynng._nng"].__file__ or ""
        # It would end the library before others' finalizers have sent their last words.
        atexit.unregister(pynng.nng._pynng_atexit)
        util.Finalize(None, pynng.nng._pynng_atexit, exitpriority=-101)
    return _library


def _load_copy(path: str) -> None:
    """Have the next import of pynng find a library that nobody has used.

    The loader of the system knows libraries by their inode.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "pynng"]:
        inherited.append(sys.modules.pop(name))
    name = "pynng._nng"
    with open(path, "rb") as file, open(os.memfd_create("pynng"), "wb") as copy:
        copy.write(file.read())
        copy.flush()
        loader = importlib.machinery.ExtensionFileLoader(name, f"/proc/self/fd/{copy.fileno()}")
        spec = importlib.util.spec_from_loader(name, loader)
        assert spec
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    sys.modules[name] = module


# What a forked process must not let go of: destructors would call the library.
inherited: list[Any] = []


def dispose(sock: Any, *, call: bool = True) -> None:
    """Close a socket, for good; without ``call``, only see to it that nobody does."""
    if call:
        sock.close()
    del sock._socket  # its destructor would close it again


def transmit(sock: Any, data: bytes) -> bool:
    """Send; False if that cannot be done now."""
    lib = _library.lib
    code = lib.nng_send(sock.socket, data, len(data), lib.NNG_FLAG_NONBLOCK)
    if code != lib.NNG_EAGAIN:
        _library.exceptions.check_err(code)
    return bool(code == 0)


def _after_fork() -> None:
    global _stale
    _stale = _library is not None


os.register_at_fork(after_in_child=_after_fork)
