"""When an event happened, as its text says: strptime formats, ISO 8601, epoch seconds and milliseconds, a JSON key.

The dear part, turning text into a moment, is done once for each distinct second; a fraction of a second is added to
it. What can't be read is told by None: then the event takes the time of the one before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

Parse = Callable[[str, float], int | None]
"""Milliseconds since the epoch of an event's text, given the present time in seconds; None if it has none."""

_Moment = Callable[[str, str | None, float], float | None]
_REMEMBERED = 4096  # distinct seconds whose moment is remembered
_DAY = 86400.0
_CLOCK_SLACK = 120.0  # seconds that another machine's clock may be ahead
_FRESH = 3 * 3600.0  # seconds for which what a time means is remembered: it may mean another moment later
_FAR_AHEAD = 2 * _DAY  # a date without a year that would lie further ahead than this is of the year before
_NAMES = r"[^\W\d_]+"  # of months and days
_DIRECTIVES = {
    "a": rf"{_NAMES}\.?",
    "A": _NAMES,
    "b": rf"{_NAMES}\.?",
    "B": _NAMES,
    "d": r"\d{1,2}",
    "H": r"\d{1,2}",
    "I": r"\d{1,2}",
    "j": r"\d{1,3}",
    "m": r"\d{1,2}",
    "M": r"\d{1,2}",
    "p": r"[AaPp]\.?[Mm]\.?",
    "S": r"\d{1,2}",
    "y": r"\d{2}",
    "Y": r"\d{4}",
    "z": r"(?:Z|[+-]\d{2}:?\d{2}(?::?\d{2})?)",
    "Z": r"[A-Za-z]{1,5}",
    "w": r"\d",
    "f": r"\d{1,9}",
    "%": "%",
    "c": r".+?",
    "x": r"\S+",
    "X": r"\S+",
    "U": r"\d{1,2}",
    "W": r"\d{1,2}",
    "G": r"\d{4}",
    "u": r"\d",
    "V": r"\d{1,2}",
}
_ISO = re.compile(
    r"(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d{2}:?\d{2})?",
    re.ASCII | re.IGNORECASE,
)
_EPOCH = re.compile(r"(?<![\d.])(\d{9,10})(?:\.(\d{1,9}))?(?![\d.])", re.ASCII)
_EPOCH_MS = re.compile(r"(?<![\d.])(\d{12,13})(?![\d.])", re.ASCII)


def reader(pattern: str, timezone: str, json_key: str | None) -> Parse:
    """What reads the time of events. `pattern`: iso8601, epoch, epoch_ms, or a format of strptime."""
    zone = _zone(timezone)
    parse: Parse
    if pattern == "iso8601":
        parse = _Cached(_ISO, _iso(zone))
    elif pattern == "epoch":
        parse = _epoch
    elif pattern == "epoch_ms":
        parse = _epoch_ms
    else:
        parse = _strptime(pattern, zone)
    return parse if json_key is None else _of_key(json_key, parse)


class _Cached:
    """Finds a time in a text and remembers the moment of its seconds.

    The regex's groups are: everything up to the second, the fraction, the zone.
    """

    def __init__(self, regex: re.Pattern[str], moment: _Moment) -> None:
        self._search = regex.search
        self._moment = moment
        self._known: dict[tuple[str, str | None], int | None] = {}
        self._asked = 0.0

    def __call__(self, text: str, now: float) -> int | None:
        match = self._search(text)
        if match is None:
            return None
        seconds, fraction, zone = match.groups()
        try:
            base = self._known[seconds, zone]
        except KeyError:
            base = self._learn(seconds, zone, now)
        if base is None or fraction is None:
            return base
        return base + int(fraction[:3].ljust(3, "0"))

    def _learn(self, seconds: str, zone: str | None, now: float) -> int | None:
        if len(self._known) >= _REMEMBERED or abs(now - self._asked) > _FRESH:
            self._known.clear()
            self._asked = now
        moment = self._moment(seconds, zone, now)
        base = None if moment is None or moment < 0 else round(moment * 1000)
        self._known[seconds, zone] = base
        return base


def _iso(zone: tzinfo) -> _Moment:
    def moment(seconds: str, offset: str | None, now: float) -> float | None:
        try:
            found = datetime.fromisoformat(seconds + (offset or "").upper())
        except ValueError:
            return None
        return _instant(found, zone, now)

    return moment


def _strptime(pattern: str, zone: tzinfo) -> Parse:
    """A reader for a strptime format; `%f` is taken apart so that each second is parsed once."""
    yearless = not re.search(r"%[YyGcx]", pattern)
    head, fraction, tail = re.fullmatch(r"(?s)(.*?)(?:([.,:]?%f)(.*))?", pattern).groups()  # type: ignore[union-attr]
    some_year = "2024 " if yearless else ""  # a leap year, so that February 29th is a date
    plain = ("%Y " if yearless else "") + head + (tail or "")
    never = "(?:(?!)())?"
    rest = rf"{re.escape(fraction[:-2])}(\d{{1,9}})({_regex(tail)})" if fraction else never * 2

    def moment(seconds: str, after: str | None, now: float) -> float | None:
        try:
            found = datetime.strptime(some_year + seconds + (after or ""), plain)  # noqa: DTZ007 - the zone follows
        except ValueError:
            return None
        return _with_year(found, zone, now) if yearless else _instant(found, zone, now)

    return _Cached(re.compile(f"({_regex(head)}){rest}"), moment)


def _instant(found: datetime, zone: tzinfo, now: float) -> float:
    """Seconds since the epoch. Of the two hours that have one name when the clocks are put back, the later one that
    is not in the future: right for a file that is followed, and an hour off for half of an old one.
    """
    if found.tzinfo is not None:
        return found.timestamp()
    first = found.replace(tzinfo=zone, fold=0).timestamp()
    second = found.replace(tzinfo=zone, fold=1).timestamp()
    return second if first < second <= now + _CLOCK_SLACK else first


def _regex(pattern: str) -> str:
    """What a strptime format looks like in a text."""
    parts = re.split(r"%[-_0^#]?(.)", pattern)
    out = []
    for index, part in enumerate(parts):
        out.append(_DIRECTIVES.get(part, re.escape(part)) if index % 2 else _literal(part))
    return "".join(out)


def _literal(text: str) -> str:
    """White space of a format stands for any (as strptime does); the rest for itself."""
    return re.sub(r"(?:\\?\s)+", r"\\s+", re.escape(text))


def _with_year(found: datetime, zone: tzinfo, now: float) -> float | None:
    """The latest year that does not put the event days ahead: on January 1st, December 31st was last year."""
    present = datetime.fromtimestamp(now, zone).year
    for year in range(present + 1, present - 9, -1):  # eight years without a leap year happen once in a century
        try:
            moment = found.replace(year=year, tzinfo=found.tzinfo or zone).timestamp()
        except ValueError:  # February 29th
            continue
        if moment <= now + _FAR_AHEAD:
            return moment
    return None


def _epoch(text: str, _now: float) -> int | None:
    match = _EPOCH.search(text)
    if match is None:
        return None
    return int(match[1]) * 1000 + int((match[2] or "0")[:3].ljust(3, "0"))


def _epoch_ms(text: str, _now: float) -> int | None:
    match = _EPOCH_MS.search(text)
    return None if match is None else int(match[1])


def _of_key(key: str, parse: Parse) -> Parse:
    """Reads the time from one key of events that are JSON objects."""

    def read(text: str, now: float) -> int | None:
        try:
            value = orjson.loads(text)[key]
        except (ValueError, KeyError, TypeError):
            return None
        return parse(repr(value) if isinstance(value, float) else str(value), now)

    return read


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    return _local() if name == "local" else ZoneInfo(name)


def _local() -> tzinfo:
    """The machine's zone with its rules, not only its present offset (localtime(5))."""
    named = os.environ.get("TZ", "").lstrip(":")
    try:
        if named:
            return ZoneInfo(named)
        with open("/etc/localtime", "rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return UTC
