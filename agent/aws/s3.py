"""S3: objects put whole or in parts, each with a checksum that S3 verifies on the way in and answers.

Sources: the API reference of S3 (docs.aws.amazon.com/AmazonS3/latest/API: PutObject, CreateMultipartUpload,
UploadPart, CompleteMultipartUpload, AbortMultipartUpload, HeadObject, ErrorResponses) and its user guide
(checking-object-integrity, conditional-requests).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from agent.aws.checksums import ALGORITHMS, CRC32, Algorithm, Hasher, encode
from agent.aws.cold import call
from agent.aws.errors import AnswerLost, AwsError, Conflict, NotFound, Transient, from_answer
from agent.aws.s3_door import Door, region_of
from agent.aws.s3_xml import Listed, read_fields, read_listing
from agent.aws.session import Aws
from agent.aws.wire import UNSIGNED_PAYLOAD, Answer, Body, KeptConnectionClosed

_TRIES = 3  # of one request: region found out, a kept connection that S3 had closed
_SECONDS = 30.0  # to connect, and for each read and write
_COMPLETE_SECONDS = 120.0  # the same while S3 assembles an object, which takes minutes; blanks come meanwhile
_MANGLED = frozenset(
    ["BadDigest", "IncompleteBody", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"]
)


class ChecksumMismatch(Transient):
    """What S3 received is not what was hashed: the source changed meanwhile, or a bit fell over on the way."""

    hint = "nothing to do: it is read and sent again; if it lasts, suspect memory, disk or a proxy"


class KeyTaken(Conflict):
    """Another object has the key, and was not to be replaced: choose another prefix, or set `overwrite: true`."""

    hint = "another writer was first: choose another prefix, or set overwrite: true"


@dataclass(frozen=True, slots=True)
class Payload:
    """A body, its length in bytes and its digest by the bucket's algorithm; `sha256` (hex) where it is signed."""

    body: Body
    length: int
    digest: bytes
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as S3 has it: its own ETag and checksum (base64, with -N if composed of N parts)."""

    etag: str
    checksum: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """An uploaded part, as S3 confirmed it."""

    number: int
    length: int
    digest: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A multipart upload that was neither completed nor aborted; `initiated` in seconds since the epoch."""

    key: str
    upload_id: str
    initiated: float


@dataclass(frozen=True, slots=True)
class Properties:
    """What an object is given beside its bytes."""

    content_type: str | None = None
    cache_control: str | None = None
    storage_class: str = "STANDARD"
    kms_key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def headers(self) -> dict[str, str]:
        """The headers of PutObject and CreateMultipartUpload."""
        found = {f"x-amz-meta-{name}": header_text(value) for name, value in self.metadata.items()}
        if self.content_type:
            found["Content-Type"] = header_text(self.content_type)
        if self.cache_control:
            found["Cache-Control"] = header_text(self.cache_control)
        if self.storage_class != "STANDARD":
            found["x-amz-storage-class"] = self.storage_class
        if self.kms_key:
            found["x-amz-server-side-encryption"] = "aws:kms"
            found["x-amz-server-side-encryption-aws-kms-key-id"] = self.kms_key
        if self.tags:
            found["x-amz-tagging"] = "&".join(
                f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in self.tags.items()
            )
        return found


class S3:
    """S3 as one role sees it."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def bucket(
        self, name: str, region: str | None = None, owner: str | None = None, algorithm: Algorithm = CRC32
    ) -> Bucket:
        """A client for one bucket; no call is made. `region` None: found out. `owner`: the account it must be of."""
        return Bucket(self._aws, name, region, owner, algorithm)


class Bucket:
    """One bucket. Every call raises AwsError, and is bounded in time. Safe to use from several threads."""

    def __init__(self, aws: Aws, name: str, region: str | None, owner: str | None, algorithm: Algorithm) -> None:
        self.name = name
        self.algorithm = algorithm
        self._aws = aws
        self._owner = owner
        self._region = region or aws.region
        self._doors: dict[str, Door] = {}

    def payload(self, data: bytes) -> Payload:
        """Bytes in memory, hashed. Raises AwsError, as does everything that looks for the bucket."""
        hasher = self.algorithm.new()
        hasher.update(data)
        sha256 = hashlib.sha256(data).hexdigest() if self._door().signs_bodies else None
        return Payload(data, len(data), hasher.digest(), sha256)

    def measure(
        self, blocks: Callable[[], Iterable[bytes]], length: int, body: Callable[[], Iterable[bytes]] | None = None
    ) -> Payload:
        """A source that can be read twice, hashed: once here, once when it is sent. Passes its exceptions on.

        `body`, if given, makes the blocks that are sent.
        """
        hashers: list[Hasher] = [self.algorithm.new()]
        if self._door().signs_bodies:
            hashers.append(hashlib.sha256())
        for block in blocks():
            for hasher in hashers:
                hasher.update(block)
        sha256 = hashers[1].digest().hex() if len(hashers) > 1 else None
        return Payload(blocks if body is None else body, length, hashers[0].digest(), sha256)

    def put_object(
        self, key: str, payload: Payload, headers: Mapping[str, str], *, if_absent: bool = False
    ) -> Stored:
        """Put an object whole. `headers` are those of its `Properties`.

        Raises ChecksumMismatch; with `if_absent` KeyTaken where another object is there already. Our own, put by a
        call whose answer was lost, is told by its checksum.
        """
        condition = {"If-None-Match": "*"} if if_absent else {}
        try:
            answer = self._send("PutObject", "PUT", key, "", {**headers, **condition}, payload)
        except Conflict as conflict:
            return self._judge(conflict, key, payload.length, encode(payload.digest))
        return self._stored("PutObject", answer.headers, encode(payload.digest))

    def create_multipart_upload(self, key: str, headers: Mapping[str, str]) -> str:
        """Begin an upload in parts; its id."""
        checksum = {
            "x-amz-checksum-algorithm": self.algorithm.name,
            "x-amz-checksum-type": self.algorithm.kind,
        }
        answer = self._send("CreateMultipartUpload", "POST", key, "uploads=", {**headers, **checksum})
        upload_id = read_fields(answer.body)[1].get("UploadId", "")
        if not upload_id:
            raise AnswerLost("CreateMultipartUpload", "NoUploadId", "the answer names no upload", answer.status)
        return upload_id

    def upload_part(self, key: str, upload_id: str, number: int, payload: Payload) -> Part:
        """Upload the part `number` (from 1). Raises ChecksumMismatch."""
        query = f"partNumber={number}&uploadId={quote(upload_id, safe='-_.~')}"
        answer = self._send("UploadPart", "PUT", key, query, {}, payload)
        stored = self._stored("UploadPart", answer.headers, encode(payload.digest))
        return Part(number, payload.length, payload.digest, stored.etag)

    def complete_multipart_upload(
        self, key: str, upload_id: str, parts: Sequence[Part], *, if_absent: bool = False
    ) -> Stored:
        """Make the object of all its parts, in order.

        S3 may answer 200 and an error in the body. Where the upload is not known any more, the object may be there:
        an earlier call's answer was lost. Raises ChecksumMismatch, NotFound, KeyTaken.
        """
        expected = self.algorithm.of_parts([(part.digest, part.length) for part in parts])
        length = sum(part.length for part in parts)
        headers = {"x-amz-checksum-type": self.algorithm.kind, "x-amz-mp-object-size": str(length)}
        if self.algorithm.kind == "FULL_OBJECT":
            headers[self.algorithm.header] = expected
        if if_absent:
            headers["If-None-Match"] = "*"
        body = _parts_document(parts, self.algorithm)
        query = f"uploadId={quote(upload_id, safe='-_.~')}"
        try:
            answer = self._send("CompleteMultipartUpload", "POST", key, query, headers, body)
        except (Conflict, NotFound) as error:
            return self._judge(error, key, length, expected)
        return self._completed(answer, expected)

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        """Give up an upload in parts; one that is gone already is no error."""
        try:
            self._send("AbortMultipartUpload", "DELETE", key, f"uploadId={quote(upload_id, safe='-_.~')}", {})
        except NotFound as error:
            if error.code not in ("NoSuchUpload", "404"):
                raise

    def list_multipart_uploads(self, prefix: str) -> list[OpenUpload]:
        """Uploads in parts that are open, of keys that begin with `prefix`."""
        client = self._aws.client("s3", self._region)
        arguments: dict[str, Any] = {"Bucket": self.name, "Prefix": prefix}
        if self._owner:
            arguments["ExpectedBucketOwner"] = self._owner
        found: list[OpenUpload] = []
        while True:
            answer = call("ListMultipartUploads", client.list_multipart_uploads, **arguments)
            found += [
                OpenUpload(item["Key"], item["UploadId"], item["Initiated"].timestamp())
                for item in answer.get("Uploads", [])
            ]
            if not answer.get("IsTruncated"):
                return found
            arguments["KeyMarker"] = answer["NextKeyMarker"]
            arguments["UploadIdMarker"] = answer["NextUploadIdMarker"]

    def head_object(self, key: str) -> tuple[Stored, int]:
        """The object of the key as S3 has it, and its size in bytes. Raises NotFound."""
        answer = self._send("HeadObject", "HEAD", key, "", {"x-amz-checksum-mode": "ENABLED"})
        headers = answer.headers
        stored = Stored(
            headers.get("etag", "").strip('"'),
            headers.get(self.algorithm.header, ""),
            headers.get("x-amz-version-id"),
        )
        return stored, int(headers.get("content-length") or 0)

    def delete_object(self, key: str, etag: str) -> None:
        """Delete the object of the key, if it is the one with this ETag; one that is gone is no error.

        A versioned bucket gets a delete marker. Raises Conflict where another object has the key. Needs
        s3:DeleteObject and, for the condition, s3:GetObject. Source: userguide/conditional-deletes.html.
        """
        try:
            self._send("DeleteObject", "DELETE", key, "", {"If-Match": f'"{etag}"'})
        except NotFound as error:
            if error.code not in ("NoSuchKey", "404"):
                raise

    def list_objects(self, prefix: str) -> Iterator[list[Listed]]:
        """All objects whose keys begin with `prefix`, in pages of up to 1,000, in the order of UTF-8 bytes."""
        token: str | None = ""
        while token is not None:
            more = f"continuation-token={quote(token, safe='-_.~')}&" if token else ""
            query = f"{more}encoding-type=url&list-type=2&prefix={quote(prefix, safe='-_.~')}"
            answer = self._send("ListObjectsV2", "GET", "", query, {})
            page = read_listing(answer.body)
            if page is None:
                raise AnswerLost("ListObjectsV2", "Unreadable", "the answer is no XML that S3 writes")
            objects, token = page
            yield objects

    def _judge(self, error: AwsError, key: str, length: int, expected: str) -> Stored:
        """The key is taken, or the upload gone: by our own earlier call, if the object there is ours."""
        if error.code not in ("PreconditionFailed", "412", "NoSuchUpload"):
            raise error
        try:
            stored, size = self.head_object(key)
        except NotFound:
            raise error from None
        if size == length and stored.checksum == expected:
            return stored
        if error.code == "NoSuchUpload":
            raise error
        raise KeyTaken(error.operation, error.code, f"another object has the key {key!r}", error.status) from error

    def _completed(self, answer: Answer, expected: str) -> Stored:
        root, found = read_fields(answer.body)
        if root == "Error":
            raise _error("CompleteMultipartUpload", 500, found)
        if root != "CompleteMultipartUploadResult":
            raise AnswerLost("CompleteMultipartUpload", "Unreadable", "the answer is no XML that S3 writes")
        headers = {**answer.headers, "etag": found.get("ETag", "")}
        headers[self.algorithm.header] = found.get(self.algorithm.element, "")
        return self._stored("CompleteMultipartUpload", headers, expected)

    def _stored(self, operation: str, headers: Mapping[str, str], expected: str) -> Stored:
        """What S3 says it has stored, which must be what was hashed."""
        checksum = headers.get(self.algorithm.header, "")
        if checksum != expected:
            raise ChecksumMismatch(
                operation, "ChecksumMismatch", f"{self.algorithm.name} {checksum or 'absent'}, not {expected}"
            )
        return Stored(headers.get("etag", "").strip('"'), checksum, headers.get("x-amz-version-id"))

    def _send(
        self,
        operation: str,
        method: str,
        key: str,
        query: str,
        headers: Mapping[str, str],
        body: Payload | bytes = b"",
    ) -> Answer:
        """One request, in the bucket's own region once that is known. Raises AwsError."""
        wanted = {**headers, **self._payload_headers(body)}
        if self._owner:
            wanted["x-amz-expected-bucket-owner"] = self._owner
        for left in reversed(range(_TRIES)):
            door = self._door()
            try:
                answer = self._exchange(door, operation, method, key, query, wanted, body)
            except KeptConnectionClosed:
                if not left or operation == "CreateMultipartUpload":  # again, it might leave two behind
                    raise
                continue
            if answer.status < 300:
                return answer
            found = read_fields(answer.body)[1] if method != "HEAD" else {}
            if not left or not self._moves(door, answer, found):
                raise _error(operation, answer.status, found)
        raise AssertionError("unreachable")  # the last try returned or raised

    def _payload_headers(self, body: Payload | bytes) -> dict[str, str]:
        if isinstance(body, bytes):
            return {"Content-Length": str(len(body))} if body else {}
        return {"Content-Length": str(body.length), self.algorithm.header: encode(body.digest)}

    def _exchange(
        self,
        door: Door,
        operation: str,
        method: str,
        key: str,
        query: str,
        headers: Mapping[str, str],
        body: Payload | bytes,
    ) -> Answer:
        target = door.target(key, query)
        timeout = _COMPLETE_SECONDS if operation == "CompleteMultipartUpload" else _SECONDS
        if isinstance(body, bytes):
            return door.wire.send(operation, method, target, headers, body, timeout=timeout)
        digest = body.sha256 if door.signs_bodies else UNSIGNED_PAYLOAD
        return door.wire.send(operation, method, target, headers, body.body, digest=digest, timeout=timeout)

    def _moves(self, door: Door, answer: Answer, found: Mapping[str, str]) -> bool:
        """Learn the bucket's region from an answer; whether the same request may now do better."""
        region = region_of(answer.status, answer.headers, found)
        if region is None or region == door.region:
            return False
        self._region = region
        return True

    def _door(self) -> Door:
        region = self._region
        door = self._doors.get(region)
        if door is None:
            door = self._doors[region] = Door.of(self._aws, self.name, region)
        return door


def algorithm(name: str) -> Algorithm:
    """The checksum algorithm of that name. Raises ChecksumUnavailable."""
    found = ALGORITHMS[name]
    found.new()
    return found


def header_text(value: str) -> str:
    """Text as a header's value: S3 takes other than printable ASCII as an encoded word (RFC 2047)."""
    if value.isascii() and value.isprintable():
        return value
    return f"=?UTF-8?B?{encode(value.encode('utf-8', 'replace'))}?="


def _parts_document(parts: Sequence[Part], algorithm: Algorithm) -> bytes:
    element = algorithm.element
    rows = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag>"
        f"<{element}>{encode(part.digest)}</{element}></Part>"
        for part in parts
    )
    return (
        f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{rows}</CompleteMultipartUpload>'
    ).encode()


def _error(operation: str, status: int, found: Mapping[str, str]) -> AwsError:
    code, message = found.get("Code", ""), found.get("Message", "")
    if code in _MANGLED:
        return ChecksumMismatch(operation, code, message, status)
    return from_answer(operation, status, code or str(status), message)
