"""The evolution: its pure parts in closed form, and whole searches on functions with a known optimum."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import TrialState

from tunekit.search.asking import ask
from tunekit.search.genes import is_taken, reflect, to_units
from tunekit.search.genetic import (
    GeneticSampler,
    Policy,
    Result,
    annealed,
    place,
    propose,
    result_of,
    shrunken_covariance,
    weights,
)
from tunekit.search.samplers import make_sampler
from tunekit.search.space import Parameter, Space, load_space


def mixed_space() -> Space:
    return Space(
        "mixed",
        (
            Parameter(name="lr0", kind="float", low=1e-4, high=0.1, scale="log", prior=0.01),
            Parameter(name="momentum", kind="float", low=0.6, high=0.98, scale="logit", prior=0.937),
            Parameter(name="mixup", kind="float", low=0.0, high=1.0, prior=0.0),
            Parameter(name="close_mosaic", kind="int", low=0, high=3, prior=2),
            Parameter(name="optimizer", kind="choice", choices=("SGD", "Adam", "AdamW"), prior="SGD"),
        ),
    )


def study_of(sampler: BaseSampler, space: Space, direction: str = "maximize") -> Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.enqueue_trial(space.defaults())
    return study


Score = Callable[[np.ndarray], float]


def run(
    sampler: BaseSampler,
    space: Space,
    score: Score,
    trials: int,
    *,
    seed: int = 0,
    flying: int = 1,
    noise: float = 0.0,
    pruned: float = 0.0,
    failed: float = 0.0,
) -> Study:
    """A search with `flying` trials at a time that finish in random order; some are stopped, some fail."""
    rng = np.random.default_rng(seed)
    study = study_of(sampler, space)
    running: list[tuple[float, int, Any]] = []
    clock = 0.0
    for number in range(trials + flying):
        if number >= flying:
            clock, _, trial = heapq.heappop(running)
            value = score(to_units(space, trial.params)) + rng.normal(0, noise)
            fate = rng.random()
            if fate < failed:
                study.tell(trial, state=TrialState.FAIL)
            elif fate < failed + pruned:
                trial.report(value - 1.0, 4)
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, value)
        if number < trials:
            trial = ask(study, space)
            heapq.heappush(running, (clock + rng.uniform(0.5, 2.0), number, trial))
    return study


def sphere(space: Space, seed: int) -> Score:
    """0 at an optimum that is off the prior by up to 0.3 of each range, negative elsewhere."""
    prior = to_units(space, space.defaults())
    best = reflect(prior + np.random.default_rng((seed, 7)).uniform(-0.3, 0.3, len(prior)))
    importance = np.random.default_rng((seed, 8)).permutation(np.logspace(0, -2, len(prior)))
    return lambda units: -float((importance * (units - best) ** 2).sum())


def regret(study: Study, space: Space, score: Score) -> float:
    """True regret of the trial that looks best, as a share of the defaults'."""
    return score(to_units(space, study.best_trial.params)) / score(to_units(space, space.defaults()))


# --- the pure parts -----------------------------------------------------------------------------------


def result(number: int, rung: float, value: float) -> Result:
    return Result(number, np.zeros(1), rung, value)


def test_a_stopped_trial_ranks_by_its_rung_and_below_every_complete_one() -> None:
    complete = [result(0, math.inf, 0.30), result(4, math.inf, 0.10)]
    stopped = [result(1, 4, 0.99), result(2, 12, 0.20), result(3, 4, 0.50), result(5, 4, 0.50)]
    assert [r.number for r in sorted(stopped + complete, key=place)] == [0, 4, 2, 1, 3, 5]


@given(st.integers(1, 60))
def test_weights_fall_and_add_up_to_one(count: int) -> None:
    share = weights(count)
    assert share.sum() == pytest.approx(1)
    assert (np.diff(share) < 0).all()
    assert (share > 0).all()


def test_annealing_goes_half_of_the_way_in_a_halflife() -> None:
    assert annealed((0.2, 0.1), 0, 30) == pytest.approx(0.2)
    assert annealed((0.2, 0.1), 30, 30) == pytest.approx(0.15)
    assert annealed((0.2, 0.1), 10**6, 30) == pytest.approx(0.1)


def test_reflection_folds_at_both_ends() -> None:
    outside = np.array([-0.25, 0.0, 0.5, 1.0, 1.25, 2.0, -1.5, 7.0])
    np.testing.assert_allclose(reflect(outside), [0.25, 0, 0.5, 1, 0.75, 0, 0.5, 1])


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9))
def test_reflection_stays_inside_and_keeps_what_is_inside(units: list[float]) -> None:
    folded = reflect(np.array(units))
    assert ((folded >= 0) & (folded <= 1)).all()
    np.testing.assert_array_equal(reflect(folded), folded)


def test_the_covariance_follows_the_elites_and_is_never_flat() -> None:
    rng = np.random.default_rng(0)
    along = rng.normal(0, 0.2, 12)
    elites = 0.5 + np.stack([along, along, np.zeros(12)], axis=1)
    covariance = shrunken_covariance(elites)
    correlation = covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])
    assert 0.5 < correlation < 1  # shrunk, but not away
    assert covariance[2, 2] < covariance[0, 0]
    assert (np.linalg.eigvalsh(covariance) >= 0).all()
    # Two elites of 26 genes: one direction known, the rest must not be shut off.
    few = shrunken_covariance(rng.random((2, 26)))
    assert np.linalg.matrix_rank(few) > 20


def test_taken_means_every_gene_alike() -> None:
    taken = np.array([[0.5, 0.5], [0.1, 0.9]])
    assert is_taken(np.array([0.5001, 0.4999]), taken)
    assert not is_taken(np.array([0.5, 0.6]), taken)
    assert not is_taken(np.array([0.5, 0.6]), np.empty((0, 2)))


# --- what trials count as -----------------------------------------------------------------------------


def test_trials_count_by_how_they_ended() -> None:
    space = mixed_space()
    study = study_of(GeneticSampler(space, 0), space)
    told: dict[str, optuna.Trial] = {
        key: ask(study, space) for key in ("complete", "stopped", "failed", "nan", "runs")
    }
    for epoch, value in enumerate([0.1, 0.4, 0.3], start=1):
        told["stopped"].report(value, epoch)
        told["failed"].report(value, epoch)
    told["nan"].report(math.nan, 1)
    study.tell(told["complete"], 0.2)
    study.tell(told["stopped"], state=TrialState.PRUNED)
    study.tell(told["failed"], state=TrialState.FAIL)
    study.tell(told["nan"], state=TrialState.PRUNED)
    found = {key: result_of(study.trials[trial.number], np.zeros(5), 1.0) for key, trial in told.items()}
    assert found["complete"] is not None
    assert (found["complete"].rung, found["complete"].value) == (math.inf, 0.2)
    assert found["stopped"] is not None
    assert (found["stopped"].rung, found["stopped"].value) == (3, 0.4)
    assert found["failed"] is found["nan"] is found["runs"] is None


def test_a_stopped_trial_with_a_high_early_value_breeds_less_than_a_complete_one() -> None:
    """All complete trials lie at low mixup, all stopped ones, with twice the value, at high mixup."""
    space = mixed_space()
    low, high = (to_units(space, {"mixup": mixup}) for mixup in (0.1, 0.9))
    complete = [Result(number, low, math.inf, 0.3) for number in range(20)]
    stopped = [Result(number, high, 4, 0.6) for number in range(20, 40)]
    children = [
        propose(space, complete + stopped, np.empty((0, 5)), np.random.default_rng(seed), Policy())
        for seed in range(100)
    ]
    assert sum(child[2] < 0.5 for child in children) > 85


def test_failed_trials_have_no_children() -> None:
    space = mixed_space()
    study = study_of(GeneticSampler(space, 0), space)
    for _ in range(40):
        trial = ask(study, space)
        if trial.params["optimizer"] == "AdamW":
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, trial.params["mixup"])
    later = [ask(study, space).params["optimizer"] for _ in range(30)]
    assert later.count("AdamW") < 10


# --- whole searches -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "surroundings",
    [
        {},
        {"flying": 8},
        {"flying": 8, "pruned": 0.5},
        {"flying": 4, "failed": 0.3},
    ],
    ids=["one by one", "8 in flight", "half stopped", "a third fails"],
)
def test_it_finds_far_better_settings_than_random_search(surroundings: dict[str, Any]) -> None:
    space = load_space("default")
    regrets: dict[str, list[float]] = {"genetic": [], "random": []}
    for seed in range(3):
        score = sphere(space, seed)
        for name, found in regrets.items():
            study = run(
                make_sampler(name, space, seed), space, score, 50, seed=seed, noise=0.01, **surroundings
            )
            found.append(regret(study, space, score))
    assert np.mean(regrets["random"]) > 0.8  # the defaults are hard to beat by chance
    assert np.mean(regrets["genetic"]) < 0.6
    assert np.max(regrets["genetic"]) <= 1.05


def test_it_moves_whole_numbers_and_choices_to_the_best() -> None:
    space = mixed_space()
    best = to_units(
        space, {"lr0": 0.002, "momentum": 0.9, "mixup": 0.3, "close_mosaic": 0, "optimizer": "AdamW"}
    )
    studies = [
        run(
            GeneticSampler(space, seed),
            space,
            lambda units: -float(((units - best) ** 2).sum()),
            60,
            flying=4,
        )
        for seed in range(10)
    ]
    # One search in twenty ends with the wrong choice, whatever the policy: a wrong one alone costs 0.11.
    assert sum(study.best_params["optimizer"] == "AdamW" for study in studies) >= 8
    assert sum(study.best_params["close_mosaic"] == 0 for study in studies) >= 8
    assert np.mean([study.best_value for study in studies]) > -0.055


def test_it_can_minimise() -> None:
    space = mixed_space()
    study = study_of(GeneticSampler(space, 0), space, "minimize")
    for _ in range(40):
        trial = ask(study, space)
        study.tell(trial, trial.params["mixup"] - trial.params["momentum"])
    assert np.mean([t.value for t in study.trials[-10:]]) < np.mean([t.value for t in study.trials[:10]])


def test_no_two_proposals_are_alike_though_none_has_finished() -> None:
    space = load_space("quick")
    study = study_of(GeneticSampler(space, 0), space)
    genes = [to_units(space, ask(study, space).params) for _ in range(200)]
    assert not any(is_taken(units, np.array(genes[:index])) for index, units in enumerate(genes))


def test_no_two_proposals_are_alike_when_the_best_never_changes() -> None:
    space = mixed_space()
    study = run(GeneticSampler(space, 0), space, lambda units: -float(units.sum()), 200, flying=8)
    genes = [to_units(space, trial.params) for trial in study.trials]
    assert not any(is_taken(units, np.array(genes[:index])) for index, units in enumerate(genes) if index)


def test_every_proposal_is_allowed() -> None:
    space = mixed_space()
    study = run(GeneticSampler(space, 3), space, lambda units: float(units.sum()), 120, flying=3, failed=0.1)
    for trial in study.trials:
        for name, distribution in space.distributions().items():
            assert distribution._contains(distribution.to_internal_repr(trial.params[name]))


def test_the_first_trial_is_what_was_enqueued_and_genes_stay_at_their_defaults_at_first() -> None:
    """mixup and the like are off by default: a start must try settings with them off, too."""
    space = load_space("default")
    study = study_of(GeneticSampler(space, 0), space)
    params = [ask(study, space).params for _ in range(8)]
    assert params[0] == space.defaults()
    off = np.mean(
        [trial["mixup"] == 0 for trial in params[1:]] + [trial["shear"] == 0 for trial in params[1:]]
    )
    assert 0.2 < off < 0.8


def test_the_same_seed_searches_the_same_and_another_does_not() -> None:
    space = mixed_space()

    def params(seed: int) -> list[dict[str, Any]]:
        study = run(GeneticSampler(space, seed), space, sphere(space, 0), 30, flying=4, pruned=0.3)
        return [trial.params for trial in study.trials]

    assert params(1) == params(1)
    assert params(1) != params(2)


def test_a_search_cut_and_taken_up_from_its_journal_goes_on_the_same(tmp_path: Path) -> None:
    space = mixed_space()
    score = sphere(space, 0)

    def go_on(study: Study, trials: int) -> None:
        for _ in range(trials):
            trial = ask(study, space)
            study.tell(trial, score(to_units(space, trial.params)))

    def open_study(name: str) -> Study:
        storage = JournalStorage(JournalFileBackend(str(tmp_path / name)))
        return optuna.create_study(
            study_name="tune",
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            sampler=GeneticSampler(space, 5),
        )

    go_on(open_study("straight"), 16)
    go_on(open_study("cut"), 11)
    go_on(open_study("cut"), 5)
    assert [t.params for t in open_study("cut").trials] == [t.params for t in open_study("straight").trials]


def test_a_search_where_every_trial_fails_goes_on() -> None:
    space = mixed_space()
    study = run(GeneticSampler(space, 0), space, lambda units: 0.0, 40, flying=4, failed=1.0)
    assert all(trial.state == TrialState.FAIL for trial in study.trials)
    assert len({str(trial.params) for trial in study.trials}) == 40


def test_one_parameter_is_enough() -> None:
    space = Space("one", mixed_space().parameters[:1])
    study = run(GeneticSampler(space, 0), space, lambda units: -float((units[0] - 0.2) ** 2), 30)
    assert study.best_value > -1e-3


def test_a_space_of_choices_is_tried_out_and_then_repeated() -> None:
    options = tuple(
        Parameter(name=name, kind="choice", choices=(1, 2, 3), prior=1) for name in ("batch", "nbs")
    )
    space = Space("choices", options)
    study = run(GeneticSampler(space, 0), space, lambda units: float(units.sum()), 40)
    assert study.best_params == {"batch": 3, "nbs": 3}


def test_trials_of_an_older_space_are_still_learnt_from() -> None:
    """A name that the trial lacks, and a value that is now outside."""
    space = mixed_space()
    genes = to_units(space, {"lr0": 5.0, "mixup": 0.25})
    assert genes[0] == 1.0
    assert genes[2] == 0.25
    np.testing.assert_allclose(genes[[1, 3, 4]], to_units(space, space.defaults())[[1, 3, 4]])
