"""The median stopping rule: cases by hand, decisions against the definition, and a search replayed."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.search.median import Median

values = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.7])
curves = st.dictionaries(st.integers(1, 20), st.lists(values, min_size=1, max_size=6), min_size=3, max_size=8)


def told(grace: int, curves: dict[int, list[float]]) -> Median:
    rule = Median(grace)
    rule.replay({number: dict(enumerate(curve, start=1)) for number, curve in curves.items()})
    return rule


def test_a_trial_is_stopped_below_the_median_of_the_others_averages() -> None:
    others = {1: [0.0, 0.5], 2: [0.25, 0.75], 3: [0.5, 1.0]}  # on average 0.25, 0.5, 0.75
    assert told(1, others).decide(4, 2, 0.5)
    assert not told(1, others).decide(4, 2, 0.49)
    # Of an even number of others the median is between the two in the middle: here 0.625.
    others[5] = [0.75, 0.75]
    assert told(1, others).decide(4, 2, 0.625)
    assert not told(1, others).decide(4, 2, 0.62)


def test_a_trial_counts_by_its_best_epoch_so_far() -> None:
    rule = told(1, {1: [0.2] * 3, 2: [0.2] * 3, 3: [0.2] * 3, 4: [0.1, 0.2]})
    assert rule.decide(4, 3, 0.0)


def test_nothing_is_stopped_before_grace_or_against_fewer_than_three_others() -> None:
    rule = told(3, {number: [0.5] * 3 for number in (1, 2, 3)})
    assert [rule.decide(4, epoch, 0.1) for epoch in (1, 2, 3)] == [True, True, False]
    rule = told(1, {number: [0.5] for number in (1, 2)})
    assert rule.decide(4, 1, 0.1)
    assert not rule.decide(5, 1, 0.0), "the trial itself is not one of the others"


def test_what_the_others_came_to_later_does_not_count() -> None:
    ahead = {number: [0.25, 0.75, 0.75] for number in (1, 2, 3)}
    assert told(1, ahead).decide(4, 1, 0.25)
    assert not told(1, ahead).decide(4, 2, 0.25)


def test_trials_that_have_not_come_to_the_epoch_do_not_count() -> None:
    rule = told(1, {1: [0.5, 0.5], 2: [0.5, 0.5], 3: [0.5]})
    assert rule.at(2) == {1: 0.5, 2: 0.5}
    assert rule.decide(4, 2, 0.0)


@pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3, 0.0])
def test_ties_go_on_even_where_an_average_would_be_rounded_up(value: float) -> None:
    for epochs in range(1, 30):
        rule = told(1, {number: [value] * epochs for number in range(1, 6)})
        assert rule.decide(6, epochs, value)


def test_the_defaults_are_never_stopped() -> None:
    rule = told(1, {number: [0.5] for number in range(1, 9)})
    assert rule.decide(0, 1, 0.0)
    assert not rule.decide(9, 1, 0.0)


@pytest.mark.parametrize("fitness", [None, math.nan, math.inf, -math.inf])
def test_a_fitness_that_is_no_number_is_the_worst(fitness: float | None) -> None:
    rule = told(1, {number: [0.0] for number in (1, 2, 3)})
    assert not rule.decide(4, 1, fitness)
    worst = Median(1)
    assert [worst.decide(number, 1, fitness) for number in (1, 2, 3, 4)] == [True] * 4, "ties"


@given(curves, st.integers(1, 6), values, st.integers(1, 6))
def test_decisions_are_those_of_the_definition(
    curves: dict[int, list[float]], epoch: int, fitness: float, grace: int
) -> None:
    # Independent oracle: fractions, and the median by counting.
    averages = sorted(
        sum(map(Fraction, curve[:epoch])) / epoch for curve in curves.values() if len(curve) >= epoch
    )
    middle = len(averages) // 2
    stays = epoch < grace or len(averages) < 3
    if not stays:
        bar = averages[middle] if len(averages) % 2 else (averages[middle - 1] + averages[middle]) / 2
        if math.isclose(bar, fitness, rel_tol=1e-12):
            return  # of two ways to round neither is wrong
        stays = Fraction(fitness) >= bar
    assert told(grace, curves).decide(99, epoch, fitness) is stays
