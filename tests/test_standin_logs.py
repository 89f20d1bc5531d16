"""CloudWatch Logs: the documented limits of PutLogEvents, one by one, and what can be read back."""

import gzip
import http.client
import tracemalloc
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from agent.standin.errors import ApiError
from agent.standin.keys import ACCESS_KEY, SECRET_KEY
from agent.standin.log_limits import DAY, MAX_BATCH, OVERHEAD
from agent.standin.logs import Logs
from agent.standin.standin import Standin
from agent.standin.tape import Tape

NOW = 1_700_000_000  # seconds
NOW_MS = NOW * 1000
HOUR = 3_600_000  # milliseconds
NAMES = {"logGroupName": "/g", "logStreamName": "s"}


class Service:
    """The operations of a Logs, called by name."""

    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        self._operations = logs.operations()

    def __call__(self, operation: str, **parameters: Any) -> Any:
        return self._operations[operation](parameters)

    def put(self, *events: tuple[int, str]) -> Any:
        return self("PutLogEvents", **NAMES, logEvents=[{"timestamp": t, "message": m} for t, m in events])

    def refusal(self, operation: str, **parameters: Any) -> tuple[str, str]:
        with pytest.raises(ApiError) as raised:
            self(operation, **parameters)
        return raised.value.code, raised.value.message

    def put_refusal(self, *events: tuple[int, str]) -> str:
        code, message = self.refusal(
            "PutLogEvents", **NAMES, logEvents=[{"timestamp": t, "message": m} for t, m in events]
        )
        assert code == "InvalidParameterException"
        return message


@pytest.fixture
def service(tmp_path: Any) -> Iterator[Service]:
    tape = Tape(str(tmp_path))
    service = Service(Logs(lambda: NOW, tape, "eu-west-1", "123456789012"))
    service("CreateLogGroup", logGroupName="/g")
    service("CreateLogStream", **NAMES)
    yield service
    tape.close()


# batches


def test_events_arrive_in_order_and_as_they_were_sent(service: Service) -> None:
    answer = service.put((NOW_MS - 5, "a"), (NOW_MS, "wärme\n\x00😀"), (NOW_MS, "c"))
    assert "rejectedLogEventsInfo" not in answer
    service.put((NOW_MS - 9, "earlier, but later"))
    assert service.logs.messages("/g", "s") == ["a", "wärme\n\x00😀", "c", "earlier, but later"]
    assert [event.timestamp - NOW_MS for event in service.logs.events("/g", "s")] == [-5, 0, 0, -9]
    assert {event.ingested for event in service.logs.events("/g", "s")} == {NOW_MS}


def test_a_batch_may_hold_exactly_its_limit_in_utf8_bytes_and_overhead(service: Service) -> None:
    half = MAX_BATCH // 2 - OVERHEAD
    service.put((NOW_MS, "é" * (half // 2)), (NOW_MS, "x" * half))
    message = service.put_refusal((NOW_MS, "é" * (half // 2)), (NOW_MS, "x" * (half + 1)))
    assert message == f"Upload too large: {MAX_BATCH + 1} bytes exceeds limit of {MAX_BATCH}"
    assert len(service.logs.messages("/g", "s")) == 2


def test_an_event_may_be_one_mebibyte_with_its_overhead(service: Service) -> None:
    service.put((NOW_MS, "x" * (MAX_BATCH - OVERHEAD)))
    message = service.put_refusal((NOW_MS, "x" * (MAX_BATCH - OVERHEAD + 1)))
    assert message == f"Log event too large: {MAX_BATCH + 1} bytes exceeds limit of 1048576"


def test_a_batch_holds_from_1_to_10000_events(service: Service) -> None:
    service.put(*[(NOW_MS, "x")] * 10_000)
    assert "less than or equal to 10000" in service.put_refusal(*[(NOW_MS, "x")] * 10_001)
    assert "greater than or equal to 1" in service.put_refusal()


def test_events_must_be_in_chronological_order(service: Service) -> None:
    service.put((NOW_MS, "a"), (NOW_MS, "b"))
    assert "chronological order" in service.put_refusal((NOW_MS, "a"), (NOW_MS - 1, "b"))
    assert service.logs.messages("/g", "s") == ["a", "b"]


def test_a_message_has_at_least_one_character(service: Service) -> None:
    message = service.put_refusal((NOW_MS, "a"), (NOW_MS, ""))
    assert "logEvents.2.member.message" in message
    assert "greater than or equal to 1" in message


@pytest.mark.parametrize(
    "event", [{"timestamp": -1, "message": "m"}, {"timestamp": 1.5, "message": "m"}, {"message": "m"}]
)
def test_a_timestamp_is_a_whole_number_from_0_on(service: Service, event: dict[str, Any]) -> None:
    code, _ = service.refusal("PutLogEvents", **NAMES, logEvents=[event])
    assert code == "InvalidParameterException"


def test_valid_events_span_at_most_24_hours(service: Service) -> None:
    service.put((NOW_MS - DAY, "a"), (NOW_MS, "b"))
    assert "cannot span more than 24 hours" in service.put_refusal((NOW_MS - DAY - 1, "a"), (NOW_MS, "b"))


def test_the_span_counts_valid_events_only(service: Service) -> None:
    answer = service.put((NOW_MS - 20 * DAY, "old"), (NOW_MS - DAY + 1, "a"), (NOW_MS, "b"))
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1}
    assert service.logs.messages("/g", "s") == ["a", "b"]


def test_too_old_and_too_new_events_are_rejected_one_by_one(service: Service) -> None:
    answer = service.put(
        (NOW_MS - 14 * DAY - 1, "too old"),
        (NOW_MS - HOUR, "a"),
        (NOW_MS + 2 * HOUR, "b"),
        (NOW_MS + 2 * HOUR + 1, "too new"),
        (NOW_MS + 3 * HOUR, "too new"),
    )
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 3}
    assert service.logs.messages("/g", "s") == ["a", "b"]


def test_fourteen_days_old_is_not_too_old(service: Service) -> None:
    assert "rejectedLogEventsInfo" not in service.put((NOW_MS - 14 * DAY, "a"))


def test_events_before_the_retention_are_expired(service: Service) -> None:
    service("PutRetentionPolicy", logGroupName="/g", retentionInDays=3)
    answer = service.put((NOW_MS - 15 * DAY, "old"), (NOW_MS - 3 * DAY - 1, "expired"), (NOW_MS - 3 * DAY, "a"))
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 2}
    assert service.logs.messages("/g", "s") == ["a"]


def test_a_batch_of_which_nothing_is_valid_is_accepted_and_leaves_nothing(service: Service) -> None:
    answer = service.put((NOW_MS + 5 * HOUR, "a"), (NOW_MS + 50 * HOUR, "b"))
    assert answer["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 0}
    assert service.logs.messages("/g", "s") == []


def test_a_missing_group_and_a_missing_stream_are_told_apart(service: Service) -> None:
    events = [{"timestamp": NOW_MS, "message": "m"}]
    assert service.refusal("PutLogEvents", logGroupName="/g", logStreamName="t", logEvents=events) == (
        "ResourceNotFoundException",
        "The specified log stream does not exist.",
    )
    assert service.refusal("PutLogEvents", logGroupName="/h", logStreamName="s", logEvents=events) == (
        "ResourceNotFoundException",
        "The specified log group does not exist.",
    )


# groups and streams


def test_a_group_keeps_class_key_and_tags(service: Service) -> None:
    service(
        "CreateLogGroup",
        logGroupName="/h",
        logGroupClass="INFREQUENT_ACCESS",
        kmsKeyId="arn:aws:kms:k",
        tags={"a": "b"},
    )
    (group,) = service("DescribeLogGroups", logGroupNamePrefix="/h")["logGroups"]
    assert (group["logGroupClass"], group["kmsKeyId"]) == ("INFREQUENT_ACCESS", "arn:aws:kms:k")
    service("TagResource", resourceArn=group["logGroupArn"], tags={"c": "d"})
    assert service("ListTagsForResource", resourceArn=group["logGroupArn"])["tags"] == {"a": "b", "c": "d"}


@pytest.mark.parametrize("name", ["", "a" * 513, "with space", "star*", "aws/mine"])
def test_a_groups_name_is_checked(service: Service, name: str) -> None:
    assert service.refusal("CreateLogGroup", logGroupName=name)[0] == "InvalidParameterException"


@pytest.mark.parametrize("name", ["", "a" * 513, "a:b", "a*b"])
def test_a_streams_name_is_checked(service: Service, name: str) -> None:
    code, _ = service.refusal("CreateLogStream", logGroupName="/g", logStreamName=name)
    assert code == "InvalidParameterException"


def test_what_exists_cannot_be_made_again(service: Service) -> None:
    assert service.refusal("CreateLogGroup", logGroupName="/g")[0] == "ResourceAlreadyExistsException"
    assert service.refusal("CreateLogStream", **NAMES)[0] == "ResourceAlreadyExistsException"


@pytest.mark.parametrize(("days", "accepted"), [(1, True), (3653, True), (2, False), (0, False), (4000, False)])
def test_retention_is_one_of_cloudwatchs_values(service: Service, days: int, accepted: bool) -> None:
    if not accepted:
        code, _ = service.refusal("PutRetentionPolicy", logGroupName="/g", retentionInDays=days)
        assert code == "InvalidParameterException"
        return
    service("PutRetentionPolicy", logGroupName="/g", retentionInDays=days)
    assert service("DescribeLogGroups")["logGroups"][0]["retentionInDays"] == days


def test_more_than_fifty_tags_are_refused(service: Service) -> None:
    arn = service("DescribeLogGroups")["logGroups"][0]["logGroupArn"]
    service("TagResource", resourceArn=arn, tags={f"k{n}": "v" for n in range(50)})
    assert service.refusal("TagResource", resourceArn=arn, tags={"one more": "v"})[0] == "TooManyTagsException"


def test_listings_come_in_pages_of_fifty(service: Service) -> None:
    for number in range(60):
        service("CreateLogStream", logGroupName="/g", logStreamName=f"t{number:02d}")
    first = service("DescribeLogStreams", logGroupName="/g", logStreamNamePrefix="t")
    rest = service("DescribeLogStreams", logGroupName="/g", logStreamNamePrefix="t", nextToken=first["nextToken"])
    names = [stream["logStreamName"] for page in (first, rest) for stream in page["logStreams"]]
    assert (len(first["logStreams"]), names) == (50, [f"t{number:02d}" for number in range(60)])
    assert "nextToken" not in rest


def test_streams_can_be_ordered_by_their_last_event(service: Service) -> None:
    service("CreateLogStream", logGroupName="/g", logStreamName="a")
    service.put((NOW_MS, "m"))
    found = service("DescribeLogStreams", logGroupName="/g", orderBy="LastEventTime", descending=True)["logStreams"]
    assert [stream["logStreamName"] for stream in found] == ["s", "a"]
    assert found[0]["lastEventTimestamp"] == NOW_MS


def test_deleting_takes_the_events_along(service: Service) -> None:
    service.put((NOW_MS, "m"))
    service("DeleteLogStream", **NAMES)
    assert service.logs.messages("/g", "s") == []
    service("DeleteLogGroup", logGroupName="/g")
    assert service("DescribeLogGroups")["logGroups"] == []


def test_a_protected_group_is_not_deleted(service: Service) -> None:
    service("CreateLogGroup", logGroupName="/h", deletionProtectionEnabled=True)
    assert service.refusal("DeleteLogGroup", logGroupName="/h")[0] == "InvalidParameterException"


# reading


def test_events_are_read_by_time_in_pages_in_both_directions(service: Service) -> None:
    service.put((NOW_MS + 2, "c"), (NOW_MS + 3, "d"))
    service.put((NOW_MS, "a"), (NOW_MS + 1, "b"))
    first = service("GetLogEvents", **NAMES, startFromHead=True, limit=3)
    assert [event["message"] for event in first["events"]] == ["a", "b", "c"]
    second = service("GetLogEvents", **NAMES, startFromHead=True, limit=3, nextToken=first["nextForwardToken"])
    assert [event["message"] for event in second["events"]] == ["d"]
    end = service("GetLogEvents", **NAMES, startFromHead=True, limit=3, nextToken=second["nextForwardToken"])
    assert (end["events"], end["nextForwardToken"]) == ([], second["nextForwardToken"])
    last = service("GetLogEvents", **NAMES, limit=1)
    assert [event["message"] for event in last["events"]] == ["d"]
    before = service("GetLogEvents", **NAMES, limit=2, nextToken=last["nextBackwardToken"])
    assert [event["message"] for event in before["events"]] == ["b", "c"]
    window = service("GetLogEvents", **NAMES, startTime=NOW_MS + 1, endTime=NOW_MS + 3, startFromHead=True)
    assert [event["message"] for event in window["events"]] == ["b", "c"]


def test_a_page_holds_at_most_a_mebibyte(service: Service) -> None:
    for _ in range(3):
        service.put((NOW_MS, "x" * 500_000))
    assert len(service("GetLogEvents", **NAMES, startFromHead=True)["events"]) == 2


def test_filtering_finds_terms_over_all_streams(service: Service) -> None:
    service("CreateLogStream", logGroupName="/g", logStreamName="t")
    service.put((NOW_MS, "ERROR disk full"), (NOW_MS, "ERROR net"))
    service("PutLogEvents", logGroupName="/g", logStreamName="t", logEvents=[{"timestamp": 1, "message": "x"}])
    found = service("FilterLogEvents", logGroupName="/g", filterPattern='ERROR "disk full"')["events"]
    assert [(event["logStreamName"], event["message"]) for event in found] == [("s", "ERROR disk full")]
    assert service.refusal("FilterLogEvents", logGroupName="/g", filterPattern="{ $.a = 1 }")[0] == (
        "InvalidParameterException"
    )


def test_a_reading_that_goes_on_while_all_is_cleared_ends(service: Service) -> None:
    service.put((NOW_MS, "a"))
    service.put((NOW_MS, "b"))
    reading = service.logs.events("/g", "s")
    assert next(reading).message == "a"
    service.logs.clear()
    assert list(reading) == []


# on the wire


def send(standin: Standin, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    request = AWSRequest(
        method="POST", url=standin.url, data=body, headers={"Host": f"127.0.0.1:{standin.port}"} | headers
    )
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "logs", standin.region).add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", standin.port, timeout=5)
    try:
        connection.request("POST", "/", body, dict(request.headers.items()))
        answer = connection.getresponse()
        return answer.status, orjson.loads(answer.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def standin() -> Iterator[Standin]:
    with Standin.start(clock=lambda: NOW) as running:
        Service(running.logs)("CreateLogGroup", logGroupName="/g")
        Service(running.logs)("CreateLogStream", **NAMES)
        yield running


PUT = {"X-Amz-Target": "Logs_20140328.PutLogEvents", "Content-Type": "application/x-amz-json-1.1"}
DOCUMENT = orjson.dumps({**NAMES, "logEvents": [{"timestamp": NOW_MS, "message": "m"}]})


def test_a_gzip_body_is_understood(standin: Standin) -> None:
    status, answer = send(standin, gzip.compress(DOCUMENT), PUT | {"Content-Encoding": "gzip"})
    assert (status, list(answer)) == (200, ["nextSequenceToken"])
    assert standin.logs.messages("/g", "s") == ["m"]


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(DOCUMENT)[:-9], "gzip"),
        (DOCUMENT, "gzip"),
        (DOCUMENT, "br"),
        (b"{", "identity"),
        (b"[]", "identity"),
        (b'{"a": NaN}', "identity"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_serialization_error(standin: Standin, body: bytes, encoding: str) -> None:
    status, answer = send(standin, body, PUT | {"Content-Encoding": encoding})
    assert (status, answer["__type"]) == (400, "SerializationException")


def test_a_gzip_bomb_is_refused_before_it_unfolds(standin: Standin) -> None:
    bomb = gzip.compress(bytes(60_000_000), 1)
    tracemalloc.start()
    status, answer = send(standin, bomb, PUT | {"Content-Encoding": "gzip"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (status, answer["__type"]) == (413, "RequestEntityTooLargeException")
    assert peak < 40_000_000


def test_an_unknown_operation_and_a_wrong_content_type_are_refused(standin: Standin) -> None:
    _, answer = send(standin, b"{}", PUT | {"X-Amz-Target": "Logs_20140328.Nonsense"})
    assert answer["__type"] == "UnknownOperationException"
    _, answer = send(standin, b"{}", PUT | {"Content-Type": "application/json"})
    assert answer["__type"] == "UnknownOperationException"
