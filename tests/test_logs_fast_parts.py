"""What the fast way is made of: it is taken where it should be, and its parts keep their promises alone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs_harness import examples

from agent.logs.batch import BatchBuilder, Part
from agent.logs.compose import Composer, EventRules
from agent.logs.formats import strptime
from agent.logs.frame import Block, joined
from agent.logs.joining import starting
from agent.logs.timestamps import _Cached, _moment, each_of, reader

NOW = 1_795_600_000.0  # seconds

ACCESS = '{n}.1.2.3 - - [24/Nov/2026:11:14:{s:02d} +0000] "GET /{n} HTTP/1.1" 200 5\n'
STAMPED = {
    ("%d/%b/%Y:%H:%M:%S %z", None): ACCESS,
    ("%Y-%m-%d %H:%M:%S", None): "2026-11-24 11:14:{s:02d} INFO {n}\n",
    ("%d/%m/%Y %H:%M:%S", None): "{n} [24/11/2026 11:14:{s:02d}] x\n",
    ("%b %d %H:%M:%S", None): "Nov 24 11:14:{s:02d} host app[{n}]: x\n",
    ("iso8601", None): "2026-11-24T11:14:{s:02d}Z INFO {n}\n",
    ("epoch", None): "17955188{s:02d} INFO {n}\n",
}


@pytest.mark.parametrize(("pattern", "key"), STAMPED)
def test_lines_of_one_second_are_one_run(pattern: str, key: str | None) -> None:
    line = STAMPED[pattern, key]
    text = "".join(line.format(n=n, s=n // 100) for n in range(300))
    parse = reader(pattern, "UTC", key)
    runs = parse.lines(text, NOW).runs
    assert len(runs) == 3
    assert [time for time, _ in runs] == [parse(line.format(n=0, s=second), NOW) for second in range(3)]
    assert [text.count("\n", 0, end) for _, end in runs] == [100, 200, 300]


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("iso8601", "2026-11-24T11:14:{s:02d}.{n:03d}Z INFO\n"),
        ("%Y-%m-%d %H:%M:%S,%f", "[main] 2026-11-24 11:14:{s:02d},{n:03d} INFO\n"),
        ("%d.%m.%Y %H:%M:%S.%f", "{n} [24.11.2026 11:14:{s:02d}.{n:06d}] INFO\n"),
        ("epoch", "17955188{s:02d}.{n:03d} INFO\n"),
    ],
)
def test_lines_of_one_second_with_fractions_are_one_run(pattern: str, line: str) -> None:
    parse = reader(pattern, "UTC", None)
    text = "".join(line.format(n=n, s=n // 100) for n in range(300))
    assert len(parse._runs(text)) == 3  # type: ignore[attr-defined]
    times = parse.lines(text, NOW)
    assert list(each_of(times, text)) == [parse(each, NOW) for each in text.split("\n")[:-1]]


def test_a_run_has_one_time_and_a_block_of_its_own() -> None:
    composer = Composer(EventRules(parse=reader("%d/%b/%Y:%H:%M:%S %z", "UTC", None)))
    lines = [ACCESS.format(n=n, s=n // 100) for n in range(300)]
    composer.feed("".join(lines).encode(), NOW)
    for number in range(3):
        block = composer.take(1 << 20, 10_000)
        assert block is not None
        assert (block.count, block.stamps) == (100, None)
        assert block.stamp == 1_795_518_840_000 + 1000 * number
        assert block.end == len("".join(lines[: 100 * (number + 1)]))


def test_a_format_that_says_too_little_is_looked_for_in_each_line() -> None:
    match = re.search("x", "x")
    assert match is not None
    assert strptime("%c").repeats(match) is None
    assert strptime("%H:%M").repeats(match) is not None


# the moment of a second

ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])
FORMATS = [
    "%Y-%m-%d %H:%M:%S",
    "%d/%b/%Y:%H:%M:%S",
    "%b %d %H:%M:%S",
    "%H%M%S %Y%m%d",
    "%S:%M:%H %d.%m.%y",
    "%Y %j %X",
]


@examples(100)
@given(
    st.integers(0, 60 * 86_400),
    st.lists(st.integers(-90, 90), max_size=6),
    ZONES,
    st.sampled_from(FORMATS),
    st.floats(-9e5, 9e5),
)
def test_seconds_of_a_known_minute_are_what_strptime_says(
    start: int, steps: list[int], zone: str, form: str, ahead: float
) -> None:
    """Around the end of daylight saving time, and around what is too far ahead for this year."""
    begin = datetime(2026, 10, 1, tzinfo=UTC) + timedelta(seconds=start)
    now = begin.timestamp() + ahead
    parse, plain = reader(form, zone, None), _Cached(strptime(form), _moment(form, ZoneInfo(zone)))
    for step in [0, *steps]:
        text = (begin + timedelta(seconds=step)).astimezone(ZoneInfo(zone)).strftime(form)
        assert parse(text, now) == plain(text, now)


@pytest.mark.parametrize("second", ["60", "61", "62", "99"])
def test_a_second_that_no_minute_has_is_no_time(second: str) -> None:
    parse = reader("%Y-%m-%d %H:%M:%S", "UTC", None)
    assert parse("2026-11-24 11:14:00", NOW) is not None
    assert parse(f"2026-11-24 11:14:{second}", NOW) is None


# counters


def test_what_is_counted_comes_with_the_block_also_for_events_that_are_left_out() -> None:
    counters = (re.compile('" 5'), re.compile("GET"), re.compile("never"))
    for rules in (
        EventRules(drop=(re.compile("/health"),), counters=counters),
        EventRules(drop=(re.compile("/health"),), counters=counters, joiner=lambda: starting(re.compile('^"'))),
    ):
        composer, builder = Composer(rules), BatchBuilder(0, 0.0)
        for _ in range(2):
            composer.feed(b'"GET /health" 500\n"GET /a" 200\n"PUT /a" 503\n\n"GET" 1\n', NOW)
            while composer.has_more(final=True):
                block = composer.take(builder.room, builder.events_left, final=True)
                assert block is not None
                builder.add(0, block)
        assert builder.counts == (4, 6, 0)
        assert builder.events == 6


def test_an_event_in_pieces_counts_once() -> None:
    composer, builder = Composer(EventRules(counters=(re.compile("x"),)), max_event=10), BatchBuilder(0, 0.0)
    composer.feed(b"x" * 95 + b"\n", NOW)
    block = composer.take(1 << 20, 10_000)
    assert block is not None
    builder.add(0, block)
    assert (builder.events, builder.counts) == (10, (1,))


def test_without_counters_nothing_is_counted() -> None:
    composer = Composer(EventRules())
    composer.feed(b"a\n", NOW)
    block = composer.take(1 << 20, 10_000)
    assert block is not None
    assert block.counts is None


# batches of blocks with one time and with many

TIMES = st.integers(0, 3)
BLOCKS = st.lists(
    st.one_of(
        st.tuples(TIMES, st.integers(1, 3)),  # one time, and how many events
        st.lists(TIMES, min_size=1, max_size=4),  # a time for each
    ),
    min_size=1,
    max_size=6,
)


@examples(100)
@given(BLOCKS)
def test_a_batch_is_in_order_whatever_blocks_it_is_made_of(blocks: list[tuple[int, int] | list[int]]) -> None:
    builder, expected, number = BatchBuilder(0, 0.0), [], 0
    for each in blocks:
        times = [each[0]] * each[1] if isinstance(each, tuple) else each
        messages = [f'"{number + index}",' for index in range(len(times))]
        number += len(times)
        one, many = (each[0], None) if isinstance(each, tuple) else (None, tuple(each))
        text, separator = joined(messages)
        builder.add(99, Block(text, separator, len(times), 0, 0, 0, b"", many, one))
        expected += [{"timestamp": time, "message": message} for time, message in zip(times, messages, strict=True)]
    expected.sort(key=lambda event: event["timestamp"])
    pieces = builder.pieces()
    body = orjson.loads(Part(pieces).body("g", "s"))
    assert body["logEvents"] == expected
    assert (builder.lowest, builder.highest) == (expected[0]["timestamp"], expected[-1]["timestamp"])


# what is held


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_line_without_end_is_cut_and_little_of_it_is_held(encoding: str) -> None:
    composer = Composer(EventRules(encoding))
    chunk = ("é" * (32 << 10)).encode(encoding)
    fed = taken = 0
    while fed < 24 << 20:
        composer.feed(chunk, NOW)
        fed += len(chunk)
        while composer.has_more():
            block = composer.take(1 << 20, 10_000)
            assert block is not None
            taken += len(block.text)
        assert composer.pending <= (4 << 20) + 2 * len(chunk)
    assert taken * len("é".encode(encoding)) + composer.pending == fed


def test_an_event_that_never_ends_is_cut_and_little_of_it_is_held() -> None:
    composer = Composer(EventRules(joiner=lambda: starting(re.compile("^never"))), max_event=1 << 16)
    for _ in range(100):
        composer.feed((b"x" * 100 + b"\n") * 500, NOW)
        while composer.has_more():
            block = composer.take(1 << 20, 10_000)
            assert block is not None
        assert composer.pending <= 1 << 17
