"""The headers of S3 requests and answers: what describes an object, ranges and conditions.

docs.aws.amazon.com/AmazonS3/latest/API: API_PutObject, API_GetObject; User Guide: UsingMetadata, object-tagging.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import NamedTuple
from urllib.parse import parse_qsl

from agent.standin.errors import ApiError
from agent.standin.s3_errors import InvalidArgumentError, InvalidRequestError, NotImplementedByS3Error
from agent.standin.s3_store import Attributes, Condition, StoredObject

MAX_METADATA = 2048  # bytes of all user metadata, names and values
MAX_TAGS = 10  # tags of an object
STORAGE_CLASSES = frozenset(
    (
        *("STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING"),
        *("GLACIER", "DEEP_ARCHIVE", "GLACIER_IR"),
    )
)
ENCRYPTIONS = frozenset(("AES256", "aws:kms", "aws:kms:dsse"))
_KEPT = ("content-type", "cache-control", "content-disposition", "content-language", "content-encoding", "expires")
_SSE = "x-amz-server-side-encryption"
_SSE_KEY = "x-amz-server-side-encryption-aws-kms-key-id"
_META = "x-amz-meta-"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_UNKNOWN = (
    "x-amz-copy-source",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-object-lock-mode",
    "x-amz-acl",
)


class Range(NamedTuple):
    """Bytes of an object: the first one and how many."""

    start: int
    length: int


def attributes(headers: Mapping[str, str]) -> Attributes:
    """What the client says of a new object; raises for what S3 refuses."""
    for name in _UNKNOWN:
        if name in headers:
            raise NotImplementedByS3Error(name)
    kept = {name: headers[name] for name in _KEPT if name in headers}
    kept.setdefault("content-type", "binary/octet-stream")
    if encoding := _without_chunking(kept.pop("content-encoding", "")):
        kept["content-encoding"] = encoding
    return Attributes({**kept, **_encryption(headers)}, _metadata(headers), _tags(headers), _storage_class(headers))


def _without_chunking(encoding: str) -> str:
    """Content-Encoding as S3 keeps it: `aws-chunked` is of the transfer only."""
    return ",".join(part for part in (p.strip() for p in encoding.split(",")) if part not in ("", "aws-chunked"))


def _encryption(headers: Mapping[str, str]) -> dict[str, str]:
    method, key = headers.get(_SSE), headers.get(_SSE_KEY)
    if method is None:
        if key is not None:
            raise InvalidArgumentError(f"The {_SSE} header is required with {_SSE_KEY}")
        return {_SSE: "AES256"}  # S3 encrypts every object
    if method not in ENCRYPTIONS:
        raise InvalidArgumentError("The encryption method specified is not supported")
    if key is not None and method == "AES256":
        raise InvalidArgumentError(f"The {_SSE_KEY} header is only for aws:kms")
    return {_SSE: method} | ({_SSE_KEY: key} if key else {})


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    metadata = {name.removeprefix(_META): value for name, value in headers.items() if name.startswith(_META)}
    size = sum(len(name) + len(value.encode("latin-1")) for name, value in metadata.items())
    if size > MAX_METADATA:
        raise ApiError(
            "Your metadata headers exceed the maximum allowed metadata size",
            code="MetadataTooLarge",
            status=400,
            details={"Size": str(size), "MaxSizeAllowed": str(MAX_METADATA)},
        )
    return metadata


def _tags(headers: Mapping[str, str]) -> dict[str, str]:
    text = headers.get("x-amz-tagging", "")
    pairs = parse_qsl(text, keep_blank_values=True)
    tags = dict(pairs)
    if len(tags) < len(pairs):
        raise ApiError("Cannot provide multiple Tags with the same key", code="InvalidTag", status=400)
    if len(tags) > MAX_TAGS:
        raise ApiError(f"Object tags cannot be greater than {MAX_TAGS}", code="BadRequest", status=400)
    if any(not 1 <= len(key) <= 128 or len(value) > 256 for key, value in pairs):
        raise ApiError("The TagKey or TagValue you have provided is invalid", code="InvalidTag", status=400)
    return tags


def _storage_class(headers: Mapping[str, str]) -> str:
    name = headers.get("x-amz-storage-class", "STANDARD")
    if name not in STORAGE_CLASSES:
        raise ApiError("The storage class you specified is not valid", code="InvalidStorageClass", status=400)
    return name


def condition(headers: Mapping[str, str]) -> Condition:
    """The condition of a write."""
    if_match, if_none_match = headers.get("if-match"), headers.get("if-none-match")
    if if_none_match not in (None, "*"):
        raise NotImplementedByS3Error("If-None-Match")
    if if_match and if_none_match:
        raise InvalidRequestError("If-Match and If-None-Match cannot be used together")
    return Condition(if_match, if_none_match)


def describe(stored: StoredObject) -> dict[str, str]:
    """The headers that every reading of an object answers."""
    attributes_ = stored.attributes
    headers = {
        "ETag": f'"{stored.etag}"',
        "Last-Modified": formatdate(stored.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        **attributes_.headers,
        **{f"{_META}{name}": value for name, value in attributes_.metadata.items()},
    }
    if attributes_.storage_class != "STANDARD":
        headers["x-amz-storage-class"] = attributes_.storage_class
    if attributes_.tags:
        headers["x-amz-tagging-count"] = str(len(attributes_.tags))
    return headers


def encryption_of(stored: Attributes) -> dict[str, str]:
    return {name: value for name, value in stored.headers.items() if name.startswith(_SSE)}


def checksum_of(stored: StoredObject) -> dict[str, str]:
    """The headers that say an object's checksum; nothing if it has none."""
    checksum = stored.checksum
    if checksum is None:
        return {}
    return {f"x-amz-checksum-{checksum.algorithm.lower()}": checksum.value, "x-amz-checksum-type": checksum.kind}


def byte_range(header: str | None, size: int) -> Range | None:
    """The one range that is asked for; None for the whole object. Raises InvalidRange (416)."""
    match = _RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size or end < start:
        raise ApiError(
            "The requested range is not satisfiable",
            code="InvalidRange",
            status=416,
            headers={"Content-Range": f"bytes */{size}"},
            details={"RangeRequested": str(header), "ActualObjectSize": str(size)},
        )
    return Range(start, end - start + 1)


def time_of(at: float) -> str:
    """A time in S3's XML."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
