"""What can go wrong in the demo itself; each message says what to do."""

from __future__ import annotations


class DemoError(Exception):
    """The demo can't go on.

    DemoError
    ├── ChildFailed     a process of the demo did not start or ended by itself: its last words are in the message
    ├── StandinsSilent  the stand-ins do not answer: the machine is too busy, or their process has ended
    └── TooLate         the agent did not do in time what the scene is about
    """


class ChildFailed(DemoError):
    """A process of the demo ended when it should not have."""

    def __init__(self, name: str, code: int | None, last_words: str) -> None:
        how = "did not come up in time" if code is None else f"ended by itself, exit code {code}"
        super().__init__(f"{name} {how}; it said: {last_words or 'nothing'}")


class StandinsSilent(DemoError):
    """The control API of the stand-ins gave no answer, or not the expected one."""


class TooLate(DemoError):
    """A scene has come to its longest time without what it waits for."""
