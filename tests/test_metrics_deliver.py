"""Only what CloudWatch has acknowledged leaves the spool; what it will never take is found and named."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from metrics_fakes import FakeCloudWatch, Told, entry

from agent.aws.errors import AnswerLost, Denied, Throttled, Unreachable
from agent.engine.clock import FakeClock
from agent.engine.database import Database
from agent.metrics.deliver import Delivery
from agent.metrics.encode import encode
from agent.metrics.spool import Spool

DAY = 86400.0


class Bench:
    """A delivery, and all that it works with."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.told = Told(self.clock)
        self.database = Database(":memory:")
        self.spool = Spool(self.database, 64 << 20, self.told)
        self.cloudwatch = FakeCloudWatch(self.clock)
        self.delivery = Delivery(self.cloudwatch, self.spool, 13 * DAY, self.clock, self.told, Random(1))

    def put(self, *names: str, age: float = 0.0) -> None:
        timestamp = int(self.clock.time() - age)
        self.spool.put("CWAgent", encode([entry(name, timestamp=timestamp) for name in names], high_resolution=False))
        self.delivery.want(self.clock.monotonic())

    def run(self, until: float = 0.0) -> int:
        """Step as a thread would, letting the clock jump to each next step within `until` seconds; how many steps."""
        end = self.clock.monotonic() + until
        steps = 0
        while True:
            due = self.delivery.step(self.clock.monotonic())
            steps += 1
            if due is None or due > end:
                return steps
            self.clock.advance(max(0.0, due - self.clock.monotonic()))


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.database.close()


def test_what_is_accepted_leaves_the_spool(bench: Bench) -> None:
    bench.put("a", "b")
    bench.run()
    assert bench.cloudwatch.names() == ["a", "b"]
    assert bench.spool.datums == 0
    assert bench.delivery.sent == bench.told.counters()["samples_sent"] == 2


def test_nothing_is_sent_before_its_time(bench: Bench) -> None:
    bench.run()
    bench.spool.put("CWAgent", encode([entry("a")], high_resolution=False))
    bench.delivery.want(bench.clock.monotonic() + 30)
    assert bench.delivery.step(bench.clock.monotonic()) == bench.clock.monotonic() + 30
    assert bench.cloudwatch.tries == []
    bench.run(until=31)
    assert bench.cloudwatch.names() == ["a"]


def test_what_an_earlier_life_left_is_sent_at_once(bench: Bench) -> None:
    bench.spool.put("CWAgent", encode([entry("a")], high_resolution=False))
    bench.run()
    assert bench.cloudwatch.names() == ["a"]


def test_many_intervals_go_in_one_request(bench: Bench) -> None:
    for minute in range(100):
        bench.put("a", "b", age=6000 - 60 * minute)
    bench.run()
    assert [len(datums) for datums in bench.cloudwatch.tries] == [200]


def test_an_outage_of_an_hour_loses_nothing_and_keeps_the_timestamps(bench: Bench) -> None:
    bench.cloudwatch.down = Unreachable("PutMetricData", "ConnectionRefusedError", "refused")
    stamps = []
    for _ in range(60):
        bench.put("m")
        stamps.append(int(bench.clock.time()))
        bench.run(until=59)
        bench.clock.advance(60 - bench.clock.monotonic() % 60)
    assert bench.spool.datums == 60
    assert bench.delivery.error == "PutMetricData: ConnectionRefusedError: refused"
    assert 60 <= len(bench.cloudwatch.tries) <= 600  # neither hammered nor given up
    assert 1 < len(bench.told.log.fields("metrics_not_delivered")) < 12  # said at growing intervals
    bench.cloudwatch.down = None
    bench.run(until=61)
    assert [datum["Timestamp"] for datum in bench.cloudwatch.accepted] == stamps
    assert bench.told.log.names()[-1] == "metrics_delivered_again"
    assert bench.delivery.error is None


def test_after_an_outage_the_present_does_not_wait_for_the_past(bench: Bench) -> None:
    for batch in range(6):
        bench.put(*(f"m{number}" for number in range(900)), age=7200 - 60 * batch)
    bench.put("now")
    bench.delivery.step(bench.clock.monotonic())
    bench.delivery.step(bench.clock.monotonic())
    assert "now" in bench.cloudwatch.names()
    assert bench.cloudwatch.accepted[0]["Timestamp"] == int(bench.clock.time() - 7200)
    bench.run()
    assert bench.spool.datums == 0
    assert len(bench.cloudwatch.accepted) == 5401


@pytest.mark.parametrize(
    ("error", "level"),
    [(Throttled("PutMetricData", "Throttling"), "warning"), (Denied("PutMetricData", "AccessDenied"), "error")],
)
def test_throttled_or_denied_samples_are_kept_and_tried_again_after_a_while(bench: Bench, error, level) -> None:
    bench.cloudwatch.next_errors = [error, error, error]
    bench.put("a")
    bench.run()
    assert len(bench.cloudwatch.tries) == 1
    assert bench.spool.datums == 1
    bench.run(until=60)
    assert bench.cloudwatch.names() == ["a"]
    said = [(spoken, event) for spoken, event, _ in bench.told.log.lines]
    assert said == [(level, "metrics_not_delivered"), ("info", "metrics_delivered_again")]
    assert bench.told.counters()["metrics_retries"] == 3


def test_new_samples_do_not_shorten_the_wait_after_a_failure(bench: Bench) -> None:
    bench.cloudwatch.down = Throttled("PutMetricData", "Throttling")
    bench.put("a")
    bench.run()
    bench.put("b")
    bench.run()
    assert len(bench.cloudwatch.tries) == 1


def test_a_lost_answer_is_sent_again_and_counted_as_a_possible_duplicate(bench: Bench) -> None:
    bench.cloudwatch.next_errors = [AnswerLost("PutMetricData", "TimeoutError")]
    bench.put("a", "b")
    bench.run(until=60)
    assert bench.cloudwatch.names() == ["a", "b"]
    assert bench.told.counters()["samples_possibly_duplicated"] == 2


def test_a_poisonous_datum_is_found_by_halving_dropped_and_named(bench: Bench) -> None:
    bench.cloudwatch.poison = {"m137"}
    bench.put(*(f"m{number}" for number in range(1000)))
    bench.run()
    assert bench.spool.datums == 0
    assert sorted(bench.cloudwatch.names()) == sorted(f"m{number}" for number in range(1000) if number != 137)
    assert len(bench.cloudwatch.tries) <= 22  # twice the logarithm
    (said,) = bench.told.log.fields("sample_refused_by_cloudwatch")
    assert said["series"] == "m137{}"
    assert bench.spool.dropped == {"refused": 1}
    assert bench.told.counters()["samples_refused"] == 1


def test_poison_in_many_places_is_found(bench: Bench) -> None:
    bench.cloudwatch.poison = {f"m{number}" for number in range(0, 100, 10)}
    bench.put(*(f"m{number}" for number in range(100)))
    bench.run()
    assert bench.spool.datums == 0
    assert len(bench.cloudwatch.accepted) == 90
    assert bench.spool.dropped == {"refused": 10}


def test_when_all_is_refused_the_fault_is_not_in_the_samples_and_they_are_kept(bench: Bench) -> None:
    names = [f"m{number}" for number in range(100)]
    bench.cloudwatch.poison = set(names)
    bench.put(*names)
    bench.run(until=600)
    assert bench.spool.datums == 100 - 16
    assert bench.delivery.error == "PutMetricData: InvalidParameterValue: the value of a datum is invalid"
    bench.cloudwatch.poison = set()
    bench.run(until=600)
    assert len(bench.cloudwatch.accepted) == 100 - 16


def test_a_long_row_of_poison_does_not_block_what_is_sound(bench: Bench) -> None:
    bench.cloudwatch.poison = {f"bad{number}" for number in range(40)}
    bench.put(*sorted(bench.cloudwatch.poison), age=3600)
    bench.run(until=120)
    bench.put("good1")
    bench.run(until=600)
    bench.put("good2")
    bench.run(until=3600)
    assert bench.cloudwatch.names() == ["good1", "good2"]
    assert bench.spool.datums <= 40 - 2 * 16


def test_what_is_too_old_is_dropped_before_it_is_sent(bench: Bench) -> None:
    bench.put("old", age=13 * DAY + 10)
    bench.put("young", age=13 * DAY - 10)
    bench.run()
    assert bench.cloudwatch.names() == ["young"]
    assert bench.spool.dropped == {"expired": 1}


def test_in_a_hurry_nothing_waits_for_its_time_and_the_deadline_bounds_each_request(bench: Bench) -> None:
    bench.cloudwatch.down = Throttled("PutMetricData", "Throttling")
    bench.put("a")
    for _ in range(8):
        bench.run(until=100)
    tries = len(bench.cloudwatch.tries)
    bench.delivery.hurry(bench.clock.monotonic() + 8.0)
    bench.delivery.step(bench.clock.monotonic())
    assert len(bench.cloudwatch.tries) == tries + 1
    assert bench.cloudwatch.timeouts[-1] == 8.0
    due = bench.delivery.step(bench.clock.monotonic())
    assert due is not None
    assert due - bench.clock.monotonic() <= 5.0


def test_a_hurry_that_goes_on_does_not_undo_the_wait_after_a_failure(bench: Bench) -> None:
    bench.cloudwatch.down = Throttled("PutMetricData", "Throttling")
    bench.put("a")
    for _ in range(5):
        bench.delivery.hurry(bench.clock.monotonic() + 60.0)
        bench.delivery.step(bench.clock.monotonic())
    assert len(bench.cloudwatch.tries) == 1


def test_the_speed_is_known_after_the_first_success(bench: Bench) -> None:
    bench.cloudwatch.seconds = 0.5
    assert bench.delivery.speed is None
    bench.put("a", "b")
    bench.run()
    assert bench.delivery.speed == pytest.approx(4.0)
