"""Which series an interval has room for: those that CloudWatch would take, up to max_series; the rest is said."""

from __future__ import annotations

from collections.abc import Iterable

from agent.engine.events import Events
from agent.metrics.series import Series, complaint, shown

_NAMED = 10  # metrics over the limit that an event names


class Roster:
    """The series of the open interval. Not safe for several threads: its owner has the lock.

    Reserved series (the operating system's) keep the room that they had in the interval before, so that an
    application with too many series can't push them out.
    """

    def __init__(self, limit: int, events: Events) -> None:
        self._limit = limit
        self._events = events
        self._admitted: set[Series] = set()
        self._reserved = 0  # of those admitted
        self._room = 0  # for reserved series, as the last interval needed it
        self._before = 0  # series of the last interval
        self._over: set[str] = set()
        self._dropped = 0

    def size(self) -> int:
        """Series of the open interval, or of the last one while that had more."""
        return max(len(self._admitted), self._before)

    def admits(self, series: Series, samples: int = 1, *, reserved: bool = False) -> bool:
        """Whether the series is in; if it is not, `samples` are counted as dropped and their series is named."""
        if series in self._admitted:
            return True
        fault = complaint(series)
        if fault is not None:
            refuse(self._events, series, fault, samples)
            return False
        if len(self._admitted) + (0 if reserved else max(0, self._room - self._reserved)) >= self._limit:
            self._drop(series, samples)
            return False
        self._admitted.add(series)
        self._reserved += reserved
        return True

    def begin(self, kept: Iterable[Series]) -> None:
        """A new interval, in which `kept` are still known."""
        self._say_dropped()
        self._before = len(self._admitted)
        self._room = self._reserved
        self._reserved = 0
        self._admitted = set(kept)
        self._over.clear()
        self._dropped = 0

    def _drop(self, series: Series, samples: int) -> None:
        self._events.count("samples_over_max_series", samples)
        self._dropped += samples
        if len(self._over) < _NAMED:
            self._over.add(series.name)

    def _say_dropped(self) -> None:
        if not self._dropped:
            self._events.over("max_series_reached", "", said="max_series_enough_again")
            return
        self._events.trouble(
            "error",
            "max_series_reached",
            "",
            limit=self._limit,
            dropped=self._dropped,
            metrics=sorted(self._over),
            hint="send fewer distinct names and tags, or raise metrics.max_series; each series has its price",
        )


def refuse(events: Events, series: Series, why: str, samples: int = 1) -> None:
    """Count and name samples that CloudWatch would not take."""
    events.count("samples_refused", samples)
    events.trouble("error", "sample_refused", why, series=shown(series)[:500], reason=why)
