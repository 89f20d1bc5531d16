"""A notice: the instance must go. Sources of notices poll; silence or nonsense is never a notice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Reason = Literal["auto-scaling", "warm-pool", "spot", "rebalance", "scheduled", "shutdown", "operator"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Why, and until when. `deadline` in seconds since the epoch; None: as the configuration allows."""

    reason: Reason
    at: float
    deadline: float | None = None
    note: str = ""  # an operator's words


class NoticeSource(Protocol):
    """Something that may bring a notice."""

    name: str
    interval: float  # seconds between two looks

    def look(self, epoch: float) -> Notice | None:
        """The notice that is there now, or None; the same one may come again. Never raises for silence."""
