"""Ten thousand files of one pattern: idle, a few of them written to, and known again after a restart.

Twice: with the descriptors that this process may have, and with 1,024 of them, where not all can be open at once.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.process import Agent, Sink

_FILES = 10_000
_WRITTEN = 100  # of them, at once
_FLUSH_SECONDS = 1.0
_SETTLE_SECONDS = 15.0  # until what was just read counts as idle
_PATIENCE = 120.0  # seconds, for all files to be shipped
_FEW_DESCRIPTORS = 1024


def measure(folder: Path, seconds: float) -> Iterator[Figure]:
    logs = folder / "logs"
    logs.mkdir()
    for number in range(_FILES):
        (logs / f"app-{number:05d}.log").write_text(f"app-{number:05d} has begun\n")
    yield from _Scale(folder / "many", logs, None).figures(seconds)
    yield from _Scale(folder / "few", logs, _FEW_DESCRIPTORS).figures(seconds)


class _Scale:
    def __init__(self, folder: Path, logs: Path, descriptors: int | None) -> None:
        self._folder = folder
        self._logs = logs
        self._descriptors = descriptors
        self._name = f"{_FILES} files" + (f", {descriptors} descriptors" if descriptors else "")
        self._random = random.Random(1)
        self._sink = Sink()
        self._expected = sum(path.read_bytes().count(b"\n") for path in logs.iterdir())

    def figures(self, seconds: float) -> Iterator[Figure]:
        try:
            agent = self._agent()
            try:
                took = self._wait(agent.started)
                yield self._figure(": all shipped, after its start", took, "s", at_most=_PATIENCE)
                yield from self._idle(agent, seconds)
                if took < math.inf:
                    yield from self._grow()
            finally:
                agent.close()
            if took < math.inf:
                yield from self._restart()
        finally:
            self._sink.close()

    def _agent(self) -> Agent:
        files = f"[{{path: '{self._logs}/*.log', group: /bench}}]"
        configuration = f"logs: {{flush_interval: {_FLUSH_SECONDS}s, files: {files}}}\n"
        return Agent(self._folder, self._sink.url, configuration, descriptors=self._descriptors)

    def _figure(self, what: str, value: float, unit: str, **demand: float | None) -> Figure:
        return Figure(f"{self._name}{what}", value, unit, **demand)

    def _idle(self, agent: Agent, seconds: float) -> Iterator[Figure]:
        time.sleep(_SETTLE_SECONDS)
        before = agent.cpu()
        time.sleep(seconds)
        yield self._figure(", idle: CPU", (agent.cpu() - before) / seconds * 100, "% of core", at_most=4)
        yield self._figure(", idle: RSS", agent.memory()[0], "MB", at_most=90)
        yield self._figure(", idle: descriptors in use", agent.descriptors(), "", at_most=self._descriptors)

    def _grow(self) -> Iterator[Figure]:
        self._append()
        took = self._wait(time.time()) - _FLUSH_SECONDS
        yield self._figure(f": {_WRITTEN} are written to, less flush_interval", took, "s")

    def _restart(self) -> Iterator[Figure]:
        """A line more in some of them while it is down, then from its start until all of these have arrived."""
        self._append()
        agent = self._agent()
        try:
            took = self._wait(agent.started) - _FLUSH_SECONDS
            yield self._figure(", restart: reads on, less flush_interval", took, "s", at_most=3)
            time.sleep(_FLUSH_SECONDS * 3)  # what comes twice would come by now
            again = self._sink.stats()["events"] - self._expected
            yield self._figure(", restart: lines sent again", again, "", at_most=0)
        finally:
            agent.close()

    def _append(self) -> None:
        for path in self._random.sample(sorted(self._logs.iterdir()), _WRITTEN):
            with path.open("a") as file:
                file.write("and goes on\n")
        self._expected += _WRITTEN

    def _wait(self, since: float) -> float:
        """Seconds until every line written has arrived, infinite where that does not happen."""
        if not self._sink.wait_for(self._expected, _PATIENCE):
            return math.inf
        return float(self._sink.stats()["last"]) - since
