"""The drain's journal: what is about to be done is on disk before it is done, so that a crash resumes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from agent.drain.notice import Reason
from agent.engine.database import Database, DatabaseError
from agent.engine.events import Events


class Phase(StrEnum):
    """How far a drain has come, in order."""

    NOTICED = "noticed"
    QUIESCING = "quiescing"
    SEALING = "sealing"
    FINISHING = "finishing"
    RECEIPT = "receipt"
    COMPLETING = "completing"
    DONE = "done"


@dataclass
class CommandRecord:
    """One run of a configured command."""

    name: str
    state: str = "running"  # running, done
    exit_code: int | None = None  # None: not known, never started, or ended by a signal that we sent
    seconds: float = 0.0
    note: str = ""


@dataclass
class DrainRecord:
    """Everything that a drain must not forget. Times in seconds since the epoch."""

    drain_id: str
    boot_id: str
    reason: Reason
    started: float
    deadline: float
    note: str = ""
    phase: Phase = Phase.NOTICED
    commands: dict[str, CommandRecord] = field(default_factory=dict)
    outcome: str | None = None  # proven or incomplete
    result: str | None = None  # what the hook is answered
    hook: dict[str, Any] = field(default_factory=dict)
    revision: int = 0
    finished: float | None = None
    gaps: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of_document(cls, text: str) -> DrainRecord:
        fields = orjson.loads(text)
        fields["phase"] = Phase(fields["phase"])
        fields["commands"] = {name: CommandRecord(**record) for name, record in fields["commands"].items()}
        return cls(**fields)


class Journal:
    """The one drain of this stay, in `state.db`."""

    def __init__(self, database: Database, events: Events) -> None:
        self._database = database
        self._events = events
        self._write("CREATE TABLE IF NOT EXISTS drain (one INTEGER PRIMARY KEY, record TEXT NOT NULL)")

    def load(self) -> DrainRecord | None:
        """The drain that was begun, if any."""
        try:
            rows = self._database.read("SELECT record FROM drain WHERE one = 1")
        except DatabaseError as error:
            self._failed(error)
            return None
        return DrainRecord.of_document(str(rows[0][0])) if rows else None

    def save(self, record: DrainRecord) -> None:
        """Durable when this returns; where the disk fails, the drain goes on without (and says so)."""
        self._write("INSERT OR REPLACE INTO drain VALUES (1, ?)", orjson.dumps(record).decode())

    def forget(self) -> None:
        """No drain: the instance stays."""
        self._write("DELETE FROM drain")

    def _write(self, sql: str, *parameters: str) -> None:
        try:
            with self._database.transaction(durable=True) as connection:
                connection.execute(sql, parameters)
        except DatabaseError as error:
            self._failed(error)

    def _failed(self, error: DatabaseError) -> None:
        self._events.trouble(
            "error",
            "drain_not_journaled",
            "",
            counter="journal_failures",
            error=str(error),
            hint="free space or mend the disk: a crash now would begin the drain anew",
        )
