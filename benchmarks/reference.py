"""The reference: read, split, JSON, SHA-256, POST, and nothing else; what any shipper in Python has to do at least.

`python reference.py FILE URL` sends the file to the sink in full batches and prints the CPU seconds and the seconds
that it took, without its start.
"""

from __future__ import annotations

import hashlib
import http.client
import sys
import time
from urllib.parse import urlsplit

import orjson

_CHUNK = 64 << 10
_BATCH = 1_048_576
_EVENTS = 10_000
_OVERHEAD = 26


def main() -> None:
    path, url = sys.argv[1:]
    cpu, began = time.process_time(), time.monotonic()
    ship(path, http.client.HTTPConnection(urlsplit(url).netloc))
    print(time.process_time() - cpu, time.monotonic() - began)


def ship(path: str, connection: http.client.HTTPConnection) -> None:
    events: list[dict[str, object]] = []
    size, rest = 0, b""
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            stamp = int(time.time() * 1000)
            for line in lines:
                if size + len(line) + _OVERHEAD > _BATCH or len(events) == _EVENTS:
                    send(connection, events)
                    events, size = [], 0
                events.append({"timestamp": stamp, "message": line.decode()})
                size += len(line) + _OVERHEAD
    send(connection, events)


def send(connection: http.client.HTTPConnection, events: list[dict[str, object]]) -> None:
    body = orjson.dumps({"logGroupName": "bench", "logStreamName": "bench", "logEvents": events})
    headers = {"X-Amz-Target": "Logs_20140328.PutLogEvents", "X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()}
    connection.request("POST", "/", body, headers)
    connection.getresponse().read()


if __name__ == "__main__":
    main()
