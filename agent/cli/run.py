"""`outlive run`: the agent, in the foreground."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from agent.cli.options import add_command, add_config, load_or_explain
from agent.engine.footprint import shrink

if TYPE_CHECKING:
    from agent.config.schema import Config
    from agent.daemon import Daemon

EXIT_FAILED, EXIT_CONFIGURATION = 1, 2


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(subparsers, "run", run, "run the agent in the foreground, as systemd does")
    add_config(parser)


def run(options: argparse.Namespace) -> int:
    shrink()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # a reload: it waits until the daemon can do it
    config = load_or_explain(options.config)
    if config is None:
        return EXIT_CONFIGURATION
    from agent.unserved import unserved

    missing = unserved(config, root=os.geteuid() == 0)
    if missing:
        _say(f"{options.config} uses what this version can't do yet: {', '.join(missing)}. Take it out to run.")
        return EXIT_CONFIGURATION
    return _run(config, os.path.abspath(options.config))


def _run(config: Config, path: str) -> int:
    from agent.aws.errors import AwsError
    from agent.config.errors import ConfigError
    from agent.engine.control import ControlError
    from agent.engine.state import StateError
    from agent.surroundings import Interrupted, SurroundingsError

    try:
        daemon = _assemble(config, path)
    except SurroundingsError as error:
        _say(str(error))
        return EXIT_CONFIGURATION
    except ConfigError as error:
        for problem in error.problems:
            _say(str(problem))
        return EXIT_CONFIGURATION
    except Interrupted:
        return 0
    except (StateError, ControlError, AwsError, OSError) as error:
        _say(str(error))
        return EXIT_FAILED
    return daemon.run()


def _assemble(config: Config, path: str) -> Daemon:
    """Find out where we are, fill in the placeholders, make the parts; `path` is read again by reloads."""
    from agent.aws.metadata import Metadata
    from agent.aws.session import Aws
    from agent.config.placeholders import needed, resolve
    from agent.daemon import Daemon
    from agent.engine.clock import SystemClock
    from agent.engine.events import Events
    from agent.engine.voice import Voice
    from agent.reload.reread import FACT_SECONDS, Reread
    from agent.surroundings import find_place, gather_patiently

    clock = SystemClock()
    voice = Voice(config.agent.log_level)
    events = Events(voice, clock)
    metadata = Metadata(clock)
    wait = _wait_or_stop()
    place = find_place(config, metadata, events, wait)
    aws = Aws(place.region, clock).as_role(config.aws.role_arn, config.aws.external_id)
    names = needed(config)
    facts = gather_patiently(config, place, names, metadata, aws, events, wait)
    resolved = resolve(config, facts)
    reread = Reread(path, place, metadata, aws, (names, facts), FACT_SECONDS)
    return Daemon.assemble(
        resolved, place=place, metadata=metadata, aws=aws, clock=clock, events=events, voice=voice, reread=reread
    )


class _wait_or_stop:  # noqa: N801 - used as a function
    """Waits for some seconds; True once SIGTERM or SIGINT has come."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._asked.set())

    def __call__(self, seconds: float) -> bool:
        return self._asked.wait(seconds)


def _say(text: str) -> None:
    print(f"outlive: {text}", file=sys.stderr)
