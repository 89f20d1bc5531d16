"""What all sections of the schema share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A map of the configuration: unknown keys are refused, and nothing changes once it is read.

    Keys that are words of Python carry a trailing underscore as attributes: class_, as_, for_, continue_.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def duplicates(words: list[str]) -> list[str]:
    """The words that occur more than once, each once, in order."""
    return [word for i, word in enumerate(words) if words.index(word) == i and word in words[i + 1 :]]
