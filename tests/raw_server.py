"""Servers that say what a real one would not: raw bytes over TCP, TLS in front of another server, an HTTP proxy."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Talk = Callable[[socket.socket], None]


class RawServer:
    """Each connection is handed to `talk` in a thread of its own; all are gone after the `with`."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.connections = 0
        self._open: dict[threading.Thread, socket.socket] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._acceptor = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(5)
        self._listener.close()
        for thread, connection in self._open.items():
            end(connection)
            thread.join(5)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._open[thread] = connection
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self.talk(connection)
        except OSError:
            pass  # the client has gone
        finally:
            end(connection)


def end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def read_request(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of one request, by its Content-Length; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        block = connection.recv(65_536)
        if not block:
            return b"", b""
        data += block
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += connection.recv(65_536)
    return head, body


def saying(*answers: bytes) -> Talk:
    """Answers one request after the other with these bytes, then hangs up. An empty one says nothing."""

    def talk(connection: socket.socket) -> None:
        for answer in answers:
            if not read_request(connection)[0]:
                return
            connection.sendall(answer)

    return talk


def http(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    """An answer as it should be."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def pipe(near: socket.socket, far: socket.socket) -> None:
    """Bytes both ways, until one side ends."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while block := source.recv(65_536):
                sink.sendall(block)
        except OSError:
            pass
        finally:
            end(sink)

    back = threading.Thread(target=copy, args=(far, near))
    back.start()
    copy(near, far)
    back.join(5)


def tls_front(port: int, certificate: str, key: str) -> Talk:
    """TLS in front of a server on 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def talk(connection: socket.socket) -> None:
        with (
            context.wrap_socket(connection, server_side=True) as near,
            socket.create_connection(("127.0.0.1", port)) as far,
        ):
            pipe(near, far)

    return talk


class Proxy:
    """An HTTP proxy: CONNECT, and plain requests that name the whole URL. `heads` has what it was asked."""

    def __init__(self) -> None:
        self.heads: list[str] = []

    def __call__(self, connection: socket.socket) -> None:
        while True:
            head, body = read_request(connection)
            if not head:
                return
            self.heads.append(head.decode())
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            if method == "CONNECT":
                host, _, port = target.rpartition(":")
                with socket.create_connection((host, int(port))) as far:
                    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    pipe(connection, far)
                return
            connection.sendall(forward(method, target, head, body))


def forward(method: str, target: str, head: bytes, body: bytes) -> bytes:
    """One plain request, as a proxy hands it on; the whole answer."""
    authority, _, path = target.removeprefix("http://").partition("/")
    host, _, port = authority.partition(":")
    lines = [line for line in head.split(b"\r\n")[1:] if not line.lower().startswith(b"proxy-")]
    with socket.create_connection((host, int(port))) as far:
        far.sendall(b"\r\n".join([f"{method} /{path} HTTP/1.1".encode(), *lines, b"", b""]) + body)
        answer_head, answer_body = read_request(far)
    return answer_head + b"\r\n\r\n" + answer_body
