"""Why a reload is refused. In every case the agent goes on as it was.

ReloadRefused        `problems` says all that stands in the way
├── Unserved         the configuration uses what this version can't do: take it out
├── FactsUnknown     placeholders need what metadata or AWS do not tell now: try again, or give fallbacks
├── NeedsRestart     keys have changed on which everything stands: systemctl restart outlive
├── PlaceTaken       agent.status_address can't be bound: stop what is there, or choose another
├── NotMade          a job can't be made, for AWS's clients can't: see the message
└── Stopping         the agent is about to end

Beside these: ConfigError (the files are wrong), and DrainUnderWay of `agent.drain.machine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal


class ReloadRefused(Exception):
    """The configuration is not taken in now. `state`: whether that is its own fault."""

    state: Literal["invalid", "refused"] = "refused"

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class Unserved(ReloadRefused):
    """Valid, and beyond this version."""

    state = "invalid"

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(*(f"{key}: this version can't do it yet; take it out" for key in keys))


class FactsUnknown(ReloadRefused):
    """Nobody says what placeholders stand for."""

    def __init__(self, names: Sequence[str], why: str) -> None:
        super().__init__(f"no answer for {', '.join(f'{{{name}}}' for name in names)}: {why}; try again")


class NeedsRestart(ReloadRefused):
    """Other values of what can't change in a running agent."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"needs a restart: {', '.join(keys)}")


class PlaceTaken(ReloadRefused):
    """The status can't be served there."""

    def __init__(self, address: object, why: str) -> None:
        super().__init__(f"agent.status_address: can't bind {address}: {why}; stop what uses it, or choose another")


class NotMade(ReloadRefused):
    """A client of AWS could not be made."""

    def __init__(self, section: str, why: str) -> None:
        super().__init__(f"{section}: {why}")


class Stopping(ReloadRefused):
    """Too late."""

    def __init__(self) -> None:
        super().__init__("the agent is stopping")
