"""S3's listings: objects, uploads in progress, and the parts of one.

docs.aws.amazon.com/AmazonS3/latest/API: API_ListObjectsV2, API_ListMultipartUploads, API_ListParts.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from agent.standin import checksums, xml
from agent.standin.s3_errors import InvalidArgumentError
from agent.standin.s3_headers import time_of
from agent.standin.s3_multipart import Part, Upload
from agent.standin.s3_store import Store, StoredObject

MAX_KEYS = 1000  # entries of one answer

Query = Mapping[str, str]


def list_objects(store: Store, bucket: str, query: Query) -> Mapping[str, xml.Value]:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    token = query.get("continuation-token")
    after = _decode_token(token) if token else query.get("start-after", "")
    limit = number(query, "max-keys", MAX_KEYS)
    keys, prefixes, last = _collect(store.keys_after(bucket, prefix, after), prefix, delimiter, limit, after)
    objects = [store.get(bucket, key) for key in keys]
    write = _writer(query)
    return {
        "Name": bucket,
        "Prefix": write(prefix),
        "Delimiter": write(delimiter) if delimiter else None,
        "MaxKeys": limit,
        "KeyCount": len(keys) + len(prefixes),
        "StartAfter": write(query["start-after"]) if "start-after" in query else None,
        "ContinuationToken": token,
        "NextContinuationToken": _encode_token(last) if last else None,
        "IsTruncated": last is not None,
        "EncodingType": query.get("encoding-type"),
        "Contents": [_entry(stored, write(stored.key)) for stored in objects],
        "CommonPrefixes": [{"Prefix": write(name)} for name in prefixes],
    }


def _collect(
    candidates: Sequence[str], prefix: str, delimiter: str, limit: int, after: str
) -> tuple[list[str], list[str], str | None]:
    """Keys and common prefixes of one page, and where the next one starts, if there is one."""
    keys: list[str] = []
    prefixes: list[str] = []
    last = after
    for key in candidates:
        common = _common_prefix(key, prefix, delimiter)
        if common and common in prefixes[-1:]:
            continue
        if len(keys) + len(prefixes) == limit:
            return keys, prefixes, last
        (prefixes if common else keys).append(common or key)
        last = f"{common}\U0010ffff" if common else key  # past everything below the prefix
    return keys, prefixes, None


def _common_prefix(key: str, prefix: str, delimiter: str) -> str | None:
    if not delimiter:
        return None
    end = key.find(delimiter, len(prefix))
    return None if end < 0 else key[: end + len(delimiter)]


def _entry(stored: StoredObject, key: str) -> xml.Value:
    return {
        "Key": key,
        "LastModified": time_of(stored.modified),
        "ETag": f'"{stored.etag}"',
        "ChecksumAlgorithm": stored.checksum.algorithm if stored.checksum else None,
        "ChecksumType": stored.checksum.kind if stored.checksum else None,
        "Size": stored.size,
        "StorageClass": stored.attributes.storage_class,
    }


def list_uploads(bucket: str, uploads: Sequence[Upload], query: Query) -> Mapping[str, xml.Value]:
    limit = number(query, "max-uploads", MAX_KEYS)
    marker = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
    later = [u for u in uploads if u.key > marker[0] or (u.key == marker[0] and u.id > marker[1] > "")]
    page, more = later[:limit], len(later) > limit
    write = _writer(query)
    return {
        "Bucket": bucket,
        "KeyMarker": write(marker[0]),
        "UploadIdMarker": marker[1],
        "NextKeyMarker": write(page[-1].key) if more else None,
        "NextUploadIdMarker": page[-1].id if more else None,
        "MaxUploads": limit,
        "IsTruncated": more,
        "EncodingType": query.get("encoding-type"),
        "Upload": [
            {
                "Key": write(upload.key),
                "UploadId": upload.id,
                "Initiated": time_of(upload.begun),
                "StorageClass": upload.attributes.storage_class,
                "ChecksumAlgorithm": upload.algorithm,
                "ChecksumType": upload.kind,
            }
            for upload in page
        ],
    }


def list_parts(upload: Upload, query: Query) -> Mapping[str, xml.Value]:
    limit = number(query, "max-parts", MAX_KEYS)
    marker = number(query, "part-number-marker", 0)
    later = [part for _, part in sorted(upload.parts.items()) if part.number > marker]
    page, more = later[:limit], len(later) > limit
    return {
        "Bucket": upload.bucket,
        "Key": upload.key,
        "UploadId": upload.id,
        "PartNumberMarker": marker,
        "NextPartNumberMarker": page[-1].number if page else 0,
        "MaxParts": limit,
        "IsTruncated": more,
        "StorageClass": upload.attributes.storage_class,
        "ChecksumAlgorithm": upload.algorithm,
        "ChecksumType": upload.kind,
        "Part": [_part(part) for part in page],
    }


def _part(part: Part) -> xml.Value:
    values = {f"Checksum{name}": checksums.encode(digest) for name, digest in part.checksums.items()}
    return {
        "PartNumber": part.number,
        "LastModified": time_of(part.modified),
        "ETag": f'"{part.etag}"',
        "Size": part.segment.size,
        **values,
    }


def number(query: Query, name: str, default: int) -> int:
    """A parameter that is a number; never more than MAX_KEYS where that is the default."""
    text = query.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise InvalidArgumentError(f"Provided {name} not an integer or within integer range")
    return min(int(text), MAX_KEYS) if default == MAX_KEYS else int(text)


class _Plain:
    def __call__(self, text: str) -> str:
        return text


class _UrlEncoded:
    def __call__(self, text: str) -> str:
        return quote(text, safe="/-_.~")


def _writer(query: Query) -> _Plain | _UrlEncoded:
    """How keys are written: with encoding-type=url, characters that XML cannot hold survive."""
    encoding = query.get("encoding-type")
    if encoding not in (None, "url"):
        raise InvalidArgumentError("Invalid Encoding Method specified in Request")
    return _UrlEncoded() if encoding else _Plain()


def _encode_token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _decode_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidArgumentError("The continuation token provided is incorrect") from error
