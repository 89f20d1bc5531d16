"""`outlive receipt`: the latest receipt of this instance; works whether or not the agent runs."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from agent.cli.options import add_command, add_config, load_or_explain, own_directories


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "show the latest receipt; exit 0 proven, 3 incomplete, 1 none"
    parser = add_command(subparsers, "receipt", run, summary)
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="the receipt itself")


def run(options: argparse.Namespace) -> int:
    from agent.drain.receipt import FOLDER, latest

    config = load_or_explain(options.config)
    if config is None:
        return 2
    directories = own_directories(config)
    if directories is None:
        return 1
    folder = os.path.join(directories[0], FOLDER)
    try:
        document = latest(folder)
    except (OSError, ValueError) as error:
        print(f"outlive: {folder}: the receipt can't be read: {error}", file=sys.stderr)
        return 1
    if document is None:
        print(f"outlive: no receipt in {folder}: this instance was not drained yet", file=sys.stderr)
        return 1
    _show(document, as_json=options.json)
    return 0 if document["outcome"] == "proven" else 3


def _show(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(document, indent=2))
        return
    from rich.console import Console

    from agent.cli.receipt_view import render

    Console().print(render(document))
