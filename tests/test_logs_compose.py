"""Events that are more than lines: joined, kept or dropped, of any encoding, with times of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs_harness import Entry, Rig, examples, rigs

from agent.aws.limits import LOG_BATCH_SPAN_MS, LOG_EVENT_OVERHEAD
from agent.logs.batch import BatchBuilder, Part
from agent.logs.compose import Composer, EventRules
from agent.logs.joining import continuing, preset, starting
from agent.logs.timestamps import reader

START = re.compile(r"^\d{4}-")
Make = Callable[..., Rig]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


def events_of(composer: Composer, chunks: list[bytes], *, final: bool = True) -> list[str]:
    found: list[str] = []
    for index, chunk in enumerate(chunks):
        composer.feed(chunk, 1.0)
        last = final and index == len(chunks) - 1
        while composer.has_more(final=last):
            block = composer.take(1 << 20, 10_000, final=last)
            assert block is not None
            found += block.messages()
    return found


def joined(lines: str, **rules: Any) -> list[str]:
    return events_of(Composer(EventRules(**rules)), [lines.encode()])


# joining


def test_a_start_pattern_begins_events_and_all_else_belongs_to_the_one_before() -> None:
    text = "lost beginning\n2026-11 one\n  more\n\nend\n2026-11 two\n"
    assert joined(text, joiner=lambda: starting(START)) == [
        "lost beginning",
        "2026-11 one\n  more\n\nend",
        "2026-11 two",
    ]


def test_a_continue_pattern_says_what_belongs_to_the_event_before() -> None:
    assert joined("a\n\\ b\n\\ c\nd\n", joiner=lambda: continuing(re.compile(r"^\\"))) == ["a\n\\ b\n\\ c", "d"]


def test_indented_lines_belong_to_the_line_before() -> None:
    assert joined("a\n\tb\n  c\nd\n", joiner=lambda: preset("indented")) == ["a\n\tb\n  c", "d"]


def test_a_python_traceback_belongs_to_what_was_logged_before_it() -> None:
    trace = (
        'ERROR it failed\nTraceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n'
        "KeyError: 'x'\n\nDuring handling of the above exception, another exception occurred:\n\n"
        'Traceback (most recent call last):\n  File "a.py", line 3, in h\nValueError: bad'
    )  # fmt: skip
    assert joined(f"INFO before\n{trace}\nINFO after\n", joiner=lambda: preset("python")) == [
        "INFO before",
        trace,
        "INFO after",
    ]


def test_a_java_stack_trace_belongs_to_what_was_logged_before_it() -> None:
    trace = (
        "ERROR it failed\njava.lang.IllegalStateException: no\n\tat a.B.c(B.java:1)\n"
        "Caused by: java.io.IOException: gone\n\tat d.E.f(E.java:2)\n\t... 12 more"
    )
    first, second = trace.split("\n", 1)
    assert joined(f"{trace}\nINFO after\n", joiner=lambda: preset("java")) == [first, second, "INFO after"]


def test_an_event_that_grows_too_long_is_cut_between_lines_and_nothing_is_lost() -> None:
    lines = [f"  line {number:03d}" for number in range(50)]
    composer = Composer(EventRules(joiner=lambda: preset("indented")), max_event=100)
    found = events_of(composer, ["\n".join(["head", *lines, ""]).encode()])
    assert "\n".join(found).split("\n") == ["head", *lines]
    assert all(len(event) <= 100 for event in found)


# keep and drop


def test_an_event_must_match_one_of_keep_and_none_of_drop_after_joining() -> None:
    text = "ERROR a\n  secret\nERROR b\nINFO c\n"
    rules = {"joiner": lambda: preset("indented"), "keep": (re.compile("ERROR"),), "drop": (re.compile("secret"),)}
    assert joined(text, **rules) == ["ERROR b"]


def test_what_is_dropped_is_counted_and_behind_the_cursor(make: Make) -> None:
    rig = make(Entry("app.log", rules=EventRules(drop=(re.compile("health"),))))
    rig.write("app.log", ["a", "GET /health", "b", "GET /health"])
    rig.run(20)
    assert rig.logs.messages() == ["a", "b"]
    (row,) = rig.rows()
    assert (row["offset"], row["dropped"]) == (rig.path("app.log").stat().st_size, 2)
    assert rig.counter("log_events_dropped") == 2


# any chunking

TEXT = st.text(st.sampled_from("ab \n\r\té€😀2026-\x7f"), max_size=120)


@examples(100)
@given(TEXT, st.data(), st.sampled_from(["utf-8", "utf-16-le", "utf-32-be", "latin-1", "cp1252"]))
def test_any_chunking_of_the_same_bytes_gives_the_same_events(text: str, data: st.DataObject, encoding: str) -> None:
    raw = text.encode(encoding, "replace")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    chunks = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    rules = EventRules(encoding, lambda: starting(START))
    whole = events_of(Composer(rules, max_event=40), [raw])
    cut = Composer(rules, max_event=40)
    assert events_of(cut, chunks) == whole
    assert cut.offset == len(raw)


@examples(100)
@given(TEXT)
def test_every_byte_is_in_exactly_one_block(text: str) -> None:
    raw = text.encode()
    composer = Composer(EventRules(joiner=lambda: preset("indented")), max_event=30)
    composer.feed(raw, 1.0)
    position = 0
    while composer.has_more(final=True):
        block = composer.take(100, 2, final=True)
        assert block is not None
        assert block.start == position
        assert block.guard == raw[: block.end][-64:]
        position = block.end
    assert position == len(raw)


# encodings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-be"])
def test_a_byte_order_mark_wins_over_the_configuration(make: Make, encoding: str) -> None:
    rig = make(Entry("app.log"))
    mark = "\ufeff".encode(encoding) if encoding.endswith("-be") else b""
    rig.path("app.log").write_bytes(mark + "eins\nzwei ü€\n".encode(encoding))
    rig.run(20)
    assert rig.logs.messages() == ["eins", "zwei ü€"]
    assert rig.rows()[0]["offset"] == rig.path("app.log").stat().st_size


def test_the_encoding_of_a_mark_is_remembered_over_a_restart(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.path("app.log").write_bytes("eins\n".encode("utf-16"))
    rig.run(20)
    rig.restart()
    with rig.path("app.log").open("ab") as file:
        file.write("zwei\n".encode("utf-16-le"))
    rig.run(20)
    assert rig.logs.messages() == ["eins", "zwei"]


def test_a_mark_that_comes_byte_by_byte_is_waited_for(make: Make) -> None:
    rig = make(Entry("app.log"))
    for byte in "ab\n".encode("utf-16"):
        with rig.path("app.log").open("ab") as file:
            file.write(bytes([byte]))
        rig.run(0.5)
    rig.run(20)
    assert rig.logs.messages() == ["ab"]


def test_bytes_that_are_no_text_are_replaced_and_counted(make: Make) -> None:
    rig = make(Entry("app.log", rules=EventRules("utf-16-le")))
    rig.path("app.log").write_bytes(b"\x00\xd8a\x00\n\x00" + "gut\n".encode("utf-16-le"))
    rig.run(20)
    assert [message.replace("\ufffd", "?")[-4:] for message in rig.logs.messages()][-1] == "gut"
    assert rig.counter("log_blocks_with_invalid_text") == 1


# times


def timed(make: Make, pattern: str = "iso8601", **rules: Any) -> Rig:
    return make(Entry("app.log", rules=EventRules(parse=reader(pattern, "UTC", None), **rules)))


def at(rig: Rig, seconds: float) -> str:
    return datetime.fromtimestamp(rig.clock.time() + seconds, UTC).isoformat(timespec="milliseconds")


def stamped(rig: Rig) -> list[tuple[int, str]]:
    return [event for streams in rig.logs.streams.values() for events in streams.values() for event in events]


def test_events_have_the_time_of_their_text_and_those_without_that_of_the_one_before(make: Make) -> None:
    rig = timed(make)
    now = rig.clock.time()
    rig.write("app.log", ["no time yet", f"{at(rig, -60)} a", "no time", f"{at(rig, -30)} b"])
    rig.run(20)
    stamps = {message.split()[-1]: stamp for stamp, message in stamped(rig)}
    assert stamps["a"] == round((now - 60) * 1000)
    assert stamps["time"] == stamps["a"]
    assert stamps["b"] == round((now - 30) * 1000)
    assert stamps["yet"] >= round(now * 1000)
    assert rig.counter("log_events_untimed") == 2


def test_events_out_of_order_are_sorted_and_equal_times_keep_their_order() -> None:
    composer = Composer(EventRules(parse=reader("epoch", "UTC", None)))
    times = [5, 3, 5, 1, 3, 3]
    composer.feed("".join(f"10000000{time:02d} {index}\n" for index, time in enumerate(times)).encode(), 1e9)
    builder = BatchBuilder(0, 0.0)
    while composer.has_more():
        block = composer.take(builder.room, builder.events_left, lowest=builder.lowest, highest=builder.highest)
        assert block is not None
        builder.add(0, block)
    events = json.loads(Part(builder.pieces()).body("/g", "s"))["logEvents"]
    assert [event["message"].split()[1] for event in events] == ["3", "1", "4", "5", "0", "2"]
    stamps = [event["timestamp"] for event in events]
    assert stamps == sorted(stamps)


@examples(100)
@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=40))
def test_a_batch_spans_less_than_a_day_whatever_the_times(seconds: list[int]) -> None:
    composer = Composer(EventRules(parse=reader("epoch", "UTC", None)))
    composer.feed("".join(f"{10**9 + second} x\n" for second in seconds).encode(), 1e9)
    arrived: list[int] = []
    while composer.has_more():
        builder = BatchBuilder(composer.offset, 0.0)
        while composer.has_more():
            block = composer.take(builder.room, builder.events_left, lowest=builder.lowest, highest=builder.highest)
            if block is None:
                break
            builder.add(0, block)
        stamps = [event["timestamp"] for event in json.loads(Part(builder.pieces()).body("/g", "s"))["logEvents"]]
        assert stamps == sorted(stamps)
        assert stamps[-1] - stamps[0] < LOG_BATCH_SPAN_MS
        arrived += stamps
    assert sorted(arrived) == sorted((10**9 + second) * 1000 for second in seconds)


def test_halves_of_a_stamped_batch_keep_each_events_time() -> None:
    composer = Composer(EventRules(parse=reader("epoch", "UTC", None)))
    composer.feed(b"".join(b"10000000%02d %d\n" % (n, n) for n in range(5)), 1e9)
    builder = BatchBuilder(0, 0.0)
    block = composer.take(builder.room, builder.events_left)
    assert block is not None
    assert block.size == sum(len(message) + LOG_EVENT_OVERHEAD for message in block.messages())
    builder.add(0, block)
    first, second = Part(builder.pieces()).halves()
    events = [event for part in (first, second) for event in json.loads(part.body("/g", "s"))["logEvents"]]
    assert [(event["timestamp"], event["message"]) for event in events] == [
        ((10**9 + n) * 1000, f"10000000{n:02d} {n}") for n in range(5)
    ]


# an event that may go on


def test_an_open_event_is_sent_after_its_quiet_time_and_held_back_by_the_cursor_until_then(make: Make) -> None:
    rig = make(Entry("app.log", rules=EventRules(joiner=lambda: starting(START)), quiet=5.0, flush=1.0))
    rig.write("app.log", ["2026-1 a", "more"])
    rig.run(3)
    assert rig.logs.messages() == []
    assert rig.rows()[0]["offset"] == 0
    rig.run(20)
    assert rig.logs.messages() == ["2026-1 a\nmore"]


def test_an_open_event_is_read_again_whole_after_a_kill(make: Make) -> None:
    rig = make(Entry("app.log", rules=EventRules(joiner=lambda: starting(START)), flush=1.0))
    rig.write("app.log", ["2026-1 a", "2026-2 b", "more of b"])
    rig.run(3)
    rig.crash()
    rig.start()
    rig.write("app.log", ["still b", "2026-3 c"])
    rig.run(30)
    assert rig.logs.messages() == ["2026-1 a", "2026-2 b\nmore of b\nstill b", "2026-3 c"]


def test_an_event_longer_than_any_batch_arrives_in_pieces(make: Make) -> None:
    rig = make(Entry("app.log", rules=EventRules(keep=(re.compile(""),))))
    text = "é" * 1_200_000
    rig.write("app.log", [text, "after"])
    rig.run(60)
    assert "".join(rig.logs.messages()[:-1]) == text
    assert rig.logs.messages()[-1] == "after"
