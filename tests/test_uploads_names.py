"""Names as text, and patterns of names."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.uploads.globs import Choice, Filter, Patterns
from agent.uploads.names import from_text, to_text

raw_names = st.binary(min_size=1, max_size=30).filter(lambda name: b"/" not in name and b"\0" not in name)
tricky = st.lists(st.sampled_from([b"\xe2\x80\x9b", b"\xff", b"FF", b"\xe2", b"a", "é".encode()]), max_size=8)


@given(st.one_of(raw_names, tricky.map(b"".join)))
def test_every_name_has_a_text_of_its_own_that_reads_back(raw: bytes) -> None:
    name = os.fsdecode(raw)
    text = to_text(name)
    text.encode("utf-8", "strict")
    assert os.fsencode(from_text(text)) == raw


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="‛")))
def test_an_ordinary_name_is_its_own_text(name: str) -> None:
    assert to_text(name) == name


@pytest.mark.parametrize(
    ("raw", "text"), [(b"bad\xff\xfename", "bad‛FF‛FEname"), ("‛".encode(), "‛‛"), ("‛FF".encode(), "‛‛FF")]
)
def test_the_rule_of_other_names(raw: bytes, text: str) -> None:
    assert to_text(os.fsdecode(raw)) == text


@pytest.mark.parametrize(
    ("pattern", "meant", "not_meant"),
    [
        ("*.tmp", ["a.tmp", "d/e/.tmp"], ["a.tmp.gz", "tmp"]),
        (".*", [".a", "d/.b"], ["a.b", "d/a"]),
        ("a?c", ["abc", "x/a.c"], ["ac", "a/c", "abbc"]),
        ("[a-c]x", ["ax", "d/cx"], ["dx", "[a-c]x"]),
        ("[!a]x", ["bx"], ["ax", "/x"]),
        ("[z-a]", ["[z-a]"], ["z", "a"]),
        ("a[^]b", ["a^b"], ["ab"]),
        ("{a,b*}.log", ["a.log", "d/bcd.log"], ["c.log", "a,b.log"]),
        ("docs/**", ["docs/a", "docs/a/b", "docs"], ["a/docs/b", "docs2/a"]),
        ("**/x/*.py", ["x/a.py", "a/b/x/c.py"], ["x/y/a.py", "ax/a.py"]),
        ("a/**/b", ["a/b", "a/x/y/b"], ["ab", "a/xb"]),
        ("/top", ["top"], ["a/top"]),
        ("a.b+c(d)", ["a.b+c(d)"], ["aXb+c(d)"]),
        ("**", ["a", "a/b", "a\nb"], []),
        ("line\nbreak*", ["line\nbreak\n2"], ["line"]),
    ],
)
def test_what_a_pattern_means(pattern: str, meant: list[str], not_meant: list[str]) -> None:
    patterns = Patterns([pattern])
    assert [name for name in meant if not patterns.match(name)] == []
    assert [name for name in not_meant if patterns.match(name)] == []


def test_an_excluded_directory_is_not_entered() -> None:
    filter_ = Filter(["**"], [".git", "build/**"])
    assert not filter_.enters(".git")
    assert not filter_.enters("a/.git")
    assert not filter_.enters("build")
    assert filter_.enters("a/build")
    assert filter_.reaches("a/b/c")
    assert not filter_.reaches("a/.git/c")
    assert not filter_.takes_all
    assert Filter(["**"], []).takes_all


def test_the_first_choice_that_fits_decides() -> None:
    choice = Choice({"*.min.js": "first", "*.js": "second", "x/*": "third"})
    assert [choice.find(name) for name in ("a/b.min.js", "x/b.js", "x/y", "y")] == ["first", "second", "third", None]


@given(st.text("ab[]{}*?!^-/.,\\", max_size=12))
def test_no_pattern_breaks_the_compiler(pattern: str) -> None:
    assert Patterns([pattern]).match("some/name") in (True, False)
