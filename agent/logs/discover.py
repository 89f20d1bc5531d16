"""Which files a pattern of the configuration means, found by scanning directories; nothing is opened.

Patterns are a shell's: `*` and `?` stop at a slash and leave a leading dot alone, `[...]` is one character, `**` is
any depth of directories, `{a,b}` are alternatives. Compressed files are never meant.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar")
_MAX_DEPTH = 32  # directories below the fixed part that `**` goes down
_MAX_ALTERNATIVES = 256  # patterns that the braces of one may stand for
_MAGIC = re.compile(r"[*?\[{]")
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_CHARACTER = re.compile(r"\\.|(\[\^?\]?[^\]]*\])|\.", re.DOTALL)  # in fnmatch's regex: escaped, a class, any


@dataclass
class Scan:
    """What one look found, and which directories could not be read: an error is not absence.

    `found` are the paths that are meant, each with the fixed directory of its pattern; `odd` those of no regular
    file, as a FIFO or a device.
    """

    found: dict[str, str] = field(default_factory=dict)
    errors: dict[str, OSError] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)


class Patterns:
    """The `path` and `exclude` of one entry."""

    def __init__(self, paths: Sequence[str], exclude: Sequence[str] = ()) -> None:
        self.written = " ".join(paths)
        plain = [each for path in paths for each in _alternatives(path) if not each.endswith("/")]
        self._patterns = [_split(each) for each in plain]
        self._included = _any_of(plain)
        self._excluded = _any_of([each for path in exclude for each in _alternatives(path)]) if exclude else None

    def scan(self) -> Scan:
        """All files that exist and are meant, each once, in order of their names."""
        scan = Scan()
        for root, components in self._patterns:
            above = root.rstrip("/") + "/"
            for relative in sorted(_walk(root, components, scan)):
                scan.found.setdefault(above + relative, root)
        if self._excluded is not None:
            scan.found = {path: root for path, root in scan.found.items() if not self.excludes(path)}
        return scan

    def place(self, path: str) -> tuple[str, str]:
        """A path as the fixed directory of the pattern that it is under, and what follows; links in the former are
        the administrator's. A path under none has only `/` as such.
        """
        roots = [root for root, _ in self._patterns if path.startswith(root.rstrip("/") + "/")]
        root = max(roots, key=len, default="/")
        return root, path[len(root) :].lstrip("/")

    def excludes(self, path: str) -> bool:
        """Whether the configuration leaves the path out, compressed or not."""
        return self._excluded is not None and (self._excluded(path) or self._excluded(path.rpartition("/")[2]))

    def means(self, path: str) -> bool:
        """Whether a scan would find a file of that path, as far as the path alone can tell."""
        return self._included(path) and not path.endswith(COMPRESSED) and not self.excludes(path)


def _split(pattern: str) -> tuple[str, list[str]]:
    """A pattern as its fixed directory and what follows."""
    components = [part for part in pattern.split("/") if part]
    fixed = 0
    while fixed < len(components) - 1 and not _MAGIC.search(components[fixed]):
        fixed += 1
    return "/" + "/".join(components[:fixed]), components[fixed:]


def _alternatives(pattern: str) -> list[str]:
    """The patterns that the braces of `pattern` stand for."""
    start = pattern.find("{")
    end = _closing(pattern, start)
    if start < 0 or end < 0:
        return [re.sub("//+", "/", pattern)]
    head, tail = pattern[:start], pattern[end + 1 :]
    choices = _commas(pattern[start + 1 : end])
    found = [plain for choice in choices for plain in _alternatives(head + choice + tail)]
    return found[:_MAX_ALTERNATIVES]


def _closing(text: str, start: int) -> int:
    depth = 0
    for index in range(max(start, 0), len(text) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return -1


def _commas(text: str) -> list[str]:
    """Split at the commas that are in no inner braces."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def _any_of(patterns: Iterable[str]) -> Callable[[str], bool]:
    compiled = [re.compile(_regex(pattern), re.DOTALL) for pattern in patterns]
    return lambda text: any(pattern.fullmatch(text) for pattern in compiled)


def _regex(pattern: str) -> str:
    """A whole-path regex, where `**` crosses slashes and nothing else does."""
    components = pattern.split("/")
    *above, last = ["(?:.*/)?" if part == "**" else f"{_component(part)}/" for part in components]
    return "".join(above) + (".*" if components[-1] == "**" else last.removesuffix("/"))


def _component(part: str) -> str:
    """The regex of one component: fnmatch's, but never across a slash."""
    translated = fnmatch.translate(part)[4:-3]  # without `(?s:` and `)\\Z`
    return _CHARACTER.sub(_within_a_component, translated)


def _within_a_component(found: re.Match[str]) -> str:
    if found.group() == ".":
        return "[^/]"
    return f"(?!/){found.group()}" if found.group(1) else found.group()


def _walk(directory: str, components: list[str], scan: Scan, depth: int = 0) -> Iterator[str]:
    """Names of files below `directory` that the components mean, relative to it."""
    head, rest = components[0], components[1:]
    if head == "**":
        yield from _walk_deep(directory, rest or ["*"], scan, depth)
    elif not _MAGIC.search(head):
        yield from _walk_fixed(directory, head, rest, scan, depth)
    else:
        matches = re.compile(_component(head), re.DOTALL).fullmatch
        entries = [entry for entry in _entries(directory, scan) if matches(entry.name)]
        if not head.startswith("."):
            entries = [entry for entry in entries if not entry.name.startswith(".")]
        yield from _take(directory, entries, rest, scan, depth)


def _walk_fixed(directory: str, name: str, rest: list[str], scan: Scan, depth: int) -> Iterator[str]:
    path = os.path.join(directory, name)
    if rest:
        yield from (os.path.join(name, below) for below in _walk(path, rest, scan, depth))
        return
    try:
        if not name.endswith(COMPRESSED) and not stat.S_ISDIR(os.stat(path).st_mode):
            yield name
    except OSError as error:
        _note(path, error, scan)


def _walk_deep(directory: str, rest: list[str], scan: Scan, depth: int) -> Iterator[str]:
    yield from _walk(directory, rest, scan, depth)
    if depth >= _MAX_DEPTH:
        return
    for entry in _entries(directory, scan):
        if not entry.name.startswith(".") and _is(entry, os.DirEntry.is_dir, scan, follow_symlinks=False):
            below = _walk_deep(os.path.join(directory, entry.name), rest, scan, depth + 1)
            yield from (os.path.join(entry.name, name) for name in below)


def _take(directory: str, entries: list[os.DirEntry[str]], rest: list[str], scan: Scan, depth: int) -> Iterator[str]:
    for entry in entries:
        name = entry.name
        if rest:
            if _is(entry, os.DirEntry.is_dir, scan):
                below = _walk(os.path.join(directory, name), rest, scan, depth)
                yield from (os.path.join(name, each) for each in below)
        elif name.endswith(COMPRESSED):
            continue
        elif _is(entry, os.DirEntry.is_file, scan):
            yield name
        elif not entry.is_symlink() and not _is(entry, os.DirEntry.is_dir, scan):  # a link may lead nowhere yet
            scan.odd.append(entry.path)


def _is(entry: os.DirEntry[str], kind: Callable[..., bool], scan: Scan, **how: bool) -> bool:
    """Whether an entry is of that kind; where a link leads can be hidden, or nowhere."""
    try:
        return kind(entry, **how)
    except OSError as error:
        _note(entry.path, error, scan)
        return False


def _entries(directory: str, scan: Scan) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError as error:
        _note(directory, error, scan)
        return []


def _note(path: str, error: OSError, scan: Scan) -> None:
    if error.errno not in _ABSENT:
        scan.errors[path] = error
