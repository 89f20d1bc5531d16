"""One soak: writers, rotators, a faulty stand-in, an agent that is killed, and what it came to."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from real_agent import RealAgent, eventually
from soak_ledger import Arrivals, Journal, troubles_of
from soak_rotation import Plan, Rotator, span_of

from agent.standin.faults import Fault, Kind
from agent.standin.standin import Standin

SEED = int(os.environ.get("OUTLIVE_SEED", "20261124"))
_RATE = float(os.environ.get("OUTLIVE_RATE", "300_000"))  # bytes a second that each writer writes
_ROTATED_SECONDS = 30.0  # after the last kill, until the last log was rotated at least once
_DRAIN_SECONDS = 600.0
_BATCH = 1 << 20  # bytes, as PutLogEvents counts them: the most that one call carries
_STREAMS = 2  # of a log: under its own name, and under that which logrotate gave it while the agent was down
_EARLY = 0.25  # chance of a kill in the first second, when it may not even have begun
_OUTAGES = 10  # kills from one to the next, about
_FAULTS = (
    Fault(Kind.LOST, service="logs", operation="PutLogEvents", probability=0.02),
    Fault(Kind.THROTTLE, service="logs", probability=0.03),
    Fault(Kind.ERROR, service="logs", status=500, code="InternalFailure", probability=0.02),
    Fault(Kind.ERROR, service="logs", status=503, code="ServiceUnavailableException", probability=0.02),
    Fault(Kind.RESET, service="logs", probability=0.02),
    Fault(Kind.HANG, service="logs", seconds=3.0, probability=0.002),
    Fault(Kind.SLOW, service="logs", seconds=0.2, probability=0.05),
)
_NEWEST = """
SELECT json_extract(cursor, '$.offset') FROM log_cursors
WHERE json_extract(cursor, '$.locator.inode') = ? ORDER BY id DESC LIMIT 1
"""


def configuration(plans: Sequence[Plan], home: Path) -> str:
    entries = "\n".join(f"    - {_entry(plan, home)}" for plan in plans)
    return f"drain: {{}}\nlogs:\n  flush_interval: 300ms\n  rotated_linger: 3s\n  files:\n{entries}\n"


def _entry(plan: Plan, home: Path) -> str:
    """An unterminated line waits for its end for longer than any writer here takes to write it."""
    paths = ", ".join(f"'{home}/{plan.name}/{name}'" for name in plan.read)
    return f"{{path: [{paths}], group: /soak/{plan.name}, multiline_timeout: 30s}}"


class Watch(threading.Thread):
    """Takes in what arrives and what the agent says and remembers, for the rotators to ask."""

    def __init__(self, arrivals: Arrivals, agent: RealAgent) -> None:
        super().__init__(name="watch")
        self.end = threading.Event()
        self._arrivals = arrivals
        self._log = agent.log
        self._state = agent.folder / "state" / "state.db"
        self._read = 0
        self._opened: dict[int, float] = {}  # by inode: when the agent last opened it, in seconds since the epoch

    def run(self) -> None:
        while not self.end.wait(0.05):
            self._arrivals.take()
            self._listen()

    def is_opened(self, inode: int, since: float) -> bool:
        """Whether the agent has said so, since that time."""
        return self._opened.get(inode, 0.0) > since

    def is_safe(self, run: str, path: Path) -> bool:
        """Whether all lines of the file have arrived, and its cursor, on disk, is at its end.

        What has arrived tells that the cursor is this content's: what was in the inode before has one, too.
        """
        found, span = path.stat(), span_of(path)
        if span is not None and not self._arrivals.has(run, *span):
            return False
        try:
            with closing(sqlite3.connect(f"file:{self._state}?mode=ro", uri=True, timeout=1.0)) as database:
                row = database.execute(_NEWEST, (found.st_ino,)).fetchone()
        except sqlite3.Error:  # it is not there yet, or just being recovered
            return False
        return row is not None and row[0] >= found.st_size

    def _listen(self) -> None:
        if not self._log.exists():
            return
        with self._log.open("rb") as file:
            file.seek(self._read)
            lines = file.read().rpartition(b"\n")[0]
        self._read += len(lines) + 1 if lines else 0
        for line in lines.splitlines():
            if b'"log_opened"' in line:
                event = json.loads(line)
                self._opened[event["inode"]] = datetime.fromisoformat(event["timestamp"]).timestamp()


class Killer:
    """Starts the agent and kills it at random moments; counts what each kill cost."""

    def __init__(self, agent: RealAgent, standin: Standin, arrivals: Arrivals, streams: int) -> None:
        """`streams`: the agent writes to, at most so many at a time."""
        self.kills = 0
        self.costs: list[int] = []  # bytes that arrived twice, from one kill to the next
        self.lost_answers = 0
        self._agent = agent
        self._standin = standin
        self._arrivals = arrivals
        self._streams = streams
        self._random = random.Random(SEED)
        self._pause = threading.Event()
        self._before = 0
        self._lost_before = 0

    def kill(self) -> None:
        """One life: from a start to a kill, soon or some seconds later, and a while of nothing."""
        if self._random.random() < 1 / _OUTAGES:
            self._standin.faults.outage(self._random.uniform(0.5, 4.0))
        if self._random.random() < _EARLY:
            self._agent.start()
            self._pause.wait(self._random.uniform(0.05, 1.0))
        else:
            self._agent.running()
            self._pause.wait(self._random.uniform(0.0, 4.0))
        assert self._agent.ended() is None, f"it ended by itself; see {self._agent.log}"
        self._agent.kill()
        self.kills += 1
        self._pause.wait(self._random.uniform(0.0, 1.0))
        self.settle()
        self._arrivals.note_death()

    def settle(self) -> None:
        """What arrived twice since last asked is the cost of the kill before, and of answers that were lost."""
        self._arrivals.take()
        total = sum(self._arrivals.duplicates().values())
        self.costs.append(total - self._before)
        self._before = total
        self.lost_answers = next(each["acted"] for each in self._standin.faults.as_json() if each["kind"] == "lost")

    def allowed(self) -> int:
        """Bytes that may arrive twice in all: a batch of each stream for each kill and each answer that was lost."""
        return (self.lost_answers + self.kills * self._streams) * _BATCH


@dataclass(frozen=True)
class Report:
    """What it came to."""

    seconds: float
    killer: Killer
    arrivals: Arrivals
    journals: dict[str, Journal]
    rotators: dict[str, Rotator]
    drained: int  # exit code

    def troubles(self) -> Iterator[str]:
        """Everything that breaks the promise but for what arrives twice; nothing if nothing does."""
        for name, rotator in self.rotators.items():
            yield from troubles_of(self.arrivals.ledgers[name], self.journals[name], self.arrivals.lives)
            yield from (f"{name}: logrotate: {trouble}" for trouble in rotator.troubles)
            if rotator.rotations == 0:
                yield f"{name}: was never rotated"

    def __str__(self) -> str:
        kills, costs = self.killer.kills, self.killer.costs
        head = f"{'log':<10} {'lines':>9} {'lost':>6} {'twice':>8} {'rotations':>9} {'postponed':>9}"
        rows = [self._row(name) for name in self.rotators]
        each = f"{sum(costs) / kills / 1000:.0f} kB, at most {max(costs) / 1000:.0f} kB"
        return "\n".join(
            [
                f"{kills} kills and {self.killer.lost_answers} lost answers in {self.seconds:.0f} s",
                *(head, *rows),
                f"twice for each kill: {each}; drain: exit code {self.drained}",
            ]
        )

    def _row(self, name: str) -> str:
        ledger, rotator, written = self.arrivals.ledgers[name], self.rotators[name], self.journals[name].written
        lost = len(ledger.lost(written))
        return (
            f"{name:<10} {written:>9} {lost:>6} {ledger.duplicates:>8} {rotator.rotations:>9} {rotator.postponed:>9}"
        )


def soak(agent: RealAgent, standin: Standin, plans: Sequence[Plan], logrotate: str, kills: int) -> Report:
    """Kill the agent so many times, then drain it; everything that was started has ended but the agent."""
    began = time.monotonic()
    for fault in _FAULTS:
        standin.faults.add(fault)
    arrivals = Arrivals(standin, [plan.name for plan in plans])
    killer = Killer(agent, standin, arrivals, len(plans) * _STREAMS)
    with _watching(arrivals, agent) as watch:
        with _writing(plans, agent.folder), _rotating(plans, agent.folder, logrotate, watch) as rotators:
            for _ in range(kills):
                killer.kill()
            agent.running()
            with suppress(AssertionError):  # the report says more: what is lost holds up a rotation for ever
                eventually(lambda: all(each.rotations for each in rotators.values()), patience=_ROTATED_SECONDS)
        drained = _drain(agent)
    killer.settle()
    journals = {plan.name: Journal.read(agent.folder / f"{plan.name}.journal") for plan in plans}
    return Report(time.monotonic() - began, killer, arrivals, journals, rotators, drained)


@contextmanager
def _watching(arrivals: Arrivals, agent: RealAgent) -> Iterator[Watch]:
    watch = Watch(arrivals, agent)
    watch.start()
    try:
        yield watch
    finally:
        watch.end.set()
        watch.join()


@contextmanager
def _writing(plans: Sequence[Plan], home: Path) -> Iterator[None]:
    """A writer for each plan, as processes, until the end of the block."""
    writers = [_writer(plan, home, number) for number, plan in enumerate(plans)]
    try:
        eventually(lambda: all((home / f"{plan.name}.pid").exists() for plan in plans))
        yield
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGTERM)
        for writer in writers:
            writer.wait(timeout=30)


def _writer(plan: Plan, home: Path, number: int) -> subprocess.Popen[bytes]:
    (home / plan.name / "old").mkdir(parents=True)
    program = Path(__file__).with_name("soak_writer.py")
    how = ["whole"] if plan.copies else []
    log = home / plan.name / "app.log"
    return subprocess.Popen([sys.executable, str(program), str(log), plan.name, str(_RATE), str(SEED + number), *how])


@contextmanager
def _rotating(plans: Sequence[Plan], home: Path, program: str, watch: Watch) -> Iterator[dict[str, Rotator]]:
    rotators = {
        plan.name: Rotator(plan, home, program, SEED + number, is_safe=watch.is_safe, is_opened=watch.is_opened)
        for number, plan in enumerate(plans)
    }
    for rotator in rotators.values():
        rotator.start()
    try:
        yield rotators
    finally:
        for rotator in rotators.values():
            rotator.end.set()
        for rotator in rotators.values():
            rotator.join()


def _drain(agent: RealAgent) -> int:
    """`outlive drain`, waited for; its exit code."""
    command = agent.command("drain", "--wait", "--deadline", f"{_DRAIN_SECONDS:.0f}s")
    patience = _DRAIN_SECONDS + 60
    done = subprocess.run(command, env=agent.environment, capture_output=True, timeout=patience, check=False)
    return done.returncode
