"""One measured number, with what it should be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether it is as it should be; None where nothing is demanded."""
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.at_least is not None:
            return self.value >= self.at_least
        return None

    def __str__(self) -> str:
        demand = ""
        if self.at_most is not None:
            demand = f"at most {self.at_most:g}"
        if self.at_least is not None:
            demand = f"at least {self.at_least:g}"
        mark = {True: "ok", False: "MISSED", None: ""}[self.reached]
        return f"{self.name:<62} {self.value:>9.2f} {self.unit:<9} {demand:<15} {mark}"
