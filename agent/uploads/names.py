"""File names as text, and back: an object's key must be UTF-8, a file's name need not be.

The rule: a byte that is not UTF-8 is written as `‛` (U+201B) and its two hexadecimal digits in upper case, as in
`bad‛FFname`; a `‛` of the name itself is doubled. Every other name is its own text. No two names have the same text.
"""

from __future__ import annotations

import re

QUOTE = "\u201b"
_NEEDS_QUOTING = re.compile(f"[\udc80-\udcff{QUOTE}]")
_QUOTED = re.compile(f"{QUOTE}(?:{QUOTE}|([0-9A-F]{{2}}))")


def to_text(name: str) -> str:
    """A name or relative path, as os.fsdecode gives it, as text that UTF-8 can carry."""
    return name if name.isascii() else _NEEDS_QUOTING.sub(_quote, name)


def from_text(text: str) -> str:
    """The name whose text this is."""
    return text if text.isascii() else _QUOTED.sub(_unquote, text)


def _quote(match: re.Match[str]) -> str:
    found = match.group()
    return QUOTE + (QUOTE if found == QUOTE else f"{ord(found) - 0xDC00:02X}")


def _unquote(match: re.Match[str]) -> str:
    digits = match.group(1)
    return QUOTE if digits is None else chr(0xDC00 + int(digits, 16))
