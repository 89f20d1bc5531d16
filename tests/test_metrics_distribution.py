"""Distributions: what CloudWatch is told adds up to what was observed."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from metrics_fakes import calm

from agent.metrics.distribution import Distribution

LARGEST = 2.0**360
finite = st.floats(-LARGEST, LARGEST, allow_nan=False)
observations = st.lists(st.tuples(finite, st.integers(1, 1000)), min_size=1, max_size=40)


def filled(pairs: list[tuple[float, float]]) -> Distribution:
    distribution = Distribution()
    for value, weight in pairs:
        distribution.add([value], [weight])
    return distribution


def spread(count: int, seed: int, sigma: float) -> list[tuple[float, float]]:
    random = Random(seed)
    return [(random.choice((-1, 1, 1)) * random.lognormvariate(0, sigma), 1.0) for _ in range(count)]


def assert_true_to(pairs: list[tuple[float, float]], distribution: Distribution) -> None:
    values, counts = distribution.values_and_counts()
    assert len(values) == len(set(values)) <= 150
    assert all(count > 0 for count in counts)
    assert min(values) == distribution.minimum == min(value for value, _ in pairs)
    assert max(values) == distribution.maximum == max(value for value, _ in pairs)
    assert math.isclose(sum(counts), sum(weight for _, weight in pairs), rel_tol=1e-12)
    told = sum(Fraction(value) * Fraction(count) for value, count in zip(values, counts, strict=True))
    true = sum(Fraction(value) * Fraction(weight) for value, weight in pairs)
    size = sum(abs(Fraction(value)) * Fraction(weight) for value, weight in pairs)
    assert abs(told - true) <= size * Fraction(1, 10**12)


@calm
@given(observations)
def test_up_to_150_distinct_values_are_told_exactly(pairs: list[tuple[float, float]]) -> None:
    values, counts = filled(pairs).values_and_counts()
    told = sum(Fraction(value) * Fraction(count) for value, count in zip(values, counts, strict=True))
    assert told == sum(Fraction(value) * weight for value, weight in pairs)
    assert sum(counts) == sum(weight for _, weight in pairs)
    assert set(values) == {value for value, _ in pairs}


@calm
@given(st.integers(151, 600), st.integers(0, 10_000), st.floats(0.01, 60.0))
def test_with_more_values_count_sum_least_and_greatest_stay_true(count: int, seed: int, sigma: float) -> None:
    pairs = spread(count, seed, sigma)
    assert_true_to(pairs, filled(pairs))


@calm
@given(st.lists(st.lists(st.tuples(finite, st.integers(1, 9)), min_size=1, max_size=200), max_size=3))
def test_many_values_at_once_are_the_same_as_one_by_one(parts: list[list[tuple[float, float]]]) -> None:
    at_once = Distribution()
    for part in parts:
        at_once.add([value for value, _ in part], [weight for _, weight in part])
    pairs = [pair for part in parts for pair in part]
    if pairs:
        assert_true_to(pairs, at_once)
        assert at_once.count == filled(pairs).count


@calm
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 10_000), st.floats(0.01, 60.0))
def test_a_merged_distribution_is_true_to_both(one: int, other: int, seed: int, sigma: float) -> None:
    first, second = spread(one, seed, sigma), spread(other, seed + 1, 2.0)
    merged = filled(first)
    merged.merge(filled(second))
    assert_true_to(first + second, merged)


def test_151_values_fall_into_fine_buckets_where_they_lie_close_together() -> None:
    pairs = [(100.0 + number / 10, 1.0) for number in range(151)]
    values, _ = filled(pairs).values_and_counts()
    for value, _ in pairs:
        assert min(abs(told - value) / value for told in values) < 0.01


def test_percentiles_of_many_values_are_off_by_a_few_percent_at_most() -> None:
    random = Random(7)
    drawn = sorted(random.lognormvariate(3, 1) for _ in range(20_000))
    values, counts = filled([(value, 1.0) for value in drawn]).values_and_counts()
    told = dict(zip(values, counts, strict=True))
    for share in (0.5, 0.9, 0.99):
        seen = 0.0
        for value in sorted(told):
            seen += told[value]
            if seen >= share * len(drawn):
                break
        true = drawn[int(share * len(drawn))]
        assert abs(value - true) / true < 0.08


def test_zero_and_both_signs_keep_apart() -> None:
    pairs = [(float(number), 1.0) for number in range(-100, 101)]
    distribution = filled(pairs)
    assert_true_to(pairs, distribution)
    assert dict(zip(*distribution.values_and_counts(), strict=True))[0.0] == 1.0


def test_weights_below_two_are_kept_where_an_extreme_is_carved_out() -> None:
    pairs = [(float(number), 4 / 3) for number in range(1, 152)]
    assert_true_to(pairs, filled(pairs))
