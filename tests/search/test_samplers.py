"""Samplers by name: each depends on the study alone, in whole searches with stopped trials among them.

And what is particular to cmaes, gp and grid.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.study import Study
from optuna.trial import TrialState

from tests.search.test_genetic import mixed_space, regret, run, sphere, study_of
from tunekit import search_args
from tunekit.checks import build_args
from tunekit.errors import ArgumentError
from tunekit.search.asking import ask
from tunekit.search.cma import CmaSampler
from tunekit.search.genes import to_units
from tunekit.search.grid import GridSampler, even_order, values
from tunekit.search.samplers import SAMPLERS, make_sampler
from tunekit.search.space import Parameter, Space, load_space
from tunekit.search_args import TuneArgs
from tunekit.tuning.journal import Journal


def numbers() -> Space:
    return mixed_space().without(["optimizer"])


def space_of(name: str) -> Space:
    return numbers() if name == "cmaes" else mixed_space()


def test_the_words_of_the_argument_are_the_samplers() -> None:
    assert tuple(SAMPLERS) == search_args.SAMPLERS


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_search_that_is_cut_goes_on_from_its_journal_as_if_it_had_not_been(
    name: str, tmp_path: Path
) -> None:
    """With trials in flight when it is cut, and with stopped and failed ones."""
    space = space_of(name)
    score = sphere(space, 0)

    def open_study(file: str) -> Study:
        storage = JournalStorage(Journal(tmp_path / file))
        return optuna.create_study(
            study_name="tune",
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            sampler=make_sampler(name, space, 5),
        )

    def go_on(study: Study, until: int) -> None:
        """Trial n ends when n + 3 begins; every third is stopped, every seventh fails."""
        for number in range(len(study.trials), until):
            trial = ask(study, space)
            if number < 3:
                continue
            past = study.get_trials(deepcopy=False)[number - 3]
            handle = optuna.trial.Trial(study, past._trial_id)
            value = score(to_units(space, past.params))
            if past.number % 7 == 6:
                study.tell(handle, state=TrialState.FAIL)
            elif past.number % 3 == 2:
                handle.report(value - 1, 4)
                study.tell(handle, state=TrialState.PRUNED)
            else:
                study.tell(handle, value)
        del trial

    last = 17 if name == "gp" else 22  # which takes a second a proposal
    go_on(open_study("straight"), last)
    for until in (9, 15, last):
        go_on(open_study("cut"), until)
    cut, straight = open_study("cut").trials, open_study("straight").trials
    assert [trial.params for trial in cut] == [trial.params for trial in straight]


@pytest.mark.parametrize("name", ["cmaes", "gp", "priorband", "grid"])
def test_the_seed_decides_and_proposals_are_allowed(name: str) -> None:
    space = space_of(name)

    def params(seed: int) -> list[dict[str, Any]]:
        study = run(make_sampler(name, space, seed), space, sphere(space, 0), 13, flying=2, pruned=0.4)
        return [trial.params for trial in study.trials]

    found = params(1)
    assert found[0] == space.defaults()
    assert found == params(1)
    assert found != params(2)
    for proposal in found:
        for known, distribution in space.distributions().items():
            assert distribution._contains(distribution.to_internal_repr(proposal[known]))


@pytest.mark.parametrize(
    "surroundings",
    [{}, {"flying": 8, "pruned": 0.5}, {"flying": 4, "failed": 0.3}],
    ids=["one by one", "half stopped", "a third fails"],
)
def test_cmaes_finds_far_better_settings_than_random_search(surroundings: dict[str, Any]) -> None:
    space = load_space("default")
    regrets: dict[str, list[float]] = {"cmaes": [], "random": []}
    for seed in range(3):
        score = sphere(space, seed)
        for name, found in regrets.items():
            study = run(make_sampler(name, space, seed), space, score, 60, seed=seed, **surroundings)
            found.append(regret(study, space, score))
    assert np.mean(regrets["random"]) > 0.8
    assert np.mean(regrets["cmaes"]) < 0.65


def test_gp_goes_where_it_is_better_though_most_trials_are_stopped() -> None:
    """Of 30 random trials the better ten are complete; what it proposes then is better than nearly all."""
    space = numbers()
    score = sphere(space, 1)
    study = study_of(make_sampler("gp", space, 0), space)
    known = [to_units(space, space.defaults()), *np.random.default_rng(0).random((29, 4))]
    for genes in known[1:]:
        study.enqueue_trial(
            {p.name: p.from_unit(float(g)) for p, g in zip(space.parameters, genes, strict=True)}
        )
    level = float(np.quantile([score(genes) for genes in known], 0.67))
    for genes in known:
        trial = ask(study, space)
        trial.report(score(genes), 4)
        if score(genes) >= level:
            study.tell(trial, score(genes))
        else:
            study.tell(trial, state=TrialState.PRUNED)
    proposals = [ask(study, space).params for _ in range(3)]  # side by side
    found = [score(to_units(space, params)) for params in proposals]
    assert np.median(found) > np.quantile([score(genes) for genes in known], 0.9)
    assert len({str(params) for params in proposals}) == 3


def test_cmaes_begins_around_the_defaults() -> None:
    space = load_space("default")
    study = study_of(CmaSampler(space, 0), space)
    genes = [to_units(space, ask(study, space).params) for _ in range(30)]
    prior = to_units(space, space.defaults())
    inside = (prior > 0.3) & (prior < 0.7)
    assert np.abs(np.mean(genes, axis=0) - prior)[inside].max() < 0.1
    assert len({gene.tobytes() for gene in genes}) == 30, "none has ended, and yet no two are alike"


def test_cmaes_learns_from_stopped_trials() -> None:
    """All are stopped at one epoch: nothing else tells it where to go."""
    space = numbers()
    study = study_of(CmaSampler(space, 0), space)
    for _ in range(80):
        trial = ask(study, space)
        trial.report(-abs(trial.params["mixup"] - 0.8), 4)
        study.tell(trial, state=TrialState.PRUNED)
    assert np.mean([trial.params["mixup"] for trial in study.trials[-10:]]) == pytest.approx(0.8, abs=0.1)


def test_cmaes_goes_on_moving_a_whole_number() -> None:
    """Its best value changes when the distribution has become narrow."""
    space = Space("one", (Parameter(name="close_mosaic", kind="int", low=0, high=3, prior=1),))
    study = study_of(CmaSampler(space, 0), space)
    for number in range(120):
        trial = ask(study, space)
        best = 1 if number < 60 else 3
        study.tell(trial, -abs(trial.params["close_mosaic"] - best))
    assert [trial.params["close_mosaic"] for trial in study.trials[-10:]].count(3) >= 5


def test_cmaes_refuses_choices_with_the_way_out() -> None:
    with pytest.raises(ArgumentError, match=r"has choices: give optimizer=\.\.\. .* or use sampler=genetic"):
        make_sampler("cmaes", mixed_space(), 0)


# --- the grid -----------------------------------------------------------------------------------------


def small() -> Space:
    return numbers().without(["momentum"])  # lr0, mixup, close_mosaic


def test_the_grid_has_the_ends_and_all_choices_and_no_more_whole_numbers_than_there_are() -> None:
    by_name = {parameter.name: parameter for parameter in mixed_space().parameters}
    assert values(by_name["lr0"], 4) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1])
    assert values(by_name["mixup"], 3) == [0.0, 0.5, 1.0]
    assert values(by_name["close_mosaic"], 9) == [0, 1, 2, 3]
    assert values(by_name["close_mosaic"], 2) == [0, 3]
    assert values(by_name["optimizer"], 2) == ["SGD", "Adam", "AdamW"]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 99), st.data())
def test_every_beginning_of_the_order_has_all_values_equally_often(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    order = list(even_order(sizes, np.random.default_rng(seed)))
    assert len(order) == len(set(order)) == np.prod(sizes)
    count = data.draw(st.integers(1, len(order)))
    for direction, size in enumerate(sizes):
        times = Counter(places[direction] for places in order[:count])
        assert all(times[place] in (count // size, -(-count // size)) for place in range(size))


def test_the_grid_tries_every_point_once_and_neither_the_defaults_nor_what_was_added_again() -> None:
    space = small()
    sampler = make_sampler("grid", space, 0, steps=2)
    assert isinstance(sampler, GridSampler)
    study = study_of(sampler, space)
    study.enqueue_trial({"lr0": 0.1, "mixup": 1.0, "close_mosaic": 3})  # a point of the grid
    assert sampler.trials == 9
    assert sampler.left(study) == 7
    asked = [ask(study, space).params for _ in range(9)]
    assert len({tuple(params.values()) for params in asked}) == 9
    assert sampler.left(study) == 0


def test_defaults_that_are_a_point_of_the_grid_count_as_that() -> None:
    space = Space("one", (Parameter(name="mixup", kind="float", prior=0.0),))
    sampler = GridSampler(space, 0)
    study = study_of(sampler, space)
    assert sampler.trials == 3
    assert {ask(study, space).params["mixup"] for _ in range(3)} == {0.0, 0.5, 1.0}


def test_a_grid_that_is_too_large_is_refused_at_once_with_its_size() -> None:
    sampler = GridSampler(load_space("default"), 0)
    assert sampler.trials == 3**26 + 1
    with pytest.raises(
        ArgumentError, match=r"iterations=2541865828330 \(3 x 3 x 3 x 3 x \.\.\. values of 26"
    ):
        sampler.check_room(100)
    GridSampler(small(), 0, steps=2).check_room(9)
    with pytest.raises(ArgumentError, match=r"iterations=9 .* not 8"):
        GridSampler(small(), 0, steps=2).check_room(8)


def test_steps_are_the_grid_s_alone() -> None:
    assert build_args(TuneArgs, {"sampler": "grid", "steps": 5}).steps == 5
    with pytest.raises(ArgumentError, match="steps=5: sampler=auto has no use for it: leave it out"):
        build_args(TuneArgs, {"steps": 5})
