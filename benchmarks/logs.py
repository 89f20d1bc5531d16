"""Shipping a large log file, beside the reference that does only what can't be left out."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.process import Agent, Sink

LINE_BYTES = 124
_BLOCK_LINES = 80_000
_REFERENCE = Path(__file__).parent / "reference.py"


def measure(folder: Path, size: int) -> Iterator[Figure]:
    """Ship `size` bytes of access log without and with compression."""
    log = folder / "logs" / "access.log"
    log.parent.mkdir()
    lines = write_access_log(log, size)
    gigabytes = log.stat().st_size / 1e9
    reference = _reference(log) / gigabytes
    yield Figure("reference: read, split, JSON, SHA-256, POST", reference, "CPU s/GB")
    for compression in ("none", "gzip"):
        yield from _ship(folder / compression, log, lines, gigabytes, compression, reference)


def write_access_log(path: Path, size: int) -> int:
    """An access log of lines of 124 bytes; the number of lines."""
    rng = random.Random(1)
    block = "".join(_line(rng) for _ in range(_BLOCK_LINES)).encode()
    blocks = max(1, size // len(block))
    with path.open("wb") as file:
        for _ in range(blocks):
            file.write(block)
    return blocks * _BLOCK_LINES


def _line(rng: random.Random) -> str:
    address = ".".join(str(rng.randrange(256)) for _ in range(4))
    head = f'{address} - - [24/Nov/2026:11:14:04 +0000] "GET /item/{rng.randrange(10**9):09d} HTTP/1.1" '
    return (head + f'200 {rng.randrange(10**5)} "-" "Mozilla/5.0 (X11; Linux x86_64) Gecko/2010')[
        : LINE_BYTES - 1
    ] + "\n"


def _reference(log: Path) -> float:
    """CPU seconds of the reference for the whole file."""
    sink = Sink()
    try:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, str(_REFERENCE), str(log), sink.url], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    finally:
        sink.close()
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def _ship(
    folder: Path, log: Path, lines: int, gigabytes: float, compression: str, reference: float
) -> Iterator[Figure]:
    folder.mkdir()
    sink = Sink(*(["--count"] if compression == "none" else []))
    agent = Agent(
        folder,
        sink.url,
        f"logs: {{compression: {compression}, flush_interval: 100ms, files: [{{path: {log}, group: /bench}}]}}\n",
    )
    try:
        agent.wait_until_shipped(600)
        finished = time.time()
        batches, _, events, first = sink.stats()
        cpu, (_, peak) = agent.cpu(), agent.memory()
    finally:
        agent.close()
        sink.close()
    if compression == "none" and events != lines:
        raise AssertionError(f"{lines} lines were written and {events} arrived")
    name = f"access log, {'gzip' if compression == 'gzip' else 'plain'}"
    plain = compression == "none"
    yield Figure(
        f"{name}: throughput", gigabytes * 1000 / (finished - first), "MB/s", at_least=100 if plain else None
    )
    yield Figure(
        f"{name}: CPU, start of the process included", cpu / gigabytes, "CPU s/GB", at_most=6 if plain else None
    )
    yield Figure(f"{name}: CPU as a ratio to the reference", cpu / gigabytes / reference, "x")
    yield Figure(f"{name}: peak RSS", peak, "MB", at_most=100)
    full = (gigabytes * 1e9 + lines * 25) / batches / 1_048_576
    yield Figure(f"{name}: batches full", full * 100, "%", at_least=95)
