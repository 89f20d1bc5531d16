"""What happens, said once: an event is a log line and a counter, moved together.

Levels mean: debug, for the developer; info, for the record; warning, nothing is lost and we recover by
ourselves; error, data is lost or a human is needed.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections import Counter
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

from agent.engine.clock import Clock
from agent.engine.redact import redacted

Level = Literal["debug", "info", "warning", "error"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")  # also what turns a line round
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
        self._write(level, event, fields)

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
            self._write(level, event, {**fields, "times": silenced} if silenced > 1 else fields)

    def over(self, event: str, key: str, /, said: str | None = None, **fields: Any) -> None:
        """The trouble `event` of `key` has ended: say `said` if the trouble had been said."""
        with self._lock:
            standing = self._standing.pop((event, key), None)
        if standing is not None and said is not None:
            self._write("info", said, {**fields, "seconds": round(self._clock.monotonic() - standing.since, 3)})

    def counters(self) -> dict[str, int]:
        """All counters by name, as they stand now."""
        with self._lock:
            return dict(sorted(self._counters.items()))

    def _write(self, level: Level, event: str, fields: Mapping[str, Any]) -> None:
        """A log that can't be written (closed, broken, on a full disk) is counted; it never stops the work."""
        try:
            getattr(self._logger, level)(event, **fields)
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.count("log_lines_lost")

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
    """A structlog logger on `stream` (None: stderr): JSON lines, or pretty where a person looks on.

    On stderr, what libraries log comes the same way.
    """
    out = sys.stderr if stream is None else stream
    logger = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _make_harmless,
            _pretty_renderer() if out.isatty() else _json_renderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        cache_logger_on_first_use=True,
    )
    if stream is None:
        _adopt_libraries(logger)
    return logger


def _adopt_libraries(logger: Any) -> None:
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _LibraryLog)]:
        root.removeHandler(handler)
    root.addHandler(_LibraryLog(logger))


class _LibraryLog(logging.Handler):
    """Warnings of libraries as lines of our log. Python's own way would print them, and tracebacks, as they are."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        detail = {"error": f"{type(error).__name__}: {error}"} if error else {}
        try:
            self._logger.warning("library_warning", library=record.name, message=record.getMessage(), **detail)
        except (OSError, ValueError):
            return  # as in Events: a log that can't be written stops nothing


def _pretty_renderer() -> Any:
    """For a terminal; tracebacks come as text, without the values of local variables."""
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _json_renderer() -> Any:
    import orjson

    def dumps(event: Any, **_: Any) -> str:
        return orjson.dumps(event).decode()

    return structlog.processors.JSONRenderer(serializer=dumps)


def _make_harmless(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """File names and AWS's messages may be an enemy's: no terminal sequence and no forged line gets through.

    Nor does a secret. Only a traceback keeps its line ends.
    """
    return {key: _traceback(value) if key == "exception" else _escaped(value) for key, value in event.items()}


def _traceback(text: str) -> str:
    return "\n".join(_escaped(line) for line in text.split("\n"))


def _escaped(value: Any) -> Any:
    """The value as JSON has it: text without control characters, numbers of up to 64 bits, lists, maps."""
    if isinstance(value, str):
        plain = redacted(value).encode("utf-8", "backslashreplace").decode()
        return _CONTROL.sub(_escape, plain)
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    if isinstance(value, Mapping):
        return {_escaped(str(key)): _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(inner) for inner in value]
    return _escaped(str(value))


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
