"""A backlog in many files at once: what is read of each must not add up in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.lines import ACCESS
from benchmarks.logs import Log, Variant, ship

_FILES = 64


def measure(folder: Path, size: int) -> Iterator[Figure]:
    logs = [Log.write(folder / "logs" / f"{number}.log", ACCESS, size // _FILES) for number in range(_FILES)]
    every = Log(folder / "logs" / "*.log", sum(log.lines for log in logs), sum(log.size for log in logs))
    for place, where, delay in (("near", "", 0.0), ("far", ", 50 ms away", 0.05)):
        name = f"{_FILES} files at once{where}, gzip"
        run = ship(folder / place, every, Variant(name, ACCESS, "gzip", cpu=0.0), f"--delay={delay}")
        yield Figure(f"{name}: throughput", run.megabytes_a_second, "MB/s", at_least=50)
        yield Figure(f"{name}: CPU, steady", run.steady, "CPU s/GB")
        yield Figure(f"{name}: peak RSS", run.peak, "MB", at_most=90)
