"""The samples of an interval, by series: counted, summed up or kept as distributions, and sealed at its end.

Safe to use from any thread. Sealing is one short critical section; what arrives later belongs to the next interval.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from agent.aws.limits import METRIC_NEWEST, METRIC_OLDEST
from agent.engine.clock import Clock
from agent.engine.events import Events
from agent.metrics.distribution import Distribution
from agent.metrics.rollup import Entry, roll_up
from agent.metrics.roster import Roster, refuse
from agent.metrics.series import Series, are_sendable, is_sendable, make_series

_SET_MEMBERS = 100_000  # distinct members of all sets of an interval
_TIMED = 20_000  # values with a time of their own, in an interval


@dataclass(frozen=True, slots=True)
class Rules:
    """How samples become datums, as the configuration says; times in seconds.

    `dimensions` are on every metric, unless a sample has its own of that name; `rollups` are sets of their names.
    """

    dimensions: Mapping[str, str]
    rollups: Sequence[frozenset[str]]
    max_series: int
    zero_fill: float
    gauge_ttl: float


@dataclass(slots=True)
class _Gauge:
    value: float
    updated: float  # monotonic seconds
    fresh: bool = True  # touched since the last seal


class Aggregate:
    """The open interval, and what outlives one: gauges, and counters that have fallen silent."""

    def __init__(self, rules: Rules, clock: Clock, events: Events) -> None:
        self._rules = rules
        self._clock = clock
        self._events = events
        self._lock = threading.Lock()
        self._roster = Roster(rules.max_series, events)
        self._distributions: dict[Series, Distribution] = {}
        self._counters: dict[Series, float] = {}
        self._counted: dict[Series, float] = {}  # when each counter was last heard of, monotonic seconds
        self._gauges: dict[Series, _Gauge] = {}
        self._sets: dict[Series, set[int]] = {}
        self._set_room = _SET_MEMBERS
        self._timed: dict[tuple[Series, int], float] = {}

    def series(self, name: str, dimensions: Mapping[str, str], unit: str | None = None) -> Series:
        """The series of a sample: its own dimensions, and those that every metric has."""
        return make_series(name, {**self._rules.dimensions, **dimensions}, unit)

    def observe(
        self, series: Series, values: Sequence[float], weights: Sequence[float], *, reserved: bool = False
    ) -> None:
        """Take values, each observed as often as its weight says. `reserved`: it keeps its room among max_series."""
        if not are_sendable(values):
            sendable = [self._sendable(series, value) for value in values]
            values, weights = [*compress(values, sendable)], [*compress(weights, sendable)]
        if not values:
            return
        with self._lock:
            if self._roster.admits(series, len(values), reserved=reserved):
                self._distributions.setdefault(series, Distribution()).add(values, weights)

    def count(self, series: Series, amount: float) -> None:
        """Add to a counter."""
        if not self._sendable(series, amount):
            return
        with self._lock:
            if self._roster.admits(series):
                self._counters[series] = self._counters.get(series, 0.0) + amount
                self._counted[series] = self._clock.monotonic()

    def gauge(self, series: Series, moves: Iterable[tuple[float, bool]]) -> None:
        """Set a gauge, or move it by a value that is relative (True); one that is not known moves from 0."""
        with self._lock:
            if not self._roster.admits(series):
                return
            known = self._gauges.get(series)
            level = 0.0 if known is None else known.value
            for value, relative in moves:
                level = level + value if relative else value
            if self._sendable(series, level):
                self._gauges[series] = _Gauge(level, self._clock.monotonic())

    def members(self, series: Series, members: Iterable[bytes]) -> None:
        """Add to a set, whose size is what is sent. Members are kept as 64-bit hashes."""
        found = {hash(member) for member in members}
        with self._lock:
            if not self._roster.admits(series, len(found)):
                return
            held = self._sets.setdefault(series, set())
            added = list(found - held)[: self._set_room]
            self._set_room -= len(added)
            lost = len(found - held) - len(added)
            held.update(added)
        if lost:
            self._events.count("samples_over_limit", lost)
            self._events.trouble("error", "too_many_set_members", "", metric=series.name, limit=_SET_MEMBERS)

    def timed(self, series: Series, value: float, timestamp: int, *, add: bool) -> None:
        """A value with its own time (seconds since the epoch): added to what that moment has, or in its place."""
        now = self._clock.time()
        if not now - METRIC_OLDEST < timestamp < now + METRIC_NEWEST:
            refuse(self._events, series, "its timestamp is older than two weeks, or more than two hours ahead")
            return
        if not self._sendable(series, value):
            return
        key = (series, timestamp)
        with self._lock:
            full = key not in self._timed and len(self._timed) >= _TIMED
            if not full and self._roster.admits(series):
                self._timed[key] = value + (self._timed.get(key, 0.0) if add else 0.0)
        if full:
            self._events.trouble("error", "too_many_timed_samples", "", "samples_over_limit", limit=_TIMED)

    def unsealed(self) -> int:
        """Datums that the open interval would make, silent series aside."""
        with self._lock:
            fresh = sum(gauge.fresh for gauge in self._gauges.values())
            return fresh + len(self._distributions) + len(self._counters) + len(self._sets) + len(self._timed)

    def known_series(self) -> int:
        """Series of the open interval, or of the last one while that had more; silent ones count too."""
        with self._lock:
            return self._roster.size()

    def seal(self, timestamp: int, *, early: bool) -> list[Entry]:
        """Close the interval: what each series and each roll-up measured, for `timestamp`.

        `early`, before the interval's time, silent gauges and counters are not repeated.
        """
        with self._lock:
            now = self._clock.monotonic()
            singles = [(series, timestamp, value) for series, value in self._values(now, early=early)]
            singles += [(series, at, value) for (series, at), value in self._timed.items()]
            entries = [(series, timestamp, held) for series, held in self._distributions.items()]
            self._begin(now)
        entries += [(series, at, _single(value)) for series, at, value in singles if self._sendable(series, value)]
        return entries + roll_up(entries, self._rules.rollups)

    def _values(self, now: float, *, early: bool) -> Iterator[tuple[Series, float]]:
        """What is one value an interval: counters, gauges, the sizes of sets."""
        yield from self._counters.items()
        for series, held in self._sets.items():
            yield series, float(len(held))
        for series, gauge in self._gauges.items():
            if gauge.fresh or (not early and now - gauge.updated <= self._rules.gauge_ttl):
                yield series, gauge.value
        if not early:
            for series, heard in self._counted.items():
                if series not in self._counters and now - heard <= self._rules.zero_fill:
                    yield series, 0.0

    def _begin(self, now: float) -> None:
        """Begin the next interval with the gauges and counters that are not yet forgotten."""
        gauges = {series: held for series, held in self._gauges.items() if now - held.updated < self._rules.gauge_ttl}
        for gauge in gauges.values():
            gauge.fresh = False
        counted = {series: at for series, at in self._counted.items() if now - at < self._rules.zero_fill}
        self._gauges, self._counted = gauges, counted
        self._distributions, self._counters, self._sets, self._timed = {}, {}, {}, {}
        self._set_room = _SET_MEMBERS
        self._roster.begin([*gauges, *counted])

    def _sendable(self, series: Series, value: float) -> bool:
        if is_sendable(value):
            return True
        refuse(self._events, series, "its value is beyond CloudWatch's range of 2**360")
        return False


def _single(value: float) -> Distribution:
    distribution = Distribution()
    distribution.add([value], [1.0])
    return distribution
