"""Writes the reference out of the schema: python -m agent.config.reference > docs/configuration.md"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

from agent.config.base import Section
from agent.config.describe import default_of, type_of
from agent.config.grammar import DATE_NAMES, EXAMPLES, FILE_NAMES, INSTANCE_NAMES
from agent.config.schema import Config
from agent.config.walk import holds_list, keys_of, section_of

_INTRODUCTION = """\
# The configuration

<!-- Written by `python -m agent.config.reference`: change the schema in agent/config, not this file. -->

`outlive` reads `/etc/outlive/outlive.yaml`, or the file that `-c` names, and then `*.yaml` in the directory `conf.d`
beside it, in the order of the names. Maps merge and lists append; of a single value that is set twice the last wins,
and `outlive check` says so. A section that is absent is off. `outlive check -c FILE` says what is wrong, each problem
with its line, and never touches the network.

The files are YAML 1.2. Only `true` and `false` are booleans; `on`, `yes` and `off` are text. A key that is unknown or
stands twice in a map, an alias, an anchor and a tag are errors. Text that begins with `*`, `&`, `!`, `%`, `@`, `{`,
`[` or a backtick needs quotes.

- A **duration** is `250ms`, `5s`, `2m`, `1h`, `30d`, or a plain number of seconds.
- A **size** is `64KiB`, `10MB`, `1GiB` and the like, or a plain number of bytes. `KB` is 1000 bytes, `KiB` 1024.
- A **regular expression** is one of Python's. It is searched for: begin it with `^` where that is meant.
- A **pattern** knows `*`, `?`, `[..]`, `{a,b}`, and `**` for any number of directories.

## Placeholders

Text marked `{}`, `{date}` or `{file}` below may hold placeholders. Characters of a value that its place does not
allow become `_`, braces always. `{tag:Name|web}` gives a value for where there is none; without it, a placeholder
that has no value on this instance is an error at start.

Of the instance, replaced at start; in text marked `{}`, `{date}` or `{file}`:
"""
_DATED = "\nFixed when a batch is formed or an upload begins; in text marked `{date}` or `{file}`:\n"
_OF_A_FILE = "\nOf the file that is read or sent; in text marked `{file}`:\n"


def reference() -> str:
    """The whole document, in Markdown."""
    return "\n".join([_INTRODUCTION, *_placeholders(), *_chapters(Config, "")]) + "\n"


def _placeholders() -> Iterator[str]:
    yield from _meanings(INSTANCE_NAMES)
    yield _DATED
    yield from _meanings(DATE_NAMES)
    yield _OF_A_FILE
    yield from _meanings(FILE_NAMES)


def _meanings(names: dict[str, str]) -> Iterator[str]:
    yield "| placeholder | stands for |"
    yield "|---|---|"
    yield from (f"| `{EXAMPLES.get(name, f'{{{name}}}')}` | {meaning} |" for name, meaning in names.items())


def _chapters(parent: type[Section], path: str) -> Iterator[str]:
    """One for each map, outer before inner, in the schema's order; a map that occurs twice is described once."""
    described: dict[type[Section], str] = {}
    for key, field in keys_of(parent).items():
        section = section_of(field)
        if section is not None:
            name = f"{path}.{key}{'[]' if holds_list(field) else ''}".removeprefix(".")
            yield f"\n{'###' if path else '##'} {name}\n"
            yield from [f"As {described[section]}."] if section in described else _chapter(section, name)
            described.setdefault(section, name)


def _chapter(section: type[Section], name: str) -> Iterator[str]:
    yield inspect.cleandoc(section.__doc__ or "")
    yield from _table(section)
    yield from _chapters(section, name)


def _table(section: type[Section]) -> Iterator[str]:
    if section.model_fields:
        yield "\n| key | value | default | meaning |"
        yield "|---|---|---|---|"
    for key, field in keys_of(section).items():
        yield _row(f"`{key}`", type_of(field), default_of(field), field.description or "")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
