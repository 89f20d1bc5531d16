"""A tree of directories, walked by descriptors: between two steps nothing can be swapped for a link.

Links are never followed, unless told, and then only to what lies inside the tree. Sources: openat(2), readlinkat(2),
path_resolution(7).
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from agent.engine.files import LinkRefused

Stamp = tuple[int, int, int, int]
"""What changes when a file does: size in bytes, mtime and ctime in ns, inode; mtime and inode modulo 2**63."""

MASK = (1 << 63) - 1  # what a column of SQLite holds; anyone may set an mtime beyond the year 2262
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_DEPTH = 128  # directories below the root, each with a descriptor while the walk is in it
_MAX_LINKS = 40  # links resolved for one name, as the kernel's own bound (path_resolution(7))
_MAX_LINKED = 3  # linked directories in one path: links to one another would make a tree without end


class TreeTooDeep(OSError):
    """A directory below too many others: move it up, or exclude it."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ELOOP, f"more than {_MAX_DEPTH} directories deep", path)


def stamp_of(found: os.stat_result) -> Stamp:
    return found.st_size, found.st_mtime_ns & MASK, found.st_ctime_ns, found.st_ino & MASK


@dataclass(slots=True)
class _Level:
    """A directory that the walk is in: its name, its descriptor, and where it really is, below the root."""

    name: str
    descriptor: int
    physical: tuple[str, ...]
    linked: int  # links among it and those above


class Walk:
    """A place in a tree; moving to a neighbour opens only what is new."""

    def __init__(self, root: str, *, follow: bool) -> None:
        """Raises OSError. Links in `root` are the administrator's and resolved."""
        self._root = root
        self._follow = follow
        self._levels = [_Level("", os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), (), 0)]

    def enter(self, relative: str) -> int:
        """Move to a directory of the tree ("" is the root); its descriptor, good until the next move.

        Raises OSError, LinkRefused among them.
        """
        names = relative.split("/") if relative else []
        if len(names) > _MAX_DEPTH:
            raise TreeTooDeep(os.path.join(self._root, relative))
        shared = 0
        while shared < min(len(names), len(self._levels) - 1) and self._levels[shared + 1].name == names[shared]:
            shared += 1
        self._leave(shared + 1)
        for name in names[shared:]:
            self._levels.append(self._open(name))
        return self._levels[-1].descriptor

    def stat(self, name: str) -> os.stat_result:
        """A name in the present directory: of a link, where links are followed, what it leads to. Raises OSError."""
        here = self._levels[-1]
        found = os.stat(name, dir_fd=here.descriptor, follow_symlinks=False)
        if not (self._follow and stat.S_ISLNK(found.st_mode)):
            return found
        names = self._resolve(here, name)
        if not names:
            return os.fstat(self._levels[0].descriptor)
        *parents, last = names
        descriptor = self._descend(parents)
        try:
            return os.stat(last, dir_fd=descriptor, follow_symlinks=False)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        self._leave(0)

    def _leave(self, kept: int) -> None:
        while len(self._levels) > kept:
            os.close(self._levels.pop().descriptor)

    def _open(self, name: str) -> _Level:
        here = self._levels[-1]
        try:
            descriptor = os.open(name, _DIRECTORY, dir_fd=here.descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP) or not self._follow:
                raise OSError(error.errno, error.strerror, self._path(name)) from None
            return self._open_link(here, name)
        return _Level(name, descriptor, (*here.physical, name), here.linked)

    def _open_link(self, here: _Level, name: str) -> _Level:
        if here.linked >= _MAX_LINKED:
            raise LinkRefused(self._path(name), f"it is below {_MAX_LINKED} linked directories already")
        physical = self._resolve(here, name)
        descriptor = self._descend(physical)
        if any(os.path.sameopenfile(descriptor, level.descriptor) for level in self._levels):
            os.close(descriptor)
            raise LinkRefused(self._path(name), "it leads to a directory above itself")
        return _Level(name, descriptor, tuple(physical), here.linked + 1)

    def _resolve(self, here: _Level, name: str) -> list[str]:
        """The names, below the root and free of links, of what `name` leads to."""
        found, todo, links = list(here.physical), [name], 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                if not found:
                    raise LinkRefused(self._path(name), "its target lies outside the tree")
                found.pop()
                continue
            target = self._read_link(found, part)
            if target is None:
                found.append(part)
                continue
            links += 1
            if target.startswith("/") or links > _MAX_LINKS:
                raise LinkRefused(self._path(name), "its target is an absolute path, or too many links away")
            todo[:0] = [each for each in target.split("/") if each not in ("", ".")]
        return found

    def _read_link(self, parents: list[str], name: str) -> str | None:
        """What a link says; None where the name is no link."""
        descriptor = self._descend(parents)
        try:
            return os.readlink(name, dir_fd=descriptor)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise
        finally:
            os.close(descriptor)

    def _descend(self, names: list[str]) -> int:
        """A new descriptor of the directory of these names below the root, none of which may be a link."""
        descriptor = os.open(".", _DIRECTORY, dir_fd=self._levels[0].descriptor)
        for name in names:
            try:
                below = os.open(name, _DIRECTORY, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    def _path(self, name: str) -> str:
        return os.path.join(self._root, *(level.name for level in self._levels[1:]), name)
