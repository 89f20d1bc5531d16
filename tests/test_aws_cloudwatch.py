"""PutMetricData over the wire, against a stand-in that verifies signatures and limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any

import pytest
from botocore.credentials import ReadOnlyCredentials
from metrics_fakes import Told, entry, pass_time

from agent.aws.cloudwatch import CloudWatch
from agent.aws.errors import AnswerLost, AwsError, Denied, Refused, ServerFault, Throttled, Unreachable
from agent.aws.wire import Route, Wire
from agent.config.sections.metrics import Metrics
from agent.engine.clock import FakeClock, SystemClock
from agent.engine.state import StateDirectory
from agent.metrics.collect.base import Machine
from agent.metrics.encode import encode, request
from agent.metrics.job import MetricsJob
from agent.metrics.rollup import Entry
from agent.standin.faults import Fault, Kind
from agent.standin.keys import ACCESS_KEY, SECRET_KEY
from agent.standin.message import Response
from agent.standin.server import Server
from agent.standin.standin import Standin

START = 1_700_000_040.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
def standin(clock: FakeClock) -> Iterator[Standin]:
    with Standin.start(clock=clock.time) as standin:
        yield standin


@pytest.fixture
def wire(standin: Standin) -> Iterator[Wire]:
    wire = make_wire(standin.url)
    yield wire
    wire.close()


def make_wire(url: str, secret: str = SECRET_KEY, kind: type[Wire] = Wire) -> Wire:
    route = Route(url, "eu-west-1", "monitoring")
    return kind(route, lambda: ReadOnlyCredentials(ACCESS_KEY, secret, None), SystemClock())


def body(*entries: Entry, namespace: str = "CWAgent") -> bytes:
    return request(namespace, [fragment.body for fragment in encode(entries, high_resolution=False)])


def test_what_is_put_is_what_arrives(standin: Standin, wire: Wire) -> None:
    CloudWatch(wire).put_metric_data(body(entry("m", 1.5, int(START), path="/")))
    (datum,) = standin.monitoring.datums("CWAgent")
    assert (datum["MetricName"], datum["Value"], datum["Timestamp"]) == ("m", 1.5, int(START))
    assert datum["Dimensions"] == {"path": "/"}


class Kept(Wire):
    """A wire that keeps the headers of what it sends."""

    sent: list[dict[str, str]]

    def send(self, *arguments: Any, **options: Any) -> Any:
        self.sent = [*getattr(self, "sent", []), arguments[3]]
        return super().send(*arguments, **options)


@pytest.mark.parametrize(("datums", "encoding"), [(5, None), (1000, "gzip")])
def test_a_large_body_is_compressed_and_a_small_one_is_not(
    standin: Standin, datums: int, encoding: str | None
) -> None:
    wire = make_wire(standin.url, kind=Kept)
    CloudWatch(wire).put_metric_data(body(*(entry(f"m{number}", 1.0, int(START)) for number in range(datums))))
    assert len(list(standin.monitoring.datums())) == datums
    assert [headers.get("Content-Encoding") for headers in wire.sent] == [encoding]  # type: ignore[attr-defined]
    wire.close()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(Kind.THROTTLE), Throttled),
        (Fault(Kind.ERROR, status=500, code="InternalServiceError"), ServerFault),
        (Fault(Kind.ERROR, status=503, code=""), ServerFault),
        (Fault(Kind.ERROR, status=400, code="AccessDenied"), Denied),
        (Fault(Kind.LOST), AnswerLost),
        (Fault(Kind.RESET), AnswerLost),
    ],
)
def test_each_failure_is_the_error_that_tells_what_to_do(standin: Standin, wire: Wire, fault, error) -> None:
    standin.faults.add(fault)
    with pytest.raises(error):
        CloudWatch(wire).put_metric_data(body(entry("m", 1.0, int(START))))


def test_a_datum_that_breaks_a_rule_is_refused_with_cloudwatchs_own_words(wire: Wire) -> None:
    with pytest.raises(Refused) as raised:
        CloudWatch(wire).put_metric_data(body(entry("m", 1.0, int(START) - 15 * 86400)))
    assert raised.value.code == "InvalidParameterValue"
    assert "past two weeks" in raised.value.message


def test_a_wrong_key_is_denied(standin: Standin) -> None:
    wire = make_wire(standin.url, "wrong")
    with pytest.raises(Denied):
        CloudWatch(wire).put_metric_data(body(entry("m", 1.0, int(START))))
    wire.close()


@pytest.mark.parametrize(
    ("answer", "error"), [(b"", None), (b"{}", None), (b"<html>", AnswerLost), (b"[]", AnswerLost)]
)
def test_an_answer_that_is_not_cloudwatchs_is_no_acknowledgement(
    answer: bytes, error: type[Exception] | None
) -> None:
    server = Server(lambda request: Response(200, answer))
    wire = make_wire(f"http://127.0.0.1:{server.port}")
    with pytest.raises(error) if error else nullcontext():
        CloudWatch(wire).put_metric_data(b"{}")
    wire.close()
    server.close()


@pytest.mark.parametrize(
    ("headers", "answer", "code"),
    [
        (
            {},
            b'{"__type": "com.amazonaws.cloudwatch#LimitExceededFault:http://x/#y", "Message": "m"}',
            "LimitExceededFault",
        ),
        ({"x-amzn-query-error": "InvalidParameterValue;Sender"}, b'{"__type": "Other"}', "InvalidParameterValue"),
        ({"x-amzn-errortype": "MissingParameter:"}, b"", "MissingParameter"),
        ({}, b"<html>", ""),
    ],
)
def test_the_code_of_an_error_is_found_wherever_it_stands(headers: dict[str, str], answer: bytes, code: str) -> None:
    server = Server(lambda request: Response(400, answer, headers))
    wire = make_wire(f"http://127.0.0.1:{server.port}")
    with pytest.raises(AwsError) as raised:
        CloudWatch(wire).put_metric_data(b"{}")
    assert raised.value.code == code
    wire.close()
    server.close()


def test_nobody_there_is_unreachable(standin: Standin) -> None:
    standin.close()
    with pytest.raises(Unreachable):
        CloudWatch(make_wire(standin.url)).put_metric_data(body(entry("m", 1.0, int(START))))


def test_an_hour_without_cloudwatch_loses_no_sample(
    standin: Standin, wire: Wire, clock: FakeClock, tmp_path: Path
) -> None:
    told = Told(clock)
    state = StateDirectory.open(str(tmp_path), "i-1", clock, told)
    section = Metrics.model_validate(
        {"dimensions": {"InstanceId": "i-1"}, "aggregate": [[]], "os": {"memory": {}, "cpu": {}, "swap": {}}}
    )
    machine = Machine(proc=str(Path(__file__).parent / "data" / "proc-nitro"))
    job = MetricsJob(section, CloudWatch(wire), state, clock, told, Random(1), machine)
    standin.faults.add(Fault(Kind.ERROR, for_seconds=3600.0))
    pass_time(job, clock, 30)
    for minute in range(62):
        for value in range(200):
            job.sample("latency", float(value + minute), 1, "Milliseconds", {})
        pass_time(job, clock, 60)
    pass_time(job, clock, 120)
    counts = {
        series.name: statistics.count
        for series, statistics in standin.monitoring.series().items()
        if series.dimensions
    }
    assert counts["mem_used_percent"] == counts["mem_available"] == counts["swap_used_percent"] == 64
    whole = standin.monitoring.statistics("CWAgent", "latency", {"InstanceId": "i-1"})
    rolled = standin.monitoring.statistics("CWAgent", "latency", {})
    assert whole is not None
    assert rolled is not None
    assert (whole.count, whole.minimum, whole.maximum) == (62 * 200, 0.0, 199.0 + 61)
    assert whole.sum == pytest.approx(sum(value + minute for value in range(200) for minute in range(62)))
    assert (rolled.count, rolled.sum) == (whole.count, pytest.approx(whole.sum))
    stamps = {datum["Timestamp"] for datum in standin.monitoring.datums("CWAgent", "latency")}
    assert stamps == {int(START) + 60 * minute for minute in range(62)}
    assert job.stop(clock.monotonic() + 5)
    state.close()
