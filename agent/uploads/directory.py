"""One configured directory: which of its files are meant, and what becomes of each in S3."""

from __future__ import annotations

import os
from mimetypes import MimeTypes
from typing import Protocol

from agent.aws.limits import KEY_BYTES_MAX, OBJECT_BYTES_MAX
from agent.aws.s3 import S3, Properties, algorithm
from agent.config.placeholders import Place, Template
from agent.config.sections import uploads as config
from agent.uploads.globs import Choice, Filter

_UNKNOWN_TYPE = "application/octet-stream"
_TYPES = MimeTypes(filenames=()).types_map[True] | {  # Python's own, the same on every system
    ".gz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
}


class Places(Protocol):
    """What numbers directories, as the ledger does."""

    def place(self, path: str, bucket: str, prefix: str) -> int:
        """The number of a directory as it is configured."""


class Directory:
    """What the configuration says of a directory, made ready for use. Safe to use from any thread."""

    def __init__(self, given: config.Directory, s3: S3, ledger: Places) -> None:
        self.path = given.path
        self.settle = given.settle
        self.rescan = given.rescan
        self.follow = given.follow_symlinks
        self.if_absent = not given.overwrite
        self.mode = given.mode
        self.max_deletes = given.max_deletes
        self.prefix = given.prefix
        self.filter = Filter(given.include, given.exclude)
        self.algorithm = algorithm(given.checksum)
        self.bucket = s3.bucket(given.bucket, given.region, given.expected_bucket_owner, self.algorithm)
        self.place = ledger.place(given.path, given.bucket, given.prefix)
        self.terms = repr(sorted(given.model_dump(include=_TERMS).items()))
        self._given = given
        self._prefix = Template(given.prefix, Place.KEY_PREFIX)
        self._tags = {key: Template(text, Place.TAG) for key, text in given.tags.items()}
        self._metadata = {key: Template(text, Place.OBJECT_METADATA) for key, text in given.metadata.items()}
        self._types = Choice(given.content_type)
        templates = [*self._tags.values(), *self._metadata.values()]
        self._same_for_all = not any(each.needs_file or each.needs_time for each in templates)
        self._headers: dict[str, dict[str, str]] = {}

    def key(self, text: str, now: float) -> str:
        """The key of the file whose relative path has this text, for an upload that begins `now` (epoch)."""
        return self._prefix.render(file=f"{self.path}/{text}", now=now) + text

    def headers(self, text: str, now: float) -> dict[str, str]:
        """The headers that give the file's object its properties."""
        kind = self._types.find(text) or content_type(text)
        if not self._same_for_all:
            return self._properties(kind, f"{self.path}/{text}", now).headers()
        headers = self._headers.get(kind)
        if headers is None:
            headers = self._headers[kind] = self._properties(kind, None, now).headers()
        return headers

    def refuses(self, text: str, size: int, now: float) -> str | None:
        """Why S3 can never take a file of this name and size; None: it can."""
        if size > OBJECT_BYTES_MAX:
            return f"larger than S3's {OBJECT_BYTES_MAX} bytes"
        length = len(self.key(text, now).encode())
        if length > KEY_BYTES_MAX:
            return f"its key would have {length} bytes; S3 takes {KEY_BYTES_MAX}"
        return None

    def _properties(self, kind: str, file: str | None, now: float) -> Properties:
        given = self._given
        return Properties(
            content_type=kind,
            cache_control=given.cache_control,
            storage_class=given.storage_class,
            kms_key=given.kms_key,
            tags={key: template.render(file=file, now=now) for key, template in self._tags.items()},
            metadata={key: template.render(file=file, now=now) for key, template in self._metadata.items()},
        )


_TERMS = {"checksum", "storage_class", "kms_key", "cache_control", "content_type", "tags", "metadata"}


def content_type(name: str) -> str:
    """The content type of a file by the end of its name."""
    return _TYPES.get(os.path.splitext(name)[1].lower(), _UNKNOWN_TYPE)
