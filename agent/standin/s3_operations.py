"""S3's operations on buckets and objects, each from an admitted call to its answer."""

import base64
import contextlib
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree import ElementTree as ET

from agent.standin import checksums, xml
from agent.standin.checksums import ALGORITHMS, HEADERS
from agent.standin.errors import ApiError
from agent.standin.message import Request, Response
from agent.standin.s3_body import Received, header_of, receive
from agent.standin.s3_errors import (
    BadDigestError,
    InvalidArgumentError,
    InvalidRequestError,
    MalformedXmlError,
    PreconditionFailedError,
)
from agent.standin.s3_headers import (
    attributes,
    byte_range,
    checksum_of,
    condition,
    describe,
    encryption_of,
    time_of,
)
from agent.standin.s3_listing import list_objects, list_parts, list_uploads, number
from agent.standin.s3_multipart import MAX_PARTS, PartClaim, Upload, Uploads
from agent.standin.s3_store import ObjectChecksum, Segment, Store, StoredObject, discard

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
DEFAULT_REGION = "us-east-1"  # of a bucket that is created without a location
MAX_DELETES = 1000  # keys of one DeleteObjects
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")


class Target(NamedTuple):
    """What a request is about; the key is empty for a bucket."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class Call:
    """An admitted request. `region` is the signature's; `body` is read already unless it is an object's content."""

    request: Request
    target: Target
    region: str
    payload_hash: str
    body: bytes

    @property
    def bucket(self) -> str:
        return self.target.bucket

    @property
    def key(self) -> str:
        return self.target.key

    @property
    def headers(self) -> Mapping[str, str]:
        return self.request.headers

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query


class S3Operations:
    """The operations by name (`calls`), over the store and the uploads in progress."""

    def __init__(self, store: Store, uploads: Uploads, clock: Callable[[], float], account_id: str) -> None:
        self._store = store
        self._uploads = uploads
        self._clock = clock
        self._account_id = account_id
        self.calls: Mapping[str, Callable[[Call], Response]] = {
            "ListBuckets": self._list_buckets,
            "CreateBucket": self._create_bucket,
            "HeadBucket": self._head_bucket,
            "DeleteBucket": self._delete_bucket,
            "GetBucketLocation": self._location,
            "ListObjectsV2": self._list_objects,
            "ListMultipartUploads": self._list_uploads,
            "DeleteObjects": self._delete_objects,
            "PutObject": self._put_object,
            "GetObject": self._get_object,
            "HeadObject": self._head_object,
            "DeleteObject": self._delete_object,
            "GetObjectAttributes": self._object_attributes,
            "GetObjectTagging": self._object_tagging,
            "CreateMultipartUpload": self._create_upload,
            "UploadPart": self._upload_part,
            "CompleteMultipartUpload": self._complete_upload,
            "AbortMultipartUpload": self._abort_upload,
            "ListParts": self._list_parts,
        }

    # buckets

    def _list_buckets(self, _call: Call) -> Response:
        buckets = [{"Name": b.name, "CreationDate": time_of(b.created)} for b in self._store.buckets()]
        owner = {"ID": self._account_id, "DisplayName": self._account_id}
        return _xml("ListAllMyBucketsResult", {"Owner": owner, "Buckets": {"Bucket": buckets}})

    def _create_bucket(self, call: Call) -> Response:
        if not _BUCKET_NAME.fullmatch(call.bucket) or ".." in call.bucket or _ADDRESS.fullmatch(call.bucket):
            raise ApiError("The specified bucket is not valid.", code="InvalidBucketName", status=400)
        region = _location_constraint(call)
        if any(bucket.name == call.bucket for bucket in self._store.buckets()):
            raise ApiError(
                "Your previous request to create the named bucket succeeded and you already own it.",
                code="BucketAlreadyOwnedByYou",
                status=409,
            )
        self._store.add_bucket(call.bucket, region)
        return Response(200, b"", {"Location": f"/{call.bucket}"})

    def _head_bucket(self, call: Call) -> Response:
        return Response(200, b"", {"x-amz-bucket-region": self._store.bucket(call.bucket).region})

    def _delete_bucket(self, call: Call) -> Response:
        if self._store.bucket(call.bucket).keys:
            raise ApiError("The bucket you tried to delete is not empty", code="BucketNotEmpty", status=409)
        self._store.remove_bucket(call.bucket)
        return Response(204)

    def _location(self, call: Call) -> Response:
        region = self._store.bucket(call.bucket).region
        text = "" if region == DEFAULT_REGION else region  # us-east-1 is written as nothing
        body = f'{xml.DECLARATION}<LocationConstraint xmlns="{NAMESPACE}">{text}</LocationConstraint>'
        return Response(200, body.encode(), {"Content-Type": "application/xml"})

    def _list_objects(self, call: Call) -> Response:
        if call.query.get("list-type") != "2":
            raise InvalidArgumentError("list-type must be 2")
        return _xml("ListBucketResult", list_objects(self._store, call.bucket, call.query))

    def _list_uploads(self, call: Call) -> Response:
        uploads = self._uploads.open_uploads(call.bucket, call.query.get("prefix", ""))
        return _xml("ListMultipartUploadsResult", list_uploads(call.bucket, uploads, call.query))

    def _delete_objects(self, call: Call) -> Response:
        _require_digest(call)
        root = _parse(call.body)
        keys = [_child(item, "Key") for item in root.findall("{*}Object")]
        if not 1 <= len(keys) <= MAX_DELETES:
            raise MalformedXmlError
        for key in keys:
            self._store.delete(call.bucket, key)  # one that is not there counts as deleted
        quiet = root.findtext("{*}Quiet") == "true"
        return _xml("DeleteResult", {} if quiet else {"Deleted": [{"Key": key} for key in keys]})

    # objects

    def _put_object(self, call: Call) -> Response:
        described, wanted = attributes(call.headers), condition(call.headers)
        received = receive(call.request, call.payload_hash, self._store.new_path)
        algorithm, digest = next(iter(received.checksums.items()), ("", b""))
        checksum = ObjectChecksum(algorithm, digest) if algorithm else None
        segments = (Segment(received.path, received.size),)
        etag = _etag(received, encryption_of(described))
        stored = StoredObject(call.key, etag, self._clock(), segments, described, checksum)
        with contextlib.ExitStack() as undo:
            undo.callback(discard, segments)
            self._store.put(call.bucket, stored, wanted)
            undo.pop_all()
        headers = {"ETag": f'"{etag}"', **encryption_of(described), **checksum_of(stored)}
        return Response(200, b"", headers)

    def _get_object(self, call: Call) -> Response:
        if "partNumber" in call.query:
            raise InvalidArgumentError("partNumber is not supported by the stand-in")
        with self._store.lock:  # so that the object is not replaced before its files are open
            stored = self._found(call)
            wanted = byte_range(call.headers.get("range"), stored.size)
            content = stored.open(*(wanted or (0, stored.size)))
        if wanted is None:
            return Response(200, content, describe(stored) | _asked_checksum(call, stored), content.length)
        headers = describe(stored)
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.start + wanted.length - 1}/{stored.size}"
        return Response(206, content, headers, content.length)

    def _head_object(self, call: Call) -> Response:
        stored = self._found(call)
        return Response(200, b"", describe(stored) | _asked_checksum(call, stored), stored.size)

    def _found(self, call: Call) -> StoredObject:
        """The object, if the reading conditions hold."""
        stored = self._store.get(call.bucket, call.key)
        if call.headers.get("if-match", stored.etag).strip('"') not in (stored.etag, "*"):
            raise PreconditionFailedError("If-Match")
        if call.headers.get("if-none-match", "").strip('"') in (stored.etag, "*"):
            raise ApiError("Not Modified", code="NotModified", status=304, headers={"ETag": f'"{stored.etag}"'})
        return stored

    def _delete_object(self, call: Call) -> Response:
        self._store.delete(call.bucket, call.key, condition(call.headers))
        return Response(204)

    def _object_attributes(self, call: Call) -> Response:
        wanted = {name.strip() for name in call.headers.get("x-amz-object-attributes", "").split(",")}
        stored = self._store.get(call.bucket, call.key)
        known: Mapping[str, xml.Value] = {
            "ETag": stored.etag,
            "Checksum": _checksum_element(stored),
            "ObjectParts": {"PartsCount": stored.part_count} if stored.part_count else None,
            "StorageClass": stored.attributes.storage_class,
            "ObjectSize": stored.size,
        }
        if not wanted or not wanted <= known.keys():
            raise InvalidArgumentError("Invalid attribute name specified.")
        answer = {name: value for name, value in known.items() if name in wanted}
        return _xml("GetObjectAttributesResponse", answer)

    def _object_tagging(self, call: Call) -> Response:
        tags = self._store.get(call.bucket, call.key).attributes.tags
        return _xml("Tagging", {"TagSet": {"Tag": [{"Key": key, "Value": value} for key, value in tags.items()]}})

    # multipart uploads

    def _create_upload(self, call: Call) -> Response:
        algorithm, kind = _upload_checksum(call.headers)
        described = attributes(call.headers)
        upload = self._uploads.begin(call.bucket, call.key, described, algorithm, kind)
        headers = encryption_of(described)
        if algorithm and kind:
            headers |= {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
        answer = {"Bucket": call.bucket, "Key": call.key, "UploadId": upload.id}
        return _xml("InitiateMultipartUploadResult", answer, headers)

    def _upload_part(self, call: Call) -> Response:
        part_number = number(call.query, "partNumber", 0)
        if not 1 <= part_number <= MAX_PARTS:
            raise InvalidArgumentError(f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive")
        upload = self._upload(call)
        _require_part_checksum(upload, call.headers)
        received = receive(call.request, call.payload_hash, self._store.new_path, upload.algorithm)
        part = self._uploads.add_part(upload, part_number, received)
        headers = {"ETag": f'"{part.etag}"', **encryption_of(upload.attributes)}
        for name, digest in part.checksums.items():
            headers |= header_of(name, digest)
        return Response(200, b"", headers)

    def _complete_upload(self, call: Call) -> Response:
        claims = _claims(_parse(call.body))
        wanted = condition(call.headers)
        upload_id = call.query.get("uploadId", "")
        stored = self._uploads.completed_before(call.bucket, call.key, upload_id, claims)
        if stored is None:
            upload = self._upload(call)
            _require_type(upload, call.headers)
            expected = {name: call.headers[header] for header, name in HEADERS.items() if header in call.headers}
            stored = self._uploads.complete(upload, claims, wanted, expected)
        answer: dict[str, xml.Value] = {
            "Location": f"https://{call.bucket}.s3.amazonaws.com/{call.key}",
            "Bucket": call.bucket,
            "Key": call.key,
            "ETag": f'"{stored.etag}"',
            **_checksum_values(stored),
        }
        return _xml("CompleteMultipartUploadResult", answer, encryption_of(stored.attributes))

    def _abort_upload(self, call: Call) -> Response:
        self._uploads.abort(self._upload(call))
        return Response(204)

    def _list_parts(self, call: Call) -> Response:
        return _xml("ListPartsResult", list_parts(self._upload(call), call.query))

    def _upload(self, call: Call) -> Upload:
        return self._uploads.find(call.bucket, call.key, call.query.get("uploadId", ""))


def _xml(tag: str, content: Mapping[str, xml.Value], headers: Mapping[str, str] | None = None) -> Response:
    body = xml.document(tag, content, NAMESPACE)
    return Response(200, body, {**(headers or {}), "Content-Type": "application/xml"})


def _parse(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)  # noqa: S314 - expat bounds entities, and only this machine sends
    except ET.ParseError as error:
        raise MalformedXmlError from error


def _child(element: ET.Element, name: str) -> str:
    text = element.findtext(f"{{*}}{name}")
    if text is None:
        raise MalformedXmlError
    return text


def _location_constraint(call: Call) -> str:
    wanted = _parse(call.body).findtext("{*}LocationConstraint") if call.body.strip() else None
    region = wanted or DEFAULT_REGION
    if call.region not in (DEFAULT_REGION, region):
        kind = "unspecified" if wanted is None else wanted
        raise ApiError(
            f"The {kind} location constraint is incompatible for the region specific endpoint "
            "this request was sent to.",
            code="IllegalLocationConstraintException",
            status=400,
        )
    return region


def _require_digest(call: Call) -> None:
    """DeleteObjects must carry a checksum of its body, and it must be right."""
    md5 = base64.b64encode(hashlib.md5(call.body, usedforsecurity=False).digest()).decode()
    if "content-md5" in call.headers:
        if call.headers["content-md5"] != md5:
            raise BadDigestError("The Content-MD5 you specified did not match what we received.")
        return
    given = {name: call.headers[header] for header, name in HEADERS.items() if header in call.headers}
    if not given:
        raise InvalidRequestError("Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
    for name, value in given.items():
        checksum = ALGORITHMS[name]()
        checksum.update(call.body)
        if checksums.encode(checksum.digest()) != value:
            raise BadDigestError(f"The {name} you specified did not match the calculated checksum.")


def _etag(received: Received, encryption: Mapping[str, str]) -> str:
    """The MD5 of the content; with KMS it is not, so nobody should count on it."""
    if encryption.get("x-amz-server-side-encryption", "").startswith("aws:kms"):
        return hashlib.md5(b"kms" + received.md5, usedforsecurity=False).hexdigest()
    return received.md5.hex()


def _asked_checksum(call: Call, stored: StoredObject) -> dict[str, str]:
    return checksum_of(stored) if call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" else {}


def _checksum_values(stored: StoredObject) -> dict[str, str]:
    checksum = stored.checksum
    return {f"Checksum{checksum.algorithm}": checksum.value, "ChecksumType": checksum.kind} if checksum else {}


def _checksum_element(stored: StoredObject) -> xml.Value:
    """As GetObjectAttributes writes it: a COMPOSITE value without the number of parts."""
    checksum = stored.checksum
    if checksum is None:
        return None
    return {f"Checksum{checksum.algorithm}": checksums.encode(checksum.digest), "ChecksumType": checksum.kind}


def _upload_checksum(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Algorithm and type of a new upload's checksum, with S3's defaults."""
    algorithm, kind = headers.get("x-amz-checksum-algorithm"), headers.get("x-amz-checksum-type")
    if algorithm is None:
        if kind is not None:
            raise InvalidRequestError(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
            )
        return None, None
    if algorithm not in ALGORITHMS:
        raise InvalidRequestError(
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types"
        )
    if kind not in (None, "FULL_OBJECT", "COMPOSITE"):
        raise InvalidRequestError("Value for x-amz-checksum-type header is invalid.")
    whole_only = algorithm == "CRC64NVME"
    kind = kind or ("FULL_OBJECT" if whole_only else "COMPOSITE")
    if (kind == "FULL_OBJECT" and not checksums.can_be_full(algorithm)) or (kind == "COMPOSITE" and whole_only):
        raise InvalidRequestError(
            f"The {kind} checksum type cannot be used with the {algorithm.lower()} checksum algorithm."
        )
    return algorithm, kind


def _require_part_checksum(upload: Upload, headers: Mapping[str, str]) -> None:
    """A part of a COMPOSITE upload must bring the upload's checksum; of another algorithm none may."""
    trailer = HEADERS.get(headers.get("x-amz-trailer", "").lower())
    given = trailer or next((name for header, name in HEADERS.items() if header in headers), None)
    if upload.algorithm is None or given == upload.algorithm or (given is None and upload.kind == "FULL_OBJECT"):
        return
    raise InvalidRequestError(
        f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm.lower()}, "
        f"actual checksum Type: {given.lower() if given else 'null'}"
    )


def _require_type(upload: Upload, headers: Mapping[str, str]) -> None:
    kind = headers.get("x-amz-checksum-type")
    if kind is not None and kind != upload.kind:
        raise BadDigestError("The checksum type of the request does not match that of the upload.")


def _claims(root: ET.Element) -> tuple[PartClaim, ...]:
    parts = root.findall("{*}Part")
    if not parts or len(parts) > MAX_PARTS:
        raise MalformedXmlError
    return tuple(map(_claim, parts))


def _claim(part: ET.Element) -> PartClaim:
    text = _child(part, "PartNumber")
    if not text.isdecimal():
        raise MalformedXmlError
    given = {name: part.findtext(f"{{*}}Checksum{name}") for name in ALGORITHMS}
    return PartClaim(int(text), _child(part, "ETag"), {name: value for name, value in given.items() if value})
