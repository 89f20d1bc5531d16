"""Which files of a tree are meant: patterns, compiled once.

`*` and `?` stop at a slash, `**` does not, `[..]` is one character, `{a,b}` are alternatives; a leading dot is a
character like any other. A pattern without a slash is held against the name alone, at any depth; one with a slash
against the path below the tree's root. A directory that `exclude` meets is left out with all that is in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

_TOKEN = re.compile(r"\*\*/|/\*\*$|\*\*|\*|\?|\[[^\]/]+\]|\{[^{}]*\}|[^*?\[{/]+|.", re.DOTALL)
_TOKENS = {"**/": "(?:.*/)?", "/**": "(?:/.*)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

Test = Callable[[str], bool]


class Patterns:
    """Holds a relative path against some patterns."""

    def __init__(self, patterns: Iterable[str]) -> None:
        wanted = list(patterns)
        self._everything = any(pattern in ("**", "**/*") for pattern in wanted)
        self._names = _compile(pattern for pattern in wanted if "/" not in pattern)
        self._paths = _compile(pattern.lstrip("/") for pattern in wanted if "/" in pattern)

    def match(self, relative: str) -> bool:
        if self._everything:
            return True
        if self._names is not None and self._names.fullmatch(relative, relative.rfind("/") + 1):
            return True
        return self._paths is not None and self._paths.fullmatch(relative) is not None

    @property
    def everything(self) -> bool:
        return self._everything

    @property
    def nothing(self) -> bool:
        return not self._everything and self._names is None and self._paths is None


class Filter:
    """`include` and `exclude` of one directory."""

    def __init__(self, include: Iterable[str], exclude: Iterable[str]) -> None:
        self._include = Patterns(include)
        self._exclude = Patterns(exclude)
        self.takes_all = self._include.everything and self._exclude.nothing

    def takes_file(self, relative: str) -> bool:
        """Whether a file is meant, given that its directory is entered."""
        return self._include.match(relative) and not self._exclude.match(relative)

    def enters(self, relative: str) -> bool:
        """Whether a directory is looked into, given that its parent is."""
        return not self._exclude.match(relative)

    def reaches(self, relative: str) -> bool:
        """Whether every directory above `relative` is entered."""
        parts = relative.split("/")[:-1]
        return all(self.enters("/".join(parts[: depth + 1])) for depth in range(len(parts)))


class Choice:
    """The first pattern that fits decides."""

    def __init__(self, choices: Mapping[str, str]) -> None:
        self._choices = [(Patterns([pattern]), value) for pattern, value in choices.items()]

    def find(self, relative: str) -> str | None:
        return next((value for patterns, value in self._choices if patterns.match(relative)), None)


def _compile(patterns: Iterable[str]) -> re.Pattern[str] | None:
    """One expression for all patterns; None where there is none."""
    expressions = [_expression(pattern) for pattern in patterns]
    return re.compile("|".join(expressions), re.DOTALL) if expressions else None


def _expression(pattern: str) -> str:
    return "".join(_translate(token) for token in _TOKEN.findall(pattern))


def _translate(token: str) -> str:
    if token in _TOKENS:
        return _TOKENS[token]
    if token[0] == "{" and len(token) > 1:
        return f"(?:{'|'.join(_expression(choice) for choice in token[1:-1].split(','))})"
    if token[0] == "[" and len(token) > 1:
        return _character_class(token[1:-1])
    return re.escape(token)


def _character_class(body: str) -> str:
    """A class of characters; one that no character can meet, such as [z-a], is itself."""
    negated = body[0] in "!^" and len(body) > 1
    literal = re.sub(r"([\\\[\]&~|^])", r"\\\1", body[1:] if negated else body)
    expression = f"(?!/)[{'^' if negated else ''}{literal}]"
    try:
        re.compile(expression)
    except re.error:
        return re.escape(f"[{body}]")
    return expression
