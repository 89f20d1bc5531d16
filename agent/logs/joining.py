"""Which line belongs to the event before it: by a pattern, or by what stack traces look like."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

_INDENTED = re.compile(r"[ \t]")
_JAVA = re.compile(r"\s+(?:at |\.\.\. \d+|Suppressed: )|\s*Caused by: |\s*Suppressed: ")
_PYTHON_BEGIN = re.compile(r"\s*Traceback \(most recent call last\):|\s*[+|] ")
_PYTHON_BETWEEN = re.compile(
    r"(?:During handling of the above exception, another exception occurred|"
    r"The above exception was the direct cause of the following exception):"
)
_PYTHON_LAST = re.compile(r"[A-Za-z_][\w.]*(?::|$)")


class Joiner(Protocol):
    """Sees the lines of one file in order."""

    def continues(self, line: str) -> bool:
        """Whether the line belongs to the event before it."""

    def reset(self) -> None:
        """The event before is closed, whatever comes."""


class PatternJoiner:
    """By a predicate of the line alone."""

    def __init__(self, continues: Callable[[str], bool]) -> None:
        self._continues = continues

    def continues(self, line: str) -> bool:
        return self._continues(line)

    def reset(self) -> None:
        """There is nothing to forget."""


class PythonJoiner:
    """A traceback belongs to the line that was logged before it, with all that Python prints of chained ones."""

    def __init__(self) -> None:
        self._inside = False  # a traceback has begun, and its last line is still to come
        self._near = False  # a traceback has ended, and no other line has come since: another may be chained to it

    def continues(self, line: str) -> bool:
        if not line:
            return self._inside or self._near
        if _PYTHON_BEGIN.match(line) or _PYTHON_BETWEEN.match(line):
            self._inside = True
            return True
        if _INDENTED.match(line):
            return True
        self._near = self._inside and _PYTHON_LAST.match(line) is not None
        self._inside = False
        return self._near

    def reset(self) -> None:
        self._inside = self._near = False


def starting(pattern: re.Pattern[str]) -> Joiner:
    """A line that matches begins an event."""
    return PatternJoiner(lambda line: pattern.search(line) is None)


def continuing(pattern: re.Pattern[str]) -> Joiner:
    """A line that matches belongs to the event before it."""
    return PatternJoiner(lambda line: pattern.search(line) is not None)


def preset(name: str) -> Joiner:
    """One of indented, python, java."""
    if name == "python":
        return PythonJoiner()
    pattern = {"indented": _INDENTED, "java": _JAVA}[name]
    return PatternJoiner(lambda line: pattern.match(line) is not None)
