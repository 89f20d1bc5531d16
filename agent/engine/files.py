"""The one way to open a user's file: a walk by directory descriptors, since enemies may place files and links.

Between a check by name and an open by name anything can be swapped; between two steps of a walk by descriptors
nothing can. What is found is looked at before it is opened: the mere opening of a device moves it, and that of a
FIFO lets go a writer that waits for its true reader.

openat2 would say the walk in one call, but a seccomp filter of systemd (RestrictSUIDSGID) answers it with ENOSYS.
Sources: open(2), path_resolution(7), systemd.exec(5).
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing
from dataclasses import dataclass

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NODE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC  # names a file of any kind, also a link, without opening it
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # O_NONBLOCK: another's lease does not hold us up
_MAX_LINKS = 40  # links followed in one path, as the kernel's own bound (path_resolution(7))
_MAX_DEPTH = 256  # directories below the root; bounds the descriptors that a walk holds
_READS_ALL = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of capabilities(7); root holds both


class FileRefused(OSError):
    """A file that we will not read, although we could.

    FileRefused (an OSError, errno set)
    ├── LinkRefused   a symbolic link that policy does not follow: name the target itself in the configuration
    ├── NotRegular    a FIFO, socket, device or directory: exclude it
    ├── TooDeep       more directories below the root than a walk goes down: begin the path further below
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


class TooDeep(FileRefused):
    """Too many directories, one in the other."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ENAMETOOLONG, f"more than {_MAX_DEPTH} directories below its root", path)


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

    Links in `root` are the administrator's and resolved. Raises FileRefused, or OSError as open(2) does;
    BlockingIOError where another process holds a lease on the file (fcntl(2)). `privileged` says whether this
    process may read every file (None: look).
    """
    path = os.path.join(root, relative)
    parts = _components(relative, path)
    with closing(_Walk(root, parts, path, links)) as walk:
        node = walk.find()
        try:
            walk.judge(node)
            _check(node, path, privileged)
            return _open_for_reading(node, path)
        finally:
            os.close(node)


def may_read_everything() -> bool:
    """Whether this process may read what no permission grants it (capabilities(7))."""
    with open("/proc/self/status", "rb") as status:  # as bytes: looking up a codec needs a descriptor, too
        for line in status:
            if line.startswith(b"CapEff:"):
                return bool(int(line.split()[1], 16) & _READS_ALL)
    return os.geteuid() == 0


def _check(node: int, path: str, privileged: bool | None) -> None:
    found = os.fstat(node)
    if not stat.S_ISREG(found.st_mode):
        raise NotRegular(path)
    if found.st_nlink > 1 and (may_read_everything() if privileged is None else privileged):
        raise ManyLinks(path)


def _open_for_reading(node: int, path: str) -> int:
    """The very file that was looked at, by its descriptor: its name may be another's by now (proc_pid_fd(5))."""
    try:
        descriptor = os.open(f"/proc/self/fd/{node}", _READ)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    os.set_blocking(descriptor, True)
    return descriptor


class _Walk:
    """One walk from a root, component by component; `..` of a link's target goes back up the descriptors."""

    def __init__(self, root: str, parts: list[str], path: str, links: Links) -> None:
        self._path = path
        self._links = links
        self._todo = parts
        self._followed: list[tuple[int, int]] = []  # owners of each link followed and of its directory
        self._stack = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]  # from the root to here

    def find(self) -> int:
        """A descriptor (O_PATH) of what the name leads to, which is no link."""
        while self._todo:
            name = self._todo.pop(0)
            if name == "..":
                self._leave()
            elif self._todo:
                self._enter(name)
            else:
                node = self._open(name, _NODE)
                if not _is_link(node):
                    return node
                self._follow(node)
        return os.dup(self._stack[-1])

    def judge(self, node: int) -> None:
        """Each link followed, and its directory, must belong to root or to the owner of what it led to."""
        if not self._links.owned:
            return
        trusted = {0, os.fstat(node).st_uid}
        if any(not trusted.issuperset(owners) for owners in self._followed):
            raise LinkRefused(self._path, "it belongs to neither root nor the owner of its target")

    def close(self) -> None:
        while self._stack:
            os.close(self._stack.pop())

    def _enter(self, name: str) -> None:
        try:
            directory = self._open(name, _DIRECTORY)
        except NotADirectoryError:
            node = self._open(name, _NODE)
            if not _is_link(node):
                os.close(node)
                raise
            self._follow(node)
            return
        self._stack.append(directory)
        if len(self._stack) > _MAX_DEPTH:
            raise TooDeep(self._path)

    def _leave(self) -> None:
        """One directory up, which only a link's target may ask for."""
        if len(self._stack) > 1:
            os.close(self._stack.pop())
        elif self._links.inside:
            raise LinkRefused(self._path, "its target lies outside the tree")
        else:
            self._stand_in(self._open("..", _DIRECTORY))

    def _follow(self, link: int) -> None:
        """Put the link's target in its place on the way. The descriptor `link` is closed."""
        try:
            if not (self._links.owned or self._links.inside):
                raise LinkRefused(self._path, "links are not followed here")
            if len(self._followed) >= _MAX_LINKS:
                raise LinkRefused(self._path, "too many links")
            self._followed.append((os.fstat(link).st_uid, os.fstat(self._stack[-1]).st_uid))
            target = os.readlink("", dir_fd=link)
        finally:
            os.close(link)
        if target.startswith("/"):
            self._start_over()
        self._todo[:0] = [part for part in target.split("/") if part not in ("", ".")]

    def _start_over(self) -> None:
        if self._links.inside:
            raise LinkRefused(self._path, "its target is an absolute path")
        self._stand_in(os.open("/", _DIRECTORY))

    def _stand_in(self, directory: int) -> None:
        """Go on from a directory that is not below the root."""
        self.close()
        self._stack = [directory]

    def _open(self, name: str, flags: int) -> int:
        try:
            return os.open(name, flags, dir_fd=self._stack[-1])
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from None


def _is_link(node: int) -> bool:
    return stat.S_ISLNK(os.fstat(node).st_mode)


def _components(relative: str, path: str) -> list[str]:
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    if ".." in parts or relative.startswith("/"):
        raise LinkRefused(path, "the name is not below its root")
    return parts


def shown(path: str) -> str:
    """A path as text that can be written anywhere: a byte that is no UTF-8 stands as backslash, x, two digits."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
