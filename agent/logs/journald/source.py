"""The entries after a position, for ever: which journalctl runs when, and what is said when none can.

    CHECKING -> CATCHING_UP -> FOLLOWING -> (its end, or RENEW_SECONDS without an entry) -> CATCHING_UP ...

CHECKING    asks whether there is a journal that this user may read: with --output=json journalctl does not say so.
CATCHING_UP reads to the journal's present end and ends; without --follow, since that leaves out earlier boots.
FOLLOWING   reads what comes. A follower may go deaf (a directory that appears later is not watched), so that from
            time to time all is caught up again.

Each begins with --cursor at the last entry that was read, not --after-cursor: where that entry is not in the journal
any more, older versions of journalctl (252) leave out the first one that is. Source: journalctl(1), and trying it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from agent.engine.backoff import Backoff
from agent.engine.clock import Clock
from agent.logs.journald.child import Child
from agent.logs.journald.entry import FIELDS
from agent.logs.journald.position import Position

RENEW_SECONDS = 600.0  # that a follower may be silent until it is made sure that nothing is there
_SILENCE_SECONDS = 120.0  # that a search for entries may be silent: longer than a look through a large journal takes
_CHECK_SECONDS = 20.0  # for the question whether there is a journal
_RETRY_CAP = 60.0  # seconds between two tries while the journal can't be read
_HURRY_RETRY_CAP = 2.0  # the same while the instance waits to go
_EXIT_SECONDS = 5.0  # between the end of a process's output and its own
_EXIT_POLL = 0.02  # seconds between two looks at a process that has closed its output
_BAD_CURSOR_ENDS = 3  # times that journalctl fails at a cursor without a word about it, until it is given a time


class Phase(Enum):
    """What runs."""

    WAITING = "waiting"
    CHECKING = "checking"
    CATCHING_UP = "catching up"
    FOLLOWING = "following"
    CLOSED = "closed"


@dataclass(frozen=True)
class Trouble:
    """Why the journal can't be read, and what to do."""

    error: str
    hint: str


_NOT_INSTALLED = "install systemd's journalctl, or take logs.journald out of the configuration"
_NOT_PERMITTED = "add the agent's user to the group systemd-journal (usermod -aG systemd-journal USER) and restart it"
_NO_JOURNAL = "start systemd-journald; in a container, mount /var/log/journal, /run/log/journal and /etc/machine-id"
_ENDED = "see what journalctl says with the same options (journalctl --verify finds damaged files); it is tried again"


class Source:
    """Runs journalctl for one selection of entries."""

    def __init__(
        self, program: str, selection: Sequence[str], oldest: float, clock: Clock, rng: random.Random
    ) -> None:
        """`selection` are arguments; `oldest`, in seconds since the epoch, is where to begin without a position."""
        self.phase = Phase.WAITING
        self.trouble: Trouble | None = None
        self.tries = 0  # that failed since the journal could last be read
        self.position: Position | None = None  # where the next process begins
        self.by_time = False  # no longer at its cursor: journalctl does not take that
        self.after_silence = False  # the present process makes sure that a silent follower was not deaf
        self.runs = 0  # of journalctl for entries, so far
        self.began = 0.0  # monotonic seconds, of the present one
        self._program = program
        self._selection = list(selection)
        self._oldest = oldest
        self._clock = clock
        self._backoff = Backoff(base=1.0, cap=_RETRY_CAP, random=rng)
        self._child: Child | None = None
        self._leaving: list[Child] = []
        self._due = 0.0  # WAITING: when to try again
        self._heard = 0.0  # when something last came, or was not waited for
        self._bad_cursors = 0
        self._hurry = False

    @property
    def descriptors(self) -> list[int]:
        """What to wait for, the output first if there is one."""
        found = [self._child.output, self._child.errors] if self._child else []
        return [each for each in found if each is not None]

    @property
    def retry_in(self) -> float:
        """Seconds until the next try, while in trouble."""
        return max(0.0, self._due - self._clock.monotonic())

    def at(self, position: Position | None) -> None:
        """So far everything was read: the next process begins there."""
        if position is not self.position:
            self.position = position
            self.by_time, self._bad_cursors = False, 0

    def hurry(self, on: bool) -> None:
        """Try again sooner."""
        self._hurry = on
        if on:
            self._due = min(self._due, self._clock.monotonic() + _HURRY_RETRY_CAP)

    def tend(self, now: float) -> bool:
        """Start what is due, end what is overdue. True when the journal's end is reached: then call `follow`."""
        self._leaving = [child for child in self._leaving if not self._gone(child)]
        if self.phase is Phase.WAITING and now >= self._due:
            self._check()
        elif self.phase is Phase.CHECKING:
            self._look_at_check(now)
        elif self.phase in (Phase.CATCHING_UP, Phase.FOLLOWING):
            return self._look_at_reading(now)
        return False

    def due(self, now: float) -> float:
        """When `tend` is needed next, whatever comes."""
        if self.phase is Phase.WAITING:
            return max(now, self._due)
        if self._leaving or (self._child is not None and self._child.output is None):
            return now + _EXIT_POLL
        limits = {Phase.CHECKING: _CHECK_SECONDS, Phase.CATCHING_UP: _SILENCE_SECONDS}
        return self._heard + limits.get(self.phase, RENEW_SECONDS)

    def read(self, most: int) -> bytes:
        """What has come; b"" where there is nothing now. Never waits."""
        if self._child is None or self.phase not in (Phase.CATCHING_UP, Phase.FOLLOWING):
            return b""
        if self._child.output is None:
            return b""
        data = self._child.read(most)
        if data is not None:  # output, or its end
            self._heard = self._clock.monotonic()
        return data or b""

    def not_reading(self) -> None:
        """Nobody reads now: that nothing comes says nothing."""
        self._heard = self._clock.monotonic()

    def renew(self) -> None:
        """Make sure of the journal's present end: go to CATCHING_UP, from `position` on."""
        if self.phase in (Phase.CATCHING_UP, Phase.FOLLOWING):
            self._start(Phase.CATCHING_UP)

    def complaint(self) -> str:
        """What the present process has said on stderr."""
        return self._child.said() if self._child else ""

    def follow(self) -> None:
        """Read what comes, from `position` on."""
        self._start(Phase.FOLLOWING)

    def close(self, grace: float = 0.0) -> None:
        """End all processes, within `grace` seconds if they do."""
        self._dismiss()
        for child in self._leaving:
            child.close(grace)
        self._leaving = []
        self.phase = Phase.CLOSED

    def _check(self) -> None:
        """In plain form, of any entry: with JSON or a selection it is silent about what it can't read."""
        self._run([self._program, "--no-pager", "--lines=1", "--output=short"], Phase.CHECKING)

    def _look_at_check(self, now: float) -> None:
        child = self._child
        assert child is not None
        while child.read(1 << 16):
            pass
        said, code = child.said(), child.poll() if child.output is None else None
        if code is None:
            if now - self._heard >= _CHECK_SECONDS:
                self._fail(Trouble("journalctl does not answer", _ENDED))
            return
        trouble = _explained(said, code)
        if trouble is not None:
            self._fail(trouble)
        else:
            self._start(Phase.CATCHING_UP)

    def _look_at_reading(self, now: float) -> bool:
        child = self._child
        assert child is not None
        child.said()
        if child.output is None:
            code = child.poll()
            if code is None and now - self._heard >= _EXIT_SECONDS:
                child.end()
            return code is not None and self._ended(code, child.said())
        if self.phase is Phase.CATCHING_UP and now - self._heard >= _SILENCE_SECONDS:
            self._fail(Trouble(f"journalctl was silent for {_SILENCE_SECONDS:.0f} s", _ENDED))
        elif self.phase is Phase.FOLLOWING and now - self._heard >= RENEW_SECONDS:
            self.renew()
            self.after_silence = True
        return False

    def _ended(self, code: int, said: str) -> bool:
        """The process has ended by itself. True if it has caught up."""
        if self.phase is Phase.CATCHING_UP and code == 0:
            self.trouble, self.tries, self._bad_cursors = None, 0, 0
            self._backoff.reset()
            return True
        self._doubt_cursor(code, said)
        self._fail(_explained(said, code) or Trouble("journalctl has ended", _ENDED))
        return False

    def _doubt_cursor(self, code: int, said: str) -> None:
        if self.phase is not Phase.CATCHING_UP or self.position is None or code < 0:
            return
        self._bad_cursors += 1
        self.by_time = self.by_time or "cursor" in said or self._bad_cursors >= _BAD_CURSOR_ENDS

    def _start(self, phase: Phase) -> None:
        follow = ["--follow", "--no-tail"] if phase is Phase.FOLLOWING else []
        options = ["--output=json", "--all", "--no-pager", f"--output-fields={','.join(FIELDS)}", *follow]
        self.runs += 1
        self.after_silence = False
        self._run([self._program, *options, self._beginning(), *self._selection], phase)

    def _beginning(self) -> str:
        if self.position is None:
            return f"--since=@{self._oldest:.6f}"
        if self.by_time:
            seconds, micros = divmod(max(self.position.realtime, int(self._oldest * 1e6)), 1_000_000)
            return f"--since=@{seconds}.{micros:06d}"
        return f"--cursor={self.position.cursor}"

    def _run(self, argv: list[str], phase: Phase) -> None:
        self._dismiss()
        self._heard = self.began = self._clock.monotonic()
        try:
            self._child = Child(argv, self._clock)
        except FileNotFoundError:
            self._fail(Trouble(f"{self._program} is not installed", _NOT_INSTALLED))
        except OSError as error:
            self._fail(Trouble(f"{self._program} can't be run: {error.strerror or error}", _NOT_INSTALLED))
        else:
            self.phase = phase

    def _fail(self, trouble: Trouble) -> None:
        self._dismiss()
        self.trouble = trouble
        self.tries += 1
        wait = min(self._backoff.next(), _HURRY_RETRY_CAP if self._hurry else _RETRY_CAP)
        self._due = self._clock.monotonic() + wait
        self.phase = Phase.WAITING

    def _dismiss(self) -> None:
        """Let the present process go; what it has written and nobody read is written again by the next."""
        if self._child is not None:
            self._child.end()
            self._leaving.append(self._child)
            self._child = None

    def _gone(self, child: Child) -> bool:
        if child.poll() is None:
            return False
        child.close()
        return True


def _explained(said: str, code: int) -> Trouble | None:
    """What journalctl's words and exit code mean; None: all is well."""
    if "insufficient permissions" in said or "not seeing messages from other users" in said:
        return Trouble("not permitted to read the journal", _NOT_PERMITTED)
    if "No journal files were found" in said:
        return Trouble("there is no journal", _NO_JOURNAL)
    if code != 0:
        how = f"with exit code {code}" if code > 0 else f"by signal {-code}"
        return Trouble(f"journalctl has ended {how}: {said.splitlines()[-1] if said else 'it said nothing'}", _ENDED)
    return None
