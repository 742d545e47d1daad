"""Where a run takes place: the server, and how each contestant is told of it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from multiprocessing import util
from pathlib import Path
from typing import Any
from urllib.parse import quote

import lithops_mp
from lithops_mp._store.settings import URL_VARIABLE, Settings, from_url
from lithops_mp.errors import ConfigurationError

from .floor import Wire, packed
from .folder import Folder
from .proxy import Proxy, short_folder

LIBRARIES = ("lithops", "redis", "hiredis", "python-redis-lock", "pottery")


@dataclass(frozen=True)
class Site:
    """A server. It travels to the worker processes. ``tag`` is in the name of each of our keys.

    ``url`` is what everybody uses, by way of the proxy if there is one; ``direct`` is the
    server itself. ``latency`` is what the proxy adds to a round trip, in seconds.
    """

    url: str
    origin: str
    tag: str
    direct: str = ""
    latency: float = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        return Site, (self.url, self.origin, self.tag, self.direct, self.latency)

    def again(self) -> Site:
        """The same server, with connections of its own: for another thread."""
        make, args = self.__reduce__()
        found: Site = make(*args)
        return found

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
        local: dict[str, Any] = {
            "mode": "localhost",
            "backend": "localhost",
            "storage": "localhost",
        }
        # Its cleaner would come after us; the folder is deleted as a whole.
        local |= {"log_level": "WARNING", "data_cleaner": False}
        here = {"runtime": sys.executable}  # Lithops' default is whatever "python" is
        section = {"lithops": local, "localhost": here, "redis": self.redis_options()}
        os.environ["LITHOPS_CONFIG"] = json.dumps(section)
        os.environ[URL_VARIABLE] = self.url
        _own_folder()
        # In a checkout nothing is installed.
        found = [str(Path(lithops_mp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, found))

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


class Meter:
    """Counts requests at the server itself: how often it found something to read.

    Commands that a client sends together, as a pipeline, are one, and so is a wait. What
    is larger than the server's buffer is read in pieces, each of which counts.
    """

    def __init__(self, site: Site) -> None:
        self._wire = Wire(from_url(site.direct or site.url, "the bench"))
        self._ask = packed("INFO", "stats")
        self._asked = 0

    def requests(self) -> int:
        """How many there were, but for this one and its like."""
        self._asked += 1
        stats = bytes(self._wire.value(self._ask))
        return int(stats.partition(b"total_reads_processed:")[2].split()[0]) - self._asked


def site(url: str | None, latency: float = 0.0) -> Site:
    """The server of ``url``, or an embedded one; behind a proxy if there is to be a latency.

    Both are gone when this process is, and not sooner: at exit lithops_mp and
    Lithops still have something to say to the server.
    """
    tag = os.urandom(6).hex()
    origin = "given with --redis"
    if not url:
        from lithops_mp._store.server import EmbeddedServer

        s = EmbeddedServer().settings
        url = _unix(s, s.path)
        origin = f"{Path(s.source).name}, started for this run on a Unix socket"
    if not latency:
        return Site(url, origin, tag, url)
    s = from_url(url, "--redis")
    if s.ssl or s.kind == "sentinel":
        raise ConfigurationError(
            "--latency: the proxy passes on plain TCP and Unix sockets only. Give a "
            "redis:// or unix:// URL with --redis, or leave one of the two out."
        )
    place = ("unix", s.path) if s.kind == "unix" else (s.host, str(s.port))
    _proxies.append(proxy := Proxy(*place, latency))
    origin += f", behind a proxy that makes each round trip {latency * 1000:g} ms longer"
    return Site(_unix(s, proxy.path), origin, tag, url, latency)


# Kept: a proxy is gone with its standard input.
_proxies: list[Proxy] = []


def _own_folder() -> None:
    """Let Lithops have a folder for temporary files that no other program uses.

    Each program that uses Lithops on this machine puts a copy of Lithops there anew, under
    the hands of the functions of others, which then fail.
    """
    folder = os.environ["TMPDIR"] = short_folder("lmp-bench-")
    tempfile.tempdir = None  # it is asked for again
    # After all that is done at the end by anybody else.
    util.Finalize(None, Folder(folder).close, exitpriority=-1000)


def _unix(s: Settings, path: str) -> str:
    """A URL with the same credentials and database, at a Unix socket."""
    user, word = quote(s.username or "", safe=""), quote(s.password or "", safe="")
    return f"unix://{user}:{word}@{quote(path)}?db={s.db}"


def surroundings() -> dict[str, Any]:
    """Commit, machine and versions: what a number means nothing without."""
    return {
        "version": lithops_mp.__version__,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        **_commit(),
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


def _commit() -> dict[str, Any]:
    """Of a checkout; of an installed package, if it was installed from a repository."""
    here = Path(__file__).parent
    if here.name == "bench":
        changed = _git("status", "--porcelain", "--", "lithops_mp", "lua", "bench")
        return {"commit": _git("rev-parse", "HEAD"), "changed_since": bool(changed)}
    found: dict[str, Any] = {}
    with contextlib.suppress(metadata.PackageNotFoundError, ValueError):
        found = json.loads(metadata.distribution("lithops-mp").read_text("direct_url.json") or "{}")
    return {"commit": found.get("vcs_info", {}).get("commit_id", ""), "changed_since": False}


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
