"""Buckets and their objects: what S3 keeps, and the conditions under which it changes."""

import bisect
import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from agent.standin import checksums
from agent.standin.s3_errors import NoSuchBucketError, NoSuchKeyError, PreconditionFailedError

READ = 262_144  # bytes of one block of an answer


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of an object's content: a whole PutObject, or a part. Size in bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class ObjectChecksum:
    """An object's stored checksum; `kind` is FULL_OBJECT or COMPOSITE, `parts` counts those of a COMPOSITE."""

    algorithm: str
    digest: bytes
    kind: str = "FULL_OBJECT"
    parts: int = 0

    @property
    def value(self) -> str:
        """As S3 writes it: base64, and for COMPOSITE the number of parts."""
        text = checksums.encode(self.digest)
        return f"{text}-{self.parts}" if self.kind == "COMPOSITE" else text


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a client says of an object when it begins to upload it.

    `headers` come back as they are (Content-Type, Cache-Control, x-amz-server-side-encryption, ...).
    """

    headers: dict[str, str]
    metadata: dict[str, str]
    tags: dict[str, str]
    storage_class: str


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is read back; `modified` in seconds since the epoch, `etag` without quotes."""

    key: str
    etag: str
    modified: float
    segments: tuple[Segment, ...]
    attributes: Attributes
    checksum: ObjectChecksum | None = None
    part_count: int | None = None

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)

    def open(self, start: int, length: int) -> "Content":
        return Content(self.segments, start, length)


class Content:
    """`length` bytes of an object from `start` on, to be read once and closed.

    The files are open from the beginning, so that the object can be replaced meanwhile.
    """

    def __init__(self, segments: Iterable[Segment], start: int, length: int) -> None:
        self._files = [open(segment.path, "rb") for segment in segments]  # noqa: SIM115 - close() ends them
        self._start = start
        self.length = length

    def __iter__(self) -> Iterator[bytes]:
        start, left = self._start, self.length
        for file in self._files:
            size = os.fstat(file.fileno()).st_size
            if start < size:
                file.seek(start)
                while left and (block := file.read(min(READ, left))):
                    left -= len(block)
                    yield block
            start = max(0, start - size)

    def close(self) -> None:
        for file in self._files:
            file.close()


@dataclass
class Bucket:
    name: str
    region: str
    owner: str
    created: float
    objects: dict[str, StoredObject] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)  # in order of code points, which is that of UTF-8 bytes


@dataclass(frozen=True, slots=True)
class Condition:
    """If-Match and If-None-Match of a write."""

    if_match: str | None = None
    if_none_match: str | None = None

    def check(self, current: StoredObject | None, key: str) -> None:
        if self.if_none_match == "*" and current is not None:
            raise PreconditionFailedError("If-None-Match")
        if self.if_match is not None:
            if current is None:
                raise NoSuchKeyError(key)
            if self.if_match.strip('"') not in ("*", current.etag):
                raise PreconditionFailedError("If-Match")


class Store:
    """All buckets. Content lies in files of `directory`; a file goes with the last object that needs it."""

    def __init__(self, directory: str, clock: Callable[[], float], region: str, owner: str) -> None:
        self.directory = directory
        self._region = region
        self._owner = owner
        self._clock = clock
        self._numbers = itertools.count(1)
        self.lock = threading.RLock()  # held by who looks an object up and then opens it
        self._buckets: dict[str, Bucket] = {}

    def new_path(self) -> str:
        return os.path.join(self.directory, f"{next(self._numbers):08d}")

    def add_bucket(self, name: str, region: str | None = None, owner: str | None = None) -> Bucket:
        """A new empty bucket; region and owner (an account id) are the stand-in's unless given."""
        with self.lock:
            bucket = Bucket(name, region or self._region, owner or self._owner, self._clock())
            self._buckets[name] = bucket
            return bucket

    def remove_bucket(self, name: str) -> None:
        with self.lock:
            del self._buckets[name]

    def bucket(self, name: str) -> Bucket:
        """Raises NoSuchBucketError."""
        with self.lock:
            if name not in self._buckets:
                raise NoSuchBucketError(name)
            return self._buckets[name]

    def buckets(self) -> list[Bucket]:
        with self.lock:
            return [self._buckets[name] for name in sorted(self._buckets)]

    def get(self, bucket: str, key: str) -> StoredObject:
        """Raises NoSuchBucketError or NoSuchKeyError."""
        with self.lock:
            found = self.bucket(bucket).objects.get(key)
        if found is None:
            raise NoSuchKeyError(key)
        return found

    def open(self, bucket: str, key: str) -> Content:
        """All of an object's content; to be closed."""
        with self.lock:
            stored = self.get(bucket, key)
            return stored.open(0, stored.size)

    def read(self, bucket: str, key: str) -> bytes:
        with contextlib.closing(self.open(bucket, key)) as content:
            return b"".join(content)

    def objects(self, bucket: str) -> list[StoredObject]:
        """A bucket's objects in the order of their keys."""
        with self.lock:
            home = self.bucket(bucket)
            return [home.objects[key] for key in home.keys]

    def put(self, bucket: str, stored: StoredObject, condition: Condition) -> None:
        """Make it the object of its key, if the condition holds; raises PreconditionFailedError."""
        with self.lock:
            home = self.bucket(bucket)
            old = home.objects.get(stored.key)
            condition.check(old, stored.key)
            home.objects[stored.key] = stored
            if old is None:
                bisect.insort(home.keys, stored.key)
            else:
                discard(old.segments)  # who reads it has its files open

    def delete(self, bucket: str, key: str, condition: Condition | None = None) -> bool:
        """Whether there was such an object; with a condition it must hold (userguide/conditional-deletes.html)."""
        with self.lock:
            home = self.bucket(bucket)
            if condition is not None:
                condition.check(home.objects.get(key), key)
            old = home.objects.pop(key, None)
            if old is None:
                return False
            del home.keys[bisect.bisect_left(home.keys, key)]
            discard(old.segments)
            return True

    def keys_after(self, bucket: str, prefix: str, after: str) -> list[str]:
        """Keys that start with `prefix` and come after `after`, in order."""
        with self.lock:
            keys = self.bucket(bucket).keys
            start = max(bisect.bisect_left(keys, prefix), bisect.bisect_right(keys, after))
            return list(itertools.takewhile(lambda key: key.startswith(prefix), keys[start:]))

    def clear(self) -> None:
        with self.lock:
            for bucket in self._buckets.values():
                for stored in bucket.objects.values():
                    discard(stored.segments)
            self._buckets.clear()


def discard(segments: Iterable[Segment]) -> None:
    for segment in segments:
        os.unlink(segment.path)
