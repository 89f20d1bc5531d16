"""Which entries an entry of `logs.journald` means: what journalctl is told, and what it can't be told."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from agent.config.sections.logs import Journal

PRIORITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")  # syslog(3), by number
_PATTERN = re.compile(r"[*?\[]")
_KINDS = re.compile(r"\.(service|socket|target|device|mount|automount|swap|timer|path|slice|scope)$")
_ABOUT = (  # a field that names a unit, and which trusted field must say what for it to count
    ("UNIT", "_PID", re.compile(r"1$")),
    ("OBJECT_SYSTEMD_UNIT", "_UID", re.compile(r"0$")),
    ("COREDUMP_UNIT", "_SYSTEMD_UNIT", re.compile(r"systemd-coredump@")),
)


@dataclass(frozen=True)
class Selection:
    """Units, priority and matches of one entry of the configuration."""

    units: tuple[str, ...] = ()
    priority: str = "debug"
    matches: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_entry(cls, entry: Journal) -> Selection:
        return cls(tuple(dict.fromkeys(entry.units)), entry.priority, dict(entry.matches))

    @property
    def key(self) -> str:
        """The same for selections that mean the same."""
        return orjson.dumps([sorted(self.units), self.priority, sorted(self.matches.items())]).decode()

    @property
    def label(self) -> str:
        """For people: `journal`, with what narrows it."""
        priority = [self.priority] if self.priority != PRIORITIES[-1] else []
        return " ".join(
            ["journal", *self.units, *priority, *(f"{name}={value}" for name, value in self.matches.items())]
        )

    @property
    def by_pattern(self) -> bool:
        """Whether some unit is a pattern: journalctl looks up once, at its start, which units there are."""
        return any(_PATTERN.search(unit) for unit in self.units)

    def arguments(self) -> list[str]:
        """For journalctl. The least important priority is none: `-p debug` leaves out entries without one."""
        units = [] if self.by_pattern else [f"--unit={unit}" for unit in self.units]
        priority = [f"--priority={self.priority}"] if self.priority != PRIORITIES[-1] else []
        return [*units, *priority, *(f"{name}={value}" for name, value in self.matches.items())]

    def wants(self, fields: Mapping[str, Any]) -> bool:
        """Whether an entry is meant, as far as journalctl was not told: it must be of a unit, or about one."""
        if not self.by_pattern:
            return True
        names = {unit if _KINDS.search(unit) or _PATTERN.search(unit) else f"{unit}.service" for unit in self.units}
        found = [fields.get("_SYSTEMD_UNIT"), fields.get("_SYSTEMD_SLICE"), about(fields)]
        return any(isinstance(each, str) and fnmatch.fnmatchcase(each, name) for each in found for name in names)


def about(fields: Mapping[str, Any]) -> str | None:
    """The unit that systemd, root, or the handler of core dumps says something about; as journalctl -u takes it.

    Anybody may write these fields: they count only where the trusted ones say that it was one of these.
    """
    for name, witness, words in _ABOUT:
        unit = fields.get(name)
        if unit is not None and isinstance(unit, str) and words.match(str(fields.get(witness))):
            return unit
    return None
