"""Lines as they arrive: identical ones are counted, not parsed, and those whose order matters are kept in order.

Applications send the same few lines over and over; counting a line costs a tenth of parsing it. Gauges (the last one
wins, relative ones build on it) and lines with a timestamp can't be counted.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

_DISTINCT = 10_000  # different lines, or lines in order, held before they must be folded
_ORDERED = re.compile(rb"\|[gT]")
_BYTES = 16 << 20  # received, likewise: bounds what they take


@dataclass(slots=True)
class Lines:
    """What arrived since the last time."""

    counted: Counter[bytes] = field(default_factory=Counter)
    ordered: list[bytes] = field(default_factory=list)
    packets: int = 0
    bytes: int = 0

    def full(self) -> bool:
        return len(self.counted) > _DISTINCT or len(self.ordered) > _DISTINCT or self.bytes > _BYTES


class Intake:
    """One thread adds, another takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines = Lines()

    def add(self, packets: Sequence[bytes | memoryview]) -> bool:
        """Take datagrams in; True when it is time to fold."""
        blob = b"\n".join(packets)
        lines = blob.split(b"\n")
        with self._lock:
            held = self._lines
            before = len(held.counted)
            held.counted.update(lines)
            new = b"\n".join(islice(reversed(held.counted), len(held.counted) - before))
            if b"|g" in new or b"|T" in new:
                ordered = _ordered(blob)
                for line in ordered:
                    held.counted.pop(line, None)
                held.ordered += ordered
            held.packets += len(packets)
            held.bytes += len(blob)
            return held.full()

    def take(self) -> Lines:
        """All that has arrived, which is forgotten here."""
        with self._lock:
            taken, self._lines = self._lines, Lines()
        return taken


def _ordered(blob: bytes) -> list[bytes]:
    """Lines that may be gauges, or have a timestamp; a few others look like it, which does no harm."""
    found = []
    end = -1
    for mark in _ORDERED.finditer(blob):
        if mark.start() > end:
            begin = blob.rfind(b"\n", end + 1, mark.start()) + 1 or end + 1
            end = blob.find(b"\n", mark.start())
            end = len(blob) if end < 0 else end
            found.append(blob[begin:end])
    return found
