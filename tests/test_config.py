"""Settings: names, checks, and that what is started sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lithops_mp import config


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    before = config.snapshot()
    config.reset()
    yield
    config.reset()
    config.update(before)


def test_defaults_are_those_of_the_seed_and_of_the_design() -> None:
    assert config.snapshot() == {
        "LITHOPS_CONFIG": {},
        "STREAM_STDOUT": True,
        "REDIS_EXPIRY_TIME": 3600,
        "PIPE_CONNECTION_TYPE": "redislist",
        "ENV_VARS": {},
        "EXPORT_EXECUTION_DETAILS": False,
        "REDIS_URL": None,
        "HEARTBEAT": 5,
        "LEASE": 30,
        "PROGRAM_GRACE": 300,
        "DEAD_OWNER": "warn",
        "IDLE_FUNCTION": None,
        "IDLE_WORKER": None,
        "TASK_RETRIES": 1,
        "PROGRESS_BAR": False,
    }


def test_every_setting_has_a_constant_of_its_name() -> None:
    assert {name: getattr(config, name) for name in config.snapshot()} == {
        name: name for name in config.snapshot()
    }


def test_the_seed_has_no_other_names() -> None:
    """A program written for ``lithops.multiprocessing`` finds its settings here."""
    from lithops.multiprocessing import config as seed

    names = {name: value for name, value in vars(seed).items() if not name.startswith("_")}
    assert {name: getattr(config, name) for name in names if name.isupper()} == {
        name: value for name, value in names.items() if name.isupper()
    }
    assert [name for name in names if not hasattr(config, name)] == []


def test_set_get_update_reset() -> None:
    config.set_parameter(config.LEASE, 7)
    assert config.get_parameter(config.LEASE) == 7
    config.update({"LEASE": 8}, HEARTBEAT=2)
    assert (config.get_parameter("LEASE"), config.get_parameter("HEARTBEAT")) == (8, 2)
    config.reset()
    assert (config.get_parameter("LEASE"), config.get_parameter("HEARTBEAT")) == (30, 5)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("LEASES", 1, KeyError, "'LEASES' is not a setting; the settings are LITHOPS_CONFIG"),
        ("LEASE", 0, ValueError, "LEASE must be a positive number of seconds, not 0"),
        ("LEASE", True, ValueError, "LEASE must be a positive number of seconds, not True"),
        ("HEARTBEAT", "5", ValueError, "HEARTBEAT must be a positive number of seconds, not '5'"),
        ("IDLE_FUNCTION", -1, ValueError, "IDLE_FUNCTION must be a number of seconds or None"),
        ("DEAD_OWNER", "ignore", ValueError, "DEAD_OWNER must be one of warn, raise, keep"),
        ("PIPE_CONNECTION_TYPE", "tcp", ValueError, "must be one of redislist, nanomsg, not 'tcp'"),
        ("ENV_VARS", [], TypeError, "ENV_VARS must be a dictionary, not list"),
        ("LITHOPS_CONFIG", None, TypeError, "LITHOPS_CONFIG must be a dictionary, not NoneType"),
    ],
)
def test_a_bad_setting_is_refused(
    name: str, value: Any, error: type[Exception], message: str
) -> None:
    before = config.snapshot()
    with pytest.raises(error, match=message):
        config.set_parameter(name, value)
    with pytest.raises(error, match=message):
        config.update({"STREAM_STDOUT": False, name: value})
    assert config.snapshot() == before


def test_unknown_setting_is_not_read() -> None:
    with pytest.raises(KeyError):
        config.get_parameter("LEASES")


def test_a_snapshot_is_not_changed_by_later_settings() -> None:
    before = config.snapshot()
    config.set_parameter(config.LEASE, 7)
    assert before["LEASE"] == 30
