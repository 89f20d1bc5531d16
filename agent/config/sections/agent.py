"""The section `agent`: the process itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.config.base import Section
from agent.config.markers import Seconds
from agent.config.names import InstanceId
from agent.config.places import Place, Placed, Uses
from agent.config.values import LoopbackAddress

OwnDirectory = Annotated[str, Placed(Place.OWN_PATH, Uses.OWN_DIRECTORY)]


class Agent(Section):
    """The agent's own process: where it keeps its state, what it says, how it stops. Never off."""

    state_dir: OwnDirectory = Field(
        default="/var/lib/outlive",
        description="Directory of state.db, the metric spool and the drain's journal. It belongs on a durable disk, "
        "and to one agent: a second one that starts with it exits with 1.",
    )
    run_dir: OwnDirectory = Field(
        default="/run/outlive", description="Directory of the control socket (mode 0600) and the like."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least level of the agent's own log that is written."
    )
    instance_id: InstanceId | None = Field(
        default=None,
        description="The instance's id where there is no instance metadata to ask; null: ask it, and off EC2 take "
        "the host name.",
    )
    stop_timeout: Annotated[float, Seconds("0s", "1h")] = Field(
        default=10.0, description="How long SIGTERM may flush while the system itself is not going down."
    )
    status_address: LoopbackAddress | None = Field(
        default=None,
        description="Where to serve GET /healthz, /metrics, /status and /, as `127.0.0.1:9464`; null: nowhere.",
    )
