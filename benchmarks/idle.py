"""What it costs when nothing happens: 500 log files, OS metrics each 10 s, one upload tree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.process import Agent, StandinProcess

_FILES = 500
_UPLOADS = 1000
_SETTLE_SECONDS = 15.0


def measure(folder: Path, seconds: float) -> Iterator[Figure]:
    for number in range(_FILES):
        path = folder / "logs" / f"app-{number:03d}.log"
        path.parent.mkdir(exist_ok=True)
        path.write_text("one line\n")
    for number in range(_UPLOADS):
        path = folder / "uploads" / f"{number // 100}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    standin = StandinProcess(folder)
    standin.make_bucket("bench")
    agent = Agent(folder, standin.url, _configuration(folder), **standin.keys)
    try:
        agent.wait_until_shipped(60)
        time.sleep(_SETTLE_SECONDS)
        before = agent.cpu()
        time.sleep(seconds)
        share = (agent.cpu() - before) / seconds
        rss, _ = agent.memory()
        threads = agent.threads()
    finally:
        agent.close()
        standin.close()
    yield Figure(f"idle, {_FILES} logs, metrics each 10 s, uploads: CPU", share * 100, "% of core", at_most=2)
    yield Figure("idle: RSS", rss, "MB", at_most=80)
    yield Figure("idle: threads", threads, "", at_most=20)


def _configuration(folder: Path) -> str:
    return (
        f"logs: {{files: [{{path: {folder}/logs/*.log, group: /bench}}]}}\n"
        "metrics: {interval: 10s, flush_interval: 60s, os: {}}\n"
        f"uploads: {{directories: [{{path: {folder}/uploads, bucket: bench}}]}}\n"
    )
