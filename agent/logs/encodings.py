"""Text encodings: where a line ends in raw bytes, what its text is, and what a byte order mark says."""

from __future__ import annotations

import codecs
from itertools import pairwise

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MARK_BYTES = 4  # of a file's head that may hold a mark
_PLAIN = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}  # a mark is looked for anyway


def marked(head: bytes) -> tuple[str, int] | None:
    """The encoding that the head's byte order mark stands for and the mark's length, or None."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name, len(mark)
    return None


class Encoding:
    """One encoding of text in lines."""

    def __init__(self, name: str) -> None:
        canonical = codecs.lookup(name).name
        self.name = _PLAIN.get(canonical, canonical)
        self.newline = "\n".encode(self.name)
        self.unit = len(self.newline)
        self._stateless = self.unit > 1 or self.name == "utf-8" or _is_table(self.name)

    def end_of_lines(self, data: bytes | bytearray, start: int, searched: int = 0) -> int:
        """The index behind the last line end after `start`, where a character begins; `start` if there is none.

        Up to `searched`, none is known to be.
        """
        first = max(start, searched - self.unit + 1)
        found = data.rfind(self.newline, first)
        while found >= 0 and (found - start) % self.unit:
            found = data.rfind(self.newline, first, found + self.unit - 1)
        return start if found < 0 else found + self.unit

    def utf8(self, data: bytes) -> bytes | None:
        """Whole lines as UTF-8; None where they are no text, or can only be read one by one."""
        if self.name == "utf-8":
            return data
        if not self._stateless:
            return None
        try:
            return data.decode(self.name).encode()
        except UnicodeError:
            return None

    def lines(self, data: bytes) -> tuple[list[tuple[str, int]], int]:
        """The lines of `data`, which ends with a line end: text without its end, raw length with it; and how many
        held bytes that are no text, which are replaced.
        """
        raws = self.split(data)
        found = [(*self.text(raw[: -self.unit]), len(raw)) for raw in raws]
        return [(text.removesuffix("\r"), length) for text, _, length in found], sum(bad for _, bad, _ in found)

    def text(self, data: bytes) -> tuple[str, bool]:
        """`data` as text, and whether something had to be replaced."""
        try:
            return data.decode(self.name), False
        except UnicodeDecodeError:
            return data.decode(self.name, "replace"), True

    def split(self, data: bytes) -> list[bytes]:
        """The raw lines, each with its end."""
        if self.unit == 1:
            return [line + self.newline for line in data.split(self.newline)[:-1]]
        ends = [0]
        found = data.find(self.newline)
        while found >= 0:
            if found % self.unit == 0:
                ends.append(found + self.unit)
            found = data.find(self.newline, found + 1)
        return [data[start:end] for start, end in pairwise(ends)]


def _is_table(name: str) -> bool:
    """Whether each byte is a character by itself, and one of them is the newline."""
    text = bytes(range(256)).decode(name, "replace")
    return len(text) == 256 and text.count("\n") == 1
