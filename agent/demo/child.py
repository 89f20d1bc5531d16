"""A process of the demo: started in a process group of its own, ended by its id, its last words kept in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

_SAID_BYTES = 4096  # of the end of a log that is searched for last words
_SHOWN = 300  # characters of last words


class Child:
    """A running `python -m MODULE`. Ctrl-C at the terminal does not reach it: it is ended in order."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], log: str, extra: Mapping[str, str]) -> None:
        """`name` for people; stdout and stderr are added to the file `log`. Raises OSError."""
        self.name = name
        self._log = log
        with open(log, "ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environment(os.environ, extra),
                process_group=0,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it as kill -9 does."""
        self._process.kill()
        self._process.wait()

    def end(self, patience: float) -> int:
        """SIGTERM; SIGKILL if it still runs after `patience` seconds. The exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def last_words(self) -> str:
        """The last line that it said."""
        with open(self._log, "rb") as said:
            said.seek(max(0, os.fstat(said.fileno()).st_size - _SAID_BYTES))
            lines = said.read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return "".join(char if char.isprintable() else " " for char in last)[:_SHOWN]


def environment(own: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """Ours without what leads to AWS or to a proxy, then `extra`; children import the same `agent` as we do."""
    kept = {name: value for name, value in own.items() if not _leads_elsewhere(name)}
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [home, *filter(None, [own.get("PYTHONPATH")])]
    return {**kept, **extra, "PYTHONPATH": os.pathsep.join(paths)}


def _leads_elsewhere(name: str) -> bool:
    upper = name.upper()
    return upper.startswith(("AWS_", "BOTO_")) or upper.endswith("_PROXY") or upper == "NOTIFY_SOCKET"
