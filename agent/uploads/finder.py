"""The finder: scans, lets files settle, hands them to the senders, writes what S3 has confirmed into the ledger."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence

from agent.engine.clock import Clock
from agent.engine.database import DatabaseError
from agent.engine.events import Events
from agent.uploads.directory import Directory
from agent.uploads.journal import Journal
from agent.uploads.ledger import Confirmed, Ledger
from agent.uploads.names import from_text, to_text
from agent.uploads.outcome import Changed, Failed, Gone, Interrupted, NotTaken, Outcome, Sent
from agent.uploads.search import Search
from agent.uploads.sender import Pool
from agent.uploads.settle import Candidate, Candidates, State
from agent.uploads.throughput import Throughput
from agent.uploads.tree import Stamp

_GROUP = 256  # confirmed files written into the ledger at once
_GROUP_SECONDS = 0.05  # and how long the first of them waits for others
_LEDGER_RETRY = 5.0  # seconds until a ledger that could not be written is tried again
_DISPATCH = 512  # files handed to the senders in one step
_LONGEST_BACKOFF = 300.0  # seconds between two tries of one file
_HURRIED_BACKOFF = 5.0  # the same in a drain, for a file and for a bucket
_PAUSE = 60.0  # seconds that trouble with a bucket keeps its senders out, outside a drain
_RESTLESS = 0.02  # seconds until a file that changes while it is sent is tried again in a drain; doubles
_RESTLESS_MOST = 2.0
_NEVER_QUIET = 600.0  # seconds after which a file that keeps changing is worth a word


class Finder:
    """A worker for a thread of its own. `lock` guards all that it knows; a step holds it for some ms."""

    name = "uploads-find"

    def __init__(
        self,
        searches: Sequence[Search],
        ledger: Ledger,
        journal: Journal,
        pool: Pool,
        clock: Clock,
        events: Events,
        random_: random.Random,
    ) -> None:
        self.lock = threading.RLock()
        self.searches = searches
        self.candidates = Candidates(random_)
        self.throughput = Throughput()
        self.draining = False
        self.closing = False  # nothing new is looked for
        self.recorded = 0  # files written into the ledger since the start
        self.on_scan: Callable[[Search], None] = _ignore  # a whole scan has come to its end
        self.on_sent: Callable[[Sequence[Sent]], None] = _ignore  # files were written into the ledger
        self.on_due: Callable[[Sequence[Candidate]], None] = _ignore  # files are about to be handed to the senders
        self._places = {search.directory.place: search for search in searches}
        self._ledger = ledger
        self._journal = journal
        self._pool = pool
        self._clock = clock
        self._events = events
        self._confirmed: list[Sent] = []
        self._doubted: set[Candidate] = set()
        self._write_at = 0.0
        self._looked_over: dict[int, float] = {}  # place -> the whole scan after which its uploads were looked over
        self._turn = 0
        self.idle = threading.Event()  # nothing is ready, under way, or to be written down

    def step(self, now: float) -> float | None:
        """One bounded piece of everything; when to go on."""
        with self.lock:
            for outcome in self._pool.collect():
                self._apply(outcome, now)
            self._record(now)
            if not self.closing:
                self._search(now)
            self._dispatch(now)
            self._tell_idle()
            return self._next(now)

    def hurry(self, now: float) -> None:
        """A drain: look through everything from the top, and wait for nothing that can be done without."""
        self.draining = True
        for search in self.searches:
            search.restart(now)
        self.candidates.hurry(now)
        self._pool.queue.hurry(now, _HURRIED_BACKOFF)

    def relax(self, now: float) -> None:
        """Back to normal work."""
        self.draining = False
        self._pool.queue.hurry(now, _PAUSE)

    @property
    def pending(self) -> int:
        """Files known not to be in S3 as they are."""
        return len(self.candidates) + sum(search.let_go for search in self.searches)

    def close(self) -> None:
        """When no step is under way any more: write down what is confirmed, close what is open."""
        with self.lock:
            for outcome in self._pool.collect():
                self._apply(outcome, self._clock.monotonic())
            self._record(self._clock.monotonic(), at_once=True)
            for search in self.searches:
                search.close()
            self._tell_idle()

    def _search(self, now: float) -> None:
        """One slice, of one directory after the other. While too many files wait, there is no looking for more."""
        for _ in range(len(self.searches)):
            search = self.searches[self._turn % len(self.searches)]
            self._turn += 1
            if self.candidates.full or search.due > now:
                continue
            for relative, stamp in search.step(now):
                self._consider(search.directory, relative, stamp, now)
            self._look_over(search)
            return

    def _consider(self, directory: Directory, relative: str, stamp: Stamp, now: float) -> None:
        """A file is not in S3 as it is."""
        candidate = self.candidates.find(directory.place, relative)
        if candidate is None:
            due = self._quiet_at(directory, stamp, now)
            self.candidates.add(Candidate(directory, relative, stamp, due, now))
        elif candidate.state is not State.WAITING:
            candidate.newer = stamp
        elif candidate.stamp != stamp:
            self.candidates.change(candidate, stamp, self._quiet_at(directory, stamp, now))

    def _quiet_at(self, directory: Directory, stamp: Stamp, now: float) -> float:
        """When a file will have been quiet for as long as it must, if it stays as it is."""
        if self.draining:
            return now
        quiet = self._clock.time() - stamp[2] / 1e9
        return now + directory.settle - min(max(quiet, 0.0), directory.settle)

    def _look_over(self, search: Search) -> None:
        """After a whole scan: uploads in parts that no file goes on with are aborted."""
        place = search.directory.place
        if search.last is None or self._looked_over.get(place) == search.finished_at:
            return
        self._looked_over[place] = search.finished_at
        self.on_scan(search)
        self._pool.put_abandoned(
            begun
            for begun in self._journal.all()
            if (begun.place == place or begun.place not in self._places)
            and self.candidates.find(begun.place, from_text(begun.path)) is None
        )

    def _dispatch(self, now: float) -> None:
        due = self.candidates.due(now, _DISPATCH)
        if due:
            self.on_due(due)
            self._pool.put(due)

    def doubt(self, place: int, relative: str, now: float) -> None:
        """The object of a file may be gone again: what is under way, or not written down yet, does not count."""
        candidate = self.candidates.find(place, relative)
        if candidate is None or candidate.state is State.WAITING:
            return
        for sent in self._confirmed:
            if sent.candidate is candidate:
                self._confirmed.remove(sent)
                self._settle_again(candidate, candidate.stamp, now)
                return
        self._doubted.add(candidate)

    def _apply(self, outcome: Outcome, now: float) -> None:
        candidate = outcome.candidate
        if candidate in self._doubted:
            self._doubted.remove(candidate)
            if isinstance(outcome, Sent):
                outcome = Changed(candidate, candidate.stamp)
        match outcome:
            case Sent():
                self._confirmed.append(outcome)
                if len(self._confirmed) == 1:
                    self._write_at = now + _GROUP_SECONDS
            case Changed(stamp=stamp):
                self._events.count("uploads_changed_meanwhile")
                self._settle_again(candidate, stamp, now)
            case Gone():
                self._let_go(candidate, now)
            case NotTaken(reason=reason):
                self._refuse(candidate, reason, now)
            case Failed():
                self._fail(outcome, now)
            case Interrupted():
                self.candidates.wait(candidate, now)

    def _settle_again(self, candidate: Candidate, stamp: Stamp, now: float) -> None:
        candidate.restless += 1
        due = self._quiet_at(candidate.directory, stamp, now)
        if self.draining or due <= now:
            due = now + min(_RESTLESS * 2.0 ** min(candidate.restless, 16), _RESTLESS_MOST)
        self.candidates.change(candidate, stamp, due)
        if now - candidate.since > _NEVER_QUIET:
            self._events.trouble(
                "warning",
                "upload_never_quiet",
                candidate.path,
                counter="uploads_never_quiet",
                path=candidate.path,
                hint="write it elsewhere and move it here when it is complete, exclude it, or lower settle",
            )

    def _let_go(self, candidate: Candidate, now: float) -> None:
        """The file is done with, as it was; if it was seen as another one meanwhile, that one is next."""
        newer = candidate.newer
        self.candidates.remove(candidate)
        if newer is not None and newer != candidate.stamp:
            self._consider(candidate.directory, candidate.relative, newer, now)

    def _refuse(self, candidate: Candidate, reason: str, now: float) -> None:
        try:
            self._ledger.refuse(candidate.directory.place, to_text(candidate.relative), candidate.stamp, reason)
        except DatabaseError as error:
            self._fail(Failed(candidate, str(error), "free space in the state directory, or mend its disk"), now)
            return
        self._events.say("error", "upload_refused", counter="uploads_refused", path=candidate.path, error=reason)
        self._let_go(candidate, now)

    def _fail(self, failed: Failed, now: float) -> None:
        candidate = failed.candidate
        bucket = candidate.directory.bucket.name
        event, key = ("uploads_held_up", bucket) if failed.service else ("upload_failed", candidate.path)
        self._events.trouble(
            "warning",
            event,
            key,
            counter="upload_retries",
            path=candidate.path,
            bucket=bucket,
            error=failed.error,
            hint=failed.hint,
        )
        cap = _HURRIED_BACKOFF if self.draining else _LONGEST_BACKOFF
        if not self.candidates.fail(candidate, failed.error, now, cap):
            self._places[candidate.directory.place].let_go += 1

    def _record(self, now: float, *, at_once: bool = False) -> None:
        """Write a group of confirmed files into the ledger: when it is large enough, or has waited long enough."""
        if not self._confirmed or not (at_once or len(self._confirmed) >= _GROUP or now >= self._write_at):
            return
        try:
            self._ledger.confirm([_confirmed(sent) for sent in self._confirmed])
        except DatabaseError as error:
            self._write_at = now + _LEDGER_RETRY
            self._events.trouble(
                "error",
                "upload_ledger_not_written",
                "",
                counter="state_failures",
                error=str(error),
                hint="free space in the state directory, or mend its disk; a restart now would send files again",
            )
            return
        self._events.over("upload_ledger_not_written", "", said="upload_ledger_written")
        confirmed, self._confirmed = self._confirmed, []
        self.recorded += len(confirmed)
        for sent in confirmed:
            self._say_recovered(sent.candidate)
            self._let_go(sent.candidate, now)
        self.on_sent(confirmed)
        size = sum(sent.candidate.size for sent in confirmed)
        self._events.count("uploads_sent", len(confirmed))
        self._events.count("upload_bytes", size)
        self.throughput.add(now, size, len(confirmed))

    def _say_recovered(self, candidate: Candidate) -> None:
        if candidate.error is not None:
            bucket = candidate.directory.bucket.name
            self._events.over("uploads_held_up", bucket, said="uploads_resumed", bucket=bucket)
            self._events.over("upload_failed", candidate.path, said="upload_recovered", path=candidate.path)
        if candidate.restless:
            self._events.over("upload_never_quiet", candidate.path)

    def _tell_idle(self) -> None:
        busy = self._confirmed or self.candidates.busy
        (self.idle.clear if busy else self.idle.set)()

    def _next(self, now: float) -> float | None:
        """When the next step has something to do; hints, trouble and many outcomes wake it earlier."""
        times = [due for due in (self.candidates.next_due(),) if due is not None]
        if self.candidates.busy:
            times.append(now + _GROUP_SECONDS)
        if self._confirmed:
            times.append(self._write_at)
        if not self.closing and not self.candidates.full:
            times += [search.due for search in self.searches]
        return max(now, min(times)) if times else None


def _ignore(_: object) -> None:
    """For who is not told."""


def _confirmed(sent: Sent) -> Confirmed:
    candidate = sent.candidate
    return Confirmed(
        place=candidate.directory.place,
        path=to_text(candidate.relative),
        stamp=candidate.stamp,
        key=sent.key,
        etag=sent.stored.etag,
        checksum=f"{candidate.directory.algorithm.name}:{sent.stored.checksum}",
        time=sent.time,
    )
