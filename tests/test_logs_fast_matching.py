"""Finding the lines that match a pattern in a whole text is the same as asking each line."""

from __future__ import annotations

import re
import warnings
from itertools import accumulate, compress, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from logs_harness import examples

from agent.logs.matching import LineMatcher

# Parts of patterns, from which any nonsense may be put together.
PARTS = st.sampled_from(
    [
        "a", "b", "A", " ", "-", "^", "$", ".", "|", "(", ")", "(?:", "(?P<n>", "(?=", "(?!", "(?<=", "(?<!", "(?>",
        "(?i:", "(?s:", "(?-i:", "(?(1)", "[", "]", "[^", "[ab", "[^a", "[^]", "[^-", "[]", "*", "+", "?", "*?", "*+",
        "{2}", "{1,}", "\\", "\\s", "\\S", "\\d", "\\D", "\\w", "\\W", "\\b", "\\B", "\\A", "\\Z", "\\n", "\\\\",
        "\\[", "\\]", "\\1", "\n", "#",
    ]
)  # fmt: skip
FLAGS = st.sampled_from(["", "", "", "(?i)", "(?s)", "(?m)", "(?x)", "(?a)", "(?sx)", "(?im)"])
LINES = st.lists(st.text(st.sampled_from("aabbA -_1\t\r[]^\\é"), min_size=1, max_size=6), min_size=1, max_size=8).map(
    lambda lines: lines * 9 if len(lines) > 6 else lines
)


@st.composite
def patterns(draw: st.DrawFn) -> re.Pattern[str]:
    written = draw(FLAGS) + "".join(draw(st.lists(PARTS, max_size=6)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return re.compile(written)
        except (re.error, Warning, OverflowError):
            assume(False)
            raise AssertionError from None


@examples(500)
@given(patterns(), LINES)
def test_the_lines_found_are_those_that_match(pattern: re.Pattern[str], lines: list[str]) -> None:
    edges = list(accumulate((len(line) + 1 for line in lines), initial=0))
    matches = [pattern.search(line) is not None for line in lines]
    matcher, text = LineMatcher(pattern), "".join(f"{line}\n" for line in lines)
    spans = matcher.spans(text)
    assert spans is None or spans == list(compress(pairwise(edges), matches))
    assert matcher.among(lines) == matches
    assert matcher.count(text) == sum(matches)


@pytest.mark.parametrize("pattern", ["a", "^a", "a$", "[^b]", r"\ba\b", "(?i)A", "a[^b]*", r"(?:a|x)\s*"])
def test_common_patterns_are_searched_in_the_whole_text(pattern: str) -> None:
    assert LineMatcher(re.compile(pattern)).spans("a\nb\n") == [(0, 2)]


def test_where_many_lines_match_they_are_asked_one_by_one() -> None:
    matcher = LineMatcher(re.compile("a"))
    assert matcher.spans("a\n" * 200) is None
    assert matcher.count("a\n" * 200) == 200


def test_a_pattern_that_could_run_through_all_lines_stops_at_each_lines_end() -> None:
    text = "a" * 80 + "\n"
    match = LineMatcher(re.compile('a[^"]*"'))
    assert match.spans(text * 5000) == []  # quadratic in the whole text, it would take minutes
