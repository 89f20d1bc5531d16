"""The section `alarms`: CloudWatch alarms that live as long as the instance does.

Source of names and limits: the API reference of CloudWatch, PutMetricAlarm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from agent.config.base import Section
from agent.config.errors import quoted
from agent.config.markers import Parsed, Shape
from agent.config.names import DimensionName, DimensionValue, MetricName, Topic
from agent.config.places import Place, Placed
from agent.config.units import parse_duration

_ACTIONS_MAX = 5  # of one state of an alarm
_DAY = 86400  # seconds; periods below an hour may look back so far, longer ones seven days
_THRESHOLD = re.compile(r"(>=|<=|>|<) ?(-?[0-9]{1,15}(?:\.[0-9]{1,9})?)")

Comparison = Literal[">", ">=", "<", "<="]


class Threshold(NamedTuple):
    """When an alarm rings: the metric is `comparison` than `value`."""

    comparison: Comparison
    value: float

    def __str__(self) -> str:
        return f"{self.comparison} {self.value:g}"


class Datapoints(NamedTuple):
    """`breaching` of the last `of` periods must breach before an alarm rings."""

    breaching: int
    of: int

    def __str__(self) -> str:
        return f"{self.breaching} of {self.of}"


def parse_threshold(value: object) -> Threshold:
    """(> | >= | < | <=) NUMBER."""
    match = _THRESHOLD.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{quoted(value)} is not a threshold: >, >=, < or <= and a number, for example "> 90"')
    comparison: Comparison = match[1]  # type: ignore[assignment]  # the pattern allows these four
    return Threshold(comparison, float(match[2]))


def parse_datapoints(value: object) -> Datapoints:
    """M of N, with 1 <= M <= N."""
    match = re.fullmatch(r"([0-9]{1,4}) of ([0-9]{1,4})", value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"{quoted(value)} is not M of N with M from 1 to N, for example 3 of 5")
    return Datapoints(int(match[1]), int(match[2]))


def parse_period(value: object) -> float:
    """Seconds: 10, 20, 30, or a multiple of 60, at most a day."""
    seconds = parse_duration(value)
    if not (seconds in (10, 20, 30) or (seconds % 60 == 0 and 60 <= seconds <= _DAY)):
        raise ValueError(f"{quoted(value)} is no period of an alarm: 10s, 20s, 30s, or a multiple of 60s up to 1d")
    return seconds


class Alarm(Section):
    """An alarm on one metric of this instance.

    It is made after the first sample is accepted, and deleted when the instance drains, before sampling stops.
    """

    name: Annotated[str, Placed(Place.ALARM)] = Field(
        description="The alarm's name. It begins with `outlive/`, so that a policy can allow these alarms alone."
    )
    metric: MetricName = Field(description="The metric's name, as `disk_used_percent`.")
    dimensions: Mapping[DimensionName, DimensionValue] = Field(
        default={},
        description="Dimensions that, with those of every metric, must select exactly one published series.",
    )
    statistic: Annotated[
        str,
        Shape(
            "statistic",
            r"SampleCount|Average|Sum|Minimum|Maximum|IQM|(?:p|tm|wm|tc|ts)(?:100|[0-9]{1,2}(?:\.[0-9]{1,10})?)",
            "Average, Maximum or p99",
        ),
    ] = Field(default="Average", description="Average, Sum, Minimum, Maximum, SampleCount, or a percentile as `p99`.")
    threshold: Annotated[Threshold, Parsed("threshold", parse_threshold)] = Field(
        description='`>`, `>=`, `<` or `<=` and a number, as `"> 90"`.'
    )
    period: Annotated[float, Parsed("duration of 10s, 20s, 30s or a multiple of 60s", parse_period)] = Field(
        description="The span over which the statistic is taken."
    )
    for_: Annotated[Datapoints, Parsed("M of N", parse_datapoints)] = Field(
        default=Datapoints(3, 3), alias="for", description="How many of the last periods must breach."
    )
    notify: tuple[Topic, ...] = Field(
        default=(), max_length=_ACTIONS_MAX, description="SNS topics that are told when it rings."
    )
    missing_data: Literal["ignore", "missing", "breaching", "notBreaching"] = Field(
        default="ignore", description="What a period without data counts as."
    )

    @model_validator(mode="after")
    def _span(self) -> Alarm:
        span = self.for_.of * self.period
        if span > (7 * _DAY if self.period >= 3600 else _DAY):
            raise ValueError(
                f"{self.for_} periods look back too far; CloudWatch allows 1d, and 7d where the period is 1h or more"
            )
        return self
