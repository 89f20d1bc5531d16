"""Pydantic's errors in the user's words, each at its line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from agent.config.base import Section
from agent.config.document import Node, Where
from agent.config.errors import Finding, quoted
from agent.config.markers import suggestion
from agent.config.schema import Config
from agent.config.walk import keys_of, section_of

Location = Sequence[str | int]

_WANTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "mapping_type": "a map, `key: value`",
    "dict_type": "a map, `key: value`",
    "model_type": "a map, `key: value`",
    "model_attributes_type": "a map, `key: value`",
}


def explained(error: ValidationError, root: Node) -> list[Finding]:
    """One finding for each error, at the line of the value, the key, or the map that lacks a key."""
    return [_explain(each, root) for each in error.errors(include_url=False)]


def locate(root: Node, location: Location, *, at_key: bool = False) -> tuple[Where, str]:
    """Where a value (or its key) stands, and its path. Where it is absent: the map that it should be in."""
    node, where, path = root, root.where, ""
    for part in location:
        if isinstance(part, int) and isinstance(node.value, list) and part < len(node.value):
            path = f"{path}[{part}]"
            node = node.value[part]
            where = node.where
        elif isinstance(part, str) and isinstance(node.value, dict) and part in node.value:
            path = f"{path}.{part}" if path else part
            where = node.keys[part] if at_key else node.value[part].where
            node = node.value[part]
        elif isinstance(part, str) and not _is_inner(part):
            path = f"{path}.{part}" if path else part
    return where, path


def _explain(error: Any, root: Node) -> Finding:
    location, kind = error["loc"], error["type"]
    at_key = kind == "extra_forbidden" or location[-1:] == ("[key]",)
    where, path = locate(root, location, at_key=at_key)
    if kind == "extra_forbidden":
        return where.finding(f"unknown key{suggestion(str(location[-1]), _siblings(location))}", path)
    if kind == "missing":
        return where.finding("is missing here, and required", path)
    return where.finding(_message(error), path)


def _message(error: Any) -> str:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in _WANTED:
        return f"expected {_WANTED[kind]}, got {quoted(given)}{_advice(kind, given)}"
    if kind == "literal_error":
        choices = tuple(re.findall("'([^']*)'", context["expected"]))
        wanted = f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
        return f"{quoted(given)} is not {wanted}{_nearest(given, choices)}"
    if kind == "greater_than_equal":
        return f"{quoted(given)} is too little; at least {context['ge']} is allowed"
    if kind == "less_than_equal":
        return f"{quoted(given)} is too much; at most {context['le']} is allowed"
    if kind == "too_short":
        return f"the list is too short; at least {context['min_length']} is needed"
    if kind in ("too_long", "string_too_long"):
        return f"is too long; at most {context['max_length']} is allowed"
    return str(error["msg"])


def _advice(kind: str, given: object) -> str:
    if kind == "string_type" and isinstance(given, dict) and given and not any(given.values()):
        return f'; text that begins with {{ needs quotes: "{{{next(iter(given))}}}"'
    if kind == "string_type" and isinstance(given, (bool, int, float)):
        return "; put it in quotes"
    if kind == "tuple_type" and isinstance(given, dict):
        return "; begin each of its entries with -"
    if given is None:
        return "; give one, or leave the key out"
    return ""


def _nearest(given: object, choices: tuple[str, ...]) -> str:
    near = suggestion(given, choices) if isinstance(given, str) else ""
    return near if "did you mean" in near else ""


def _siblings(location: Location) -> tuple[str, ...]:
    """The keys that are known where an unknown one stands."""
    section: type[Section] = Config
    for part in location[:-1]:
        field = keys_of(section).get(part) if isinstance(part, str) else None
        section = (section_of(field) if field else None) or section
    return tuple(keys_of(section))


def _is_inner(part: str) -> bool:
    """Whether a part of pydantic's location is no key of the user's: the kind of a union, or `the key itself`."""
    return part == "[key]" or part.startswith("=")
