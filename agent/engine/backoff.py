"""When to try again: exponential backoff with full jitter.

Full jitter (a uniform draw between nothing and the exponential bound) spreads a fleet's retries best;
see "Exponential Backoff And Jitter" in the AWS Architecture Blog.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

_LARGEST_EXPONENT = 32  # bounds 2**n, so that a year of failures stays a small number


@dataclass
class Backoff:
    """Delays in seconds: uniform in [floor, min(cap, base * 2**failures)]."""

    base: float = 0.5
    cap: float = 60.0
    floor: float = 0.05
    random: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        bound = min(self.cap, self.base * 2.0 ** min(self.failures, _LARGEST_EXPONENT))
        self.failures += 1
        return max(self.floor, self.random.uniform(0.0, bound))

    def reset(self) -> None:
        """A success: the next failure is again the first."""
        self.failures = 0
