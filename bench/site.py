"""Where a run takes place: the server, and how each contestant is told of it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lithops_mp._store.settings import URL_VARIABLE, Settings, from_url

from .floor import Wire

LIBRARIES = ("lithops", "redis", "hiredis", "python-redis-lock", "pottery")


@dataclass(frozen=True)
class Site:
    """A server. It travels to the worker processes. ``tag`` is in the name of each of our keys."""

    url: str
    origin: str
    tag: str

    def __reduce__(self) -> tuple[Any, ...]:
        return Site, (self.url, self.origin, self.tag)

    def name(self) -> str:
        """A name for a key that nobody has."""
        return f"bench:{self.tag}:{os.urandom(4).hex()}"

    def clean(self) -> None:
        """Leave nothing on a server that is not ours. lithops_mp cleans up by itself."""
        for key in self.redis.scan_iter(match=f"*{self.tag}*", count=1000):
            self.redis.delete(key)

    @cached_property
    def settings(self) -> Settings:
        """The server as lithops_mp sees it."""
        return from_url(self.url, "the bench")

    @cached_property
    def wire(self) -> Wire:
        """This process's bare socket."""
        return Wire(self.settings)

    @cached_property
    def redis(self) -> Any:
        """This process's redis-py client, as its users make it."""
        import redis

        return redis.Redis(**self.redis_options())

    def redis_options(self) -> dict[str, Any]:
        """What ``redis.Redis`` takes, which is also the ``redis`` section of Lithops."""
        s = self.settings
        place: dict[str, Any] = {"host": s.host, "port": s.port}
        if s.kind == "unix":
            place = {"unix_socket_path": s.path}
        options = place | {"username": s.username, "password": s.password, "db": s.db}
        return {name: value for name, value in options.items() if value is not None}

    def announce(self) -> None:
        """Tell lithops_mp and Lithops of this server, in this process and its children.

        By the environment: a worker unpickles locks before it runs any of our code.
        """
        local = {"mode": "localhost", "backend": "localhost", "storage": "localhost"}
        section = {"lithops": local, "redis": self.redis_options()}
        os.environ["LITHOPS_CONFIG"] = json.dumps(section)
        os.environ[URL_VARIABLE] = self.url

    def info(self) -> dict[str, str]:
        """What the server says about itself."""
        found = self.redis.info()
        wanted = (
            "redis_version",
            "valkey_version",
            "server_name",
            "redis_mode",
            "os",
            "io_threads_active",
        )
        return {name: str(found[name]) for name in wanted if name in found}


def site(url: str | None) -> Site:
    """The server of ``url``, or an embedded one.

    That one is gone when this process is, and not sooner: at exit lithops_mp and
    Lithops still have something to say to it.
    """
    tag = os.urandom(6).hex()
    if url:
        return Site(url, "given with --redis", tag)
    from lithops_mp._store.server import EmbeddedServer

    s = EmbeddedServer().settings
    return Site(
        f"unix://:{quote(s.password or '', safe='')}@{quote(s.path)}",
        f"{Path(s.source).name}, started for this run on a Unix socket",
        tag,
    )


def surroundings() -> dict[str, Any]:
    """Commit, machine and versions: what a number means nothing without."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed_since": bool(_git("status", "--porcelain", "--", "lithops_mp", "lua", "bench")),
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "system": platform.platform(),
            "load_before": os.getloadavg()[0],
        },
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def _git(*words: str) -> str:
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here.parent), *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
