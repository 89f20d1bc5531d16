"""The beat: aligned to the wall clock, whatever happens to it."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
from metrics_fakes import Told, make_aggregate, plain

from agent.engine.clock import FakeClock
from agent.engine.database import Database
from agent.metrics.cadence import Cadence, Sources
from agent.metrics.collect.base import Measure
from agent.metrics.collect.registry import Collection
from agent.metrics.spool import Spool

MINUTE = 1_700_000_040  # a full minute


class Counting:
    """A collector that counts its readings."""

    def __init__(self) -> None:
        self.readings = 0

    def collect(self, report):
        self.readings += 1
        return [Measure("reading", float(self.readings), "Count", {"of": "test"})]


class Bench:
    def __init__(self, start: float, interval: float = 60.0) -> None:
        self.clock = FakeClock(start)
        self.told = Told(self.clock)
        self.database = Database(":memory:")
        self.spool = Spool(self.database, 1 << 20, self.told)
        self.aggregate = make_aggregate(self.clock, self.told, dimensions={"InstanceId": "i-1"})
        self.collector = Counting()
        self.seals = 0
        sources = Sources(Collection({"test": self.collector}, self.told))
        self.cadence = Cadence("Ours", interval, sources, self.aggregate, self.spool, self.sealed, self.clock)

    def sealed(self) -> None:
        self.seals += 1

    def run(self, steps: int) -> None:
        """Step as a thread would, each step at its time."""
        for _ in range(steps):
            due = self.cadence.step(self.clock.monotonic())
            self.clock.advance(max(0.0, due - self.clock.monotonic()))

    def datums(self) -> list[dict]:
        load = self.spool.take()
        return [] if load is None else orjson.loads(b"[%b]" % b",".join(load.bodies))

    def stamps(self) -> list[int]:
        return [datum["Timestamp"] for datum in self.datums()]


@pytest.fixture
def make() -> Iterator[type[Bench]]:
    made: list[Bench] = []

    def build(start: float, interval: float = 60.0) -> Bench:
        made.append(Bench(start, interval))
        return made[-1]

    yield build  # type: ignore[misc]
    for bench in made:
        bench.database.close()


def test_intervals_end_with_the_minute_and_bear_the_time_of_their_beginning(make) -> None:
    bench = make(MINUTE + 17.5)
    bench.run(1)
    assert bench.clock.time() == MINUTE + 60
    bench.run(3)
    assert bench.stamps() == [MINUTE, MINUTE + 60, MINUTE + 120]
    assert bench.seals == 3


def test_the_first_reading_is_only_compared_with(make) -> None:
    bench = make(MINUTE + 17.5)
    bench.run(2)
    (datum,) = bench.datums()
    assert (datum["Value"], datum["Unit"]) == (2.0, "Count")
    assert datum["Dimensions"] == [{"Name": "InstanceId", "Value": "i-1"}, {"Name": "of", "Value": "test"}]


def test_below_a_minute_samples_are_of_high_resolution(make) -> None:
    for interval, resolution in ((10.0, 1), (60.0, None)):
        bench = make(MINUTE, interval)
        bench.run(2)
        assert [datum.get("StorageResolution") for datum in bench.datums()] == [resolution]


def test_a_rest_of_an_interval_too_short_to_measure_is_joined_to_the_next(make) -> None:
    bench = make(MINUTE + 59)
    bench.run(1)
    assert bench.clock.time() == MINUTE + 120
    bench.run(1)
    assert bench.stamps() == [MINUTE + 60]


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 86400.0 * 400])
def test_when_the_wall_clock_is_set_the_new_time_counts_and_the_beat_goes_on(make, jump: float) -> None:
    bench = make(MINUTE)
    bench.run(2)
    bench.clock.set_time(bench.clock.time() + jump)
    bench.run(2)
    assert sorted(bench.stamps()) == sorted([MINUTE, MINUTE + 60 + int(jump), MINUTE + 120 + int(jump)])


def test_a_late_step_bears_the_time_of_the_middle_of_what_it_covers(make) -> None:
    bench = make(MINUTE)
    bench.run(1)
    bench.clock.advance(600.0)
    bench.run(1)
    assert bench.stamps() == [MINUTE + 300]


def test_an_interval_closed_early_goes_on_to_its_regular_end(make) -> None:
    bench = make(MINUTE)
    bench.cadence.step(bench.clock.monotonic())
    bench.clock.advance(20.0)
    bench.aggregate.count(plain("hits"), 1.0)
    bench.cadence.close_early()
    assert [datum["MetricName"] for datum in bench.datums()] == ["hits"]
    assert bench.cadence.step(bench.clock.monotonic()) == bench.clock.monotonic() + 40.0
    assert bench.collector.readings == 1
    bench.clock.advance(40.0)
    bench.run(1)
    assert set(bench.stamps()) == {MINUTE}
    assert bench.seals == 1


def test_a_last_reading_can_be_asked_for(make) -> None:
    bench = make(MINUTE)
    bench.cadence.step(bench.clock.monotonic())
    bench.clock.advance(20.0)
    bench.cadence.close_early(read_machine=True)
    assert [datum["MetricName"] for datum in bench.datums()] == ["reading"]


def test_at_rest_the_machine_is_not_read_and_intervals_do_not_end(make) -> None:
    bench = make(MINUTE)
    bench.run(1)
    bench.aggregate.gauge(plain("depth"), [(1.0, False)])
    bench.cadence.close_early()
    bench.cadence.resting = True
    bench.aggregate.count(plain("hits"), 1.0)
    bench.run(3)
    assert (bench.collector.readings, bench.seals) == (1, 0)
    assert [datum["MetricName"] for datum in bench.datums()] == ["depth"]
    bench.cadence.resting = False
    bench.run(1)
    assert sorted(datum["MetricName"] for datum in bench.datums()) == ["depth", "depth", "hits", "reading"]
