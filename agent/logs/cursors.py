"""How far each file is safe, on disk: one row for each generation of a file that was ever seen."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields

from agent.engine.clock import Clock
from agent.engine.database import Database, DatabaseError
from agent.engine.events import Events
from agent.logs.identity import Locator

_KEEP_ENDED_SECONDS = 14 * 86400.0  # a generation that ended is forgotten then; CloudWatch takes nothing older
_KEEP_SECONDS = 400 * 86400.0  # any other: its file may be idle, or its entry out of the configuration for a while

_TABLES = """
CREATE TABLE IF NOT EXISTS log_inputs (entry TEXT PRIMARY KEY, started REAL NOT NULL);
CREATE TABLE IF NOT EXISTS log_cursors (
    id INTEGER PRIMARY KEY, scope TEXT NOT NULL, seen REAL NOT NULL, ended INTEGER NOT NULL, cursor TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS log_cursors_scope ON log_cursors (scope, seen);
"""


@dataclass(slots=True)
class Cursor:
    """One generation of one file: everything below `offset` is acknowledged."""

    path: str
    locator: Locator
    origin: str = ""  # the path where it was first seen: it names the stream, also after a rename
    group: str = ""
    stream: str = ""
    prefix: tuple[int, str] = (0, "")  # length and hash of the head
    offset: int = 0
    guard: tuple[int, str] = (0, "")  # length and hash of the last bytes before `offset`
    size: int = 0  # when last looked at
    read: int = 0
    events: int = 0
    refused: int = 0
    dropped: int = 0  # events that a rule of the configuration drops
    encoding: str = ""  # by the byte order mark at the head; "": as configured
    digest: str = ""  # chained over the payloads: H(previous, SHA-256 of the payload), hex
    ended: bool = False  # not looked for any more: read to its end and closed, or nowhere to be found
    overwritten: bool = False  # another content is in its place, so it can't be seen again
    written: int = 0  # time of its last change, in ns, when its path was last seen to lead to it
    changed: int = 0  # the same of its inode (ctime): a file that still has both is as it was
    lost: int = 0  # bytes that were gone before they could be read
    lost_why: str = ""
    id: int | None = None

    @property
    def names(self) -> frozenset[str]:
        """That its file had, first and last: what it is rotated to is named after them."""
        return frozenset((os.path.basename(self.origin), os.path.basename(self.path)))

    def lose(self, number: int, why: str) -> None:
        """So many bytes can never be read any more."""
        self.lost += number
        self.lost_why = why if number else self.lost_why

    def document(self) -> str:
        """As JSON in ASCII: a file's name may be no valid text, and orjson takes nothing else."""
        return json.dumps({**{name: getattr(self, name) for name in _FIELDS}, "locator": asdict(self.locator)})

    @classmethod
    def of_document(cls, id_: int, document: str) -> Cursor:
        """Also of another version: a field that it did not know has its default, one of its own is let be."""
        fields = {name: value for name, value in json.loads(document).items() if name in _FIELDS}
        pairs = {name: tuple(fields[name]) for name in ("prefix", "guard")}
        return cls(**{**fields, **pairs, "locator": Locator(**fields["locator"]), "id": id_})


_FIELDS = tuple(field.name for field in fields(Cursor))


class Cursors:
    """The table. Where the disk fails, cursors are kept in memory and written when it works again."""

    def __init__(self, database: Database, clock: Clock, events: Events) -> None:
        self._database = database
        self._clock = clock
        self._events = events
        self._lock = threading.Lock()
        self._unsaved: dict[int, tuple[int, str, float, bool, str]] = {}
        self._claimed: set[int | None] = set()
        self._last_id = 0
        self._prepared = False
        self._prepare()

    def is_new(self, entry: str) -> bool:
        """Whether an entry of the configuration never ran before."""
        try:
            return not list(self._database.read("SELECT 1 FROM log_inputs WHERE entry = ?", (entry,)))
        except DatabaseError as error:
            self._failed(error)
            return False

    def began(self, entry: str) -> None:
        """Note that the entry has run: that its files of the first look are saved."""
        try:
            with self._database.transaction() as connection:
                connection.execute("INSERT OR IGNORE INTO log_inputs VALUES (?, ?)", (entry, self._clock.time()))
        except DatabaseError as error:
            self._failed(error)

    def load(self, scope: str) -> list[Cursor]:
        """What is known of a scope's files, last seen last."""
        try:
            rows = self._database.read("SELECT id, cursor FROM log_cursors WHERE scope = ? ORDER BY seen", (scope,))
        except DatabaseError as error:
            self._failed(error)
            return []
        with self._lock:
            unsaved = {row[0]: row[4] for row in self._unsaved.values() if row[1] == scope}
        return [Cursor.of_document(id_, document) for id_, document in {**dict(rows), **unsaved}.items()]  # type: ignore[arg-type]

    def claim(self, scope: str, belongs: Callable[[Cursor], bool]) -> list[Cursor]:
        """Those of `load` that belong to one input; inputs may share a scope, but no cursor."""
        mine = [cursor for cursor in self.load(scope) if cursor.id not in self._claimed and belongs(cursor)]
        self._claimed.update(cursor.id for cursor in mine)
        return mine

    def hold(self, cursors: Iterable[Cursor]) -> None:
        """These are claimed, and no others: what other inputs had is there for the next that comes."""
        self._claimed = {cursor.id for cursor in cursors}

    def save(self, scope: str, cursors: Iterable[Cursor]) -> None:
        """Write cursors of one input; they survive the end of this process from here on."""
        now = self._clock.time()
        with self._lock:
            for cursor in cursors:
                if cursor.id is None:
                    cursor.id = self._next_id()
                self._unsaved[cursor.id] = (cursor.id, scope, now, cursor.ended, cursor.document())
            self._write()

    def _next_id(self) -> int:
        """One more than ever; while the table can't be asked, the time in µs, which is more than it can have."""
        floor = 0 if self._prepared else int(self._clock.time() * 1e6)
        self._last_id = max(self._last_id, floor) + 1
        return self._last_id

    def _write(self) -> None:
        if not self._prepared:
            self._prepare()
        try:
            with self._database.transaction() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO log_cursors VALUES (?, ?, ?, ?, ?)", self._unsaved.values()
                )
        except DatabaseError as error:
            self._failed(error)
            return
        self._unsaved.clear()
        self._events.over("cursors_not_saved", "", said="cursors_saved_again")

    def _prepare(self) -> None:
        try:
            with self._database.transaction() as connection:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                (latest,) = connection.execute("SELECT coalesce(max(seen), 0) FROM log_cursors").fetchone()
                present = min(latest, self._clock.time())  # a clock that is years ahead must not make us forget
                limits = (present - _KEEP_SECONDS, present - _KEEP_ENDED_SECONDS)
                connection.execute("DELETE FROM log_cursors WHERE seen < ? OR (ended AND seen < ?)", limits)
                (known,) = connection.execute("SELECT coalesce(max(id), 0) FROM log_cursors").fetchone()
        except DatabaseError as error:
            self._failed(error)
            return
        self._last_id = max(self._last_id, known)
        self._prepared = True

    def _failed(self, error: DatabaseError) -> None:
        self._events.trouble(
            "error",
            "cursors_not_saved",
            "",
            counter="cursor_write_failures",
            error=str(error),
            hint="free space or mend the disk; shipping goes on, and a restart now would send data twice",
        )
