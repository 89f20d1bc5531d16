"""The time of an event as its text says: formats, zones, daylight saving, missing years, fractions."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs_harness import examples

from agent.logs.timestamps import reader

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()


def ms(*parts: int, zone: str = "UTC", fold: int = 0) -> int:
    return round(datetime(*parts, tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("%d/%b/%Y:%H:%M:%S %z", '1.2.3.4 - - [24/Nov/2026:11:14:04 +0100] "GET /"', ms(2026, 11, 24, 10, 14, 4)),
        ("%Y-%m-%d %H:%M:%S,%f", "2026-11-24 11:14:04,123 ERROR x", ms(2026, 11, 24, 11, 14, 4) + 123),
        ("%Y-%m-%d %H:%M:%S.%f%z", "2026-11-24 11:14:04.5+02:00 x", ms(2026, 11, 24, 9, 14, 4) + 500),
        ("%Y-%m-%dT%H:%M:%S.%fZ", "t=2026-11-24T11:14:04.123456Z", ms(2026, 11, 24, 11, 14, 4) + 123),
        ("%m/%d/%y %I:%M:%S %p", "11/24/26 11:14:04 PM up", ms(2026, 11, 24, 23, 14, 4)),
        ("%b %d %H:%M:%S", "Nov 24 11:14:04 host x", ms(2026, 11, 24, 11, 14, 4)),
        ("%b %d %H:%M:%S", "Nov  4 11:14:04 host x", ms(2026, 11, 4, 11, 14, 4)),
        ("iso8601", '{"t":"2026-11-24T11:14:04.123Z"}', ms(2026, 11, 24, 11, 14, 4) + 123),
        ("iso8601", "2026-11-24 11:14:04,1 x", ms(2026, 11, 24, 11, 14, 4) + 100),
        ("iso8601", "2026-11-24T11:14+02:00", ms(2026, 11, 24, 9, 14)),
        ("iso8601", "2026-11-24t11:14:04z", ms(2026, 11, 24, 11, 14, 4)),
        ("epoch", "1795518844.25 x", 1795518844250),
        ("epoch", "at 1795518844, x", 1795518844000),
        ("epoch_ms", "x 1795518844123", 1795518844123),
    ],
)
def test_a_time_is_read_wherever_it_stands(pattern: str, text: str, expected: int) -> None:
    assert reader(pattern, "UTC", None)(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "no time", "2026-13-45T99:99:99Z", "99/Foo/2026:11:14:04 +0000", "\x00"])
@pytest.mark.parametrize("pattern", ["iso8601", "epoch", "epoch_ms", "%d/%b/%Y:%H:%M:%S %z"])
def test_what_is_no_time_is_none(pattern: str, text: str) -> None:
    assert reader(pattern, "UTC", None)(text, NOW) is None


def test_a_time_without_a_zone_is_in_the_configured_one() -> None:
    parse = reader("%Y-%m-%d %H:%M:%S", "Europe/Berlin", None)
    assert parse("2026-07-01 12:00:00", NOW) == ms(2026, 7, 1, 10)
    assert parse("2026-12-01 12:00:00", NOW) == ms(2026, 12, 1, 11)


def test_the_hour_that_comes_twice_is_the_one_that_is_not_in_the_future() -> None:
    parse = reader("iso8601", "Europe/Berlin", None)
    first = ms(2026, 10, 25, 2, 30, zone="Europe/Berlin")
    second = ms(2026, 10, 25, 2, 30, zone="Europe/Berlin", fold=1)
    assert second == first + 3_600_000
    assert parse("2026-10-25T02:30:00", first / 1000 + 1) == first
    fresh = reader("iso8601", "Europe/Berlin", None)
    assert fresh("2026-10-25T02:30:00", second / 1000 + 1) == second


def test_a_date_without_a_year_is_of_last_year_just_after_new_year() -> None:
    parse = reader("%b %d %H:%M:%S", "UTC", None)
    january = datetime(2027, 1, 1, 0, 0, 5, tzinfo=UTC).timestamp()
    assert parse("Dec 31 23:59:59 x", january) == ms(2026, 12, 31, 23, 59, 59)
    assert parse("Jan  1 00:00:01 x", january) == ms(2027, 1, 1, 0, 0, 1)
    december = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    ahead = reader("%b %d %H:%M:%S", "UTC", None)
    assert ahead("Jan  1 00:00:01 x", december) == ms(2027, 1, 1, 0, 0, 1)  # another machine's clock is ahead


def test_february_29_without_a_year_is_of_a_leap_year() -> None:
    assert reader("%b %d %H:%M:%S", "UTC", None)("Feb 29 01:00:00", NOW) == ms(2024, 2, 29, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"ts": 1795518844.5, "m": 1}', 1795518844500),
        ('{"ts": "1795518844", "m": 1}', 1795518844000),
        ('{"m": 1}', None),
        ("[1]", None),
        ("1795518844", None),
        ('{"ts": null}', None),
    ],
)
def test_of_events_that_are_json_one_key_is_read(text: str, expected: int | None) -> None:
    assert reader("epoch", "UTC", "ts")(text, NOW) == expected


@examples(100)
@given(st.integers(10**7, 4 * 10**9), st.integers(0, 999), st.sampled_from(["UTC", "America/New_York"]))
def test_a_cached_second_is_the_same_as_a_fresh_one(seconds: int, milliseconds: int, zone: str) -> None:
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{milliseconds:03d}"
    parse = reader("iso8601", zone, None)
    first = parse(text, NOW)
    assert parse(text, NOW) == first == reader("iso8601", zone, None)(text, NOW)


@examples(100)
@given(st.text(max_size=60))
def test_no_text_makes_it_fail(text: str) -> None:
    for pattern in ("iso8601", "epoch", "epoch_ms", "%d/%b/%Y:%H:%M:%S %z", "%c"):
        reader(pattern, "UTC", None)(text, NOW)
