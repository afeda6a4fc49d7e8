"""Gains and how sure they are: against printed tables, formulas, and thousands of simulated confirmations."""

import math

import numpy as np
import pytest

from tunekit.search.comparison import Setting, compare, t_quantile

# Two-sided 95% and 99% points, as every printed table of Student's t has them.
PRINTED = {
    1: (12.706, 63.657),
    2: (4.303, 9.925),
    3: (3.182, 5.841),
    4: (2.776, 4.604),
    8: (2.306, 3.355),
    15: (2.131, 2.947),
    30: (2.042, 2.750),
    120: (1.980, 2.617),
}


@pytest.mark.parametrize("freedom", PRINTED)
def test_quantiles_are_those_of_the_tables(freedom):
    found = t_quantile(0.975, freedom), t_quantile(0.995, freedom)
    assert found == pytest.approx(PRINTED[freedom], abs=6e-4)


@pytest.mark.parametrize("p", [0.6, 0.9, 0.975, 0.99, 0.9999])
def test_quantiles_have_their_closed_forms(p):
    assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9)
    assert t_quantile(p, 2) == pytest.approx((2 * p - 1) / math.sqrt(2 * p * (1 - p)), rel=1e-9)


def test_one_finalist_is_compared_as_students_two_samples_are():
    # Means 2 and 4; the spread within is 1 in both; four degrees of freedom: t = 2.776.
    found = compare([1.0, 2.0, 3.0], {7: [3.0, 4.0, 5.0]})
    assert (found.defaults, found.others[7]) == (Setting(3, 2.0, 1.0), Setting(3, 4.0, 1.0))
    assert (found.best, found.gain) == (7, 2.0)
    margin = 2.776445 * math.sqrt(2 / 3)
    assert found.interval == pytest.approx((2 - margin, 2 + margin), abs=1e-5)
    assert found.beaten
    assert not found.certain


def test_more_finalists_share_the_five_percent_and_the_spread():
    # Within: 2 + 8 + 0.5 = 10.5 over 1 + 1 + 1 degrees of freedom; Student's 98.75% point of three is 4.177.
    found = compare([0.0, 2.0], {3: [8.0, 12.0], 5: [1.0, 2.0]})
    assert (found.best, found.gain) == (3, 9.0)
    margin = 4.1765 * math.sqrt(10.5 / 3)
    assert found.interval == pytest.approx((9 - margin, 9 + margin), abs=1e-3)
    assert found.certain


def test_runs_that_failed_are_missing_and_count_for_nothing():
    found = compare([1.0, 2.0, 3.0], {7: [4.0], 9: []})
    assert (found.best, found.gain) == (7, 2.0)
    assert (found.others[7], found.others[9]) == (Setting(1, 4.0, None), Setting(0, None, None))
    # Two degrees of freedom, 97.5% + 1.25%; 9 was one of those that might have been chosen.
    margin = 6.2053 * math.sqrt(1 + 1 / 3)
    assert found.interval == pytest.approx((2 - margin, 2 + margin), abs=1e-3)


def test_nothing_is_claimed_that_the_runs_do_not_tell():
    alone = compare([1.0], {7: [2.0]})
    assert (alone.gain, alone.interval, alone.certain) == (1.0, None, False)
    without_defaults = compare([], {7: [2.0, 2.5]})
    assert (without_defaults.best, without_defaults.gain, without_defaults.interval) == (7, None, None)
    assert without_defaults.beaten
    without_others = compare([1.0, 2.0], {7: []})
    assert (without_others.best, without_others.gain, without_others.beaten) == (None, None, False)


def test_of_equals_the_defaults_stay():
    equal = compare([0.5, 0.5], {4: [0.5, 0.5], 2: [0.5, 0.5]})
    assert (equal.best, equal.gain, equal.interval) == (2, 0.0, (0.0, 0.0))
    assert not equal.beaten
    assert not equal.certain


def simulated(gains, seeds, rng):
    """A confirmation of settings that are better than the defaults by `gains`; runs spread by 0.03."""
    runs = rng.normal(0.4, 0.03, (1 + len(gains), seeds)) + np.array([0.0, *gains])[:, None]
    defaults, *others = runs.tolist()
    return compare(defaults, dict(enumerate(others, start=1)))


@pytest.mark.parametrize(
    ("gains", "seeds"), [((0.0, 0.0, 0.0), 3), ((0.0,), 2), ((0.02, 0.0, -0.02, 0.01), 4)]
)
def test_the_interval_holds_the_true_gain_of_the_one_that_was_chosen(gains, seeds):
    rng, count = np.random.default_rng(len(gains)), 2000
    found = [simulated(gains, seeds, rng) for _ in range(count)]
    missed = sum(not one.interval[0] <= gains[one.best - 1] <= one.interval[1] for one in found)
    noise = 3 * math.sqrt(0.05 * 0.95 / count)
    assert missed / count <= 0.05 + noise
    assert missed / count >= 0.01, "an interval that is too wide would tell nothing"


def test_a_gain_that_is_large_for_its_spread_is_certain():
    rng = np.random.default_rng(0)
    found = [simulated((0.15, 0.0, 0.0), 3, rng) for _ in range(200)]
    assert sum(one.certain and one.best == 1 for one in found) >= 190
