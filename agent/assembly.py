"""The real parts of the agent, made from a configuration: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from agent.engine.crew import Crew
from agent.engine.events import Events
from agent.engine.job import Job
from agent.engine.notify import ServiceNotifier
from agent.engine.state import StateDirectory
from agent.engine.voice import Voice
from agent.engine.workers import LINGER, Worker, WorkerThread
from agent.reload.plan import JOBS
from agent.surroundings import Place, boot_id, find_group


def assemble(
    config: Config,
    place: Place,
    metadata: Metadata,
    aws: Aws,
    clock: Clock,
    events: Events,
    voice: Voice,
    reread: Callable[[], Config],
) -> Parts:
    """All parts; nothing runs yet. `config` is resolved, as what `reread` gives is. Raises StateBusy."""
    return _Assembly(config, place, metadata, aws, clock, events, voice).parts(config, reread)


class _Assembly:
    """What the parts are made with: at the start all of them, in a reload those that change (a Maker)."""

    def __init__(
        self,
        config: Config,
        place: Place,
        metadata: Metadata,
        aws: Aws,
        clock: Clock,
        events: Events,
        voice: Voice,
    ) -> None:
        self.place = place
        self.metadata = metadata
        self.aws = aws
        self.clock = clock
        self.events = events
        self.voice = voice
        self.rng = seeded()
        self.state = StateDirectory.open(config.agent.state_dir, place.instance_id, clock, events)
        self.database = self.state.database("state.db")
        self.scaling = AutoScaling(aws, place.instance_id)
        heartbeat = Heartbeat(self.scaling, clock, events, self.rng)
        heartbeat_thread = self.thread(heartbeat)
        self.crew = Crew(clock, events)
        self.crew.enlist(self.jobs(config))
        drain = config.drain or Drain()
        self.machine = Machine(drain, self.tools(config, drain, heartbeat, heartbeat_thread))
        machine_thread = self.thread(self.machine)
        self.machine.wake = machine_thread.wake
        self.watcher = Watcher(list(self.sources(config)), self.machine, clock)
        self.watcher_thread = self.thread(self.watcher)
        self.threads = [machine_thread, self.watcher_thread, heartbeat_thread]

    def parts(self, config: Config, reread: Callable[[], Config]) -> Parts:
        return Parts(
            config=config,
            instance_id=self.place.instance_id,
            clock=self.clock,
            events=self.events,
            state=self.state,
            aws=self.aws,
            crew=self.crew,
            machine=self.machine,
            threads=self.threads,
            notifier=ServiceNotifier(),
            maker=self,
            reread=reread,
        )

    def prepare(self, name: str, config: Config) -> Callable[[], Job | None]:
        """What makes the job `name`; its client is made here and now. Raises AwsError."""
        return {"logs": self.logs, "metrics": self.metrics, "uploads": self.uploads}[name](config)

    def rearm(self, config: Config) -> None:
        """Let the drain go by another section from the next one on."""
        drain = config.drain or Drain()
        self.machine.rearm(drain, self.finder(drain), self.store(config, drain))
        self.watcher.watch(list(self.sources(config)))
        self.watcher_thread.wake()

    def set_level(self, level: str) -> None:
        self.voice.set_level(level)

    def thread(self, worker: Worker) -> WorkerThread:
        return WorkerThread(worker.name, [worker], self.clock, self.events, linger=LINGER)

    def jobs(self, config: Config) -> Iterator[Job]:
        """The jobs that the configuration switches on; each is imported only then."""
        for name in JOBS:
            job = self.prepare(name, config)()
            if job is not None:
                yield job

    def logs(self, config: Config) -> Callable[[], Job | None]:
        logs = config.logs
        if logs is None or not (logs.files or logs.journald):
            return _no_job
        from agent.aws.logs import Logs
        from agent.logs.job import LogsJob

        client = Logs(self.role(logs.role_arn, config), gzip=logs.compression == "gzip")
        return lambda: LogsJob(logs, client, self.database, self.clock, self.events, self.rng, self.crew)

    def metrics(self, config: Config) -> Callable[[], Job | None]:
        metrics = config.metrics
        if metrics is None:
            return _no_job
        from agent.aws.cloudwatch import CloudWatch
        from agent.metrics.job import MetricsJob

        publisher = CloudWatch(self.role(metrics.role_arn, config).wire("cloudwatch"))
        return lambda: MetricsJob(metrics, publisher, self.state, self.clock, self.events, self.rng)

    def uploads(self, config: Config) -> Callable[[], Job | None]:
        uploads = config.uploads
        if uploads is None or not uploads.directories:
            return _no_job
        from agent.aws.s3 import S3
        from agent.uploads.job import UploadsJob

        s3 = S3(self.role(uploads.role_arn, config))
        return lambda: UploadsJob(uploads, s3, self.state, self.clock, self.events, self.rng)

    def role(self, arn: str | None, config: Config) -> Aws:
        """AWS as a job's own role, or as the agent's."""
        return self.aws.as_role(arn, config.aws.external_id)

    def tools(self, config: Config, drain: Drain, heartbeat: Heartbeat, heartbeat_thread: WorkerThread) -> Tools:
        return Tools(
            journal=Journal(self.database, self.events),
            jobs=self.crew,
            finder=self.finder(drain),
            heartbeat=heartbeat,
            answer=Answer(self.scaling, self.events, self.rng),
            retains_abandoned=self.scaling.retains_abandoned,
            store=self.store(config, drain),
            receipts=self.state.file(FOLDER),
            instance_id=self.place.instance_id,
            boot_id=boot_id(),
            clock=self.clock,
            events=self.events,
            rng=self.rng,
            wake_heartbeat=heartbeat_thread.wake,
        )

    def finder(self, drain: Drain) -> HookFinder:
        return HookFinder(self.scaling, drain.auto_scaling_group, drain.hook, self.events)

    def store(self, config: Config, drain: Drain) -> BucketStore | None:
        bucket = drain.receipt.bucket
        if bucket is None:
            return None
        prefix = Template(drain.receipt.prefix, Where.KEY_PREFIX)
        group = cache(lambda: find_group(config, self.place, self.metadata, self.aws))
        return BucketStore(
            Objects(self.aws), bucket, lambda epoch: prefix.render(now=epoch), group, self.place.instance_id
        )

    def sources(self, config: Config) -> Iterator[NoticeSource]:
        """What is watched for notices, where there is a metadata service to ask."""
        if config.drain is None or not self.place.metadata:
            return
        if config.drain.triggers.auto_scaling:
            yield AutoScalingNotices(self.metadata, self.events)
        if config.drain.triggers.spot:
            yield SpotNotices(self.metadata, self.events)


def _no_job() -> None:
    """For a section that asks for none."""
