"""A compressed log made readable: unpacked piece by piece into a file without a name."""

from __future__ import annotations

import bz2
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable
from typing import Protocol

_READ_BYTES = 64 << 10
_MOST_AT_ONCE = 1 << 20  # bytes that one call of a decompressor may give, however well they were packed


class UnpackError(Exception):
    """A compressed file that can't be read.

    UnpackError
    ├── NotReadable   damaged, still being written, or of a kind that is not known: what is in it stays unread
    └── TooLarge      more comes out of it than may be held: raise logs.max_deleted_bytes
    """


class NotReadable(UnpackError):
    """No file of its kind, or cut off."""


class TooLarge(UnpackError):
    """More than may be held."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gzip:
    """zlib's, in the manner of bz2's and lzma's: what it could not take yet it keeps."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


_KINDS: dict[str, Callable[[], _Decompressor]] = {
    ".gz": _Gzip,
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lzma.LZMADecompressor,
}
READABLE = tuple(_KINDS)


class Unpacking:
    """One file under way. Its result is in `target`, which is the caller's in the end."""

    def __init__(self, path: str, descriptor: int, folder: str, most: int) -> None:
        """`descriptor` is kept; `folder` is where the result lies on disk, without a name; `most` bytes of it.

        Raises OSError, NotReadable.
        """
        self.path = path
        kind = _KINDS.get(os.path.splitext(path)[1])
        if kind is None:
            raise NotReadable(f"{path}: only {', '.join(READABLE)} can be unpacked")
        self._make = kind
        self._decompressor = kind()
        self._source = descriptor
        self._position = 0
        self._most = most
        self.size = 0
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            self.target = os.dup(file.fileno())

    @property
    def size_told(self) -> int | None:
        """Bytes that will come out, modulo 2**32, as gzip writes at its end (RFC 1952); None: it doesn't tell."""
        if self._make is not _Gzip:
            return None
        told = os.pread(self._source, 4, max(0, os.fstat(self._source).st_size - 4))
        return int.from_bytes(told, "little")

    def step(self, budget: int) -> bool:
        """Unpack about `budget` bytes more; True at the end. Raises OSError, UnpackError."""
        until = self.size + budget
        while self.size < until:
            if self._decompressor.eof and not self._next_member():
                return True
            self._take(self._read() if self._decompressor.needs_input else b"")
        return False

    def close(self) -> None:
        """Let go of source and result."""
        os.close(self._source)
        os.close(self.target)

    def finish(self) -> int:
        """The result's descriptor."""
        os.close(self._source)
        return self.target

    def _read(self) -> bytes:
        data = os.pread(self._source, _READ_BYTES, self._position)
        self._position += len(data)
        return data

    def _take(self, data: bytes) -> None:
        try:
            text = self._decompressor.decompress(data, _MOST_AT_ONCE)
        except (zlib.error, OSError, lzma.LZMAError, EOFError) as error:
            raise NotReadable(f"{self.path}: {error}") from None
        if not (data or text or self._decompressor.eof):
            raise NotReadable(f"{self.path}: it ends in the middle")
        self.size += len(text)
        if self.size > self._most:
            raise TooLarge(f"{self.path}: more than {self._most} bytes come out of it")
        view = memoryview(text)
        while view:
            view = view[os.write(self.target, view) :]

    def _next_member(self) -> bool:
        """A file may consist of several, one after the other."""
        rest = self._decompressor.unused_data
        if not rest.strip(b"\0"):
            rest = self._read()
        if not rest.strip(b"\0"):
            return False
        self._decompressor = self._make()
        self._take(rest)
        return True
