"""The real parts of the agent, made from a configuration: the one place that knows them all."""

from __future__ import annotations

import random

from agent.aws.autoscaling import AutoScaling
from agent.aws.logs import Logs as LogsClient
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
from agent.engine.database import Database
from agent.engine.events import Events
from agent.engine.job import Job
from agent.engine.notify import ServiceNotifier
from agent.engine.state import StateDirectory
from agent.engine.workers import WorkerThread
from agent.surroundings import Place, boot_id


def assemble(config: Config, place: Place, metadata: Metadata, aws: Aws, clock: Clock, events: Events) -> Parts:
    """All parts; nothing runs yet. `config` is resolved. Raises StateBusy."""
    rng = seeded()
    state = StateDirectory.open(config.agent.state_dir, place.instance_id, clock, events)
    database = state.database("state.db")
    jobs = _jobs(config, aws, state, database, clock, events, rng)
    drain = config.drain or Drain()
    client = AutoScaling(aws, place.instance_id)
    heartbeat = Heartbeat(client, clock, events, rng)
    heartbeat_thread = WorkerThread("heartbeat", [heartbeat], clock, events)
    machine = Machine(
        drain,
        _tools(drain, place, aws, state, database, jobs, client, heartbeat, heartbeat_thread, clock, events, rng),
    )
    machine_thread = WorkerThread("drain", [machine], clock, events)
    machine.wake = machine_thread.wake
    watcher = Watcher(_sources(config, place, metadata, events), machine, clock)
    watcher_thread = WorkerThread("notices", [watcher], clock, events)
    return Parts(
        config=config,
        instance_id=place.instance_id,
        clock=clock,
        events=events,
        state=state,
        aws=aws,
        jobs=jobs,
        machine=machine,
        threads=[machine_thread, watcher_thread, heartbeat_thread],
        notifier=ServiceNotifier(),
    )


def _jobs(
    config: Config,
    aws: Aws,
    state: StateDirectory,
    database: Database,
    clock: Clock,
    events: Events,
    rng: random.Random,
) -> list[Job]:
    jobs: list[Job] = []
    if config.logs is not None and config.logs.files:
        from agent.logs.job import LogsJob

        client = LogsClient(
            aws.as_role(config.logs.role_arn, config.aws.external_id), gzip=config.logs.compression == "gzip"
        )
        jobs.append(LogsJob(config.logs, client, database, clock, events, rng))
    if config.metrics is not None:
        from agent.aws.cloudwatch import CloudWatch
        from agent.metrics.job import MetricsJob

        publisher = CloudWatch(aws.as_role(config.metrics.role_arn, config.aws.external_id).wire("cloudwatch"))
        jobs.append(MetricsJob(config.metrics, publisher, state, clock, events, rng))
    if config.uploads is not None and config.uploads.directories:
        from agent.aws.s3 import S3
        from agent.uploads.job import UploadsJob

        s3 = S3(aws.as_role(config.uploads.role_arn, config.aws.external_id))
        jobs.append(UploadsJob(config.uploads, s3, state, clock, events, rng))
    return jobs


def _tools(
    drain: Drain,
    place: Place,
    aws: Aws,
    state: StateDirectory,
    database: Database,
    jobs: list[Job],
    client: AutoScaling,
    heartbeat: Heartbeat,
    heartbeat_thread: WorkerThread,
    clock: Clock,
    events: Events,
    rng: random.Random,
) -> Tools:
    return Tools(
        journal=Journal(database, events),
        jobs=jobs,
        finder=HookFinder(client, drain.auto_scaling_group, drain.hook, events),
        heartbeat=heartbeat,
        answer=Answer(client, events, rng),
        retains_abandoned=client.retains_abandoned,
        store=_store(drain, place, aws),
        receipts=state.file(FOLDER),
        instance_id=place.instance_id,
        boot_id=boot_id(),
        clock=clock,
        events=events,
        rng=rng,
        wake_heartbeat=heartbeat_thread.wake,
    )


def _store(drain: Drain, place: Place, aws: Aws) -> BucketStore | None:
    if drain.receipt.bucket is None:
        return None
    prefix = Template(drain.receipt.prefix, Where.KEY_PREFIX)
    return BucketStore(Objects(aws), drain.receipt.bucket, lambda epoch: prefix.render(now=epoch), place.instance_id)


def _sources(config: Config, place: Place, metadata: Metadata, events: Events) -> list[NoticeSource]:
    """What is watched for notices; only the metadata service where there is one."""
    if config.drain is None or not place.metadata:
        return []
    triggers = config.drain.triggers
    sources: list[NoticeSource] = []
    if triggers.auto_scaling:
        sources.append(AutoScalingNotices(metadata, events))
    if triggers.spot:
        sources.append(SpotNotices(metadata, events))
    return sources
