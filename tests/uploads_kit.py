"""What the tests of uploads hand in: an S3 in memory that does as it is told, and a job whose workers are stepped."""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.aws.checksums import CRC32, Algorithm, encode
from agent.aws.errors import Conflict, NotFound
from agent.aws.s3 import Bucket, ChecksumMismatch, KeyTaken, OpenUpload, Part, Payload, Stored
from agent.aws.s3_xml import Listed
from agent.config.sections.uploads import Directory, Uploads
from agent.engine.clock import FakeClock
from agent.engine.events import Events
from agent.engine.state import StateDirectory
from agent.uploads.job import UploadsJob
from agent.uploads.multipart import PartRules

BUCKET = "shop-uploads"
INSTANCE = "i-0123456789abcdef0"


class Recorder:
    """A logger: remembers (level, event, fields)."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, dict[str, Any]]] = []

    def names(self) -> list[str]:
        return [event for _, event, _ in self.said]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for _, name, fields in self.said if name == event]

    def debug(self, event: str, **fields: Any) -> None:
        self.said.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.said.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.said.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.said.append(("error", event, fields))


@dataclass
class Object:
    data: bytes
    headers: Mapping[str, str]
    checksum: str
    etag: str = ""


class FakeBucket(Bucket):
    """A bucket in memory that verifies what it is sent.

    `calls` counts operations; `refuse(operation, error, times)` makes them fail; `during`, if set, is called with
    (operation, key) after the first block of a body.
    """

    def __init__(self, name: str = BUCKET, algorithm: Algorithm = CRC32) -> None:
        self.name = name
        self.algorithm = algorithm
        self.objects: dict[str, Object] = {}
        self.uploads: dict[str, tuple[str, Mapping[str, str], dict[int, bytes]]] = {}
        self.calls: Counter[str] = Counter()
        self.sent: list[str] = []  # keys, in the order in which objects were put
        self.modified = 4e9  # when all objects were put, as a listing says
        self.during: Callable[[str, str], None] | None = None
        self.unknown: list[OpenUpload] = []
        self._errors: dict[str, list[Exception]] = defaultdict(list)

    def refuse(self, operation: str, error: Exception, times: int = 1) -> None:
        self._errors[operation] += [error] * times

    def heal(self) -> None:
        self._errors.clear()

    def data(self) -> dict[str, bytes]:
        return {key: each.data for key, each in self.objects.items()}

    def payload(self, data: bytes) -> Payload:
        hasher = self.algorithm.new()
        hasher.update(data)
        return Payload(data, len(data), hasher.digest())

    def measure(self, blocks: Any, length: int, body: Any = None) -> Payload:
        hasher = self.algorithm.new()
        for block in blocks():
            hasher.update(block)
        return Payload(blocks if body is None else body, length, hasher.digest())

    def put_object(
        self, key: str, payload: Payload, headers: Mapping[str, str], *, if_absent: bool = False
    ) -> Stored:
        self._call("PutObject")
        data = self._receive("PutObject", key, payload)
        self._put(key, data, headers, if_absent)
        self.objects[key].etag = f"etag-of-{len(data)}"
        return Stored(f"etag-of-{len(data)}", self.objects[key].checksum)

    def create_multipart_upload(self, key: str, headers: Mapping[str, str]) -> str:
        self._call("CreateMultipartUpload")
        upload_id = f"upload-{self.calls['CreateMultipartUpload']}"
        self.uploads[upload_id] = (key, headers, {})
        return upload_id

    def upload_part(self, key: str, upload_id: str, number: int, payload: Payload) -> Part:
        self._call("UploadPart")
        parts = self._upload(upload_id)[2]
        parts[number] = self._receive("UploadPart", key, payload)
        return Part(number, payload.length, payload.digest, f"etag-{number}")

    def complete_multipart_upload(self, key: str, upload_id: str, parts: Any, *, if_absent: bool = False) -> Stored:
        self._call("CompleteMultipartUpload")
        _, headers, received = self._upload(upload_id)
        assert [part.number for part in parts] == list(range(1, len(received) + 1))
        self._put(key, b"".join(received[part.number] for part in parts), headers, if_absent)
        del self.uploads[upload_id]
        self.objects[key].etag = f"etag-{len(parts)}"
        return Stored(f"etag-{len(parts)}", self.algorithm.of_parts([(part.digest, part.length) for part in parts]))

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        self._call("AbortMultipartUpload")
        self.uploads.pop(upload_id, None)
        self.unknown = [each for each in self.unknown if each.upload_id != upload_id]

    def list_multipart_uploads(self, prefix: str) -> list[OpenUpload]:
        self._call("ListMultipartUploads")
        return [each for each in self.unknown if each.key.startswith(prefix)]

    def delete_object(self, key: str, etag: str) -> None:
        self._call("DeleteObject")
        if self.during is not None:
            self.during("DeleteObject", key)
        if key in self.objects and self.objects[key].etag != etag:
            raise Conflict("DeleteObject", "PreconditionFailed", "", 412)
        self.objects.pop(key, None)

    def head_object(self, key: str) -> tuple[Stored, int]:
        self._call("HeadObject")
        if key not in self.objects:
            raise NotFound("HeadObject", "404", "", 404)
        found = self.objects[key]
        return Stored(found.etag, found.checksum), len(found.data)

    def list_objects(self, prefix: str) -> Iterator[list[Listed]]:
        self._call("ListObjectsV2")
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        yield [Listed(key, len(self.objects[key].data), self.objects[key].etag, self.modified) for key in keys]

    def _call(self, operation: str) -> None:
        self.calls[operation] += 1
        if self._errors[operation]:
            raise self._errors[operation].pop(0)

    def _upload(self, upload_id: str) -> tuple[str, Mapping[str, str], dict[int, bytes]]:
        if upload_id not in self.uploads:
            raise NotFound("UploadPart", "NoSuchUpload", "", 404)
        return self.uploads[upload_id]

    def _receive(self, operation: str, key: str, payload: Payload) -> bytes:
        blocks = []
        for block in self._blocks(payload):
            if self.during is not None and not blocks:
                self.during(operation, key)
            blocks.append(block)
        data = b"".join(blocks)
        hasher = self.algorithm.new()
        hasher.update(data)
        if len(data) != payload.length or hasher.digest() != payload.digest:
            raise ChecksumMismatch(operation, "BadDigest", "", 400)
        return data

    def _blocks(self, payload: Payload) -> Iterator[bytes]:
        if isinstance(payload.body, bytes):
            yield payload.body
        else:
            yield from payload.body()

    def _put(self, key: str, data: bytes, headers: Mapping[str, str], if_absent: bool) -> None:
        if if_absent and key in self.objects and self.objects[key].data != data:
            raise KeyTaken("PutObject", "PreconditionFailed", f"another object has the key {key!r}", 412)
        hasher = self.algorithm.new()
        hasher.update(data)
        self.objects[key] = Object(data, headers, encode(hasher.digest()))
        self.sent.append(key)


class FakeS3:
    """Buckets by name, made when asked for."""

    def __init__(self) -> None:
        self.buckets: dict[str, FakeBucket] = {}

    def bucket(
        self, name: str, region: str | None = None, owner: str | None = None, algorithm: Algorithm = CRC32
    ) -> FakeBucket:
        if name not in self.buckets:
            self.buckets[name] = FakeBucket(name, algorithm)
        return self.buckets[name]


class Rig:
    """A tree, a state directory, an S3 in memory, and a job; `restart` drops the job as a kill would."""

    def __init__(self, folder: Path, *, age: float = 60.0, s3: Any = None, **options: Any) -> None:
        """`age`: how many seconds after the last change of every file the fake clock begins."""
        self.tree = folder / "tree"
        self.tree.mkdir(exist_ok=True)
        self.state_path = str(folder / "state")
        self.s3 = FakeS3() if s3 is None else s3
        self.clock = FakeClock(start=os.stat(self.tree).st_ctime + age)
        self.log = Recorder()
        self.events = Events(self.log, self.clock)
        self.options = options
        self.open()

    @property
    def bucket(self) -> FakeBucket:
        return self.s3.bucket(BUCKET)

    def write(self, name: str, data: bytes | str = b"data") -> Path:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def open(self) -> None:
        options = dict(self.options)
        rules = options.pop("rules", PartRules(smallest=1, round_to=1))
        uploads = {key: options.pop(key) for key in ("concurrency", "part_size", "max_bandwidth") if key in options}
        directory = Directory.model_validate({"path": str(self.tree), "bucket": BUCKET, **options})
        config = Uploads(directories=(directory,)).model_copy(update=uploads)
        self.state = StateDirectory.open(self.state_path, INSTANCE, self.clock, self.events)
        self.job = UploadsJob(
            config,
            self.s3,
            self.state,
            self.clock,
            self.events,
            random.Random(7),
            rules=rules,
            watcher=False,
        )

    def restart(self, **options: Any) -> None:
        self.drop()
        self.options.update(options)
        self.open()

    def drop(self) -> None:
        """All that the process held is gone: nothing is flushed."""
        self.job.pool.queue.close()
        for search in self.job.finder.searches:
            search.close()
        self.state.close()

    def hint(self, name: str) -> None:
        self.job.finder.searches[0].hints.add(name)

    def run(self, seconds: float = 10.0) -> None:
        """Step all workers, through so much time."""
        end = self.clock.monotonic() + seconds
        workers = [
            self.job.finder,
            self.job.drainage,
            *self.job.modes.workers,
            self.job.read_back,
            *self.job.pool.senders,
        ]
        for _ in range(100_000):
            now = self.clock.monotonic()
            times = [due for due in [worker.step(now) for worker in workers] if due is not None]
            soonest = min(times, default=end + 1)
            if soonest > end:
                self.clock.advance(end - now)
                return
            self.clock.advance(max(0.0, soonest - now))
        raise AssertionError("the workers do not come to rest")

    def uploads(self) -> dict[str, Any]:
        status: dict[str, Any] = dict(self.job.status()["uploads"])
        return status

    def ledger_of(self, path: str) -> set[str]:
        """The paths that the ledger holds of one directory."""
        rows = self.state.database("uploads.db").read(
            "SELECT folders.path, name FROM files JOIN folders ON folder = folders.id"
            " JOIN places ON places.id = place WHERE places.path = ?",
            (path,),
        )
        return {f"{folder}/{name}".lstrip("/") for folder, name in rows}

    def fresh(self) -> set[str]:
        """The paths that the ledger holds as the files are now."""
        sql = "SELECT folders.path, name, ctime_ns FROM files JOIN folders ON folder = folders.id"
        rows = self.state.database("uploads.db").read(sql)
        paths = {f"{folder}/{name}".lstrip("/"): ctime for folder, name, ctime in rows}
        return {path for path, ctime in paths.items() if (self.tree / path).stat().st_ctime_ns == ctime}

    def ledger(self) -> dict[str, int]:
        """What the ledger holds: path -> size."""
        rows = self.state.database("uploads.db").read(
            "SELECT folders.path, name, size FROM files JOIN folders ON folder = folders.id"
        )
        return {f"{folder}/{name}".lstrip("/"): size for folder, name, size in rows}  # type: ignore[misc]
