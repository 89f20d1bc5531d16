"""START HERE. The show from its set-up to the verdict, and the end of everything that was started for it.

    shop (files and UDP of this process) ──> agent (a process) ──> stand-ins for AWS (a process)
      └─────────────── the check: what was written against what arrived ───────────────┘

One loop moves everything a little, ten times a second: the shop, the script, the view.
"""

from __future__ import annotations

import errno
import shutil
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.demo.cast import Cast
from agent.demo.check import Verdict, judge
from agent.demo.errors import DemoError, TooLate
from agent.demo.folder import Folder
from agent.demo.interrupts import Interrupts
from agent.demo.outcome import failures, last_line, not_proven, render, to_look_at
from agent.demo.receipt import Evidence
from agent.demo.scenes import Director, script
from agent.demo.stage import Stage
from agent.demo.view import choose
from agent.engine.clock import Clock, SystemClock

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

EXIT_PROVEN, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130
_TICK_SECONDS = 0.1  # between two steps of everything


@dataclass(frozen=True)
class Settings:
    """`keep` leaves folder and stand-ins for a look; `pace` below 1 shortens what is only there to be looked at."""

    keep: bool = False
    pace: float = 1.0


def perform(settings: Settings, console: Console) -> int:
    """The whole demo; the exit code. For the main thread, whose signals it takes meanwhile."""
    last: RenderableType | None = None
    with Interrupts() as interrupts:
        show = _Show(settings, console, SystemClock(), interrupts)
        try:
            with interrupts.raising():
                code, last = _attempt(show)
        except KeyboardInterrupt:
            code, last = EXIT_INTERRUPTED, None
        finally:
            ended = show.clear_away()
    show.say_what_is_left()
    if last is None:
        last = f"interrupted; ended: {', '.join(ended) or 'nothing'}"
    console.print(last, highlight=False, soft_wrap=True)
    return code


def _attempt(show: _Show) -> tuple[int, RenderableType]:
    """Exit code and last line; whatever can be foreseen is a plain line."""
    try:
        return show.run()
    except DemoError as error:
        return EXIT_FAILED, not_proven(str(error))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "; the demo needs some 50 MB there, or set TMPDIR to another place" if full else ""
        return EXIT_FAILED, not_proven(f"{error}{hint}")


class _Show:
    """One performance, and what has to be cleared away after it."""

    def __init__(self, settings: Settings, console: Console, clock: Clock, interrupts: Interrupts) -> None:
        self._settings = settings
        self._console = console
        self._clock = clock
        self._cast = Cast(interrupts)
        self._folder: Folder | None = None
        self._stage: Stage | None = None
        self._complete = False

    def run(self) -> tuple[int, RenderableType]:
        """Exit code and last line. Raises DemoError, OSError."""
        self._say("outlive demo: setting the stage ...")
        self._folder = Folder.make()
        self._stage = Stage.set_up(self._cast, self._folder, self._clock)
        with closing(self._stage):
            verdict, evidence = self._play(self._stage)
        self._complete = True
        written = self._stage.shop.written
        self._console.print(render(verdict, written, evidence))
        for line in failures(verdict):
            self._say(f"  {line}")
        if self._settings.keep:
            for line in to_look_at(self._folder, self._stage.cloud.url, self._stage.standins.pid):
                self._say(line)
        return EXIT_PROVEN if verdict.proven else EXIT_FAILED, last_line(verdict, written, evidence)

    def clear_away(self) -> list[str]:
        """End what still runs, remove the folder, as far as they are not to be kept; what was ended."""
        stays = self._stage.standins if self._stage and self._complete and self._settings.keep else None
        ended = self._cast.dismiss(but=stays)
        if self._folder is not None and not self._settings.keep:
            shutil.rmtree(self._folder.root, ignore_errors=True)
        return ended

    def say_what_is_left(self) -> None:
        """After a show that was broken off, with --keep: its folder."""
        if self._folder is not None and self._settings.keep and not self._complete:
            self._say(f"Kept: {self._folder.root}; all processes have ended")

    def _play(self, stage: Stage) -> tuple[Verdict, Evidence]:
        director = Director(script(stage, self._settings.pace), self._clock)
        with choose(self._console, self._clock) as view:
            try:
                while not director.over:
                    stage.step()
                    director.step()
                    view.show(director, stage.progress(), {"agent": stage.agent_state(), "AWS": stage.aws_state()})
                    time.sleep(_TICK_SECONDS)
            except TooLate as error:
                raise TooLate(f"{error}; the agent's last words: {stage.last_words()}") from None
            evidence = stage.evidence(stage.end_agent())
            return judge(stage.shop.written, stage.arrived(), evidence), evidence

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
