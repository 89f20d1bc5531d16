"""File systems mounted in a tree, and the tree's own: what was on one that is not there now was not deleted.

Source: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from agent.engine.database import Database
from agent.uploads.names import to_text

_SCHEMA = """
CREATE TABLE IF NOT EXISTS roots (place INTEGER PRIMARY KEY, device INTEGER NOT NULL, inode INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS mounts (
    place INTEGER NOT NULL, path TEXT NOT NULL, PRIMARY KEY (place, path)) WITHOUT ROWID
"""
_MOST = 1_000  # mounts remembered of one tree
_OCTAL = re.compile(r"\\([0-7]{3})")
_MASK = (1 << 63) - 1  # what a column of SQLite holds

Identity = tuple[int, int]
"""Device and inode of a directory."""

List = Callable[[], list[str]]
"""Gives the mount points of this process."""


def mount_points() -> list[str]:
    """Where file systems are mounted, as this process sees them. Raises OSError."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return [_OCTAL.sub(lambda match: chr(int(match[1], 8)), line.split(" ")[4]) for line in lines]


class Mounts:
    """What is known of one tree's root and of the mounts in it. Every method raises DatabaseError."""

    def __init__(self, database: Database, place: int, path: str, list_: List = mount_points) -> None:
        self._database = database
        self._place = place
        self._path = path
        self._list = list_
        self._missing: tuple[str, ...] = ()
        with database.transaction() as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)

    def identity(self) -> Identity:
        """The root as it is now. Raises OSError."""
        found = os.stat(self._path)
        return found.st_dev & _MASK, found.st_ino & _MASK

    def known(self) -> Identity | None:
        """The root whose files are in the ledger; None: none was seen yet."""
        rows = self._database.read("SELECT device, inode FROM roots WHERE place = ?", (self._place,))
        return rows[0] if rows else None  # type: ignore[return-value]  # as the schema has them

    def accept(self, identity: Identity) -> None:
        """This is the root from now on."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO roots VALUES (?, ?, ?)", (self._place, *identity))

    def look(self, *, forget: bool) -> list[str]:
        """Look at what is mounted in the tree; mounts that were seen before and are not there now.

        `forget`: those were given up. Raises OSError.
        """
        mounted = set(self._below())
        rows = self._database.read("SELECT path FROM mounts WHERE place = ?", (self._place,))
        known = {str(row[0]) for row in rows}
        missing = sorted(known - mounted)
        new = sorted(mounted - known)[:_MOST]
        if new or (forget and missing):
            with self._database.transaction() as connection:
                connection.executemany("INSERT INTO mounts VALUES (?, ?)", [(self._place, path) for path in new])
                gone = [(self._place, path) for path in missing] if forget else []
                connection.executemany("DELETE FROM mounts WHERE place = ? AND path = ?", gone)
        self._missing = () if forget else tuple(f"{path}/" for path in missing)
        return [] if forget else missing

    def hides(self, path: str) -> bool:
        """Whether a path, as text, belongs to a file system that is not mounted now."""
        return bool(self._missing) and path.startswith(self._missing)

    def _below(self) -> list[str]:
        """Mount points below the root, relative to it, as text."""
        root = os.path.realpath(self._path).rstrip("/") + "/"
        return [to_text(point[len(root) :]) for point in self._list() if point.startswith(root)]
