"""What a round trip costs, what redis-py's layers add to it, and what polling saves.

python -m bench --only roundtrip
"""

from __future__ import annotations

from typing import Any

from lithops_mp._store.client import SILENCE
from lithops_mp._store.wire import Wire

from .contestants import FLOOR, PEER, Contestant, Stack
from .floor import packed, script_call
from .harness import Series, Stage, Table, latency_rows, timed
from .site import Site

NAME = "roundtrip"


def _connection(site: Site) -> Any:
    connection = site.settings.connection()
    packet = (packed("PING"),)

    def ping() -> None:
        connection.send_packed_command(packet, check_health=False)
        connection.read_response()

    return ping


def _wire(site: Site) -> Any:
    wire, packet = Wire(site.settings.connection(), SILENCE), packed("PING")

    def ping() -> None:
        wire.send(packet)
        wire.receive()

    return ping


def _socket_ping(site: Site, stack: Stack) -> Any:
    wire, packet = site.wire, packed("PING")
    return lambda: wire.ask(packet)


CONTESTANTS = (
    Contestant("socket, PING", FLOOR, _socket_ping),
    Contestant("socket, EVALSHA", PEER, lambda site, _: script_call(site.wire, "return 1")),
    Contestant("our wire, PING, which polls", PEER, lambda site, _: _wire(site)),
    Contestant("redis-py Connection, PING", PEER, lambda site, _: _connection(site)),
    Contestant("redis-py client, PING", PEER, lambda site, _: site.redis.ping),
)


def run(stage: Stage) -> Table:
    """Measure."""
    calls = stage.make(CONTESTANTS)

    def once(one: Contestant, series: Series) -> None:
        taken = timed(calls[one], stage.sizes.calls)
        series.samples += taken
        series.rounds.append(sorted(taken)[len(taken) // 2])

    found = stage.interleave(NAME, list(calls), stage.sizes.rounds, once)
    rows = latency_rows(NAME, "one round trip", found)
    for row in rows:
        row["to_best_peer"] = row["best_peer"] = None  # these are layers, not rivals
    return Table(NAME, "One round trip, microseconds", ("p50", "p99", "to_floor"), rows)


if __name__ == "__main__":
    from .run import only

    raise SystemExit(only(NAME))
