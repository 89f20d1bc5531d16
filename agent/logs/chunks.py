"""Chunks of lines that become events at once, without an object for each line: the fast way of `agent.logs.compose`.

A chunk is taken so only where every line is valid text, short enough for an event, and nothing is joined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from operator import gt, not_
from typing import NamedTuple

from agent.aws.limits import LOG_EVENT_OVERHEAD
from agent.logs.frame import newlines
from agent.logs.matching import LineMatcher
from agent.logs.timestamps import Times, each_of

_EMPTY_LINE = re.compile(rb"\n\n")  # half the price of `in` for a pattern of two bytes
_EMPTY_LINES = re.compile(rb"\n+")
_LONG_RUN = 16  # lines of one time, on average, from which on each run is a block of its own

Stamps = int | Sequence[int]
"""In ms since the epoch: the time of all events, or of each."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines that are not empty, each with a newline at its end."""

    text: str
    count: int
    size: int  # bytes of UTF-8
    empty: int  # lines that were left out
    exact: bool  # the text is what the file holds, byte by byte

    def part(self, start: int, end: int) -> Lines:
        """Whole lines of them."""
        text = self.text[start:end]
        return Lines(text, newlines(text), _size(text), 0, self.exact)


def lines_of(data: bytes, longest: int, *, exact: bool = True) -> Lines | None:
    """The lines of UTF-8 that ends with a line end; None if it is not valid or one has more than `longest` bytes."""
    if b"\r" in data:
        data, exact = data.replace(b"\r\n", b"\n"), False
    empty = 0
    if data[0] == 0x0A or _EMPTY_LINE.search(data):
        exact, empty = False, _count(data)
        data = _EMPTY_LINES.sub(b"\n", data).lstrip(b"\n")
        empty -= _count(data)
    if len(data) > longest and re.search(rb"[^\n]{%d}" % (longest + 1), data):
        return None
    try:
        return Lines(data.decode(), _count(data), len(data), empty, exact)
    except UnicodeDecodeError:
        return None


@dataclass(slots=True)
class Group:
    """The events of a chunk of lines, and what is needed to cut it where it does not fit."""

    text: str  # of the events, each with a newline at its end
    count: int
    size: int  # bytes as PutLogEvents counts
    stamps: Stamps
    line_stamps: Stamps  # those of all lines
    end: int  # offset behind the chunk
    counts: tuple[int, ...] | None  # lines that match each of the counters

    def span(self, lowest: int | None, highest: int | None) -> tuple[int, int]:
        """The lowest and the highest time of its events and of these."""
        if not self.count:
            return lowest or 0, highest or 0
        stamps = self.stamps
        low, high = (stamps, stamps) if isinstance(stamps, int) else (min(stamps), max(stamps))
        return low if lowest is None else min(low, lowest), high if highest is None else max(high, highest)


class Selection:
    """What an entry keeps, drops and counts, for whole chunks."""

    def __init__(
        self, keep: Iterable[re.Pattern[str]], drop: Iterable[re.Pattern[str]], counters: Iterable[re.Pattern[str]]
    ) -> None:
        self._keep = [LineMatcher(pattern) for pattern in keep]
        self._drop = [LineMatcher(pattern) for pattern in drop]
        self._counters = [LineMatcher(pattern) for pattern in counters]

    def group(self, lines: Lines, stamps: Stamps, end: int) -> Group:
        """The events among the lines. Those that are left out count for the counters, too."""
        counts = tuple(each.count(lines.text) for each in self._counters) if self._counters else None
        if self._keep or self._drop:
            text, left = self._select(lines.text, stamps)
        else:
            text, left = lines.text, stamps
        if text is lines.text:
            size = lines.size + (LOG_EVENT_OVERHEAD - 1) * lines.count
            return Group(text, lines.count, size, stamps, stamps, end, counts)
        count, size = newlines(text), _size(text)
        return Group(text, count, size + (LOG_EVENT_OVERHEAD - 1) * count, left, stamps, end, counts)

    def _select(self, text: str, stamps: Stamps) -> tuple[str, Stamps]:
        """The lines that are kept and not dropped, and their times."""
        kept, dropped = _matching(self._keep, text), _matching(self._drop, text)
        if kept is None or dropped is None:
            return self._select_one_by_one(text, stamps)
        if self._keep:
            parts = [(start, end) for start, end in sorted(kept.items()) if start not in dropped]
            left = _times_of(text, stamps, dict(parts), inside=True)
        elif dropped:
            parts = _between(sorted(dropped.items()), len(text))
            left = _times_of(text, stamps, dropped, inside=False)
        else:
            return text, stamps
        return "".join([text[start:end] for start, end in parts]), left

    def _select_one_by_one(self, text: str, stamps: Stamps) -> tuple[str, Stamps]:
        lines = text.split("\n")[:-1]
        kept = _among(self._keep, lines) if self._keep else [True] * len(lines)
        chosen = list(map(gt, kept, _among(self._drop, lines))) if self._drop else kept
        left = stamps if isinstance(stamps, int) else _stamps(list(compress(stamps, chosen)))
        return "\n".join([*compress(lines, chosen), ""]), left


class Clocked(NamedTuple):
    """Lines and their times."""

    parts: list[tuple[Lines, Stamps]]
    last: int | None  # time of the last line
    untimed: int  # lines without a time of their own


def clocked(lines: Lines, times: Times, before: int | None, reading: int) -> Clocked:
    """A line without a time has that of the line before (`before`, of the first), or else that of `reading`."""
    if times.each is not None:
        return _clocked_each(lines, times.each, before, reading)
    runs: list[tuple[int, int]] = []
    untimed, start, last = 0, 0, before
    for time, end in times.runs:
        if time is not None:
            last = time
        else:
            untimed += newlines(lines.text[start:end])
            last = reading if last is None else last
        if runs and runs[-1][0] == last:
            runs.pop()
        runs.append((last, end))
        start = end
    return Clocked(_parts(lines, runs), last, untimed)


def _clocked_each(lines: Lines, each: Sequence[int | None], last: int | None, reading: int) -> Clocked:
    if None not in each:
        stamps: list[int] = list(each)  # type: ignore[arg-type]
        return Clocked([(lines, _stamps(stamps))], stamps[-1] if stamps else last, 0)
    stamps = []
    for time in each:
        if time is not None:
            last = time
        elif last is None:
            last = reading
        stamps.append(last)
    return Clocked([(lines, _stamps(stamps))], last, each.count(None))


def _parts(lines: Lines, runs: list[tuple[int, int]]) -> list[tuple[Lines, Stamps]]:
    if len(runs) == 1:
        return [(lines, runs[0][0])]
    if not lines.exact or len(runs) * _LONG_RUN > lines.count:
        return [(lines, list(each_of(Times(runs, None), lines.text)))]  # type: ignore[arg-type]
    starts = [0, *(end for _, end in runs)]
    return [(lines.part(start, end), time) for start, (time, end) in zip(starts, runs, strict=False)]


def _stamps(each: list[int]) -> Stamps:
    return each[0] if each and each.count(each[0]) == len(each) else each


def divided(stamps: Stamps, count: int) -> tuple[Stamps, Stamps]:
    """The times of the first `count` lines, and those of the rest."""
    return (stamps, stamps) if isinstance(stamps, int) else (stamps[:count], stamps[count:])


def _matching(patterns: Iterable[LineMatcher], text: str) -> dict[int, int] | None:
    """Start and end of the lines that match one of the patterns; None: ask them one by one."""
    found: dict[int, int] = {}
    for pattern in patterns:
        spans = pattern.spans(text)
        if spans is None:
            return None
        found.update(spans)
    return found


def _among(patterns: Iterable[LineMatcher], lines: Sequence[str]) -> list[bool]:
    """Which of the lines match one of the patterns."""
    return list(map(any, zip(*(pattern.among(lines) for pattern in patterns), strict=True)))


def _between(parts: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """What lies between these parts of a whole."""
    between, position = [], 0
    for start, end in parts:
        if start > position:
            between.append((position, start))
        position = end
    return [*between, (position, size)]


def _times_of(text: str, stamps: Stamps, starts: dict[int, int], *, inside: bool) -> Stamps:
    """The times of the lines that start at `starts`, or of all others."""
    if isinstance(stamps, int):
        return stamps
    where = accumulate((len(line) + 1 for line in text.split("\n")[:-1]), initial=0)
    chosen = map(starts.__contains__, where)
    return _stamps(list(compress(stamps, chosen if inside else map(not_, chosen))))


def _size(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def _count(data: bytes) -> int:
    """The number of line ends: deleting them is a third of the price of counting them."""
    return len(data) - len(data.replace(b"\n", b""))
