"""What trials come to: whole ones, others by the curves of whole ones, and how sure that is."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from tunekit.search.ends import ends


def trial(curve: dict[int, float], value: float | None = None, running: bool = False) -> FrozenTrial:
    state = TrialState.PRUNED if value is None else TrialState.COMPLETE
    made = optuna.trial.create_trial(state=state, value=value, intermediate_values=curve)
    if running:
        made.state = TrialState.RUNNING
    return made


def whole(end: float, at: float) -> FrozenTrial:
    return trial({1: 0.0, 2: at, 4: end}, end)


def test_whole_trainings_are_what_they_came_to() -> None:
    values, doubt = ends([whole(0.5, 0.1), trial({}, 0.7)], 1.0)
    assert values.tolist() == [0.5, 0.7]
    assert doubt.tolist() == [0.0, 0.0]


def test_a_whole_training_whose_first_epochs_are_lost_says_nothing_of_them() -> None:
    known = [whole(0.2 + 2 * at, at) for at in (0.1, 0.15, 0.2, 0.25, 0.3)]
    late = trial({3: 0.6, 4: 0.9}, 0.9)
    values, _ = ends([*known, late, trial({2: 0.2})], 1.0)
    assert values[-1] == pytest.approx(0.6)


@pytest.mark.parametrize("running", [False, True])
def test_others_come_to_what_whole_ones_did_from_there(running: bool) -> None:
    known = [whole(0.2 + 2 * at, at) for at in (0.1, 0.15, 0.2, 0.25, 0.3)]
    values, doubt = ends([*known, trial({1: 0.0, 2: 0.28}, running=running)], 1.0)
    assert values[-1] == pytest.approx(0.2 + 2 * 0.28)
    assert doubt[-1] == pytest.approx(0, abs=1e-9)


def test_where_the_way_tells_nothing_the_doubt_is_that_of_any_training() -> None:
    rng = np.random.default_rng(0)
    finals = rng.normal(0.5, 0.1, 200)
    known = [whole(float(end), float(at)) for end, at in zip(finals, rng.uniform(0.1, 0.3, 200), strict=True)]
    values, doubt = ends([*known, trial({2: 0.3})], 1.0)
    assert values[-1] == pytest.approx(finals.mean(), abs=0.03)
    assert math.sqrt(doubt[-1]) == pytest.approx(finals.std(), rel=0.05)


def test_a_few_whole_ones_tell_how_much_is_gained() -> None:
    values, doubt = ends([whole(0.5, 0.1), whole(0.6, 0.3), trial({2: 0.2})], 1.0)
    assert values[-1] == pytest.approx(0.2 + (0.4 + 0.3) / 2)
    assert math.sqrt(doubt[-1]) == pytest.approx(0.05)
    alone, sure = ends([trial({2: 0.2}), trial({1: 0.3})], 1.0)
    assert (alone.tolist(), sure.tolist()) == ([0.2, 0.3], [0.0, 0.0])


def test_a_trial_counts_by_its_best_epoch_and_no_number_for_none() -> None:
    known = [whole(0.2 + 2 * at, at) for at in (0.1, 0.15, 0.2, 0.25, 0.3)]
    odd = trial({1: 0.28, 2: math.nan, 3: math.inf})
    fell = trial({1: 0.28, 2: 0.0})
    values, _ = ends([*known, fell, odd, trial({})], 1.0)
    assert values[-3] == pytest.approx(0.2 + 2 * 0.28)
    assert np.isfinite(values[-2])
    assert math.isnan(values[-1])


def test_less_may_be_better() -> None:
    known = [trial({1: 9.0, 2: at, 4: at / 2}, at / 2) for at in (1.0, 2.0, 3.0, 4.0, 5.0)]
    values, doubt = ends([*known, trial({1: 9.0, 2: 2.5})], -1.0)
    assert values.tolist() == pytest.approx([-0.5, -1.0, -1.5, -2.0, -2.5, -1.25])
    assert doubt[-1] == pytest.approx(0, abs=1e-9)
