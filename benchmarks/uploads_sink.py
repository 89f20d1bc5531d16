"""A bucket that takes every object at once and keeps nothing but counts: what is measured is the sender.

    python uploads_sink.py

As a process of its own: prints its port, then serves until its parent ends. A body that begins with `w=SECONDS` says
when its file was complete; how old it was when it had arrived is noted.
GET /stats: {requests, objects, bytes, ages: [seconds]}
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time

_BUFFER = 1 << 20
_HEAD = 64 << 10
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHECKSUM = re.compile(rb"\r\nx-amz-checksum-crc32: *([^\r]+)", re.IGNORECASE)
_WRITTEN = re.compile(rb"w=(\d+\.\d+)")


class Sink:
    def __init__(self) -> None:
        self._requests = self._objects = self._bytes = 0
        self._ages: list[float] = []
        self._lock = threading.Lock()

    def serve(self, listener: socket.socket) -> None:
        while True:
            peer, _ = listener.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        buffer = memoryview(bytearray(_BUFFER))
        while True:
            head, start, size = _receive(peer, buffer)
            if not head:
                return
            if head.startswith(b"GET /stats "):
                _say(peer, json.dumps(self._stats()).encode())
                continue
            self._note(head, bytes(buffer[start : start + 32]), size)
            checksum = _CHECKSUM.search(head)
            _say(peer, b"", b'ETag: "e"\r\nx-amz-checksum-crc32: %s\r\n' % (checksum[1] if checksum else b""))

    def _note(self, head: bytes, begin: bytes, size: int) -> None:
        written = _WRITTEN.match(begin)
        with self._lock:
            self._requests += 1
            self._objects += head.startswith(b"PUT ")
            self._bytes += size
            if written:
                self._ages.append(time.time() - float(written[1]))

    def _stats(self) -> dict[str, object]:
        with self._lock:
            return {
                "requests": self._requests, "objects": self._objects, "bytes": self._bytes, "ages": self._ages
            }  # fmt: skip


def _receive(peer: socket.socket, buffer: memoryview) -> tuple[bytes, int, int]:
    """One request: its head, where its body begins in the buffer, the body's length; empty when the peer has gone.

    Of a body longer than the buffer only the begin is kept.
    """
    filled, end = 0, -1
    while end < 0:
        got = peer.recv_into(buffer[filled:_HEAD])
        if got == 0:
            return b"", 0, 0
        filled += got
        end = bytes(buffer[:filled]).find(b"\r\n\r\n")
    head = bytes(buffer[:end])
    length = _LENGTH.search(head)
    size = int(length[1]) if length else 0
    missing = size - (filled - end - 4)
    while missing > 0:
        room = buffer[filled : filled + missing] if filled < _HEAD * 2 else buffer[_HEAD * 2 :][:missing]
        got = peer.recv_into(room)
        if got == 0:
            return b"", 0, 0
        filled = min(filled + got, _HEAD * 2)
        missing -= got
    return head, end + 4, size


def _say(peer: socket.socket, body: bytes, headers: bytes = b"") -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n" % (headers, len(body)) + body)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    Sink().serve(listener)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
