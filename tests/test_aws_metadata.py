"""The instance metadata service: absent and silent are told apart, and no wait is without an end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest
from conftest import Environment
from raw_server import RawServer, http, read_request

from agent.aws.metadata import DEFAULT_ENDPOINT, Metadata, MetadataDisabled, MetadataError, MetadataUnavailable
from agent.engine.clock import FakeClock
from agent.standin.faults import Fault, Kind
from agent.standin.standin import INSTANCE_ID, Standin

TOKEN = http(b"token-1", "200 OK", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600")


def metadata_at(url: str, clock: FakeClock) -> Metadata:
    return Metadata(clock, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url})


def get_from(clock: FakeClock, *, token: bytes = TOKEN, answer: bytes = b"") -> str | None:
    """What `get` gives where the service says just this."""

    def talk(connection: socket.socket) -> None:
        while read_request(connection)[0].startswith(b"PUT"):
            connection.sendall(token)
        connection.sendall(answer)

    with RawServer(talk) as server, closing(metadata_at(server.url, clock)) as metadata:
        return metadata.get("instance-id")


@pytest.fixture
def metadata(standin: Standin, clock: FakeClock) -> Iterator[Metadata]:
    metadata = metadata_at(standin.url, clock)
    yield metadata
    metadata.close()


def asked(standin: Standin) -> list[tuple[str, int]]:
    return [(call.operation, call.status) for call in standin.journal.calls("imds")]


# values


def test_a_value_is_text_without_its_line_end(standin: Standin, metadata: Metadata) -> None:
    standin.metadata.set("meta-data/note", " text \n")
    assert metadata.get("note") == "text"


def test_what_is_absent_is_none_and_what_is_empty_is_empty(standin: Standin, metadata: Metadata) -> None:
    standin.metadata.set("meta-data/note", "")
    assert (metadata.get("none"), metadata.get("note")) == (None, "")


def test_the_identity_document_says_who_we_are(metadata: Metadata) -> None:
    identity = metadata.identity()
    assert (identity["instanceId"], identity["region"]) == (INSTANCE_ID, "eu-west-1")
    assert all(isinstance(value, str) for value in identity.values())


def test_what_the_identity_document_says_nothing_about_is_left_out(standin: Standin, metadata: Metadata) -> None:
    standin.metadata.set(
        "dynamic/instance-identity/document", '{"instanceId": "i-1", "kernelId": null, "billing": 3}'
    )
    assert metadata.identity() == {"instanceId": "i-1", "billing": "3"}


def test_the_signature_of_the_identity_is_there_or_none(standin: Standin, metadata: Metadata) -> None:
    assert metadata.identity_signature()
    standin.metadata.set("dynamic/instance-identity/signature", None)
    assert metadata.identity_signature() is None


@pytest.mark.parametrize("key", ["Name", "aws:autoscaling:groupName", "a+b-c=d.e,f_g:h@i"])
def test_a_tag_is_found_by_its_key(standin: Standin, metadata: Metadata, key: str) -> None:
    standin.metadata.set_tags({key: "value"})
    assert metadata.tag(key) == "value"


def test_a_key_that_no_path_can_have_is_escaped(metadata: Metadata) -> None:
    assert metadata.tag("a b?c#d\r\ne%41é") is None


# session tokens


def test_one_token_and_one_connection_serve_for_many_questions(standin: Standin, metadata: Metadata) -> None:
    for _ in range(5):
        metadata.get("instance-id")
    assert [operation for operation, _ in asked(standin)] == ["api/token", *["meta-data/instance-id"] * 5]
    assert len({call.connection for call in standin.journal.calls("imds")}) == 1


def test_the_token_is_renewed_at_half_its_life(standin: Standin, metadata: Metadata, clock: FakeClock) -> None:
    for seconds in (0, 3 * 3600 - 1, 1):
        clock.advance(seconds)
        metadata.get("instance-id")
    assert [operation for operation, _ in asked(standin)].count("api/token") == 2
    assert asked(standin)[-2][0] == "api/token"


def test_a_jump_of_the_wall_clock_renews_nothing(standin: Standin, metadata: Metadata, clock: FakeClock) -> None:
    metadata.get("instance-id")
    clock.set_time(clock.time() + 1e7)
    metadata.get("instance-id")
    assert [operation for operation, _ in asked(standin)].count("api/token") == 1


def test_a_token_that_is_not_known_any_more_is_renewed_at_once(standin: Standin, metadata: Metadata) -> None:
    """After hibernation, or a stop and start."""
    metadata.get("instance-id")
    standin.metadata.restart()
    assert metadata.get("instance-id") == INSTANCE_ID
    assert asked(standin)[2:] == [("meta-data/instance-id", 401), ("api/token", 200), ("meta-data/instance-id", 200)]


def test_a_fresh_token_that_is_refused_too_is_not_renewed_for_ever(standin: Standin, metadata: Metadata) -> None:
    standin.metadata.set("meta-data/note", 401)
    with pytest.raises(MetadataUnavailable, match="401"):
        metadata.get("note")
    assert asked(standin) == [("api/token", 200), ("meta-data/note", 401)] * 2


def test_without_a_token_nothing_is_asked(standin: Standin, metadata: Metadata) -> None:
    """Version 1 would answer; a server-side request forgery could use it, too."""
    standin.faults.add(Fault(Kind.ERROR, service="imds", operation="api/token", status=404))
    with pytest.raises(MetadataUnavailable, match="no session token"):
        metadata.get("instance-id")
    assert asked(standin) == [("api/token", 404)]


@pytest.mark.parametrize("token", [b"", b"a\x00b", b"a\r\nX-Evil: 1", "tök".encode(), "\u2028".encode(), b"\xff"])
def test_a_token_that_no_header_can_have_is_none(clock: FakeClock, token: bytes) -> None:
    with pytest.raises(MetadataUnavailable):
        get_from(clock, token=http(token), answer=http(b"value"))


# switched off


@pytest.mark.parametrize("value", ["true", "TRUE", "True"])
def test_what_is_switched_off_by_the_environment_is_not_asked(standin: Standin, clock: FakeClock, value: str) -> None:
    environment = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": standin.url, "AWS_EC2_METADATA_DISABLED": value}
    with pytest.raises(MetadataDisabled, match="AWS_EC2_METADATA_DISABLED"):
        Metadata(clock, environment).identity()
    assert asked(standin) == []


@pytest.mark.parametrize("after_token", [False, True])
def test_403_means_that_it_is_disabled_for_this_instance(
    standin: Standin, metadata: Metadata, after_token: bool
) -> None:
    if after_token:
        metadata.get("instance-id")
    standin.metadata.enabled = False
    with pytest.raises(MetadataDisabled, match="403"):
        metadata.get("instance-id")


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, DEFAULT_ENDPOINT),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": ""}, DEFAULT_ENDPOINT),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://[fd00:ec2::254]/"}, "http://[fd00:ec2::254]"),
    ],
)
def test_the_endpoint_is_the_environments(clock: FakeClock, environment: Mapping[str, str], endpoint: str) -> None:
    assert Metadata(clock, environment).endpoint == endpoint


# silence, in all its forms


@pytest.mark.parametrize("status", [429, 500, 503, 301, 405])
@pytest.mark.parametrize("operation", ["api/token", "meta-data/*"])
def test_an_answer_that_says_nothing_is_unavailable(
    standin: Standin, metadata: Metadata, operation: str, status: int
) -> None:
    standin.faults.add(Fault(Kind.ERROR, service="imds", operation=operation, status=status))
    with pytest.raises(MetadataUnavailable, match=str(status)):
        metadata.get("instance-id")
    standin.faults.clear()
    assert metadata.get("instance-id") == INSTANCE_ID


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.REFUSE, Kind.LOST])
def test_a_broken_connection_is_unavailable_and_used_no_more(
    standin: Standin, metadata: Metadata, kind: Kind
) -> None:
    standin.faults.add(Fault(kind, service="imds", times=1))
    with pytest.raises(MetadataUnavailable, match="does not answer"):
        metadata.get("instance-id")
    assert metadata.get("instance-id") == INSTANCE_ID


def test_a_connection_that_was_closed_meanwhile_is_replaced_without_an_error(
    standin: Standin, metadata: Metadata
) -> None:
    metadata.get("instance-id")
    standin.faults.add(Fault(Kind.REFUSE, service="imds", times=1))
    assert metadata.get("instance-id") == INSTANCE_ID


def test_nobody_there_is_unavailable(clock: FakeClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(MetadataUnavailable, match=str(port)):
        metadata_at(f"http://127.0.0.1:{port}", clock).identity()


def test_a_token_that_never_comes_ends_with_the_time_limit(standin: Standin, metadata: Metadata) -> None:
    """A container that is one hop too far away: the answer is dropped on its way."""
    standin.faults.add(Fault(Kind.HANG, service="imds", operation="api/token", seconds=60))
    before = time.monotonic()
    with pytest.raises(MetadataUnavailable, match="TimeoutError"):
        metadata.get("instance-id")
    assert 1.9 < time.monotonic() - before < 3.5
    standin.faults.clear()
    assert metadata.get("instance-id") == INSTANCE_ID


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\x01\x02",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ni-0",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        http(b"i-0\xff\xfe"),
        http(b"x" * 300_000),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 300_000,
    ],
    ids=["none", "garbage", "half", "nothing of it", "no text", "too long", "too long, without a length"],
)
def test_an_answer_that_is_cut_or_garbled_is_unavailable(clock: FakeClock, answer: bytes) -> None:
    with pytest.raises(MetadataUnavailable):
        get_from(clock, answer=answer)


def test_an_answer_that_ends_with_the_connection_is_whole(clock: FakeClock) -> None:
    assert get_from(clock, answer=b"HTTP/1.0 200 OK\r\n\r\ni-0123\n") == "i-0123"


@pytest.mark.parametrize(
    "document",
    ["", "null", "[]", "<html>a captive portal</html>", '{"instanceId": "i-1', "{}", '{"region": "eu-west-1"}',
     '{"instanceId": ""}', '{"instanceId": null}'],
)  # fmt: skip
def test_a_document_that_names_no_instance_is_no_identity(
    standin: Standin, metadata: Metadata, document: str
) -> None:
    """The state is bound to the id: none is guessed from half an answer."""
    standin.metadata.set("dynamic/instance-identity/document", document)
    with pytest.raises(MetadataUnavailable):
        metadata.identity()


def test_an_absent_identity_document_is_no_identity(standin: Standin, metadata: Metadata) -> None:
    standin.metadata.set("dynamic/instance-identity/document", None)
    with pytest.raises(MetadataUnavailable):
        metadata.identity()


@pytest.mark.parametrize("endpoint", ["localhost:1338", "http://", "http://host:port", "http://[::1", "http://a b/"])
def test_an_endpoint_that_is_none_is_unavailable_and_no_crash(clock: FakeClock, endpoint: str) -> None:
    with pytest.raises(MetadataError):
        metadata_at(endpoint, clock).identity()


# what else is promised


def test_no_proxy_is_used(metadata: Metadata, environment: Environment) -> None:
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    with environment(proxies):
        assert metadata.get("instance-id") == INSTANCE_ID


def test_many_threads_share_one_connection_and_each_gets_its_own_answer(standin: Standin, metadata: Metadata) -> None:
    for number in range(8):
        standin.metadata.set(f"meta-data/n/{number}", str(number))
    answers: dict[int, set[str | None]] = {}

    def ask(number: int) -> None:
        answers[number] = {metadata.get(f"n/{number}") for _ in range(20)}

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers == {number: {str(number)} for number in range(8)}
    assert len({call.connection for call in standin.journal.calls("imds")}) == 1


def test_nothing_but_the_token_goes_with_a_question(clock: FakeClock) -> None:
    heads: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        for answer in (TOKEN, http(b"value")):
            heads.append(read_request(connection)[0])
            connection.sendall(answer)

    with RawServer(talk) as server:
        metadata = metadata_at(server.url, clock)
        assert metadata.get("instance-id") == "value"
        metadata.close()
    assert heads[0].startswith(b"PUT /latest/api/token HTTP/1.1")
    assert b"X-aws-ec2-metadata-token-ttl-seconds: 21600" in heads[0]
    assert heads[1].startswith(b"GET /latest/meta-data/instance-id HTTP/1.1")
    assert b"X-aws-ec2-metadata-token: token-1" in heads[1]
    for head in heads:
        assert b"authorization" not in head.lower()
        assert b"x-forwarded-for" not in head.lower()


def test_after_closing_it_can_be_asked_again(standin: Standin, metadata: Metadata) -> None:
    metadata.get("instance-id")
    metadata.close()
    assert metadata.get("instance-id") == INSTANCE_ID
    assert len({call.connection for call in standin.journal.calls("imds")}) == 2
