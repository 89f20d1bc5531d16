"""`outlive verify-uploads`: ledger, directories and buckets held against each other, beside a running agent."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from agent.cli.options import add_command, add_config, load_or_explain

_SHOWN = 20  # differences of a kind that are printed; --json has more
_TITLES = {
    "missing": "missing in the bucket",
    "different": "another object has the key",
    "not_sent": "not sent yet",
    "changed": "changed since it was sent",
    "refused": "S3 will not take it",
    "foreign": "not sent, and the key is taken by an object that is not ours",
    "unreadable": "can't be read here",
    "deleted_here": "deleted here, still in S3",
    "still_here": "in S3, not deleted here yet",
    "unchecked": "could not be checked",
}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "compare what is recorded as sent, the directories, and S3; exit 0 the same, 1 a difference"
    parser = add_command(subparsers, "verify-uploads", run, summary)
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="all differences, as one JSON document")


def run(options: argparse.Namespace) -> int:
    from agent.audit import Unverifiable, verify_uploads

    config = load_or_explain(options.config)
    if config is None:
        return 2
    if config.uploads is None or not config.uploads.directories:
        print(f"outlive: {options.config} names no directory under uploads.directories", file=sys.stderr)
        return 2
    try:
        verified = list(verify_uploads(config))
    except Unverifiable as error:
        print(f"outlive: {error}", file=sys.stderr)
        return 1
    same = all(each["same"] for each in verified)
    if options.json:
        import json

        print(json.dumps({"schema": 1, "same": same, "directories": verified}, indent=2))
    else:
        for each in verified:
            _print(each)
    return 0 if same else 1


def _print(found: dict[str, Any]) -> None:
    from agent.cli.words import amount, clean

    place = f"s3://{found['bucket']}/{found['prefix']}"
    verdict = "the same" if found["same"] else "not the same"
    sent = f"{found['objects']} objects, {amount(found['bytes'])}"
    print(clean(f"{found['path']} and {place}: {verdict} ({sent}; {found['others']} others there)"))
    for kind, count in found["counts"].items():
        print(f"  {_TITLES[kind]}: {count}")
        named = [each for each in found["differences"] if each["kind"] == kind]
        for each in named[:_SHOWN]:
            key = f" as {each['key']}" if each["key"] else ""
            detail = f": {each['detail']}" if each["detail"] else ""
            print(clean(f"    {each['path'] or found['path']}{key}{detail}"))
        if count > _SHOWN:
            print(f"    ... and {count - _SHOWN} more")
