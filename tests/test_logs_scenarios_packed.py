"""Generations that were compressed before they were read: unpacked from where they were, or said to be lost."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from logs_harness import Entry, Rig, check, lines, rigs

from agent.aws.errors import Unreachable

Make = Callable[..., Rig]

PACKERS: dict[str, Any] = {".gz": gzip, ".bz2": bz2, ".xz": lzma}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture(params=[Rig.stop, Rig.crash], ids=["stopped", "killed"])
def compressed(make: Make, request: pytest.FixtureRequest) -> Rig:
    """Ten lines of app.log have arrived, thirty more were written; it is gone, and the agent is down."""
    rig = make(Entry("app.log*", stream=os.path.basename))
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.logs.down = Unreachable("PutLogEvents", "OSError")
    rig.write("app.log", lines(30, 10))
    rig.run(60)
    request.param(rig)
    rig.logs.down = None
    return rig


@pytest.mark.parametrize("suffix", PACKERS)
def test_what_was_compressed_unread_while_down_arrives_from_where_it_was(compressed: Rig, suffix: str) -> None:
    content = compressed.path("app.log").read_bytes()
    compressed.path("app.log").unlink()
    compressed.path(f"app.log.1{suffix}").write_bytes(PACKERS[suffix].compress(content))
    compressed.write("app.log", lines(10, 40))
    compressed.start()
    compressed.run(60)
    check(lines(50), compressed.logs.messages("/g", "app.log"))
    assert set(compressed.logs.streams["/g"]) == {"app.log"}
    compressed.restart()
    compressed.run(60)
    check(lines(50), compressed.logs.messages("/g", "app.log"))
    assert compressed.counter("log_bytes_lost") == 0


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
def test_a_generation_that_was_compressed_before_anybody_saw_it_arrives_in_its_turn(
    make: Make, suffix: str, down: bool
) -> None:
    rig = make(Entry("app.log", stream=os.path.basename))
    rig.write("app.log", lines(10))
    rig.run(10)
    if down:
        rig.stop()
    for number in range(1, 4):
        rig.rotate("app.log", f"app.log-2026112{number}")
        rig.write("app.log", lines(10, 10 * number))
    unseen = rig.path("app.log-20261122")
    rig.path(f"{unseen}{suffix}").write_bytes(PACKERS[suffix].compress(unseen.read_bytes()))
    unseen.unlink()
    if down:
        rig.start()
    rig.run(100)
    check(lines(40), rig.logs.messages("/g", "app.log"))
    rig.restart()
    rig.run(100)
    check(lines(40), rig.logs.messages("/g", "app.log"))


def test_a_generation_that_was_compressed_unseen_while_down_arrives_where_the_pattern_means_rotated_logs(
    make: Make,
) -> None:
    rig = make(Entry("app.log*", stream=os.path.basename))
    rig.write("app.log", lines(30))
    rig.run(10)
    rig.stop()
    for number in range(1, 3):
        rig.rotate("app.log", f"app.log-2026112{number}")
        rig.write("app.log", lines(30, 30 * number))
    unseen = rig.path("app.log-20261122")
    rig.path("app.log-20261122.gz").write_bytes(gzip.compress(unseen.read_bytes()))
    unseen.unlink()
    rig.start()
    rig.run(100)
    check(lines(90), rig.logs.messages("/g", "app.log"))


def test_what_was_compressed_unread_and_can_not_be_unpacked_is_said_in_bytes(compressed: Rig) -> None:
    compressed.path("app.log").unlink()
    compressed.path("app.log.1.gz").write_bytes(b"\x1f\x8bdamaged\n")
    compressed.write("app.log", lines(10, 40))
    compressed.start()
    compressed.run(60)
    check(lines(10) + lines(10, 40), compressed.logs.messages("/g", "app.log"))
    (said,) = compressed.said.fields("log_lost")
    assert (said["path"], said["bytes"]) == (str(compressed.path("app.log")), 12 * 30)
    assert compressed.counter("log_bytes_lost") == 12 * 30


def test_what_was_compressed_after_it_had_arrived_is_not_read_again(make: Make) -> None:
    rig = make(Entry("app.log*"))
    for number in range(5):
        rig.write("app.log", lines(30, 30 * number))
        rig.run(10)
        rig.path(f"app.log.{number}.gz").write_bytes(gzip.compress(rig.path("app.log").read_bytes()))
        rig.path("app.log").unlink()
        rig.run(10 if number % 2 else 0)
        if number == 3:
            rig.restart()
    rig.run(100)
    check(lines(150), rig.logs.messages())


def copytruncate_and_compress(rig: Rig) -> None:
    """As logrotate does it with copytruncate and compress: nobody sees the copy."""
    content = rig.path("app.log").read_bytes()
    os.truncate(rig.path("app.log"), 0)
    rig.path("app.log.1.gz").write_bytes(gzip.compress(content))


def test_copytruncate_with_a_copy_that_is_compressed_at_once_sends_nothing_twice(make: Make) -> None:
    rig = make(Entry("app.log"))
    for number in range(4):
        rig.write("app.log", lines(60, 60 * number))
        rig.run(10)
        rig.rotate("app.log.1.gz", "app.log.2.gz", "app.log.3.gz", "app.log.4.gz")
        copytruncate_and_compress(rig)
        rig.run(10)
    rig.restart()
    rig.run(30)
    check(lines(240), rig.logs.messages())
    assert rig.counter("log_bytes_lost") == 0


def test_what_was_not_read_of_a_file_that_was_copied_cut_off_and_compressed_arrives_once(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(60))
    rig.run(10)
    rig.write("app.log", lines(60, 60))
    copytruncate_and_compress(rig)
    rig.write("app.log", lines(10, 120))
    rig.run(60)
    check(lines(130), rig.logs.messages())
