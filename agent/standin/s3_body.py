"""Receiving a body for S3: into a file, unpacked from aws-chunked, checked against all that the client claimed of it.

docs.aws.amazon.com/AmazonS3/latest/API: sigv4-streaming-trailers, API_PutObject, API_UploadPart.
"""

import base64
import binascii
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agent.standin import checksums
from agent.standin.checksums import ALGORITHMS, HEADERS, Checksum
from agent.standin.errors import ApiError
from agent.standin.message import Request
from agent.standin.s3_errors import (
    BadDigestError,
    IncompleteBodyError,
    InvalidDigestError,
    InvalidRequestError,
    NotImplementedByS3Error,
    PayloadMismatchError,
)
from agent.standin.signatures import UNSIGNED_PAYLOAD

STREAMING_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
MAX_OBJECT = 5 * 1024**3  # bytes of one PutObject or part
MAX_TRAILER = 16_384  # bytes of the trailing headers


@dataclass(frozen=True, slots=True)
class Received:
    """A body in its file: size in bytes, MD5, and the checksums that were claimed or asked for, by algorithm."""

    path: str
    size: int
    md5: bytes
    checksums: dict[str, bytes]


@dataclass
class _Claims:
    """What the client says of the body before or, in trailers, after it."""

    payload_hash: str
    md5: bytes | None
    size: int
    checksums: dict[str, bytes]
    trailer: str | None  # the algorithm whose checksum comes in the trailer
    trailers: dict[str, str] = field(default_factory=dict)


def receive(
    request: Request, payload_hash: str, new_path: Callable[[], str], algorithm: str | None = None
) -> Received:
    """Stream the body to a new file and verify it; on any complaint the file is gone again.

    `algorithm` is computed in addition to what the client claims.
    """
    claims = _claims(request, payload_hash)
    wanted = {*claims.checksums, *filter(None, (claims.trailer, algorithm))}
    running = {name: ALGORITHMS[name]() for name in wanted}
    path = new_path()
    with contextlib.ExitStack() as undo:
        undo.callback(_remove, path)
        md5, sha256, size = _store(path, _payload(request, claims), running, hashed=_is_signed(payload_hash))
        digests = {name: checksum.digest() for name, checksum in running.items()}
        _verify(claims, size, md5, sha256, digests)
        undo.pop_all()
    return Received(path, size, md5, digests)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _store(
    path: str, blocks: Iterator[bytes], running: dict[str, Checksum], *, hashed: bool
) -> tuple[bytes, str, int]:
    """Write the blocks; their MD5, SHA-256 in hex (empty if it is not `hashed`) and size."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    size = 0
    with open(path, "xb") as file:
        for block in blocks:
            file.write(block)
            size += len(block)
            md5.update(block)
            if hashed:
                sha256.update(block)
            for checksum in running.values():
                checksum.update(block)
    return md5.digest(), sha256.hexdigest() if hashed else "", size


def _is_signed(payload_hash: str) -> bool:
    return payload_hash not in (UNSIGNED_PAYLOAD, STREAMING_TRAILER)


def _claims(request: Request, payload_hash: str) -> _Claims:
    headers = request.headers
    if payload_hash.startswith("STREAMING-") and payload_hash != STREAMING_TRAILER:
        raise NotImplementedByS3Error(f"x-amz-content-sha256: {payload_hash}")
    given = {name: headers[header] for header, name in HEADERS.items() if header in headers}
    if "x-amz-sdk-checksum-algorithm" in headers and not given and "x-amz-trailer" not in headers:
        raise InvalidRequestError(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* "
            "or x-amz-trailer headers were found."
        )
    if len(given) > 1:
        raise InvalidRequestError(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    return _Claims(
        payload_hash,
        _content_md5(headers.get("content-md5")),
        _announced_size(request, payload_hash),
        {name: _decode(name, value) for name, value in given.items()},
        _trailer_algorithm(headers.get("x-amz-trailer")) if payload_hash == STREAMING_TRAILER else None,
    )


def _announced_size(request: Request, payload_hash: str) -> int:
    if payload_hash == STREAMING_TRAILER:
        text = request.headers.get("x-amz-decoded-content-length", "")
        size = int(text) if text.isdecimal() else None
    else:
        size = request.body.length
    if size is None:
        raise ApiError("You must provide the Content-Length HTTP header.", code="MissingContentLength", status=411)
    if size > MAX_OBJECT:
        raise ApiError("Your proposed upload exceeds the maximum allowed size", code="EntityTooLarge", status=400)
    return size


def _content_md5(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidDigestError from error
    if len(digest) != 16:
        raise InvalidDigestError
    return digest


def _decode(algorithm: str, text: str) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != len(ALGORITHMS[algorithm]().digest()):
        raise InvalidRequestError(f"Value for x-amz-checksum-{algorithm.lower()} header is invalid.")
    return digest


def _trailer_algorithm(header: str | None) -> str | None:
    if header is None:
        return None
    if header.lower() not in HEADERS:
        raise InvalidRequestError("The value specified in the x-amz-trailer header is not supported")
    return HEADERS[header.lower()]


def _payload(request: Request, claims: _Claims) -> Iterator[bytes]:
    blocks = request.body.blocks()
    return _unchunk(blocks, claims.trailers) if claims.payload_hash == STREAMING_TRAILER else blocks


def _unchunk(blocks: Iterator[bytes], trailers: dict[str, str]) -> Iterator[bytes]:
    """The payload of an aws-chunked body; the trailing headers go into `trailers`."""
    source = _Source(blocks)
    while size := _chunk_size(source.line()):
        yield from source.exactly(size)
        if source.line():
            raise IncompleteBodyError
    while line := source.line():
        name, _, value = line.decode("latin-1").partition(":")
        trailers[name.lower()] = value.strip()


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError as error:
        raise IncompleteBodyError from error


class _Source:
    """Lines and counted bytes from blocks of any size."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._buffer = b""

    def line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            block = next(self._blocks, b"")
            if not block or len(self._buffer) > MAX_TRAILER:
                raise IncompleteBodyError
            self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def exactly(self, size: int) -> Iterator[bytes]:
        while size:
            block = self._buffer or next(self._blocks, b"")
            if not block:
                raise IncompleteBodyError
            taken, self._buffer = block[:size], block[size:]
            size -= len(taken)
            yield taken


def _verify(claims: _Claims, size: int, md5: bytes, sha256: str, digests: dict[str, bytes]) -> None:
    if size != claims.size:
        raise IncompleteBodyError
    if _is_signed(claims.payload_hash) and sha256 != claims.payload_hash:
        raise PayloadMismatchError
    if claims.md5 not in (None, md5):
        raise BadDigestError("The Content-MD5 you specified did not match what we received.")
    claimed = dict(claims.checksums)
    if claims.trailer:
        claimed[claims.trailer] = _trailing(claims, claims.trailer)
    for name, digest in claimed.items():
        if digests[name] != digest:
            raise BadDigestError(f"The {name} you specified did not match the calculated checksum.")


def _trailing(claims: _Claims, algorithm: str) -> bytes:
    text = claims.trailers.get(f"x-amz-checksum-{algorithm.lower()}")
    if text is None:
        raise ApiError(
            "The request contained trailing data that was not well-formed.",
            code="MalformedTrailerError",
            status=400,
        )
    return _decode(algorithm, text)


def header_of(algorithm: str, digest: bytes) -> dict[str, str]:
    """The response header that says a checksum."""
    return {f"x-amz-checksum-{algorithm.lower()}": checksums.encode(digest)}
