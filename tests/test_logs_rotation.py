"""Rotation by renaming, seen while it happens: every line of every generation, once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from logs_harness import Entry, Rig, append, check, check_order, lines, rigs

from agent.aws.errors import Unreachable

Make = Callable[..., Rig]
GENERATIONS = [f"app.log.{number}" for number in range(1, 9)]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture(params=["app.log", "app.log*"], ids=["outside", "inside"])
def rig(make: Make, request: pytest.FixtureRequest) -> Rig:
    """The rotated names lie outside of the pattern, or inside."""
    return make(Entry(request.param))


def test_rename_and_create_while_the_reader_is_idle(rig: Rig) -> None:
    rig.write("app.log", lines(100))
    rig.run(10)
    rig.rotate("app.log", "app.log.1")
    rig.write("app.log", lines(100, 100))
    rig.run(10)
    check(lines(200), rig.logs.messages())
    check_order(lines(200), rig.logs.messages())
    assert rig.counter("logs_rotated") == 1


def test_the_new_file_is_opened_within_a_second(rig: Rig) -> None:
    rig.write("app.log", lines(1))
    rig.run(1)
    for number in range(1, 5):
        rig.rotate("app.log", *GENERATIONS)
        rig.write("app.log", lines(1, number))
        rig.run(1.05)
        followed = rig.input.files[str(rig.path("app.log"))]
        assert followed.cursor.locator.inode == os.stat(rig.path("app.log")).st_ino
        assert followed.size > 0


def test_a_writer_that_keeps_the_old_file_for_two_minutes_loses_nothing(rig: Rig) -> None:
    written = lines(10)
    rig.write("app.log", written)
    with rig.path("app.log").open("a") as old:
        rig.run(3)
        rig.rotate("app.log", "app.log.1")
        for second in range(0, 120, 30):
            late, new = lines(5, second, "old"), lines(5, second, "new")
            old.write("".join(f"{line}\n" for line in late))
            old.flush()
            rig.write("app.log", new)
            written += late + new
            rig.run(30)
    rig.run(10)
    check(written, rig.logs.messages())


def test_a_rotated_file_that_ends_without_a_line_end_gives_its_last_line_once(rig: Rig) -> None:
    rig.path("app.log").write_text("whole\npartial")
    rig.run(1)
    rig.rotate("app.log", "app.log.1")
    rig.write("app.log", ["new"])
    rig.run(200)
    check(["whole", "partial", "new"], rig.logs.messages())


def test_a_line_that_is_completed_after_the_rename_is_one_event(rig: Rig) -> None:
    with rig.path("app.log").open("a") as old:
        old.write("par")
        old.flush()
        rig.run(2)
        rig.rotate("app.log", "app.log.1")
        rig.write("app.log", ["new"])
        rig.run(2)
        old.write("tial\n")
        old.flush()
        rig.run(10)
    check(["partial", "new"], rig.logs.messages())


def test_fast_rotation_inside_the_pattern_loses_nothing_that_is_kept_for_longer_than_a_look(make: Make) -> None:
    rig, written = make(Entry("app.log*")), []
    rig.write("app.log", lines(1))
    rig.run(1)
    for number in range(1, 100):
        rig.rotate("app.log", *GENERATIONS)
        rig.path(GENERATIONS[-1]).unlink(missing_ok=True)
        written += lines(20, 20 * number)
        rig.write("app.log", lines(20, 20 * number))
        rig.run(0.05)
    rig.run(10)
    check(lines(1) + written, rig.logs.messages())


def test_rotation_each_second_outside_the_pattern_loses_nothing(make: Make) -> None:
    rig, written = make(Entry("app.log")), lines(1)
    rig.write("app.log", written)
    rig.run(1)
    for number in range(1, 30):
        rig.rotate("app.log", "app.log.1", "app.log.2")
        more = lines(20, 20 * number)
        written = written + more
        rig.write("app.log", more[:10])
        rig.run(1)
        rig.write("app.log", more[10:])
    rig.run(10)
    check(written, rig.logs.messages())


def test_two_rotations_between_two_looks_are_both_read_where_the_pattern_has_their_names(make: Make) -> None:
    rig = make(Entry("app.log*"))
    rig.write("app.log", lines(10))
    rig.run(5)
    rig.write("app.log", lines(10, 10))
    rig.rotate("app.log", *GENERATIONS)
    rig.write("app.log", lines(10, 20))
    rig.rotate("app.log", *GENERATIONS)
    rig.write("app.log", lines(10, 30))
    rig.run(10)
    check(lines(40), rig.logs.messages())


@pytest.mark.parametrize("name", ["app.log.{}", "app.log-2026112{}", "{}.app.log"], ids=["number", "date", "before"])
def test_files_that_are_renamed_inside_the_pattern_are_not_read_again(make: Make, name: str) -> None:
    rig, names = make(Entry("*app.log*")), [name.format(number) for number in range(1, 6)]
    rig.write("app.log", lines(10))
    rig.run(10)
    for number in range(1, 5):
        rig.rotate("app.log", *names)
        rig.write("app.log", lines(10, 10 * number))
        rig.run(10)
    check(lines(50), rig.logs.messages())
    assert len(rig.files) == 5
    assert {file.path for file in rig.files} == {str(path) for path in rig.folder.iterdir()}


def test_a_renamed_file_keeps_its_stream(make: Make) -> None:
    rig = make(Entry("app.log*", stream=os.path.basename))
    rig.write("app.log", lines(10))
    rig.run(10)
    with rig.path("app.log").open("a") as old:
        rig.rotate("app.log", "app.log.1")
        rig.write("app.log", lines(10, 20))
        old.write("late\n")
    rig.run(10)
    check([*lines(10), "late", *lines(10, 20)], rig.logs.messages("/g", "app.log"))
    assert rig.logs.messages("/g", "app.log.1") == []


def test_compressing_at_once_takes_nothing_away(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(5)
    rig.write("app.log", lines(1000, 10))
    rig.rotate("app.log", "app.log.1")
    rig.path("app.log.1.gz").write_bytes(b"\x1f\x8bcompressed")
    rig.path("app.log.1").unlink()
    rig.write("app.log", lines(10, 1010))
    rig.run(100)
    check(lines(1020), rig.logs.messages())


def test_a_rotated_file_is_kept_open_while_cloudwatch_is_away_and_let_go_afterwards(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(5)
    rig.logs.down = Unreachable("PutLogEvents", "OSError")
    rig.write("app.log", lines(2000, 10))
    rig.rotate("app.log", "app.log.1")
    rig.run(300)
    rig.path("app.log.1").unlink()
    rig.run(3600)
    assert len(rig.files) == 1
    rig.logs.down = None
    rig.run(200)
    check(lines(2010), rig.logs.messages())
    assert rig.files == []
    assert rig.said.fields("log_finished")[-1]["bytes"] == sum(len(line) + 1 for line in lines(2010))


def test_a_day_without_cloudwatch_and_twenty_rotations_that_delete_the_oldest_lose_nothing(rig: Rig) -> None:
    rig.write("app.log", lines(1))
    rig.run(10)
    rig.logs.down = Unreachable("PutLogEvents", "OSError")
    written = lines(1)
    for number in range(1, 21):
        more = lines(50, 50 * number)
        rig.write("app.log", more)
        written += more
        rig.run(3)
        rig.rotate("app.log", "app.log.1", "app.log.2")
        rig.path("app.log.2").unlink(missing_ok=True)
        rig.write("app.log", [f"first of {number}"])
        written.append(f"first of {number}")
        rig.run(3)
        rig.clock.advance(86_400 / 20)
    rig.logs.down = None
    rig.run(100)
    check(written, rig.logs.messages())
    assert rig.counter("log_bytes_lost") == 0
    assert len(rig.files) <= 2


def test_a_rotated_file_is_closed_after_it_was_quiet_for_the_linger(make: Make) -> None:
    rig = make(Entry("app.log"), linger=60)
    rig.write("app.log", lines(1))
    rig.run(10)
    rig.rotate("app.log", "app.log.1")
    with rig.path("app.log.1").open("a") as old:
        rig.run(40)
        old.write("late\n")
        old.flush()
        rig.run(50)
        assert len(rig.files) == 1
        rig.run(20)
        assert rig.files == []
    check([*lines(1), "late"], rig.logs.messages())


def test_the_linger_begins_with_the_rotation_however_long_the_file_was_idle(rig: Rig) -> None:
    rig.write("app.log", lines(1))
    rig.run(600)
    with rig.path("app.log").open("a") as old:
        rig.rotate("app.log", "app.log.1")
        rig.path("app.log.1").unlink()
        rig.run(20)
        old.write("late\n")
        old.flush()
        rig.run(200)
    check([*lines(1), "late"], rig.logs.messages())
    assert rig.files == []


def test_what_was_written_just_before_an_idle_file_is_deleted_arrives(make: Make) -> None:
    rig = make(Entry("app.log"), linger=0)
    rig.write("app.log", lines(1))
    rig.run(600.9)
    rig.write("app.log", ["last words"])
    rig.path("app.log").unlink()
    rig.run(100)
    check([*lines(1), "last words"], rig.logs.messages())
    assert rig.files == []


def test_a_file_moved_to_another_disk_inside_the_pattern_may_be_read_again_and_loses_nothing(make: Make) -> None:
    rig = make(Entry(["app.log", "old/*"]))
    rig.write("app.log", lines(100))
    rig.run(10)
    rig.path("old").mkdir()
    rig.path("old/app.log.1").write_bytes(rig.path("app.log").read_bytes())
    rig.path("app.log").unlink()
    rig.write("app.log", lines(10, 100))
    rig.run(10)
    check(lines(110), rig.logs.messages(), duplicates=100)


def test_replacing_a_file_by_a_longer_copy_as_an_editor_does_loses_nothing(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(50))
    rig.run(10)
    append(rig.path("app.log.tmp"), lines(51))
    rig.path("app.log.tmp").rename(rig.path("app.log"))
    rig.run(10)
    check(lines(51), rig.logs.messages(), duplicates=50)


def test_deleting_and_making_anew_at_once(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    for number in range(1, 6):
        rig.path("app.log").unlink()
        rig.write("app.log", lines(10, 10 * number))
        rig.run(10)
    check(lines(60), rig.logs.messages())


def test_a_deleted_file_is_read_to_its_end_and_its_disk_space_given_back(rig: Rig) -> None:
    rig.write("app.log", lines(1))
    rig.run(1)
    rig.write("app.log", lines(30_000, 1))
    descriptor = rig.files[0].descriptor
    rig.path("app.log").unlink()
    assert os.fstat(descriptor).st_nlink == 0
    rig.run(100)
    check(lines(30_001), rig.logs.messages())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
