"""Time, handed in: what a program may ask of a clock, the system's, and one that tests move by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks. Intervals and deadlines use `monotonic`; what people or AWS read uses `time`."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""

    def time(self) -> float:
        """Seconds since the epoch, UTC; may jump."""


class SystemClock:
    """The machine's own clocks."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


class FakeClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = 1000.0
        self._epoch = start

    def monotonic(self) -> float:
        return self._now

    def time(self) -> float:
        return self._epoch

    def advance(self, seconds: float) -> None:
        """Let time pass, on both clocks."""
        self._now += seconds
        self._epoch += seconds

    def set_time(self, epoch: float) -> None:
        """Step the wall clock alone, as an administrator or NTP would."""
        self._epoch = epoch
