"""Everything on the stage: stand-ins, agent and shop, and what the scenes do with them."""

from __future__ import annotations

import os
import time
from typing import Any

import orjson

from agent.demo import uploads
from agent.demo.cast import Cast
from agent.demo.check import Arrived
from agent.demo.child import Child
from agent.demo.cloud import Cloud
from agent.demo.errors import ChildFailed
from agent.demo.folder import RECEIPT_BUCKET, UPLOAD_BUCKET, UPLOAD_PREFIX, Folder, free_port
from agent.demo.observe import Observer, Progress
from agent.demo.receipt import Evidence, newest
from agent.demo.shop import Shop
from agent.demo.statsd import StatsdClient
from agent.demo.uploads import UploadFolder
from agent.engine.clock import Clock
from agent.engine.control import SOCKET_NAME, ControlError, ask

_GROUP, _HOOK = "web", "drain"  # of Auto Scaling
_START_SECONDS = 20.0  # for the stand-ins to come up
_POLL_SECONDS = 0.05
_STATUS_SECONDS = 2.0  # for the agent to answer
_STOP_SECONDS = 15.0  # for the agent to end after SIGTERM: it may flush for 10
_FRESH_SECONDS = 2.0  # lines younger than this are on their way as they should be


class Stage:
    """What scenes act on, all of it set up. The methods raise DemoError and OSError."""

    def __init__(
        self, cast: Cast, folder: Folder, standins: Child, variables: dict[str, str], cloud: Cloud, clock: Clock
    ) -> None:
        self.folder = folder
        self.standins = standins
        self.cloud = cloud
        self.agent: Child | None = None  # None: not started, or ended on purpose
        self._cast = cast
        self._variables = variables
        self._clock = clock
        self._outage_until = 0.0
        self._instance_id: str = cloud.about()["instance_id"]
        port = free_port()
        folder.write_configuration(port)
        self._folder = UploadFolder(folder.uploads)
        self._statsd = StatsdClient(port)
        self.shop = Shop(folder.logs, self._folder, self._statsd, self._instance_id, clock)
        self._observer = Observer(cloud, self.shop.written, self._ask_agent, clock)

    @classmethod
    def set_up(cls, cast: Cast, folder: Folder, clock: Clock) -> Stage:
        """Start the stand-ins and make what AWS would have: buckets, a group with a hook. Raises DemoError."""
        standins = cast.start(
            "the stand-ins", "agent.standin", ["--directory", folder.standins], folder.log_of("aws")
        )
        about = _wait_for_line(standins, folder.log_of("aws"))
        folder.write_environment(about["environment"])
        stage = cls(cast, folder, standins, about["environment"], Cloud(about["url"]), clock)
        stage.cloud.make_bucket(UPLOAD_BUCKET)
        stage.cloud.make_bucket(RECEIPT_BUCKET)
        stage.cloud.make_group(_GROUP, stage._instance_id, _HOOK)
        return stage

    def close(self) -> None:
        """Let go of files and sockets; processes are the cast's."""
        self.shop.close()

    def step(self) -> None:
        """Let the shop work, see that the processes live, and look how far things are."""
        self.shop.step()
        for child in (self.standins, self.agent):
            if child is not None and (code := child.poll()) is not None:
                raise ChildFailed(child.name, code, child.last_words())
        self._observer.step()

    def progress(self) -> Progress:
        return self._observer.progress()

    # -- the agent

    def start_agent(self) -> None:
        log = self.folder.log_of("agent")
        arguments = ["run", "-c", self.folder.configuration]
        self.agent = self._cast.start("the agent", "agent.cli", arguments, log, self._variables)

    def kill_agent(self) -> None:
        """As kill -9 does."""
        if self.agent is not None:
            self.agent.kill()
        self.agent = self._observer.status = None

    def end_agent(self) -> int | None:
        """SIGTERM, and its exit code; None if it does not run."""
        agent, self.agent = self.agent, None
        return None if agent is None else agent.end(_STOP_SECONDS)

    def agent_state(self) -> str:
        """For people."""
        if self.agent is None:
            return "does not run"
        status = self._observer.status
        return f"process {self.agent.pid}, {status['state'] if status else 'does not answer yet'}"

    def last_words(self) -> str:
        """What the agent said last."""
        return self.agent.last_words() if self.agent is not None else "none"

    def agent_works(self) -> bool:
        """Whether it answers, and listens for StatsD."""
        status = self._observer.status
        return self.agent is not None and status is not None and self._statsd.heard()

    def _ask_agent(self) -> dict[str, Any] | None:
        if self.agent is None:
            return None
        try:
            return ask(os.path.join(self.folder.run, SOCKET_NAME), "status", timeout=_STATUS_SECONDS)
        except ControlError:
            return None

    # -- the shop

    def open_shop(self) -> None:
        self.shop.open()
        self._statsd.resume()
        self._folder.drop(uploads.FIRST_DROPS)

    def rotate(self) -> None:
        self.shop.rotate()

    def change_files(self) -> None:
        """Drop more, overwrite some, and let one grow slowly."""
        self._folder.drop(uploads.LATER_DROPS)
        self._folder.drop(uploads.OVERWRITTEN)
        self._folder.grow(*uploads.SLOW, self._clock.monotonic())

    def hush_statsd(self) -> None:
        self._statsd.pause()

    def resume_statsd(self) -> None:
        self._statsd.resume()

    def close_shop(self) -> None:
        """The last file is dropped, and everything stops."""
        self._folder.drop(uploads.LAST_DROPS)
        self.shop.close()

    def lines_flow(self) -> bool:
        """Whether CloudWatch has all lines but the latest."""
        return self._observer.lag() < _FRESH_SECONDS

    def may_crash(self) -> bool:
        """Whether CloudWatch has all samples and the agent knows it, and lines of every log file have arrived.

        A file that is renamed before the agent has ever seen it is, by its configuration, none of its business.
        """
        status = self._observer.status
        arrived = self._observer.samples_arrived() >= self.shop.written.samples
        safe = arrived and status is not None and status["metrics"]["spooled"] == 0
        return safe and not self.shop.is_rotating and self._observer.all_files_seen()

    # -- AWS

    def refuse_connections(self, seconds: float) -> None:
        """An outage."""
        self._outage_until = self._clock.monotonic() + seconds
        self.cloud.refuse_connections(seconds)

    def aws_state(self) -> str:
        """For people."""
        return "refuses all connections" if self._clock.monotonic() < self._outage_until else "answers"

    def give_notice(self) -> None:
        self.cloud.give_notice(self._instance_id)

    def hook_answered(self) -> bool:
        passage = self.cloud.passage()
        return passage is not None and passage["seconds"] is not None

    # -- the end

    def arrived(self) -> Arrived:
        """Everything that the stand-ins hold of the shop's."""
        destinations = {generation.destination for generation in self.shop.written.generations}
        keys = self.cloud.objects(UPLOAD_BUCKET)
        return Arrived(
            streams={each: self.cloud.messages(*each) for each in sorted(destinations)},
            objects={key.removeprefix(UPLOAD_PREFIX): self.cloud.content(UPLOAD_BUCKET, key) for key in keys},
            metrics=self.cloud.metrics(),
        )

    def evidence(self, exit_code: int | None) -> Evidence:
        """What the drain left behind."""
        found = newest(self.folder.receipts)
        passage = self.cloud.passage() or {}
        return Evidence(
            here=found[1] if found else None,
            stored=self._stored(found[0]) if found else None,
            answer=next((action["result"] for action in passage.get("actions", ())), None),
            seconds=passage.get("seconds"),
            before_ran=os.path.exists(self.folder.stopped),
            exit_code=exit_code,
        )

    def _stored(self, name: str) -> bytes | None:
        keys = [key for key in self.cloud.objects(RECEIPT_BUCKET) if key.endswith(f"/{name}")]
        return self.cloud.content(RECEIPT_BUCKET, keys[0]) if keys else None


def _wait_for_line(standins: Child, log: str) -> dict[str, Any]:
    """The line of JSON that says where the stand-ins are. Raises ChildFailed."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        code = standins.poll()
        if code is not None:
            raise ChildFailed(standins.name, code, standins.last_words())
        with open(log, "rb") as file:
            for line in file:
                if line.startswith(b"{") and line.endswith(b"\n"):
                    about: dict[str, Any] = orjson.loads(line)
                    return about
        time.sleep(_POLL_SECONDS)
    raise ChildFailed(standins.name, None, standins.last_words())
