"""How many bytes a second all senders together may send."""

from __future__ import annotations

import threading
from collections.abc import Callable

from agent.engine.clock import Clock

BLOCK = 256 << 10  # bytes read and sent at once
_SMALLEST_BLOCK = 4 << 10
_LONGEST_WAIT = 1.0  # seconds of one wait, after which the way is looked at again


class Stopped(Exception):
    """The agent stops: what was under way is given up, and sent again after the next start."""


class Pace:
    """A bucket that fills with time; who takes from it more than is there makes the next one wait."""

    def __init__(self, rate: int | None, clock: Clock, wait: Callable[[float], bool]) -> None:
        """`rate` in bytes per second. `wait` lets so many seconds pass, and is True once the agent stops."""
        self.block = BLOCK if rate is None else min(BLOCK, max(_SMALLEST_BLOCK, rate // 10))
        self._rate = rate
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._free_at = 0.0

    def delay(self) -> float:
        """Seconds until the next byte may go."""
        return 0.0 if self._rate is None else max(0.0, self._free_at - self._clock.monotonic())

    def spend(self, size: int) -> None:
        """So many bytes go now."""
        if self._rate is not None:
            with self._lock:
                self._free_at = max(self._free_at, self._clock.monotonic()) + size / self._rate

    def take(self, size: int) -> None:
        """Wait until so many bytes may go. Raises Stopped."""
        while (delay := self.delay()) > 0.0:
            if self._wait(min(delay, _LONGEST_WAIT)):
                raise Stopped
        if self._rate is None and self._wait(0.0):
            raise Stopped
        self.spend(size)
