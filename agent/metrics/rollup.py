"""Roll-ups: the same samples once more, under fewer dimensions; CloudWatch itself does not sum over dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from agent.metrics.distribution import Distribution
from agent.metrics.series import Series

Entry = tuple[Series, int, Distribution]
"""A series, the time of what it measured (seconds since the epoch), and that."""


def roll_up(entries: Iterable[Entry], sets: Sequence[frozenset[str]]) -> list[Entry]:
    """What the entries are together under each set of dimension names.

    As in the CloudWatch agent, a series takes part if it has all dimensions of the set, and others besides.
    """
    merged: dict[tuple[Series, int], Distribution] = {}
    for series, timestamp, distribution in entries:
        for target in _targets(series, sets):
            merged.setdefault((target, timestamp), Distribution()).merge(distribution)
    return [(series, timestamp, distribution) for (series, timestamp), distribution in merged.items()]


def _targets(series: Series, sets: Sequence[frozenset[str]]) -> Iterator[Series]:
    names = {name for name, _ in series.dimensions}
    for wanted in sets:
        if wanted < names:
            yield series._replace(dimensions=tuple(pair for pair in series.dimensions if pair[0] in wanted))
