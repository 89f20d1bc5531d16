"""What is ready to be sent, and who may send it: a lane for each directory, a gate before each lane."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agent.uploads.directory import Directory
from agent.uploads.gate import Gate
from agent.uploads.journal import Begun
from agent.uploads.multipart import Multipart
from agent.uploads.settle import Candidate


@dataclass(frozen=True, slots=True)
class SendFile:
    """Send this file whole, or begin its upload in parts."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class SendPart:
    """Send this part."""

    multipart: Multipart
    number: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Abort this upload in parts, which no file goes on with."""

    begun: Begun


Work = SendFile | SendPart | Abandon


@dataclass(slots=True)
class _Lane:
    """The work of one directory."""

    gate: Gate
    small: deque[Candidate] = field(default_factory=deque)
    large: deque[Candidate] = field(default_factory=deque)
    running: list[Multipart] = field(default_factory=list)
    part_next: bool = False


class Queue:
    """Hands out work in turn to all directories. Safe to use from several threads.

    While small files wait, they and the parts of large ones take turns, and parts take at most half of the senders.
    """

    def __init__(
        self, directories: Iterable[Directory], senders: int, is_large: Callable[[int], bool], random_: random.Random
    ) -> None:
        self._lock = threading.Lock()
        self._lanes = {each.place: _Lane(Gate(senders, random_)) for each in directories}
        self._turns = deque(self._lanes.values())
        self._abandoned: deque[Begun] = deque()
        self._is_large = is_large
        self._half = max(1, senders // 2)
        self._running = 0
        self._parts = 0

    def put(self, candidates: Iterable[Candidate]) -> None:
        with self._lock:
            for candidate in candidates:
                lane = self._lanes[candidate.directory.place]
                (lane.large if self._is_large(candidate.size) else lane.small).append(candidate)

    def put_abandoned(self, begun: Iterable[Begun]) -> None:
        """Uploads to be aborted when there is nothing better to do."""
        with self._lock:
            self._abandoned.extend(each for each in begun if each not in self._abandoned)

    def take(self, now: float) -> Work | float | None:
        """The next piece of work; or when to ask again (monotonic); or None: there is nothing to do."""
        with self._lock:
            waits: list[float] = []
            for _ in range(len(self._turns)):
                lane = self._turns[0]
                self._turns.rotate(-1)
                if not self._has_work(lane):
                    continue
                wait = lane.gate.wait(now)
                if wait > 0.0:
                    waits.append(wait)
                elif (work := self._pop(lane)) is not None:
                    lane.gate.enter()
                    return work
            if waits:
                return now + min(waits)
            return Abandon(self._abandoned.popleft()) if self._abandoned else None

    def leave(self, place: int, now: float, *, well: bool | None) -> None:
        """A piece of work on a directory has ended; see `Gate.leave`."""
        with self._lock:
            self._lanes[place].gate.leave(now, well=well)

    def run(self, multipart: Multipart) -> None:
        """An upload has begun: its parts may be taken."""
        with self._lock:
            self._lanes[multipart.candidate.directory.place].running.append(multipart)

    def end_part(self) -> None:
        with self._lock:
            self._parts -= 1

    def end_large(self, candidate: Candidate, multipart: Multipart | None) -> None:
        """A large file is done with, its upload begun or not."""
        with self._lock:
            self._running -= 1
            running = self._lanes[candidate.directory.place].running
            if multipart in running:
                running.remove(multipart)

    def hurry(self, now: float, longest_pause: float) -> None:
        """Let no trouble keep the senders out for longer than so many seconds."""
        with self._lock:
            for lane in self._lanes.values():
                lane.gate.hurry(now, longest_pause)

    def close(self) -> None:
        """No sender works any more: close the files of uploads that are not finished. They go on after a restart."""
        with self._lock:
            for lane in self._lanes.values():
                for multipart in lane.running:
                    multipart.source.close()
                lane.running.clear()

    def _has_work(self, lane: _Lane) -> bool:
        if lane.small or any(each.waiting for each in lane.running):
            return True
        return bool(lane.large) and self._running < self._half

    def _pop(self, lane: _Lane) -> Work | None:
        """One piece of what the lane has. Parts may be gone meanwhile: one that fails calls off the others."""
        if lane.large and self._running < self._half:
            self._running += 1
            return SendFile(lane.large.popleft())
        lane.part_next = not lane.part_next
        may_take_part = lane.part_next and self._parts < self._half
        part = self._pop_part(lane) if may_take_part or not lane.small else None
        if part is not None or not lane.small:
            return part
        return SendFile(lane.small.popleft())

    def _pop_part(self, lane: _Lane) -> Work | None:
        for multipart in lane.running:
            number = multipart.take()
            if number is not None:
                self._parts += 1
                return SendPart(multipart, number)
        return None
