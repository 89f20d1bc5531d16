"""The processes of the demo: none of them outlives it unless it is told so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.demo.child import Child
from agent.demo.interrupts import Interrupts

_PATIENCE = 3.0  # seconds for a process to end by itself once it was asked


class Cast:
    """Starts processes, and ends those that still run, each by its id."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._children: list[Child] = []

    def start(
        self, name: str, module: str, arguments: Sequence[str], log: str, variables: Mapping[str, str] | None = None
    ) -> Child:
        """Run `python -m MODULE ARGUMENTS`. Raises OSError."""
        with self._interrupts.later():  # no process is started without being known here
            child = Child(name, module, arguments, log, variables or {})
            self._children.append(child)
        return child

    def dismiss(self, *, but: Child | None = None) -> list[str]:
        """End all that still run, the latest first, except `but`; what was ended, for people."""
        ended = []
        for child in reversed(self._children):
            if child is not but and child.poll() is None:
                child.end(_PATIENCE)
                ended.append(f"{child.name} (process {child.pid})")
        return ended
