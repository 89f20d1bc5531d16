"""A series is what CloudWatch calls a metric; here are the rules that its parts and values must keep.

CloudWatch refuses a whole request for one datum that breaks a rule, so each is checked before it is sent.
Sources: docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference, API_MetricDatum and API_Dimension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.aws.limits import (
    METRIC_DIMENSION_NAME,
    METRIC_DIMENSION_VALUE,
    METRIC_DIMENSIONS,
    METRIC_LARGEST,
    METRIC_NAME,
)

_SIZES = ("Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes")
_RATES = ("Bits", "Kilobits", "Megabits", "Gigabits", "Terabits")
UNITS = frozenset(
    ["Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "Count/Second", "None", *_SIZES, *_RATES]
    + [f"{amount}/Second" for amount in _SIZES + _RATES]
)


class Series(NamedTuple):
    """Name, dimensions in the order of their names, and unit (None: CloudWatch's "None")."""

    name: str
    dimensions: tuple[tuple[str, str], ...]
    unit: str | None = None


def make_series(name: str, dimensions: Mapping[str, str], unit: str | None = None) -> Series:
    """The one Series for this name, unit and set of dimensions."""
    return Series(name, tuple(sorted(dimensions.items())), None if unit == "None" else unit)


def complaint(series: Series) -> str | None:
    """Why CloudWatch would not take this series, or None."""
    if len(series.dimensions) > METRIC_DIMENSIONS:
        return f"more than {METRIC_DIMENSIONS} dimensions"
    if series.unit is not None and series.unit not in UNITS:
        return "the unit is not one of CloudWatch's"
    faults = [_text_fault("the name", series.name, METRIC_NAME)]
    for name, value in series.dimensions:
        faults.append(_text_fault("a dimension's name", name, METRIC_DIMENSION_NAME))
        faults.append("a dimension's name begins with a colon" if name.startswith(":") else None)
        faults.append(_text_fault("a dimension's value", value, METRIC_DIMENSION_VALUE))
    return next((fault for fault in faults if fault is not None), None)


def is_sendable(value: float) -> bool:
    """Whether CloudWatch takes the value: no NaN, no infinity, magnitude up to 2**360."""
    return abs(value) <= METRIC_LARGEST


def are_sendable(values: Sequence[float]) -> bool:
    """Whether CloudWatch takes all of the values."""
    return not values or (
        math.isfinite(sum(values)) and max(values) <= METRIC_LARGEST and min(values) >= -METRIC_LARGEST
    )


def shown(series: Series) -> str:
    """For people: name{dimension=value, ...}."""
    inner = ",".join(f"{name}={value}" for name, value in series.dimensions)
    return f"{series.name}{{{inner}}}"


def _text_fault(what: str, text: str, longest: int) -> str | None:
    if not text.strip():
        return f"{what} is blank"
    if len(text) > longest:
        return f"{what} is longer than {longest} characters"
    if not (text.isascii() and text.isprintable()):
        return f"{what} has a character other than printable ASCII"
    return None
