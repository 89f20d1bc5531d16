"""HTTP/1.1 messages (RFC 9112): reading a request's head and body, and the shape of an answer."""

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote

MAX_LINE = 65_536  # bytes of one line of a head
MAX_HEADERS = 200  # lines of a head
BLOCK = 262_144  # bytes read from a body at a time


class MessageError(Exception):
    """What arrived is not HTTP/1.1: the connection is closed; look at what the client sends."""


class TruncatedError(MessageError):
    """The client went away in the middle of a message: nothing of it is accepted."""


class TooLargeError(MessageError):
    """A body is larger than its receiver takes: the client should send less at once."""


class HangUpError(Exception):
    """End the connection without an answer: by a reset (RST), or by an orderly close (FIN)."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("reset" if reset else "close")
        self.reset = reset


@dataclass(frozen=True, slots=True)
class Head:
    """Request line and headers; header names are in lower case, repeated ones joined by commas."""

    method: str
    target: str
    headers: dict[str, str]


def read_head(source: io.BufferedReader) -> Head | None:
    """The next head of a connection, or None when the client has closed it."""
    line = source.readline(MAX_LINE)
    if not line:
        return None
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise MessageError(f"not a request line: {line[:100]!r}")
    return Head(words[0], words[1], _read_headers(source))


def _read_headers(source: io.BufferedReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        line = source.readline(MAX_LINE)
        if line in (b"\r\n", b"\n"):
            return headers
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise TruncatedError("the head ends in the middle")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    raise MessageError(f"more than {MAX_HEADERS} header lines")


class Body:
    """A request's body, read once, front to back, in the framing that its head announces.

    The first read sends `100 Continue` to a client that waits for it.
    """

    def __init__(self, source: io.BufferedReader, headers: dict[str, str], invite: Callable[[], None]) -> None:
        self._source = source
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self.length = None if self._chunked else _content_length(headers)
        self._left = self.length or 0
        self._invite = invite
        self.awaited = headers.get("expect", "").lower() == "100-continue"
        self.finished = not self._chunked and not self._left
        self.received = 0  # bytes, without framing
        self._blocks = self._read()
        self._whole: bytes | None = None

    def blocks(self) -> Iterator[bytes]:
        """What is left of the body, in blocks of at most BLOCK bytes; the same iterator each time."""
        return self._blocks

    def _read(self) -> Iterator[bytes]:
        if self.finished:
            return
        if self.awaited:
            self.awaited = False
            self._invite()
        for block in self._read_chunks() if self._chunked else self._read_fixed():
            self.received += len(block)
            yield block
        self.finished = True

    def read(self, limit: int) -> bytes:
        """All of it, also when asked again; TooLargeError when that is more than `limit` bytes."""
        if self._whole is None:
            self._whole = b"".join(self._bounded(limit))
        return self._whole

    def _bounded(self, limit: int) -> Iterator[bytes]:
        for block in self.blocks():
            if self.received > limit:
                raise TooLargeError(f"the body is larger than {limit} bytes")
            yield block

    def discard(self, limit: int, *, invite: bool = False) -> bool:
        """Read past at most `limit` bytes more, so that the next request can follow; whether it can.

        A client that waits for `100 Continue` has sent nothing yet: it is left waiting unless `invite` is set.
        """
        end = self.received + limit
        if self.finished or (self.awaited and not invite):
            return self.finished
        return all(self.received <= end for _ in self.blocks()) and self.finished

    def _read_fixed(self) -> Iterator[bytes]:
        while self._left:
            block = self._source.read(min(self._left, BLOCK))
            if not block:
                raise TruncatedError(f"{self._left} bytes of the body are missing")
            self._left -= len(block)
            yield block

    def _read_chunks(self) -> Iterator[bytes]:
        while size := self._chunk_size():
            self._left = size
            yield from self._read_fixed()
            self._end_of_line()
        _read_headers(self._source)

    def _chunk_size(self) -> int:
        line = self._source.readline(MAX_LINE)
        try:
            return int(line.partition(b";")[0], 16)
        except ValueError as error:
            raise TruncatedError(f"not a chunk size: {line[:40]!r}") from error

    def _end_of_line(self) -> None:
        if self._source.readline(3) not in (b"\r\n", b"\n"):
            raise MessageError("a chunk is longer than it says")


def _content_length(headers: dict[str, str]) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    if not text.isdecimal():
        raise MessageError(f"not a length: {text[:40]!r}")
    return int(text)


@dataclass
class Request:
    """One request: `path` and `raw_query` as they stood on the wire; `connection` numbers the connections."""

    method: str
    target: str
    headers: dict[str, str]
    body: Body
    peer: str = "127.0.0.1"
    connection: int = 0

    @cached_property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @cached_property
    def raw_query(self) -> str:
        return self.target.partition("?")[2]

    @cached_property
    def query(self) -> dict[str, str]:
        """Decoded parameters; of one given twice, the last."""
        pairs = (pair.partition("=") for pair in self.raw_query.split("&") if pair)
        return {unquote(name): unquote(value) for name, _, value in pairs}


@dataclass
class Response:
    """One answer. A body of blocks is sent with `length` when that is known, in chunks otherwise.

    `error` is the service's error code, for the request journal.
    """

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    error: str = ""

    def close(self) -> None:
        """Let go of what the body holds; for an answer that has been sent, or will not be."""
        close = getattr(self.body, "close", None)
        if close:
            close()
