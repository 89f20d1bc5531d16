"""A sink that answers PutLogEvents at once and keeps nothing but counts: what is measured is the sender.

    python sink.py [--delay=SECONDS] [--ages]

As a process of its own: prints its port, then serves until its parent ends. `--delay` is waited before each answer,
as a distance would; with `--ages` it notes how long ago each line was written, by the `w=SECONDS` in it. A batch is
counted after it was answered, by the events in its body, decompressed where it was compressed.
GET /stats: {batches, bytes, events, first, last: seconds since the epoch, ages: {p50, p99, max} | null}
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
from array import array

from isal import igzip

_BUFFER = 4 << 20
_HEAD = 64 << 10
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 2\r\n\r\n{}"
_NO_CONTENT = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_EVENT = b'"message":"'  # a quote inside a text is escaped, so this is none's text
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_WRITTEN = re.compile(rb"\bw=(\d+\.\d+)")


class Sink:
    def __init__(self, *, delay: float, ages: bool) -> None:
        self._delay = delay
        self._ages = array("d") if ages else None
        self._batches = self._bytes = self._events = 0
        self._first = self._last = 0.0
        self._lock = threading.Lock()

    def serve(self, listener: socket.socket) -> None:
        while True:
            peer, _ = listener.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        buffer = bytearray(_BUFFER)
        while True:
            end, total = _receive(peer, memoryview(buffer))
            if total == 0:
                return
            arrived, head = time.time(), bytes(buffer[:end])
            if head.startswith(b"GET /stats"):
                answer = json.dumps(self._stats()).encode()
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
                continue
            if self._delay:
                time.sleep(self._delay)
            peer.sendall(_ANSWER if head.startswith(b"POST") else _NO_CONTENT)
            if b"PutLogEvents" in head:
                self._note(arrived, head, buffer, end + 4, total)

    def _note(self, arrived: float, head: bytes, buffer: bytearray, start: int, end: int) -> None:
        size = end - start
        if b"gzip" in head.lower():
            buffer = bytearray(igzip.decompress(memoryview(buffer)[start:end]))  # type: ignore[no-untyped-call]
            start, end = 0, len(buffer)
        events = buffer.count(_EVENT, start, end)
        written = _WRITTEN.findall(buffer, start, end) if self._ages is not None else []
        with self._lock:
            self._first, self._last = self._first or arrived, max(self._last, arrived)
            self._batches += 1
            self._bytes += size
            self._events += events
            if self._ages is not None:
                self._ages.extend(arrived - float(each) for each in written)

    def _stats(self) -> dict[str, object]:
        with self._lock:
            ages = sorted(self._ages) if self._ages else []
            return {
                "batches": self._batches,
                "bytes": self._bytes,
                "events": self._events,
                "first": self._first,
                "last": self._last,
                "ages": _quantiles(ages) if ages else None,
            }


def _quantiles(ages: list[float]) -> dict[str, float]:
    count = len(ages)
    return {"p50": ages[count // 2], "p99": ages[min(count - 1, count * 99 // 100)], "max": ages[-1]}


def _receive(peer: socket.socket, buffer: memoryview) -> tuple[int, int]:
    """One request into the buffer: the ends of its head and of its body; zeros when the peer has gone."""
    filled, end, total = 0, -1, _HEAD
    while end < 0 or filled < total:
        got = peer.recv_into(buffer[filled:total] if end >= 0 else buffer[filled:_HEAD])
        if got == 0:
            return 0, 0
        filled += got
        if end < 0:
            end = bytes(buffer[:filled]).find(b"\r\n\r\n")
            length = _LENGTH.search(bytes(buffer[: max(0, end)]))
            total = end + 4 + (int(length[1]) if length else 0)
    return end, total


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    delay = next((float(argument[8:]) for argument in sys.argv if argument.startswith("--delay=")), 0.0)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    Sink(delay=delay, ages="--ages" in sys.argv).serve(listener)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


if __name__ == "__main__":
    main()
