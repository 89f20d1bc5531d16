"""Files to S3: many small ones, one large one, and a large tree in which little happens; beside other programs.

The agent is the real process, running before the files come: it has sent one already (its first request loads
botocore), then they are moved in whole, made elsewhere. The peers' CPU is with their start, which each run needs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.objects import BUCKET, PEERS, Store, start_store
from benchmarks.process import Agent

_SMALL_FILES, _SMALL_BYTES = 10_000, 10_000
_LARGE_BYTES = 1 << 30
_KNOWN_FILES, _KNOWN_FOLDERS, _KNOWN_BYTES = 100_000, 1_000, 100
_NEW_FILES, _NEW_EVERY = 200, 0.05  # files, seconds
_SETTLE = 1.0  # seconds, of the agent's configuration
_QUIET = 3.0  # seconds for an agent to have started, or files to be old enough
_LOOK = 0.5  # seconds between two looks at what has arrived: the agent is asked
_PATIENCE = 300.0
_BUSY, _CALM = 0.3, 0.1  # share of a core above which a scan has begun, and below which it is over
_SINK = Path(__file__).parent / "uploads_sink.py"


def measure(folder: Path, seconds: float) -> Iterator[Figure]:
    store = start_store(folder / "store")
    print(f"sent to {store.name}", flush=True)
    try:
        small, large = _make_small(folder / "small"), _make_large(folder / "large")
        yield from _small(folder, small, store)
        yield from _large(folder, large, store)
    finally:
        store.close()
    yield from _Tree(folder / "known").figures(seconds)


def _make_small(path: Path) -> Path:
    for number in range(_SMALL_FILES):
        file = path / f"{number // 100:03d}" / f"{number:05d}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(_SMALL_BYTES))
    return path


def _make_large(path: Path) -> Path:
    path.mkdir()
    block = os.urandom(1 << 20)
    with (path / "large.bin").open("wb") as file:
        for _ in range(_LARGE_BYTES >> 20):
            file.write(block)
    return path


def _small(folder: Path, source: Path, store: Store) -> Iterator[Figure]:
    name = f"{_SMALL_FILES} files of {_SMALL_BYTES // 1000} KB"
    for peer, cpu, rss in _peers(source, store):
        yield Figure(f"{name}: {peer}, CPU each with its start", cpu / _SMALL_FILES * 1e6, "µs")
        yield Figure(f"{name}: {peer}, peak RSS", rss, "MB")
    cpu, rss, took = _send(folder / "agent-small", source, store, _SMALL_FILES)
    yield Figure(f"{name}: CPU each", cpu / _SMALL_FILES * 1e6, "µs", at_most=250)
    yield Figure(f"{name}: peak RSS", rss, "MB", at_most=80)
    yield Figure(f"{name}: files a second", _SMALL_FILES / took, "")


def _large(folder: Path, source: Path, store: Store) -> Iterator[Figure]:
    name = "1 GiB in one file"
    for peer, cpu, rss in _peers(source, store):
        yield Figure(f"{name}: {peer}, CPU with its start", cpu, "s")
        yield Figure(f"{name}: {peer}, peak RSS", rss, "MB")
    cpu, rss, took = _send(folder / "agent-large", source, store, 1)
    yield Figure(f"{name}: CPU", cpu, "s", at_most=2.0)
    yield Figure(f"{name}: peak RSS", rss, "MB", at_most=80)
    yield Figure(f"{name}: throughput", _LARGE_BYTES / 1e6 / took, "MB/s")


def _peers(source: Path, store: Store) -> Iterator[tuple[str, float, float]]:
    for peer in PEERS:
        run = peer.run(source, store)
        if run is None:
            print(f"{peer.name} is neither on PATH nor in OUTLIVE_PEERS: not measured", flush=True)
        else:
            yield peer.name, run.cpu, run.rss


def _send(folder: Path, source: Path, store: Store, files: int) -> tuple[float, float, float]:
    """CPU seconds, peak RSS in MB, and seconds from moving the files in until all are confirmed."""
    tree = folder / "tree"
    tree.mkdir(parents=True)
    agent = Agent(folder, store.url, _configuration(tree), descriptors=None, **store.keys)
    try:
        (tree / "first").write_bytes(b"x")
        _wait_until_sent(agent, 1)
        before, began = agent.cpu(), time.monotonic()
        source.rename(tree / source.name)
        _wait_until_sent(agent, files + 1)
        return agent.cpu() - before, agent.memory()[1], time.monotonic() - began
    finally:
        agent.close()
        (tree / source.name).rename(source)


def _wait_until_sent(agent: Agent, files: int) -> None:
    until = time.monotonic() + _PATIENCE
    sent = 0
    while sent < files:
        if time.monotonic() > until:
            raise TimeoutError(f"{sent} of {files} files were sent in {_PATIENCE} s: {agent.status()}")
        time.sleep(_LOOK)
        status = agent.status()
        sent = status["counters"].get("uploads_sent", 0) if status else 0
    if sent != files:
        raise AssertionError(f"{files} files, and {sent} were sent")


def _configuration(tree: Path, rescan: float = 300.0) -> str:
    place = f"path: {tree}, bucket: {BUCKET}, settle: {_SETTLE}s, rescan: {rescan}s"
    return f"uploads: {{directories: [{{{place}}}]}}\n"


class _Tree:
    """Many files that are in S3 already, and a bucket that counts requests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tree = folder / "tree"
        self._name = f"{_KNOWN_FILES} known files"
        for number in range(_KNOWN_FILES):
            file = self._tree / f"{number % _KNOWN_FOLDERS:03d}" / f"{number:06d}"
            if number < _KNOWN_FOLDERS:
                file.parent.mkdir(parents=True)
            file.write_bytes(b"x" * _KNOWN_BYTES)
        self._sink = _Sink()

    def figures(self, seconds: float) -> Iterator[Figure]:
        try:
            bare = self._bare()
            yield self._first()
            yield from self._settled(seconds, bare)
            yield from self._scan()
        finally:
            self._sink.close()

    def _bare(self) -> float:
        """RSS in MB of an agent whose tree is empty."""
        folder = self._folder / "bare"
        (folder / "tree").mkdir(parents=True)
        agent = Agent(folder, self._sink.url, _configuration(folder / "tree"))
        try:
            time.sleep(_QUIET)
            return agent.memory()[0]
        finally:
            agent.close()

    def _first(self) -> Figure:
        """Send them all, once."""
        agent = Agent(self._folder, self._sink.url, _configuration(self._tree))
        try:
            _wait_until_sent(agent, _KNOWN_FILES)
            return Figure(f"{self._name}, sent first: CPU each, start too", agent.cpu() / _KNOWN_FILES * 1e6, "µs")
        finally:
            agent.close()

    def _settled(self, seconds: float, bare: float) -> Iterator[Figure]:
        requests = self._sink.stats()["requests"]
        agent = Agent(self._folder, self._sink.url, _configuration(self._tree))
        try:
            time.sleep(_QUIET * 2)
            before = agent.cpu()
            time.sleep(seconds)
            yield Figure(f"{self._name}, idle: CPU", (agent.cpu() - before) / seconds * 100, "% of core", at_most=0.3)
            each = (agent.memory()[0] - bare) * 1e6 / _KNOWN_FILES
            yield Figure(f"{self._name}: RSS for each, over an empty tree's", each, "bytes", at_most=150)
            again = self._sink.stats()["requests"] - requests
            yield Figure(f"{self._name}, after a restart: requests", again, "", at_most=0)
            yield from self._new_ones()
        finally:
            agent.close()

    def _new_ones(self) -> Iterator[Figure]:
        for number in range(_NEW_FILES):
            path = self._tree / f"{number * 7 % _KNOWN_FOLDERS:03d}" / f"new-{number}"
            path.write_text(f"w={time.time():.6f} ")
            time.sleep(_NEW_EVERY)
        ages = self._sink.wait_for_ages(_NEW_FILES)
        late = sorted(age - _SETTLE for age in ages)
        yield Figure(f"{self._name}: a new one is there after settle and", statistics.median(late), "s")
        yield Figure(f"{self._name}: the same, 99 %", late[len(late) * 99 // 100], "s", at_most=0.3)

    def _scan(self) -> Iterator[Figure]:
        """A restarted agent scans again after twice `rescan`."""
        requests = self._sink.stats()["requests"]
        agent = Agent(self._folder, self._sink.url, _configuration(self._tree, rescan=_QUIET * 2))
        try:
            time.sleep(_QUIET * 2)
            yield Figure(f"{self._name}, a whole scan: CPU", _burst(agent), "s", at_most=0.5)
        finally:
            agent.close()
        again = self._sink.stats()["requests"] - requests
        yield Figure(f"{self._name}, a whole scan: requests", again, "", at_most=0)


def _burst(agent: Agent) -> float:
    """CPU seconds of the next time that the agent is busy."""
    until = time.monotonic() + 60.0
    marks = [agent.cpu()]
    began: int | None = None
    while time.monotonic() < until:
        time.sleep(0.1)
        marks.append(agent.cpu())
        if began is None and marks[-1] - marks[-2] > _BUSY * 0.1:
            began = len(marks) - 2
        if began is not None and len(marks) > began + 5 and marks[-1] - marks[-5] < _CALM * 0.4:
            return marks[-1] - marks[began]
    raise TimeoutError("no scan in 60 s")


class _Sink:
    """The bucket of `uploads_sink.py` in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, str(_SINK)], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/stats", timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def wait_for_ages(self, count: int) -> list[float]:
        until = time.monotonic() + 30.0
        while len(ages := self.stats()["ages"]) < count:
            if time.monotonic() > until:
                raise TimeoutError(f"{len(ages)} of {count} new files arrived")
            time.sleep(_LOOK)
        if len(ages) > count:
            raise AssertionError(f"{count} new files, and {len(ages)} arrived")
        return list(ages)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
