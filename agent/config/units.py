"""Durations and sizes: from what a user writes (`5s`, `16MiB`) to seconds and bytes, and back for the reference."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from agent.config.errors import quoted

SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([A-Za-z]+)")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)%")


def parse_duration(value: object) -> float:
    """Seconds, from `250ms`, `5s`, `2m`, `1h`, `30d` or a plain number of seconds. Raises ValueError."""
    amount, unit = _amount(value, "a duration: 250ms, 5s, 2m, 1h, 30d, or a number of seconds", SECONDS)
    return float(amount * SECONDS[unit or "s"])


def parse_size(value: object) -> int:
    """Bytes, from `64KiB`, `10MB` or a plain number of bytes. Raises ValueError."""
    amount, unit = _amount(value, "a size: 64KiB, 10MB, 1GiB, or a number of bytes", BYTES)
    size = amount * BYTES[unit or "B"]
    if size != int(size):
        raise ValueError(f"{quoted(value)} is not a whole number of bytes")
    return int(size)


def parse_percentage(value: object) -> float:
    """A share from 0 to 1, from `0%` to `100%`. Raises ValueError."""
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None or Decimal(match[1]) > 100:
        raise ValueError(f"{quoted(value)} is not a percentage from 0% to 100%")
    return float(Decimal(match[1]) / 100)


def format_duration(seconds: float) -> str:
    """The shortest exact form, in the largest unit of which there are at least two: 60s, 10m, 13d."""
    exact = Decimal(repr(seconds))
    for unit in ("d", "h", "m"):
        if exact >= 2 * SECONDS[unit] and exact % SECONDS[unit] == 0:
            return f"{_plain(exact / SECONDS[unit])}{unit}"
    if exact == 0 or exact >= 1:
        return f"{_plain(exact)}s"
    return f"{_plain(exact / SECONDS['ms'])}ms"


def format_size(size: int) -> str:
    """The shortest exact form, binary units first: 4MiB, 10MB, 1000B."""
    for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "KB"):
        if size >= BYTES[unit] and size % BYTES[unit] == 0:
            return f"{size // BYTES[unit]}{unit}"
    return f"{size}B"


def format_percentage(share: float) -> str:
    """`10%` for 0.1."""
    return f"{_plain(Decimal(repr(share)) * 100)}%"


def _amount(value: object, wanted: str, units: dict[str, Decimal] | dict[str, int]) -> tuple[Decimal, str]:
    """A number that is not negative, and its unit: empty for a plain number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if math.isfinite(value) and 0 <= value < 10**15:
            return Decimal(repr(value)), ""
    elif isinstance(value, str):
        match = _AMOUNT.fullmatch(value)
        if match is not None and match[2] in units:
            return Decimal(match[1]), match[2]
        if match is not None:
            raise ValueError(f"{quoted(value)} has no unit known here; {', '.join(units)} are")
    raise ValueError(f"{quoted(value)} is not {wanted}")


def _plain(number: Decimal) -> str:
    return f"{number:f}".rstrip("0").rstrip(".") if "." in f"{number:f}" else f"{number:f}"
