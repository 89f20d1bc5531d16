"""How far each entry of `logs.journald` is safe, on disk: a row of its own, moved by acknowledgements alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import orjson

from agent.engine.clock import Clock
from agent.engine.database import Database, DatabaseError
from agent.engine.events import Events
from agent.logs.journald.position import Position

_KEEP_SECONDS = 400 * 86400.0  # that a row is kept whose entry is out of the configuration

_TABLES = """
CREATE TABLE IF NOT EXISTS journal_cursors (
    scope TEXT NOT NULL, selection TEXT NOT NULL, seen REAL NOT NULL, cursor TEXT NOT NULL,
    PRIMARY KEY (scope, selection)
);
"""


@dataclass
class JournalCursor:
    """Everything up to `position` is acknowledged. Offsets and counts are those of all runs together."""

    scope: str  # names the entry in the state: its group and stream as written
    selection: str  # the key of its selection
    position: Position | None = None
    group: str = ""
    stream: str = ""
    offset: int = 0  # bytes of journalctl's output
    events: int = 0
    refused: int = 0
    skipped: int = 0  # entries that are too long, and lines that are none
    digest: str = ""  # chained over the payloads: H(previous, SHA-256 of the payload), hex
    inherited: str | None = None  # the key of the selection that it was saved under, if that has changed since

    def document(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def of_document(cls, document: str) -> JournalCursor:
        fields = orjson.loads(document)
        position = fields.pop("position")
        return cls(**fields, position=Position(**position) if position else None)


class JournalCursors:
    """The table. Where the disk fails, cursors are kept in memory and written when it works again."""

    def __init__(self, database: Database, clock: Clock, events: Events) -> None:
        self._database = database
        self._clock = clock
        self._events = events
        self._lock = threading.Lock()
        self._unsaved: dict[tuple[str, str], JournalCursor] = {}
        self._prepared = False
        self._prepare()

    def assign(self, wanted: Sequence[tuple[str, str]]) -> list[JournalCursor]:
        """A cursor for each pair of scope and selection.

        Where units or the like have changed, the entry goes on from the cursor that no other entry of its group and
        stream claims.
        """
        saved = {(cursor.scope, cursor.selection): cursor for cursor in self._load()}
        free = {key: cursor for key, cursor in saved.items() if key not in set(wanted)}
        found: list[JournalCursor] = []
        for scope, selection in wanted:
            cursor = saved.get((scope, selection))
            if cursor is None:
                heir = next((key for key in reversed(free) if key[0] == scope), None)
                cursor = JournalCursor(scope, selection)
                if heir is not None:
                    cursor = replace(free.pop(heir), selection=selection, inherited=heir[1])
            found.append(cursor)
        return found

    def save(self, cursor: JournalCursor) -> None:
        """Write it; it survives the end of this process from here on."""
        with self._lock:
            self._unsaved[cursor.scope, cursor.selection] = cursor
            self._write()

    def _load(self) -> list[JournalCursor]:
        """All rows, the last seen last."""
        try:
            rows = self._database.read("SELECT cursor FROM journal_cursors ORDER BY seen")
        except DatabaseError as error:
            self._failed(error)
            return []
        return [JournalCursor.of_document(str(document)) for (document,) in rows]

    def _write(self) -> None:
        if not self._prepared:
            self._prepare()
        now = self._clock.time()
        try:
            with self._database.transaction() as connection:
                for cursor in self._unsaved.values():
                    if cursor.inherited is not None:
                        old = (cursor.scope, cursor.inherited)
                        connection.execute("DELETE FROM journal_cursors WHERE scope = ? AND selection = ?", old)
                    row = (cursor.scope, cursor.selection, now, replace(cursor, inherited=None).document())
                    connection.execute("INSERT OR REPLACE INTO journal_cursors VALUES (?, ?, ?, ?)", row)
        except DatabaseError as error:
            self._failed(error)
            return
        for cursor in self._unsaved.values():
            cursor.inherited = None
        self._unsaved.clear()
        self._events.over("journal_cursors_not_saved", "", said="journal_cursors_saved_again")

    def _prepare(self) -> None:
        oldest = self._clock.time() - _KEEP_SECONDS
        try:
            with self._database.transaction() as connection:
                connection.execute(_TABLES)
                connection.execute("DELETE FROM journal_cursors WHERE seen < ?", (oldest,))
        except DatabaseError as error:
            self._failed(error)
            return
        self._prepared = True

    def _failed(self, error: DatabaseError) -> None:
        self._events.trouble(
            "error",
            "journal_cursors_not_saved",
            "",
            counter="cursor_write_failures",
            error=str(error),
            hint="free space or mend the disk; shipping goes on, and a restart now would send data twice",
        )
