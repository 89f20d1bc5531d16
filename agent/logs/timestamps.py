"""When an event happened, as its text says: strptime formats, ISO 8601, epoch seconds and milliseconds, a JSON key.

The dear part, turning text into a moment, is done once for each distinct second; a fraction of a second is added to
it. What can't be read is told by None: then the event takes the time of the one before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple, Protocol, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from agent.logs.formats import BLANK, Format, epoch, iso8601, parted, strptime, strptime_regex
from agent.logs.frame import newlines


class Times(NamedTuple):
    """Of lines, in ms since the epoch; None: it has none. Either runs of lines with one time, or a time for each."""

    runs: Sequence[tuple[int | None, int]]  # and where in the text the run ends
    each: Sequence[int | None] | None


class Parse(Protocol):
    """Reads times out of texts."""

    def __call__(self, text: str, now: float, /) -> int | None:
        """Milliseconds since the epoch of an event's text, given the present time in seconds; None if it has none."""

    def lines(self, text: str, now: float, /) -> Times:
        """The same of every line of a text, each of them with a newline at its end."""


_Moment = Callable[[str, str, float], float | None]
_REMEMBERED = 4096  # distinct seconds whose moment is remembered
_DAY = 86400.0
_CLOCK_SLACK = 120.0  # seconds that another machine's clock may be ahead
_FRESH = 3 * 3600.0  # seconds for which what a time means is remembered: it may mean another moment later
_FAR_AHEAD = 2 * _DAY  # a date without a year that would lie further ahead than this is of the year before
_SOME_RUNS = 32  # after which it is decided whether runs are long enough to be worth their price
_SHORT_RUN = 3  # lines; shorter runs cost more than a look at each line
_EPOCH_MS = re.compile(r"(?<![\d.])(\d{12,13})(?![\d.])", re.ASCII)


def reader(pattern: str, timezone: str, json_key: str | None) -> Parse:
    """What reads the time of events. `pattern`: iso8601, epoch, epoch_ms, or a format of strptime."""
    zone = _zone(timezone)
    parse: Parse
    if pattern == "iso8601":
        parse = _Cached(iso8601(), _iso(zone))
    elif pattern == "epoch":
        parse = _Cached(epoch(), lambda seconds, _rest, _now: float(seconds))
    elif pattern == "epoch_ms":
        parse = _EpochMs()
    else:
        parse = _Cached(strptime(pattern), _strptime(pattern, zone))
    return parse if json_key is None else _OfKey(json_key, parse)


_Run = tuple[re.Match[str] | None, int, int]
"""The first time of lines, if they have one, and where they start and end in their text."""


class _Milliseconds(dict[str, int]):
    """Up to three digits behind the point as milliseconds."""

    def __init__(self) -> None:
        super().__init__({f"{number:0{digits}d}": number * 10 ** (3 - digits) for digits in (1, 2, 3)
                          for number in range(10**digits)})  # fmt: skip
        self[""] = 0

    def __missing__(self, digits: str) -> int:
        return int(digits.ljust(3, "0"))  # of another script


_MILLISECONDS = _Milliseconds()


class _Cached:
    """Finds a time in a text and remembers the moment of its seconds."""

    def __init__(self, form: Format, moment: _Moment) -> None:
        self._search = re.compile(form.regex(r"\s"), form.flags).search
        one_line = form.regex(BLANK)
        self._search_line = re.compile(one_line, form.flags).search
        self._find_all = re.compile(rf"{one_line}.*+\n", form.flags).findall
        self._repeats = form.repeats
        self._moment = moment
        self._known: dict[tuple[str, str], int | None] = {}
        self._asked = 0.0

    def __call__(self, text: str, now: float) -> int | None:
        match = self._search(text)
        return None if match is None else self._of(match, now)

    def lines(self, text: str, now: float) -> Times:
        runs = self._runs(text)
        if runs is None:
            return Times((), self._each(text, now))
        if any(match[2] for match, _, _ in runs if match):
            each: list[int | None] = []
            for match, start, end in runs:
                each += self._times_of(text[start:end], match, now)
            return Times((), each)
        return Times([(match and self._of(match, now), end) for match, _, end in runs], None)

    def _runs(self, text: str) -> list[_Run] | None:
        """None where the lines' times differ too often for that."""
        runs: list[_Run] = []
        end, checked = 0, 0
        while end < len(text):
            match = self._search_line(text, end)
            start = len(text) if match is None else text.rfind("\n", end, match.start()) + 1 or end
            if start > end:
                runs.append((None, end, start))
                end = start
            if match is None:
                break
            repeats = self._repeats(match)
            if repeats is None:
                return None
            end = repeats.end(text, start, match)
            runs.append((match, start, end))
            if len(runs) >= checked + _SOME_RUNS:
                if newlines(text[runs[checked][1] : end]) < _SHORT_RUN * _SOME_RUNS:
                    return None
                checked = len(runs)
        return runs

    def _times_of(self, lines: str, match: re.Match[str] | None, now: float) -> Sequence[int | None]:
        """The times of the lines of a run."""
        base = match and self._base((match[1], match[3] or ""), now)
        if match is None or base is None or not match[2]:
            return [base] * newlines(lines)
        head = match.string[match.start() : match.start(2)]
        _, *found = lines.split(head) if head else ("",)
        if len(found) != newlines(lines):
            return [self(line, now) for line in lines.split("\n")[:-1]]
        digits = min(len(match[2]), 3)
        return [base + _MILLISECONDS[part[:digits]] for part in found]

    def _each(self, text: str, now: float) -> list[int | None]:
        found = self._find_all(text)
        if len(found) != newlines(text):
            return [self(line, now) for line in text.split("\n")[:-1]]
        times: list[int | None] = []
        last: tuple[str, str] | None = None
        base: int | None = None
        for seconds, fraction, rest in found:
            if (seconds, rest) != last:
                last = (seconds, rest)
                base = self._base(last, now)
            times.append(base if base is None else base + _MILLISECONDS[fraction[:3]])
        return times

    def _of(self, match: re.Match[str], now: float) -> int | None:
        seconds, fraction, rest = match.groups("")
        base = self._base((seconds, rest), now)
        return base if base is None else base + _MILLISECONDS[fraction[:3]]

    def _base(self, key: tuple[str, str], now: float) -> int | None:
        try:
            return self._known[key]
        except KeyError:
            return self._learn(key, now)

    def _learn(self, key: tuple[str, str], now: float) -> int | None:
        if len(self._known) >= _REMEMBERED or abs(now - self._asked) > _FRESH:
            self._known.clear()
            self._asked = now
        moment = self._moment(*key, now)
        base = None if moment is None or moment < 0 else round(moment * 1000)
        self._known[key] = base
        return base


class _EpochMs:
    """Finds milliseconds since the epoch: nothing is worth remembering."""

    def __init__(self) -> None:
        self._find_all = re.compile(rf"{_EPOCH_MS.pattern}.*+\n", re.ASCII).findall

    def __call__(self, text: str, now: float) -> int | None:  # noqa: ARG002 - as all others
        match = _EPOCH_MS.search(text)
        return None if match is None else int(match[1])

    def lines(self, text: str, now: float) -> Times:
        found = self._find_all(text)
        if len(found) == newlines(text):
            return Times((), list(map(int, found)))
        return Times((), [self(line, now) for line in text.split("\n")[:-1]])


class _OfKey:
    """Reads the time from one key of events that are JSON objects."""

    def __init__(self, key: str, parse: Parse) -> None:
        self._key = key
        self._parse = parse

    def __call__(self, text: str, now: float) -> int | None:
        try:
            value = orjson.loads(text)[self._key]
        except (ValueError, KeyError, TypeError):
            return None
        return self._parse(_shown(value), now)

    def lines(self, text: str, now: float) -> Times:
        lines = text.split("\n")[:-1]
        loads, key = orjson.loads, self._key
        try:
            shown = _joined([loads(line)[key] for line in lines])
        except (ValueError, KeyError, TypeError):
            return Times((), [self(line, now) for line in lines])
        if newlines(shown) != len(lines):
            return Times((), [self(line, now) for line in lines])
        return Times((), each_of(self._parse.lines(shown, now), shown))


def each_of(times: Times, text: str) -> Sequence[int | None]:
    """The time of each line of the text."""
    if times.each is not None:
        return times.each
    each: list[int | None] = []
    start = 0
    for time, end in times.runs:
        each += [time] * newlines(text[start:end])
        start = end
    return each


def _joined(values: Sequence[object]) -> str:
    """One a line."""
    try:
        return "\n".join([*cast("Sequence[str]", values), ""])  # that is what they mostly are
    except TypeError:
        return "\n".join([*map(_shown, values), ""])


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _iso(zone: tzinfo) -> _Moment:
    def moment(seconds: str, offset: str, now: float) -> float | None:
        try:
            found = datetime.fromisoformat(seconds + offset.upper())
        except ValueError:
            return None
        return _instant(found, zone, now)

    return moment


def _strptime(pattern: str, zone: tzinfo) -> _Moment:
    before, second, behind = parted(pattern)[0].partition("%S")
    moment = _moment(pattern, zone)
    if not second or "%S" in behind:
        return moment
    return _ByMinute(moment, f"{strptime_regex(before, BLANK)}([0-9]{{1,2}}){strptime_regex(behind, BLANK)}")


def _moment(pattern: str, zone: tzinfo) -> _Moment:
    """Without the fraction, so that each second is parsed once."""
    yearless = not re.search(r"%[YyGcx]", pattern)
    head, _, tail = parted(pattern)
    some_year = "2024 " if yearless else ""  # a leap year, so that February 29th is a date
    plain = ("%Y " if yearless else "") + head + tail

    def moment(seconds: str, after: str, now: float) -> float | None:
        try:
            found = datetime.strptime(some_year + seconds + after, plain)  # noqa: DTZ007 - the zone follows
        except ValueError:
            return None
        return _with_year(found, zone, now) if yearless else _instant(found, zone, now)

    return moment


class _ByMinute:
    """Asks for the moment of minutes only, where seconds are what they seem: the 59th is 59 s after the first."""

    def __init__(self, moment: _Moment, pattern: str) -> None:
        """The group of `pattern` is the second."""
        self._moment = moment
        self._match = re.compile(pattern).fullmatch
        self._known: dict[tuple[str, str, str], float | None] = {}
        self._asked = 0.0

    def __call__(self, seconds: str, rest: str, now: float) -> float | None:
        match = self._match(seconds)
        if match is None or (second := int(match[1])) > 59:
            return self._moment(seconds, rest, now)
        key = seconds[: match.start(1)], seconds[match.end(1) :], rest
        first = self._known[key] if key in self._known else self._learn(key, now)
        return self._moment(seconds, rest, now) if first is None else first + second

    def _learn(self, key: tuple[str, str, str], now: float) -> float | None:
        if len(self._known) >= _REMEMBERED or abs(now - self._asked) > _FRESH:
            self._known.clear()
            self._asked = now
        before, after, rest = key
        first, last = (self._moment(f"{before}{second}{after}", rest, now) for second in ("00", "59"))
        self._known[key] = first if first is not None and last == first + 59 else None
        return self._known[key]


def _instant(found: datetime, zone: tzinfo, now: float) -> float:
    """Seconds since the epoch. Of the two hours that have one name when the clocks are put back, the later one that
    is not in the future: right for a file that is followed, and an hour off for half of an old one.
    """
    if found.tzinfo is not None:
        return found.timestamp()
    first = found.replace(tzinfo=zone, fold=0).timestamp()
    second = found.replace(tzinfo=zone, fold=1).timestamp()
    return second if first < second <= now + _CLOCK_SLACK else first


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
