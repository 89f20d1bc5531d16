"""How long a line takes from being written to being acknowledged, at 10,000 lines a second into one file."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.process import Agent, Sink

_RATE = 10_000  # lines a second
_FLUSH_SECONDS = 1.0
_GRACE_SECONDS = 1.0  # beyond flush_interval, for 99 of 100 lines
_WRITER = Path(__file__).parent / "pace.py"


def measure(folder: Path, seconds: float) -> Iterator[Figure]:
    log = folder / "app.log"
    log.write_text("one line\n")
    sink = Sink("--ages")
    files = f"[{{path: {log}, group: /bench}}]"
    agent = Agent(folder, sink.url, f"logs: {{flush_interval: {_FLUSH_SECONDS}s, files: {files}}}\n")
    try:
        agent.wait_until_shipped(30)
        written, share = _write(log, agent, seconds)
        if not sink.wait_for(written + 1, 30):
            raise TimeoutError(f"{written + 1} lines were written: {sink.stats()}")
        stats, (rss, _) = sink.stats(), agent.memory()
    finally:
        agent.close()
        sink.close()
    if stats["events"] != written + 1:
        raise AssertionError(f"{written + 1} lines were written and {stats['events']} arrived")
    name = f"{written / seconds:.0f} lines/s, flush_interval 1s"
    yield Figure(f"{name}: half are acknowledged after", stats["ages"]["p50"], "s")
    yield Figure(f"{name}: 99 % after", stats["ages"]["p99"], "s", at_most=_FLUSH_SECONDS + _GRACE_SECONDS)
    yield Figure(f"{name}: the last after", stats["ages"]["max"], "s")
    yield Figure(f"{name}: CPU", share * 100, "% of core")
    yield Figure(f"{name}: RSS", rss, "MB", at_most=90)


def _write(log: Path, agent: Agent, seconds: float) -> tuple[int, float]:
    """Lines written, and the share of a core that the agent took meanwhile."""
    before, began = agent.cpu(), time.monotonic()
    command = [sys.executable, str(_WRITER), str(log), str(_RATE), str(seconds)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(said), (agent.cpu() - before) / (time.monotonic() - began)
