"""`outlive status`: what the running agent does and owes."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from agent.cli.options import add_command, add_config, load_or_explain, own_directories

_SHOWN_TROUBLES = 20


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(subparsers, "status", run, "show what the running agent does; exit 1 if it is not well")
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="everything, as one JSON document")


def run(options: argparse.Namespace) -> int:
    config = load_or_explain(options.config)
    if config is None:
        return 2
    directories = own_directories(config)
    status = ask_agent(directories[1], "status") if directories else None
    if status is None:
        return 1
    if options.json:
        import json

        print(json.dumps(status, indent=2))
    else:
        _print(status)
    return 0 if status["healthy"] else 1


def ask_agent(run_dir: str, command: str, **fields: Any) -> dict[str, Any] | None:
    """The running agent's answer; None after it was said why there is none."""
    import os

    from agent.engine.control import SOCKET_NAME, ControlError, ask

    try:
        return ask(os.path.join(run_dir, SOCKET_NAME), command, **fields)
    except ControlError as error:
        print(f"outlive: {error}", file=sys.stderr)
        return None


def _print(status: dict[str, Any]) -> None:
    from agent.cli.words import amount, clean, seconds

    debt, metrics, uploads = status["debt"], status["metrics"], status["uploads"]
    left = f", about {seconds(debt['seconds'])} to send" if debt["seconds"] else ""
    print(f"outlive {status['version']} on {status['instance_id']}: {status['state']}")
    print(f"not yet in AWS: {amount(debt['bytes'])} in {debt['items']} items{left}")
    for file in status["logs"]:
        trouble = f"  ! {clean(file['error'])}" if file["error"] else ""
        print(f"  log     {clean(file['path'])}  {amount(file['acknowledged'])} of {amount(file['size'])}{trouble}")
    print(f"  metrics {metrics['series']} series, {metrics['spooled']} samples waiting")
    print(f"  uploads {uploads['pending']} pending, {len(uploads['failing'])} failing")
    for failing in uploads["failing"][:_SHOWN_TROUBLES]:
        print(f"          {clean(failing['path'])}  ! {clean(failing['error'])}")
    if status["stuck"]:
        print(f"  ! threads that do not come back: {', '.join(status['stuck'])}")
    if status["drain"]:
        drain = status["drain"]
        print(f"  drain   {drain['drain_id']} for {drain['reason']}: {drain['phase']}, until {drain['deadline']}")
