"""The job `logs`, as the daemon and the drain see it: threads, debt, status, proofs."""

from __future__ import annotations

import os
import random
import resource
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from agent.aws.logs import Logs as LogsClient
from agent.config.sections.logs import LineMetric, LogFile, Logs
from agent.engine.clock import Clock
from agent.engine.database import Database
from agent.engine.events import Events
from agent.engine.files import shown
from agent.engine.job import DROPPED, Debt, Gap, Proofs, Refusal, SampleSink
from agent.engine.workers import LINGER, WorkerThread
from agent.logs.cursors import Cursor, Cursors
from agent.logs.deliver import Dispatcher, Sender
from agent.logs.destination import Destinations
from agent.logs.discover import Patterns
from agent.logs.entries import route_of, scope_of
from agent.logs.input import Input
from agent.logs.journald.journals import Journals
from agent.logs.lineup import Lineup, Wanted
from agent.logs.reader import Reader
from agent.logs.report import file_status, receipt_row, resting_status, trouble_status
from agent.logs.retire import RetiredInput
from agent.logs.room import Limits, Room
from agent.logs.tail import TailedFile

SENDERS = 4  # threads, and so the most calls of PutLogEvents at once
_RECEIPT_FILES = 10_000  # generations listed in a receipt, the newest
_JOURNAL_SECONDS = 5.0  # for what was read of the journal to be acknowledged before others go on reading it
_WAITING = "waits to be opened (logs.max_open_files)"
_SEARCHING = "its rotated generations are being looked for"


class LogsJob:
    """Implements `agent.engine.job.Job`."""

    name = "logs"

    def __init__(
        self,
        config: Logs,
        client: LogsClient,
        database: Database,
        clock: Clock,
        events: Events,
        rng: random.Random,
        samples: SampleSink,
    ) -> None:
        """`samples` takes what the entries count."""
        self._samples = samples
        self._clock = clock
        self._events = events
        self._cursors = Cursors(database, clock, events)
        self._dispatcher = Dispatcher(clock, rng)
        self._rate = _Rate(clock)
        self._database = database
        self._random = rng
        self._config = config
        self._room = Room(_limits(config))
        self._folder = os.path.dirname(database.path)
        self._inputs = Lineup(self._wanted(config), RetiredInput, events, self._note_inputs)
        self._reader = Reader(self._inputs, clock, self._room, self._inputs)
        self._reader_thread = WorkerThread("logs-reader", [self._reader], clock, events)
        destinations = self._destinations = Destinations(client, clock, events)
        self._sender_threads: list[WorkerThread] = []
        for number in range(SENDERS):
            sender = Sender(
                f"logs-sender-{number}", self._dispatcher, client, destinations, clock, events, self._after_batch
            )
            thread = WorkerThread(sender.name, [sender], clock, events, linger=LINGER)
            sender.wake = thread.wake
            self._sender_threads.append(thread)
        self._journals = self._make_journals(config)
        self._draining = False
        self._generations: dict[int | None, Cursor] = {}  # listed in the receipt of the drain under way
        self._quiet = threading.Event()
        self._reader.on_quiet = self._quiet.set

    @property
    def threads(self) -> Sequence[WorkerThread]:
        return [self._reader_thread, *self._journals.threads, *self._sender_threads]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def debt(self) -> Debt:
        files, unopened = list(self._files()), self._unopened()
        owed = sum(file.owed for file in files) + sum(size for size, _ in unopened.values())
        owed += self._journals.owed
        items = sum(1 for file in files if file.owed) + len(unopened) + self._journals.items
        return Debt(owed, items, self._rate.seconds(owed))

    def status(self) -> Mapping[str, Any]:
        open_ = [file_status(file) for file in self._files() if not file.sealed]
        unopened = [trouble_status(path, size, error) for path, (size, error) in self._unopened().items()]
        resting = [resting_status(cursor) for cursor in self._resting()]
        return {"logs": open_ + resting + unopened + self._journals.status()}

    def drain(self, deadline: float) -> Proofs:  # noqa: ARG002 - nothing here waits, so there is nothing to bound
        """Send all there is, without waiting for batches to fill."""
        if not self._draining:
            self._draining = True
            self._generations = {cursor.id: cursor for cursor in self._remembered()}
            self._hurry(True)
        files_settled = self._reader.quiet and not self._unopened() and not self._scan_errors()
        settled = files_settled and self._journals.is_quiet
        return Proofs(
            settled=settled,
            gaps=(*(() if settled else self._gaps()), *self._lost()),
            refused=(*self._refused(), *self._journals.refusals()),
            receipt={"logs": [*map(receipt_row, self._all_cursors()), *self._journals.receipts()]},
        )

    def resume(self) -> None:
        self._draining = False
        self._hurry(False)

    def stop(self, deadline: float) -> bool:
        """Send what can be sent until `deadline`, then close the files. True when nothing is left behind.

        A line that has no end yet stays: its writer may be in the middle of it, and it is whole after a restart.
        """
        self._hurry(True, open_lines=False)
        self._quiet.wait(max(0.0, deadline - self._clock.monotonic()))
        clean = self._journals.flush(deadline) and self._reader.quiet
        clean = clean and self.debt().items == 0 and not self._scan_errors()
        self._journals.stop(max(0.1, deadline - self._clock.monotonic()))
        threads = [self._reader_thread, *self._sender_threads]
        for thread in threads:
            thread.stop()
        grace = max(0.1, deadline - self._clock.monotonic())
        ended = [thread.join(grace) for thread in threads]
        if ended[0]:
            for input_ in self._inputs:
                input_.close()
        return clean

    def can_adapt(self, section: Logs | None) -> bool:
        """Whether a changed section asks for the same way to AWS."""
        if section is None:
            return True
        return (section.compression, section.role_arn) == (self._config.compression, self._config.role_arn)

    def adapt(self, section: Logs | None) -> None:
        """Go by a changed section, None for one without entries: what is the same in it is read on undisturbed."""
        before = self._config
        self._config = section or before.model_copy(update={"files": (), "journald": ()})
        if (before.journald, before.flush_interval) != (self._config.journald, self._config.flush_interval):
            self._replace_journals()
        self._room.limits = _limits(self._config)
        self._destinations.renew()
        self._inputs.change(self._wanted(self._config))
        self._reader_thread.wake()

    def _make_journals(self, config: Logs) -> Journals:
        return Journals(
            config.journald,
            config.flush_interval,
            self._dispatcher,
            self._database,
            self._clock,
            self._events,
            self._random,
            memory=self._room.memory,
        )

    def _replace_journals(self) -> None:
        """The journal keeps what is not acknowledged: others read on from there."""
        until = self._clock.monotonic() + _JOURNAL_SECONDS
        self._journals.flush(until)
        self._journals.stop(_JOURNAL_SECONDS)
        self._journals = self._make_journals(self._config)
        self._journals.start()

    def _wanted(self, config: Logs) -> list[Wanted[Input]]:
        """The inputs that a section asks for, each known by its entry and by what else it was made with."""
        shared = (config.flush_interval, config.max_deleted_bytes)
        return [
            Wanted((entry, shared), scope_of(entry), partial(self._make_input, entry, config))
            for entry in config.files
        ]

    def _note_inputs(self, inputs: Sequence[Input | RetiredInput]) -> None:
        """In the reading thread: others are there. What of cursors and descriptors these have is not for new ones."""
        self._cursors.hold(cursor for each in inputs for cursor in each.cursors())
        self._room.tenants[:] = [each.tenant for each in inputs]

    def _make_input(self, entry: LogFile, config: Logs) -> Input:
        route = route_of(entry, config.flush_interval, partial(self._hand_over_counts, entry.metrics))
        return Input(
            Patterns(entry.path, entry.exclude),
            route,
            self._room,
            self._cursors,
            self._dispatcher,
            self._events,
            folder=self._folder,
            from_end=entry.start_at == "end",
            delete=entry.delete_when_shipped,
        )

    def _hand_over_counts(self, metrics: Sequence[LineMetric], counts: Sequence[int]) -> None:
        """Events that each of the entry's metrics counts, of a batch that is acknowledged."""
        for metric, count in zip(metrics, counts, strict=True):
            if count:
                self._samples.sample(metric.name, metric.value, count, metric.unit, {})

    def _hurry(self, on: bool, *, open_lines: bool = True) -> None:
        self._dispatcher.hurry(on)
        self._reader.set_hurry(on, open_lines=open_lines)
        self._journals.hurry(on, reading=open_lines)
        self._quiet.clear()
        for thread in self.threads:
            thread.wake()

    def _after_batch(self) -> None:
        self._rate.note(self._dispatcher.settled_bytes)
        self._reader_thread.wake()
        self._journals.wake()

    def _files(self) -> Iterator[TailedFile]:
        for input_ in self._inputs:
            yield from list(input_)

    def _resting(self) -> Iterator[Cursor]:
        for input_ in self._inputs:
            yield from [resting.cursor for resting in list(input_.resting.values())]

    def _unopened(self) -> dict[str, tuple[int, str]]:
        """What is meant and not open, by path: its size, and why."""
        found: dict[str, tuple[int, str]] = {}
        for input_ in self._inputs:
            found |= dict.fromkeys(input_.searching, (0, _SEARCHING))
            found |= {path: (size, _WAITING) for path, size in list(input_.waiting.items())}
            found |= {path: (trouble.size, trouble.error) for path, trouble in list(input_.unreadable.items())}
        return found

    def _scan_errors(self) -> dict[str, str]:
        return {path: error for input_ in self._inputs for path, error in list(input_.scan_errors.items())}

    def _gaps(self) -> Iterator[Gap]:
        for file in self._files():
            if not file.idle:
                yield Gap("log", shown(file.path), file.owed, file.error or "not yet acknowledged")
        for path, (size, error) in self._unopened().items():
            yield Gap("log", shown(path), size, error)
        for path, error in self._scan_errors().items():
            yield Gap("log", shown(path), 0, error)
        yield from self._journals.gaps()

    def _lost(self) -> Iterator[Gap]:
        """What was never read and can't be any more."""
        for cursor in self._all_cursors():
            if cursor.lost:
                yield Gap("log", shown(cursor.path), cursor.lost, cursor.lost_why)

    def _refused(self) -> Iterator[Refusal]:
        for cursor in self._all_cursors():
            if cursor.refused:
                yield Refusal("log", shown(cursor.path), cursor.refused, "rejected by CloudWatch Logs")
            if cursor.dropped:
                yield Refusal(DROPPED, shown(cursor.path), cursor.dropped, "dropped by keep or drop")

    def _all_cursors(self) -> list[Cursor]:
        """Every generation that is known: those of the state when the drain began, and those open since."""
        for file in self._files():
            file.cursor.size, file.cursor.read = file.size, file.read
            self._generations[file.cursor.id] = file.cursor
        return list(self._generations.values())[-_RECEIPT_FILES:]

    def _remembered(self) -> Iterator[Cursor]:
        for scope in self._inputs.scopes:
            yield from self._cursors.load(scope)


class _Rate:
    """Throughput as measured lately, for the time that a debt would take."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()
        self._bytes = 0
        self._rate = 0.0

    def note(self, total: int) -> None:
        """So many bytes were acknowledged in all."""
        now = self._clock.monotonic()
        elapsed = now - self._since
        if elapsed >= 1.0:
            latest = (total - self._bytes) / elapsed
            self._rate = latest if self._rate == 0.0 else 0.7 * self._rate + 0.3 * latest
            self._since, self._bytes = now, total

    def seconds(self, owed: int) -> float | None:
        if owed == 0:
            return 0.0
        return owed / self._rate if self._rate > 0 else None


def _limits(config: Logs) -> Limits:
    most = min(config.max_open_files, _descriptors() // 2)
    return Limits(config.rotated_linger, most, config.max_deleted_bytes)


def _descriptors() -> int:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft
