"""The outlook: its chances against the textbook's and against what happens."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tunekit.search.outlook import chance

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
    for share in (0.01, 0.1, 0.5, 0.9):
        deviation = math.sqrt(share * (1 - share) / len(found))
        assert np.mean(np.array(found) < share) == pytest.approx(share, abs=4 * deviation)
