"""CloudWatch Logs: what AWS has taken, what it has rejected one by one, and what was no answer of AWS at all."""

from __future__ import annotations

import hashlib
import time
import zlib
from typing import Any

import orjson
import pytest
from botocore.credentials import ReadOnlyCredentials
from raw_server import RawServer, http, read_request, saying

from agent.aws.errors import AnswerLost, AwsError, Denied, NotFound, Refused, ServerFault, Throttled
from agent.aws.logs import Accepted, Logs
from agent.aws.session import Aws
from agent.aws.wire import Route, Wire
from agent.engine.clock import SystemClock
from agent.standin.standin import Standin

DAY_MS = 86_400_000


@pytest.fixture
def logs(aws: Aws) -> Logs:
    logs = Logs(aws, gzip=False)
    logs.create_group("/app", None, None, {})
    logs.create_stream("/app", "i-1")
    return logs


def request(*timestamps: int) -> bytes:
    events = [{"timestamp": when, "message": f"event {number}"} for number, when in enumerate(timestamps)]
    return orjson.dumps({"logGroupName": "/app", "logStreamName": "i-1", "logEvents": events})


def now_ms() -> int:
    return int(time.time() * 1000)


class OneWire:
    """What `Logs` needs of `Aws`: one wire, to a server that answers as it is told."""

    def __init__(self, url: str) -> None:
        self._wire = Wire(
            Route(url, "eu-west-1", "logs"), lambda: ReadOnlyCredentials("AKIA", "secret", None), SystemClock()
        )

    def wire(self, service: str) -> Wire:
        assert service == "logs"
        return self._wire


def put_to(answer: bytes, events: int = 10) -> Accepted:
    """What `put_log_events` makes of an answer."""
    with RawServer(saying(answer)) as server:
        aws: Any = OneWire(server.url)
        try:
            return Logs(aws, gzip=False).put_log_events(b"{}", events)
        finally:
            aws.wire("logs").close()


# sending


def test_events_arrive(standin: Standin, logs: Logs) -> None:
    body = request(now_ms() - 1, now_ms())
    assert logs.put_log_events(body, 2) == Accepted(0, 0, hashlib.sha256(body).digest())
    assert standin.logs.messages("/app", "i-1") == ["event 0", "event 1"]


def test_compressed_events_arrive_and_the_digest_is_of_what_was_sent(standin: Standin, aws: Aws, logs: Logs) -> None:
    body = request(*[now_ms()] * 500)
    accepted = Logs(aws, gzip=True).put_log_events(body, 500)
    assert len(standin.logs.messages("/app", "i-1")) == 500
    assert standin.journal.calls("logs", "PutLogEvents")[0].received < len(body) / 5
    assert accepted.digest != hashlib.sha256(body).digest()


def test_the_digest_is_that_of_the_bytes_on_the_wire() -> None:
    sent: list[bytes] = []

    def talk(connection: Any) -> None:
        head, body = read_request(connection)
        sent.extend((head, body))
        connection.sendall(http())

    with RawServer(talk) as server:
        aws: Any = OneWire(server.url)
        accepted = Logs(aws, gzip=True).put_log_events(request(1), 1)
        aws.wire("logs").close()
    head, body = sent
    assert b"\r\nContent-Encoding: gzip\r\n" in head
    assert zlib.decompress(body, 31) == request(1)
    assert accepted.digest == hashlib.sha256(body).digest()


# rejected one by one


@pytest.mark.parametrize(
    ("info", "too_old", "too_new"),
    [
        (None, 0, 0),
        ({}, 0, 0),
        ({"tooOldLogEventEndIndex": 3}, 3, 0),  # exclusive: events 0, 1 and 2
        ({"expiredLogEventEndIndex": 4}, 4, 0),
        ({"tooOldLogEventEndIndex": 3, "expiredLogEventEndIndex": 5}, 5, 0),  # of one and the same front
        ({"tooOldLogEventEndIndex": 5, "expiredLogEventEndIndex": 3}, 5, 0),
        ({"tooNewLogEventStartIndex": 8}, 0, 2),  # inclusive: events 8 and 9
        ({"tooNewLogEventStartIndex": 0}, 0, 10),
        ({"tooNewLogEventStartIndex": 9}, 0, 1),
        ({"tooNewLogEventStartIndex": 10}, 0, 0),
        ({"tooOldLogEventEndIndex": 2, "tooNewLogEventStartIndex": 7}, 2, 3),
        ({"tooOldLogEventEndIndex": 10}, 10, 0),
        ({"tooOldLogEventEndIndex": None, "tooNewLogEventStartIndex": None}, 0, 0),
    ],
)
def test_indices_of_rejected_events_are_counted_as_aws_means_them(
    info: dict[str, int] | None, too_old: int, too_new: int
) -> None:
    accepted = put_to(http(orjson.dumps({"rejectedLogEventsInfo": info})), events=10)
    assert (accepted.too_old, accepted.too_new) == (too_old, too_new)


def test_events_that_the_service_rejects_are_counted(standin: Standin, logs: Logs) -> None:
    old = logs.put_log_events(request(now_ms() - 15 * DAY_MS, now_ms() - 15 * DAY_MS, now_ms()), 3)
    new = logs.put_log_events(request(now_ms(), now_ms() + DAY_MS // 8), 2)
    logs.put_retention("/app", 1)
    expired = logs.put_log_events(request(now_ms() - 2 * DAY_MS, now_ms()), 2)
    assert [(each.too_old, each.too_new) for each in (old, new, expired)] == [(2, 0), (0, 1), (1, 0)]
    assert standin.logs.messages("/app", "i-1") == ["event 2", "event 0", "event 1"]


# what is no receipt


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Blocked by policy</html>", b"[]", b"null", b'"ok"', b'{"nextSequenceToken": '],
)
def test_status_200_without_aws_json_is_no_receipt(body: bytes) -> None:
    """A captive portal, or a proxy that blocks politely."""
    with pytest.raises(AnswerLost):
        put_to(http(body))


def test_any_object_is_a_receipt() -> None:
    assert put_to(http(b"{}")).too_old == 0


# errors


@pytest.mark.parametrize(
    ("body", "headers", "code", "message"),
    [
        ({"__type": "ThrottlingException", "message": "slow"}, (), "ThrottlingException", "slow"),
        ({"__type": "com.amazonaws.logs#ThrottlingException"}, (), "ThrottlingException", ""),
        ({"__type": "ThrottlingException:http://internal.amazon.com/x#y"}, (), "ThrottlingException", ""),
        ({"__type": "com.a#ThrottlingException:http://a/b"}, (), "ThrottlingException", ""),
        ({"__type": "ThrottlingException", "Message": "slow"}, (), "ThrottlingException", "slow"),
        ({"message": "slow"}, ("x-amzn-ErrorType: ThrottlingException:http://a",), "ThrottlingException", "slow"),
        ({"code": "ThrottlingException"}, (), "ThrottlingException", ""),
        ({"__type": "ThrottlingException", "message": None}, (), "ThrottlingException", ""),
    ],
)
def test_an_error_may_be_written_in_several_ways(
    body: dict[str, str], headers: tuple[str, ...], code: str, message: str
) -> None:
    with pytest.raises(Throttled) as caught:
        put_to(http(orjson.dumps(body), "400 Bad Request", *headers))
    assert (caught.value.code, caught.value.message, caught.value.status) == (code, message, 400)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (http(b"<html>Bad Gateway</html>", "502 Bad Gateway"), ServerFault),
        (http(b"", "503 Service Unavailable"), ServerFault),
        (http(b"[]", "500 Internal Server Error"), ServerFault),
        (http(b"\xff", "403 Forbidden"), Denied),
        (http(b"", "429 Too Many Requests"), Throttled),
        (http(b"", "413 Payload Too Large"), Refused),
    ],
)
def test_an_error_without_a_code_is_told_by_its_status(answer: bytes, kind: type[AwsError]) -> None:
    with pytest.raises(kind):
        put_to(answer)


def test_a_batch_that_aws_will_not_have_is_refused(logs: Logs) -> None:
    with pytest.raises(Refused) as caught:
        logs.put_log_events(request(now_ms(), now_ms() - 5), 2)  # not in order
    assert caught.value.code == "InvalidParameterException"


def test_a_stream_that_is_not_there_is_not_found(standin: Standin, aws: Aws) -> None:
    with pytest.raises(NotFound):
        Logs(aws, gzip=False).put_log_events(request(now_ms()), 1)


# groups and streams


def test_making_what_is_there_is_no_error(standin: Standin, aws: Aws) -> None:
    logs = Logs(aws, gzip=False)
    groups = [logs.create_group("/app", "INFREQUENT_ACCESS", None, {"team": "a"}) for _ in range(2)]
    streams = [logs.create_stream("/app", "i-1") for _ in range(2)]
    assert (groups, streams) == ([True, False], [True, False])
    group = standin.logs.groups()["/app"]
    assert (group.log_class, group.tags, group.kms_key) == ("INFREQUENT_ACCESS", {"team": "a"}, None)


def test_a_stream_without_its_group_is_not_found(aws: Aws) -> None:
    with pytest.raises(NotFound):
        Logs(aws, gzip=False).create_stream("/none", "i-1")


def test_a_group_is_described_by_its_exact_name(aws: Aws) -> None:
    logs = Logs(aws, gzip=False)
    for number in range(60):
        logs.create_group(f"/app/{number}", None, None, {})
    assert logs.describe_group("/app") is None
    logs.create_group("/app", None, None, {})
    found = logs.describe_group("/app")
    assert found is not None
    assert found["logGroupName"] == "/app"


def test_retention_is_set(standin: Standin, logs: Logs) -> None:
    logs.put_retention("/app", 30)
    assert standin.logs.groups()["/app"].retention == 30
