"""What every rule that stops trials promises, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.search.asha import Asha
from tunekit.search.forecast import Forecast
from tunekit.search.hyperband import Hyperband
from tunekit.search.median import Median
from tunekit.search.rule import Rule

RULES: dict[str, Callable[[int], Rule]] = {
    "forecast": lambda whole: Forecast(3, 2, whole),
    "asha": lambda whole: Asha((1, 3), 3, whole),
    "hyperband": lambda whole: Hyperband((1, 3), 3, whole),
    "median": lambda whole: Median(2, whole),
}
values = st.sampled_from([None, 0.0, 0.1, 0.2, 0.3])
curves = st.dictionaries(st.integers(0, 20), st.lists(values, min_size=1, max_size=6), max_size=14)


@pytest.mark.parametrize("name", RULES)
@given(curves, st.integers(1, 5))
def test_the_first_trials_are_never_stopped(
    name: str, curves: dict[int, list[float | None]], whole: int
) -> None:
    """The defaults alone, unless others are to be seen whole, too. To the others it makes no difference."""
    rule, usual = RULES[name](whole), RULES[name](1)
    for number, curve in curves.items():
        for epoch, fitness in enumerate(curve, start=1):
            goes_on, does_usually = rule.decide(number, epoch, fitness), usual.decide(number, epoch, fitness)
            assert goes_on if number < whole else goes_on is does_usually


@pytest.mark.parametrize("name", RULES)
def test_each_rule_stops_a_trial_that_is_far_behind(name: str) -> None:
    rule = RULES[name](1)
    decisions = [rule.decide(number, epoch, 1.0 / number) for number in range(1, 20) for epoch in (1, 2, 3)]
    assert not all(decisions)


@pytest.mark.parametrize("name", RULES)
@given(curves, st.data())
def test_an_epoch_told_twice_counts_by_its_first_value(
    name: str, curves: dict[int, list[float | None]], data: st.DataObject
) -> None:
    """As in the study: a trial that had to start again trains its first epochs a second time."""
    once, twice = RULES[name](1), RULES[name](1)
    told = {number: dict(enumerate(curve, start=1)) for number, curve in curves.items()}
    once.replay(told)
    twice.replay(told)
    twice.replay({number: {epoch: data.draw(values) for epoch in curve} for number, curve in told.items()})
    for epoch in range(1, 7):
        for number, fitness in enumerate((None, 0.0, 0.15, 0.25), start=100 * epoch):
            assert once.decide(number, epoch, fitness) is twice.decide(number, epoch, fitness)


@pytest.mark.parametrize("name", RULES)
@given(curves, st.randoms())
def test_replayed_curves_in_any_order_give_the_same_decisions(
    name: str, curves: dict[int, list[float | None]], random: Random
) -> None:
    """A search cut at any moment goes on as if it had not been."""
    recorded = [
        (number, epoch, fitness)
        for number, curve in curves.items()
        for epoch, fitness in enumerate(curve, start=1)
    ]
    straight, replayed = RULES[name](1), RULES[name](1)
    for entry in recorded:
        straight.decide(*entry)
    random.shuffle(recorded)
    for number, epoch, fitness in recorded:
        replayed.replay({number: {epoch: fitness}})
    for epoch in range(1, 7):
        for number, fitness in enumerate((None, 0.0, 0.15, 0.3), start=100 * epoch):
            assert replayed.decide(number, epoch, fitness) is straight.decide(number, epoch, fitness)
