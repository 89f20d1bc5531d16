"""A small threaded HTTP/1.1 server on one loopback port: a thread for each connection, all gone after close()."""

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus

from agent.standin.message import (
    Body,
    HangUpError,
    Head,
    MessageError,
    Request,
    Response,
    read_head,
)

MAX_CONNECTIONS = 512  # at once; more wait in the listener's queue
MAX_DISCARD = 67_108_864  # bytes of a refused body that are read past to keep a connection
LINGER = 1.0  # seconds that a closing connection waits for the client to see the answer
JOIN = 10.0  # seconds that close() waits for a thread
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: close() sends RST
_NO_BODY = frozenset({204, 304})

Handler = Callable[[Request], Response]


class ServerError(Exception):
    """A thread of the server did not end: some handler waits without a bound."""


class Server:
    """Serves `handler` on host:port (0: any free port) from construction until close()."""

    def __init__(self, handler: Handler, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._handler = handler
        self._listener = socket.create_server((host, port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._slots = threading.Semaphore(MAX_CONNECTIONS)
        self._closing = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name="standin-accept", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Stop listening, end every connection, and wait for the threads."""
        self._closing.set()
        self._slots.release()  # an acceptor that waits for a slot
        _shut(self._listener)
        self._join(self._acceptor)
        self._listener.close()
        for thread, connection in self._connections():
            _shut(connection)
            self._join(thread)

    def _connections(self) -> list[tuple[threading.Thread, socket.socket]]:
        with self._lock:
            return list(self._open.items())

    def _join(self, thread: threading.Thread) -> None:
        thread.join(JOIN)
        if thread.is_alive():
            raise ServerError(f"thread {thread.name} still runs after {JOIN:.0f} seconds")

    def _accept(self) -> None:
        number = 0
        while self._slots.acquire() and not self._closing.is_set():
            try:
                connection, peer = self._listener.accept()
            except OSError:
                if self._closing.is_set():
                    return  # close() has shut the listener
                raise
            number += 1
            self._start(connection, peer[0], number)

    def _start(self, connection: socket.socket, peer: str, number: int) -> None:
        thread = threading.Thread(
            target=self._serve, args=(connection, peer, number), name=f"standin-{number}", daemon=True
        )
        with self._lock:
            self._open[thread] = connection
        thread.start()

    def _serve(self, connection: socket.socket, peer: str, number: int) -> None:
        try:
            Connection(connection, peer, number, self._handler).serve()
        finally:
            connection.close()
            with self._lock:
                del self._open[threading.current_thread()]
            self._slots.release()


class Connection:
    """The requests of one connection, one after the other."""

    def __init__(self, sock: socket.socket, peer: str, number: int, handler: Handler) -> None:
        self._socket = sock
        self._peer = peer
        self._number = number
        self._handler = handler

    def serve(self) -> None:
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._socket.makefile("rb") as source:
            try:
                while self._exchange(source):
                    pass
                self._say_goodbye(source)
            except HangUpError as end:
                if end.reset:
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            except (MessageError, OSError):
                pass  # the client broke off: whatever it was sending was not accepted

    def _exchange(self, source: io.BufferedReader) -> bool:
        """Serve one request; whether another may follow."""
        head = read_head(source)
        if head is None:
            return False
        request = self._request(head, source)
        response = self._handler(request)
        keep = request.body.discard(MAX_DISCARD) and head.headers.get("connection", "").lower() != "close"
        self._answer(request.method, response, keep=keep)
        return keep

    def _request(self, head: Head, source: io.BufferedReader) -> Request:
        body = Body(source, head.headers, self._invite)
        return Request(head.method, head.target, head.headers, body, self._peer, self._number)

    def _invite(self) -> None:
        self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _answer(self, method: str, response: Response, *, keep: bool) -> None:
        bare = method == "HEAD" or response.status in _NO_BODY
        if isinstance(response.body, bytes):
            length = len(response.body) if response.length is None else response.length
            head = _head(response, length, keep=keep)
            self._socket.sendall(head if bare else head + response.body)
            return
        with contextlib.closing(response):
            self._socket.sendall(_head(response, response.length, keep=keep))
            if not bare:
                self._send_blocks(response.body, chunked=response.length is None)

    def _send_blocks(self, blocks: Iterable[bytes], *, chunked: bool) -> None:
        for block in blocks:
            self._socket.sendall(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        if chunked:
            self._socket.sendall(b"0\r\n\r\n")

    def _say_goodbye(self, source: io.BufferedReader) -> None:
        """Close in an order that lets the client read the answer before it meets the close."""
        self._socket.shutdown(socket.SHUT_WR)
        self._socket.settimeout(LINGER)
        while source.read1(65_536):
            pass


def _head(response: Response, length: int | None, *, keep: bool) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if response.status != HTTPStatus.NO_CONTENT:
        lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    lines.append("Connection: keep-alive" if keep else "Connection: close")
    return "\r\n".join((*lines, "\r\n")).encode("latin-1")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        sock.shutdown(socket.SHUT_RDWR)
