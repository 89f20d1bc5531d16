"""Stopped, killed, away: what the cursors say brings every line back once, and doubt costs duplicates, not lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from logs_harness import Entry, Rig, append, check, copytruncate, lines, rigs, unprivileged

from agent.aws.errors import AnswerLost, Unreachable

Make = Callable[..., Rig]
DAY = 86_400.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture
def rig(make: Make) -> Rig:
    return make(Entry("app.log"))


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(params=["stopped", "killed"])
def down(request: pytest.FixtureRequest) -> Callable[[Rig], None]:
    return Rig.stop if request.param == "stopped" else Rig.crash


# nothing, or more of the same


def test_nothing_changed(rig: Rig, down: Callable[[Rig], None]) -> None:
    rig.write("app.log", lines(100))
    rig.run(10)
    for _ in range(3):
        down(rig)
        rig.start()
        rig.run(10)
    check(lines(100), rig.logs.messages())


def test_written_while_down(rig: Rig, down: Callable[[Rig], None]) -> None:
    rig.write("app.log", lines(100))
    rig.run(10)
    for number in range(1, 6):
        down(rig)
        rig.write("app.log", lines(1, 99 + number))  # less than the bytes that guard a cursor
        rig.start()
        rig.run(10)
    check(lines(105), rig.logs.messages())


def test_an_empty_file_is_known_again(rig: Rig, down: Callable[[Rig], None]) -> None:
    rig.path("app.log").touch()
    rig.run(10)
    down(rig)
    rig.write("app.log", lines(2))
    rig.start()
    rig.run(10)
    check(lines(2), rig.logs.messages())
    assert len(rig.rows()) == 1


def test_a_line_without_end_at_the_kill_is_one_event_when_it_is_complete(make: Make) -> None:
    rig = make(Entry("app.log", flush=1))
    rig.path("app.log").write_text("whole\npar")
    rig.run(3)
    assert rig.logs.messages() == ["whole"]
    rig.crash()
    with rig.path("app.log").open("a") as file:
        file.write("tial\n")
    rig.start()
    rig.run(10)
    check(["whole", "partial"], rig.logs.messages())


def test_a_file_that_was_idle_for_months_is_not_read_again(rig: Rig, down: Callable[[Rig], None]) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.clock.advance(60 * DAY)
    down(rig)
    rig.start()
    rig.write("app.log", lines(1, 10))
    rig.run(10)
    check(lines(11), rig.logs.messages())


def test_an_agent_that_was_away_for_months_goes_on_where_it_was(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.stop()
    rig.clock.advance(60 * DAY)
    rig.write("app.log", lines(10, 10))
    rig.start()
    rig.run(10)
    check(lines(20), rig.logs.messages())


# rotated while down


@pytest.mark.parametrize("pattern", ["app.log", "app.log*"])
def test_one_rotation_while_down(make: Make, down: Callable[[Rig], None], pattern: str) -> None:
    rig = make(Entry(pattern, stream=os.path.basename))
    rig.write("app.log", lines(100))
    rig.run(10)
    down(rig)
    rig.write("app.log", lines(10, 100))
    rig.rotate("app.log", "app.log.1")
    rig.write("app.log", lines(10, 110))
    rig.start()
    rig.run(100)
    check(lines(120), rig.logs.messages("/g", "app.log"))
    assert rig.logs.messages("/g", "app.log.1") == []


def test_three_rotations_while_down_outside_the_pattern_lose_nothing(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(100))
    rig.run(10)
    rig.stop()
    rig.write("app.log", lines(10, 100))
    for number in range(3):
        rig.rotate("app.log", "app.log.1", "app.log.2", "app.log.3")
        rig.write("app.log", lines(10, 110 + 10 * number))
    rig.start()
    rig.run(100)
    check(lines(140), rig.logs.messages())


def test_three_rotations_while_down_inside_the_pattern_lose_nothing(make: Make) -> None:
    rig = make(Entry("app.log*"))
    rig.write("app.log", lines(100))
    rig.run(10)
    rig.stop()
    rig.write("app.log", lines(10, 100))
    for number in range(3):
        rig.rotate("app.log", "app.log.1", "app.log.2", "app.log.3")
        rig.write("app.log", lines(10, 110 + 10 * number))
    rig.start()
    rig.run(100)
    check(lines(140), rig.logs.messages())


def test_a_file_found_rotated_is_followed_and_then_let_go(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.crash()
    rig.rotate("app.log", "app.log.1")
    rig.start()
    rig.run(10)
    rig.write("app.log.1", ["late"])
    rig.run(100)
    check([*lines(10), "late"], rig.logs.messages())
    assert rig.files == []


def test_a_truncated_and_then_rotated_file_is_found_after_a_kill(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(1)
    rig.logs.down = Unreachable("PutLogEvents", "OSError")
    rig.run(8)
    copytruncate(rig.path("app.log"), rig.path("copy"))
    rig.write("app.log", lines(3, 100))
    rig.run(3)  # two generations of one inode are open now
    rig.crash()
    rig.write("app.log", lines(3, 103))
    rig.rotate("app.log", "app.log.1")
    rig.logs.down = None
    rig.start()
    rig.run(10)
    check(lines(6, 100), rig.logs.messages())
    assert rig.counter("log_bytes_lost") == 120  # of the first generation, which nobody can read any more


def test_of_two_generations_of_one_inode_the_one_that_is_there_goes_on_where_it_was(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.logs.meanwhile.append(raise_killed)
    copytruncate(rig.path("app.log"), rig.path("copy"))
    rig.write("app.log", lines(3, 100))
    kill(rig)  # both generations are in the state, the old one not yet ended
    rig.start()
    rig.run(10)
    rig.crash()
    rig.rotate("app.log", "app.log.1")
    rig.start()
    rig.run(10)
    check(lines(10) + lines(3, 100), rig.logs.messages(), duplicates=3)


def test_truncated_and_then_rotated_while_down_is_read_from_its_beginning(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.crash()
    copytruncate(rig.path("app.log"), rig.path("copy"))
    rig.write("app.log", lines(3, 100))
    rig.rotate("app.log", "app.log.1")
    rig.start()
    rig.run(100)
    check(lines(10) + lines(3, 100), rig.logs.messages())


# truncated or made anew while down


@pytest.mark.parametrize("count", [0, 40, 100, 300], ids=["empty", "smaller", "equal", "larger"])
@pytest.mark.parametrize("header", [[], ["h" * 1100]], ids=["plain", "same head"])
def test_truncated_while_down(rig: Rig, down: Callable[[Rig], None], count: int, header: list[str]) -> None:
    rig.write("app.log", [*header, *lines(100)])
    rig.run(10)
    down(rig)
    copytruncate(rig.path("app.log"), rig.path("copy"))
    rig.write("app.log", [*header, *lines(count, 500)])
    for _ in range(2):
        rig.start()
        rig.run(10)
        down(rig)
    rig.start()
    check([*header, *lines(100), *header, *lines(count, 500)], rig.logs.messages())


def test_another_content_that_is_alike_before_the_cursor_is_told_by_its_head(rig: Rig) -> None:
    alike = "the same last line in every generation ".ljust(200, ".")
    rig.write("app.log", [*lines(10), alike])
    rig.run(10)
    rig.stop()
    os.truncate(rig.path("app.log"), 0)
    rig.write("app.log", [*lines(10, 500), alike, "more"])
    rig.start()
    rig.run(10)
    check([*lines(10), alike, *lines(10, 500), alike, "more"], rig.logs.messages())


def test_what_was_overwritten_is_never_taken_up_again(rig: Rig) -> None:
    """The third content begins as the first did, of which everything was acknowledged."""
    rig.write("app.log", lines(10))
    rig.run(10)
    copytruncate(rig.path("app.log"), rig.path("copy"))
    rig.write("app.log", lines(3, 100))
    rig.run(10)
    rig.stop()
    os.truncate(rig.path("app.log"), 0)
    rig.write("app.log", lines(15))
    rig.start()
    rig.run(10)
    check(lines(10) + lines(3, 100) + lines(15), rig.logs.messages())


def test_a_truncation_that_was_seen_is_remembered(rig: Rig, down: Callable[[Rig], None]) -> None:
    rig.write("app.log", lines(100))
    rig.run(10)
    copytruncate(rig.path("app.log"), rig.path("copy"))
    rig.run(600)
    for _ in range(2):
        down(rig)
        rig.start()
        rig.run(10)
    rig.write("app.log", lines(300, 500))
    rig.run(10)
    check(lines(100) + lines(300, 500), rig.logs.messages())
    assert rig.said.fields("log_lost") == []


def reuse_inode(path: Path, write: Callable[[], None]) -> None:
    """Delete `path` and make it anew with the same inode, which ext4 hands out at once."""
    inode = path.stat().st_ino
    path.unlink()
    for _ in range(500):
        path.touch()
        if path.stat().st_ino == inode:
            return write()
        path.rename(path.with_name(f"other.{path.stat().st_ino}"))
    pytest.skip("this file system does not hand out an inode again")


@pytest.mark.parametrize("born", [True, False], ids=["birth time", "no birth time"])
@pytest.mark.parametrize("header", [[], ["h" * 1100]], ids=["plain", "same head"])
def test_deleted_while_down_and_made_anew_with_the_same_inode(
    rig: Rig, down: Callable[[Rig], None], born: bool, header: list[str]
) -> None:
    rig.write("app.log", [*header, *lines(100)])
    rig.run(10)
    down(rig)
    if not born:
        rig.edit(lambda cursor: cursor["locator"].update(born=0))
    reuse_inode(rig.path("app.log"), lambda: rig.write("app.log", [*header, *lines(300, 500)]))
    rig.start()
    rig.run(10)
    check([*header, *lines(100), *header, *lines(300, 500)], rig.logs.messages())


def test_another_device_number_after_a_reboot_changes_nothing(make: Make, down: Callable[[Rig], None]) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(10))
    rig.run(10)
    down(rig)
    rig.edit(lambda cursor: cursor["locator"].update(device=cursor["locator"]["device"] + 1))
    rig.rotate("app.log", "app.log.1")
    rig.start()
    rig.run(5)
    rig.path("app.log.1").rename(rig.path("app.log"))  # it is known as the same file in every way
    rig.run(10)
    rig.write("app.log", ["more"])
    rig.run(100)
    check([*lines(10), "more"], rig.logs.messages())


def test_another_device_with_another_file_of_the_same_inode_is_another_file(rig: Rig) -> None:
    rig.write("app.log", lines(100))
    rig.run(10)
    rig.stop()
    rig.path("app.log").write_text("")
    rig.write("app.log", lines(200, 500))
    rig.edit(lambda cursor: cursor["locator"].update(device=cursor["locator"]["device"] + 1, born=0))
    rig.start()
    rig.run(10)
    check(lines(100) + lines(200, 500), rig.logs.messages())


# lost, or only out of sight


def test_what_was_deleted_while_down_is_said_in_bytes_once(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(1)
    rig.logs.down = Unreachable("PutLogEvents", "OSError")
    rig.run(10)
    rig.crash()
    rig.path("app.log").unlink()
    for _ in range(2):
        rig.start()
        rig.run(3)
        rig.crash()
    rig.start()
    assert [(each["path"], each["bytes"]) for each in rig.said.fields("log_lost")] == [
        (str(rig.path("app.log")), 120)
    ]


def test_a_directory_that_comes_back_later_is_known_again(make: Make, down: Callable[[Rig], None]) -> None:
    rig = make(Entry("mnt/app.log"))
    rig.path("mnt").mkdir()
    rig.write("mnt/app.log", lines(10))
    rig.run(10)
    down(rig)
    rig.path("mnt").rename(rig.path("unmounted"))
    rig.path("mnt").mkdir()
    for _ in range(2):
        rig.start()
        rig.run(10)
        down(rig)
    rig.path("mnt").rmdir()
    rig.path("unmounted").rename(rig.path("mnt"))
    rig.start()
    rig.write("mnt/app.log", lines(1, 10))
    rig.run(10)
    check(lines(11), rig.logs.messages())


def test_a_file_moved_away_and_back_is_known_again_even_after_it_was_closed(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    for away in (3, 200):
        rig.run(10)
        rig.path("app.log").rename(rig.path("away"))
        rig.run(away)
        rig.path("away").rename(rig.path("app.log"))
    rig.run(10)
    rig.write("app.log", lines(1, 10))
    rig.run(200)
    check(lines(11), rig.logs.messages())
    assert len(rig.files) == 1


def test_a_directory_that_cannot_be_read_at_start_is_not_taken_for_empty() -> None:
    with unprivileged() as home, rigs(home) as make:
        rig = make(Entry("*/app.log"))
        rig.path("deep").mkdir()
        rig.write("deep/app.log", lines(10))
        rig.run(1)
        rig.logs.down = Unreachable("PutLogEvents", "OSError")
        rig.run(10)
        for closed in ("deep", "."):
            rig.crash()
            rig.path(closed).chmod(0)
            rig.start()
            rig.run(100)
            rig.crash()
            rig.path(closed).chmod(0o700)
            rig.start()
        rig.logs.down = None
        rig.run(100)
        check(lines(10), rig.logs.messages())
        assert rig.said.fields("log_lost") == []
        assert {each["path"] for each in rig.said.fields("log_directory_unreadable")} == {
            str(rig.path("deep/app.log")),
            str(rig.folder),
        }


def test_a_file_that_cannot_be_read_at_start_is_not_taken_for_deleted() -> None:
    with unprivileged() as home, rigs(home) as make:
        rig = make(Entry("app.log"))
        rig.write("app.log", lines(10))
        rig.run(10)
        rig.write("app.log", lines(10, 10))
        rig.crash()
        for name in ("app.log", "app.log.1"):
            rig.path("app.log").chmod(0)
            rig.path("app.log").rename(rig.path(name))
            rig.start()
            rig.run(100)
            assert [Path(path).name for path in rig.input.unreadable] == [name]
            rig.crash()
            rig.path(name).rename(rig.path("app.log"))
        rig.path("app.log").chmod(0o600)
        rig.start()
        rig.run(100)
        check(lines(20), rig.logs.messages())
        assert rig.said.fields("log_lost") == []


# killed in the middle


def kill(rig: Rig) -> None:
    """Run until Killed comes out of a call, then let everything go."""
    with pytest.raises(Killed):
        rig.run(100)
    rig.crash()


def raise_killed() -> None:
    raise Killed


def test_killed_between_reading_and_sending(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(3)
    (file,) = rig.files
    assert file.read == 120
    assert rig.logs.calls == []
    rig.crash()
    rig.start()
    rig.run(10)
    check(lines(10), rig.logs.messages())


def test_killed_between_the_answer_and_the_cursor_costs_that_batch_twice(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.write("app.log", lines(10, 10))
    rig.logs.meanwhile.append(raise_killed)
    kill(rig)
    rig.start()
    rig.run(10)
    check(lines(20), rig.logs.messages(), duplicates=10)
    assert len(rig.logs.messages()) == 30


def test_killed_while_some_of_several_batches_are_answered(make: Make) -> None:
    rig = make(Entry("app.log"), senders=4, tick=0.002)
    rig.write("app.log", lines(1))
    rig.run(10)
    rig.write("app.log", lines(250_000, 1))
    for _ in range(3):
        rig.logs.meanwhile.extend([lambda: rig.run(0.02), lambda: rig.run(0.02), raise_killed])
        kill(rig)
        rig.start()
    rig.run(600)
    check(lines(250_001), rig.logs.messages(), duplicates=3 * 8 * 10_000)


@pytest.mark.parametrize("seed", range(3))
def test_a_failing_endpoint_and_a_stop_do_not_move_the_cursor(make: Make, seed: int) -> None:
    rig = make(Entry("app.log"), seed=seed)
    rig.write("app.log", lines(10))
    rig.run(10)
    before = rig.rows()[0]["offset"]
    rig.logs.down = Unreachable("PutLogEvents", "OSError")
    rig.write("app.log", lines(10, 10))
    rig.run(60)
    rig.hurry()
    rig.run(10)
    rig.stop()
    rig.start()
    assert rig.rows()[0]["offset"] == before
    rig.logs.down = None
    rig.run(60)
    check(lines(20), rig.logs.messages())


def test_a_lost_answer_costs_that_batch_twice_and_is_counted(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.logs.next.extend([None, AnswerLost("PutLogEvents", "TimeoutError")])
    rig.run(30)
    check(lines(10), rig.logs.messages(), duplicates=10)
    assert rig.counter("log_events_possibly_duplicated") == len(rig.logs.messages()) - 10 == 10


# several entries


def test_one_file_in_two_entries_goes_to_both_on_its_own(make: Make, down: Callable[[Rig], None]) -> None:
    entries = (Entry("app.log", group="/a"), Entry("app.log*", group="/b"))
    rig = make(*entries)
    rig.logs.denied["/b"] = Unreachable("PutLogEvents", "OSError")
    rig.write("app.log", lines(10))
    rig.run(20)
    down(rig)
    rig.write("app.log", lines(10, 10))
    rig.start()
    rig.run(20)
    check(lines(20), rig.logs.messages("/a"))
    assert rig.logs.messages("/b") == []
    rig.logs.denied.clear()
    down(rig)
    rig.start()
    rig.run(100)
    check(lines(20), rig.logs.messages("/a"))
    check(lines(20), rig.logs.messages("/b"))


def test_entries_with_the_same_group_and_stream_do_not_take_each_others_files(
    make: Make, down: Callable[[Rig], None]
) -> None:
    rig = make(Entry("a.log"), Entry("b.log"))
    written = []
    for number in range(4):
        for name in ("a", "b"):
            written += lines(5, 5 * number, name)
            rig.write(f"{name}.log", lines(5, 5 * number, name))
        rig.run(100)
        assert [len(input_.files) for input_ in rig.inputs] == [1, 1]
        assert [input_.rotated for input_ in rig.inputs] == [[], []]
        down(rig)
        rig.start()
    rig.run(10)
    check(written, rig.logs.messages())


def test_a_second_entry_with_the_same_group_and_stream_may_begin_at_the_end_too(make: Make) -> None:
    rig = make(Entry("a.log", from_end=True), Entry("b.log", from_end=True))
    rig.stop()
    for name in ("a.log", "b.log"):
        append(rig.path(name), lines(10))
    rig._state.unlink()
    rig.start()
    rig.run(10)
    for name in ("a.log", "b.log"):
        rig.write(name, [f"new {name}"])
    rig.run(10)
    check(["new a.log", "new b.log"], rig.logs.messages())


def test_what_a_changed_pattern_left_out_goes_on_where_it_was_when_it_is_taken_in_again(make: Make) -> None:
    rig = make(Entry("*.log"))
    for name in ("a.log", "b.log"):
        rig.write(name, lines(10, word=name))
    rig.run(10)
    rig.restart(Entry("*.log", exclude=["b.log"]))
    rig.write("b.log", lines(5, 10, "b.log"))
    rig.run(200)
    assert rig.said.fields("log_lost") == []
    assert len(rig.files) == 1
    rig.restart(Entry("*.log"))
    rig.run(10)
    check(lines(10, word="a.log") + lines(15, word="b.log"), rig.logs.messages())
