"""The job as daemon and drain see it: debt, status, and proofs of what was looked at after the asking."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Said
from logs_harness import FakeLogs, FakeSamples, append, check, lines, unprivileged

from agent.aws.errors import Transient, Unreachable
from agent.config.sections.logs import Logs
from agent.engine.clock import FakeClock
from agent.engine.database import Database
from agent.engine.events import Events
from agent.engine.job import Proofs
from agent.logs.job import LogsJob

DOWN = Transient("PutLogEvents", "ServiceUnavailableException", "later", 503)


class HookedClock(FakeClock):
    """A clock that does something when it is next asked for the time."""

    def __init__(self) -> None:
        super().__init__()
        self.hook: Callable[[], object] | None = None

    def time(self) -> float:
        hook, self.hook = self.hook, None
        if hook is not None:
            hook()
        return super().time()


class Bench:
    """A job whose workers are stepped here instead of in threads."""

    def __init__(self, home: Path, **options: Any) -> None:
        self.home = home
        self.clock = HookedClock()
        self.logs = FakeLogs(self.clock)
        self.samples = FakeSamples()
        self.database = Database(str(home / "state.db"))
        self.said = Said()
        self.events = Events(self.said, self.clock)
        files = [{"path": str(home / "*.log"), "group": "/g", "stream": "s"}]
        config = Logs.model_validate({"files": files, **options})
        self.job = LogsJob(config, self.logs, self.database, self.clock, self.events, random.Random(0), self.samples)
        self.workers = [slot.worker for thread in self.job.threads for slot in thread._slots]

    def run(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            self.step()

    def step(self) -> None:
        for worker in self.workers:
            worker.step(self.clock.monotonic())
        self.clock.advance(0.05)

    def drain(self, seconds: float = 5.0) -> Proofs:
        """Ask again and again, as the drain does."""
        until = self.clock.monotonic() + seconds
        while not (proofs := self.job.drain(until)).settled and self.clock.monotonic() < until:
            self.step()
        return proofs

    def close(self) -> None:
        for input_ in self.job._inputs:
            input_.close()
        self.database.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_a_drain_sends_everything_and_proves_it_by_file(bench: Bench) -> None:
    path = bench.home / "a.log"
    append(path, lines(10))
    with path.open("a") as file:
        file.write("open line")
    proofs = bench.drain()
    assert proofs.settled
    assert proofs.gaps == ()
    assert bench.logs.messages() == [*lines(10), "open line"]
    (entry,) = proofs.receipt["logs"]
    size = path.stat().st_size
    assert (entry["size"], entry["read"], entry["acknowledged"]) == (size, size, size)
    assert (entry["events"], entry["refused"]) == (11, 0)
    assert (entry["path"], entry["inode"]) == (str(path), path.stat().st_ino)
    assert len(bytes.fromhex(entry["digest"])) == hashlib.sha256().digest_size
    assert bench.job.debt().bytes == 0


def test_a_drain_lists_generations_that_ended_before_it(bench: Bench) -> None:
    append(bench.home / "a.log", lines(10))
    bench.run(10)
    (bench.home / "a.log").rename(bench.home / "a.old")
    append(bench.home / "a.log", lines(5))
    bench.run(100)
    proofs = bench.drain()
    assert sorted((entry["events"], Path(entry["path"]).name) for entry in proofs.receipt["logs"]) == [
        (5, "a.log"),
        (10, "a.log"),
    ]


def test_a_drain_waits_for_what_is_not_acknowledged_and_names_it(bench: Bench) -> None:
    append(bench.home / "a.log", lines(10))
    bench.logs.down = Unreachable("PutLogEvents", "OSError")
    proofs = bench.drain()
    assert not proofs.settled
    assert [(gap.item, gap.bytes) for gap in proofs.gaps] == [(str(bench.home / "a.log"), 120)]
    bench.logs.down = None
    assert bench.drain().settled


def test_what_arrives_between_two_askings_is_part_of_the_drain(bench: Bench) -> None:
    append(bench.home / "a.log", lines(10))
    assert bench.drain().settled
    append(bench.home / "a.log", lines(5, 10))
    append(bench.home / "b.log", lines(5, 15))
    bench.job.resume()
    assert bench.drain().settled
    assert sorted(bench.logs.messages()) == lines(20)


def test_a_pass_that_began_before_the_drain_was_asked_for_proves_nothing(bench: Bench) -> None:
    append(bench.home / "a.log", lines(10))
    bench.run(10)
    seen: list[Proofs] = []
    reader = bench.workers[0]
    bench.clock.advance(10)
    bench.clock.hook = lambda: seen.append(bench.job.drain(0.0))  # in the middle of the pass
    reader.step(bench.clock.monotonic())
    seen.append(bench.job.drain(0.0))
    assert [proofs.settled for proofs in seen] == [False, False]
    reader.step(bench.clock.monotonic())
    assert bench.job.drain(0.0).settled


def test_a_pass_that_began_for_an_earlier_drain_proves_nothing_for_the_next(bench: Bench) -> None:
    append(bench.home / "a.log", lines(10))
    assert bench.drain().settled
    seen: list[Proofs] = []

    def again() -> None:
        """In the middle of a pass, behind its scan."""
        append(bench.home / "b.log", lines(1, 10))
        bench.job.resume()
        seen.append(bench.job.drain(0.0))

    bench.clock.hook = again
    bench.workers[0].step(bench.clock.monotonic())
    seen.append(bench.job.drain(0.0))
    assert [proofs.settled for proofs in seen] == [False, False]
    assert bench.drain().settled
    check(lines(11), bench.logs.messages())


def test_a_drain_that_is_asked_for_at_the_very_time_of_a_pass_settles(bench: Bench) -> None:
    append(bench.home / "a.log", lines(10))
    bench.run(10)
    now = bench.clock.monotonic()
    assert not bench.job.drain(now).settled
    bench.workers[0].step(now)
    assert bench.job.drain(now).settled


def test_after_resume_batches_fill_again(bench: Bench) -> None:
    append(bench.home / "a.log", lines(1))
    assert bench.drain().settled
    bench.job.resume()
    bench.run(3)
    calls = len(bench.logs.calls)
    append(bench.home / "a.log", lines(1, 1))
    bench.run(3)
    assert len(bench.logs.calls) == calls
    bench.run(5)
    assert len(bench.logs.calls) == calls + 1


def test_files_that_can_not_be_read_are_gaps_and_debt() -> None:
    with unprivileged() as home:
        bench = Bench(home)
        append(home / "a.log", lines(10))
        (home / "a.log").chmod(0)
        append(home / "b.log", lines(1))
        proofs = bench.drain()
        assert not proofs.settled
        assert [(gap.item, gap.bytes, gap.reason) for gap in proofs.gaps] == [
            (str(home / "a.log"), 120, "Permission denied")
        ]
        assert (bench.job.debt().bytes, bench.job.debt().items) == (120, 1)
        (row,) = [row for row in bench.job.status()["logs"] if row["error"]]
        assert (row["path"], row["size"], row["read"], row["error"]) == (
            str(home / "a.log"),
            120,
            0,
            "Permission denied",
        )
        bench.close()


def test_a_directory_that_can_not_be_read_is_a_gap() -> None:
    with unprivileged() as home:
        bench = Bench(home)
        bench.run(1)
        home.chmod(0)
        proofs = bench.drain()
        home.chmod(0o700)
        assert not proofs.settled
        assert [gap.item for gap in proofs.gaps] == [str(home)]
        assert bench.drain().settled
        bench.close()


def test_files_over_the_budget_are_gaps_until_others_are_acknowledged(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_open_files=1)
    for name in ("a.log", "b.log"):
        append(tmp_path / name, lines(10))
    bench.logs.down = DOWN
    proofs = bench.drain()
    assert not proofs.settled
    assert [(gap.item, gap.bytes) for gap in proofs.gaps if gap.item.endswith("b.log")] == [
        (str(tmp_path / "b.log"), 120)
    ]
    bench.logs.down = None
    assert bench.drain(seconds=30).settled
    bench.close()


def test_what_cloudwatch_refuses_is_listed_and_settled(bench: Bench) -> None:
    bench.logs.poison = {lines(1, 3)[0]}.__contains__
    append(bench.home / "a.log", lines(10))
    proofs = bench.drain()
    assert proofs.settled
    assert [(refusal.item, refusal.count) for refusal in proofs.refused] == [(str(bench.home / "a.log"), 1)]


def test_debt_is_what_is_seen_and_not_acknowledged(bench: Bench) -> None:
    bench.logs.down = Unreachable("PutLogEvents", "OSError")
    append(bench.home / "a.log", lines(10))
    append(bench.home / "b.log", lines(5))
    bench.run(10)
    debt = bench.job.debt()
    assert (debt.bytes, debt.items, debt.seconds) == (180, 2, None)
    bench.logs.down = None
    bench.run(60)
    assert bench.job.debt().bytes == 0
    assert bench.job.debt().seconds == 0.0


def test_status_shows_each_file(bench: Bench) -> None:
    append(bench.home / "a.log", lines(10))
    bench.run(10)
    assert bench.job.status()["logs"] == [
        {"path": str(bench.home / "a.log"), "group": "/g", "stream": "s", "size": 120, "read": 120,
         "acknowledged": 120, "error": None}
    ]  # fmt: skip


def test_files_may_come_and_go_while_others_look_at_them(bench: Bench) -> None:
    for number in range(10):
        append(bench.home / f"{number}.log", lines(1))
    bench.run(1)
    (input_,) = bench.job._inputs
    seen = 0
    for file in input_:
        seen += 1
        if input_.files.get(file.path) is file:
            input_._following.detach(file, 0.0)
    assert seen == 10


def test_a_stop_without_threads_leaves_an_open_line_whole_for_the_next_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = tmp_path / "a.log"
    path.write_text("whole\npar")
    bench.run(1)
    bench.job._hurry(True, open_lines=False)
    bench.run(1)
    assert bench.job._reader.quiet
    assert bench.logs.messages() == ["whole"]
    bench.close()
    with path.open("a") as file:
        file.write("tial\n")
    after = Bench(tmp_path)
    after.run(10)
    assert after.logs.messages() == ["partial"]
    after.close()


def test_the_threads_of_a_job_ship_and_stop(tmp_path: Path) -> None:
    from agent.engine.clock import SystemClock

    clock = SystemClock()
    logs = FakeLogs(FakeClock(clock.time()))
    database = Database(str(tmp_path / "state.db"))
    append(tmp_path / "a.log", lines(100))
    config = Logs.model_validate({"files": [{"path": str(tmp_path / "a.log"), "group": "/g", "stream": "s"}]})
    job = LogsJob(config, logs, database, clock, Events(Said(), clock), random.Random(0), FakeSamples())
    before = len(os.listdir("/proc/self/fd"))
    job.start()
    assert job.stop(clock.monotonic() + 5.0)
    assert logs.messages() == lines(100)
    assert not any(thread._thread.is_alive() for thread in job.threads)
    assert len(os.listdir("/proc/self/fd")) <= before
    database.close()


# counts from lines


def counting(home: Path, **options: Any) -> Bench:
    entry = {"path": str(home / "*.log"), "group": "/g", "stream": "s", **options}
    metrics = [
        {"name": "errors", "match": "ERR", "unit": "Count"},
        {"name": "sevens", "match": "7$", "value": 2.5, "unit": "None"},
    ]
    return Bench(home, files=[{**entry, "metrics": metrics}])


def test_what_lines_count_is_handed_over_when_they_are_acknowledged(tmp_path: Path) -> None:
    bench = counting(tmp_path)
    append(tmp_path / "a.log", ["ERR 1", "fine 7", "ERR 7", "fine"])
    bench.logs.down = DOWN
    bench.run(20)
    assert bench.samples.taken == []
    bench.logs.down = None
    assert bench.drain(30).settled
    assert bench.samples.taken == [("errors", 1.0, 2, "Count"), ("sevens", 2.5, 2, "None")]
    append(tmp_path / "a.log", ["fine", "fine"])
    assert bench.drain(30).settled
    assert len(bench.samples.taken) == 2
    bench.close()


def test_lines_that_are_dropped_are_counted_all_the_same(tmp_path: Path) -> None:
    bench = counting(tmp_path, drop=["ERR"])
    append(tmp_path / "a.log", ["ERR 1", "fine", "ERR 2"])
    assert bench.drain(30).settled
    assert bench.logs.messages() == ["fine"]
    assert bench.samples.taken == [("errors", 1.0, 2, "Count")]
    bench.close()
