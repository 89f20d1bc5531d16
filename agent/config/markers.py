"""What the schema's types carry beside the Python type: how a value is read, checked, and shown in the reference."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from agent.config.errors import quoted, with_article
from agent.config.units import format_duration, format_size, parse_duration, parse_size

_WORD_LENGTH = 80  # characters of a word whose neighbours are looked for; the search takes the square of it
_YEAR = "366d"  # bounds a duration that has no bound of its own
_PEBIBYTE = "1024TiB"  # bounds a size that has no bound of its own


class Marker:
    """A part of an Annotated type: `label` names the type for people, `show` writes a value as the user would."""

    label: str

    def show(self, value: Any) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Parsed(Marker):
    """Values read by a function of their own, which raises ValueError."""

    label: str
    parse: Callable[[object], object]
    shown: Callable[[Any], str] = str

    def show(self, value: Any) -> str:
        return self.shown(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)


@dataclass(frozen=True, slots=True)
class Seconds(Marker):
    """A duration within bounds, both in the user's own form."""

    least: str = "0s"
    most: str = _YEAR

    @property
    def label(self) -> str:  # type: ignore[override]  # computed from the bounds
        return "duration" if self.most == _YEAR else f"duration, {self.least} to {self.most}"

    def show(self, value: float) -> str:
        return format_duration(value)

    def parse(self, value: object) -> float:
        seconds = parse_duration(value)
        if not parse_duration(self.least) <= seconds <= parse_duration(self.most):
            raise ValueError(f"{quoted(value)} is not between {self.least} and {self.most}")
        return seconds

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)


@dataclass(frozen=True, slots=True)
class Bytes(Marker):
    """A size within bounds, both in the user's own form."""

    least: str = "0B"
    most: str = _PEBIBYTE

    @property
    def label(self) -> str:  # type: ignore[override]  # computed from the bounds
        return "size" if self.most == _PEBIBYTE else f"size, {self.least} to {self.most}"

    def show(self, value: int) -> str:
        return format_size(value)

    def parse(self, value: object) -> int:
        size = parse_size(value)
        if not parse_size(self.least) <= size <= parse_size(self.most):
            raise ValueError(f"{quoted(value)} is not between {self.least} and {self.most}")
        return size

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)


@dataclass(frozen=True, slots=True)
class Shape(Marker):
    """Text that must match a pattern as a whole; `example` shows the user one that does."""

    label: str
    pattern: str
    example: str
    rule: str = ""  # what the label leaves open
    secret: bool = False  # never repeat the value in a message

    def check(self, value: str) -> str:
        if re.fullmatch(self.pattern, value) is None:
            said = "the value" if self.secret else quoted(value)
            rule = f": {self.rule}" if self.rule else ""
            raise ValueError(f"{said} is not {with_article(self.label)}{rule}, for example {self.example}")
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


@dataclass(frozen=True, slots=True)
class OneOf(Marker):
    """Text out of a list that is too long, or too changeable, for a Literal."""

    label: str
    choices: tuple[str, ...]

    def check(self, value: str) -> str:
        if value not in self.choices:
            raise ValueError(f"{quoted(value)} is not {with_article(self.label)}{suggestion(value, self.choices)}")
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


def words(text: str) -> tuple[str, ...]:
    """The words of a text, for lists that read better without quotes."""
    return tuple(text.split())


def suggestion(word: str, known: tuple[str, ...]) -> str:
    """What to write instead of an unknown word: the nearest one, or else all of them."""
    spelled = {each.lower(): each for each in known}
    near = get_close_matches(word[:_WORD_LENGTH].lower(), spelled, n=1)
    if near:
        return f"; did you mean {spelled[near[0]]}?"
    return f"; known are {', '.join(known)}" if known else ""
