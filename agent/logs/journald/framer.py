"""The output of journalctl into blocks of events. Offsets count its bytes; a block's guard is a position."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson

from agent.aws.limits import LOG_EVENT_BYTES, LOG_EVENT_OVERHEAD
from agent.logs.frame import Block, joined
from agent.logs.journald.entry import events, salvage
from agent.logs.journald.lines import LONGEST_LINE, Line, Lines
from agent.logs.journald.position import Position
from agent.logs.journald.selection import Selection
from agent.logs.singles import Single, Taken, take_fitting


@dataclass
class Counts:
    """What was not sent as it stood, since it was last asked for."""

    too_long: int = 0  # entries that are longer than a line may be: skipped
    unreadable: int = 0  # lines that are no entry: skipped
    split: int = 0  # events beyond the first of an entry


@dataclass(slots=True)
class _Ready(Single):
    """With the last entry that is complete then."""

    position: Position | None


class EntryFramer:
    """Holds what was read and not yet made into blocks."""

    def __init__(
        self,
        selection: Selection,
        offset: int,
        position: Position | None,
        *,
        longest_line: int = LONGEST_LINE,
        longest_event: int = LOG_EVENT_BYTES,
    ) -> None:
        """`offset` and `position` of the last entry before; None: there is none."""
        self.counts = Counts()
        self.read = offset  # bytes of whole lines, in blocks or not
        self.position = position  # of the last entry that was read
        self.entries = 0  # read since `begin`, the one to begin after not counted
        self.met = False  # the entry to begin after was the first that came
        self.first: Position | None = None  # of these entries
        self._selection = selection
        self._longest_event = longest_event
        self._lines = Lines(longest_line)
        self._ready: deque[_Ready] = deque()
        self._offset = offset
        self._framed = position  # the position of the last block
        self._after: Position | None = None
        self._started = False

    @property
    def offset(self) -> int:
        """Where the next block starts."""
        return self._offset

    @property
    def has_more(self) -> bool:
        return bool(self._ready)

    def begin(self) -> None:
        """Another process comes, from the last entry on that was read: its first one, if it is still there."""
        self._lines.clear()
        self._after, self._started = self.position, False
        self.entries, self.met, self.first = 0, False, None

    def feed(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            self._take_line(line)

    def take(self, room: int, most: int, lowest: int | None, highest: int | None) -> Block | None:
        """The next block within `room` bytes, `most` events, a day around `lowest` and `highest` (ms), or None."""
        taken = take_fitting(self._ready, _Ready, room, most, lowest, highest)
        return self._block(taken) if taken.singles else None

    def _take_line(self, line: Line) -> None:
        try:
            self._take_entry(line)
        except (KeyError, TypeError, ValueError):
            self.counts.unreadable += 1
            self._skip(line.length)

    def _take_entry(self, line: Line) -> None:
        """Raises KeyError, TypeError or ValueError where the line is no entry."""
        if not line.whole:
            self._pass_over(line)
            return
        fields: dict[str, Any] = orjson.loads(line.data)
        position = Position.of_entry(fields)
        if self._is_known(position):
            return
        messages = events(fields, self._longest_event) if self._selection.wants(fields) else []
        before, self.position = self.position, position
        self._count(position)
        stamp = position.realtime // 1000
        for message in messages[:-1]:
            self._ready.append(_Ready(message, stamp, _size(message), self.read, before))
        self.read += line.length
        self.counts.split += max(0, len(messages) - 1)
        last = messages[-1] if messages else None
        self._ready.append(_Ready(last, stamp, _size(last) if last else 0, self.read, position))

    def _pass_over(self, line: Line) -> None:
        position = salvage(line.data)
        if position is not None and self._is_known(position):
            return
        if position is not None:
            self.position = position
            self._count(position)
        self.counts.too_long += 1
        self._skip(line.length)

    def _count(self, position: Position) -> None:
        self.entries += 1
        self.first = self.first or position

    def _skip(self, length: int) -> None:
        self.read += length
        self._ready.append(_Ready(None, 0, 0, self.read, self.position))

    def _is_known(self, position: Position) -> bool:
        """Whether it is the entry to begin after, as only the first one can be."""
        if self._started:
            return False
        self._started = True
        self.met = self._after is not None and position.same_entry(self._after)
        return self.met

    def _block(self, taken: Taken[_Ready]) -> Block:
        last = taken.singles[-1]
        start, self._offset = self._offset, last.end
        self._framed = last.position
        guard = self._framed.document() if self._framed else b""
        whole, separator = joined(taken.texts)
        return Block(
            whole, separator, len(taken.texts), taken.size, start, last.end, guard, tuple(taken.stamps)
        )  # fmt: skip


def _size(message: str) -> int:
    """As PutLogEvents counts."""
    return (len(message) if message.isascii() else len(message.encode())) + LOG_EVENT_OVERHEAD
