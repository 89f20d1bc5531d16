"""`python -m agent.standin`: the stand-ins as a process of their own, until SIGTERM or SIGINT."""

import argparse
import os
import signal
import sys
import time

import orjson

from agent.standin.standin import ACCOUNT_ID, INSTANCE_ID, REGION, Standin

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Serve, after saying where: one JSON line on stdout, and the port in --port-file."""
    options = _options()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # before the first thread, so that only sigwait sees them
    with Standin(
        port=options.port,
        region=options.region,
        account_id=options.account_id,
        instance_id=options.instance_id,
        seed=options.seed,
        directory=options.directory,
    ) as standin:
        if options.port_file:
            _write_atomically(options.port_file, f"{standin.port}\n")
        about = {"url": standin.url, "port": standin.port, "environment": standin.environment()}
        sys.stdout.write(f"{orjson.dumps(about).decode()}\n")
        sys.stdout.flush()
        signal.sigwait(_SIGNALS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m agent.standin", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (default): any free port on 127.0.0.1")
    parser.add_argument("--port-file", metavar="FILE", help="where to write the port, once it is open")
    parser.add_argument("--region", default=REGION)
    parser.add_argument("--account-id", default=ACCOUNT_ID)
    parser.add_argument("--instance-id", default=INSTANCE_ID)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of faults with a probability")
    parser.add_argument("--directory", help="where to keep what arrives (default: the temporary directory)")
    return parser.parse_args()


def _write_atomically(path: str, text: str) -> None:
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(text)
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
