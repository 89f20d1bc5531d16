"""`outlive demo`: no AWS account, no configuration; the real agent, trouble on the way, and proof at the end."""

from __future__ import annotations

import argparse
import io
import sys

from agent.cli.options import add_command


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "show what this is, without an AWS account, in half a minute; exit 0 if all is proven"
    parser = add_command(subparsers, "demo", run, summary)
    parser.add_argument("--keep", action="store_true", help="leave its folder and the stand-ins for AWS for a look")
    parser.add_argument("--pace", type=_pace, default=1.0, help=argparse.SUPPRESS)  # for tests: a shorter show


def run(options: argparse.Namespace) -> int:
    try:
        from rich.console import Console

        from agent.demo.show import Settings, perform
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        print(f"outlive: the demo needs the Python package {package}: pip install {package}", file=sys.stderr)
        return 1
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode shows question marks, not a traceback
    return perform(Settings(keep=options.keep, pace=options.pace), Console())


def _pace(text: str) -> float:
    value = float(text)
    if not 0.05 <= value <= 2.0:
        raise argparse.ArgumentTypeError("from 0.05 to 2")
    return value
