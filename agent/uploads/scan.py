"""One look at a tree, in slices: which files are not what the ledger says. It is the truth; events are hints."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from agent.engine.files import LinkRefused
from agent.uploads.globs import Filter
from agent.uploads.names import to_text
from agent.uploads.tree import MASK, Stamp, Walk

_MAX_WAITING = 200_000  # directories found and not yet read
_MAX_ERRORS = 1_000  # directories that could not be read, by name
_MAX_REFUSED = 1_000  # files that S3 will not take, by name
_GONE = (errno.ENOENT, errno.ENOTDIR)

Row = tuple[str, int, int, int, int]
"""A name in a directory, as text (agent.uploads.names), and the file's stamp."""

Known = Callable[[str, Sequence[Row]], set[Row]]
"""What the ledger says of a directory: its rows of the names in some rows, and perhaps of others."""

_Seen = tuple[str, os.stat_result]


@dataclass(slots=True)
class Tally:
    """What a scan has seen so far."""

    files: int = 0
    directories: int = 0
    owed: int = 0  # files that differ from the ledger and that S3 can take
    refused: dict[str, str] = field(default_factory=dict)  # file that S3 will not take -> why
    more_refused: int = 0
    skipped: Counter[str] = field(default_factory=Counter)  # kind -> how many
    errors: dict[str, str] = field(default_factory=dict)  # directory -> why it could not be read
    more_errors: int = 0

    def fail(self, directory: str, why: str) -> None:
        if len(self.errors) < _MAX_ERRORS:
            self.errors[directory] = why
        else:
            self.more_errors += 1

    def refuse(self, file: str, why: str) -> None:
        if len(self.refused) < _MAX_REFUSED:
            self.refused[file] = why
        else:
            self.more_refused += 1


class Scan:
    """A scan of `start` ("": everything) and all below it. Close it, also halfway."""

    def __init__(self, root: str, filter_: Filter, known: Known, *, follow: bool, start: str = "") -> None:
        """Raises OSError where the root can't be opened."""
        self.start = start
        self.tally = Tally()
        self.done = False
        self._filter = filter_
        self._known = known
        self._follow = follow
        self._walk = Walk(root, follow=follow)
        self._waiting = [start]
        self._open: _Open | None = None

    def advance(self, budget: int) -> list[tuple[str, Stamp]]:
        """Look at about `budget` more entries; the relative paths and stamps of files that differ."""
        found: list[tuple[str, Stamp]] = []
        while budget > 0 and not self.done:
            if self._open is None:
                budget -= 1
                self._next_directory()
            else:
                budget -= self._read(self._open, budget, found)
        return found

    def close(self) -> None:
        self.done = True
        self._leave()
        self._walk.close()

    def _next_directory(self) -> None:
        if not self._waiting:
            self.close()
            return
        relative = self._waiting.pop()
        try:
            self._open = _Open(relative, self._walk.enter(relative))
        except LinkRefused:
            self.tally.skipped["link"] += 1
        except OSError as error:
            self._say(relative, error)
        else:
            self.tally.directories += 1

    def _read(self, here: _Open, budget: int, found: list[tuple[str, Stamp]]) -> int:
        """Some entries of a directory; how many."""
        try:
            entries = list(islice(here.entries, budget))
        except OSError as error:
            self._say(here.relative, error)
            self._leave()
            return 1
        files = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
        seen = self._stat(here, files)
        if len(files) < len(entries):
            seen += self._others(here, entries)
        if seen:
            self._compare(here, seen, found)
        if len(entries) < budget:
            self._leave()
        return len(entries) + 1

    def _stat(self, here: _Open, files: list[os.DirEntry[str]]) -> list[_Seen]:
        """The files that are meant."""
        if not self._filter.takes_all:
            takes, prefix = self._filter.takes_file, here.prefix
            files = [entry for entry in files if takes(prefix + entry.name)]
        try:
            return [(entry.name, entry.stat(follow_symlinks=False)) for entry in files]
        except OSError:
            return [seen for entry in files for seen in self._stat_one(here, entry)]

    def _stat_one(self, here: _Open, entry: os.DirEntry[str]) -> list[_Seen]:
        """A file that may be gone since it was listed, which is no error."""
        try:
            return [(entry.name, entry.stat(follow_symlinks=False))]
        except OSError as error:
            self._say(here.prefix + entry.name, error)
            return []

    def _others(self, here: _Open, entries: list[os.DirEntry[str]]) -> list[_Seen]:
        """Put directories in line, count what is neither directory nor file; the files that links lead to."""
        seen: list[_Seen] = []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                self._line_up(here.prefix + entry.name)
            elif entry.is_symlink():
                seen += self._link(here.prefix + entry.name, entry.name)
            elif not entry.is_file(follow_symlinks=False) and self._filter.takes_file(here.prefix + entry.name):
                self.tally.skipped["special"] += 1
        return seen

    def _link(self, relative: str, name: str) -> list[_Seen]:
        if not self._filter.enters(relative):
            return []
        found = self._target(name) if self._follow else None
        if found is None:
            self.tally.skipped["link"] += 1
        elif stat.S_ISDIR(found.st_mode):
            self._line_up(relative)
        elif stat.S_ISREG(found.st_mode) and self._filter.takes_file(relative):
            return [(name, found)]
        return []

    def _target(self, name: str) -> os.stat_result | None:
        """What a link leads to, inside the tree."""
        try:
            return self._walk.stat(name)
        except OSError:
            return None

    def _line_up(self, relative: str) -> None:
        if not self._filter.enters(relative):
            return
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.append(relative)
        else:
            self.tally.fail(relative, f"more than {_MAX_WAITING} directories wait to be read")

    def _compare(self, here: _Open, seen: list[_Seen], found: list[tuple[str, Stamp]]) -> None:
        rows = [
            (
                name if name.isascii() else to_text(name),
                each.st_size,
                each.st_mtime_ns & MASK,
                each.st_ctime_ns,
                each.st_ino & MASK,
            )
            for name, each in seen
        ]
        self.tally.files += len(rows)
        known = self._known(here.text, rows)
        if not known.issuperset(rows):
            found += [
                (here.prefix + name, row[1:]) for (name, _), row in zip(seen, rows, strict=True) if row not in known
            ]

    def _leave(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _say(self, relative: str, error: OSError) -> None:
        """A directory that is gone since it was listed is no error; the start of a scan must be there."""
        if error.errno not in _GONE or relative == self.start == "":
            self.tally.fail(relative, error.strerror or str(error))


class _Open:
    """A directory in the course of being read."""

    __slots__ = ("entries", "prefix", "relative", "text")

    def __init__(self, relative: str, descriptor: int) -> None:
        self.relative = relative
        self.prefix = f"{relative}/" if relative else ""
        self.text = to_text(relative)
        self.entries: Iterator[os.DirEntry[str]] = os.scandir(descriptor)

    def close(self) -> None:
        self.entries.close()  # type: ignore[attr-defined]  # a scandir iterator
