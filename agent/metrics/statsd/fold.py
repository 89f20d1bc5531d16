"""Folding: each distinct line is parsed once, and its values go to the aggregate as often as it came."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Protocol

from agent.engine.events import Events
from agent.metrics.aggregate import Aggregate
from agent.metrics.series import Series
from agent.metrics.statsd.grammar import BadLine, Metric, parse_metric, parse_numbers
from agent.metrics.statsd.intake import Intake, Lines

_ROUTES = 10_000  # remembered; with more in use they are learnt anew now and then
_SHOWN = 200  # bytes of a bad line that are said


class Naming(Protocol):
    """Of the section `metrics.statsd`: what names and tags become."""

    @property
    def prefix(self) -> str: ...

    @property
    def separator(self) -> str | None: ...

    @property
    def metric_type(self) -> bool: ...

    @property
    def dimensions(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Route:
    """Where the values of a line go; equal only to itself, so that it hashes fast."""

    series: Series
    kind: str
    weight: float  # observations that each value stands for
    timestamp: int | None


class Fold:
    """Takes lines from an intake into an aggregate; any thread may call it, one at a time works."""

    def __init__(self, intake: Intake, aggregate: Aggregate, naming: Naming, events: Events) -> None:
        self._intake = intake
        self._aggregate = aggregate
        self._naming = naming
        self._events = events
        self._lock = threading.Lock()  # keeps one batch of ordered lines behind the other
        self._routes: dict[tuple[bytes, bytes], _Route] = {}

    def fold(self) -> None:
        """Bring all that has arrived into the aggregate."""
        with self._lock:
            lines = self._intake.take()
            self._count(lines)
            self._fold_counted(lines.counted)
            self._fold_ordered(lines.ordered)

    def _count(self, lines: Lines) -> None:
        if lines.packets:
            self._events.count("statsd_packets", lines.packets)
            self._events.count("statsd_lines", len(lines.ordered) + lines.counted.total() - lines.counted[b""])

    def _fold_counted(self, counted: Mapping[bytes, int]) -> None:
        """Values by route first: one call of the aggregate for each series."""
        groups: dict[_Route, tuple[list[bytes], list[int]]] = {}
        known = self._routes.get
        for line, times in counted.items():
            name, _, rest = line.partition(b":")
            value, _, suffix = rest.partition(b"|")
            route = known((name, suffix)) or self._learn(line, name, suffix, times)
            if route is None:
                continue
            group = groups.get(route)
            if group is None:
                group = groups[route] = ([], [])
            group[0].append(value)
            group[1].append(times)
        for route, (values, each_times) in groups.items():
            self._give(route, values, each_times)

    def _fold_ordered(self, lines: Iterable[bytes]) -> None:
        """The moves of each gauge in their order; lines with a time of their own one by one."""
        gauges: dict[Series, list[tuple[float, bool]]] = {}
        known = self._routes.get
        for line in lines:
            name, _, rest = line.partition(b":")
            value, _, suffix = rest.partition(b"|")
            route = known((name, suffix)) or self._learn(line, name, suffix, 1)
            if route is None:
                continue
            if route.kind == "gauge" and route.timestamp is None:
                gauges.setdefault(route.series, []).extend(self._moves(route, value))
            else:
                self._give(route, [value], [1])
        for series, moves in gauges.items():
            if moves:
                self._aggregate.gauge(series, moves)

    def _learn(self, line: bytes, name: bytes, suffix: bytes, times: int) -> _Route | None:
        """The route of a line seen for the first time, or None for one that carries no metric."""
        if not line or self._skipped(line, times):
            return None
        try:
            if b"|" in name or not suffix:
                raise BadLine("it is not NAME:VALUE|TYPE")
            metric = parse_metric(name, suffix)
        except BadLine as error:
            self._reject(line, error, times)
            return None
        route = self._route(metric)
        if route.timestamp is None:
            if len(self._routes) >= _ROUTES:
                self._routes.clear()
            self._routes[name, suffix] = route
        return route

    def _route(self, metric: Metric) -> _Route:
        name = self._naming.prefix + metric.name
        if self._naming.separator is not None:
            name = name.replace(".", self._naming.separator)
        dimensions = {**self._naming.dimensions, **metric.tags}
        if self._naming.metric_type:
            dimensions["metric_type"] = metric.kind
        series = self._aggregate.series(name, dimensions)
        return _Route(series, metric.kind, 1.0 / metric.rate, metric.timestamp)

    def _give(self, route: _Route, values: Sequence[bytes], times: Sequence[int]) -> None:
        """Hand values to the aggregate in the way of their kind."""
        if route.kind == "set":
            self._aggregate.members(route.series, values)
            return
        numbers, times = self._numbers(route, values, times)
        if not numbers:
            return
        if route.timestamp is not None:
            self._give_timed(route, route.timestamp, numbers)
        elif route.kind == "counter":
            self._aggregate.count(route.series, sum(map(mul, numbers, times)) * route.weight)
        else:
            self._aggregate.observe(route.series, numbers, [each * route.weight for each in times])

    def _give_timed(self, route: _Route, timestamp: int, numbers: Sequence[float]) -> None:
        """Such lines come one by one; of a gauge's values the last counts."""
        if route.kind == "counter":
            self._aggregate.timed(route.series, sum(numbers) * route.weight, timestamp, add=True)
        else:
            self._aggregate.timed(route.series, numbers[-1], timestamp, add=False)

    def _numbers(
        self, route: _Route, values: Sequence[bytes], times: Sequence[int]
    ) -> tuple[list[float], Sequence[int]]:
        """The values as numbers, those of packed lines one by one, and how often each came."""
        try:
            return parse_numbers(values), times
        except BadLine:
            pass  # a line among them is packed, or bad: look at each
        numbers: list[float] = []
        each_times: list[int] = []
        for packed, count in zip(values, times, strict=True):
            found = self._unpacked(route, packed, count)
            numbers += found
            each_times += [count] * len(found)
        return numbers, each_times

    def _unpacked(self, route: _Route, packed: bytes, times: int) -> list[float]:
        """The numbers of one line; none if any of them is bad."""
        try:
            return parse_numbers(packed.split(b":"))
        except BadLine as error:
            self._reject(b"%b:%b|..." % (route.series.name.encode(), packed), error, times)
            return []

    def _moves(self, route: _Route, packed: bytes) -> list[tuple[float, bool]]:
        """What a line does to its gauge: a value with a sign moves it."""
        signed = [part[:1] in (b"+", b"-") for part in packed.split(b":")]
        return list(zip(self._unpacked(route, packed, 1), signed, strict=False))

    def _skipped(self, line: bytes, times: int) -> bool:
        """DogStatsD's events and service checks are no metrics."""
        if not line.startswith((b"_e{", b"_sc|")):
            return False
        kind = "events" if line.startswith(b"_e{") else "service_checks"
        self._events.count(f"statsd_{kind}_skipped", times)
        self._events.trouble("info", "statsd_skipped", kind, kind=kind, hint="only metrics are carried on")
        return True

    def _reject(self, line: bytes, error: BadLine, times: int) -> None:
        self._events.count("statsd_bad_lines", times)
        example = ascii(line[:_SHOWN])[2:-1]
        self._events.trouble("warning", "statsd_bad_line", str(error), line=example, reason=str(error))
