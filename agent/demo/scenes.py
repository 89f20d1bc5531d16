"""The script: what happens, in which order, for how long, and why it matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.demo.errors import TooLate
from agent.demo.stage import Stage
from agent.engine.clock import Clock

OUTAGE_SECONDS = 4.0


def _nothing() -> None:
    """For a scene in which only time passes."""


@dataclass(frozen=True)
class Scene:
    """A scene begins with `begin`, and ends when `least` seconds have passed and `done` says so, or after `most`."""

    title: str
    text: str  # what happens and why it matters, for who looks on
    least: float
    begin: Callable[[], None] = _nothing
    done: Callable[[], bool] = lambda: True
    most: float = 30.0
    must: str = ""  # what is said where `done` never came; "": the show goes on, and the check at the end tells


class Director:
    """Moves from scene to scene by the clock."""

    def __init__(self, scenes: Sequence[Scene], clock: Clock) -> None:
        self.scenes = scenes
        self.number = -1  # of the scene under way; len(scenes): the show is over
        self.took: list[float] = []  # seconds of each scene that is over
        self._clock = clock
        self._began = 0.0

    @property
    def scene(self) -> Scene | None:
        """The one under way."""
        return self.scenes[self.number] if 0 <= self.number < len(self.scenes) else None

    @property
    def over(self) -> bool:
        return self.number >= len(self.scenes)

    def step(self) -> None:
        """Begin the next scene if it is time. Raises TooLate, and what the scenes raise."""
        if self.over or not self._is_done():
            return
        if self.scene is not None:
            self.took.append(self._clock.monotonic() - self._began)
        self.number += 1
        self._began = self._clock.monotonic()
        if self.scene is not None:
            self.scene.begin()

    def _is_done(self) -> bool:
        scene = self.scene
        if scene is None:
            return True
        elapsed = self._clock.monotonic() - self._began
        if elapsed < scene.least:
            return False
        if scene.done():
            return True
        if elapsed >= scene.most and scene.must:
            raise TooLate(f"{scene.must} within {scene.most:.0f} s")
        return elapsed >= scene.most


def script(stage: Stage, pace: float = 1.0) -> list[Scene]:
    """The show; `pace` below 1 shortens what is only there to be looked at."""
    return [*_ordinary(stage, pace), *_troubles(stage, pace), *_crash(stage, pace), *_farewell(stage, pace)]


def _ordinary(stage: Stage, pace: float) -> list[Scene]:
    return [
        Scene(
            "The agent starts",
            "`outlive run`, the real thing, in a process of its own. AWS is played by strict stand-ins on 127.0.0.1: "
            "no account, no network.",
            0.0,
            stage.start_agent,
            stage.agent_works,
            most=25.0,
            must="the agent did not begin to work",
        ),
        Scene(
            "A busy shop",
            "An access log, an application log with stack traces, StatsD, files in an upload folder: all of it "
            "leaves the instance while it is written.",
            4.0 * pace,
            stage.open_shop,
        ),
        Scene(
            "Log rotation",
            "access.log is renamed under the web server, which writes on into the old file for a moment. The old "
            "file has to be read to its very end.",
            3.0 * pace,
            stage.rotate,
        ),
    ]


def _troubles(stage: Stage, pace: float) -> list[Scene]:
    outage = OUTAGE_SECONDS * pace
    return [
        Scene(
            "AWS outage",
            f"AWS refuses every connection for {outage:.0f} s. Nothing is dropped: the log files themselves are the "
            "spool, and only an answer from AWS moves a cursor.",
            outage,
            lambda: stage.refuse_connections(outage),
        ),
        Scene(
            "Catching up",
            "AWS is back. The agent tries again after growing pauses, as AWS wants it; then what piled up goes "
            "out in order, and the lag shrinks.",
            1.0 * pace,
            done=stage.lines_flow,
            most=6.0,
        ),
        Scene(
            "Files change",
            "Files are dropped, one grows slowly, two are overwritten while they are sent. S3 must end up with the "
            "last version, never with half of one.",
            3.0 * pace,
            stage.change_files,
        ),
    ]


def _crash(stage: Stage, pace: float) -> list[Scene]:
    def crash() -> None:
        stage.kill_agent()
        stage.rotate()

    return [
        Scene(
            "StatsD holds back",
            "kill -9 comes next. UDP to a dead process is lost, whoever wrote that process: so the shop holds its "
            "StatsD back until CloudWatch has all samples.",
            0.5,
            stage.hush_statsd,
            stage.may_crash,
            most=10.0,
        ),
        Scene(
            "kill -9",
            "The agent is gone in the middle of its work. The shop writes on, and its access log is rotated while "
            "nobody looks.",
            2.5 * pace,
            crash,
        ),
        Scene(
            "The agent is back",
            "It finds the renamed file by its identity, not by its name, and goes on behind the last byte that AWS "
            "has acknowledged.",
            0.0,
            stage.start_agent,
            stage.agent_works,
            most=25.0,
            must="the agent did not begin to work again",
        ),
        Scene(
            "Catching up again",
            "StatsD speaks again. What was written in the dark arrives now; what the agent is not sure of it sends "
            "twice rather than never.",
            2.5 * pace,
            stage.resume_statsd,
            stage.lines_flow,
            most=6.0,
        ),
    ]


def _farewell(stage: Stage, pace: float) -> list[Scene]:
    return [
        Scene(
            "The shop closes",
            "A last file is dropped, a last log line is cut off in its middle, and the applications stop. The agent "
            "still owes AWS something.",
            0.5 * pace,
            stage.close_shop,
        ),
        Scene(
            "Termination",
            "Auto Scaling wants the instance gone. Its hook waits: the agent has to empty everything, verify it, "
            "write a receipt, and only then say CONTINUE.",
            1.0 * pace,
            stage.give_notice,
            stage.hook_answered,
            most=40.0,
            must="Auto Scaling's hook got no answer",
        ),
        Scene(
            "The check",
            "Now the demo compares every line, sample and byte that it wrote with what the stand-ins hold, without "
            "asking the agent.",
            0.5 * pace,
        ),
    ]
