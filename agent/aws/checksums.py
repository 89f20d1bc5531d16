"""S3's checksums: computed block by block, and combined from those of parts.

Sources: docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html (which algorithms, and which of
them make a checksum of the whole object from those of its parts); reveng.sourceforge.io/crc-catalogue
(CRC-32/ISO-HDLC and CRC-64/NVME: both reflected, begun and ended with inverted bits).
"""

from __future__ import annotations

import hashlib
import zlib
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

_SHIFTS = 64  # lengths whose shift is remembered; the parts of one object have two


class Hasher(Protocol):
    """A checksum in the making, like those of hashlib."""

    def update(self, data: bytes, /) -> None:
        """Take in the next block."""

    def digest(self) -> bytes:
        """The checksum of all blocks so far, as S3 writes it: big-endian."""


class ChecksumUnavailable(Exception):
    """The algorithm needs a package that is not installed: install awscrt, or configure CRC32 or SHA256."""


@dataclass(frozen=True)
class Algorithm:
    """One of S3's checksum algorithms.

    `polynomial` (reflected) is given where the checksums of parts make that of the whole object.
    """

    name: str
    new: Callable[[], Hasher]
    polynomial: int | None = None

    @cached_property
    def header(self) -> str:
        return f"x-amz-checksum-{self.name.lower()}"

    @cached_property
    def element(self) -> str:
        """Its name in XML."""
        return f"Checksum{self.name}"

    @cached_property
    def kind(self) -> str:
        """What S3 keeps for an object made of parts: FULL_OBJECT or COMPOSITE."""
        return "COMPOSITE" if self.polynomial is None else "FULL_OBJECT"

    def of_parts(self, parts: Sequence[tuple[bytes, int]]) -> str:
        """What S3 answers for an object of these parts (digest and length of each), as it writes it."""
        if self.polynomial is None:
            whole = self.new()
            whole.update(b"".join(digest for digest, _ in parts))
            return f"{encode(whole.digest())}-{len(parts)}"
        return encode(_whole(self.polynomial, parts))


class _Crc32:
    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class _Crc64:
    __slots__ = ("_function", "_value")

    def __init__(self) -> None:
        self._function = _crc64_function()
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(8, "big")


def _crc64_function() -> Callable[[bytes, int], int]:
    try:
        from awscrt.checksums import crc64nvme  # type: ignore[import-not-found, unused-ignore]  # an optional package
    except ImportError:
        raise ChecksumUnavailable("CRC64NVME needs the Python package awscrt; install it, or write CRC32") from None
    function: Callable[[bytes, int], int] = crc64nvme
    return function


CRC32 = Algorithm("CRC32", _Crc32, polynomial=0xEDB88320)
CRC64NVME = Algorithm("CRC64NVME", _Crc64, polynomial=0x9A6C9329AC4BC9B5)
SHA256 = Algorithm("SHA256", hashlib.sha256)
ALGORITHMS = {algorithm.name: algorithm for algorithm in (CRC32, CRC64NVME, SHA256)}


def encode(digest: bytes) -> str:
    """A digest as S3's headers have it."""
    return b2a_base64(digest, newline=False).decode("ascii")


def _whole(polynomial: int, parts: Iterable[tuple[bytes, int]]) -> bytes:
    """The CRC of the parts, one after the other: each earlier one is shifted by the length of the next."""
    crc, width = 0, 0
    for digest, length in parts:
        width = len(digest) * 8
        crc = _multiply(_shift(length, polynomial, width), crc, polynomial, width) ^ int.from_bytes(digest, "big")
    return crc.to_bytes(width // 8, "big")


@lru_cache(maxsize=_SHIFTS)
def _shift(length: int, polynomial: int, width: int) -> int:
    """The polynomial that moves a CRC past `length` bytes: x to the power of their bits, modulo ours."""
    result, square = 1 << (width - 1), 1 << (width - 9)
    while length:
        if length & 1:
            result = _multiply(result, square, polynomial, width)
        square = _multiply(square, square, polynomial, width)
        length >>= 1
    return result


def _multiply(left: int, right: int, polynomial: int, width: int) -> int:
    """The product of two polynomials over GF(2), modulo ours; reflected, so that the highest bit is x to the 0."""
    product, bit = 0, 1 << (width - 1)
    while bit:
        if left & bit:
            product ^= right
        right = (right >> 1) ^ (polynomial if right & 1 else 0)
        bit >>= 1
    return product
