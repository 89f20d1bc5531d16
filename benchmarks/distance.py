"""A backlog over a distance: each answer takes 50 ms more, and one stream must not wait for each in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.lines import ACCESS
from benchmarks.logs import Log, Variant, fullness, ship

_SECONDS = 0.05


def measure(folder: Path, size: int) -> Iterator[Figure]:
    log = Log.write(folder / "access.log", ACCESS, size)
    run = ship(folder / "agent", log, Variant("50 ms away", ACCESS, "gzip", cpu=0.0), f"--delay={_SECONDS}")
    yield Figure("50 ms away, one stream, gzip: throughput", run.megabytes_a_second, "MB/s", at_least=50)
    yield Figure("50 ms away: CPU, steady", run.steady, "CPU s/GB")
    yield Figure("50 ms away: peak RSS", run.peak, "MB", at_most=90)
    yield Figure("50 ms away: batches full", fullness(log, run.batches), "%", at_least=95)
