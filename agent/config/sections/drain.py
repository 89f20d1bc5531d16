"""The section `drain`: what happens when the instance must go."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from agent.config.base import Section, duplicates
from agent.config.markers import Seconds
from agent.config.names import HookName, QueueName, ShortName, TargetGroupArn, Text, Topic
from agent.config.places import Place, Placed, Uses
from agent.config.values import Arguments

_HOOK_MAX = "48h"  # the longest that a lifecycle hook waits (PutLifecycleHook)

GroupName = Annotated[Text, Field(max_length=255)]


class Triggers(Section):
    """What starts a drain, besides an operator."""

    auto_scaling: bool = Field(
        default=True,
        strict=True,
        description="The lifecycle state that Auto Scaling wants, asked of instance metadata every 2s.",
    )
    queue: QueueName | None = Field(
        default=None,
        description="An SQS queue (name or URL) of hook or EventBridge messages; for small groups, since every "
        "instance reads all of them.",
    )
    spot: bool = Field(default=True, strict=True, description="A spot interruption notice.")
    rebalance: bool = Field(default=False, strict=True, description="A rebalance recommendation.")
    scheduled_events: bool = Field(default=False, strict=True, description="A scheduled event of EC2.")
    shutdown: bool = Field(default=True, strict=True, description="SIGTERM while the system is going down.")


class Step(Section):
    """A command. It is told DRAIN_ID, DRAIN_REASON and DRAIN_DEADLINE (seconds of the epoch) by its environment.

    DRAIN_REASON is one of auto-scaling, warm-pool, spot, rebalance, scheduled, shutdown, operator.
    """

    name: ShortName = Field(description="What it is called in the journal and the receipt; unique.")
    run: Arguments = Field(description="The command and its arguments, never run by a shell.")
    as_: Literal["root"] | None = Field(
        default=None,
        alias="as",
        description="null: the agent's own user. `root`: by outlive-helper, from configuration that root owns only.",
    )
    timeout: Annotated[float, Seconds("1s", _HOOK_MAX)] = Field(default=60.0, description="How long it may take.")
    on_failure: Literal["continue", "incomplete"] = Field(
        default="continue", description="Go on, or count the drain as incomplete."
    )
    on_resume: Literal["rerun", "skip", "fail"] = Field(
        default="rerun", description="What becomes of it when the agent was interrupted in the middle of it."
    )
    at_shutdown: bool = Field(default=False, strict=True, description="Run it too when the system is shutting down.")


class Receipt(Section):
    """Where the receipt goes, before the hook is completed."""

    bucket: Annotated[str, Placed(Place.BUCKET)] | None = Field(
        default=None,
        description="The bucket, for PREFIX{auto_scaling_group|-}/{instance_id}/DRAIN_ID.REVISION.json; null: the "
        "receipt stays on the instance, and `check` warns.",
    )
    prefix: Annotated[str, Placed(Place.KEY_PREFIX, Uses.DATE)] = Field(
        default="receipts/", description="What the key begins with."
    )
    group: Annotated[str, Placed(Place.LOG_GROUP, Uses.DATE)] | None = Field(
        default=None, description="A log group for the event that sums it up; null: none."
    )
    notify: Topic | None = Field(default=None, description="An SNS topic that is told of it; null: none.")


class Drain(Section):
    """What happens when the instance must go: everything is emptied, verified, and written in a receipt."""

    triggers: Triggers = Field(default=Triggers(), description="What starts a drain.")
    auto_scaling_group: GroupName | None = Field(
        default=None, description="The group; null: found out at start and hourly."
    )
    hook: HookName | None = Field(
        default=None,
        description="The lifecycle hook to complete; null: the group's only terminating one. If there are several, "
        "or asking is denied: a warning, and no completion.",
    )
    timeout: Annotated[float, Seconds("1s", _HOOK_MAX)] = Field(
        default=900.0, description="The longest that a drain may take."
    )
    shutdown_timeout: Annotated[float, Seconds("1s", _HOOK_MAX)] = Field(
        default=60.0,
        description="The same at shutdown. After a spot notice: until 10s before the time that it names.",
    )
    before: tuple[Step, ...] = Field(default=(), description="Commands that run first, in order.")
    deregister: tuple[TargetGroupArn, ...] = Field(
        default=(),
        description="Target groups that this instance is taken out of, and whose connections to it are waited for.",
    )
    after: tuple[Step, ...] = Field(default=(), description="Commands that run when all is proven or the time is up.")
    on_incomplete: Literal["hold", "abandon", "continue"] = Field(
        default="hold",
        description="The answer to the hook if `timeout` comes while something could still be saved. `hold`: ABANDON "
        "where the group retains abandoned instances, else CONTINUE.",
    )
    strict: bool = Field(
        default=False, strict=True, description="What AWS refused for good makes a drain incomplete too."
    )
    receipt: Receipt = Field(default=Receipt(), description="The receipt.")

    @model_validator(mode="after")
    def _distinct_steps(self) -> Drain:
        repeated = duplicates([step.name for step in (*self.before, *self.after)])
        if repeated:
            raise ValueError(f"two steps are called {', '.join(repeated)}; the drain's journal tells steps by name")
        return self
