"""Whether SIGTERM means that the system itself goes down, or only that this service is stopped.

Source: systemctl(1), is-system-running: "stopping" while the manager shuts down.
"""

from __future__ import annotations

import subprocess

_ASK_SECONDS = 2.0


def system_is_stopping(command: tuple[str, ...] = ("systemctl", "is-system-running")) -> bool:
    """True only if the system manager says so."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.stdout.strip() == "stopping"
