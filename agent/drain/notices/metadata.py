"""What the sources that ask instance metadata share: silence is said, and is never a notice."""

from __future__ import annotations

from agent.aws.metadata import Metadata, MetadataError
from agent.engine.events import Events


class Question:
    """One path of the metadata service, asked again and again."""

    def __init__(self, metadata: Metadata, path: str, events: Events) -> None:
        self._metadata = metadata
        self._path = path
        self._events = events

    def ask(self) -> str | None:
        """The value; None where it is absent, empty, or not to be had now."""
        try:
            value = self._metadata.get(self._path)
        except MetadataError as error:
            self._events.trouble(
                "warning",
                "metadata_silent",
                self._path,
                counter="metadata_failures",
                path=self._path,
                error=str(error),
            )
            return None
        self._events.over("metadata_silent", self._path, said="metadata_answers_again", path=self._path)
        return value or None
