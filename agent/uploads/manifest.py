"""The manifest: one line of JSON for each object that S3 has confirmed, written from the ledger in slices."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

import orjson

from agent.uploads.directory import Directory
from agent.uploads.ledger import Entry, Ledger


@dataclass(frozen=True, slots=True)
class Written:
    """A manifest on disk, and what it lists: objects, and their bytes."""

    path: str
    objects: int
    bytes: int

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


class ManifestWriter:
    """Writes one manifest beside the old one and puts it in its place, whole. A path is its text (names.py)."""

    def __init__(self, path: str, directories: Sequence[Directory], ledger: Ledger) -> None:
        """Raises OSError."""
        self._path = path
        self._objects = 0
        self._bytes = 0
        self._pages = _pages(directories, ledger)
        self._file: BinaryIO = open(f"{path}.new", "wb", opener=_private)  # noqa: SIM115 - closed by advance, close

    def advance(self) -> Written | None:
        """Write some more; the manifest, once it is complete. Raises OSError, DatabaseError."""
        page = next(self._pages, None)
        if page is None:
            return self._finish()
        directory, entries = page
        self._file.write(b"".join(_line(directory, entry) for entry in entries))
        self._objects += len(entries)
        self._bytes += sum(entry.size for entry in entries)
        return None

    def close(self) -> None:
        """Give up what is not finished."""
        self._file.close()

    def _finish(self) -> Written:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(f"{self._path}.new", self._path)
        return Written(self._path, self._objects, self._bytes)


def _pages(directories: Sequence[Directory], ledger: Ledger) -> Iterator[tuple[Directory, list[Entry]]]:
    for directory in directories:
        for entries in ledger.objects(directory.place):
            yield directory, entries


def _line(directory: Directory, entry: Entry) -> bytes:
    return orjson.dumps(
        {
            "path": f"{directory.path}/{entry.path}",
            "bucket": directory.bucket.name,
            "key": entry.key,
            "size": entry.size,
            "checksum": entry.checksum,
            "etag": entry.etag,
            "time": datetime.fromtimestamp(entry.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
