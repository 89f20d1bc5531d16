"""Files that are not in S3 as they are: each waits until it has been quiet, or until its next try."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from agent.engine.backoff import Backoff
from agent.uploads.tree import Stamp

if TYPE_CHECKING:
    from agent.uploads.directory import Directory

MOST = 10_000  # candidates held in memory; the scan waits while there are so many
MOST_FAILING = 1_000  # of them that have failed; more are let go, and found again by the next scan


class State(Enum):
    """Where a candidate is."""

    WAITING = "waiting"  # for its time
    READY = "ready"  # for a sender, or with one
    DONE = "done"


@dataclass(slots=True, eq=False)
class Candidate:
    """A file to be sent. Only the finder changes it; while it is not WAITING, only `newer`."""

    directory: Directory
    relative: str
    stamp: Stamp
    due: float
    since: float  # when it was first seen
    state: State = State.WAITING
    newer: Stamp | None = None  # seen meanwhile
    error: str | None = None
    backoff: Backoff | None = None
    restless: int = 0  # times that it had changed when it was to be sent

    @property
    def size(self) -> int:
        return self.stamp[0]

    @property
    def path(self) -> str:
        return f"{self.directory.path}/{self.relative}"


@dataclass(slots=True)
class Candidates:
    """All of them, and when each is due."""

    random: random.Random
    most: int = MOST
    most_failing: int = MOST_FAILING
    bytes: int = 0
    failing: int = 0
    busy: int = 0  # that are not WAITING
    _all: dict[tuple[int, str], Candidate] = field(default_factory=dict)
    _heap: list[tuple[float, int, Candidate]] = field(default_factory=list)
    _number: Iterator[int] = field(default_factory=itertools.count)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._all.values())

    @property
    def full(self) -> bool:
        return len(self._all) >= self.most

    def find(self, place: int, relative: str) -> Candidate | None:
        return self._all.get((place, relative))

    def add(self, candidate: Candidate) -> None:
        """Take in a file that is none yet."""
        self._all[candidate.directory.place, candidate.relative] = candidate
        self.bytes += candidate.size
        self._push(candidate)

    def change(self, candidate: Candidate, stamp: Stamp, due: float) -> None:
        """The file is another than it was, and waits anew."""
        self.bytes += stamp[0] - candidate.size
        candidate.stamp = stamp
        candidate.newer = None
        self.wait(candidate, due)

    def wait(self, candidate: Candidate, due: float) -> None:
        """Let it wait until `due`."""
        busy = candidate.state is not State.WAITING
        earlier = due < candidate.due or busy
        self.busy -= busy
        candidate.state = State.WAITING
        candidate.due = due
        if earlier:
            self._push(candidate)

    def fail(self, candidate: Candidate, error: str, now: float, cap: float) -> bool:
        """Its next try comes after a backoff of at most `cap` seconds. False: too many fail, and it was let go."""
        if candidate.error is None:
            self.failing += 1
        candidate.error = error
        if self.failing > self.most_failing:
            self.remove(candidate)
            return False
        if candidate.backoff is None:
            candidate.backoff = Backoff(base=1.0, random=self.random)
        candidate.backoff.cap = cap
        self.wait(candidate, now + candidate.backoff.next())
        return True

    def remove(self, candidate: Candidate) -> None:
        """It is settled, or gone."""
        del self._all[candidate.directory.place, candidate.relative]
        self.bytes -= candidate.size
        self.failing -= candidate.error is not None
        self.busy -= candidate.state is not State.WAITING
        candidate.state = State.DONE  # what the heap still says of it no longer counts

    def due(self, now: float, most: int) -> list[Candidate]:
        """Up to `most` whose time has come, now READY."""
        found: list[Candidate] = []
        while self._heap and self._heap[0][0] <= now and len(found) < most:
            _, _, candidate = heapq.heappop(self._heap)
            if candidate.state is not State.WAITING:
                continue
            if candidate.due > now:
                self._push(candidate)
                continue
            candidate.state = State.READY
            self.busy += 1
            found.append(candidate)
        return found

    def next_due(self) -> float | None:
        """When the next one may be due."""
        return self._heap[0][0] if self._heap else None

    def hurry(self, now: float) -> None:
        """Let all that wait be due now."""
        for candidate in self._all.values():
            if candidate.state is State.WAITING:
                self.wait(candidate, min(candidate.due, now))

    def _push(self, candidate: Candidate) -> None:
        heapq.heappush(self._heap, (candidate.due, next(self._number), candidate))
