"""Successive halving: rungs in closed form, decisions against the definition, and a search replayed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.search.asha import Asha, default_grace, goes_on, rungs
from tunekit.search.ranking import Ranking


@pytest.mark.parametrize(
    ("epochs", "grace", "reduction", "expected"),
    [
        (81, 3, 3, (3, 9, 27)),
        (100, 12, 3, (12, 36)),
        (12, 4, 3, (4,)),
        (16, 2, 2, (2, 4, 8)),
        (10, 3, 3, (3,)),  # 9 of 10 would save a tenth and lose a full result
        (10, 9, 3, (9,)),  # ... but what was asked for is done
        (4, 4, 3, ()),
        (1, 1, 3, ()),
    ],
)
def test_rungs(epochs: int, grace: int, reduction: int, expected: tuple[int, ...]) -> None:
    assert rungs(epochs, grace, reduction) == expected


@pytest.mark.parametrize(("grace", "reduction"), [(0, 3), (-1, 3), (1, 1)])
def test_rungs_that_would_never_end_are_refused(grace: int, reduction: int) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        rungs(10, grace, reduction)


@given(st.integers(1, 1000), st.floats(0, 10))
def test_the_default_grace_is_past_the_warm_up_and_early_enough(epochs: int, warmup: float) -> None:
    grace = default_grace(epochs, warmup)
    assert 1 <= grace <= epochs
    if grace < epochs:
        assert grace >= warmup + 1
    assert grace <= max(math.ceil(warmup) + 1, math.ceil(epochs / 3))


@pytest.mark.parametrize(("epochs", "grace"), [(4, 4), (10, 4), (12, 4), (30, 6), (100, 12), (300, 34)])
def test_the_default_grace_with_three_epochs_of_warm_up(epochs: int, grace: int) -> None:
    assert default_grace(epochs, 3.0) == grace


values = st.sampled_from([-math.inf, 0.0, 0.1, 0.2, 0.3])


@given(st.dictionaries(st.integers(1, 30), values, min_size=1, max_size=12), st.integers(2, 5), st.data())
def test_the_best_share_goes_on(recorded: dict[int, float], reduction: int, data: st.DataObject) -> None:
    number = data.draw(st.sampled_from(sorted(recorded)))
    # Independent oracle: the value at the last place of the best ceil(n / reduction).
    places = -(-len(recorded) // reduction)
    bar = sorted(recorded.values(), reverse=True)[places - 1]
    expected = len(recorded) < reduction or recorded[number] >= bar
    assert goes_on(number, Ranking(recorded.items()), reduction) is expected


def test_the_defaults_are_never_stopped() -> None:
    asha = Asha((1,), 3)
    for number in range(1, 9):
        asha.decide(number, 1, 0.5)
    assert asha.decide(0, 1, 0.0)
    assert not asha.decide(9, 1, 0.0)


def test_the_first_trials_at_a_rung_go_on_and_a_tie_too() -> None:
    asha = Asha((2,), 3)
    assert [asha.decide(number, 2, value) for number, value in [(1, 0.5), (2, 0.1)]] == [True, True]
    assert not asha.decide(3, 2, 0.1)
    assert asha.decide(4, 2, 0.5)
    assert Asha((1,), 3).at(1) == {}


def test_nothing_is_stopped_between_rungs() -> None:
    asha = Asha((2, 6), 2)
    for number in range(1, 5):
        asha.decide(number, 2, 0.5)
    assert all(asha.decide(5, epoch, 0.0) for epoch in (1, 3, 4, 5))
    assert not asha.decide(5, 2, 0.0)


@pytest.mark.parametrize("fitness", [None, math.nan, math.inf, -math.inf])
def test_a_fitness_that_is_no_number_is_the_worst(fitness: float | None) -> None:
    asha = Asha((1,), 3)
    for number in (1, 2, 3):
        asha.decide(number, 1, 0.0)
    assert not asha.decide(4, 1, fitness)


def test_a_trial_counts_by_its_best_epoch_so_far_and_not_by_later_ones() -> None:
    asha = Asha((2, 4), 2)
    for epoch, fitness in enumerate([0.5, 0.3, 0.2, 0.9], start=1):
        asha.record(7, epoch, fitness)
    assert asha.at(2) == {7: 0.5}
    assert asha.at(4) == {7: 0.9}


def test_a_trial_that_has_not_come_to_a_rung_does_not_count_there() -> None:
    asha = Asha((2, 4), 2)
    asha.record(1, 1, 0.9)
    assert asha.at(2) == {}
