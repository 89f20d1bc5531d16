"""S3's small XML answers, read without trust."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

_MOST_BYTES = 256 << 10  # bounds what is parsed; S3's answers to us have about 1 KB
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


def _bare(tag: str) -> str:
    return tag.rpartition("}")[2]
