"""Bytes into events, in blocks: one decode for a whole chunk of lines, no object for each line.

Offsets are always in raw bytes of the file. A block covers an unbroken range of them, so that lines which make no
event (empty ones) are accounted for too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.aws.limits import LOG_EVENT_BYTES, LOG_EVENT_OVERHEAD

_EMPTY_LINE = re.compile(rb"\n\n")  # half the price of `in` for a pattern of two bytes
_EMPTY_LINES = re.compile(rb"\n+")
_SHRINK = 0.9  # how much smaller a cut is tried when one was too large
_DELETE = "\x7f"
_SWELL = 3  # bytes of the character that replaces an invalid byte
_OTHERS = range(0xE000, 0x110000)  # characters that JSON leaves as they are: more of them than any block holds
SMALLEST_EVENT = 4  # bytes: any character fits


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
    stamps: tuple[int, ...] | None = None  # ms since the epoch of each event; None: they have one time
    stamp: int | None = None  # that time; None: of reading
    counts: tuple[int, ...] | None = None  # events that matched each of the entry's counters, also if left out

    def messages(self) -> list[str]:
        return self.text.split(self.separator) if self.count else []


@dataclass
class FrameCounts:
    """What framing had to change or skip."""

    invalid: int = 0  # blocks with bytes that are no valid text: replaced
    empty: int = 0  # empty lines: skipped
    split: int = 0  # pieces of events that were too long for one
    dropped: int = 0  # events that a rule of the configuration drops
    untimed: int = 0  # events whose time could not be read: they have that of the one before


class Framer:
    """Holds what was read and not yet framed; hands out blocks that fit."""

    stamped = False  # its blocks have no times of their own

    def __init__(
        self, offset: int = 0, max_event: int = LOG_EVENT_BYTES, guard_bytes: int = 64, before: bytes = b""
    ) -> None:
        """`before`: the last raw bytes before `offset`, at most `guard_bytes`."""
        self.counts = FrameCounts()
        self._buffer = b""
        self._offset = offset  # of the first byte in the buffer
        self._searched = 0  # bytes of the buffer known to hold no line end
        self._max_event = max(SMALLEST_EVENT, min(max_event, LOG_EVENT_BYTES))
        self._long = re.compile(rb"(?m:^)(?=[^\n]{%d})(?![^\n]{%d}\r\n)" % (self._max_event + 1, self._max_event))
        self._guard_bytes = guard_bytes
        self._guard = before

    @property
    def pending(self) -> int:
        """Bytes read and not framed."""
        return len(self._buffer)

    @property
    def offset(self) -> int:
        """Where the next block starts."""
        return self._offset

    def feed(self, data: bytes, epoch: float = 0.0) -> None:  # noqa: ARG002 - as Composer's
        """Take the bytes that follow in the file."""
        self._buffer = self._buffer + data if self._buffer else data

    def take(self, room: int, events: int, *, final: bool = False) -> Block | None:
        """The next block within `room` bytes and `events` events, or None: nothing complete, or nothing that fits.

        `final` takes an unterminated line as a line. `has_more` tells the two Nones apart.
        """
        end = self._complete()
        if end > 0:
            return self._take_lines(self._buffer[:end] if end < len(self._buffer) else self._buffer, room, events)
        if self._open_is_long():
            return self._take_piece(self._buffer, room, events)
        return self._take_lines(self._buffer + b"\n", room, events) if final and self._buffer else None

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
            swollen = self._swollen(data) if decoded.invalid else None
            if swollen == 0:
                return self._take_piece(data, room, events)
            if swollen is not None:
                data = data[:swollen]
            elif decoded.size <= room and decoded.events <= events:
                return self._emit(decoded, len(data))
            else:
                end = _shorter(data, min(room / max(decoded.size, 1), events / max(decoded.events, 1), _SHRINK))
                if end == len(data):
                    return None
                data = data[:end]

    def _swollen(self, data: bytes) -> int | None:
        """Where the first line starts that replacing its invalid bytes makes too long for an event."""
        if len(data) * _SWELL <= self._max_event:
            return None
        start = 0
        for line in data.split(b"\n"):
            content = line.removesuffix(b"\r")
            if len(content) * _SWELL > self._max_event and _size(content) > self._max_event:
                return start
            start += len(line) + 1
        return None

    def _open_is_long(self) -> bool:
        """Too long whatever follows, also if that is the second half of a CRLF."""
        return len(self._buffer) >= self._max_event + 2

    def _take_piece(self, data: bytes, room: int, events: int) -> Block | None:
        """The first piece of a line that is too long for an event, cut between characters."""
        line_end = data.find(b"\n")
        length = _between_characters(data, min(self._max_event, len(data) if line_end < 0 else line_end))
        while _size(data[:length]) > self._max_event:  # replacing invalid bytes makes it longer
            length = _between_characters(data, int(length * _SHRINK))
        decoded = _decode_piece(data[:length])
        if decoded.size > room or decoded.events > events:
            return None
        self.counts.split += 1
        return self._emit(decoded, length)

    def _emit(self, decoded: _Decoded, length: int) -> Block:
        self.counts.empty += decoded.empty
        self.counts.invalid += decoded.invalid
        length = min(length, len(self._buffer))  # an open line was given its end
        tail = self._buffer[max(0, length - self._guard_bytes) : length]
        self._guard = tail if len(tail) == self._guard_bytes else (self._guard + tail)[-self._guard_bytes :]
        separator = separator_of(decoded.text)
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
    text, invalid = _text(data[:-1])
    size = len(text.encode()) - count + 1 if invalid else len(data) - count
    return _Decoded(text, count, size + LOG_EVENT_OVERHEAD * count, empty, invalid)


def _decode_piece(data: bytes) -> _Decoded:
    """A piece of a line: all of it is text."""
    text, invalid = _text(data)
    return _Decoded(text, 1, len(text.encode()) + LOG_EVENT_OVERHEAD, 0, invalid)


def _text(data: bytes) -> tuple[str, int]:
    """`data` as text, and whether something had to be replaced."""
    try:
        return data.decode(), 0
    except UnicodeDecodeError:
        return data.decode(errors="replace"), 1


def _lines(data: bytes) -> int:
    """The number of line ends: deleting them is a third of the price of counting them."""
    return len(data) - len(data.replace(b"\n", b""))


def newlines(text: str) -> int:
    """Their number, likewise."""
    return _lines(text.encode())


def _size(data: bytes) -> int:
    """Bytes of the text that `data` becomes."""
    return len(_text(data)[0].encode())


def _shorter(data: bytes, part: float) -> int:
    """Length of the lines in about that part of `data`; of the first line at least."""
    return data.rfind(b"\n", 0, int(len(data) * part)) + 1 or data.find(b"\n") + 1


def _between_characters(data: bytes, length: int) -> int:
    """`length`, or up to three bytes less so that no character is cut."""
    for cut in range(length, max(0, length - 4), -1):
        if cut >= len(data) or data[cut] & 0xC0 != 0x80:
            return cut if cut == length or data[cut] >= 0xC0 else length
    return length


def joined(messages: Sequence[str]) -> tuple[str, str]:
    """The messages in one string, and the separator between them, which is in none."""
    text = _DELETE.join(messages)
    if text.count(_DELETE) == max(0, len(messages) - 1):
        return text, _DELETE
    separator = separator_of("".join(messages))
    return separator.join(messages), separator


def separator_of(text: str) -> str:
    """A character that is not in `text` and that JSON leaves as it is: DEL, else the first of the others."""
    if _DELETE not in text:
        return _DELETE
    present = set(text)
    return next(char for char in map(chr, _OTHERS) if char not in present)
