"""The ledger held against the tree: which of the files that S3 has are still here, and which are gone.

Gone means that the name is not there, or that a directory has taken it. What can't be looked at is neither: a sweep
ends with the first error, and so proves nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby

from agent.uploads.directory import Directory
from agent.uploads.mounts import Mounts
from agent.uploads.names import from_text
from agent.uploads.rows import Kept, Read, pages
from agent.uploads.tree import Walk, stamp_of


@dataclass(slots=True)
class Page:
    """Some rows of the ledger, told apart; `here` are regular files as they were when S3 confirmed them."""

    gone: list[Kept] = field(default_factory=list)
    here: list[Kept] = field(default_factory=list)


class Sweep:
    """One look at all rows of a directory, page by page."""

    def __init__(self, directory: Directory, read: Read, mounts: Mounts | None = None) -> None:
        """`mounts`: file systems below the root, of which what belongs to one that is not mounted is not gone."""
        self._directory = directory
        self._pages = pages(read, directory.place, directory.prefix)
        self._mounts = mounts

    def advance(self) -> Page | None:
        """The next page; None: that was all. Raises OSError, DatabaseError."""
        rows = next(self._pages, None)
        if rows is None:
            return None
        walk = Walk(self._directory.path, follow=self._directory.follow)
        try:
            return self._sort(walk, rows)
        finally:
            walk.close()

    def _sort(self, walk: Walk, rows: list[Kept]) -> Page:
        page = Page()
        for folder, group in _by_folder(rows):
            descriptor = enter(walk, from_text(folder))
            for row in group:
                relative = from_text(row.path)
                if not self._is_meant(row.path, relative):
                    continue
                found = None if descriptor is None else look(descriptor, relative.rpartition("/")[2])
                if found is None:
                    page.gone.append(row)
                elif stat.S_ISREG(found.st_mode) and stamp_of(found) == row.stamp:
                    page.here.append(row)
        return page

    def _is_meant(self, path: str, relative: str) -> bool:
        """What is excluded by now is left alone, and what is on a file system that is not mounted."""
        filter_ = self._directory.filter
        if not (filter_.takes_all or (filter_.reaches(relative) and filter_.takes_file(relative))):
            return False
        return self._mounts is None or not self._mounts.hides(path)


def enter(walk: Walk, folder: str) -> int | None:
    """The descriptor of a directory of the tree; None: it is gone. Raises OSError; so does a link in its place."""
    try:
        return walk.enter(folder)
    except (FileNotFoundError, NotADirectoryError):
        _require_no_link(walk, folder)
        return None


def look(descriptor: int, name: str) -> os.stat_result | None:
    """What a name in a directory is; None: nothing, or a directory, so that the file is gone. Raises OSError."""
    try:
        found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return None if stat.S_ISDIR(found.st_mode) else found


def is_here(directory: Directory, path: str) -> bool:
    """Whether a file, whose path is given as text, is there; not, if that can't be seen."""
    folder, _, name = from_text(path).rpartition("/")
    try:
        with closing(Walk(directory.path, follow=directory.follow)) as walk:
            descriptor = enter(walk, folder)
            return descriptor is not None and look(descriptor, name) is not None
    except OSError:
        return False


def _require_no_link(walk: Walk, folder: str) -> None:
    """On the way to a directory that is gone there is no link: where one leads is not ours to say. Raises OSError."""
    parent = ""
    for name in folder.split("/"):
        try:
            found = os.stat(name, dir_fd=walk.enter(parent), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ENOTDIR, "a link has taken the place of a directory", folder)
        parent = f"{parent}/{name}" if parent else name


def _by_folder(rows: list[Kept]) -> Iterator[tuple[str, list[Kept]]]:
    for folder, group in groupby(rows, key=lambda row: row.folder):
        yield folder, list(group)
