"""How fast debt is being paid off, by what was paid lately."""

from __future__ import annotations

_MEMORY = 60.0  # seconds after which what was sent counts for little


class Throughput:
    """Bytes and files per second of the time in which anything was sent, the latest counting most."""

    def __init__(self) -> None:
        self._bytes = 0.0
        self._files = 0.0
        self._seconds = 0.0
        self._last: float | None = None

    def add(self, now: float, size: int, files: int) -> None:
        """So much was confirmed since the last call."""
        spent = 0.0 if self._last is None else min(max(now - self._last, 0.0), 1.0)  # more was idleness
        fade = 0.5 ** (spent / _MEMORY)
        self._bytes = self._bytes * fade + size
        self._files = self._files * fade + files
        self._seconds = self._seconds * fade + spent
        self._last = now

    def seconds(self, size: int, files: int) -> float | None:
        """How long so much would take; None where nothing was measured yet."""
        if not size and not files:
            return 0.0
        if not self._seconds or not self._files:
            return None
        by_bytes = size * self._seconds / self._bytes if self._bytes else 0.0
        return max(by_bytes, files * self._seconds / self._files)
