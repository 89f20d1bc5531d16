"""What an entry of `logs.files` asks for, in the terms of this package."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from functools import partial

from agent.config.placeholders import Place, Template
from agent.config.sections.logs import LogFile
from agent.engine.files import shown
from agent.logs.compose import EventRules
from agent.logs.destination import GroupWish
from agent.logs.joining import Joiner, continuing, preset, starting
from agent.logs.tail import Route
from agent.logs.timestamps import reader


def scope_of(entry: LogFile) -> str:
    """Names the entry's cursors in the state."""
    return f"{entry.group} {entry.stream}"


def route_of(entry: LogFile, flush_interval: float, counted: Callable[[Sequence[int]], None]) -> Route:
    """`counted` is told what each of the entry's metrics counts, of a batch that is acknowledged."""
    return Route(
        scope=scope_of(entry),
        destination=_destination(entry),
        wish=GroupWish(entry.retention, entry.class_, entry.kms_key, entry.tags),
        max_event=entry.max_event_size,
        rules=_rules(entry),
        flush_interval=flush_interval,
        quiet=entry.multiline_timeout,
        counted=counted,
    )


def _destination(entry: LogFile) -> Callable[[str, float], tuple[str, str]]:
    group, stream = Template(entry.group, Place.LOG_GROUP), Template(entry.stream, Place.LOG_STREAM)
    return lambda path, epoch: (
        group.render(file=shown(path), now=epoch),
        stream.render(file=shown(path), now=epoch),
    )


def _rules(entry: LogFile) -> EventRules | None:
    """What the entry asks of its events beyond being lines of UTF-8; None: nothing."""
    encoding = codecs.lookup(entry.encoding).name
    asked = entry.keep or entry.drop or entry.multiline or entry.timestamp or entry.metrics
    if encoding in ("utf-8", "ascii") and not asked:
        return None
    parse = None
    if entry.timestamp is not None:
        parse = reader(entry.timestamp.format, entry.timestamp.timezone, entry.timestamp.json_key)
    counters = tuple(metric.match for metric in entry.metrics)
    return EventRules(encoding, _joiner(entry), entry.keep, entry.drop, parse, counters)


def _joiner(entry: LogFile) -> Callable[[], Joiner] | None:
    wanted = entry.multiline
    if wanted is None:
        return None
    if isinstance(wanted, str):
        return partial(preset, wanted)
    if wanted.start is not None:
        return partial(starting, wanted.start)
    assert wanted.continue_ is not None
    return partial(continuing, wanted.continue_)
