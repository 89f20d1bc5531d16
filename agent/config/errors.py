"""What can be wrong with a configuration.

ConfigError                  the configuration can't be used; the process exits with 2
├── UnreadableConfig         a file can't be opened or is no UTF-8 text: mend the path, its permissions, its encoding
├── MalformedConfig          a file is not YAML as taken here: mend the line that is named
├── InvalidConfig            keys or values are not what the reference says: mend each line that is named
└── PlaceholderError         a placeholder can't be replaced on this instance
    ├── MissingPlaceholders  it has no value here: supply one, or give a fallback, {tag:Name|web}
    └── UnfitPlaceholders    with its value, the whole is no valid name any more: shorten or change it
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

EXIT_CODE = 2  # of a process that can't use its configuration
_QUOTED_LENGTH = 60  # characters of a value that a message repeats


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about one place of the configuration: a problem, or a note.

    `line` and `column` count from 1; 0 where the whole file is meant, or where only the key is known (after loading).
    `key` is the path of the value, as `logs.files[0].group`, or empty.
    """

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        position = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return printable(": ".join(part for part in (position, self.key, self.message) if part))


class ConfigError(Exception):
    """The configuration can't be used. `problems` holds everything that was found, in the order of the files."""

    exit_code = EXIT_CODE

    def __init__(self, problems: Iterable[Finding]) -> None:
        self.problems: tuple[Finding, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class UnreadableConfig(ConfigError):
    """A file can't be opened, is too large, or is not UTF-8 text."""


class MalformedConfig(ConfigError):
    """A file is not YAML as the configuration takes it."""


class InvalidConfig(ConfigError):
    """The files were read, but hold unknown keys or wrong values."""


class PlaceholderError(ConfigError):
    """The configuration is valid, but not on this instance. The findings carry keys, not lines."""


class MissingPlaceholders(PlaceholderError):
    """Placeholders without a value here, and without a fallback."""


class UnfitPlaceholders(PlaceholderError):
    """Names that are too long, blank or reserved once their placeholders are replaced."""


def printable(text: str) -> str:
    """The text with control characters and lone surrogates escaped, so that a terminal shows it and obeys nothing."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def quoted(value: object) -> str:
    """A value as a message names it: in the user's words, and short."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "an empty value")
    if isinstance(value, str):
        return repr(value if len(value) <= _QUOTED_LENGTH else f"{value[:_QUOTED_LENGTH]}...")
    if isinstance(value, (int, float)):
        return repr(value)
    return "a list" if isinstance(value, (list, tuple)) else "a map"


def with_article(noun: str) -> str:
    """`a size`, `an S3 bucket name`."""
    vowel = noun[0] in "aeio" or noun[:2] in ("S3", "SN", "SQ", "AW")
    return f"{'an' if vowel else 'a'} {noun}"
