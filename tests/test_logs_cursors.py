"""Cursors on disk: written when acknowledged, kept in memory while the disk fails, and never another's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Said, tiny_disk
from logs_harness import Entry, Rig, append, check, lines, rigs

from agent.engine.clock import FakeClock
from agent.engine.database import Database
from agent.engine.events import Events
from agent.logs.cursors import Cursor, Cursors
from agent.logs.identity import Locator, guard, locate, prefix
from agent.logs.known import Known

Make = Callable[..., Rig]
DAY = 86_400.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "state.db"))
    yield database
    database.close()


def open_cursors(database: Database, clock: FakeClock) -> Cursors:
    return Cursors(database, clock, Events(Said(), clock))


@pytest.fixture
def cursors(database: Database, clock: FakeClock) -> Cursors:
    return open_cursors(database, clock)


def one(path: str = "/a", **fields: object) -> Cursor:
    return Cursor(path, Locator(1, 2, 3), path, **fields)  # type: ignore[arg-type]


# the table


def test_a_cursor_comes_back_as_it_was(cursors: Cursors, database: Database, clock: FakeClock) -> None:
    cursor = one(prefix=(3, "ab"), guard=(2, "cd"), offset=2**40, digest="ef", events=7, refused=1, overwritten=True)
    cursors.save("scope", [cursor])
    assert cursors.load("scope") == [cursor]
    assert open_cursors(database, clock).load("scope") == [cursor]
    assert cursors.load("another scope") == []


def test_saving_again_replaces_and_each_cursor_has_a_row_of_its_own(
    cursors: Cursors, database: Database, clock: FakeClock
) -> None:
    first, second = one(), one()
    cursors.save("scope", [first, second])
    first.offset = 10
    clock.advance(1)
    cursors.save("scope", [first])
    third = one()
    open_cursors(database, clock).save("scope", [third])
    assert [cursor.offset for cursor in cursors.load("scope")] == [0, 10, 0]
    assert len({first.id, second.id, third.id}) == 3


def test_an_entry_begins_once(cursors: Cursors, database: Database, clock: FakeClock) -> None:
    assert cursors.is_new("entry")
    assert open_cursors(database, clock).is_new("entry")  # the first look was not finished
    cursors.began("entry")
    assert not cursors.is_new("entry")
    assert not open_cursors(database, clock).is_new("entry")
    assert cursors.is_new("another")


def test_a_cursor_is_claimed_by_one_input_only(cursors: Cursors) -> None:
    cursors.save("scope", [one("/a"), one("/b")])
    assert [cursor.path for cursor in cursors.claim("scope", lambda cursor: cursor.path == "/a")] == ["/a"]
    assert [cursor.path for cursor in cursors.claim("scope", lambda _: True)] == ["/b"]
    assert cursors.claim("scope", lambda _: True) == []


def test_what_ended_is_forgotten_after_two_weeks_and_what_did_not_is_kept_for_a_year(
    cursors: Cursors, database: Database, clock: FakeClock
) -> None:
    cursors.save("scope", [one("/ended", ended=True), one("/idle")])
    kept, busy = [], one("/busy")
    for days in (13, 2, 350, 40):
        clock.advance(days * DAY)
        cursors.save("scope", [busy])
        kept.append([cursor.path for cursor in open_cursors(database, clock).load("scope")])
    assert kept == [["/ended", "/idle", "/busy"], ["/idle", "/busy"], ["/idle", "/busy"], ["/busy"]]


def test_a_machine_that_was_off_for_years_or_whose_clock_is_wrong_forgets_nothing(
    cursors: Cursors, database: Database, clock: FakeClock
) -> None:
    cursors.save("scope", [one("/ended", ended=True), one("/idle")])
    clock.advance(3000 * DAY)
    assert len(open_cursors(database, clock).load("scope")) == 2


def test_ids_do_not_clash_when_the_table_could_not_be_asked_at_start(tmp_path: Path, clock: FakeClock) -> None:
    database = Database(str(tmp_path / "state.db"))
    before = open_cursors(database, clock)
    before.save("scope", [one("/known")])
    with database.transaction() as connection:
        connection.execute("ALTER TABLE log_cursors RENAME TO hidden")
        connection.execute("CREATE VIEW log_cursors AS SELECT 1")
    blind = open_cursors(database, clock)
    with database.transaction() as connection:
        connection.execute("DROP VIEW log_cursors")
        connection.execute("ALTER TABLE hidden RENAME TO log_cursors")
    blind.save("scope", [one("/new"), one("/newer")])
    assert sorted(cursor.path for cursor in blind.load("scope")) == ["/known", "/new", "/newer"]
    database.close()


# known cursors


def test_known_forgets_the_oldest_that_ended_and_never_one_that_did_not() -> None:
    cursors = [one(f"/{number}", ended=number > 0, id=number) for number in range(5000)]
    known = Known(cursors)
    assert [cursor.path for cursor in known.missing()] == ["/0"]
    held = {cursor.path for each in known._by_inode.values() for cursor in each}
    assert len(held) == 4096
    assert "/0" in held
    assert "/4999" in held


def test_what_was_overwritten_can_not_be_met_again_but_a_copy_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(100)))
    with path.open("rb") as file:
        descriptor = file.fileno()
        cursor = one(id=1, overwritten=True, ended=True)
        cursor.locator, cursor.offset = locate(descriptor), 690
        cursor.prefix, cursor.guard = prefix(descriptor, 1024), guard(descriptor, 690)
        known = Known([cursor])
        assert known.missing() == []
        assert known.recognise(descriptor) is None
        assert known.read_of(descriptor) == 690


# a disk that fails


def full(folder: Path) -> None:
    """Fill the disk to its last byte."""
    with (folder / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def test_shipping_goes_on_while_the_disk_is_full_and_cursors_are_saved_when_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    append(path, lines(10))
    with tiny_disk(kilobytes=300) as folder, rigs(folder) as make:
        rig = make(Entry(str(path)))
        rig.run(10)
        full(folder)
        for number in range(1, 300):
            append(path, lines(10, 10 * number))
            rig.run(6)
        check(lines(3000), rig.logs.messages())
        assert rig.counter("cursor_write_failures") > 0
        (folder / "ballast").unlink()
        append(path, lines(10, 3000))
        rig.run(10)
        assert rig.rows()[0]["offset"] == path.stat().st_size
        assert len(rig.said.fields("cursors_saved_again")) == 1
        rig.crash()
        rig.start()
        rig.run(10)
        check(lines(3010), rig.logs.messages())


def test_a_disk_that_is_full_at_the_start_is_written_when_it_is_not(clock: FakeClock) -> None:
    with tiny_disk(kilobytes=300) as folder, closing(Database(str(folder / "state.db"))) as database:
        full(folder)
        cursors = open_cursors(database, clock)
        assert cursors.load("scope") == []
        cursors.save("scope", [one("/a")])
        (folder / "ballast").unlink()
        cursors.save("scope", [one("/b")])
        assert [cursor.path for cursor in cursors.load("scope")] == ["/a", "/b"]


def test_state_that_is_gone_costs_duplicates_and_nothing_else(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.stop()
    os.unlink(rig.folder.parent / "state.db")
    rig.start()
    rig.run(10)
    check(lines(10), rig.logs.messages(), duplicates=10)
    assert len(rig.logs.messages()) == 20


def test_a_cursor_behind_the_end_of_its_file_as_of_a_restored_snapshot_begins_anew(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.stop()
    rig.edit(lambda cursor: cursor.update(offset=10_000))
    rig.start()
    rig.run(10)
    check(lines(10), rig.logs.messages(), duplicates=10)
    assert len(rig.logs.messages()) == 20
