"""What no section can know alone: rules between sections, and what is worth a note though it is no error."""

from __future__ import annotations

from collections.abc import Iterator

from agent.config.base import duplicates
from agent.config.explain import Location
from agent.config.schema import Config
from agent.config.values import Address

Remark = tuple[Location, str]  # where, and what is to be said of it


def problems(config: Config) -> Iterator[Remark]:
    """What makes a configuration wrong as a whole."""
    yield from _external_id(config)
    yield from _needing_metrics(config)
    yield from _alarms(config)
    yield from _repeated_names(config)
    yield from _retention(config)


def notes(config: Config) -> Iterator[Remark]:
    """What a user may not have meant."""
    if config.drain is not None and config.drain.receipt.bucket is None:
        message = "is null: receipts stay on the instance and go with it; name a bucket to keep them"
        yield ("drain", "receipt", "bucket"), message
    if config.alarms and config.drain is None:
        yield ("alarms",), "nothing deletes these alarms when the instance goes; the section drain does: `drain: {}`"
    statsd = config.metrics.statsd if config.metrics else None
    if statsd is not None and isinstance(statsd.address, Address) and not statsd.address.is_loopback:
        yield (
            ("metrics", "statsd", "address"),
            "whoever reaches this address can publish metrics; 127.0.0.1 is for here",
        )


def _external_id(config: Config) -> Iterator[Remark]:
    roles = [config.aws.role_arn, *(snapshot.role_arn for snapshot in config.snapshots or ())]
    roles += [section.role_arn for section in (config.logs, config.metrics, config.uploads) if section is not None]
    if config.aws.external_id is not None and not any(roles):
        yield ("aws", "external_id"), "is sent when a role is assumed, but there is no role_arn"


def _needing_metrics(config: Config) -> Iterator[Remark]:
    if config.metrics is not None:
        return
    remedy = "needs the section metrics, which is off; `metrics: {}` switches it on"
    if config.alarms:
        yield ("alarms",), remedy
    for i, file in enumerate(config.logs.files if config.logs else ()):
        if file.metrics:
            yield ("logs", "files", i, "metrics"), remedy


def _alarms(config: Config) -> Iterator[Remark]:
    """High resolution has to come from somewhere: CloudWatch keeps nothing finer than a minute otherwise."""
    if config.metrics is None:
        return
    finest = min([config.metrics.interval, *(each.interval for each in config.metrics.prometheus)])
    for i, alarm in enumerate(config.alarms or ()):
        if alarm.period < 60 <= finest:
            yield (
                ("alarms", i, "period"),
                "a period below 60s needs metrics of high resolution: metrics.interval below 60s",
            )


def _repeated_names(config: Config) -> Iterator[Remark]:
    for section, items in (("alarms", config.alarms or ()), ("snapshots", config.snapshots or ())):
        names = [item.name for item in items]
        for name in duplicates(names):
            second = names.index(name, names.index(name) + 1)
            yield (section, second, "name"), f"{name!r} is taken by another of {section}; give each its own"
    targets = [
        f"{each.path} {each.bucket} {each.prefix}" for each in (config.uploads.directories if config.uploads else ())
    ]
    for target in duplicates(targets):
        second = targets.index(target, targets.index(target) + 1)
        yield ("uploads", "directories", second), "sends the same directory to the same place as another entry"


def _retention(config: Config) -> Iterator[Remark]:
    """Two entries would take turns in changing the group."""
    known: dict[str, int] = {}
    for i, file in enumerate(config.logs.files if config.logs else ()):
        if file.retention is not None and known.setdefault(file.group, file.retention) != file.retention:
            message = f"another entry keeps {file.group} for {known[file.group]}d; a group has one retention"
            yield ("logs", "files", i, "retention"), message
