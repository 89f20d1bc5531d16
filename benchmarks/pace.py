"""A writer at an even pace: `python pace.py FILE LINES_PER_SECOND SECONDS` prints how many lines it wrote.

Each line is 124 bytes and carries the time at which it was written, as `w=SECONDS`.
"""

from __future__ import annotations

import sys
import time

_TICK_SECONDS = 0.005
_LINE_BYTES = 124


def main() -> None:
    path, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    written, began = 0, time.monotonic()
    with open(path, "ab", buffering=0) as file:
        while (elapsed := time.monotonic() - began) < seconds:
            due = int(elapsed * rate) - written
            if due > 0:
                file.write(b"".join(_line(written + number) for number in range(due)))
            written += max(0, due)
            time.sleep(_TICK_SECONDS)
    print(written)


def _line(number: int) -> bytes:
    return f"{number:08d} w={time.time():.6f} GET /item/{number % 9973}".ljust(_LINE_BYTES - 1, ".").encode() + b"\n"


if __name__ == "__main__":
    main()
