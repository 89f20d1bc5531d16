"""Bytes into events, in blocks: one decode for a whole chunk of lines, no object for each line.

Offsets are always in raw bytes of the file. A block covers an unbroken range of them, so that lines which make no
event (empty ones) are accounted for too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from agent.aws.limits import LOG_EVENT_BYTES, LOG_EVENT_OVERHEAD

_EMPTY_LINE = re.compile(rb"\n\n")  # half the price of `in` for a pattern of two bytes
_EMPTY_LINES = re.compile(rb"\n+")
_SHRINK = 0.9  # how much smaller a cut is tried when one was too large
_DELETE = "\x7f"


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive events of one file, their messages in one string.

    `text` has the messages with `separator` between them, a character that is in no message. `size` is in bytes as
    PutLogEvents counts (UTF-8 and overhead); `start` and `end` are offsets in the file; `guard` are the last raw
    bytes before `end`.
    """

    text: str
    separator: str
    count: int
    size: int
    start: int
    end: int
    guard: bytes

    def messages(self) -> list[str]:
        return self.text.split(self.separator) if self.count else []


@dataclass
class FrameCounts:
    """What framing had to change or skip."""

    invalid: int = 0  # blocks with bytes that are no valid text: replaced
    empty: int = 0  # empty lines: skipped
    split: int = 0  # pieces of events that were too long for one


class Framer:
    """Holds what was read and not yet framed; hands out blocks that fit."""

    def __init__(self, offset: int = 0, max_event: int = LOG_EVENT_BYTES, guard_bytes: int = 64) -> None:
        self.counts = FrameCounts()
        self._buffer = b""
        self._offset = offset  # of the first byte in the buffer
        self._searched = 0  # bytes of the buffer known to hold no line end
        self._max_event = min(max_event, LOG_EVENT_BYTES)
        self._long = re.compile(rb"(?m:^)(?=[^\n]{%d})(?![^\n]{%d}\r\n)" % (self._max_event + 1, self._max_event))
        self._guard_bytes = guard_bytes
        self._guard = b""

    @property
    def pending(self) -> int:
        """Bytes read and not framed."""
        return len(self._buffer)

    @property
    def offset(self) -> int:
        """Where the next block starts."""
        return self._offset

    def feed(self, data: bytes) -> None:
        """Take the bytes that follow in the file."""
        self._buffer = self._buffer + data if self._buffer else data

    def take(self, room: int, events: int, *, final: bool = False) -> Block | None:
        """The next block within `room` bytes and `events` events, or None: nothing complete, or nothing that fits.

        `final` takes an unterminated line as a line. `has_more` tells the two Nones apart.
        """
        end = self._complete()
        if end == 0:
            return self._take_open(room, events, final=final)
        return self._take_lines(self._buffer[:end] if end < len(self._buffer) else self._buffer, room, events)

    def has_more(self, *, final: bool = False) -> bool:
        """Whether `take` would give a block to an empty batch."""
        return bool(self._buffer) and (final or self._complete() > 0 or self._open_is_long())

    def _complete(self) -> int:
        """Length of the part of the buffer that ends with a line end; 0 if there is none."""
        end = self._buffer.rfind(b"\n", self._searched) + 1
        if end == 0:
            self._searched = len(self._buffer)
        return end

    def _take_lines(self, data: bytes, room: int, events: int) -> Block | None:
        if self._max_event < len(data):
            long = self._long.search(data)
            if long is not None and long.start() == 0:
                return self._take_piece(data, room, events)
            data = data if long is None else data[: long.start()]
        while True:
            decoded = _decode(data)
            if decoded.size <= room and decoded.events <= events:
                return self._emit(decoded, len(data))
            shorter = min(room / max(decoded.size, 1), events / max(decoded.events, 1), _SHRINK)
            end = data.rfind(b"\n", 0, int(len(data) * shorter)) + 1 or data.find(b"\n") + 1
            if end == len(data):
                return None
            data = data[:end]

    def _take_open(self, room: int, events: int, *, final: bool) -> Block | None:
        """An unterminated line: a piece of it if it is too long, all of it if it is to be final."""
        if self._open_is_long():
            return self._take_piece(self._buffer, room, events)
        if not final or not self._buffer:
            return None
        decoded = _decode(self._buffer + b"\n")
        fits = decoded.size <= room and decoded.events <= events
        return self._emit(decoded, len(self._buffer)) if fits else None

    def _open_is_long(self) -> bool:
        """Too long whatever follows, also if that is the second half of a CRLF."""
        return len(self._buffer) >= self._max_event + 2

    def _take_piece(self, data: bytes, room: int, events: int) -> Block | None:
        """The first piece of a line that is longer than an event may be, cut between characters."""
        length = self._max_event
        while length > self._max_event - 4 and data[length] & 0xC0 == 0x80:
            length -= 1
        decoded = _decode(data[:length] + b"\n")
        while decoded.size > self._max_event + LOG_EVENT_OVERHEAD:  # replacing invalid bytes made it longer
            length = int(length * _SHRINK)
            decoded = _decode(data[:length] + b"\n")
        if decoded.size > room or decoded.events > events:
            return None
        self.counts.split += 1
        return self._emit(decoded, length)

    def _emit(self, decoded: _Decoded, length: int) -> Block:
        self.counts.empty += decoded.empty
        self.counts.invalid += decoded.invalid
        tail = self._buffer[max(0, length - self._guard_bytes) : length]
        self._guard = tail if len(tail) == self._guard_bytes else (self._guard + tail)[-self._guard_bytes :]
        separator = _separator(decoded.text)
        text = decoded.text.replace("\n", separator)
        start, self._offset = self._offset, self._offset + length
        self._buffer = self._buffer[length:]
        self._searched = 0
        return Block(text, separator, decoded.events, decoded.size, start, self._offset, self._guard)


class _Decoded(NamedTuple):
    """Lines as text, a line end between two of them; their number and size; what was skipped or replaced."""

    text: str
    events: int
    size: int
    empty: int
    invalid: int


def _decode(data: bytes) -> _Decoded:
    """The lines of `data`, which ends with a line end."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    empty = 0
    if data[0] == 0x0A or _EMPTY_LINE.search(data):
        empty = _lines(data)
        data = _EMPTY_LINES.sub(b"\n", data).lstrip(b"\n")
        empty -= _lines(data)
        if not data:
            return _Decoded("", 0, 0, empty, 0)
    count = _lines(data)
    try:
        text, invalid = data[:-1].decode(), 0
        size = len(data) - count
    except UnicodeDecodeError:
        text, invalid = data[:-1].decode(errors="replace"), 1
        size = len(text.encode()) - count + 1
    return _Decoded(text, count, size + LOG_EVENT_OVERHEAD * count, empty, invalid)


def _lines(data: bytes) -> int:
    """The number of line ends: deleting them is a third of the price of counting them."""
    return len(data) - len(data.replace(b"\n", b""))


def _separator(text: str) -> str:
    """A character that is not in `text` and that JSON leaves as it is: DEL, else one for private use."""
    if _DELETE not in text:
        return _DELETE
    return next(char for char in map(chr, range(0xE000, 0xF8FF)) if char not in text)
