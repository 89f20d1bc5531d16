"""One generation of one file, read from its cursor to its end; back-pressure is to stop reading."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from agent.logs.batch import BatchBuilder
from agent.logs.blank import end_of_blank
from agent.logs.compose import Composer, EventRules
from agent.logs.cursors import Cursor, Cursors
from agent.logs.deliver import Batch, Dispatcher
from agent.logs.destination import GroupWish
from agent.logs.encodings import MARK_BYTES, Encoding, marked
from agent.logs.frame import Block, FrameCounts, Framer
from agent.logs.identity import ALIKE_BYTES, GUARD_BYTES, PREFIX_BYTES, begins, digest, locate, prefix, tells

CHUNK_BYTES = 64 << 10  # read at once: larger chunks fall out of the CPU's cache
TURN_BYTES = 512 << 10  # read of one file before the next has its turn
BUSY_BACKLOG_BYTES = 8 << 20  # from here on several batches of a stream may be in flight
_MOST_UNSETTLED = 8  # batches of one file handed over, the first not acknowledged: what a crash may send twice
_BATCH_BYTES = 1 << 20  # that a file with a backlog is going to hold once it is read
_AHEAD_MS = 1000  # that a time of reading may be ahead of the clock; if it is more, the clock was set back
_PRESSED_SECONDS = 0.5  # for which a batch may be waiting to be filled while others want its room
_REMEMBER_SECONDS = 30.0  # between two times that a size is saved by itself, not with an acknowledgement


class Memory(Protocol):
    """What all files together may hold; see `agent.logs.room`."""

    @property
    def full(self) -> bool: ...

    def change(self, before: int, after: int) -> int: ...


@dataclass(frozen=True)
class Route:
    """What an entry of the configuration says about the events of its files."""

    scope: str  # names the entry in the state: its group and stream as written
    destination: Callable[[str, float], tuple[str, str]]  # (path, seconds since the epoch) -> group, stream
    wish: GroupWish
    max_event: int
    rules: EventRules | None  # None: each line of UTF-8 is an event, at the time of reading
    flush_interval: float
    quiet: float  # seconds after which an unterminated line is sent
    counted: Callable[[Sequence[int]], None] = lambda _counts: None  # told what a batch counts, when acknowledged


class TailedFile:
    """An open file and how far it is read, sent and acknowledged."""

    def __init__(
        self,
        route: Route,
        cursor: Cursor,
        descriptor: int,
        dispatcher: Dispatcher,
        cursors: Cursors,
        memory: Memory,
        now: float,
    ) -> None:
        self.path = cursor.path
        self.cursor = cursor
        self.descriptor = descriptor
        self.size = cursor.offset
        self.error: str | None = None
        self.failing_since = 0.0  # monotonic seconds, if there is an error
        self.detached = False  # its path leads elsewhere now: rotated, replaced or deleted
        self.detached_at = 0.0  # monotonic seconds when that was seen
        self.grown_at = now  # monotonic seconds when it was opened or last seen to grow
        self.overwritten = False  # another content was found in it
        self.sealed = False  # nothing more is read from it
        self._route = route
        self._dispatcher = dispatcher
        self._cursors = cursors
        self._memory = memory
        self._held = 0  # bytes of it
        self._lock = threading.Lock()
        self._unsettled: deque[Batch] = deque()
        self._builder: BatchBuilder | None = None
        self._tail = os.pread(descriptor, *_before(cursor.offset))  # the bytes before the read position
        self._framer = self._make_framer(cursor.offset)
        self._stat = (-1, -1)
        self._after = 0  # ms: the time of reading that the next batch has at least, so that several may be in flight
        self._blank_to = 0  # up to here zero bytes were found from the read position on
        self._blank = 0
        self._gone = 0
        self._remember_at = 0.0

    @property
    def counts(self) -> FrameCounts:
        """What framing had to change or skip, so far."""
        return self._framer.counts

    @property
    def read(self) -> int:
        """Bytes read, framed or not."""
        return self._framer.offset + self._framer.pending

    @property
    def acknowledged(self) -> int:
        return self.cursor.offset

    @property
    def owed(self) -> int:
        """Bytes not yet acknowledged."""
        return max(0, self.size - self.cursor.offset)

    @property
    def at_rest(self) -> bool:
        """Everything that was seen is read and settled, but for a line that has no end yet."""
        return self.read >= self.size and self._builder is None and not self._unsettled

    @property
    def idle(self) -> bool:
        """Everything that was seen is read and settled."""
        return self.at_rest and self.owed == 0

    @property
    def restful(self) -> bool:
        """Whether it may be closed for the time being: it was looked at, and all of it is acknowledged."""
        looked_at = self._stat[0] == self.cursor.offset
        return looked_at and self.idle and not (self.detached or self.sealed or self.overwritten or self.error)

    def is_as_seen(self, found: os.stat_result) -> bool:
        """Whether it has not changed since it was looked at."""
        return (found.st_size, found.st_mtime_ns) == self._stat

    def look(self, now: float) -> None:
        """Take in the present size; notice another content. Raises OSError."""
        if self.sealed:
            return
        found = os.fstat(self.descriptor)
        if (found.st_size, found.st_mtime_ns) == self._stat:
            return
        overwritten = found.st_size < self.read or not self._same_content()
        self._stat = (found.st_size, found.st_mtime_ns)
        self._blank_to = 0
        if found.st_size > self.size:
            self.grown_at = now
        self.overwritten = overwritten
        if not overwritten:
            self._gone += max(0, self.size - found.st_size)
            self.size = found.st_size
            self._grow_prefix()
            self._note_times(found)

    def advance(self, now: float, epoch: float, *, hurry: bool, final: bool) -> bool:
        """Read up to TURN_BYTES and hand over what is full or due; True if there is more to do at once.

        `hurry`: waiting for more is over. `final`: also an unterminated line is handed over.
        """
        if self.sealed or self._waits_for_mark(now, final=final):
            return False
        try:
            return self._advance(now, epoch, hurry=hurry, final=final)
        finally:
            with self._lock:
                self._count_held()

    def _advance(self, now: float, epoch: float, *, hurry: bool, final: bool) -> bool:
        budget = TURN_BYTES
        while budget > 0 and self.read < self.size and not self.overwritten:
            if not self._fill(now, epoch, hurry=hurry):
                return False
            if not self._may_hold_more():
                break
            budget -= self._feed(now, epoch)
        if not self._fill(now, epoch, hurry=hurry, final=self._may_finish(now, final=final)):
            return False
        if self._builder is not None and (hurry or now - self._builder.opened >= self._patience()):
            return self._send(epoch, hurry=hurry)
        return budget <= 0 and self.read < self.size and not self.overwritten

    def due(self, now: float) -> float:
        """Monotonic time at which waiting data becomes due."""
        times = [now + 3600.0]
        if self._builder is not None:
            times.append(self._builder.opened + self._patience())
        if self._framer.pending:
            times.append(self.grown_at + self._route.quiet)
        return min(times)

    def remember(self, now: float) -> None:
        """Let the state know how large the file was, in case that it is gone after a restart."""
        if self.cursor.size != self.size and now >= self._remember_at:
            self._remember_at = now + _REMEMBER_SECONDS
            with self._lock:
                self._save()

    def settled(self, batch: Batch) -> None:
        """Called by a sender when all of a batch is accepted or refused: move the cursor over what is contiguous."""
        with self._lock:
            batch.done = True
            while self._unsettled and self._unsettled[0].done:
                self._acknowledge(self._unsettled.popleft())
            self._count_held()
            self._save()

    def wind_up(self, now: float, epoch: float, *, keep: bool) -> bool:
        """Read no further, hand over the lines that were read; True once all that was handed over is settled.

        `keep`: what is not yet read is still owed, by someone else.
        """
        if not keep:
            self.size = min(self.size, self.read)
        handed_over = self._fill(now, epoch, hurry=True) and self._send(epoch, hurry=True)
        with self._lock:
            return handed_over and not self._unsettled

    def measure(self) -> None:
        """Take in how much there is to be read by someone else, and look at nothing of it. Raises OSError."""
        if self.descriptor >= 0:
            self.size = max(self.size, os.fstat(self.descriptor).st_size)

    def part_with(self) -> int:
        """Its descriptor, the caller's from here on; the cursor is another's."""
        with self._lock:
            self._held = self._memory.change(self._held, 0)
        descriptor, self.descriptor, self.sealed = self.descriptor, -1, True
        return descriptor

    def finish(self, *, ended: bool) -> None:
        """Close the file; `ended` for good."""
        self.cursor.ended = ended
        self.release()
        with self._lock:
            self._save()

    def release(self) -> None:
        """Close the file; the cursor is as it should be saved."""
        with self._lock:
            if self.descriptor >= 0 and self.idle and self.error is None:
                self._note_rest()
            self.cursor.size, self.cursor.read = self.size, self.read
            self._held = self._memory.change(self._held, 0)
        if self.descriptor >= 0:
            with suppress(OSError):  # of a network file system that is away: it is closed all the same (close(2))
                os.close(self.descriptor)
            self.descriptor = -1

    def abandon(self, now: float, epoch: float) -> int:
        """Another content is in the file now: hand over what was read of the old. The descriptor is the caller's."""
        self._fill(now, epoch, hurry=True, final=True, force=True)
        self._send(epoch, hurry=True, force=True)
        self._cut_off()
        self.sealed, self.overwritten = True, False
        self.cursor.overwritten = True
        descriptor, self.descriptor = self.descriptor, -1
        with self._lock:
            self._count_held()
            self._save()
        return descriptor

    def take_gone(self) -> int:
        """Bytes that were seen and can't be read any more, since this was last asked."""
        gone, self._gone = self._gone, 0
        return gone

    def take_blank(self) -> int:
        """Zero bytes that were left out, since this was last asked."""
        blank, self._blank = self._blank, 0
        return blank

    @property
    def size_now(self) -> int:
        """Also if it was not looked at yet. Raises OSError."""
        return self.read if self.sealed else os.fstat(self.descriptor).st_size

    def is_same_as(self, descriptor: int) -> bool:
        """Whether another open file has the same size, and the same bytes at both ends. Raises OSError."""
        size = os.fstat(descriptor).st_size
        if self.sealed or self.descriptor < 0:
            return self.read == size and self.is_copied_to(descriptor, 0)
        return os.fstat(self.descriptor).st_size == size and all(
            os.pread(self.descriptor, *part) == os.pread(descriptor, *part)
            for part in ((PREFIX_BYTES, 0), _before(size))
        )

    def is_copied_to(self, descriptor: int, least: int = ALIKE_BYTES) -> bool:
        """Whether another open file has all that was read of this one, `least` bytes at least. Raises OSError.

        Content alone is taken as evidence only if it is no mere repetition.
        """
        return (
            self.read >= least
            and os.fstat(descriptor).st_size >= self.read
            and begins(descriptor, self.cursor.prefix)
            and os.pread(descriptor, *_before(self.read)) == self._tail
            and (least < ALIKE_BYTES or tells(descriptor, self.read))
        )

    def continue_in(self, descriptor: int, now: float) -> int:
        """Go on in a copy of this file, since it was itself cut off or deleted; its own descriptor, now the caller's.

        Raises OSError.
        """
        locator, head = locate(descriptor), prefix(descriptor, PREFIX_BYTES)
        with self._lock:
            before, self.descriptor = self.descriptor, descriptor
            self.cursor.locator, self.cursor.prefix = locator, head
            self.overwritten, self.grown_at = False, now
            self._stat, self._blank_to = (-1, -1), 0
            self._save()
        return before

    def _may_finish(self, now: float, *, final: bool) -> bool:
        """Whether an unterminated line at the end counts as a line."""
        if not self._framer.pending or self.read < self.size:
            return False
        return final or now - self.grown_at >= self._route.quiet

    def _make_framer(self, offset: int) -> Framer | Composer:
        rules, encoding = self._route.rules, self.cursor.encoding
        self._unit = Encoding(encoding or (rules.encoding if rules else "utf-8")).unit
        if encoding and encoding != (rules.encoding if rules else "utf-8"):
            rules = replace(rules or EventRules(), encoding=encoding)
        if rules is None:
            return Framer(offset, self._route.max_event, GUARD_BYTES, before=self._tail)
        return Composer(rules, offset, self._route.max_event, GUARD_BYTES, before=self._tail)

    def _waits_for_mark(self, now: float, *, final: bool) -> bool:
        """Whether the file is so short that it may still begin with a byte order mark."""
        short = self.read == 0 and self.size < MARK_BYTES
        return short and not final and now - self.grown_at < self._route.quiet

    def _take_mark(self, data: bytes) -> int:
        """At the head of a file: heed a byte order mark; its length."""
        mark = marked(data)
        if mark is None:
            return 0
        self.cursor.encoding, length = mark
        self._tail = data[:length]
        self.cursor.offset = length
        self.cursor.guard = (length, digest(self._tail))
        self._framer = self._make_framer(length)
        return length

    def _may_hold_more(self) -> bool:
        """Whether there is room to read on. When all files together hold what they may, those that have begun a batch
        fill it, and the others wait until something is acknowledged. If nothing is on its way, none is full: then it
        is long lines that are held, which only their ends will let go.
        """
        held = self.read - self.cursor.offset
        if self._memory.full:
            return held < self._held or (held > 0 and not self._dispatcher.busy)
        with self._lock:
            self._held = self._memory.change(self._held, max(held, min(_BATCH_BYTES, self.owed)))
        return True

    def _count_held(self) -> None:
        """What is held, and what is meant to be: a batch that was begun is to be filled."""
        held = max(0, self.read - self.cursor.offset)
        self._held = self._memory.change(self._held, max(held, min(_BATCH_BYTES, self.owed)) if held else 0)

    def _patience(self) -> float:
        """Seconds that a batch may be waiting to be filled."""
        usual = self._route.flush_interval
        return min(usual, _PRESSED_SECONDS) if self._memory.full else usual

    def _note_times(self, found: os.stat_result) -> None:
        self.cursor.changed = found.st_ctime_ns
        if not self.detached:
            self.cursor.written = found.st_mtime_ns

    def _note_rest(self) -> None:
        """All of it is acknowledged: what to know it by without reading it again."""
        found = os.fstat(self.descriptor)
        whole = found.st_size == self.cursor.offset and self.is_as_seen(found)
        self.cursor.changed = found.st_ctime_ns if whole else 0

    def _feed(self, now: float, epoch: float) -> int:
        """Read on; each read begins with the bytes known to come before, so that another content can't slip in."""
        length = len(self._tail)
        data = os.pread(self.descriptor, length + min(CHUNK_BYTES, self.size - self.read), self.read - length)
        if not data.startswith(self._tail):
            self.overwritten = True
            return TURN_BYTES
        if len(data) == length:
            self._cut_off()  # since it was looked at
            return TURN_BYTES
        if data[-1] == 0 or data[length] == 0:
            data = data[: self._before_blank(data, length)]
            if len(data) == length:
                return self._pass_blank(now, epoch)
        skipped = self._take_mark(data) if self.read == 0 else length
        self._framer.feed(data[skipped:], epoch)
        self._tail = data[-GUARD_BYTES:]
        return len(data) - length

    def _before_blank(self, data: bytes, length: int) -> int:
        """How much of `data`, of which `length` bytes are known, comes before zero bytes that may be no text: those
        at its end, for more may follow; all of it where a line would begin with them.
        """
        zeros = len(data) - length - len(data[length:].lstrip(b"\0"))
        begins = zeros and not self._framer.pending and not (self.read == 0 and marked(data))
        if begins and self._aligned(self.read + zeros) > self.read:
            return length
        offset = self.read - length
        return max(length, self._aligned(offset + len(data.rstrip(b"\0")) + self._unit - 1) - offset)

    def _pass_blank(self, now: float, epoch: float) -> int:
        """Zero bytes from the read position on: leave them out if text follows, else wait for it."""
        start = max(self._blank_to, self.read)
        self._blank_to, known = end_of_blank(self.descriptor, start, self.size, TURN_BYTES)
        if known and self._blank_to < self.size:
            return self._leave_out(self._aligned(self._blank_to), now, epoch)
        if known:
            self.size = self.read  # set aside for a log that is still to be written, or a hole to the end
        return TURN_BYTES

    def _leave_out(self, end: int, now: float, epoch: float) -> int:
        """Go on at `end`. In the middle of a line few zero bytes are text, and many end it."""
        framer, length = self._framer, end - self.read
        if framer.pending and length < CHUNK_BYTES:
            framer.feed(os.pread(self.descriptor, length, self.read), epoch)
        elif framer.pending and not self._fill(now, epoch, hurry=False, final=True):
            return TURN_BYTES
        else:
            self._skip(end, now)
        self._tail = os.pread(self.descriptor, *_before(self.read))
        return CHUNK_BYTES

    def _skip(self, end: int, now: float) -> None:
        """Begin anew at `end`; what is left out is accounted for, so that the cursor passes over it."""
        start, counts = self._framer.offset, self._framer.counts
        self._blank += end - start
        self._tail = os.pread(self.descriptor, *_before(end))
        self._framer = self._make_framer(end)
        self._framer.counts = counts
        self._builder = self._builder or BatchBuilder(start, now)
        self._builder.add(0, Block("", "", 0, 0, start, end, self._tail))

    def _aligned(self, position: int) -> int:
        """The last offset up to `position` at which a character can begin."""
        return position - position % self._unit

    def _fill(self, now: float, epoch: float, *, hurry: bool, final: bool = False, force: bool = False) -> bool:
        """Frame what was read into batches; False when the lane takes no more, unless it has to."""
        while self._framer.has_more(final=final):
            builder = self._builder = self._builder or BatchBuilder(self._framer.offset, now)
            stamp = self._time_of_reading(epoch)
            block = None if builder.full else self._take(builder, stamp, final=final)
            if block is not None:
                builder.add(stamp, block)
            if (block is None or builder.full) and not self._send(epoch, hurry=hurry, force=force):
                return False
        return True

    def _time_of_reading(self, epoch: float) -> int:
        """In ms; of each batch later than of the one before, so that several may be in flight in their order."""
        stamp = int(epoch * 1000)
        return self._after if 0 < self._after - stamp < _AHEAD_MS else stamp

    def _take(self, builder: BatchBuilder, stamp: int, *, final: bool) -> Block | None:
        """The next block that the batch can hold, in size and in time."""
        framer = self._framer
        if isinstance(framer, Composer):
            lowest, highest = builder.lowest, builder.highest
            return framer.take(builder.room, builder.events_left, final=final, lowest=lowest, highest=highest)
        if not builder.accepts(stamp):
            return None
        return framer.take(builder.room, builder.events_left, final=final)

    def _send(self, epoch: float, *, hurry: bool, force: bool = False) -> bool:
        """Hand the batch under construction over if its lane takes it."""
        builder = self._builder
        if builder is None or builder.empty:
            self._builder = None
            return True
        busy = hurry or self.size - self.cursor.offset > BUSY_BACKLOG_BYTES
        group, stream = self._route.destination(self.cursor.origin, epoch)
        if not force and not self._may_submit(group, stream, self._dispatcher.busy_window if busy else 1):
            return False
        self._submit(builder, epoch)
        self._builder = None
        return True

    def _may_submit(self, group: str, stream: str, window: int) -> bool:
        return len(self._unsettled) < _MOST_UNSETTLED and self._dispatcher.wants(group, stream, window)

    def _submit(self, builder: BatchBuilder, epoch: float) -> None:
        destination = self._route.destination(self.cursor.origin, epoch)
        span = (builder.start, builder.end)
        batch = Batch(self, destination, self._route.wish, span, builder.guard, builder.pieces(), builder.counts)
        if self._route.rules is None and builder.highest is not None:
            self._after = builder.highest + 1
        with self._lock:
            self.cursor.group, self.cursor.stream = destination
            self._unsettled.append(batch)
        self._dispatcher.submit(batch)

    def _acknowledge(self, batch: Batch) -> None:
        cursor = self.cursor
        if batch.counts is not None:
            self._route.counted(batch.counts)
        cursor.offset = batch.end
        cursor.guard = (len(batch.guard), digest(batch.guard))
        cursor.events += batch.accepted
        cursor.refused += batch.refused
        for payload in batch.payloads:
            cursor.digest = hashlib.sha256(bytes.fromhex(cursor.digest) + payload).hexdigest()

    def _save(self) -> None:
        self.cursor.size, self.cursor.read = self.size, self.read
        self._cursors.save(self._route.scope, [self.cursor])

    def _cut_off(self) -> None:
        """There is no more than was read."""
        self._gone += max(0, self.size - self.read)
        self.size = self.read

    def _same_content(self) -> bool:
        """Whether head and tail of what was read are still there."""
        if os.pread(self.descriptor, *_before(self.read)) != self._tail:
            return False
        return begins(self.descriptor, self.cursor.prefix)

    def _grow_prefix(self) -> None:
        if self.cursor.prefix[0] < min(PREFIX_BYTES, self.size):
            self.cursor.prefix = prefix(self.descriptor, PREFIX_BYTES)


def _before(offset: int) -> tuple[int, int]:
    """Length and offset of the bytes that guard a position."""
    length = min(GUARD_BYTES, offset)
    return length, offset - length
