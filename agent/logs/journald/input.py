"""One entry of `logs.journald`: read, made into batches, and known how far it is acknowledged."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from agent.engine.clock import Clock
from agent.engine.events import Events
from agent.engine.job import Gap, Refusal
from agent.logs.batch import BatchBuilder
from agent.logs.deliver import Batch, Dispatcher
from agent.logs.destination import GroupWish
from agent.logs.journald.cursors import JournalCursor, JournalCursors
from agent.logs.journald.framer import EntryFramer
from agent.logs.journald.position import Position
from agent.logs.journald.source import Source
from agent.logs.journald.watch import Watch

CHUNK_BYTES = 64 << 10  # read at once: what a pipe holds
TURN_BYTES = 512 << 10  # read in one step
HURRY_SECONDS = 0.05  # between two steps while draining
_MOST_UNSETTLED = 8  # batches handed over, the first not acknowledged: what a crash may send twice
_WISH = GroupWish()


@dataclass(frozen=True)
class JournalRoute:
    """Where the events of one entry go, and when."""

    label: str  # for people: which entries of the journal
    destination: Callable[[float], tuple[str, str]]  # seconds since the epoch -> group, stream
    flush_interval: float


class Memory(Protocol):
    """How much of what was read is not yet acknowledged, with all log files together."""

    @property
    def full(self) -> bool:
        """Whether nothing more should be read until some of it is."""

    def change(self, before: int, after: int) -> int:
        """One input holds `after` bytes now, `before` when it was last asked. Returns `after`."""


class JournalInput:
    """Implements `agent.logs.deliver.Acknowledger`. One thread steps it; senders call `settled`."""

    def __init__(
        self,
        route: JournalRoute,
        cursor: JournalCursor,
        framer: EntryFramer,
        source: Source,
        dispatcher: Dispatcher,
        cursors: JournalCursors,
        clock: Clock,
        events: Events,
        boot: str,
        memory: Memory | None,
    ) -> None:
        """`framer` and `source` begin at `cursor`; `boot` is the present _BOOT_ID."""
        self.path = route.label
        self.cursor = cursor
        self.blocked = False  # the lane is full: nothing is read
        self._route = route
        self._framer = framer
        self._source = source
        self._dispatcher = dispatcher
        self._cursors = cursors
        self._clock = clock
        self._boot = boot
        self._memory = memory
        self._held = 0  # bytes, as the memory knows
        self._lock = threading.Lock()
        self._unsettled: deque[Batch] = deque()
        self._builder: BatchBuilder | None = None
        self._run = 0  # of the source, that the framer reads
        self._backlog = False  # the last step has not read all there was
        self._hurry = False
        self._closed = False  # nothing more is read
        self._seal_at: float | None = None  # monotonic seconds: the journal's end as it was then is sought
        self._sealed: int | None = None  # the offset of that end
        self._watch = Watch(self.path, source, framer, cursor, boot, events)
        source.at(cursor.position)

    @property
    def owed(self) -> int:
        """Bytes of what was read and is not acknowledged."""
        return max(0, self._framer.read - self.cursor.offset)

    @property
    def error(self) -> str | None:
        """Why the journal can't be read."""
        return self._source.trouble.error if self._source.trouble else None

    @property
    def is_flushed(self) -> bool:
        """Everything that was read is settled."""
        return self._builder is None and not self._unsettled and not self._framer.has_more

    @property
    def is_quiet(self) -> bool:
        """In haste: everything up to the journal's end, as it was when that began, is read and settled."""
        return self._sealed is not None and self.cursor.offset >= self._sealed

    @property
    def descriptors(self) -> list[int]:
        """What to wait for."""
        found = self._source.descriptors
        return [] if self.blocked or self._closed else found

    def hurry(self, on: bool, now: float) -> None:
        """Seek the journal's present end, wait for nothing; or go on as usual. In the stepping thread."""
        self._hurry = on
        self._closed = False
        self._seal_at, self._sealed = (now, None) if on else (None, None)
        self._source.hurry(on)
        if on:
            self._source.renew()

    def seal_intake(self) -> None:
        """Read nothing more; send what was read. In the stepping thread."""
        self._hurry = self._closed = True

    def step(self, now: float) -> float:
        """Read a bounded piece, hand over what is full or due. Returns when to go on; `now` if at once."""
        self._tend(now)
        self._backlog = not self._closed and self._read(now)
        self._seal_if_past()
        self._watch.count()
        if self._flush(now):
            return now
        return self._due(now)

    def settled(self, batch: Batch) -> None:
        """Called by a sender when all of a batch is accepted or refused: move the cursor over what is contiguous."""
        with self._lock:
            batch.done = True
            while self._unsettled and self._unsettled[0].done:
                self._acknowledge(self._unsettled.popleft())
            self._cursors.save(self.cursor)

    def close(self, grace: float = 0.0) -> None:
        """End journalctl, within `grace` seconds if it does."""
        self._source.close(grace)
        if self._memory is not None:
            self._held = self._memory.change(self._held, 0)

    # -- what the job shows

    def status(self) -> dict[str, Any]:
        """As the status lists files: `size` and `read` are the bytes of journalctl's output so far."""
        return {
            "path": self.path,
            "group": self.cursor.group,
            "stream": self.cursor.stream,
            "size": self._framer.read,
            "read": self._framer.read,
            "acknowledged": self.cursor.offset,
            "error": self.error,
        }

    def receipt(self) -> dict[str, Any]:
        """As the receipt lists files; `cursor` is that of the last entry which is acknowledged."""
        cursor = self.cursor
        return {
            "path": self.path,
            "device": 0,
            "inode": 0,
            "size": self._framer.read,
            "read": self._framer.read,
            "acknowledged": cursor.offset,
            "events": cursor.events,
            "refused": cursor.refused,
            "digest": cursor.digest,
            "cursor": cursor.position.cursor if cursor.position else None,
        }

    def gap(self) -> Gap | None:
        """What of the journal is not shown to be safe, in a drain."""
        if self.is_quiet:
            return None
        reason = self.error or ("not yet acknowledged" if self._sealed is not None else "not yet read to its end")
        return Gap("log", self.path, self.owed, reason)

    def refusals(self) -> list[Refusal]:
        refused = [Refusal("log", self.path, self.cursor.refused, "rejected by CloudWatch Logs")]
        skipped = [Refusal("log", self.path, self.cursor.skipped, "too long, or no entry, as journalctl printed it")]
        return [each for each in refused + skipped if each.count]

    # -- reading

    def _tend(self, now: float) -> None:
        if self.blocked or self._closed:
            self._source.not_reading()
        if self._source.tend(now):
            self._at_end()
            self._source.follow()
        if self._source.runs != self._run:
            self._run = self._source.runs
            self._framer.begin()
        self._watch.tended()

    def _read(self, now: float) -> bool:
        """Read up to TURN_BYTES into batches; True if there may be more."""
        budget = TURN_BYTES
        while budget > 0:
            self.blocked = self._must_wait() or not self._fill(now)
            data = b"" if self.blocked else self._source.read(CHUNK_BYTES)
            if not data:
                break
            self._framer.feed(data)
            self._watch.fed()
            budget -= len(data)
        if budget > 0 and not self.blocked:
            self._watch.emptied(now)
        self._source.at(self._framer.position)
        return budget <= 0

    def _must_wait(self) -> bool:
        """Whether first something of what files and journals hold together has to be acknowledged."""
        if self._memory is None:
            return False
        self._held = self._memory.change(self._held, self.owed)
        return self._memory.full and self._dispatcher.busy

    def _fill(self, now: float) -> bool:
        """Frame what was read into batches; False when the lane takes no more."""
        while self._framer.has_more:
            builder = self._builder = self._builder or BatchBuilder(self._framer.offset, now)
            block = None
            if not builder.full:
                block = self._framer.take(builder.room, builder.events_left, builder.lowest, builder.highest)
            if block is not None:
                builder.add(0, block)
            if (block is None or builder.full) and not self._send():
                return False
        return True

    def _flush(self, now: float) -> bool:
        """Hand over what need not wait for more; True if there is more to read at once."""
        stuck = not self._fill(now)
        builder = self._builder
        if builder is not None and not stuck:
            due = self._hurry or builder.full or now - builder.opened >= self._route.flush_interval
            stuck = due and not self._send()
        self.blocked = self.blocked or stuck
        return self._backlog and not self.blocked

    def _send(self) -> bool:
        """Hand the batch under construction over if its lane takes it."""
        builder = self._builder
        if builder is None:
            return True
        destination = self._route.destination(self._clock.time())
        window = self._dispatcher.busy_window if self._backlog or self._hurry else 1
        if len(self._unsettled) >= _MOST_UNSETTLED or not self._dispatcher.wants(*destination, window):
            return False
        batch = Batch(self, destination, _WISH, (builder.start, builder.end), builder.guard, builder.pieces())
        with self._lock:
            self.cursor.group, self.cursor.stream = destination
            self._unsettled.append(batch)
        self._builder = None
        self._dispatcher.submit(batch)
        return True

    def _acknowledge(self, batch: Batch) -> None:
        cursor = self.cursor
        cursor.offset = batch.end
        cursor.position = Position.of_document(batch.guard)
        cursor.events += batch.accepted
        cursor.refused += batch.refused
        for payload in batch.payloads:
            cursor.digest = hashlib.sha256(bytes.fromhex(cursor.digest) + payload).hexdigest()

    def _due(self, now: float) -> float:
        if self._hurry:
            return now + HURRY_SECONDS
        times = [self._source.due(now)]
        if self._builder is not None and not self.blocked:
            times.append(self._builder.opened + self._route.flush_interval)
        return max(now, min(times))

    def _at_end(self) -> None:
        """The process has shown all there was, from where it began up to the journal's end."""
        self._seal()
        self._watch.at_end()

    def _seal(self) -> None:
        if self._seal_at is not None and self._sealed is None and self._source.began >= self._seal_at:
            self._sealed = self._framer.read

    def _seal_if_past(self) -> None:
        """An entry that journald received later than the end was sought lies behind it: no need to read them all."""
        position = self._framer.position
        if self._seal_at is None or position is None or position.boot != self._boot:
            return
        if position.monotonic > self._seal_at * 1e6:
            self._seal()
