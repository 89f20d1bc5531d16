"""A changed section `logs`: what is the same goes on, what is gone ends with its acknowledgements, no line twice."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Said
from logs_harness import STEPS, FakeLogs, FakeSamples, append, check, copytruncate, lines

from agent.aws.errors import Unreachable
from agent.config.sections.logs import Logs
from agent.engine.clock import FakeClock
from agent.engine.database import Database
from agent.engine.events import Events
from agent.logs.job import LogsJob
from agent.logs.tail import TailedFile

AWAY = Unreachable("PutLogEvents", "OSError")


class HookedClock(FakeClock):
    """A clock that does something when it is asked for the time the second time from now."""

    def __init__(self) -> None:
        super().__init__()
        self.second: Callable[[], object] | None = None
        self._first = True

    def time(self) -> float:
        if self.second is not None and not self._first:
            hook, self.second = self.second, None
            hook()
        self._first = self.second is None
        return super().time()


class Bench:
    """A job whose workers are stepped here; its entries are changed by `adapt`."""

    def __init__(self, home: Path, *entries: dict[str, Any]) -> None:
        self.home = home
        self.clock = HookedClock()
        self.logs = FakeLogs(self.clock)
        self.database = Database(str(home / "state.db"))
        self.said = Said()
        self.events = Events(self.said, self.clock)
        section = self.section(*entries)
        self.job = LogsJob(
            section, self.logs, self.database, self.clock, self.events, random.Random(0), FakeSamples()
        )
        self.workers = [slot.worker for thread in self.job.threads for slot in thread._slots]

    def section(self, *entries: dict[str, Any], **options: Any) -> Logs:
        files = [{"group": "/g", "stream": "s", **entry, "path": str(self.home / entry["path"])} for entry in entries]
        return Logs.model_validate({"files": files, **options})

    def adapt(self, *entries: dict[str, Any], **options: Any) -> None:
        self.job.adapt(self.section(*entries, **options))

    def run(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            for worker in self.workers:
                worker.step(self.clock.monotonic())
            self.clock.advance(0.05)

    def file(self, name: str) -> TailedFile:
        [found] = [file for file in self.job._files() if file.path == str(self.home / name) and not file.sealed]
        return found

    def write(self, name: str, messages: list[str]) -> None:
        append(self.home / name, messages)

    def close(self) -> None:
        for source in self.job._inputs:
            source.close()
        self.database.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*entries: dict[str, Any]) -> Bench:
        made.append(Bench(tmp_path, *entries))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


A, B = {"path": "a.log"}, {"path": "b.log"}
DROPPING = {"path": "a.log", "drop": ["secret"]}


def test_an_entry_that_did_not_change_goes_on_with_the_very_files_it_has_open(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.run(2)
    before = bench.file("a.log")
    bench.adapt(B, A)
    bench.write("b.log", lines(10, 10))
    bench.run(10)
    assert bench.file("a.log") is before
    check(lines(20), bench.logs.messages())


def test_a_reload_in_the_middle_of_a_rotation_disturbs_nothing(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.run(2)
    (bench.home / "a.log").rename(bench.home / "old")
    bench.adapt(A, B)
    bench.write("old", lines(5, 10))
    bench.run(3)
    bench.write("a.log", lines(5, 15))
    bench.adapt(A)
    bench.write("old", lines(5, 20))
    bench.run(20)
    check(lines(25), bench.logs.messages())
    assert bench.events.counters().get("log_bytes_lost", 0) == 0


def test_a_new_entry_begins_at_once(make: Any) -> None:
    bench = make(A)
    bench.run(1)
    bench.write("b.log", lines(3))
    bench.adapt(A, B)
    bench.run(10)
    assert bench.logs.messages() == lines(3)


def test_a_removed_entry_is_read_no_further_and_ends_when_what_was_read_is_acknowledged(make: Any) -> None:
    bench = make(A, B)
    bench.write("a.log", lines(10))
    bench.logs.down = AWAY
    bench.run(10)
    bench.adapt(B)
    bench.write("a.log", lines(10, 10))
    bench.run(60)
    assert bench.job.debt().items == 1
    bench.logs.down = None
    bench.run(60)
    assert bench.logs.messages() == lines(10)
    assert bench.job.debt().bytes == 0
    assert [file.path for file in bench.job._files()] == []


def test_lines_that_were_read_but_not_yet_sent_are_delivered_though_their_entry_is_removed(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.run(1)
    assert bench.logs.messages() == []
    bench.adapt()
    bench.run(2)
    assert bench.logs.messages() == lines(10)


def test_a_removed_entry_comes_back_at_its_stored_offset(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.run(10)
    bench.job.adapt(None)
    bench.run(3)
    bench.write("a.log", lines(10, 10))
    bench.run(10)
    assert bench.logs.messages() == lines(10)
    bench.adapt(A)
    bench.run(10)
    assert bench.logs.messages() == lines(20)


def test_a_changed_entry_goes_on_where_the_one_before_it_is_acknowledged(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.run(10)
    bench.adapt(DROPPING)
    bench.write("a.log", ["secret", *lines(5, 10)])
    bench.run(10)
    check(lines(15), bench.logs.messages())
    [row] = bench.database.read("SELECT count(*) FROM log_cursors")
    assert row == (1,)


def test_while_aws_is_away_a_changed_entry_waits_and_no_line_is_lost_or_doubled(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.logs.down = AWAY
    bench.run(10)
    bench.adapt(DROPPING)
    bench.write("a.log", ["secret", *lines(5, 10)])
    bench.run(60)
    assert bench.job.debt().bytes > 180
    bench.logs.down = None
    bench.run(60)
    check(lines(15), bench.logs.messages())


def test_generations_that_come_and_go_while_a_changed_entry_waits_are_all_delivered(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.logs.down = AWAY
    bench.run(10)
    bench.adapt(DROPPING)
    for number in range(1, 4):
        bench.write("a.log", lines(5, number * 10))
        bench.run(5)
        os.makedirs(bench.home / "elsewhere", exist_ok=True)
        (bench.home / "a.log").rename(bench.home / "elsewhere" / f"{number}")
    bench.run(5)
    (bench.home / "elsewhere" / "2").unlink()
    bench.write("a.log", lines(5, 40))
    bench.run(5)
    bench.logs.down = None
    bench.run(120)
    written = lines(10) + [line for number in range(1, 5) for line in lines(5, number * 10)]
    check(written, bench.logs.messages())
    assert bench.events.counters().get("log_bytes_lost", 0) == 0


def test_a_generation_of_less_than_a_second_is_seen_while_a_changed_entry_waits(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.logs.down = AWAY
    bench.run(10)
    bench.adapt(DROPPING)
    (bench.home / "elsewhere").mkdir()
    for number in range(1, 4):
        bench.write("a.log", lines(5, number * 10))
        bench.run(0.8)
        (bench.home / "a.log").rename(bench.home / "elsewhere" / f"{number}")
    bench.logs.down = None
    bench.run(120)
    check(lines(10) + [each for number in range(1, 4) for each in lines(5, number * 10)], bench.logs.messages())


def test_what_of_a_removed_entry_was_not_yet_read_is_no_debt(make: Any) -> None:
    bench = make(A)
    bench.logs.down = AWAY
    bench.write("a.log", lines(400_000))
    bench.run(10)
    [file] = bench.job._files()
    assert file.read < file.size
    bench.adapt()
    bench.run(3)
    assert bench.job.debt().bytes == file.read - file.acknowledged


def test_a_change_that_comes_in_the_middle_of_a_pass_is_not_proven_by_it(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.run(10)
    bench.write("b.log", lines(10, 10))
    assert not bench.job.drain(0.0).settled
    bench.clock.second = lambda: bench.adapt(A, B)
    bench.workers[0].step(bench.clock.monotonic())
    assert not bench.job.drain(0.0).settled
    bench.run(5)
    assert bench.job.drain(0.0).settled
    check(lines(20), bench.logs.messages())


def test_a_file_overwritten_while_a_changed_entry_waits_is_read_anew(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.logs.down = AWAY
    bench.run(10)
    bench.adapt(DROPPING)
    bench.run(5)
    copytruncate(bench.home / "a.log", bench.home / "a.copy")
    bench.write("a.log", lines(20, 100))
    bench.run(5)
    bench.logs.down = None
    bench.run(120)
    check(lines(10) + lines(20, 100), bench.logs.messages())


@pytest.mark.parametrize("seed", range(max(1, STEPS // 500)))
def test_many_reloads_in_a_row_lose_and_double_nothing(make: Any, seed: int) -> None:
    bench = make(A)
    chance = random.Random(seed)
    choices = [[A], [DROPPING], [A, B], [DROPPING, B], [{"path": "*.log"}], [{**A, "multiline": "indented"}]]
    for number in range(60):
        bench.logs.down = AWAY if chance.random() < 0.5 else None
        bench.write("a.log", lines(3, number * 3))
        if chance.random() < 0.3:
            (bench.home / "a.log").rename(bench.home / f"old.{number}")
            bench.write("a.log", [])
        bench.adapt(*chance.choice(choices))
        bench.run(chance.choice([0.05, 0.3, 3.0]))
    bench.logs.down = None
    bench.adapt(A)
    bench.run(120)
    check(lines(180), bench.logs.messages())


def test_entries_that_share_a_stream_do_not_take_each_others_files(make: Any) -> None:
    bench = make(A, B)
    bench.write("a.log", lines(10))
    bench.write("b.log", lines(10, 10))
    bench.run(10)
    kept = bench.file("b.log")
    bench.adapt(DROPPING, B, {"path": "?.log", "drop": ["y"]})
    bench.write("b.log", lines(2, 20))
    bench.run(3)
    assert kept in list(bench.job._files())
    ids = [file.cursor.id for file in bench.job._files()]
    assert len(ids) == len(set(ids))


def test_a_global_value_that_concerns_all_entries_replaces_them_without_a_gap(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.run(2)
    bench.adapt(A, flush_interval="1s")
    bench.write("a.log", lines(1, 10))
    bench.run(2.5)
    assert bench.logs.messages() == lines(11)


def test_files_known_only_in_memory_are_not_sent_twice_when_the_disk_fails(make: Any) -> None:
    bench = make(A)
    bench.run(1)
    with bench.database.transaction() as connection:
        connection.execute("DROP TABLE log_cursors")
        connection.execute("CREATE TABLE log_cursors (id INTEGER)")  # every write of a cursor fails
    bench.write("a.log", lines(10))
    bench.run(10)
    bench.adapt(DROPPING)
    with bench.database.transaction() as connection:
        connection.execute("DROP TABLE log_cursors")
    bench.job._cursors._prepared = False
    bench.job._cursors._prepare()
    bench.run(10)
    check(lines(10), bench.logs.messages())


def test_another_retention_is_set_though_the_group_was_looked_after(make: Any) -> None:
    bench = make({**A, "retention": "1d"})
    bench.write("a.log", lines(1))
    bench.run(10)
    assert bench.logs.retention == {"/g": 1}
    bench.adapt({**A, "retention": "7d"})
    bench.write("a.log", lines(1, 1))
    bench.run(10)
    assert bench.logs.retention == {"/g": 7}


def test_a_drain_waits_for_what_a_changed_entry_has_still_to_read(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.logs.down = AWAY
    bench.run(10)
    bench.adapt(DROPPING)
    bench.write("a.log", lines(5, 10))
    bench.job.drain(0.0)
    bench.run(10)
    assert not bench.job.drain(0.0).settled
    bench.logs.down = None
    for _ in range(100):
        if bench.job.drain(0.0).settled:
            break
        bench.run(0.1)
    proofs = bench.job.drain(0.0)
    assert proofs.settled
    assert sorted(entry["acknowledged"] for entry in proofs.receipt["logs"]) == [180]
    check(lines(15), bench.logs.messages())


def test_another_role_or_compression_asks_for_another_job(make: Any) -> None:
    bench = make(A)
    assert bench.job.can_adapt(bench.section(A, B))
    assert bench.job.can_adapt(None)
    assert not bench.job.can_adapt(bench.section(A, compression="none"))
    assert not bench.job.can_adapt(bench.section(A, role_arn="arn:aws:iam::123456789012:role/logs"))


def test_a_hundred_changes_leave_no_descriptor_and_no_cursor_behind(make: Any) -> None:
    bench = make(A)
    bench.write("a.log", lines(10))
    bench.run(10)
    open_before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        bench.adapt(DROPPING if number % 2 == 0 else A)
        bench.run(0.1)
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert len(list(bench.job._files())) == 1
    assert bench.database.read("SELECT count(*) FROM log_cursors") == [(1,)]
    assert bench.logs.messages() == lines(10)
