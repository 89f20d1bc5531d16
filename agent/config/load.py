"""From files to a checked configuration: `load` is the way in.

ConfigError            see `agent.config.errors`; every one carries all its problems
├── UnreadableConfig   a file can't be opened or decoded
├── MalformedConfig    a file is not YAML as taken here
└── InvalidConfig      unknown keys, wrong values, rules between sections
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from agent.config import rules
from agent.config.document import Document, Node, Where, parse
from agent.config.errors import ConfigError, Finding, InvalidConfig, MalformedConfig, UnreadableConfig
from agent.config.explain import explained, locate
from agent.config.merge import Merger
from agent.config.schema import Config
from agent.config.source import read

__all__ = ["ConfigError", "Finding", "Loaded", "load"]

MAX_FILES = 256  # in conf.d
_OFF_WHEN_EMPTY = {
    (): ("logs", "metrics", "alarms", "uploads", "snapshots", "restore", "sessions", "drain"),
    ("metrics",): ("os", "statsd", "emf"),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, what is worth saying of it although it is valid, and the files that it came from, in order."""

    config: Config
    notes: tuple[Finding, ...]
    sources: tuple[str, ...]


def load(path: str) -> Loaded:
    """The configuration in a file and in `conf.d/*.yaml` beside it, by name. Placeholders are checked, not replaced.

    Reads files, and touches neither network nor instance metadata. Raises ConfigError with all problems.
    """
    sources = (path, *_fragments(os.path.join(os.path.dirname(path), "conf.d")))
    documents, notes = _read_all(sources)
    merger = Merger()
    for document in documents:
        if document.root is not None:
            merger.add(document.root)
    root = merger.root or Node(Where(path, 1, 1), {})
    problems = [*(each for document in documents for each in document.problems), *merger.problems]
    config = _validated(root, problems, sources)
    notes += [*merger.notes, *_empty_sections(root), *(_placed(root, remark) for remark in rules.notes(config))]
    return Loaded(config, _in_order(notes, sources), sources)


def _fragments(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return []
        message = f"can't be listed: {error.strerror}; mend its permissions"
        raise UnreadableConfig([Finding(directory, 0, 0, "", message)]) from None
    except ValueError:  # a NUL character; opening the file itself says so
        return []
    names = [name for name in names if name.endswith(".yaml") and not name.startswith(".")]
    if len(names) > MAX_FILES:
        message = f"holds {len(names)} files; {MAX_FILES} are read at most"
        raise UnreadableConfig([Finding(directory, 0, 0, "", message)])
    return [os.path.join(directory, name) for name in names]


def _read_all(paths: Iterable[str]) -> tuple[list[Document], list[Finding]]:
    """Every file and the notes about it; one run shows what is wrong in each."""
    documents: list[Document] = []
    notes: list[Finding] = []
    problems: list[Finding] = []
    kind: type[ConfigError] = MalformedConfig
    for path in paths:
        try:
            text, remarks = read(path)
            documents.append(parse(text, path))
            notes += remarks
        except (UnreadableConfig, MalformedConfig) as error:
            problems += error.problems
            kind = UnreadableConfig if isinstance(error, UnreadableConfig) else kind
    if problems:
        raise kind(problems)
    return documents, notes


def _validated(root: Node, problems: list[Finding], sources: tuple[str, ...]) -> Config:
    """The configuration in a tree, where neither it nor the files themselves (`problems`) are wrong."""
    config, found = _checked(root)
    known = {(each.file, each.line, each.column) for each in problems}
    new = [each for each in found if (each.file, each.line, each.column) not in known]
    if problems or new:
        raise InvalidConfig(_in_order([*problems, *new], sources))
    return config


def _checked(root: Node) -> tuple[Config, list[Finding]]:
    if not isinstance(root.value, dict):
        return Config(), [root.where.finding("the file must be a map of sections, as `logs:`")]
    try:
        config = Config.model_validate(root.plain())
    except ValidationError as error:
        return Config(), explained(error, root)
    return config, [_placed(root, remark) for remark in rules.problems(config)]


def _empty_sections(root: Node) -> Iterable[Finding]:
    for path, names in _OFF_WHEN_EMPTY.items():
        node: Node | None = root
        for part in path:
            node = node.value.get(part) if node is not None and isinstance(node.value, dict) else None
        entries = node.value if node is not None and isinstance(node.value, dict) else {}
        for name in names:
            if name in entries and entries[name].value is None:
                yield _placed(root, ((*path, name), "is empty and therefore off; leave it out to say so"))


def _placed(root: Node, remark: rules.Remark) -> Finding:
    where, key = locate(root, remark[0])
    return where.finding(remark[1], key)


def _in_order(findings: Iterable[Finding], sources: tuple[str, ...]) -> tuple[Finding, ...]:
    order = {path: i for i, path in enumerate(sources)}
    return tuple(sorted(findings, key=lambda each: (order.get(each.file, 0), each.line, each.column)))
