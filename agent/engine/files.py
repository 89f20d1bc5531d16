"""The one way to open a user's file: a walk by directory descriptors, since enemies may place files and links.

Between a check by name and an open by name anything can be swapped; between two steps of a walk by descriptors
nothing can. openat2 would say it in one call, but a seccomp filter of systemd (RestrictSUIDSGID) answers it with
ENOSYS. Sources: open(2), path_resolution(7), systemd.exec(5).
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LEAF = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MAX_LINKS = 40  # links followed in one path, as the kernel's own bound (path_resolution(7))
_CAP_DAC_READ_SEARCH = 2  # bit of capabilities(7); root holds it too


class FileRefused(OSError):
    """A file that we will not read, although we could.

    FileRefused (an OSError, errno set)
    ├── LinkRefused   a symbolic link that policy does not follow: name the target itself in the configuration
    ├── NotRegular    a FIFO, socket, device or directory: exclude it
    └── ManyLinks     a file with several names, while this process may read everything: exclude it, or run
                      without CAP_DAC_READ_SEARCH
    """


class LinkRefused(FileRefused):
    """A symbolic link that is not followed."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(errno.ELOOP, f"symbolic link not followed: {why}", path)


class NotRegular(FileRefused):
    """Not a regular file."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, "not a regular file", path)


class ManyLinks(FileRefused):
    """A hard link may be an enemy's name for a file that only we can read."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EMLINK, "has several hard links and this process may read every file", path)


@dataclass(frozen=True, slots=True)
class Links:
    """Which symbolic links are followed below the fixed part of a configured path.

    `owned`: where the link and its directory belong to root or to the target's owner (logs).
    `inside`: where the target stays below the root (uploads with follow_symlinks). Neither: none.
    """

    owned: bool = False
    inside: bool = False


NO_LINKS = Links()
OWNED_LINKS = Links(owned=True)
INSIDE_LINKS = Links(inside=True)


def open_regular(root: str, relative: str, links: Links = NO_LINKS, *, privileged: bool | None = None) -> int:
    """A descriptor, for reading, of the regular file `relative` below the directory `root`.

    Links in `root` are the administrator's and resolved. Raises FileRefused, or OSError as open(2) does.
    `privileged` says whether this process may read every file (None: look).
    """
    walk = _Walk(root, relative, links)
    try:
        descriptor = walk.open()
    finally:
        walk.close()
    try:
        _check(descriptor, os.path.join(root, relative), may_read_everything() if privileged is None else privileged)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def may_read_everything() -> bool:
    """Whether this process holds CAP_DAC_READ_SEARCH in effect (capabilities(7))."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_DAC_READ_SEARCH & 1)
    return os.geteuid() == 0


def _check(descriptor: int, path: str, privileged: bool) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise NotRegular(path)
    if privileged and found.st_nlink > 1:
        raise ManyLinks(path)
    os.set_blocking(descriptor, True)


class _Walk:
    """One walk from a root, component by component; `..` of a link's target goes back up the descriptors."""

    def __init__(self, root: str, relative: str, links: Links) -> None:
        self._path = os.path.join(root, relative)
        self._links = links
        self._stack = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        self._floor = 1  # descriptors that belong to the root itself
        self._todo = _components(relative, self._path)
        self._followed: list[tuple[int, int]] = []  # owners of each link followed and of its directory

    def open(self) -> int:
        while len(self._todo) > 1:
            self._enter(self._todo.pop(0))
        leaf = self._todo.pop(0) if self._todo else "."
        try:
            descriptor = os.open(leaf, _LEAF, dir_fd=self._stack[-1])
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise OSError(error.errno, error.strerror, self._path) from None
            self._follow(leaf)
            return self.open()
        self._judge(descriptor)
        return descriptor

    def close(self) -> None:
        for descriptor in self._stack:
            os.close(descriptor)

    def _enter(self, name: str) -> None:
        if name == "..":
            self._leave()
            return
        try:
            self._stack.append(os.open(name, _DIRECTORY, dir_fd=self._stack[-1]))
        except OSError as error:
            if error.errno != errno.ENOTDIR or not self._is_link(name):
                raise OSError(error.errno, error.strerror, self._path) from None
            self._follow(name)

    def _leave(self) -> None:
        """One directory up, which only a link's target may ask for."""
        if len(self._stack) > self._floor:
            os.close(self._stack.pop())
        elif self._links.inside:
            raise LinkRefused(self._path, "its target lies outside the tree")
        else:
            above = os.open("..", _DIRECTORY, dir_fd=self._stack[-1])
            os.close(self._stack.pop())
            self._stack.append(above)

    def _is_link(self, name: str) -> bool:
        return stat.S_ISLNK(os.stat(name, dir_fd=self._stack[-1], follow_symlinks=False).st_mode)

    def _follow(self, name: str) -> None:
        """Put the target of the link `name` in its place on the way."""
        if not (self._links.owned or self._links.inside):
            raise LinkRefused(self._path, "links are not followed here")
        if len(self._followed) >= _MAX_LINKS:
            raise LinkRefused(self._path, "too many links")
        here = self._stack[-1]
        link = os.stat(name, dir_fd=here, follow_symlinks=False)
        self._followed.append((link.st_uid, os.fstat(here).st_uid))
        target = os.readlink(name, dir_fd=here)
        if target.startswith("/"):
            self._start_over()
        self._todo[:0] = [part for part in target.split("/") if part not in ("", ".")]

    def _start_over(self) -> None:
        if self._links.inside:
            raise LinkRefused(self._path, "its target is an absolute path")
        self.close()
        self._stack = [os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]

    def _judge(self, descriptor: int) -> None:
        """Each link followed, and its directory, must belong to root or to the owner of what it led to."""
        if not self._links.owned or not self._followed:
            return
        trusted = {0, os.fstat(descriptor).st_uid}
        for link_owner, directory_owner in self._followed:
            if link_owner not in trusted or directory_owner not in trusted:
                os.close(descriptor)
                raise LinkRefused(self._path, "it belongs to neither root nor the owner of its target")


def _components(relative: str, path: str) -> list[str]:
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    if ".." in parts or relative.startswith("/"):
        raise LinkRefused(path, "the name is not below its root")
    return parts
