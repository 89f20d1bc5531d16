"""The same calls through boto3 against the stand-in and against moto: the stand-in is itself held to a contract.

Where moto is known to be more lenient than AWS documents, its run must fail (a strict xfail with the reason), so that
a difference that goes away is noticed.
"""

import base64
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from agent.standin.keys import ACCESS_KEY, SECRET_KEY
from agent.standin.standin import Standin

REGION = "eu-west-1"
DAY = 86_400_000  # milliseconds
PART = os.urandom(5 * 1024**2)
STATISTIC_SET = {"SampleCount": 1.0, "Sum": 1.0, "Minimum": 1.0, "Maximum": 1.0}

Client = Callable[[str], Any]


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer  # takes seconds, and only this module needs it

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def standin_url() -> Iterator[str]:
    with Standin.start(region=REGION) as standin:
        yield standin.url


@pytest.fixture(scope="module", params=["standin", "moto"])
def client(request: pytest.FixtureRequest) -> Client:
    url = request.getfixturevalue(f"{request.param}_url")
    session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
    config = Config(retries={"total_max_attempts": 1}, request_checksum_calculation="when_required")
    made: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in made:
            made[service] = session.client(service, endpoint_url=url, config=config)
        return made[service]

    return client


_LENIENT: dict[str, str] = {}  # the tests that moto must fail, and why


def lenient_moto(reason: str) -> Callable[[Any], Any]:
    def mark(test: Any) -> Any:
        _LENIENT[test.__name__] = reason
        return test

    return mark


@pytest.fixture(autouse=True)
def _known_difference(request: pytest.FixtureRequest) -> None:
    reason = _LENIENT.get(request.function.__name__)
    if reason and request.node.callspec.params["client"] == "moto":
        request.node.add_marker(pytest.mark.xfail(strict=True, reason=reason))


def refusal(call: Any, **parameters: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    answer = raised.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def now() -> int:
    return int(time.time() * 1000)


# CloudWatch Logs


@pytest.fixture
def stream(client: Client) -> dict[str, str]:
    names = {"logGroupName": unique("/group"), "logStreamName": "stream"}
    client("logs").create_log_group(logGroupName=names["logGroupName"])
    client("logs").create_log_stream(**names)
    return names


def put(client: Client, stream: dict[str, str], *events: tuple[int, str]) -> Any:
    return client("logs").put_log_events(**stream, logEvents=[{"timestamp": t, "message": m} for t, m in events])


def put_refusal(client: Client, stream: dict[str, str], *events: tuple[int, str]) -> tuple[int, str]:
    events_ = [{"timestamp": t, "message": m} for t, m in events]
    return refusal(client("logs").put_log_events, **stream, logEvents=events_)


def test_events_are_accepted_and_read_back(client: Client, stream: dict[str, str]) -> None:
    at = now()
    put(client, stream, (at, "a"), (at + 1, "wärme"))
    events = client("logs").get_log_events(**stream, startFromHead=True)["events"]
    assert [(event["timestamp"] - at, event["message"]) for event in events] == [(0, "a"), (1, "wärme")]


def test_events_out_of_order_fail_the_call(client: Client, stream: dict[str, str]) -> None:
    assert put_refusal(client, stream, (now(), "a"), (now() - 1000, "b")) == (400, "InvalidParameterException")


@lenient_moto("moto has no limit on the size of a batch")
def test_an_oversized_batch_fails_the_call(client: Client, stream: dict[str, str]) -> None:
    refused = put_refusal(client, stream, *[(now(), "x" * 300_000)] * 4)
    assert refused == (400, "InvalidParameterException")


@lenient_moto("moto has no limit of 24 hours on a batch")
def test_a_span_of_more_than_a_day_fails_the_call(client: Client, stream: dict[str, str]) -> None:
    assert put_refusal(client, stream, (now() - 2 * DAY, "a"), (now(), "b")) == (400, "InvalidParameterException")


def test_too_new_events_are_rejected_from_an_inclusive_index_on(client: Client, stream: dict[str, str]) -> None:
    info = put(client, stream, (now(), "a"), (now() + DAY // 2, "b"))["rejectedLogEventsInfo"]
    assert info == {"tooNewLogEventStartIndex": 1}


@lenient_moto("moto's end index of too old events is inclusive, AWS's is exclusive")
def test_too_old_events_are_rejected_up_to_an_exclusive_index(client: Client, stream: dict[str, str]) -> None:
    info = put(client, stream, (now() - 15 * DAY, "a"), (now(), "b"))["rejectedLogEventsInfo"]
    assert info == {"tooOldLogEventEndIndex": 1}


def test_missing_groups_and_streams_are_not_found(client: Client, stream: dict[str, str]) -> None:
    for names in (stream | {"logStreamName": "none"}, stream | {"logGroupName": "/none"}):
        assert put_refusal(client, names, (now(), "m")) == (400, "ResourceNotFoundException")


def test_what_exists_is_not_made_again(client: Client, stream: dict[str, str]) -> None:
    logs = client("logs")
    assert refusal(logs.create_log_group, logGroupName=stream["logGroupName"])[1] == "ResourceAlreadyExistsException"
    assert refusal(logs.create_log_stream, **stream)[1] == "ResourceAlreadyExistsException"


def test_a_group_is_described_with_its_retention(client: Client, stream: dict[str, str]) -> None:
    client("logs").put_retention_policy(logGroupName=stream["logGroupName"], retentionInDays=30)
    (group,) = client("logs").describe_log_groups(logGroupNamePrefix=stream["logGroupName"])["logGroups"]
    assert (group["logGroupName"], group["retentionInDays"]) == (stream["logGroupName"], 30)
    assert group["arn"] == f"{group['logGroupArn']}:*"


@lenient_moto("moto takes any number of days")
def test_retention_is_one_of_the_documented_values(client: Client, stream: dict[str, str]) -> None:
    call = {"logGroupName": stream["logGroupName"], "retentionInDays": 2}
    assert refusal(client("logs").put_retention_policy, **call) == (400, "InvalidParameterException")


# CloudWatch


def test_metrics_are_accepted(client: Client) -> None:
    datums = [
        {"MetricName": f"m{n}", "Values": [1.0, 2.0], "Counts": [3.0, 1.0], "Unit": "Count"} for n in range(600)
    ]
    answer = client("cloudwatch").put_metric_data(Namespace=unique("App"), MetricData=datums)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize(
    ("datum", "code"),
    [
        ({"MetricName": "m", "Value": float("nan")}, "InvalidParameterValue"),
        ({"MetricName": "m", "Value": 1.0, "StatisticValues": STATISTIC_SET}, "InvalidParameterCombination"),
    ],
)
def test_bad_datums_are_refused(client: Client, datum: dict[str, Any], code: str) -> None:
    assert refusal(client("cloudwatch").put_metric_data, Namespace="App", MetricData=[datum]) == (400, code)


def test_an_alarm_is_made_described_and_deleted(client: Client) -> None:
    cloudwatch, name = client("cloudwatch"), unique("outlive/alarm")
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        Namespace="App",
        MetricName="m",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=90,
        ComparisonOperator="GreaterThanThreshold",
    )
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert (alarm["Threshold"], alarm["Period"], alarm["ActionsEnabled"]) == (90.0, 60, True)
    cloudwatch.delete_alarms(AlarmNames=[name])
    assert cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"] == []


# S3


@pytest.fixture
def bucket(client: Client) -> str:
    name = unique("bucket")
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


def test_an_object_is_put_and_read_back(client: Client, bucket: str) -> None:
    s3 = client("s3")
    put = s3.put_object(Bucket=bucket, Key="a b/é+", Body=b"hello", Metadata={"k": "v"}, ContentType="text/plain")
    got = s3.get_object(Bucket=bucket, Key="a b/é+", Range="bytes=1-3")
    head = s3.head_object(Bucket=bucket, Key="a b/é+")
    assert (got["Body"].read(), got["ContentRange"]) == (b"ell", "bytes 1-3/5")
    assert (head["ETag"], head["ContentLength"], head["ContentType"]) == (put["ETag"], 5, "text/plain")
    assert head["Metadata"] == {"k": "v"}


def test_a_checksum_is_answered(client: Client, bucket: str) -> None:
    s3, value = client("s3"), base64.b64encode(hashlib.sha256(b"hello").digest()).decode()
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm="SHA256")["ChecksumSHA256"] == value
    assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["ChecksumSHA256"] == value


@lenient_moto("moto accepts a wrong checksum")
def test_a_wrong_checksum_is_refused(client: Client, bucket: str) -> None:
    call = {"Bucket": bucket, "Key": "k", "Body": b"hello", "ChecksumCRC32": "AAAAAA=="}
    assert refusal(client("s3").put_object, **call) == (400, "BadDigest")


def test_if_none_match_keeps_the_first(client: Client, bucket: str) -> None:
    s3 = client("s3")
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")
    assert refusal(s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*") == (412, "PreconditionFailed")


def test_what_is_not_there_is_named(client: Client, bucket: str) -> None:
    s3 = client("s3")
    assert refusal(s3.get_object, Bucket=bucket, Key="none") == (404, "NoSuchKey")
    assert refusal(s3.head_object, Bucket=bucket, Key="none") == (404, "404")
    assert refusal(s3.list_objects_v2, Bucket=unique("none")) == (404, "NoSuchBucket")


def test_listings_are_paged_and_folded(client: Client, bucket: str) -> None:
    s3 = client("s3")
    for key in ("a", "b/1", "b/2", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 3}))
    assert [[entry["Key"] for entry in page["Contents"]] for page in pages] == [["a", "b/1", "b/2"], ["c"]]
    folded = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [entry["Key"] for entry in folded["Contents"]] == ["a", "c"]
    assert [entry["Prefix"] for entry in folded["CommonPrefixes"]] == ["b/"]


def test_awkward_keys_are_listed_as_they_are(client: Client, bucket: str) -> None:
    s3 = client("s3")
    keys = sorted(["a b", "a+b", "a%2Fb", "ü/日本", "&<>\"'", "#?", ".hidden", "k" * 900])
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == keys


def test_a_deleted_object_is_gone_and_deleting_it_again_is_fine(client: Client, bucket: str) -> None:
    s3 = client("s3")
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    for _ in range(2):
        assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refusal(s3.get_object, Bucket=bucket, Key="k") == (404, "NoSuchKey")


def test_a_deletion_with_if_match_deletes_that_object_alone(client: Client, bucket: str) -> None:
    s3 = client("s3")
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"2")["ETag"]
    assert refusal(s3.delete_object, Bucket=bucket, Key="k", IfMatch=first) == (412, "PreconditionFailed")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=second)
    assert refusal(s3.delete_object, Bucket=bucket, Key="k", IfMatch=second) == (404, "NoSuchKey")


def begin(client: Client, bucket: str) -> dict[str, str]:
    upload = client("s3").create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    return {"Bucket": bucket, "Key": "big", "UploadId": upload}


def upload(client: Client, at: dict[str, str], *bodies: bytes) -> dict[str, Any]:
    parts = [
        {"PartNumber": n, "ETag": client("s3").upload_part(**at, PartNumber=n, Body=body)["ETag"]}
        for n, body in enumerate(bodies, 1)
    ]
    return {"Parts": parts}


def test_parts_become_an_object_with_the_same_etag(client: Client, bucket: str) -> None:
    at = begin(client, bucket)
    parts = upload(client, at, PART, b"end")
    etag = client("s3").complete_multipart_upload(**at, MultipartUpload=parts)["ETag"]
    assert etag.endswith('-2"')
    assert client("s3").get_object(Bucket=bucket, Key="big")["Body"].read() == PART + b"end"
    assert client("s3").head_object(Bucket=bucket, Key="big")["ETag"] == etag


def test_a_small_part_in_the_middle_is_refused(client: Client, bucket: str) -> None:
    at = begin(client, bucket)
    parts = upload(client, at, b"small", b"end")
    assert refusal(client("s3").complete_multipart_upload, **at, MultipartUpload=parts) == (400, "EntityTooSmall")


def test_an_aborted_upload_is_gone(client: Client, bucket: str) -> None:
    at = begin(client, bucket)
    assert [u["Key"] for u in client("s3").list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["big"]
    client("s3").abort_multipart_upload(**at)
    assert "Uploads" not in client("s3").list_multipart_uploads(Bucket=bucket)


@lenient_moto("moto answers with 500")
def test_a_part_of_an_aborted_upload_is_refused(client: Client, bucket: str) -> None:
    at = begin(client, bucket)
    client("s3").abort_multipart_upload(**at)
    assert refusal(client("s3").upload_part, **at, PartNumber=1, Body=b"") == (404, "NoSuchUpload")


# STS


def test_an_identity_has_an_arn_of_its_account(client: Client) -> None:
    identity = client("sts").get_caller_identity()
    assert identity["Account"] == "123456789012"
    assert identity["Arn"].startswith("arn:aws:")


def test_an_assumed_role_has_temporary_credentials(client: Client) -> None:
    answer = client("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/r", RoleSessionName="session")
    assert answer["Credentials"]["AccessKeyId"].startswith("ASIA")
    assert answer["AssumedRoleUser"]["Arn"] == "arn:aws:sts::123456789012:assumed-role/r/session"
    assert 3500 < answer["Credentials"]["Expiration"].timestamp() - time.time() < 3700


@lenient_moto("moto accepts any secret")
def test_a_wrong_secret_is_refused(client: Client) -> None:
    session = boto3.Session(ACCESS_KEY, "wrong", region_name=REGION)
    sts = session.client("sts", endpoint_url=client("sts").meta.endpoint_url)
    assert refusal(sts.get_caller_identity) == (403, "SignatureDoesNotMatch")
