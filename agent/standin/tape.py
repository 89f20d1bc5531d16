"""An append-only file of JSON records: what arrived, kept in order and out of memory."""

import os
import tempfile
import threading
from typing import Any, NamedTuple

import orjson


class Extent(NamedTuple):
    """Where one record lies on the tape."""

    offset: int
    length: int


class Tape:
    """Records in an unnamed temporary file in `directory`; it goes when the tape is closed."""

    def __init__(self, directory: str) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - close() ends it
        self._lock = threading.Lock()
        self._end = 0

    def append(self, record: object) -> Extent:
        data = orjson.dumps(record)
        with self._lock:
            extent = Extent(self._end, len(data))
            self._end += len(data)
        os.pwrite(self._file.fileno(), data, extent.offset)
        return extent

    def read(self, extent: Extent) -> Any:
        """The record, or None if the tape was cleared since."""
        data = os.pread(self._file.fileno(), extent.length, extent.offset)
        return orjson.loads(data) if data and data[0] else None

    def clear(self) -> None:
        """Free the space; offsets go on, so that an old extent can never meet a new record."""
        with self._lock:
            self._file.truncate(0)

    def close(self) -> None:
        self._file.close()
