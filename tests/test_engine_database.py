"""The database: all or nothing, whatever happens; and its failures told apart by what to do about them."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import tiny_disk

from agent.engine.database import Database, DatabaseDamaged, DatabaseUnavailable


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state.db")


@pytest.fixture
def database(path: str) -> Iterator[Database]:
    with closing(Database(path)) as database:
        with database.transaction() as connection:
            connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, blob BLOB)")
        yield database


def numbers(database: Database) -> list[object]:
    return [row[0] for row in database.read("SELECT n FROM t ORDER BY n")]


def add(database: Database, *values: int, durable: bool = False) -> None:
    with database.transaction(durable=durable) as connection:
        connection.executemany("INSERT INTO t (n) VALUES (?)", [(value,) for value in values])


# transactions


def test_what_was_committed_is_there_for_who_opens_it_next(path: str, database: Database) -> None:
    add(database, 1)
    add(database, 2, durable=True)
    with closing(Database(path)) as other:
        assert numbers(other) == [1, 2]


def test_an_exception_inside_undoes_all_of_it_and_comes_through(database: Database) -> None:
    def insert_and_fail() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO t (n) VALUES (1)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        insert_and_fail()
    assert numbers(database) == []
    add(database, 2)
    assert numbers(database) == [2]


def test_an_error_of_sqlite_inside_undoes_all_of_it(database: Database) -> None:
    add(database, 1)
    with pytest.raises(DatabaseUnavailable, match="UNIQUE"):
        add(database, 2, 1)
    assert numbers(database) == [1]


def test_a_transaction_in_a_transaction_is_refused_and_undoes_the_outer_one(database: Database) -> None:
    def nest() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO t (n) VALUES (1)")
            add(database, 2)

    with pytest.raises(DatabaseUnavailable):
        nest()
    assert numbers(database) == []


def test_only_a_durable_transaction_waits_for_the_disk(database: Database) -> None:
    """PRAGMA synchronous: 1 is NORMAL, 2 is FULL (sqlite.org/pragma.html)."""
    with database.transaction() as connection:
        normal = connection.execute("PRAGMA synchronous").fetchone()
    with database.transaction(durable=True) as connection:
        full = connection.execute("PRAGMA synchronous").fetchone()
    with database.transaction() as connection:
        again = connection.execute("PRAGMA synchronous").fetchone()
    assert (normal, full, again) == ((1,), (2,), (1,))


def test_threads_share_it_without_losing_anything(database: Database) -> None:
    failures: list[BaseException] = []

    def write(first: int) -> None:
        try:
            for value in range(first, first + 50):
                add(database, value)
                database.read("SELECT count(*) FROM t")
        except BaseException as error:  # noqa: BLE001 - the test sees it
            failures.append(error)

    threads = [threading.Thread(target=write, args=(1000 * number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert failures == []
    assert database.read("SELECT count(*) FROM t") == [(300,)]


def test_another_reader_sees_only_what_was_committed(path: str, database: Database) -> None:
    with closing(Database(path)) as reader, database.transaction() as connection:
        connection.execute("INSERT INTO t (n) VALUES (1)")
        assert numbers(reader) == []


def test_it_may_live_in_memory() -> None:
    with closing(Database(":memory:")) as database:
        with database.transaction(durable=True) as connection:
            connection.execute("CREATE TABLE t (n INTEGER)")
        add(database, 1)
        assert numbers(database) == [1]


def test_the_log_file_is_cut_back_after_a_burst(path: str, database: Database) -> None:
    with database.transaction() as connection:
        connection.executemany("INSERT INTO t (n, blob) VALUES (?, zeroblob(1000000))", [(n,) for n in range(12)])
    assert os.path.getsize(f"{path}-wal") > 8 << 20
    for value in range(100, 104):
        add(database, value)
    assert os.path.getsize(f"{path}-wal") <= 4 << 20


# damage


def test_a_file_that_is_no_database_is_damaged(path: str) -> None:
    Path(path).write_bytes(b"this is no database, whatever its name may say " * 100)
    with pytest.raises(DatabaseDamaged, match="not a database") as caught:
        Database(path)
    assert path in str(caught.value)


def test_a_page_overwritten_is_found_when_it_is_opened(path: str, database: Database) -> None:
    with database.transaction() as connection:
        connection.executemany("INSERT INTO t (n, blob) VALUES (?, zeroblob(500))", [(n,) for n in range(200)])
    database.close()
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 8192)
    with pytest.raises(DatabaseDamaged):
        Database(path)


def test_a_file_cut_short_is_damaged(path: str, database: Database) -> None:
    with database.transaction() as connection:
        connection.executemany("INSERT INTO t (n, blob) VALUES (?, zeroblob(500))", [(n,) for n in range(200)])
    database.close()
    os.truncate(path, 5000)
    with pytest.raises(DatabaseDamaged):
        Database(path)


def test_damage_met_later_is_damage_too(path: str, database: Database) -> None:
    with database.transaction() as connection:
        connection.executemany("INSERT INTO t (n, blob) VALUES (?, zeroblob(500))", [(n,) for n in range(2000)])
        connection.execute("PRAGMA cache_size=1")
    with database.transaction():
        pass
    database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    database.read("PRAGMA shrink_memory")
    with open(path, "r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (os.path.getsize(path) - 8192))
    with pytest.raises(DatabaseDamaged):
        database.read("SELECT sum(length(blob)) FROM t")


def test_an_empty_file_is_a_new_database(path: str) -> None:
    Path(path).touch()
    with closing(Database(path)) as database:
        assert database.read("SELECT count(*) FROM sqlite_master") == [(0,)]


# disks


def test_a_database_that_may_not_grow_is_unavailable_and_keeps_what_it_has(database: Database) -> None:
    add(database, 1)
    database.read("PRAGMA max_page_count=3")
    with pytest.raises(DatabaseUnavailable, match="full"), database.transaction() as connection:
        connection.execute("INSERT INTO t (n, blob) VALUES (2, zeroblob(1000000))")
    assert numbers(database) == [1]
    database.read("PRAGMA max_page_count=100000")
    add(database, 3)
    assert numbers(database) == [1, 3]


def test_a_full_disk_is_unavailable_and_loses_nothing_that_was_committed() -> None:
    with tiny_disk(kilobytes=400) as disk:
        path = str(disk / "state.db")
        with closing(Database(path)) as database:
            kept = fill(database)
            assert kept
            assert numbers(database) == kept
        with closing(Database(path)) as database:
            assert numbers(database) == kept


def fill(database: Database) -> list[object]:
    """Insert until there is no more room; what was committed."""
    kept: list[object] = []
    with database.transaction() as connection:
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, blob BLOB)")
    for value in range(100):
        try:
            with database.transaction(durable=True) as connection:
                connection.execute("INSERT INTO t (n, blob) VALUES (?, zeroblob(10000))", (value,))
        except DatabaseUnavailable:
            return kept
        kept.append(value)
    pytest.fail("the disk has no end")


def test_a_read_only_disk_is_unavailable() -> None:
    with tiny_disk(kilobytes=400, read_only=True) as disk, pytest.raises(DatabaseUnavailable):
        Database(str(disk / "state.db"))


@pytest.mark.parametrize("place", ["missing/state.db", "."])
def test_a_place_where_no_file_can_be_is_unavailable(tmp_path: Path, place: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        Database(str(tmp_path / place))


def test_after_closing_it_is_unavailable(database: Database) -> None:
    database.close()
    database.close()
    with pytest.raises(DatabaseUnavailable, match="closed"):
        add(database, 1)
    with pytest.raises(DatabaseUnavailable, match="closed"):
        numbers(database)


def test_opening_fails_without_leaving_a_descriptor(path: str) -> None:
    Path(path).write_bytes(b"no database" * 1000)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(DatabaseDamaged):
            Database(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_writer_from_outside_is_waited_for(path: str, database: Database) -> None:
    """An operator's sqlite3 shell, or a backup."""
    outside = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    outside.execute("BEGIN IMMEDIATE")
    waiting = threading.Thread(target=add, args=(database, 1))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    outside.execute("COMMIT")
    waiting.join(10)
    outside.close()
    assert numbers(database) == [1]
