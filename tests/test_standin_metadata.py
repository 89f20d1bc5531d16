"""Instance metadata, and the credentials that it gives out; STS and EC2's tags."""

import http.client
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.session
import orjson
import pytest
from botocore.credentials import InstanceMetadataProvider
from botocore.exceptions import ClientError
from botocore.utils import InstanceMetadataFetcher

from agent.standin.faults import Fault, Kind
from agent.standin.keys import ACCESS_KEY, SECRET_KEY
from agent.standin.lifecycle import Hook
from agent.standin.standin import Standin

NOW = 1_700_000_000.0


@pytest.fixture(scope="module")
def running() -> Iterator[Standin]:
    with Standin.start(clock=lambda: NOW) as standin:
        yield standin


@pytest.fixture
def standin(running: Standin) -> Iterator[Standin]:
    yield running
    running.reset()


class Metadata:
    """A client of the metadata service that keeps one token."""

    def __init__(self, standin: Standin) -> None:
        self._standin = standin
        self.token = self.request("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})[1]

    def request(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._standin.port, timeout=5)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, str]:
        return self.request("GET", f"/latest/{path}", {"X-aws-ec2-metadata-token": self.token})


@pytest.fixture
def metadata(standin: Standin) -> Metadata:
    return Metadata(standin)


TTL = "X-aws-ec2-metadata-token-ttl-seconds"


# tokens


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/latest/api/token", {TTL: "1"}, 200),
        ("/latest/api/token", {TTL: "21600"}, 200),
        ("/latest/api/token", {}, 400),
        ("/latest/api/token", {TTL: "0"}, 400),
        ("/latest/api/token", {TTL: "21601"}, 400),
        ("/latest/api/token", {TTL: "-1"}, 400),
        ("/latest/api/token", {TTL: "an hour"}, 400),
        ("/latest/api/token", {TTL: "60", "X-Forwarded-For": "10.0.0.1"}, 403),
        ("/2021-07-15/api/token", {TTL: "60"}, 403),
    ],
)
def test_a_token_is_issued_for_1_to_21600_seconds(
    metadata: Metadata, path: str, headers: dict[str, str], status: int
) -> None:
    assert metadata.request("PUT", path, headers)[0] == status


def test_without_a_good_token_nothing_is_read(standin: Standin, metadata: Metadata) -> None:
    assert metadata.get("meta-data/instance-id") == (200, standin.instance_id)
    for headers in ({}, {"X-aws-ec2-metadata-token": "guessed"}):
        assert metadata.request("GET", "/latest/meta-data/instance-id", headers)[0] == 401
    standin.clock.advance(59.9)
    assert metadata.get("meta-data/instance-id")[0] == 200
    standin.clock.advance(0.1)
    assert metadata.get("meta-data/instance-id")[0] == 401


def test_a_restart_forgets_tokens_and_has_a_new_pending_time(standin: Standin, metadata: Metadata) -> None:
    before = metadata.get("dynamic/instance-identity/document")[1]
    standin.clock.advance(1)
    standin.metadata.restart()
    assert metadata.get("meta-data/instance-id")[0] == 401
    assert orjson.loads(Metadata(standin).get("dynamic/instance-identity/document")[1]) != orjson.loads(before)


def test_a_disabled_service_answers_403(standin: Standin, metadata: Metadata) -> None:
    standin.metadata.enabled = False
    assert metadata.get("meta-data/instance-id")[0] == 403
    assert metadata.request("PUT", "/latest/api/token", {TTL: "60"})[0] == 403


def test_only_reading_is_allowed(metadata: Metadata) -> None:
    headers = {"X-aws-ec2-metadata-token": metadata.token}
    assert metadata.request("POST", "/latest/meta-data/instance-id", headers)[0] == 405
    assert metadata.request("GET", "/latest/api/token", headers)[0] == 405


# the tree


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("meta-data/placement/region", "eu-west-1"),
        ("meta-data/placement/availability-zone", "eu-west-1a"),
        ("meta-data/local-ipv4", "10.0.0.10"),
        ("meta-data/instance-life-cycle", "on-demand"),
        ("meta-data/events/maintenance/scheduled", "[]"),
        ("meta-data/iam/security-credentials/", "stand-in"),
        ("meta-data/placement/", "availability-zone\nregion"),
    ],
)
def test_values_and_directories_are_read(metadata: Metadata, path: str, value: str) -> None:
    assert metadata.get(path) == (200, value)


def test_the_root_lists_names_with_a_slash_after_directories(metadata: Metadata) -> None:
    names = metadata.get("meta-data/")[1].splitlines()
    assert {"instance-id", "placement/", "iam/"} <= set(names)
    assert metadata.get("")[1].splitlines() == ["dynamic/", "meta-data/"]


@pytest.mark.parametrize(
    "path",
    [
        "meta-data/spot/instance-action",
        "meta-data/events/recommendations/rebalance",
        "meta-data/autoscaling/target-lifecycle-state",
        "meta-data/tags/instance/Name",
        "user-data",
    ],
)
def test_what_is_not_there_is_404(metadata: Metadata, path: str) -> None:
    assert metadata.get(path)[0] == 404


def test_any_path_can_be_a_text_empty_missing_or_an_error(standin: Standin, metadata: Metadata) -> None:
    path = "meta-data/autoscaling/target-lifecycle-state"
    for value, expected in (("Standby", (200, "Standby")), ("", (200, ""))):
        standin.metadata.set(path, value)
        assert metadata.get(path) == expected
    for status in (None, 503):
        standin.metadata.set(path, status)
        assert metadata.get(path)[0] == (status or 404)
    standin.metadata.set("meta-data/instance-id", None)
    assert metadata.get("meta-data/instance-id")[0] == 404
    assert "instance-id" not in metadata.get("meta-data/")[1].splitlines()
    standin.metadata.unset("meta-data/instance-id")
    assert metadata.get("meta-data/instance-id")[0] == 200


def test_the_target_state_follows_the_lifecycle(standin: Standin, metadata: Metadata) -> None:
    path = "meta-data/autoscaling/target-lifecycle-state"
    standin.lifecycle.add_group(
        "web", instances=[standin.instance_id], hooks=[Hook("drain")], deregistration_delay=300
    )
    assert metadata.get(path) == (200, "InService")
    standin.lifecycle.notice(standin.instance_id)
    assert metadata.get(path) == (200, "Terminated")


def test_a_spot_notice_keeps_its_time(standin: Standin, metadata: Metadata) -> None:
    standin.metadata.spot_notice("terminate", NOW + 120)
    expected = {"action": "terminate", "time": "2023-11-14T22:15:20Z"}
    for _ in range(2):
        assert orjson.loads(metadata.get("meta-data/spot/instance-action")[1]) == expected
        standin.clock.advance(1)
    assert metadata.get("meta-data/spot/termination-time") == (200, expected["time"])
    assert metadata.get("meta-data/instance-life-cycle") == (200, "spot")


def test_tags_are_read_in_both_places(standin: Standin, metadata: Metadata, session: boto3.Session) -> None:
    standin.metadata.set_tags({"Name": "web", "aws:autoscaling:groupName": "fleet"})
    assert metadata.get("meta-data/tags/instance/Name") == (200, "web")
    assert metadata.get("meta-data/tags/instance/") == (200, "Name\naws:autoscaling:groupName")
    ec2 = session.client("ec2", endpoint_url=standin.url)
    wanted = [{"Name": "resource-id", "Values": [standin.instance_id]}, {"Name": "key", "Values": ["Name", "x"]}]
    (tag,) = ec2.describe_tags(Filters=wanted)["Tags"]
    assert (tag["ResourceId"], tag["Key"], tag["Value"]) == (standin.instance_id, "Name", "web")
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        ec2.describe_tags(Filters=[{"Name": "nonsense", "Values": ["x"]}])


def test_the_identity_document_is_there_with_its_signatures(standin: Standin, metadata: Metadata) -> None:
    document = orjson.loads(metadata.get("dynamic/instance-identity/document")[1])
    assert (document["instanceId"], document["region"]) == (standin.instance_id, "eu-west-1")
    assert (document["accountId"], document["pendingTime"]) == (standin.account_id, "2023-11-14T22:13:20Z")
    for form in ("rsa2048", "pkcs7", "signature"):
        status, text = metadata.get(f"dynamic/instance-identity/{form}")
        assert status == 200
        assert max(map(len, text.splitlines())) <= 76


def test_faults_reach_metadata_when_they_name_it(standin: Standin, metadata: Metadata) -> None:
    standin.faults.add(Fault(Kind.ERROR, service="imds", operation="meta-data/instance-id", status=503, times=1))
    standin.faults.add(Fault(Kind.THROTTLE, service="imds", operation="api/token"))
    assert metadata.get("meta-data/instance-id")[0] == 503
    assert metadata.get("meta-data/instance-id")[0] == 200
    assert metadata.request("PUT", "/latest/api/token", {TTL: "60"})[0] == 503


# credentials


@pytest.fixture(scope="module")
def session(running: Standin) -> boto3.Session:
    return boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=running.region)


def role_session(standin: Standin) -> Any:
    """A botocore session whose only credentials are the instance's role."""
    fetcher = InstanceMetadataFetcher(timeout=5, num_attempts=1, base_url=standin.url)
    credentials = InstanceMetadataProvider(iam_role_fetcher=fetcher).load()
    session = botocore.session.Session()
    session._credentials = credentials
    return session


def identity(standin: Standin, session: Any) -> str:
    client = session.create_client("sts", region_name=standin.region, endpoint_url=standin.url)
    return str(client.get_caller_identity()["Arn"])


def test_the_roles_credentials_sign_requests(standin: Standin) -> None:
    arn = f"arn:aws:sts::{standin.account_id}:assumed-role/stand-in/{standin.instance_id}"
    assert identity(standin, role_session(standin)) == arn


def test_the_roles_credentials_stay_until_shortly_before_their_end(standin: Standin, metadata: Metadata) -> None:
    def key() -> str:
        return str(orjson.loads(metadata.get("meta-data/iam/security-credentials/stand-in")[1])["AccessKeyId"])

    first = key()
    assert key() == first
    standin.signing_clock.advance(21_600 - 301)
    assert key() == first
    standin.signing_clock.advance(2)
    assert key() != first


def test_revoked_credentials_are_refused_and_replaced(standin: Standin) -> None:
    old = role_session(standin)
    standin.metadata.expire_credentials()
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        identity(standin, old)
    assert identity(standin, role_session(standin)).endswith(standin.instance_id)


def test_a_role_is_assumed_with_its_external_id(standin: Standin, session: boto3.Session) -> None:
    sts = session.client("sts", endpoint_url=standin.url)
    role = f"arn:aws:iam::{standin.account_id}:role/path/uploader"
    standin.sts.external_ids[role] = "secret"
    call = {"RoleArn": role, "RoleSessionName": "outlive", "DurationSeconds": 900}
    with pytest.raises(ClientError, match="AccessDenied"):
        sts.assume_role(**call)
    got = sts.assume_role(**call, ExternalId="secret")["Credentials"]
    assumed = boto3.Session(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"], standin.region)
    arn = assumed.client("sts", endpoint_url=standin.url).get_caller_identity()["Arn"]
    assert arn == f"arn:aws:sts::{standin.account_id}:assumed-role/uploader/outlive"


@pytest.mark.parametrize(
    "change", [{"RoleArn": "arn:aws:iam::1:role/x"}, {"RoleSessionName": "a b"}, {"DurationSeconds": 43_201}]
)
def test_an_impossible_role_is_refused(standin: Standin, session: boto3.Session, change: dict[str, Any]) -> None:
    call = {"RoleArn": "arn:aws:iam::123456789012:role/r", "RoleSessionName": "session"} | change
    with pytest.raises(ClientError, match="ValidationError"):
        session.client("sts", endpoint_url=standin.url).assume_role(**call)
