"""What the tests of metrics hand in, and a CloudWatch that does as it is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from conftest import Said
from hypothesis import settings

from agent.aws.errors import AwsError, Refused
from agent.engine.clock import Clock, FakeClock
from agent.engine.events import Events
from agent.metrics.aggregate import Aggregate, Rules
from agent.metrics.distribution import Distribution
from agent.metrics.job import MetricsJob
from agent.metrics.rollup import Entry
from agent.metrics.series import Series, make_series

calm = settings(max_examples=40, deadline=None, derandomize=True)
"""For properties: the same examples each time, however busy the machine is."""


class Told(Events):
    """Events, with what was said."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.log = Said()
        super().__init__(self.log, clock or FakeClock())


class FakeCloudWatch:
    """Accepts datums, unless an error is next or a datum's name is poison. Each request takes `seconds`."""

    def __init__(self, clock: FakeClock | None = None, seconds: float = 0.0) -> None:
        self.clock = clock
        self.seconds = seconds
        self.next_errors: list[AwsError] = []
        self.down: AwsError | None = None
        self.poison: set[str] = set()
        self.tries: list[list[dict[str, Any]]] = []
        self.accepted: list[dict[str, Any]] = []
        self.namespaces: list[str] = []
        self.timeouts: list[float] = []

    def put_metric_data(self, body: bytes, *, timeout: float = 20.0) -> None:
        document = orjson.loads(body)
        datums = document["MetricData"]
        self.timeouts.append(timeout)
        self.tries.append(datums)
        if self.clock is not None:
            self.clock.advance(self.seconds)
        if self.down is not None:
            raise self.down
        if self.next_errors:
            raise self.next_errors.pop(0)
        if self.poison & {datum["MetricName"] for datum in datums}:
            raise Refused("PutMetricData", "InvalidParameterValue", "the value of a datum is invalid", 400)
        self.accepted += datums
        self.namespaces.append(document["Namespace"])

    def names(self) -> list[str]:
        return [datum["MetricName"] for datum in self.accepted]

    def total(self, name: str) -> float:
        """The sum of all observations of a metric."""
        return sum(observed(datum)[1] for datum in self.accepted if datum["MetricName"] == name)


def observed(datum: Mapping[str, Any]) -> tuple[float, float]:
    """Count and sum of a datum, as CloudWatch understands it."""
    if "Value" in datum:
        return 1.0, datum["Value"]
    pairs = list(zip(datum["Values"], datum["Counts"], strict=True))
    return sum(count for _, count in pairs), sum(value * count for value, count in pairs)


def make_rules(**changes: Any) -> Rules:
    rules: dict[str, Any] = {
        "dimensions": {},
        "rollups": [],
        "max_series": 1000,
        "zero_fill": 600.0,
        "gauge_ttl": 600.0,
    }
    return Rules(**{**rules, **changes})


def make_aggregate(clock: FakeClock, events: Events, **changes: Any) -> Aggregate:
    return Aggregate(make_rules(**changes), clock, events)


def values(entries: Iterable[Entry]) -> dict[str, dict[float, float]]:
    """Counts by value, by name; for entries whose names differ."""
    found: dict[str, dict[float, float]] = {}
    for series, _, distribution in entries:
        assert series.name not in found
        found[series.name] = dict(zip(*distribution.values_and_counts(), strict=True))
    return found


def entry(name: str, value: float = 1.0, timestamp: int = 1_700_000_000, **dimensions: str) -> Entry:
    distribution = Distribution()
    distribution.add([value], [1.0])
    return make_series(name, dimensions), timestamp, distribution


def plain(name: str, **dimensions: str) -> Series:
    return make_series(name, dimensions)


def pass_time(job: MetricsJob, clock: FakeClock, seconds: float) -> None:
    """Let the workers of a job do all that is due within so many seconds, each step at its time."""
    end = clock.monotonic() + seconds
    while True:
        now = clock.monotonic()
        dues = [job._cadence.step(now), job._delivery.step(now)]
        due = min(due for due in dues if due is not None)
        if due > end:
            clock.advance(end - clock.monotonic())
            return
        clock.advance(max(0.0, due - now))
