"""What samples become at the end of an interval."""

from __future__ import annotations

import math

import pytest
from metrics_fakes import Told, make_aggregate, plain, values

from agent.engine.clock import FakeClock
from agent.metrics.aggregate import Aggregate
from agent.metrics.series import make_series


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told(clock: FakeClock) -> Told:
    return Told(clock)


def seal(aggregate: Aggregate, clock: FakeClock, *, after: float = 60.0, early: bool = False):
    clock.advance(after)
    return values(aggregate.seal(int(clock.time()), early=early))


def test_every_metric_has_the_default_dimensions_and_a_sample_may_override_them(clock, told) -> None:
    aggregate = make_aggregate(clock, told, dimensions={"InstanceId": "i-1", "Role": "web"})
    assert aggregate.series("m", {"Role": "db", "path": "/"}).dimensions == (
        ("InstanceId", "i-1"),
        ("Role", "db"),
        ("path", "/"),
    )


def test_observations_of_an_interval_become_one_distribution(clock, told) -> None:
    aggregate = make_aggregate(clock, told)
    aggregate.observe(plain("latency"), [3.0, 5.0], [1.0, 2.0])
    aggregate.observe(plain("latency"), [3.0], [10.0])
    assert seal(aggregate, clock) == {"latency": {3.0: 11.0, 5.0: 2.0}}
    assert seal(aggregate, clock) == {}


def test_a_counter_sends_its_sum_and_then_zeros_until_it_is_forgotten(clock, told) -> None:
    aggregate = make_aggregate(clock, told, zero_fill=120.0)
    aggregate.count(plain("hits"), 2.0)
    aggregate.count(plain("hits"), 0.5)
    assert seal(aggregate, clock) == {"hits": {2.5: 1.0}}
    assert seal(aggregate, clock) == {"hits": {0.0: 1.0}}
    assert seal(aggregate, clock) == {}


def test_without_zero_fill_a_silent_counter_sends_nothing(clock, told) -> None:
    aggregate = make_aggregate(clock, told, zero_fill=0.0)
    aggregate.count(plain("hits"), 1.0)
    seal(aggregate, clock)
    assert seal(aggregate, clock) == {}


def test_a_gauge_is_repeated_until_its_time_to_live_is_over(clock, told) -> None:
    aggregate = make_aggregate(clock, told, gauge_ttl=120.0)
    aggregate.gauge(plain("depth"), [(7.0, False)])
    assert [seal(aggregate, clock) for _ in range(3)] == [{"depth": {7.0: 1.0}}, {"depth": {7.0: 1.0}}, {}]


def test_the_last_value_of_a_gauge_counts_and_relative_ones_build_on_it(clock, told) -> None:
    aggregate = make_aggregate(clock, told)
    aggregate.gauge(plain("depth"), [(7.0, False)])
    aggregate.gauge(plain("depth"), [(-2.0, True)])
    seal(aggregate, clock)
    aggregate.gauge(plain("depth"), [(10.0, True)])
    aggregate.gauge(plain("other"), [(-1.0, True)])
    assert seal(aggregate, clock) == {"depth": {15.0: 1.0}, "other": {-1.0: 1.0}}


def test_an_interval_closed_early_repeats_nothing_that_is_silent(clock, told) -> None:
    aggregate = make_aggregate(clock, told)
    aggregate.gauge(plain("depth"), [(7.0, False)])
    aggregate.count(plain("hits"), 1.0)
    assert seal(aggregate, clock, after=1.0, early=True) == {"depth": {7.0: 1.0}, "hits": {1.0: 1.0}}
    assert aggregate.unsealed() == 0
    assert seal(aggregate, clock, after=1.0, early=True) == {}
    assert seal(aggregate, clock) == {"depth": {7.0: 1.0}, "hits": {0.0: 1.0}}


def test_a_set_sends_how_many_members_were_new_in_the_interval(clock, told) -> None:
    aggregate = make_aggregate(clock, told)
    aggregate.members(plain("users"), [b"a", b"b"])
    aggregate.members(plain("users"), [b"b", b"c"])
    assert seal(aggregate, clock) == {"users": {3.0: 1.0}}
    assert seal(aggregate, clock) == {}


def test_members_of_sets_beyond_the_bound_are_counted_and_said(clock, told) -> None:
    aggregate = make_aggregate(clock, told)
    aggregate.members(plain("users"), [b"%d" % number for number in range(100_003)])
    assert seal(aggregate, clock) == {"users": {100_000.0: 1.0}}
    assert told.counters()["samples_over_limit"] == 3
    assert told.log.fields("too_many_set_members")[0]["metric"] == "users"


def test_a_value_with_its_own_time_keeps_it(clock, told) -> None:
    aggregate = make_aggregate(clock, told)
    at = int(clock.time()) - 3600
    aggregate.timed(plain("hits"), 2.0, at, add=True)
    aggregate.timed(plain("hits"), 3.0, at, add=True)
    aggregate.timed(plain("depth"), 1.0, at, add=False)
    aggregate.timed(plain("depth"), 9.0, at, add=False)
    entries = aggregate.seal(int(clock.time()), early=False)
    assert {timestamp for _, timestamp, _ in entries} == {at}
    assert values(entries) == {"hits": {5.0: 1.0}, "depth": {9.0: 1.0}}


@pytest.mark.parametrize("age", [15 * 86400, -3 * 3600])
def test_a_time_that_cloudwatch_would_not_take_is_refused_and_named(clock, told, age: int) -> None:
    aggregate = make_aggregate(clock, told)
    aggregate.timed(plain("hits"), 1.0, int(clock.time()) - age, add=True)
    assert aggregate.unsealed() == 0
    assert told.counters()["samples_refused"] == 1
    assert told.log.fields("sample_refused")[0]["series"] == "hits{}"


def test_series_over_the_limit_are_dropped_counted_and_named(clock, told) -> None:
    aggregate = make_aggregate(clock, told, max_series=2)
    for name in ("a", "b", "c", "d", "a", "c"):
        aggregate.observe(plain(name), [1.0], [1.0])
    assert seal(aggregate, clock) == {"a": {1.0: 2.0}, "b": {1.0: 1.0}}
    assert told.counters()["samples_over_max_series"] == 3
    assert told.log.fields("max_series_reached")[0]["metrics"] == ["c", "d"]
    assert told.log.fields("max_series_reached")[0]["dropped"] == 3
    seal(aggregate, clock)
    assert "max_series_enough_again" in told.log.names()


def test_names_of_series_over_the_limit_are_bounded_in_number(clock, told) -> None:
    aggregate = make_aggregate(clock, told, max_series=1)
    for number in range(100):
        aggregate.count(plain(f"m{number}"), 1.0)
    seal(aggregate, clock)
    assert len(told.log.fields("max_series_reached")[0]["metrics"]) == 10


def test_silent_gauges_and_counters_count_among_the_series(clock, told) -> None:
    aggregate = make_aggregate(clock, told, max_series=2)
    aggregate.gauge(plain("depth"), [(1.0, False)])
    aggregate.count(plain("hits"), 1.0)
    seal(aggregate, clock)
    assert aggregate.known_series() == 2
    aggregate.count(plain("late"), 1.0)
    assert "late" not in seal(aggregate, clock)


def test_an_application_with_too_many_series_can_not_push_out_the_reserved_ones(clock, told) -> None:
    aggregate = make_aggregate(clock, told, max_series=10)

    def interval():
        for number in range(50):
            aggregate.count(plain(f"app{number}"), 1.0)
        for name in ("cpu", "mem"):
            aggregate.observe(plain(name), [1.0], [1.0], reserved=True)
        return seal(aggregate, clock)

    aggregate.observe(plain("cpu"), [1.0], [1.0], reserved=True)
    aggregate.observe(plain("mem"), [1.0], [1.0], reserved=True)
    seal(aggregate, clock)
    sealed = interval()
    assert len(sealed) == 10
    assert {"cpu", "mem"} <= set(sealed)


def test_a_value_out_of_range_does_not_spoil_the_others_of_its_series(clock, told) -> None:
    aggregate = make_aggregate(clock, told)
    at = int(clock.time())
    for value in (1.0, 1e200, 2.0):
        aggregate.count(plain("hits"), value)
        aggregate.gauge(plain("depth"), [(value, False)])
        aggregate.timed(plain("timed"), value, at, add=True)
    assert seal(aggregate, clock) == {"hits": {3.0: 1.0}, "depth": {2.0: 1.0}, "timed": {3.0: 1.0}}
    assert told.counters()["samples_refused"] == 3


def test_a_sum_that_grows_out_of_range_is_dropped_counted_and_named(clock, told) -> None:
    aggregate = make_aggregate(clock, told)
    for _ in range(3):
        aggregate.count(plain("hits"), 2.0**359)
    assert seal(aggregate, clock) == {}
    assert told.counters()["samples_refused"] == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e200])
def test_a_value_out_of_range_is_dropped_counted_and_named(clock, told, value: float) -> None:
    aggregate = make_aggregate(clock, told)
    aggregate.observe(plain("m"), [1.0, value], [1.0, 1.0])
    aggregate.gauge(plain("depth"), [(value, False)])
    assert seal(aggregate, clock) == {"m": {1.0: 1.0}}
    assert told.counters()["samples_refused"] == 2
    assert told.log.fields("sample_refused")[0]["series"] == "m{}"


def test_a_series_that_cloudwatch_would_refuse_is_dropped_counted_and_named(clock, told) -> None:
    aggregate = make_aggregate(clock, told)
    aggregate.observe(plain("größe"), [1.0, 2.0], [1.0, 1.0])
    aggregate.count(plain("m", d="ä"), 1.0)
    assert seal(aggregate, clock) == {}
    assert told.counters()["samples_refused"] == 3


def test_roll_ups_join_what_differs_in_other_dimensions_only(clock, told) -> None:
    sets = [frozenset(["InstanceId"]), frozenset()]
    aggregate = make_aggregate(clock, told, dimensions={"InstanceId": "i-1"}, rollups=sets)
    for path, value in (("/", 10.0), ("/data", 30.0)):
        aggregate.observe(aggregate.series("used", {"path": path}, "Percent"), [value], [1.0])
    aggregate.count(aggregate.series("hits", {"path": "/"}), 3.0)
    aggregate.count(aggregate.series("hits", {"path": "/data"}), 4.0)
    told_by_series = {
        (series, timestamp): dict(zip(*held.values_and_counts(), strict=True))
        for series, timestamp, held in aggregate.seal(60, early=False)
    }
    assert len(told_by_series) == 8
    assert told_by_series[make_series("used", {"InstanceId": "i-1"}, "Percent"), 60] == {10.0: 1.0, 30.0: 1.0}
    assert told_by_series[make_series("used", {}, "Percent"), 60] == {10.0: 1.0, 30.0: 1.0}
    assert told_by_series[make_series("hits", {}), 60] == {3.0: 1.0, 4.0: 1.0}


def test_a_roll_up_passes_over_metrics_that_lack_one_of_its_dimensions_or_have_no_other(clock, told) -> None:
    sets = [frozenset(["InstanceId", "path"]), frozenset(["InstanceId"])]
    aggregate = make_aggregate(clock, told, dimensions={"InstanceId": "i-1"}, rollups=sets)
    aggregate.gauge(aggregate.series("depth", {}), [(1.0, False)])
    aggregate.gauge(aggregate.series("used", {"path": "/"}), [(1.0, False)])
    names = [(series.name, len(series.dimensions)) for series, _, _ in aggregate.seal(60, early=False)]
    assert sorted(names) == [("depth", 1), ("used", 1), ("used", 2)]
