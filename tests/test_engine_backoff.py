"""When to try again."""

from random import Random

from agent.engine.backoff import Backoff


class Edge(Random):
    """Draws the end of the range that it is made for."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.ranges: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.ranges.append((a, b))
        return a + self.share * (b - a)


def test_the_bound_doubles_with_each_failure_up_to_the_cap() -> None:
    backoff = Backoff(base=0.5, cap=5.0, random=Edge(1.0))
    assert [backoff.next() for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_the_jitter_is_full_from_nothing_to_the_bound() -> None:
    edge = Edge(0.5)
    backoff = Backoff(base=1.0, cap=60.0, random=edge)
    for _ in range(4):
        backoff.next()
    assert edge.ranges == [(0.0, 1.0), (0.0, 2.0), (0.0, 4.0), (0.0, 8.0)]


def test_no_wait_is_shorter_than_the_floor() -> None:
    backoff = Backoff(base=1.0, floor=0.2, random=Edge(0.0))
    assert [backoff.next(), backoff.next()] == [0.2, 0.2]


def test_after_a_success_the_next_failure_is_again_the_first() -> None:
    backoff = Backoff(base=1.0, cap=60.0, random=Edge(1.0))
    waits = [backoff.next(), backoff.next()]
    backoff.reset()
    assert [*waits, backoff.next()] == [1.0, 2.0, 1.0]


def test_a_year_of_failures_still_has_a_wait() -> None:
    backoff = Backoff(base=1.0, cap=60.0, failures=10_000_000, random=Edge(1.0))
    assert backoff.next() == 60.0


def test_two_agents_draw_differently() -> None:
    first, second = Backoff(cap=1e9), Backoff(cap=1e9)
    assert [first.next() for _ in range(8)] != [second.next() for _ in range(8)]
