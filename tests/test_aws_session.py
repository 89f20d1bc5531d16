"""The way into AWS by the standard environment: region, credentials, roles, endpoints, proxies."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from conftest import Environment, environment_of
from raw_server import RawServer, http, read_request

from agent.aws.cold import call
from agent.aws.errors import Denied, Unreachable
from agent.aws.session import Aws, RegionUnknown, find_region
from agent.aws.wire import Wire
from agent.engine.clock import SystemClock
from agent.standin.faults import Fault, Kind
from agent.standin.keys import ACCESS_KEY, SECRET_KEY
from agent.standin.standin import Standin

NOWHERE = {
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}
KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
ROLE = "arn:aws:iam::123456789012:role/shipper"
ASSUMED = "arn:aws:sts::123456789012:assumed-role/shipper/outlive"


def who_by_client(aws: Aws) -> str:
    arn: str = call("GetCallerIdentity", aws.client("sts").get_caller_identity)["Arn"]
    return arn


def who_by_wire(aws: Aws) -> str:
    """The same question on the fast path."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    answer = aws.wire("sts").send("GetCallerIdentity", "POST", "/", headers, body)
    assert answer.status == 200, answer.body
    return answer.body.decode().partition("<Arn>")[2].partition("</Arn>")[0]


def who(aws: Aws) -> str:
    """Who AWS says that we are, which both ways must agree about."""
    by_client, by_wire = who_by_client(aws), who_by_wire(aws)
    assert by_client == by_wire
    return by_client


def denial(aws: Aws) -> str:
    """Why AWS is not even asked who we are, which both ways must agree about."""
    reasons = []
    for way in (who_by_client, who_by_wire):
        with pytest.raises(Denied) as caught:
            way(aws)
        reasons.append(str(caught.value))
    return "\n".join(reasons)


# regions


@pytest.mark.parametrize(
    ("configured", "variables", "region"),
    [
        ("eu-central-1", {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-central-1"),
        (None, {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
        (None, {"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        (None, {"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        (None, {"AWS_PROFILE": "work"}, "eu-north-1"),
        (None, {}, "eu-south-1"),
    ],
)
def test_the_region_is_the_configurations_the_environments_or_the_profiles(
    environment: Environment, tmp_path: Path, configured: str | None, variables: Mapping[str, str], region: str
) -> None:
    profiles = tmp_path / "config"
    profiles.write_text("[default]\nregion = eu-south-1\n[profile work]\nregion = eu-north-1\n")
    with environment({**NOWHERE, "AWS_CONFIG_FILE": str(profiles), **variables}):
        assert find_region(configured) == region


def test_without_any_there_is_no_region(environment: Environment) -> None:
    with environment(NOWHERE):
        assert find_region(None) is None


def test_a_profile_that_does_not_exist_is_named(environment: Environment) -> None:
    with environment({**NOWHERE, "AWS_PROFILE": "misspelt"}), pytest.raises(RegionUnknown, match="misspelt"):
        find_region(None)


def test_a_configuration_of_the_sdk_that_cannot_be_read_is_named(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("region = eu-west-1\n")
    with environment({**NOWHERE, "AWS_CONFIG_FILE": str(tmp_path / "config")}), pytest.raises(RegionUnknown):
        find_region(None)


# credentials


def test_keys_of_the_environment_are_used(aws: Aws) -> None:
    assert who(aws) == "arn:aws:iam::123456789012:user/stand-in"


def test_the_instance_roles_credentials_come_from_metadata(standin: Standin, environment: Environment) -> None:
    with environment(standin.environment(role=True)), closing(Aws("eu-west-1", SystemClock())) as aws:
        assert who(aws) == f"arn:aws:sts::123456789012:assumed-role/stand-in/{standin.instance_id}"


def test_credentials_that_are_about_to_expire_are_fetched_again(standin: Standin, environment: Environment) -> None:
    issued: list[str] = []

    def issue(connection: socket.socket) -> None:
        while read_request(connection)[0]:
            key = standin.keys.issue("arn:aws:sts::123456789012:assumed-role/task/s", 60)
            issued.append(key.access_key)
            expires = datetime.fromtimestamp(time.time() + 60, UTC).isoformat()
            document = {"AccessKeyId": key.access_key, "SecretAccessKey": key.secret_key, "Token": key.token}
            connection.sendall(http(orjson.dumps({**document, "Expiration": expires})))

    with RawServer(issue) as container:
        variables = {**standin.environment(role=True), "AWS_CONTAINER_CREDENTIALS_FULL_URI": container.url}
        with environment(variables), closing(Aws("eu-west-1", SystemClock())) as aws:
            assert who_by_wire(aws) == who_by_wire(aws)
            aws.close()
    assert len(issued) == 3  # the first, and one for each request


def test_one_silent_moment_of_metadata_costs_no_credentials(standin: Standin, environment: Environment) -> None:
    standin.faults.add(Fault(Kind.ERROR, service="imds", operation="*", status=503, times=1))
    with environment(standin.environment(role=True)), closing(Aws("eu-west-1", SystemClock())) as aws:
        assert who_by_wire(aws)


def test_without_credentials_the_call_is_denied_and_says_why(standin: Standin, environment: Environment) -> None:
    without = {**standin.environment(role=True), "AWS_EC2_METADATA_DISABLED": "true"}
    with environment(without), closing(Aws("eu-west-1", SystemClock())) as aws:
        assert denial(aws).count("credentials") == 2
    assert standin.journal.calls() == []


def test_credentials_that_come_later_are_found(standin: Standin, environment: Environment) -> None:
    without = {**standin.environment(role=True), "AWS_EC2_METADATA_DISABLED": "true"}
    with environment(without), closing(Aws("eu-west-1", SystemClock())) as aws:
        with pytest.raises(Denied):
            who_by_wire(aws)
        with environment({**without, **KEYS}):
            assert who_by_wire(aws).endswith("user/stand-in")


def test_a_profile_that_does_not_exist_is_denied_by_its_name(standin: Standin, environment: Environment) -> None:
    variables = {**standin.environment(), "AWS_PROFILE": "misspelt"}
    with environment(variables), closing(Aws("eu-west-1", SystemClock())) as aws, pytest.raises(Denied) as caught:
        aws.wire("logs")
    assert "misspelt" in str(caught.value)


# roles


def test_a_role_is_assumed_once_for_many_calls(standin: Standin, aws: Aws) -> None:
    role = aws.as_role(ROLE)
    assert [who(role) for _ in range(3)] == [ASSUMED] * 3
    assert standin.journal.count("sts", "AssumeRole") == 1


def test_no_role_is_this_one_and_the_same_role_is_the_same(aws: Aws) -> None:
    assert aws.as_role(None) is aws
    assert aws.as_role(ROLE) is aws.as_role(ROLE)
    assert aws.as_role(ROLE) is not aws.as_role(ROLE, "other")
    assert aws.as_role(ROLE).as_role(ROLE) is aws.as_role(ROLE)


def test_the_external_id_is_sent(standin: Standin, aws: Aws) -> None:
    standin.sts.external_ids[ROLE] = "fleet-7"
    assert who_by_wire(aws.as_role(ROLE, "fleet-7")) == ASSUMED


@pytest.mark.parametrize("external_id", [None, "fleet-8"])
def test_a_role_that_may_not_be_assumed_is_denied_and_not_replaced_by_another_identity(
    standin: Standin, aws: Aws, external_id: str | None
) -> None:
    standin.sts.external_ids[ROLE] = "fleet-7"
    assert denial(aws.as_role(ROLE, external_id)).count("not authorized to perform: sts:AssumeRole") == 2
    assert standin.journal.count("sts", "GetCallerIdentity") == 0


def test_a_role_without_credentials_to_assume_it_is_denied(standin: Standin, environment: Environment) -> None:
    without = {**standin.environment(role=True), "AWS_EC2_METADATA_DISABLED": "true"}
    with environment(without), closing(Aws("eu-west-1", SystemClock(), ROLE)) as aws:
        assert denial(aws).count("credentials") == 2
    assert standin.journal.calls() == []


# endpoints


def route_of(aws: Aws, service: str, region: str | None = None, url: str | None = None) -> tuple[str, str, str]:
    route = aws.wire(service, region, url).route
    return route.url, route.region, route.signing_name


@pytest.fixture(scope="module")
def real() -> Iterator[Aws]:
    """AWS itself; nothing is sent."""
    with environment_of({**NOWHERE, **KEYS}), closing(Aws("eu-west-1", SystemClock())) as aws:
        aws.client("s3")
        yield aws


def test_endpoints_are_aws_own(real: Aws) -> None:
    assert route_of(real, "logs") == ("https://logs.eu-west-1.amazonaws.com", "eu-west-1", "logs")
    assert route_of(real, "cloudwatch") == (
        "https://monitoring.eu-west-1.amazonaws.com",
        "eu-west-1",
        "monitoring",
    )
    assert route_of(real, "s3", "eu-central-1") == (
        "https://s3.eu-central-1.amazonaws.com",
        "eu-central-1",
        "s3",
    )
    bucket = "https://bucket.s3.eu-west-1.amazonaws.com"
    assert route_of(real, "s3", url=bucket) == (bucket, "eu-west-1", "s3")


def test_the_environment_names_an_endpoint_for_all_or_for_one(environment: Environment) -> None:
    variables = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": "http://127.0.0.1:7"}
    with environment({**NOWHERE, **KEYS, **variables}), closing(Aws("eu-west-1", SystemClock())) as aws:
        assert route_of(aws, "logs")[0] == "http://127.0.0.1:7"
        assert route_of(aws, "sts")[0] == "http://127.0.0.1:9"


def test_certificates_are_botocores_unless_the_environment_has_a_bundle(environment: Environment, real: Aws) -> None:
    assert Path(real.wire("logs").route.ca_bundle or "").is_file()
    variables = {**NOWHERE, **KEYS, "AWS_CA_BUNDLE": "/etc/pki/ours.pem"}
    with environment(variables), closing(Aws("eu-west-1", SystemClock())) as aws:
        assert aws.wire("logs").route.ca_bundle == "/etc/pki/ours.pem"


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128"}, "proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "amazonaws.com"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "169.254.169.254,.eu-west-1.amazonaws.com"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.com"}, "http://proxy:3128"),
    ],
)
def test_the_proxy_is_the_environments_unless_it_excepts_the_endpoint(
    real: Aws, environment: Environment, variables: Mapping[str, str], proxy: str | None
) -> None:
    bucket = f"https://bucket-{abs(hash(str(variables)))}.s3.eu-west-1.amazonaws.com"  # a new wire for each
    with environment({**NOWHERE, **KEYS, **variables}):
        assert real.wire("s3", url=bucket).route.proxy == proxy


# clients and wires


def test_clients_and_wires_are_made_once(aws: Aws) -> None:
    assert aws.client("logs") is aws.client("logs") is aws.client("logs", "eu-west-1")
    assert aws.wire("logs") is aws.wire("logs")
    assert aws.wire("s3", "eu-west-1") is not aws.wire("s3", "eu-central-1")


def test_threads_that_come_at_once_share_one_client(aws: Aws) -> None:
    clients: set[int] = set()
    wires: list[Wire] = []

    def use() -> None:
        clients.add(id(aws.client("logs")))
        wires.append(aws.wire("logs"))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(clients) == 1
    assert len(set(map(id, wires))) == 1


def test_calls_outside_the_fast_path_are_tried_again_and_bounded(standin: Standin, aws: Aws) -> None:
    standin.faults.add(Fault(Kind.ERROR, service="sts", times=1))
    assert who_by_client(aws)
    assert standin.journal.count("sts", "GetCallerIdentity") == 2


def test_the_agent_says_who_it_is(aws: Aws) -> None:
    assert "outlive/" in aws.client("sts").meta.config.user_agent_extra


def test_closing_ends_the_wires_of_all_roles_and_leaves_nothing_open(aws: Aws) -> None:
    role = aws.as_role(ROLE)
    for each in (aws, role):
        who_by_wire(each)
        who_by_client(each)
    aws.close()
    for each in (aws, role):
        with pytest.raises(Unreachable, match="ending"):
            who_by_wire(each)
    gc.collect()  # a socket left open would say so now
