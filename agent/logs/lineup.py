"""The sources of the job `logs`, as its configuration asks for them: kept, retired, replaced while they are read.

A source whose entry is gone or changed retires: it reads no further, and stays until what it handed over is
acknowledged. An entry that shares its scope with one that retires waits for it, for their cursors are the same: then
it goes on where AWS's acknowledgements stand, with the open files of the one before it. What did not change never
learns of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from agent.engine.events import Events

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
R = TypeVar("R", bound="Retired[Any]")


class Retired(Protocol[S_contra]):
    """A source on its way out."""

    heirs: bool  # whether somebody waits to go on with what it reads

    def is_done(self, now: float, epoch: float) -> bool:
        """Hand over what was read; True once all that was handed over is settled."""

    def save(self) -> None:
        """Let the state know all that is known: the heirs will read it there."""

    def hand_over(self, heirs: Sequence[S_contra], now: float) -> None:
        """Let go of everything: to the heirs what is theirs, in the order of the configuration."""


@dataclass(frozen=True)
class Wanted(Generic[S]):
    """One source that the configuration asks for."""

    key: object  # equal keys ask for the very same
    scope: str  # names its cursors in the state
    make: Callable[[], S]


class Lineup(Generic[S, R]):
    """Looking at it is safe from any thread; `turn` belongs to the reading one."""

    def __init__(
        self,
        wanted: Sequence[Wanted[S]],
        retire: Callable[[S], R],
        events: Events,
        changed: Callable[[Sequence[S | R]], None] = lambda _sources: None,
    ) -> None:
        """`changed` is told all sources before others are made, and after."""
        self._retire = retire
        self._events = events
        self._changed = changed
        self._lock = threading.Lock()
        self._asked: Sequence[Wanted[S]] | None = None  # of `change`, not looked at yet
        self._serving: list[tuple[Wanted[S], S]] = []
        self._retiring: list[tuple[str, R]] = []  # with their scopes
        self._waiting: list[Wanted[S]] = list(wanted)
        self._all: tuple[S | R, ...] = ()
        self._take_up()

    def __iter__(self) -> Iterator[S | R]:
        """All that is open: those that retire first, for what they have is older."""
        return iter(self._all)

    @property
    def settled(self) -> bool:
        """Whether it is as was asked: nothing retires, nothing waits."""
        return self._asked is None and not self._retiring and not self._waiting

    @property
    def scopes(self) -> list[str]:
        """Of all that there is and that waits, each once."""
        known = [scope for scope, _ in list(self._retiring)]
        known += [wanted.scope for wanted, _ in list(self._serving)] + [each.scope for each in list(self._waiting)]
        return list(dict.fromkeys(known))

    def change(self, wanted: Sequence[Wanted[S]]) -> None:
        """Become like this at the next `turn`. Safe from any thread."""
        with self._lock:
            self._asked = list(wanted)

    def turn(self, now: float, epoch: float) -> bool:
        """Go on with what was asked for; True if sources came or went."""
        with self._lock:
            asked, self._asked = self._asked, None
            if asked is not None:
                self._compare(asked)
        done = [scope for scope in {scope for scope, _ in self._retiring} if self._is_done(scope, now, epoch)]
        if asked is None and not done:
            return False
        for scope in done:
            self._succeed(scope, now)
        self._take_up()
        return True

    def _compare(self, asked: Sequence[Wanted[S]]) -> None:
        """Keep what is asked for again; retire the rest."""
        left, serving, waiting = list(self._serving), [], []
        for wanted in asked:
            same = next((each for each in left if each[0].key == wanted.key), None)
            if same is None:
                waiting.append(wanted)
            else:
                left.remove(same)
                serving.append(same)
        self._serving, self._waiting = serving, waiting
        self._retiring += [(wanted.scope, self._retire(source)) for wanted, source in left]
        heirs = {each.scope for each in waiting}
        for scope, retired in self._retiring:
            retired.heirs = scope in heirs

    def _is_done(self, scope: str, now: float, epoch: float) -> bool:
        """Whether all that retires of a scope is; each is asked, for that lets it go on."""
        states = [retired.is_done(now, epoch) for other, retired in self._retiring if other == scope]
        return all(states)

    def _succeed(self, scope: str, now: float) -> None:
        """Make the heirs of a scope, and give them what was read before them."""
        retired = [each for other, each in self._retiring if other == scope]
        self._retiring = [each for each in self._retiring if each[0] != scope]
        for each in retired:
            each.save()
        self._show()
        heirs = self._make([each for each in self._waiting if each.scope == scope])
        for each in retired:
            each.hand_over(heirs, now)
        self._events.say("info", "log_entry_let_go", entry=scope, followed=bool(heirs))

    def _take_up(self) -> None:
        """Make all that need not wait."""
        self._show()
        blocked = {scope for scope, _ in self._retiring}
        self._make([each for each in self._waiting if each.scope not in blocked])
        self._show()

    def _make(self, wanted: Sequence[Wanted[S]]) -> list[S]:
        made = [(each, each.make()) for each in wanted]
        self._waiting = [each for each in self._waiting if each not in wanted]
        self._serving += made
        self._show()
        return [source for _, source in made]

    def _show(self) -> None:
        self._all = (*(retired for _, retired in self._retiring), *(source for _, source in self._serving))
        self._changed(self._all)
