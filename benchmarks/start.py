"""How long until help is printed, and until the first event is shipped."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.process import Agent, Sink

_RUNS = 5
_FLUSH_SECONDS = 1.0


def measure(folder: Path) -> Iterator[Figure]:
    yield Figure("outlive --help (median of 5)", statistics.median(_help() for _ in range(_RUNS)), "s", at_most=0.3)
    first = statistics.median(_first_event(folder / str(run)) for run in range(3))
    yield Figure("start to first event, less flush_interval (median of 3)", first - _FLUSH_SECONDS, "s", at_most=2.0)


def _help() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "agent.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _first_event(folder: Path) -> float:
    folder.mkdir(parents=True)
    log = folder / "app.log"
    log.write_text("one line\n")
    sink = Sink()
    agent = Agent(
        folder, sink.url, f"logs: {{flush_interval: {_FLUSH_SECONDS}s, files: [{{path: {log}, group: /bench}}]}}\n"
    )
    try:
        agent.wait_until_shipped(30)
        return float(sink.stats()["first"]) - agent.started
    finally:
        agent.close()
        sink.close()
