"""S3's small XML answers, read without trust."""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

_MOST_BYTES = 256 << 10  # bounds what is parsed; S3's answers to us have about 1 KB
_MOST_LISTED_BYTES = 16 << 20  # the same of a listing: 1,000 keys of 1,024 bytes, each escaped as three
_NO_XML = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|&#(?:x[0-9a-fA-F]{1,6}|[0-9]{1,7});")


def read_fields(body: bytes) -> tuple[str, dict[str, str]]:
    """The root's name and its children's texts; empty where it is no XML.

    A key may hold characters that XML can't: what S3 echoes of it is of no interest, so they are dropped.
    """
    text = body[:_MOST_BYTES].strip()
    if not text.startswith(b"<") or b"<!DOCTYPE" in text:
        return "", {}
    try:
        root = ET.fromstring(_NO_XML.sub(b"", text))  # noqa: S314 - AWS's own, bounded, without a DTD
    except ET.ParseError:
        return "", {}
    return _bare(root.tag), {_bare(child.tag): child.text or "" for child in root}


class Listed(NamedTuple):
    """An object of a listing: its size in bytes, its ETag without quotes, when it was put (epoch)."""

    key: str
    size: int
    etag: str
    modified: float


def read_listing(body: bytes) -> tuple[list[Listed], str | None] | None:
    """The objects of a page of ListObjectsV2 with encoding-type=url, and the token of the next page.

    None where it is no such page.
    """
    if len(body) > _MOST_LISTED_BYTES or b"<!DOCTYPE" in body:
        return None
    try:
        root = ET.fromstring(body.strip())  # noqa: S314 - AWS's own, bounded, without a DTD
        if _bare(root.tag) != "ListBucketResult":
            return None
        found = [_listed(each) for each in root.iterfind("{*}Contents")]
    except (ET.ParseError, ValueError):
        return None
    return found, root.findtext("{*}NextContinuationToken") or None


def _listed(item: ET.Element) -> Listed:
    fields = {_bare(child.tag): child.text or "" for child in item}
    modified = datetime.fromisoformat(fields.get("LastModified", "")).timestamp()
    etag = fields.get("ETag", "").strip('"')
    return Listed(unquote_plus(fields.get("Key", "")), int(fields.get("Size", "")), etag, modified)


def _bare(tag: str) -> str:
    return tag.rpartition("}")[2]
