"""A log file as applications keep it: appended to, renamed under the writer's hands, opened anew."""

from __future__ import annotations

import os
from collections.abc import Sequence

from agent.demo.written import Generation


class LogWriter:
    """Writes, and remembers what it wrote. Close it."""

    def __init__(self, path: str, destination: tuple[str, str], generations: list[Generation]) -> None:
        """`generations` is where each file that is begun is noted."""
        self._path = path
        self._destination = destination
        self._generations = generations
        self._mine: list[Generation] = []
        self._descriptor = -1
        self._open()

    def write(self, lines: Sequence[str], *, ended: bool = True) -> None:
        """Append lines; `ended` says whether the last one gets its line end. Raises OSError."""
        if not lines:
            return
        data = "\n".join(lines).encode() + (b"\n" if ended else b"")
        while data:
            written = os.write(self._descriptor, data)
            data = data[written:]
            self._mine[-1].size += written
        self._mine[-1].lines.extend(lines)

    def rename(self) -> None:
        """access.log becomes access.log.1, that access.log.2, and so on; the open file stays open."""
        for age, generation in enumerate(reversed(self._mine), start=1):
            generation.path = f"{self._path}.{age}"
        for age in range(len(self._mine), 1, -1):
            os.rename(f"{self._path}.{age - 1}", f"{self._path}.{age}")
        os.rename(self._path, f"{self._path}.1")

    def reopen(self) -> None:
        """Begin a new file."""
        os.close(self._descriptor)
        self._open()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o640)
        found = os.fstat(self._descriptor)
        self._mine.append(Generation(self._path, self._destination, found.st_dev, found.st_ino))
        self._generations.append(self._mine[-1])
