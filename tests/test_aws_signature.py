"""Our Signature Version 4 is botocore's, byte for byte, over whatever a request may hold."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable
from urllib.parse import quote

import pytest
from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from agent.aws.signature import Signer

HOST = "bucket.s3.eu-west-1.amazonaws.com:8443"
REGION = "eu-west-1"
KEYS = ReadOnlyCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
TOKEN_KEYS = ReadOnlyCredentials("ASIAEXAMPLE", "another/secret", "a token+/== of STS")
SECOND = 1_770_000_000.0

texts = st.text(string.ascii_letters + string.digits + " -_.~/=+:;,\t", max_size=40)
names = st.from_regex(r"(x-amz-|X-Amz-Meta-|Content-)[A-Za-z0-9-]{1,20}", fullmatch=True)
keys = st.text(max_size=30).map(lambda key: quote(key.encode("utf-8", "replace"), safe="/-_.~"))
arguments = st.tuples(st.sampled_from(["partNumber", "uploadId", "uploads", "prefix", "p"]), texts)
queries = st.lists(arguments, max_size=4).map(
    lambda pairs: "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in pairs)
)


class _Botocore(SigV4Auth):
    """The signer of botocore, at a given time; S3's paths are signed as they are."""

    def sign(self, request: AWSRequest, timestamp: str) -> None:
        request.context["timestamp"] = timestamp
        self._modify_request_before_signing(request)  # type: ignore[attr-defined]
        string_to_sign = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(string_to_sign, request))  # type: ignore[attr-defined]

    def _normalize_url_path(self, path: str) -> str:
        return path or "/"


def botocores(
    method: str,
    target: str,
    headers: dict[str, str],
    digest: str,
    credentials: ReadOnlyCredentials,
    when: float,
    service: str,
) -> dict[str, str]:
    from datetime import UTC, datetime

    request = AWSRequest(method=method, url=f"https://{HOST}{target}", headers=headers)
    request.headers["Host"] = HOST
    request.headers["X-Amz-Content-SHA256"] = digest
    signer = _Botocore(credentials, service, REGION)  # type: ignore[no-untyped-call]
    signer.sign(request, datetime.fromtimestamp(int(when), UTC).strftime(SIGV4_TIMESTAMP))
    return {name.lower(): value for name, value in request.headers.items()}


def ours(
    method: str,
    target: str,
    headers: dict[str, str],
    digest: str,
    credentials: ReadOnlyCredentials,
    when: float,
    service: str,
) -> dict[str, str]:
    added = Signer(service, REGION, HOST).sign(method, target, headers, digest, credentials, when)
    return {name.lower(): value for name, value in {**headers, **added}.items()}


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE"]),
    key=keys,
    query=queries,
    headers=st.dictionaries(names, texts, max_size=6),
    digest=st.one_of(st.just("UNSIGNED-PAYLOAD"), st.binary(max_size=9).map(lambda b: hashlib.sha256(b).hexdigest())),
    credentials=st.sampled_from([KEYS, TOKEN_KEYS]),
    when=st.floats(0, 4e9),
    service=st.sampled_from(["s3", "logs", "monitoring"]),
)
def test_a_request_is_signed_as_botocore_signs_it(
    method: str,
    key: str,
    query: str,
    headers: dict[str, str],
    digest: str,
    credentials: ReadOnlyCredentials,
    when: float,
    service: str,
) -> None:
    headers = {
        name.lower(): value for name, value in headers.items()
    }  # two that differ in case are no request of ours
    target = f"/{key}{'?' if query else ''}{query}"
    arguments = (method, target, headers, digest, credentials, when, service)
    assert ours(*arguments) == botocores(*arguments)


@pytest.mark.parametrize("name", ["User-Agent", "Expect", "Transfer-Encoding", "X-Amzn-Trace-Id"])
def test_what_may_change_on_the_way_is_not_signed(name: str) -> None:
    arguments = ("PUT", "/k", {name: "x"}, "0" * 64, KEYS, SECOND, "s3")
    assert ours(*arguments) == botocores(*arguments)
    assert name.lower() not in ours(*arguments)["authorization"].lower()


def test_another_secret_or_day_makes_another_signing_key() -> None:
    """The key of the day is kept: what it was made of must not be forgotten."""
    signer = Signer("s3", REGION, HOST)

    def sign(credentials: ReadOnlyCredentials, when: float) -> str:
        return signer.sign("PUT", "/k", {}, "0" * 64, credentials, when)["Authorization"]

    other = ReadOnlyCredentials(KEYS.access_key, "rotated", None)
    for credentials, when in [(KEYS, SECOND), (other, SECOND), (KEYS, SECOND), (KEYS, SECOND + 86_400)]:
        arguments = ("PUT", "/k", {}, "0" * 64, credentials, when, "s3")
        assert sign(credentials, when) == botocores(*arguments)["authorization"]


def test_the_time_is_that_of_the_request_to_the_second() -> None:
    signer = Signer("s3", REGION, HOST)
    date: Callable[[float], str] = lambda when: signer.sign("PUT", "/k", {}, "0" * 64, KEYS, when)["X-Amz-Date"]  # noqa: E731
    assert [date(0.0), date(0.999), date(1.0), date(0.5)] == [
        "19700101T000000Z", "19700101T000000Z", "19700101T000001Z", "19700101T000000Z",
    ]  # fmt: skip
