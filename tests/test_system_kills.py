"""kill -9 of the real process at seeded moments, while a writer writes and its log is rotated: nothing is lost."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_agent import RealAgent, eventually

from agent.standin.faults import Fault, Kind
from agent.standin.standin import Standin

KILLS = int(os.environ.get("OUTLIVE_KILLS", "10"))


class Writer(threading.Thread):
    """Writes numbered lines and rotates by renaming, until told to end; a generation is kept until it was shipped."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(name="writer")
        self.path = folder / "app.log"
        self.lines = 0
        self.rotations = 0
        self.end = threading.Event()
        self._random = random.Random(seed)
        self._older = [folder / f"app.log.{number}" for number in range(1, 10_000)]

    def run(self) -> None:
        file = self.path.open("a")
        while not self.end.wait(0.002):
            for _ in range(self._random.randrange(1, 20)):
                file.write(f"{self.lines:08d} {'x' * self._random.randrange(200)}\n")
                self.lines += 1
            file.flush()
            if self._random.random() < 0.01:
                file = self._rotate(file)
        file.close()

    def _rotate(self, file):
        """Rename, write a last line through the old descriptor as a slow application does, open a new file."""
        self.path.rename(self._older[self.rotations])
        self.rotations += 1
        file.write(f"{self.lines:08d} after the rename\n")
        self.lines += 1
        file.close()
        return self.path.open("a")


@pytest.fixture
def standin() -> Iterator[Standin]:
    with Standin.start() as running:
        yield running


def numbers(standin: Standin) -> list[int]:
    """The numbers of all lines that arrived, in the order of their arrival."""
    groups = standin.logs.groups()
    if "/app" not in groups:
        return []
    return [
        int(message[:8])
        for stream in list(groups["/app"].streams)
        for message in standin.logs.messages("/app", stream)
    ]


@pytest.fixture
def agent(tmp_path: Path, standin: Standin) -> Iterator[RealAgent]:
    files = f"[{{path: '{tmp_path}/logs/app.log*', group: /app}}]"
    made = RealAgent(tmp_path, standin, f"logs: {{flush_interval: 100ms, files: {files}}}\n")
    yield made
    made.close()


def test_no_line_is_lost_to_kills_under_rotation_and_faults(
    tmp_path: Path, standin: Standin, agent: RealAgent
) -> None:
    chance = random.Random(20261124)
    logs = tmp_path / "logs"
    logs.mkdir()
    standin.faults.add(Fault(Kind.LOST, service="logs", operation="PutLogEvents", probability=0.05))
    standin.faults.add(Fault(Kind.THROTTLE, service="logs", probability=0.1))
    writer = Writer(logs, seed=7)
    writer.start()
    try:
        for _ in range(KILLS):
            agent.running()
            seen = len(numbers(standin))
            more = chance.randrange(1, 3000)
            eventually(lambda seen=seen, more=more: len(numbers(standin)) >= seen + more)
            agent.kill()
        agent.running()
    finally:
        writer.end.set()
        writer.join()
    standin.faults.clear()
    eventually(lambda: len(set(numbers(standin))) == writer.lines)
    arrived = numbers(standin)
    assert sorted(set(arrived)) == list(range(writer.lines))
    assert writer.rotations > KILLS
    duplicates = len(arrived) - writer.lines
    lost_answers = sum(1 for call in standin.journal.calls() if call.result == "lost")
    assert duplicates <= (KILLS + lost_answers) * 10_000 * 2  # batches in flight at a kill, or whose answer was lost
    assert agent.terminate() == 0
