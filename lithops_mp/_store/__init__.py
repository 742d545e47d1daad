"""Redis: connections, scripts, names, and this process's place among them.

Only this package imports ``redis``, and only when it is first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session import Session


def current() -> Session:
    """This process's session with the server, started if need be."""
    from .session import current as _current

    return _current()
