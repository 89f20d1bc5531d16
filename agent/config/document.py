"""From text to a tree of values that know their lines: YAML 1.2's core schema, and less of YAML than there is.

PyYAML takes the text apart; what a scalar means is decided here, since PyYAML's own types are those of YAML 1.1
(`on` would be true). Left out are aliases, anchors, merge keys and tags: nobody should have to follow them.
Source: the YAML 1.2.2 specification, section 10.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import yaml

from agent.config.errors import Finding, MalformedConfig, quoted

MAX_DEPTH = 32  # of maps and lists within each other; the schema needs 7
_MAX_DIGITS = 300  # of a number; Python refuses to convert very long ones

Scalar = str | int | float | bool | None

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"], float("inf")),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], float("-inf")),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], float("nan")),
}
_QUOTE = "text that begins with *, &, !, %, @, {, [ or a backtick needs quotes"
_HINTS = {
    "found character '\\t'": "indent with spaces, not tabs",
    "mapping values are not allowed here": "text that holds a colon and a space needs quotes",
    "while scanning an alias": _QUOTE,
    "while scanning an anchor": _QUOTE,
    "while scanning a tag": _QUOTE,
    "while scanning a directive": _QUOTE,
    "that cannot start any token": _QUOTE,
    "but found '<scalar>'": _QUOTE,
    "expected <block end>": "check the indentation of this line and of those above it",
    "found unknown escape character": "a backslash in double quotes is doubled; single quotes take it as it is",
    "while scanning a simple key": "a key ends with a colon and a space",
    "while scanning a quoted scalar": "the quote that begins here is not closed",
}

_MARKED_AT_BEGIN = (
    "scanning an alias",
    "scanning an anchor",
    "scanning a tag",
    "scanning a simple key",
    "end of stream",
)


@dataclass(frozen=True, slots=True)
class Where:
    """A position; line and column count from 1."""

    file: str
    line: int
    column: int

    def finding(self, message: str, key: str = "") -> Finding:
        return Finding(self.file, self.line, self.column, key, message)


@dataclass(slots=True)
class Node:
    """A value and where it stands. A map's entries are in order; `keys` says where each key stands."""

    where: Where
    value: Scalar | dict[str, Node] | list[Node]
    keys: dict[str, Where] = field(default_factory=dict)

    def plain(self) -> object:
        """The value alone, of dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: each.plain() for key, each in self.value.items()}
        return [each.plain() for each in self.value] if isinstance(self.value, list) else self.value


@dataclass(frozen=True, slots=True)
class Document:
    """What one file says: `root` None for an empty file; `problems` are those that left the rest readable."""

    root: Node | None
    problems: tuple[Finding, ...]


def parse(text: str, file: str) -> Document:
    """The document in a text. Raises MalformedConfig."""
    reader = _Reader(text, file)
    root = reader.document()
    return Document(root, tuple(reader.problems))


class _Reader:
    """Builds the tree out of PyYAML's events, and collects what is refused on the way."""

    def __init__(self, text: str, file: str) -> None:
        self.problems: list[Finding] = []
        self._text = text
        self._file = file
        self._events: Iterator[yaml.Event] = iter(())

    def document(self) -> Node | None:
        try:
            self._events = yaml.parse(self._text, Loader=yaml.SafeLoader)
            return self._document()
        except yaml.MarkedYAMLError as error:
            raise MalformedConfig([self._syntax(error)]) from None
        except yaml.reader.ReaderError as error:
            message = f"the character {chr(error.character)!r} is not allowed in YAML"
            raise MalformedConfig([self._at(error.position).finding(message)]) from None
        except (ValueError, OverflowError) as error:  # PyYAML converts escapes such as "\UFFFFFFFF" unchecked
            raise MalformedConfig(
                [Finding(self._file, 0, 0, "", f"an escape or directive is wrong: {error}")]
            ) from None

    def _document(self) -> Node | None:
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        root = self._node(next(self._events), 0)
        next(self._events)  # the document's end
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._problem(event, "a second document begins here; one file holds one document")
        return None if root.value is None else root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise MalformedConfig([self._where(event).finding(f"nested deeper than {MAX_DEPTH} levels")])
        self._refuse_specials(event)
        if isinstance(event, yaml.MappingStartEvent):
            return self._map(event, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            items = [self._node(item, depth + 1) for item in iter(partial(self._next, yaml.SequenceEndEvent), None)]
            return Node(self._where(event), items)
        if isinstance(event, yaml.ScalarEvent):
            return Node(self._where(event), self._scalar(event))
        return Node(self._where(event), None)

    def _next(self, end: type[yaml.Event]) -> yaml.Event | None:
        event = next(self._events)
        return None if isinstance(event, end) else event

    def _map(self, start: yaml.Event, depth: int) -> Node:
        entries: dict[str, Node] = {}
        keys: dict[str, Where] = {}
        for event in iter(partial(self._next, yaml.MappingEndEvent), None):
            key = self._key(event, depth)
            value = self._node(next(self._events), depth + 1)
            if key is None:
                continue
            if key in entries:
                first = keys[key].line
                self._problem(event, f"the key {quoted(key)} stands twice in this map, first in line {first}")
                continue
            entries[key], keys[key] = value, self._where(event)
        return Node(self._where(start), entries, keys)

    def _key(self, event: yaml.Event, depth: int) -> str | None:
        """The text of a key, whatever it would mean as a value; None where it is refused."""
        if not isinstance(event, yaml.ScalarEvent):
            self._node(event, depth + 1)
            if not isinstance(event, yaml.AliasEvent):
                self._problem(event, f"a key is text, not a list or map; {_QUOTE}")
            return None
        self._refuse_specials(event)
        if event.value == "<<" and event.style is None:
            self._problem(event, "merge keys (<<) are not used here; write the keys out")
            return None
        return self._clean(event)

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        if event.style is not None:
            return self._clean(event)
        if event.value in _WORDS:
            return _WORDS[event.value]
        if len(event.value) <= _MAX_DIGITS and (number := _number(event.value)) is not None:
            return number
        return self._clean(event)

    def _clean(self, event: yaml.ScalarEvent) -> str:
        text: str = event.value
        if re.search("[\ud800-\udfff]", text):
            self._problem(event, "an escape stands for half a character (a surrogate); write the character itself")
            return ""
        return text

    def _refuse_specials(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._problem(event, f"aliases (*{event.anchor}) are not used here; write the value out, or {_QUOTE}")
        elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self._problem(event, f"anchors (&{event.anchor}) are not used here; leave it out, or {_QUOTE}")
        if (tag := getattr(event, "tag", None)) is not None:
            self._problem(event, f"tags ({tag}) are not used here; leave it out, or {_QUOTE}")

    def _problem(self, event: yaml.Event, message: str) -> None:
        self.problems.append(self._where(event).finding(message))

    def _where(self, event: yaml.Event) -> Where:
        mark = event.start_mark
        assert mark is not None, "events of a text have marks"
        return Where(self._file, mark.line + 1, mark.column + 1)

    def _at(self, position: int) -> Where:
        before = self._text[:position]
        return Where(self._file, before.count("\n") + 1, len(before) - before.rfind("\n"))

    def _syntax(self, error: yaml.MarkedYAMLError) -> Finding:
        said = ", ".join(part for part in (error.context, error.problem) if part)
        begins = any(sign in said for sign in _MARKED_AT_BEGIN)
        mark = error.context_mark if begins else error.problem_mark or error.context_mark
        hint = next((f"; {hint}" for sign, hint in _HINTS.items() if sign in said), "")
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        return Finding(self._file, line, column, "", f"not YAML: {said}{hint}")


def _number(text: str) -> int | float | None:
    if _INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(text) if _FLOAT.fullmatch(text) else None
