"""Datums as CloudWatch's JSON: encoded once, kept as fragments, joined to requests when they are sent.

Source: docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html, in the protocol awsJson 1.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import orjson

from agent.aws.limits import METRIC_BATCH_BYTES, METRIC_BATCH_DATUMS
from agent.metrics.rollup import Entry
from agent.metrics.series import make_series, shown

_ENVELOPE_BYTES = 512  # bounds what a request has around its datums; a namespace has at most 255 characters
_FRAGMENT_BYTES = METRIC_BATCH_BYTES - _ENVELOPE_BYTES
_SPAN = 3600  # seconds between the oldest and the newest datum of a fragment, so that it ages as one


@dataclass(frozen=True, slots=True)
class Fragment:
    """Datums in JSON with commas between them; no more than one request can carry."""

    oldest: int  # the least timestamp, seconds since the epoch
    datums: int
    body: bytes


def encode(entries: Iterable[Entry], *, high_resolution: bool) -> list[Fragment]:
    """The entries in fragments. `high_resolution`: CloudWatch is to keep them by the second, not by the minute."""
    in_order = sorted(entries, key=itemgetter(1))
    return list(_pack((entry[1], orjson.dumps(_datum(entry, high_resolution))) for entry in in_order))


def fits(datums: int, size: int) -> bool:
    """Whether one request can carry so many datums, in fragments of so many bytes together."""
    return datums <= METRIC_BATCH_DATUMS and size <= _FRAGMENT_BYTES


def request(namespace: str, bodies: Iterable[bytes]) -> bytes:
    """The body of a PutMetricData request."""
    return b'{"Namespace":%b,"MetricData":[%b]}' % (orjson.dumps(namespace), b",".join(bodies))


def halve(bodies: Sequence[bytes]) -> tuple[Fragment, Fragment]:
    """The same datums, at least two, as two fragments."""
    datums = _documents(bodies)
    middle = len(datums) // 2
    return _fragment(datums[:middle]), _fragment(datums[middle:])


def name_of(body: bytes) -> str:
    """For people: which series the only datum of a fragment belongs to."""
    (datum,) = _documents([body])
    return shown(make_series(datum["MetricName"], {pair["Name"]: pair["Value"] for pair in datum["Dimensions"]}))


def _datum(entry: Entry, high_resolution: bool) -> dict[str, Any]:
    series, timestamp, distribution = entry
    datum: dict[str, Any] = {
        "MetricName": series.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in series.dimensions],
        "Timestamp": timestamp,
    }
    values, counts = distribution.values_and_counts()
    datum.update({"Value": values[0]} if counts == [1.0] else {"Values": values, "Counts": counts})
    if series.unit is not None:
        datum["Unit"] = series.unit
    if high_resolution:
        datum["StorageResolution"] = 1
    return datum


def _pack(datums: Iterable[tuple[int, bytes]]) -> Iterator[Fragment]:
    """Fragments of datums that come with their timestamps, in order of these."""
    held: list[bytes] = []
    oldest = size = 0
    for timestamp, body in datums:
        if held and not (timestamp - oldest <= _SPAN and fits(len(held) + 1, size + len(body))):
            yield Fragment(oldest, len(held), b",".join(held))
            held, size = [], 0
        if not held:
            oldest = timestamp
        held.append(body)
        size += len(body) + 1  # and a comma
    if held:
        yield Fragment(oldest, len(held), b",".join(held))


def _documents(bodies: Sequence[bytes]) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = orjson.loads(b"[%b]" % b",".join(bodies))
    return documents


def _fragment(datums: Sequence[dict[str, Any]]) -> Fragment:
    oldest = min(datum["Timestamp"] for datum in datums)
    return Fragment(oldest, len(datums), b",".join(orjson.dumps(datum) for datum in datums))
