"""The beat of the job: at an interval's end read the machine, seal what was gathered, put it into the spool."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from agent.engine.clock import Clock
from agent.metrics.aggregate import Aggregate
from agent.metrics.collect.registry import Collection
from agent.metrics.encode import encode
from agent.metrics.spool import Spool
from agent.metrics.statsd.fold import Fold
from agent.metrics.statsd.server import Server

_LEAST = 0.05  # of an interval: a shorter rest of one is joined to the next
_HIGH_RESOLUTION = 60.0  # seconds: a shorter interval asks CloudWatch to keep samples by the second


@dataclass(frozen=True, slots=True)
class Sources:
    """Where samples come from, beside the sinks that other jobs call."""

    collection: Collection
    server: Server | None = None
    fold: Fold | None = None

    def gather(self) -> None:
        """Bring all datagrams that have arrived into the aggregate."""
        if self.server is not None and self.fold is not None:
            self.server.receive()
            self.server.say_dropped()
            self.fold.fold()


class Cadence:
    """A worker. Intervals are aligned to the wall clock: those of a minute begin with the minute.

    What an interval measured bears the time of its beginning, as CloudWatch's periods do.
    """

    name = "metrics-collect"

    def __init__(
        self,
        namespace: str,
        interval: float,
        sources: Sources,
        aggregate: Aggregate,
        spool: Spool,
        sealed: Callable[[], None],
        clock: Clock,
    ) -> None:
        """`sealed` is called after each interval that ends in its time."""
        self._namespace = namespace
        self._interval = interval
        self._sources = sources
        self._aggregate = aggregate
        self._spool = spool
        self._sealed = sealed
        self._clock = clock
        self._lock = threading.Lock()
        self._opened: float | None = None  # the open interval's beginning, monotonic seconds; None: not begun
        self._due = 0.0
        self.resting = False  # the machine is not read, and only `close_early` ends the open interval

    def step(self, now: float) -> float:
        with self._lock:
            if self._opened is None:
                self._prime(now)
            elif now >= self._due and self.resting:
                self._schedule(now)
            elif now >= self._due:
                self._read_machine()
                self._seal(now, early=False)
                self._sealed()
            return self._due

    def close_early(self, *, read_machine: bool = False) -> None:
        """End the open interval now; the next one lasts until the regular end of this one."""
        with self._lock:
            if read_machine:
                self._read_machine()
            self._seal(self._clock.monotonic(), early=True)

    def _prime(self, now: float) -> None:
        """A first reading, for the ones after it to be compared with; it is not sent."""
        for _ in self._sources.collection.collect():
            pass
        self._begin(now)

    def _read_machine(self) -> None:
        for measure in self._sources.collection.collect():
            series = self._aggregate.series(measure.name, measure.dimensions, measure.unit)
            self._aggregate.observe(series, [measure.value], [1.0], reserved=True)

    def _seal(self, now: float, *, early: bool) -> None:
        self._sources.gather()
        entries = self._aggregate.seal(self._timestamp(now), early=early)
        if entries:
            self._spool.put(self._namespace, encode(entries, high_resolution=self._interval < _HIGH_RESOLUTION))
        self._begin(now)

    def _timestamp(self, now: float) -> int:
        """The beginning of the wall-clock interval that the middle of the open one lies in.

        Told by the wall clock as it is now: it may have been set since the interval began.
        """
        lasted = 0.0 if self._opened is None else now - self._opened
        middle = self._clock.time() - lasted / 2
        return math.floor(math.floor(middle / self._interval) * self._interval)

    def _begin(self, now: float) -> None:
        self._opened = now
        self._schedule(now)

    def _schedule(self, now: float) -> None:
        left = self._interval - self._clock.time() % self._interval
        self._due = now + left + (self._interval if left < _LEAST * self._interval else 0.0)
