"""Events that are more than lines: of any encoding, joined, kept or dropped, counted, with times of their own.

The general way beside `agent.logs.frame`, for entries that ask for it. Where nothing is joined, a chunk of lines is
taken at once (`agent.logs.chunks`); where that can't be, line by line, with the same result. Offsets are in raw
bytes. What is not an event (an empty line, a dropped event) is accounted for by the block that covers it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.aws.limits import LOG_BATCH_SPAN_MS, LOG_EVENT_BYTES, LOG_EVENT_OVERHEAD
from agent.logs.chunks import Group, Lines, Selection, Stamps, clocked, divided, lines_of
from agent.logs.encodings import Encoding
from agent.logs.frame import SMALLEST_EVENT, Block, FrameCounts, joined, separator_of
from agent.logs.joining import Joiner
from agent.logs.singles import Single, Taken, take_fitting
from agent.logs.timestamps import Parse

_MOST_LINES = 10_000  # joined to one event
_LONGEST_LINE = 4 << 20  # bytes; a line that is still without its end then is cut there: bounds what is held
_SHRINK = 0.9  # how much smaller a cut is tried when one was too large


@dataclass(frozen=True)
class EventRules:
    """What an entry of the configuration asks of its events.

    `counters` count the events that match, also those that `keep` and `drop` leave out: what is counted is what
    happened, whether or not it is worth sending.
    """

    encoding: str = "utf-8"
    joiner: Callable[[], Joiner] | None = None
    keep: tuple[re.Pattern[str], ...] = ()
    drop: tuple[re.Pattern[str], ...] = ()
    parse: Parse | None = None
    counters: tuple[re.Pattern[str], ...] = ()

    def wants(self, text: str) -> bool:
        """Whether the event is kept."""
        if self.keep and not any(pattern.search(text) for pattern in self.keep):
            return False
        return not any(pattern.search(text) for pattern in self.drop)

    def count(self, text: str) -> tuple[int, ...] | None:
        """For each of the counters 1 if the event matches."""
        return tuple(int(pattern.search(text) is not None) for pattern in self.counters) if self.counters else None

    def sum(self, counts: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
        """Of several events."""
        nothing = (0,) * len(self.counters)
        return tuple(map(sum, zip(nothing, *counts, strict=True))) if self.counters else None


@dataclass(slots=True)
class _Ready(Single):
    """With what it counts."""

    counts: tuple[int, ...] | None = None


class Composer:
    """Holds what was read and not yet made into blocks. Used as `frame.Framer` is; its blocks are stamped."""

    stamped = True

    def __init__(
        self,
        rules: EventRules,
        offset: int = 0,
        max_event: int = LOG_EVENT_BYTES,
        guard_bytes: int = 64,
        before: bytes = b"",
    ) -> None:
        """`before`: the last raw bytes before `offset`, at most `guard_bytes`."""
        self.counts = FrameCounts()
        self._rules = rules
        self._selection = Selection(rules.keep, rules.drop, rules.counters)
        self._encoding = Encoding(rules.encoding)
        self._joiner = rules.joiner() if rules.joiner else None
        self._max_event = max(SMALLEST_EVENT, min(max_event, LOG_EVENT_BYTES))
        self._guard_bytes = guard_bytes
        self._before = before
        self._raw = bytearray()  # from `_offset` on
        self._offset = offset
        self._scanned = offset  # up to here lines were looked at
        self._searched = offset  # up to here no other line ends
        self._ready: deque[_Ready | Group] = deque()
        self._open: list[str] = []  # lines of the event that may go on
        self._open_size = 0
        self._stamp: int | None = None  # of the event before
        self._epoch = 0.0  # when the latest bytes were read

    @property
    def pending(self) -> int:
        """Bytes read and not in a block."""
        return len(self._raw)

    @property
    def offset(self) -> int:
        """Where the next block starts."""
        return self._offset

    def feed(self, data: bytes, epoch: float = 0.0) -> None:
        """Take the bytes that follow in the file, read at `epoch` (seconds)."""
        self._epoch = epoch
        self._raw += data
        start = self._scanned - self._offset
        end = self._encoding.end_of_lines(self._raw, start, self._searched - self._offset)
        if end > start:
            self._look_at(self._bytes(start, end))
        self._searched = self._offset + len(self._raw)
        self._cut_long_line()

    def has_more(self, *, final: bool = False) -> bool:
        """Whether `take` would give a block to an empty batch."""
        return bool(self._ready) or (final and bool(self._raw))

    def take(
        self, room: int, events: int, *, final: bool = False, lowest: int | None = None, highest: int | None = None
    ) -> Block | None:
        """The next block within `room` bytes, `events` events, and a day around `lowest` and `highest` (ms), or None.

        `final` takes an unterminated line, and an event that might go on.
        """
        if final:
            self._finish()
        if not self._ready:
            return None
        if isinstance(self._ready[0], Group):
            return self._take_group(room, events, lowest, highest)
        return self._take_singles(room, events, lowest, highest)

    def _take_group(self, room: int, events: int, lowest: int | None, highest: int | None) -> Block | None:
        """The next chunk of lines, or as many of its lines as fit."""
        while isinstance(group := self._ready[0], Group):
            low, high = group.span(lowest, highest)
            part = min(room / max(group.size, 1), events / max(group.count, 1))
            if high - low >= LOG_BATCH_SPAN_MS:
                part = min(part, 0.5)
            if part >= 1:
                return self._block_of_group(group)
            if not self._cut(group, min(part, _SHRINK)):
                return None
        raise AssertionError

    def _take_singles(self, room: int, events: int, lowest: int | None, highest: int | None) -> Block | None:
        """The next events that were made one by one, as many as fit."""
        taken = take_fitting(self._ready, _Ready, room, events, lowest, highest)
        return self._block_of_singles(taken) if taken.singles else None

    def _block_of_group(self, group: Group) -> Block:
        self._ready.popleft()
        separator = separator_of(group.text)
        text = group.text[:-1].replace("\n", separator)
        start, guard = self._leave(group.end)
        stamp, stamps = (group.stamps, None) if isinstance(group.stamps, int) else (None, tuple(group.stamps))
        return Block(
            text, separator, group.count, group.size, start, group.end, guard, stamps, stamp, group.counts
        )  # fmt: skip

    def _block_of_singles(self, taken: Taken[_Ready]) -> Block:
        end = taken.singles[-1].end
        start, guard = self._leave(end)
        text, separator = joined(taken.texts)
        counts = self._rules.sum([each.counts for each in taken.singles if each.counts])
        return Block(
            text, separator, len(taken.texts), taken.size, start, end, guard, tuple(taken.stamps), None, counts
        )  # fmt: skip

    def _leave(self, end: int) -> tuple[int, bytes]:
        """The raw bytes up to `end` are in a block: where it starts, and the last raw bytes before its end."""
        length = end - self._offset
        tail = self._bytes(max(0, length - self._guard_bytes), length)
        self._before = (self._before + tail)[-self._guard_bytes :]
        del self._raw[:length]
        start, self._offset = self._offset, end
        return start, self._before

    def _bytes(self, start: int, end: int) -> bytes:
        with memoryview(self._raw) as raw:
            return bytes(raw[start:end])

    def _look_at(self, data: bytes) -> None:
        lines = self._lines(data) if self._joiner is None else None
        if lines is not None:
            self._take_chunk(lines, len(data))
            return
        texts, invalid = self._encoding.lines(data)
        self.counts.invalid += invalid
        for text, length in texts:
            self._line(text, length)

    def _lines(self, data: bytes) -> Lines | None:
        """The lines of the chunk if they can be taken at once."""
        text = self._encoding.utf8(data)
        return None if text is None else lines_of(text, self._max_event, exact=text is data)

    def _take_chunk(self, lines: Lines, length: int) -> None:
        """All lines of `length` raw bytes at once."""
        self.counts.empty += lines.empty
        start, self._scanned = self._scanned, self._scanned + length
        reading = int(self._epoch * 1000)
        if self._rules.parse is None or not lines.count:
            self._add_group(lines, reading, self._scanned)
            return
        found = clocked(lines, self._rules.parse.lines(lines.text, self._epoch), self._stamp, reading)
        self.counts.untimed += found.untimed
        self._stamp = found.last
        for part, stamps in found.parts:
            start = start + part.size if len(found.parts) > 1 else self._scanned
            self._add_group(part, stamps, start)

    def _add_group(self, lines: Lines, stamps: Stamps, end: int) -> None:
        group = self._selection.group(lines, stamps, end)
        self.counts.dropped += lines.count - group.count
        self._ready.append(group)

    def _cut(self, group: Group, part: float) -> bool:
        """Put two in the place of the first group, cut after about that part of its lines; False if it is of one."""
        raw = self._bytes(0, group.end - self._offset)
        cut = self._encoding.end_of_lines(raw[: int(len(raw) * part)], 0) or len(self._encoding.split(raw)[0])
        if cut == len(raw):
            return False
        first, second = self._lines(raw[:cut]), self._lines(raw[cut:])
        assert first is not None
        assert second is not None
        before, after = divided(group.line_stamps, first.count)
        self._ready[0] = self._selection.group(second, after, group.end)
        self._ready.appendleft(self._selection.group(first, before, self._offset + cut))
        return True

    def _line(self, text: str, length: int) -> None:
        if self._joiner is None:
            self._scanned += length
            self._close(text)
            return
        size = len(text.encode()) + 1
        goes_on = self._joiner.continues(text)
        full = self._open_size + size > self._max_event or len(self._open) >= _MOST_LINES
        if self._open and (not goes_on or full):
            self._close_open()
        self._open.append(text)
        self._open_size += size
        self._scanned += length

    def _close_open(self) -> None:
        text = "\n".join(self._open).rstrip("\n")
        self._open, self._open_size = [], 0
        self._close(text)

    def _close(self, text: str) -> None:
        """What lies before `_scanned` is an event, or none."""
        if not text:
            self.counts.empty += 1
            self._ready.append(_Ready(None, 0, 0, self._scanned))
            return
        stamp, counts = self._time_of(text), self._rules.count(text)
        if not self._rules.wants(text):
            self.counts.dropped += 1
            self._ready.append(_Ready(None, 0, 0, self._scanned, counts))
            return
        before = self._ready[-1].end if self._ready else self._offset
        *pieces, last = _pieces(text, self._max_event)
        self.counts.split += len(pieces)
        for piece in pieces:
            self._ready.append(_Ready(piece, stamp, len(piece.encode()) + LOG_EVENT_OVERHEAD, before))
        self._ready.append(_Ready(last, stamp, len(last.encode()) + LOG_EVENT_OVERHEAD, self._scanned, counts))

    def _time_of(self, text: str) -> int:
        """The event's own time, else that of the event before it, else the time of reading."""
        if self._rules.parse is None:
            return int(self._epoch * 1000)
        found = self._rules.parse(text, self._epoch)
        if found is None:
            self.counts.untimed += 1
            found = self._stamp if self._stamp is not None else int(self._epoch * 1000)
        self._stamp = found
        return found

    def _cut_long_line(self) -> None:
        """A line of which too much has come without its end: what is there is taken as a line."""
        start = self._scanned - self._offset
        while len(self._raw) - start >= _LONGEST_LINE + 2 * self._encoding.unit:
            text, length = self._whole_characters(self._bytes(start, start + _LONGEST_LINE))
            self.counts.split += 1
            self._line(text, length)
            start += length

    def _whole_characters(self, data: bytes) -> tuple[str, int]:
        """As much of `data` as ends with a whole character: its text, and its length."""
        for less in range(4):
            length = len(data) - less * self._encoding.unit
            text, invalid = self._encoding.text(data[:length])
            if not invalid:
                return text, length
        self.counts.invalid += 1
        return self._encoding.text(data)[0], len(data)

    def _finish(self) -> None:
        """Nothing more is to come for now."""
        rest = self._bytes(self._scanned - self._offset, len(self._raw))
        if rest:
            text, invalid = self._encoding.text(rest)
            self.counts.invalid += invalid
            self._line(text, len(rest))
        if self._open:
            self._close_open()
        if self._joiner is not None:
            self._joiner.reset()


def _pieces(text: str, most: int) -> list[str]:
    """The text in pieces of at most `most` bytes of UTF-8 each, cut between characters."""
    if len(text) * 4 <= most or len(text.encode()) <= most:
        return [text]
    pieces, data, start = [], text.encode(), 0
    while start < len(data):
        end = start + most
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(data[start:end].decode())
        start = end
    return pieces
