"""Walks over the schema and over configurations: which map a key holds, and every text that may hold placeholders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar, get_args, get_origin

from pydantic.fields import FieldInfo

from agent.config.base import Section
from agent.config.places import Placed

S = TypeVar("S", bound=Section)
Change = Callable[[str, Placed, str], str]  # a text, its place and its key: to another text


def key_of(name: str, field: FieldInfo) -> str:
    """What the user writes for a field: `class` for class_."""
    return field.alias or name


def keys_of(model: type[Section]) -> dict[str, FieldInfo]:
    """A map's keys, in the schema's order."""
    return {key_of(name, field): field for name, field in model.model_fields.items()}


def section_of(field: FieldInfo) -> type[Section] | None:
    """The map that a key holds, or that each item of its list is; None where it holds plain values."""
    found = (part for part in parts_of(field.annotation) if isinstance(part, type) and issubclass(part, Section))
    return next(found, None)


def holds_list(field: FieldInfo) -> bool:
    """Whether a key holds a list."""
    return any(get_origin(part) is tuple for part in parts_of(field.annotation))


def marker_of(field: FieldInfo) -> Placed | None:
    """The mark of a field's texts; a map's values or a list's items have it within their own type."""
    found = (part for part in (*field.metadata, *parts_of(field.annotation)) if isinstance(part, Placed))
    return next(found, None)


def parts_of(annotation: object) -> Iterator[object]:
    """A type, the types that it is made of, and what they are annotated with."""
    yield annotation
    for part in (*get_args(annotation), *getattr(annotation, "__metadata__", ())):
        yield from parts_of(part)


def rewrite(section: S, change: Change, path: str = "") -> S:
    """A copy of a section whose texts with placeholders are changed; the same object where nothing is."""
    updates = {}
    for name, field in type(section).model_fields.items():
        key = f"{path}.{key_of(name, field)}" if path else key_of(name, field)
        old = getattr(section, name)
        new = _rewrite_value(old, marker_of(field), change, key)
        if new is not old:
            updates[name] = new
    return section.model_copy(update=updates) if updates else section


def _rewrite_value(value: object, marker: Placed | None, change: Change, key: str) -> object:
    if isinstance(value, Section):
        return rewrite(value, change, key)
    if type(value) is tuple:
        items = tuple(_rewrite_value(item, marker, change, f"{key}[{i}]") for i, item in enumerate(value))
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if marker is None:
        return value
    if isinstance(value, Mapping):
        entries = {name: _rewrite_value(each, marker, change, f"{key}.{name}") for name, each in value.items()}
        return entries if any(entries[name] is not value[name] for name in entries) else value
    return change(value, marker, key) if isinstance(value, str) else value
