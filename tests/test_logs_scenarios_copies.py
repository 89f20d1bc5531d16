"""A known file's content at another place: a copy goes on where its original was if that is gone, or is read anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import tiny_disk
from logs_harness import Entry, Rig, append, check, copytruncate, lines, rigs

Make = Callable[..., Rig]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture(params=["same disk", "another disk"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder beside the logs, on their disk or on one of its own."""
    folder = tmp_path / "archive"
    folder.mkdir()
    if request.param == "same disk":
        yield folder
    else:
        with tiny_disk(kilobytes=1000, at=folder) as disk:
            yield disk


def move(source: Path, target: Path) -> None:
    """As mv does it between two disks."""
    shutil.copy2(source, target)
    source.unlink()


# moved


def test_a_rotated_file_that_is_moved_by_copying_is_not_read_again(archive: Path, make: Make) -> None:
    rig = make(Entry(["app.log", f"{archive}/*"]))
    rig.write("app.log", lines(100))
    rig.run(10)
    move(rig.path("app.log"), archive / "app.log.1")
    rig.write("app.log", lines(10, 100))
    rig.run(100)
    check(lines(110), rig.logs.messages())
    assert rig.counter("log_bytes_lost") == 0


def test_a_rotated_file_that_is_moved_by_copying_before_its_end_was_read_costs_at_most_that_end_twice(
    archive: Path, make: Make
) -> None:
    rig = make(Entry(["app.log", f"{archive}/*"]))
    rig.write("app.log", lines(100))
    rig.run(10)
    rig.write("app.log", lines(20, 100))
    move(rig.path("app.log"), archive / "app.log.1")
    rig.write("app.log", lines(10, 120))
    rig.run(100)
    check(lines(130), rig.logs.messages(), duplicates=120)


@pytest.mark.parametrize("end", [Rig.stop, Rig.crash], ids=["stopped", "killed"])
def test_a_file_that_is_moved_by_copying_while_down_goes_on_where_it_was(
    archive: Path, make: Make, end: Callable[[Rig], None]
) -> None:
    rig = make(Entry(["app.log", f"{archive}/*"]))
    rig.write("app.log", lines(100))
    rig.run(10)
    end(rig)
    rig.write("app.log", lines(20, 100))
    move(rig.path("app.log"), archive / "app.log.1")
    rig.write("app.log", lines(10, 120))
    rig.start()
    rig.run(100)
    check(lines(130), rig.logs.messages())
    assert rig.said.fields("log_lost") == []


# replaced


@pytest.mark.parametrize("end", [None, Rig.stop, Rig.crash], ids=["running", "stopped", "killed"])
def test_a_file_replaced_by_a_longer_copy_of_itself_goes_on_where_it_was(
    make: Make, end: Callable[[Rig], None] | None
) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(100))
    rig.run(10)
    if end is not None:
        end(rig)
    append(rig.path("new"), lines(101))
    rig.path("new").rename(rig.path("app.log"))
    if end is not None:
        rig.start()
    rig.run(100)
    rig.write("app.log", lines(5, 101))
    rig.run(10)
    check(lines(106), rig.logs.messages())


def test_a_file_replaced_by_one_that_was_edited_before_the_cursor_is_read_from_its_beginning(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(100))
    rig.run(10)
    append(rig.path("new"), [*lines(95), "edited", *lines(10, 95)])
    rig.path("new").rename(rig.path("app.log"))
    rig.run(100)
    check([*lines(100), *lines(95), "edited", *lines(10, 95)], rig.logs.messages())


def test_a_short_beginning_in_common_is_no_evidence_of_a_copy(make: Make) -> None:
    """Of less than 256 bytes two logs may well have the same: a banner, a column header."""
    banner = "#Fields: date time method path status ".ljust(200, "-")
    rig = make(Entry("app.log"))
    rig.write("app.log", [banner])
    rig.run(10)
    rig.path("app.log").unlink()
    rig.write("app.log", [banner, *lines(10)])
    rig.run(100)
    check([banner, banner, *lines(10)], rig.logs.messages())


# copied


def test_a_copy_of_a_file_that_is_still_there_is_a_file_of_its_own(make: Make) -> None:
    rig = make(Entry("*.log"))
    rig.write("app.log", lines(100))
    rig.run(10)
    shutil.copy2(rig.path("app.log"), rig.path("copy.log"))
    rig.run(10)
    for name in ("app.log", "copy.log"):
        rig.write(name, [f"more in {name}"])
    rig.run(10)
    rig.crash()
    rig.start()
    rig.run(100)
    check([*lines(100) * 2, "more in app.log", "more in copy.log"], rig.logs.messages())


@pytest.mark.parametrize("end", [None, Rig.stop, Rig.crash], ids=["running", "stopped", "killed"])
def test_the_copy_of_copytruncate_inside_the_pattern_goes_on_where_its_original_was(
    make: Make, end: Callable[[Rig], None] | None
) -> None:
    rig = make(Entry("app.log*"))
    rig.write("app.log", lines(100))
    rig.run(10)
    if end is not None:
        end(rig)
    rig.write("app.log", lines(50, 100))  # nobody looks before it is truncated
    copytruncate(rig.path("app.log"), rig.path("app.log.1"))
    rig.write("app.log", lines(10, 150))
    if end is not None:
        rig.start()
    rig.run(100)
    check(lines(160), rig.logs.messages())


@pytest.mark.parametrize("end", [None, Rig.stop, Rig.crash], ids=["running", "stopped", "killed"])
def test_what_was_unread_at_the_truncation_is_read_from_a_copy_outside_the_pattern(
    make: Make, end: Callable[[Rig], None] | None
) -> None:
    rig = make(Entry("app.log", stream=os.path.basename))
    rig.write("app.log", lines(100))
    rig.run(10)
    if end is not None:
        end(rig)
    rig.write("app.log", lines(50, 100))
    copytruncate(rig.path("app.log"), rig.path("app.log.1"))
    rig.write("app.log", lines(10, 150))
    if end is not None:
        rig.start()
    rig.run(100)
    check(lines(160), rig.logs.messages("/g", "app.log"))
    assert rig.counter("log_bytes_lost") == 0


def test_what_was_copied_and_cut_off_before_anything_of_it_was_acknowledged_is_not_said_to_be_lost(
    make: Make,
) -> None:
    rig = make(Entry("app.log*"))
    rig.write("app.log", lines(100))
    rig.run(1)  # read, not sent
    rig.crash()
    copytruncate(rig.path("app.log"), rig.path("app.log.1"))
    rig.write("app.log", lines(10, 100))
    rig.start()
    rig.run(100)
    check(lines(110), rig.logs.messages())
    assert rig.said.fields("log_lost") == []
    assert rig.counter("log_bytes_lost") == 0


def test_copytruncate_again_and_again_inside_the_pattern_sends_every_line_once(make: Make) -> None:
    rig, names = make(Entry("app.log*")), [f"app.log.{number}" for number in range(1, 9)]
    written = []
    for number in range(6):
        written += lines(60, 60 * number)
        rig.write("app.log", lines(60, 60 * number))
        rig.run(10)
        rig.rotate("first free", *names)
        copytruncate(rig.path("app.log"), rig.path("app.log.1"))
        rig.run(10)
    check(written, rig.logs.messages())


# content that repeats itself is no evidence


@pytest.mark.parametrize("end", [None, Rig.stop], ids=["running", "down"])
def test_a_new_file_of_the_same_repeating_line_is_not_taken_for_the_old_one(
    make: Make, end: Callable[[Rig], None] | None
) -> None:
    line = "GET /health 200"
    rig = make(Entry("app.log"))
    rig.write("app.log", [line] * 200)
    rig.run(10)
    if end is not None:
        end(rig)
    rig.path("app.log").unlink()
    rig.write("app.log", [line] * 300)
    if end is not None:
        rig.start()
    rig.run(100)
    assert len(rig.logs.messages()) >= 500
    assert os.path.getsize(rig.path("app.log")) == rig.rows()[-1]["offset"]
