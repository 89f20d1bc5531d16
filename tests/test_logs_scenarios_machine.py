"""Rotation of every kind in any order, where every byte that was ever written stays somewhere beside the log.

Then nothing may be lost: renamed, copied and cut off, moved by copying, compressed; looked at or not; killed,
stopped, with faults of the service. And nothing comes twice unless a copy, a move or a lost answer explains it.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from hashlib import shake_128
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from logs_harness import STEPS, Entry, Rig

from agent.aws.errors import AnswerLost, Throttled, Unreachable

FAULTS = [
    Throttled("PutLogEvents", "ThrottlingException", "Rate exceeded", 400),
    Unreachable("PutLogEvents", "OSError"),
]


def line(number: int, size: int) -> str:
    """No two alike, nor any two parts of one: content that repeats itself is no evidence of a copy."""
    return f"{number:06d} {shake_128(str(number).encode()).hexdigest(size)}"


class Machine(RuleBasedStateMachine):
    """`pattern` is what the agent is told to read; rotated logs are app.log-20260001 and so on."""

    pattern = "app.log"

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="outlive-machine-"))
        self.rig = Rig(self.home, Entry(self.pattern, flush=2.0, quiet=3.0), senders=2, linger=30.0, tick=0.001)
        self.down = False
        self.number = 0
        self.generation = 0
        self.written: list[str] = []
        self.rotated: list[Path] = []  # not compressed
        self.excused = False  # something happened that may cost duplicates
        self.append()
        self.rig.run(5)

    @rule(count=st.integers(3, 30), filler=st.integers(100, 250))
    def append(self, count: int = 3, filler: int = 100) -> None:
        more = [line(number, filler) for number in range(self.number, self.number + count)]
        self.number += count
        self.written += more
        self.rig.write("app.log", more)

    def next_name(self) -> Path:
        self.generation += 1
        return self.rig.path(f"app.log-{20260000 + self.generation}")

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 3.0, 10.0, 70.0]))
    @precondition(lambda self: not self.down)
    def run(self, seconds: float) -> None:
        self.rig.run(seconds)

    @rule(kind=st.sampled_from(["kill", "stop"]))
    @precondition(lambda self: not self.down)
    def end(self, kind: str) -> None:
        if kind == "kill":
            self.rig.crash()
        else:
            self.rig.stop()
        self.down = True

    @rule()
    @precondition(lambda self: self.down)
    def start(self) -> None:
        self.rig.start()
        self.down = False

    @rule(fault=st.sampled_from(FAULTS))
    @precondition(lambda self: self.rig.logs.down is None)
    def break_the_sink(self, fault: Throttled | Unreachable) -> None:
        self.rig.logs.down = fault

    @rule()
    @precondition(lambda self: self.rig.logs.down is not None)
    def mend_the_sink(self) -> None:
        self.rig.logs.down = None

    @rule()
    def lose_an_answer(self) -> None:
        self.excused = True
        self.rig.logs.next.append(AnswerLost("PutLogEvents", "TimeoutError"))

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            if not self.down:
                self.rig.crash()
            shutil.rmtree(self.home)

    def settle(self) -> None:
        """All faults end; then everything has to arrive."""
        self.rig.logs.down = None
        self.rig.logs.next.clear()
        if self.down:
            self.start()
        self.append()
        self.rig.run(300)
        arrived = self.rig.logs.messages()
        assert [line for line in self.written if line not in set(arrived)] == []
        assert set(arrived) <= set(self.written)
        assert self.rig.said.fields("log_lost") == self.rig.said.fields("log_generation_missed") == []
        assert all(file.idle for file in self.rig.files)
        if not self.excused:
            assert len(arrived) == len(self.written)


class Renamed(Machine):
    """Rotated by renaming."""

    @rule(times=st.integers(1, 4))
    def rotate(self, times: int) -> None:
        """Renamed and made anew, several times before anybody looks."""
        for _ in range(times):
            self.rotated.append(self.next_name())
            self.rig.path("app.log").rename(self.rotated[-1])
            self.append()

    @rule(index=st.integers(0, 3))
    @precondition(lambda self: self.rotated)
    def rename_again(self, index: int) -> None:
        path = self.rotated.pop(min(index, len(self.rotated) - 1))
        self.rotated.append(self.next_name())
        path.rename(self.rotated[-1])


class Compressed(Machine):
    """What was rotated is compressed now and then."""

    @rule(index=st.integers(0, 3))
    @precondition(lambda self: self.rotated)
    def compress(self, index: int) -> None:
        path = self.rotated.pop(min(index, len(self.rotated) - 1))
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


class Renaming(Renamed, Compressed):
    """By renaming, out of the pattern; what was renamed is compressed now and then."""


class RenamingInside(Renamed):
    """By renaming inside the pattern; what was renamed is moved to another disk now and then."""

    pattern = "app.log*"

    @rule(index=st.integers(0, 3))
    @precondition(lambda self: self.rotated)
    def move_by_copying(self, index: int) -> None:
        self.excused = True
        path = self.rotated.pop(min(index, len(self.rotated) - 1))
        self.rotated.append(self.next_name())
        shutil.copy2(path, self.rotated[-1])
        path.unlink()


class Truncating(Compressed):
    """By copytruncate; the copies are compressed now and then."""

    @rule()
    def copytruncate(self) -> None:
        self.excused = True
        self.rotated.append(self.next_name())
        shutil.copy2(self.rig.path("app.log"), self.rotated[-1])
        os.truncate(self.rig.path("app.log"), 0)
        self.append()


class Mixed(Renaming, Truncating):
    """Both by turns, as after a change of logrotate's configuration."""


LIMITS = settings(
    max_examples=max(1, STEPS // 50), stateful_step_count=24, deadline=None, derandomize=STEPS <= 500, print_blob=True
)
TestRenaming = Renaming.TestCase
TestRenamingInside = RenamingInside.TestCase
TestTruncating = Truncating.TestCase
TestMixed = Mixed.TestCase
TestRenaming.settings = TestRenamingInside.settings = TestTruncating.settings = TestMixed.settings = LIMITS
