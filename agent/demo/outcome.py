"""The end of the show: what was proven, as a table; what to do with what is kept."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.demo.check import LogRow, Verdict
from agent.demo.folder import RECEIPT_BUCKET, UPLOAD_BUCKET, Folder
from agent.demo.receipt import Evidence, document
from agent.demo.written import Written

_SHOWN = 20  # failures that are printed


def render(verdict: Verdict, written: Written, evidence: Evidence) -> RenderableType:
    """What was written, what the receipt says, what was found from outside."""
    return Group(
        Text("An outage, two log rotations and a kill -9 later: written, acknowledged, in AWS", style="bold"),
        _logs(verdict.logs),
        Text(),
        _others(verdict, written, evidence, document(evidence.here)),
        Text(),
    )


def last_line(verdict: Verdict, written: Written, evidence: Evidence) -> Text:
    """PROVEN, or why not."""
    if verdict.proven:
        said = (
            f": {written.lines:,} lines, {written.samples:,} samples, {len(written.files):,} files "
            f"in AWS {evidence.seconds or 0.0:.1f} s after the notice"
        )
        return Text.assemble(("PROVEN", "bold green"), said)
    more = len(verdict.failures) - 1
    return not_proven(f"{verdict.failures[0]}{f' (and {more} more, see above)' if more else ''}")


def not_proven(why: str) -> Text:
    return Text.assemble(("NOT PROVEN", "bold red"), f": {why}")


def failures(verdict: Verdict) -> Iterator[str]:
    """Everything that speaks against it, bounded."""
    yield from verdict.failures[:_SHOWN]
    if len(verdict.failures) > _SHOWN:
        yield f"... and {len(verdict.failures) - _SHOWN} more"


def to_look_at(folder: Folder, url: str, pid: int) -> Iterator[str]:
    """What can be done with what is kept; `url` and `pid` of the stand-ins."""
    root, outlive, configuration = shlex.quote(folder.root), _command(), os.path.basename(folder.configuration)
    yield f"Kept: {folder.root}"
    yield f"and the stand-ins at {url}. To look at them:"
    yield f"  cd {root}; . ./{os.path.basename(folder.environment)}"
    yield f"  {outlive} receipt -c {configuration}"
    yield f"  {outlive} run -c {configuration} 2>>agent.log &"
    yield f"  {outlive} status -c {configuration}   # it knows that it has drained"
    yield "  curl -s $AWS_ENDPOINT_URL/_standin/logs   # or metrics, buckets, lifecycle"
    yield "To end it (after the agent, if you have started it):"
    yield f"  kill {pid}; rm -r {root}"


def _command() -> str:
    """How `outlive` is called here."""
    beside = os.path.join(os.path.dirname(sys.executable), "outlive")
    if shutil.which("outlive"):
        return "outlive"
    return shlex.quote(beside) if os.access(beside, os.X_OK) else f"{shlex.quote(sys.executable)} -m agent.cli"


def _logs(rows: Sequence[LogRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("log file", overflow="fold")
    for name in ("bytes written", "acknowledged", "lines", "in AWS", "twice"):
        table.add_column(name, justify="right")
    table.add_column("")
    for row in rows:
        fine = row.acknowledged == row.written and row.arrived == row.lines
        acknowledged = "none" if row.acknowledged is None else f"{row.acknowledged:,}"
        table.add_row(
            row.name,
            f"{row.written:,}",
            acknowledged,
            f"{row.lines:,}",
            f"{row.arrived:,}",
            f"{row.twice:,}",
            Text("✔", "green") if fine else Text("✘", "bold red"),
        )
    return table


def _others(verdict: Verdict, written: Written, evidence: Evidence, receipt: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    objects, samples = verdict.objects, verdict.samples
    table.add_row("files", f"{objects[1]:,} of {objects[0]:,} in {UPLOAD_BUCKET}, {written.file_bytes:,} bytes")
    table.add_row("samples", f"{samples[1]:,} of {samples[0]:,} sent by StatsD, in count and sum")
    table.add_row("metrics", f"{verdict.other_metrics:,} of the operating system beside them")
    if verdict.twice:
        table.add_row("twice", f"{verdict.twice:,} lines, after kill -9: the promise is at least once")
    seconds = "no answer" if evidence.seconds is None else f"{evidence.answer} after {evidence.seconds:.1f} s"
    table.add_row("notice", seconds)
    copy = f", the same in {RECEIPT_BUCKET}" if evidence.here and evidence.here == evidence.stored else ""
    table.add_row("receipt", f"{receipt.get('outcome', 'none')}, digest {receipt.get('digest', '')[:12]}{copy}")
    return table
