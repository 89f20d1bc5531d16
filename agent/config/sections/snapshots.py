"""The section `snapshots`: structured state that no directory holds, streamed to S3."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from agent.config.base import Section
from agent.config.markers import Seconds
from agent.config.names import BucketName, RoleArn, ShortName
from agent.config.places import Place, Placed, Uses
from agent.config.values import AbsolutePath, Arguments, Cron


class Snapshot(Section):
    """A consistent copy of a database, on a schedule and at drain: of an SQLite file, or what a command prints."""

    name: ShortName = Field(description="What it is called in the status and the receipt; unique.")
    sqlite: AbsolutePath | None = Field(
        default=None, description="An SQLite database, copied while it is in use. This or `command`."
    )
    command: Arguments | None = Field(
        default=None, description="A command, never run by a shell, whose standard output is the snapshot."
    )
    bucket: BucketName = Field(description="The bucket.")
    key: Annotated[str, Placed(Place.OBJECT_KEY, Uses.DATE)] = Field(description="The object's key.")
    every: Annotated[float, Seconds("1m", "30d")] | None = Field(
        default=None, description="How often. This or `cron`; null: no schedule."
    )
    cron: Cron | None = Field(
        default=None, description='When, by the five fields of crontab in local time, as `"30 2 * * mon-fri"`.'
    )
    at_drain: bool = Field(default=True, strict=True, description="Take one more when the instance drains.")
    timeout: Annotated[float, Seconds("1s", "1d")] = Field(default=300.0, description="How long one may take.")
    role_arn: RoleArn | None = Field(default=None, description="A role for these calls instead of `aws.role_arn`.")

    @model_validator(mode="after")
    def _one_source(self) -> Snapshot:
        if (self.sqlite is None) == (self.command is None):
            raise ValueError("write exactly one of sqlite and command")
        return self

    @model_validator(mode="after")
    def _one_schedule(self) -> Snapshot:
        if self.every is not None and self.cron is not None:
            raise ValueError("write only one of every and cron")
        if self.every is None and self.cron is None and not self.at_drain:
            raise ValueError("it would never run; write every, cron, or at_drain: true")
        return self
