"""The one reading thread's work: scan for files, look at each, read in turns, close what is finished."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent.engine.clock import Clock
from agent.logs.room import Room
from agent.logs.tail import TailedFile

SCAN_SECONDS = 2.0  # between two looks at the directories
HOT_SECONDS = 0.25  # between two looks at a file that grew lately
IDLE_SECONDS = 1.0  # the same for one that did not
HURRY_SECONDS = 0.05  # while draining
HURRY_SCAN_SECONDS = 0.25
_SCAN_SHARE, _HURRY_SHARE = 50, 4  # a scan may take one part in so many of the time
_SCAN_MOST = 15.0  # seconds between two scans, whatever they cost
_HOT_FOR = 10.0  # seconds after its last growth that a file counts as hot


@dataclass(frozen=True, eq=False)
class Haste:
    """How the reader goes about it; each one is a wish of its own, even if it says the same as the last."""

    hurry: bool  # do not wait for batches to fill, or for the next look
    open_lines: bool  # hand over lines that have no end yet, too


class Readable(Protocol):
    """An input, or one that retires."""

    @property
    def waiting(self) -> Mapping[str, Any]: ...

    @property
    def searching(self) -> Collection[str]: ...

    def __iter__(self) -> Iterator[TailedFile]: ...

    def scan(self, now: float) -> None: ...

    def visit(self, file: TailedFile, now: float, epoch: float, *, hurry: bool, final: bool) -> bool: ...

    def close_finished(self, now: float) -> None: ...


class Changing(Protocol):
    """Whoever lets inputs come and go; see `agent.logs.lineup`."""

    @property
    def settled(self) -> bool: ...

    def turn(self, now: float, epoch: float) -> bool: ...


class Reader:
    """A worker over all inputs."""

    name = "logs-reader"

    def __init__(
        self, inputs: Iterable[Readable], clock: Clock, room: Room, changing: Changing | None = None
    ) -> None:
        """`changing` has its turn between two passes, and makes the inputs others."""
        self._inputs = inputs
        self._changing = changing
        self._clock = clock
        self._room = room
        self._next_scan = 0.0
        self._looks: dict[int, float] = {}  # id of a file -> when to look at it again
        self._lock = threading.Lock()
        self._haste = Haste(hurry=False, open_lines=False)
        self._scan_wanted = True
        self._first = 0  # whose turn is first when there is not enough room for all
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
        if self._changing is not None and self._changing.turn(now, self._clock.time()):
            self._scan_wanted = True
        if self._scan_wanted or now >= self._next_scan:
            self._scan_wanted = False
            self._scan(now, haste)
        more = self._pass(now, haste)
        self._note_quiet(haste)
        if more:
            return now
        return self._next_time(now, haste)

    def _scan(self, now: float, haste: Haste) -> None:
        began = self._clock.monotonic()
        for input_ in self._inputs:
            input_.scan(now)
            input_.close_finished(now)
        self._room.reclaim(now, self._clock.time())
        cost = self._clock.monotonic() - began
        soon = haste.hurry or any(input_.waiting for input_ in self._inputs)
        least, share = (HURRY_SCAN_SECONDS, _HURRY_SHARE) if soon else (SCAN_SECONDS, _SCAN_SHARE)
        self._next_scan = now + max(least, min(cost * share, _SCAN_MOST))
        alive = {id(file) for input_ in self._inputs for file in input_}
        self._looks = {key: when for key, when in self._looks.items() if key in alive}

    def _pass(self, now: float, haste: Haste) -> bool:
        """One turn for each file that is due; True if some file has more to read at once."""
        more = False
        for input_, file in self._turns():
            if haste.hurry or file.read < file.size or now >= self._looks.get(id(file), 0.0):
                more |= self._visit(input_, file, now, haste)
        return more

    def _turns(self) -> Sequence[tuple[Readable, TailedFile]]:
        """All files in their order; where only some of them can be read, another one is first each time."""
        files = [(input_, file) for input_ in self._inputs for file in input_]
        if not self._room.memory.full or not files:
            return files
        self._first = (self._first + 1) % len(files)
        return files[self._first :] + files[: self._first]

    def _visit(self, input_: Readable, file: TailedFile, now: float, haste: Haste) -> bool:
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
                self.quiet = haste.hurry and self._is_done(haste)
                if self.quiet:
                    self.on_quiet()

    def _is_done(self, haste: Haste) -> bool:
        if self._changing is not None and not self._changing.settled:
            return False
        return all(_is_done_with(each, haste) for each in self._inputs)

    def _next_time(self, now: float, haste: Haste) -> float:
        if haste.hurry:
            return now + HURRY_SECONDS
        looks = [self._looks.get(id(file), now) for input_ in self._inputs for file in input_]
        return max(min([self._next_scan, *looks]), now + HURRY_SECONDS)


def _is_done_with(input_: Readable, haste: Haste) -> bool:
    return not (input_.waiting or input_.searching) and all(_is_done(file, haste) for file in input_)


def _is_done(file: TailedFile, haste: Haste) -> bool:
    return file.error is None and (file.idle if haste.open_lines else file.at_rest)
