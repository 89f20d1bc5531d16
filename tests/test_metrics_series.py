"""CloudWatch's rules for names, dimensions and values are known before anything is sent."""

from __future__ import annotations

import math

import pytest
from metrics_fakes import plain

from agent.metrics.series import complaint, is_sendable, make_series, shown


def test_a_series_is_the_same_whatever_the_order_of_its_dimensions() -> None:
    assert make_series("m", {"a": "1", "b": "2"}) == make_series("m", {"b": "2", "a": "1"})


@pytest.mark.parametrize("series", [plain("m"), plain("a" * 255, d="v" * 1024), make_series("m", {}, "Count/Second")])
def test_a_sound_series_has_no_complaint(series) -> None:
    assert complaint(series) is None


@pytest.mark.parametrize(
    ("series", "word"),
    [
        (make_series("", {}), "name is blank"),
        (make_series("  ", {}), "name is blank"),
        (make_series("a" * 256, {}), "longer than 255"),
        (make_series("größe", {}), "ASCII"),
        (make_series("a\x07b", {}), "ASCII"),
        (make_series("m", {":d": "v"}), "colon"),
        (make_series("m", {"": "v"}), "dimension's name is blank"),
        (make_series("m", {"d": " "}), "dimension's value is blank"),
        (make_series("m", {"d": "v" * 1025}), "longer than 1024"),
        (make_series("m", {"d": "ä"}), "ASCII"),
        (make_series("m", {f"d{number}": "v" for number in range(31)}), "30 dimensions"),
        (make_series("m", {}, "Furlongs"), "unit"),
    ],
)
def test_what_cloudwatch_would_refuse_is_told_why(series, word: str) -> None:
    assert word in (complaint(series) or "")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2.0**361, -(2.0**361)])
def test_values_beyond_the_range_can_not_be_sent(value: float) -> None:
    assert not is_sendable(value)


@pytest.mark.parametrize("value", [0.0, -1.5, 2.0**360, -(2.0**360), 5e-324])
def test_values_within_the_range_can_be_sent(value: float) -> None:
    assert is_sendable(value)


def test_a_series_is_shown_with_its_dimensions() -> None:
    assert shown(plain("m", b="2", a="1")) == "m{a=1,b=2}"
