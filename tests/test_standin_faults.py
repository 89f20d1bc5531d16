"""The plan of faults, by itself and as a client meets it."""

import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, HTTPClientError

from agent.standin.faults import Fault, FaultError, FaultPlan, Kind
from agent.standin.keys import ACCESS_KEY, SECRET_KEY
from agent.standin.standin import Standin


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def plan(clock: FakeClock) -> FaultPlan:
    return FaultPlan(clock)


def strikes(plan: FaultPlan, count: int, service: str = "logs", operation: str = "PutLogEvents") -> list[bool]:
    return [plan.take(service, operation) is not None for _ in range(count)]


# the plan


def test_without_rules_nothing_happens(plan: FaultPlan) -> None:
    assert strikes(plan, 3) == [False, False, False]


def test_a_rule_acts_for_ever_unless_it_is_bounded(plan: FaultPlan) -> None:
    plan.add(Fault(Kind.THROTTLE))
    assert strikes(plan, 3) == [True, True, True]


def test_a_rule_skips_and_then_acts_so_many_times(plan: FaultPlan) -> None:
    plan.add(Fault(Kind.RESET, skip=1, times=2))
    assert strikes(plan, 5) == [False, True, True, False, False]


def test_a_rule_ends_after_its_time(plan: FaultPlan, clock: FakeClock) -> None:
    plan.add(Fault(Kind.RESET, for_seconds=10))
    clock.now += 9.9
    assert strikes(plan, 1) == [True]
    clock.now += 0.1
    assert strikes(plan, 1) == [False]


def test_services_and_operations_are_globs(plan: FaultPlan) -> None:
    plan.add(Fault(Kind.RESET, service="s3", operation="*Multipart*"))
    assert strikes(plan, 1, "s3", "CompleteMultipartUpload") == [True]
    assert strikes(plan, 1, "s3", "PutObject") == [False]
    assert strikes(plan, 1, "logs", "CompleteMultipartUpload") == [False]


def test_metadata_is_spared_unless_it_is_named(plan: FaultPlan) -> None:
    plan.outage()
    assert strikes(plan, 1, "imds", "meta-data/instance-id") == [False]
    plan.add(Fault(Kind.ERROR, service="imds", operation="meta-data/spot/*", status=503))
    assert strikes(plan, 1, "imds", "meta-data/spot/instance-action") == [True]
    assert strikes(plan, 1, "imds", "meta-data/instance-id") == [False]


def test_the_first_rule_that_acts_wins_and_the_others_are_not_used_up(plan: FaultPlan) -> None:
    plan.add(Fault(Kind.THROTTLE, times=1))
    plan.add(Fault(Kind.RESET, times=1))
    taken = [plan.take("logs", "PutLogEvents") for _ in range(3)]
    assert [strike and strike.fault.kind for strike in taken] == [Kind.THROTTLE, Kind.RESET, None]


def test_probability_is_seeded(clock: FakeClock) -> None:
    def run(seed: int) -> list[bool]:
        plan = FaultPlan(clock, seed)
        plan.add(Fault(Kind.RESET, probability=0.5))
        return strikes(plan, 50)

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert 10 < sum(run(1)) < 40


def test_a_rule_is_listed_and_taken_away_by_its_number(plan: FaultPlan) -> None:
    first, second = plan.add(Fault(Kind.RESET)), plan.add(Fault(Kind.THROTTLE))
    strikes(plan, 2)
    assert [(rule["number"], rule["acted"]) for rule in plan.as_json()] == [(first, 2), (second, 0)]
    plan.remove(first)
    assert [rule["kind"] for rule in plan.as_json()] == ["throttle"]


def test_clearing_wakes_who_waits_even_for_a_spent_rule(plan: FaultPlan) -> None:
    plan.add(Fault(Kind.HANG, seconds=3600, times=1))
    strike = plan.take("logs", "PutLogEvents")
    assert strike is not None
    assert strikes(plan, 1) == [False]  # spent, and swept away
    plan.clear()
    strike.wait()  # would take an hour


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"kind": "explode"}, "kind must be one of throttle, error"),
        ({}, "kind must be one of"),
        ({"kind": "reset", "servise": "s3"}, "unknown key 'servise'"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(document: dict[str, str], complaint: str) -> None:
    with pytest.raises(FaultError, match=complaint):
        Fault.from_json(document)


# as a client meets it


@pytest.fixture(scope="module")
def running() -> Iterator[Standin]:
    with Standin.start() as standin:
        yield standin


@pytest.fixture
def standin(running: Standin) -> Iterator[Standin]:
    yield running
    running.reset()


@pytest.fixture(scope="module")
def clients(running: Standin) -> Callable[[str], Any]:
    config = Config(retries={"total_max_attempts": 1}, read_timeout=1, connect_timeout=1)
    session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=running.region)
    made: dict[str, Any] = {}

    def client(name: str) -> Any:
        if name not in made:
            made[name] = session.client(name, endpoint_url=running.url, config=config)
        return made[name]

    return client


def put_events(clients: Callable[[str], Any]) -> None:
    event = {"timestamp": int(time.time() * 1000), "message": "m"}
    clients("logs").put_log_events(logGroupName="/g", logStreamName="s", logEvents=[event])


@pytest.fixture
def stream(standin: Standin, clients: Callable[[str], Any]) -> None:
    clients("logs").create_log_group(logGroupName="/g")
    clients("logs").create_log_stream(logGroupName="/g", logStreamName="s")


def arrived(standin: Standin) -> list[str]:
    return standin.logs.messages("/g", "s")


@pytest.mark.parametrize(
    ("service", "call", "code", "status"),
    [
        ("logs", lambda c: c.describe_log_groups(), "ThrottlingException", 400),
        ("cloudwatch", lambda c: c.describe_alarms(), "ThrottlingException", 400),
        ("s3", lambda c: c.list_objects_v2(Bucket="b-1"), "SlowDown", 503),
        ("autoscaling", lambda c: c.describe_auto_scaling_groups(), "Throttling", 400),
        ("sts", lambda c: c.get_caller_identity(), "Throttling", 400),
    ],
)
def test_each_service_throttles_in_its_own_way(
    standin: Standin,
    clients: Callable[[str], Any],
    service: str,
    call: Callable[[Any], object],
    code: str,
    status: int,
) -> None:
    standin.faults.add(Fault(Kind.THROTTLE))
    with pytest.raises(ClientError) as raised:
        call(clients(service))
    assert raised.value.response["Error"]["Code"] == code
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_an_error_has_the_code_and_status_of_its_rule(standin: Standin, clients: Callable[[str], Any]) -> None:
    standin.faults.add(Fault(Kind.ERROR, status=503, code="ServiceUnavailableException"))
    with pytest.raises(ClientError, match="ServiceUnavailableException") as raised:
        clients("logs").describe_log_groups()
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.REFUSE])
@pytest.mark.usefixtures("stream")
def test_a_reset_accepts_nothing(standin: Standin, clients: Callable[[str], Any], kind: Kind) -> None:
    standin.faults.add(Fault(kind, operation="PutLogEvents"))
    with pytest.raises((HTTPClientError, ConnectionClosedError)):
        put_events(clients)
    assert arrived(standin) == []
    assert standin.journal.count("logs", "PutLogEvents", kind.value) == 1


@pytest.mark.usefixtures("stream")
def test_a_lost_answer_is_of_an_accepted_request(standin: Standin, clients: Callable[[str], Any]) -> None:
    standin.faults.add(Fault(Kind.LOST, operation="PutLogEvents", times=1))
    with pytest.raises((HTTPClientError, ConnectionClosedError)):
        put_events(clients)
    assert arrived(standin) == ["m"]
    put_events(clients)
    assert arrived(standin) == ["m", "m"]
    assert [call.status for call in standin.journal.calls("logs", "PutLogEvents")] == [0, 200]


@pytest.mark.usefixtures("stream")
def test_a_hang_is_silence_and_then_a_close(standin: Standin, clients: Callable[[str], Any]) -> None:
    standin.faults.add(Fault(Kind.HANG, operation="PutLogEvents", seconds=0.05))
    with pytest.raises(BotoCoreError):
        put_events(clients)
    assert arrived(standin) == []


@pytest.mark.usefixtures("stream")
def test_slowness_is_only_a_delay(standin: Standin, clients: Callable[[str], Any]) -> None:
    standin.faults.add(Fault(Kind.SLOW, operation="PutLogEvents", seconds=0.05))
    started = time.monotonic()
    put_events(clients)
    assert time.monotonic() - started >= 0.05
    assert arrived(standin) == ["m"]


def test_a_standin_closes_at_once_while_a_client_hangs() -> None:
    asked = threading.Event()

    def clock() -> float:  # the plan looks at it for each call
        asked.set()
        return 1_000.0

    standin = Standin.start(clock=clock)
    standin.faults.add(Fault(Kind.HANG, seconds=3600))
    asked.clear()
    with socket.create_connection(("127.0.0.1", standin.port), timeout=5) as connection:
        connection.sendall(b"GET /bucket/key HTTP/1.1\r\n\r\n")
        assert asked.wait(5)
        standin.close()
        assert connection.recv(100) == b""


def test_an_outage_refuses_aws_but_neither_metadata_nor_the_control_api(
    standin: Standin, clients: Callable[[str], Any]
) -> None:
    standin.faults.outage()
    with pytest.raises((HTTPClientError, ConnectionClosedError)):
        clients("s3").put_object(Bucket="b-1", Key="k", Body=b"x" * 100_000)
    with pytest.raises((HTTPClientError, ConnectionClosedError)):
        clients("autoscaling").describe_auto_scaling_groups()
    request = urllib.request.Request(f"{standin.url}/latest/api/token", method="PUT")
    request.add_header("X-aws-ec2-metadata-token-ttl-seconds", "60")
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200
    delete = urllib.request.Request(f"{standin.url}/_standin/faults", method="DELETE")
    with urllib.request.urlopen(delete, timeout=5) as answer:
        assert answer.status == 200
    assert clients("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"] == []


def test_complete_can_fail_inside_a_200(standin: Standin, clients: Callable[[str], Any]) -> None:
    s3 = clients("s3")
    standin.s3.add_bucket("b-1")
    upload = s3.create_multipart_upload(Bucket="b-1", Key="k")["UploadId"]
    part = s3.upload_part(Bucket="b-1", Key="k", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    standin.faults.add(Fault(Kind.ERROR_IN_200, service="s3", operation="CompleteMultipartUpload", times=1))
    with pytest.raises(ClientError, match="InternalError"):
        s3.complete_multipart_upload(Bucket="b-1", Key="k", UploadId=upload, MultipartUpload=parts)
    assert standin.journal.calls("s3", "CompleteMultipartUpload")[0].status == 200
    assert standin.s3.objects("b-1") == []
    s3.complete_multipart_upload(Bucket="b-1", Key="k", UploadId=upload, MultipartUpload=parts)
    assert standin.s3.read("b-1", "k") == b"x"
