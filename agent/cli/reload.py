"""`outlive reload`: let the running agent take in its changed configuration, and say what came of it."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from agent.cli.options import add_command, add_config, load_or_explain, own_directories
from agent.cli.status import ask_agent

_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 150.0  # longer than a reload may take: facts, the jobs that stop, their last calls
_EXIT_CODES = {"applied": 0, "unchanged": 0, "invalid": 2}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(
        subparsers, "reload", run, "let the running agent read its configuration again; exit 0 if it goes by it"
    )
    add_config(parser)


def run(options: argparse.Namespace) -> int:
    """The exit code: 0 applied, 1 not running or refused, 2 the configuration is wrong."""
    config = load_or_explain(options.config)
    if config is None:
        return 2
    directories = own_directories(config)
    outcome = _outcome(directories[1]) if directories else None
    if outcome is None:
        return 1
    _print(outcome)
    return _EXIT_CODES.get(outcome["state"], 1)


def _outcome(run_dir: str) -> dict[str, Any] | None:
    """What became of the reload that is asked for here; None after it was said why there is none."""
    answer = ask_agent(run_dir, "reload")
    if answer is None:
        print("outlive: if agent.run_dir is what has changed: that needs a restart", file=sys.stderr)
        return None
    until = time.monotonic() + _PATIENCE_SECONDS
    while answer is not None and answer["reload"]["state"] == "asked":
        if time.monotonic() > until:
            print("outlive: the reload takes very long; see the agent's log", file=sys.stderr)
            return None
        time.sleep(_POLL_SECONDS)
        answer = ask_agent(run_dir, "reload", number=answer["reload"]["number"])
    return None if answer is None else answer["reload"]


def _print(outcome: dict[str, Any]) -> None:
    from agent.cli.words import clean

    for change in outcome["changes"]:
        print(f"  {clean(change)}")
    for problem in outcome["problems"]:
        print(clean(problem), file=sys.stderr)
    good, bad = _SAID.get(outcome["state"], ("", ""))
    if good:
        print(good)
    if bad:
        print(f"outlive: {bad}", file=sys.stderr)


_SAID = {
    "applied": ("reloaded", ""),
    "unchanged": ("nothing has changed", ""),
    "invalid": ("", "refused: the agent goes on as it was"),
    "refused": ("", "refused: the agent goes on as it was"),
    "failed": ("", "reloaded, but for what is named; see the agent's log"),
}
