"""Many values of one series in one interval, in the few that CloudWatch takes.

Up to 150 distinct values are kept as they are. Beyond, values of about the same size share a bucket that is
reported by its mean, so that count and sum stay true; the least and the greatest are reported as they are. Where the
buckets would become too many, neighbours are joined in pairs, which squares the ratio between a bucket's ends: a
narrow spread of values keeps fine buckets, a wide one gets coarse ones (as in UDDSketch: Epicoco et al., "UDDSketch:
Accurate Tracking of Quantiles in Data Streams", 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from agent.aws.limits import METRIC_VALUES

_FINEST = math.log(1.02)  # of the ratio between the ends of a bucket, before any are joined: values within 1 %
_BUCKETS = METRIC_VALUES - 2  # beside the least and the greatest value

_Key = tuple[int, int]
"""Sign (-1, 0, 1) and index of a bucket: |value| lies in (ratio ** (index - 1), ratio ** index]."""

_ZERO: _Key = (0, 0)


class Distribution:
    """Values with weights: a value that stands for ten observations weighs ten. Values must be finite."""

    __slots__ = ("_buckets", "_exact", "count", "maximum", "minimum")

    def __init__(self) -> None:
        self.count = 0.0
        self.minimum = math.inf
        self.maximum = -math.inf
        self._exact: dict[float, float] = {}
        self._buckets: _Buckets | None = None

    def add(self, values: Sequence[float], weights: Sequence[float]) -> None:
        """Take observations, at least one: `weights` (each at least 1) says how often each value was observed."""
        self.count += sum(weights)
        self.minimum = min(self.minimum, *values)
        self.maximum = max(self.maximum, *values)
        if self._buckets is not None:
            self._buckets.add(values, weights)
            return
        exact = self._exact
        for value, weight in zip(values, weights, strict=True):
            exact[value] = exact.get(value, 0.0) + weight
        if len(exact) > METRIC_VALUES:
            self._go_over_to_buckets()

    def merge(self, other: Distribution) -> None:
        """Take all that `other` took."""
        if other._buckets is None:
            self.add([*other._exact], [*other._exact.values()])
            return
        self.count += other.count
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        if self._buckets is None:
            self._go_over_to_buckets()
        assert self._buckets is not None
        self._buckets.merge(other._buckets)

    def values_and_counts(self) -> tuple[list[float], list[float]]:
        """At most 150 distinct values, and how many observations each stands for."""
        reported = self._exact if self._buckets is None else self._buckets.report(self.minimum, self.maximum)
        return list(reported), list(reported.values())

    def _go_over_to_buckets(self) -> None:
        self._buckets = _Buckets()
        self._buckets.add([*self._exact], [*self._exact.values()])
        self._exact = {}


class _Buckets:
    """Weight and sum by bucket; at most _BUCKETS of them."""

    __slots__ = ("_content", "_level", "_width")

    def __init__(self) -> None:
        self._level = 0  # how often neighbours were joined
        self._width = _FINEST
        self._content: dict[_Key, list[float]] = {}

    def add(self, values: Iterable[float], weights: Iterable[float]) -> None:
        content, width = self._content, self._width
        for value, weight in zip(values, weights, strict=True):  # the hot loop: _key and _put, written out
            key = (1 if value > 0 else -1, math.ceil(math.log(abs(value)) / width)) if value else _ZERO
            held = content.get(key)
            if held is None:
                content[key] = [weight, value * weight]
            else:
                held[0] += weight
                held[1] += value * weight
        while len(self._content) > _BUCKETS:
            self._join()

    def merge(self, other: _Buckets) -> None:
        while self._level < other._level:
            self._join()
        steps = self._level - other._level
        for (sign, index), (weight, total) in other._content.items():
            self._put((sign, _joined(index, steps)), weight, total)
        while len(self._content) > _BUCKETS:
            self._join()

    def report(self, minimum: float, maximum: float) -> dict[float, float]:
        """Counts by value: the two extremes once each, and what is left of every bucket by its mean."""
        content = {key: list(held) for key, held in self._content.items()}
        reported: dict[float, float] = {}
        for extreme in (minimum, maximum):
            held = content[self._key(extreme)]
            taken = min(1.0, held[0])
            held[0] -= taken
            held[1] -= taken * extreme
            if taken:
                reported[extreme] = reported.get(extreme, 0.0) + taken
        for weight, total in content.values():
            if weight > 0:
                mean = min(max(total / weight, minimum), maximum)
                reported[mean] = reported.get(mean, 0.0) + weight
        return reported

    def _key(self, value: float) -> _Key:
        return (1 if value > 0 else -1, math.ceil(math.log(abs(value)) / self._width)) if value else _ZERO

    def _put(self, key: _Key, weight: float, total: float) -> None:
        held = self._content.get(key)
        if held is None:
            self._content[key] = [weight, total]
        else:
            held[0] += weight
            held[1] += total

    def _join(self) -> None:
        old, self._content = self._content, {}
        self._level += 1
        self._width *= 2
        for (sign, index), (weight, total) in old.items():
            self._put((sign, _joined(index, 1)), weight, total)


def _joined(index: int, steps: int) -> int:
    """The index of a bucket after its neighbourhood was joined so often: half of it, rounded up, each time."""
    return -(-index >> steps)
