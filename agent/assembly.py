"""The real parts of the agent, made from a configuration: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from agent.aws.autoscaling import AutoScaling
from agent.aws.metadata import Metadata
from agent.aws.objects import Objects
from agent.aws.session import Aws
from agent.config.placeholders import Place as Where
from agent.config.placeholders import Template
from agent.config.schema import Config
from agent.config.sections.drain import Drain
from agent.daemon import Parts, seeded
from agent.drain.hook import Answer, Heartbeat, HookFinder
from agent.drain.journal import Journal
from agent.drain.machine import Machine, Tools
from agent.drain.notice import NoticeSource
from agent.drain.notices.auto_scaling import AutoScalingNotices
from agent.drain.notices.spot import SpotNotices
from agent.drain.receipt import FOLDER
from agent.drain.store import BucketStore
from agent.drain.watcher import Watcher
from agent.engine.clock import Clock
from agent.engine.events import Events
from agent.engine.job import Job
from agent.engine.notify import ServiceNotifier
from agent.engine.state import StateDirectory
from agent.engine.workers import LINGER, Worker, WorkerThread
from agent.surroundings import Place, boot_id, find_group


def assemble(config: Config, place: Place, metadata: Metadata, aws: Aws, clock: Clock, events: Events) -> Parts:
    """All parts; nothing runs yet. `config` is resolved. Raises StateBusy."""
    return _Assembly(config, place, metadata, aws, clock, events).parts()


class _Assembly:
    """What the parts are made with."""

    def __init__(
        self, config: Config, place: Place, metadata: Metadata, aws: Aws, clock: Clock, events: Events
    ) -> None:
        self.config = config
        self.drain = config.drain or Drain()
        self.place = place
        self.metadata = metadata
        self.aws = aws
        self.clock = clock
        self.events = events
        self.rng = seeded()
        self.state = StateDirectory.open(config.agent.state_dir, place.instance_id, clock, events)
        self.database = self.state.database("state.db")
        self.scaling = AutoScaling(aws, place.instance_id)

    def parts(self) -> Parts:
        jobs = list(self.jobs())
        heartbeat = Heartbeat(self.scaling, self.clock, self.events, self.rng)
        heartbeat_thread = self.thread(heartbeat)
        machine = Machine(self.drain, self.tools(jobs, heartbeat, heartbeat_thread))
        machine_thread = self.thread(machine)
        machine.wake = machine_thread.wake
        watcher_thread = self.thread(Watcher(list(self.sources()), machine, self.clock))
        return Parts(
            config=self.config,
            instance_id=self.place.instance_id,
            clock=self.clock,
            events=self.events,
            state=self.state,
            aws=self.aws,
            jobs=jobs,
            machine=machine,
            threads=[machine_thread, watcher_thread, heartbeat_thread],
            notifier=ServiceNotifier(),
        )

    def thread(self, worker: Worker) -> WorkerThread:
        return WorkerThread(worker.name, [worker], self.clock, self.events, linger=LINGER)

    def jobs(self) -> Iterator[Job]:
        """The jobs that the configuration switches on; each is imported only then."""
        logs, metrics, uploads = self.config.logs, self.config.metrics, self.config.uploads
        if logs is not None and logs.files:
            from agent.aws.logs import Logs
            from agent.logs.job import LogsJob

            client = Logs(self.role(logs.role_arn), gzip=logs.compression == "gzip")
            yield LogsJob(logs, client, self.database, self.clock, self.events, self.rng)
        if metrics is not None:
            from agent.aws.cloudwatch import CloudWatch
            from agent.metrics.job import MetricsJob

            publisher = CloudWatch(self.role(metrics.role_arn).wire("cloudwatch"))
            yield MetricsJob(metrics, publisher, self.state, self.clock, self.events, self.rng)
        if uploads is not None and uploads.directories:
            from agent.aws.s3 import S3
            from agent.uploads.job import UploadsJob

            s3 = S3(self.role(uploads.role_arn))
            yield UploadsJob(uploads, s3, self.state, self.clock, self.events, self.rng)

    def role(self, arn: str | None) -> Aws:
        """AWS as a job's own role, or as the agent's."""
        return self.aws.as_role(arn, self.config.aws.external_id)

    def tools(self, jobs: Sequence[Job], heartbeat: Heartbeat, heartbeat_thread: WorkerThread) -> Tools:
        return Tools(
            journal=Journal(self.database, self.events),
            jobs=jobs,
            finder=HookFinder(self.scaling, self.drain.auto_scaling_group, self.drain.hook, self.events),
            heartbeat=heartbeat,
            answer=Answer(self.scaling, self.events, self.rng),
            retains_abandoned=self.scaling.retains_abandoned,
            store=self.store(),
            receipts=self.state.file(FOLDER),
            instance_id=self.place.instance_id,
            boot_id=boot_id(),
            clock=self.clock,
            events=self.events,
            rng=self.rng,
            wake_heartbeat=heartbeat_thread.wake,
        )

    def store(self) -> BucketStore | None:
        bucket = self.drain.receipt.bucket
        if bucket is None:
            return None
        prefix = Template(self.drain.receipt.prefix, Where.KEY_PREFIX)
        group = cache(lambda: find_group(self.config, self.place, self.metadata, self.aws))
        return BucketStore(
            Objects(self.aws), bucket, lambda epoch: prefix.render(now=epoch), group, self.place.instance_id
        )

    def sources(self) -> Iterator[NoticeSource]:
        """What is watched for notices, where there is a metadata service to ask."""
        if self.config.drain is None or not self.place.metadata:
            return
        if self.drain.triggers.auto_scaling:
            yield AutoScalingNotices(self.metadata, self.events)
        if self.drain.triggers.spot:
            yield SpotNotices(self.metadata, self.events)
