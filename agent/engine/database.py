"""One SQLite database: opened with care, written in short transactions, shared by threads.

WAL with synchronous=NORMAL survives the end of the process at any moment; a power cut may lose the last
transactions (they cost duplicates). `durable=True` survives that too.
Source: sqlite.org/pragma.html#pragma_synchronous.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_BUSY_TIMEOUT_MS = 5000  # bounds a wait for a reader from outside, such as a backup
_CACHE_KIB = 256  # of pages in memory: rows are written by key and read at start
_WAL_LIMIT_BYTES = 4 << 20  # the log file is cut back to this after a checkpoint


class DatabaseError(Exception):
    """A database could not do what was asked.

    DatabaseError
    ├── DatabaseDamaged      its content makes no sense: set it aside and start afresh
    └── DatabaseUnavailable  disk full, read-only or failing: free space or mend the disk; writes are tried again
    """


class DatabaseDamaged(DatabaseError):
    """The file is no sound SQLite database."""


class DatabaseUnavailable(DatabaseError):
    """The database can't be written or read now."""


class Database:
    """One connection under one lock. `path` may be ":memory:"."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection = _connect(path)

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing. Raises DatabaseUnavailable or DatabaseDamaged; what happens inside is then undone."""
        with self._lock:
            try:
                self._connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise translate(error, self.path) from error

    def read(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """The rows of one query. Raises like `transaction`."""
        with self._lock:
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise translate(error, self.path) from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def translate(error: sqlite3.Error, path: str) -> DatabaseError:
    """SQLite's error as one of ours."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    kind = DatabaseDamaged if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) else DatabaseUnavailable
    return kind(f"{path}: {error}")


def _connect(path: str) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise translate(error, path) from error
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    connection.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        damaged = sqlite3.DatabaseError(verdict)
        damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damaged
