"""Placeholders in a loaded configuration: which facts they need, and putting the facts in.

Two times: `resolve`, once at start, replaces what is true of the instance; a `Template` replaces the date and what is
true of one file, whenever a batch is formed or an upload begins.

Errors: PlaceholderError of `agent.config.errors`
├── MissingPlaceholders  no value here and no fallback
└── UnfitPlaceholders    no valid name with the value
"""

from __future__ import annotations

import os.path
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from agent.config.errors import Finding, MissingPlaceholders, UnfitPlaceholders
from agent.config.grammar import LATE_NAMES, Placeholder, parse, placeholders
from agent.config.places import Place, Placed
from agent.config.schema import Config
from agent.config.walk import rewrite

__all__ = ["Facts", "MissingPlaceholders", "Place", "Template", "UnfitPlaceholders", "needed", "resolve"]

_METADATA = "instance metadata gave no such value, or was not asked because this is no EC2 instance"
_REASONS = {
    "instance_id": f"{_METADATA}; set agent.instance_id",
    "hostname": "the system has no host name",
    "region": f"{_METADATA}; set aws.region",
    "auto_scaling_group": "the instance belongs to no group, or may not ask; set drain.auto_scaling_group",
    "tag": "the instance has no such tag, or does not allow tags in its metadata",
    "env": "the agent's environment has no such variable, or an empty one",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of this instance. None, empty, or not in the map: there is no such value here.

    `state_dir` and `run_dir` None: those of the configuration.
    """

    instance_id: str | None = None
    hostname: str | None = None
    private_ip: str | None = None
    region: str | None = None
    account_id: str | None = None
    availability_zone: str | None = None
    instance_type: str | None = None
    image_id: str | None = None
    auto_scaling_group: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    state_dir: str | None = None
    run_dir: str | None = None

    def value(self, placeholder: Placeholder) -> str | None:
        """What stands for a placeholder of the instance, or None where there is nothing."""
        if placeholder.name == "tag":
            return self.tags.get(placeholder.argument) or None
        if placeholder.name == "env":
            return self.env.get(placeholder.argument) or None
        value: str | None = getattr(self, placeholder.name)
        return value or None


def needed(config: Config) -> set[str]:
    """The facts that a configuration uses, as placeholders name them: `region`, `tag:Name`, `env:STAGE`, ...

    Only those of the instance: the date and a file's names need no asking.
    """
    facts: set[str] = set()

    def collect(text: str, _placed: Placed, _key: str) -> str:
        facts.update(each.fact for each in placeholders(text) if each.name not in LATE_NAMES)
        return text

    rewrite(config, collect)
    return facts


def resolve(config: Config, facts: Facts) -> Config:
    """The configuration with all placeholders of the instance replaced; those of date and file stay.

    Characters of a value that its place does not allow become underscores. Raises MissingPlaceholders or
    UnfitPlaceholders, with everything that is wrong.
    """
    agent = rewrite(config.agent, _Resolver(facts), "agent")
    facts = replace(facts, state_dir=facts.state_dir or agent.state_dir, run_dir=facts.run_dir or agent.run_dir)
    resolver = _Resolver(facts)
    resolved = rewrite(config, resolver)
    resolver.raise_if_wrong()
    return resolved


class _Resolver:
    """Replaces placeholders in one text after the other, and remembers what could not be."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._missing: list[Finding] = []
        self._unfit: list[Finding] = []

    def __call__(self, text: str, placed: Placed, key: str) -> str:
        parts = parse(text)
        if len(parts) == 1 and parts[0] == text:
            return text
        missing = len(self._missing)
        resolved = "".join(self._replace(part, placed.place, key) for part in parts)
        if missing == len(self._missing) and (complaint := placed.complaint(resolved)) is not None:
            self._unfit.append(Finding("", 0, 0, key, f"{text}, with its values: {complaint}"))
        return resolved

    def raise_if_wrong(self) -> None:
        if self._missing:
            raise MissingPlaceholders([*self._missing, *self._unfit])
        if self._unfit:
            raise UnfitPlaceholders(self._unfit)

    def _replace(self, part: str | Placeholder, place: Place, key: str) -> str:
        if isinstance(part, str):
            return part
        if part.name in LATE_NAMES:
            return str(part)
        value = self._facts.value(part)
        if value is not None:
            return place.fit(value, part.name)
        if part.fallback is not None:
            return part.fallback
        reason = _REASONS.get(part.name, _METADATA)
        fallback = f"{{{part.fact}|...}}"
        message = f"{part} has no value here: {reason}; or give a fallback, {fallback}"
        self._missing.append(Finding("", 0, 0, key, message))
        return ""


class Template:
    """A resolved text whose date and file placeholders are filled in again and again. Safe to share between threads.

    What `render` gives always fits the place: characters are replaced as `resolve` does, and what is too long ends in
    a digest of the whole.
    """

    __slots__ = ("_parts", "_place", "_text", "needs_file", "needs_time")

    def __init__(self, text: str, place: Place) -> None:
        parts = parse(text)
        names = {part.name for part in parts if isinstance(part, Placeholder)}
        if not names <= LATE_NAMES:
            raise ValueError(f"{text!r} is not resolved")
        self._text = text
        self._place = place
        self._parts = tuple(part if isinstance(part, str) else _late(part) for part in parts)
        self.needs_time = "date" in names
        self.needs_file = bool(names - {"date"})

    def render(self, *, file: str | None = None, now: float = 0.0) -> str:
        """The text for one file and one moment.

        `file` is an absolute path, wanted if `needs_file`; `now` is in seconds of the epoch, wanted if `needs_time`.
        """
        if not (self.needs_time or self.needs_file):
            return self._text
        if self.needs_file and file is None:
            raise ValueError(f"{self._text!r} needs a file")
        path = file or ""
        fit = self._place.fit
        return self._place.shorten(
            "".join(part if isinstance(part, str) else fit(part(path, now)) for part in self._parts)
        )


def _late(part: Placeholder) -> Callable[[str, float], str]:
    """What stands for a placeholder of date or file, given a path and a moment."""
    if part.name == "date":
        return lambda _path, now: time.strftime(part.argument, time.gmtime(now))
    return _FILE_VALUES[part.name]


_FILE_VALUES: dict[str, Callable[[str, float], str]] = {
    "file_name": lambda path, _now: os.path.basename(path),
    "file_stem": lambda path, _now: os.path.splitext(os.path.basename(path))[0],
    "file_path": lambda path, _now: path.replace("/", "_"),
    "parent": lambda path, _now: os.path.basename(os.path.dirname(path)),
}
