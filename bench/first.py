"""A program that starts one process, waits for its end and says so: ``bench_start.py`` runs it.

python bench/first.py CONTESTANT URL
"""

from __future__ import annotations

import socket
import sys
from typing import Any
from urllib.parse import unquote, urlsplit


def nothing() -> None:
    """What the process does."""


def tell(place: Any, requests: list[bytes]) -> bytes:
    """Send requests to a Redis server, each when the one before is answered; the last answer."""
    kind = socket.AF_INET if isinstance(place, tuple) else socket.AF_UNIX
    with socket.socket(kind) as wire:
        wire.connect(place)
        answer = b""
        for request in requests:
            wire.sendall(request)
            answer = wire.recv(4096)
        return answer


def lithops_itself(url: str) -> None:
    """A function that says it was there, in a list in Redis, and nothing else."""
    import os

    from lithops import FunctionExecutor

    def packed(*words: str) -> bytes:
        return f"*{len(words)}\r\n".encode() + b"".join(
            b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in words
        )

    parts = urlsplit(url)
    place = (parts.hostname, parts.port or 6379) if parts.hostname else unquote(parts.path)
    login = []
    if parts.password:
        names = [unquote(parts.username)] if parts.username else []
        login.append(packed("AUTH", *names, unquote(parts.password)))
    key = f"bench:first:{os.urandom(8).hex()}"
    executor = FunctionExecutor(log_level=None)
    future = executor.call_async(tell, (place, [*login, packed("RPUSH", key, "1")]))
    tell(place, [*login, packed("BLPOP", key, "0")])
    print("joined", flush=True)
    future.result()  # Lithops complains if one leaves before it knows


def main(name: str, url: str) -> None:
    """Do it."""
    if name == "floor":
        lithops_itself(url)
        return
    if name == "lithops_mp":
        import lithops_mp as multiprocessing
    elif name == "lithops":
        import lithops.multiprocessing as multiprocessing
    else:
        import multiprocessing

        multiprocessing = multiprocessing.get_context("fork" if "fork" in name else "spawn")
    process = multiprocessing.Process(target=nothing)
    process.start()
    process.join()
    print("joined", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
