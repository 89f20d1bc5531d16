"""The shop's upload folder: files that are dropped at once, grow slowly, and are overwritten."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

KIB = 1024
_SLOW_SECONDS = 0.2  # between two pieces of a file that grows
_SLOW_PIECES = 8

FIRST_DROPS = (
    ("invoices/2025/0001.pdf", 48_211),
    ("invoices/2025/0002.pdf", 61_007),
    ("avatars/Zoë Groß.png", 9_001),
    ("empty.flag", 0),
    ("catalogue.bin", 6 * KIB * KIB),  # more than a part: a multipart upload
)
LATER_DROPS = (
    ("invoices/2025/0003.pdf", 52_428),
    ("one-byte.txt", 1),
    ("reports/november.csv", 310_400),
)
OVERWRITTEN = (
    ("avatars/Zoë Groß.png", 9_001),  # of the same size
    ("invoices/2025/0001.pdf", 12_000),
)
SLOW = ("exports/orders.json", 400_000)
LAST_DROPS = (("invoices/2025/0004.pdf", 70_123),)


def content(name: str, version: int, size: int) -> bytes:
    """The bytes of a file: always the same for the same name and version."""
    return random.Random(f"{name} {version}").randbytes(size)


@dataclass
class _Growing:
    name: str
    data: bytes
    done: int
    next: float


class UploadFolder:
    """Knows what is in it."""

    def __init__(self, path: str) -> None:
        self.files: dict[str, bytes] = {}
        self._path = path
        self._versions: dict[str, int] = {}
        self._growing: list[_Growing] = []

    def drop(self, files: tuple[tuple[str, int], ...]) -> None:
        """Write files, new ones or over old ones, each in one go. Raises OSError."""
        for name, size in files:
            self._write(name, 0, self._begin(name, size))

    def grow(self, name: str, size: int, now: float) -> None:
        """Begin to write a file in pieces; `step` writes them."""
        self._growing.append(_Growing(name, self._begin(name, size), 0, now))

    def step(self, now: float) -> None:
        for file in self._growing:
            if now >= file.next:
                self._advance(file, -(-len(file.data) // _SLOW_PIECES))
                file.next = now + _SLOW_SECONDS
        self._growing = [file for file in self._growing if file.done < len(file.data)]

    def finish(self) -> None:
        """Write what is left of files that grow."""
        for file in self._growing:
            self._advance(file, len(file.data))
        self._growing.clear()

    def _begin(self, name: str, size: int) -> bytes:
        version = self._versions[name] = self._versions.get(name, 0) + 1
        self.files[name] = content(name, version, size)
        return self.files[name]

    def _advance(self, file: _Growing, size: int) -> None:
        self._write(file.name, file.done, file.data[file.done : file.done + size])
        file.done = min(file.done + size, len(file.data))

    def _write(self, name: str, offset: int, data: bytes) -> None:
        path = os.path.join(self._path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(data)
