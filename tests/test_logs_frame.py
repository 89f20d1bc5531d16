"""Framing: whatever the chunks, the same bytes give the same events, and every byte is accounted for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from logs_harness import examples

from agent.aws.limits import LOG_BATCH_BYTES, LOG_BATCH_EVENTS, LOG_EVENT_BYTES, LOG_EVENT_OVERHEAD
from agent.logs.frame import SMALLEST_EVENT, Block, Framer

GUARD = 64
LIMIT = 40  # a small largest event, so that long lines are short

BITS = st.sampled_from(
    [
        b"a", b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b" ", b"\x00", b"\x7f", b'"', b"\\", b'",', b",",
        b"\x1b[0m", "é".encode(), "\u2028".encode(), "\u0085".encode(), "\U0001f600".encode(), "\ue000".encode(),
        b"\xff", b"\xc3", b"\xe2\x80", b"\xed\xa0\x80", b"\xc0\xaf", b"\x80" * 5,
        b"x" * (LIMIT - 1), b"x" * LIMIT, b"x" * (LIMIT + 1), b"\xff" * LIMIT, b"y" * 3 * LIMIT,
    ]
)  # fmt: skip
CONTENT = st.lists(BITS, max_size=30).map(b"".join)
CUTS = st.lists(st.integers(1, 2 * LIMIT), min_size=1, max_size=20)
LIMITS = st.sampled_from([SMALLEST_EVENT, SMALLEST_EVENT + 1, 7, LIMIT, 1 << 20])


@dataclass
class Framed:
    """All blocks of some bytes, and what the framer says of itself at the end."""

    framer: Framer
    blocks: list[Block] = field(default_factory=list)

    @property
    def messages(self) -> list[str]:
        return [message for block in self.blocks for message in block.messages()]

    def drain(self, *, final: bool, room: int = LOG_BATCH_BYTES, events: int = LOG_BATCH_EVENTS) -> None:
        while self.framer.has_more(final=final):
            block = self.framer.take(room, events, final=final)
            assert block is not None, "it says that there is more, and gives nothing"
            assert block.end > block.start, "a block of nothing"
            self.blocks.append(block)


def frame(
    content: bytes, cuts: list[int] | None = None, limit: int = LOG_EVENT_BYTES, *, final: bool = True
) -> Framed:
    """The events of `content`, fed in chunks of the sizes `cuts`, over and over."""
    framed = Framed(Framer(0, limit, GUARD))
    start, number = 0, 0
    while start < len(content):
        end = len(content) if cuts is None else start + cuts[number % len(cuts)]
        framed.framer.feed(content[start:end])
        framed.drain(final=False)
        start, number = end, number + 1
    framed.drain(final=final)
    return framed


# promises for any content and any chunks


@given(CONTENT, CUTS, LIMITS)
@examples(100)
def test_the_chunks_make_no_difference(content: bytes, cuts: list[int], limit: int) -> None:
    content += b"\n"
    whole, cut = frame(content, None, limit), frame(content, cuts, limit)
    assert cut.messages == whole.messages
    assert cut.framer.offset == whole.framer.offset == len(content)
    assert cut.framer.pending == whole.framer.pending == 0


@given(CONTENT, CUTS, LIMITS, st.booleans())
@examples(100)
def test_blocks_cover_every_byte_once(content: bytes, cuts: list[int], limit: int, final: bool) -> None:
    framed = frame(content, cuts, limit, final=final)
    ends = [0, *(block.end for block in framed.blocks)]
    assert [block.start for block in framed.blocks] == ends[:-1]
    assert all(block.start < block.end for block in framed.blocks)
    assert framed.framer.offset == ends[-1]
    assert framed.framer.offset + framed.framer.pending == len(content)
    assert not final or framed.framer.pending == 0


@given(CONTENT, CUTS, LIMITS)
@examples(100)
def test_what_is_in_the_messages_is_what_was_in_the_file(content: bytes, cuts: list[int], limit: int) -> None:
    framed = frame(content, cuts, limit)
    if limit > 3 * len(content):
        lines = [line.removesuffix(b"\r") for line in content.split(b"\n")]
        assert framed.messages == [line.decode(errors="replace") for line in lines if line]
    kept = b"".join(line.removesuffix(b"\r") for line in content.split(b"\n"))
    try:
        text = kept.decode()
    except UnicodeDecodeError:
        assert "\ufffd" in "".join(framed.messages)
    else:
        assert "".join(framed.messages) == text


@given(CONTENT, CUTS, LIMITS)
@examples(100)
def test_no_event_is_empty_or_over_the_limit_and_sizes_are_as_cloudwatch_counts(
    content: bytes, cuts: list[int], limit: int
) -> None:
    for block in frame(content, cuts, limit).blocks:
        messages = block.messages()
        assert len(messages) == block.count
        assert all(0 < len(message.encode()) <= limit for message in messages)
        assert block.size == sum(len(message.encode()) + LOG_EVENT_OVERHEAD for message in messages)


@given(CONTENT, CUTS, LIMITS)
@examples(100)
def test_the_guard_is_the_last_raw_bytes(content: bytes, cuts: list[int], limit: int) -> None:
    for block in frame(content, cuts, limit).blocks:
        assert block.guard == content[max(0, block.end - GUARD) : block.end]


@given(st.binary(min_size=1, max_size=200), st.binary(max_size=200), CUTS)
@examples(50)
def test_after_a_restart_the_guard_reaches_back_behind_the_cursor(
    before: bytes, after: bytes, cuts: list[int]
) -> None:
    framed = Framed(Framer(len(before), LIMIT, GUARD, before=before[-GUARD:]))
    for start in range(0, len(after), cuts[0]):
        framed.framer.feed(after[start : start + cuts[0]])
        framed.drain(final=False)
    framed.drain(final=True)
    content = before + after
    for block in framed.blocks:
        assert block.guard == content[max(0, block.end - GUARD) : block.end]


@given(CONTENT, CUTS, st.integers(LIMIT + LOG_EVENT_OVERHEAD, 400), st.integers(1, 5))
@examples(100)
def test_a_block_keeps_to_the_room_that_it_is_given(content: bytes, cuts: list[int], room: int, events: int) -> None:
    framed = Framed(Framer(0, LIMIT, GUARD))
    framed.framer.feed(content)
    framed.drain(final=True, room=room, events=events)
    assert all(block.size <= room and block.count <= events for block in framed.blocks)
    assert framed.messages == frame(content, cuts, LIMIT).messages


# single promises


def test_crlf_across_two_chunks_is_one_line_end() -> None:
    assert frame(b"a\r\nb\n", [2]).messages == ["a", "b"]


def test_of_several_carriage_returns_only_the_one_of_the_line_end_goes() -> None:
    assert frame(b"a\r\r\n\rb\rc\n").messages == ["a\r", "\rb\rc"]


def test_empty_lines_make_no_event_and_are_counted() -> None:
    framed = frame(b"\n\na\n" + b"\n" * 1000 + b"\r\n\r\nb\n")
    assert framed.messages == ["a", "b"]
    assert framed.framer.counts.empty == 1004


def test_only_empty_lines_still_move_on() -> None:
    framed = frame(b"\n" * 5000)
    assert framed.messages == []
    assert framed.framer.offset == 5000


def test_a_character_cut_by_a_chunk_is_whole() -> None:
    assert frame("é\U0001f600\n".encode(), [1]).messages == ["é\U0001f600"]


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf0\x9f\x98"])
def test_invalid_utf8_is_replaced_and_its_neighbours_are_not(bad: bytes) -> None:
    framed = frame(b"before\n>" + bad + b"<\nafter\n")
    assert framed.messages[0] == "before"
    assert re.fullmatch(">\ufffd+<", framed.messages[1])
    assert framed.messages[2] == "after"
    assert framed.framer.counts.invalid == 1


def test_nul_escape_and_del_stay_as_they_are() -> None:
    text = "a\x00b\x1b[31mc\x7fd\u2028e"
    assert frame(f"{text}\n".encode()).messages == [text]


def test_text_with_every_private_character_still_finds_a_separator() -> None:
    text = "".join(map(chr, (0x7F, *range(0xE000, 0xF900))))
    assert frame(f"a\n{text}\nb\n".encode()).messages == ["a", text, "b"]


@pytest.mark.parametrize("surplus", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_about_as_long_as_an_event_arrives_whole_or_in_two(surplus: int, end: bytes) -> None:
    line = b"x" * (LIMIT + surplus)
    messages = frame(line + end, [16], LIMIT).messages
    assert [len(message) for message in messages] == ([LIMIT, surplus] if surplus > 0 else [LIMIT + surplus])


def test_pieces_of_a_long_line_join_to_the_line_and_the_next_line_is_intact() -> None:
    line = "é\U0001f600x" * 3000
    framed = frame(f"before\n{line}\nafter\n".encode(), [4096], 1024)
    assert framed.messages[0] == "before"
    assert "".join(framed.messages[1:-1]) == line
    assert framed.messages[-1] == "after"
    assert framed.framer.counts.split == len(framed.messages) - 3


def test_a_carriage_return_at_a_cut_is_kept() -> None:
    line = b"x" * (LIMIT - 1) + b"\r" + b"y" * LIMIT
    assert "".join(frame(line + b"\n", None, LIMIT).messages) == line.decode()


def test_a_line_that_replacing_makes_too_long_is_split() -> None:
    framed = frame(b"\xff" * LIMIT + b"\nnext\n", None, LIMIT)
    assert "".join(framed.messages[:-1]) == "\ufffd" * LIMIT
    assert framed.messages[-1] == "next"


def test_the_largest_event_of_cloudwatch_fits_alone() -> None:
    for line in (b"x" * LOG_EVENT_BYTES, b"\xff" * (LOG_EVENT_BYTES // 3)):
        (block,) = frame(line + b"\n", [65_536]).blocks
        assert block.count == 1
        assert block.size <= LOG_BATCH_BYTES


def test_one_byte_over_the_largest_event_makes_two() -> None:
    for end in (b"", b"\n", b"\r\n"):
        sizes = [len(message) for message in frame(b"x" * (LOG_EVENT_BYTES + 1) + end, [65_536]).messages]
        assert sizes == [LOG_EVENT_BYTES, 1]


def test_a_line_without_end_keeps_nothing_but_one_event_in_memory() -> None:
    framed = Framed(Framer(0, 4096, GUARD))
    for _ in range(100):
        framed.framer.feed(b"x" * 1000)
        framed.drain(final=False)
        assert framed.framer.pending <= 4096 + 1
    assert sum(map(len, framed.messages)) + framed.framer.pending == 100_000


@given(CONTENT)
@examples(25)
@example(b"")
def test_an_open_line_waits_until_it_is_final(content: bytes) -> None:
    open_ = content.rpartition(b"\n")[2]
    framed = frame(content, None, 1 << 20, final=False)
    assert framed.framer.pending == len(open_)
    framed.drain(final=True)
    assert framed.framer.pending == 0
