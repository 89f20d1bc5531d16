"""How many lines have the same first time as the one before: by comparing texts instead of searching for times.

Neighbouring lines are mostly of one second. That the search in another line finds the very same text follows from
what is compared, in one of two ways:

- Both lines begin alike, up to the character behind the time, and that is none that the search might take
  (`agent.logs.shapes`): so it does not look further, and sees no difference.
- Every time has a mark near its beginning, as the slash in 24/Nov/2026, and of characters before that only those of
  some classes. If a line has the time, followed as above, no mark before it, and right before it a character of none
  of these classes, then no time begins before it.

The digits of a fraction may differ: no class tells one digit from another, so the search does not either. Nothing is
said of other lines: where neither holds, the search has to look.
"""

from __future__ import annotations

import re

from agent.logs.shapes import Shape, Token, behind

_PATTERNS = 32  # kept; if a file asks for more, the others are not made, and its lines are looked at one by one


class Repeats:
    """Lines with the same time as the one before, but for its fraction, for times of one shape."""

    def __init__(self, seconds: str, rest: str | None, found: Shape, searched: Shape, flags: int = 0) -> None:
        """Regexes: `seconds` of the time up to the digits of the fraction, `rest` of what follows these; None if it
        has no fraction. `found` is the shape of the whole time, `searched` that of all times searched for.
        """
        classes = behind(found, searched)
        self._usable = classes is not None and (rest is None or _alike_digits(searched))
        self._seconds = seconds if rest is None else rf"{seconds}(?=\d{{1,9}}{rest})"
        behind_it = f"(?!{'|'.join(classes)})." if classes else "."  # one more character: the same in all lines
        self._rest = f"(?>{rest or ''}){behind_it}"
        self._flags = flags
        self._mark, self._before = _mark(searched)
        self._patterns: dict[tuple[str | None, int], re.Pattern[str] | None] = {}

    def end(self, text: str, line: int, match: re.Match[str]) -> int:
        """Where the lines end whose first time is that of `match`, in the line at `line` of `text`, but for the
        fraction, which has as many digits. Each line ends with a newline. At least that one line.

        The groups of `match` are the seconds, the fraction, the rest.
        """
        next_line = text.find("\n", match.end()) + 1
        if next_line == len(text) or not self._usable:
            return next_line
        start, digits = match.start(), len(match[2] or "")
        if text.startswith(text[line : match.end(1)], next_line):
            pattern, start = self._pattern(None, digits), line
        elif start > line and self._mark is not None:
            neighbour = text[start - 1]
            first = text.find(neighbour, line, start) == start - 1
            pattern = self._pattern(neighbour if first else "", digits)
        else:
            return next_line
        repeated = pattern.match(text, start) if pattern else None
        return repeated.end() if repeated else next_line

    def _pattern(self, neighbour: str | None, digits: int) -> re.Pattern[str] | None:
        key = neighbour, digits
        if key not in self._patterns:
            if len(self._patterns) >= _PATTERNS:
                return None
            self._patterns[key] = self._make(neighbour, digits)
        return self._patterns[key]

    def _make(self, neighbour: str | None, digits: int) -> re.Pattern[str] | None:
        """For lines that begin alike (None), or else for the character before the time, if it is the first of its
        kind in the line: then nothing has to be tried twice.
        """
        if neighbour is None:
            return self._compile(f"(?>.*?{self._seconds})", "", digits)
        if neighbour == self._mark or re.fullmatch(self._before, neighbour):
            return None
        char, mark = re.escape(neighbour), re.escape(self._mark or "")
        head = rf"[^\n{mark}{char}]*+{char}" if char else rf"[^\n{mark}]*(?<!{self._before})"
        return self._compile(f"(?>{self._seconds})", head, digits)

    def _compile(self, known: str, head: str, digits: int) -> re.Pattern[str]:
        """A line with what is known, and all further ones in which that stands again behind `head`."""
        if digits:
            digit = f"[0-9]{{{digits}}}"
            first, again = f"({known}){digit}({self._rest})", rf"\1{digit}\2"
        else:
            first, again = f"({known}{self._rest})", r"\1"
        # Not possessive as a whole: before Python 3.11.5, such a group could fail where it should have ended.
        return re.compile(rf"{first}.*+\n(?:{head}{again}.*+\n)*", self._flags)


def _mark(shape: Shape) -> tuple[str | None, str]:
    """The first character that each time has and that none of the classes before it takes; and these classes."""
    for index, token in enumerate(shape):
        before = "|".join(each.chars for each in shape[:index])
        char = _literal(token)
        if char is not None and token.least > 0 and not (before and re.match(before, char)):
            return char, before or "(?!)"
    return None, "(?!)"


def _literal(token: Token) -> str | None:
    """The only character of the class, if that is how it is written."""
    char = token.chars[-1]
    return char if re.escape(char) == token.chars else None


def _alike_digits(shape: Shape) -> bool:
    """Whether no class tells one digit from another: then other digits in their place change no search."""
    return all(len({re.match(token.chars, digit) is None for digit in "0123456789"}) == 1 for token in shape)
