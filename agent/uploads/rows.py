"""The ledger read from end to end, and rows taken out of it: for what looks after files once S3 has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agent.engine.database import Database
from agent.uploads.tree import Stamp

PAGE = 1_000  # rows of one step: about 5 ms with a look at each file

Read = Callable[[str, tuple[object, ...]], list[tuple[object, ...]]]
"""A query and its parameters to its rows, as `Database.read`; it raises DatabaseError."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that S3 has confirmed: its text path, the stamp it was read under, where it went, S3's answer."""

    path: str
    stamp: Stamp
    key: str
    etag: str
    checksum: str  # algorithm:base64
    time: int  # seconds of the epoch

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """A directory as it was configured when files of it were sent."""

    id: int
    path: str
    bucket: str
    prefix: str


def places(read: Read) -> list[PlaceRow]:
    """Every directory that ever was configured."""
    return [PlaceRow(*row) for row in read("SELECT id, path, bucket, prefix FROM places", ())]  # type: ignore[arg-type]


def count(read: Read, place: int) -> int:
    """How many files of a place S3 has confirmed."""
    sql = "SELECT COUNT(*) FROM folders JOIN files ON files.folder = folders.id WHERE place = ?"
    return int(read(sql, (place,))[0][0])  # type: ignore[call-overload, no-any-return]


def pages(read: Read, place: int, prefix: str) -> Iterator[list[Kept]]:
    """All rows of a place, folder by folder, in pages; what is confirmed meanwhile may be missing."""
    after = ("", "")
    while found := read(_ROWS, (place, after[0], *after, after[0], PAGE)):
        after = (str(found[-1][0]), str(found[-1][1]))
        yield [_kept(prefix, row) for row in found]


def find(read: Read, place: int, prefix: str, path: str) -> Kept | None:
    """The row of one file."""
    folder, _, name = path.rpartition("/")
    found = read(f"{_SELECT} WHERE place = ? AND folders.path = ? AND name = ?", (place, folder, name))
    return _kept(prefix, found[0]) if found else None


def since(read: Read, place: int, prefix: str, time: int, most: int) -> list[Kept]:
    """Rows that were confirmed at `time` (epoch) or later."""
    found = read(f"{_SELECT} WHERE place = ? AND time >= ? LIMIT ?", (place, time, most))
    return [_kept(prefix, row) for row in found]


def has_other(read: Read, place: int, path: str, key: str) -> bool:
    """Whether a file other than this one has the same key in the same bucket."""
    known = places(read)
    bucket = next(each.bucket for each in known if each.id == place)
    for each in known:
        rest = key.removeprefix(each.prefix)
        if each.bucket == bucket and key.startswith(each.prefix) and (each.id, rest) != (place, path):
            row = find(read, each.id, each.prefix, rest)
            if row is not None and row.key == key:
                return True
    if not any("{" in each.prefix for each in known):
        return False  # then every key follows from place and path
    sql = (
        "SELECT place, folders.path, name FROM folders JOIN files ON files.folder = folders.id"
        " JOIN places ON places.id = place WHERE key = ? AND bucket = ?"
    )
    return any((row[0], _join(row[1], row[2])) != (place, path) for row in read(sql, (key, bucket)))


def forget(database: Database, place: int, paths: Sequence[str]) -> None:
    """Take rows out of the ledger, whatever they say."""
    where = [(place, folder, name) for folder, _, name in (path.rpartition("/") for path in paths)]
    with database.transaction() as connection:
        for table in ("files", "refused"):
            connection.executemany(
                f"DELETE FROM {table} WHERE folder = (SELECT id FROM folders WHERE place = ? AND path = ?)"  # noqa: S608
                " AND name = ?",
                where,
            )


def tidy(database: Database) -> None:
    """Take out folders without a row. To be called before any folder's number is in anyone's mind."""
    with database.transaction() as connection:
        connection.execute(
            "DELETE FROM folders WHERE id NOT IN (SELECT folder FROM files UNION SELECT folder FROM refused)"
        )


def _kept(prefix: str, row: tuple[object, ...]) -> Kept:
    folder, name, size, mtime, ctime, inode, key, *rest = row
    path = _join(folder, name)
    return Kept(path, (size, mtime, ctime, inode), prefix + path if key is None else str(key), *rest)  # type: ignore[arg-type]


def _join(folder: object, name: object) -> str:
    return f"{folder}/{name}" if folder else str(name)


_SELECT = (
    "SELECT folders.path, name, size, mtime_ns, ctime_ns, inode, key, etag, checksum, time"
    " FROM folders JOIN files ON files.folder = folders.id"
)
_ROWS = (
    f"{_SELECT} WHERE place = ? AND folders.path >= ?"
    " AND (folders.path > ? OR name > ? AND folders.path = ?) ORDER BY folders.path, name LIMIT ?"
)
