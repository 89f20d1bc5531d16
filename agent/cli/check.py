"""`outlive check`: says whether a configuration can be used, and what it switches on. It only reads files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.cli.options import add_config

if TYPE_CHECKING:
    from agent.config.errors import ConfigError
    from agent.config.load import Loaded
    from agent.config.schema import Config

_SHOWN = 100  # problems that are printed; who has more mends some first


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to those of `outlive`; its `func` is `run`."""
    parser = subparsers.add_parser(
        "check",
        help="check a configuration",
        description="Check a configuration and the *.yaml in the directory conf.d beside it, without touching the "
        "network. Exits with 0 if it can be used, with 2 if not.",
    )
    add_config(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Prints what is switched on, or all problems. The exit code: 0 or 2."""
    from agent.config.errors import ConfigError
    from agent.config.load import load

    try:
        loaded = load(args.config)
    except ConfigError as error:
        _print_problems(error)
        return error.exit_code
    _print_summary(loaded)
    return 0


def _print_problems(error: ConfigError) -> None:
    for problem in error.problems[:_SHOWN]:
        print(problem, file=sys.stderr)
    count, files = len(error.problems), len({problem.file for problem in error.problems})
    more = f", of which the first {_SHOWN} are shown" if count > _SHOWN else ""
    print(f"{_counted(count, 'problem')} in {_counted(files, 'file')}{more}", file=sys.stderr)


def _print_summary(loaded: Loaded) -> None:
    from agent.config.errors import printable
    from agent.unserved import unserved

    config = loaded.config
    print(printable(f"{', '.join(loaded.sources)}: fine"))
    for section, said in _switched_on(config):
        print(f"  {section:<10} {printable(said)}")
    off = [name for name in type(config).model_fields if getattr(config, name) is None]
    if off:
        print(f"  {'off':<10} {', '.join(off)}")
    for note in loaded.notes:
        print(f"note: {note}")
    for key in unserved(config, root=True):
        print(f"note: {key}: this version can't do it yet; `outlive run` refuses it")


def _switched_on(config: Config) -> Iterator[tuple[str, str]]:
    if config.logs is not None:
        files, journals = len(config.logs.files), len(config.logs.journald)
        yield "logs", f"{_counted(files, 'entry')} of files, {journals} of the journal"
    if config.metrics is not None:
        yield "metrics", f"into {config.metrics.namespace}: {', '.join(_sources(config)) or 'nothing collected'}"
    if config.uploads is not None:
        places = ", ".join(f"{each.path} to {each.bucket}" for each in config.uploads.directories)
        yield "uploads", places or "no directories"
    for name in ("alarms", "snapshots", "restore", "sessions"):
        if (items := getattr(config, name)) is not None:
            yield name, _counted(len(items), "entry")
    if config.drain is not None:
        bucket = config.drain.receipt.bucket
        yield "drain", f"receipts {f'to {bucket}' if bucket else 'stay on the instance'}"


def _sources(config: Config) -> Iterator[str]:
    metrics = config.metrics
    assert metrics is not None
    if metrics.os is not None:
        yield from (name for name in type(metrics.os).model_fields if getattr(metrics.os, name) is not None)
    if metrics.processes:
        yield _counted(len(metrics.processes), "process entry")
    if metrics.statsd is not None:
        listening = [str(each) for each in (metrics.statsd.address, metrics.statsd.socket) if each]
        yield f"statsd on {' and '.join(listening)}"
    if metrics.prometheus:
        yield _counted(len(metrics.prometheus), "prometheus endpoint")
    if metrics.emf is not None:
        yield f"emf on {metrics.emf.address}"


def _counted(count: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}{'es' if noun.endswith('ss') else 's'}"
    return f"{count} {noun if count == 1 else plural}"
