"""Signature Version 4: AWS's published examples, and every request that botocore signs, verify; nothing else does."""

import hashlib
import http.client
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import orjson
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from agent.standin.clock import Clock
from agent.standin.keys import ACCESS_KEY, SECRET_KEY, Key, KeyRing
from agent.standin.message import Body, Request
from agent.standin.signatures import (
    Authorization,
    ExpiredTokenError,
    IncompleteSignatureError,
    InvalidTokenError,
    MissingAuthenticationError,
    SignatureError,
    SkewedError,
    UnknownKeyError,
    UnsignedHeaderError,
    Verifier,
    WrongScopeError,
    WrongSignatureError,
    canonical_request,
    parse_authorization,
)
from agent.standin.standin import Standin

HOST = "127.0.0.1:8000"
EMPTY = hashlib.sha256(b"").hexdigest()


class FixedKeys(KeyRing):
    """A ring with one key of the documentation's."""

    def __init__(self, key: Key) -> None:
        super().__init__(lambda: 0.0, "123456789012")
        self._key = key

    def find(self, access_key: str) -> Key | None:
        return self._key if access_key == self._key.access_key else None


def plain_request(method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Request:
    lower = {name.lower(): value for name, value in headers.items()}
    return Request(method, target, lower, Body(io.BufferedReader(io.BytesIO(body)), lower, lambda: None))


def signed_by_botocore(
    service: str,
    *,
    method: str = "POST",
    target: str = "/",
    body: bytes = b"{}",
    headers: dict[str, str] | None = None,
    credentials: Credentials | None = None,
    sign_payload: bool = True,
) -> Request:
    url = f"https://{HOST}{target}"
    request = AWSRequest(method=method, url=url, data=body, headers={"Host": HOST, **(headers or {})})
    request.context["client_config"] = Config(s3={"payload_signing_enabled": sign_payload})
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    signer(credentials or Credentials(ACCESS_KEY, SECRET_KEY), service, "eu-west-1").add_auth(request)
    path = urlsplit(request.url)
    wire = f"{path.path}?{path.query}" if path.query else path.path
    return plain_request(method, wire, dict(request.headers.items()), body)


def verify(request: Request, *, body: bytes = b"{}", clock: Clock | None = None, region: str | None = None) -> Key:
    clock = clock or Clock()
    payload_hash = request.headers.get("x-amz-content-sha256") or hashlib.sha256(body).hexdigest()
    return Verifier(KeyRing(clock, "123456789012"), clock).verify(request, payload_hash, region=region)


# AWS's own examples


def test_the_example_of_the_iam_user_guide_verifies() -> None:
    key = Key("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "arn:aws:iam::123456789012:user/example")
    request = plain_request(
        "GET",
        "/?Action=ListUsers&Version=2010-05-08",
        {
            "Host": "iam.amazonaws.com",
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "X-Amz-Date": "20150830T123600Z",
            "Authorization": (
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
                "SignedHeaders=content-type;host;x-amz-date, "
                "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
            ),
        },
    )
    signed_at = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
    assert Verifier(FixedKeys(key), lambda: signed_at).verify(request, EMPTY) is key


def test_the_example_of_the_s3_reference_verifies() -> None:
    key = Key(
        "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "arn:aws:iam::123456789012:user/example"
    )
    request = plain_request(
        "GET",
        "/test.txt",
        {
            "Host": "examplebucket.s3.amazonaws.com",
            "Range": "bytes=0-9",
            "x-amz-content-sha256": EMPTY,
            "x-amz-date": "20130524T000000Z",
            "Authorization": (
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
                "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
                "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
            ),
        },
    )
    signed_at = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
    assert Verifier(FixedKeys(key), lambda: signed_at).verify(request, EMPTY) is key


def test_header_values_are_trimmed_inside_and_names_keep_their_order() -> None:
    request = plain_request(
        "GET", "/", {"Host": "example", "My-Header": "a   b  c", "X-Amz-Date": "20150830T123600Z"}
    )
    authorization = Authorization("A", "20150830", "r", "service", ("host", "my-header", "x-amz-date"), "0")
    assert canonical_request(request, authorization, EMPTY).splitlines()[3:6] == [
        "host:example",
        "my-header:a b c",
        "x-amz-date:20150830T123600Z",
    ]


# whatever botocore signs


@pytest.mark.parametrize("service", ["logs", "monitoring", "autoscaling", "sts", "ec2"])
@pytest.mark.parametrize("body", [b"{}", b"", "wärme".encode()])
def test_what_botocore_signs_for_a_json_or_query_service_verifies(service: str, body: bytes) -> None:
    request = signed_by_botocore(service, body=body, headers={"X-Amz-Target": "T.Op", "Content-Type": "a/b;  c=d"})
    assert verify(request, body=body).access_key == ACCESS_KEY


@pytest.mark.parametrize(
    "target",
    [
        "/bucket/key",
        "/bucket/a%20b/%C3%BC%2Bc",
        "/bucket/a//b/../c/./d",
        "/bucket/~tilde-_.%21%27%28%29%2A",
        "/bucket?list-type=2&prefix=a%2Fb%20c&delimiter=%2F",
        "/bucket?uploads",
        "/bucket/key?partNumber=2&uploadId=a%2Bb%3D",
        "/bucket?b=2&a=&A=1",
    ],
)
def test_what_botocore_signs_for_s3_verifies_whatever_the_key(target: str) -> None:
    request = signed_by_botocore("s3", method="PUT", target=target, body=b"x", headers={"x-amz-meta-a": "b  c"})
    assert verify(request).access_key == ACCESS_KEY


def test_an_unsigned_payload_verifies_by_its_word() -> None:
    request = signed_by_botocore("s3", method="PUT", target="/b/k", sign_payload=False)
    assert request.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert verify(request).access_key == ACCESS_KEY


def test_temporary_credentials_verify_with_their_token() -> None:
    clock = Clock()
    ring = KeyRing(clock, "123456789012")
    key = ring.issue("arn:aws:sts::123456789012:assumed-role/r/s", 900)
    request = signed_by_botocore("logs", credentials=Credentials(key.access_key, key.secret_key, key.token))
    assert Verifier(ring, clock).verify(request, hashlib.sha256(b"{}").hexdigest()) == key


# and nothing else


def test_another_secret_is_refused() -> None:
    with pytest.raises(WrongSignatureError, match="does not match"):
        verify(signed_by_botocore("logs", credentials=Credentials(ACCESS_KEY, "not the secret")))


def test_a_changed_body_is_refused() -> None:
    with pytest.raises(WrongSignatureError):
        verify(signed_by_botocore("logs", body=b'{"a":1}'), body=b'{"a":2}')


@pytest.mark.parametrize(
    ("name", "value"), [("x-amz-target", "T.Other"), ("host", "elsewhere"), ("content-type", "text/plain")]
)
def test_a_changed_header_is_refused(name: str, value: str) -> None:
    request = signed_by_botocore("logs", headers={"X-Amz-Target": "T.Op", "Content-Type": "a/b"})
    request.headers[name] = value
    with pytest.raises(WrongSignatureError):
        verify(request)


@pytest.mark.parametrize(("method", "target"), [("GET", "/b/k?x=1"), ("PUT", "/b/j?x=1"), ("PUT", "/b/k?x=2")])
def test_a_changed_method_path_or_query_is_refused(method: str, target: str) -> None:
    signed = signed_by_botocore("s3", method="PUT", target="/b/k?x=1")
    with pytest.raises(WrongSignatureError):
        verify(plain_request(method, target, signed.headers))


def test_an_amz_header_outside_the_signature_is_refused() -> None:
    request = signed_by_botocore("logs")
    request.headers["x-amz-meta-added"] = "later"
    with pytest.raises(UnsignedHeaderError, match="x-amz-meta-added"):
        verify(request)


def test_a_signed_header_that_is_missing_is_refused() -> None:
    request = signed_by_botocore("logs", headers={"Content-Type": "a/b"})
    del request.headers["content-type"]
    with pytest.raises(WrongSignatureError, match="content-type"):
        verify(request)


@pytest.mark.parametrize(
    ("service", "skew", "accepted"),
    [
        ("logs", 295, True),
        ("logs", -295, True),
        ("logs", 305, False),
        ("logs", -305, False),
        ("s3", 895, True),
        ("s3", 905, False),
        ("s3", -905, False),
    ],
)
def test_a_date_may_be_off_by_five_minutes_and_for_s3_by_fifteen(service: str, skew: float, accepted: bool) -> None:
    clock = Clock()
    clock.advance(skew)
    request = signed_by_botocore(service)
    if accepted:
        assert verify(request, clock=clock).access_key == ACCESS_KEY
    else:
        with pytest.raises(SkewedError, match="Signature expired" if skew > 0 else "not yet current"):
            verify(request, clock=clock)


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (None, MissingAuthenticationError),
        ("", MissingAuthenticationError),
        ("Basic abc", IncompleteSignatureError),
        ("AWS4-HMAC-SHA256 Credential=A/b/c/d/aws4_request, Signature=1", IncompleteSignatureError),
        ("AWS4-HMAC-SHA256 Credential=A/b/c, SignedHeaders=host, Signature=1", IncompleteSignatureError),
        ("AWS4-HMAC-SHA256 Credential=A/b/c/d/other, SignedHeaders=host, Signature=1", IncompleteSignatureError),
    ],
)
def test_a_malformed_authorization_is_told_from_a_missing_one(
    header: str | None, error: type[SignatureError]
) -> None:
    with pytest.raises(error):
        parse_authorization(header)


def test_a_date_that_is_none_is_refused() -> None:
    request = signed_by_botocore("logs")
    request.headers["x-amz-date"] = "yesterday"
    with pytest.raises(IncompleteSignatureError, match="ISO-8601"):
        verify(request)


def test_a_scope_of_another_day_or_region_is_refused() -> None:
    request = signed_by_botocore("logs")
    with pytest.raises(WrongScopeError, match="valid region"):
        verify(request, region="us-west-2")
    today = request.headers["x-amz-date"][:8]
    request.headers["authorization"] = request.headers["authorization"].replace(f"/{today}/", "/20200101/")
    with pytest.raises(WrongScopeError, match="Date in Credential scope"):
        verify(request)


def test_an_unknown_key_a_wrong_token_and_an_expired_one_are_told_apart() -> None:
    clock = Clock()
    ring = KeyRing(clock, "123456789012")
    verifier, empty = Verifier(ring, clock), hashlib.sha256(b"{}").hexdigest()
    key = ring.issue("arn:aws:sts::123456789012:assumed-role/r/s", 60)
    with pytest.raises(UnknownKeyError):
        verifier.verify(signed_by_botocore("logs", credentials=Credentials("AKIAUNKNOWN", "x")), empty)
    with pytest.raises(InvalidTokenError):
        verifier.verify(signed_by_botocore("logs", credentials=Credentials(key.access_key, key.secret_key)), empty)
    request = signed_by_botocore("logs", credentials=Credentials(key.access_key, key.secret_key, key.token))
    clock.advance(61)
    with pytest.raises(ExpiredTokenError):
        verifier.verify(request, empty)


def test_the_oldest_temporary_key_is_forgotten_when_there_are_too_many() -> None:
    ring = KeyRing(lambda: 0.0, "123456789012", limit=2)
    first, second, third = (ring.issue("arn", 60) for _ in range(3))
    assert ring.find(first.access_key) is None
    assert [ring.find(key.access_key) for key in (second, third)] == [second, third]


# on the wire, each service has its own words for it


@pytest.fixture(scope="module")
def standin() -> Iterator[Standin]:
    with Standin.start() as running:
        yield running


def send(standin: Standin, request: Request, body: bytes = b"{}") -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection("127.0.0.1", standin.port, timeout=5)
    try:
        connection.request(request.method, request.target, body, request.headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers.get("x-amzn-query-error", "")
    finally:
        connection.close()


WRONG_SECRET = {
    "logs": (400, b"InvalidSignatureException"),
    "monitoring": (400, b"InvalidSignatureException"),
    "autoscaling": (403, b"SignatureDoesNotMatch"),
    "sts": (403, b"SignatureDoesNotMatch"),
    "ec2": (403, b"SignatureDoesNotMatch"),
    "s3": (403, b"SignatureDoesNotMatch"),
}
UNKNOWN_KEY = {
    "logs": (400, b"UnrecognizedClientException"),
    "monitoring": (400, b"UnrecognizedClientException"),
    "autoscaling": (403, b"InvalidClientTokenId"),
    "sts": (403, b"InvalidClientTokenId"),
    "ec2": (401, b"AuthFailure"),
    "s3": (403, b"InvalidAccessKeyId"),
}


@pytest.mark.parametrize("service", WRONG_SECRET)
@pytest.mark.parametrize(
    ("key", "expected"), [(ACCESS_KEY, WRONG_SECRET), ("AKIAUNKNOWN", UNKNOWN_KEY)], ids=["secret", "key"]
)
def test_each_service_refuses_a_wrong_secret_and_a_wrong_key_in_its_own_words(
    standin: Standin, service: str, key: str, expected: dict[str, tuple[int, bytes]]
) -> None:
    status, body, _ = send(standin, signed_by_botocore(service, target="/b", credentials=Credentials(key, "wrong")))
    assert status == expected[service][0]
    assert expected[service][1] in body


def test_a_skewed_clock_has_s3s_own_code(standin: Standin) -> None:
    request = signed_by_botocore("s3", target="/b")
    standin.signing_clock.offset = 1000.0
    status, body, _ = send(standin, request)
    standin.signing_clock.offset = 0.0
    assert (status, b"RequestTimeTooSkewed" in body) == (403, True)


def test_a_request_without_a_signature_is_refused_by_the_service_it_names(standin: Standin) -> None:
    headers = {"x-amz-target": "Logs_20140328.PutLogEvents", "content-type": "application/x-amz-json-1.1"}
    status, body, _ = send(standin, plain_request("POST", "/", headers))
    assert (status, orjson.loads(body)["__type"]) == (400, "MissingAuthenticationTokenException")
    status, body, _ = send(standin, plain_request("GET", "/bucket/key", {}))
    assert (status, b"<Code>AccessDenied</Code>" in body) == (403, True)


def test_cloudwatch_repeats_its_query_error_in_a_header(standin: Standin) -> None:
    _, body, header = send(standin, signed_by_botocore("monitoring", credentials=Credentials(ACCESS_KEY, "wrong")))
    assert header == f"{orjson.loads(body)['__type']};Sender"


def test_a_service_that_is_not_there_says_so(standin: Standin) -> None:
    status, body, _ = send(standin, signed_by_botocore("sqs"))
    assert status == 501
    assert "the stand-in has no service 'sqs'" in orjson.loads(body)["message"]
