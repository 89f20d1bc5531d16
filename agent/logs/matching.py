"""Which lines of a text match a pattern, found without looking at each line.

One search runs over the whole text. What it finds is a candidate: where a match reaches over its line's end, the
line is asked alone. No line is missed, because a match within a line is also one within the text: that holds for
patterns without look-around, atomic groups and possessive repeats, and without anchors of the whole text. Lines are
to be asked one by one for the others, for those that could run through many lines before they fail, and where many
lines match.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.logs.frame import newlines

_SOME = 32  # lines found, after which it is looked how many there are in all
_SPARSE = 3  # lines for each one found, from which on searching the whole text is cheaper than asking each

# Read from the pattern's text, so it may call a harmless pattern doubtful, never a doubtful one harmless.
_DOUBTFUL = re.compile(
    r"""\(\?(?!:|P<|[aimux]+\)|i:)    # all groups but plain and named ones and flags
    |\\[AZz]|[*+?}]\+                 # anchors of the whole text, possessive repeats
    |\\[DW][*+{]|\[[^\]]*\\[sDW]      # what runs over line ends
    |\\\[\^|\[\^[]-]                   # no class, or one to which nothing can be added at its beginning
    """,
    re.VERBOSE,
)


class LineMatcher:
    """One pattern of the configuration, searched in each event."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.search = pattern.search
        self._everywhere = None if _DOUBTFUL.search(pattern.pattern) else _between_lines(pattern).search

    def spans(self, text: str) -> list[tuple[int, int]] | None:
        """Where the lines lie that match, with their ends. Each line of `text` ends with a newline; none is empty.

        None: ask the lines one by one.
        """
        if self._everywhere is None:
            return None
        found: list[tuple[int, int]] = []
        position, size = 0, len(text)
        while position < size:
            match = self._everywhere(text, position)
            if match is None or match.start() >= size:
                break
            start = text.rfind("\n", position, match.start()) + 1 or position
            position = text.find("\n", match.start()) + 1
            if match.end() < position or self.search(text[start : position - 1]):
                found.append((start, position))
                if len(found) % _SOME == 0 and newlines(text[:position]) < _SPARSE * len(found):
                    return None
        return found

    def count(self, text: str) -> int:
        """How many lines match."""
        spans = self.spans(text)
        return sum(self.among(text.split("\n")[:-1])) if spans is None else len(spans)

    def among(self, lines: Sequence[str]) -> list[bool]:
        """Which of the lines match."""
        return [match is not None for match in map(self.search, lines)]


def _between_lines(pattern: re.Pattern[str]) -> re.Pattern[str]:
    """The pattern as it means the same of lines in a text as of a line alone: ^ and $ hold at each line's ends, and
    what matches any character, or any but some, does not match a line's end.
    """
    flags = (pattern.flags | re.MULTILINE) & ~re.DOTALL
    return re.compile(pattern.pattern.replace("[^", r"[^\n"), flags)
