"""Where Redis is, and how to reach it.

A program says so in one of three places, looked at in this order: the ``url``
argument, ``LITHOPS_MP_REDIS_URL``, the ``redis`` section of the Lithops
configuration. With none of them, and functions that run on this machine, the
answer of :func:`resolve` is ``None``: start the embedded server
(:mod:`lithops_mp._store.server`).

A :class:`Settings` travels to the workers, so it is plain data. It knows where
each value came from, because every error has to say so; and it never shows a
credential, because errors and logs are read by others.

``redis`` is imported inside the functions that need it: ``import lithops_mp``
must stay cheap.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import re
import socket
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ..errors import ConfigurationError, ServerUnavailable

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

Config: TypeAlias = dict[str, Any]
Nodes: TypeAlias = tuple[tuple[str, int], ...]

URL_VARIABLE = "LITHOPS_MP_REDIS_URL"
OLDEST_SERVER = (6, 2)

#: Seconds to establish a connection. Long enough for a TLS handshake with
#: another continent, short enough that a wrong address is noticed at once.
CONNECT_TIMEOUT = 5.0

LOCALHOST = "localhost"
_DEFAULT_BACKENDS = {LOCALHOST: LOCALHOST, "serverless": "aws_lambda", "standalone": "aws_ec2"}

#: What Lithops runs on when it finds no configuration at all.
_NO_CONFIG = {"lithops": {"mode": LOCALHOST, "backend": LOCALHOST, "storage": LOCALHOST}}

#: The TLS options of redis-py that are plain data. The others (an OCSP context,
#: verify flags) are objects that cannot travel to a worker.
SSL_OPTIONS = frozenset({
    *("ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version", "ssl_ciphers"),
    *("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"),
    *("ssl_certfile", "ssl_keyfile", "ssl_password"),
})  # fmt: skip  # one line per subject
_SECTION_KEYS = frozenset(
    ("url", "host", "port", "path", "unix_socket_path", "username", "password", "db", "ssl")
)

#: Options often found in the URLs of redis-py. They are ours to decide, and
#: harmless to ignore.
_IGNORED_URL_OPTIONS = frozenset({
    *("client_name", "protocol", "decode_responses", "encoding", "encoding_errors"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_read_size"),
    *("health_check_interval", "retry_on_timeout", "max_connections", "timeout"),
})  # fmt: skip  # one line per subject
_URL_OPTIONS = SSL_OPTIONS | {
    *("db", "username", "password", "sentinel_username", "sentinel_password")
}
_URL_FORMS = (
    "redis://[user:password@]host[:port][/db], rediss:// for TLS, "
    "unix://[user:password@]/path/to/socket[?db=N], or "
    "redis+sentinel://[user:password@]host[:port],host[:port]/service[/db]; "
    "special characters in a password are percent-encoded"
)

#: A peer that vanished without a word (a frozen VM, a dropped NAT entry) is
#: found by the kernel after 30 + 3 * 5 seconds, below the 60 s after which many
#: clouds forget an idle flow.
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))

_log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Settings:
    """Enough to connect to Redis from any process on any host.

    ``kind`` tells which fields count: ``host``/``port`` (``tcp``), ``path``
    (``unix``), or ``nodes``/``service`` (``sentinel``).
    """

    kind: Literal["tcp", "unix", "sentinel"]
    host: str = "localhost"
    port: int = 6379
    path: str = ""
    nodes: Nodes = ()
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    ssl: bool = False
    ssl_options: tuple[tuple[str, str | bool], ...] = ()
    source: str = "unknown"
    embedded: bool = False

    @property
    def address(self) -> str:
        """The place, fit for a message."""
        if self.kind == "unix":
            return self.path
        if self.kind == "sentinel":
            nodes = ",".join(f"{host}:{port}" for host, port in self.nodes)
            return f"{nodes} (master {self.service!r})"
        return f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        tls = " with TLS" if self.ssl else ""
        return f"<Settings: Redis at {self.address}, db {self.db}{tls}, from {self.source}>"

    def to_wire(self) -> Config:
        """As a dict that msgpack can carry. It holds the credentials."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Settings:
        """Undo :meth:`to_wire`; lists are taken where msgpack made them of tuples."""
        values = dict(wire)
        for name in ("nodes", "ssl_options"):
            values[name] = tuple(tuple(pair) for pair in values.get(name, ()))
        return cls(**values)

    def connection(
        self,
        *,
        socket_timeout: float | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> AbstractConnection:
        """A new redis-py connection, not yet connected.

        It retries nothing by itself: a repeated command must carry the request
        id of the first, which only the caller knows. It says nothing to the
        server besides AUTH and SELECT.

        With sentinels, each time it connects it asks them who is master now.
        """
        from redis import connection as redis_connection
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        options: Config = {
            "db": self.db,
            "username": self.username,
            "password": self.password,
            "protocol": 2,
            "decode_responses": False,
            "socket_timeout": socket_timeout,
            "socket_connect_timeout": connect_timeout,
            "health_check_interval": 0,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            "retry_on_timeout": False,
            **_silence(),
        }
        # Any: redis-py 8.1 declares a ``host`` that its Unix connection does not define.
        kind: Any = redis_connection.Connection
        if self.kind == "unix":
            kind = redis_connection.UnixDomainSocketConnection
            return cast("AbstractConnection", kind(path=self.path, **options))
        keepalive = {
            getattr(socket, name): value for name, value in _KEEPALIVE if hasattr(socket, name)
        }
        options.update(
            host=self.host,
            port=self.port,
            socket_keepalive=True,
            socket_keepalive_options=keepalive,
        )
        if self.ssl:
            kind = redis_connection.SSLConnection
            options.update(self._tls())
        if self.kind == "sentinel":
            kind = _following(self, kind, connect_timeout)
        return cast("AbstractConnection", kind(**options))

    def _tls(self) -> Config:
        """The TLS options, with redis-py's newest and safest defaults spelled out.

        Before 6.0, redis-py did not check the host name unless told to.
        """
        options: Config = {"ssl_cert_reqs": "required", **dict(self.ssl_options)}
        options.setdefault("ssl_check_hostname", options["ssl_cert_reqs"] != "none")
        if "ssl_min_version" in options:
            import ssl

            options["ssl_min_version"] = ssl.TLSVersion[options["ssl_min_version"]]
        return options

    def master(self, timeout: float = CONNECT_TIMEOUT) -> tuple[str, int]:
        """Ask the sentinels where the master is. Raises redis-py's exceptions."""
        from redis.sentinel import Sentinel

        options: Config = {
            "username": self.sentinel_username,
            "password": self.sentinel_password,
            "protocol": 2,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
        }
        if self.ssl:
            options.update(ssl=True, **self._tls())
        sentinel = Sentinel(list(self.nodes), sentinel_kwargs=options)
        try:
            host, port = sentinel.discover_master(self.service)
        finally:
            for client in sentinel.sentinels:
                client.close()
        return str(host), int(port)


def _following(settings: Settings, base: Any, timeout: float) -> Any:
    """A connection class that looks its master up each time it connects.

    redis-py's own (``SentinelManagedConnection``) works only inside its pool.
    """

    class MasterConnection(base):  # type: ignore[misc]  # the base is known at run time only
        def _connect(self) -> Any:
            self.host, self.port = settings.master(timeout)
            return super()._connect()

    return MasterConnection


@functools.lru_cache(maxsize=1)
def _silence() -> Config:
    """The options that keep redis-py from introducing itself, two round trips.

    ``lib_name`` is right up to redis-py 7.1 and warns from 7.2 on.
    """
    from redis.connection import AbstractConnection

    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters:
        return {"driver_info": None}
    return {"lib_name": None, "lib_version": None}


# --- where the setting comes from --------------------------------------------------


def resolve(
    url: str | None,
    lithops_config: Mapping[str, Any] | None,
    backend: str | None,
    *,
    url_source: str = "the url argument",
    config_source: str = "the Lithops configuration",
) -> Settings | None:
    """Find out which Redis to use; ``None`` means the embedded server.

    ``backend`` is the Lithops backend the functions will run on, or ``None`` to
    read it from the configuration. Nothing is connected to or started here, so
    a program that cannot work is told so before it costs anything. Raises
    :class:`ConfigurationError`.
    """
    config = lithops_config or {}
    backend = backend or backend_of(config)
    settings = None
    if url is not None:
        settings = from_url(url, url_source)
    elif os.environ.get(URL_VARIABLE):
        settings = from_url(os.environ[URL_VARIABLE], f"the environment variable {URL_VARIABLE}")
    elif config.get("redis"):
        settings = from_section(config["redis"], f"the redis section of {config_source}")
    if backend == LOCALHOST:
        return settings
    advice = (
        "Give it a server that both this machine and the functions can reach: write\n"
        "    redis:\n        host: HOST\n        port: 6379\n        password: PASSWORD\n"
        f"into the Lithops configuration, or set {URL_VARIABLE}."
    )
    if settings is None:
        raise ConfigurationError(
            f"No Redis server is configured, and the Lithops backend {backend!r} (from "
            f"{config_source}) runs its functions on other machines, where the embedded "
            f"server of this one is out of reach. {advice}"
        )
    if settings.kind == "unix":
        raise ConfigurationError(
            f"The Unix socket {settings.path} (from {settings.source}) is out of reach for "
            f"functions of the Lithops backend {backend!r}. {advice}"
        )
    return settings


def from_url(url: str, source: str) -> Settings:
    """Read a Redis URL. No message repeats any of it: a misread one may show a password."""
    try:
        return _from_url(url, source)
    except ValueError as exc:
        reason = str(exc) if isinstance(exc, _Invalid) else "it is malformed"
    raise ConfigurationError(
        f"The Redis URL from {source} cannot be used: {reason}. Accepted are {_URL_FORMS}."
    )


class _Invalid(ValueError):
    """A reason that is fit to be shown."""


def _from_url(url: str, source: str) -> Settings:
    parts = urlsplit(url.strip())
    scheme, _, variant = parts.scheme.partition("+")
    if scheme not in ("redis", "rediss", "unix") or variant not in ("", "sentinel", "cluster"):
        raise _Invalid("its scheme is not known")
    if variant == "cluster":
        raise ConfigurationError(_NO_CLUSTER.format(what=f"The Redis URL from {source}"))
    if parts.fragment or "#" in url:
        raise _Invalid("it has a '#'")
    values: Config = {"source": source, "ssl": scheme == "rediss"}
    userinfo, _, location = parts.netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    values["username"] = unquote(username) or None
    values["password"] = unquote(password) or None
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    if not options.keys() <= _URL_OPTIONS | _IGNORED_URL_OPTIONS:
        raise _Invalid(f"it has an option other than {', '.join(sorted(_URL_OPTIONS))}")
    for name in ("username", "password", "sentinel_username", "sentinel_password"):
        if options.get(name):
            values[name] = options[name]
    values["ssl_options"] = _ssl_options(options)
    if scheme == "unix":
        if location or not parts.path:
            raise _Invalid("it names no path (three slashes: unix:///path)")
        return Settings("unix", path=unquote(parts.path), db=_db(options.get("db")), **values)
    path = unquote(parts.path).strip("/")
    if variant == "sentinel":
        service, _, path = path.partition("/")
        if not service:
            raise _Invalid("it names no service after the hosts")
        return Settings(
            "sentinel",
            nodes=_nodes(location),
            service=service,
            db=_db(path or options.get("db")),
            **values,
        )
    return Settings(
        "tcp",
        host=parts.hostname or "localhost",
        port=_port(parts, 6379),
        db=_db(path or options.get("db")),
        **values,
    )


def _port(parts: SplitResult, default: int) -> int:
    try:
        return parts.port or default
    except ValueError:  # its text repeats what it took for the port
        raise _Invalid("its port is not a number up to 65535") from None


def _nodes(location: str) -> Nodes:
    nodes = []
    for node in location.split(","):
        parts = urlsplit("//" + node)
        if not parts.hostname:
            raise _Invalid("a sentinel has no host")
        nodes.append((parts.hostname, _port(parts, 26379)))
    return tuple(nodes)


def _db(value: object) -> int:
    if value is None or value == "":
        return 0
    if not re.fullmatch(r"\d{1,9}", str(value)):
        raise _Invalid("its database (db) is not a number")
    return int(str(value))


def _bool(name: str, value: object) -> bool:
    word = str(value).strip().lower()
    if word not in ("1", "0", "true", "false", "yes", "no"):
        raise _Invalid(f"{name} is neither true nor false")
    return word in ("1", "true", "yes")


def _ssl_options(given: Mapping[str, Any]) -> tuple[tuple[str, str | bool], ...]:
    """The TLS options, checked now rather than in some worker's first connection.

    An unknown one is refused: ignoring it could mean less security than asked for.
    """
    options: dict[str, str | bool] = {}
    for name in sorted(key for key in given if key.startswith("ssl_")):
        value = given[name]
        if name not in SSL_OPTIONS:
            raise _Invalid(f"of the TLS options only {', '.join(sorted(SSL_OPTIONS))} are known")
        if value is None:
            continue
        if name == "ssl_check_hostname":
            options[name] = _bool(name, value)
            continue
        text = str(value)
        if name == "ssl_cert_reqs":
            text = text.lower().removeprefix("cert_")
            if text not in ("none", "optional", "required"):
                raise _Invalid("ssl_cert_reqs is not none, optional or required")
        elif name == "ssl_min_version":
            text = text.replace(".", "_")
            if text not in ("TLSv1_2", "TLSv1_3"):
                raise _Invalid("ssl_min_version is not TLSv1_2 or TLSv1_3")
        options[name] = text
    if options.get("ssl_cert_reqs") == "none" and options.get("ssl_check_hostname"):
        raise _Invalid("ssl_check_hostname needs a certificate, but ssl_cert_reqs is none")
    return tuple(options.items())


def from_section(section: object, source: str) -> Settings:
    """Read the ``redis`` section of a Lithops configuration.

    Lithops hands this section to redis-py as it is and writes keys of its own
    into it, so unknown keys are left alone; TLS options are the exception.
    """
    try:
        return _from_section(section, source)
    except _Invalid as exc:
        reason = str(exc)
    raise ConfigurationError(
        f"{source[0].upper()}{source[1:]} cannot be used: {reason}. It takes host, port, "
        f"username, password, db, ssl, ssl_*, or unix_socket_path, or url."
    )


def _from_section(section: object, source: str) -> Settings:
    if not isinstance(section, Mapping):
        raise _Invalid("it is not a mapping")
    given = {str(key): value for key, value in section.items() if value is not None}
    for key in given:
        if key not in _SECTION_KEYS and not key.startswith("ssl_"):
            _log.debug("ignoring the key %r of %s", key, source)
    if "url" in given:
        return from_url(str(given["url"]), f"the url in {source}")
    values: Config = {
        "source": source,
        "db": _db(given.get("db")),
        "username": str(given["username"]) if given.get("username") else None,
        "password": str(given["password"]) if "password" in given else None,
        "ssl": _bool("ssl", given.get("ssl", False)),
        "ssl_options": _ssl_options(given),
    }
    path = given.get("unix_socket_path") or given.get("path")
    if path:
        return Settings("unix", path=str(path), **values)
    if not given.get("host"):
        raise _Invalid("it names no server")
    port = str(given.get("port", 6379))
    if not re.fullmatch(r"\d{1,5}", port) or not 0 < int(port) < 65536:
        raise _Invalid("its port is not a number up to 65535")
    return Settings("tcp", host=str(given["host"]), port=int(port), **values)


# --- the Lithops configuration -----------------------------------------------------


def load_lithops_config(overrides: Mapping[str, Any] | None = None) -> tuple[Config, str]:
    """The configuration Lithops would use, with ``overrides`` on top, and its source.

    Found the way Lithops 3.8 finds it, without importing Lithops (0.3 to 0.5 s).
    Sections are merged key by key. Never empty: to Lithops an empty
    configuration means this machine, but one with only a ``redis`` section
    means AWS Lambda, so what an absent configuration stands for is spelled out.
    """
    found: object
    if "LITHOPS_CONFIG" in os.environ:
        source = "the environment variable LITHOPS_CONFIG"
        try:
            found = json.loads(os.environ["LITHOPS_CONFIG"])
        except ValueError:  # not chained: it holds the whole text, passwords too
            found = None
            broken = "is not valid JSON"
        else:
            broken = ""
    else:
        path = _config_file()
        source, found, broken = "no Lithops configuration", None, ""
        if path is not None:
            source = "the Lithops configuration " + _shown(path)
            found, broken = _read_yaml(path)
    if not broken and found and not isinstance(found, dict):
        broken = "is not a mapping of sections"
    if broken:
        raise ConfigurationError(f"{source[0].upper()}{source[1:]} cannot be used: it {broken}.")
    config = found if isinstance(found, dict) and found else _NO_CONFIG
    return _override(config, overrides or {}), source


def _override(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> Config:
    """Lay overrides over a configuration: sections, or ``FunctionExecutor``'s arguments.

    ``lithops.multiprocessing`` documents the former and passes them on as the
    latter, so programs with either are about.
    """
    arguments = {k: v for k, v in overrides.items() if v is not None and not isinstance(v, Mapping)}
    if "config_file" in arguments:
        raise ConfigurationError(
            "LITHOPS_CONFIG cannot name a config_file here: name it in the environment "
            "variable LITHOPS_CONFIG_FILE."
        )
    sections = {k: v for k, v in overrides.items() if k not in arguments and k != "config"}
    merged = _merge(_merge(config, overrides.get("config") or {}), sections)
    names = ("mode", "backend", "storage", "monitoring", "log_level")
    chosen = {k: arguments.pop(k) for k in names if k in arguments}
    merged = _merge(merged, {"lithops": chosen} if chosen else {})
    return _merge(merged, {backend_of(merged): arguments} if arguments else {})


def _config_file() -> str | None:
    if "LITHOPS_CONFIG_FILE" in os.environ:
        return os.environ["LITHOPS_CONFIG_FILE"]
    home = os.path.join(os.path.expanduser("~"), ".lithops", "config")
    here = os.path.join(working_directory(), ".lithops_config")
    for path in (here, home, "/etc/lithops/config"):
        if os.path.exists(path):
            return path
    return None


def working_directory() -> str:
    """Where this program is. Raises ConfigurationError if that has been deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise ConfigurationError(
            "The working directory of this program has been deleted. Lithops looks for its "
            "configuration there, and processes begin there: os.chdir() to a folder that exists."
        ) from None


def _shown(path: str) -> str:
    home = os.path.expanduser("~")
    return "~" + path.removeprefix(home) if path.startswith(home + os.sep) else path


def _read_yaml(path: str) -> tuple[object, str]:
    """The content of a file and what is wrong with it. Lithops takes a missing one as empty."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            return yaml.safe_load(file), ""
    except FileNotFoundError:
        return None, ""
    except OSError as exc:
        return None, f"cannot be read ({exc.strerror})"
    except (yaml.YAMLError, UnicodeDecodeError) as exc:  # its text quotes the file
        mark = getattr(exc, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        return None, f"is not valid YAML{where}"


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> Config:
    """A deep copy of ``base`` with ``top`` laid over it, mappings key by key."""
    merged: Config = {}
    for key in [*base, *(key for key in top if key not in base)]:
        below, above = base.get(key), top.get(key)
        if isinstance(above, Mapping) or (isinstance(below, Mapping) and key not in top):
            merged[key] = _merge(below if isinstance(below, Mapping) else {}, above or {})
        else:
            merged[key] = top[key] if key in top else base[key]
    return merged


def backend_of(config: Mapping[str, Any] | None) -> str:
    """The compute backend Lithops picks for a configuration: its own rule, repeated here."""
    if not config:
        return LOCALHOST
    section = config.get("lithops") or {}
    if section.get("backend"):
        return str(section["backend"])
    mode = section.get("mode") or "serverless"
    chosen = config.get(mode) or {}
    return str(chosen.get("backend") or _DEFAULT_BACKENDS.get(mode, mode))


# --- is it usable? -----------------------------------------------------------------

#: Seconds for which a program's first connection is tried again.
MOMENT = 2.0

_NO_CLUSTER = (
    "{what} names a Redis Cluster. This version of lithops_mp talks to one server: its "
    "objects are laid out for a cluster, its connections are not yet. Use a single server "
    "or one behind sentinels."
)


def check_server(connection: AbstractConnection, settings: Settings, patience: float = 0.0) -> None:
    """Ask a server, in one round trip, whether shared objects are safe with it.

    One that is busy, or not ready yet, is asked again for ``patience`` seconds; when the
    connection breaks or cannot be made, for :data:`MOMENT` of them: that may pass, but more
    often the address is wrong. Raises :class:`ServerUnavailable` when it cannot be reached,
    refuses us or is too old, and warns when it may evict keys.
    """
    import redis

    began = time.monotonic()
    while True:
        try:
            connection.connect()
            connection.send_command("INFO")
            info = _parse_info(connection.read_response())
            break
        except (redis.RedisError, OSError) as exc:
            word = _refusal(exc, str(exc))
            broken = word is None and isinstance(exc, (redis.ConnectionError, OSError))
            limit = min(patience, MOMENT) if broken else patience if word in _PASSING else 0.0
            if time.monotonic() >= began + limit:
                raise translate(exc, settings) from None
        connection.disconnect()
        time.sleep(0.05)
    version = info.get("redis_version", "")
    if not _recent(version):
        connection.disconnect()
        raise ServerUnavailable(
            f"The server at {settings.address} (from {settings.source}) is Redis "
            f"{version or 'of an unknown version'}, and lithops_mp needs Redis 6.2 or later, "
            f"or Valkey. Upgrade it, or name another one."
        )
    if info.get("cluster_enabled") == "1":
        connection.disconnect()
        raise ConfigurationError(
            _NO_CLUSTER.format(what=f"The address {settings.address} (from {settings.source})")
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        warnings.warn(
            f"The Redis server at {settings.address} (from {settings.source}) may evict keys "
            f"when its memory is full (maxmemory-policy is {policy!r}). A lock or queue of "
            f"yours could vanish in use; its users would then get ObjectExpired. Run "
            f"'CONFIG SET maxmemory-policy noeviction' on it, or use another server.",
            RuntimeWarning,
            stacklevel=2,
        )


def _parse_info(reply: object) -> dict[str, str]:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in pairs if colon}


def _recent(version: str) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= OLDEST_SERVER


#: First word of an error reply -> what it means to the user. ``{0}`` is the
#: address, ``{1}`` the source.
_REFUSALS = {
    "WRONGPASS": "The Redis server at {0} does not accept our user name and password. Correct "
    "them in {1}.",
    "NOAUTH": "The Redis server at {0} wants a password and has got none. Add it to {1}.",
    "NOPERM": "The Redis server at {0} does not allow our user what lithops_mp needs: scripts, "
    "INFO, TIME, and all keys and channels that start with 'lmp:'. The user is named in {1}.",
    "LOADING": "The Redis server at {0} (from {1}) is still loading its data. Try again when it "
    "is ready.",
    "READONLY": "The Redis server at {0} (from {1}) is a read-only replica. Name its master, or "
    "its sentinels.",
    "MASTERDOWN": "The Redis server at {0} (from {1}) is a replica that has lost its master.",
    "OOM": "The Redis server at {0} (from {1}) is out of memory (see its maxmemory setting).",
    "MISCONF": "The Redis server at {0} (from {1}) refuses to write because it cannot save its "
    "data to disk. Its log says why.",
    "BUSY": "The Redis server at {0} (from {1}) runs a script that does not come to an end, and "
    "answers nobody meanwhile. Its 'SCRIPT KILL' may end it.",
    "NOREPLICAS": "The Redis server at {0} (from {1}) refuses to write because too few replicas "
    "follow it (see its min-replicas-to-write setting).",
    "DENIED": "The Redis server at {0} (from {1}) is in protected mode: it has no password and "
    "serves only its own machine. Give it a password.",
}

#: Those that pass by themselves.
_PASSING = ("LOADING", "MASTERDOWN", "BUSY")


def translate(exc: BaseException, settings: Settings) -> Exception:
    """Our exception for one of redis-py's: ``raise translate(e, s) from None``.

    It says all that redis-py's own say, which would stand above it in many lines. What is
    no trouble with the server or the way to it, such as an error in a script, comes back
    as it is.
    """
    import redis

    text = str(exc)
    if isinstance(exc, (redis.exceptions.MovedError, redis.exceptions.ClusterDownError)):
        what = f"The address {settings.address} (from {settings.source})"
        return ConfigurationError(_NO_CLUSTER.format(what=what))
    if isinstance(exc, redis.ResponseError) and text.startswith("DB index"):
        return ConfigurationError(
            f"The Redis server at {settings.address} has no database {settings.db}. The number "
            f"comes from {settings.source}; 0 exists everywhere."
        )
    word = _refusal(exc, text)
    if word is not None:
        return ServerUnavailable(_REFUSALS[word].format(settings.address, settings.source))
    if isinstance(exc, (redis.ConnectionError, redis.TimeoutError, OSError)):
        reason = text.rstrip(".") or type(exc).__name__
        if settings.embedded:
            return ServerUnavailable(
                f"The embedded Redis server does not answer: {reason}. It lives as long as the "
                f"program that started it; perhaps that has ended, or something killed the "
                f"server. To keep state longer, run a server and set {URL_VARIABLE}."
            )
        tls = " and does it speak TLS" if settings.ssl else ""
        return ServerUnavailable(
            f"The Redis server at {settings.address} does not answer: {reason}. The address "
            f"comes from {settings.source}. Is the server running and reachable from here{tls}?"
        )
    return exc if isinstance(exc, Exception) else ServerUnavailable(text)


def _refusal(exc: BaseException, text: str) -> str | None:
    """The key of :data:`_REFUSALS` for an exception, if the server's reply is one.

    redis-py cuts the first word off the replies it has classes for.
    """
    from redis import exceptions

    classes: Iterable[tuple[type[Exception], str]] = (
        (exceptions.NoPermissionError, "NOPERM"),
        (exceptions.BusyLoadingError, "LOADING"),
        (exceptions.ReadOnlyError, "READONLY"),
        (exceptions.OutOfMemoryError, "OOM"),
        (exceptions.MasterDownError, "MASTERDOWN"),
    )
    for kind, word in classes:
        if isinstance(exc, kind):
            return word
    if not isinstance(exc, exceptions.RedisError):
        return None
    if isinstance(exc, exceptions.AuthenticationError) or "AUTH <password>" in text:
        return "NOAUTH" if "required" in text else "WRONGPASS"
    if "can't run this command or subcommand" in text:  # in a script
        return "NOPERM"
    match = re.match(r"-?([A-Z]+)\b", text)
    return match[1] if match and match[1] in _REFUSALS else None
