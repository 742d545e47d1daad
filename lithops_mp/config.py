"""Settings, as ``lithops.multiprocessing.config`` has them, and a few of ours.

They can be changed while the program runs; what is started or created after
the change sees it, nested processes included.

================================ ======================================================
``LITHOPS_CONFIG`` ({})          laid over the Lithops configuration that is found
``STREAM_STDOUT`` (True)         children's output reaches this terminal
``REDIS_EXPIRY_TIME`` (3600)     seconds an object outlives its last living user
``PIPE_CONNECTION_TYPE``         ``redislist`` (default) or ``nanomsg``
``ENV_VARS`` ({})                environment variables of the processes
``EXPORT_EXECUTION_DETAILS``     the folder in which to say when processes and tasks ran
                                 (``details``); False (default): nowhere
``REDIS_URL`` (None)             the server, instead of the ``redis`` section
``HEARTBEAT`` (5)                seconds between two signs of life of a process
``LEASE`` (30)                   seconds without one after which it is taken for dead
``PROGRAM_GRACE`` (300)          seconds of the main program's silence after which the processes
                                 that it has started take it for ended (a laptop that sleeps);
                                 its locks go on after ``LEASE``, as everybody's
``DEAD_OWNER`` ("warn")          a lock whose holder died goes to the next in line, which
                                 is warned, or gets an error (``raise``); ``keep``: held
                                 for ever, as in CPython
``IDLE_FUNCTION`` (None)         seconds a function waits for another process to run when
                                 its own is done; None: 10 on localhost, 0 elsewhere
``IDLE_WORKER`` (None)           seconds a pool's worker waits for a task before it ends, to
                                 be started again when there is one; None: as long as the
                                 pool on localhost, 60 elsewhere
``TASK_RETRIES`` (1)             how often a pool's task runs again because its worker died
                                 with it, before it raises ``WorkerLost``; at most 9
``PROGRESS_BAR`` (False)         a pool's ``map`` and the like show on a terminal how far
                                 they are
================================ ======================================================
"""

from __future__ import annotations

from typing import Any

LITHOPS_CONFIG = "LITHOPS_CONFIG"
STREAM_STDOUT = "STREAM_STDOUT"
REDIS_EXPIRY_TIME = "REDIS_EXPIRY_TIME"
PIPE_CONNECTION_TYPE = "PIPE_CONNECTION_TYPE"
ENV_VARS = "ENV_VARS"
EXPORT_EXECUTION_DETAILS = "EXPORT_EXECUTION_DETAILS"
REDIS_URL = "REDIS_URL"
HEARTBEAT = "HEARTBEAT"
LEASE = "LEASE"
PROGRAM_GRACE = "PROGRAM_GRACE"
DEAD_OWNER = "DEAD_OWNER"
IDLE_FUNCTION = "IDLE_FUNCTION"
IDLE_WORKER = "IDLE_WORKER"
TASK_RETRIES = "TASK_RETRIES"
PROGRESS_BAR = "PROGRESS_BAR"

_DEFAULTS: dict[str, Any] = {
    LITHOPS_CONFIG: {},
    STREAM_STDOUT: True,
    REDIS_EXPIRY_TIME: 3600,
    PIPE_CONNECTION_TYPE: "redislist",
    ENV_VARS: {},
    EXPORT_EXECUTION_DETAILS: False,
    REDIS_URL: None,
    HEARTBEAT: 5,
    LEASE: 30,
    PROGRAM_GRACE: 300,
    DEAD_OWNER: "warn",
    IDLE_FUNCTION: None,
    IDLE_WORKER: None,
    TASK_RETRIES: 1,
    PROGRESS_BAR: False,
}
_CHOICES = {
    PIPE_CONNECTION_TYPE: ("redislist", "nanomsg"),
    DEAD_OWNER: ("warn", "raise", "keep"),
}
_POSITIVE = (REDIS_EXPIRY_TIME, HEARTBEAT, LEASE, PROGRAM_GRACE)
_IDLE = (IDLE_FUNCTION, IDLE_WORKER)
_DICTS = (LITHOPS_CONFIG, ENV_VARS)

_settings = dict(_DEFAULTS)


def _check(key: str, value: Any) -> None:
    if key not in _DEFAULTS:
        raise KeyError(f"{key!r} is not a setting; the settings are {', '.join(_DEFAULTS)}")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise ValueError(f"{key} must be one of {', '.join(_CHOICES[key])}, not {value!r}")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in _POSITIVE and not (number and value > 0):
        raise ValueError(f"{key} must be a positive number of seconds, not {value!r}")
    if key in _IDLE and value is not None and not (number and value >= 0):
        raise ValueError(f"{key} must be a number of seconds or None, not {value!r}")
    if key == TASK_RETRIES and not (type(value) is int and 0 <= value <= 9):
        raise ValueError(f"{key} must be a whole number from 0 to 9, not {value!r}")
    if key in _DICTS and not isinstance(value, dict):
        raise TypeError(f"{key} must be a dictionary, not {type(value).__name__}")


def set_parameter(key: str, value: Any) -> None:
    """Change one setting.

    Raises KeyError for an unknown one, ValueError for a value that is not among those it may
    have, TypeError for ``LITHOPS_CONFIG`` or ``ENV_VARS`` that is no dictionary.
    """
    _check(key, value)
    _settings[key] = value


def get_parameter(parameter: str) -> Any:
    """The value of a setting. Raises KeyError for an unknown one."""
    return _settings[parameter]


def update(config_dic: dict[str, Any] | None = None, **configurations: Any) -> None:
    """Change several settings at once: all of them, or none if one is bad.

    Raises what :func:`set_parameter` does.
    """
    changes = {**(config_dic or {}), **configurations}
    for key, value in changes.items():
        _check(key, value)
    _settings.update(changes)


def reset() -> None:
    """Put every setting back to its default."""
    _settings.clear()
    _settings.update(_DEFAULTS)


def snapshot() -> dict[str, Any]:
    """All settings, to hand to a child process."""
    return dict(_settings)
