"""What one PutLogEvents carries: built up to every limit of the call, made into a body, halved when refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, repeat
from operator import add, le

import orjson

from agent.aws.limits import LOG_BATCH_BYTES, LOG_BATCH_EVENTS, LOG_BATCH_SPAN_MS, LOG_EVENT_OVERHEAD
from agent.logs.frame import Block, joined

_FULL_BYTES = 2048  # room left below which a batch counts as full: hardly a line fits


@dataclass(frozen=True, slots=True)
class Timed:
    """A block of events and their times, in ms since the epoch: one, or if the block is stamped, each has its own."""

    block: Block
    lowest: int
    highest: int

    @classmethod
    def of(cls, block: Block, timestamp: int) -> Timed:
        """`timestamp` is the time of the events if the block does not say it."""
        if block.stamps:
            return cls(block, min(block.stamps), max(block.stamps))
        timestamp = timestamp if block.stamp is None else block.stamp
        return cls(block, timestamp, timestamp)

    @property
    def stamps(self) -> Sequence[int]:
        """The time of each event."""
        return self.block.stamps or (self.lowest,) * self.block.count

    @property
    def in_order(self) -> bool:
        stamps = self.block.stamps
        return stamps is None or all(map(le, stamps, islice(stamps, 1, None)))


@dataclass(frozen=True, slots=True)
class Part:
    """Events for one call; the whole batch, or after a refusal some of it."""

    pieces: tuple[Timed, ...]

    @property
    def events(self) -> int:
        return sum(piece.block.count for piece in self.pieces)

    def halves(self) -> tuple[Part, Part]:
        """Two parts with half of the events each. There must be at least two events."""
        middle = self.events // 2
        first: list[Timed] = []
        for index, piece in enumerate(self.pieces):
            if middle < piece.block.count:
                before, after = _cut(piece, middle)
                return Part((*first, *before)), Part((*after, *self.pieces[index + 1 :]))
            first.append(piece)
            middle -= piece.block.count
        raise AssertionError

    def body(self, group: str, stream: str) -> bytes:
        """The JSON of PutLogEvents."""
        head = b'{"logGroupName":%b,"logStreamName":%b,"logEvents":[' % (orjson.dumps(group), orjson.dumps(stream))
        parts = [head]
        for piece in self.pieces:
            parts += _encode(piece)
        parts[-1] = b"}]}"
        return b"".join(parts)


class BatchBuilder:
    """Collects blocks of one file until the batch is full; what would break a limit is not taken."""

    def __init__(self, start: int, opened: float) -> None:
        """`start` is the offset of the first byte to come; `opened` monotonic seconds."""
        self.start = start
        self.end = start
        self.opened = opened
        self.events = 0
        self.guard = b""
        self.lowest: int | None = None  # times of events, ms since the epoch
        self.highest: int | None = None
        self.counts: tuple[int, ...] | None = None  # of what the blocks count, the sums
        self._size = 0
        self._pieces: list[Timed] = []
        self._in_order = True

    @property
    def room(self) -> int:
        """Bytes left, as PutLogEvents counts."""
        return LOG_BATCH_BYTES - self._size

    @property
    def events_left(self) -> int:
        return LOG_BATCH_EVENTS - self.events

    @property
    def full(self) -> bool:
        return self.room < _FULL_BYTES or self.events_left <= 0

    @property
    def empty(self) -> bool:
        """Whether it covers no byte and has no event."""
        return self.end == self.start and self.events == 0

    def accepts(self, timestamp: int) -> bool:
        """Whether an event of that time may follow: order, and a day between the first and the last."""
        if self.lowest is None or self.highest is None:
            return True
        return self.highest <= timestamp < self.lowest + LOG_BATCH_SPAN_MS

    def add(self, timestamp: int, block: Block) -> None:
        """Take a block; `timestamp` is that of its events if the block does not say it."""
        self.end = block.end
        self.guard = block.guard
        if block.counts:
            self.counts = tuple(map(add, self.counts or repeat(0), block.counts))
        if block.count:
            self._add(Timed.of(block, timestamp))

    def pieces(self) -> tuple[Timed, ...]:
        """In the order that PutLogEvents demands; events of one time keep that of the file."""
        return tuple(self._pieces) if self._in_order else (_sorted(self._pieces),)

    def _add(self, piece: Timed) -> None:
        self.events += piece.block.count
        self._size += piece.block.size
        self._pieces.append(piece)
        later = self.highest is None or self.highest <= piece.lowest
        self._in_order = self._in_order and later and piece.in_order
        self.lowest = piece.lowest if self.lowest is None else min(self.lowest, piece.lowest)
        self.highest = piece.highest if self.highest is None else max(self.highest, piece.highest)


def first_timestamp(pieces: Sequence[Timed]) -> int:
    return min(piece.lowest for piece in pieces) if pieces else 0


def last_timestamp(pieces: Sequence[Timed]) -> int:
    return max(piece.highest for piece in pieces) if pieces else 0


def _sorted(pieces: Sequence[Timed]) -> Timed:
    """All events as one block, by their time."""
    messages = [message for piece in pieces for message in piece.block.messages()]
    stamps = [stamp for piece in pieces for stamp in piece.stamps]
    order = sorted(range(len(stamps)), key=stamps.__getitem__)
    texts = [messages[index] for index in order]
    text, separator = joined(texts)
    block = replace(
        pieces[-1].block,
        text=text,
        separator=separator,
        count=len(texts),
        size=sum(piece.block.size for piece in pieces),
        start=pieces[0].block.start,
        stamps=tuple(stamps[index] for index in order),
        stamp=None,
    )
    return Timed.of(block, 0)


def _encode(piece: Timed) -> tuple[bytes, ...]:
    """The events of a block as JSON objects: one call of orjson, then the envelopes put between the messages.

    In parts, so that the large one is copied once; a comma follows the last. Exact because the separator is in no
    message and JSON leaves it unescaped.
    """
    separator = piece.block.separator.encode()
    if piece.lowest != piece.highest:
        return _encode_stamped(piece.block, separator)
    head = b'{"timestamp":%d,"message":' % piece.lowest
    return head, orjson.dumps(piece.block.text).replace(separator, b'"},' + head + b'"'), b"},"


def _encode_stamped(block: Block, separator: bytes) -> tuple[bytes, ...]:
    """The same for events with a time each."""
    messages = orjson.dumps(block.text)[1:-1].split(separator)
    stamps = orjson.dumps(block.stamps)[1:-1].split(b",")
    events = map(b',"message":"'.join, zip(stamps, messages, strict=True))
    return b'{"timestamp":', b'"},{"timestamp":'.join(events), b'"', b"},"


def _cut(piece: Timed, count: int) -> tuple[list[Timed], list[Timed]]:
    """The first `count` events of a block, and the rest; offsets stay those of the whole block."""
    if count == 0:
        return [], [piece]
    return [_some(piece, slice(0, count))], [_some(piece, slice(count, None))]


def _some(piece: Timed, part: slice) -> Timed:
    block = piece.block
    messages = block.messages()[part]
    text = block.separator.join(messages)
    size = sum(len(message.encode()) + LOG_EVENT_OVERHEAD for message in messages)
    stamps = block.stamps[part] if block.stamps else None
    return Timed.of(replace(block, text=text, count=len(messages), size=size, stamps=stamps), piece.lowest)
