"""The one reading thread's work: scan for files, look at each, read in turns, close what is finished."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.engine.clock import Clock
from agent.logs.input import Input
from agent.logs.tail import TailedFile

SCAN_SECONDS = 2.0  # between two looks at the directories
HOT_SECONDS = 0.25  # between two looks at a file that grew lately
IDLE_SECONDS = 1.0  # the same for one that did not
HURRY_SECONDS = 0.05  # while draining
HURRY_SCAN_SECONDS = 0.25
_HOT_FOR = 10.0  # seconds after its last growth that a file counts as hot


@dataclass(frozen=True, eq=False)
class Haste:
    """How the reader goes about it; each one is a wish of its own, even if it says the same as the last."""

    hurry: bool  # do not wait for batches to fill, or for the next look
    open_lines: bool  # hand over lines that have no end yet, too


class Reader:
    """A worker over all inputs."""

    name = "logs-reader"

    def __init__(self, inputs: Sequence[Input], clock: Clock) -> None:
        self._inputs = inputs
        self._clock = clock
        self._next_scan = 0.0
        self._looks: dict[int, float] = {}  # id of a file -> when to look at it again
        self._lock = threading.Lock()
        self._haste = Haste(hurry=False, open_lines=False)
        self._scan_wanted = True
        self.quiet = False  # in haste: the last pass, begun after that was wished for, found nothing left to do
        self.on_quiet: Callable[[], None] = lambda: None

    def set_hurry(self, on: bool, *, open_lines: bool = True) -> None:
        """From the next pass on: scan at once, wait for nothing. Safe from any thread."""
        with self._lock:
            self._scan_wanted = True
            self._haste = Haste(on, on and open_lines)
            self.quiet = False

    def step(self, now: float) -> float:
        haste = self._haste
        if self._scan_wanted or now >= self._next_scan:
            self._scan_wanted = False
            self._scan(now, haste)
        more = self._pass(now, haste)
        self._note_quiet(haste)
        if more:
            return now
        return self._next_time(now, haste)

    def _scan(self, now: float, haste: Haste) -> None:
        for input_ in self._inputs:
            input_.scan(now)
            input_.close_finished(now)
        self._next_scan = now + (HURRY_SCAN_SECONDS if haste.hurry else SCAN_SECONDS)
        alive = {id(file) for input_ in self._inputs for file in input_}
        self._looks = {key: when for key, when in self._looks.items() if key in alive}

    def _pass(self, now: float, haste: Haste) -> bool:
        """One turn for each file that is due; True if some file has more to read at once."""
        more = False
        for input_ in self._inputs:
            for file in input_:
                if haste.hurry or file.read < file.size or now >= self._looks.get(id(file), 0.0):
                    more |= self._visit(input_, file, now, haste)
        return more

    def _visit(self, input_: Input, file: TailedFile, now: float, haste: Haste) -> bool:
        was_detached = file.detached
        more = input_.visit(file, now, self._clock.time(), hurry=haste.hurry, final=haste.open_lines)
        if file.detached and not was_detached:
            self._next_scan = now  # something new may be at its path
        interval = HOT_SECONDS if now - file.grown_at < _HOT_FOR else IDLE_SECONDS
        self._looks[id(file)] = min(now + interval, max(file.due(now), now + HURRY_SECONDS))
        return more

    def _note_quiet(self, haste: Haste) -> None:
        """Whether every file was found read, sent and acknowledged; counts if nobody wished otherwise meanwhile."""
        with self._lock:
            if haste is self._haste:
                self.quiet = haste.hurry and all(_is_done(file, haste) for each in self._inputs for file in each)
                if self.quiet:
                    self.on_quiet()

    def _next_time(self, now: float, haste: Haste) -> float:
        if haste.hurry:
            return now + HURRY_SECONDS
        looks = [self._looks.get(id(file), now) for input_ in self._inputs for file in input_]
        return max(min([self._next_scan, *looks]), now + HURRY_SECONDS)


def _is_done(file: TailedFile, haste: Haste) -> bool:
    return file.error is None and (file.idle if haste.open_lines else file.at_rest)
