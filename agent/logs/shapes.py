"""What a time looks like in a text, as a sequence of character classes, and how far a search for it can look.

The basis of `agent.logs.repeats`, which compares the text of times instead of searching for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

MANY = 1 << 30
_MOST_STATES = 5000  # followed before a shape counts as too hard
_EXAMPLES = [chr(code) for code in (*range(32, 127), 9, 0xB2, 0xE9, 0x663, 0x2003)]
"""Characters of all kinds that classes tell apart: ASCII, and beyond it a numeral, a letter, a digit, a space."""


@dataclass(frozen=True)
class Token:
    """From `least` to `most` characters of a class, given as a regex for one character."""

    chars: str
    least: int = 1
    most: int = 1


Shape = tuple[Token, ...]
"""All texts that a time can have; more than these do no harm."""

_State = tuple[int, int]  # a token of the shape, and how many characters of it have passed


class _Automaton:
    """The ways in which a text can go through a shape, character by character."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._end = (len(shape), 0)
        self._accepts = [{char for char in _EXAMPLES if re.match(token.chars, char)} for token in shape]

    def kind(self, char: str) -> tuple[bool, ...]:
        """Characters of one kind are all the same to it."""
        return tuple(char in accepted for accepted in self._accepts)

    def step(self, states: Iterable[_State], char: str) -> set[_State]:
        """Where one more character leads."""
        return {
            (index, min(passed + 1, self._bound(index)))
            for index, passed in self._ways(states)
            if char in self._accepts[index]
        }

    def at_end(self, state: _State) -> bool:
        return self._end in self._rest(state)

    def looks_for(self, states: Iterable[_State]) -> set[str]:
        """The classes of characters that would lead on."""
        return {self._shape[index].chars for index, _ in self._ways(states)}

    def states(self) -> frozenset[_State]:
        return frozenset(
            (index, passed) for index in range(len(self._shape)) for passed in range(self._bound(index) + 1)
        )

    def _ways(self, states: Iterable[_State]) -> set[_State]:
        """The tokens that may take another character."""
        ways = {way for state in states for way in self._rest(state) if way != self._end}
        return {(index, passed) for index, passed in ways if passed < self._shape[index].most}

    def _rest(self, state: _State) -> Iterator[_State]:
        """The state, and those that it is as well because the tokens in between may be over, or empty."""
        yield state
        index, passed = state
        while index < len(self._shape) and passed >= self._shape[index].least:
            index, passed = index + 1, 0
            yield index, passed

    def _bound(self, index: int) -> int:
        """More characters make no difference."""
        token = self._shape[index]
        return token.least if token.most == MANY else token.most


@lru_cache(maxsize=64)
def behind(found: Shape, searched: Shape) -> tuple[str, ...] | None:
    """The classes of characters that a search for `searched` might take behind a time of the shape `found`.

    Behind any other character, nothing matters to it: whatever part of the shape it is trying has failed or is whole.
    Every way through `found` is followed together with all others: wherever in the shape another try may stand when
    the time begins, where does the text of the time lead it? None: too hard to say.
    """
    one, other = _Automaton(found), _Automaton(searched)
    chars = {(one.kind(char), other.kind(char)): char for char in _EXAMPLES}.values()
    todo = [((0, 0), other.states())]
    seen = set(todo)
    classes: set[str] = set()
    while todo:
        state, beside = todo.pop()
        if one.at_end(state):
            classes |= one.looks_for([state]) | other.looks_for(beside)
        for char in chars:
            next_beside = frozenset(other.step(beside, char))
            new = {(each, next_beside) for each in one.step([state], char)} - seen
            seen |= new
            todo += new
        if len(seen) > _MOST_STATES:
            return None
    return tuple(sorted(classes))
