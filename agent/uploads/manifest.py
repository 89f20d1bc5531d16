"""The manifest: one line of JSON for each object that S3 has confirmed, written from the ledger in slices."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

import orjson

from agent.uploads.directory import Directory
from agent.uploads.ledger import Entry, Ledger


@dataclass(frozen=True, slots=True)
class Written:
    """A manifest on disk, and what it lists: objects and their bytes. `path` None: it could not be written."""

    path: str | None
    objects: int
    bytes: int
    error: OSError | None = None

    @property
    def name(self) -> str | None:
        return None if self.path is None else os.path.basename(self.path)


class ManifestWriter:
    """Writes one manifest beside the old one and puts it in its place, whole. A path is its text (names.py).

    Where the disk fails, it goes on counting: what is in S3 is there all the same.
    """

    def __init__(self, path: str, directories: Sequence[Directory], ledger: Ledger) -> None:
        self._path = path
        self._objects = 0
        self._bytes = 0
        self._pages = _pages(directories, ledger)
        self._file: BinaryIO | None = None
        self._error: OSError | None = None
        self._try(self._open)

    def advance(self) -> Written | None:
        """Write some more; the manifest, once it is complete. Raises DatabaseError."""
        page = next(self._pages, None)
        if page is None:
            self._try(self._finish)
            return Written(None if self._error else self._path, self._objects, self._bytes, self._error)
        directory, entries = page
        self._try(lambda: self._write(directory, entries))
        self._objects += len(entries)
        self._bytes += sum(entry.size for entry in entries)
        return None

    def close(self) -> None:
        """Give up what is not finished."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what could not be written is still in its buffer
                file.close()

    def _open(self) -> None:
        self._file = open(f"{self._path}.new", "wb", opener=_private)  # noqa: SIM115 - closed by _finish, close

    def _write(self, directory: Directory, entries: list[Entry]) -> None:
        if self._file is not None:
            self._file.write(b"".join(_line(directory, entry) for entry in entries))

    def _finish(self) -> None:
        if self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(f"{self._path}.new", self._path)

    def _try(self, act: Callable[[], None]) -> None:
        """Do something with the file; after the first failure there is none."""
        try:
            act()
        except OSError as error:
            self._error = error
            self.close()


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
