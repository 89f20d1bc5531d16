"""The grammar of StatsD and DogStatsD lines: NAME:VALUE[:VALUE...]|TYPE[|@RATE][|#TAGS][|T TIME][|...].

Sources: github.com/statsd/statsd, docs/metric_types.md; docs.datadoghq.com/developers/dogstatsd/datagram_shell
(protocol 1.0 to 1.3). Fields of later protocols (container, external data, cardinality) say nothing that CloudWatch
could use, and are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_IN_NUMBERS = b"0123456789.+-eE"  # float() takes more: nan, infinity, blanks, underscores
METRIC_TYPES = {
    b"c": "counter",
    b"g": "gauge",
    b"ms": "timing",
    b"h": "histogram",
    b"d": "distribution",
    b"s": "set",
}
"""The types by their sign, with the value of the CloudWatch agent's dimension `metric_type`."""
_EMPTY = "<empty>"  # the CloudWatch agent's dimension value for a tag without one; CloudWatch takes no blank


class BadLine(ValueError):
    """A line that is not StatsD: look at the client that sends it."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What a line says beside its values."""

    name: str
    kind: str  # a value of METRIC_TYPES
    rate: float  # (0, 1]: the share of the observations that was sent
    tags: Mapping[str, str]
    timestamp: int | None  # seconds since the epoch


def parse_metric(name: bytes, suffix: bytes) -> Metric:
    """The metric of a line: `name` is what stands before its first colon, `suffix` what follows the first bar.

    Raises BadLine.
    """
    sign, *fields = suffix.rstrip(b"\r").split(b"|")
    kind = METRIC_TYPES.get(sign)
    if kind is None:
        raise BadLine("its type is none of " + ", ".join(key.decode() for key in METRIC_TYPES))
    given = {field[:1]: field[1:] for field in fields}
    return Metric(
        _text(name, "name"),
        kind,
        _rate(given[b"@"]) if b"@" in given else 1.0,
        _tags(given.get(b"#", b"")),
        _timestamp(given[b"T"], kind) if b"T" in given else None,
    )


def parse_numbers(texts: Sequence[bytes]) -> list[float]:
    """Decimal numbers; one too large for a double is infinite. Raises BadLine if any of them is none."""
    try:
        if not b"".join(texts).translate(None, _IN_NUMBERS):
            return [*map(float, texts)]
    except ValueError:
        pass
    raise BadLine("a value is no number")


def _text(raw: bytes, what: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise BadLine(f"its {what} is not UTF-8") from None
    if not text:
        raise BadLine(f"its {what} is empty")
    return text


def _rate(raw: bytes) -> float:
    (rate,) = parse_numbers([raw])
    if not 0.0 < rate <= 1.0:
        raise BadLine("its sample rate is not in (0, 1]")
    return rate


def _timestamp(raw: bytes, kind: str) -> int:
    if kind not in ("counter", "gauge"):
        raise BadLine("only counters and gauges may have a timestamp")
    if not raw.isdigit() or len(raw) > 12:
        raise BadLine("its timestamp is not in seconds since the epoch")
    return int(raw)


def _tags(raw: bytes) -> dict[str, str]:
    """Of a tag given twice the last one counts: a dimension has one value."""
    tags = {}
    for tag in raw.split(b",") if raw else ():
        name, _, value = tag.partition(b":")
        tags[_text(name, "tag's name")] = _text(value, "tag's value") if value else _EMPTY
    return tags
