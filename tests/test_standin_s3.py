"""S3: integrity, conditions, multipart uploads, listings, regions, and the limits in between."""

import base64
import hashlib
import http.client
import os
import zlib
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from agent.standin.checksums import ALGORITHMS, CRC32, CRC32C, CRC64NVME, Crc
from agent.standin.keys import ACCESS_KEY, SECRET_KEY
from agent.standin.s3_store import Attributes, Condition, StoredObject
from agent.standin.standin import Standin

BUCKET = "shop-uploads"
MIN_PART = 5 * 1024 * 1024  # bytes of the smallest part that may come before another
PART = os.urandom(MIN_PART)
TAIL = b"the end"


@pytest.fixture(scope="module")
def running() -> Iterator[Standin]:
    with Standin.start() as standin:
        yield standin


@pytest.fixture
def standin(running: Standin) -> Iterator[Standin]:
    running.s3.add_bucket(BUCKET)
    yield running
    running.reset()
    assert os.listdir(running.s3.directory) == []  # no content is left behind


@pytest.fixture(scope="module")
def s3(running: Standin) -> Any:
    config = Config(retries={"total_max_attempts": 1}, request_checksum_calculation="when_required")
    session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=running.region)
    return session.client("s3", endpoint_url=running.url, config=config)


def refusal(call: Any, **parameters: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    answer = raised.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def put(s3: Any, key: str, body: bytes = b"x", **parameters: Any) -> Any:
    return s3.put_object(Bucket=BUCKET, Key=key, Body=body, **parameters)


def keys(s3: Any, **parameters: Any) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET, **parameters).get("Contents", [])]


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def empty(key: str) -> StoredObject:
    return StoredObject(key, "0", 0.0, (), Attributes({}, {}, {}, "STANDARD"))


def checksum(algorithm: str, data: bytes) -> str:
    running = ALGORITHMS[algorithm]()
    running.update(data)
    return b64(running.digest())


# checksums


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("CRC32", "cbf43926"),
        ("CRC32C", "e3069283"),
        ("CRC64NVME", "ae8b14860a799888"),
        ("SHA1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        ("SHA256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
    ],
)
def test_checksums_have_their_published_check_values(algorithm: str, expected: str) -> None:
    running = ALGORITHMS[algorithm]()
    for byte in b"123456789":
        running.update(bytes([byte]))
    assert running.digest().hex() == expected


@pytest.mark.parametrize(("algorithm", "crc"), [("CRC32", CRC32), ("CRC32C", CRC32C), ("CRC64NVME", CRC64NVME)])
def test_crcs_of_parts_combine_to_that_of_the_whole(algorithm: str, crc: Crc) -> None:
    def of(data: bytes) -> int:
        running = ALGORITHMS[algorithm]()
        running.update(data)
        return int.from_bytes(running.digest(), "big")

    first, second = b"outlive", bytes(range(200))
    assert crc.combine(of(first), of(second), len(second)) == of(first + second)
    assert crc.combine(of(first), of(b""), 0) == of(first)


# one object


def test_an_object_comes_back_with_all_that_was_said_of_it(standin: Standin, s3: Any) -> None:
    answer = put(
        s3,
        "a b/ü+c",
        b"hello",
        ContentType="text/plain",
        CacheControl="max-age=1",
        ContentEncoding="br",
        Metadata={"instance-id": "i-1"},
        Tagging="team=shop&env=",
        StorageClass="STANDARD_IA",
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId="key",
    )
    head = s3.head_object(Bucket=BUCKET, Key="a b/ü+c")
    assert answer["ETag"] == head["ETag"] != f'"{hashlib.md5(b"hello").hexdigest()}"'  # KMS: not the MD5
    assert (head["ContentType"], head["CacheControl"], head["ContentEncoding"]) == ("text/plain", "max-age=1", "br")
    assert (head["Metadata"], head["StorageClass"], head["TagCount"]) == ({"instance-id": "i-1"}, "STANDARD_IA", 2)
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"], head["ContentLength"]) == ("aws:kms", "key", 5)
    tags = s3.get_object_tagging(Bucket=BUCKET, Key="a b/ü+c")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "shop", "env": ""}
    assert standin.s3.read(BUCKET, "a b/ü+c") == b"hello"


def test_without_kms_the_etag_is_the_md5(standin: Standin, s3: Any) -> None:
    assert put(s3, "k", b"hello")["ETag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_checksum_is_verified_stored_and_answered(standin: Standin, s3: Any, algorithm: str) -> None:
    field, value = f"Checksum{algorithm}", checksum(algorithm, b"hello")
    answer = put(s3, "k", b"hello", **{field: value})
    assert (answer[field], answer["ChecksumType"]) == (value, "FULL_OBJECT")
    assert s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")[field] == value
    assert field not in s3.head_object(Bucket=BUCKET, Key="k")
    wrong = {field: checksum(algorithm, b"other")}
    assert refusal(s3.put_object, Bucket=BUCKET, Key="l", Body=b"hello", **wrong) == (400, "BadDigest")
    assert keys(s3) == ["k"]


def test_a_content_md5_is_verified(standin: Standin, s3: Any) -> None:
    put(s3, "k", b"hello", ContentMD5=b64(hashlib.md5(b"hello").digest()))
    wrong = {"Bucket": BUCKET, "Key": "l", "Body": b"hello"}
    assert refusal(s3.put_object, **wrong, ContentMD5=b64(hashlib.md5(b"x").digest())) == (400, "BadDigest")
    assert refusal(s3.put_object, **wrong, ContentMD5="short") == (400, "InvalidDigest")
    assert keys(s3) == ["k"]


def test_an_object_is_replaced_while_a_reader_reads_on(standin: Standin, s3: Any) -> None:
    old = os.urandom(2_000_000)
    put(s3, "k", old)
    body = s3.get_object(Bucket=BUCKET, Key="k")["Body"]
    first = body.read(1000)
    put(s3, "k", b"new")
    assert first + body.read() == old
    assert standin.s3.read(BUCKET, "k") == b"new"


def test_if_none_match_lets_the_first_writer_win(standin: Standin, s3: Any) -> None:
    put(s3, "k", b"first", IfNoneMatch="*")
    assert refusal(s3.put_object, Bucket=BUCKET, Key="k", Body=b"second", IfNoneMatch="*") == (
        412,
        "PreconditionFailed",
    )
    assert standin.s3.read(BUCKET, "k") == b"first"
    assert refusal(s3.put_object, Bucket=BUCKET, Key="k", Body=b"", IfNoneMatch="etag") == (501, "NotImplemented")


def test_if_match_replaces_only_what_is_known(standin: Standin, s3: Any) -> None:
    assert refusal(s3.put_object, Bucket=BUCKET, Key="k", Body=b"", IfMatch='"a"') == (404, "NoSuchKey")
    etag = put(s3, "k", b"first")["ETag"]
    put(s3, "k", b"second", IfMatch=etag)
    assert refusal(s3.put_object, Bucket=BUCKET, Key="k", Body=b"3", IfMatch=etag) == (412, "PreconditionFailed")


def test_reading_has_conditions_too(standin: Standin, s3: Any) -> None:
    etag = put(s3, "k")["ETag"]
    assert s3.head_object(Bucket=BUCKET, Key="k", IfMatch=etag)["ContentLength"] == 1
    assert refusal(s3.get_object, Bucket=BUCKET, Key="k", IfMatch='"other"') == (412, "PreconditionFailed")
    assert refusal(s3.get_object, Bucket=BUCKET, Key="k", IfNoneMatch=etag)[0] == 304


@pytest.mark.parametrize(
    ("header", "expected", "content_range"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=5-99", b"56789", "bytes 5-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("lines=1-2", b"0123456789", None),
    ],
)
def test_a_range_is_read(standin: Standin, s3: Any, header: str, expected: bytes, content_range: str | None) -> None:
    put(s3, "k", b"0123456789")
    answer = s3.get_object(Bucket=BUCKET, Key="k", Range=header)
    assert (answer["Body"].read(), answer.get("ContentRange")) == (expected, content_range)


def test_a_range_beyond_the_end_is_refused(standin: Standin, s3: Any) -> None:
    put(s3, "k", b"0123456789")
    assert refusal(s3.get_object, Bucket=BUCKET, Key="k", Range="bytes=10-") == (416, "InvalidRange")


def test_what_is_not_there_is_told_apart(standin: Standin, s3: Any) -> None:
    assert refusal(s3.get_object, Bucket=BUCKET, Key="none") == (404, "NoSuchKey")
    assert refusal(s3.get_object, Bucket="no-such-bucket", Key="k") == (404, "NoSuchBucket")
    assert refusal(s3.put_object, Bucket="no-such-bucket", Key="k", Body=b"") == (404, "NoSuchBucket")
    assert refusal(s3.head_object, Bucket=BUCKET, Key="none") == (404, "404")


def test_deleting_is_idempotent_and_can_be_done_in_bulk(standin: Standin, s3: Any) -> None:
    for key in ("a", "b", "c"):
        put(s3, key)
    s3.delete_object(Bucket=BUCKET, Key="a")
    s3.delete_object(Bucket=BUCKET, Key="a")
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "b"}, {"Key": "none"}]})
    assert ([item["Key"] for item in answer["Deleted"]], keys(s3)) == (["b", "none"], ["c"])
    many = {"Objects": [{"Key": f"k{n}"} for n in range(1001)]}
    assert refusal(s3.delete_objects, Bucket=BUCKET, Delete=many) == (400, "MalformedXML")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Key": "k" * 1025}, "KeyTooLongError"),
        ({"Key": "é" * 513}, "KeyTooLongError"),
        ({"Metadata": {"m": "v" * 2048}}, "MetadataTooLarge"),
        ({"Tagging": "a=1&a=2"}, "InvalidTag"),
        ({"Tagging": "&".join(f"k{n}=v" for n in range(11))}, "BadRequest"),
        ({"StorageClass": "CHEAP"}, "InvalidStorageClass"),
        ({"ServerSideEncryption": "rot13"}, "InvalidArgument"),
        ({"ExpectedBucketOwner": "999999999999"}, "AccessDenied"),
        ({"ACL": "public-read"}, "NotImplemented"),
        ({"ChecksumCRC32": "not base64"}, "InvalidRequest"),
        ({"ChecksumCRC32": "AAAA"}, "InvalidRequest"),
    ],
)
def test_what_s3_refuses_is_refused(standin: Standin, s3: Any, change: dict[str, Any], code: str) -> None:
    assert refusal(s3.put_object, **{"Bucket": BUCKET, "Key": "k", "Body": b"x"} | change)[1] == code
    assert keys(s3) == []


def test_a_key_may_have_1024_bytes_and_odd_characters(standin: Standin, s3: Any) -> None:
    odd = ["é" * 512, "a//b", "./c", "d\\e", "new\nline", "~!'()*&=?+ %20"]
    for key in odd:
        put(s3, key, key.encode())
    assert keys(s3) == sorted(odd)
    assert all(standin.s3.read(BUCKET, key) == key.encode() for key in odd)


# listings


def test_listings_are_paged_and_in_the_order_of_bytes(standin: Standin, s3: Any) -> None:
    names = [*(f"k{n:04d}" for n in range(1200)), "a", "é", "\U0001f600"]
    for key in names:
        standin.s3.put(BUCKET, empty(key), Condition())
    first = s3.list_objects_v2(Bucket=BUCKET)
    rest = s3.list_objects_v2(Bucket=BUCKET, ContinuationToken=first["NextContinuationToken"])
    found = [entry["Key"] for page in (first, rest) for entry in page["Contents"]]
    assert (first["KeyCount"], first["IsTruncated"], rest["IsTruncated"]) == (1000, True, False)
    assert found == sorted(names, key=str.encode)
    assert keys(s3, StartAfter="k1198") == ["k1199", "é", "\U0001f600"]


def test_a_delimiter_folds_keys_into_prefixes_across_pages(standin: Standin, s3: Any) -> None:
    for key in ("a", "b/1", "b/2", "c/d/1", "e", "f/1"):
        put(s3, key)
    token, seen = None, []
    while True:
        more = {"ContinuationToken": token} if token else {}
        page = s3.list_objects_v2(Bucket=BUCKET, Delimiter="/", MaxKeys=2, **more)
        seen.append(
            [entry["Key"] for entry in page.get("Contents", [])]
            + [p["Prefix"] for p in page.get("CommonPrefixes", [])]
        )
        token = page.get("NextContinuationToken")
        if not token:
            break
    assert seen == [["a", "b/"], ["e", "c/"], ["f/"]]
    assert keys(s3, Prefix="b/", Delimiter="/") == ["b/1", "b/2"]


# multipart uploads


def begin(s3: Any, **parameters: Any) -> dict[str, Any]:
    return {
        "Bucket": BUCKET,
        "Key": "big",
        "UploadId": s3.create_multipart_upload(Bucket=BUCKET, Key="big", **parameters)["UploadId"],
    }


def upload_parts(s3: Any, upload: dict[str, Any], *bodies: bytes, **parameters: Any) -> list[dict[str, Any]]:
    parts = []
    for number, body in enumerate(bodies, 1):
        answer = s3.upload_part(**upload, PartNumber=number, Body=body, **parameters)
        sums = {name: value for name, value in answer.items() if name in {f"Checksum{a}" for a in ALGORITHMS}}
        parts.append({"PartNumber": number, "ETag": answer["ETag"], **sums})
    return parts


def complete(s3: Any, upload: dict[str, Any], parts: list[dict[str, Any]], **parameters: Any) -> Any:
    return s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **parameters)


def complete_refusal(s3: Any, upload: dict[str, Any], parts: list[dict[str, Any]], **parameters: Any) -> str:
    return refusal(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": parts}, **parameters)[1]


def test_parts_become_one_object(standin: Standin, s3: Any) -> None:
    upload = begin(s3, Metadata={"a": "b"}, ContentType="text/plain")
    answer = complete(s3, upload, upload_parts(s3, upload, PART, TAIL))
    digest = hashlib.md5(hashlib.md5(PART).digest() + hashlib.md5(TAIL).digest()).hexdigest()
    assert answer["ETag"] == f'"{digest}-2"'
    assert standin.s3.read(BUCKET, "big") == PART + TAIL
    head = s3.head_object(Bucket=BUCKET, Key="big")
    assert (head["Metadata"], head["ContentType"], head["ContentLength"]) == ({"a": "b"}, "text/plain", MIN_PART + 7)
    across = s3.get_object(Bucket=BUCKET, Key="big", Range=f"bytes={MIN_PART - 2}-{MIN_PART + 2}")["Body"].read()
    assert across == PART[-2:] + TAIL[:3]


def test_a_composite_checksum_is_that_of_the_parts_checksums(standin: Standin, s3: Any) -> None:
    upload = begin(s3, ChecksumAlgorithm="SHA256")
    answer = complete(s3, upload, upload_parts(s3, upload, PART, TAIL, ChecksumAlgorithm="SHA256"))
    expected = b64(hashlib.sha256(hashlib.sha256(PART).digest() + hashlib.sha256(TAIL).digest()).digest())
    assert (answer["ChecksumSHA256"], answer["ChecksumType"]) == (f"{expected}-2", "COMPOSITE")
    attributes = s3.get_object_attributes(Bucket=BUCKET, Key="big", ObjectAttributes=["Checksum", "ObjectParts"])
    assert attributes["Checksum"]["ChecksumSHA256"] == expected
    assert attributes["ObjectParts"]["TotalPartsCount"] == 2


def test_a_full_object_checksum_is_that_of_the_content_and_is_compared(standin: Standin, s3: Any) -> None:
    upload = begin(s3, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    parts = [{k: v for k, v in part.items() if k != "ChecksumCRC32"} for part in upload_parts(s3, upload, PART, TAIL)]
    assert complete_refusal(s3, upload, parts, ChecksumCRC32="AAAAAA==") == "BadDigest"
    expected = b64(zlib.crc32(PART + TAIL).to_bytes(4, "big"))
    answer = complete(s3, upload, parts, ChecksumCRC32=expected, ChecksumType="FULL_OBJECT")
    assert (answer["ChecksumCRC32"], answer["ChecksumType"]) == (expected, "FULL_OBJECT")
    assert s3.head_object(Bucket=BUCKET, Key="big", ChecksumMode="ENABLED")["ChecksumCRC32"] == expected


def test_completing_again_with_the_same_parts_says_the_same(standin: Standin, s3: Any) -> None:
    upload = begin(s3)
    parts = upload_parts(s3, upload, TAIL)
    first, again = (complete(s3, upload, parts)["ETag"] for _ in range(2))
    assert first == again
    assert complete_refusal(s3, upload, [{"PartNumber": 1, "ETag": '"other"'}]) == "NoSuchUpload"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda parts: parts[::-1], "InvalidPartOrder"),
        (lambda parts: [parts[0], parts[0]], "InvalidPartOrder"),
        (lambda parts: [*parts, {"PartNumber": 3, "ETag": '"a"'}], "InvalidPart"),
        (lambda parts: [{"PartNumber": 1, "ETag": '"wrong"'}, parts[1]], "InvalidPart"),
        (lambda parts: [], "MalformedXML"),
    ],
)
def test_the_list_of_parts_is_checked(standin: Standin, s3: Any, spoil: Any, code: str) -> None:
    upload = begin(s3)
    parts = upload_parts(s3, upload, PART, TAIL)
    assert complete_refusal(s3, upload, spoil(parts)) == code
    complete(s3, upload, parts)  # and the upload is still there


def test_a_part_that_is_not_listed_is_dropped(standin: Standin, s3: Any) -> None:
    upload = begin(s3)
    parts = upload_parts(s3, upload, b"one", b"two")
    complete(s3, upload, parts[1:])
    assert standin.s3.read(BUCKET, "big") == b"two"
    assert len(os.listdir(standin.s3.directory)) == 1


def test_only_the_last_part_may_be_small(standin: Standin, s3: Any) -> None:
    upload = begin(s3)
    assert complete_refusal(s3, upload, upload_parts(s3, upload, PART[:-1], TAIL)) == "EntityTooSmall"


def test_a_checksummed_upload_needs_its_checksums_everywhere(standin: Standin, s3: Any) -> None:
    upload = begin(s3, ChecksumAlgorithm="CRC32")
    assert refusal(s3.upload_part, **upload, PartNumber=1, Body=b"x") == (400, "InvalidRequest")
    assert refusal(s3.upload_part, **upload, PartNumber=1, Body=b"x", ChecksumAlgorithm="SHA1")[1] == "InvalidRequest"
    (part,) = upload_parts(s3, upload, TAIL, ChecksumAlgorithm="CRC32")
    assert complete_refusal(s3, upload, [{"PartNumber": 1, "ETag": part["ETag"]}]) == "InvalidRequest"
    assert complete_refusal(s3, upload, [part | {"ChecksumCRC32": "AAAAAA=="}]) == "InvalidPart"


@pytest.mark.parametrize(
    "parameters",
    [
        {"ChecksumType": "FULL_OBJECT"},
        {"ChecksumAlgorithm": "SHA256", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "COMPOSITE"},
        {"ChecksumAlgorithm": "MD4"},
    ],
)
def test_impossible_checksum_types_are_refused(standin: Standin, s3: Any, parameters: dict[str, str]) -> None:
    call = {"Bucket": BUCKET, "Key": "big", **parameters}
    assert refusal(s3.create_multipart_upload, **call) == (400, "InvalidRequest")


def test_parts_are_replaced_listed_and_aborted(standin: Standin, s3: Any) -> None:
    upload = begin(s3)
    upload_parts(s3, upload, b"one", b"two")
    upload_parts(s3, upload, b"three")
    listed = s3.list_parts(**upload)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in listed] == [(1, 5), (2, 3)]
    page = s3.list_parts(**upload, MaxParts=1)
    rest = s3.list_parts(**upload, PartNumberMarker=page["NextPartNumberMarker"])
    assert (page["IsTruncated"], [part["PartNumber"] for part in rest["Parts"]]) == (True, [2])
    assert [u["Key"] for u in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == ["big"]
    s3.abort_multipart_upload(**upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)
    assert refusal(s3.upload_part, **upload, PartNumber=1, Body=b"x") == (404, "NoSuchUpload")
    assert keys(s3) == []


def test_the_first_writer_wins_with_parts_too(standin: Standin, s3: Any) -> None:
    put(s3, "big", b"first")
    upload = begin(s3)
    parts = upload_parts(s3, upload, TAIL)
    assert complete_refusal(s3, upload, parts, IfNoneMatch="*") == "PreconditionFailed"
    assert standin.s3.read(BUCKET, "big") == b"first"


def test_a_part_number_is_from_1_to_10000(standin: Standin, s3: Any) -> None:
    upload = begin(s3)
    s3.upload_part(**upload, PartNumber=10_000, Body=b"x")
    for number in (0, 10_001):
        assert refusal(s3.upload_part, **upload, PartNumber=number, Body=b"x") == (400, "InvalidArgument")


# buckets and regions


def test_a_bucket_is_made_in_the_region_of_the_endpoint(standin: Standin, s3: Any) -> None:
    here = {"LocationConstraint": standin.region}
    s3.create_bucket(Bucket="new-bucket", CreateBucketConfiguration=here)
    assert s3.get_bucket_location(Bucket="new-bucket")["LocationConstraint"] == standin.region
    assert s3.head_bucket(Bucket="new-bucket")["BucketRegion"] == standin.region
    assert "new-bucket" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    again = refusal(s3.create_bucket, Bucket="new-bucket", CreateBucketConfiguration=here)
    assert again == (409, "BucketAlreadyOwnedByYou")
    assert refusal(s3.create_bucket, Bucket="other-bucket") == (400, "IllegalLocationConstraintException")
    s3.delete_bucket(Bucket="new-bucket")
    assert refusal(s3.head_bucket, Bucket="new-bucket") == (404, "404")


def test_a_bucket_with_objects_is_not_deleted(standin: Standin, s3: Any) -> None:
    put(s3, "k")
    assert refusal(s3.delete_bucket, Bucket=BUCKET) == (409, "BucketNotEmpty")


@pytest.mark.parametrize("name", ["ab", "Upper", "with_underscore", "-dash", "192.168.1.1", "a..b", "b" * 64])
def test_a_buckets_name_is_checked(standin: Standin, name: str) -> None:
    status, _, body = send(standin, "PUT", f"/{name}")
    assert (status, b"InvalidBucketName" in body) == (400, True)


def test_the_wrong_region_is_redirected_and_says_the_right_one(standin: Standin) -> None:
    standin.s3.add_bucket("far-away", "us-west-2")
    status, headers, body = send(standin, "PUT", "/far-away/k", b"x")
    assert (status, headers["x-amz-bucket-region"]) == (301, "us-west-2")
    assert b"<Code>PermanentRedirect</Code>" in body
    assert b"<Endpoint>s3.us-west-2.amazonaws.com</Endpoint>" in body
    status, headers, _ = send(standin, "HEAD", "/far-away")
    assert (status, headers["x-amz-bucket-region"]) == (301, "us-west-2")


def test_the_global_region_is_malformed_elsewhere_but_finds_buckets(standin: Standin) -> None:
    status, headers, body = send(standin, "PUT", f"/{BUCKET}/k", b"x", region="us-east-1")
    assert (status, headers["x-amz-bucket-region"]) == (400, standin.region)
    assert b"<Code>AuthorizationHeaderMalformed</Code>" in body
    assert f"<Region>{standin.region}</Region>".encode() in body
    status, _, body = send(standin, "GET", f"/{BUCKET}?location", region="us-east-1")
    assert (status, standin.region.encode() in body) == (200, True)


def test_botocore_follows_to_the_right_region(standin: Standin, s3: Any) -> None:
    standin.s3.add_bucket("far-away", "us-west-2")
    s3.put_object(Bucket="far-away", Key="k", Body=b"x")
    assert standin.s3.read("far-away", "k") == b"x"


def test_a_bucket_can_be_named_by_the_host(standin: Standin) -> None:
    host = f"{BUCKET}.s3.{standin.region}.amazonaws.com"
    assert send(standin, "PUT", "/a/b", b"x", headers={"Host": host})[0] == 200
    assert standin.s3.read(BUCKET, "a/b") == b"x"
    assert send(standin, "GET", "/a/b", headers={"Host": f"{BUCKET}.localhost:1"})[2] == b"x"


# the body on the wire


def send(
    standin: Standin,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    headers: dict[str, str] | None = None,
    sent: bytes | None = None,
    region: str | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """A request signed for `body`, sent with `sent` instead if that is given."""
    given = {"Host": f"127.0.0.1:{standin.port}", **(headers or {})}
    request = AWSRequest(method=method, url=f"https://{given['Host']}{target}", data=body, headers=given)
    request.context["client_config"] = Config(s3={"payload_signing_enabled": "x-amz-content-sha256" not in given})
    signer = _Signer(Credentials(ACCESS_KEY, SECRET_KEY), "s3", region or standin.region)
    signer.payload_word = given.get("x-amz-content-sha256")
    signer.add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", standin.port, timeout=5)
    try:
        wire = body if sent is None else sent
        in_chunks = "Transfer-Encoding" in given
        connection.request(method, target, wire, dict(request.headers.items()), encode_chunked=in_chunks)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
    finally:
        connection.close()


class _Signer(S3SigV4Auth):
    """botocore's signer, with a word in place of the payload's hash where one is given."""

    payload_word: str | None = None

    def payload(self, request: AWSRequest) -> str:
        return self.payload_word or super().payload(request)


def test_a_body_that_is_not_the_signed_one_is_refused(standin: Standin) -> None:
    status, _, body = send(standin, "PUT", f"/{BUCKET}/k", b"hello", sent=b"jello")
    assert (status, b"XAmzContentSHA256Mismatch" in body) == (400, True)
    status, _, body = send(standin, "PUT", f"/{BUCKET}", b"<a/>", sent=b"<b/>")
    assert (status, b"XAmzContentSHA256Mismatch" in body) == (400, True)
    assert standin.s3.objects(BUCKET) == []


def test_an_unsigned_payload_is_taken_as_it_comes(standin: Standin) -> None:
    headers = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    assert send(standin, "PUT", f"/{BUCKET}/k", b"hello", headers=headers)[0] == 200
    assert standin.s3.read(BUCKET, "k") == b"hello"


def chunked(payload: bytes, trailer: str) -> tuple[bytes, dict[str, str]]:
    """An aws-chunked body in chunks of 64 KiB, and the headers that announce it."""
    pieces = [payload[start : start + 65_536] for start in range(0, len(payload), 65_536)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return body + b"0\r\n" + trailer.encode() + b"\r\n\r\n", {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-decoded-content-length": str(len(payload)),
        "Content-Encoding": "aws-chunked",
    }


def crc_trailer(payload: bytes) -> str:
    return f"x-amz-checksum-crc32:{b64(zlib.crc32(payload).to_bytes(4, 'big'))}"


@pytest.mark.parametrize("framing", [{}, {"Transfer-Encoding": "chunked"}])
def test_an_aws_chunked_body_is_unpacked_and_its_trailer_verified(standin: Standin, framing: dict[str, str]) -> None:
    payload = os.urandom(300_000)
    body, headers = chunked(payload, crc_trailer(payload))
    status, answer, _ = send(standin, "PUT", f"/{BUCKET}/k", body, headers=headers | framing)
    assert (status, answer["x-amz-checksum-crc32"]) == (200, b64(zlib.crc32(payload).to_bytes(4, "big")))
    assert standin.s3.read(BUCKET, "k") == payload
    assert "content-encoding" not in standin.s3.get(BUCKET, "k").attributes.headers


@pytest.mark.parametrize(
    ("trailer", "change", "code"),
    [
        (crc_trailer(b"other"), {}, b"BadDigest"),
        ("x-amz-checksum-sha1:abc", {}, b"MalformedTrailerError"),
        (crc_trailer(b"hello"), {"x-amz-decoded-content-length": "6"}, b"IncompleteBody"),
        (crc_trailer(b"hello"), {"x-amz-decoded-content-length": ""}, b"MissingContentLength"),
        (crc_trailer(b"hello"), {"x-amz-trailer": "x-amz-checksum-md4"}, b"InvalidRequest"),
        (crc_trailer(b"hello"), {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, b"NotImplemented"),
    ],
)
def test_a_wrong_aws_chunked_body_is_refused(
    standin: Standin, trailer: str, change: dict[str, str], code: bytes
) -> None:
    body, headers = chunked(b"hello", trailer)
    answer = send(standin, "PUT", f"/{BUCKET}/k", body, headers=headers | change)[2]
    assert b"<Code>" + code + b"</Code>" in answer
    assert standin.s3.objects(BUCKET) == []


def test_contradicting_checksums_are_refused(standin: Standin) -> None:
    crc, sha = checksum("CRC32", b"x"), checksum("SHA1", b"x")
    both = {"x-amz-checksum-crc32": crc, "x-amz-checksum-sha1": sha}
    assert b"Expecting a single" in send(standin, "PUT", f"/{BUCKET}/k", b"x", headers=both)[2]
    promised = {"x-amz-sdk-checksum-algorithm": "CRC32"}
    assert b"no corresponding" in send(standin, "PUT", f"/{BUCKET}/k", b"x", headers=promised)[2]


def test_what_the_stand_in_does_not_have_it_does_not_pretend(standin: Standin) -> None:
    assert b"NotImplemented" in send(standin, "GET", f"/{BUCKET}?acl")[2]
    assert b"NotImplemented" in send(standin, "PUT", f"/{BUCKET}/k", headers={"x-amz-copy-source": "/a/b"})[2]
    assert b"MissingContentLength" not in send(standin, "PUT", f"/{BUCKET}/k", b"")[2]


def test_bulk_deletes_must_carry_a_right_digest(standin: Standin) -> None:
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    assert b"Content-MD5" in send(standin, "POST", f"/{BUCKET}?delete", body)[2]
    wrong = {"x-amz-checksum-crc32": checksum("CRC32", b"other")}
    assert b"BadDigest" in send(standin, "POST", f"/{BUCKET}?delete", body, headers=wrong)[2]
    assert (
        b"MalformedXML"
        in send(standin, "POST", f"/{BUCKET}?delete", b"<", headers={"Content-MD5": b64(hashlib.md5(b"<").digest())})[
            2
        ]
    )
