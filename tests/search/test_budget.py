"""What a search may spend: trials without a gain, and hours."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.search.budget import Budget, since_best


@pytest.mark.parametrize(
    ("scores", "since"),
    [
        ([], 0),
        ([0.5], 0),
        ([0.5, 0.4, 0.3], 2),
        ([0.5, 0.4, 0.6], 0),
        ([0.5, 0.5], 1),
        ([0.0, 0.0, 0.1, 0.1, 0.1], 2),
        ([0.5, math.nan], 1),
    ],
)
def test_scores_since_the_best(scores: list[float], since: int) -> None:
    assert since_best(scores) == since


@given(st.lists(st.integers(0, 5), min_size=1), st.integers(1, 8))
def test_it_is_spent_when_the_last_scores_are_no_better_than_those_before(
    scores: list[int], stop: int
) -> None:
    before, last = scores[:-stop], scores[-stop:]
    assert Budget(stop, None).is_stale(scores) is (bool(before) and max(last) <= max(before))


def test_hours_are_counted_from_the_beginning() -> None:
    now = [100.0]
    budget = Budget(None, 0.5, lambda: now[0])
    assert budget.deadline == 1900
    assert not budget.time_is_up
    now[0] = 1899.9
    assert not budget.time_is_up
    now[0] = 1900
    assert budget.time_is_up


def test_without_limits_nothing_is_ever_spent() -> None:
    budget = Budget(None, None, lambda: 1e12)
    assert not budget.time_is_up
    assert not budget.is_stale([0.5] * 1000)
