"""Truncation in place (copytruncate), seen while it happens: what was read arrives, what was not is said."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from logs_harness import Entry, Rig, check, check_order, copytruncate, lines, rigs

from agent.aws.errors import Unreachable

Make = Callable[..., Rig]
HEADER = "#Software: a banner that every generation begins with ".ljust(1100, "-")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture
def rig(make: Make) -> Rig:
    return make(Entry("app.log"))


def truncate(rig: Rig) -> None:
    copytruncate(rig.path("app.log"), rig.path("copy"))


def test_an_idle_writer(rig: Rig) -> None:
    rig.write("app.log", lines(100))
    rig.run(10)
    truncate(rig)
    rig.run(10)
    rig.write("app.log", lines(100, 100))
    rig.run(10)
    check(lines(200), rig.logs.messages())
    check_order(lines(200), rig.logs.messages())
    assert rig.counter("logs_overwritten") == 1
    assert len(rig.files) == 1


@pytest.mark.parametrize("count", [40, 100, 300], ids=["smaller", "equal", "larger"])
@pytest.mark.parametrize("header", [[], [HEADER]], ids=["plain", "same head"])
def test_another_content_of_any_size_is_read_from_its_beginning(rig: Rig, count: int, header: list[str]) -> None:
    rig.write("app.log", [*header, *lines(100)])
    rig.run(10)
    truncate(rig)
    rig.write("app.log", [*header, *lines(count, 500)])
    rig.run(10)
    check([*header, *lines(100), *header, *lines(count, 500)], rig.logs.messages())
    assert rig.counter("logs_overwritten") == 1
    assert rig.counter("log_bytes_lost") == 0


def test_truncation_again_and_again(rig: Rig) -> None:
    for number in range(10):
        rig.write("app.log", lines(20, 20 * number))
        rig.run(0.6)
        truncate(rig)
    rig.run(10)
    check(lines(200), rig.logs.messages())
    assert rig.counter("logs_overwritten") == 10


def test_a_line_without_end_at_the_truncation_arrives(rig: Rig) -> None:
    rig.path("app.log").write_text("whole\npartial")
    rig.run(1)
    truncate(rig)
    rig.write("app.log", ["new"])
    rig.run(10)
    check(["whole", "partial", "new"], rig.logs.messages())


def test_what_was_seen_and_is_gone_unread_is_said_in_bytes(rig: Rig) -> None:
    rig.write("app.log", lines(1))
    rig.run(10)
    rig.logs.down = Unreachable("PutLogEvents", "OSError")  # so that reading stops
    rig.write("app.log", lines(400_000, 1))
    rig.run(10)
    (file,) = rig.files
    unread = file.size - file.read
    assert unread > 0
    truncate(rig)
    rig.logs.down = None
    rig.write("app.log", ["new"])
    rig.run(200)
    arrived = rig.logs.messages()
    assert arrived[-1] == "new"
    check([*lines(len(arrived) - 2), arrived[-2], "new"], arrived)
    (said,) = rig.said.fields("log_overwritten")
    assert said["lost_bytes"] == unread == rig.counter("log_bytes_lost")


def test_all_that_was_seen_cut_off_before_its_first_byte_was_read_is_said(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(10))
    rig.input.scan(rig.clock.monotonic())
    (file,) = rig.files
    file.look(rig.clock.monotonic())
    os.truncate(rig.path("app.log"), 0)
    rig.run(10)
    assert rig.counter("log_bytes_lost") == file.size or rig.counter("log_bytes_lost") == 12 * 10
    rig.write("app.log", ["new"])
    rig.run(10)
    check(["new"], rig.logs.messages())


def test_a_cut_that_leaves_what_was_read_loses_only_the_rest_and_says_so(rig: Rig) -> None:
    rig.write("app.log", lines(1))
    rig.run(10)
    rig.logs.down = Unreachable("PutLogEvents", "OSError")
    rig.write("app.log", lines(400_000, 1))
    rig.run(10)
    (file,) = rig.files
    cut = file.size - 12 * 50_000
    assert file.read < cut
    os.truncate(rig.path("app.log"), cut)
    rig.run(10)
    assert rig.counter("log_bytes_lost") == 12 * 50_000
    rig.logs.down = None
    rig.write("app.log", ["new"])
    rig.run(200)
    check([*lines(350_001), "new"], rig.logs.messages())


def test_cut_to_half_begins_anew(rig: Rig) -> None:
    rig.write("app.log", lines(100))
    rig.run(10)
    os.truncate(rig.path("app.log"), 12 * 50)
    rig.write("app.log", lines(10, 100))
    rig.run(10)
    check(lines(110), rig.logs.messages(), duplicates=50)


def test_an_answer_that_comes_after_the_truncation_moves_only_the_old_generation(rig: Rig) -> None:
    rig.write("app.log", lines(100))

    def meanwhile() -> None:
        truncate(rig)
        rig.write("app.log", lines(3, 100))
        rig.clock.advance(1)
        rig.reader.step(rig.clock.monotonic())

    rig.logs.meanwhile.append(meanwhile)
    rig.run(5.5)
    new = rig.input.files[str(rig.path("app.log"))]
    assert rig.logs.messages() == lines(100)
    assert (new.acknowledged, new.size) == (0, 36)
    rig.run(10)
    check(lines(103), rig.logs.messages())
    assert new.acknowledged == 36


def test_a_copy_inside_the_pattern_is_read_at_most_once_more_and_saves_what_was_unread(make: Make) -> None:
    rig = make(Entry("app.log*"))
    rig.write("app.log", lines(100))
    rig.run(10)
    rig.write("app.log", lines(50, 100))  # nobody looks before it is truncated
    copytruncate(rig.path("app.log"), rig.path("app.log.1"))
    rig.write("app.log", lines(10, 150))
    rig.run(10)
    check(lines(160), rig.logs.messages(), duplicates=100)


def test_truncation_through_the_old_descriptor_of_a_renamed_file(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(3)
    with rig.path("app.log").open("r+") as old:
        rig.rotate("app.log", "app.log.1")
        rig.write("app.log", ["new"])
        rig.run(3)
        old.truncate(0)
        old.write("again\n")
        old.flush()
        rig.run(10)
    check([*lines(10), "new", "again"], rig.logs.messages())


def test_the_old_generation_is_let_go_of_when_it_is_acknowledged(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(1)
    rig.logs.down = Unreachable("PutLogEvents", "OSError")
    truncate(rig)
    rig.run(60)
    assert [file.sealed for file in rig.files] == [True, False]
    rig.logs.down = None
    rig.run(60)
    assert [file.sealed for file in rig.files] == [False]
    check(lines(10), rig.logs.messages())


def test_truncated_written_and_deleted_between_two_looks_is_still_read(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    truncate(rig)
    rig.write("app.log", ["short"])
    rig.path("app.log").unlink()
    rig.write("app.log", ["new"])
    rig.run(100)
    check([*lines(10), "short", "new"], rig.logs.messages())


def test_another_content_that_slips_in_between_a_look_and_a_read_is_not_taken_for_what_follows(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    (file,) = rig.files
    rig.write("app.log", lines(10, 10))
    now, epoch = rig.clock.monotonic(), rig.clock.time()
    file.look(now)
    os.truncate(rig.path("app.log"), 0)
    rig.write("app.log", lines(30, 500))
    file.advance(now, epoch, hurry=False, final=False)
    assert file.overwritten
    rig.run(10)
    check(lines(10) + lines(30, 500), rig.logs.messages())
    assert rig.counter("log_bytes_lost") == 120
