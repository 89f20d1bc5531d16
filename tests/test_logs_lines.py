"""Lines on their whole way, from a writer of any habit to CloudWatch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from logs_harness import Entry, Rig, check, lines, rigs

from agent.aws.limits import LOG_EVENT_BYTES

Make = Callable[..., Rig]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture
def rig(make: Make) -> Rig:
    return make(Entry("app.log", flush=1))


def add(rig: Rig, data: bytes) -> None:
    with rig.path("app.log").open("ab") as file:
        file.write(data)


def offset(rig: Rig) -> int:
    (row,) = rig.rows()
    return int(row["offset"])


def test_a_writer_of_one_byte_at_a_time_makes_one_event(rig: Rig) -> None:
    for byte in b"a slow line":
        add(rig, bytes([byte]))
        rig.run(0.2)
    add(rig, b"\n")
    rig.run(2)
    assert rig.logs.messages() == ["a slow line"]


def test_the_pause_between_two_bytes_may_be_nearly_the_quiet_time(rig: Rig) -> None:
    for byte in b"slower":
        add(rig, bytes([byte]))
        rig.run(4.5)
    add(rig, b"\n")
    rig.run(2)
    assert rig.logs.messages() == ["slower"]


def test_a_last_line_without_end_is_sent_once_after_the_quiet_time_and_holds_the_cursor_till_then(rig: Rig) -> None:
    add(rig, b"whole\nlast")
    rig.run(4)
    assert rig.logs.messages() == ["whole"]
    assert offset(rig) == len(b"whole\n")
    rig.run(600)
    assert rig.logs.messages() == ["whole", "last"]
    assert offset(rig) == len(b"whole\nlast")


def test_what_follows_a_line_that_was_sent_unfinished_is_an_event_of_its_own(rig: Rig) -> None:
    add(rig, b"first half")
    rig.run(20)
    add(rig, b", second half\nnext\n")
    rig.run(20)
    assert rig.logs.messages() == ["first half", ", second half", "next"]


def test_only_the_end_of_a_line_that_was_sent_unfinished_is_no_event(rig: Rig) -> None:
    add(rig, b"line\r")
    rig.run(20)
    add(rig, b"\nnext\r\n")
    rig.run(20)
    assert rig.logs.messages() == ["line", "next"]
    assert rig.counter("log_empty_lines") == 1


@pytest.mark.parametrize("shift", [-2, -1, 0, 1])
def test_line_ends_and_characters_across_the_edge_of_a_read_are_whole(rig: Rig, shift: int) -> None:
    first, second = "x" * (65_536 + shift) + "\U0001f600", "y" * (65_530 - shift)
    add(rig, f"{first}\r\n{second}\r\nlast\r\n".encode())
    rig.run(5)
    assert rig.logs.messages() == [first, second, "last"]


def test_empty_lines_only_move_the_cursor(rig: Rig) -> None:
    add(rig, b"\n\r\na\n" + b"\n" * 1000 + b"b\n\n")
    rig.run(5)
    assert rig.logs.messages() == ["a", "b"]
    assert offset(rig) == rig.path("app.log").stat().st_size
    assert rig.counter("log_empty_lines") == 1003


def test_control_characters_arrive_as_they_are(rig: Rig) -> None:
    text = 'nul \x00 esc \x1b[31m del \x7f quote " backslash \\ tab \t nel \x85 ls \u2028 bom \ufeff'
    add(rig, f"{text}\n".encode())
    rig.run(5)
    assert rig.logs.messages() == [text]


def test_invalid_utf8_is_replaced_counted_and_costs_no_neighbour(rig: Rig) -> None:
    add(rig, b"before\ncaf\xe9\nafter\n")
    rig.run(5)
    assert rig.logs.messages() == ["before", "caf\ufffd", "after"]
    assert offset(rig) == 18
    assert rig.counter("log_blocks_with_invalid_text") == 1


@pytest.mark.parametrize("size", [256 << 10, LOG_EVENT_BYTES - 1, LOG_EVENT_BYTES, LOG_EVENT_BYTES + 1, 5 << 20])
def test_a_line_of_any_length_arrives_whole_or_in_pieces_and_the_next_is_intact(rig: Rig, size: int) -> None:
    add(rig, b"before\n" + b"x" * size + b"\nafter\n")
    rig.run(10)
    messages = rig.logs.messages()
    assert (messages[0], messages[-1]) == ("before", "after")
    pieces = [len(piece) for piece in messages[1:-1]]
    assert sum(pieces) == size
    assert pieces[:-1] == [LOG_EVENT_BYTES] * (len(pieces) - 1)
    assert rig.counter("log_events_split") == len(pieces) - 1
    assert offset(rig) == rig.path("app.log").stat().st_size


def test_a_long_line_without_end_is_sent_in_pieces_as_it_grows(make: Make) -> None:
    rig = make(Entry("app.log", max_event=1024, flush=1))
    for _ in range(50):
        add(rig, b"x" * 1000)
        rig.run(0.5)
        (file,) = rig.files
        assert file.read - file._framer.offset <= 1025
    rig.run(20)
    assert "".join(rig.logs.messages()) == "x" * 50_000


@pytest.mark.parametrize("size", [1025, 600_000])
def test_lines_of_invalid_bytes_that_grow_when_they_are_replaced_hold_nothing_up(make: Make, size: int) -> None:
    rig = make(Entry("app.log", max_event=1024 if size < 2000 else LOG_EVENT_BYTES))
    add(rig, b"\xff" * size + b"\nnext\n" + b"\xff" * size)
    rig.run(60)
    messages = rig.logs.messages()
    assert "".join(messages) == "\ufffd" * size + "next" + "\ufffd" * size
    assert "next" in messages


def test_events_have_the_time_of_reading(rig: Rig) -> None:
    start = rig.clock.time()
    add(rig, b"one\n")
    rig.run(5)
    add(rig, b"two\n")
    rig.run(5)
    (first, _), (second, _) = rig.logs.streams["/g"]["s"]
    assert 0 <= first - start * 1000 <= 2500
    assert 5000 <= second - start * 1000 <= 7500


def test_a_file_of_many_short_lines_arrives_whole(rig: Rig) -> None:
    written = lines(100_000)
    rig.write("app.log", written)
    rig.run(20)
    check(written, rig.logs.messages())
    assert rig.logs.messages() == written
