"""The forecast: cases by hand, chances against the textbook's and against what happens, a search replayed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tunekit.search.forecast import CHANCE, FEWEST, Forecast, chance

values = st.sampled_from([None, 0.0, 0.1, 0.2, 0.3, 0.7])
curves = st.dictionaries(
    st.integers(1, 20), st.lists(values, min_size=1, max_size=4), min_size=3, max_size=12
)


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
    rule = told({**rising(12, seed=0, telling=True), 20: [0.3 * 0.69, 0.5 * 0.69]})
    assert rule.decide(20, 3, 0.0) is told({**rising(12, seed=0, telling=True)}).decide(20, 3, 0.5 * 0.69)


def test_ties_go_on_and_what_is_no_number_does_not() -> None:
    rule = told({number: [0.0, 0.0, 0.0, 0.0] for number in range(1, 9)})
    assert rule.decide(20, 1, 0.0), "nothing has learnt anything yet"
    assert not rule.decide(21, 1, None)
    assert not rule.decide(22, 1, math.nan)
    # An epoch that a whole training has no number for is as if it had not been there.
    odd = {**rising(12, seed=0, telling=True), 13: [None, 0.2, 0.3, 0.4]}
    whole = told(rising(12, seed=0, telling=True))
    assert told(odd).decide(20, 1, 0.15) is whole.decide(20, 1, 0.15)


finite = st.floats(0, 1).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(finite, finite), min_size=5, max_size=30), finite, finite)
def test_the_chance_is_that_of_a_prediction_by_least_squares(
    pairs: list[tuple[float, float]], value: float, bar: float
) -> None:
    now, ends = np.array(pairs).T
    if np.ptp(now) < 0.01:
        return  # there is no line
    slope = stats.linregress(now, ends).slope
    design = np.stack([np.ones_like(now), now], axis=1) if slope > 0 else np.ones((len(now), 1))
    place = np.array([1.0, value]) if slope > 0 else np.ones(1)
    line, *_ = np.linalg.lstsq(design, ends, rcond=None)
    left = ends - design @ line
    variance = left @ left / (len(now) - 2)
    # A line that would fall is laid flat, but as unsure of what it was not shown as any.
    full = np.stack([np.ones_like(now), now], axis=1)
    lever = np.array([1.0, value]) @ np.linalg.inv(full.T @ full) @ np.array([1.0, value])
    scale = math.sqrt(variance * (1 + lever))
    if scale < 1e-6:
        return  # rounding decides
    expected = stats.t.sf((bar - place @ line) / scale, len(now) - 2)
    assert chance(value, now, ends, bar) == pytest.approx(expected, abs=1e-4)


def test_as_many_come_to_the_bar_as_it_says() -> None:
    """Trials on a line with normal noise: one in a hundred ends above what has that chance, one in ten..."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(4000):
        now = rng.normal(0.4, 0.1, 8)
        ends = 0.2 + 0.8 * now + rng.normal(0, 0.03, 8)
        found.append(chance(now[0], now[1:], ends[1:], ends[0]))
    for share in (CHANCE, 0.1, 0.5, 0.9):
        deviation = math.sqrt(share * (1 - share) / len(found))
        assert np.mean(np.array(found) < share) == pytest.approx(share, abs=4 * deviation)


@given(curves, st.randoms())
def test_replayed_curves_in_any_order_give_the_same_decisions(curves, random) -> None:
    """A search cut at any moment goes on as if it had not been."""
    recorded = [
        (number, epoch, fitness)
        for number, curve in curves.items()
        for epoch, fitness in enumerate(curve, start=1)
    ]
    straight = Forecast(4, 2)
    for entry in recorded:
        straight.decide(*entry)
    random.shuffle(recorded)
    shuffled: dict[int, dict[int, float | None]] = {}
    for number, epoch, fitness in recorded:
        shuffled.setdefault(number, {})[epoch] = fitness
    replayed = Forecast(4, 2)
    replayed.replay(shuffled)
    for epoch in range(1, 5):
        for fitness in (None, 0.0, 0.15, 0.3):
            assert replayed.decide(99 + epoch, epoch, fitness) is straight.decide(99 + epoch, epoch, fitness)
