"""From journalctl's JSON to events: what an operator finds in Logs Insights, and nothing cut off."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journald_kit import entry
from logs_harness import examples

from agent.aws.limits import LOG_EVENT_BYTES
from agent.config.sections.logs import Journal
from agent.logs.journald.entry import events, salvage, text
from agent.logs.journald.lines import Lines
from agent.logs.journald.position import Position
from agent.logs.journald.selection import Selection


def only(fields: dict[str, Any]) -> dict[str, Any]:
    (message,) = events(fields)
    return dict(orjson.loads(message))


# -- an entry as an event


def test_an_event_is_one_json_object_with_the_fields_that_are_asked_for() -> None:
    (message,) = events(entry(1, "hello"))
    assert message == '{"message":"hello","priority":"info","unit":"a.service","identifier":"a","pid":77}'


def test_what_is_not_known_is_left_out() -> None:
    assert events({"MESSAGE": "x"}) == ['{"message":"x"}']
    assert events({}) == ['{"message":""}']


def test_bytes_that_are_no_text_become_text() -> None:
    assert only({"MESSAGE": [27, 91, 51, 49, 109, 114, 255]}) == {"message": "\x1b[31mr\ufffd"}


def test_a_field_that_occurs_repeatedly_keeps_all_values() -> None:
    assert only({"MESSAGE": ["one", [116, 119, 111], None]})["message"] == "one\ntwo\n"


@pytest.mark.parametrize("value", [1, 1.5, {"a": "b"}, [300], [-1], ["a", 1], True])
def test_a_value_that_journalctl_does_not_print_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        text(value)


@pytest.mark.parametrize(("number", "name"), [("0", "emerg"), ("3", "err"), ("7", "debug"), ("8", "8"), ("²", "²")])
def test_a_priority_has_its_name(number: str, name: str) -> None:
    assert only({"MESSAGE": "", "PRIORITY": number})["priority"] == name


@pytest.mark.parametrize(
    ("fields", "unit"),
    [
        ({"_SYSTEMD_UNIT": "init.scope", "_PID": "1", "UNIT": "ssh.service"}, "ssh.service"),
        ({"_SYSTEMD_UNIT": "evil.service", "_PID": "8", "UNIT": "ssh.service"}, "evil.service"),
        ({"_SYSTEMD_UNIT": "x.service", "_UID": "0", "OBJECT_SYSTEMD_UNIT": "ssh.service"}, "ssh.service"),
        ({"_SYSTEMD_UNIT": "x.service", "_UID": "7", "OBJECT_SYSTEMD_UNIT": "ssh.service"}, "x.service"),
        ({"_SYSTEMD_UNIT": "systemd-coredump@1-2.service", "COREDUMP_UNIT": "ssh.service"}, "ssh.service"),
        ({"_SYSTEMD_UNIT": "x.service", "COREDUMP_UNIT": "ssh.service"}, "x.service"),
    ],
)  # fmt: skip
def test_what_systemd_says_about_a_unit_counts_as_that_units_and_a_forgery_does_not(
    fields: dict[str, str], unit: str
) -> None:
    assert only(fields)["unit"] == unit


def test_a_syslog_client_without_a_service_has_its_own_names() -> None:
    assert only({"_COMM": "cron", "SYSLOG_PID": "12"}) == {"message": "", "identifier": "cron", "pid": 12}


@pytest.mark.parametrize("character", ["x", "é", "😀", '"', "\n", "\x01"])
def test_a_long_message_is_split_into_events_that_fit_and_give_it_back(character: str) -> None:
    message = "".join(random.Random(1).choices([character, "a"], k=300_000))
    found = events(entry(1, message), 100_000)
    parts = [orjson.loads(each) for each in found]
    assert "".join(part["message"] for part in parts) == message
    assert [(part["part"], part["parts"]) for part in parts] == [(n, len(parts)) for n in range(1, len(parts) + 1)]
    assert {(part["unit"], part["pid"]) for part in parts} == {("a.service", 77)}
    assert max(len(each.encode()) for each in found) <= 100_000


def test_an_event_may_be_as_long_as_cloudwatch_takes() -> None:
    frame = len(events(entry(1, ""))[0])
    assert len(events(entry(1, "x" * (LOG_EVENT_BYTES - frame)))) == 1
    assert len(events(entry(1, "x" * (LOG_EVENT_BYTES - frame + 1)))) == 2


def test_a_label_that_would_fill_every_part_goes_into_the_message_whole() -> None:
    found = [orjson.loads(each) for each in events(entry(1, "text", SYSLOG_IDENTIFIER="i" * 5000), 1000)]
    assert "".join(each["message"] for each in found) == f"identifier={'i' * 5000}\ntext"
    assert all("identifier" not in each and each["unit"] == "a.service" for each in found)


@examples(200)
@given(st.text(st.characters(codec="utf-8")), st.integers(200, 400))
def test_any_message_survives(message: str, longest: int) -> None:
    found = [orjson.loads(each) for each in events(entry(1, message), longest)]
    assert "".join(part["message"] for part in found) == message


# -- lines


@examples(60)
@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"")), max_size=20), st.randoms())
def test_any_chunking_gives_the_same_lines(lines: list[bytes], rng: random.Random) -> None:
    data = b"".join(line + b"\n" for line in lines) + b"open"
    whole, cut = Lines(20), Lines(20)
    found = list(whole.feed(data))
    chunks, start = [], 0
    while start < len(data):
        end = start + rng.randint(1, 15)
        chunks.append(data[start:end])
        start = end
    pieces = [line for chunk in chunks for line in cut.feed(chunk)]
    assert [(line.length, line.whole) for line in pieces] == [(len(line) + 1, len(line) <= 20) for line in lines]
    assert [(line.length, line.whole) for line in found] == [(line.length, line.whole) for line in pieces]
    assert [line.data for line in pieces if line.whole] == [line for line in lines if len(line) <= 20]
    assert [line.data for line in found if line.whole] == [line.data for line in pieces if line.whole]
    assert whole.pending == cut.pending == 4


def test_a_line_without_end_takes_no_memory() -> None:
    lines = Lines(longest=1 << 20)
    for _ in range(100):
        assert list(lines.feed(b"x" * (1 << 16))) == []
        assert len(lines._buffer) <= (1 << 20) + (1 << 16)
    assert lines.pending == 100 << 16
    (line,) = lines.feed(b"end\n")
    assert (line.length, line.whole) == ((100 << 16) + 4, False)
    assert line.data.endswith(b"xend")
    assert len(line.data) < 32 << 10


def test_which_entry_was_too_long_is_told_by_its_ends_wherever_its_fields_stand() -> None:
    known = Position.of_entry(entry(7))
    address = orjson.dumps({key: value for key, value in entry(7).items() if key[:2] == "__" or key == "_BOOT_ID"})
    for line in (address[:-1] + b',"MESSAGE":"xxx', b'xxx",' + address[1:]):
        assert salvage(line) == known
    assert salvage(b'"MESSAGE":"xxx') is None


def test_a_message_can_not_pretend_to_be_another_entry() -> None:
    forged = orjson.dumps({"MESSAGE": orjson.dumps(entry(9)).decode()})
    assert salvage(forged) is None


# -- selections


def test_an_entry_of_the_configuration_becomes_arguments_never_a_shell() -> None:
    selection = Selection.of_entry(
        Journal(group="/g", units=["--x", "$(a)"], priority="err", matches={"_UID": "0; ls"})
    )
    assert selection.arguments() == ["--unit=--x", "--unit=$(a)", "--priority=err", "_UID=0; ls"]
    assert selection.label == "journal --x $(a) err _UID=0; ls"


def test_selections_that_mean_the_same_have_one_key() -> None:
    one, other = (
        Selection(("a", "b"), "info", {"A": "1", "B": "2"}),
        Selection(("b", "a"), "info", {"B": "2", "A": "1"}),
    )
    assert one.key == other.key != Selection(("a",), "info").key


@pytest.mark.parametrize(
    ("unit", "fields", "wanted"),
    [
        ("web*", {"_SYSTEMD_UNIT": "web-1.service"}, True),
        ("web*", {"_SYSTEMD_UNIT": "db.service"}, False),
        ("web*", {}, False),
        ("db", {"_SYSTEMD_UNIT": "db.service"}, True),
        ("db", {"_SYSTEMD_UNIT": "db.socket"}, False),
        ("user.slice", {"_SYSTEMD_UNIT": "x.scope", "_SYSTEMD_SLICE": "user.slice"}, True),
    ],
)
def test_with_a_pattern_among_them_units_are_compared_here(unit: str, fields: dict[str, str], wanted: bool) -> None:
    selection = Selection((unit, "never*"))
    assert selection.arguments() == []
    assert selection.wants(fields) is wanted
