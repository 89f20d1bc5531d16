"""`python -m benchmarks [NAME ...] [--size MB] [--seconds S]`: all figures, or those of some parts."""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import idle, logs, start
from benchmarks.figures import Figure


def main() -> None:
    options = _options()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"{python}, {platform.machine()}, one run; CPU is user + system")
    parts: dict[str, Callable[[Path], Iterator[Figure]]] = {
        "logs": lambda folder: logs.measure(folder, options.size * 1_000_000),
        "idle": lambda folder: idle.measure(folder, options.seconds),
        "start": start.measure,
    }
    missed = 0
    for name in options.parts or parts:
        with tempfile.TemporaryDirectory(prefix="outlive-bench-") as folder:
            for figure in parts[name](Path(folder)):
                print(figure, flush=True)
                missed += figure.reached is False
    print(f"{missed} missed" if missed else "all reached")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="NAME", choices=["logs", "idle", "start", []], help="logs, idle, start"
    )
    parser.add_argument("--size", type=int, default=1000, help="MB of log to ship (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="to watch the idle agent (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
