"""A writer, rotation, faults and kills in any order, against a model of what was written.

Nothing is lost but what nobody could read any more; nothing arrives twice but what was under way when the process was
killed or an answer was lost; and a cursor is never beyond what arrived.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from logs_harness import STEPS, Entry, Rig

from agent.aws.errors import AnswerLost, AwsError, Denied, Throttled, Unreachable
from agent.logs.tail import TailedFile

NAMES = ["app.log", "app.log.1", "app.log.2", "app.log.3"]
FAULTS: list[AwsError] = [
    Throttled("PutLogEvents", "ThrottlingException", "Rate exceeded", 400),
    Unreachable("PutLogEvents", "OSError"),
    Denied("PutLogEvents", "AccessDeniedException", "", 400),
]


class Killed(BaseException):
    """The process ends here."""


@dataclass(eq=False)
class Unit:
    """What is written at once: a line, or a half of one. `end` is its end in the file, with what ends the line."""

    text: str
    end: int
    excused: bool = False  # nobody could read it
    fragile: bool = False  # only in the agent's memory: gone with the process


@dataclass(eq=False)
class Content:
    """What a file holds, from when it was made or last truncated."""

    inode: int
    units: list[Unit] = field(default_factory=list)
    size: int = 0
    opened: bool = False  # by the agent, at some time
    visible: bool = True  # to who looks by names
    before: TailedFile | None = None  # what the agent made of what the inode held before


class Machine(RuleBasedStateMachine):
    """The rules are what may happen; `pattern` is what the agent is told to read."""

    pattern = "app.log*"

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="outlive-machine-"))
        self.rig = Rig(self.home, Entry(self.pattern, flush=2.0, quiet=3.0), senders=2, linger=30.0, tick=0.001)
        self.down = False
        self.contents: list[Content] = []
        self.present: dict[str, Content] = {}  # by name
        self.half: Unit | None = None  # written, and the other half is to come
        self.joined: dict[str, tuple[Unit, Unit]] = {}  # a whole line -> its halves
        self.spare: Counter[str] = Counter()  # how often a message may come once more
        self.number = 0

    # -- the writer

    def put(self, content: Content, name: str, *texts: str) -> list[Unit]:
        with self.rig.path(name).open("ab") as file:
            units = []
            for text in texts:
                file.write(text.encode())
                content.size += len(text)
                units.append(Unit(text.rstrip("\n"), content.size, excused=not content.visible))
        content.units += units
        return units

    def live(self) -> Content:
        """The content that writers append to."""
        if NAMES[0] not in self.present:
            self.rig.path(NAMES[0]).touch()
            self.present[NAMES[0]] = Content(self.rig.path(NAMES[0]).stat().st_ino)
            self.contents.append(self.present[NAMES[0]])
        return self.present[NAMES[0]]

    def next_text(self, filler: int) -> str:
        self.number += 1
        return f"{self.number:06d}{'.' * filler}"

    @rule(count=st.integers(1, 12), filler=st.integers(0, 150))
    def append(self, count: int = 3, filler: int = 5) -> None:
        self.finish_line()
        self.put(self.live(), NAMES[0], *[f"{self.next_text(filler)}\n" for _ in range(count)])

    @rule(filler=st.integers(0, 150))
    @precondition(lambda self: self.half is None)
    def half_a_line(self, filler: int) -> None:
        (self.half,) = self.put(self.live(), NAMES[0], f"<{self.next_text(filler)}")

    @rule()
    @precondition(lambda self: self.half is not None)
    def finish_line(self) -> None:
        """The other half; the file may be another by now."""
        if self.half is not None:
            (other,) = self.put(self.live(), NAMES[0], f"{self.next_text(3)}>\n")
            self.joined[self.half.text + other.text] = (self.half, other)
            self.half = None

    @rule(number=st.integers(1, 3))
    def append_to_a_rotated_file(self, number: int = 1) -> None:
        """A writer that has not yet reopened its file, as long as somebody can see it."""
        content = self.present.get(NAMES[number])
        if content is None or any(unit.text.startswith("<") for unit in content.units[-1:]):
            return  # to a line without its end this would be the end
        if self.pattern.endswith("*") or content.inode in self.followed():
            self.put(content, NAMES[number], f"{self.next_text(0)}\n")

    # -- rotation

    @rule()
    def rotate(self) -> None:
        if NAMES[3] in self.present:
            self.delete(NAMES[3])
        for old, new in reversed(list(pairwise(NAMES))):
            if old in self.present:
                self.note_opened()
                self.rig.path(old).rename(self.rig.path(new))
                content = self.present[new] = self.present.pop(old)
                if not self.pattern.endswith("*") and not content.opened:
                    content.visible = False
                    self.excuse(content.units)

    @rule()
    @precondition(lambda self: NAMES[0] in self.present)
    def delete_live(self) -> None:
        self.delete(NAMES[0])

    def delete(self, name: str) -> None:
        content = self.present.pop(name)
        self.rig.path(name).unlink()
        self.leave_to_memory(content, held=True)

    @rule()
    @precondition(lambda self: NAMES[0] in self.present)
    def truncate(self) -> None:
        """As copytruncate does; the copy is nobody's."""
        content = self.present[NAMES[0]]
        self.note_opened()
        os.truncate(self.rig.path(NAMES[0]), 0)
        self.leave_to_memory(content, held=False)
        before = self.followed().get(content.inode)
        self.present[NAMES[0]] = Content(content.inode, opened=content.opened, before=before)
        self.contents.append(self.present[NAMES[0]])

    def leave_to_memory(self, content: Content, *, held: bool) -> None:
        """The file is gone but for what the agent has read, or holds open."""
        file = self.followed().get(content.inode)
        read = -1 if file is None else 0 if file is content.before else file.read
        for unit in content.units:
            unit.fragile = read >= 0 and (held or unit.end <= read)
            unit.excused |= not unit.fragile and not self.has_arrived(unit)

    # -- the agent

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 3.0, 10.0, 70.0]))
    @precondition(lambda self: not self.down)
    def run(self, seconds: float) -> None:
        self.rig.run(seconds)

    @rule(kind=st.sampled_from(["kill", "stop"]))
    @precondition(lambda self: not self.down)
    def end(self, kind: str) -> None:
        self.note_opened()
        if kind == "kill":
            self.rig.crash()
        else:
            self.rig.stop()
        self.forget()

    @rule()
    @precondition(lambda self: self.down)
    def start(self) -> None:
        self.rig.start()
        self.down = False

    @rule()
    @precondition(lambda self: not self.down and self.rig.logs.down is None)
    def kill_inside_a_call(self) -> None:
        """The events are accepted, and the process is gone before it hears of it."""

        def kill() -> None:
            self.note_opened()
            self.spare.update(self.rig.logs.calls[-1].messages)
            raise Killed

        self.rig.logs.meanwhile.clear()
        self.rig.logs.meanwhile.append(kill)
        self.append()
        try:
            self.rig.run(5)
        except Killed:
            self.rig.crash()
            self.forget()
        self.rig.logs.meanwhile.clear()

    @rule(what=st.sampled_from(["append", "rotate", "truncate", "delete_live", "run"]))
    @precondition(lambda self: not self.down)
    def while_an_answer_is_on_its_way(self, what: str) -> None:
        """The next call takes so long that other things happen before its answer."""
        acts: dict[str, Callable[[], None]] = {"append": self.append, "rotate": self.rotate}
        acts |= {"truncate": self.truncate, "delete_live": self.delete_live, "run": lambda: self.rig.run(3)}

        def act() -> None:
            if NAMES[0] in self.present:
                acts[what]()
            self.rig.run(0.5)

        self.rig.logs.meanwhile.append(act)

    @rule(fault=st.sampled_from(FAULTS))
    @precondition(lambda self: self.rig.logs.down is None)
    def break_the_sink(self, fault: AwsError) -> None:
        self.rig.logs.down = fault

    @rule()
    @precondition(lambda self: self.rig.logs.down is not None)
    def mend_the_sink(self) -> None:
        self.rig.logs.down = None

    @rule()
    def lose_an_answer(self) -> None:
        self.rig.logs.next.append(AnswerLost("PutLogEvents", "TimeoutError"))

    # -- what is known of it

    def followed(self) -> dict[int, TailedFile]:
        """What the agent has open, by inode."""
        return {} if self.down else {file.cursor.locator.inode: file for file in self.rig.files if not file.sealed}

    def note_opened(self) -> None:
        for content in self.present.values():
            content.opened |= content.inode in self.followed()

    def forget(self) -> None:
        """The process is gone, and its memory."""
        self.down = True
        self.rig.logs.meanwhile.clear()
        self.excuse([unit for content in self.contents for unit in content.units if unit.fragile])

    def excuse(self, units: list[Unit]) -> None:
        for unit in units:
            unit.fragile = False
            unit.excused |= not self.has_arrived(unit)

    def has_arrived(self, unit: Unit) -> bool:
        return self.arrivals()[unit.text] > 0

    def arrivals(self) -> Counter[str]:
        """How often each unit has arrived, by itself or as a half of a line."""
        counts: Counter[str] = Counter()
        for message, count in Counter(self.rig.logs.messages()).items():
            for unit in self.joined.get(message, ()):
                counts[unit.text] += count
            if message not in self.joined:
                counts[message] += count
        return counts

    def allowed(self) -> Counter[str]:
        """How often each unit may arrive."""
        allowed = Counter(unit.text for content in self.contents for unit in content.units)
        lost = [call.messages for call in self.rig.logs.calls if call.outcome == "TimeoutError"]
        spare = self.spare + Counter(message for messages in lost for message in messages)
        for message, count in spare.items():
            for text in [unit.text for unit in self.joined.get(message, ())] or [message]:
                allowed[text] += count
        return allowed

    @invariant()
    def nothing_is_made_up_or_comes_too_often(self) -> None:
        surplus = self.arrivals() - self.allowed()
        assert not surplus, f"too often: {surplus}"

    @invariant()
    def no_cursor_is_beyond_what_arrived(self) -> None:
        if self.down:
            return
        arrived, followed = self.arrivals(), self.followed()
        for content in self.present.values():
            file = followed.get(content.inode)
            if file is not None and file is not content.before:
                behind = [unit for unit in content.units if unit.end <= file.acknowledged]
                assert all(arrived[unit.text] or unit.excused for unit in behind)

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
        self.rig.logs.meanwhile.clear()
        if self.down:
            self.start()
        self.append()
        self.rig.run(150)
        arrived = self.arrivals()
        units = [unit for content in self.contents for unit in content.units]
        lost = [unit.text for unit in units if not arrived[unit.text] and not unit.excused]
        assert lost == []
        self.nothing_is_made_up_or_comes_too_often()
        assert all(file.idle for file in self.rig.files)
        assert self.rig.input.unreadable == {}
        if not self.spare and not any(unit.excused for unit in units):
            assert self.rig.counter("log_bytes_lost") == 0


class MachineOfOneName(Machine):
    """Rotated files have names that the agent was not told."""

    pattern = "app.log"


LIMITS = settings(
    max_examples=max(1, STEPS // 50), stateful_step_count=50, deadline=None, derandomize=STEPS <= 500, print_blob=True
)
TestInside = Machine.TestCase
TestInside.settings = LIMITS
TestOutside = MachineOfOneName.TestCase
TestOutside.settings = LIMITS
