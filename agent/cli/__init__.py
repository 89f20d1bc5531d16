"""The command line: one file a command, each with `register` and `run`; only `main` ends the process.

Exit codes: 0 fine, 1 failed, 2 bad usage or configuration, 3 drained but incomplete.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from agent import __version__

_COMMANDS = ("run", "check", "status", "reload", "drain", "receipt", "verify_uploads", "demo")


def main(arguments: list[str] | None = None) -> None:
    """The entry point of `outlive`."""
    sys.exit(dispatch(arguments))


def dispatch(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.func(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return _reader_left()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="outlive",
        description="Carries off an EC2 instance everything that must outlive it: logs, metrics, files. With proof.",
        epilog="No AWS account at hand? Try: outlive demo",
    )
    parser.add_argument("--version", action="version", version=f"outlive {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _COMMANDS:
        import_module(f"agent.cli.{name}").register(subparsers)
    return parser


def _reader_left() -> int:
    """Whoever read our output has left (`| head`): say no more, also not at exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
