"""The time the stand-ins go by: a source handed in, and an offset that tests and the control API move."""

import time
from collections.abc import Callable


class Clock:
    """Seconds since the epoch, from `source` plus `offset` seconds."""

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self.offset = 0.0

    def __call__(self) -> float:
        return self._source() + self.offset

    def advance(self, seconds: float) -> None:
        self.offset += seconds
