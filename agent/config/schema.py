"""The schema of the configuration: the one source of its types, defaults and documentation."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from agent.config.base import Section
from agent.config.sections.agent import Agent
from agent.config.sections.alarms import Alarm
from agent.config.sections.aws import Aws
from agent.config.sections.drain import Drain
from agent.config.sections.logs import Logs
from agent.config.sections.metrics import Metrics
from agent.config.sections.restore import Restore
from agent.config.sections.sessions import Sessions
from agent.config.sections.snapshots import Snapshot
from agent.config.sections.uploads import Uploads


class Config(Section):
    """The whole configuration. A section that is absent, or empty, is off: None. `agent` and `aws` are never off."""

    agent: Agent = Field(default=Agent(), description="The agent's own process.")
    aws: Aws = Field(default=Aws(), description="Access to AWS.")
    logs: Logs | None = Field(default=None, description="Log files and the journal, into CloudWatch Logs.")
    metrics: Metrics | None = Field(default=None, description="Samples, into CloudWatch.")
    alarms: tuple[Alarm, ...] | None = Field(
        default=None, description="CloudWatch alarms that live as long as the instance."
    )
    uploads: Uploads | None = Field(default=None, description="Directories, into S3.")
    snapshots: tuple[Snapshot, ...] | None = Field(default=None, description="Databases, into S3.")
    restore: tuple[Restore, ...] | None = Field(default=None, description="From S3, once at boot.")
    sessions: tuple[Sessions, ...] | None = Field(default=None, description="Session files, into a table or cache.")
    drain: Drain | None = Field(default=None, description="What happens when the instance must go.")

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        return {key: given for key, given in value.items() if given is not None} if isinstance(value, dict) else value
