"""Clocks that jump, files of any age, and restarts at awkward moments."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from logs_harness import Entry, Rig, append, check, check_order, lines, rigs

from agent.aws.errors import Unreachable
from agent.logs.compose import EventRules
from agent.logs.joining import preset, starting

Make = Callable[..., Rig]
HOUR, DAY, YEAR = 3600.0, 86_400.0, 365 * 86_400.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


# the clock


@pytest.mark.parametrize("jump", [-YEAR, -HOUR, HOUR, YEAR], ids=["year back", "hour back", "hour on", "year on"])
def test_a_wall_clock_that_jumps_loses_nothing_and_changes_no_waiting_time(make: Make, jump: float) -> None:
    rig = make(Entry("app.log", flush=5))
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.write("app.log", lines(10, 10))
    rig.run(1)  # read, not sent
    rig.clock.set_time(rig.clock.time() + jump)
    rig.write("app.log", lines(10, 20))
    before = len(rig.logs.messages())
    rig.run(7)
    assert len(rig.logs.messages()) > before
    rig.write("app.log", lines(10, 30))
    rig.run(10)
    refused = rig.counter("log_events_refused")
    check(lines(10) + lines(20, 20), [each for each in rig.logs.messages() if each not in lines(10, 10)])
    assert len(rig.logs.messages()) == 40 - refused
    assert refused in ((0, 10) if abs(jump) == YEAR else (0,))  # stamped with a time that is now out of CloudWatch's
    assert rig.files[0].idle


def test_a_clock_that_is_wrong_at_start_and_set_right_later_reads_nothing_again(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(10))
    rig.run(10)
    right = rig.clock.time()
    for wrong in (0.0, right - YEAR, right + 300 * DAY):
        rig.stop()
        rig.clock.set_time(wrong)
        rig.start()
        rig.run(10)
        rig.clock.set_time(right)
        rig.run(10)
    rig.write("app.log", lines(5, 10))
    rig.run(10)
    check(lines(15), rig.logs.messages())


def test_a_clock_that_is_years_ahead_at_start_forgets_nothing(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(10))
    rig.run(10)
    right = rig.clock.time()
    rig.stop()
    rig.clock.set_time(right + 10 * YEAR)
    rig.start()
    rig.run(10)
    rig.clock.set_time(right)
    rig.run(10)
    check(lines(10), rig.logs.messages())


@pytest.mark.parametrize("age", [-YEAR, HOUR, 20 * YEAR], ids=["in the future", "recent", "ancient"])
def test_a_file_is_read_whatever_its_times_say(make: Make, age: float) -> None:
    rig = make(Entry("*.log"))
    rig.write("app.log", lines(10))
    os.utime(rig.path("app.log"), (rig.clock.time() - age, rig.clock.time() - age))
    rig.run(10)
    rig.write("app.log", lines(10, 10))
    os.utime(rig.path("app.log"), (rig.clock.time() - age, rig.clock.time() - age))
    rig.run(10)
    check(lines(20), rig.logs.messages())


def test_a_change_that_leaves_size_and_time_as_they_were_is_found_by_the_next_growth(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(10))
    rig.run(10)
    before = rig.path("app.log").stat()
    rig.path("app.log").write_text("".join(f"{line}\n" for line in lines(10, 500)))
    os.utime(rig.path("app.log"), ns=(before.st_atime_ns, before.st_mtime_ns))
    rig.run(10)
    rig.write("app.log", lines(5, 510))
    rig.run(10)
    check(lines(10) + lines(15, 500), rig.logs.messages())


# what is known lasts longer than start_at: end may skip


def test_a_machine_that_was_off_for_long_goes_on_where_it_was(make: Make) -> None:
    rig = make(Entry("app.log", from_end=True))
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.write("app.log", lines(10, 10))
    rig.stop()
    rig.clock.advance(500 * DAY)
    rig.start()
    rig.run(10)
    check(lines(10, 10), rig.logs.messages())


# a rotation in whose middle the agent is restarted


@pytest.mark.parametrize("end", [Rig.stop, Rig.crash], ids=["stopped", "killed"])
@pytest.mark.parametrize("seen", [0.0, 0.3, 3.0], ids=["at once", "seen", "scanned"])
@pytest.mark.parametrize("pattern", ["app.log", "app.log*"])
def test_a_restart_between_the_rename_and_the_new_file_loses_nothing(
    make: Make, pattern: str, seen: float, end: Callable[[Rig], None]
) -> None:
    rig = make(Entry(pattern, stream=os.path.basename))
    rig.write("app.log", lines(20))
    rig.run(10)
    rig.logs.down = Unreachable("PutLogEvents", "OSError")
    rig.write("app.log", lines(20, 20))
    rig.run(seen)
    rig.rotate("app.log", "app.log.1")
    rig.run(seen)
    end(rig)
    rig.start()
    rig.run(seen)
    with rig.path("app.log.1").open("a") as old:
        old.write("late\n")
    rig.write("app.log", lines(20, 40))
    rig.run(seen)
    end(rig)
    rig.start()
    rig.logs.down = None
    rig.run(100)
    check([*lines(60), "late"], rig.logs.messages("/g", "app.log"))
    check_order(lines(40), rig.logs.messages("/g", "app.log"))


@pytest.mark.parametrize("end", [Rig.stop, Rig.crash], ids=["stopped", "killed"])
def test_a_restart_between_copy_and_truncate_loses_nothing(make: Make, end: Callable[[Rig], None]) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(20))
    rig.run(10)
    rig.path("copy").write_bytes(rig.path("app.log").read_bytes())
    end(rig)
    rig.start()
    rig.run(10)
    os.truncate(rig.path("app.log"), 0)
    rig.write("app.log", lines(20, 20))
    rig.run(10)
    check(lines(40), rig.logs.messages())


# an event of several lines over a rotation or a restart


def test_an_event_of_several_lines_ends_with_its_file_and_is_never_glued_to_the_next_one(make: Make) -> None:
    rules = EventRules(joiner=lambda: starting(re.compile(r"^\d{4}-")))
    rig = make(Entry("app.log", rules=rules, flush=1.0, quiet=5.0))
    rig.write("app.log", ["2026-1 a", "more of a"])
    rig.run(1)
    rig.rotate("app.log", "app.log.1")
    rig.write("app.log", ["the end of a", "2026-2 b"])
    rig.run(100)
    check(["2026-1 a\nmore of a", "the end of a", "2026-2 b"], rig.logs.messages())


def test_an_event_whose_end_is_still_written_to_the_rotated_file_is_whole(make: Make) -> None:
    rig = make(Entry("app.log", rules=EventRules(joiner=lambda: preset("indented")), flush=1.0, quiet=5.0))
    rig.write("app.log", ["a"])
    with rig.path("app.log").open("a") as old:
        rig.run(1)
        rig.rotate("app.log", "app.log.1")
        rig.write("app.log", ["b"])
        rig.run(2)
        old.write("  more of a\n")
        old.flush()
        rig.run(60)
    check(["a\n  more of a", "b"], rig.logs.messages())


@pytest.mark.parametrize("end", [Rig.stop, Rig.crash], ids=["stopped", "killed"])
def test_an_open_event_is_whole_after_any_end_of_the_process(make: Make, end: Callable[[Rig], None]) -> None:
    rig = make(Entry("app.log", rules=EventRules(joiner=lambda: preset("indented")), flush=1.0))
    rig.write("app.log", ["a", "  of a", "b", "  of b"])
    rig.run(3)
    end(rig)
    rig.write("app.log", ["  still b", "c"])
    rig.start()
    rig.run(60)
    assert rig.logs.messages() == ["a\n  of a", "b\n  of b\n  still b", "c"]


# times of events beyond what CloudWatch takes


def test_events_too_old_or_too_new_for_cloudwatch_are_counted_and_hold_nothing_up(make: Make) -> None:
    from agent.logs.timestamps import reader

    rig = make(Entry("app.log", rules=EventRules(parse=reader("iso8601", "UTC", None))))
    now = datetime.fromtimestamp(rig.clock.time(), UTC)
    stamps = {"too old": -15 * DAY, "old": -13 * DAY, "now": -60.0, "soon": HOUR, "too new": 3 * HOUR}
    for name, seconds in stamps.items():
        append(rig.path("app.log"), [f"{datetime.fromtimestamp(now.timestamp() + seconds, UTC).isoformat()} {name}"])
    rig.run(60)
    assert sorted(message.split(" ", 1)[1] for message in rig.logs.messages()) == ["now", "old", "soon"]
    assert rig.counter("log_events_refused") == 2
    assert rig.files[0].idle
