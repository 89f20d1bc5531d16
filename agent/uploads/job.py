"""The job `uploads`, as the daemon and the drain see it: threads, debt, status, proofs."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from agent.aws.s3 import S3, Bucket
from agent.config.sections.uploads import Uploads
from agent.engine.clock import Clock
from agent.engine.events import Events
from agent.engine.files import may_read_everything
from agent.engine.job import Debt, Proofs
from agent.engine.state import StateDirectory
from agent.engine.workers import LINGER, Worker, WorkerThread
from agent.uploads.directory import Directory
from agent.uploads.drainage import Drainage
from agent.uploads.finder import Finder
from agent.uploads.hints import Hints
from agent.uploads.journal import Begun, Journal
from agent.uploads.ledger import FILE, Ledger
from agent.uploads.modes import Modes
from agent.uploads.multipart import Multiparts, PartRules
from agent.uploads.names import to_text
from agent.uploads.pace import Pace
from agent.uploads.queue import Queue
from agent.uploads.read_back import ReadBack
from agent.uploads.search import Search
from agent.uploads.sender import Pool
from agent.uploads.transfer import Transfer
from agent.uploads.watch import Watched, Watcher

MANIFEST = "uploads-manifest.ndjson"  # in the state directory
_FAILING = 100  # files listed in the status, of each kind
_GRACE = 1.0  # seconds for threads to end after the deadline: a request under way is given up


class UploadsJob:
    """Implements `agent.engine.job.Job`."""

    name = "uploads"

    def __init__(
        self,
        config: Uploads,
        s3: S3,
        state: StateDirectory,
        clock: Clock,
        events: Events,
        random_: random.Random,
        *,
        rules: PartRules | None = None,
        watcher: bool = True,
    ) -> None:
        """`rules`: S3's bounds of parts. `watcher` False: changes are found by scans alone."""
        self._clock = clock
        self._events = events
        self._s3 = s3
        self._halt = threading.Event()
        database = state.database(FILE)
        ledger, journal = Ledger(database), Journal(database)
        self._searches = [
            Search(Directory(given, s3, ledger), ledger, Hints(self._wake), clock, events)
            for given in config.directories
        ]
        self._buckets = {search.directory.place: search.directory.bucket for search in self._searches}
        transfer = Transfer(
            Pace(config.max_bandwidth, clock, self._halt.wait), clock, privileged=may_read_everything()
        )
        multiparts = Multiparts(transfer, journal, clock, events, config.part_size, rules or PartRules())
        directories = [search.directory for search in self._searches]
        queue = Queue(directories, config.concurrency, multiparts.is_large, random_)
        self.pool = Pool(config.concurrency, queue, transfer, multiparts, self._bucket, clock, events)
        self.finder = Finder(self._searches, ledger, journal, self.pool, clock, events, random_)
        self.modes = Modes(self._searches, self.finder, journal, database, clock, events, random_)
        self.read_back = ReadBack(self._searches, database, clock, events)
        self.drainage = Drainage(self.finder, ledger, self.read_back, state.file(MANIFEST), clock, events)
        self.watcher = Watcher([self._watched(search) for search in self._searches], events) if watcher else None
        self._finder_thread = WorkerThread("uploads-find", [self.finder, self.drainage], clock, events)
        self._watcher_thread = WorkerThread("uploads-watch", [self.watcher], clock, events) if self.watcher else None
        self._modes_thread = WorkerThread(
            "uploads-modes", [*self.modes.workers, self.read_back], clock, events, linger=LINGER
        )
        self.modes.wake = self.read_back.wake = self._modes_thread.wake

    @property
    def threads(self) -> Sequence[WorkerThread]:
        """Those whose steps are short.

        A sender's step, or that of a mode which deletes, lasts as long as its request: minutes for one part
        on a slow line, although no single read or write may.
        """
        return [self._finder_thread] if self._watcher_thread is None else [self._finder_thread, self._watcher_thread]

    def start(self) -> None:
        self.pool.start(self._spawn, self._wake)
        for thread in (*self.threads, self._modes_thread):
            thread.start()

    def debt(self) -> Debt:
        with self.finder.lock:
            candidates = self.finder.candidates
            size, items = candidates.bytes, self.finder.pending
            return Debt(size, items, self.finder.throughput.seconds(size, items))

    def status(self) -> Mapping[str, Any]:
        """`pending` files (`bytes`) are known not to be in S3 as they are; `failing` ones were tried."""
        with self.finder.lock:
            candidates = self.finder.candidates
            return {
                "uploads": {
                    "pending": self.finder.pending,
                    "bytes": candidates.bytes,
                    "failing": self._failing(),
                    "directories": [self._directory_status(search) for search in self._searches],
                }
            }

    def drain(self, deadline: float) -> Proofs:
        """Scan from the top, send without settle time, until a whole scan finds nothing owed."""
        proofs = self.drainage.ask(deadline, self._clock.monotonic())
        self._wake()
        return proofs

    def resume(self) -> None:
        self.drainage.end(self._clock.monotonic())
        self._wake()

    def stop(self, deadline: float) -> bool:
        """Let what is ready or under way end until `deadline`; what has not settled is found again at the next start.

        True when no file is known that is not in S3.
        """
        self.finder.closing = True
        if self.pool.threads and not self._halt.is_set():
            self.finder.idle.clear()  # the next step says whether it is
            self._wake()
            self.finder.idle.wait(max(0.0, deadline - self._clock.monotonic()))
        self._halt.set()
        self._end_threads(max(deadline, self._clock.monotonic() + _GRACE))
        return not len(self.finder.candidates)

    def _end_threads(self, deadline: float) -> None:
        """A request that hangs is left to end by itself; what came of the others is written down."""
        threads = [*self.threads, self._modes_thread, *self.pool.threads]
        for thread in threads:
            thread.stop()
        ended = {thread.name: thread.join(max(0.0, deadline - self._clock.monotonic())) for thread in threads}
        if self.watcher is not None and ended["uploads-watch"]:
            self.watcher.stop()
        if all(ended.values()):
            self.pool.queue.close()
        if ended["uploads-find"]:
            self.finder.close()

    def _spawn(self, worker: Worker) -> WorkerThread:
        thread = WorkerThread(worker.name, [worker], self._clock, self._events, linger=LINGER)
        thread.start()
        return thread

    def _wake(self) -> None:
        self._finder_thread.wake()

    def _watched(self, search: Search) -> Watched:
        return Watched(search.directory.path, search.hints, lambda: search.tally.directories)

    def _bucket(self, begun: Begun) -> Bucket:
        """The bucket of an upload in parts, also if its directory is no longer configured."""
        return self._buckets.get(begun.place) or self._s3.bucket(begun.bucket)

    def _failing(self) -> list[dict[str, str]]:
        """Files that could not be sent, places that could not be read."""
        files = (each for each in self.finder.candidates if each.error is not None)
        failing = [{"path": to_text(each.path), "error": str(each.error)} for each in islice(files, _FAILING)]
        for search in self._searches:
            path = search.directory.path
            if search.error is not None:
                failing.append({"path": path, "error": str(search.error.strerror)})
            unread = islice(search.tally.errors.items(), _FAILING)
            failing += [{"path": to_text(f"{path}/{place}"), "error": why} for place, why in unread]
            failing += [{"path": f"{path}/{place}", "error": why} for place, why in self.modes.troubles(search)]
        return failing

    def _directory_status(self, search: Search) -> dict[str, Any]:
        tally, directory = search.tally, search.directory
        return {
            "path": directory.path,
            "bucket": directory.bucket.name,
            "mode": directory.mode,
            "files": tally.files,
            "watched": search.hints.watched,
            "refused": len(tally.refused) + tally.more_refused,
            "skipped": dict(tally.skipped),
        }
