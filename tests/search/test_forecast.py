"""The forecast: who is stopped and who is not, by hand."""

from __future__ import annotations

import math

import numpy as np

from tunekit.search.forecast import Forecast
from tunekit.search.outlook import FEWEST


def told(curves: dict[int, list[float]], epochs: int = 4, grace: int = 1) -> Forecast:
    rule = Forecast(epochs, grace)
    rule.replay({number: dict(enumerate(curve, start=1)) for number, curve in curves.items()})
    return rule


def rising(count: int, seed: int, telling: bool) -> dict[int, list[float]]:
    """Curves of four epochs that end between .3 and .7; the first tell where, or nothing."""
    rng = np.random.default_rng(seed)
    found = {}
    for number, end in enumerate(rng.uniform(0.3, 0.7, count), start=1):
        level = end if telling else rng.uniform(0.3, 0.7)
        found[number] = [*(level * np.array([0.3, 0.5, 0.6]) + rng.normal(0, 0.005, 3)), float(end)]
    return found


def test_a_loser_goes_early_where_early_epochs_tell_the_end() -> None:
    rule = told(rising(12, seed=0, telling=True))
    assert not rule.decide(20, 1, 0.3 * 0.35)
    assert rule.decide(21, 1, 0.3 * 0.69)
    assert rule.decide(21, 2, 0.5 * 0.69)
    assert not rule.decide(21, 3, 0.6 * 0.4), "it fell behind"


def test_nobody_goes_where_early_epochs_tell_nothing() -> None:
    rule = told(rising(12, seed=1, telling=False))
    assert all(rule.decide(number, 1, 0.3 * 0.3) for number in range(20, 30))


def test_who_rises_late_is_not_stopped_by_those_who_rose_early_too() -> None:
    """What is low early and best in the end, and what is high early and worse: a line would fall."""
    crossing = {n: [0.1 + 0.02 * n, 0.2, 0.3, 0.8 - 0.04 * n] for n in range(1, 11)}
    rule = told(crossing)
    assert rule.decide(20, 1, 0.1)
    assert rule.decide(21, 1, 0.35), "ahead now is not behind in the end"


def test_nothing_is_stopped_before_grace_with_the_last_epoch_or_by_fewer_than_five() -> None:
    whole = rising(12, seed=0, telling=True)
    assert [told(whole, grace=3).decide(20, epoch, 0.01) for epoch in (1, 2, 3, 4)] == [
        True,
        True,
        False,
        True,
    ]
    few = {number: whole[number] for number in range(1, FEWEST)}
    assert told(few).decide(20, 3, 0.01)
    assert not told({**few, FEWEST: whole[FEWEST]}).decide(20, 3, 0.01)


def test_only_whole_trainings_count() -> None:
    whole = rising(12, seed=0, telling=True)
    stopped = {number: [0.9, 0.9, 0.9] for number in range(13, 40)}
    for number, value in enumerate((0.05, 0.1, 0.15, 0.2), start=100):
        alone, beside = told(whole), told({**whole, **stopped})
        assert alone.decide(number, 1, value) is beside.decide(number, 1, value)


def test_a_trial_counts_by_its_best_epoch_so_far() -> None:
    rule = told({**rising(12, seed=0, telling=True), 20: [0.0, 0.6 * 0.69], 21: [0.0, 0.0]})
    assert rule.decide(20, 3, 0.0)
    assert not rule.decide(21, 3, 0.0)


def test_ties_go_on_and_what_is_no_number_does_not() -> None:
    rule = told({number: [0.0, 0.0, 0.0, 0.0] for number in range(1, 9)})
    assert rule.decide(20, 1, 0.0), "nothing has learnt anything yet"
    assert not rule.decide(21, 1, None)
    assert not rule.decide(22, 1, math.nan)
    # An epoch that a whole training has no number for is as if it had not been there.
    odd = {**rising(12, seed=0, telling=True), 13: [None, 0.2, 0.3, 0.4]}
    whole = told(rising(12, seed=0, telling=True))
    assert told(odd).decide(20, 1, 0.15) is whole.decide(20, 1, 0.15)
