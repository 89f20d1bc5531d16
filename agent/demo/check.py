"""The check from outside: what was written against what the stand-ins hold. Pure; no word of the agent is believed.

Logs may arrive more than once (after a crash the agent sends again what it is not sure of), but every line must be
there and, counted by first arrival, in order. Objects must be equal byte for byte, metrics in count and sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from agent.demo.receipt import Evidence, check_receipt, logs_of
from agent.demo.written import Generation, Total, Written, arrived_samples

_SHOWN = 60  # characters of a line that is quoted


@dataclass(frozen=True)
class Arrived:
    """What the stand-ins hold."""

    streams: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)  # messages in order of arrival
    objects: Mapping[str, bytes] = field(default_factory=dict)  # by path below the upload folder
    metrics: Mapping[str, Total] = field(default_factory=dict)


@dataclass(frozen=True)
class LogRow:
    """One log file in the table."""

    name: str
    written: int  # bytes
    acknowledged: int | None  # bytes, as the receipt says; None: not in it
    lines: int
    arrived: int  # different lines
    twice: int  # arrivals beyond the first of each line


@dataclass(frozen=True)
class Verdict:
    """`failures` is empty if everything is proven."""

    logs: Sequence[LogRow]
    objects: tuple[int, int]  # written, found equal
    samples: tuple[int, int]  # sent, arrived
    other_metrics: int  # that arrived beside what was sent
    failures: Sequence[str]

    @property
    def proven(self) -> bool:
        return not self.failures

    @property
    def twice(self) -> int:
        return sum(row.twice for row in self.logs)


def judge(written: Written, arrived: Arrived, evidence: Evidence) -> Verdict:
    """Compare everything; `evidence` is what the drain left."""
    generations = sorted(written.generations, key=lambda generation: generation.destination)
    traces = [_trace(generation, arrived.streams.get(generation.destination, ())) for generation in generations]
    return Verdict(
        logs=_rows(generations, traces, logs_of(evidence)),
        objects=(len(written.files), sum(arrived.objects.get(name) == data for name, data in written.files.items())),
        samples=(written.samples, arrived_samples(written, arrived.metrics)),
        other_metrics=len(arrived.metrics.keys() - written.counters.keys() - written.timers.keys()),
        failures=[
            *(failure for trace in traces for failure in trace.failures),
            *_strangers(generations, arrived.streams),
            *_compare_objects(written.files, arrived.objects),
            *_compare_metrics(written, arrived.metrics),
            *check_receipt(evidence, written),
        ],
    )


@dataclass(frozen=True)
class _Trace:
    arrived: int
    twice: int
    failures: Sequence[str]


def _rows(
    generations: Sequence[Generation], traces: Sequence[_Trace], acknowledged: Mapping[tuple[int, int], int]
) -> list[LogRow]:
    return [
        LogRow(
            generation.name,
            generation.size,
            acknowledged.get((generation.device, generation.inode)),
            len(generation.lines),
            trace.arrived,
            trace.twice,
        )
        for generation, trace in zip(generations, traces, strict=True)
    ]


def _trace(generation: Generation, messages: Iterable[str]) -> _Trace:
    """Follow the lines of one file through its stream."""
    numbers = {line: number for number, line in enumerate(generation.lines)}
    order: list[int] = []
    seen: set[int] = set()
    twice = 0
    for line in _lines(messages):
        number = numbers.get(line)
        if number in seen:
            twice += 1
        elif number is not None:
            seen.add(number)
            order.append(number)
    return _Trace(len(order), twice, [*_missing(generation, seen), *_disorder(generation, order)])


def _lines(messages: Iterable[str]) -> Iterator[str]:
    """Lines, also where several of them make one event."""
    for message in messages:
        yield from message.split("\n")


def _missing(generation: Generation, seen: set[int]) -> Iterator[str]:
    count = len(generation.lines)
    missing = [number for number in range(count) if number not in seen]
    if missing:
        first = missing[0]
        yield (
            f"{generation.name}: {len(missing):,} of {count:,} lines are not at AWS, the first is no. {first + 1:,}: "
            f"{generation.lines[first][:_SHOWN]}"
        )


def _disorder(generation: Generation, order: Sequence[int]) -> Iterator[str]:
    for before, after in pairwise(order):
        if after < before:
            yield f"{generation.name}: line {before + 1:,} came before line {after + 1:,}"
            return


def _strangers(generations: Sequence[Generation], streams: Mapping[tuple[str, str], Sequence[str]]) -> Iterator[str]:
    """Lines at AWS that nobody wrote."""
    for destination, messages in streams.items():
        known = {line for each in generations if each.destination == destination for line in each.lines}
        strange = [line for line in _lines(messages) if line not in known]
        if strange:
            yield (
                f"{' '.join(destination)}: {len(strange):,} lines that nobody wrote, the first: {strange[0][:_SHOWN]}"
            )


def _compare_objects(files: Mapping[str, bytes], objects: Mapping[str, bytes]) -> Iterator[str]:
    for name, data in files.items():
        found = objects.get(name)
        if found is None:
            yield f"{name}: not in S3"
        elif found != data:
            yield (
                f"{name}: {len(data):,} bytes written, {len(found):,} in S3, they differ from byte "
                f"{_first_difference(data, found):,} on"
            )
    yield from (f"{name}: in S3, and nobody wrote it" for name in objects if name not in files)


def _first_difference(one: bytes, other: bytes) -> int:
    return next(
        (place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right),
        min(len(one), len(other)),
    )


def _compare_metrics(written: Written, held: Mapping[str, Total]) -> Iterator[str]:
    """A counter reaches CloudWatch as one sum for each interval; of a timer the number of values counts too."""
    for name, sent in {**written.counters, **written.timers}.items():
        found = held.get(name, Total())
        if not math.isclose(found.sum, sent.sum, abs_tol=1e-6):
            yield f"{name}: {sent.sum:,.0f} in sum sent by StatsD, {found.sum:,.0f} at CloudWatch"
        if name in written.timers and found.count != sent.count:
            yield f"{name}: {sent.count:,.0f} values sent by StatsD, {found.count:,.0f} at CloudWatch"
