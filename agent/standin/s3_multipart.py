"""Multipart uploads: parts on their way to become one object.

docs.aws.amazon.com/AmazonS3/latest/API: API_CreateMultipartUpload, API_UploadPart, API_CompleteMultipartUpload; the
limits are in the User Guide, qfacts.
"""

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.standin import checksums
from agent.standin.errors import ApiError
from agent.standin.s3_body import Received
from agent.standin.s3_errors import BadDigestError, InvalidRequestError, NoSuchUploadError
from agent.standin.s3_store import (
    Attributes,
    Condition,
    ObjectChecksum,
    Segment,
    Store,
    StoredObject,
    discard,
)

MIN_PART = 5 * 1024**2  # bytes of every part but the last
MAX_PARTS = 10_000
MAX_COMPLETED = 10_000  # completed uploads remembered, so that completing one again says the same


class InvalidPartError(ApiError):
    """A part that the list names was not uploaded, or is another one by now."""

    code = "InvalidPart"
    status = 400

    def __init__(self, number: int) -> None:
        super().__init__(
            "One or more of the specified parts could not be found.  The part may not have been uploaded, "
            "or the specified entity tag may not match the part's entity tag.",
            details={"PartNumber": str(number)},
        )


class InvalidPartOrderError(ApiError):
    """The list of parts is not in ascending order."""

    code = "InvalidPartOrder"
    status = 400


class EntityTooSmallError(ApiError):
    """A part that is not the last is smaller than 5 MiB."""

    code = "EntityTooSmall"
    status = 400


@dataclass(frozen=True, slots=True)
class Part:
    """An uploaded part; its digest by the upload's algorithm, or by the part's own if the upload has none."""

    number: int
    segment: Segment
    md5: bytes
    checksums: dict[str, bytes]
    modified: float

    @property
    def etag(self) -> str:
        return self.md5.hex()


@dataclass(frozen=True, slots=True)
class PartClaim:
    """What the client says of a part when it completes the upload."""

    number: int
    etag: str
    checksums: dict[str, str]


@dataclass
class Upload:
    """An upload in progress; `algorithm` and `kind` (FULL_OBJECT or COMPOSITE) of its checksum, if it has one."""

    id: str
    bucket: str
    key: str
    attributes: Attributes
    begun: float
    algorithm: str | None
    kind: str | None
    parts: dict[int, Part] = field(default_factory=dict)

    def needs_part_checksums(self) -> bool:
        return self.algorithm is not None and self.kind == "COMPOSITE"


@dataclass(frozen=True, slots=True)
class _Completed:
    claims: tuple[PartClaim, ...]
    bucket: str
    stored: StoredObject


class Uploads:
    """Uploads by their id, over the store that takes the finished objects."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.RLock()
        self._open: dict[str, Upload] = {}
        self._completed: dict[str, _Completed] = {}

    def begin(self, bucket: str, key: str, attributes: Attributes, algorithm: str | None, kind: str | None) -> Upload:
        upload = Upload(secrets.token_urlsafe(64), bucket, key, attributes, self._clock(), algorithm, kind)
        with self._lock:
            self._open[upload.id] = upload
        return upload

    def find(self, bucket: str, key: str, upload_id: str) -> Upload:
        """Raises NoSuchUploadError."""
        with self._lock:
            upload = self._open.get(upload_id)
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            raise NoSuchUploadError(upload_id)
        return upload

    def open_uploads(self, bucket: str, prefix: str = "") -> list[Upload]:
        """Uploads in progress, in the order of their keys."""
        with self._lock:
            found = [u for u in self._open.values() if u.bucket == bucket and u.key.startswith(prefix)]
        return sorted(found, key=lambda upload: (upload.key, upload.begun))

    def add_part(self, upload: Upload, number: int, received: Received) -> Part:
        """A part takes the place of an earlier one of its number."""
        segment = Segment(received.path, received.size)
        part = Part(number, segment, received.md5, received.checksums, self._clock())
        with self._lock:
            if upload.id not in self._open:
                discard([segment])
                raise NoSuchUploadError(upload.id)
            old = upload.parts.get(number)
            upload.parts[number] = part
        if old:
            discard([old.segment])
        return part

    def abort(self, upload: Upload) -> None:
        with self._lock:
            self._open.pop(upload.id, None)
            discard(part.segment for part in upload.parts.values())
            upload.parts.clear()

    def complete(
        self,
        upload: Upload,
        claims: tuple[PartClaim, ...],
        condition: Condition,
        expected: dict[str, str],
    ) -> StoredObject:
        """Make the object of the listed parts; parts that are not listed are dropped.

        `expected` holds checksums of the whole object as the client knows them, by algorithm.
        """
        with self._lock:
            self.find(upload.bucket, upload.key, upload.id)
            parts = _select(upload, claims)
            stored = _assemble(upload, parts, self._clock())
            _require_expected(stored, expected)
            self._store.put(upload.bucket, stored, condition)
            del self._open[upload.id]
            discard(part.segment for part in upload.parts.values() if part not in parts)
            self._remember(upload, claims, stored)
        return stored

    def completed_before(
        self, bucket: str, key: str, upload_id: str, claims: tuple[PartClaim, ...]
    ) -> StoredObject | None:
        """The object of an upload that was already completed with the same parts: S3 answers as it did then."""
        with self._lock:
            done = self._completed.get(upload_id)
        same = done and (done.bucket, done.stored.key, done.claims) == (bucket, key, claims)
        return done.stored if done and same else None

    def clear(self) -> None:
        with self._lock:
            for upload in list(self._open.values()):
                self.abort(upload)
            self._completed.clear()

    def _remember(self, upload: Upload, claims: tuple[PartClaim, ...], stored: StoredObject) -> None:
        self._completed[upload.id] = _Completed(claims, upload.bucket, stored)
        if len(self._completed) > MAX_COMPLETED:
            del self._completed[next(iter(self._completed))]


def _select(upload: Upload, claims: tuple[PartClaim, ...]) -> list[Part]:
    """The parts that the list names, after checking it."""
    numbers = [claim.number for claim in claims]
    if numbers != sorted(set(numbers)):
        raise InvalidPartOrderError(
            "The list of parts was not in ascending order. Parts must be ordered by part number."
        )
    parts = [_claimed_part(upload, claim) for claim in claims]
    for part in parts[:-1]:
        if part.segment.size < MIN_PART:
            raise EntityTooSmallError(
                "Your proposed upload is smaller than the minimum allowed size",
                details={
                    "ProposedSize": str(part.segment.size),
                    "MinSizeAllowed": str(MIN_PART),
                    "PartNumber": str(part.number),
                    "ETag": part.etag,
                },
            )
    return parts


def _claimed_part(upload: Upload, claim: PartClaim) -> Part:
    part = upload.parts.get(claim.number)
    if part is None or part.etag != claim.etag.strip('"'):
        raise InvalidPartError(claim.number)
    if upload.needs_part_checksums() and upload.algorithm not in claim.checksums:
        raise InvalidRequestError(
            f"The upload was created using a {str(upload.algorithm).lower()} checksum. The complete request must "
            f"include the checksum for each part. It was missing for part {claim.number} in the request."
        )
    for algorithm, value in claim.checksums.items():
        if algorithm not in part.checksums or checksums.encode(part.checksums[algorithm]) != value:
            raise InvalidPartError(claim.number)
    return part


def _assemble(upload: Upload, parts: list[Part], now: float) -> StoredObject:
    md5s = b"".join(part.md5 for part in parts)
    etag = f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(parts)}"
    segments = tuple(part.segment for part in parts)
    return StoredObject(upload.key, etag, now, segments, upload.attributes, _checksum(upload, parts), len(parts))


def _checksum(upload: Upload, parts: list[Part]) -> ObjectChecksum | None:
    algorithm = upload.algorithm
    if algorithm is None:
        return None
    digests = [part.checksums[algorithm] for part in parts]
    if upload.kind == "COMPOSITE":
        return ObjectChecksum(algorithm, checksums.composite(algorithm, digests), "COMPOSITE", len(parts))
    sizes = [part.segment.size for part in parts]
    return ObjectChecksum(algorithm, checksums.whole_of_parts(algorithm, list(zip(digests, sizes, strict=True))))


def _require_expected(stored: StoredObject, expected: dict[str, str]) -> None:
    for algorithm, value in expected.items():
        actual = stored.checksum
        if (
            actual is None
            or actual.algorithm != algorithm
            or actual.value.partition("-")[0] != value.partition("-")[0]
        ):
            raise BadDigestError(f"The {algorithm} you specified did not match the calculated checksum.")
