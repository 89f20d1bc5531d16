"""How far each file is safe, on disk: one row for each generation of a file that was ever seen."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

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


@dataclass
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
    id: int | None = None

    def document(self) -> str:
        """As JSON in ASCII: a file's name may be no valid text, and orjson takes nothing else."""
        return json.dumps(asdict(self))

    @classmethod
    def of_document(cls, id_: int, document: str) -> Cursor:
        fields = json.loads(document)
        pairs = {name: tuple(fields[name]) for name in ("prefix", "guard")}
        return cls(**{**fields, **pairs, "locator": Locator(**fields["locator"]), "id": id_})


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

    def begin(self, entry: str) -> bool:
        """Note that an entry of the configuration runs; True if it never did before."""
        try:
            with self._database.transaction() as connection:
                row = (entry, self._clock.time())
                return connection.execute("INSERT OR IGNORE INTO log_inputs VALUES (?, ?)", row).rowcount == 1
        except DatabaseError as error:
            self._failed(error)
            return False

    def load(self, scope: str) -> list[Cursor]:
        """What is known of a scope's files, last seen last."""
        try:
            rows = self._database.read("SELECT id, cursor FROM log_cursors WHERE scope = ? ORDER BY seen", (scope,))
        except DatabaseError as error:
            self._failed(error)
            return []
        return [Cursor.of_document(id_, document) for id_, document in rows]  # type: ignore[arg-type]

    def claim(self, scope: str, belongs: Callable[[Cursor], bool]) -> list[Cursor]:
        """Those of `load` that belong to one input; inputs may share a scope, but no cursor."""
        mine = [cursor for cursor in self.load(scope) if cursor.id not in self._claimed and belongs(cursor)]
        self._claimed.update(cursor.id for cursor in mine)
        return mine

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
        now = self._clock.time()
        try:
            with self._database.transaction() as connection:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                limits = (now - _KEEP_SECONDS, now - _KEEP_ENDED_SECONDS)
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
