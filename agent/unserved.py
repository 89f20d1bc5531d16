"""What the configuration may say and this version can't do yet: `run` refuses it plainly instead of ignoring it."""

from __future__ import annotations

from collections.abc import Iterator

from agent.config.schema import Config

_COLLECTORS = ("diskio", "net", "netstat", "processes", "ethtool", "pressure")


def unserved(config: Config, *, root: bool) -> list[str]:
    """Key paths that are used and not served; `root`: whether this process runs as root."""
    return [*_sections(config), *_metrics(config), *_drain(config, root=root)]


def _sections(config: Config) -> Iterator[str]:
    for name in ("alarms", "snapshots", "restore", "sessions"):
        if getattr(config, name):
            yield name


def _metrics(config: Config) -> Iterator[str]:
    if config.metrics is None:
        return
    for name in _COLLECTORS:
        if config.metrics.os is not None and getattr(config.metrics.os, name, None) is not None:
            yield f"metrics.os.{name}"
    for name in ("processes", "prometheus", "emf"):
        if getattr(config.metrics, name):
            yield f"metrics.{name}"


def _drain(config: Config, *, root: bool) -> Iterator[str]:
    if config.drain is None:
        return
    triggers, receipt = config.drain.triggers, config.drain.receipt
    for name in ("queue", "rebalance", "scheduled_events"):
        if getattr(triggers, name):
            yield f"drain.triggers.{name}"
    if config.drain.deregister:
        yield "drain.deregister"
    for name in ("group", "notify"):
        if getattr(receipt, name) is not None:
            yield f"drain.receipt.{name}"
    for where, steps in (("before", config.drain.before), ("after", config.drain.after)):
        for index, step in enumerate(steps):
            if step.as_ == "root" and not root:
                yield f"drain.{where}[{index}].as: root"
