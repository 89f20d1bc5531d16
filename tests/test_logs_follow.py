"""Files that come, go, hide and fail: what is met when, where reading begins, and one file's trouble is its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from logs_harness import Entry, Rig, append, check, lines, no_descriptors, rigs, unprivileged

from agent.aws.errors import Transient

Make = Callable[..., Rig]

DOWN = Transient("PutLogEvents", "ServiceUnavailableException", "later", 503)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture
def private() -> Iterator[Make]:
    """Rigs of a user whose permissions count."""
    with unprivileged() as home, rigs(home) as make:
        yield make


# what appears


def test_files_and_directories_that_appear_later_are_read_from_their_first_byte(make: Make) -> None:
    rig = make(Entry(["*.log", "**/app.log", "new/*/x"]))
    rig.run(5)
    written = []
    for name in ("late.log", "deep/er/app.log", "new/a/x"):
        rig.path(name).parent.mkdir(parents=True, exist_ok=True)
        rig.write(name, lines(10, word=name))
        written += lines(10, word=name)
        rig.run(2.1)
        assert str(rig.path(name)) in rig.input.files
    rig.run(10)
    check(written, rig.logs.messages())


def test_a_file_that_is_made_and_grows_between_two_scans_is_read_from_its_beginning_even_with_start_at_end(
    make: Make,
) -> None:
    rig = make(Entry("*.log", from_end=True))
    rig.run(5)
    rig.write("new.log", lines(10))
    rig.run(10)
    check(lines(10), rig.logs.messages())


@pytest.mark.parametrize("from_end", [False, True], ids=["beginning", "end"])
def test_where_reading_begins_in_files_that_are_there_at_the_first_start(make: Make, from_end: bool) -> None:
    rig = make(Entry("*.log", from_end=from_end))
    rig.write("old.log", lines(10))
    rig.run(3)
    rig.write("old.log", lines(10, 10))
    rig.run(10)
    rig.crash()
    rig.write("old.log", lines(10, 20))
    rig.write("while down.log", lines(10, 30))
    rig.start()
    rig.run(10)
    check(lines(30, 10) if from_end else lines(40), rig.logs.messages())


def test_a_directory_that_is_removed_and_made_anew_is_found_again(make: Make) -> None:
    rig = make(Entry("d/*.log"))
    written = []
    for number in range(3):
        rig.path("d").mkdir()
        rig.write("d/app.log", lines(10, 10 * number))
        written += lines(10, 10 * number)
        rig.run(10)
        shutil.rmtree(rig.path("d"))
        rig.run(1 + 100 * number)
    check(written, rig.logs.messages())


# what can't be read


def test_a_file_that_may_not_be_read_is_named_once_and_read_from_its_beginning_when_it_may(private: Make) -> None:
    rig = private(Entry("*.log"))
    rig.write("closed.log", lines(10))
    rig.path("closed.log").chmod(0)
    rig.write("open.log", lines(10, 10))
    rig.run(50)
    (path, trouble) = next(iter(rig.input.unreadable.items()))
    assert (path, trouble.error, trouble.size) == (str(rig.path("closed.log")), "Permission denied", 120)
    assert len(rig.said.fields("log_unreadable")) == 1
    assert rig.counter("log_open_failures") >= 3
    rig.path("closed.log").chmod(0o600)
    rig.run(40)
    check(lines(20), rig.logs.messages())
    assert rig.input.unreadable == {}
    assert len(rig.said.fields("log_readable_again")) == 1


def test_permission_that_is_taken_away_from_an_open_file_matters_only_after_a_restart(private: Make) -> None:
    rig = private(Entry("app.log"))
    rig.write("app.log", lines(10))
    rig.run(10)
    with rig.path("app.log").open("a") as writer:
        rig.path("app.log").chmod(0)
        writer.write("more\n")
        writer.flush()
        rig.run(10)
        check([*lines(10), "more"], rig.logs.messages())
        rig.restart()
        writer.write("unread\n")
        writer.flush()
    rig.run(60)
    assert list(rig.input.unreadable) == [str(rig.path("app.log"))]
    rig.path("app.log").chmod(0o600)
    rig.run(60)
    check([*lines(10), "more", "unread"], rig.logs.messages())


def test_an_unreadable_file_that_is_deleted_is_trouble_no_more(private: Make) -> None:
    rig = private(Entry("*.log"))
    rig.path("a.log").touch(mode=0)
    rig.run(10)
    assert len(rig.input.unreadable) == 1
    rig.folder.chmod(0)
    rig.run(10)
    assert len(rig.input.unreadable) == 1  # who knows
    rig.folder.chmod(0o700)
    rig.path("a.log").unlink()
    rig.run(10)
    assert rig.input.unreadable == {}


def test_a_directory_that_may_not_be_read_for_a_while_costs_nothing(private: Make) -> None:
    rig = private(Entry("*/app.log"))
    rig.path("d").mkdir()
    rig.write("d/app.log", lines(10))
    rig.run(10)
    with rig.path("d/app.log").open("a") as writer:
        rig.path("d").chmod(0)
        for number in range(10, 13):
            writer.write(f"{lines(1, number)[0]}\n")
            writer.flush()
            rig.run(50)
        assert len(rig.logs.messages()) == 13  # it is open
        assert rig.input.scan_errors != {}
        rig.path("d").chmod(0o700)
    rig.run(10)
    check(lines(13), rig.logs.messages())
    assert rig.input.scan_errors == {}
    assert len(rig.said.fields("log_directory_readable_again")) == 1
    assert rig.counter("logs_rotated") == 0


def test_running_out_of_descriptors_ends_nothing_and_starts_nothing_anew(make: Make) -> None:
    rig = make(Entry("*.log"))
    for number in range(20):
        rig.write(f"{number}.log", lines(10, 10 * number))
    rig.run(10)
    with no_descriptors():
        rig.run(100)
    rig.write("new.log", ["new"])
    rig.run(60)
    check([*lines(200), "new"], rig.logs.messages())
    assert rig.counter("logs_rotated") == 0
    assert len(rig.files) == 21


def test_running_out_of_descriptors_at_start_reads_nothing_twice(make: Make) -> None:
    rig = make(Entry("*.log"))
    for number in range(20):
        rig.write(f"{number}.log", lines(10, 10 * number))
    rig.run(10)
    rig.crash()
    rig.start()
    with no_descriptors():
        rig.run(10)
    assert rig.files == []
    rig.run(60)
    check(lines(200), rig.logs.messages())
    assert rig.said.fields("log_lost") == []


def test_truncation_while_there_is_no_descriptor_left_goes_on(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(10))
    rig.run(10)
    with rig.path("app.log").open("r+") as writer, no_descriptors():
        writer.truncate(0)
        writer.write("new\n")
        writer.flush()
        rig.run(10)
    rig.write("app.log", ["more"])
    rig.run(10)
    check([*lines(10), "new", "more"], rig.logs.messages())


def test_more_files_than_may_be_open_take_turns(make: Make) -> None:
    rig = make(Entry("*.log"), max_open=5)
    rig.logs.down = DOWN
    for number in range(8):
        rig.write(f"{number}.log", lines(10, 10 * number))
    rig.run(10)
    assert len(rig.files) == 5
    assert len(rig.input.waiting) == 3
    assert rig.said.fields("logs_wait_to_be_opened") == [{"files": 3}]
    rig.logs.down = None
    rig.run(60)
    check(lines(80), rig.logs.messages())
    assert not rig.input.waiting
    assert len(rig.files) == 5
    for number in range(8):
        rig.write(f"{number}.log", lines(10, 1000 + 10 * number))
    rig.run(60)
    check(lines(80) + lines(80, 1000), rig.logs.messages())


# one file's trouble is its own


def break_reading(rig: Rig, name: str) -> None:
    """Let every read of the open file fail, while it can still be looked at."""
    (file,) = (file for file in rig.files if file.path.endswith(name))
    writing = os.open(rig.path(name), os.O_WRONLY)
    os.dup2(writing, file.descriptor)
    os.close(writing)


def test_a_file_that_fails_while_it_is_read_stops_no_other(make: Make) -> None:
    rig = make(Entry("*.log"))
    for name in ("bad.log", "good.log"):
        rig.write(name, lines(10, word=name))
    rig.run(10)
    break_reading(rig, "bad.log")
    for name in ("bad.log", "good.log"):
        rig.write(name, lines(10, 10, word=name))
    rig.run(8)
    check(lines(10, word="bad.log") + lines(20, word="good.log"), rig.logs.messages())
    (bad,) = (file for file in rig.files if file.error is not None)
    assert (bad.path, bad.error) == (str(rig.path("bad.log")), "Bad file descriptor")
    assert len(rig.said.fields("log_read_failed")) == 1
    again = os.open(rig.path("bad.log"), os.O_RDONLY)
    os.dup2(again, bad.descriptor)
    os.close(again)
    rig.run(10)
    check(lines(20, word="bad.log") + lines(20, word="good.log"), rig.logs.messages())
    assert bad.error is None
    assert len(rig.said.fields("log_readable_again")) == 1


def test_a_file_that_can_be_opened_and_not_read_stops_no_other(make: Make) -> None:
    rig = make(Entry("*.log"))
    rig.path("bad.log").symlink_to("/proc/self/mem")  # a regular file whose first byte can't be read
    rig.write("good.log", lines(10))
    before = len(os.listdir("/proc/self/fd"))
    rig.run(200)
    check(lines(10), rig.logs.messages())
    assert [Path(path).name for path in rig.input.unreadable] == ["bad.log"]
    assert len(os.listdir("/proc/self/fd")) == before + 1


def test_pipes_links_in_circles_and_directories_among_the_files_hold_nothing_up(make: Make) -> None:
    rig = make(Entry("*.log"))
    os.mkfifo(rig.path("pipe.log"))
    rig.path("loop.log").symlink_to("loop.log")
    rig.path("dangling.log").symlink_to("nowhere")
    rig.path("dir.log").mkdir()
    rig.path("null.log").symlink_to("/dev/null")
    rig.write("good.log", lines(10))
    rig.run(10)
    check(lines(10), rig.logs.messages())
    assert rig.input.unreadable == {}
    append(rig.path("nowhere"), ["here now"])
    rig.run(10)
    check([*lines(10), "here now"], rig.logs.messages())


def test_a_pipe_that_is_named_itself_is_trouble_and_is_not_opened(make: Make) -> None:
    rig = make(Entry(["pipe", "good.log"]))
    os.mkfifo(rig.path("pipe"))
    rig.write("good.log", lines(10))
    rig.run(10)
    check(lines(10), rig.logs.messages())
    assert [trouble.error for trouble in rig.input.unreadable.values()] == ["not a regular file"]
