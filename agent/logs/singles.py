"""Events that were made one by one, taken as many at a time as fit one batch."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agent.aws.limits import LOG_BATCH_SPAN_MS


@dataclass(slots=True)
class Single:
    """An event, or what is none (`text` None); the offset behind it. `stamp` in ms, `size` as PutLogEvents counts."""

    text: str | None
    stamp: int
    size: int
    end: int


S = TypeVar("S", bound=Single)


@dataclass(frozen=True, slots=True)
class Taken(Generic[S]):
    """What was taken; texts, times and size are of those that are events."""

    singles: list[S]
    texts: list[str]
    stamps: list[int]
    size: int


def take_fitting(
    ready: deque[Any], kind: type[S], room: int, most: int, lowest: int | None, highest: int | None
) -> Taken[S]:
    """Take from the front of `ready` what is of `kind`: within `room` bytes, `most` events, and a day around `lowest`
    and `highest` (ms).
    """
    taken: list[S] = []
    texts: list[str] = []
    stamps: list[int] = []
    size = 0
    while ready and isinstance(single := ready[0], kind):
        if single.text is not None:
            low = single.stamp if lowest is None else min(lowest, single.stamp)
            high = single.stamp if highest is None else max(highest, single.stamp)
            if size + single.size > room or len(texts) >= most or high - low >= LOG_BATCH_SPAN_MS:
                break
            lowest, highest = low, high
            texts.append(single.text)
            stamps.append(single.stamp)
            size += single.size
        taken.append(single)
        ready.popleft()
    return Taken(taken, texts, stamps, size)
