"""What the agent may take of the machine: open files, disk space of deleted files; and what it gives back."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from logs_harness import Entry, Rig, append, check, lines, rigs
from test_logs_job import Bench

from agent.aws.errors import Unreachable

Make = Callable[..., Rig]

DOWN = Unreachable("PutLogEvents", "OSError")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Jobs as the configuration makes them; log files are *.log of `tmp_path`."""
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        made.append(Bench(tmp_path, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """This process may have so many files open (RLIMIT_NOFILE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# open files


def test_more_files_than_may_be_open_take_turns_and_every_line_arrives_once(make: Make) -> None:
    rig, written = make(Entry("*.log"), max_open=5), []
    for number in range(6):
        for name in range(20):
            rig.write(f"{name:02d}.log", lines(3, 3 * number, f"{name}"))
            written += lines(3, 3 * number, f"{name}")
        rig.run(60)
        assert len(rig.files) <= 5
    rig.run(200)
    check(written, rig.logs.messages())
    assert rig.input.unreadable == {}
    assert rig.counter("log_bytes_lost") == 0
    rig.restart()
    rig.run(200)
    check(written, rig.logs.messages())


def test_a_file_that_owes_something_is_not_closed_to_make_room(make: Make) -> None:
    rig = make(Entry("*.log", stream=os.path.basename), max_open=3)
    for name in ("a.log", "b.log", "c.log"):
        rig.write(name, lines(5, word=name))
    rig.run(10)
    rig.logs.down = DOWN
    for name in ("a.log", "b.log", "c.log", "d.log"):
        rig.write(name, lines(5, 5, name))
    rig.run(300)
    for name in ("a.log", "b.log", "c.log"):
        rig.path(name).unlink()
    rig.logs.down = None
    rig.run(300)
    for name in ("a.log", "b.log", "c.log"):
        check(lines(10, word=name), rig.logs.messages("/g", name))
    check(lines(5, 5, "d.log"), rig.logs.messages("/g", "d.log"))


def test_what_was_written_to_a_file_while_it_was_closed_and_then_rotated_out_of_sight_arrives(make: Make) -> None:
    rig, names = make(Entry(["a.log", "b.log", "c.log"]), max_open=2), ("a.log", "b.log", "c.log")
    written = []
    for name in names:
        rig.write(name, lines(30, word=name))
        written += lines(30, word=name)
    rig.run(200)
    for name in names:
        rig.write(name, lines(10, 30, name))
        rig.rotate(name, f"{name}.1")
        rig.write(name, lines(10, 40, name))
        written += lines(20, 30, name)
    rig.run(400)
    check(written, rig.logs.messages())


def test_a_closed_file_that_is_overwritten_in_place_is_read_from_its_beginning(make: Make) -> None:
    rig = make(Entry("*.log"), max_open=1)
    for name in ("a.log", "b.log"):
        rig.write(name, lines(50, word=name))
    rig.run(300)
    for name in ("a.log", "b.log"):
        os.truncate(rig.path(name), 0)
        rig.write(name, lines(80, 500, name))
    rig.run(300)
    check([line for name in ("a.log", "b.log") for line in lines(50, word=name) + lines(80, 500, name)],
          rig.logs.messages())  # fmt: skip


def test_five_hundred_files_under_a_limit_of_a_hundred_descriptors_are_all_read_once(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    written = []
    for number in range(500):
        written += lines(2, word=f"{number}")
        append(tmp_path / f"{number}.log", lines(2, word=f"{number}"))
    with few_descriptors(100):
        job = bench()
        job.run(60)
        for number in range(0, 500, 20):
            written.append(f"more {number}")
            append(tmp_path / f"{number}.log", [f"more {number}"])
        job.run(60)
        check(written, job.logs.messages())
        assert job.job.debt().bytes == 0
        assert job.drain(60).settled


# deleted files


def long_lines(count: int, start: int = 0) -> list[str]:
    """A kilobyte each."""
    return [f"{number:06d}".ljust(1023, ".") for number in range(start, start + count)]


def test_deleted_files_over_their_budget_are_let_go_of_oldest_first_and_counted_to_the_byte(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    job, written = bench(max_deleted_bytes="7MiB"), []
    append(tmp_path / "a.log", long_lines(1))
    job.run(10)
    job.logs.down = DOWN
    for number in range(5):
        written.append(long_lines(3 << 10, 10_000 * number + 1))
        append(tmp_path / "a.log", written[-1])
        job.run(3)
        (tmp_path / "a.log").unlink()
        job.run(3)
    job.logs.down = None
    job.run(120)
    arrived = job.logs.messages()
    check(written[-2] + written[-1], [line for line in arrived if line >= "03"])
    missing = 1024 * (1 + 5 * (3 << 10) - len(arrived))
    assert missing > 0
    assert job.events.counters()["log_bytes_lost"] == missing


def test_what_was_let_go_of_to_free_the_disk_is_a_gap_by_name(bench: Callable[..., Bench], tmp_path: Path) -> None:
    job, size = bench(max_deleted_bytes="1MiB"), 1024 * (5 << 10)
    append(tmp_path / "a.log", long_lines(1))
    job.run(10)
    job.logs.down = DOWN
    append(tmp_path / "a.log", long_lines((5 << 10) - 1, 1))
    job.run(5)
    (tmp_path / "a.log").unlink()
    job.run(30)
    job.logs.down = None
    (gap,) = job.drain(30).gaps
    assert gap.item == str(tmp_path / "a.log")
    assert gap.bytes == size - 1024 * len(job.logs.messages()) > 0


def test_deleted_files_within_their_budget_are_kept_until_they_have_arrived(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    job = bench(max_deleted_bytes="1MiB")
    append(tmp_path / "a.log", lines(1))
    job.run(10)
    job.logs.down = DOWN
    append(tmp_path / "a.log", lines(2000, 1))
    job.run(5)
    (tmp_path / "a.log").unlink()
    job.run(60)
    job.logs.down = None
    job.run(60)
    check(lines(2001), job.logs.messages())
    assert job.events.counters().get("log_bytes_lost", 0) == 0


# deleted by the agent


def deleting(bench: Callable[..., Bench], folder: Path, **options: Any) -> Bench:
    entry = {"path": str(folder / "app.log*"), "group": "/g", "stream": "s", "delete_when_shipped": True}
    return bench(files=[entry], rotated_linger="10s", **options)


def test_a_rotated_file_is_deleted_when_it_has_arrived_and_the_live_one_never(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    job = deleting(bench, tmp_path)
    append(tmp_path / "app.log", lines(10))
    job.run(30)
    (tmp_path / "app.log").rename(tmp_path / "app.log.1")
    append(tmp_path / "app.log", lines(10, 10))
    job.run(30)
    check(lines(20), job.logs.messages())
    assert sorted(path.name for path in tmp_path.glob("app.log*")) == ["app.log"]
    job.run(60)
    assert sorted(path.name for path in tmp_path.glob("app.log*")) == ["app.log"]


def test_nothing_is_deleted_that_has_not_arrived(bench: Callable[..., Bench], tmp_path: Path) -> None:
    job = deleting(bench, tmp_path)
    append(tmp_path / "app.log", lines(10))
    job.run(10)
    job.logs.down = DOWN
    append(tmp_path / "app.log", lines(10, 10))
    (tmp_path / "app.log").rename(tmp_path / "app.log.1")
    job.run(300)
    assert (tmp_path / "app.log.1").exists()
    job.logs.down = None
    job.run(60)
    check(lines(20), job.logs.messages())
    assert not (tmp_path / "app.log.1").exists()


def test_a_file_that_took_the_name_of_one_to_be_deleted_is_not_deleted(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    job = deleting(bench, tmp_path)
    append(tmp_path / "app.log", lines(10))
    job.run(10)
    (tmp_path / "app.log").rename(tmp_path / "app.log.1")
    append(tmp_path / "app.log", lines(10, 10))
    job.run(5)
    (tmp_path / "app.log.1").rename(tmp_path / "saved")
    (tmp_path / "unrelated").write_text("nobody's log\n")
    (tmp_path / "unrelated").rename(tmp_path / "app.log.1")
    job.logs.down = DOWN
    job.run(60)
    assert (tmp_path / "app.log.1").read_text() == "nobody's log\n"
    assert (tmp_path / "saved").exists()


def test_a_line_written_to_a_rotated_file_just_before_it_would_be_deleted_arrives(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    job = deleting(bench, tmp_path)
    append(tmp_path / "app.log", lines(10))
    job.run(10)
    with (tmp_path / "app.log").open("a") as old:
        (tmp_path / "app.log").rename(tmp_path / "app.log.1")
        append(tmp_path / "app.log", lines(1, 10))
        for number in range(4):
            old.write(f"late {number}\n")
            old.flush()
            job.run(8)
    job.run(60)
    check([*lines(11), *[f"late {number}" for number in range(4)]], job.logs.messages())
    assert not (tmp_path / "app.log.1").exists()


@pytest.mark.parametrize("pattern", ["app.log", "app.log*"], ids=["outside", "inside"])
def test_a_thousand_rotations_send_every_line_once_and_leave_no_descriptors(make: Make, pattern: str) -> None:
    rig = make(Entry(pattern, flush=1.0), linger=5.0, max_open=100)
    rig.write("app.log", lines(3))
    rig.run(3)
    for number in range(1, 1001):
        rig.path("app.log").rename(rig.path(f"app.log-{20260000 + number}"))
        rig.write("app.log", lines(3, 3 * number))
        if number % 4 == 3:
            rig.run(1)
    rig.run(60)
    check(lines(3003), rig.logs.messages())
    assert len(rig.files) <= 100
    assert rig.input.waiting == {}
