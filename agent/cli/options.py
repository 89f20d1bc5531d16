"""What several commands share: the option for the configuration, and reading it for people."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.config.schema import Config

DEFAULT_CONFIG = "/etc/outlive/outlive.yaml"


def add_command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
) -> argparse.ArgumentParser:
    """A parser for the command `name`; `run` gives its exit code."""
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=summary, description=summary)
    parser.set_defaults(func=run)
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s")


def load_or_explain(path: str) -> Config | None:
    """The configuration; None after its problems were printed."""
    from agent.config.load import ConfigError, load

    try:
        return load(path).config
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        print(f"outlive: {path} can't be used; see above (outlive check -c {path})", file=sys.stderr)
        return None


def own_directories(config: Config) -> tuple[str, str] | None:
    """State and run directory, placeholders filled in without asking anyone but this host; None: said why not."""
    import os
    import socket

    from agent.config.placeholders import Facts, MissingPlaceholders, resolve
    from agent.config.schema import Config as Whole

    facts = Facts(instance_id=config.agent.instance_id, hostname=socket.gethostname(), env=dict(os.environ))
    try:
        agent = resolve(Whole(agent=config.agent), facts).agent
    except MissingPlaceholders as error:
        for problem in error.problems:
            print(f"outlive: {problem}", file=sys.stderr)
        return None
    return agent.state_dir, agent.run_dir
