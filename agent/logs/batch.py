"""What one PutLogEvents carries: built up to every limit of the call, made into a body, halved when refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from agent.aws.limits import LOG_BATCH_BYTES, LOG_BATCH_EVENTS, LOG_BATCH_SPAN_MS, LOG_EVENT_OVERHEAD
from agent.logs.frame import Block

_FULL_BYTES = 2048  # room left below which a batch counts as full: hardly a line fits


@dataclass(frozen=True, slots=True)
class Timed:
    """A block of events that all have one timestamp, in ms since the epoch."""

    timestamp: int
    block: Block


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
        self._size = 0
        self._pieces: list[Timed] = []

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
        """Whether it covers no byte at all."""
        return self.end == self.start

    def accepts(self, timestamp: int) -> bool:
        """Whether an event of that time may follow: order, and a day between the first and the last."""
        if not self._pieces:
            return True
        return self._pieces[-1].timestamp <= timestamp < self._pieces[0].timestamp + LOG_BATCH_SPAN_MS

    def add(self, timestamp: int, block: Block) -> None:
        self.end = block.end
        self.guard = block.guard
        if block.count:
            self.events += block.count
            self._size += block.size
            self._pieces.append(Timed(timestamp, block))

    def pieces(self) -> tuple[Timed, ...]:
        return tuple(self._pieces)


def first_timestamp(pieces: Sequence[Timed]) -> int:
    return pieces[0].timestamp if pieces else 0


def last_timestamp(pieces: Sequence[Timed]) -> int:
    return pieces[-1].timestamp if pieces else 0


def _encode(piece: Timed) -> tuple[bytes, bytes, bytes]:
    """The events of a block as JSON objects: one call of orjson, then the envelopes put between the messages.

    In parts, so that the large one is copied once; a comma follows the last. Exact because the separator is in no
    message and JSON leaves it unescaped.
    """
    head = b'{"timestamp":%d,"message":' % piece.timestamp
    separator = piece.block.separator.encode()
    return head, orjson.dumps(piece.block.text).replace(separator, b'"},' + head + b'"'), b"},"


def _cut(piece: Timed, count: int) -> tuple[list[Timed], list[Timed]]:
    """The first `count` events of a block, and the rest; offsets stay those of the whole block."""
    if count == 0:
        return [], [piece]
    messages = piece.block.messages()
    return [_some(piece, messages[:count])], [_some(piece, messages[count:])]


def _some(piece: Timed, messages: list[str]) -> Timed:
    block = piece.block
    text = block.separator.join(messages)
    size = sum(len(message.encode()) + LOG_EVENT_OVERHEAD for message in messages)
    return Timed(
        piece.timestamp,
        Block(text, block.separator, len(messages), size, block.start, block.end, block.guard),
    )
