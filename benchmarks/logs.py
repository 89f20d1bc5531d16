"""Shipping a large log file, beside the reference that does only what can't be left out.

CPU is the agent's, user and system. *Steady* leaves out its start and the first tenth of the batches: it is what
each further GB costs. Each run ends when the sink has counted every line, neither fewer nor more.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.lines import ACCESS, ACCESS_FORMAT, JSON, Kind
from benchmarks.process import Agent, Sink

_REFERENCE = Path(__file__).parent / "reference.py"
_WARM = 0.1  # of the batches, before what counts as steady
_PATIENCE = 900.0  # seconds for one run
_BATCH = 1_048_576  # bytes, as PutLogEvents counts them
_OVERHEAD = 26  # bytes that it counts for each event
_MOST_EVENTS = 10_000
_MEGABYTES = 90.0  # of RSS, whatever the backlog


@dataclass(frozen=True)
class Variant:
    """One way to ship one kind of log, and what it may cost."""

    name: str
    kind: Kind
    compression: str
    cpu: float  # seconds for each GB
    entry: str = ""  # of the configuration, beside path and group
    speed: float | None = None  # MB/s at least
    ratio: float | None = None  # to the reference, at most


_PARSED = f", timestamp: {{format: '{ACCESS_FORMAT}'}}"
VARIANTS = (
    Variant("access log, plain", ACCESS, "none", cpu=4.0, speed=120.0, ratio=1.6),
    Variant("access log, gzip", ACCESS, "gzip", cpu=5.0),
    Variant("access log, plain, its own times", ACCESS, "none", cpu=7.0, entry=_PARSED),
    Variant("JSON lines, plain", JSON, "none", cpu=4.5, ratio=1.6),
    Variant("JSON lines, gzip", JSON, "gzip", cpu=5.5),
)


@dataclass(frozen=True)
class Log:
    """A file to be shipped."""

    path: Path
    lines: int
    size: int

    @property
    def gigabytes(self) -> float:
        return self.size / 1e9

    @classmethod
    def write(cls, path: Path, kind: Kind, size: int) -> Log:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = kind.write(path, size)
        return cls(path, lines, path.stat().st_size)


def measure(folder: Path, size: int) -> Iterator[Figure]:
    """Ship `size` bytes of each kind in each way."""
    for kind in (ACCESS, JSON):
        log = Log.write(folder / "logs" / f"{kind.name}.log", kind, size)
        cpu, seconds = _reference(log)
        yield Figure(f"reference, {kind.name}: read, split, JSON, SHA-256, POST", cpu / log.gigabytes, "CPU s/GB")
        yield Figure(f"reference, {kind.name}: throughput", log.gigabytes * 1000 / seconds, "MB/s")
        for variant in VARIANTS:
            if variant.kind is kind:
                yield from _figures(variant, ship(folder / variant.name, log, variant), log, cpu / log.gigabytes)
        log.path.unlink()


def _reference(log: Log) -> tuple[float, float]:
    """CPU seconds and seconds of the reference for the whole file."""
    sink = Sink()
    try:
        command = [sys.executable, str(_REFERENCE), str(log.path), sink.url]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        if not sink.wait_for(log.lines, 10.0) or sink.stats()["events"] != log.lines:
            raise AssertionError(f"the reference: {log.lines} lines, {sink.stats()}")
    finally:
        sink.close()
    cpu, seconds = map(float, said.split())
    return cpu, seconds


class Meter:
    """Reads the agent's CPU time when a tenth of the batches has arrived, and at the last look."""

    def __init__(self, agent: Agent, batches: float) -> None:
        self.warm: tuple[int, float] | None = None  # batches and CPU seconds
        self.latest = (0, 0.0)
        self._agent = agent
        self._warm_batches = batches * _WARM

    def look(self, stats: dict[str, Any]) -> None:
        self.latest = (stats["batches"], self._agent.cpu())
        if self.warm is None and stats["batches"] >= self._warm_batches:
            self.warm = self.latest

    def steady(self, gigabytes: float) -> float:
        """CPU seconds for each GB, from then on."""
        assert self.warm is not None
        batches, cpu = self.latest[0] - self.warm[0], self.latest[1] - self.warm[1]
        return cpu / (gigabytes * batches / self.latest[0]) if batches else float("inf")


@dataclass(frozen=True)
class Shipped:
    """What one run came to."""

    steady: float  # CPU seconds for each GB
    whole: float  # the same, start of the process included
    megabytes_a_second: float  # from the first batch to the last
    peak: float  # RSS in MB
    batches: int


def ship(folder: Path, log: Log, variant: Variant, *sink_arguments: str) -> Shipped:
    """Ship the log once. Raises AssertionError where not exactly its lines arrived."""
    sink = Sink(*sink_arguments)
    agent = Agent(folder, sink.url, _configuration(log, variant))
    meter = Meter(agent, accounted(log) / _BATCH)
    try:
        if not sink.wait_for(log.lines, _PATIENCE, meter.look):
            raise TimeoutError(f"{variant.name}: {log.lines} lines, and in {_PATIENCE} s {sink.stats()}")
        agent.wait_until_shipped(30)
        stats, (_, peak) = sink.stats(), agent.memory()
    finally:
        agent.close()
        sink.close()
    if stats["events"] != log.lines:
        raise AssertionError(f"{variant.name}: {log.lines} lines were written and {stats['events']} arrived")
    batches = stats["batches"]
    speed = log.size / 1e6 * (1 - 1 / batches) / (stats["last"] - stats["first"]) if batches > 1 else 0.0
    return Shipped(meter.steady(log.gigabytes), meter.latest[1] / log.gigabytes, speed, peak, batches)


def accounted(log: Log) -> int:
    """Bytes as PutLogEvents counts them: no line ends, and a fixed sum for each event."""
    return log.size + log.lines * (_OVERHEAD - 1)


def fullness(log: Log, batches: int) -> float:
    """Percent, of whichever limit comes first: bytes or events of a batch."""
    return 100 * max(accounted(log) / _BATCH, log.lines / _MOST_EVENTS) / batches


def _configuration(log: Log, variant: Variant) -> str:
    files = f"[{{path: '{log.path}', group: /bench{variant.entry}}}]"
    return f"logs: {{compression: {variant.compression}, flush_interval: 1s, files: {files}}}\n"


def _figures(variant: Variant, run: Shipped, log: Log, reference: float) -> Iterator[Figure]:
    name = variant.name
    yield Figure(f"{name}: CPU, steady", run.steady, "CPU s/GB", at_most=variant.cpu)
    yield Figure(f"{name}: CPU, with its start", run.whole, "CPU s/GB")
    yield Figure(f"{name}: CPU, steady, to the reference", run.steady / reference, "x", at_most=variant.ratio)
    yield Figure(f"{name}: throughput", run.megabytes_a_second, "MB/s", at_least=variant.speed)
    yield Figure(f"{name}: peak RSS", run.peak, "MB", at_most=_MEGABYTES)
    yield Figure(f"{name}: batches full", fullness(log, run.batches), "%", at_least=95)
