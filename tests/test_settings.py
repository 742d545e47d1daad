"""Where Redis is: what is read, what is refused, and what a user is told."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from pathlib import Path

import msgpack
import pytest
import redis
from support import fixtures
from support.servers import Server, all_server_binaries, eventually, free_port, running

from lithops_mp._store import settings as subject
from lithops_mp._store.settings import (
    Settings,
    backend_of,
    check_server,
    from_url,
    load_lithops_config,
    resolve,
    translate,
)
from lithops_mp.errors import ConfigurationError, ServerUnavailable

SECRET = "s3cret"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LITHOPS_MP_REDIS_URL", "LITHOPS_CONFIG", "LITHOPS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)


def everything_shown(exc: BaseException) -> str:
    """What a traceback shows, causes and contexts included."""
    return "".join(traceback.format_exception(exc)) + repr(exc)


# --- URLs ---

URLS = [
    ("redis://", {"kind": "tcp", "host": "localhost", "port": 6379, "db": 0}),
    ("redis://h", {"host": "h", "ssl": False, "username": None, "password": None}),
    ("redis://h:1/2", {"host": "h", "port": 1, "db": 2}),
    ("redis://h/?db=3", {"db": 3}),
    ("redis://[::1]:7", {"host": "::1", "port": 7}),
    ("redis://:p%40%2Fw%25@h", {"username": None, "password": "p@/w%"}),
    ("redis://u:p@h", {"username": "u", "password": "p"}),
    ("redis://h?username=u&password=p", {"username": "u", "password": "p"}),
    ("redis://h?protocol=3&decode_responses=True&socket_timeout=1", {"host": "h"}),
    ("rediss://h", {"kind": "tcp", "ssl": True, "ssl_options": ()}),
    (
        "rediss://h?ssl_cert_reqs=CERT_NONE&ssl_check_hostname=False&ssl_min_version=TLSv1.2",
        {
            "ssl_options": (
                ("ssl_cert_reqs", "none"),
                ("ssl_check_hostname", False),
                ("ssl_min_version", "TLSv1_2"),
            )
        },
    ),
    ("unix:///a/b", {"kind": "unix", "path": "/a/b", "db": 0}),
    ("unix://u:p@/a%20b?db=4", {"path": "/a b", "username": "u", "password": "p", "db": 4}),
    (
        "redis+sentinel://:p@a:1,b/main/2?sentinel_password=q",
        {
            "kind": "sentinel",
            "nodes": (("a", 1), ("b", 26379)),
            "service": "main",
            "db": 2,
            "password": "p",
            "sentinel_password": "q",
        },
    ),
    ("rediss+sentinel://a/main", {"kind": "sentinel", "ssl": True, "db": 0}),
]


@pytest.mark.parametrize(("url", "fields"), URLS)
def test_url_is_read(url: str, fields: dict[str, object]) -> None:
    settings = from_url(url, "here")
    assert {name: getattr(settings, name) for name in fields} == fields
    assert settings.source == "here"
    assert not settings.embedded


BAD_URLS = [
    "",
    f"{SECRET}",
    f"http://:{SECRET}@h",
    f"redis+other://:{SECRET}@h",
    f"redis://:{SECRET}@h:port",
    f"redis://:{SECRET}@h:65536",
    f"redis://:{SECRET}@h/db",
    f"redis://:{SECRET}@h/-1",
    f"redis://:{SECRET}/x@h",  # passwords that should have been percent-encoded
    f"redis://u:12#{SECRET}@h",
    f"redis://u:12/{SECRET}@h",
    f"redis://u:12?{SECRET}@h",
    f"redis://u:12?{SECRET}=1@h",
    f"redis://[{SECRET}@h",
    f"redis://:{SECRET}@h?ssl_cert_req=none",
    f"rediss://:{SECRET}@h?ssl_cert_reqs=maybe",
    f"rediss://:{SECRET}@h?ssl_check_hostname=perhaps",
    f"rediss://:{SECRET}@h?ssl_min_version=SSLv3",
    f"rediss://:{SECRET}@h?ssl_cert_reqs=none&ssl_check_hostname=true",
    f"unix://:{SECRET}@",
    f"unix://:{SECRET}@host/path",
    f"redis+sentinel://:{SECRET}@a:1",
    f"redis+sentinel://:{SECRET}@,b/main",
    f"redis+sentinel://:{SECRET}@a:b/main",
    f"redis+cluster://:{SECRET}@h",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_url_is_refused_with_its_source_and_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the url argument") as caught:
        resolve(url, None, None)
    assert SECRET not in everything_shown(caught.value)


def test_no_credential_is_ever_shown() -> None:
    settings = Settings(
        "sentinel",
        nodes=(("a", 1),),
        service="main",
        username="user",
        password=SECRET,
        sentinel_password=SECRET,
        ssl=True,
        ssl_options=(("ssl_password", SECRET),),
        source="the test",
    )
    shown = f"{settings} {settings!r} {settings.address}"
    assert SECRET not in shown
    assert "the test" in shown


@pytest.mark.parametrize("url", [url for url, _ in URLS])
def test_settings_travel_to_a_worker(url: str) -> None:
    settings = from_url(url, "here")
    assert Settings.from_wire(msgpack.unpackb(msgpack.packb(settings.to_wire()))) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings


# --- the order of the places to look ---


def test_argument_goes_before_environment_before_section(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"lithops": {"backend": "localhost"}, "redis": {"host": "section"}}
    monkeypatch.setenv("LITHOPS_MP_REDIS_URL", "redis://environment")
    found = resolve("redis://argument", config, None)
    assert found is not None
    assert (found.host, found.source) == ("argument", "the url argument")
    found = resolve(None, config, None)
    assert found is not None
    assert found.host == "environment"
    assert found.source == "the environment variable LITHOPS_MP_REDIS_URL"
    monkeypatch.setenv("LITHOPS_MP_REDIS_URL", "")
    found = resolve(None, config, None, config_source="the file F")
    assert found is not None
    assert (found.host, found.source) == ("section", "the redis section of the file F")


@pytest.mark.parametrize("config", [None, {}, {"lithops": {"backend": "localhost"}}])
def test_nothing_configured_on_localhost_means_the_embedded_server(
    config: dict[str, object] | None,
) -> None:
    assert resolve(None, config, None) is None


def test_remote_backend_without_redis_is_refused_with_what_to_write() -> None:
    config = {"lithops": {"backend": "aws_lambda"}}
    with pytest.raises(ConfigurationError) as caught:
        resolve(None, config, None, config_source="the file F")
    for words in ("'aws_lambda'", "the file F", "redis:", "host:", "LITHOPS_MP_REDIS_URL"):
        assert words in str(caught.value)
    with pytest.raises(ConfigurationError, match="'k8s'"):
        resolve(None, None, "k8s")


def test_remote_backend_takes_any_server_but_one_on_a_unix_socket() -> None:
    assert resolve("redis://h", None, "aws_lambda") is not None
    with pytest.raises(ConfigurationError, match="out of reach"):
        resolve("unix:///s", None, "aws_lambda")


# --- the redis section of the Lithops configuration ---


def test_section_is_read_by_allow_list(caplog: pytest.LogCaptureFixture) -> None:
    section = {
        "host": "h",
        "port": "7",
        "username": "u",
        "password": 1234,
        "db": 2,
        "ssl": "true",
        "ssl_ca_certs": "/ca.pem",
        "worker_processes": SECRET,
        "storage_bucket": SECRET,
        "socket_timeout": None,
    }
    with caplog.at_level(logging.DEBUG, logger="lithops_mp"):
        settings = resolve(None, {"redis": section}, "localhost")
    assert settings == Settings(
        "tcp",
        host="h",
        port=7,
        username="u",
        password="1234",
        db=2,
        ssl=True,
        ssl_options=(("ssl_ca_certs", "/ca.pem"),),
        source="the redis section of the Lithops configuration",
    )
    assert "worker_processes" in caplog.text
    assert SECRET not in caplog.text
    assert "1234" not in caplog.text


@pytest.mark.parametrize("key", ["path", "unix_socket_path"])
def test_section_may_name_a_unix_socket(key: str) -> None:
    settings = resolve(None, {"redis": {key: "/s", "password": "p"}}, "localhost")
    assert settings is not None
    assert (settings.kind, settings.path, settings.password) == ("unix", "/s", "p")


def test_section_may_hold_a_url() -> None:
    settings = resolve(None, {"redis": {"url": "redis://h:1"}}, "localhost")
    assert settings is not None
    assert (settings.host, settings.port) == ("h", 1)
    assert settings.source == "the url in the redis section of the Lithops configuration"


@pytest.mark.parametrize(
    "section",
    [
        [SECRET],
        {"password": SECRET},
        {"host": "h", "password": SECRET, "port": "many"},
        {"host": "h", "password": SECRET, "port": 0},
        {"host": "h", "password": SECRET, "db": "x"},
        {"host": "h", "password": SECRET, "ssl": "perhaps"},
        {"host": "h", "password": SECRET, "ssl_unknown": 1},
        {"url": f"redis://:{SECRET}@h:port"},
    ],
)
def test_bad_section_is_refused_without_its_password(section: object) -> None:
    with pytest.raises(ConfigurationError, match="redis section of the file F") as caught:
        resolve(None, {"redis": section}, "localhost", config_source="the file F")
    assert SECRET not in everything_shown(caught.value)


# --- the Lithops configuration, compared with what Lithops itself makes of it ---

CONFIGS: list[dict[str, object]] = [
    {"lithops": {"backend": "localhost"}},
    {"lithops": {"mode": "localhost"}},
    {"lithops": {"mode": "serverless"}},
    {"lithops": {"mode": "standalone"}},
    {"lithops": {"mode": "serverless"}, "serverless": {"backend": "k8s"}},
    {"lithops": {"mode": "serverless"}, "serverless": {}},
    {"lithops": {"mode": "localhost", "backend": "aws_lambda"}},
    {"lithops": {}},
    {"lithops": None},
    {"redis": {"host": "h"}},
]


@pytest.mark.parametrize("config", CONFIGS)
def test_backend_is_the_one_lithops_picks(config: dict[str, object]) -> None:
    from lithops.config import _ensure_lithops_section, _resolve_mode_and_backend

    theirs = copy.deepcopy(config)
    _ensure_lithops_section(theirs)
    assert backend_of(config) == _resolve_mode_and_backend(theirs)[0]


@pytest.mark.parametrize("config", [None, {}])
def test_no_configuration_means_localhost(config: dict[str, object] | None) -> None:
    assert backend_of(config) == "localhost"


def _yaml(host: str) -> str:
    return f"lithops:\n  backend: localhost\nredis:\n  host: {host}\n"


PLACES = ["LITHOPS_CONFIG", "LITHOPS_CONFIG_FILE", "missing", "here", "home", "empty", "none"]


@pytest.mark.parametrize("place", PLACES)
def test_configuration_is_found_where_lithops_finds_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lithops.config

    home, here = tmp_path / "home", tmp_path / "here"
    (home / ".lithops").mkdir(parents=True)
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("lithops.constants.CONFIG_FILE", str(home / ".lithops" / "config"))
    monkeypatch.chdir(here)
    # Every place from `place` on, so that the order counts too.
    rest = PLACES[PLACES.index(place) :]
    if place == "LITHOPS_CONFIG":
        monkeypatch.setenv(place, json.dumps({"redis": {"host": place}}))
    if "LITHOPS_CONFIG_FILE" in rest:
        (tmp_path / "file").write_text(_yaml("LITHOPS_CONFIG_FILE"))
        monkeypatch.setenv("LITHOPS_CONFIG_FILE", str(tmp_path / "file"))
    if place == "missing":
        monkeypatch.setenv("LITHOPS_CONFIG_FILE", str(tmp_path / "no such file"))
    if "here" in rest:
        (here / ".lithops_config").write_text(_yaml("here"))
    if "home" in rest:
        (home / ".lithops" / "config").write_text(_yaml("home"))
    if place == "empty":
        (here / ".lithops_config").write_text("")
    found, source = load_lithops_config()
    assert found == lithops.config.load_config()
    assert {"home": "~/.lithops/config", "here": ".lithops_config"}.get(place, "") in source


def test_overrides_are_laid_over_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    below = {"lithops": {"backend": "localhost", "storage": "localhost"}, "aws": {"region": "r"}}
    monkeypatch.setenv("LITHOPS_CONFIG", json.dumps(below))
    config, source = load_lithops_config(
        {"lithops": {"backend": "k8s"}, "redis": {"host": "h"}, "aws": None}
    )
    assert config == {
        "lithops": {"backend": "k8s", "storage": "localhost"},
        "aws": None,
        "redis": {"host": "h"},
    }
    assert source == "the environment variable LITHOPS_CONFIG"


def test_overrides_alone_do_not_turn_localhost_into_lambda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITHOPS_CONFIG_FILE", str(tmp_path / "none"))
    overrides = {"redis": {"host": "h"}}
    assert backend_of(overrides) == "aws_lambda"
    assert backend_of(load_lithops_config(overrides)[0]) == "localhost"


def test_overrides_may_be_the_arguments_of_an_executor() -> None:
    overrides = {"backend": "k8s", "runtime": "image:1", "config": {"k8s": {"docker_user": "me"}}}
    found = load_lithops_config(overrides)[0]
    assert backend_of(found) == "k8s"
    assert found["k8s"] == {"docker_user": "me", "runtime": "image:1"}
    with pytest.raises(ConfigurationError, match="LITHOPS_CONFIG_FILE"):
        load_lithops_config({"config_file": "somewhere"})


def test_broken_configuration_is_refused_without_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    monkeypatch.setenv("LITHOPS_CONFIG_FILE", str(file))
    for content, reason in (
        (f"redis:\n  password: {SECRET}\n bad: [", "not valid YAML at line 3"),
        (SECRET, "not a mapping"),
    ):
        file.write_text(content)
        with pytest.raises(ConfigurationError, match=reason) as caught:
            load_lithops_config()
        assert str(file) in str(caught.value)
        assert SECRET not in everything_shown(caught.value)
    monkeypatch.setenv("LITHOPS_CONFIG", f'{{"redis": "{SECRET}"')
    with pytest.raises(ConfigurationError, match="LITHOPS_CONFIG") as caught:
        load_lithops_config()
    assert SECRET not in everything_shown(caught.value)


def test_importing_settings_imports_neither_redis_nor_lithops_nor_yaml() -> None:
    code = (
        "import sys, lithops_mp._store.settings as s; s.load_lithops_config({});"
        "print(sorted({'redis', 'lithops', 'yaml'} & set(sys.modules)))"
    )
    env = {**os.environ, "LITHOPS_CONFIG": "{}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


# --- connections ---

server = fixtures.server(scope="function")


def test_connection_says_nothing_but_auth_and_select(server: Server) -> None:
    settings = Settings("unix", path=server.settings.path, password=server.settings.password, db=1)
    server.command("CONFIG", "RESETSTAT")
    connection = settings.connection()
    connection.send_command("PING")
    assert connection.read_response() == b"PONG"
    connection.disconnect()
    stats = server.command("INFO", "commandstats").decode()
    counts = {
        line.partition(":")[0].removeprefix("cmdstat_"): line.partition("calls=")[2].split(",")[0]
        for line in stats.splitlines()
        if line.startswith("cmdstat_")
    }
    assert counts.pop("auth") == "2"  # ours, and that of the connection that asks
    assert counts == {"config|resetstat": "1", "select": "1", "ping": "1"}


def test_connection_does_not_retry() -> None:
    attempts = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            nonlocal attempts
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()
                    attempts += 1

        thread = threading.Thread(target=refuse)
        thread.start()
        connection = Settings(
            "tcp", host="127.0.0.1", port=listener.getsockname()[1], password="p"
        ).connection()
        with pytest.raises(redis.ConnectionError):
            connection.connect()
        # A witness comes after any retry there was.
        socket.create_connection(listener.getsockname()).close()
        eventually(lambda: attempts >= 2, "the witness")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert attempts == 2


def test_socket_timeout_is_none_unless_given(server: Server) -> None:
    for timeout in (None, 3.0):
        connection = server.settings.connection(socket_timeout=timeout)
        connection.connect()
        assert connection._sock.gettimeout() == timeout
        connection.disconnect()


def test_tcp_connection_notices_a_vanished_peer() -> None:
    with running(tcp=True) as server:
        connection = server.settings.connection()
        connection.connect()
        assert connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        connection.disconnect()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that vouches for itself, and its key."""
    x509 = pytest.importorskip("cryptography.x509")
    import datetime

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


def _speaks_tls(binary: str) -> bool:
    """A server with TLS misses the certificate, one without says it has no TLS."""
    config = f"port 0\ntls-port {free_port()}\n".encode()
    done = subprocess.run([binary, "-"], input=config, capture_output=True)
    return b"No tls-cert-file configured" in done.stdout + done.stderr


def test_tls_is_verified_unless_told_otherwise(certificate: tuple[Path, Path]) -> None:
    binaries = [binary for binary in all_server_binaries() if _speaks_tls(binary)]
    if not binaries:
        pytest.skip("no server of this machine speaks TLS")
    cert, key = map(str, certificate)
    port = free_port()
    tls = {"port": 0, "tls-port": port, "tls-cert-file": cert, "tls-key-file": key}
    config = {**tls, "tls-ca-cert-file": cert, "tls-auth-clients": "no"}
    trusting = {"ssl": True, "ssl_options": (("ssl_ca_certs", cert),)}
    reach = {**trusting, "port": port, "host": "localhost"}
    with running(binaries[0], tcp=True, config=config, settings=reach) as server:
        password = server.settings.password
        place = {"host": "localhost", "port": port, "password": password, "ssl": True}
        check_server(server.settings.connection(), server.settings)
        unknown = Settings("tcp", **place)
        with pytest.raises(ServerUnavailable, match="certificate"):
            check_server(unknown.connection(), unknown)
        elsewhere = Settings("tcp", **{**place, **trusting, "host": "127.0.0.1"})
        with pytest.raises(ServerUnavailable, match="certificate"):
            check_server(elsewhere.connection(), elsewhere)
        careless = Settings("tcp", **place, ssl_options=(("ssl_cert_reqs", "none"),))
        check_server(careless.connection(), careless)
        options = (("ssl_ca_certs", cert), ("ssl_min_version", "TLSv1_3"))
        newest = Settings("tcp", **place, ssl_options=options)
        check_server(newest.connection(), newest)


def test_sentinels_are_asked_at_each_connect() -> None:
    with running(tcp=True, password="p") as old, running(tcp=True, password="p") as new:
        lines = f"sentinel monitor main 127.0.0.1 {old.settings.port} 1\nsentinel auth-pass main p"
        config = {"sentinel resolve-hostnames": f"no\n{lines}"}
        with running(tcp=True, config=config, arguments=("--sentinel",)) as sentinel:
            settings = from_url(
                f"redis+sentinel://:p@127.0.0.1:{sentinel.settings.port}/main"
                "?sentinel_password=test%20password,%20with%20a%20space",
                "the test",
            )
            connection = settings.connection()
            assert _process(connection) == old.pid
            sentinel.command("SENTINEL", "REMOVE", "main")
            sentinel.command("SENTINEL", "MONITOR", "main", "127.0.0.1", new.settings.port, 1)
            connection.disconnect()
            assert _process(connection) == new.pid
            connection.disconnect()
            sentinel.command("SENTINEL", "REMOVE", "main")
            with pytest.raises(ServerUnavailable, match="main"):
                check_server(connection, settings)


def _process(connection: redis.connection.AbstractConnection) -> int:
    connection.send_command("INFO", "server")
    text = connection.read_response().decode()
    return int(text.partition("process_id:")[2].split()[0])


# --- is the server usable? ---


@pytest.mark.parametrize("binary", all_server_binaries())
def test_every_engine_is_found_usable_in_one_round_trip(binary: str) -> None:
    with running(binary) as server:
        connection = server.settings.connection()
        before = server.command("INFO", "stats").decode()
        check_server(connection, server.settings)
        connection.disconnect()
        after = server.command("INFO", "stats").decode()
    # AUTH and INFO of the checked connection; AUTH and INFO of the one that counts.
    assert _processed(after) - _processed(before) == 4


def _processed(stats: str) -> int:
    return int(stats.partition("total_commands_processed:")[2].split()[0])


def test_eviction_policy_is_warned_about(server: Server) -> None:
    server.command("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    with pytest.warns(RuntimeWarning, match="'volatile-lru'") as caught:
        check_server(server.settings.connection(), server.settings)
    text = str(caught[0].message)
    assert "the test" in text
    assert "noeviction" in text


class Replies(threading.Thread):
    """A stand-in that answers any command with one reply.

    Used for the text of INFO alone: no server older than 6.2 can be installed
    by this project's means.
    """

    def __init__(self, reply: bytes) -> None:
        super().__init__(daemon=True)
        self.reply = reply
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.settings = Settings(
            "tcp", host="127.0.0.1", port=self.listener.getsockname()[1], source="the test"
        )

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection, contextlib.suppress(OSError):
            while connection.recv(65536):
                connection.sendall(b"$%d\r\n%s\r\n" % (len(self.reply), self.reply))

    def __enter__(self) -> Replies:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join()
        self.listener.close()


@pytest.mark.parametrize("version", ["6.0.16", "5.0.14", "2.8.4", ""])
def test_old_server_is_refused(version: str) -> None:
    with (
        Replies(f"# Server\r\nredis_version:{version}\r\n".encode()) as old,
        pytest.raises(ServerUnavailable) as caught,
    ):
        check_server(old.settings.connection(), old.settings)
    assert f"Redis {version or 'of an unknown version'}," in str(caught.value)
    assert "6.2" in str(caught.value)
    assert "the test" in str(caught.value)


@pytest.mark.parametrize("version", ["6.2.0", "7.0.15", "10.1.0", "255.255.255"])
def test_recent_server_is_accepted(version: str) -> None:
    with Replies(f"# Server\r\nredis_version:{version}\r\n".encode()) as recent:
        connection = recent.settings.connection()
        check_server(connection, recent.settings)
        connection.disconnect()


@pytest.mark.parametrize("binary", all_server_binaries())
def test_cluster_node_is_refused(binary: str) -> None:
    with (
        running(binary, tcp=True, config={"cluster-enabled": "yes"}) as server,
        pytest.raises(ConfigurationError, match="Cluster"),
    ):
        check_server(server.settings.connection(), server.settings)


def test_unreachable_server_is_named_with_the_source(tmp_path: Path) -> None:
    for settings in (
        Settings("tcp", host="127.0.0.1", port=free_port(), password=SECRET, source="the test"),
        Settings("unix", path=str(tmp_path / "nothing"), password=SECRET, source="the test"),
    ):
        with pytest.raises(ServerUnavailable) as caught:
            check_server(settings.connection(), settings)
        assert settings.address in str(caught.value)
        assert "the test" in str(caught.value)
        assert "redis.exceptions" not in everything_shown(caught.value)
        assert SECRET not in everything_shown(caught.value)


def test_server_that_does_not_answer_is_given_up_on(server: Server) -> None:
    server.freeze()
    try:
        with pytest.raises(ServerUnavailable, match="does not answer"):
            check_server(server.settings.connection(socket_timeout=0.05), server.settings)
    finally:
        server.thaw()


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        ({"password": None}, "wants a password"),
        ({"password": SECRET}, "does not accept our user name and password"),
        ({"username": "nobody", "password": SECRET}, "does not accept our user name"),
        ({"username": "limited", "password": SECRET}, "does not allow our user"),
    ],
)
def test_refused_credentials_are_told_apart(
    server: Server, credentials: dict[str, str | None], words: str
) -> None:
    server.command("ACL", "SETUSER", "limited", "on", f">{SECRET}", "~*", "+ping")
    settings = Settings("unix", path=server.settings.path, source="the test", **credentials)
    with pytest.raises(ServerUnavailable, match=words) as caught:
        check_server(settings.connection(), settings)
    assert "the test" in str(caught.value)
    assert SECRET not in everything_shown(caught.value)


def test_database_that_does_not_exist_is_refused(server: Server) -> None:
    settings = Settings(
        "unix", path=server.settings.path, password=server.settings.password, db=99, source="S"
    )
    with pytest.raises(ConfigurationError, match="no database 99"):
        check_server(settings.connection(), settings)


# --- translate, by replies of real servers ---

TROUBLES = [
    (("CONFIG", "SET", "maxmemory", "1"), "out of memory"),
    (("REPLICAOF", "127.0.0.1", "1"), "read-only replica"),
]


@pytest.mark.parametrize(("trouble", "words"), TROUBLES)
def test_trouble_of_the_server_is_explained(
    server: Server, trouble: tuple[str, ...], words: str
) -> None:
    server.command(*trouble)
    for write in (("SET", "k", "v"), ("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "k")):
        with pytest.raises(redis.RedisError) as caught:
            server.command(*write)
        translated = translate(caught.value, server.settings)
        assert isinstance(translated, ServerUnavailable)
        assert words in str(translated)
        assert "the test" in str(translated)


def test_error_of_a_script_is_not_translated(server: Server) -> None:
    with pytest.raises(redis.ResponseError) as caught:
        server.command("EVAL", "return redis.call('NOSUCH')", 0)
    assert translate(caught.value, server.settings) is caught.value
    own = ValueError("not from redis")
    assert translate(own, server.settings) is own


def test_lost_embedded_server_is_explained_as_such() -> None:
    settings = Settings("unix", path="/nowhere", source="the embedded server", embedded=True)
    translated = translate(redis.ConnectionError("gone"), settings)
    assert isinstance(translated, ServerUnavailable)
    assert "embedded" in str(translated)
    assert subject.URL_VARIABLE in str(translated)


def test_check_leaves_no_warning_of_its_own(server: Server) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_server(server.settings.connection(), server.settings)
