"""The spool keeps what is not acknowledged, through crashes and full disks, within its bounds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import tiny_disk
from metrics_fakes import Told, entry

from agent.engine.database import Database, DatabaseUnavailable
from agent.metrics.encode import Fragment, encode
from agent.metrics.spool import Load, Spool

NAMESPACE = "CWAgent"
LARGE = 64 << 20


class FullDisk(Database):
    """A database whose disk can be filled up: reads go on, writes fail."""

    full = False

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        if self.full:
            raise DatabaseUnavailable("database or disk is full")
        with super().transaction(durable=durable) as connection:
            yield connection


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def disk() -> Iterator[FullDisk]:
    database = FullDisk(":memory:")
    yield database
    database.close()


def fragment(name: str, timestamp: int = 1_700_000_000) -> Fragment:
    (made,) = encode([entry(name, timestamp=timestamp)], high_resolution=False)
    return made


def names(load: Load | None) -> list[str]:
    return [] if load is None else [body.split(b'"')[3].decode() for body in load.bodies]


def test_what_is_taken_stays_until_it_is_settled(disk, told) -> None:
    spool = Spool(disk, LARGE, told)
    spool.put(NAMESPACE, [fragment("a")])
    load = spool.take()
    assert load is not None
    assert names(spool.take()) == ["a"]
    spool.settle(load.parcels)
    assert spool.take() is None
    assert (spool.datums, spool.bytes, spool.oldest()) == (0, 0, None)


def test_the_oldest_come_first_or_the_newest(disk, told) -> None:
    spool = Spool(disk, LARGE, told)
    spool.put(NAMESPACE, [fragment("new", 300), fragment("old", 100), fragment("middle", 200)])
    assert names(spool.take()) == ["old", "middle", "new"]
    assert names(spool.take(newest=True)) == ["new", "middle", "old"]
    assert spool.oldest() == 100


def test_a_load_is_what_one_request_can_carry(disk, told) -> None:
    spool = Spool(disk, LARGE, told)
    for number in range(5):
        timestamp = 1_700_000_000 + number
        spool.put(NAMESPACE, encode([entry(f"m{i}", timestamp=timestamp) for i in range(400)], high_resolution=False))
    load = spool.take()
    assert load is not None
    assert (load.datums, len(load.parcels)) == (800, 2)


def test_fragments_of_another_namespace_go_in_another_request(disk, told) -> None:
    spool = Spool(disk, LARGE, told)
    spool.put("One", [fragment("a", 1)])
    spool.put("Two", [fragment("b", 2)])
    load = spool.take()
    assert load is not None
    assert (load.namespace, names(load)) == ("One", ["a"])


def test_a_crash_loses_nothing_that_was_put(tmp_path: Path, told) -> None:
    path = str(tmp_path / "spool.db")
    crashed = Database(path)
    spool = Spool(crashed, LARGE, told)
    spool.put(NAMESPACE, [fragment("a", 100), fragment("b", 200)])
    first = spool.take()
    assert first is not None
    spool.settle(first.parcels[:1])
    again = Database(path)  # the first was never closed
    try:
        revived = Spool(again, LARGE, told)
        assert names(revived.take()) == ["b"]
        assert (revived.datums, revived.bytes, revived.oldest()) == (spool.datums, spool.bytes, 200)
        revived.put(NAMESPACE, [fragment("c", 300)])
        assert names(revived.take()) == ["b", "c"]
    finally:
        again.close()
        crashed.close()


def test_over_its_size_the_oldest_are_dropped_counted_and_said(disk, told) -> None:
    piece = fragment("m0", 0)
    spool = Spool(disk, 3 * (len(piece.body) + 100), told)
    for number in range(5):
        spool.put(NAMESPACE, [fragment(f"m{number}", number)])
    assert names(spool.take()) == ["m2", "m3", "m4"]
    assert spool.dropped == {"spool_full": 2}
    assert told.counters()["samples_dropped"] == 2
    assert told.log.fields("samples_dropped")[0]["reason"] == "spool_full"


def test_over_its_age_the_oldest_are_dropped_counted_and_said(disk, told) -> None:
    spool = Spool(disk, LARGE, told)
    spool.put(NAMESPACE, [fragment("old", 100), fragment("new", 200)])
    spool.expire(before=150.0)
    assert names(spool.take()) == ["new"]
    assert spool.dropped == {"expired": 1}
    assert told.counters()["samples_dropped"] == 1


def test_expiry_reaches_beyond_one_look_at_the_spool(disk, told) -> None:
    spool = Spool(disk, LARGE, told)
    spool.put(NAMESPACE, [fragment("m", number) for number in range(1100)])
    spool.expire(before=1099)
    assert (spool.datums, spool.oldest()) == (1, 1099)


def test_while_the_disk_is_full_samples_are_held_in_memory_and_written_later(disk, told) -> None:
    spool = Spool(disk, LARGE, told)
    spool.put(NAMESPACE, [fragment("before", 100)])
    disk.full = True
    spool.put(NAMESPACE, [fragment("during", 200)])
    assert names(spool.take()) == ["before", "during"]
    assert told.log.fields("spool_not_written")[0]["error"] == "database or disk is full"
    assert disk.read("SELECT COUNT(*) FROM fragments") == [(1,)]
    disk.full = False
    spool.put(NAMESPACE, [fragment("after", 300)])
    assert disk.read("SELECT COUNT(*) FROM fragments") == [(3,)]
    assert "spool_written_again" in told.log.names()
    assert (names(spool.take()), spool.datums) == (["before", "during", "after"], 3)


def test_what_is_acknowledged_while_the_disk_is_full_is_not_sent_again(disk, told) -> None:
    spool = Spool(disk, LARGE, told)
    spool.put(NAMESPACE, [fragment("a", 100)])
    load = spool.take()
    assert load is not None
    disk.full = True
    spool.settle(load.parcels)
    assert spool.take() is None
    disk.full = False
    spool.put(NAMESPACE, [])
    assert disk.read("SELECT COUNT(*) FROM fragments") == [(0,)]


def test_memory_for_a_full_disk_has_a_bound(disk, told) -> None:
    spool = Spool(disk, LARGE, told)
    disk.full = True
    for number in range(10):
        spool.put(NAMESPACE, [Fragment(number, 1, b"x" * (1 << 20))])
    assert spool.dropped == {"memory_full": 3}
    assert spool.oldest() == 3
    assert spool.bytes <= 8 << 20


def test_a_load_in_hand_can_be_settled_after_it_moved_from_memory_to_disk(disk, told) -> None:
    spool = Spool(disk, LARGE, told)
    disk.full = True
    spool.put(NAMESPACE, [fragment("a", 100)])
    load = spool.take()
    assert load is not None
    disk.full = False
    spool.put(NAMESPACE, [fragment("b", 200)])
    spool.settle(load.parcels)
    assert names(spool.take()) == ["b"]
    assert disk.read("SELECT COUNT(*) FROM fragments") == [(1,)]


def test_halves_stand_alone_in_the_place_of_the_whole(disk, told) -> None:
    spool = Spool(disk, LARGE, told)
    spool.put(NAMESPACE, [fragment("a", 100), fragment("b", 100), fragment("c", 200)])
    load = spool.take()
    assert load is not None
    spool.split(load)
    assert spool.datums == 3
    assert names(spool.take()) == ["a"]
    spool.put(NAMESPACE, [fragment("d", 50)])
    assert names(spool.take()) == ["d"]


def test_a_disk_that_is_really_full_costs_nothing_but_memory(told) -> None:
    body = b"x" * 20_000
    with tiny_disk(kilobytes=400) as folder, closing(Database(str(folder / "spool.db"))) as database:
        spool = Spool(database, LARGE, told)
        for number in range(60):
            spool.put(NAMESPACE, [Fragment(number, 1, body)])
        assert told.log.fields("spool_not_written")[0]["error"].endswith("database or disk is full")
        assert (spool.datums, spool.oldest(), spool.dropped) == (60, 0, {})
        for _ in range(2):
            load = spool.take()
            assert load is not None
            spool.settle(load.parcels)
        spool.put(NAMESPACE, [])
        assert (spool.datums, spool.take(), spool.bytes) == (0, None, 0)
