"""What S3 has confirmed, file by file, and what it will not take.

Only a confirmed upload of one consistent file enters. Names are texts (agent.uploads.names).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from agent.engine.database import Database
from agent.uploads.scan import Row
from agent.uploads.tree import Stamp

FILE = "uploads.db"  # in the state directory
_WHOLE_FOLDER = 4_096  # rows of a folder that are read at once; of a larger one only the rows asked for
_NAMES = 900  # names asked for in one query: an older SQLite takes 999 values
_FOLDERS = 4_096  # folders whose number is remembered
_PAGE = 1_000  # rows of one step of `objects`

_SCHEMA = """
CREATE TABLE IF NOT EXISTS places (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, bucket TEXT NOT NULL, prefix TEXT NOT NULL,
    UNIQUE (path, bucket, prefix));
CREATE TABLE IF NOT EXISTS folders (
    id INTEGER PRIMARY KEY, place INTEGER NOT NULL, path TEXT NOT NULL, UNIQUE (place, path));
CREATE TABLE IF NOT EXISTS files (
    folder INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, key TEXT, etag TEXT NOT NULL, checksum TEXT NOT NULL,
    time INTEGER NOT NULL, PRIMARY KEY (folder, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (
    folder INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (folder, name)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A file that S3 has: its path below its place, the stamp it was read under, S3's answer, and when (epoch)."""

    place: int
    path: str
    stamp: Stamp
    key: str
    etag: str
    checksum: str
    time: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the manifest: sizes in bytes, times in seconds of the epoch."""

    path: str
    key: str
    size: int
    checksum: str
    etag: str
    time: int


class Ledger:
    """Safe to use from any thread. Every method raises DatabaseError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._folders: dict[tuple[int, str], int] = {}
        self._prefixes: dict[int, str] = {}
        with database.transaction() as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
        self._any_refused = bool(database.read("SELECT 1 FROM refused LIMIT 1"))

    def place(self, path: str, bucket: str, prefix: str) -> int:
        """The number of a directory as it is configured; with another bucket or prefix it is another place."""
        with self._database.transaction() as connection:
            where = (path, bucket, prefix)
            connection.execute("INSERT OR IGNORE INTO places (path, bucket, prefix) VALUES (?, ?, ?)", where)
            sql = "SELECT id FROM places WHERE path = ? AND bucket = ? AND prefix = ?"
            (number,) = connection.execute(sql, where).fetchone()
        self._prefixes[number] = prefix
        return int(number)

    def known(self, place: int, folder: str, rows: Sequence[Row]) -> set[Row]:
        """The ledger's rows of the names in `rows` in a folder, and perhaps of other names in it."""
        if 1 < len(rows) <= _NAMES:
            whole = self._database.read(f"{_KNOWN} LIMIT {_WHOLE_FOLDER}", (place, folder))
            if len(whole) < _WHOLE_FOLDER:
                return set(whole)  # type: ignore[arg-type]  # as the schema has them
        found: set[Row] = set()
        for start in range(0, len(rows), _NAMES):
            names = [row[0] for row in rows[start : start + _NAMES]]
            marks = ",".join("?" * len(names))
            found.update(self._database.read(f"{_KNOWN} AND name IN ({marks})", (place, folder, *names)))  # type: ignore[arg-type]
        return found

    def has_any(self, place: int) -> bool:
        """Whether anything of this place was ever confirmed."""
        sql = "SELECT 1 FROM folders JOIN files ON files.folder = folders.id WHERE place = ? LIMIT 1"
        return bool(self._database.read(sql, (place,)))

    def confirm(self, rows: Sequence[Confirmed]) -> None:
        """Take in a group of files that S3 has confirmed."""
        with self._writing() as connection:
            where = [self._folder(connection, row.place, row.path) for row in rows]
            connection.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (*here, *row.stamp, self._key(row), row.etag, row.checksum, int(row.time))
                    for here, row in zip(where, rows, strict=True)
                ],
            )
            connection.executemany("DELETE FROM refused WHERE folder = ? AND name = ?", where)

    def refuse(self, place: int, path: str, stamp: Stamp, reason: str) -> None:
        """Remember that S3 will not take the file as it is now."""
        self._any_refused = True
        with self._writing() as connection:
            row = (*self._folder(connection, place, path), *stamp, reason)
            connection.execute("INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def refusal(self, place: int, path: str, stamp: Stamp) -> str | None:
        """Why S3 will not take the file as it is now; None: nothing is known against it."""
        if not self._any_refused:
            return None
        folder, _, name = path.rpartition("/")
        rows = self._database.read(
            "SELECT reason FROM refused WHERE folder = (SELECT id FROM folders WHERE place = ? AND path = ?)"
            " AND name = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ? AND inode = ?",
            (place, folder, name, *stamp),
        )
        return str(rows[0][0]) if rows else None

    def objects(self, place: int) -> Iterator[list[Entry]]:
        """Every object of a place in order of its path, page by page; what is confirmed meanwhile may be missing."""
        after = ("", "")
        while rows := self._database.read(_OBJECTS, (place, after[0], *after, after[0], _PAGE)):
            after = (str(rows[-1][0]), str(rows[-1][1]))
            yield [self._entry(place, row) for row in rows]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that may make folders; if it fails they are not there, nor their numbers."""
        try:
            with self._database.transaction() as connection:
                yield connection
        except BaseException:
            self._folders.clear()
            raise

    def _entry(self, place: int, row: tuple[object, ...]) -> Entry:
        folder, name, key, *rest = row
        path = f"{folder}/{name}" if folder else str(name)
        return Entry(path, self._prefixes[place] + path if key is None else str(key), *rest)  # type: ignore[arg-type]

    def _key(self, row: Confirmed) -> str | None:
        """None for a key that follows from place and path: most rows are a third shorter for it."""
        return None if row.key == self._prefixes[row.place] + row.path else row.key

    def _folder(self, connection: sqlite3.Connection, place: int, path: str) -> tuple[int, str]:
        """Where a path belongs: the number of its folder, made if need be, and its name."""
        folder, _, name = path.rpartition("/")
        number = self._folders.get((place, folder))
        if number is None:
            connection.execute("INSERT OR IGNORE INTO folders (place, path) VALUES (?, ?)", (place, folder))
            sql = "SELECT id FROM folders WHERE place = ? AND path = ?"
            (number,) = connection.execute(sql, (place, folder)).fetchone()
            if len(self._folders) >= _FOLDERS:
                self._folders.clear()
            self._folders[place, folder] = number
        return number, name


_KNOWN = (
    "SELECT name, size, mtime_ns, ctime_ns, inode FROM files"
    " WHERE folder = (SELECT id FROM folders WHERE place = ? AND path = ?)"
)
_OBJECTS = (
    "SELECT folders.path, name, key, size, checksum, etag, time FROM folders JOIN files ON files.folder = folders.id"
    " WHERE place = ? AND folders.path >= ? AND (folders.path > ? OR name > ? AND folders.path = ?)"
    " ORDER BY folders.path, name LIMIT ?"
)
