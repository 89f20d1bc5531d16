"""What times look like in a text: regexes to find them, and what tells lines with the same one.

The groups of each regex are: everything up to the second, the digits of the fraction, the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from agent.logs.repeats import Repeats
from agent.logs.shapes import MANY, Shape, Token

BLANK = r"[^\S\n]"  # white space within a line
_DIGIT, _LETTER = r"\d", r"[^\W\d_]"
_NOTHING = "(?:(?!)())?"  # a group that takes no part


@dataclass(frozen=True)
class Format:
    """How times of one kind are found."""

    regex: Callable[[str], str]  # given the class that white space is of
    repeats: Callable[[re.Match[str]], Repeats | None]  # finds lines with the time of a match; None: can't
    flags: int = 0


@dataclass(frozen=True)
class _Directive:
    """What stands for a directive of strptime: a regex, and the shape of what it matches, if it has one."""

    regex: str
    shape: Shape | None = None


def _digits(least: int, most: int) -> _Directive:
    return _Directive(rf"\d{{{least},{most}}}", (Token(_DIGIT, least, most),))


_SHORT_NAME = _Directive(rf"{_LETTER}+\.?", (Token(_LETTER, 1, MANY), Token(r"\.", 0)))  # of months and days
_FULL_NAME = _Directive(rf"{_LETTER}+", (Token(_LETTER, 1, MANY),))
_TWO = _digits(1, 2)
_ZONE_DIGITS = Token(_DIGIT, 0, 2), Token(":", 0), Token(_DIGIT, 0, 2), Token(":", 0), Token(_DIGIT, 0, 2)
_DIRECTIVES = {
    "a": _SHORT_NAME,
    "A": _FULL_NAME,
    "b": _SHORT_NAME,
    "B": _FULL_NAME,
    "d": _TWO,
    "H": _TWO,
    "I": _TWO,
    "j": _digits(1, 3),
    "m": _TWO,
    "M": _TWO,
    "p": _Directive(r"[AaPp]\.?[Mm]\.?", (Token("[AaPp]"), Token(r"\.", 0), Token("[Mm]"), Token(r"\.", 0))),
    "S": _TWO,
    "y": _digits(2, 2),
    "Y": _digits(4, 4),
    "z": _Directive(r"(?:Z|[+-]\d{2}:?\d{2}(?::?\d{2})?)", (Token("[Z+-]"), *_ZONE_DIGITS)),
    "Z": _Directive(r"[A-Za-z]{1,5}", (Token("[A-Za-z]", 1, 5),)),
    "w": _digits(1, 1),
    "f": _digits(1, 9),
    "%": _Directive("%", (Token("%"),)),
    "c": _Directive(r".+?"),
    "x": _Directive(r"\S+"),
    "X": _Directive(r"\S+"),
    "U": _TWO,
    "W": _TWO,
    "G": _digits(4, 4),
    "u": _digits(1, 1),
    "V": _TWO,
}


def parted(pattern: str) -> tuple[str, str | None, str]:
    """A strptime format up to the fraction with what separates it (`.%f`), that, and what follows."""
    head, fraction, tail = re.fullmatch(r"(?s)(.*?)(?:([.,:]?%f)(.*))?", pattern).groups()  # type: ignore[union-attr]
    return head, fraction, tail or ""


def strptime(pattern: str) -> Format:
    """Times as strptime reads them."""
    head, fraction, tail = parted(pattern)
    separator = re.escape(fraction[:-2]) if fraction else ""

    def regex(blank: str) -> str:
        rest = rf"{separator}(\d{{1,9}})({strptime_regex(tail, blank)})" if fraction else _NOTHING * 2
        return f"({strptime_regex(head, blank)}){rest}"

    @lru_cache
    def repeats() -> Repeats | None:
        shape = _strptime_shape(pattern)
        if shape is None:
            return None
        rest = strptime_regex(tail, BLANK) if fraction else None
        return Repeats(strptime_regex(head, BLANK) + separator, rest, shape, shape)

    return Format(regex, lambda _match: repeats())


def strptime_regex(pattern: str, blank: str) -> str:
    """What a strptime format looks like in a text. White space in it stands for any, as strptime has it."""
    out = []
    for index, part in enumerate(_split(pattern)):
        if index % 2 == 0:
            out.append(f"{blank}+".join(map(re.escape, re.split(r"\s+", part))))
        else:
            out.append(_DIRECTIVES[part].regex if part in _DIRECTIVES else re.escape(part))
    return "".join(out)


def _strptime_shape(pattern: str) -> Shape | None:
    """Its shape; None where it has none that would say much."""
    shape: list[Token] = []
    for index, part in enumerate(_split(pattern)):
        if index % 2 == 0:
            plain = re.sub(r"\s+", " ", part)
            shape += [Token(BLANK, 1, MANY) if char == " " else Token(re.escape(char)) for char in plain]
        elif (known := _DIRECTIVES.get(part)) is not None and known.shape is not None:
            shape += known.shape
        else:
            return None
    return tuple(shape)


def _split(pattern: str) -> list[str]:
    """A strptime format as text, directive, text, directive, ..., text."""
    return re.split(r"%[-_0^#]?(.)", pattern)


_ISO_MINUTE = r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}"
_ISO_ZONE = r"[Zz]|[+-]\d{2}:?\d{2}"
_ISO_WHITE = r"[ \t\r\f\v]"  # white space of ASCII within a line


def iso8601() -> Format:
    """Date and time of ISO 8601, with or without seconds, fraction and zone."""
    return Format(
        lambda blank: rf"({_ISO_MINUTE}(?::\d{{2}})?)(?:[.,](\d{{1,9}}))?{blank}?({_ISO_ZONE})?",
        _iso_repeats_of,
        re.ASCII,
    )


def _iso_repeats_of(match: re.Match[str]) -> Repeats | None:
    seconds, fraction, zone = match.groups()
    if len(seconds) < len("2026-11-24T11:14:04"):
        return None
    plain = match.end(1) if fraction is None else match.end(2)
    return _iso_repeats(fraction is not None, zone is not None, zone is None and match.end() > plain)


@lru_cache
def _iso_repeats(fraction: bool, zone: bool, white: bool) -> Repeats:
    """For times with seconds and these other parts; `white`: no zone, but white space."""
    digit = "[0-9]"
    two, colon, dash, blank = Token(digit, 2, 2), Token(":"), Token("-"), Token(_ISO_WHITE)
    minute = (Token(digit, 4, 4), dash, two, dash, two, Token("[Tt ]"), two, colon, two)
    fractions = (Token("[.,]"), Token(digit, 1, 9))
    zones = (Token("[Zz+-]"), Token(digit, 0, 2), Token(":", 0), Token(digit, 0, 2))
    found = [*minute, colon, two, *(fractions if fraction else ())]
    found += (Token(_ISO_WHITE, 0), *zones) if zone else (blank,) if white else ()
    searched = [*minute, *(Token(each.chars, 0, each.most) for each in (colon, two, *fractions, blank, *zones))]
    seconds = rf"{_ISO_MINUTE}:\d{{2}}" + ("[.,]" if fraction else "")
    rest = f"{_ISO_WHITE}?(?:{_ISO_ZONE})" if zone else _ISO_WHITE if white else ""
    shapes = tuple(found), tuple(searched)
    return Repeats(seconds, rest, *shapes, re.ASCII) if fraction else Repeats(seconds + rest, None, *shapes, re.ASCII)


def epoch() -> Format:
    """Seconds since the epoch, with or without a fraction."""
    regex = r"(?<![\d.])(\d{9,10})(?:\.(\d{1,9}))?(?![\d.])" + _NOTHING
    return Format(lambda _blank: regex, lambda match: _epoch_repeats(match[2] is not None), re.ASCII)


@lru_cache
def _epoch_repeats(fraction: bool) -> Repeats:
    digit, point, more = "[0-9]", Token(r"\."), Token("[0-9.]", 0)  # one more character is looked at
    seconds = Token(digit, 9, 10)
    searched = (seconds, Token(point.chars, 0), Token(digit, 0, 9), more)
    regex = r"(?<![\d.])\d{9,10}"
    if not fraction:
        return Repeats(regex, None, (seconds,), searched, re.ASCII)
    return Repeats(regex + point.chars, "", (seconds, point, Token(digit, 1, 9)), searched, re.ASCII)
