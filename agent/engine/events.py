"""What happens, said once: an event is a log line and a counter, moved together.

Levels mean: debug, for the developer; info, for the record; warning, nothing is lost and we recover by
ourselves; error, data is lost or a human is needed.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

from agent.engine.clock import Clock

Level = Literal["debug", "info", "warning", "error"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_REMINDERS = 4096  # standing troubles remembered at once; the oldest is forgotten first
_FIRST_REMINDER = 60.0  # seconds until a standing trouble is said again; doubles each time
_LAST_REMINDER = 3600.0


class Events:
    """Says what happens and counts it. Safe to use from any thread."""

    def __init__(self, logger: Any, clock: Clock) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._counters: Counter[str] = Counter()
        self._standing: dict[tuple[str, str], _Standing] = {}

    def say(self, level: Level, event: str, /, counter: str | None = None, by: int = 1, **fields: Any) -> None:
        """Log `event` with its fields and, where a counter is named, move it by `by`."""
        if counter is not None:
            self.count(counter, by)
        getattr(self._logger, level)(event, **fields)

    def count(self, counter: str, by: int = 1) -> None:
        """Move a counter without a log line: for what happens too often to be said each time."""
        with self._lock:
            self._counters[counter] += by

    def trouble(self, level: Level, event: str, key: str, /, counter: str | None = None, **fields: Any) -> None:
        """Say a standing trouble at once, then again after 1, 2, 4 ... at most 60 minutes while it lasts.

        `key` tells troubles of one event apart (a path, a stream). The counter moves every time.
        """
        if counter is not None:
            self.count(counter)
        silenced = self._due(event, key)
        if silenced is not None:
            getattr(self._logger, level)(event, **fields, **({"times": silenced} if silenced > 1 else {}))

    def over(self, event: str, key: str, /, said: str | None = None, **fields: Any) -> None:
        """The trouble `event` of `key` has ended: say `said` if the trouble had been said."""
        with self._lock:
            standing = self._standing.pop((event, key), None)
        if standing is not None and said is not None:
            self._logger.info(said, seconds=round(self._clock.monotonic() - standing.since, 3), **fields)

    def counters(self) -> dict[str, int]:
        """All counters by name, as they stand now."""
        with self._lock:
            return dict(sorted(self._counters.items()))

    def _due(self, event: str, key: str) -> int | None:
        now = self._clock.monotonic()
        with self._lock:
            standing = self._standing.get((event, key))
            if standing is None:
                while len(self._standing) >= _REMINDERS:
                    del self._standing[next(iter(self._standing))]
                self._standing[event, key] = _Standing(now)
                return 1
            standing.times += 1
            if now < standing.next:
                return None
            standing.remind(now)
            return standing.times


class _Standing:
    """One trouble that has begun and not ended."""

    __slots__ = ("interval", "next", "since", "times")

    def __init__(self, now: float) -> None:
        self.since = now
        self.times = 1
        self.interval = _FIRST_REMINDER
        self.next = now + self.interval

    def remind(self, now: float) -> None:
        self.interval = min(self.interval * 2, _LAST_REMINDER)
        self.next = now + self.interval


def make_logger(level: str = "info", stream: TextIO | None = None) -> Any:
    """A structlog logger on `stream` (stderr): JSON lines, or pretty where a person looks on."""
    out = sys.stderr if stream is None else stream
    pretty = out.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if pretty else _json_renderer()
    return structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _escape_control_characters,
            *([] if pretty else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        cache_logger_on_first_use=True,
    )


def _json_renderer() -> Any:
    import orjson

    def dumps(event: Any, default: Any = str, **_: Any) -> str:
        return orjson.dumps(event, default=default, option=orjson.OPT_NON_STR_KEYS).decode()

    return structlog.processors.JSONRenderer(serializer=dumps)


def _escape_control_characters(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """File names and AWS's messages may be an enemy's: no terminal sequence and no forged line gets through."""
    return {key: _escaped(value) if key != "exc_info" else value for key, value in event.items()}


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        plain = value.encode("utf-8", "backslashreplace").decode()
        return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", plain)
    if isinstance(value, dict):
        return {str(_escaped(str(key))): _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(inner) for inner in value]
    return value
