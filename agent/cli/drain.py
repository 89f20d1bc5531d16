"""`outlive drain`: ask the running agent to carry everything off, and wait for the proof if told to."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from agent.cli.options import add_command, add_config, load_or_explain, own_directories
from agent.cli.status import ask_agent

_POLL_SECONDS = 0.2


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(subparsers, "drain", run, "carry everything off now; the agent takes nothing in after it")
    add_config(parser)
    parser.add_argument("--reason", default="", metavar="WORDS", help="kept in the receipt")
    parser.add_argument("--deadline", metavar="TIME", help="give up after so long, as 10m; default: drain.timeout")
    parser.add_argument("--wait", action="store_true", help="wait; exit 0 if proven, 3 if incomplete")


def run(options: argparse.Namespace) -> int:
    config = load_or_explain(options.config)
    if config is None:
        return 2
    fields: dict[str, Any] = {"reason": options.reason}
    if options.deadline is not None:
        seconds = _seconds(options.deadline)
        if seconds is None:
            print(f"outlive: --deadline {options.deadline}: write a duration such as 90s or 10m", file=sys.stderr)
            return 2
        fields["seconds"] = seconds
    directories = own_directories(config)
    answer = ask_agent(directories[1], "drain", **fields) if directories else None
    if directories is None or answer is None:
        return 1
    drain = answer["drain"]
    print(f"drain {drain['drain_id']}: {drain['phase']}, until {drain['deadline']}")
    return _wait(directories[1]) if options.wait else 0


def _wait(run_dir: str) -> int:
    """Show each phase as it comes; the exit code."""
    shown = None
    while True:
        status = ask_agent(run_dir, "status")
        if status is None:
            return 1
        drain = status["drain"]
        if drain["phase"] != shown:
            shown = drain["phase"]
            print(f"  {shown}")
        if status["state"] == "done":
            print(f"{drain['outcome']}; see: outlive receipt")
            return 0 if drain["outcome"] == "proven" else 3
        time.sleep(_POLL_SECONDS)


def _seconds(text: str) -> float | None:
    from agent.config.units import parse_duration

    try:
        return float(parse_duration(text)) or None
    except ValueError:
        return None
