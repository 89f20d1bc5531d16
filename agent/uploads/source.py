"""The file that is sent: opened once, read by offset, held against what it was when it was found.

A file that is reopened by name for each part may be another one by then. Here one descriptor is read, and descriptor
and path are looked at before and after.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from agent.engine.files import INSIDE_LINKS, NO_LINKS, open_regular
from agent.uploads.pace import BLOCK, Pace
from agent.uploads.settle import Candidate
from agent.uploads.tree import Stamp, stamp_of

_CTIME_GRAIN_NS = 20_000_000  # the kernel's clock of files ticks every 1 to 10 ms


class SourceChanged(Exception):
    """The file is not what it was: `stamp` says what it is now."""

    def __init__(self, stamp: Stamp) -> None:
        super().__init__(stamp)
        self.stamp = stamp


class Source:
    """An open file. Close it."""

    def __init__(self, candidate: Candidate, *, privileged: bool) -> None:
        """Raises FileRefused or OSError as open(2) does, and SourceChanged."""
        directory = candidate.directory
        self.size = candidate.size
        self._path = candidate.path
        self._stamp = candidate.stamp
        links = INSIDE_LINKS if directory.follow else NO_LINKS
        self._descriptor = open_regular(directory.path, candidate.relative, links, privileged=privileged)
        try:
            self._require(os.fstat(self._descriptor))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._descriptor)

    def is_fresh(self, now: float) -> bool:
        """Whether it was changed so shortly before `now` (epoch) that the next change may bear the same time."""
        return 0 <= now * 1e9 - self._stamp[2] < _CTIME_GRAIN_NS

    def read(self) -> bytes:
        """All of it. Raises SourceChanged, OSError."""
        data = os.pread(self._descriptor, self.size + 1, 0)
        if len(data) != self.size:
            raise SourceChanged(stamp_of(os.fstat(self._descriptor)))
        return data

    def blocks(self, offset: int, length: int, pace: Pace | None = None) -> Iterator[bytes]:
        """A stretch of it, no faster than `pace`. Raises SourceChanged, OSError, Stopped."""
        size = BLOCK if pace is None else pace.block
        while length:
            wanted = min(size, length)
            if pace is not None:
                pace.take(wanted)
            block = os.pread(self._descriptor, wanted, offset)
            if not block:
                raise SourceChanged(stamp_of(os.fstat(self._descriptor)))
            offset += len(block)
            length -= len(block)
            yield block

    def require_consistent(self) -> None:
        """What was read is one version of the file. Raises SourceChanged, OSError."""
        self._require(os.fstat(self._descriptor))

    def require_unchanged(self) -> None:
        """The file is the same, and still what its path names or else deleted. Raises SourceChanged, OSError."""
        held = os.fstat(self._descriptor)
        try:
            named = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            if stamp_of(held)[:2] != self._stamp[:2]:
                raise SourceChanged(stamp_of(held)) from None
            return  # deleting it has moved its ctime, not its content
        self._require(held)
        if (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
            raise SourceChanged(stamp_of(named))

    def _require(self, held: os.stat_result) -> None:
        stamp = stamp_of(held)
        if stamp != self._stamp:
            raise SourceChanged(stamp)
