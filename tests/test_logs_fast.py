"""Chunks that are taken at once give exactly what the same bytes give line by line."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs_harness import examples

from agent.logs.compose import Composer, EventRules
from agent.logs.frame import Block
from agent.logs.timestamps import reader

NOW = 1_795_600_000.25  # seconds; after all times in here


class LineByLine(Composer):
    """The slow way: what the fast one is held to."""

    def _lines(self, data: bytes) -> None:
        return None


@dataclass
class Outcome:
    """What became of some bytes."""

    events: list[tuple[int, str]] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)
    changes: tuple[int, ...] = ()
    blocks: list[Block] = field(default_factory=list)

    def add(self, block: Block) -> None:
        self.blocks.append(block)
        messages = block.messages()
        assert len(messages) == block.count
        stamps = [block.stamp] * block.count if block.stamps is None else block.stamps
        self.events += zip(stamps, messages, strict=True)
        self.counted = [sum(pair) for pair in zip(self.counted or [0] * 9, block.counts or (), strict=False)]

    def same(self, other: Outcome) -> None:
        assert self.events == other.events
        assert self.counted == other.counted
        assert self.changes == other.changes


def compose(
    kind: type[Composer],
    rules: EventRules,
    content: bytes,
    cuts: list[int],
    limits: tuple[int, int] = (1 << 20, 10_000),
    **how: Any,
) -> Outcome:
    """The events of `content`, fed in chunks of the sizes `cuts`, over and over, each a second later."""
    composer, outcome, start, number = kind(rules, **how), Outcome(), 0, 0
    while start < len(content):
        end = start + cuts[number % len(cuts)]
        composer.feed(content[start:end], NOW + number)
        start, number = end, number + 1
        while composer.has_more(final=start >= len(content)):
            block = composer.take(*limits, final=start >= len(content))
            assert block is not None
            assert block.start == (outcome.blocks[-1].end if outcome.blocks else 0)
            assert block.guard == content[: block.end][-64:]
            assert block.size == sum(len(message.encode()) + 26 for message in block.messages())
            outcome.add(block)
    assert composer.offset == len(content)
    outcome.changes = astuple(composer.counts)
    return outcome


# What may stand in a line: times whole, cut, joined, of other lines; what stands beside them; line ends of all kinds.
SCRAPS = {
    "%d/%b/%Y:%H:%M:%S %z": [
        "24/Nov/2026:11:14:04 +0000", "24/Nov/2026:11:14:04 +0100", "4/Nov/2026:11:14:04 +0000",
        "24/Nov/2026:11:14:0", "24/Nov/2026:11:14:05 +0000", "24/Nov/2026:11:14:04 +00:00", "24/Nov/2026:11:14:04 Z",
        "24/Nov/2026:11:14:04 +", "[24/Nov/2026:11:14:04 +0000]", "99/Nov/2026:11:14:04 +0000",
        "24/Nov/2026:11:14:04  +0000", "24/", "/", "00", ":30",
    ],
    "%Y-%m-%d %H:%M:%S": [
        "2026-11-24 11:14:04", "2026-11-24 11:14:05", "2026-11-24 11:14:4", "026-11-24 11:14:04", "2026-11-2",
        "2026-", "2026-11-24  11:14:04", "2026-1-24 11:14:04", "2026-13-24 11:14:04", "2026", "-", ":04",
        "24 11:14:04",
    ],
    "%Y-%m-%d %H:%M:%S,%f": [
        "2026-11-24 11:14:04,123", "2026-11-24 11:14:04,5", "2026-11-24 11:14:04,123456", "2026-11-24 11:14:04",
        "2026-11-24 11:14:05,123", "2026-11-24 11:14:04,124", "2026-11-24 11:14:04,", ",1", "123",
    ],
    "[%H:%M:%S.%f %z] %Y %m %d": [
        "[11:14:04.123 +0000] 2026 11 24", "[11:14:04.124 +0000] 2026 11 24", "[11:14:04.12 +0000] 2026 11 24",
        "[11:14:04.123 +0100] 2026 11 24", "[11:14:04.123", "11:14:04.124 +0000] 2026 11 24", "4", ".1",
    ],
    "%b %d %H:%M:%S": [
        "Nov 24 11:14:04", "Nov  4 11:14:04", "Nov 24 11:14:05", "Oct 24 11:14:04", "Foo 24 11:14:04",
        "Nov. 24 11:14:04", "Nov 24 11:14", "Nov 24", "Nov", ":0", ":04", "24 ", "ov 24 11:14:04", ".",
    ],
    "%H%M%S on %Y%m%d": ["111404 on 20261124", "111405 on 20261124", "11140 on 20261124", "0", "on"],
    "%d.%m.%y %I:%M %p": [
        "24.11.26 11:14 AM", "24.11.26 11:14 PM", "4.11.26 11:14 a.m", "24.11.26 11:14", "24.", "M", ".",
    ],
    "%c": ["Tue Nov 24 11:14:04 2026", "x"],
    "iso8601": [
        "2026-11-24T11:14:04Z", "2026-11-24T11:14:04", "2026-11-24 11:14:04", "2026-11-24T11:14",
        "2026-11-24t11:14:04z", "2026-11-24T11:14:04.123Z", "2026-11-24T11:14:04.124Z", "2026-11-24T11:14:04,5",
        "2026-11-24T11:14:04+01:00", "2026-11-24T11:14:04 +0100", "2026-11-24T11:14:04-", "2026-11-24T11:14:05Z",
        "2026-13-24T11:14:04Z", "Z", "+01:00", ":30", ".5", "2026-", "\t",
    ],
    "epoch": [
        "1795518844", "1795518844.5", "1795518844.123", "1795518844.124", "1795518845", "795518844", "11795518844",
        ".", "44", "1795518844.",
    ],
    "epoch_ms": ["1795518844123", "1795518844124", "795518844123", "11795518844123", ".", "1", "x1795518844123x"],
}  # fmt: skip
JSON = [
    '{"t":"2026-11-24T11:14:04Z","m":1}', '{"t":"2026-11-24T11:14:05.5Z"}', '{"m":1,"t":"2026-11-24T11:14:04Z"}',
    '{"t":1}', '{"t":null}', '{"m":1}', '["t"]', '{"t":"2026-11-24T11:14:04Z"', '"t"', "1", '{"t":"a\\nb"}',
    '{"t":1795518844.5}', '{"t":"","t":"2026-11-24T11:14:06Z"}', "{", "}", ",", '{"t":true}', '{"t":""}',
    '{"t":"2026-11-24T11:14:04Z"},{"t":1}',
]  # fmt: skip
BESIDE = [
    " ",
    "[",
    "]",
    '"',
    "a",
    "ab ",
    "9",
    "-",
    "_",
    "(",
    "\t",
    "é",
    "\u0663",
    "\x00",
    "\x7f",
    "\ue000",
    "\u2028",
    "\x85",
    "\r",
    "\x0b",
    "\x1c",
]
ENDS = ["\n", "\n", "\n", "\r\n", "\n\n", "\r\r\n"]
BAD = [b"\xff", b"\xc3", b"\xed\xa0\x80"]


@st.composite
def twins(draw: st.DrawFn, scraps: list[str]) -> bytes:
    """Lines with one time again and again, the same beside it, and a little that differs: what is made fast."""
    scrap = st.sampled_from(scraps)
    main = draw(st.sampled_from(scraps[:3]))  # a whole one
    left = draw(st.sampled_from(["[", "(", " ", "", *BESIDE]))
    right = draw(st.sampled_from(["]", " ", "+", "0", ":", "", *BESIDE]))
    before = st.sampled_from(["", "a", "bb", "c d", "1", draw(scrap), draw(scrap)])
    behind = st.sampled_from(["", "x", "01:00", "30", draw(scrap)])
    line = st.tuples(before, behind).map(lambda pair: f"{pair[0]}{left}{main}{right}{pair[1]}\n")
    return "".join(draw(st.lists(line, min_size=2, max_size=12))).encode()


@st.composite
def mixtures(draw: st.DrawFn, scraps: list[str]) -> bytes:
    """Lines of any scraps, with ends of all kinds, some of them many times; and some that are no text, or long."""
    part = st.one_of(st.sampled_from(scraps), st.sampled_from(BESIDE))
    text = st.lists(part, max_size=4).map("".join)
    lines = draw(st.lists(st.tuples(text, st.sampled_from(ENDS), st.sampled_from([1, 1, 2, 30])), max_size=10))
    blocks = ["".join(line).encode() * count for *line, count in lines]
    odd = draw(st.sampled_from([b"", b"", b"", *BAD, b"x" * 70 + b"\n"]))
    where = draw(st.integers(0, len(blocks)))
    return b"".join([*blocks[:where], odd, *blocks[where:]])


def contents(scraps: list[str]) -> st.SearchStrategy[bytes]:
    return st.one_of(twins(scraps), twins(scraps), mixtures(scraps))


WHOLE = [1 << 20]
CUTS = st.one_of(st.just(WHOLE), st.lists(st.sampled_from([1, 2, 7, 50, 333, 5000]), min_size=1, max_size=5))
LIMITS = st.sampled_from([(1 << 20, 10_000), (1 << 20, 3), (3000, 10_000), (3000, 2)])


@pytest.mark.parametrize("pattern", SCRAPS)
def test_times_are_the_same(pattern: str) -> None:
    @examples(150)
    @given(contents(SCRAPS[pattern]), CUTS, LIMITS, st.sampled_from([1 << 20, 60]))
    def check(content: bytes, cuts: list[int], limits: tuple[int, int], longest: int) -> None:
        fast = compose(
            Composer,
            EventRules(parse=reader(pattern, "Europe/Berlin", None)),
            content,
            cuts,
            limits,
            max_event=longest,
        )
        slow = compose(
            LineByLine, EventRules(parse=reader(pattern, "Europe/Berlin", None)), content, cuts, max_event=longest
        )
        fast.same(slow)

    check()


MOMENTS = [datetime(2026, 11, 24, 11, 14, 4, 123_000, UTC), datetime(2026, 1, 1, 1, 11, 11, 111_111, UTC)]


@st.composite
def formats(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Any directives with anything between them; and times of that format, whole and in parts."""
    directives = draw(st.permutations(["%Y", "%m", "%d", "%H", "%M", "%S", "%z", "%f", "%b", "%p"]))
    between = st.sampled_from(["", " ", "-", ":", ".", "/", "T", "0", "1", "24", "at ", "+", "[", "%%"])
    pattern = "".join(f"{part}{draw(between)}" for part in directives[: draw(st.integers(1, 8))])
    times = [moment.strftime(pattern) for moment in MOMENTS] + [MOMENTS[0].replace(microsecond=7).strftime(pattern)]
    cuts = draw(st.lists(st.tuples(st.sampled_from(times), st.integers(0, 30), st.integers(0, 30)), max_size=4))
    return pattern, times + [time[start : start + length] for time, start, length in cuts]


@examples(150)
@given(st.data(), formats(), CUTS)
def test_times_of_any_format_are_the_same(data: st.DataObject, form: tuple[str, list[str]], cuts: list[int]) -> None:
    pattern, scraps = form
    content = data.draw(contents(scraps))
    fast = compose(Composer, EventRules(parse=reader(pattern, "UTC", None)), content, cuts)
    fast.same(compose(LineByLine, EventRules(parse=reader(pattern, "UTC", None)), content, cuts))


@examples(150)
@given(contents(JSON), CUTS, st.sampled_from(["iso8601", "epoch"]))
def test_times_of_a_json_key_are_the_same(content: bytes, cuts: list[int], pattern: str) -> None:
    fast = compose(Composer, EventRules(parse=reader(pattern, "UTC", "t")), content, cuts)
    fast.same(compose(LineByLine, EventRules(parse=reader(pattern, "UTC", "t")), content, cuts))


S = "24/Nov/2026:11:14:04 +0000"
APART = {
    "a time before the same one": f"a [{S}] b\n23/Nov/2026:11:14:03 +0000 [{S}] b\n",
    "a digit before the same text": "a b 4/Nov/2026:11:14:04 +0000 b\nbc24/Nov/2026:11:14:04 +0000 b\n",
    "a digit before it, as in the line before": "a14/Nov/2026:11:14:04 +0000\nb14/Nov/2026:11:14:04 +0000\n",
    "a longer zone": f"a [{S}0 b\nb [{S}030 b\n",
    "the rest of another time": f"[{S}] {S}\n[23{S[2:]}] {S}\n",
    "a cut time before it": f"a [{S}]\nb 24/Nov/2026:11:14:0[{S}]\n",
}


@pytest.mark.parametrize("text", APART.values(), ids=APART)
def test_what_looks_like_the_time_of_the_line_before_and_is_not(text: str) -> None:
    parse = EventRules(parse=reader("%d/%b/%Y:%H:%M:%S %z", "UTC", None))
    compose(Composer, parse, text.encode(), WHOLE).same(compose(LineByLine, parse, text.encode(), WHOLE))


@pytest.mark.parametrize(
    ("first", "second"), [("Z", "z"), (" +x", " +01:00"), (".", ".5"), ("", "Z"), (" ", " Z"), ("x", ",5")]
)
def test_what_follows_the_same_text_may_belong_to_the_time(first: str, second: str) -> None:
    parse = EventRules(parse=reader("iso8601", "Europe/Berlin", None))
    content = f"2026-11-24T11:14:04{first}\n2026-11-24T11:14:04{second}\n".encode() * 2
    compose(Composer, parse, content, WHOLE).same(compose(LineByLine, parse, content, WHOLE))


PATTERNS = [
    "a", "ab", "^a", "b$", "^$", "", "a.c", "[^a]", "[^a]b", "a[^b]*b", r"\s", r"\sa", r"a\s*$", r"\ba\b", r"\Ba",
    r"\Aa", r"b\Z", "(?!a)b", "(?<=a)b", "(?<!a)b", "(?=b)", "a*+b", "(?>a*)b", "(?i)A", "(?s)a.b", "(?m)^b$",
    r"\[^a", r"[\[^a]", "[^-a]b", "[^]a]b", r"a\Db", r"\W+b", r"[\s\S]b", r"(a)\1", "(?i:A)b", "x*", "a|^b|b$", r"\n",
]  # fmt: skip
WORDS = st.lists(st.text(st.sampled_from("aabbcA [^\\\t_D\r"), max_size=8), min_size=1, max_size=14).map(
    lambda lines: "\n".join([*lines, ""]).encode()
)
SOME = st.lists(st.sampled_from(PATTERNS), max_size=2).map(lambda some: tuple(map(re.compile, some)))


@examples(500)
@given(WORDS, SOME, SOME, SOME, LIMITS, CUTS)
def test_what_is_kept_dropped_and_counted_is_the_same(
    content: bytes, keep: Any, drop: Any, counters: Any, limits: tuple[int, int], cuts: list[int]
) -> None:
    rules = EventRules(keep=keep, drop=drop, counters=counters)
    compose(Composer, rules, content, cuts, limits).same(compose(LineByLine, rules, content, cuts))


@examples(150)
@given(contents(SCRAPS["%Y-%m-%d %H:%M:%S"]), SOME, SOME, SOME, LIMITS, CUTS)
def test_rules_and_times_together_are_the_same(
    content: bytes, keep: Any, drop: Any, counters: Any, limits: tuple[int, int], cuts: list[int]
) -> None:
    rules = [
        EventRules("utf-8", None, keep, drop, reader("%Y-%m-%d %H:%M:%S", "UTC", None), counters) for _ in range(2)
    ]
    compose(Composer, rules[0], content, cuts, limits).same(compose(LineByLine, rules[1], content, cuts))


@examples(150)
@given(
    contents(SCRAPS["%Y-%m-%d %H:%M:%S"]),
    st.sampled_from(
        ["utf-16-le", "utf-32-be", "latin-1", "cp1252", "cp037", "ascii", "gb18030", "utf-7", "shift_jis"]
    ),
    LIMITS,
    CUTS,
)
def test_other_encodings_are_the_same(
    content: bytes, encoding: str, limits: tuple[int, int], cuts: list[int]
) -> None:
    raw = content.decode(errors="replace").encode(encoding, "ignore")
    rules = [
        EventRules(encoding, drop=(re.compile("ab"),), parse=reader("%Y-%m-%d %H:%M:%S", "UTC", None))
        for _ in range(2)
    ]
    compose(Composer, rules[0], raw, cuts, limits).same(compose(LineByLine, rules[1], raw, cuts))
