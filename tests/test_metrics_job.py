"""The whole job: from sources to CloudWatch, through drains, stops and restarts."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from metrics_fakes import FakeCloudWatch, Told, pass_time

from agent.aws.errors import Unreachable
from agent.config.sections.metrics import Metrics
from agent.engine.clock import FakeClock
from agent.engine.job import Job, SampleSink
from agent.engine.state import StateDirectory
from agent.metrics.collect.base import Machine
from agent.metrics.job import MetricsJob

DATA = Path(__file__).parent / "data"
DOWN = Unreachable("PutMetricData", "ConnectionRefusedError", "refused")
LOCAL = {"address": "127.0.0.1:0"}
OS = {"memory": {}, "disk": {"measurements": ["used_percent"], "mounts": ["/"]}}


def statvfs(path: str) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, 100, 30, 20, 50, 10, 10, 0, 255))


class Bench:
    """A job without its threads: the test steps its workers, as the threads would."""

    def __init__(self, directory: Path, clock: FakeClock | None = None, **section: Any) -> None:
        self.clock = clock or FakeClock(1_700_000_040.0)
        self.told = Told(self.clock)
        self.cloudwatch = FakeCloudWatch(self.clock)
        self.stopped = False
        self.state = StateDirectory.open(str(directory), "i-1", self.clock, self.told)
        given = Metrics.model_validate({"dimensions": {"InstanceId": "i-1"}, **section})
        machine = Machine(proc=str(DATA / "proc-nitro"), statvfs=statvfs)
        self.job = MetricsJob(given, self.cloudwatch, self.state, self.clock, self.told, Random(1), machine)

    def pass_time(self, seconds: float) -> None:
        pass_time(self.job, self.clock, seconds)

    def deliver(self) -> None:
        while (due := self.job._delivery.step(self.clock.monotonic())) is not None and due <= self.clock.monotonic():
            pass

    def send(self, packet: bytes) -> None:
        server = self.job._sources.server
        assert server is not None
        if not server.addresses():
            server.interrupt()
            server.step(self.clock.monotonic())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(packet, server.addresses()[0])  # type: ignore[arg-type]

    def stop(self, seconds: float) -> bool:
        self.stopped = True
        return self.job.stop(self.clock.monotonic() + seconds)

    def close(self) -> None:
        if not self.stopped:
            self.cloudwatch.down = DOWN
            self.stop(10)
        self.state.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def build(**section: Any) -> Bench:
        made.append(Bench(tmp_path / "state", **section))
        return made[-1]

    yield build
    for bench in made:
        bench.close()


def test_it_is_a_job_and_a_sample_sink(make) -> None:
    job: MetricsJob = make().job
    as_job: Job = job
    as_sink: SampleSink = job
    assert (as_job.name, as_sink.sample("n", 1.0, 1, "Count", {})) == ("metrics", None)


def test_readings_and_samples_reach_cloudwatch_within_the_minute_and_a_little(make) -> None:
    bench = make(os=OS, statsd=LOCAL)
    bench.pass_time(30)
    bench.send(b"hits:2|c")
    bench.job.sample("errors", 1.0, 3, "Count", {"file": "access.log"})
    bench.pass_time(36)
    assert sorted(bench.cloudwatch.names()) == [
        "disk_used_percent",
        "errors",
        "hits",
        "mem_available",
        "mem_used_percent",
    ]
    (errors,) = [datum for datum in bench.cloudwatch.accepted if datum["MetricName"] == "errors"]
    assert errors == {
        "MetricName": "errors",
        "Dimensions": [{"Name": "InstanceId", "Value": "i-1"}, {"Name": "file", "Value": "access.log"}],
        "Timestamp": 1_700_000_040,
        "Values": [1.0],
        "Counts": [3.0],
        "Unit": "Count",
    }
    assert bench.cloudwatch.namespaces == ["CWAgent"]


def test_samples_of_several_intervals_go_out_together_at_the_flush_interval(make) -> None:
    bench = make(os=OS, interval=10, flush_interval=60)
    bench.pass_time(600)
    assert 9 <= len(bench.cloudwatch.tries) <= 10
    assert {len(datums) for datums in bench.cloudwatch.tries[1:]} == {18}


def test_an_instance_does_not_send_at_the_full_minute_with_all_the_others(make) -> None:
    bench = make(os=OS)
    times: list[float] = []
    accept = bench.cloudwatch.put_metric_data

    class Timed:
        def put_metric_data(self, body: bytes, *, timeout: float = 20.0) -> None:
            times.append(bench.clock.time() % 60)
            accept(body, timeout=timeout)

    bench.job._delivery._publisher = Timed()
    bench.pass_time(600)
    assert all(0 < second <= 5 for second in times)
    assert len(set(times)) > 5


def test_status_and_debt_tell_what_waits(make) -> None:
    bench = make(os=OS)
    bench.cloudwatch.down = DOWN
    bench.pass_time(130)
    status = bench.job.status()["metrics"]
    assert status["series"] == 3
    assert status["spooled"] == 6
    assert status["oldest"] == "2023-11-14T22:14:00Z"
    assert status["error"] == "PutMetricData: ConnectionRefusedError: refused"
    debt = bench.job.debt()
    assert (debt.items, debt.bytes, debt.seconds) == (6, status["bytes"], None)
    bench.cloudwatch.down = None
    bench.pass_time(60)
    assert bench.job.status()["metrics"]["spooled"] == 0
    assert bench.job.status()["metrics"]["oldest"] is None
    assert bench.job.debt().items == 0
    bench.job.sample("errors", 1.0, 1, "Count", {})
    assert bench.job.debt().items == 1


def test_a_drain_closes_the_interval_early_and_is_settled_when_all_is_acknowledged(make) -> None:
    bench = make(os=OS, statsd=LOCAL)
    bench.pass_time(15)
    bench.send(b"hits:2|c")
    deadline = bench.clock.monotonic() + 60
    first = bench.job.drain(deadline)
    assert not first.settled
    assert first.receipt == {"samples": {"sent": 0, "left": 1}}
    assert [(gap.kind, gap.item) for gap in first.gaps] == [("samples", "metric spool")]
    bench.deliver()
    bench.send(b"hits:3|c")
    second = bench.job.drain(deadline)  # with a last reading
    assert (second.settled, second.receipt) == (False, {"samples": {"sent": 1, "left": 4}})
    bench.deliver()
    third = bench.job.drain(deadline)
    assert (third.settled, third.receipt, list(third.gaps)) == (True, {"samples": {"sent": 5, "left": 0}}, [])
    assert bench.cloudwatch.total("hits") == 5.0
    assert "disk_used_percent" in bench.cloudwatch.names()


def test_an_application_that_goes_on_sending_does_not_keep_a_drain_from_its_end(make) -> None:
    bench = make(statsd=LOCAL)
    proofs = None
    for _ in range(10):
        bench.send(b"hits:1|c")
        proofs = bench.job.drain(bench.clock.monotonic() + 60)
        if proofs.settled:
            break
        bench.job._delivery.step(bench.clock.monotonic())
        bench.clock.advance(1.0)
    assert proofs is not None
    assert proofs.settled
    assert bench.cloudwatch.total("hits") == proofs.receipt["samples"]["sent"] >= 2


def drain(bench: Bench, calls: int = 3):
    """As the drain's machine does: look, let the delivery work, look again."""
    for _ in range(calls):
        proofs = bench.job.drain(bench.clock.monotonic() + 60)
        bench.deliver()
    return proofs


def test_after_a_drain_nothing_is_sampled_but_what_other_jobs_hand_over_is_still_sent(make) -> None:
    bench = make(os=OS)
    assert not drain(bench, calls=1).settled
    assert drain(bench).settled
    before = len(bench.cloudwatch.accepted)
    bench.pass_time(180)
    assert len(bench.cloudwatch.accepted) == before
    bench.job.sample("late", 1.0, 1, "Count", {})
    assert not bench.job.drain(bench.clock.monotonic() + 60).settled
    bench.deliver()
    assert bench.job.drain(bench.clock.monotonic() + 60).settled
    assert bench.cloudwatch.names()[-1] == "late"


def test_what_is_sent_while_the_first_commands_of_a_drain_run_is_part_of_it(make) -> None:
    bench = make(statsd=LOCAL)
    for _ in range(5):  # the application is being stopped
        bench.send(b"hits:1|c")
        bench.job.drain(bench.clock.monotonic() + 60)
        bench.deliver()
    bench.job.resume()  # now it has stopped, and what there is is sealed
    assert drain(bench).settled
    assert bench.cloudwatch.total("hits") == 5.0


def test_a_drain_against_an_unreachable_cloudwatch_leaves_a_gap_that_says_why(make) -> None:
    bench = make(os=OS)
    bench.pass_time(1)
    bench.cloudwatch.down = DOWN
    bench.job.sample("errors", 1.0, 1, "Count", {})
    deadline = bench.clock.monotonic() + 30
    while bench.clock.monotonic() < deadline:
        proofs = bench.job.drain(deadline)
        bench.job._delivery.step(bench.clock.monotonic())
        bench.clock.advance(1.0)
    proofs = bench.job.drain(deadline)
    assert not proofs.settled
    assert proofs.receipt["samples"]["left"] == 1
    (gap,) = proofs.gaps
    assert gap.bytes > 0
    assert gap.reason == "PutMetricData: ConnectionRefusedError: refused"
    assert 5 <= len(bench.cloudwatch.tries) <= 31


def test_what_cloudwatch_refuses_during_a_drain_is_listed_and_does_not_hold_it_up(make) -> None:
    bench = make()
    bench.cloudwatch.poison = {"bad"}
    for name in ("good", "bad"):
        bench.job.sample(name, 1.0, 1, "Count", {})
    proofs = drain(bench)
    assert proofs.settled
    (refusal,) = proofs.refused
    assert (refusal.kind, refusal.count, refusal.reason) == ("samples", 1, "CloudWatch does not take them")


def test_after_a_rehearsal_all_goes_on_and_packets_of_the_meantime_are_not_lost(make) -> None:
    bench = make(os=OS, statsd=LOCAL)
    bench.pass_time(1)
    bench.send(b"hits:1|c")
    assert drain(bench).settled
    bench.send(b"hits:2|c")
    assert drain(bench).settled
    bench.job.resume()
    bench.pass_time(66)
    assert bench.cloudwatch.total("hits") == 3.0
    assert bench.cloudwatch.names().count("disk_used_percent") == 2


def test_a_stop_after_a_drain_sends_what_came_since(make) -> None:
    bench = make(statsd=LOCAL)
    drain(bench)
    bench.send(b"hits:2|c")
    assert bench.stop(10)
    assert bench.cloudwatch.total("hits") == 2.0


def test_a_stop_sends_what_it_can(make) -> None:
    bench = make(os=OS, statsd=LOCAL)
    bench.pass_time(5)
    bench.send(b"hits:2|c")
    bench.job.sample("errors", 1.0, 1, "Count", {})
    assert bench.stop(10)
    assert sorted(bench.cloudwatch.names()) == ["errors", "hits"]
    assert bench.cloudwatch.timeouts == [10.0]


def test_a_stop_that_can_not_send_leaves_all_on_disk_for_the_next_life(make, tmp_path: Path) -> None:
    bench = make()
    bench.cloudwatch.down = DOWN
    bench.job.sample("errors", 1.0, 4, "Count", {})
    assert not bench.stop(10)
    assert len(bench.cloudwatch.tries) == 1
    bench.state.close()
    again = make()
    again.pass_time(1)
    assert again.cloudwatch.total("errors") == 4.0


def test_its_threads_do_the_same_work(tmp_path: Path, make) -> None:
    bench = make(statsd=LOCAL)
    bench.job.start()
    assert [thread.name for thread in bench.job.threads] == ["metrics-collect", "statsd", "metrics-deliver"]
    bench.job.sample("errors", 1.0, 1, "Count", {})
    assert bench.stop(10)
    assert bench.cloudwatch.names() == ["errors"]


def test_without_statsd_there_is_no_thread_for_it(make) -> None:
    assert [thread.name for thread in make().job.threads] == ["metrics-collect", "metrics-deliver"]


def test_the_default_configuration_says_nothing(make) -> None:
    assert make(os={}).told.log.lines == []


@pytest.mark.parametrize("count", [0, -1])
def test_a_sample_of_no_observations_is_none(make, count: int) -> None:
    bench = make()
    bench.job.sample("errors", 1.0, count, "Count", {})
    assert bench.job.debt().items == 0
