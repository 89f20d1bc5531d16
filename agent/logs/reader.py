"""The one reading thread's work: scan for files, look at each, read in turns, close what is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.engine.clock import Clock
from agent.logs.input import Input
from agent.logs.tail import TailedFile

SCAN_SECONDS = 2.0  # between two looks at the directories
HOT_SECONDS = 0.25  # between two looks at a file that grew lately
IDLE_SECONDS = 1.0  # the same for one that did not
HURRY_SECONDS = 0.05  # while draining
HURRY_SCAN_SECONDS = 0.25
_HOT_FOR = 10.0  # seconds after its last growth that a file counts as hot


class Reader:
    """A worker over all inputs."""

    name = "logs-reader"

    def __init__(self, inputs: Sequence[Input], clock: Clock) -> None:
        self._inputs = inputs
        self._clock = clock
        self._next_scan = 0.0
        self._looks: dict[int, float] = {}  # id of a file -> when to look at it again
        self.hurry = False
        self._scan_wanted = True
        self.quiet_since: float | None = None  # start of the first of the passes since which nothing was left to do
        self.on_quiet: Callable[[], None] = lambda: None

    def set_hurry(self, on: bool) -> None:
        """From the next pass on: scan at once, wait for nothing. Safe from any thread."""
        self._scan_wanted = True
        self.hurry = on
        self.quiet_since = None

    def step(self, now: float) -> float:
        if self._scan_wanted or now >= self._next_scan:
            self._scan_wanted = False
            self._scan(now)
        more = self._pass(now)
        self._note_quiet(now)
        if more:
            return now
        return self._next_time(now)

    def _scan(self, now: float) -> None:
        for input_ in self._inputs:
            input_.scan(now)
            input_.close_finished(now)
        self._next_scan = now + (HURRY_SCAN_SECONDS if self.hurry else SCAN_SECONDS)
        alive = {id(file) for input_ in self._inputs for file in input_}
        self._looks = {key: when for key, when in self._looks.items() if key in alive}

    def _pass(self, now: float) -> bool:
        """One turn for each file that is due; True if some file has more to read at once."""
        more = False
        for input_ in self._inputs:
            for file in list(input_):
                if self.hurry or file.read < file.size or now >= self._looks.get(id(file), 0.0):
                    more |= self._visit(input_, file, now)
        return more

    def _visit(self, input_: Input, file: TailedFile, now: float) -> bool:
        was_detached = file.detached
        input_.look(file, now)
        if file.detached and not was_detached:
            self._next_scan = now  # something new may be at its path
        if file.overwritten:
            input_.restart(file, now, self._clock.time())
            return True
        more = file.advance(now, self._clock.time(), hurry=self.hurry)
        interval = HOT_SECONDS if now - file.grown_at < _HOT_FOR else IDLE_SECONDS
        self._looks[id(file)] = min(now + interval, max(file.due(now), now + HURRY_SECONDS))
        return more or file.overwritten

    def _note_quiet(self, now: float) -> None:
        """While draining: since which pass every file was found read, sent and acknowledged."""
        settled = self.hurry and all(file.idle and file.error is None for input_ in self._inputs for file in input_)
        if not settled:
            self.quiet_since = None
        elif self.quiet_since is None:
            self.quiet_since = now
            self.on_quiet()

    def _next_time(self, now: float) -> float:
        if self.hurry:
            return now + HURRY_SECONDS
        looks = [self._looks.get(id(file), now) for input_ in self._inputs for file in input_]
        return max(min([self._next_scan, *looks]), now + HURRY_SECONDS)
