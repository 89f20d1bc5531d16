"""What differs between the configuration that runs and the one that shall: decided before anything is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from agent.config.base import Section
from agent.config.schema import Config
from agent.config.sections.logs import Logs

T = TypeVar("T")

JOBS = ("logs", "metrics", "uploads")
_FIXED = ("state_dir", "run_dir", "instance_id")  # of `agent`: everything that was made stands on them


@dataclass(frozen=True)
class Plan:
    """What is to be done; `changes` says it to people, by keys and paths, never by values."""

    fixed: tuple[str, ...]  # keys that differ and need a restart
    jobs: tuple[str, ...]  # sections of jobs that differ
    drain: bool
    log_level: bool
    status_address: bool
    changes: tuple[str, ...]


def compare(old: Config, new: Config) -> Plan:
    """Both with their placeholders filled in."""
    agent = _differing(old.agent, new.agent)
    return Plan(
        fixed=tuple(_fixed(old, new, agent)),
        jobs=tuple(name for name in JOBS if getattr(old, name) != getattr(new, name)),
        drain=old.drain != new.drain,
        log_level="log_level" in agent,
        status_address="status_address" in agent,
        changes=tuple(_changes(old, new)),
    )


def _fixed(old: Config, new: Config, agent: Sequence[str]) -> Iterator[str]:
    yield from (f"agent.{name}" for name in agent if name in _FIXED)
    yield from (f"aws.{name}" for name in _differing(old.aws, new.aws))


def _differing(old: Section, new: Section) -> list[str]:
    """The keys of two sections of one kind that have other values."""
    fields = type(old).model_fields.items()
    return [field.alias or name for name, field in fields if getattr(old, name) != getattr(new, name)]


def _changes(old: Config, new: Config) -> Iterator[str]:
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if before is None or after is None:
            yield f"{name}: {'on' if before is None else 'off'}"
        elif isinstance(before, Logs):
            yield from _changes_of_logs(before, after)
        elif isinstance(before, Section):
            yield from (f"{name}.{key}" for key in _differing(before, after))
        else:
            yield name


def _changes_of_logs(old: Logs, new: Logs) -> Iterator[str]:
    """Entries by their paths; one that is changed shows as both."""
    yield from (f"logs.{key}" for key in _differing(old, new) if key not in ("files", "journald"))
    yield from (f"logs.files: - {' '.join(each.path)}" for each in _without(old.files, new.files))
    yield from (f"logs.files: + {' '.join(each.path)}" for each in _without(new.files, old.files))
    yield from (f"logs.journald: - {each.group}" for each in _without(old.journald, new.journald))
    yield from (f"logs.journald: + {each.group}" for each in _without(new.journald, old.journald))


def _without(some: Sequence[T], others: Sequence[T]) -> list[T]:
    """Of `some`, those that are not among `others`, as often as they are more."""
    left = list(others)
    found = []
    for each in some:
        if each in left:
            left.remove(each)
        else:
            found.append(each)
    return found
