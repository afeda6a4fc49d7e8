"""Evolution with a model, in whole searches; its acquisition against numerical integration."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import TrialState
from scipy.integrate import quad
from scipy.stats import norm

from tests.search.test_genetic import Score, mixed_space, regret, run, sphere, study_of
from tunekit.search.asking import ask
from tunekit.search.auto import AutoSampler, log_improvement
from tunekit.search.genes import to_units
from tunekit.search.genetic import GeneticSampler
from tunekit.search.samplers import RandomSampler
from tunekit.search.space import Space, load_space


@pytest.mark.parametrize("z", [-8.0, -3.0, -0.5, 0.0, 0.5, 4.0])
def test_improvement_is_the_integral_that_it_stands_for(z: float) -> None:
    deviation = 0.3
    mean, best = 1.0 + z * deviation, 1.0
    density = norm(mean, deviation).pdf
    truth, _ = quad(lambda y: (y - best) * density(y), best, mean + 12 * deviation, epsabs=0)
    found = log_improvement(np.array([mean]), np.array([deviation]), best)
    assert found[0] == pytest.approx(math.log(truth), rel=1e-4)


def test_improvement_still_ranks_where_it_is_next_to_nothing() -> None:
    z = np.linspace(-60, -5, 300)
    found = log_improvement(z, np.ones_like(z), 0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()


def curves(sampler: BaseSampler, space: Space, score: Score, trials: int, seed: int) -> Study:
    """Four trials of four epochs at a time, noisy; the worse half of them is stopped midway."""
    rng, study, running = np.random.default_rng(seed), study_of(sampler, space), []
    halfway: list[float] = []
    for number in range(trials + 4):
        if number >= 4:
            trial = running.pop(int(rng.integers(len(running))))
            final = score(to_units(space, trial.params)) + rng.normal(0, 0.01)
            pace = rng.uniform(0.4, 0.6)
            halfway.append(final - pace)
            on = trial.number == 0 or halfway[-1] >= np.median(halfway)
            for epoch in (1, 2, 3, 4) if on else (1, 2):
                trial.report(final - pace * (4 - epoch) / 2, epoch)
            study.tell(trial, final if on else None, TrialState.COMPLETE if on else TrialState.PRUNED)
        if number < trials:
            running.append(ask(study, space))
    return study


def test_it_finds_better_settings_than_evolution_alone() -> None:
    space = load_space("quick")
    ours, evolution = [], []
    for seed in range(8):
        score = sphere(space, seed)
        for kind, found in ((AutoSampler, ours), (GeneticSampler, evolution)):
            found.append(regret(curves(kind(space, seed), space, score, 40, seed), space, score))
    assert np.mean(ours) < 0.9 * np.mean(evolution)


def test_wrong_defaults_are_left_behind() -> None:
    """They are as far from the best as can be; random search does not care where it begins."""
    space = load_space("quick")
    ours, anywhere = [], []
    for seed in range(3):
        best = np.random.default_rng(seed).integers(0, 2, len(space.parameters)) * 0.8 + 0.1
        priors = {p.name: p.from_unit(1 - unit) for p, unit in zip(space.parameters, best, strict=True)}
        misled = space.with_priors(priors)

        def score(units: np.ndarray, best: np.ndarray = best) -> float:
            return -float(((units - best) ** 2).sum())

        for kind, found in ((AutoSampler, ours), (RandomSampler, anywhere)):
            found.append(regret(run(kind(misled, seed), misled, score, 30, seed=seed), misled, score))
    assert np.mean(ours) < np.mean(anywhere)


@pytest.mark.parametrize("seed", range(3))
def test_it_learns_from_stopped_trials(seed: int) -> None:
    """All but the defaults are stopped; those midway in one gene come to more by then."""
    space = mixed_space()
    study = study_of(AutoSampler(space, seed), space)
    for _ in range(20):
        trial = ask(study, space)
        gene = to_units(space, trial.params)[2]
        if trial.number == 0:
            trial.report(0.1, 1)
            trial.report(0.2, 4)
            study.tell(trial, 0.2)
        else:
            trial.report(0.2 - 0.2 * abs(gene - 0.5), 1)
            study.tell(trial, state=TrialState.PRUNED)
    late = [to_units(space, trial.params)[2] for trial in study.trials[-4:]]
    assert np.mean(np.abs(np.array(late) - 0.5)) < 0.1


def test_what_a_score_is_measured_in_does_not_matter() -> None:
    """Four times as much, which changes no rounding: forecasts and doubts are as many times larger."""
    space = load_space("quick")
    score = sphere(space, 0)
    asked = []
    for unit in (1.0, 4.0):
        rng, study = np.random.default_rng(0), study_of(AutoSampler(space, 0), space)
        for number in range(14):
            trial = ask(study, space)
            final = score(to_units(space, trial.params)) + rng.normal(0, 0.1)
            for epoch in (1, 2, 3, 4) if number < 6 else (1, 2):
                trial.report(unit * (final - (4 - epoch) * rng.uniform(0.1, 0.3)), epoch)
            if number < 6:
                study.tell(trial, unit * final)
            else:
                study.tell(trial, state=TrialState.PRUNED)
        asked.append([trial.params for trial in study.trials])
    assert asked[0] == asked[1]


def test_while_no_result_differs_it_stays_around_the_defaults() -> None:
    space = load_space("default")
    study = run(AutoSampler(space, 0), space, lambda units: 0.0, 20)
    prior = to_units(space, space.defaults())
    moved = [np.mean(to_units(space, trial.params) != prior) for trial in study.trials[1:]]
    assert np.mean(moved) < 0.7, "half of the genes change, as in the first trials"


def test_slots_side_by_side_try_different_things() -> None:
    space = load_space("quick")
    study = run(AutoSampler(space, 1), space, sphere(space, 1), 16)
    together = [to_units(space, ask(study, space).params) for _ in range(6)]
    apart = [np.abs(one - other).max() for i, one in enumerate(together) for other in together[:i]]
    assert min(apart) > 0.02


def test_a_lucky_trial_is_not_taken_for_the_best() -> None:
    """One among bad ones had luck, and one more of the good region did not: children are of the latter."""
    space = load_space("quick")
    study = _around(space, sphere(space, 2))
    proposals = [to_units(space, ask(study, space).params) for _ in range(6)]
    lucky = to_units(space, study.trials[-7].params)
    best = _optimum(space, 2)
    nearer = [np.abs(one - best).mean() < np.abs(one - lucky).mean() for one in proposals]
    assert sum(nearer) >= 5


def _optimum(space: Space, seed: int) -> np.ndarray:
    prior = to_units(space, space.defaults())
    score = sphere(space, seed)
    rng = np.random.default_rng(0)
    return max((np.clip(prior + rng.uniform(-0.3, 0.3, len(prior)), 0, 1) for _ in range(3000)), key=score)


def _around(space: Space, score: Score) -> Study:
    """Forty trials anywhere, and one far from the optimum with a score above all."""
    study = run(RandomSampler(space, 0), space, score, 40)
    worst = min(study.trials, key=lambda trial: trial.value)
    study.add_trial(
        optuna.trial.create_trial(
            params=worst.params, distributions=worst.distributions, value=study.best_value + 0.01
        )
    )
    return optuna_with(study, AutoSampler(space, 0))


def optuna_with(study: Study, sampler: AutoSampler) -> Study:
    """The same trials with another sampler."""
    copy = optuna.create_study(direction="maximize", sampler=sampler)
    copy.add_trials(study.trials)
    return copy
