"""The section `restore`: the way back from S3, once at boot."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.config.base import Section
from agent.config.names import BucketName, UserName
from agent.config.places import Place, Placed
from agent.config.values import DirectoryPath, FileMode


class Restore(Section):
    """What is brought back from S3 at boot, before the application starts, by outlive-restore.service."""

    bucket: BucketName = Field(description="The bucket.")
    prefix: Annotated[str, Placed(Place.KEY_PREFIX)] = Field(description="What the objects' keys begin with.")
    newest: bool = Field(
        default=True,
        strict=True,
        description="The newest object alone, as the file `path`; `false`: all objects, below the directory `path`.",
    )
    path: DirectoryPath = Field(description="Where it goes.")
    mode: FileMode = Field(default=0o640, description="The permissions of the files.")
    owner: UserName | None = Field(
        default=None,
        description="The user that owns the files, and its group; null: the one that the service runs as.",
    )
    required: bool = Field(
        default=False, strict=True, description="Fail, so that the application does not start, if there is nothing."
    )
    overwrite: bool = Field(default=False, strict=True, description="Replace what exists already.")
