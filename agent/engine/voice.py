"""The agent's own log at a level that can be changed while it is written."""

from __future__ import annotations

from typing import Any

from agent.engine.events import make_logger


class Voice:
    """A logger for `Events`, as `make_logger` makes one."""

    def __init__(self, level: str) -> None:
        self.level = level
        self._logger = make_logger(level)

    def set_level(self, level: str) -> None:
        """The least level that is written from here on."""
        self.level = level
        self._logger = make_logger(level)

    def debug(self, event: str, **fields: Any) -> None:
        self._logger.debug(event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        self._logger.info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._logger.warning(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        self._logger.error(event, **fields)
