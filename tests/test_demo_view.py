"""What the demo shows: it fits the terminal, it is plain in a pipe, and its last line is the verdict."""

import io

import pytest
from rich.console import Console

from agent.demo.check import LogRow, Verdict
from agent.demo.cloud import Arrivals
from agent.demo.folder import Folder
from agent.demo.observe import Observer, Progress
from agent.demo.outcome import failures, last_line, render, to_look_at
from agent.demo.receipt import Evidence
from agent.demo.scenes import Director, script
from agent.demo.view import PlainView, choose, picture
from agent.demo.written import Generation, Total, Written
from agent.engine.clock import FakeClock

PROGRESS = Progress(
    (1_234, 1_200), (98_765, 90_000), (2_468, 2_400), (10, 9), (7_206_416, 7_000_000), 1.5, (8_765, 2)
)
STATES = {"agent": "process 4711, running", "AWS": "refuses all connections"}


class AnyStage:
    """A stage on which nothing is done."""

    def __getattr__(self, name):
        return lambda *_: True


def director(clock=None):
    return Director(script(AnyStage()), clock or FakeClock())


def drawn(renderable, width, height=100):
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(renderable)
    return [line.rstrip() for line in console.file.getvalue().split("\n")]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (56, 40), (50, 24)])
def test_every_scene_fits_the_terminal(width, height):
    clock = FakeClock()
    played = director(clock)
    while not played.over:
        played.step()
        lines = drawn(picture(played, PROGRESS, STATES, 12.3, width, height), width)
        assert len(lines) <= height
        assert max(map(len, lines)) <= width
        if played.scene:
            assert sum(played.scene.title in line for line in lines) >= 1
        clock.advance(100.0)


def test_the_picture_says_how_far_things_are():
    played = director()
    played.step()
    text = "\n".join(drawn(picture(played, PROGRESS, STATES, 12.3, 80, 24), 80))
    for said in ("1,234", "1,200", "90,000", "2,400", "1.5 s", "8,765 bytes in 2 items", *STATES.values()):
        assert said in text


def test_in_a_pipe_each_scene_is_a_line_and_progress_comes_now_and_then():
    clock, out = FakeClock(), io.StringIO()
    played = director(clock)
    console = Console(file=out, width=80)
    with choose(console, clock) as view:
        assert isinstance(view, PlainView)
        played.step()
        for _ in range(70):
            view.show(played, PROGRESS, STATES)
            clock.advance(0.1)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("  0.0 s  The agent starts: ")
    assert "lines 1,200 of 1,234, lag 1.5 s, samples 2,400 of 2,468, files 9 of 10" in lines[1]
    assert "\x1b" not in out.getvalue()


class Cloud:
    """Holds what it is told."""

    arrived = Arrivals()

    def arrivals(self, *_):
        return self.arrived

    def metrics(self):
        return {}


def test_lag_is_the_age_of_the_oldest_line_that_has_not_arrived():
    clock, cloud = FakeClock(), Cloud()
    generation = Generation("/a", ("g", "s"), 1, 1)
    observer = Observer(cloud, Written([generation]), lambda: None, clock)
    for _ in range(4):
        generation.lines.append("line")
        observer.step()
        clock.advance(1.0)
    assert observer.lag() == pytest.approx(4.0)
    cloud.arrived = Arrivals(lines=3)
    observer.step()
    assert observer.lag() == pytest.approx(1.0)
    cloud.arrived = Arrivals(lines=4)
    clock.advance(1.0)
    observer.step()
    assert observer.lag() == 0.0


def test_a_file_is_seen_when_its_first_line_has_arrived():
    clock, cloud, access, app = FakeClock(), Cloud(), ("g", "access"), ("g", "app")
    generations = [Generation(path, to, 1, 1, ["x"] * 5) for path, to in (("1", access), ("2", app), ("3", access))]
    observer = Observer(cloud, Written(generations), lambda: None, clock)
    seen = []
    for arrived in ({}, {access: 5, app: 5}, {access: 6}, {access: 6, app: 1}):
        cloud.arrived = Arrivals(streams=arrived)
        clock.advance(1.0)
        observer.step()
        seen.append(observer.all_files_seen())
    assert seen == [False, False, False, True]


def verdict(*found):
    return Verdict([LogRow("a.log", 100, 100, 9, 9, 2)], (3, 3), (50, 50), 10, found)


WRITTEN = Written([Generation("/log/a.log", ("g", "s"), 1, 1, ["x"] * 9, 100)], {"c": Total(50, 50)}, {}, {"f": b""})
EVIDENCE = Evidence(b'{"outcome":"proven","digest":"abcdef"}', b"", "CONTINUE", 2.25, True, 0)


def test_the_last_line_says_proven_and_how_long_it_took():
    said = last_line(verdict(), WRITTEN, EVIDENCE).plain
    assert said == "PROVEN: 9 lines, 50 samples, 1 files in AWS 2.2 s after the notice"
    assert len(said) <= 80


def test_the_last_line_says_not_proven_and_why():
    assert (
        last_line(verdict("a: not in S3", "b"), WRITTEN, EVIDENCE).plain
        == "NOT PROVEN: a: not in S3 (and 1 more, see above)"
    )
    assert last_line(verdict("a: not in S3"), WRITTEN, EVIDENCE).plain == "NOT PROVEN: a: not in S3"


def test_the_table_says_bytes_and_lines_of_each_file_and_what_came_twice():
    text = "\n".join(drawn(render(verdict(), WRITTEN, EVIDENCE), 80))
    assert "a.log               100           100      9       9      2" in text
    assert "2 lines, after kill -9" in text
    assert "CONTINUE after 2.2 s" in text


def test_a_flood_of_failures_is_bounded():
    shown = list(failures(verdict(*[f"line {number}" for number in range(1000)])))
    assert len(shown) == 21
    assert shown[-1] == "... and 980 more"


def test_what_is_kept_comes_with_the_commands_to_look_at_it():
    text = "\n".join(to_look_at(Folder("/tmp/outlive demo-x"), "http://127.0.0.1:5", 4711))
    assert "cd '/tmp/outlive demo-x'; . ./aws.sh" in text
    assert "receipt -c outlive.yaml" in text
    assert "status -c outlive.yaml" in text
    assert "kill 4711; rm -r '/tmp/outlive demo-x'" in text
