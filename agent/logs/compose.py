"""Events that are more than lines: of any encoding, joined, kept or dropped, with times of their own.

The general way beside `agent.logs.frame`: line by line, for entries that ask for it. Offsets are in raw bytes. What
is not an event (an empty line, a dropped event) is accounted for by the block that covers it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from agent.aws.limits import LOG_BATCH_SPAN_MS, LOG_EVENT_BYTES, LOG_EVENT_OVERHEAD
from agent.logs.encodings import Encoding
from agent.logs.frame import SMALLEST_EVENT, Block, FrameCounts, joined
from agent.logs.joining import Joiner
from agent.logs.timestamps import Parse

_MOST_LINES = 10_000  # joined to one event
_LONGEST_LINE = 4 << 20  # bytes; a line that is still without its end then is cut there: bounds what is held


@dataclass(frozen=True)
class EventRules:
    """What an entry of the configuration asks of its events."""

    encoding: str = "utf-8"
    joiner: Callable[[], Joiner] | None = None
    keep: tuple[re.Pattern[str], ...] = ()
    drop: tuple[re.Pattern[str], ...] = ()
    parse: Parse | None = None

    def wants(self, text: str) -> bool:
        """Whether the event is kept."""
        if self.keep and not any(pattern.search(text) for pattern in self.keep):
            return False
        return not any(pattern.search(text) for pattern in self.drop)


@dataclass(slots=True)
class _Ready:
    """An event, or what is none (`text` None), and the offset behind it."""

    text: str | None
    stamp: int
    size: int
    end: int


@dataclass(slots=True)
class _Group:
    """The events of a whole chunk of lines, none of them joined or split: taken at once where they fit."""

    texts: list[str]
    stamps: list[int]
    size: int
    end: int
    lines: list[bytes]  # raw, with their ends
    kept: list[int] | None  # which of the lines are events; None: all

    def singles(self) -> list[_Ready]:
        """One by one, for where not all of them fit."""
        ends = list(accumulate(map(len, self.lines), initial=self.end - sum(map(len, self.lines))))[1:]
        which = range(len(ends)) if self.kept is None else self.kept
        found = [
            _Ready(text, stamp, len(text.encode()) + LOG_EVENT_OVERHEAD, ends[index])
            for text, stamp, index in zip(self.texts, self.stamps, which, strict=True)
        ]
        return found if found and found[-1].end == self.end else [*found, _Ready(None, 0, 0, self.end)]


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
        self._encoding = Encoding(rules.encoding)
        self._joiner = rules.joiner() if rules.joiner else None
        self._max_event = max(SMALLEST_EVENT, min(max_event, LOG_EVENT_BYTES))
        self._guard_bytes = guard_bytes
        self._before = before
        self._raw = b""  # from `_offset` on
        self._offset = offset
        self._scanned = offset  # up to here lines were looked at
        self._ready: deque[_Ready | _Group] = deque()
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
        self._raw = self._raw + data if self._raw else data
        start = self._scanned - self._offset
        end = self._encoding.end_of_lines(self._raw, start)
        if end > start:
            self._look_at(self._raw[start:end])
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
        texts: list[str] = []
        stamps: list[int] = []
        size, end = 0, self._offset
        while self._ready:
            ready = self._ready[0]
            if isinstance(ready, _Group):
                low, high = _around(lowest, highest, ready.stamps)
                fits = size + ready.size <= room and len(texts) + len(ready.texts) <= events
                if not fits or high - low >= LOG_BATCH_SPAN_MS:
                    self._ready.popleft()
                    self._ready.extendleft(reversed(ready.singles()))
                    continue
                texts += ready.texts
                stamps += ready.stamps
                size += ready.size
                if ready.stamps:
                    lowest, highest = low, high
            elif ready.text is not None:
                low, high = _around(lowest, highest, [ready.stamp])
                if size + ready.size > room or len(texts) >= events or high - low >= LOG_BATCH_SPAN_MS:
                    break
                lowest, highest = low, high
                texts.append(ready.text)
                stamps.append(ready.stamp)
                size += ready.size
            end = ready.end
            self._ready.popleft()
        return None if end == self._offset and not texts else self._block(texts, stamps, size, end)

    def _look_at(self, data: bytes) -> None:
        if self._joiner is None and self._take_group(data):
            return
        lines, invalid = self._encoding.lines(data)
        self.counts.invalid += invalid
        for text, length in lines:
            self._line(text, length)

    def _take_group(self, data: bytes) -> bool:
        """All lines at once, if each of them is valid text and short enough to be an event."""
        text, invalid = self._encoding.text(data)
        lines = self._encoding.split(data)
        texts = text.split("\n")
        texts.pop()
        if invalid or len(texts) != len(lines) or max(map(len, texts), default=0) * 4 > self._max_event:
            return False
        if "\r" in text:
            texts = [each.removesuffix("\r") for each in texts]
        kept = self._kept(texts)
        if kept is not None:
            texts = [texts[index] for index in kept]
        stamps = [int(self._epoch * 1000)] * len(texts) if self._rules.parse is None else self._times_of(texts)
        size = sum(map(len, texts)) if text.isascii() else sum(len(each.encode()) for each in texts)
        self._scanned += len(data)
        size += LOG_EVENT_OVERHEAD * len(texts)
        self._ready.append(_Group(texts, stamps, size, self._scanned, lines, kept))
        return True

    def _kept(self, texts: list[str]) -> list[int] | None:
        """Which of the lines are events that are kept; None: all."""
        rules = self._rules
        if len(rules.drop) == 1 and not rules.keep:  # the common case
            drops = rules.drop[0].search
            kept = [index for index, text in enumerate(texts) if text and drops(text) is None]
        elif rules.keep or rules.drop:
            kept = [index for index, text in enumerate(texts) if text and rules.wants(text)]
        elif "" in texts:
            kept = [index for index, text in enumerate(texts) if text]
        else:
            return None
        empty = texts.count("")
        self.counts.empty += empty
        self.counts.dropped += len(texts) - empty - len(kept)
        return kept

    def _times_of(self, texts: list[str]) -> list[int]:
        return [self._time_of(text) for text in texts]

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
        stamp = self._time_of(text)
        if not self._rules.wants(text):
            self.counts.dropped += 1
            self._ready.append(_Ready(None, 0, 0, self._scanned))
            return
        before = self._ready[-1].end if self._ready else self._offset
        pieces = _pieces(text, self._max_event)
        self.counts.split += len(pieces) - 1
        for piece in pieces[:-1]:
            self._ready.append(_Ready(piece, stamp, len(piece.encode()) + LOG_EVENT_OVERHEAD, before))
        last = pieces[-1]
        self._ready.append(_Ready(last, stamp, len(last.encode()) + LOG_EVENT_OVERHEAD, self._scanned))

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
            text, length = self._whole_characters(self._raw[start : start + _LONGEST_LINE])
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
        rest = self._raw[self._scanned - self._offset :]
        if rest:
            text, invalid = self._encoding.text(rest)
            self.counts.invalid += invalid
            self._line(text, len(rest))
        if self._open:
            self._close_open()
        if self._joiner is not None:
            self._joiner.reset()

    def _block(self, texts: list[str], stamps: list[int], size: int, end: int) -> Block:
        length = end - self._offset
        self._before = (self._before + self._raw[max(0, length - self._guard_bytes) : length])[-self._guard_bytes :]
        self._raw = self._raw[length:]
        start, self._offset = self._offset, end
        text, separator = joined(texts)
        return Block(text, separator, len(texts), size, start, end, self._before, tuple(stamps))


def _around(lowest: int | None, highest: int | None, stamps: list[int]) -> tuple[int, int]:
    """The lowest and the highest of all these times."""
    known = [stamp for stamp in (lowest, highest) if stamp is not None]
    return min(known + stamps, default=0), max(known + stamps, default=0)


def _pieces(text: str, most: int) -> list[str]:
    """The text in pieces of at most `most` bytes of UTF-8 each, cut between characters."""
    if len(text) * 4 <= most or len(text.encode()) <= most:
        return [text]
    pieces, data = [], text.encode()
    while data:
        length = most
        while length < len(data) and data[length] & 0xC0 == 0x80:
            length -= 1
        pieces.append(data[:length].decode())
        data = data[length:]
    return pieces
