"""The real process and its log files: killed under rotation, stopped in an outage, kept from a file by its mode."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from logs_harness import check, check_order, lines
from real_agent import RealAgent, eventually

from agent.standin.faults import Fault, Kind
from agent.standin.standin import Standin

KILLS = int(os.environ.get("OUTLIVE_KILLS", "10")) // 2
NOBODY = 65534


@pytest.fixture
def standin() -> Iterator[Standin]:
    with Standin.start() as running:
        yield running


def messages(standin: Standin) -> list[str]:
    """What arrived in /app, in the order of arrival."""
    group = standin.logs.groups().get("/app")
    return [each for stream in list(group.streams) for each in standin.logs.messages("/app", stream)] if group else []


def has_arrived(standin: Standin, count: int) -> bool:
    return len(messages(standin)) >= count


class Writer(threading.Thread):
    """Writes numbered lines to app.log, which it renames now and then: to names that the agent was not told.

    A generation is renamed only after the agent has opened it, and never deleted.
    """

    def __init__(self, path: Path, opened: threading.Event, seed: int) -> None:
        super().__init__(name="writer")
        self.generations: list[list[str]] = [[]]
        self.end = threading.Event()
        self._path = path
        self._opened = opened
        self._random = random.Random(seed)

    def run(self) -> None:
        number = 0
        while not self.end.wait(0.002):
            for _ in range(self._random.randrange(1, 10)):
                number += 1
                self._write(f"{number:08d} {'x' * self._random.randrange(100)}")
            if self._opened.is_set():
                self._opened.clear()
                self._path.rename(self._path.with_name(f"app.log.{len(self.generations)}"))
                self.generations.append([])

    def _write(self, line: str) -> None:
        with self._path.open("a") as file:
            file.write(f"{line}\n")
        self.generations[-1].append(line)


@pytest.fixture
def agent(tmp_path: Path, standin: Standin) -> Iterator[RealAgent]:
    (tmp_path / "logs").mkdir()
    files = f"[{{path: {tmp_path}/logs/app.log, group: /app}}]"
    made = RealAgent(tmp_path, standin, f"logs: {{flush_interval: 100ms, files: {files}}}\n")
    yield made
    made.close()


def opened(agent: RealAgent, path: Path) -> bool:
    """Whether the agent has opened the file that is at `path` now."""
    inode = path.stat().st_ino if path.exists() else -1
    return any(event["inode"] == inode for event in agent.events("log_opened"))


def test_killed_while_files_are_renamed_out_of_its_sight_it_brings_each_generation_in_order(
    tmp_path: Path, standin: Standin, agent: RealAgent
) -> None:
    chance, rotate, path = random.Random(11), threading.Event(), tmp_path / "logs" / "app.log"
    writer = Writer(path, rotate, seed=3)
    writer.start()
    try:
        for _ in range(KILLS):
            agent.running()
            eventually(lambda: opened(agent, path))
            rotate.set()
            wanted = len(messages(standin)) + chance.randrange(1, 400)
            eventually(partial(has_arrived, standin, wanted))
            agent.kill()
        agent.running()
    finally:
        writer.end.set()
        writer.join()
    written = [line for generation in writer.generations for line in generation]
    eventually(lambda: set(messages(standin)) >= set(written))
    arrived = messages(standin)
    check(written, arrived, duplicates=KILLS * 2 * 10_000)
    assert len(arrived) - len(written) < len(written)
    assert len(writer.generations) > KILLS // 2
    for generation in writer.generations:
        check_order(generation, arrived)
    assert agent.terminate() == 0


def test_stopped_while_cloudwatch_hangs_it_ends_in_time_and_sends_the_rest_after_the_next_start(
    tmp_path: Path, standin: Standin, agent: RealAgent
) -> None:
    path = tmp_path / "logs" / "app.log"
    path.write_text("".join(f"{line}\n" for line in lines(100)))
    agent.running()
    eventually(lambda: messages(standin) == lines(100))
    hang = standin.faults.add(Fault(Kind.HANG, service="logs", seconds=60))
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines(100, 100)))
    eventually(lambda: standin.faults.as_json()[0]["acted"])
    agent.signal(15)
    assert agent.wait(patience=3.0 + 5.0) == 0  # stop_timeout, and some for a busy machine
    (said,) = agent.events("stopped")
    assert said["clean"] is False
    standin.faults.remove(hang)
    agent.running()
    eventually(lambda: len(messages(standin)) >= 200)
    check(lines(200), messages(standin))
    assert agent.terminate() == 0


HEED_MODES = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: with neither, modes count for root too
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP of prctl(2)
os.execv(sys.argv[1], sys.argv[1:])
"""


class BoundAgent(RealAgent):
    """The agent without the right to read everything."""

    def start(self) -> None:
        command = [sys.executable, "-c", HEED_MODES, *self.command("run")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_that_it_may_not_read_is_named_in_status_until_it_may(tmp_path: Path, standin: Standin) -> None:
    for file in ("open.txt", "closed.txt"):
        (tmp_path / file).write_text(f"{file}\n")
    (tmp_path / "closed.txt").chmod(0o600)
    os.chown(tmp_path / "closed.txt", NOBODY, NOBODY)
    files = f"[{{path: {tmp_path}/*.txt, group: /app}}]"
    agent = BoundAgent(tmp_path, standin, f"logs: {{flush_interval: 100ms, files: {files}}}\n")
    try:
        agent.running()
        eventually(lambda: messages(standin) == ["open.txt"])
        shown = json.loads(agent.call("status", "--json").stdout)
        (row,) = [row for row in shown["logs"] if row["error"]]
        assert (row["path"], row["size"], row["error"]) == (f"{tmp_path}/closed.txt", 11, "Permission denied")
        assert shown["debt"]["bytes"] == 11
        assert "closed.txt" in agent.call("status").stdout
        (tmp_path / "closed.txt").chmod(0o644)
        eventually(lambda: set(messages(standin)) == {"open.txt", "closed.txt"})
        assert agent.terminate() == 0
    finally:
        agent.close()
