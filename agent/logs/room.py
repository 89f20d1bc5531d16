"""How much of the machine all log files together may take: descriptors, memory, disk held by deleted files."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Protocol

from agent.logs.tail import TailedFile

HELD_BYTES = 8 << 20  # read and not yet acknowledged, of all files: from here on nothing more is read
_REST_PART = 32  # when descriptors run out, one in so many is let go of at once: looking for them costs, too


@dataclass(frozen=True)
class Limits:
    """What the configuration grants."""

    rotated_linger: float  # seconds of quiet before a rotated file is closed
    max_open_files: int
    max_deleted_bytes: int = 1 << 30  # of disk that files hold which have no name any more


class Memory:
    """Bytes that were read and are not yet acknowledged. Safe from any thread."""

    def __init__(self, limit: int = HELD_BYTES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self.held = 0

    @property
    def full(self) -> bool:
        return self.held >= self._limit

    def change(self, before: int, after: int) -> int:
        """One file holds `after` bytes now, `before` when it was last asked. Returns `after`."""
        with self._lock:
            self.held += after - before
        return after


class Tenant(Protocol):
    """An input, as far as its use of the machine goes."""

    def open_files(self) -> int:
        """Descriptors in use."""

    def restful(self) -> Sequence[TailedFile]:
        """Files that could be let go of for the time being: read, acknowledged, with their name."""

    def rest(self, file: TailedFile) -> None:
        """Close such a file; it is opened again when it changes."""

    def nameless(self) -> Sequence[tuple[TailedFile, int]]:
        """Files without a name, and the bytes of disk that each holds."""

    def give_up(self, file: TailedFile, why: str, now: float, epoch: float) -> None:
        """Read no more of a file; what is not yet read of it is lost."""


class Room:
    """Minds the limits for all inputs. Used by the reading thread alone."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.memory = Memory()
        self.tenants: list[Tenant] = []
        self._full = False

    def may_open(self) -> bool:
        """Whether one more descriptor may be used; idle files are closed for it if need be."""
        if not self._full and self._open() >= self.limits.max_open_files:
            self._rest_some()
            self._full = self._open() >= self.limits.max_open_files
        return not self._full

    def look_again(self) -> None:
        """Descriptors may have become free: ask anew."""
        self._full = False

    def reclaim(self, now: float, epoch: float) -> None:
        """Let go of deleted files, the one deleted first in front, while they hold more disk than is granted."""
        nameless = [(tenant, file, held) for tenant in self.tenants for file, held in tenant.nameless()]
        total = sum(held for _, _, held in nameless)
        for tenant, file, held in sorted(nameless, key=lambda each: each[1].detached_at):
            if total <= self.limits.max_deleted_bytes:
                return
            tenant.give_up(file, "deleted, and logs.max_deleted_bytes were held already", now, epoch)
            total -= held

    def _open(self) -> int:
        return sum(tenant.open_files() for tenant in self.tenants)

    def _rest_some(self) -> None:
        idle = [(tenant, file) for tenant in self.tenants for file in tenant.restful()]
        count = max(1, self.limits.max_open_files // _REST_PART)
        for tenant, file in nsmallest(count, idle, key=lambda each: each[1].grown_at):
            tenant.rest(file)
