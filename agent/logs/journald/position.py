"""Where an entry stands in the journal: its cursor, and the clocks that tell what comes before what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

_FILE_KEYS = ("s=", "i=")  # parts of a cursor that name the journal file's sequence; all others are the entry's own


@dataclass(frozen=True, slots=True)
class Position:
    """One entry. `cursor` is journalctl's; the rest are the address fields of systemd.journal-fields(7)."""

    cursor: str
    boot: str  # _BOOT_ID: 32 hexadecimal digits
    monotonic: int  # __MONOTONIC_TIMESTAMP: µs since that boot, as journald received the entry
    realtime: int  # __REALTIME_TIMESTAMP: µs since the epoch

    @classmethod
    def of_entry(cls, fields: Mapping[str, Any]) -> Position:
        """From an entry as journalctl prints it. Raises KeyError, TypeError, ValueError where that makes no sense."""
        cursor, boot = fields["__CURSOR"], fields["_BOOT_ID"]
        if not isinstance(cursor, str) or not isinstance(boot, str) or not cursor:
            raise TypeError(cursor)
        return cls(cursor, boot, int(fields["__MONOTONIC_TIMESTAMP"]), int(fields["__REALTIME_TIMESTAMP"]))

    @classmethod
    def of_document(cls, document: bytes) -> Position | None:
        return cls(**orjson.loads(document)) if document else None

    def document(self) -> bytes:
        return orjson.dumps(asdict(self))

    def same_entry(self, other: Position) -> bool:
        """Whether both are one entry, also if journald has moved it to another file (from /run to /var) since."""
        if self.cursor == other.cursor:
            return True
        return (self.boot, self.monotonic, self.realtime) == (other.boot, other.monotonic, other.realtime) and (
            _contents(self.cursor) == _contents(other.cursor)
        )


def _contents(cursor: str) -> list[str]:
    """The parts of a cursor that the entry keeps wherever it is stored."""
    return [part for part in cursor.split(";") if not part.startswith(_FILE_KEYS)]
