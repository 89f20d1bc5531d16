"""What is seen of the show: a live view on a terminal, plain lines elsewhere (a pipe, CI)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.demo.observe import Progress
from agent.demo.scenes import Director
from agent.engine.clock import Clock

_WIDE = 76  # columns from which on the script and the numbers stand side by side
_AROUND = 14  # lines of everything but the script, where it stands above the numbers
_PLAIN_SECONDS = 5.0  # between two lines of progress where there is no terminal


class View(Protocol):
    """Shows the show."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, director: Director, progress: Progress, states: Mapping[str, str]) -> None:
        """The present moment; `states` says how agent and AWS are, in words."""


def choose(console: Console, clock: Clock) -> View:
    """A live view where a person looks on."""
    if console.file.isatty() and console.is_terminal and not console.is_dumb_terminal:
        return LiveView(console, clock)
    return PlainView(console, clock)


class PlainView:
    """A line for each scene, and one of progress now and then."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._began = clock.monotonic()
        self._scene = -1
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to put away."""

    def show(self, director: Director, progress: Progress, states: Mapping[str, str]) -> None:
        now = self._clock.monotonic()
        if director.scene is not None and director.number != self._scene:
            self._scene = director.number
            self._say(now, f"{director.scene.title}: {director.scene.text}")
            self._next = now + _PLAIN_SECONDS
        elif now >= self._next:
            self._next = now + _PLAIN_SECONDS
            self._say(now, f"  {in_a_line(progress)}; {_joined(states)}")

    def _say(self, now: float, text: str) -> None:
        self._console.print(f"{now - self._began:5.1f} s  {text}", markup=False, highlight=False, soft_wrap=True)


class LiveView:
    """Takes the whole screen and gives it back at the end."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, director: Director, progress: Progress, states: Mapping[str, str]) -> None:
        size = self._live.console.size
        elapsed = self._clock.monotonic() - self._began
        self._live.update(picture(director, progress, states, elapsed, size.width, size.height), refresh=True)


def in_a_line(progress: Progress) -> str:
    """Progress for where there is room for one line."""
    return (
        f"lines {_of(progress.lines)}, lag {progress.lag:.1f} s, samples {_of(progress.samples)}, "
        f"files {_of(progress.files)}, debt {_debt(progress)}{f', drain {progress.phase}' if progress.phase else ''}"
    )


def picture(
    director: Director, progress: Progress, states: Mapping[str, str], elapsed: float, width: int, height: int
) -> RenderableType:
    """The whole view, for a terminal of this size."""
    head, foot = _head(elapsed), _now(director)
    numbers = _numbers(progress, states)
    if width >= _WIDE:
        middle = Table.grid(padding=(0, 3), expand=False)
        middle.add_row(_script(director), numbers)
        return Group(head, Text(), middle, Text(), foot)
    if height >= len(director.scenes) + _AROUND:
        return Group(head, Text(), _script(director), Text(), numbers, foot)
    return Group(head, foot, numbers)


def _head(elapsed: float) -> RenderableType:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(" outlive demo ", style="bold reverse")
    text.append(f" {elapsed:3.0f} s   ")
    text.append("one instance, from its start to its end", style="dim")
    return text


def _script(director: Director) -> RenderableType:
    text = Text(no_wrap=True, overflow="ellipsis")
    for number, scene in enumerate(director.scenes):
        if number < director.number:
            text.append("✔ ", style="green")
            text.append(f"{scene.title}\n", style="dim")
        elif number == director.number:
            text.append(f"▶ {scene.title}\n", style="bold yellow")
        else:
            text.append(f"  {scene.title}\n", style="dim")
    text.right_crop(1)
    return text


def _numbers(progress: Progress, states: Mapping[str, str]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("written", justify="right")
    table.add_column("in AWS", justify="right")
    for name, pair in (
        ("log lines", progress.lines),
        ("log bytes", progress.log_bytes),
        ("StatsD samples", progress.samples),
        ("files", progress.files),
        ("file bytes", progress.file_bytes),
    ):
        table.add_row(name, f"{pair[0]:,}", Text(f"{pair[1]:,}", style="green" if pair[1] >= pair[0] else ""))
    return Group(table, Text(), _health(progress, states))


def _health(progress: Progress, states: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("lag", Text(f"{progress.lag:.1f} s", style="bold red" if progress.lag > 3 else "green"))
    table.add_row("debt", _debt(progress))
    for name, state in states.items():
        table.add_row(name, state)
    if progress.phase:
        table.add_row("drain", progress.phase)
    return table


def _now(director: Director) -> RenderableType:
    scene = director.scene
    if scene is None:
        return Text()
    return Panel(Text(scene.text), title=Text(scene.title, style="bold yellow"), title_align="left", box=box.ROUNDED)


def _of(pair: tuple[int, int]) -> str:
    return f"{pair[1]:,} of {pair[0]:,}"


def _joined(states: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {state}" for name, state in states.items())


def _debt(progress: Progress) -> str:
    if progress.debt is None:
        return "unknown: the agent does not answer"
    size, items = progress.debt
    return f"{size:,} bytes in {items:,} item{'' if items == 1 else 's'}" if items else "none"
