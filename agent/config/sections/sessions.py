"""The section `sessions`: session files that outlive the instance in a table or a cache."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.config.base import Section
from agent.config.markers import Seconds
from agent.config.names import SessionTarget
from agent.config.values import DirectoryPath


class Sessions(Section):
    """A directory of session files, kept in a table or cache with a time to live, and restored at boot."""

    path: DirectoryPath = Field(description="The directory.")
    target: SessionTarget = Field(
        repr=False, description="`dynamodb:TABLE`, `redis://HOST:PORT/DATABASE`, or `rediss://` for TLS."
    )
    ttl: Annotated[float, Seconds("1s", "366d")] = Field(
        description="How long a session lives after its last change."
    )
    restore: bool = Field(default=True, strict=True, description="Bring sessions back at boot.")
