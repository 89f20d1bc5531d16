"""Batches to CloudWatch Logs: a lane for each stream, a fixed pool of senders, cursors moved by acknowledgements.

A lane keeps the order of its stream. A transient failure keeps the batch; a poison batch is halved until the bad
event stands alone; what AWS rejects event by event is counted as refused. Nothing else is ever given up.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from agent.aws.errors import AnswerLost, AwsError, NotFound, Refused, Transient
from agent.aws.logs import Accepted, Logs
from agent.engine.backoff import Backoff
from agent.engine.clock import Clock
from agent.engine.events import Events
from agent.logs.batch import Part, Timed, first_timestamp, last_timestamp
from agent.logs.destination import Destinations, GroupWish

_READY_BATCHES = 1  # formed and waiting in a lane, beside those in flight: the next is ready when one is answered
_FAR_WINDOW = 4  # batches of one stream in flight at once while it has a backlog
_NEAR_WINDOW, _NEAR_SECONDS = 2, 0.02  # the same while AWS answers faster than this
_ANSWER_WEIGHT = 0.2  # of the latest answer in the running mean
_RETRY_CAP = 20.0  # seconds between tries while AWS does not answer
_DRAIN_RETRY_CAP = 2.0  # the same while an instance waits to go
_LANE_RETRY_CAP = 60.0  # for a stream that may not be written
_POISON = frozenset(
    [
        "InvalidParameterException",
        "InvalidParameter",
        "SerializationException",
        "RequestEntityTooLarge",
        "DataAlreadyAcceptedException",
    ]
)
_TOO_LARGE = 413  # HTTP status, where something on the way says so instead of AWS
_NAMES = ("logGroupName", "logStreamName")  # in a message that is about them and not about events
_MAKING = ("CreateLogGroup", "CreateLogStream")


class Acknowledger(Protocol):
    """Whoever made a batch and wants to know what became of it."""

    path: str

    def settled(self, batch: Batch) -> None:
        """Every event of the batch is accepted or refused."""


class Batch:
    """Consecutive bytes of one file on their way to one stream."""

    def __init__(
        self,
        owner: Acknowledger,
        destination: tuple[str, str],
        wish: GroupWish,
        span: tuple[int, int],
        guard: bytes,
        pieces: tuple[Timed, ...],
        counts: tuple[int, ...] | None = None,
    ) -> None:
        """`span` is (first offset, offset behind the last byte); `guard` the last raw bytes of it; `counts` how many
        of its events each of the entry's metrics counts.
        """
        self.counts = counts
        self.owner = owner
        self.group, self.stream = destination
        self.wish = wish
        self.start, self.end = span
        self.guard = guard
        self.first, self.last = first_timestamp(pieces), last_timestamp(pieces)
        self.parts = deque([Part(pieces)] if pieces else [])
        self.payloads: list[bytes] = []  # SHA-256 of each payload that was accepted
        self.accepted = 0
        self.refused = 0
        self.done = False
        self.number = 0  # in the order of submission

    @property
    def size(self) -> int:
        return self.end - self.start


class Lane:
    """The batches of one stream, in order."""

    def __init__(self, rng: random.Random) -> None:
        self.queue: deque[Batch] = deque()
        self.flying: list[Batch] = []
        self.window = 1  # batches in flight at once
        self.not_before = 0.0
        self.backoff = Backoff(base=1.0, cap=_LANE_RETRY_CAP, random=rng)

    def ready(self, now: float) -> bool:
        """Whether its next batch may leave: within the window, and only later events than those in flight."""
        if not self.queue or now < self.not_before or len(self.flying) >= self.window:
            return False
        return all(batch.last < self.queue[0].first for batch in self.flying)


class Dispatcher:
    """Hands ready batches to senders, fairly between lanes, and holds back where AWS asks for it."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._random = rng
        self._lock = threading.Lock()
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._turns: deque[Lane] = deque()  # lanes with something queued, the one whose turn it is first
        self._idle: list[Callable[[], None]] = []
        self._not_before = 0.0
        self._backoff = Backoff(base=0.5, cap=_RETRY_CAP, random=rng)
        self._longest_wait = _LANE_RETRY_CAP
        self._submitted = 0
        self._answer_seconds = 0.0  # that AWS took lately for a batch
        self.settled_bytes = 0  # of files, in all

    @property
    def busy_window(self) -> int:
        """Batches in flight in one lane with a backlog: only if answers take long do more of them make it faster."""
        return _NEAR_WINDOW if self._answer_seconds < _NEAR_SECONDS else _FAR_WINDOW

    @property
    def busy(self) -> bool:
        """Whether anything waits or is on its way."""
        return bool(self._lanes)

    def note_answer(self, seconds: float) -> None:
        """AWS took so long to answer a batch."""
        self._answer_seconds += _ANSWER_WEIGHT * (seconds - self._answer_seconds)

    def hurry(self, on: bool) -> None:
        """Try again sooner while the instance waits to go."""
        with self._lock:
            self._longest_wait = _DRAIN_RETRY_CAP if on else _LANE_RETRY_CAP
            latest = self._clock.monotonic() + self._longest_wait
            self._not_before = min(self._not_before, latest)
            for lane in self._lanes.values():
                lane.not_before = min(lane.not_before, latest)

    def wants(self, group: str, stream: str, window: int) -> bool:
        """Whether the stream's lane takes another batch; sets how many may be in flight."""
        with self._lock:
            lane = self._lanes.get((group, stream))
            if lane is None:
                return True
            lane.window = window
            return len(lane.queue) + len(lane.flying) < window + _READY_BATCHES

    def submit(self, batch: Batch) -> None:
        with self._lock:
            lane = self._lanes.setdefault((batch.group, batch.stream), Lane(self._random))
            if not lane.queue:
                self._turns.append(lane)
            self._submitted += 1
            batch.number = self._submitted
            lane.queue.append(batch)
            wake = self._idle.pop() if self._idle else None
        if wake is not None:
            wake()

    def take(self, now: float, wake: Callable[[], None]) -> Batch | None:
        """The next batch that may leave, for a sender that waits no longer to be called by `wake`."""
        with self._lock:
            if wake in self._idle:
                self._idle.remove(wake)
            if now < self._not_before:
                return None
            for _ in range(len(self._turns)):
                lane = self._turns.popleft()
                if lane.ready(now):
                    batch = lane.queue.popleft()
                    lane.flying.append(batch)
                    if lane.queue:
                        self._turns.append(lane)
                    return batch
                self._turns.append(lane)
            return None

    def next_time(self, now: float, wake: Callable[[], None]) -> float | None:
        """When to look again, None where nothing is held back; `wake` is called when something new is there."""
        with self._lock:
            self._idle.append(wake)
            held = [max(lane.not_before, self._not_before) for lane in self._turns if not lane.flying]
            return max(min(held), now) if held else None

    def settle(self, batch: Batch) -> None:
        """The batch is done with; the service works."""
        with self._lock:
            lane = self._lanes[batch.group, batch.stream]
            lane.flying.remove(batch)
            lane.backoff.reset()
            self._backoff.reset()
            self.settled_bytes += batch.size
            if not lane.queue and not lane.flying:
                del self._lanes[batch.group, batch.stream]

    def postpone(self, batch: Batch, *, everywhere: bool) -> float:
        """Put the batch back in its place and hold back: its lane, or all. Returns seconds."""
        with self._lock:
            lane = self._lanes[batch.group, batch.stream]
            lane.flying.remove(batch)
            if not lane.queue:
                self._turns.append(lane)
            lane.queue.insert(sum(1 for each in lane.queue if each.number < batch.number), batch)
            now = self._clock.monotonic()
            if not everywhere:
                lane.not_before = now + min(lane.backoff.next(), self._longest_wait)
                return lane.not_before - now
            if self._not_before <= now:  # else another sender has just met the same trouble: it counts once
                self._not_before = now + min(self._backoff.next(), self._longest_wait)
            return self._not_before - now


class Sender:
    """One of the pool: takes a batch, sends it, says what became of it."""

    def __init__(
        self,
        name: str,
        dispatcher: Dispatcher,
        logs: Logs,
        destinations: Destinations,
        clock: Clock,
        events: Events,
        settled: Callable[[], None],
    ) -> None:
        """`settled` is called after each batch that was settled or put back."""
        self.name = name
        self.wake: Callable[[], None] = lambda: None
        self._dispatcher = dispatcher
        self._logs = logs
        self._destinations = destinations
        self._clock = clock
        self._events = events
        self._settled = settled

    def step(self, now: float) -> float | None:
        batch = self._dispatcher.take(now, self.wake)
        if batch is None:
            return self._dispatcher.next_time(now, self.wake)
        try:
            self._deliver(batch)
        except AwsError as error:
            self._put_back(batch, error)
        except BaseException:
            self._dispatcher.postpone(batch, everywhere=False)
            raise
        else:
            self._settle(batch)
        self._settled()
        return now

    def _settle(self, batch: Batch) -> None:
        try:
            batch.owner.settled(batch)
        finally:
            self._dispatcher.settle(batch)
        self._events.count("log_bytes_acknowledged", batch.size)
        for key in ("", f"{batch.group} {batch.stream}"):
            self._events.over("logs_not_accepted", key, said="logs_accepted_again", group=batch.group)

    def _deliver(self, batch: Batch) -> None:
        """Send what is left of the batch. Raises AwsError, with what was accepted taken off."""
        made = False
        while batch.parts:
            part = batch.parts[0]
            try:
                accepted = self._put(batch, part)
            except NotFound:
                if made:
                    raise
                self._destinations.make(batch.group, batch.stream, batch.wish)
                made = True
            except Refused as error:
                self._divide(batch, part, error)
            else:
                batch.parts.popleft()
                self._count(batch, part, accepted)
        self._destinations.look_after(batch.group, batch.wish)

    def _put(self, batch: Batch, part: Part) -> Accepted:
        body = part.body(batch.group, batch.stream)
        began = self._clock.monotonic()
        accepted = self._logs.put_log_events(body, part.events)
        self._dispatcher.note_answer(self._clock.monotonic() - began)
        return accepted

    def _divide(self, batch: Batch, part: Part, error: Refused) -> None:
        """Halve what AWS refuses; a single event that it refuses is settled so."""
        if not _is_poison(error):
            raise error
        batch.parts.popleft()
        if part.events > 1:
            batch.parts.extendleft(reversed(part.halves()))
            self._events.say(
                "info",
                "log_batch_halved",
                counter="log_batches_halved",
                path=batch.owner.path,
                events=part.events,
                error=str(error),
            )
            return
        batch.refused += 1
        self._events.say(
            "error",
            "log_event_refused",
            counter="log_events_refused",
            path=batch.owner.path,
            offset=part.pieces[0].block.start,
            error=str(error),
        )

    def _count(self, batch: Batch, part: Part, accepted: Accepted) -> None:
        refused = min(part.events, accepted.too_old + accepted.too_new)
        batch.payloads.append(accepted.digest)
        batch.accepted += part.events - refused
        batch.refused += refused
        self._events.count("log_events_accepted", part.events - refused)
        self._events.count("log_batches_accepted")
        if refused:
            self._events.say(
                "error",
                "log_events_refused",
                counter="log_events_refused",
                by=refused,
                path=batch.owner.path,
                too_old=accepted.too_old,
                too_new=accepted.too_new,
            )

    def _put_back(self, batch: Batch, error: AwsError) -> None:
        if isinstance(error, AnswerLost) and error.operation not in _MAKING and batch.parts:
            self._events.count("log_events_possibly_duplicated", batch.parts[0].events)
        everywhere = _concerns_all(error)
        wait = self._dispatcher.postpone(batch, everywhere=everywhere)
        self._events.trouble(
            "warning",
            "logs_not_accepted",
            "" if everywhere else f"{batch.group} {batch.stream}",
            counter="log_batches_retried",
            group=batch.group,
            stream=batch.stream,
            error=str(error),
            hint=error.hint,
            retry_in=round(wait, 2),
        )


def _is_poison(error: Refused) -> bool:
    """Whether it is for what the batch carries that AWS refuses it: a part of it may be taken."""
    about_names = any(name in error.message for name in _NAMES)
    return error.status == _TOO_LARGE or (error.code in _POISON and not about_names)


def _concerns_all(error: AwsError) -> bool:
    """Whether no other stream would fare better: AWS is away or busy, or there are no credentials."""
    if error.operation in _MAKING:
        return False
    return isinstance(error, Transient) or error.code == "NoCredentials" or error.operation == "GetCredentials"
