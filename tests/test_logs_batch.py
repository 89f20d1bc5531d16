"""Batches: their JSON is exact, they keep to every limit of PutLogEvents, and on a backlog they are full."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs_harness import FakeLogs, examples

from agent.aws.limits import LOG_BATCH_BYTES, LOG_BATCH_EVENTS, LOG_BATCH_SPAN_MS, LOG_EVENT_BYTES, LOG_EVENT_OVERHEAD
from agent.engine.clock import FakeClock
from agent.logs.batch import BatchBuilder, Part, Timed
from agent.logs.frame import Framer

NOW = 1_700_000_000_000  # ms
DAY = LOG_BATCH_SPAN_MS

MESSAGE = st.one_of(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n"), min_size=1, max_size=40),
    st.sampled_from(
        ['"', "\\", '",', ",", '"},', "{", "\x7f", '\x7f"', "\\u007f", "\ue000", "\x00\x1f", "\u2028", " "]
    ),
    st.lists(st.sampled_from(['"', "\\", ",", "\x7f", "\ue000", "}", "\t", "é", "\U0001f600"]), min_size=1).map(
        "".join
    ),
)
BLOCKS = st.lists(st.tuples(st.integers(0, 5), st.lists(MESSAGE, min_size=1, max_size=12)), min_size=1, max_size=5)
NAME = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)


def part(blocks: list[tuple[int, list[str]]]) -> tuple[Part, list[dict[str, Any]]]:
    """A part with these messages at these times (each later by so many ms), and its events by the plainest means."""
    builder, time, framer = BatchBuilder(0, 0.0), NOW, Framer()
    expected = []
    for later, messages in blocks:
        time += later
        framer.feed("".join(f"{message}\n" for message in messages).encode())
        block = framer.take(builder.room, builder.events_left)
        assert block is not None
        assert framer.pending == 0
        builder.add(time, block)
        expected += [{"timestamp": time, "message": message} for message in messages]
    return Part(builder.pieces()), expected


def events(whole: Part) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(whole.body("g", "s"))["logEvents"]
    return found


# the body


@given(NAME, NAME, BLOCKS)
@examples(150)
def test_the_body_is_the_json_that_a_plain_encoder_makes(
    group: str, stream: str, blocks: list[tuple[int, list[str]]]
) -> None:
    whole, expected = part(blocks)
    plain = {"logGroupName": group, "logStreamName": stream, "logEvents": expected}
    assert whole.body(group, stream) == orjson.dumps(plain)
    assert whole.events == len(expected)


@given(BLOCKS)
@examples(100)
def test_halves_share_the_events_in_order(blocks: list[tuple[int, list[str]]]) -> None:
    whole, expected = part(blocks)
    if whole.events == 1:
        return
    first, second = whole.halves()
    assert first.events == whole.events // 2
    assert events(first) + events(second) == expected


@given(BLOCKS)
@examples(50)
def test_halving_again_and_again_ends_at_single_events_of_the_right_size(blocks: list[tuple[int, list[str]]]) -> None:
    whole, expected = part(blocks)
    parts, single = [whole], []
    while parts:
        each = parts.pop()
        parts += reversed(each.halves()) if each.events > 1 else []
        single += [each] if each.events == 1 else []
    assert [event for each in single for event in events(each)] == expected
    for each, event in zip(single, expected, strict=True):
        assert each.pieces[0].block.size == len(event["message"].encode()) + LOG_EVENT_OVERHEAD


# the limits


def fill(builder: BatchBuilder, framer: Framer, time: int = NOW) -> None:
    """As a reader does it: until the batch is full or nothing more fits."""
    while not builder.full:
        block = framer.take(builder.room, builder.events_left)
        if block is None:
            return
        builder.add(time, block)


@given(st.lists(st.integers(1, 60_000), min_size=60, max_size=80), st.sampled_from(["x", "é", "\U0001f600", '"']))
@examples(15)
def test_batches_of_a_backlog_keep_the_limits_and_are_full(lengths: list[int], char: str) -> None:
    content = "".join(char * (length // len(char.encode()) or 1) + "\n" for length in lengths).encode()
    framer, start, logs = Framer(), 0, FakeLogs(FakeClock())
    logs.streams["g"] = {"s": []}
    framer.feed(content)
    while framer.has_more():
        builder = BatchBuilder(start, 0.0)
        fill(builder, framer)
        body = Part(builder.pieces())
        logs.put_log_events(body.body("g", "s"), body.events)  # it checks
        size = logs.calls[-1].size
        assert builder.room == LOG_BATCH_BYTES - size
        if framer.has_more():
            assert size >= 0.94 * LOG_BATCH_BYTES  # the next line, of up to 60,000 bytes, does not fit
        start = builder.end
    assert logs.messages("g") == content.decode().split("\n")[:-1]


def test_batches_of_short_lines_are_99_percent_full() -> None:
    framer, builder = Framer(), BatchBuilder(0, 0.0)
    framer.feed((b"x" * 149 + b"\n") * 14_000)
    fill(builder, framer)
    assert framer.has_more()
    assert 0 <= builder.room <= LOG_BATCH_BYTES // 100


def test_a_batch_has_at_most_10000_events() -> None:
    framer = Framer()
    framer.feed(b"x\n" * 25_000)
    builder = BatchBuilder(0, 0.0)
    fill(builder, framer)
    assert builder.events == LOG_BATCH_EVENTS
    assert builder.events_left == 0
    assert builder.full


def test_the_largest_event_fills_a_batch_alone() -> None:
    framer, builder = Framer(), BatchBuilder(0, 0.0)
    framer.feed(b"x" * LOG_EVENT_BYTES + b"\ny\n")
    fill(builder, framer)
    assert builder.events == 1
    assert builder.room == 0


def test_a_large_event_behind_others_waits_for_the_next_batch() -> None:
    framer, builder = Framer(), BatchBuilder(0, 0.0)
    framer.feed(b"a\n" + b"x" * LOG_EVENT_BYTES + b"\n")
    fill(builder, framer)
    assert builder.events == 1
    assert framer.take(builder.room, builder.events_left) is None
    assert framer.has_more()


@pytest.mark.parametrize(
    ("later", "taken"),
    [(-1, False), (0, True), (DAY - 1, True), (DAY, False)],
    ids=["earlier", "same", "day", "over"],
)
def test_a_batch_is_in_order_and_spans_less_than_a_day(later: int, taken: bool) -> None:
    framer, builder = Framer(), BatchBuilder(0, 0.0)
    framer.feed(b"a\n")
    fill_one = framer.take(builder.room, builder.events_left)
    assert fill_one is not None
    assert builder.accepts(0)
    builder.add(NOW, fill_one)
    assert builder.accepts(NOW + later) is taken


def test_empty_lines_move_the_end_of_a_batch_and_nothing_else() -> None:
    framer, builder = Framer(), BatchBuilder(0, 0.0)
    framer.feed(b"\n\n\n")
    fill(builder, framer)
    assert (builder.start, builder.end, builder.events) == (0, 3, 0)
    assert builder.pieces() == ()
    assert not builder.empty


def test_a_batch_ends_where_its_last_block_ends() -> None:
    framer, builder = Framer(100, before=b"z" * 64), BatchBuilder(100, 0.0)
    framer.feed(b"a\nb\n\n")
    fill(builder, framer)
    assert (builder.start, builder.end, builder.events) == (100, 105, 2)
    assert builder.guard == (b"z" * 64 + b"a\nb\n\n")[-64:]
    assert all(isinstance(piece, Timed) for piece in builder.pieces())
