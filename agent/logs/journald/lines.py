"""Lines out of a stream of bytes, the longest one bounded: what is longer is passed over in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

LONGEST_LINE = 4 << 20  # bytes of one entry in JSON: reading one holds the interpreter for some 10 ms
_KEPT_BYTES = 8 << 10  # of each end of a line that is too long: the fields that say which entry it was


class Line(NamedTuple):
    """A line without its end. `length` counts the bytes that it took; of one that was too long both ends are left."""

    data: bytes
    length: int
    whole: bool


class Lines:
    """Takes bytes as they come, gives lines."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._buffer = b""
        self._passed = 0  # bytes of a line that is too long, not kept any more
        self._head = b""

    @property
    def pending(self) -> int:
        """Bytes of the line that has no end yet."""
        return len(self._buffer) + self._passed

    def feed(self, data: bytes) -> Iterator[Line]:
        """The lines that `data` completes."""
        *complete, rest = data.split(b"\n")
        for part in complete:
            yield self._end(self._buffer + part if self._buffer else part)
        self._buffer = self._buffer + rest if self._buffer else rest
        if self._passed or len(self._buffer) > self._longest:
            self._pass_over()

    def clear(self) -> None:
        """Forget a line that has no end yet."""
        self._buffer, self._passed, self._head = b"", 0, b""

    def _end(self, data: bytes) -> Line:
        length = self._passed + len(data) + 1
        whole = not self._passed and len(data) <= self._longest
        if not whole:
            head = self._head or data[:_KEPT_BYTES]
            data = head + b"\n" + data[-_KEPT_BYTES:]
        self.clear()
        return Line(data, length, whole)

    def _pass_over(self) -> None:
        """Keep both ends of what is too long."""
        self._head = self._head or self._buffer[:_KEPT_BYTES]
        self._passed += max(0, len(self._buffer) - _KEPT_BYTES)
        self._buffer = self._buffer[-_KEPT_BYTES:]
