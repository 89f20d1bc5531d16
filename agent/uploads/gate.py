"""How many requests may be under way to one bucket: halved by each trouble, raised by each success."""

from __future__ import annotations

import random

from agent.engine.backoff import Backoff

POLL = 0.25  # seconds after which a sender that was kept out looks again
_LONGEST_PAUSE = 60.0  # seconds that one trouble keeps all senders out


class Gate:
    """Additive increase, multiplicative decrease, with a pause of full jitter after trouble. Not thread-safe."""

    def __init__(self, most: int, random_: random.Random) -> None:
        self._most = float(most)
        self._limit = float(most)
        self._inside = 0
        self._closed_until = 0.0
        self._backoff = Backoff(base=0.5, cap=_LONGEST_PAUSE, random=random_)

    def wait(self, now: float) -> float:
        """Seconds until a request may enter; 0: now."""
        if now < self._closed_until:
            return self._closed_until - now
        return 0.0 if self._inside < int(self._limit) else POLL

    def enter(self) -> None:
        self._inside += 1

    def leave(self, now: float, *, well: bool | None) -> None:
        """A request has ended: well, in trouble, or (None) with nothing to be learnt about the service."""
        self._inside -= 1
        if well:
            self._limit = min(self._most, self._limit + 1.0 / self._limit)
            self._backoff.reset()
        elif well is False and now >= self._closed_until:
            self._limit = max(1.0, self._limit / 2)
            self._closed_until = now + self._backoff.next()

    def hurry(self, now: float, longest_pause: float) -> None:
        """Pauses are at most so long from now on, also the present one."""
        self._backoff.cap = longest_pause
        self._closed_until = min(self._closed_until, now + longest_pause)
