"""`python -m benchmarks [NAME ...] [--size MB] [--seconds S]`: all figures, or those of some parts."""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import distance, idle, latency, logs, scale, spread, start, uploads
from benchmarks.figures import Figure

_PARTS = ("logs", "idle", "start", "latency", "distance", "spread", "scale", "uploads")
_LATENCY_SECONDS = 15.0  # of writing; more shows nothing new


def main() -> None:
    options = _options()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"{python}, {platform.machine()}, one run; CPU is user + system")
    parts: dict[str, Callable[[Path], Iterator[Figure]]] = {
        "logs": lambda folder: logs.measure(folder, options.size * 1_000_000),
        "idle": lambda folder: idle.measure(folder, options.seconds),
        "start": start.measure,
        "latency": lambda folder: latency.measure(folder, min(options.seconds, _LATENCY_SECONDS)),
        "distance": lambda folder: distance.measure(folder, options.size * 1_000_000),
        "spread": lambda folder: spread.measure(folder, options.size * 1_000_000),
        "scale": lambda folder: scale.measure(folder, options.seconds),
        "uploads": lambda folder: uploads.measure(folder, options.seconds),
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
    parser.add_argument("parts", nargs="*", metavar="NAME", choices=[*_PARTS, []], help=", ".join(_PARTS))
    parser.add_argument("--size", type=int, default=1000, help="MB of log to ship (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="to watch an idle agent, or to write to it (default: %(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
