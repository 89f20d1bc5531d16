"""What is begun at S3 and not yet known to be done: written down first, so that a crash leaves nothing unknown.

Uploads in parts, and deletions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.aws.s3 import Part
from agent.engine.database import Database
from agent.uploads.tree import Stamp

_SCHEMA = """
CREATE TABLE IF NOT EXISTS uploads (
    place INTEGER NOT NULL, path TEXT NOT NULL, bucket TEXT NOT NULL, key TEXT NOT NULL, upload_id TEXT,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
    part_size INTEGER NOT NULL, terms TEXT NOT NULL, time REAL NOT NULL, PRIMARY KEY (place, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
    place INTEGER NOT NULL, path TEXT NOT NULL, number INTEGER NOT NULL, length INTEGER NOT NULL,
    digest BLOB NOT NULL, etag TEXT NOT NULL, PRIMARY KEY (place, path, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deletions (
    place INTEGER NOT NULL, path TEXT NOT NULL, key TEXT NOT NULL, etag TEXT NOT NULL,
    PRIMARY KEY (place, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS intents (
    place INTEGER NOT NULL, path TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL, time REAL NOT NULL,
    PRIMARY KEY (place, path)) WITHOUT ROWID;
"""
_BEGUN = (
    "SELECT place, path, bucket, key, upload_id, size, mtime_ns, ctime_ns, inode, part_size, terms, time FROM uploads"
)


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload in parts: of which file (its place in the ledger, its path as text), as it was under `stamp`.

    `upload_id` None: S3 was to be asked, and no answer was kept. `terms` are what else makes its parts unfit for
    another attempt: the algorithm, the object's properties. `time` in seconds of the epoch.
    """

    place: int
    path: str
    bucket: str
    key: str
    upload_id: str | None
    stamp: Stamp
    part_size: int
    terms: str
    time: float


@dataclass(frozen=True, slots=True)
class Deletion:
    """An object that is to be deleted because its file (its path as text) was: the one that has this ETag."""

    path: str
    key: str
    etag: str


@dataclass(frozen=True, slots=True)
class Intent:
    """A file of a mirror (its path as text) about to be sent: key, size in bytes, since when (epoch).

    If it is gone before S3's answer is known, this is what tells its object from another's.
    """

    path: str
    key: str
    size: int
    time: float


class Journal:
    """Safe to use from any thread. Every method raises DatabaseError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)

    def write(self, begun: Begun) -> None:
        """Write down an upload, in the place of an earlier one of the same file and that one's parts."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM parts WHERE place = ? AND path = ?", (begun.place, begun.path))
            row = (begun.place, begun.path, begun.bucket, begun.key, begun.upload_id, *begun.stamp)
            connection.execute(
                "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, begun.part_size, begun.terms, begun.time),
            )

    def find(self, place: int, path: str) -> Begun | None:
        """The upload of one file, if there is one."""
        rows = self._database.read(f"{_BEGUN} WHERE place = ? AND path = ?", (place, path))
        return _begun(rows[0]) if rows else None

    def all(self) -> list[Begun]:
        """Every upload that was neither completed nor aborted."""
        return [_begun(row) for row in self._database.read(_BEGUN)]

    def forget(self, begun: Begun) -> None:
        """The upload is completed or aborted. A later one of the same file stays."""
        where = (begun.place, begun.path)
        with self._database.transaction() as connection:
            sql = "DELETE FROM uploads WHERE place = ? AND path = ? AND upload_id IS ?"
            if connection.execute(sql, (*where, begun.upload_id)).rowcount:
                connection.execute("DELETE FROM parts WHERE place = ? AND path = ?", where)

    def keep_part(self, place: int, path: str, part: Part) -> None:
        """Write down a part that S3 has confirmed."""
        row = (place, path, part.number, part.length, part.digest, part.etag)
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)", row)

    def parts(self, place: int, path: str) -> list[Part]:
        """The confirmed parts of an upload, in order."""
        sql = "SELECT number, length, digest, etag FROM parts WHERE place = ? AND path = ? ORDER BY number"
        return [Part(*row) for row in self._database.read(sql, (place, path))]  # type: ignore[arg-type]  # the schema

    def begin_deletions(self, place: int, deletions: Sequence[Deletion]) -> None:
        """Write down deletions before S3 is asked for them."""
        rows = [(place, each.path, each.key, each.etag) for each in deletions]
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO deletions VALUES (?, ?, ?, ?)", rows)

    def deletions(self, place: int) -> list[Deletion]:
        """The deletions of a place of which nobody knows whether they are done."""
        rows = self._database.read("SELECT path, key, etag FROM deletions WHERE place = ?", (place,))
        return [Deletion(*row) for row in rows]  # type: ignore[arg-type]  # the schema

    def end_deletions(self, place: int, paths: Sequence[str]) -> None:
        """They are done, or given up."""
        with self._database.transaction() as connection:
            sql = "DELETE FROM deletions WHERE place = ? AND path = ?"
            connection.executemany(sql, [(place, path) for path in paths])

    def intend(self, place: int, intents: Sequence[Intent]) -> None:
        """Write down files before they are sent. An earlier time of the same file stays."""
        rows = [(place, each.path, each.key, each.size, each.time) for each in intents]
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT INTO intents VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET key = excluded.key, size = excluded.size",
                rows,
            )

    def intents(self, place: int, most: int) -> list[Intent]:
        """Files of which nobody knows whether S3 has them."""
        rows = self._database.read("SELECT path, key, size, time FROM intents WHERE place = ? LIMIT ?", (place, most))
        return [Intent(*row) for row in rows]  # type: ignore[arg-type]  # the schema

    def end_intents(self, place: int, paths: Sequence[str]) -> None:
        """It is known by now."""
        with self._database.transaction() as connection:
            connection.executemany(
                "DELETE FROM intents WHERE place = ? AND path = ?", [(place, path) for path in paths]
            )

    def deleting_places(self) -> list[int]:
        """The places that have deletions written down."""
        rows = self._database.read("SELECT DISTINCT place FROM deletions")
        return [int(row[0]) for row in rows]  # type: ignore[call-overload]

    def harden(self) -> None:
        """Whatever this database was told before survives a power cut once this returns."""
        with self._database.transaction(durable=True) as connection:
            connection.execute("PRAGMA user_version = 1")


def _begun(row: tuple[object, ...]) -> Begun:
    place, path, bucket, key, upload_id, size, mtime, ctime, inode, *rest = row
    return Begun(place, path, bucket, key, upload_id, (size, mtime, ctime, inode), *rest)  # type: ignore[arg-type]
