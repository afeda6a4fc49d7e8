"""PriorBand's sampling: its shares in closed form; whole searches from good defaults and misleading ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import TrialState

from tests.search.test_genetic import mixed_space, regret, run, study_of
from tunekit.search.asha import rungs
from tunekit.search.asking import ask
from tunekit.search.genes import to_units
from tunekit.search.hyperband import Hyperband
from tunekit.search.priorband import PriorBandSampler, uniform_share
from tunekit.search.samplers import RandomSampler
from tunekit.search.space import Space, load_space


def genes_of(study: Study, space: Space) -> np.ndarray:
    """(N, D) of all trials but the defaults."""
    return np.stack([to_units(space, trial.params) for trial in study.trials[1:]])


def with_optimum(space: Space, distance: float, seed: int) -> tuple[Space, Callable[[np.ndarray], float]]:
    """The space with defaults so far from the optimum, in every gene; what a setting is worth."""
    best = np.random.default_rng(seed).uniform(0.1, 0.9, len(space.parameters))
    away = np.where(best > 0.5, best - distance, best + distance)
    priors = {p.name: p.from_unit(float(unit)) for p, unit in zip(space.parameters, away, strict=True)}
    return space.with_priors(priors), lambda units: -float(((units - best) ** 2).sum())


def searched(kind: type[BaseSampler], distance: float, trials: int) -> list[tuple[Study, Space, float]]:
    """Six searches with stopped trials among them: study, space, regret as a share of the defaults'."""
    found = []
    for seed in range(6):
        space, score = with_optimum(load_space("quick"), distance, seed)
        study = run(kind(space, seed), space, score, trials, seed=seed, flying=3, pruned=0.3)  # type: ignore[call-arg]
        found.append((study, space, regret(study, space, score)))
    return found


def from_defaults(study: Study, space: Space, last: int) -> float:
    """How far its last trials are from the defaults, a gene, in the mean."""
    moved = np.abs(genes_of(study, space)[-last:] - to_units(space, space.defaults()))
    return float(moved.mean())


def test_uniform_draws_have_the_share_of_the_rung_at_which_hyperband_would_judge_first() -> None:
    hyperband = Hyperband(rungs(90, 10, 3), 3)  # two rungs, so brackets that begin at rung 0, 1 and 2
    for number in range(60):
        first = 2 - hyperband.bracket(number)
        assert uniform_share(number) == pytest.approx(1 / (1 + 3**first))
    assert np.mean([uniform_share(number) for number in range(17)]) == pytest.approx(
        (9 * 0.5 + 5 * 0.25 + 3 * 0.1) / 17
    )


def test_without_results_it_draws_around_the_defaults_and_sometimes_anywhere() -> None:
    space = mixed_space()
    study = study_of(PriorBandSampler(space, 0), space)
    for _ in range(400):
        ask(study, space)
    genes = genes_of(study, space)
    assert genes.min() >= 0
    assert genes.max() <= 1
    lr0, mixup = genes[:, 0], genes[:, 2]
    assert abs(np.median(lr0) - to_units(space, space.defaults())[0]) < 0.05
    # Half of a normal distribution of sigma .25 at 0, and a third even draws.
    assert np.mean(mixup < 0.25) == pytest.approx(0.65 * 0.68 + 0.35 * 0.25, abs=0.07)
    # 'SGD', the default, has half and its part of the other half; of the even draws a third.
    share = np.mean([trial.params["optimizer"] == "SGD" for trial in study.trials])
    assert share == pytest.approx(0.65 * (0.5 + 0.5 / 3) + 0.35 / 3, abs=0.07)


def test_it_stays_near_good_defaults_and_gains_by_it() -> None:
    ours, anywhere = (searched(kind, 0.2, 40) for kind in (PriorBandSampler, RandomSampler))
    assert np.mean([from_defaults(study, space, 20) for study, space, _ in ours]) < 0.22
    assert np.mean([from_defaults(study, space, 20) for study, space, _ in anywhere]) > 0.25
    assert np.mean([gap for *_, gap in ours]) < 0.7 * np.mean([gap for *_, gap in anywhere])


def test_it_leaves_misleading_defaults() -> None:
    """They are far from the optimum in every gene; random search does not care where it begins."""
    ours, anywhere = (searched(kind, 0.45, 100) for kind in (PriorBandSampler, RandomSampler))
    late = np.mean([from_defaults(study, space, 20) for study, space, _ in ours])
    assert late > 0.3, "0.21 where it believes them"
    assert np.mean([gap for *_, gap in ours]) < 0.85 * np.mean([gap for *_, gap in anywhere])


def test_the_incumbent_is_not_followed_before_a_training_was_whole() -> None:
    """Those with much mixup come to more in a few epochs, and all are stopped there."""
    space = mixed_space()

    def late(whole: bool) -> float:
        study = study_of(PriorBandSampler(space, 1), space)
        for number in range(60):
            trial = ask(study, space)
            value = to_units(space, trial.params)[2]
            trial.report(value, 4)
            if whole and number < 30:
                study.tell(trial, value)
            else:
                study.tell(trial, state=TrialState.PRUNED)
        return float(np.mean(genes_of(study, space)[-30:, 2]))

    assert late(whole=False) < 0.4
    assert late(whole=True) > 0.55
