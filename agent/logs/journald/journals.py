"""All entries of `logs.journald`, as the job `logs` holds them: one thread, and what there is to show."""

from __future__ import annotations

import os
import random
import select
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.config.placeholders import Place, Template
from agent.config.sections.logs import Journal
from agent.engine.clock import Clock
from agent.engine.database import Database
from agent.engine.events import Events
from agent.engine.job import Gap, Refusal
from agent.engine.workers import WorkerThread
from agent.logs.deliver import Dispatcher
from agent.logs.journald.cursors import JournalCursor, JournalCursors
from agent.logs.journald.framer import EntryFramer
from agent.logs.journald.input import JournalInput, JournalRoute, Memory
from agent.logs.journald.selection import Selection
from agent.logs.journald.source import Source

OLDEST_SECONDS = 14 * 86400 - 3600.0
"""The age of the oldest entry that is read at first: CloudWatch Logs takes none of more than 14 days, and an hour is
left for the way. Source: PutLogEvents."""

_LONGEST_WAIT = 30.0  # seconds in one step: the watchdog wants it back much sooner than it takes for stuck
_END_SECONDS = 1.0  # for a journalctl to end by itself when told to


@dataclass(frozen=True, eq=False)
class _Wish:
    """How to go about it; each one is a wish of its own, even if it says the same as the last."""

    hurry: bool  # seek the journal's end, wait for nothing
    closing: bool = False  # read nothing more


class Journals:
    """Holds the inputs and steps them, in a thread of its own. Safe from any thread, but for `step`."""

    name = "logs-journald"

    def __init__(
        self,
        entries: Sequence[Journal],
        flush_interval: float,
        dispatcher: Dispatcher,
        database: Database,
        clock: Clock,
        events: Events,
        rng: random.Random,
        *,
        program: str = "journalctl",
        boot: str | None = None,
        memory: Memory | None = None,
    ) -> None:
        """`program` is journalctl's name or path; `boot` the present _BOOT_ID, None: the kernel's word.

        `memory` is shared with the log files; None: each journal is bounded by itself.
        """
        self._clock = clock
        self._events = events
        self._lock = threading.Lock()
        self._wish = self._heeded = _Wish(hurry=False)
        self._flushed = threading.Event()
        self.inputs: Sequence[JournalInput] = ()
        self._wake: int | None = None
        self._thread: WorkerThread | None = None
        entries = self._unlike(entries)
        if not entries:
            return
        cursors = JournalCursors(database, clock, events)
        boot = boot if boot is not None else _boot_id()
        oldest = clock.time() - OLDEST_SECONDS

        def make_input(entry: Journal, cursor: JournalCursor) -> JournalInput:
            selection = Selection.of_entry(entry)
            route = JournalRoute(selection.label, _destination(entry), flush_interval)
            framer = EntryFramer(selection, cursor.offset, cursor.position)
            source = Source(program, selection.arguments(), oldest, clock, rng)
            return JournalInput(route, cursor, framer, source, dispatcher, cursors, clock, events, boot, memory)

        assigned = cursors.assign([_key(each) for each in entries])
        self.inputs = list(map(make_input, entries, assigned))
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = WorkerThread(self.name, [_Listener(self)], clock, events)

    @property
    def threads(self) -> list[WorkerThread]:
        """None or one."""
        return [self._thread] if self._thread else []

    @property
    def owed(self) -> int:
        """Bytes of what was read and is not acknowledged."""
        return sum(each.owed for each in self.inputs)

    @property
    def items(self) -> int:
        """Inputs that owe something."""
        return sum(1 for each in self.inputs if each.owed)

    @property
    def is_quiet(self) -> bool:
        """In haste: everything up to the journal's end, as it was when that was wished for, is read and settled."""
        return not self.inputs or (self._heeds(hurry=True) and all(each.is_quiet for each in self.inputs))

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def wake(self) -> None:
        """Let it look for work now, as after a batch was settled."""
        with self._lock:
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)
        for thread in self.threads:
            thread.wake()

    def hurry(self, on: bool, *, reading: bool = True) -> None:
        """Seek the journals' present end and send everything; or go on as usual. Returns at once.

        `reading` False: send only what was read already, as before a stop; `flush` waits for that.
        """
        self._flushed.clear()
        self._wish = _Wish(on, closing=on and not reading)
        self.wake()

    def flush(self, deadline: float) -> bool:
        """Read no more, and wait until all that was read is settled, up to `deadline` (monotonic seconds)."""
        if not self.inputs:
            return True
        self.hurry(True, reading=False)
        return self._flushed.wait(max(0.0, deadline - self._clock.monotonic()))

    def stop(self, grace: float) -> bool:
        """End the thread within `grace` seconds, and every journalctl; True when the thread has ended."""
        for thread in self.threads:
            thread.stop()
        self.wake()
        if not all(thread.join(grace) for thread in self.threads):
            return False
        self.close()
        return True

    def close(self) -> None:
        """End every journalctl. The thread must have ended, or not have begun."""
        for input_ in self.inputs:
            input_.close(_END_SECONDS)
        with self._lock:
            if self._wake is not None:
                os.close(self._wake)
                self._wake = None

    # -- what the job shows

    def status(self) -> list[dict[str, Any]]:
        """Rows of the status's `logs`."""
        return [each.status() for each in self.inputs]

    def receipts(self) -> list[dict[str, Any]]:
        """Rows of the receipt's `logs`."""
        return [each.receipt() for each in self.inputs]

    def gaps(self) -> Iterator[Gap]:
        """What is not shown to be safe, in a drain."""
        heeded = self._heeds(hurry=True)
        for each in self.inputs:
            gap = each.gap() if heeded else Gap("log", each.path, each.owed, "not yet read to its end")
            if gap is not None:
                yield gap

    def refusals(self) -> Iterator[Refusal]:
        for each in self.inputs:
            yield from each.refusals()

    # -- the work

    def step(self, now: float) -> float:
        """A turn of each input; never waits. Returns when to go on."""
        self._heed(now)
        due = min((each.step(now) for each in self.inputs), default=now + _LONGEST_WAIT)
        if self._heeded.closing and all(each.is_flushed for each in self.inputs):
            self._flushed.set()
        return due

    def listen(self, seconds: float) -> None:
        """Wait until something comes, somebody wakes, or the time is over."""
        poll = select.poll()
        with self._lock:
            wake = self._wake
        if wake is None:
            return
        for descriptor in [wake, *(each for input_ in self.inputs for each in input_.descriptors)]:
            poll.register(descriptor, select.POLLIN)
        poll.poll(max(0.0, min(seconds, _LONGEST_WAIT)) * 1000)
        try:
            os.eventfd_read(wake)
        except BlockingIOError:
            return

    def _heeds(self, *, hurry: bool) -> bool:
        """Whether the latest wish is heeded, and this is what it says."""
        wish = self._wish
        return self._heeded is wish and wish.hurry is hurry and not wish.closing

    def _heed(self, now: float) -> None:
        wish = self._wish
        if wish is self._heeded:
            return
        for each in self.inputs:
            if wish.closing:
                each.seal_intake()
            else:
                each.hurry(wish.hurry, now)
        self._heeded = wish

    def _unlike(self, entries: Sequence[Journal]) -> list[Journal]:
        """Of entries that say the same, the first."""
        found = {_key(entry): entry for entry in reversed(entries)}
        if len(found) < len(entries):
            self._events.say("warning", "journal_entry_repeated", entries=len(entries) - len(found),
                             hint="logs.journald has entries that say the same: one of each is read")  # fmt: skip
        return [entry for entry in entries if found[_key(entry)] is entry]


class _Listener:
    """The worker of the thread: steps, and waits for descriptors in between; wake-ups reach it there."""

    name = "logs-journald"

    def __init__(self, journals: Journals) -> None:
        self._journals = journals

    def step(self, now: float) -> float:
        due = self._journals.step(now)
        if due > now:
            self._journals.listen(due - now)
        return now


def _key(entry: Journal) -> tuple[str, str]:
    """Scope and selection."""
    return f"{entry.group} {entry.stream}", Selection.of_entry(entry).key


def _destination(entry: Journal) -> Any:
    group, stream = Template(entry.group, Place.LOG_GROUP), Template(entry.stream, Place.LOG_STREAM)
    return lambda epoch: (group.render(now=epoch), stream.render(now=epoch))


def _boot_id(root: str = "/") -> str:
    """The kernel's identity of this boot, as journald writes it; empty where it can't be known."""
    try:
        with open(os.path.join(root, "proc/sys/kernel/random/boot_id")) as file:
            return file.read().strip().replace("-", "")
    except OSError:
        return ""
