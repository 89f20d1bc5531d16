"""The schema's fields in words: what a key takes, and its default as a user would write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from agent.config.base import Section
from agent.config.markers import Marker, OneOf
from agent.config.places import Uses
from agent.config.walk import marker_of, parts_of

PLACEHOLDERS = {Uses.INSTANCE: "{}", Uses.OWN_DIRECTORY: "{}", Uses.DATE: "{date}", Uses.FILE: "{file}"}
_PLAIN = {str: "text", bool: "`true` or `false`", int: "whole number", float: "number"}
_NEEDS_QUOTES = tuple("*&!%@{[`")


def type_of(field: FieldInfo) -> str:
    """Type, unit and bounds of a key's value, and the sign of the placeholders that may stand in it."""
    placed = marker_of(field)
    sign = [f"`{PLACEHOLDERS[placed.uses]}`"] if placed else []
    bounds = [f"{low} to {high}" for low, high in [_bounds(field)] if low is not None]
    return " ".join([", ".join([_type(field.annotation, field.metadata), *bounds]), *sign])


def default_of(field: FieldInfo) -> str:
    """The default as it would stand in a file; where there is none: that the key is required."""
    if field.is_required():
        return "**required**"
    if isinstance(field.default, Section):
        return "see below"
    markers = (part for part in (*field.metadata, *parts_of(field.annotation)) if isinstance(part, Marker))
    return f"`{_written(field.default, next(markers, None))}`"


def _type(annotation: Any, metadata: Iterable[object] = ()) -> str:
    marker = next((each for each in metadata if isinstance(each, Marker)), None)
    if marker is not None:
        return f"{marker.label}{_choices(marker)}"
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__, annotation.__metadata__)
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if get_origin(annotation) is tuple:
        return f"list: {_type(arguments[0])}"
    if get_origin(annotation) is Mapping:
        return f"map: {_type(arguments[0])} to {_type(arguments[1])}"
    if arguments:
        return ", or ".join(_type(each) for each in arguments if each is not type(None))
    return _PLAIN.get(annotation, "map, see below")


def _choices(marker: Marker) -> str:
    return f": {', '.join(f'`{each}`' for each in marker.choices)}" if isinstance(marker, OneOf) else ""


def _bounds(field: FieldInfo) -> tuple[object, object]:
    low = next((each.ge for each in field.metadata if hasattr(each, "ge")), None)
    high = next((each.le for each in field.metadata if hasattr(each, "le")), None)
    return low, high


def _written(value: object, marker: Marker | None) -> str:
    """A value in YAML's flow style."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if type(value) is tuple:
        return f"[{', '.join(_written(each, marker) for each in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_written(each, marker)}' for key, each in value.items())}}}"
    if isinstance(value, float) and marker is None:
        return f"{value:g}"
    text = marker.show(value) if marker else str(value)
    return f'"{text}"' if not text or text.startswith(_NEEDS_QUOTES) else text
