"""Ledger, tree and bucket held against each other: what is not the same, by kind.

An object is the one that was sent if its ETag and size are those of S3's answer to the upload; where the ETag is
another one, S3's checksum decides (an object that was copied onto itself is the same). Nothing is downloaded.
Sources: ListObjectsV2, HeadObject (x-amz-checksum-mode).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum

from agent.aws.errors import AwsError, Denied, NotFound
from agent.aws.s3_xml import Listed
from agent.engine.clock import Clock
from agent.uploads import rows
from agent.uploads.directory import Directory
from agent.uploads.names import to_text
from agent.uploads.rows import Kept, Read
from agent.uploads.scan import Row, Scan, Tally
from agent.uploads.sweep import Sweep
from agent.uploads.tree import Stamp, Walk, stamp_of

_SLICE = 5_000  # entries of the tree looked at in one go
_NAMES = 900  # names asked for in one query: an older SQLite takes 999 values
_NAMED = 1_000  # differences of a kind that are named
_RECENT = 300.0  # seconds before the listing since which an upload may be missing from it


_KNOWN = (
    "SELECT name, size, mtime_ns, ctime_ns, inode FROM files"
    " WHERE folder = (SELECT id FROM folders WHERE place = ? AND path = ?)"
)


class Kind(Enum):
    """How a file, an object and the ledger may differ."""

    MISSING = "missing"  # S3 had it, and the bucket does not
    DIFFERENT = "different"  # another object has the key: other content
    NOT_SENT = "not_sent"
    CHANGED = "changed"  # since it was sent
    REFUSED = "refused"  # S3 will never take it
    FOREIGN = "foreign"  # not sent yet, and the key is taken by an object that is not ours
    UNREADABLE = "unreadable"  # a place in the tree
    DELETED_HERE = "deleted_here"  # with `mode: mirror`: gone here, and still in S3
    STILL_HERE = "still_here"  # with `mode: move`: in S3, and still here
    UNCHECKED = "unchecked"  # S3 could not be asked


@dataclass(frozen=True, slots=True)
class Difference:
    """`path` below the directory, as text; `key` and `detail` may be empty."""

    path: str
    key: str
    detail: str


@dataclass(slots=True)
class Findings:
    """What came of one directory: objects of the ledger, their bytes, and how they differ."""

    objects: int = 0
    bytes: int = 0
    others: int = 0  # objects below the same prefix that this ledger knows nothing of
    counts: dict[Kind, int] = field(default_factory=dict)
    named: dict[Kind, list[Difference]] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        return not self.counts

    def add(self, kind: Kind, path: str, key: str = "", detail: str = "") -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        named = self.named.setdefault(kind, [])
        if len(named) < _NAMED:
            named.append(Difference(path, key, detail))


class Verifier:
    """Verifies one directory. Used by one thread."""

    def __init__(self, directory: Directory, read: Read, clock: Clock) -> None:
        self._directory = directory
        self._read = read
        self._clock = clock
        self._found = Findings()
        self._ours = 0  # objects of the listing that the ledger knows

    def run(self) -> Findings:
        """Look at all three. Raises DatabaseError; what S3 or the file system refuse is a finding."""
        began = self._clock.time()
        with closing(sqlite3.connect("")) as listed:  # a temporary file: a bucket may be larger than memory
            objects = _Objects(listed)
            try:
                for page in self._directory.bucket.list_objects(self._directory.prefix.partition("{")[0]):
                    objects.add(page)
            except AwsError as error:
                self._found.add(Kind.UNCHECKED, "", "", _explain(error, "s3:ListBucket on the bucket"))
                self._tree(None)
                return self._found
            self._ledger(objects, began)
            self._tree(objects)
            self._found.others = max(0, objects.count() - self._ours)
        return self._found

    def _ledger(self, objects: _Objects, began: float) -> None:
        """Each object that was confirmed: is it there, and the same?"""
        directory = self._directory
        for page in rows.pages(self._read, directory.place, directory.prefix):
            listed = objects.find([row.key for row in page])
            for row in page:
                self._found.objects += 1
                self._found.bytes += row.stamp[0]
                there = listed.get(row.key)
                self._ours += there is not None
                if there == (row.stamp[0], row.etag):
                    continue
                if there is None and row.time < began - _RECENT:
                    self._found.add(Kind.MISSING, row.path, row.key, f"sent at {row.time}")
                else:
                    self._ask(row)

    def _ask(self, row: Kept) -> None:
        """S3 itself, about an object that is not as it was listed, or was sent since."""
        kind, detail = compare(self._directory, row)
        if kind is None:
            return
        now = rows.find(self._read, self._directory.place, self._directory.prefix, row.path)
        if now is not None and now != row and compare(self._directory, now)[0] is None:
            return  # it was sent again in this moment
        if now is not None:
            self._found.add(kind, row.path, row.key, detail)

    def _tree(self, objects: _Objects | None) -> None:
        """Each file: is it in the ledger, as it is?"""
        directory = self._directory
        try:
            scan = Scan(directory.path, directory.filter, self._known, follow=directory.follow)
            with closing(scan):
                while not scan.done:
                    for relative, stamp in scan.advance(_SLICE):
                        self._differs(objects, relative, stamp)
            self._errors(scan.tally)
            self._by_mode()
        except OSError as error:
            if self._found.objects or os.path.lexists(directory.path):
                self._found.add(Kind.UNREADABLE, "", "", error.strerror or str(error))

    def _errors(self, tally: Tally) -> None:
        for relative, why in tally.errors.items():
            self._found.add(Kind.UNREADABLE, to_text(relative), "", why)
        for _ in range(tally.more_errors):
            self._found.add(Kind.UNREADABLE, "", "", "one of many more")

    def _by_mode(self) -> None:
        """What a mode has still to do. Raises OSError."""
        directory = self._directory
        if directory.mode == "copy":
            return
        sweep = Sweep(directory, self._read)
        while (page := sweep.advance()) is not None:
            mirror = directory.mode == "mirror"
            kind = Kind.DELETED_HERE if mirror else Kind.STILL_HERE
            for row in page.gone if mirror else page.here:
                self._found.add(kind, row.path, row.key)

    def _differs(self, objects: _Objects | None, relative: str, stamp: Stamp) -> None:
        """A file that is not in the ledger as it is."""
        directory, path, now = self._directory, to_text(relative), self._clock.time()
        why = directory.refuses(path, stamp[0], now) or self._refusal(path, stamp)
        if why is not None:
            self._found.add(Kind.REFUSED, path, "", why)
            return
        row = rows.find(self._read, directory.place, directory.prefix, path)
        if row is not None and row.stamp == self._stamp(relative):
            return  # it was sent in this moment
        key = directory.key(path, now)
        self._found.add(Kind.NOT_SENT if row is None else Kind.CHANGED, path, key)
        if row is None and objects is not None and objects.find([key]):
            self._found.add(Kind.FOREIGN, path, key, "the bucket has an object of this key, and the ledger does not")

    def _stamp(self, relative: str) -> Stamp | None:
        folder, _, name = relative.rpartition("/")
        try:
            with closing(Walk(self._directory.path, follow=self._directory.follow)) as walk:
                walk.enter(folder)
                return stamp_of(walk.stat(name))
        except OSError:
            return None

    def _known(self, folder: str, seen: Sequence[Row]) -> set[Row]:
        """What the ledger says of these files."""
        found: set[Row] = set()
        for start in range(0, len(seen), _NAMES):
            names = [row[0] for row in seen[start : start + _NAMES]]
            marks = ",".join("?" * len(names))
            found.update(self._read(f"{_KNOWN} AND name IN ({marks})", (self._directory.place, folder, *names)))  # type: ignore[arg-type]
        return found

    def _refusal(self, path: str, stamp: Stamp) -> str | None:
        folder, _, name = path.rpartition("/")
        found = self._read(
            "SELECT reason FROM refused WHERE folder = (SELECT id FROM folders WHERE place = ? AND path = ?)"
            " AND name = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ? AND inode = ?",
            (self._directory.place, folder, name, *stamp),
        )
        return str(found[0][0]) if found else None


class _Objects:
    """The bucket's listing, on disk."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("CREATE TABLE objects (key TEXT PRIMARY KEY, size INTEGER, etag TEXT) WITHOUT ROWID")

    def add(self, page: Sequence[Listed]) -> None:
        rows_ = [(each.key, each.size, each.etag) for each in page]
        self._connection.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", rows_)

    def find(self, keys: Sequence[str]) -> dict[str, tuple[int, str]]:
        """Size and ETag of those of the keys that were listed."""
        found: dict[str, tuple[int, str]] = {}
        for key in keys:
            row = self._connection.execute("SELECT size, etag FROM objects WHERE key = ?", (key,)).fetchone()
            if row is not None:
                found[key] = row
        return found

    def count(self) -> int:
        return int(self._connection.execute("SELECT COUNT(*) FROM objects").fetchone()[0])


def compare(directory: Directory, row: Kept) -> tuple[Kind | None, str]:
    """Whether the bucket has the object that was confirmed, by one HeadObject; None: it has."""
    try:
        stored, size = directory.bucket.head_object(row.key)
    except NotFound:
        return Kind.MISSING, f"sent at {row.time}"
    except AwsError as error:
        return Kind.UNCHECKED, _explain(error, "s3:GetObject (and s3:ListBucket, so that S3 tells what is missing)")
    wanted = row.checksum.partition(":")[2]
    if size != row.stamp[0]:
        return Kind.DIFFERENT, f"{size} bytes, not {row.stamp[0]}"
    if stored.checksum == wanted or (not stored.checksum and stored.etag == row.etag):
        return None, ""
    if not stored.checksum:
        return Kind.DIFFERENT, f"ETag {stored.etag}, not {row.etag}, and no {directory.algorithm.name}"
    return Kind.DIFFERENT, f"{directory.algorithm.name} {stored.checksum}, not {wanted}"


def _explain(error: AwsError, permission: str) -> str:
    return f"{error}: allow {permission}" if isinstance(error, Denied) else f"{error}: {error.hint}"
