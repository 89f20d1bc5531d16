"""S3's client: integrity both ways, regions, conditions, parts, names."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from s3_kit import LocalAws

from agent.aws.checksums import CRC32, CRC64NVME, SHA256, Algorithm, ChecksumUnavailable, encode
from agent.aws.errors import AnswerLost, AwsError, Denied, NotFound, Refused, ServerFault, Throttled, Transient
from agent.aws.s3 import (
    S3,
    Bucket,
    ChecksumMismatch,
    KeyTaken,
    Part,
    Payload,
    Properties,
    algorithm,
    header_text,
)
from agent.aws.s3_door import escape_key
from agent.aws.wire import UNSIGNED_PAYLOAD, Answer, KeptConnectionClosed, Route
from agent.standin.faults import Fault, Kind
from agent.standin.standin import Standin

BUCKET = "shop-uploads"
MIB = 1 << 20
PART = os.urandom(5 * MIB)


@pytest.fixture(scope="module")
def running() -> Iterator[Standin]:
    with Standin.start() as standin:
        yield standin


@pytest.fixture
def standin(running: Standin) -> Iterator[Standin]:
    running.s3.add_bucket(BUCKET)
    yield running
    running.reset()


@pytest.fixture
def aws(standin: Standin) -> Iterator[LocalAws]:
    local = LocalAws(standin)
    yield local
    local.close()


@pytest.fixture
def bucket(aws: LocalAws) -> Bucket:
    return S3(aws).bucket(BUCKET)


def stored(standin: Standin, key: str, bucket: str = BUCKET) -> bytes:
    return b"".join(Path(segment.path).read_bytes() for segment in standin.s3.get(bucket, key).segments)


def crc32(data: bytes) -> str:
    return encode(zlib.crc32(data).to_bytes(4, "big"))


def streamed(bucket: Bucket, data: bytes, block: int = 100_000) -> Payload:
    return bucket.measure(lambda: (data[at : at + block] for at in range(0, len(data), block)), len(data))


# whole objects


@pytest.mark.parametrize("data", [b"", b"hello", os.urandom(300_000)], ids=["empty", "small", "large"])
def test_an_object_is_stored_and_answered_with_s3s_own_checksum(
    standin: Standin, bucket: Bucket, data: bytes
) -> None:
    answered = bucket.put_object("a/b", bucket.payload(data), {})
    assert stored(standin, "a/b") == data
    assert answered.checksum == crc32(data)
    assert answered.etag == hashlib.md5(data).hexdigest()
    assert bucket.head_object("a/b") == (answered, len(data))


def test_a_streamed_body_is_the_same_as_one_in_memory(standin: Standin, bucket: Bucket) -> None:
    data = os.urandom(1_000_001)
    answered = bucket.put_object("k", streamed(bucket, data), {})
    assert stored(standin, "k") == data
    assert answered.checksum == crc32(data)


def test_sha256_is_an_algorithm_too(standin: Standin, aws: LocalAws) -> None:
    bucket = S3(aws).bucket(BUCKET, algorithm=SHA256)
    answered = bucket.put_object("k", bucket.payload(b"x"), {})
    assert answered.checksum == encode(hashlib.sha256(b"x").digest())


def test_bytes_that_changed_after_they_were_hashed_are_a_mismatch_and_not_stored(
    standin: Standin, bucket: Bucket
) -> None:
    versions = [b"the first", b"another!!"]
    payload = bucket.measure(lambda: (versions.pop(0),), 9)
    with pytest.raises(ChecksumMismatch) as raised:
        bucket.put_object("k", payload, {})
    assert isinstance(raised.value, Transient)
    with pytest.raises(NotFound):
        bucket.head_object("k")


def test_properties_arrive(standin: Standin, bucket: Bucket) -> None:
    properties = Properties(
        content_type="text/plain",
        cache_control="max-age=5",
        storage_class="STANDARD_IA",
        tags={"a b": "c&d=e"},
        metadata={"origin": "web-1", "name": "ünï"},
    )
    bucket.put_object("k", bucket.payload(b"x"), properties.headers())
    kept = standin.s3.get(BUCKET, "k").attributes
    assert kept.storage_class == "STANDARD_IA"
    assert kept.tags == {"a b": "c&d=e"}
    assert kept.metadata == {"origin": "web-1", "name": "=?UTF-8?B?w7xuw68=?="}
    assert {name.lower(): value for name, value in kept.headers.items() if "encryption" not in name.lower()} == {
        "content-type": "text/plain",
        "cache-control": "max-age=5",
    }


@pytest.mark.parametrize(
    "key",
    ["ü/ñ", "a b", "+%&#?=", "new\nline", ".", "..", "a//b", "/lead", "%2F", "‛", "\u0001", "~-_.!*'()", "x" * 1024],
)
def test_awkward_keys_are_stored_as_they_are(standin: Standin, bucket: Bucket, key: str) -> None:
    bucket.put_object(key, bucket.payload(b"x"), {})
    assert stored(standin, key) == b"x"


def test_a_key_of_1025_bytes_is_refused(bucket: Bucket) -> None:
    with pytest.raises(Refused, match="KeyTooLongError"):
        bucket.put_object("x" * 1025, bucket.payload(b""), {})


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_an_escaped_key_is_plain_ascii_and_reads_back(key: str) -> None:
    escaped = escape_key(key)
    assert unquote(escaped, errors="strict") == key
    assert urlsplit(f"http://host/{escaped}").path == f"/{escaped}"
    assert set(escaped) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~/%")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_header_never_holds_a_line_break(text: str) -> None:
    written = header_text(text)
    assert written.isascii()
    assert written.isprintable()


# conditions


def test_the_first_writer_wins(standin: Standin, bucket: Bucket) -> None:
    bucket.put_object("k", bucket.payload(b"first"), {}, if_absent=True)
    with pytest.raises(KeyTaken, match="another object has the key"):
        bucket.put_object("k", bucket.payload(b"other"), {}, if_absent=True)
    assert stored(standin, "k") == b"first"


def test_our_own_object_of_a_call_whose_answer_was_lost_is_no_conflict(standin: Standin, bucket: Bucket) -> None:
    standin.faults.add(Fault(Kind.LOST, operation="PutObject", times=1))
    with pytest.raises(AnswerLost):
        bucket.put_object("k", bucket.payload(b"mine"), {}, if_absent=True)
    assert bucket.put_object("k", bucket.payload(b"mine"), {}, if_absent=True).checksum == crc32(b"mine")


def test_another_account_s_bucket_is_denied(standin: Standin, aws: LocalAws) -> None:
    bucket = S3(aws).bucket(BUCKET, owner="999999999999")
    with pytest.raises(Denied):
        bucket.put_object("k", bucket.payload(b"x"), {})
    mine = S3(aws).bucket(BUCKET, owner=standin.account_id)
    assert mine.put_object("k", mine.payload(b"x"), {}).checksum == crc32(b"x")


# regions


@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1"], ids=["a redirect", "a malformed scope"])
def test_the_bucket_s_region_is_found_out_once(standin: Standin, region: str) -> None:
    standin.s3.add_bucket("far-away", "ap-south-1")
    aws = LocalAws(standin, region)
    bucket = S3(aws).bucket("far-away")
    for number in range(3):
        bucket.put_object(f"k{number}", bucket.payload(b"x"), {})
    assert standin.journal.count("s3", "PutObject", "ok") == 3
    assert standin.journal.count("s3", "PutObject") == 4
    aws.close()


def test_a_missing_bucket_is_not_found(aws: LocalAws) -> None:
    bucket = S3(aws).bucket("no-such-bucket")
    with pytest.raises(NotFound, match="NoSuchBucket"):
        bucket.put_object("k", bucket.payload(b"x"), {})


def test_a_wrong_secret_is_denied(standin: Standin) -> None:
    aws = LocalAws(standin, secret="wrong")
    bucket = S3(aws).bucket(BUCKET)
    with pytest.raises(Denied, match="SignatureDoesNotMatch"):
        bucket.put_object("k", bucket.payload(b"x"), {})
    aws.close()


@pytest.mark.parametrize(
    ("kind", "expected"), [(Kind.THROTTLE, Throttled), (Kind.ERROR, ServerFault), (Kind.RESET, AnswerLost)]
)
def test_faults_are_told_apart(standin: Standin, bucket: Bucket, kind: Kind, expected: type[Exception]) -> None:
    standin.faults.add(Fault(kind, operation="PutObject", times=5))
    with pytest.raises(expected):
        bucket.put_object("k", bucket.payload(b"x"), {})


# parts


def upload(bucket: Bucket, key: str, pieces: list[bytes]) -> tuple[str, list[Part]]:
    upload_id = bucket.create_multipart_upload(key, {})
    return upload_id, [
        bucket.upload_part(key, upload_id, number, streamed(bucket, piece)) for number, piece in enumerate(pieces, 1)
    ]


def test_parts_become_an_object_with_the_checksum_of_the_whole(standin: Standin, bucket: Bucket) -> None:
    upload_id, parts = upload(bucket, "k e/y", [PART, PART[::-1], b"end"])
    answered = bucket.complete_multipart_upload("k e/y", upload_id, parts)
    whole = PART + PART[::-1] + b"end"
    assert stored(standin, "k e/y") == whole
    assert answered.checksum == crc32(whole)
    assert answered.etag.endswith("-3")


def test_sha256_of_parts_is_composed(standin: Standin, aws: LocalAws) -> None:
    bucket = S3(aws).bucket(BUCKET, algorithm=SHA256)
    upload_id, parts = upload(bucket, "k", [PART, b"end"])
    answered = bucket.complete_multipart_upload("k", upload_id, parts)
    digests = b"".join(hashlib.sha256(piece).digest() for piece in (PART, b"end"))
    assert answered.checksum == f"{encode(hashlib.sha256(digests).digest())}-2"


def test_an_error_in_a_200_is_an_error(standin: Standin, bucket: Bucket) -> None:
    upload_id, parts = upload(bucket, "k", [b"all"])
    standin.faults.add(Fault(Kind.ERROR_IN_200, operation="CompleteMultipartUpload", times=1))
    with pytest.raises(ServerFault):
        bucket.complete_multipart_upload("k", upload_id, parts)
    assert bucket.complete_multipart_upload("k", upload_id, parts).checksum == crc32(b"all")


def test_completing_again_after_a_lost_answer_finds_the_object(standin: Standin, bucket: Bucket) -> None:
    upload_id, parts = upload(bucket, "k", [b"all"])
    standin.faults.add(Fault(Kind.LOST, operation="CompleteMultipartUpload", times=2))
    with pytest.raises(AnswerLost):
        bucket.complete_multipart_upload("k", upload_id, parts)
    assert bucket.complete_multipart_upload("k", "forgotten-by-now", parts).checksum == crc32(b"all")


def test_completing_an_upload_that_is_not_there_is_not_found(bucket: Bucket) -> None:
    with pytest.raises(NotFound, match="NoSuchUpload"):
        bucket.complete_multipart_upload("k", "nothing", [Part(1, 1, b"\0\0\0\0", "e")])


def test_open_uploads_are_listed_and_aborted(standin: Standin, bucket: Bucket) -> None:
    kept = bucket.create_multipart_upload("d/one", {})
    upload_id = bucket.create_multipart_upload("d/two", {})
    assert [each.key for each in bucket.list_multipart_uploads("d/")] == ["d/one", "d/two"]
    bucket.abort_multipart_upload("d/two", upload_id)
    bucket.abort_multipart_upload("d/two", upload_id)
    (left,) = bucket.list_multipart_uploads("d/")
    assert left.upload_id == kept
    assert abs(left.initiated - standin.clock()) < 60


def test_parts_are_conditional_too(standin: Standin, bucket: Bucket) -> None:
    bucket.put_object("k", bucket.payload(b"theirs"), {})
    upload_id, parts = upload(bucket, "k", [b"ours"])
    with pytest.raises(KeyTaken):
        bucket.complete_multipart_upload("k", upload_id, parts, if_absent=True)
    assert stored(standin, "k") == b"theirs"


# what AWS itself looks like, which the stand-in can't be


class FakeWire:
    """Answers from a list; remembers what was asked."""

    def __init__(self, route: Route, answers: list[Answer | Exception], asked: list[Any]) -> None:
        self.route = route
        self._answers = answers
        self._asked = asked

    def send(
        self, operation: str, method: str, target: str, headers: Mapping[str, str], body: Any = b"", **rest: Any
    ) -> Answer:
        self._asked.append((self.route, target, dict(headers), rest))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeAws:
    region = "eu-west-1"

    def __init__(self, *answers: Answer | Exception, url: str = "https://s3.{}.amazonaws.com") -> None:
        self.asked: list[Any] = []
        self._answers = list(answers)
        self._url = url

    def wire(self, service: str, region: str | None = None, url: str | None = None) -> FakeWire:
        route = Route(url or self._url.format(region), region or self.region, service)
        return FakeWire(route, self._answers, self.asked)


def confirmed(data: bytes) -> Answer:
    return Answer(200, {"etag": '"e"', "x-amz-checksum-crc32": crc32(data)}, b"")


def test_over_https_the_checksum_stands_in_for_the_signature_of_the_body() -> None:
    aws = FakeAws(confirmed(b"x"))
    bucket = S3(aws).bucket(BUCKET)  # type: ignore[arg-type]
    bucket.put_object("a b", bucket.payload(b"x"), {})
    route, target, headers, rest = aws.asked[0]
    assert route.url == f"https://{BUCKET}.s3.eu-west-1.amazonaws.com"
    assert target == "/a%20b"
    assert headers == {"Content-Length": "1", "x-amz-checksum-crc32": crc32(b"x")}
    assert rest["digest"] == UNSIGNED_PAYLOAD


@pytest.mark.parametrize(
    ("url", "name", "host", "path"),
    [
        ("https://s3.amazonaws.com", "b-1", "b-1.s3.amazonaws.com", "/k"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "b-1", "b-1.s3.cn-north-1.amazonaws.com.cn", "/k"),
        ("https://s3.dualstack.eu-west-1.amazonaws.com", "b-1", "b-1.s3.dualstack.eu-west-1.amazonaws.com", "/k"),
        ("https://s3.eu-west-1.amazonaws.com", "b.1", "s3.eu-west-1.amazonaws.com", "/b.1/k"),
        ("https://bucket.vpce-1-2.s3.eu-west-1.vpce.amazonaws.com", "b-1", None, "/b-1/k"),
        ("http://127.0.0.1:9000", "b-1", "127.0.0.1:9000", "/b-1/k"),
        ("http://localhost:9000/base/", "b-1", "localhost:9000", "/base/b-1/k"),
        ("https://minio.example.com", "b-1", "minio.example.com", "/b-1/k"),
    ],
)
def test_a_bucket_is_a_host_at_aws_and_a_path_elsewhere(url: str, name: str, host: str | None, path: str) -> None:
    aws = FakeAws(confirmed(b""), url=url)
    bucket = S3(aws).bucket(name)  # type: ignore[arg-type]
    bucket.put_object("k", bucket.payload(b""), {})
    route, target, _, _ = aws.asked[0]
    assert urlsplit(route.url).netloc == (host or urlsplit(url).netloc)
    assert target == path


def test_an_answer_without_the_checksum_is_no_proof() -> None:
    bucket = S3(FakeAws(Answer(200, {"etag": '"e"'}, b""))).bucket(BUCKET)  # type: ignore[arg-type]
    with pytest.raises(ChecksumMismatch, match="absent"):
        bucket.put_object("k", bucket.payload(b"x"), {})


def test_a_temporary_redirect_s_host_tells_the_region() -> None:
    body = b"<Error><Code>TemporaryRedirect</Code><Endpoint>b.s3.eu-north-1.amazonaws.com</Endpoint></Error>"
    aws = FakeAws(Answer(307, {}, body), confirmed(b"x"))
    bucket = S3(aws).bucket(BUCKET)  # type: ignore[arg-type]
    bucket.put_object("k", bucket.payload(b"x"), {})
    assert [route.region for route, *_ in aws.asked] == ["eu-west-1", "eu-north-1"]


def test_redirects_in_a_circle_end() -> None:
    regions = ["eu-north-1", "eu-west-1"] * 3
    answers = [Answer(301, {"x-amz-bucket-region": region}, b"") for region in regions]
    bucket = S3(FakeAws(*answers)).bucket(BUCKET)  # type: ignore[arg-type]
    with pytest.raises(AwsError, match="301"):
        bucket.put_object("k", bucket.payload(b"x"), {})


def test_a_kept_connection_that_s3_had_closed_costs_no_backoff() -> None:
    lost = KeptConnectionClosed("PutObject", "PeerClosed", "closed without an answer")
    aws = FakeAws(lost, confirmed(b"x"))
    bucket = S3(aws).bucket(BUCKET)  # type: ignore[arg-type]
    bucket.put_object("k", bucket.payload(b"x"), {})
    assert len(aws.asked) == 2


def test_an_upload_is_not_begun_twice_by_ourselves() -> None:
    lost = KeptConnectionClosed("CreateMultipartUpload", "PeerClosed", "closed without an answer")
    bucket = S3(FakeAws(lost, lost)).bucket(BUCKET)  # type: ignore[arg-type]
    with pytest.raises(AnswerLost):
        bucket.create_multipart_upload("k", {})


def test_a_silence_is_not_answered_with_another_try() -> None:
    aws = FakeAws(AnswerLost("PutObject", "TimeoutError", "timed out (on a kept connection)"), confirmed(b"x"))
    bucket = S3(aws).bucket(BUCKET)  # type: ignore[arg-type]
    with pytest.raises(AnswerLost):
        bucket.put_object("k", bucket.payload(b"x"), {})


def test_a_key_that_xml_can_not_hold_does_not_hide_the_answer() -> None:
    body = (
        b'<?xml version="1.0"?>\n<CompleteMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<Key>a&#x1;b\x02</Key><ETag>&#34;e-1&#34;</ETag><ChecksumCRC32>%b</ChecksumCRC32>"
        b"</CompleteMultipartUploadResult>" % crc32(b"x").encode()
    )
    bucket = S3(FakeAws(Answer(200, {}, b"  \n" + body))).bucket(BUCKET)  # type: ignore[arg-type]
    part = Part(1, 1, zlib.crc32(b"x").to_bytes(4, "big"), "e")
    assert bucket.complete_multipart_upload("k", "u", [part]).etag == "e-1"


@pytest.mark.parametrize("body", [b"", b"nothing", b"<!DOCTYPE a><a/>", b"<CompleteMultipartUploadRes"])
def test_an_unreadable_200_proves_nothing(body: bytes) -> None:
    bucket = S3(FakeAws(Answer(200, {}, body))).bucket(BUCKET)  # type: ignore[arg-type]
    with pytest.raises(AnswerLost):
        bucket.complete_multipart_upload("k", "u", [Part(1, 1, b"\0\0\0\0", "e")])


# checksums


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6))
def test_the_crc_of_the_whole_follows_from_those_of_the_parts(parts: list[bytes]) -> None:
    digests = [(zlib.crc32(part).to_bytes(4, "big"), len(part)) for part in parts]
    assert CRC32.of_parts(digests) == crc32(b"".join(parts))


def slow_crc64(data: bytes) -> bytes:
    """CRC-64/NVME, bit by bit."""
    value = (1 << 64) - 1
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x9A6C9329AC4BC9B5 if value & 1 else 0)
    return (value ^ ((1 << 64) - 1)).to_bytes(8, "big")


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4))
def test_the_same_of_64_bits(parts: list[bytes]) -> None:
    assert slow_crc64(b"123456789").hex() == "ae8b14860a799888"  # the catalogue's check value
    digests = [(slow_crc64(part), len(part)) for part in parts]
    assert CRC64NVME.of_parts(digests) == encode(slow_crc64(b"".join(parts)))


@pytest.mark.parametrize("known", [CRC32, SHA256])
def test_an_algorithm_is_found_by_its_name(known: Algorithm) -> None:
    assert algorithm(known.name) is known


def test_crc64nvme_says_what_it_needs() -> None:
    probe: Callable[[], object] = CRC64NVME.new
    try:
        import awscrt  # noqa: F401
    except ImportError:
        with pytest.raises(ChecksumUnavailable, match="awscrt"):
            probe()
    else:
        hasher = CRC64NVME.new()
        hasher.update(b"123456789")
        assert hasher.digest().hex() == "ae8b14860a799888"
