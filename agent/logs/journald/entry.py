"""One entry of the journal as events of CloudWatch Logs: a compact JSON object, or several if it is too long."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from agent.aws.limits import LOG_EVENT_BYTES
from agent.logs.journald.position import Position
from agent.logs.journald.selection import PRIORITIES, about

FIELDS = (
    "MESSAGE",
    "PRIORITY",
    "SYSLOG_IDENTIFIER",
    "_COMM",
    "_PID",
    "SYSLOG_PID",
    "_SYSTEMD_UNIT",
    "_SYSTEMD_SLICE",
    "UNIT",
    "OBJECT_SYSTEMD_UNIT",
    "COREDUMP_UNIT",
    "_UID",
)
"""The fields that journalctl is asked for, beside those of `Position`, which it always prints."""

_LONGEST_LABEL = 1024  # characters beside the message in each part; what is longer goes to the head of the message
_PRIORITY_NAMES = {str(number): name for number, name in enumerate(PRIORITIES)}
_MOST_PARTS = 99_999  # has as many digits as any number of parts
_ADDRESS = re.compile(rb'(?<!\\)"(__CURSOR|_BOOT_ID|__MONOTONIC_TIMESTAMP|__REALTIME_TIMESTAMP)"\s*:\s*"([^"\\]*)"')


def events(fields: Mapping[str, Any], longest: int = LOG_EVENT_BYTES) -> list[str]:
    """The messages of an entry's events, each at most `longest` bytes of UTF-8.

    Raises TypeError or ValueError for a value that journalctl would not print.
    """
    labels, message = _labels(fields), text(fields.get("MESSAGE"))
    whole = orjson.dumps({"message": message, **labels})
    return [whole.decode()] if len(whole) <= longest else _split(message, labels, longest)


def _split(message: str, labels: dict[str, str | int], longest: int) -> list[str]:
    """An entry that is too long for one event."""
    for name in [name for name, value in labels.items() if len(str(value)) > _LONGEST_LABEL]:
        message = f"{name}={labels.pop(name)}\n{message}"
    frame = orjson.dumps({"message": "", "part": _MOST_PARTS, "parts": _MOST_PARTS, **labels})
    pieces = _pieces(message, longest - len(frame))
    numbered = enumerate(pieces, start=1)
    return [
        orjson.dumps({"message": piece, "part": part, "parts": len(pieces), **labels}).decode()
        for part, piece in numbered
    ]


def text(value: Any) -> str:
    """A field's value: text; numbers for bytes that are no printable text; a list of such where it occurs repeatedly.

    Source: the JSON format in journalctl(1). Raises TypeError or ValueError for anything else.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if not isinstance(value, list):
        raise TypeError(value)
    if value and all(isinstance(each, int) for each in value):
        return bytes(value).decode("utf-8", "replace")
    return "\n".join(map(text, value))


def salvage(data: bytes) -> Position | None:
    """Which entry a line was of which only the ends are left. Inside of a value no quote stands unescaped."""
    found = {name.decode(): value.decode("ascii", "replace") for name, value in _ADDRESS.findall(data)}
    try:
        return Position.of_entry(found)
    except (KeyError, TypeError, ValueError):
        return None


def _labels(fields: Mapping[str, Any]) -> dict[str, str | int]:
    """What is known beside the message; what is not known is left out."""
    labels: dict[str, str | int] = {}
    if priority := _first(fields, "PRIORITY"):
        labels["priority"] = _PRIORITY_NAMES.get(priority, priority)
    if unit := about(fields) or _first(fields, "_SYSTEMD_UNIT"):
        labels["unit"] = unit
    if identifier := _first(fields, "SYSLOG_IDENTIFIER", "_COMM"):
        labels["identifier"] = identifier
    if pid := _first(fields, "_PID", "SYSLOG_PID"):
        labels["pid"] = int(pid) if pid.isascii() and pid.isdigit() and len(pid) < 10 else pid
    return labels


def _first(fields: Mapping[str, Any], *names: str) -> str:
    """The first of the fields that is there."""
    for name in names:
        value = fields.get(name)
        if value:
            return value if isinstance(value, str) else text(value)
    return ""


def _pieces(message: str, room: int) -> list[str]:
    """The message in pieces, each at most `room` bytes as JSON, halved between characters."""
    if len(orjson.dumps(message)) - 2 <= room:
        return [message]
    middle = len(message) // 2
    return [*_pieces(message[:middle], room), *_pieces(message[middle:], room)]
