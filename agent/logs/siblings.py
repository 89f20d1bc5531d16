"""One look at a directory: which files have an inode, and which may be what a rotation made of a log, by their names.

app.log becomes app.log.1, app.log-20261124, app.log.old, app.1.log, app-20261124.log, and each of them compressed.
app-2.log is another log.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from agent.logs.discover import COMPRESSED
from agent.logs.identity import Glimpse, glimpse

_MOST = 100_000  # names of a directory that are looked at
_BEHIND = re.compile(r"[-._]\d[\dTZ:_.+-]*|\.(?:old|prev|bak|orig)")  # follows the whole name
_WITHIN = re.compile(r"\.\d{1,4}|[-._]\d[\dTZ:_.+-]{5,}")  # stands before the suffix
_START = re.compile(r"[-._]\d|\.(?:old|prev|bak|orig)$")


@dataclass(frozen=True, slots=True)
class Sibling:
    """A regular file whose name says that it may be a rotated log."""

    path: str
    seen: Glimpse
    compressed: bool


class Listing:
    """The regular files of a directory at one moment."""

    def __init__(self, directory: str) -> None:
        """Nothing is in a directory that does not exist. Raises OSError."""
        self._directory = directory
        self._inodes: dict[int, list[str]] = defaultdict(list)
        self._names: list[str] = []
        try:
            with os.scandir(directory) as entries:
                for _, entry in zip(range(_MOST), entries, strict=False):
                    if entry.is_file(follow_symlinks=False):
                        self._names.append(entry.name)
                        self._inodes[entry.inode()].append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return

    def of_inode(self, inode: int) -> list[str]:
        """Paths of the files of that inode."""
        return [os.path.join(self._directory, name) for name in self._inodes.get(inode, ())]

    def rotated(self, names: Iterable[str], since: int) -> list[Sibling]:
        """What rotations may have made of logs of those names, born at `since` (ns) or later, the first born first.

        None where the file system knows no birth times, or `since` is 0.
        """
        found = []
        for name in {name for before in names for name in self._rotated.get(before, ())}:
            beside = os.path.join(self._directory, name)
            seen = glimpse(beside)
            if seen is not None and seen.regular and 0 < since <= seen.born:
                found.append(Sibling(beside, seen, name.endswith(COMPRESSED)))
        return sorted(found, key=lambda sibling: (sibling.seen.born, sibling.path))

    @cached_property
    def _rotated(self) -> dict[str, list[str]]:
        """Names by what they may have been before."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in self._names:
            for before in set(names_before(name)):
                found[before].append(name)
        return found


class Listings:
    """Each directory looked at once, for as long as this lives: one pass over files that are not where they were."""

    def __init__(self) -> None:
        self._known: dict[str, Listing] = {}

    def of(self, path: str) -> Listing:
        """That of the directory in which `path` lies. Raises OSError."""
        directory = os.path.dirname(path)
        if directory not in self._known:
            self._known[directory] = Listing(directory)
        return self._known[directory]


def names_before(name: str) -> Iterator[str]:
    """The names that a file may have had before it was rotated, if its name says that it was."""
    plain, packed = os.path.splitext(name)
    if packed in COMPRESSED:
        yield plain
    else:
        plain = name
    for match in _START.finditer(plain):
        if match.start() and _BEHIND.fullmatch(plain, match.start()):
            yield plain[: match.start()]
    stem, suffix = os.path.splitext(plain)
    for match in _START.finditer(stem):
        if suffix and match.start() and _WITHIN.fullmatch(stem, match.start()):
            yield stem[: match.start()] + suffix
