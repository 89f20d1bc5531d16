"""What makes a file the same file: device, inode, birth time, the hash of its head, the hash of what was last read.

A path is only where a file was last seen. Inodes are given out again at once by ext4, and a file may be truncated
and grow past its old size between two looks, so the content has a word too.
"""

from __future__ import annotations

import ctypes
import os
import stat
from dataclasses import dataclass
from hashlib import blake2b

PREFIX_BYTES = 1024  # of a file's head that are hashed, once it has so many
GUARD_BYTES = 1024  # before a cursor that are hashed: some lines, for their ends alone may be the same in many
ALIKE_BYTES = 256  # that two files must have in common at least before one counts as a copy of the other
_WINDOW_BYTES = 64 << 10  # before a cursor in which what guards it must not be found twice, to tell copies by it
_DIGEST_BYTES = 16
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_STATX_BASIC = 0x7FF
_STATX_BTIME = 0x800


@dataclass(frozen=True, slots=True)
class Locator:
    """Where the kernel keeps a file. `born` is its birth time in ns; 0 where the file system has none."""

    device: int
    inode: int
    born: int

    def same_place(self, other: Locator) -> bool:
        """The same inode as far as anyone can tell; a device may be renumbered by a reboot."""
        return self.inode == other.inode and (self.born == other.born or 0 in (self.born, other.born))


def locate(descriptor: int) -> Locator:
    """The locator of an open file. Raises OSError."""
    found = os.fstat(descriptor)
    return Locator(found.st_dev, found.st_ino, _birth(descriptor))


def digest(data: bytes) -> str:
    """A short hash, in hex, that names content without keeping it."""
    return blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def prefix(descriptor: int, length: int) -> tuple[int, str]:
    """Length and hash of the head, at most `length` bytes of it. Raises OSError."""
    head = os.pread(descriptor, length, 0)
    return len(head), digest(head)


def begins(descriptor: int, head: tuple[int, str]) -> bool:
    """Whether the first bytes have the length and hash that `prefix` gave. Raises OSError."""
    return prefix(descriptor, head[0]) == head


def tells(descriptor: int, offset: int) -> bool:
    """Whether the last bytes before `offset` say anything: not if they were written many times. Raises OSError."""
    start = max(0, offset - _WINDOW_BYTES)
    window = os.pread(descriptor, offset - start, start)
    last = window[-min(GUARD_BYTES, max(1, len(window) // 2)) :]
    return window.find(last) == len(window) - len(last)


def guard(descriptor: int, offset: int, most: int = GUARD_BYTES) -> tuple[int, str]:
    """Length and hash of the last bytes before `offset`, `most` at most. Raises OSError."""
    length = min(most, offset)
    return length, digest(os.pread(descriptor, length, offset - length))


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What the kernel says of a name; nothing is opened, no link followed. `born` as in Locator, `size` in bytes."""

    inode: int
    born: int
    size: int
    regular: bool


def glimpse(path: str) -> Glimpse | None:
    """None where there is nothing, or nothing may be seen."""
    found = _ask(_AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW)
    if found is None:
        return None
    return Glimpse(found.inode, _nanoseconds(found), found.size, stat.S_ISREG(found.mode))


class _Timestamp(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_uint32), ("_pad", ctypes.c_int32)]


class _Statx(ctypes.Structure):
    """The head of struct statx, up to the birth time (statx(2))."""

    _fields_ = [
        ("mask", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("attributes", ctypes.c_uint64),
        ("links", ctypes.c_uint32),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("mode", ctypes.c_uint16),
        ("_pad", ctypes.c_uint16),
        ("inode", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("blocks", ctypes.c_uint64),
        ("attributes_mask", ctypes.c_uint64),
        ("accessed", _Timestamp),
        ("born", _Timestamp),
        ("rest", ctypes.c_uint8 * 160),
    ]


_statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)


def _birth(descriptor: int) -> int:
    """Birth time in ns, 0 if unknown: Python's os module has no statx before 3.15."""
    found = _ask(descriptor, b"", _AT_EMPTY_PATH)
    return 0 if found is None else _nanoseconds(found)


def _ask(directory: int, path: bytes, flags: int) -> _Statx | None:
    if _statx is None:
        return None
    found = _Statx()
    status = _statx(directory, path, flags, _STATX_BASIC | _STATX_BTIME, ctypes.byref(found))
    return None if status != 0 else found


def _nanoseconds(found: _Statx) -> int:
    if not found.mask & _STATX_BTIME:
        return 0
    return int(found.born.seconds) * 1_000_000_000 + int(found.born.nanoseconds)
