"""One contract for CloudWatch Logs as the agent sees it: the fake of these tests and the real client keep it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from conftest import Environment
from logs_harness import FakeLogs

from agent.aws.errors import AnswerLost, AwsError, NotFound, Refused, Throttled
from agent.aws.limits import LOG_EVENT_BYTES
from agent.aws.logs import Logs
from agent.aws.session import Aws
from agent.engine.clock import FakeClock, SystemClock
from agent.standin.faults import Fault, Kind
from agent.standin.standin import Standin

HOUR, DAY = 3_600_000, 86_400_000  # ms


@dataclass
class Subject:
    """A client, what arrived behind it, the time there, and how to let the next call fail."""

    logs: Logs
    messages: Callable[[str, str], list[str]]
    now: Callable[[], int]
    throttle: Callable[[], object]
    lose: Callable[[], object]

    def put(self, *events: tuple[int, str], stream: str = "s") -> Any:
        """Events at times relative to now, in ms."""
        now = self.now()
        found = [{"timestamp": now + time, "message": message} for time, message in events]
        body = orjson.dumps({"logGroupName": "/g", "logStreamName": stream, "logEvents": found})
        return self.logs.put_log_events(body, len(events))

    def arrived(self) -> list[str]:
        return self.messages("/g", "s")


def fake() -> Subject:
    clock = FakeClock()
    logs = FakeLogs(clock)
    throttled = Throttled("PutLogEvents", "ThrottlingException", "Rate exceeded", 400)
    return Subject(
        logs,
        logs.messages,
        lambda: int(clock.time() * 1000),
        lambda: logs.next.append(throttled),
        lambda: logs.next.append(AnswerLost("PutLogEvents", "TimeoutError")),
    )


def real(standin: Standin, *, gzip: bool) -> tuple[Subject, Aws]:
    clock = SystemClock()
    aws = Aws(standin.region, clock)

    def next_call(kind: Kind) -> int:
        return standin.faults.add(Fault(kind, service="logs", operation="PutLogEvents", times=1))

    subject = Subject(
        Logs(aws, gzip=gzip),
        standin.logs.messages,
        lambda: int(clock.time() * 1000),
        lambda: next_call(Kind.THROTTLE),
        lambda: next_call(Kind.LOST),
    )
    return subject, aws


@pytest.fixture(scope="module")
def running() -> Iterator[Standin]:
    with Standin.start() as standin:
        yield standin


@pytest.fixture(params=["fake", "real", "real, gzip"])
def subject(request: pytest.FixtureRequest, running: Standin, environment: Environment) -> Iterator[Subject]:
    if request.param == "fake":
        yield with_stream(fake())
        return
    running.reset()
    with environment(running.environment()):
        made, aws = real(running, gzip=request.param == "real, gzip")
        yield with_stream(made)
        aws.close()


def with_stream(subject: Subject) -> Subject:
    subject.logs.create_group("/g", None, None, {})
    subject.logs.create_stream("/g", "s")
    return subject


def refusal(call: Callable[[], object]) -> AwsError:
    with pytest.raises(AwsError) as raised:
        call()
    return raised.value


def test_events_are_accepted_in_order_and_the_digest_names_the_payload(subject: Subject) -> None:
    first = subject.put((0, "a"), (1, 'b"\\\x00\U0001f600'))
    second = subject.put((0, "c"))
    assert subject.arrived() == ["a", 'b"\\\x00\U0001f600', "c"]
    assert (first.too_old, first.too_new) == (0, 0)
    assert len(first.digest) == 32
    assert first.digest != second.digest


def test_a_missing_stream_or_group_is_not_found(subject: Subject) -> None:
    assert isinstance(refusal(lambda: subject.put((0, "a"), stream="none")), NotFound)
    assert isinstance(refusal(lambda: subject.logs.create_stream("/none", "s")), NotFound)


def test_making_what_is_there_says_so(subject: Subject) -> None:
    assert subject.logs.create_group("/new", None, None, {}) is True
    assert subject.logs.create_group("/new", None, None, {}) is False
    assert subject.logs.create_stream("/new", "s") is True
    assert subject.logs.create_stream("/new", "s") is False


def test_a_group_is_described_with_its_retention(subject: Subject) -> None:
    assert subject.logs.describe_group("/none") is None
    described = subject.logs.describe_group("/g")
    assert described is not None
    assert "retentionInDays" not in described
    assert described["logGroupClass"] == "STANDARD"
    subject.logs.put_retention("/g", 7)
    assert (subject.logs.describe_group("/g") or {})["retentionInDays"] == 7


@pytest.mark.parametrize(
    "events",
    [
        [],
        [(0, "")],
        [(0, "x" * (LOG_EVENT_BYTES + 1))],
        [(0, "é" * (LOG_EVENT_BYTES // 4)), (0, "x" * (LOG_EVENT_BYTES // 2 - 24))],
        [(0, "x")] * 10_001,
        [(1, "a"), (0, "b")],
        [(-DAY - 1, "a"), (0, "b")],
    ],
    ids=["none", "empty", "long", "large", "many", "order", "span"],
)
def test_what_breaks_a_limit_is_refused_as_a_whole(subject: Subject, events: list[tuple[int, str]]) -> None:
    error = refusal(lambda: subject.put(*events))
    assert isinstance(error, Refused)
    assert error.code == "InvalidParameterException"
    assert subject.arrived() == []


def test_what_just_keeps_the_limits_is_accepted(subject: Subject) -> None:
    subject.put((0, "x" * LOG_EVENT_BYTES))
    subject.put(*[(0, "x")] * 10_000)
    subject.put((-DAY + 5000, "a"), (0, "b"))
    subject.put((0, "é" * (LOG_EVENT_BYTES // 4)), (0, "x" * (LOG_EVENT_BYTES // 2 - 26)))
    assert len(subject.arrived()) == 10_005


def test_what_is_too_old_or_too_new_is_rejected_one_by_one(subject: Subject) -> None:
    accepted = subject.put((-14 * DAY - 9000, "old"), (-60_000, "a"), (0, "b"), (2 * HOUR + 60_000, "new"))
    assert (accepted.too_old, accepted.too_new) == (1, 1)
    subject.logs.put_retention("/g", 1)
    assert subject.put((-DAY - 60_000, "expired"), (-60_000, "c")).too_old == 1
    assert subject.put((3 * HOUR, "new")).too_new == 1
    assert subject.arrived() == ["a", "b", "c"]


def test_throttling_accepts_nothing_and_a_lost_answer_comes_after_acceptance(subject: Subject) -> None:
    subject.throttle()
    assert isinstance(refusal(lambda: subject.put((0, "a"))), Throttled)
    assert subject.arrived() == []
    subject.lose()
    assert isinstance(refusal(lambda: subject.put((0, "b"))), AnswerLost)
    assert subject.arrived() == ["b"]
    subject.put((0, "c"))
    assert subject.arrived() == ["b", "c"]
