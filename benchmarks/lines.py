"""Logs as busy servers write them: seeded, so the same each time but for the clock, which ends now."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ACCESS_BYTES = 124  # of each line of the access log, its end included
ACCESS_FORMAT = "%d/%b/%Y:%H:%M:%S %z"
_BLOCKS = 40  # seconds of log that differ in all; after that only the clock goes on
_CLOCK = "@@CLOCK@@"  # stands for what the clock says of a second
_CLIENTS = 4000
_PROSE = (
    "order payment accepted by gateway retry queue session expired for customer cart updated stock level below "
    "threshold cache miss on shard connection pool exhausted waiting lock released after commit checkout completed"
)
_PATHS = ("item", "cart", "static/js", "api/v2/orders", "search", "img", "login", "healthz")
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0 (a busy one)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "curl/8.14.1 (x86_64-pc-linux-gnu) libcurl/8.14.1 OpenSSL/3.5.1 zlib/1.3.1 nghttp2/1.64.0 idle",
)


@dataclass(frozen=True)
class Kind:
    """A kind of log: how many lines a second, how each is made, and how it writes the second."""

    name: str
    rate: int  # lines a second
    line: Callable[[random.Random, int], str]  # (chance, number within the second) -> line without its end
    clock: str  # strftime

    def write(self, path: Path, size: int) -> int:
        """About `size` bytes into a new file, forced to disk lest that disturb what is measured; the lines."""
        blocks = _blocks(self)
        seconds = max(1, round(size * _BLOCKS / sum(map(len, blocks))))
        begin = int(time.time()) - seconds
        with path.open("wb") as file:
            for second in range(seconds):
                stamp = time.strftime(self.clock, time.gmtime(begin + second)).encode()
                file.write(blocks[second % _BLOCKS].replace(_CLOCK.encode(), stamp))
            file.flush()
            os.fsync(file.fileno())
        return seconds * self.rate


@cache
def _blocks(kind: Kind) -> list[bytes]:
    """A second of log each, with a placeholder for the clock."""
    rng = random.Random(1)
    return ["".join(f"{kind.line(rng, number)}\n" for number in range(kind.rate)).encode() for _ in range(_BLOCKS)]


def _client(rng: random.Random) -> str:
    number = int(rng.paretovariate(0.8)) % _CLIENTS  # a few ask for most
    return f"{10 + number % 190}.{number * 7 % 256}.{number * 13 % 256}.{number % 256}"


def _access(rng: random.Random, _number: int) -> str:
    """nginx's combined format, cut to the length; the clock takes more room than what stands for it."""
    path = f"{rng.choice(_PATHS)}/{rng.randrange(10**6)}"
    status = rng.choices((200, 304, 302, 404, 500), (80, 10, 5, 4, 1))[0]
    size = int(rng.lognormvariate(8, 1.5))
    head = f'{_client(rng)} - - [{_CLOCK}] "GET /{path} HTTP/1.1" {status} {size} "-" "'
    room = ACCESS_BYTES - 2 - (len(head) + len("24/Nov/2026:11:14:04 +0000") - len(_CLOCK))
    return f'{head}{rng.choice(_AGENTS)[:room]:<{max(0, room)}}"'


def _json(rng: random.Random, number: int) -> str:
    """A structured event of about 1 KB, as an application's logger writes it."""
    message = " ".join(rng.choices(_PROSE.split(), k=rng.randrange(70, 110)))
    ids = uuid.UUID(int=rng.getrandbits(128)), f"{rng.getrandbits(128):032x}", f"{rng.getrandbits(64):016x}"
    level = rng.choices(("INFO", "DEBUG", "WARNING", "ERROR"), (70, 20, 8, 2))[0]
    return (
        f'{{"time":"{_CLOCK}.{number * 1000 // _JSON_RATE:03d}Z","level":"{level}","logger":"shop.checkout.service",'
        f'"thread":"http-{rng.randrange(64)}","request_id":"{ids[0]}","trace_id":"{ids[1]}","span_id":"{ids[2]}",'
        f'"user_id":{rng.randrange(10**7)},"client":"{_client(rng)}","path":"/{rng.choice(_PATHS)}",'
        f'"duration_ms":{rng.lognormvariate(3, 1):.3f},"message":"{message}"}}'
    )


_JSON_RATE = 1000
ACCESS = Kind("access log", 2000, _access, ACCESS_FORMAT.replace("%z", "+0000"))
JSON = Kind("JSON lines", _JSON_RATE, _json, "%Y-%m-%dT%H:%M:%S")
