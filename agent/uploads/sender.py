"""The senders: a fixed number of workers, each of which does one request's worth of work in a step."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from agent.aws.errors import AwsError
from agent.aws.s3 import Bucket, Part
from agent.engine.clock import Clock
from agent.engine.database import DatabaseError
from agent.engine.events import Events
from agent.engine.workers import Worker, WorkerThread
from agent.uploads.journal import Begun
from agent.uploads.multipart import Multipart, Multiparts
from agent.uploads.outcome import Failed, Outcome, Sent
from agent.uploads.queue import Queue, SendFile, SendPart, Work
from agent.uploads.settle import Candidate
from agent.uploads.transfer import Transfer

_TOLD_AT = 128  # outcomes that wait for the finder before it is woken for them; it looks by itself from time to time
_DEFECT = "a defect: see worker_failed in the agent's log"

Spawn = Callable[[Worker], WorkerThread]
"""Makes a thread for a worker, and starts it."""


class Pool:
    """The senders, and what they share. Threads are made when there is work for them, up to `size`."""

    def __init__(
        self,
        size: int,
        queue: Queue,
        transfer: Transfer,
        multiparts: Multiparts,
        bucket: Callable[[Begun], Bucket],
        clock: Clock,
        events: Events,
    ) -> None:
        self.queue = queue
        self.transfer = transfer
        self.multiparts = multiparts
        self.bucket = bucket
        self.clock = clock
        self.events = events
        self.senders = [Sender(f"uploads-send-{number}", self) for number in range(1, size + 1)]
        self.threads: list[WorkerThread] = []
        self._outcomes: deque[Outcome] = deque()
        self._told = False
        self._lock = threading.Lock()
        self._idle: dict[str, Sender] = {}
        self._spawn: Spawn | None = None
        self._tell: Callable[[], None] = lambda: None

    def start(self, spawn: Spawn, tell: Callable[[], None]) -> None:
        """Let threads be made by `spawn`; `tell` says that there are outcomes."""
        self._tell = tell
        self._spawn = spawn
        self._rouse(len(self.senders))

    def put(self, candidates: Iterable[Candidate]) -> None:
        """Files that are to be sent."""
        ready = list(candidates)
        self.queue.put(ready)
        self._rouse(len(ready))

    def put_abandoned(self, begun: Iterable[Begun]) -> None:
        """Uploads in parts that are to be aborted."""
        self.queue.put_abandoned(begun)
        self._rouse(1)

    def run(self, multipart: Multipart) -> None:
        """An upload in parts whose parts are to be sent."""
        self.queue.run(multipart)
        self._rouse(len(self.senders))

    def report(self, outcome: Outcome) -> None:
        """What came of a file. The finder is told once, and then finds whatever else there is.

        Of a file sent it need not hear at once: while any are under way, it looks soon enough.
        """
        self._outcomes.append(outcome)
        urgent = not isinstance(outcome, Sent) or len(self._outcomes) >= _TOLD_AT
        if urgent and not self._told:
            self._told = True
            self._tell()

    def collect(self) -> list[Outcome]:
        """All outcomes since the last call."""
        self._told = False
        found: list[Outcome] = []
        while self._outcomes:
            found.append(self._outcomes.popleft())
        return found

    def take(self, sender: Sender, now: float) -> Work | float | None:
        """Work for a sender; where there is none it is woken when there is."""
        with self._lock:
            self._idle.pop(sender.name, None)
            work = self.queue.take(now)
            if work is None:
                self._idle[sender.name] = sender
            return work

    def _rouse(self, wanted: int) -> None:
        """Wake so many senders that have nothing to do, and give threads to those that have none."""
        if self._spawn is None:
            return
        with self._lock:
            while wanted > 0 and self._idle:
                self._idle.popitem()[1].wake()
                wanted -= 1
            while wanted > 0 and len(self.threads) < len(self.senders):
                sender = self.senders[len(self.threads)]
                sender.thread = self._spawn(sender)
                self.threads.append(sender.thread)
                wanted -= 1


class Sender:
    """Takes a piece of work, does it, says what came of it."""

    def __init__(self, name: str, pool: Pool) -> None:
        self.name = name
        self.thread: WorkerThread | None = None
        self._pool = pool

    def wake(self) -> None:
        if self.thread is not None:
            self.thread.wake()

    def step(self, now: float) -> float | None:
        """One request: it takes as long as the network needs for a part."""
        delay = self._pool.transfer.pace.delay()
        if delay > 0.0:
            return now + delay
        work = self._pool.take(self, now)
        if work is None or isinstance(work, float):
            return work
        if isinstance(work, SendFile):
            self._send_file(work.candidate)
        elif isinstance(work, SendPart):
            self._send_part(work)
        else:
            self._abandon(work.begun)
        return now

    def _send_file(self, candidate: Candidate) -> None:
        pool = self._pool
        large = pool.multiparts.is_large(candidate.size)
        found: Outcome | Multipart = Failed(candidate, _DEFECT)
        try:
            found = pool.multiparts.begin(candidate) if large else pool.transfer.send(candidate)
        finally:
            self._leave(candidate, found)
            if not isinstance(found, Multipart):
                if large:
                    pool.queue.end_large(candidate, None)
                pool.report(found)
        if isinstance(found, Multipart):
            self._run(found)

    def _run(self, multipart: Multipart) -> None:
        """Of an upload that goes on, all parts may be there already."""
        if multipart.ended:
            self._finish(multipart)
        else:
            self._pool.run(multipart)

    def _send_part(self, work: SendPart) -> None:
        pool, multipart = self._pool, work.multipart
        found: Part | Outcome = Failed(multipart.candidate, _DEFECT)
        try:
            found = pool.multiparts.send_part(multipart, work.number)
        finally:
            pool.queue.end_part()
            self._leave(multipart.candidate, found)
            last = multipart.done(found) if isinstance(found, Part) else multipart.fail(found)
            if last:
                self._finish(multipart)

    def _finish(self, multipart: Multipart) -> None:
        pool, candidate = self._pool, multipart.candidate
        outcome: Outcome = Failed(candidate, _DEFECT)
        try:
            outcome = pool.multiparts.finish(multipart)
        finally:
            pool.queue.end_large(candidate, multipart)
            pool.report(outcome)

    def _leave(self, candidate: Candidate, found: Outcome | Multipart | Part) -> None:
        """Tell the gate of the bucket how it went: of trouble with the file itself it learns nothing."""
        well: bool | None = isinstance(found, Sent | Multipart | Part) or None
        if isinstance(found, Failed) and found.service:
            well = False
        self._pool.queue.leave(candidate.directory.place, self._pool.clock.monotonic(), well=well)

    def _abandon(self, begun: Begun) -> None:
        """What can't be aborted now stays in the journal, and comes up again after the next scan."""
        pool = self._pool
        try:
            pool.multiparts.abandon(begun, pool.bucket(begun))
        except (AwsError, DatabaseError) as error:
            pool.events.trouble("warning", "upload_in_parts_not_aborted", begun.key, error=str(error))
        else:
            pool.events.over("upload_in_parts_not_aborted", begun.key)
