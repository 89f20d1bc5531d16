"""What nobody could read any more is said, counted to the byte, and never part of a proof."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from logs_harness import append, lines
from test_logs_job import Bench

from agent.aws.errors import Unreachable

DOWN = Unreachable("PutLogEvents", "OSError")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[[], Bench]]:
    """Jobs on one state, the log files *.log of `tmp_path`."""
    made: list[Bench] = []

    def make() -> Bench:
        made.append(Bench(tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.close()


def missing(job: Bench) -> list[tuple[str, int]]:
    """What a drain finds missing, by name and bytes."""
    return [(Path(gap.item).name, gap.bytes) for gap in job.drain(10).gaps]


def test_what_was_deleted_unread_while_down_is_a_gap(bench: Callable[[], Bench], tmp_path: Path) -> None:
    job = bench()
    append(tmp_path / "a.log", lines(10))
    job.run(10)
    job.logs.down = DOWN
    append(tmp_path / "a.log", lines(10, 10))
    job.run(40)
    job.close()
    (tmp_path / "a.log").unlink()
    append(tmp_path / "b.log", lines(10))
    again = bench()
    again.run(10)
    assert again.logs.messages() == lines(10)
    assert missing(again) == [("a.log", 120)]
    assert again.job.drain(0).settled  # nothing can be done about it, so nobody waits


def test_what_was_overwritten_unread_is_a_gap(bench: Callable[[], Bench], tmp_path: Path) -> None:
    job, path = bench(), tmp_path / "a.log"
    append(path, lines(10))
    job.run(10)
    job.logs.down = DOWN
    append(path, ["x" * 1023] * 8192)
    job.run(40)
    os.truncate(path, 0)
    job.run(5)
    job.logs.down = None
    job.run(60)
    unread = 1024 * (8192 + 10 - len(job.logs.messages()))
    assert unread > 0
    assert missing(job) == [("a.log", unread)]
    assert job.events.counters()["log_bytes_lost"] == unread


def test_a_generation_that_was_overwritten_after_it_was_read_is_no_gap(
    bench: Callable[[], Bench], tmp_path: Path
) -> None:
    job, path = bench(), tmp_path / "a.log"
    append(path, lines(10))
    job.run(10)
    os.truncate(path, 0)
    append(path, lines(5, 10))
    job.run(10)
    assert missing(job) == []
    assert job.drain(0).settled
    assert job.logs.messages() == lines(15)


def test_a_generation_that_was_deleted_after_it_had_arrived_is_no_gap(
    bench: Callable[[], Bench], tmp_path: Path
) -> None:
    job = bench()
    append(tmp_path / "a.log", lines(10))
    job.run(10)
    job.close()
    (tmp_path / "a.log").unlink()
    again = bench()
    again.run(10)
    assert missing(again) == []
    assert [(row["size"], row["acknowledged"]) for row in again.job.drain(0).receipt["logs"]] == [(120, 120)]
