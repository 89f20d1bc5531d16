"""A receipt as a table, for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.cli.words import amount, clean, seconds

_SHOWN = 40  # rows of one kind; the rest is counted


def render(document: Mapping[str, Any]) -> RenderableType:
    """Head, one table of what left, and what did not."""
    parts: list[RenderableType] = [_head(document), _logs(document["logs"]), _others(document)]
    for key, title in (("gaps", "not safe"), ("refused", "refused by AWS for good")):
        if document[key]:
            parts.append(_remainder(document[key], title))
    return Group(*parts)


def outcome_style(outcome: str) -> str:
    return {"proven": "bold green", "incomplete": "bold red"}.get(outcome, "bold yellow")


def _head(document: Mapping[str, Any]) -> Text:
    took = datetime.fromisoformat(document["finished"]) - datetime.fromisoformat(document["started"])
    text = Text("receipt of ")
    text.append(clean(document["instance_id"]), style="bold")
    text.append(f"  {document['reason']}  {document['started']}  in {seconds(took.total_seconds())}  ")
    text.append(document["outcome"].upper(), style=outcome_style(document["outcome"]))
    return text


def _logs(logs: list[Mapping[str, Any]]) -> Table:
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    table.add_column("log file", overflow="fold")
    for name in ("bytes", "acknowledged", "events", "refused"):
        table.add_column(name, justify="right")
    table.add_column("digest")
    for row in logs[-_SHOWN:]:
        complete = row["acknowledged"] >= row["size"]
        style = None if complete else "red"
        table.add_row(
            clean(row["path"]),
            f"{row['size']:,}",
            f"{row['acknowledged']:,}",
            f"{row['events']:,}",
            f"{row['refused']:,}",
            row["digest"][:12],
            style=style,
        )
    if len(logs) > _SHOWN:
        table.add_row(f"... and {len(logs) - _SHOWN} earlier ones")
    return table


def _others(document: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    uploads, samples, hook = document["uploads"], document["samples"], document["hook"]
    table.add_row("uploads", f"{uploads['objects']:,} objects, {amount(uploads['bytes'])}")
    table.add_row("samples", f"{samples['sent']:,} sent, {samples['left']:,} left")
    for command in document["commands"]:
        code = command["exit_code"]
        note = f"  {clean(command['note'])}" if command["note"] else ""
        table.add_row(f"command {clean(command['name'])}", f"exit {code} in {seconds(command['seconds'])}{note}")
    if hook.get("name"):
        table.add_row("hook", f"{clean(hook['name'])} of {clean(hook['group'])}: {hook.get('result') or 'no answer'}")
    return table


def _remainder(items: list[Mapping[str, Any]], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold red")
    table.add_column("kind")
    table.add_column("item", overflow="fold")
    table.add_column("bytes" if "bytes" in items[0] else "count", justify="right")
    table.add_column("reason", overflow="fold")
    for item in items[:_SHOWN]:
        size = item["bytes"] if "bytes" in item else item["count"]
        table.add_row(clean(item["kind"]), clean(item["item"]), f"{size:,}", clean(item["reason"]))
    if len(items) > _SHOWN:
        table.add_row("", f"... and {len(items) - _SHOWN} more")
    return table
