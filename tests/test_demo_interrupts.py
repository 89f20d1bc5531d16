"""The demo's signals: one KeyboardInterrupt, at a moment when nothing is left half done."""

import signal

import pytest

from agent.demo.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_breaks_off_what_may_be_broken_off(number):
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt), interrupts.raising():
        signal.raise_signal(number)


def test_a_signal_in_the_middle_of_a_thing_counts_at_its_end():
    done = []

    def work(interrupts):
        with interrupts.raising():
            with interrupts.later():
                signal.raise_signal(signal.SIGINT)
                done.append("whole")
            done.append("more")

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        work(interrupts)
    assert done == ["whole"]


def test_an_impatient_second_signal_does_not_break_off_the_clearing_away():
    done = []
    with Interrupts() as interrupts:
        try:
            with interrupts.raising():
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
            done.append("cleared away")
        signal.raise_signal(signal.SIGTERM)
    assert done == ["cleared away"]


def test_a_signal_before_the_show_keeps_it_from_beginning():
    done = []
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), interrupts.raising():
            done.append("begun")
    assert done == []


def test_afterwards_the_signals_are_as_they_were():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
