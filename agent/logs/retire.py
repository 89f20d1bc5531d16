"""An input whose entry of the configuration is gone or changed: read no further, let go when all is acknowledged."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

from agent.logs.cursors import Cursor
from agent.logs.input import Input
from agent.logs.resting import Resting
from agent.logs.tail import TailedFile
from agent.logs.unreadable import Trouble


class RetiredInput:
    """In the place of the input, for the reader and the job. Implements `agent.logs.lineup.Retired`.

    Without heirs, of what is not read nothing is missing.
    """

    def __init__(self, input_: Input) -> None:
        self.heirs = False
        self.tenant = input_  # of the room: its files are still open

    def __iter__(self) -> Iterator[TailedFile]:
        return iter(self.tenant)

    @property
    def resting(self) -> Mapping[str, Resting]:
        return self.tenant.resting if self.heirs else {}

    @property
    def unreadable(self) -> Mapping[str, Trouble]:
        return self.tenant.unreadable if self.heirs else {}

    @property
    def scan_errors(self) -> Mapping[str, str]:
        return self.tenant.scan_errors if self.heirs else {}

    @property
    def waiting(self) -> Mapping[str, int]:
        return self.tenant.waiting if self.heirs else {}

    @property
    def searching(self) -> Collection[str]:
        return self.tenant.searching if self.heirs else ()

    def cursors(self) -> Iterator[Cursor]:
        return self.tenant.cursors()

    def scan(self, now: float) -> None:
        """Pin what comes new in the meantime for who goes on with it, or it could be rotated out of sight."""
        if self.heirs:
            self.tenant.scan(now)

    def visit(self, file: TailedFile, now: float, epoch: float, *, hurry: bool, final: bool) -> bool:  # noqa: ARG002
        """Follow the file where it is renamed to, and see how much is left for who goes on with it."""
        self.tenant.follow(file, now)
        if self.heirs:
            with suppress(OSError):  # whoever reads it will say so
                file.measure()
        return False

    def close_finished(self, now: float) -> None:
        """All are closed together."""

    def is_done(self, now: float, epoch: float) -> bool:
        states = [file.wind_up(now, epoch, keep=self.heirs) for file in self]
        return all(states)

    def save(self) -> None:
        self.tenant.save()

    def hand_over(self, heirs: Sequence[Input], now: float) -> None:
        self.tenant.hand_over(heirs, now)

    def close(self) -> None:
        self.tenant.close()
