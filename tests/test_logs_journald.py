"""The journal into CloudWatch Logs: complete, by cursor, through restarts, kills and a journal that loses entries."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from journald_kit import BOOT, NOW, FakeJournal, Rig, entry, following, numbers, pid_of, rigs

from agent.aws.errors import Transient
from agent.engine.job import Gap, Refusal
from agent.logs.journald.source import RENEW_SECONDS

Make = Callable[..., Rig]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


def _has_failed(rig: Rig, times: int) -> bool:
    return rig.counter("journal_read_failures") == times


# -- what is read


def test_what_is_in_the_journal_and_what_comes_arrives_once_and_in_order(make: Make) -> None:
    rig = make()
    rig.journal.write(*map(entry, range(1, 4)))
    rig.run(following(rig))
    rig.journal.write(entry(4))
    rig.run(lambda: rig.journals.owed > 0 and rig.journals.inputs[0]._framer.entries == 1)
    rig.clock.advance(6.0)
    rig.run(lambda: rig.messages() == numbers(1, 2, 3, 4))
    assert rig.journals.owed == 0


def test_an_event_has_the_entrys_time_in_milliseconds(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1, age=60.0))
    rig.settle()
    assert [time for time, _ in rig.logs.streams["/g"]["s"]] == [int((NOW - 60.0) * 1000)]


def test_at_first_only_entries_that_cloudwatch_still_takes_are_read(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1, age=14.01 * 86400), entry(2, age=13.9 * 86400))
    rig.settle()
    assert rig.messages() == numbers(2)
    assert rig.counter("log_events_refused") == 0


def test_earlier_boots_are_read_though_a_follower_leaves_them_out(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1, boot="a" * 32), entry(2))
    rig.run(following(rig))
    rig.settle()
    assert rig.messages() == numbers(1, 2)


def test_units_priority_and_matches_are_asked_of_journalctl(make: Make) -> None:
    rig = make({"units": ["a.service", "-b"], "priority": "info", "matches": {"_TRANSPORT": "stdout"}})
    rig.run(lambda: len(rig.argv) > 1)
    assert rig.argv[1][-4:] == ["--unit=a.service", "--unit=-b", "--priority=info", "_TRANSPORT=stdout"]


def test_the_least_priority_leaves_out_no_entry_without_one(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1, PRIORITY="7"))
    rig.settle()
    assert rig.messages() == numbers(1)
    assert not [word for argv in rig.argv for word in argv if word.startswith("--priority")]


def test_a_pattern_finds_units_that_come_later(make: Make) -> None:
    rig = make({"units": ["worker@*", "web"]})
    rig.journal.write(entry(1, _SYSTEMD_UNIT="worker@1.service"), entry(2, _SYSTEMD_UNIT="db.service"))
    rig.run(following(rig))
    about: dict[str, Any] = {"_SYSTEMD_UNIT": "init.scope", "_PID": "1", "UNIT": "web.service"}
    forged: dict[str, Any] = {"_SYSTEMD_UNIT": "db.service", "_PID": "9", "UNIT": "web.service"}
    rig.journal.write(entry(3, _SYSTEMD_UNIT="worker@2.service"), entry(4, **about), entry(5, **forged))
    rig.settle()
    assert rig.messages() == numbers(1, 3, 4)
    assert rig.saved()[0]["position"]["cursor"] == entry(5)["__CURSOR"]


def test_entries_of_a_clock_that_was_set_back_are_all_sent(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1), entry(2, age=40 * 3600.0), entry(3, age=10.0), entry(4, age=50 * 3600.0))
    rig.settle()
    assert sorted(rig.messages()) == numbers(1, 2, 3, 4)
    assert len(rig.logs.accepted()) > 1  # a day at most in each
    assert rig.counter("log_batches_halved") == 0


def test_two_entries_with_one_destination_have_a_cursor_each(make: Make) -> None:
    rig = make({"units": ["a.service"]}, {"units": ["b.service"]})
    rig.journal.write(entry(1), entry(2, _SYSTEMD_UNIT="b.service"))
    rig.settle()
    assert sorted(rig.messages()) == numbers(1, 2)
    assert len(rig.saved()) == 2


def test_an_entry_that_is_written_twice_in_the_configuration_is_read_once(make: Make) -> None:
    rig = make({"units": ["a", "b"]}, {"units": ["b", "a"]})
    assert len(rig.journals.inputs) == 1
    assert "journal_entry_repeated" in rig.said.names()


# -- only an acknowledgement moves the cursor


def test_a_crash_loses_nothing_and_repeats_only_what_was_in_flight(make: Make) -> None:
    rig = make()
    rig.journal.write(*map(entry, range(1, 4)))
    rig.settle()
    rig.sending = False
    rig.journal.write(*map(entry, range(4, 7)))
    rig.run(lambda: rig.journals.owed > 0)
    rig.restart()
    rig.sending = True
    rig.settle()
    assert rig.messages() == numbers(*range(1, 7))


def test_of_several_batches_only_those_that_were_acknowledged_are_behind_the_cursor(make: Make) -> None:
    rig = make()
    rig.sending = False
    rig.journal.write(*(entry(number, f"{number:04d}" + "x" * 10_000) for number in range(1, 301)))
    rig.run(lambda: rig.dispatcher.busy)
    rig.sender.step(rig.clock.monotonic())
    arrived = len(rig.messages())
    assert 0 < arrived < 150
    rig.restart()
    rig.sending = True
    rig.settle()
    assert [message[:4] for message in rig.messages()] == [f"{number:04d}" for number in range(1, 301)]


def test_after_a_crash_between_the_parts_of_a_message_all_its_parts_are_sent_again(make: Make) -> None:
    rig = make()
    rig.sending = False
    message = "0123456789" * 350_000
    rig.journal.write(entry(1, "before"), entry(2, message))
    rig.run(lambda: rig.dispatcher.busy)
    rig.sender.step(rig.clock.monotonic())
    sent = rig.events_in()
    assert sent[0]["message"] == "before"
    assert 0 < sent[-1].get("part", 0) < sent[-1]["parts"]
    rig.restart()
    rig.sending = True
    rig.settle()
    again = rig.events_in()[len(sent) :]
    assert "".join(part["message"] for part in again) == message


def test_an_entry_in_flight_when_the_agent_was_killed_is_sent_again(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1), entry(2))
    rig.settle()
    rig.journal.write(entry(3))
    rig.logs.down = Transient("PutLogEvents", "ServiceUnavailableException", "later", 503)
    rig.journals.hurry(True)
    rig.run(lambda: len(rig.logs.calls) > 1)
    rig.restart()
    rig.logs.down = None
    rig.settle()
    assert rig.messages() == numbers(1, 2, 3)
    assert rig.saved()[0]["position"]["cursor"] == entry(3)["__CURSOR"]


def test_after_a_restart_it_goes_on_behind_the_last_acknowledged_entry(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1), entry(2))
    rig.settle()
    rig.restart()
    rig.journal.write(entry(3))
    rig.settle()
    assert rig.messages() == numbers(1, 2, 3)
    assert rig.counter("journal_gaps") == 0


def test_the_digest_and_the_counts_go_on_over_a_restart(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1))
    rig.settle()
    before = rig.saved()[0]
    rig.restart()
    rig.journal.write(entry(2))
    rig.settle()
    (receipt,) = rig.journals.receipts()
    assert receipt["events"] == 2
    assert len(receipt["digest"]) == 64 != before["digest"]
    assert receipt["acknowledged"] == receipt["size"] > before["offset"] > 0
    assert receipt["cursor"] == entry(2)["__CURSOR"]


def test_an_entry_that_moved_from_run_to_var_is_known_again(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1), entry(2))
    rig.settle()
    moved, later = entry(2), entry(3)
    for each, number in ((moved, 9), (later, 10)):
        own = each["__CURSOR"].partition(";b=")[2]
        each["__CURSOR"] = f"s={'6' * 32};i={number:x};b={own}"
    rig.journal.vacuum(moved, later)
    rig.restart()
    rig.settle()
    assert rig.messages() == numbers(1, 2, 3)
    assert rig.counter("journal_gaps") == 0


def test_other_units_go_on_from_the_old_cursor_without_a_false_alarm(make: Make) -> None:
    rig = make({"units": ["a.service"]})
    rig.journal.write(entry(1), entry(2))
    rig.settle()
    rig.restart({"units": ["b.service"]})
    rig.journal.write(entry(3, _SYSTEMD_UNIT="b.service"))
    rig.settle()
    assert rig.messages() == numbers(1, 2, 3)
    assert rig.counter("journal_gaps") == 0
    assert len(rig.saved()) == 1


def test_a_cursor_of_a_vacuumed_journal_is_a_gap_and_loses_no_entry_that_is_left(make: Make) -> None:
    rig = make()
    rig.journal.write(*map(entry, range(1, 4)))
    rig.settle()
    rig.journal.vacuum(entry(7), entry(8))
    rig.restart()
    rig.settle()
    assert rig.messages() == numbers(1, 2, 3, 7, 8)
    (said,) = rig.said.fields("journal_gap")
    assert (said["since"], said["until"]) == (NOW + 3e-6, NOW + 7e-6)
    assert rig.counter("journal_gaps") == 1


def test_where_a_follower_was_there_all_the_time_an_entry_that_grew_old_is_no_gap(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1))
    rig.settle()
    rig.run(following(rig))
    rig.step()
    rig.journal.vacuum()
    calls = len(rig.journal.calls())
    rig.clock.advance(RENEW_SECONDS + 1.0)
    rig.run(lambda: len(rig.journal.calls()) == calls + 2)
    rig.step()
    os.kill(pid_of(rig, ["--follow"]), signal.SIGKILL)
    rig.run(lambda: rig.counter("journal_read_failures") == 1)
    rig.clock.advance(61.0)
    rig.settle()
    assert rig.counter("journal_gaps") == 0


def test_a_journal_that_was_emptied_is_a_gap_too(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1))
    rig.settle()
    rig.journal.vacuum()
    rig.restart()
    rig.settle()
    assert rig.counter("journal_gaps") == 1
    rig.journal.write(entry(2))
    rig.settle()
    assert rig.messages() == numbers(1, 2)


def test_a_cursor_that_journalctl_refuses_gives_way_to_its_time(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1), entry(2))
    rig.settle()
    with rig.database.transaction() as connection:
        connection.execute("UPDATE journal_cursors SET cursor = replace(cursor, ?, 'x')", (entry(2)["__CURSOR"],))
    rig.journal.write(entry(3))
    rig.restart()
    rig.journals.hurry(True)
    rig.run(lambda: rig.counter("journal_cursors_unusable") == 1)
    rig.clock.advance(3.0)
    rig.run(lambda: rig.messages()[-1:] == numbers(3))
    assert rig.messages() in (numbers(1, 2, 3), numbers(1, 2, 2, 3))
    assert rig.saved()[0]["position"]["cursor"] == entry(3)["__CURSOR"]


def test_where_the_disk_fails_shipping_goes_on_and_it_is_said(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1))
    rig.settle()
    with rig.database.transaction() as connection:
        connection.execute("ALTER TABLE journal_cursors RENAME TO away")
    rig.journal.write(entry(2))
    rig.settle()
    assert rig.messages() == numbers(1, 2)
    assert "journal_cursors_not_saved" in rig.said.names()
    with rig.database.transaction() as connection:
        connection.execute("ALTER TABLE away RENAME TO journal_cursors")
    rig.journal.write(entry(3))
    rig.settle()
    assert "journal_cursors_saved_again" in rig.said.names()
    assert rig.saved()[0]["position"]["cursor"] == entry(3)["__CURSOR"]


# -- processes


def test_a_follower_that_is_killed_is_replaced_and_nothing_is_lost_or_repeated(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1))
    rig.run(following(rig))
    os.kill(pid_of(rig, ["--follow"]), signal.SIGKILL)
    rig.run(lambda: rig.counter("journal_read_failures") == 1)
    assert "by signal 9" in rig.journals.status()[0]["error"]
    rig.journal.write(entry(2))
    rig.clock.advance(61.0)
    rig.run(lambda: rig.journals.status()[0]["error"] is None)
    rig.settle()
    assert rig.messages() == numbers(1, 2)
    assert "journal_readable_again" in rig.said.names()


def test_half_a_line_of_a_process_that_died_spoils_no_entry_of_the_next(make: Make) -> None:
    rig = make()
    rig.journal.plan(half=True)
    rig.run(lambda: rig.journals.inputs[0]._framer._lines.pending > 0)
    rig.journal.plan()
    rig.journal.write(entry(1))
    os.kill(pid_of(rig, ["--follow"]), signal.SIGKILL)
    rig.run(lambda: rig.counter("journal_read_failures") == 1)
    rig.clock.advance(61.0)
    rig.settle()
    assert rig.messages() == numbers(1)
    assert rig.counter("journal_lines_unreadable") == 0


def test_what_journalctl_complains_of_is_said(make: Make) -> None:
    rig = make()
    rig.journal.plan(errors="Journal file /var/log/journal/x is truncated, ignoring file.\n")
    rig.settle()
    assert "truncated" in rig.said.fields("journalctl_complains")[0]["said"]
    assert rig.counter("journalctl_complaints") > 0


def test_a_follower_that_keeps_failing_is_tried_ever_less_often(make: Make) -> None:
    rig = make()
    rig.journal.plan(code=4, errors="Failed to map: Cannot allocate memory")
    waits = []
    for failures in range(1, 9):
        rig.run(partial(_has_failed, rig, failures))
        waits.append(rig.journals.inputs[0]._source.retry_in)
        rig.clock.advance(61.0)
    assert max(waits[4:]) > 10.0
    assert max(waits) <= 60.0
    assert "exit code 4: Failed to map: Cannot allocate memory" in rig.journals.status()[0]["error"]


def test_a_search_that_hangs_is_ended_and_said(make: Make) -> None:
    rig = make()
    rig.journal.plan(hang=True, stubborn=True)
    rig.run(lambda: len(rig.journal.calls()) == 2)
    rig.clock.advance(121.0)
    rig.run(lambda: rig.counter("journal_read_failures") == 1)
    assert "silent" in rig.journals.status()[0]["error"]
    rig.journal.plan()
    rig.journal.write(entry(1))
    rig.clock.advance(61.0)
    rig.settle()
    assert rig.messages() == numbers(1)
    rig.clock.advance(3.0)
    rig.run(lambda: len(rig.journal.alive()) == 1)


def test_a_follower_gone_deaf_is_found_out_in_ten_minutes(make: Make) -> None:
    rig = make()
    rig.journal.plan(deaf=True)
    rig.run(following(rig))
    rig.journal.write(entry(1))
    rig.clock.advance(RENEW_SECONDS + 1.0)
    rig.run(lambda: rig.counter("journal_follow_stalls") == 1)
    rig.settle()
    assert rig.messages() == numbers(1)


def test_a_quiet_journal_is_no_stalled_one(make: Make) -> None:
    rig = make()
    rig.run(following(rig))
    calls = len(rig.journal.calls())
    rig.clock.advance(RENEW_SECONDS + 1.0)
    rig.run(lambda: len(rig.journal.calls()) == calls + 2)
    assert rig.counter("journal_follow_stalls") == 0


def test_a_follower_that_closes_its_output_and_stays_is_ended(make: Make) -> None:
    rig = make()
    rig.journal.plan(closes=True)
    rig.run(following(rig))
    rig.journal.plan()
    child = rig.journals.inputs[0]._source._child
    assert child is not None
    rig.run(lambda: child.output is None)
    rig.clock.advance(6.0)
    rig.run(lambda: rig.counter("journal_read_failures") == 1)


def test_at_the_end_no_process_is_left_even_one_that_ignores_sigterm(make: Make) -> None:
    rig = make()
    rig.journal.plan(stubborn=True)
    rig.run(following(rig))
    assert rig.journal.alive()
    rig.journals.close()
    assert rig.journal.alive() == []


def test_a_child_has_nothing_of_the_agents_but_its_path(make: Make) -> None:
    os.environ["OUTLIVE_SECRET"] = "hidden"
    try:
        rig = make()
        rig.run(following(rig))
        pid = pid_of(rig, ["--follow"])
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"OUTLIVE_SECRET" not in environment
        assert b"PATH=" in environment
        assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull
        assert os.getpgid(pid) == pid
    finally:
        del os.environ["OUTLIVE_SECRET"]


# -- lines that are no use


def test_garbage_between_entries_is_skipped_and_counted(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1), "no json at all\n", '{"MESSAGE": "no address"}\n', "[1]\n", entry(2))
    rig.settle()
    assert rig.messages() == numbers(1, 2)
    assert rig.counter("journal_lines_unreadable") == 3
    refusal = Refusal("log", "journal", 3, "too long, or no entry, as journalctl printed it")
    assert list(rig.journals.refusals()) == [refusal]


def test_an_entry_beyond_all_bounds_is_skipped_counted_and_not_met_again(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1), entry(2, "x" * (5 << 20)))
    rig.settle()
    assert rig.messages() == numbers(1)
    assert rig.counter("journal_entries_too_long") == 1
    assert rig.saved()[0]["position"]["cursor"] == entry(2)["__CURSOR"]
    rig.restart()
    rig.journal.write(entry(3))
    rig.settle()
    assert rig.messages() == numbers(1, 3)
    assert (rig.counter("journal_entries_too_long"), rig.counter("journal_gaps")) == (0, 0)


def test_a_message_too_long_for_an_event_arrives_in_parts_and_whole(make: Make) -> None:
    rig = make()
    message = "aé\n" * 700_000
    rig.journal.write(entry(1, message), entry(2))
    rig.settle()
    *parts, last = rig.events_in()
    assert "".join(each["message"] for each in parts) == message
    assert [each["part"] for each in parts] == list(range(1, parts[0]["parts"] + 1))
    assert last["message"] == "line 2"
    assert rig.counter("log_events_split") == len(parts) - 1 > 0


# -- back-pressure


def test_while_cloudwatch_takes_nothing_journalctl_waits_and_memory_is_bounded(make: Make) -> None:
    rig = make()
    rig.sending = False
    rig.journal.write(*(entry(number, "x" * 10_000) for number in range(1, 801)))
    rig.run(lambda: rig.journals.inputs[0].blocked)
    for _ in range(20):
        rig.step()
    assert rig.journals.owed < 6 << 20
    assert rig.journals.inputs[0].descriptors == []
    rig.clock.advance(1000.0)  # that nothing comes says nothing now
    rig.step()
    assert rig.journals.status()[0]["error"] is None
    rig.sending = True
    rig.settle()
    assert len(rig.messages()) == 800


class Crowded:
    """A memory that is full of what others hold."""

    def __init__(self) -> None:
        self.full = True
        self.held = 0

    def change(self, before: int, after: int) -> int:
        self.held += after - before
        return after


def test_while_files_hold_all_the_memory_nothing_is_read_as_long_as_something_is_on_its_way(make: Make) -> None:
    rig = make()
    rig.memory = memory = Crowded()
    rig.restart()
    rig.sending = False
    rig.journal.write(entry(1))
    rig.journals.hurry(True)
    rig.run(lambda: rig.dispatcher.busy)  # nothing was on its way: one entry is read
    rig.journal.write(entry(2))
    rig.run(lambda: rig.journals.inputs[0].blocked)
    assert rig.journals.owed == memory.held > 0
    rig.sending = True
    rig.settle()
    assert rig.messages() == numbers(1, 2)
    rig.step()
    assert memory.held == 0


# -- drain and stop


def test_a_drain_reads_to_the_journals_end_as_it_is_then(make: Make) -> None:
    rig = make()
    rig.journal.plan(deaf=True)
    rig.run(following(rig))
    rig.journal.write(entry(1))
    rig.journals.hurry(True)
    assert not rig.journals.is_quiet
    assert [gap.reason for gap in rig.journals.gaps()] == ["not yet read to its end"]
    rig.run(lambda: rig.journals.is_quiet)
    assert rig.messages() == numbers(1)
    assert list(rig.journals.gaps()) == []


def test_what_was_just_read_is_not_read_again_for_a_drain(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1))
    rig.run(following(rig))
    rig.journal.write(entry(2))
    rig.run(
        lambda: rig.journals.inputs[0]._framer.position is not None and rig.journals.inputs[0]._framer.entries == 1
    )
    rig.journals.hurry(True)
    rig.run(lambda: rig.journals.is_quiet)
    assert rig.messages() == numbers(1, 2)
    assert rig.counter("journal_gaps") == 0


def test_a_drain_is_not_held_up_by_a_journal_that_never_ends(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1))
    rig.run(following(rig))
    rig.journals.hurry(True)
    later = [entry(number, "x" * 1000, __MONOTONIC_TIMESTAMP=str(int(2000e6) + number)) for number in range(2, 3000)]
    rig.journal.write(*later)
    rig.sending = False
    rig.run(lambda: rig.journals.inputs[0]._sealed is not None)
    assert rig.journals.inputs[0]._framer.entries < 2900
    rig.sending = True
    rig.run(lambda: rig.journals.is_quiet)


def test_a_drain_that_is_begun_anew_looks_anew(make: Make) -> None:
    rig = make()
    rig.journal.plan(deaf=True)
    rig.journals.hurry(True)
    rig.run(lambda: rig.journals.is_quiet)
    rig.journals.hurry(False)
    rig.journals.hurry(True)
    rig.journal.write(entry(1))
    assert not rig.journals.is_quiet
    rig.run(lambda: rig.journals.is_quiet)
    assert rig.messages() == numbers(1)


def test_what_is_not_acknowledged_is_a_gap(make: Make) -> None:
    rig = make()
    rig.sending = False
    rig.journal.write(entry(1))
    rig.journals.hurry(True)
    rig.run(lambda: rig.journals.inputs[0]._sealed is not None)
    (gap,) = rig.journals.gaps()
    assert gap == Gap("log", "journal", rig.journals.owed, "not yet acknowledged")
    assert gap.bytes > 0


def test_a_flush_sends_what_was_read_and_reads_no_more(make: Make) -> None:
    rig = make()
    rig.journal.write(entry(1))
    rig.run(following(rig))
    rig.run(lambda: rig.journals.owed > 0)
    rig.journals.hurry(True, reading=False)
    rig.journal.write(entry(2))
    assert not rig.journals.flush(rig.clock.monotonic())
    rig.run(rig.journals._flushed.is_set)
    assert rig.messages() == numbers(1)


# -- no journal


@pytest.mark.parametrize(
    ("plan", "error", "todo"),
    [
        ({"check_errors": "Hint: You are currently not seeing messages from other users and the system.\n"},
         "not permitted to read the journal", "systemd-journal"),
        ({"check_errors": "No journal files were opened due to insufficient permissions.\n", "check_code": 1},
         "not permitted to read the journal", "systemd-journal"),
        ({"check_errors": "No journal files were found.\n"}, "there is no journal", "systemd-journald"),
    ],
)  # fmt: skip
def test_without_a_journal_it_says_what_to_do_once_and_reads_as_soon_as_it_can(
    make: Make, plan: dict[str, str], error: str, todo: str
) -> None:
    rig = make()
    rig.journal.write(entry(1))
    rig.journal.plan(**plan)
    rig.journals.hurry(True)
    for _ in range(3):
        rig.run(lambda: rig.journals.inputs[0]._source.retry_in > 0)
        rig.clock.advance(2.1)
        rig.step()
    (said,) = rig.said.fields("journal_unreadable")
    assert (said["error"], todo in said["hint"]) == (error, True)
    assert rig.counter("journal_read_failures") > 1
    assert rig.journals.status()[0]["error"] == error
    assert [gap.reason for gap in rig.journals.gaps()] == [error]
    rig.journal.plan()
    rig.clock.advance(2.1)
    rig.run(lambda: rig.journals.is_quiet)
    assert rig.messages() == numbers(1)


def test_without_journalctl_it_says_so(make: Make) -> None:
    rig = make()
    Path(rig.program).unlink()
    rig.step()
    assert "is not installed" in rig.said.fields("journal_unreadable")[0]["error"]
    FakeJournal(rig.journal.home)
    rig.journal.write(entry(1))
    rig.clock.advance(2.0)
    rig.settle()
    assert rig.messages() == numbers(1)


def test_a_question_that_is_not_answered_is_given_up(make: Make) -> None:
    rig = make()
    rig.journal.plan(check_hang=True)
    rig.run(lambda: len(rig.journal.calls()) == 1)
    rig.clock.advance(21.0)
    rig.run(lambda: rig.journals.status()[0]["error"] == "journalctl does not answer")


def test_a_flood_on_stderr_costs_no_memory_and_no_entry(make: Make) -> None:
    rig = make()
    rig.journal.plan(errors="Journal file is truncated, ignoring file.\n" * 50_000)
    rig.journal.write(entry(1))
    rig.settle()
    assert rig.messages() == numbers(1)
    assert len(rig.journals.inputs[0]._source.complaint()) <= 4096


def test_a_silent_journal_is_looked_at_when_something_comes_and_hardly_else(make: Make) -> None:
    rig = make()
    rig.run(following(rig))
    now = rig.clock.monotonic()
    rig.run(lambda: rig.journals.step(now) - now > 60.0)


def test_nothing_configured_costs_nothing(make: Make, tmp_path: Path) -> None:
    rig = make({})
    rig.entries = ()
    rig.crash()
    rig.start()
    assert rig.journals.threads == []
    assert rig.journals.is_quiet
    assert rig.journals.flush(0.0)
    assert rig.journals.stop(1.0)
    assert BOOT not in str(rig.journals.status())
