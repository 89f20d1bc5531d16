"""A sink that answers PutLogEvents at once and keeps nothing: what is measured is the sender.

As a process of its own: prints its port, then serves until it is ended; `--count` counts events.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

_BUFFER = 4 << 20
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 2\r\n\r\n{}"
_NO_CONTENT = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Sink:
    def __init__(self, *, count: bool, delay: float) -> None:
        self._count = count
        self._delay = delay
        self.bodies = 0
        self.bytes = 0
        self.events = 0
        self.first_at = 0.0
        self._lock = threading.Lock()

    def serve(self, listener: socket.socket) -> None:
        while True:
            peer, _ = listener.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        buffer = memoryview(bytearray(_BUFFER))
        filled = 0
        while True:
            end = bytes(buffer[:filled]).find(b"\r\n\r\n") if filled else -1
            while end < 0:
                got = peer.recv_into(buffer[filled:])
                if got == 0:
                    return
                filled += got
                end = bytes(buffer[: min(filled, 65536)]).find(b"\r\n\r\n")
            head = bytes(buffer[:end])
            total = end + 4 + _length(head)
            while filled < total:
                got = peer.recv_into(buffer[filled:total])
                if got == 0:
                    return
                filled += got
            self._note(head, buffer[end + 4 : total])
            if head.startswith(b"GET /stats"):
                answer = f"{self.bodies} {self.bytes} {self.events} {self.first_at}".encode()
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
            else:
                if self._delay:
                    time.sleep(self._delay)
                peer.sendall(_ANSWER if head.startswith(b"POST") else _NO_CONTENT)
            filled = 0

    def _note(self, head: bytes, body: memoryview) -> None:
        if b"PutLogEvents" not in head:
            return
        events = bytes(body).count(b'"message":') if self._count else 0
        with self._lock:
            self.first_at = self.first_at or time.time()
            self.bodies += 1
            self.bytes += len(body)
            self.events += events


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    return 0


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    delay = next((float(argument[8:]) for argument in sys.argv if argument.startswith("--delay=")), 0.0)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    Sink(count="--count" in sys.argv, delay=delay).serve(listener)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


if __name__ == "__main__":
    main()
