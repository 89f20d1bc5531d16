"""The section `aws`: what of the access to AWS is not said by the SDKs' standard environment."""

from __future__ import annotations

from pydantic import Field

from agent.config.base import Section
from agent.config.names import ExternalId, Region, RoleArn


class Aws(Section):
    """Access to AWS. Keys, endpoints, CA bundle and proxies come from the standard environment of the AWS SDKs."""

    region: Region | None = Field(
        default=None,
        description="The region; null: that of AWS_REGION, AWS_DEFAULT_REGION, the profile, or instance metadata.",
    )
    role_arn: RoleArn | None = Field(
        default=None,
        description="A role to assume for all calls. `logs`, `metrics`, `uploads` and each of `snapshots` may name "
        "another for their own.",
    )
    external_id: ExternalId | None = Field(
        default=None, description="The external id that is sent whenever one of these roles is assumed."
    )
