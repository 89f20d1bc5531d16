"""The script of the demo, played by a fake clock on a stage that only notes what is asked of it."""

import pytest

from agent.demo.errors import TooLate
from agent.demo.scenes import Director, Scene, script
from agent.engine.clock import FakeClock

TICK = 0.1


class WillingStage:
    """Notes every action with its time; each condition holds `patience` seconds after the action before it."""

    ACTIONS = (
        "start_agent", "open_shop", "rotate", "refuse_connections", "change_files", "hush_statsd", "kill_agent",
        "resume_statsd", "close_shop", "give_notice",
    )  # fmt: skip
    CONDITIONS = ("agent_works", "lines_flow", "may_crash", "hook_answered")

    def __init__(self, clock, patience=1.0, never=()):
        self.done = []
        self._clock = clock
        self._patience = patience
        self._never = never

    def __getattr__(self, name):
        if name in self.ACTIONS:
            return lambda *given: self.done.append((name, self._clock.monotonic(), *given))
        if name in self.CONDITIONS:
            return lambda: name not in self._never and self._clock.monotonic() >= self.done[-1][1] + self._patience
        raise AttributeError(name)

    def names(self):
        return [each[0] for each in self.done]


def play(director, clock, most=200.0):
    began = clock.monotonic()
    while not director.over:
        director.step()
        clock.advance(TICK)
        assert clock.monotonic() - began < most
    return clock.monotonic() - began


def test_a_scene_begins_once_and_lasts_its_time():
    clock, begun = FakeClock(), []
    director = Director([Scene("a", "", 2.0, lambda: begun.append("a")), Scene("b", "", 1.0)], clock)
    director.step()
    clock.advance(1.9)
    director.step()
    assert (begun, director.scene.title) == (["a"], "a")
    clock.advance(0.2)
    director.step()
    assert (begun, director.scene.title) == (["a"], "b")
    assert director.took == [pytest.approx(2.1)]
    clock.advance(1.0)
    director.step()
    assert director.over
    assert director.scene is None


def test_a_scene_waits_for_what_it_is_about():
    clock, state = FakeClock(), {"done": False}
    director = Director([Scene("a", "", 1.0, done=lambda: state["done"], most=9.0)], clock)
    director.step()
    clock.advance(5.0)
    director.step()
    assert not director.over
    state["done"] = True
    director.step()
    assert director.over


def test_a_scene_that_only_shows_something_is_not_waited_for_beyond_its_longest_time():
    clock = FakeClock()
    director = Director([Scene("a", "", 1.0, done=lambda: False, most=9.0)], clock)
    assert play(director, clock) == pytest.approx(9.0, abs=3 * TICK)


def test_a_scene_without_which_there_is_no_show_says_what_did_not_happen():
    clock = FakeClock()
    director = Director([Scene("a", "", 1.0, done=lambda: False, most=9.0, must="the agent did not work")], clock)
    with pytest.raises(TooLate, match="the agent did not work within 9 s"):
        play(director, clock)


def test_the_script_goes_from_the_start_to_the_termination():
    clock = FakeClock()
    stage = WillingStage(clock)
    play(Director(script(stage), clock), clock)
    assert stage.names() == [
        "start_agent",
        "open_shop",
        "rotate",
        "refuse_connections",
        "change_files",
        "hush_statsd",
        "kill_agent",
        "rotate",
        "start_agent",
        "resume_statsd",
        "close_shop",
        "give_notice",
    ]


def test_the_show_takes_about_half_a_minute():
    clock = FakeClock()
    assert 25 < play(Director(script(WillingStage(clock)), clock), clock) < 35


def test_even_if_everything_that_may_fail_fails_it_stays_below_a_minute():
    clock = FakeClock()
    stage = WillingStage(clock, never=("lines_flow", "may_crash"))
    assert play(Director(script(stage), clock), clock) < 60


def test_a_shorter_pace_shortens_what_is_only_looked_at():
    clock = FakeClock()
    assert play(Director(script(WillingStage(clock, patience=0.3), 0.1), clock), clock) < 6


def test_the_outage_lasts_as_long_as_its_scene():
    clock = FakeClock()
    stage = WillingStage(clock)
    director = Director(script(stage), clock)
    play(director, clock)
    (seconds,) = [each[2] for each in stage.done if each[0] == "refuse_connections"]
    took = dict(zip([scene.title for scene in director.scenes], director.took, strict=True))
    assert took["AWS outage"] == pytest.approx(seconds, abs=2 * TICK)


@pytest.mark.parametrize("condition", ["agent_works", "hook_answered"])
def test_an_agent_that_does_not_work_or_answer_ends_the_show(condition):
    clock = FakeClock()
    with pytest.raises(TooLate):
        play(Director(script(WillingStage(clock, never=(condition,))), clock), clock)


def test_every_scene_says_in_a_few_lines_what_it_shows():
    for scene in script(WillingStage(FakeClock())):
        assert 0 < len(scene.title) <= 18
        assert len(scene.text) <= 3 * 76
