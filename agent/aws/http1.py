"""HTTP/1.1 as a client of AWS needs it: one request at a time on a kept connection, small answers, read strictly.

http.client costs more CPU than all else that sending a small object takes: it makes a message of an e-mail from each
answer's head. Here a head is split once. What is not plainly right is refused: an answer is whole, or it is none.
Source: RFC 9112 (message format, chunked coding, persistence) and RFC 9110 section 9.3.6 (CONNECT).
"""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ssl import SSLContext

_BLOCK_BYTES = 256 << 10  # of a body, handed to the socket at once
_JOINED_BYTES = 64 << 10  # a body up to this goes out with its head, in one system call
_HEAD_BYTES = 64 << 10  # bounds the head of an answer
_HEAD_LINES = 100
_BODY_BYTES = 8 << 20  # bounds the body of an answer
_RECEIVE_BYTES = 16 << 10  # asked of the socket at once
_NAMES = 256  # of headers, remembered
_INTERIM = 8  # answers 1xx before the final one
_LAST_WORD_SECONDS = 0.5  # for an answer to come from a peer that stopped listening
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: |$)")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DIGITS = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?")

Body = bytes | Callable[[], Iterable[bytes]]
"""A request's body: bytes, or what makes an iterator over its blocks (anew for each try)."""


class BadAnswer(Exception):
    """What came is no whole HTTP/1.1 answer, or more than we take."""


class PeerClosed(ConnectionError):
    """The other side closed the connection before a byte of its answer came."""


class SourceFailed(Exception):
    """A block of a body could not be made, which is no failure of the connection."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Connection:
    """One TCP connection, perhaps with TLS. Used by one thread at a time, but for `sever`."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self.reusable = True  # whether the next request may go this way
        self._sock = sock
        self._timeout = timeout
        self._rest = b""  # received, and not yet used
        self._poll = select.poll()  # select(2) knows only the first 1024 descriptors, and logs may hold thousands
        self._poll.register(sock, select.POLLIN)

    @classmethod
    def dial(cls, host: str, port: int, timeout: float) -> Connection:
        """Raises OSError, and UnicodeError for what can be no host's name."""
        sock = socket.create_connection((host, port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock, timeout)

    def secure(self, context: SSLContext, host: str) -> Connection:
        """The same connection with TLS, the certificate checked. This one is spent. Raises OSError."""
        return Connection(context.wrap_socket(self._sock, server_hostname=host), self._timeout)

    def tunnel(self, head: bytes) -> None:
        """Have a proxy open a way. Raises OSError, BadAnswer."""
        self._sock.sendall(head)
        answer = self.receive("CONNECT")
        if not 200 <= answer.status < 300 or self._rest:
            raise BadAnswer(f"the proxy answered {answer.status}")

    def limit(self, timeout: float) -> None:
        """Let no read or write take longer than so many seconds."""
        if timeout != self._timeout:
            self._sock.settimeout(timeout)
            self._timeout = timeout

    def is_stale(self) -> bool:
        """Unused, with something to read: it was closed, or speaks out of turn."""
        return self._is_readable(0.0)

    def send(self, head: bytes, body: Body) -> None:
        """Send a request. If the peer stops listening in the middle, its answer may still say why.

        Raises OSError, SourceFailed, and what making the blocks raises.
        """
        try:
            if isinstance(body, bytes) and len(body) <= _JOINED_BYTES:
                self._sock.sendall(head + body if body else head)
                return
            self._sock.sendall(head)
            for block in _blocks(body):
                self._sock.sendall(block)
        except (BrokenPipeError, ConnectionResetError):
            self.reusable = False
            if not self._is_readable(_LAST_WORD_SECONDS):
                raise

    def receive(self, method: str) -> Answer:
        """The answer to a request of this method. Raises OSError (PeerClosed among them), BadAnswer."""
        for _ in range(_INTERIM):
            version, status, headers = _parse_head(self._head())
            if status >= 200:
                break
        else:
            raise BadAnswer("no end of interim answers")
        if version == "0" or "close" in headers.get("connection", "").lower():
            self.reusable = False
        bodiless = method in ("HEAD", "CONNECT") or status in (204, 304)
        body = b"" if bodiless else self._body(headers)
        if self._rest:
            self.reusable = False  # it speaks out of turn
        return Answer(status, headers, body)

    def sever(self) -> None:
        """End it under its user's hands. Not by SSLSocket.shutdown, which would go on in plain text."""
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        self._sock.close()

    def _is_readable(self, seconds: float) -> bool:
        return bool(self._poll.poll(seconds * 1000))

    def _head(self) -> str:
        """Status line and header lines of the next answer."""
        data = self._rest or self._sock.recv(_RECEIVE_BYTES)
        if not data:
            raise PeerClosed("closed without an answer")
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > _HEAD_BYTES:
                raise BadAnswer(f"a head of more than {_HEAD_BYTES} bytes")
            data += self._more()
        self._rest = data[end + 4 :]
        return data[:end].decode("latin-1")

    def _body(self, headers: Mapping[str, str]) -> bytes:
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked":
                raise BadAnswer(f"Transfer-Encoding: {coding[:40]}")
            return self._chunks()
        length = headers.get("content-length")
        if length is None:
            return self._until_the_end()
        if not _DIGITS.fullmatch(length) or int(length) > _BODY_BYTES:
            raise BadAnswer(f"Content-Length: {length[:40]}")
        return self._exactly(int(length))

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        total = 0
        while size := _chunk_size(self._line()):
            total += size
            if total > _BODY_BYTES:
                raise BadAnswer(f"an answer of more than {_BODY_BYTES} bytes")
            parts.append(self._exactly(size))
            if self._exactly(2) != b"\r\n":
                raise BadAnswer("a chunk without an end")
        for _ in range(_HEAD_LINES):
            if not self._line():
                return b"".join(parts)
        raise BadAnswer("no end of trailers")

    def _until_the_end(self) -> bytes:
        self.reusable = False
        parts, total = [self._rest], len(self._rest)
        self._rest = b""
        while block := self._sock.recv(_RECEIVE_BYTES):
            parts.append(block)
            total += len(block)
            if total > _BODY_BYTES:
                raise BadAnswer(f"an answer of more than {_BODY_BYTES} bytes")
        return b"".join(parts)

    def _exactly(self, size: int) -> bytes:
        parts, missing = [self._rest], size - len(self._rest)
        while missing > 0:
            block = self._more()
            parts.append(block)
            missing -= len(block)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]

    def _line(self) -> bytes:
        while (end := self._rest.find(b"\r\n")) < 0:
            if len(self._rest) > _HEAD_BYTES:
                raise BadAnswer(f"a line of more than {_HEAD_BYTES} bytes")
            self._rest += self._more()
        line, self._rest = self._rest[:end], self._rest[end + 2 :]
        return line

    def _more(self) -> bytes:
        block = self._sock.recv(_RECEIVE_BYTES)
        if not block:
            raise BadAnswer("closed in the middle of an answer")
        return block


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request as it is sent. Raises ValueError where a header would become several."""
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()], "\r\n"]
    head = "\r\n".join(lines).encode("ascii")
    ends = len(lines)
    if head.count(b"\n") != ends or head.count(b"\r") != ends or target.count(" "):
        raise ValueError("a line end in a header, or a blank in the target")
    return head


def _blocks(body: Body) -> Iterator[bytes | memoryview]:
    if isinstance(body, bytes):
        for start in range(0, len(body), _BLOCK_BYTES):  # the time limit is that of one block
            yield memoryview(body)[start : start + _BLOCK_BYTES]
        return
    try:
        yield from body()
    except OSError as error:
        raise SourceFailed(error) from error


def _parse_head(head: str) -> tuple[str, int, dict[str, str]]:
    """Minor version, status and headers; of a header that comes several times, the last."""
    first, *lines = head.split("\r\n")
    found = _STATUS.match(first)
    if found is None or len(lines) > _HEAD_LINES:
        raise BadAnswer(f"no answer of HTTP/1.1, or too many headers: {first[:40]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadAnswer(f"no header: {line[:40]!r}")
        name, value = _field_name(name), value.strip(" \t")
        if name == "content-length" and headers.get(name, value) != value:
            raise BadAnswer("two lengths")
        headers[name] = value
    return found[1], int(found[2]), headers


@lru_cache(maxsize=_NAMES)
def _field_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadAnswer(f"no header: {name[:40]!r}")
    return name.lower()


def _chunk_size(line: bytes) -> int:
    found = _CHUNK.fullmatch(line)
    if found is None:
        raise BadAnswer(f"no chunk: {line[:40]!r}")
    return int(found[1], 16)
