"""Conditions in search spaces: what is read, what is refused, and that every sampler keeps to them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna.study import Study

from tests.search.conditional import SGD_ONLY, conditional_space
from tests.search.test_genetic import run, study_of
from tests.search.test_space import write
from tunekit.errors import ArgumentError, SpaceError
from tunekit.search.asking import ask
from tunekit.search.genes import from_units, to_units
from tunekit.search.grid import GridSampler
from tunekit.search.population import Child, explore
from tunekit.search.samplers import SAMPLERS, make_sampler
from tunekit.search.space import Parameter, Space, load_space

WRITTEN = """
momentum: {range: [0.6, 0.98], when: {optimizer: [SGD, MuSGD], cos_lr: false}}
optimizer: {choice: [SGD, MuSGD, AdamW], prior: AdamW}
cos_lr: {choice: [true, false], when: {mosaic: 1}}
mosaic: {choice: [0, 1]}
"""
# gp takes a second a proposal, and cmaes has no choices.
QUICK = [name for name in SAMPLERS if name not in ("gp", "cmaes")]


def names(space: Space) -> set[str]:
    return {parameter.name for parameter in space.parameters}


def test_conditions_are_read_and_written_back_the_same(tmp_path: Path) -> None:
    space = load_space(write(tmp_path, WRITTEN))
    when = {parameter.name: parameter.when for parameter in space.parameters}
    assert when["momentum"] == (("optimizer", ("SGD", "MuSGD")), ("cos_lr", (False,)))
    assert when["cos_lr"] == (("mosaic", (1,)),)
    assert space.parameters[0].condition == "optimizer is SGD or MuSGD and cos_lr is False"
    assert load_space(write(tmp_path, space.to_yaml())).parameters == space.parameters


@pytest.mark.parametrize(
    ("momentum", "words"),
    [
        ("{optimizr: SGD}", ":1: momentum: when: unknown argument 'optimizr': did you mean 'optimizer'?"),
        ("{epochs: 3}", "when: epochs: is not an argument that can be tuned"),
        ("{mixup: 1}", "when: mixup is not in the space: add it as a choice"),
        ("{lr0: 0.01}", "when: lr0 is a range: a condition needs a choice"),
        ("{optimizer: Adam}", "when: Adam is not among the choices of optimizer, ['SGD', 'AdamW']"),
        ("{optimizer: Adm}", "when: optimizer=Adm: must be one of"),
        ("{optimizer: []}", "when: optimizer needs a value"),
        ("{}", "when: must be like {optimizer: [SGD, AdamW]}"),
        ("SGD", "when: must be like {optimizer: [SGD, AdamW]}"),
        ("{optimizer: [[SGD]]}", "when: optimizer="),
    ],
)
def test_faults_name_the_line_the_parameter_and_the_way_out(
    tmp_path: Path, momentum: str, words: str
) -> None:
    others = "optimizer: {choice: [SGD, AdamW], prior: SGD}\nlr0: {range: [0.001, 0.1]}\n"
    path = write(tmp_path, f"momentum: {{range: [0.5, 0.95], when: {momentum}}}\n{others}")
    with pytest.raises(SpaceError) as fault:
        load_space(path)
    assert str(fault.value).startswith(f"{path}:1: momentum: ")
    assert words in str(fault.value)


def test_a_cycle_is_refused_however_long(tmp_path: Path) -> None:
    cycle = (
        "lr0: {range: [0.001, 0.1], when: {cos_lr: true}}\n"
        "cos_lr: {choice: [true, false], when: {optimizer: SGD}}\n"
        "optimizer: {choice: [SGD, AdamW], prior: SGD, when: {cos_lr: false}}\n"
    )
    with pytest.raises(SpaceError, match=r":2: cos_lr: when: it depends on itself, .* leave one of the"):
        load_space(write(tmp_path, cycle))
    with pytest.raises(SpaceError, match="optimizer: when: it depends on itself"):
        load_space(write(tmp_path, "optimizer: {choice: [SGD, Adam], prior: SGD, when: {optimizer: SGD}}"))


def test_a_trial_has_what_its_choices_allow_and_the_priors_of_what_it_was_not_told() -> None:
    space = conditional_space()
    assert space.defaults() == {"optimizer": "AdamW", "mixup": 0.5}
    told = {"optimizer": "SGD", "mixup": 0.1}
    assert space.completed(told) == {"momentum": 0.6, "close_mosaic": 1, "cos_lr": True, **told}
    assert set(space.completed({**told, "cos_lr": False})) == {"momentum", "cos_lr", "optimizer", "mixup"}
    assert space.completed({"optimizer": "AdamW", "cos_lr": True, "momentum": 0.7}) == space.defaults()
    genes = np.full(5, 0.9)
    genes[3] = 0.0  # AdamW
    assert from_units(space, genes) == {"optimizer": "AdamW", "mixup": 0.9}


def test_what_is_given_decides_conditions() -> None:
    space = conditional_space()
    met = space.given({"optimizer": "SGD"})
    assert names(met) == {"momentum", "close_mosaic", "cos_lr", "mixup"}
    assert {p.name: p.when for p in met.parameters if p.when} == {"close_mosaic": (("cos_lr", (True,)),)}
    assert names(space.given({"optimizer": "AdamW"})) == {"mixup"}
    assert names(space.given({"cos_lr": False})) == {"momentum", "optimizer", "mixup"}
    alone = space.given({"cos_lr": True}).parameters
    assert not next(p for p in alone if p.name == "close_mosaic").when, "as all trials have cos_lr=True"


@pytest.mark.parametrize("name", QUICK)
def test_with_every_sampler_trials_have_what_their_choices_allow_and_no_more(name: str) -> None:
    space = conditional_space()
    count = 15 if name == "grid" else 30

    def searched(seed: int) -> Study:
        sampler = make_sampler(name, space, seed)
        return run(sampler, space, lambda units: float(units[4]), count, flying=3, pruned=0.3)

    study = searched(1)
    found = [trial.params for trial in study.trials]
    assert found[0] == space.defaults()
    assert all(params == space.completed(params) for params in found)
    assert {params["optimizer"] for params in found} == {"SGD", "AdamW"}
    assert {params.get("cos_lr") for params in found} == {True, False, None}
    assert len({str(sorted(params.items())) for params in found}) == count, "and no two are alike"
    assert [trial.params for trial in searched(1).trials] == found
    assert [trial.params for trial in searched(2).trials] != found


def test_gp_keeps_to_conditions_when_its_model_proposes() -> None:
    space = conditional_space()
    study = run(make_sampler("gp", space, 0), space, lambda units: float(units[4]), 13)
    assert all(trial.params == space.completed(trial.params) for trial in study.trials)


@pytest.mark.parametrize("name", ["auto", "genetic", "tpe", "priorband"])
def test_a_search_that_is_cut_goes_on_as_if_it_had_not_been(name: str) -> None:
    """The sampler is made anew for every trial; the study knows which parameters a trial has."""
    space = conditional_space()

    def searched(cut: bool) -> list[dict[str, object]]:
        study = study_of(make_sampler(name, space, 3), space)
        for _ in range(24):
            if cut:
                study.sampler = make_sampler(name, space, 3)
            trial = ask(study, space)
            study.tell(trial, float(trial.params["mixup"] + trial.params.get("momentum", 0)))
        return [trial.params for trial in study.trials]

    assert searched(cut=True) == searched(cut=False)


@pytest.mark.parametrize("name", ["auto", "genetic", "tpe"])
def test_what_a_condition_hides_is_found_where_it_matters(name: str) -> None:
    """SGD is better, and the more so the higher its momentum, far from where that begins."""
    space = conditional_space()
    study = study_of(make_sampler(name, space, 0), space)
    for _ in range(60):
        trial = ask(study, space)
        study.tell(trial, trial.params.get("momentum", 0.0) + 0.1 * trial.params["mixup"])
    best = sorted(study.trials, key=lambda trial: trial.value)[-15:]
    assert np.median([trial.params.get("momentum", 0.0) for trial in best]) > 0.85


@pytest.mark.parametrize("name", ["auto", "genetic", "priorband"])
def test_proposals_that_differ_only_in_what_they_do_not_have_are_the_same(name: str) -> None:
    """Of AdamW there are three settings, of SGD any number: none is tried twice."""
    space = Space(
        "small",
        (
            Parameter(name="optimizer", kind="choice", choices=("SGD", "AdamW"), prior="AdamW"),
            Parameter(name="close_mosaic", kind="int", low=0, high=2, prior=0),
            Parameter(name="momentum", kind="float", low=0.5, high=0.9, prior=0.6, when=SGD_ONLY),
        ),
    )
    study = study_of(make_sampler(name, space, 0), space)
    for _ in range(30):
        trial = ask(study, space)
        study.tell(trial, float(trial.params["optimizer"] == "AdamW"))
    settings = [str(sorted(trial.params.items())) for trial in study.trials]
    assert len(set(settings)) == len(settings)


# --- the grid -----------------------------------------------------------------------------------------


def grid(steps: int = 2) -> GridSampler:
    sampler = make_sampler("grid", conditional_space(), 0, steps)
    assert isinstance(sampler, GridSampler)
    return sampler


def test_the_grid_counts_and_tries_each_combination_once() -> None:
    """2 of mixup, with AdamW, or SGD with 2 of momentum and cos_lr off, or on with 2 of close_mosaic."""
    space, sampler = conditional_space(), grid()
    study = study_of(sampler, space)
    combinations = 2 * (1 + 2 * (1 + 2))
    assert sampler.trials == combinations + 1, "and the defaults, whose mixup is none of the two"
    assert sampler.left(study) == combinations
    study.enqueue_trial({"optimizer": "AdamW", "mixup": 1.0})
    assert sampler.left(study) == combinations - 1
    found = [ask(study, space).params for _ in range(combinations + 1)]
    assert len({str(sorted(params.items())) for params in found}) == combinations + 1
    assert all(params == space.completed(params) for params in found)
    assert sampler.left(study) == 0


def test_every_beginning_of_the_grid_has_its_share_of_each_branch() -> None:
    space = conditional_space()
    study = study_of(grid(3), space)
    found = [ask(study, space).params for _ in range(39)]  # 3 of AdamW, 9 of SGD alone, 27 with cos_lr
    for count in range(6, 39):
        branches = [params.get("cos_lr") for params in found[:count]]
        for branch, share in ((None, 3), (False, 9), (True, 27)):
            assert abs(branches.count(branch) - count * share / 39) < 2


def test_a_conditional_grid_that_is_too_large_is_refused_at_once() -> None:
    """Each combination of all parameters would be more than anyone could look through."""
    default = load_space("default").parameters
    choice = Parameter(name="optimizer", kind="choice", choices=("SGD", "AdamW"), prior="SGD")
    halves = [(("optimizer", ("SGD",)),), (("optimizer", ("AdamW",)),)]
    parameters = [
        replace(parameter, when=when)
        for parameter, when in zip(default, itertools.cycle(halves), strict=False)
    ]
    sampler = GridSampler(Space("halves", (choice, *parameters)), 0)
    assert sampler.trials == 2 * 3**13 + 1
    with pytest.raises(ArgumentError, match=r"iterations=3188647 \(2 x 3 x 3 x 3 x \.\.\., less where"):
        sampler.check_room(100)


# --- a population -------------------------------------------------------------------------------------


def test_a_child_has_what_its_choices_allow() -> None:
    """It goes on with its parent's optimizer, and so with what that has."""
    space = conditional_space()
    plain = [explore(space, space.defaults(), Child(4, loser, 0), 0) for loser in range(40)]
    assert {tuple(child) for child in plain} == {("optimizer", "mixup")}
    parent = space.completed({"optimizer": "SGD", "cos_lr": False, "momentum": 0.85})
    children = [explore(space, parent, Child(4, loser, 0), 0) for loser in range(80)]
    assert all(child == space.completed(child) for child in children)
    assert {child["optimizer"] for child in children} == {"SGD"}
    anew = [child["close_mosaic"] for child in children if child["cos_lr"]]
    assert anew, "cos_lr is drawn anew now and then; what only then is searched begins near the prior"
    assert {child.get("close_mosaic") for child in children if not child["cos_lr"]} == {None}
    near = [to_units(space, child)[0] for child in children]
    assert np.median(near) == pytest.approx(to_units(space, parent)[0], abs=0.1)


def test_what_decides_whether_the_optimizer_is_searched_is_inherited_with_it() -> None:
    when = (("cos_lr", (True,)),)
    space = Space(
        "upside down",
        (
            Parameter(name="optimizer", kind="choice", choices=("SGD", "AdamW"), prior="SGD", when=when),
            Parameter(name="cos_lr", kind="choice", choices=(True, False), prior=True),
        ),
    )
    parent = {"cos_lr": False}
    assert all(explore(space, parent, Child(4, loser, 0), 0) == parent for loser in range(60))


def test_cmaes_refuses_the_choices_that_conditions_need() -> None:
    with pytest.raises(ArgumentError, match="has choices: give"):
        make_sampler("cmaes", conditional_space(), 0)
