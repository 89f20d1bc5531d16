"""XML documents from plain values: dictionaries are elements in order, None is left out."""

from collections.abc import Mapping, Sequence
from typing import Union
from xml.sax.saxutils import escape

Value = Union[None, str, int, float, bool, Mapping[str, "Value"], Sequence["Value"]]  # noqa: UP007 - it is recursive

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


def document(tag: str, value: Mapping[str, Value], namespace: str | None = None, member: str | None = None) -> bytes:
    """A whole document. A list becomes <tag><member>...</tag> with `member`, else <tag> repeated (S3's way)."""
    name = f'{tag} xmlns="{namespace}"' if namespace else tag
    return f"{DECLARATION}<{name}>{_children(value, member)}</{tag}>".encode()


def _children(value: Mapping[str, Value], member: str | None) -> str:
    return "".join(_element(tag, child, member) for tag, child in value.items())


def _element(tag: str, value: Value, member: str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int | float):
        return f"<{tag}>{_text(value)}</{tag}>"
    if isinstance(value, Mapping):
        return f"<{tag}>{_children(value, member)}</{tag}>"
    if member is None:
        return "".join(_element(tag, item, member) for item in value)
    return f"<{tag}>{''.join(_element(member, item, member) for item in value)}</{tag}>"


def _text(value: str | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # a bare carriage return would be read back as a line feed
    return escape(str(value), {"\r": "&#13;", '"': "&quot;"})
