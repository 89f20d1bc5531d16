"""The state directory: one agent's, one instance's. State of another instance, or damaged, is set aside.

An image may carry the state of the instance it was made of. Cursors of another instance would skip this one's
data, so they are moved away, never used and never deleted. Where the directory can't be
written, state lives in memory and that is said: a full disk does not stop what carries data off it.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import closing

from agent.engine.clock import Clock
from agent.engine.database import Database, DatabaseDamaged, DatabaseError
from agent.engine.events import Events

SCHEMA = 1  # of the databases; state of a newer one is set aside
_META = "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_STATE = "state.db"
_LOCK = "lock"
_SET_ASIDE = "set-aside"
_DAMAGED = "damaged"
_KEPT_DAMAGED = 5  # damaged databases kept for a look at them; older ones are removed


class StateError(Exception):
    """The state directory can't be used as it is.

    StateError
    └── StateBusy  another agent uses it: stop that one, or give this one a `state_dir` of its own
    """


class StateBusy(StateError):
    """Another agent holds the lock."""

    def __init__(self, directory: str) -> None:
        super().__init__(
            f"{directory}: another outlive agent is using this state directory; "
            "stop it (systemctl stop outlive), or set agent.state_dir to a directory of this agent's own"
        )


class StateDirectory:
    """Where everything that must survive a restart is kept. Use `open`."""

    def __init__(self, path: str, events: Events, lock: int | None, durable: bool) -> None:
        self.path = path
        self.durable = durable  # False: some of the state lives in memory until the end
        self._in_memory = not durable  # all of it
        self._events = events
        self._lock = lock
        self._databases: dict[str, Database] = {}

    @classmethod
    def open(cls, path: str, instance_id: str, clock: Clock, events: Events) -> StateDirectory:
        """Lock the directory, set foreign state aside, bind what is left to `instance_id`.

        Raises StateBusy. A directory that can't be written is an event, not an error: shipping goes on with the
        cursors in memory.
        """
        state = cls(path, events, None, durable=True)
        try:
            state._lock = _lock(path)
            state._bind(instance_id, clock)
        except (OSError, DatabaseError) as error:
            state._in_memory = True  # nothing in the directory is known to be ours
            state._say_not_durable(error)
        return state

    def database(self, name: str) -> Database:
        """The database `name` of this directory, opened once; a damaged one is set aside, said, and begun afresh."""
        if name not in self._databases:
            self._databases[name] = self._open_database(name)
        return self._databases[name]

    def file(self, *parts: str) -> str:
        """The path of a file or folder in this directory."""
        return os.path.join(self.path, *parts)

    def close(self) -> None:
        for database in self._databases.values():
            database.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open_database(self, name: str) -> Database:
        if self._in_memory:
            return Database(":memory:")
        try:
            return self._open_file(name)
        except (OSError, DatabaseError) as error:
            self._say_not_durable(error)
            return Database(":memory:")

    def _say_not_durable(self, error: Exception) -> None:
        self.durable = False
        self._events.say(
            "error",
            "state_not_durable",
            counter="state_failures",
            directory=self.path,
            error=str(error),
            hint="make it writable for the agent's user, or free space; then restart, which sends data twice",
        )

    def _open_file(self, name: str) -> Database:
        try:
            return Database(self.file(name))
        except DatabaseDamaged as error:
            self._set_aside([name, f"{name}-wal", f"{name}-shm"], _DAMAGED)
            self._events.say(
                "error",
                "state_damaged",
                counter="state_failures",
                error=str(error),
                hint="it was set aside; what it knew as sent may be sent again",
            )
        return Database(self.file(name))

    def _bind(self, instance_id: str, clock: Clock) -> None:
        """Make the directory this instance's. Raises OSError, DatabaseError."""
        owner, schema = self._claim(instance_id, clock)
        if owner == instance_id and schema <= SCHEMA:
            return
        self._set_aside(self._contents(), f"of-{owner}" if owner != instance_id else f"schema-{schema}")
        self._events.say(
            "warning",
            "foreign_state_set_aside",
            counter="state_set_aside",
            owner=owner,
            instance_id=instance_id,
            schema=schema,
        )
        self._claim(instance_id, clock)

    def _claim(self, instance_id: str, clock: Clock) -> tuple[str | None, int]:
        """Whose state it is, and of which schema. What is nobody's becomes this instance's."""
        with closing(self._open_file(_STATE)) as database:
            owner, schema = _owner(database)
            if owner is None and schema <= SCHEMA:
                _write_owner(database, instance_id, clock)
                owner = instance_id
            return owner, schema

    def _contents(self) -> list[str]:
        """All there is, the database that names the owner last: setting aside may be cut short, and begun again."""
        names = [name for name in os.listdir(self.path) if name not in (_LOCK, _SET_ASIDE)]
        return sorted(names, key=lambda name: (name.startswith(_STATE), name == _STATE))

    def _set_aside(self, names: list[str], reason: str) -> None:
        safe = "".join(char if char.isalnum() or char in "-_." else "_" for char in reason)
        folder = self.file(_SET_ASIDE, f"{time.time_ns()}-{safe[:80]}")
        os.makedirs(folder, mode=0o700)
        for name in names:
            if os.path.lexists(self.file(name)):
                os.rename(self.file(name), os.path.join(folder, name))
        self._prune()

    def _prune(self) -> None:
        """Damaged databases of a failing disk must not fill it; what was another instance's is not ours to delete."""
        import shutil

        names = sorted(os.listdir(self.file(_SET_ASIDE)))
        damaged = [name for name in names if name.partition("-")[2] == _DAMAGED]
        for name in damaged[:-_KEPT_DAMAGED]:
            shutil.rmtree(self.file(_SET_ASIDE, name), ignore_errors=True)


def _lock(path: str) -> int:
    """An exclusive lock on the directory, held until closed. Raises StateBusy, OSError."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    descriptor = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise StateBusy(path) from None
        raise
    return descriptor


def _owner(database: Database) -> tuple[str | None, int]:
    """The instance that the state belongs to, and its schema."""
    with database.transaction() as connection:
        connection.execute(_META)
        rows = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    schema = rows.get("schema", str(SCHEMA))
    return rows.get("instance_id"), int(schema) if schema.isdecimal() else SCHEMA + 1


def _write_owner(database: Database, instance_id: str, clock: Clock) -> None:
    with database.transaction(durable=True) as connection:
        connection.execute(_META)
        connection.executemany(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)",
            [("instance_id", instance_id), ("schema", str(SCHEMA)), ("opened", str(int(clock.time())))],
        )
