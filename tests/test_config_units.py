"""Durations, sizes and percentages: what users write is what the code gets, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.units import (
    BYTES,
    SECONDS,
    format_duration,
    format_percentage,
    format_size,
    parse_duration,
    parse_percentage,
    parse_size,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("2m", 120.0), ("1h", 3600.0), ("30d", 2_592_000.0), ("1.5h", 5400.0)],
)
def test_a_duration_has_a_unit(written, seconds):
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(("written", "seconds"), [(0, 0.0), (7, 7.0), (0.25, 0.25)])
def test_a_plain_number_is_seconds(written, seconds):
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("64KiB", 65536),
        ("10MB", 10_000_000),
        ("1GiB", 1 << 30),
        ("1.5KiB", 1536),
        ("7B", 7),
        ("1TB", 10**12),
        (512, 512),
    ],
)
def test_a_size_is_decimal_or_binary_or_bytes(written, size):
    assert parse_size(written) == size


@pytest.mark.parametrize(
    "written", ["", "s", "5 s", "-5s", "5", "1h30m", "١s", "5S", -1, True, None, [], float("nan")]
)
def test_what_is_no_duration_is_refused(written):
    with pytest.raises(ValueError, match=r"is not a duration|no unit known"):
        parse_duration(written)


@pytest.mark.parametrize(
    "written", ["", "MiB", "5 MB", "-1B", "5mb", "5m", "1.0001KB", -1, 0.5, False, {}, float("inf")]
)
def test_what_is_no_size_is_refused(written):
    with pytest.raises(ValueError, match=r"is not a size|no unit known|whole number of bytes"):
        parse_size(written)


def test_an_unknown_unit_names_the_known_ones():
    with pytest.raises(ValueError, match="ms, s, m, h, d"):
        parse_duration("5min")


@pytest.mark.parametrize(("written", "share"), [("0%", 0.0), ("10%", 0.1), ("2.5%", 0.025), ("100%", 1.0)])
def test_a_percentage_is_a_share_of_one(written, share):
    assert parse_percentage(written) == share
    assert format_percentage(share) == written


@pytest.mark.parametrize("written", ["101%", "-1%", "10", 10, 0.1, "%", None])
def test_what_is_no_percentage_is_refused(written):
    with pytest.raises(ValueError, match="is not a percentage"):
        parse_percentage(written)


@given(st.integers(0, 10**6), st.sampled_from(sorted(SECONDS)))
def test_a_duration_comes_back_as_it_went(amount, unit):
    seconds = parse_duration(f"{amount}{unit}")
    assert seconds == pytest.approx(amount * float(SECONDS[unit]))
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 10**6), st.sampled_from(sorted(BYTES)))
def test_a_size_comes_back_as_it_went(amount, unit):
    size = parse_size(f"{amount}{unit}")
    assert size == amount * BYTES[unit]
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.0, "0s"),
        (0.25, "250ms"),
        (60.0, "60s"),
        (90.0, "90s"),
        (600.0, "10m"),
        (86400.0, "24h"),
        (1123200.0, "13d"),
    ],
)
def test_a_duration_is_shown_in_the_unit_that_people_would_take(seconds, written):
    assert format_duration(seconds) == written
